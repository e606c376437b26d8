"""Calls: detections, the newest first, by species, node, confidence and time."""

import heapq
from itertools import islice

import apsw
from msgspec import Struct

from echo_ingest.almanac.database import rows_of
from echo_ingest.almanac.observation import HOUR_MS

CALLS_MAX = 500
SPECIES_MAX = 500
TENTHS = 10
EACH_TENTH = f"tenth IN ({', '.join(map(str, range(-1, TENTHS + 1)))})"
"""For an index with the time behind the tenth: a range of both would be read from end to end."""
END_MS = 2**62


class CallFilter(Struct, frozen=True):
    """Which calls: every field narrows it down."""

    species: str | None = None
    """The scientific name, in full."""
    node: str | None = None
    confidence_percent_min: int | None = None
    """0, 10, 20 … 100. Calls whose device did not say how sure it was are left out then."""
    since_ms: int | None = None
    """Observed then or later; milliseconds since 1970, UTC. Nights take whole hours of it."""
    until_ms: int | None = None
    """Observed before then."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for a confidence that is not kept apart."""
        percent = self.confidence_percent_min
        if percent is not None and (percent % 10 or not 0 <= percent <= 100):
            raise ValueError(f"a least confidence of {percent} %: choose 0, 10, 20 … or 100")

    @property
    def least_tenth(self) -> int:
        """The least `call.tenth`."""
        return -1 if self.confidence_percent_min is None else self.confidence_percent_min // 10


class ListedCall(Struct, frozen=True):
    """A detection."""

    offset: int
    """Of its record in the journal."""
    observed_at_ms: int
    """Milliseconds since 1970, UTC."""
    node: str
    """Empty where the topic named none."""
    species: str
    """The scientific name, as the device gives it."""
    common_name: str | None
    """The name people use, where a device has said it."""
    confidence: float | None
    """Fraction, 0 to 1."""
    clip_offset: int | None
    """The record that carries its sound: this one, or the same node's recording that was under way
    at that moment, where the form says when a recording began. None: nothing tells."""


class Species(Struct, frozen=True):
    """A species that was heard."""

    species: str
    """The scientific name, as the devices give it."""
    common_name: str | None
    calls: int
    """All that are in the journal."""


def calls(
    db: apsw.Connection, wanted: CallFilter, calls_max: int, before: int | None
) -> list[ListedCall]:
    """A page of calls by the time they were observed at, the newest first.

    `before` is the last page's last offset; empty if that is not there any more.
    """
    ids = ids_of(db, wanted)
    if ids is None:
        return []
    until_ms, until_offset = END_MS if wanted.until_ms is None else wanted.until_ms, 0
    if before is not None:
        at = rows_of(db, "SELECT observed_at_ms FROM call WHERE offset = ?", (before,))
        if not at:
            return []
        until_ms, until_offset = min((at[0][0], before), (until_ms, 0))
    rows = newest(db, *ids, wanted, (until_ms, until_offset), min(calls_max, CALLS_MAX))
    return [_call(db, offset) for _, offset in rows]


def call_at(db: apsw.Connection, offset: int) -> ListedCall | None:
    """The call whose record is at `offset`; None if there is no such call."""
    there = db.execute("SELECT 1 FROM call WHERE offset = ?", (offset,)).fetchone()
    return _call(db, offset) if there else None


def neighbours(db: apsw.Connection, offset: int) -> tuple[int | None, int | None]:
    """Offsets of the calls of the same node observed before this one, and after it."""
    here = rows_of(db, "SELECT node_id, observed_at_ms FROM call WHERE offset = ?", (offset,))
    found: list[int | None] = []
    for beyond, order, nearest in (("<", "DESC", max), (">", "ASC", min)) if here else ():
        sql = (
            "SELECT observed_at_ms, offset FROM call INDEXED BY call_by_node"  # noqa: S608
            f" WHERE node_id = ?1 AND tenth = ?4 AND observed_at_ms {beyond}= ?2"
            f" AND (observed_at_ms, offset) {beyond} (?2, ?3)"
            f" ORDER BY observed_at_ms {order}, offset {order} LIMIT 1"
        )
        each = [rows_of(db, sql, (*here[0], offset, tenth)) for tenth in range(-1, TENTHS + 1)]
        rows = [row for rows in each for row in rows]
        found.append(nearest(rows)[1] if rows else None)
    return (found[0], found[1]) if found else (None, None)


def species_heard(db: apsw.Connection, species_max: int) -> list[Species]:
    """Every species, the most calls first; at most `SPECIES_MAX` of them."""
    rows = rows_of(
        db,
        "SELECT name, common_name, calls FROM species WHERE calls > 0"
        " ORDER BY calls DESC, name LIMIT ?",
        (min(species_max, SPECIES_MAX),),
    )
    return [Species(*row) for row in rows]


def ids_of(db: apsw.Connection, wanted: CallFilter) -> tuple[int | None, int | None] | None:
    """Ids of the node and the species; None where one of them was never heard."""
    ids: list[int | None] = []
    for table, name in (("node", wanted.node), ("species", wanted.species)):
        found = None
        if name is not None:
            rows = rows_of(db, f"SELECT id FROM {table} WHERE name = ?", (name,))  # noqa: S608
            if not rows:
                return None
            found = rows[0][0]
        ids.append(found)
    return ids[0], ids[1]


def newest(
    db: apsw.Connection,
    node_id: int | None,
    species_id: int | None,
    wanted: CallFilter,
    until: tuple[int, int],
    calls_max: int,
) -> list[tuple[int, int]]:
    """Time and offset of the newest before `until`, each tenth of confidence by its own index."""
    match node_id, species_id:
        case None, None:
            index, terms = "call_by_time", ""
        case None, _:
            index, terms = "call_by_species", "species_id = ?2 AND"
        case _, None:
            index, terms = "call_by_node", "node_id = ?1 AND"
        case _:
            index, terms = "call_by_both", "node_id = ?1 AND species_id = ?2 AND"
    sql = (
        f"SELECT observed_at_ms, offset FROM call INDEXED BY {index}"  # noqa: S608
        f" WHERE {terms} tenth = ?3 AND observed_at_ms >= ?4 AND observed_at_ms <= ?5"
        " AND (observed_at_ms, offset) < (?5, ?6)"
        " ORDER BY observed_at_ms DESC, offset DESC LIMIT ?7"
    )
    since_ms = -END_MS if wanted.since_ms is None else wanted.since_ms
    by_tenth = [
        rows_of(db, sql, (node_id, species_id, tenth, since_ms, *until, calls_max))
        for tenth in range(wanted.least_tenth, TENTHS + 1)
    ]
    return list(islice(heapq.merge(*by_tenth, reverse=True), calls_max))


CALL = """
    SELECT observed_at_ms, node_id, node.name, species.name, common_name, confidence, has_clip,
     tells_time
    FROM call JOIN node ON node.id = node_id JOIN species ON species.id = species_id
    WHERE offset = ?"""


def _call(db: apsw.Connection, offset: int) -> ListedCall:
    observed_at_ms, node_id, node, species, common_name, confidence, has_clip, tells_time = (
        db.execute(CALL, (offset,)).get
    )
    clip_offset = offset if has_clip else None
    if clip_offset is None and node and tells_time:
        clip_offset = _under_way(db, node_id, observed_at_ms)
    return ListedCall(offset, observed_at_ms, node, species, common_name, confidence, clip_offset)


def _under_way(db: apsw.Connection, node_id: int, at_ms: int) -> int | None:
    """The recording that the node was making at that moment, as far as its form tells."""
    rows = rows_of(
        db,
        "SELECT offset, started_at_ms + duration_ms FROM clip INDEXED BY recording_by_node"
        " WHERE node_id = ? AND named = 0 AND tells_start = 1"
        " AND started_at_ms <= ? AND started_at_ms > ?"
        " ORDER BY started_at_ms DESC LIMIT 1",
        (node_id, at_ms, at_ms - 24 * HOUR_MS),
    )
    return next((offset for offset, ended_ms in rows if ended_ms > at_ms), None)
