"""What is new in a journal and what has gone from it, for the read model that follows it.

The view is read-only, beside the service that writes. Only records come with their payloads, so
that a look costs little. Each call is one short transaction.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from echo_ingest.journal.entries import (
    ENTRY_COLUMNS,
    Entry,
    entry_bytes,
    text_of,
    to_entry,
    up_to_bytes,
)
from echo_ingest.journal.journal_file import JournalUnusable, connect
from echo_ingest.journal.node_days import CREDIBLE_AHEAD_MS
from echo_ingest.journal.open_files import file_of
from echo_ingest.journal.recovery.detect import noting
from echo_ingest.journal.snapshot import at_one_moment

Row = tuple[Any, ...]


class JournalMarks(Struct, frozen=True):
    """How far a journal has come at one moment; what differs from an earlier one has changed."""

    last_offset: int
    trimmed_offset: int
    """The highest that retention has removed."""
    left_behind: int
    """How many records before that are still there, because a sink has them parked."""
    first_received_at_ms: int | None
    """When the oldest record after those was received, unless its time is still to come; None if
    there is none."""
    last_dead_letter: int
    dead_letters: int
    """How many dead letters there are."""
    reread: int
    """How many messages another form reads since they were stored."""
    parked: tuple[Row, ...]
    """For each sink its name, how many records are parked, how many to be replayed, and the last
    attempt."""


class DeadLetterChange(Struct, frozen=True):
    """A dead letter without its message."""

    id: int
    received_at_ms: int
    node: str
    """Empty where the topic named none."""
    reason: str
    code: str | None = None
    """The `ReasonCode`; None in a journal of version 1."""
    field: str | None = None


class ParkedReason(Struct, frozen=True):
    """Why a sink refused a record, and whose record it is."""

    reason: str
    code: str | None
    """The `ReasonCode`; None where the reason is in the words of another system."""
    field: str | None
    node: str
    """Empty where the topic named none."""


class JournalChanges:
    """A read-only view of what changes in the journal at `path`."""

    def __init__(self, path: Path) -> None:
        """Raise `JournalUnusable` if there is no journal yet."""
        self._path = path
        if not path.exists():
            raise JournalUnusable(f"there is no journal at {path} yet")
        self._db = connect(path, read_only=True)
        if self._db.execute("PRAGMA user_version").get == 0:
            self._db.close()
            raise JournalUnusable(f"{path} holds no journal yet")
        self.file = file_of(path)
        """Which file it is: another one has another."""

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def version(self) -> int:
        """Another number whenever somebody has committed something."""
        return int(self._db.execute("PRAGMA data_version").get)

    def marks(self) -> JournalMarks:
        """How far it has come; takes longer the more is parked, 10 ms for 100,000."""
        with self._at_one_moment():
            last, trimmed, left, first_ms, letters, last_letter, reread = self._db.execute(
                "SELECT (SELECT coalesce(max(offset), 0) FROM record), trimmed_offset,"
                " (SELECT count(*) FROM record WHERE offset <= trimmed_offset),"
                " (SELECT received_at_ms FROM record WHERE offset > trimmed_offset"
                "  AND received_at_ms <= unixepoch() * 1000 + ?1 ORDER BY offset LIMIT 1),"
                " dead_letters - lost_dead_letters,"
                " (SELECT coalesce(max(id), 0) FROM dead_letter),"
                " (SELECT coalesce(sum(reread), 0) FROM form) FROM ledger",
                (CREDIBLE_AHEAD_MS,),
            ).get
            parked = self._db.execute(
                "SELECT sink, count(*), sum(replay), sum(attempts), max(parked_at_ms) FROM parked"
                " GROUP BY sink"
            ).fetchall()
        return JournalMarks(
            last, trimmed, left, first_ms, last_letter, letters, reread, tuple(parked)
        )

    def reread(self) -> int:
        """Return how many messages another form reads since they were stored."""
        ((count,),) = self._rows("SELECT coalesce(sum(reread), 0) FROM form")
        return int(count)

    def entries(self, after: int, records_max: int, bytes_max: int) -> list[Entry]:
        """Return records that follow an offset, in order, within limits of number and memory."""
        rows = self._rows(
            f"SELECT {ENTRY_COLUMNS} FROM record WHERE offset > ? ORDER BY offset LIMIT ?",  # noqa: S608
            (after, records_max),
        )
        return list(up_to_bytes(map(to_entry, rows), entry_bytes, bytes_max))

    def key(self, offset: int) -> bytes | None:
        """Return the key of the record at `offset`; None if it is not there."""
        row = next(self._rows("SELECT key FROM record WHERE offset = ?", (offset,)), None)
        return None if row is None else bytes(row[0])

    def gone(self, offsets: list[int]) -> list[int]:
        """Those of these offsets whose record is not there any more."""
        there = "SELECT 1 FROM record WHERE offset = ?"
        with self._at_one_moment():
            return [each for each in offsets if not self._db.execute(there, (each,)).fetchone()]

    def dead_letters_after(self, after: int, letters_max: int) -> list[DeadLetterChange]:
        """Return the dead letters that follow an id, in order."""
        rows = self._rows(
            "SELECT id, received_at_ms, CAST(node AS BLOB), CAST(reason AS BLOB), code, field"
            " FROM dead_letter"
            " WHERE id > ? ORDER BY id LIMIT ?",
            (after, letters_max),
        )
        return [
            DeadLetterChange(id, ms, text_of(node) or "", text_of(reason) or "", code, field)
            for id, ms, node, reason, code, field in rows
        ]

    def letter_ids(self, after: int, letters_max: int) -> list[int]:
        """Return the ids of dead letters that follow one, in order."""
        rows = self._rows(
            "SELECT id FROM dead_letter WHERE id > ? ORDER BY id LIMIT ?", (after, letters_max)
        )
        return [number for (number,) in rows]

    def parked(self, sink: str, after: int, parked_max: int) -> list[Row]:
        """Return what `sink` has parked after an offset: offset, time, and whether to replay it."""
        rows = self._rows(
            "SELECT offset, parked_at_ms, replay FROM parked WHERE sink = ? AND offset > ?"
            " ORDER BY offset LIMIT ?",
            (sink, after, parked_max),
        )
        return list(rows)

    def why_parked(self, sink: str, offset: int) -> ParkedReason | None:
        """Return why a record is parked; None if it is not parked any more."""
        rows = self._rows(
            "SELECT CAST(reason AS BLOB), code, field, CAST(node AS BLOB)"
            " FROM parked JOIN record USING (offset) WHERE sink = ? AND offset = ?",
            (sink, offset),
        )
        for reason, code, field, node in rows:
            return ParkedReason(text_of(reason) or "", code, field, text_of(node) or "")
        return None

    def heard(self, until_ms: int) -> Iterator[tuple[str, int, int]]:
        """Yield every node with the times it was first and last heard; reads each of its days.

        A later time than `until_ms`, from a wrong clock, counts where there is no other.
        """
        yield from self._rows(
            "SELECT node, min(first_heard_at_ms),"
            " coalesce(max(iif(last_heard_at_ms <= ?, last_heard_at_ms, NULL)),"
            "  min(last_heard_at_ms)) FROM node_day GROUP BY node",
            (until_ms,),
        )

    def last_heard(self, until_ms: int) -> list[tuple[str, int]]:
        """Return every node with the time it was last heard, not after `until_ms`.

        30 ms for 10,000 nodes.
        """
        rows = self._rows(
            "WITH RECURSIVE name(node) AS (SELECT min(node) FROM node_day UNION ALL"
            " SELECT (SELECT min(node) FROM node_day WHERE node > name.node) FROM name"
            "  WHERE node IS NOT NULL)"
            " SELECT node, (SELECT last_heard_at_ms FROM node_day"
            "  WHERE node_day.node = name.node AND last_heard_at_ms <= ?"
            "  ORDER BY day DESC LIMIT 1)"
            " FROM name WHERE node IS NOT NULL",
            (until_ms,),
        )
        return [(node, at_ms) for node, at_ms in rows if at_ms is not None]

    @contextmanager
    def _at_one_moment(self) -> Iterator[None]:
        with noting(self._path), at_one_moment(self._db):
            yield

    def _rows(self, sql: str, bindings: tuple[Any, ...] = ()) -> Iterator[Row]:
        with noting(self._path):
            yield from self._db.execute(sql, bindings)
