"""Recordings: sound in which nobody has named an animal yet, the newest first."""

import apsw
from msgspec import Struct

from echo_ingest.almanac.calls import CALLS_MAX, END_MS, CallFilter, ids_of
from echo_ingest.almanac.database import rows_of


class ListedRecording(Struct, frozen=True):
    """A recording."""

    offset: int
    """Of its record in the journal."""
    observed_at_ms: int
    """Milliseconds since 1970, UTC."""
    node: str
    """Empty where the topic named none."""
    duration_ms: int


def recordings(
    db: apsw.Connection, wanted: CallFilter, recordings_max: int, before: int | None
) -> list[ListedRecording]:
    """A page of recordings by the time they were observed at; as `calls.calls`.

    Species and confidence are none of theirs.
    """
    ids = ids_of(db, CallFilter(node=wanted.node))
    if ids is None:
        return []
    until = (END_MS if wanted.until_ms is None else wanted.until_ms, 0)
    if before is not None:
        at = rows_of(db, "SELECT started_at_ms FROM clip WHERE offset = ?", (before,))
        if not at:
            return []
        until = min((at[0][0], before), until)
    node_id, since_ms = ids[0], -END_MS if wanted.since_ms is None else wanted.since_ms
    index, term = "recording_by_time", ""
    if node_id is not None:
        index, term = "recording_by_node", "node_id = ?1 AND"
    rows = rows_of(
        db,
        f"SELECT offset, started_at_ms, node.name, duration_ms FROM clip INDEXED BY {index}"  # noqa: S608
        f" JOIN node ON node.id = node_id WHERE {term} started_at_ms >= ?2 AND started_at_ms <= ?3"
        " AND (started_at_ms, offset) < (?3, ?4) AND named = 0"
        " ORDER BY started_at_ms DESC, offset DESC LIMIT ?5",
        (node_id, since_ms, *until, min(recordings_max, CALLS_MAX)),
    )
    return [ListedRecording(*row) for row in rows]


def neighbours(db: apsw.Connection, offset: int) -> tuple[int | None, int | None]:
    """Offsets of the recordings of the same node before this one, and after it."""
    here = rows_of(db, "SELECT node_id, started_at_ms FROM clip WHERE offset = ?", (offset,))
    found: list[int | None] = []
    for beyond, order in (("<", "DESC"), (">", "ASC")) if here else ():
        rows = rows_of(
            db,
            "SELECT offset FROM clip INDEXED BY recording_by_node"  # noqa: S608
            f" WHERE node_id = ?1 AND started_at_ms {beyond}= ?2"
            f" AND (started_at_ms, offset) {beyond} (?2, ?3) AND named = 0"
            f" ORDER BY started_at_ms {order}, offset {order} LIMIT 1",
            (*here[0], offset),
        )
        found.append(rows[0][0] if rows else None)
    return (found[0], found[1]) if found else (None, None)
