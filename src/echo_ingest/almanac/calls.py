"""Calls and recordings, newest first: calls by species, node, confidence and time."""

import heapq
from itertools import islice

import apsw
from msgspec import Struct

from echo_ingest.almanac.almanac_file import rows_of
from echo_ingest.almanac.observation import HOUR_MS
from echo_ingest.almanac.record_numbers import id_of, number_of_id
from echo_ingest.record import RecordId

CALLS_MAX = 500
SPECIES_MAX = 500
TENTHS = 10
EACH_TENTH = f"tenth IN ({', '.join(map(str, range(-1, TENTHS + 1)))})"
"""For an index in which the time follows the tenth: SQLite would scan a range of both."""
END_MS = 2**62

Neighbours = tuple[RecordId | None, RecordId | None]
"""The one before and the one after."""


class CallFilter(Struct, frozen=True):
    """Which calls are wanted: every field narrows them down."""

    species: str | None = None
    """The scientific name, in full."""
    node: str | None = None
    confidence_percent_min: int | None = None
    """0, 10, 20 … 100. Calls without a confidence are then left out."""
    since_ms: int | None = None
    """Observed then or later; milliseconds since 1970, UTC."""
    until_ms: int | None = None
    """Observed before then."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for a confidence that is not a multiple of ten."""
        percent = self.confidence_percent_min
        if percent is not None and (percent % 10 or not 0 <= percent <= 100):
            raise ValueError(f"the least confidence is {percent} %: it must be 0, 10, 20 … or 100")

    @property
    def least_tenth(self) -> int:
        """Return the least `call.tenth`."""
        return -1 if self.confidence_percent_min is None else self.confidence_percent_min // 10


class ListedCall(Struct, frozen=True):
    """A detection."""

    record: RecordId
    observed_at_ms: int
    """Milliseconds since 1970, UTC."""
    node: str
    """Empty where the topic names none."""
    species: str
    """The scientific name, as the device gives it."""
    common_name: str | None
    """The common name, where a device has given one."""
    confidence: float | None
    """Fraction, 0 to 1."""
    clip_record: RecordId | None
    """The record that carries its clip: this one, or the recording that the node was making at the
    time, where the form says when a recording began. None: no such record is known."""
    tells_time: bool
    """The time is the device's own; else it is that of receipt."""


class ListedRecording(Struct, frozen=True):
    """A recording: audio in which no species was identified."""

    record: RecordId
    observed_at_ms: int
    """Milliseconds since 1970, UTC."""
    node: str
    """Empty where the topic names none."""
    duration_ms: int
    tells_time: bool
    """The time is the device's own; else it is that of receipt."""


class Species(Struct, frozen=True):
    """A species, and how often it was heard."""

    species: str
    """The scientific name, as the devices give it."""
    common_name: str | None
    calls: int
    """All calls that are in the journal."""


def calls(
    db: apsw.Connection, wanted: CallFilter, calls_max: int, before: RecordId | None
) -> list[ListedCall]:
    """Return a page of calls by the time they were observed at, newest first.

    `before` is the last record of the previous page; if that is gone, the page is empty.
    """
    ids = ids_of(db, wanted)
    if ids is None:
        return []
    until = (END_MS if wanted.until_ms is None else wanted.until_ms, 0)
    if before is not None:
        number = number_of_id(before)
        last = rows_of(db, "SELECT observed_at_ms FROM call WHERE record = ?", (number,))
        if not last:
            return []
        until = min((last[0][0], number), until)
    rows = newest(db, *ids, wanted, until, min(calls_max, CALLS_MAX))
    return [_call(db, number) for _, number in rows]


def call_of(db: apsw.Connection, record: RecordId) -> ListedCall | None:
    """Return the call that a record is; None if it is none."""
    number = number_of_id(record)
    row = db.execute("SELECT 1 FROM call WHERE record = ?", (number,)).fetchone()
    return _call(db, number) if row else None


def call_neighbours(db: apsw.Connection, record: RecordId) -> Neighbours:
    """Return the calls of the same node observed before this one, and after it."""
    number = number_of_id(record)
    here = rows_of(db, "SELECT node_id, observed_at_ms FROM call WHERE record = ?", (number,))
    neighbours: list[RecordId | None] = []
    for beyond, order, nearest in (("<", "DESC", max), (">", "ASC", min)) if here else ():
        sql = (
            "SELECT observed_at_ms, record FROM call INDEXED BY call_by_node"  # noqa: S608
            f" WHERE node_id = ?1 AND tenth = ?4 AND observed_at_ms {beyond}= ?2"
            f" AND (observed_at_ms, record) {beyond} (?2, ?3)"
            f" ORDER BY observed_at_ms {order}, record {order} LIMIT 1"
        )
        by_tenth = [rows_of(db, sql, (*here[0], number, tenth)) for tenth in range(-1, TENTHS + 1)]
        rows = [row for rows in by_tenth for row in rows]
        neighbours.append(id_of(nearest(rows)[1]) if rows else None)
    return (neighbours[0], neighbours[1]) if neighbours else (None, None)


def recordings(
    db: apsw.Connection, wanted: CallFilter, recordings_max: int, before: RecordId | None
) -> list[ListedRecording]:
    """Return a page of recordings, as `calls` does; species and confidence do not matter."""
    ids = ids_of(db, CallFilter(node=wanted.node))
    if ids is None:
        return []
    until = (END_MS if wanted.until_ms is None else wanted.until_ms, 0)
    if before is not None:
        number = number_of_id(before)
        last = rows_of(db, "SELECT started_at_ms FROM clip WHERE record = ?", (number,))
        if not last:
            return []
        until = min((last[0][0], number), until)
    node_id, since_ms = ids[0], -END_MS if wanted.since_ms is None else wanted.since_ms
    index, term = "recording_by_time", ""
    if node_id is not None:
        index, term = "recording_by_node", "node_id = ?1 AND"
    rows = rows_of(
        db,
        "SELECT record, started_at_ms, node.name, duration_ms, tells_time FROM clip"  # noqa: S608
        f" INDEXED BY {index}"
        f" JOIN node ON node.id = node_id WHERE {term} started_at_ms >= ?2 AND started_at_ms <= ?3"
        " AND (started_at_ms, record) < (?3, ?4) AND named = 0"
        " ORDER BY started_at_ms DESC, record DESC LIMIT ?5",
        (node_id, since_ms, *until, min(recordings_max, CALLS_MAX)),
    )
    return [
        ListedRecording(id_of(number), at_ms, node, duration_ms, bool(tells_time))
        for number, at_ms, node, duration_ms, tells_time in rows
    ]


def recording_neighbours(db: apsw.Connection, record: RecordId) -> Neighbours:
    """Return the recordings of the same node before this one, and after it."""
    number = number_of_id(record)
    here = rows_of(
        db, "SELECT node_id, started_at_ms FROM clip WHERE record = ? AND named = 0", (number,)
    )
    neighbours: list[RecordId | None] = []
    for beyond, order in (("<", "DESC"), (">", "ASC")) if here else ():
        rows = rows_of(
            db,
            "SELECT record FROM clip INDEXED BY recording_by_node"  # noqa: S608
            f" WHERE node_id = ?1 AND started_at_ms {beyond}= ?2"
            f" AND (started_at_ms, record) {beyond} (?2, ?3) AND named = 0"
            f" ORDER BY started_at_ms {order}, record {order} LIMIT 1",
            (*here[0], number),
        )
        neighbours.append(id_of(rows[0][0]) if rows else None)
    return (neighbours[0], neighbours[1]) if neighbours else (None, None)


def species_heard(db: apsw.Connection, species_max: int) -> list[Species]:
    """Return every species, most calls first; at most `SPECIES_MAX`."""
    rows = rows_of(
        db,
        "SELECT name, common_name, calls FROM species WHERE calls > 0"
        " ORDER BY calls DESC, name LIMIT ?",
        (min(species_max, SPECIES_MAX),),
    )
    return [Species(*row) for row in rows]


def ids_of(db: apsw.Connection, wanted: CallFilter) -> tuple[int | None, int | None] | None:
    """Return the ids of the node and the species; None where one of them was never heard."""
    ids: list[int | None] = []
    for table, name in (("node", wanted.node), ("species", wanted.species)):
        number = None
        if name is not None:
            rows = rows_of(db, f"SELECT id FROM {table} WHERE name = ?", (name,))  # noqa: S608
            if not rows:
                return None
            number = rows[0][0]
        ids.append(number)
    return ids[0], ids[1]


def newest(
    db: apsw.Connection,
    node_id: int | None,
    species_id: int | None,
    wanted: CallFilter,
    until: tuple[int, int],
    calls_max: int,
) -> list[tuple[int, int]]:
    """Return time and record number of the newest calls before `until`.

    Each tenth of confidence is read by the index, and then merged.
    """
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
        f"SELECT observed_at_ms, record FROM call INDEXED BY {index}"  # noqa: S608
        f" WHERE {terms} tenth = ?3 AND observed_at_ms >= ?4 AND observed_at_ms <= ?5"
        " AND (observed_at_ms, record) < (?5, ?6)"
        " ORDER BY observed_at_ms DESC, record DESC LIMIT ?7"
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
    WHERE record = ?"""


def _call(db: apsw.Connection, number: int) -> ListedCall:
    observed_at_ms, node_id, node, species, common_name, confidence, has_clip, tells_time = (
        db.execute(CALL, (number,)).get
    )
    clip_record = id_of(number) if has_clip else None
    if clip_record is None and node and tells_time:
        clip_record = _under_way(db, node_id, observed_at_ms)
    return ListedCall(
        record=id_of(number),
        observed_at_ms=observed_at_ms,
        node=node,
        species=species,
        common_name=common_name,
        confidence=confidence,
        clip_record=clip_record,
        tells_time=bool(tells_time),
    )


def _under_way(db: apsw.Connection, node_id: int, at_ms: int) -> RecordId | None:
    """Return the recording that the node was making then, where its form says when it began."""
    rows = rows_of(
        db,
        "SELECT record, started_at_ms + duration_ms FROM clip INDEXED BY recording_by_node"
        " WHERE node_id = ? AND named = 0 AND tells_start = 1"
        " AND started_at_ms <= ? AND started_at_ms > ?"
        " ORDER BY started_at_ms DESC LIMIT 1",
        (node_id, at_ms, at_ms - 24 * HOUR_MS),
    )
    return next((id_of(number) for number, ended_ms in rows if ended_ms > at_ms), None)
