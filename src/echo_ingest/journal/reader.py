"""Reading what the journal holds: for the command line, the read API and the console.

The file is opened read-only, beside the service that writes it. Messages may be large, so rows come
in pages of about `READ_BYTES_MAX` bytes of memory and at least one row. A page may hold fewer rows
than asked for, and only an empty page is the last. Each page is one short transaction.
"""

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from sys import getsizeof
from typing import Any

from msgspec import Struct

from echo_ingest.decode import Decoder
from echo_ingest.formatting import utc
from echo_ingest.journal import JournalUnusable, connect
from echo_ingest.journal.decoding import has_selected
from echo_ingest.journal.discarding import DiscardedDay, read_discarded_days
from echo_ingest.journal.entries import (
    DEAD_LETTER_COLUMNS,
    ENTRY_COLUMNS,
    READ_BYTES_MAX,
    TIME_MS_MAX,
    DeadLetterEntry,
    Entry,
    entry_bytes,
    text_of,
    to_dead_letter,
    to_entry,
    up_to_bytes,
)
from echo_ingest.journal.ignored_days import IgnoredDay, read_ignored_days
from echo_ingest.journal.ledger import Ledger, contradictions, read_ledger
from echo_ingest.journal.locations import place_of
from echo_ingest.journal.node_days import (
    CREDIBLE_AHEAD_MS,
    NodeContact,
    NodeDay,
    nodes_heard,
    read_last_heard,
    read_node_days,
)
from echo_ingest.journal.receipt_days import DAY_MS
from echo_ingest.journal.recovery.detect import check_pages, check_schema, noted, noting
from echo_ingest.journal.selection import LATEST, Bindings, Selection, where_of
from echo_ingest.journal.snapshot import at_one_moment
from echo_ingest.journal.unclaimed_topics import (
    UnclaimedEntry,
    UnclaimedTopic,
    count_of,
    newest_of,
    topics,
)
from echo_ingest.record import PinnedForm

__all__ = ["PAGE_ROWS", "JournalReader", "OffsetRange", "Parked", "ReceivedAhead", "Selection"]

PAGE_ROWS = 200
STRETCH_OFFSETS = 1_000

Row = tuple[Any, ...]  # the schema is STRICT: SQLite has checked the types


class Parked(Struct, frozen=True):
    """A record that one sink refused, and why."""

    sink: str
    offset: int
    reason: str
    """In the sink's own words."""
    parked_at_ms: int
    attempts: int
    replay_requested: bool
    """Whether the service will offer it again soon."""
    node: str | None
    topic: str
    size_bytes: int
    code: str | None = None
    """The `ReasonCode`; None where the reason is in the words of another system."""
    field: str | None = None
    """The field of the record that the reason is about, if it is about one."""


class OffsetRange(Struct, frozen=True):
    """What a journal holds between two offsets at one moment."""

    entries: list[Entry]
    """The messages with selected records."""
    up_to: int
    """The offset where it ends; reading continues after it."""
    gone: int
    """How many offsets in it have no record any more, selected or not."""


class ReceivedAhead(Struct, frozen=True):
    """A time of receipt that is still to come: the clock was wrong then, or is now."""

    at_ms: int
    is_newest: bool
    """Whether it is that of the newest record: nothing was received by another clock since."""

    def render(self) -> str:
        """Return what this means, for people."""
        day = f"{utc(self.at_ms):%Y-%m-%d} (UTC), which is in the future"
        if not self.is_newest:
            return (
                f"some messages were received on {day}: the clock of this machine was wrong then; "
                "no record is removed because of it"
            )
        return (
            f"the newest message was received on {day}: the clock of this machine was wrong then, "
            "or is now; compare it with another one. No record is removed because of it"
        )


class JournalReader:
    """A read-only view of a journal."""

    def __init__(self, path: Path, decoder: Decoder | None = None) -> None:
        """Raise `JournalUnusable` if there is no journal at `path`.

        `decoder` says when a record was observed, where a selection asks for that.
        """
        if not path.exists():
            raise JournalUnusable(
                f"there is no journal at {path}; start `echo-ingest up`, or set IOT_DATA_DIR "
                "to the folder of the one that runs"
            )
        self._path = path
        self._decoder = decoder
        self._db = connect(path, read_only=True)
        self.schema_version = self._number("PRAGMA user_version")
        """Of which version its tables are: this one, or an earlier one."""
        if self.schema_version == 0:
            raise JournalUnusable(
                f"{path} holds no journal yet; start `echo-ingest up`, or set IOT_DATA_DIR "
                "to the folder of the one that runs"
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # ------------------------------------------------------------------ figures

    def sessions(self) -> list[str]:
        """Return the names under which broker sessions are remembered."""
        return [str(name) for (name,) in self._db.execute("SELECT name FROM session")]

    def ledger(self) -> Ledger:
        """Return the ledger, as `Journal.ledger` does."""
        with noting(self._path):
            return read_ledger(self._db)

    def node_days(
        self, node: str | None = None, since: date | None = None, limit: int = LATEST
    ) -> list[NodeDay]:
        """Return the ledger by node and day, the newest days first; `since` is a day in UTC."""
        with noting(self._path):
            return read_node_days(self._db, node, since, limit)

    def ignored_days(self, since: date | None = None, limit: int = LATEST) -> list[IgnoredDay]:
        """Return how many messages each form has ignored by day, the newest days first."""
        with noting(self._path):
            return read_ignored_days(self._db, since, limit)

    def unclaimed_topics(self) -> list[UnclaimedTopic]:
        """Return the topics that nothing has claimed, those with the most messages first."""
        with noting(self._path):
            return topics(self._db)

    def newest_unclaimed(self, topic: str, messages_max: int) -> list[UnclaimedEntry]:
        """Return the newest messages of such a topic that are kept."""
        with noting(self._path):
            return newest_of(self._db, topic, messages_max)

    def discarded_days(self, since: date | None = None, limit: int = LATEST) -> list[DiscardedDay]:
        """Return how many dead letters were discarded by day and reason, the newest days first."""
        with noting(self._path):
            return read_discarded_days(self._db, since, limit)

    def count_unclaimed(self, topic: str) -> int:
        """Return how many messages of such a topic are kept."""
        with noting(self._path):
            return count_of(self._db, topic)

    def nodes_heard(self, now_ms: int) -> dict[str, int]:
        """Return how many nodes were heard within the last `hour`, `day` and `week`."""
        with noting(self._path):
            return nodes_heard(self._db, now_ms)

    def last_heard(self, now_ms: int) -> dict[str, NodeContact]:
        """Return when each node was heard, and how often on this day, in UTC."""
        with noting(self._path):
            return read_last_heard(self._db, now_ms)

    def received_ahead(self, now_ms: int) -> ReceivedAhead | None:
        """Return what was received at a time that is still to come; None if nothing was."""
        limit_ms = now_ms + CREDIBLE_AHEAD_MS
        ((latest_ms, newest_ms),) = self._rows(
            "SELECT (SELECT max(last_heard_at_ms) FROM node_day WHERE day >= ?),"
            " (SELECT received_at_ms FROM record ORDER BY offset DESC LIMIT 1)",
            (limit_ms // DAY_MS,),
        )
        if max(latest_ms or 0, newest_ms or 0) <= limit_ms:
            return None
        is_newest = newest_ms is not None and newest_ms > limit_ms
        at_ms = newest_ms if is_newest else latest_ms
        return ReceivedAhead(min(at_ms, TIME_MS_MAX), is_newest)

    def audit(self) -> list[str]:
        """Compare the ledger's counters with the rows; return what disagrees, in words.

        Checks the structure of the file too, about a second for each GB, and raises
        `JournalUnusable` if it is damaged.
        """
        with noting(self._path):
            if wrong := check_schema(self._db) or check_pages(self._db):
                raise noted(self._path, wrong)
            return contradictions(self._db, count_rows=True)

    def last_offset(self) -> int:
        """Return the offset of the newest record; 0 if there is none."""
        return self._number("SELECT coalesce(max(offset), 0) FROM record")

    def cursor(self, sink: str) -> int | None:
        """Return the offset up to which `sink` has settled all; None for an unknown sink."""
        rows = self._rows("SELECT cursor FROM sink WHERE name = ?", (sink,))
        return next((int(cursor) for (cursor,) in rows), None)

    def first_received(self, since: datetime) -> int | None:
        """Return the offset of the first record received at `since` or later; None without one.

        Reads one record after the other: about a second for a few million.
        """
        rows = self._rows(
            "SELECT offset FROM record WHERE received_at_ms >= ? ORDER BY offset LIMIT 1",
            (int(since.timestamp() * 1000),),
        )
        return next((int(offset) for (offset,) in rows), None)

    # ------------------------------------------------------------------ records

    def newest(self, selection: Selection, limit: int, before: int | None = None) -> list[Entry]:
        """Return a page of messages with selected records, the newest first.

        Their offsets are below `before`; `decoding.selected` tells which records are meant.
        """
        where, bindings = where_of(selection)
        sql = (
            f"SELECT {ENTRY_COLUMNS} FROM record WHERE {where} AND offset < ?"  # noqa: S608
            " ORDER BY offset DESC LIMIT ?"
        )
        return self._page(selection, limit, sql, bindings, LATEST if before is None else before)

    def after(self, selection: Selection, offset: int, limit: int = PAGE_ROWS) -> list[Entry]:
        """Return a page of messages with selected records that follow `offset`, as they arrived."""
        where, bindings = where_of(selection)
        sql = (
            f"SELECT {ENTRY_COLUMNS} FROM record WHERE {where} AND offset > ?"  # noqa: S608
            " ORDER BY offset LIMIT ?"
        )
        return self._page(selection, limit, sql, bindings, offset)

    def _page(
        self, selection: Selection, limit: int, sql: str, bindings: Bindings, position: int
    ) -> list[Entry]:
        """Read on from `position` until a page is full or there is nothing more."""
        if not selection.has_time:
            return self._entries(sql, (*bindings, position, limit))
        page: list[Entry] = []
        size_bytes = 0
        while (
            len(page) < limit
            and size_bytes < READ_BYTES_MAX
            and (entries := self._entries(sql, (*bindings, position, PAGE_ROWS)))
        ):
            position = entries[-1].offset
            chosen = self._observed(selection, entries)
            page += chosen
            size_bytes += sum(map(entry_bytes, chosen))
        return page[:limit]

    def _observed(self, selection: Selection, entries: list[Entry]) -> list[Entry]:
        """Return those with a record that was observed in the time of the selection."""
        if not selection.has_time:
            return entries
        # Without the site's rules, the time of a record could be another one.
        assert self._decoder is not None, "a selection by time needs the decoder of the site"
        return [each for each in entries if has_selected(self._decoder, each, selection)]

    def stretch(
        self, selection: Selection, after: int, up_to: int, trimmed_before: int
    ) -> OffsetRange:
        """Return selected records after `after`, at most up to `up_to`: a step of a long walk.

        What retention had removed earlier, up to offset `trimmed_before`, does not count as gone.
        """
        where, bindings = where_of(selection)
        end = min(up_to, after + STRETCH_OFFSETS)
        with noting(self._path), at_one_moment(self._db):
            entries = self._entries(
                f"SELECT {ENTRY_COLUMNS} FROM record WHERE {where}"  # noqa: S608
                " AND offset > ? AND offset <= ? ORDER BY offset",
                (*bindings, after, end),
            )
            if sum(map(entry_bytes, entries)) >= READ_BYTES_MAX:
                end = entries[-1].offset
            first = max(after, min(trimmed_before, end))
            there = self._number(
                "SELECT count(*) FROM record WHERE offset > ? AND offset <= ?", (first, end)
            )
        return OffsetRange(self._observed(selection, entries), end, end - first - there)

    def not_in_version(
        self, form: PinnedForm, after: int, up_to: int, *, own: bool
    ) -> tuple[list[Entry], int]:
        """Return messages after `after` that another version of this form reads, and how far.

        With `own`, also those that our own dialects read. At most up to `up_to`, and as far as one
        step of a long walk goes.
        """
        end = min(up_to, after + STRETCH_OFFSETS)
        entries = self._entries(
            f"SELECT {ENTRY_COLUMNS} FROM record WHERE offset > ? AND offset <= ?"  # noqa: S608
            " AND (form IN (SELECT id FROM form WHERE name = ? AND digest != ?)"
            "  OR (? AND form IS NULL)) ORDER BY offset",
            (after, end, form.name, form.digest, own),
        )
        if sum(map(entry_bytes, entries)) >= READ_BYTES_MAX:
            end = entries[-1].offset
        return entries, end

    def span(self, selection: Selection) -> tuple[int, int]:
        """Return between which offsets a selection can have records; 0 and 0 if it has none."""
        where, bindings = where_of(Selection(since=selection.since))
        ((first, last),) = self._rows(
            "SELECT (SELECT offset FROM record"  # noqa: S608
            f" WHERE {where} ORDER BY offset LIMIT 1), max(offset) FROM record",
            bindings,
        )
        return (first, last) if first is not None else (0, 0)

    def trimmed_offset(self) -> int:
        """Return the offset up to which retention has removed records; parked ones may remain."""
        return self._number("SELECT trimmed_offset FROM ledger")

    def record(self, offset: int) -> Entry | None:
        """Return the record at `offset`; None if there is none."""
        rows = self._entries(
            f"SELECT {ENTRY_COLUMNS} FROM record WHERE offset = ?",  # noqa: S608
            (offset,),
        )
        return rows[0] if rows else None

    def place_of(self, sink: str, offset: int) -> str | None:
        """Return where a sink has put a clip, as `Journal.place_of` does."""
        with noting(self._path):
            return place_of(self._db, sink, offset)

    # ------------------------------------------------------------------ dead letters

    def dead_letter_ids(
        self,
        node: str | None = None,
        reason: str | None = None,
        received_before_ms: int = LATEST,
    ) -> list[int]:
        """Return the ids of all dead letters that were received before a time, in their order.

        `node` and `reason` select as in `dead_letters`.
        """
        rows = self._rows(
            f"SELECT id FROM dead_letter WHERE {MATCHES}"  # noqa: S608
            " AND received_at_ms < ? ORDER BY id",
            (*_matching(node, reason), received_before_ms),
        )
        return [number for (number,) in rows]

    def dead_letters(
        self,
        after: int = 0,
        node: str | None = None,
        reason: str | None = None,
        *,
        newest_first: bool = False,
    ) -> Iterator[DeadLetterEntry]:
        """Yield dead letters with ids above `after`, in order of arrival.

        `reason` selects those whose reason contains that text. A page is read at a time.
        """
        low, high = after, LATEST
        while page := self._dead_letter_page(low, high, node, reason, newest_first):
            yield from page
            if newest_first:
                high = page[-1].id
            else:
                low = page[-1].id

    def _dead_letter_page(
        self, low: int, high: int, node: str | None, reason: str | None, newest_first: bool
    ) -> list[DeadLetterEntry]:
        rows = self._rows(
            f"SELECT {DEAD_LETTER_COLUMNS}"  # noqa: S608
            f" FROM dead_letter WHERE id > ? AND id < ? AND {MATCHES}"
            f" ORDER BY id {'DESC' if newest_first else 'ASC'} LIMIT ?",
            (low, high, *_matching(node, reason), PAGE_ROWS),
        )
        letters = list(up_to_bytes(map(to_dead_letter, rows), entry_bytes))
        self._require_order([letter.id for letter in letters])
        return letters

    def dead_letter(self, number: int) -> DeadLetterEntry | None:
        """Return the dead letter with this id; None if there is none."""
        page = self._dead_letter_page(number - 1, number + 1, None, None, False)
        return page[0] if page else None

    def count_dead_letters(self, node: str | None = None, reason: str | None = None) -> int:
        """Return how many dead letters `dead_letters` would yield."""
        return self._number(
            f"SELECT count(*) FROM dead_letter WHERE {MATCHES}",  # noqa: S608
            _matching(node, reason),
        )

    # ------------------------------------------------------------------ parked

    def parked(
        self,
        sink: str | None = None,
        node: str | None = None,
        reason: str | None = None,
        *,
        after: int = 0,
        newest_first: bool = False,
    ) -> Iterator[Parked]:
        """Yield parked records that follow `after`, by sink and offset.

        `reason` selects those whose reason contains that text. A page is read at a time.
        """
        order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
        sql = (
            f"SELECT {PARKED_COLUMNS} FROM parked JOIN record USING (offset)"  # noqa: S608
            f" WHERE (? IS NULL OR sink = ?) AND offset > ? AND {MATCHES} AND {{}}"
            f" ORDER BY sink {order}, offset {order} LIMIT ?"
        )
        bindings = (sink, sink, after, *_matching(node, reason))
        page = self._parked_page(sql.format("true"), bindings)
        while page:
            yield from page
            further = sql.format(f"(sink, offset) {beyond} (?, ?)")
            page = self._parked_page(further, (*bindings, page[-1].sink, page[-1].offset))

    def _parked_page(self, sql: str, bindings: Bindings) -> list[Parked]:
        rows = self._rows(sql, (*bindings, PAGE_ROWS))
        return list(up_to_bytes(map(_parked, rows), parked_bytes))

    def parked_at(self, offset: int, sink: str | None = None) -> list[Parked]:
        """Return where one record is parked: at most one entry for each sink."""
        rows = self._rows(
            f"SELECT {PARKED_COLUMNS} FROM parked JOIN record USING (offset)"  # noqa: S608
            " WHERE offset = ? AND (? IS NULL OR sink = ?) ORDER BY sink",
            (offset, sink, sink),
        )
        return [_parked(row) for row in rows]

    def count_parked(
        self, sink: str | None = None, node: str | None = None, reason: str | None = None
    ) -> int:
        """Return how many records `parked` would yield."""
        return self._number(
            "SELECT count(*) FROM parked JOIN record USING (offset)"  # noqa: S608
            f" WHERE (? IS NULL OR sink = ?) AND {MATCHES}",
            (sink, sink, *_matching(node, reason)),
        )

    def replays(
        self, sink: str, first: int, last: int, since_ms: int
    ) -> tuple[int, int, str | None]:
        """Return how far a replay of what `sink` had parked from `first` to `last` has come.

        Gives how many are still to be offered, how many were refused again since that time, and
        one of the reasons.
        """
        ((waiting, again, why),) = self._rows(
            "SELECT coalesce(sum(replay), 0),"
            " coalesce(sum(replay = 0 AND parked_at_ms >= ?1), 0),"
            " max(CASE WHEN replay = 0 AND parked_at_ms >= ?1 THEN reason END)"
            " FROM parked WHERE sink = ?2 AND offset BETWEEN ?3 AND ?4",
            (since_ms, sink, first, last),
        )
        return int(waiting), int(again), why

    # ------------------------------------------------------------------ rows

    def _entries(self, sql: str, bindings: Bindings) -> list[Entry]:
        entries = list(up_to_bytes(map(to_entry, self._rows(sql, bindings)), entry_bytes))
        self._require_order([entry.offset for entry in entries])
        return entries

    def _require_order(self, numbers: list[int]) -> None:
        """Raise if rows come in another order than that of their tree: paging would never end."""
        if numbers not in (sorted(numbers), sorted(numbers, reverse=True)):
            raise noted(self._path, "rows are out of order")

    def _number(self, sql: str, bindings: Bindings = ()) -> int:
        ((value,),) = self._rows(sql, bindings)
        return int(value)

    def _rows(self, sql: str, bindings: Bindings = ()) -> Iterator[Row]:
        with noting(self._path):
            yield from self._db.execute(sql, bindings)


PARKED_COLUMNS = (
    "sink, offset, reason, parked_at_ms, attempts, replay, CAST(node AS BLOB),"
    " CAST(topic AS BLOB), length(payload), code, field"
)
MATCHES = "(? IS NULL OR node = ?) AND (? IS NULL OR instr(reason, ?) > 0)"


def _matching(node: str | None, reason: str | None) -> Bindings:
    return node, node, reason, reason


def parked_bytes(parked: Parked) -> int:
    """Return about how much memory the texts take that say what is parked."""
    return sum(map(getsizeof, (parked.topic, parked.node, parked.reason)))


def _parked(row: Row) -> Parked:
    sink, offset, reason, parked_at_ms, attempts, replay, node, topic, size_bytes, *why = row
    code, field = why
    return Parked(
        sink=sink,
        offset=offset,
        reason=reason,
        code=code,
        field=field,
        parked_at_ms=parked_at_ms,
        attempts=attempts,
        replay_requested=bool(replay),
        node=text_of(node),
        topic=text_of(topic) or "",
        size_bytes=size_bytes,
    )
