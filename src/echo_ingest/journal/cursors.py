"""How far each sink has come: its cursor, and the figures that add up to it.

After every call `cursor = skipped + delivered + parked`, where parked includes what is to be
replayed. Each call is part of a transaction of its caller.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import apsw
from msgspec import Struct

from echo_ingest.journal.ledger import lost_between, without_gap
from echo_ingest.journal.locations import note_place


class Refused(Struct, frozen=True):
    """Why a sink refused a record, as it is parked."""

    reason: str
    """In the sink's own words."""
    code: str | None = None
    """The `ReasonCode`, where the reason is one of ours and not of the system behind the sink."""
    field: str | None = None
    """The field of the record that the reason is about, if it is about one."""


def add(db: apsw.Connection, sink: str) -> None:
    """Start a new sink where retention has stopped; leave a known one where it is."""
    db.execute(
        "INSERT INTO sink (name, cursor, skipped, delivered)"
        " SELECT ?, trimmed_offset, trimmed_offset, 0 FROM ledger WHERE true"
        " ON CONFLICT DO NOTHING",
        (sink,),
    )


def settle(
    db: apsw.Connection,
    sink: str,
    offsets: Sequence[int],
    refusals: Mapping[int, Refused],
    place: str | None,
) -> int:
    """Note what was delivered and park what was refused; return how many offsets count.

    An offset that is neither parked nor follows the cursor does not count: a person has moved the
    cursor meanwhile, so the record will be offered again, or is skipped.
    """
    cursor: int = db.execute("SELECT cursor FROM sink WHERE name = ?", (sink,)).get
    replayed = [offset for offset in offsets if offset <= cursor and is_parked(db, sink, offset)]
    following = [offset for offset in offsets if offset > cursor]
    following = following[: without_gap(db, cursor, following)]
    settled = [*replayed, *following]
    refused = [offset for offset in settled if offset in refusals]
    delivered = [offset for offset in settled if offset not in refusals]
    db.executemany(
        "DELETE FROM parked WHERE sink = ? AND offset = ?",
        ((sink, offset) for offset in delivered),
    )
    db.executemany(
        "INSERT INTO parked (sink, offset, reason, parked_at_ms, attempts, code, field)"
        " VALUES (?, ?, ?, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET reason = excluded.reason,"
        " parked_at_ms = excluded.parked_at_ms, attempts = attempts + 1, replay = 0,"
        " code = excluded.code, field = excluded.field",
        (
            (sink, offset, why.reason, _now_ms(), why.code, why.field)
            for offset in refused
            for why in (refusals[offset],)
        ),
    )
    end = max(following, default=cursor)
    db.execute(
        "UPDATE sink SET cursor = ?1, delivered = delivered + ?2,"
        # Offsets in between belong to records that a damaged file did not give back.
        " skipped = skipped + ?1 - cursor - ?3 WHERE name = ?4",
        (end, len(delivered), len(following), sink),
    )
    if place is not None:
        note_place(db, sink, delivered, place)
    return len(settled)


def begin_at(db: apsw.Connection, sink: str, first: int, may_repeat: bool) -> int:
    """Offer again all records from offset `first` on; return how many more now wait.

    That includes parked ones. A cursor never goes back to what retention has removed. A sink that
    has received nothing yet skips what comes before `first`.
    """
    row: tuple[int, int, int] = db.execute(
        "SELECT cursor, skipped, trimmed_offset FROM sink, ledger WHERE name = ?", (sink,)
    ).get
    cursor, skipped, trimmed = row
    before = max(first - 1, trimmed)
    if cursor == skipped:
        sql = "UPDATE sink SET cursor = ?1, skipped = ?1 WHERE name = ?2"
        db.execute(sql, (before, sink))
        return cursor - before
    if before >= cursor or not may_repeat:
        return 0
    replays: int = db.execute(
        "SELECT count(*) FROM parked WHERE sink = ? AND offset > ? AND replay = 1", (sink, before)
    ).get
    db.execute("DELETE FROM parked WHERE sink = ? AND offset > ?", (sink, before))
    parked: int = db.execute("SELECT count(*) FROM parked WHERE sink = ?", (sink,)).get
    # The sink skipped lost records when it passed them, and will skip them again.
    skipped = max(0, skipped - lost_between(db, before + 1, cursor))
    skipped = min(skipped, before - parked)
    db.execute(
        "UPDATE sink SET cursor = ?1, skipped = ?2, delivered = ?1 - ?2 - ?3 WHERE name = ?4",
        (before, skipped, parked, sink),
    )
    return cursor - before - replays


def pause(db: apsw.Connection, sink: str) -> None:
    """Offer nothing more to `sink`; a pause that is there already keeps its time."""
    sql = "UPDATE sink SET paused_at_ms = ? WHERE name = ? AND paused_at_ms IS NULL"
    db.execute(sql, (_now_ms(), sink))


def resume(db: apsw.Connection, sink: str) -> None:
    """Let `sink` continue where it was."""
    db.execute("UPDATE sink SET paused_at_ms = NULL WHERE name = ?", (sink,))


def is_paused(db: apsw.Connection, sink: str) -> bool:
    """Return whether a person has paused `sink`."""
    sql = "SELECT 1 FROM sink WHERE name = ? AND paused_at_ms IS NOT NULL"
    return db.execute(sql, (sink,)).fetchone() is not None


def is_parked(db: apsw.Connection, sink: str, offset: int) -> bool:
    """Return whether `sink` has refused this record, with or without a requested replay."""
    sql = "SELECT 1 FROM parked WHERE sink = ? AND offset = ?"
    return db.execute(sql, (sink, offset)).fetchone() is not None


def forget(db: apsw.Connection, sink: str) -> None:
    """Remove the cursor of `sink` and what it has parked: it no longer holds up retention."""
    for table in ("parked", "place", "attempt"):
        db.execute(f"DELETE FROM {table} WHERE sink = ?", (sink,))  # noqa: S608
    db.execute("DELETE FROM sink WHERE name = ?", (sink,))


def trim(
    db: apsw.Connection, passed: int, records_max: int, received_before_ms: int, now_ms: int
) -> int:
    """Remove old records up to the offset `passed` that every sink has settled; return how many."""
    offsets: list[Any] = db.execute(
        "SELECT offset FROM ("
        # The oldest offsets suffice: times of receipt grow with them, unless a clock is set back.
        " SELECT offset, received_at_ms FROM record WHERE offset <= min(?1,"
        "  coalesce((SELECT min(cursor) FROM sink), 9223372036854775807),"
        "  (SELECT max(offset) FROM record) - 1)"
        " AND offset NOT IN (SELECT offset FROM parked) ORDER BY offset LIMIT ?2"
        ") WHERE received_at_ms < ?3 OR received_at_ms > ?4",
        (passed, records_max, received_before_ms, now_ms),
    ).fetchall()
    db.executemany("DELETE FROM record WHERE offset = ?", offsets)
    if offsets:
        db.execute("UPDATE ledger SET trimmed_offset = max(trimmed_offset, ?)", offsets[-1])
    return len(offsets)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
