"""Reading what the journal holds, for people: the command line and the read API.

Opens the file read-only, beside the service that writes it.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import apsw
from msgspec import Struct

from echo_ingest.journal import (
    ENTRY_COLUMNS,
    Entry,
    JournalUnusable,
    Ledger,
    connect,
    properties_of,
    read_ledger,
    to_entry,
)
from echo_ingest.record import SECONDS_MAX, Message

PAGE_ROWS = 200


class DeadLetter(Struct, frozen=True):
    """A message that was never valid, as it came, and why."""

    id: int
    reason: str
    message: Message


class Parked(Struct, frozen=True):
    """A record that one sink refused, and why."""

    sink: str
    offset: int
    reason: str
    parked_at_ms: int
    attempts: int
    replay_requested: bool


class Selection(Struct, frozen=True):
    """Which records: every field narrows it down."""

    node: str | None = None
    kind: str | None = None
    since: datetime | None = None
    """Observed at this second or later."""
    until: datetime | None = None
    """Observed before this second."""


class Archive:
    """A read-only view of a journal; every call is one short transaction."""

    def __init__(self, path: Path) -> None:
        """Raise `JournalUnusable` if there is no journal at `path`."""
        if not path.exists():
            raise JournalUnusable(
                f"there is no journal at {path}; start `echo-ingest up`, or set IOT_DATA_DIR "
                "to the folder of the one that runs"
            )
        self._db = connect(path, read_only=True)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def ledger(self) -> Ledger:
        """As `Journal.ledger`."""
        return read_ledger(self._db)

    def newest(self, selection: Selection, limit: int, before: int | None = None) -> list[Entry]:
        """The newest selected records, newest first, with offsets below `before`."""
        where, bindings = _where(selection)
        if before is not None:
            where, bindings = f"{where} AND offset < ?", (*bindings, before)
        return self._entries(
            f"SELECT {ENTRY_COLUMNS} FROM record WHERE {where} ORDER BY offset DESC LIMIT ?",  # noqa: S608
            (*bindings, limit),
        )

    def after(self, selection: Selection, offset: int, limit: int = PAGE_ROWS) -> list[Entry]:
        """The selected records that follow `offset`, in order of arrival."""
        where, bindings = _where(selection)
        return self._entries(
            f"SELECT {ENTRY_COLUMNS} FROM record WHERE {where} AND offset > ?"  # noqa: S608
            " ORDER BY offset LIMIT ?",
            (*bindings, offset, limit),
        )

    def record(self, offset: int) -> Entry | None:
        """The record at `offset`."""
        rows = self._entries(
            f"SELECT {ENTRY_COLUMNS} FROM record WHERE offset = ?",  # noqa: S608
            (offset,),
        )
        return rows[0] if rows else None

    def last_offset(self) -> int:
        """The newest record's, 0 if there is none."""
        (offset,) = self._db.execute("SELECT coalesce(max(offset), 0) FROM record").fetchone()
        return int(offset)

    def dead_letters(
        self, after: int = 0, node: str | None = None, reason: str | None = None
    ) -> Iterator[DeadLetter]:
        """Dead letters in order of arrival; `reason` is part of its text."""
        while True:
            rows = self._db.execute(
                "SELECT id, reason, received_at_ms, node, topic, properties, payload"
                " FROM dead_letter WHERE id > ?1 AND (?2 IS NULL OR node = ?2)"
                " AND (?3 IS NULL OR instr(reason, ?3) > 0) ORDER BY id LIMIT ?4",
                (after, node, reason, PAGE_ROWS),
            )
            page = [_dead_letter(row) for row in rows]
            yield from page
            if len(page) < PAGE_ROWS:
                return
            after = page[-1].id

    def dead_letter(self, number: int) -> DeadLetter | None:
        """The dead letter with this id."""
        return next((d for d in self.dead_letters(number - 1) if d.id == number), None)

    def parked(self, sink: str | None = None) -> list[Parked]:
        """What sinks have refused, by sink and offset."""
        rows = self._db.execute(
            "SELECT sink, offset, reason, parked_at_ms, attempts, replay FROM parked"
            " WHERE ?1 IS NULL OR sink = ?1 ORDER BY sink, offset",
            (sink,),
        )
        return [Parked(*row[:5], replay_requested=bool(row[5])) for row in rows]

    def _entries(self, sql: str, bindings: tuple[apsw.SQLiteValue, ...]) -> list[Entry]:
        return [to_entry(row) for row in self._db.execute(sql, bindings)]


def _dead_letter(row: tuple[object, ...]) -> DeadLetter:
    number, reason, received_at_ms, node, topic, properties, payload = row
    message = Message(
        topic=topic,  # type: ignore[arg-type]
        payload=payload,  # type: ignore[arg-type]
        received_at_ms=received_at_ms,  # type: ignore[arg-type]
        node=node,  # type: ignore[arg-type]
        properties=properties_of(properties),  # type: ignore[arg-type]
    )
    return DeadLetter(number, reason, message)  # type: ignore[arg-type]


def _where(selection: Selection) -> tuple[str, tuple[apsw.SQLiteValue, ...]]:
    """The condition for a selection. The key begins with the time, so its index serves times."""
    terms, bindings = ["true"], list[apsw.SQLiteValue]()
    if selection.node is not None:
        terms.append("node = ?")
        bindings.append(selection.node)
    if selection.kind is not None:
        terms.append("kind = ?")
        bindings.append(selection.kind)
    if selection.since is not None or selection.until is not None:
        since = int((selection.since or datetime.fromtimestamp(1, UTC)).timestamp())
        until = int((selection.until or datetime.fromtimestamp(SECONDS_MAX, UTC)).timestamp())
        low, high = (min(max(t, 1), SECONDS_MAX).to_bytes(4) for t in (since, until))
        terms.append(
            "((key >= ? AND key < ?) OR (key < x'00000001' AND received_at_ms >= ?"
            " AND received_at_ms < ?))"
        )
        bindings += [low, high, since * 1000, until * 1000]
    return " AND ".join(terms), tuple(bindings)
