"""The message ledger: what was received, and where every message is now."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import apsw
from msgspec import Struct

from echo_ingest.journal.entries import TIME_MS_MAX
from echo_ingest.journal.snapshot import at_one_moment


class SinkLedger(Struct, frozen=True):
    """`stored = skipped + delivered + parked + backlog`."""

    delivered: int
    parked: int
    backlog: int
    skipped: int
    lag_seconds: float
    """Age of the oldest record in the backlog; 0 if there is none."""
    paused_at_ms: int | None
    """When a person paused the sink, in milliseconds since 1970; None if it is not paused."""


class Ledger(Struct, frozen=True):
    """`received = stored + duplicates + dead_letters + ignored + unclaimed + discarded`."""

    received: int
    stored: int
    duplicates: int
    dead_letters: int
    lost: int
    """How many of the stored messages and dead letters a damaged file did not give back."""
    sinks: dict[str, SinkLedger]
    ignored: int = 0
    """How many messages a form has ignored."""
    unclaimed: int = 0
    """How many came on topics that nothing has claimed."""
    discarded: int = 0
    """How many were dead letters that a person, or their age, has removed."""

    @property
    def others(self) -> dict[str, int]:
        """The terms that are 0 in most installations, by their names for people."""
        return {
            "ignored": self.ignored,
            "unclaimed": self.unclaimed,
            "discarded": self.discarded,
        }

    @property
    def accounted(self) -> int:
        """How many messages it knows the place of: as many as were received."""
        others = sum(self.others.values())
        return self.stored + self.duplicates + self.dead_letters + others


def read_ledger(db: apsw.Connection) -> Ledger:
    """Return the ledger as of one moment."""
    with at_one_moment(db):
        return _ledger(db)


def _ledger(db: apsw.Connection) -> Ledger:
    sinks = {}
    rows: list[Any] = db.execute("SELECT * FROM sink").fetchall()
    for name, cursor, skipped, delivered, paused_at_ms in rows:
        waiting = db.execute("SELECT coalesce(max(offset), ?1) - ?1 FROM record", (cursor,)).get
        parked, replays = db.execute(
            "SELECT count(*) FILTER (WHERE replay = 0), count(*) FILTER (WHERE replay = 1)"
            " FROM parked WHERE sink = ?",
            (name,),
        ).get
        lag_seconds = db.execute(
            "SELECT max(0, unixepoch('subsec') - min(received_at_ms) / 1000.0) FROM ("
            " SELECT * FROM (SELECT received_at_ms FROM record WHERE offset > ?1"
            "  ORDER BY offset LIMIT 1) UNION ALL"
            " SELECT received_at_ms FROM parked JOIN record USING (offset)"
            " WHERE sink = ?2 AND replay = 1)",
            (cursor, name),
        ).get
        sinks[name] = SinkLedger(
            delivered,
            parked,
            waiting + replays,
            skipped,
            round(lag_seconds or 0.0, 3),
            None if paused_at_ms is None else min(max(paused_at_ms, 0), TIME_MS_MAX),
        )
    received, stored, duplicates, dead_letters, lost, *others = db.execute(
        "SELECT received, stored, duplicates, dead_letters, lost_dead_letters"
        " + (SELECT coalesce(sum(last - first + 1), 0) FROM lost), ignored, unclaimed, discarded"
        " FROM ledger"
    ).get
    return Ledger(received, stored, duplicates, dead_letters, lost, sinks, *others)


def read_unacknowledged(db: apsw.Connection, offset: int, dead_letter: int) -> Counter[bytes]:
    """Return the digests of what was stored after these two, where no key tells a repeat."""
    rows = db.execute(
        "SELECT digest FROM record WHERE offset > ? AND digest IS NOT NULL"
        " UNION ALL SELECT digest FROM dead_letter WHERE id > ?",
        (offset, dead_letter),
    )
    return Counter(digest for (digest,) in rows)


def require_all(db: apsw.Connection, cursor: int, offsets: Sequence[int]) -> None:
    """Raise `apsw.CorruptError` unless `offsets` continue from `cursor` without a gap.

    A sink that read past a gap would leave out records without a word.
    """
    whole = without_gap(db, cursor, offsets)
    if whole < len(offsets):
        last = offsets[whole - 1] if whole else cursor
        raise apsw.CorruptError(f"after offset {last:,} comes {offsets[whole]:,}")


def without_gap(db: apsw.Connection, cursor: int, offsets: Sequence[int]) -> int:
    """Return how many of `offsets` continue from `cursor` with no gap but known losses."""
    for index, offset in enumerate(offsets):
        if offset != cursor + 1 and lost_between(db, cursor + 1, offset - 1) < offset - 1 - cursor:
            return index
        cursor = offset
    return len(offsets)


def lost_between(db: apsw.Connection, first: int, last: int) -> int:
    """Return how many offsets from `first` to `last` are noted as lost with a damaged file.

    If the newest record was lost, an empty row stands in for it; that one is not counted.
    """
    lost: int = db.execute(
        "SELECT coalesce(sum(min(last, ?2) - max(first, ?1) + 1"
        "  - (last <= ?2 AND EXISTS (SELECT 1 FROM record WHERE offset = last))), 0)"
        " FROM lost WHERE last >= ?1 AND first <= ?2",
        (first, last),
    ).get
    return lost


def contradictions(db: apsw.Connection, *, count_rows: bool) -> list[str]:
    """Say in words what in the ledger does not agree; with `count_rows`, compare it with the rows.

    Counting takes about a second for ten million records.
    """
    with at_one_moment(db):
        return [
            f"{name}: {count:,}, but {other}: {other_count:,}"
            for name, count, other, other_count in _sums(db, count_rows)
            if count != other_count
        ]


def _sums(db: apsw.Connection, count_rows: bool) -> Iterator[tuple[str, int, str, int]]:
    """Yield pairs of figures that must be equal, each with its name."""
    rows: list[Any] = db.execute(
        "SELECT received, stored, duplicates, dead_letters, lost_dead_letters, trimmed_offset,"
        " ignored, unclaimed, discarded FROM ledger"
    ).fetchall()
    if not rows:
        yield "rows of the ledger", 0, "there must be", 1
        return
    received, stored, duplicates, dead_letters, lost_dead_letters, trimmed, *others = rows[0]
    together = stored + duplicates + dead_letters + sum(others)
    yield "received", received, "all that became of messages, together", together
    newest = db.execute("SELECT coalesce(max(offset), 0) FROM record").get
    yield "stored", stored, "the newest record's offset", newest
    if count_rows:
        missing = lost_between(db, trimmed + 1, newest)
        there = db.execute("SELECT count(*) FROM record WHERE offset > ?", (trimmed,)).get
        left = stored - trimmed - missing
        yield "stored less what retention removed", left, "the records after it", there
        rows_of_dead_letters = db.execute("SELECT count(*) FROM dead_letter").get
        left = dead_letters - lost_dead_letters
        yield "dead letters", left, "rows of dead letters", rows_of_dead_letters
    sinks: list[Any] = db.execute("SELECT name, cursor, skipped, delivered FROM sink").fetchall()
    for name, cursor, skipped, delivered in sinks:
        parked = db.execute("SELECT count(*) FROM parked WHERE sink = ?", (name,)).get
        settled = skipped + delivered + parked
        yield f"what {name} has settled", cursor, "skipped, delivered and parked together", settled
