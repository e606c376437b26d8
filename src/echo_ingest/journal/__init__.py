"""The durable boundary: one SQLite file that holds every message until every sink has it.

Invariants
  - `append` returns only after its records, its dead letters and the ledger are on disk: one
    transaction, one fsync (WAL, `synchronous=FULL`). If it does not return, nothing was stored.
  - Offsets are 1, 2, 3 … in order of arrival, without gaps, and never used twice: a missing one
    is damage, unless `recovery/salvage.py` has noted it as lost. The newest record is never
    trimmed, so the next offset is always the highest plus one.
  - Keys are unique: a message is stored once, however often it comes (`record.message_key`).
  - The payload is kept as it came, and nothing derived from it: a record is decoded again when it
    is read. Each row holds a hash of its payload, as part of its key or beside it, and a checksum
    of its other columns: a row that changed on disk is recognised and never delivered.
  - `received = stored + duplicates + dead letters + ignored + unclaimed + discarded`; per sink
    `stored = skipped + delivered + parked + backlog`. Both sides are counted separately.
  - A stored message is decoded by the form of then: each version of a form in a file that a message
    was stored with is kept, and messages of our own dialects stay with these (`pinned_forms`),
    until a person asks for another (`rereading`).
  - A record is removed by retention only, and only when every sink has settled it, none has it
    parked, and enough days were seen to pass after it, whatever the clock says (`receipt_days`).
    Without retention nothing is ever removed.

Duplicates
  A message with an id, a time of its own, or audio is a duplicate if its key is stored. An id of a
  sensor on a topic is the same message whatever time it gives, as long as its record is here. A
  message that reuses an id for other content is a dead letter, not a duplicate. A message with none
  of the three is a duplicate only if the broker redelivers it (DUP) and the same bytes were stored
  from there and not yet acknowledged; each stored message answers for one redelivery. The same
  holds for dead letters. Records of versions 1 and 2 have keys with their time in them: their ids
  are the same within one second only.

Limits
  2^63 offsets; 1 GB for a payload (SQLite's limit). The file may grow to `bytes_max`, and not into
  the last `disk_free_bytes_min` of the disk: then `append` raises `JournalFull`, and nothing has
  changed.

After a crash
  `journal.db-wal` may hold commits that are not yet in `journal.db`; opening it brings them in.
  A transaction that was cut off is gone as a whole: it was never acknowledged, so the broker
  still has its messages. The journal knows what had been acknowledged before the last commit, so
  a redelivered message without identity may count as a duplicate of one in the last commit.

Versions
  `schema_1.sql` makes the tables, each later file alters them. A journal of an earlier version is
  brought up to date when the service opens it, in one transaction and after a copy was made
  (`migration.py`); readers take it as it is. A journal of a newer version, or of a build whose
  tables are not those of their number, is left alone (`schema.py`).

All calls on one `Journal` come from one thread. Other processes may read at any time, and write in
short transactions (`settle`, `replay`); a call waits for them for up to ten seconds and then raises
`JournalBusy`.
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw
from msgspec import Struct, structs

from echo_ingest.journal import cursors, discarding, pinned_forms, receipt_days, unclaimed_topics
from echo_ingest.journal.attempts import Attempt, note_attempt, read_attempt
from echo_ingest.journal.capacity import Capacity
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.entries import (
    ENTRY_COLUMNS,
    Entry,
    entry_bytes,
    to_entry,
    up_to_bytes,
)
from echo_ingest.journal.ignored_days import UPSERT_IGNORED_DAY, ignored_days
from echo_ingest.journal.journal_file import (
    JournalFull,
    JournalUnusable,
    connect,
    needing_room,
    writing,
)
from echo_ingest.journal.ledger import (
    Ledger,
    SinkLedger,
    read_ledger,
    read_unacknowledged,
    require_all,
)
from echo_ingest.journal.locations import place_of
from echo_ingest.journal.migration import migrate
from echo_ingest.journal.moves import note_moved
from echo_ingest.journal.node_days import UPSERT_NODE_DAY, tally
from echo_ingest.journal.open_files import JournalGone, OpenFiles
from echo_ingest.journal.plan import AppendPlan, Arrival, Known, Row, StoredKey, plan
from echo_ingest.journal.receipt_days import LastDay
from echo_ingest.journal.rereading import Repinned, Reread, repin
from echo_ingest.journal.schema import SchemaState, bring_up_to_date, inspect_schema
from echo_ingest.journal.selection import LATEST
from echo_ingest.journal.unclaimed_topics import UnclaimedEntry
from echo_ingest.record import (
    DeadLetter,
    Identity,
    Ignored,
    Message,
    Outcome,
    PinnedForm,
    Rejected,
    Unclaimed,
    key_with_time,
)

__all__ = [
    "Appended",
    "Arrival",
    "Entry",
    "Journal",
    "JournalFull",
    "JournalGone",
    "JournalUnusable",
    "Ledger",
    "SinkLedger",
    "connect",
]

WAL_CHECKPOINT_PAGES = 4_000


class Appended(Struct, frozen=True):
    """What became of a batch."""

    outcomes: list[Outcome]
    """One for each arrival, in order."""
    stored: int
    duplicates: int
    dead_letters: int
    ignored: int = 0
    unclaimed: int = 0


INSERT_RECORD = """
    INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
INSERT_DEAD_LETTER = """
    INSERT INTO dead_letter VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
REPLAYS = """
    SELECT {columns} FROM parked JOIN record USING (offset)
    WHERE sink = ? AND replay = 1 AND offset <= ? ORDER BY offset LIMIT ?"""
FOLLOWING = """
    SELECT {columns} FROM record WHERE offset > ? AND offset <= ? ORDER BY offset LIMIT ?"""


class Journal:
    """The writing side of the journal; the module's docstring says what it promises."""

    def __init__(self, path: Path, *, bytes_max: int = 0, disk_free_bytes_min: int = 0) -> None:
        """Open or create `path`, and bring an older journal up to date.

        `bytes_max` 0 means no cap of our own.
        """
        self.path = path
        self._room = Capacity(path, bytes_max, disk_free_bytes_min)
        path.touch(mode=0o600, exist_ok=True)
        self._db = connect(path)
        if inspect_schema(self._db).state is SchemaState.OLDER:
            self._db.close()
            migrate(path, disk_free_bytes_min)
            self._db = connect(path)
        with needing_room(path, self._db):
            self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {WAL_CHECKPOINT_PAGES}")
        with self._writing():
            bring_up_to_date(self._db)
        self._page_bytes = self._one("PRAGMA page_size")
        self._acknowledged = (
            self._one("SELECT acknowledged_offset FROM ledger"),
            self._one("SELECT acknowledged_dead_letter FROM ledger"),
        )
        unknown = read_unacknowledged(self._db, *self._acknowledged)
        # Of what was stored before the start nobody knows which broker it came from.
        self._unacknowledged = defaultdict[str, Counter[bytes]](unknown.copy)
        self._has_keys_with_time = self._holds_keys_with_time()
        self._day = receipt_days.last_day(self._db)
        self._day_looked_at = self._day.id
        self._files = OpenFiles(path, self._db)
        self._unclaimed = unclaimed_topics.UnclaimedSpace()

    def close(self) -> None:
        """Write the WAL back into the file and close it."""
        if self._files.gone is not None:
            self._files.write_back()  # SQLite does it only where the file is in its place
        self._db.close()
        self._files.close()

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return writing(self.path, self._db)

    # ------------------------------------------------------------------ first half: in

    def append(self, arrivals: Sequence[Arrival], endpoint: str = "") -> Appended:
        """Make a batch durable, in order, and return when it is.

        `endpoint` names the broker that it came from: only that one can redeliver it.
        Raises `JournalFull` if there is no room; then nothing has changed. Raises `JournalGone` if
        the file was removed or replaced; then nothing more is stored.
        """
        self._files.require()
        self._room.require(self.used_bytes())
        with self._writing():
            planned, day = self._insert(arrivals, self._unacknowledged[endpoint])
        self._files.require()  # last: what went to a file that nobody finds is not durable
        self._day = day
        self._unacknowledged[endpoint] -= planned.answered
        self._unacknowledged[endpoint] += planned.opened
        stored, dead_letters = len(planned.records), len(planned.dead_letters)
        ignored = planned.ignored.total()
        return Appended(
            planned.outcomes,
            stored,
            planned.duplicates,
            dead_letters,
            ignored,
            len(planned.unclaimed),
        )

    def acknowledged(self, endpoint: str = "") -> None:
        """Note that all that was appended from this endpoint has been acknowledged.

        A redelivery of it is a new message from now on.
        """
        self._unacknowledged[endpoint].clear()
        self._acknowledged = (self._last_offset(), self._last_dead_letter())

    def _insert(
        self, arrivals: Sequence[Arrival], unacknowledged: Counter[bytes]
    ) -> tuple[AppendPlan, LastDay]:
        """Return the plan, and the day that the clock showed at the end."""
        planned = self._insert_records(arrivals, unacknowledged)
        self._insert_many(INSERT_DEAD_LETTER, planned.dead_letters)
        stored, dead_letters = len(planned.records), len(planned.dead_letters)
        self._db.execute(
            "UPDATE ledger SET received = received + ?, stored = stored + ?,"
            " duplicates = duplicates + ?, dead_letters = dead_letters + ?, ignored = ignored + ?,"
            " unclaimed = unclaimed + ?, acknowledged_offset = ?, acknowledged_dead_letter = ?"
            " WHERE stored + ? = (SELECT coalesce(max(offset), 0) FROM record)",
            (
                len(arrivals),
                stored,
                planned.duplicates,
                dead_letters,
                planned.ignored.total(),
                len(planned.unclaimed),
                *self._acknowledged,
                stored,
            ),
        )
        if self._db.changes() == 0:
            raise apsw.CorruptError("the newest offset is not the number of records stored")
        node_days = tally(arrivals, planned.outcomes)
        self._db.executemany(UPSERT_NODE_DAY, node_days)
        if planned.ignored:
            self._db.executemany(UPSERT_IGNORED_DAY, ignored_days(arrivals, planned.outcomes))
        if planned.unclaimed:
            self._unclaimed.insert(self._db, planned.unclaimed)
        days = dict.fromkeys(day for _, day, *_ in node_days)
        return planned, receipt_days.note(self._db, self._day, days, planned.first_offset - 1)

    def _insert_records(
        self, arrivals: Sequence[Arrival], unacknowledged: Counter[bytes]
    ) -> AppendPlan:
        first_offset = self._last_offset() + 1
        known = Known(self._message, forms=self._rows_of_forms(arrivals))
        if self._has_keys_with_time:
            with_time = self._stored_with_time(arrivals)
            known = structs.replace(known, keys_with_time=with_time)
        planned = plan(arrivals, first_offset, known, unacknowledged)
        self._db.execute("SAVEPOINT batch")
        try:
            self._insert_many(INSERT_RECORD, planned.records)
        except apsw.ConstraintError:
            # Some keys are there already. That is rare, so they are looked up only now, and batches
            # of new messages pay nothing for it.
            self._db.execute("ROLLBACK TO batch")
            keys = self._stored_keys(row[1] for row in planned.records)
            known = structs.replace(known, keys=keys)
            planned = plan(arrivals, first_offset, known, unacknowledged)
            self._insert_many(INSERT_RECORD, planned.records)
        self._db.execute("RELEASE batch")
        return planned

    def _rows_of_forms(self, arrivals: Sequence[Arrival]) -> dict[str, int]:
        """Return the rows of all forms that these messages are in; new ones are written first."""
        forms = {
            decoded.form.digest: decoded.form
            for _, decoded in arrivals
            if type(decoded) is Identity and decoded.form is not None
        }
        return {digest: pinned_forms.row_of(self._db, form) for digest, form in forms.items()}

    def _insert_many(self, sql: str, rows: Sequence[Row]) -> None:
        # A statement that is kept for the next time also keeps the last payload that it was given.
        self._db.executemany(sql, rows, can_cache=False)

    def _stored_with_time(self, arrivals: Iterable[Arrival]) -> dict[bytes, StoredKey]:
        """Look up which arrivals with an id an earlier version has stored, under its own keys."""
        return self._stored_keys(
            key_with_time(message, decoded)
            for message, decoded in arrivals
            if isinstance(decoded, Identity) and decoded.message_id is not None
        )

    def _stored_keys(self, keys: Iterable[object]) -> dict[bytes, StoredKey]:
        """Look up which of these keys the journal holds already."""
        stored = {}
        sql = "SELECT digest, offset FROM record WHERE key = ?"
        for key in keys:
            assert isinstance(key, bytes)
            row = self._db.execute(sql, (key,)).fetchone()
            if row is not None:
                digest, offset = row
                stored[key] = StoredKey(digest or key[4:], offset)
        return stored

    def _message(self, offset: int) -> Message:
        """Return a message that is stored."""
        sql = f"SELECT {ENTRY_COLUMNS} FROM record WHERE offset = ?"  # noqa: S608
        return to_entry(self._db.execute(sql, (offset,)).get).message

    def _holds_keys_with_time(self) -> bool:
        """Return whether there are still records that a version before 3 has stored."""
        sql = "SELECT keys_with_time >= (SELECT coalesce(min(offset), 0) FROM record) FROM ledger"
        return bool(self._db.execute(f"{sql} WHERE keys_with_time > 0").get)

    # ------------------------------------------------------------------ second half: out

    def add_sink(self, name: str) -> None:
        """Make sure that `name` has a cursor; a new sink starts where retention has stopped."""
        with self._writing():
            cursors.add(self._db, name)

    def read(self, sink: str, records_max: int, behind: str | None = None) -> list[Entry]:
        """Return what to offer `sink` next: requested replays first, then what follows its cursor.

        Gives at most `records_max` records that take about `READ_BYTES_MAX` of memory, and at least
        one if there is any. With `behind`, gives only what that other sink has settled. Raises
        `apsw.CorruptError` if records are missing.
        """
        last = LATEST if behind is None else self._cursor(behind)
        # The cursor comes first: a concurrent backfill moves it back, never behind what is parked.
        cursor = self._cursor(sink)
        replays = self._entries(REPLAYS.format(columns=ENTRY_COLUMNS), (sink, last, records_max))
        if replays:
            if replays[-1].offset > cursor:
                raise apsw.CorruptError(f"{sink} has parked {replays[-1].offset:,}, and not had it")
            return replays
        entries = self._entries(
            FOLLOWING.format(columns=ENTRY_COLUMNS), (cursor, last, records_max)
        )
        require_all(self._db, cursor, [entry.offset for entry in entries])
        return entries

    def next_offsets(self, sink: str, records_max: int, behind: str | None = None) -> list[int]:
        """Return the offsets of what `read` would give, however large its messages are."""
        last = LATEST if behind is None else self._cursor(behind)
        cursor = self._cursor(sink)
        for sql, after in ((REPLAYS, sink), (FOLLOWING, cursor)):
            bindings = (after, last, records_max)
            rows: list[Any] = self._db.execute(sql.format(columns="offset"), bindings).fetchall()
            if rows:
                return [offset for (offset,) in rows]
        return []

    def settle(
        self,
        sink: str,
        offsets: Sequence[int],
        refusals: Mapping[int, Refused],
        place: str | None = None,
    ) -> int:
        """Settle offsets that `read` gave: each is delivered, or parked where `refusals` has it.

        `place` says where a sink that stores clips has put the delivered ones. Returns how many
        offsets count: fewer than given if somebody has moved the cursor of the sink meanwhile.
        """
        with self._writing():
            return cursors.settle(self._db, sink, offsets, refusals, place)

    def place_of(self, sink: str, offset: int) -> str | None:
        """Return where `sink` has put the clip of this record; None if it has not."""
        return place_of(self._db, sink, offset)

    def is_parked(self, sink: str, offset: int) -> bool:
        """Return whether `sink` has refused this record, with or without a requested replay."""
        return cursors.is_parked(self._db, sink, offset)

    def is_paused(self, sink: str) -> bool:
        """Return whether a person has paused the sink."""
        return cursors.is_paused(self._db, sink)

    def attempt(self, sink: str) -> Attempt | None:
        """Return what is noted of deliveries to `sink`; None if all of them have ended in order."""
        return read_attempt(self._db, sink)

    def note_attempt(self, sink: str, attempt: Attempt | None) -> None:
        """Note what is being offered to `sink`, in place of what was noted before."""
        with self._writing():
            note_attempt(self._db, sink, attempt)

    def note_day(self, now_ms: int, *, leapt: bool = False) -> None:
        """Note for `trim` which day the clock shows, and whether it leapt since the last call."""
        day = receipt_days.day_of(now_ms)
        if day != self._day.day or leapt:
            with self._writing():
                last = receipt_days.note(self._db, self._day, [day], self._last_offset())
                if leapt:
                    receipt_days.note_leap(self._db, self._day_looked_at)
            self._day = last
        self._day_looked_at = self._day.id

    def newest_received_at_ms(self) -> int | None:
        """Return when the newest record was received, by the clock of then; None without one."""
        sql = "SELECT received_at_ms FROM record ORDER BY offset DESC LIMIT 1"
        at_ms: int | None = self._db.execute(sql).get
        return at_ms

    def trim(
        self, received_before_ms: int, records_max: int = 10_000, *, days: int = 0, now_ms: int = 0
    ) -> int:
        """Remove old records that every sink has settled, and return how many.

        With `days`, a record stays until that many days have passed after it by `receipt_days` as
        well. A time of receipt after `now_ms` says nothing: then those days alone decide. The
        caller repeats this until it returns 0.
        """
        passed = receipt_days.passed_since(self._db, days) if days else LATEST
        with self._writing():
            trimmed = cursors.trim(
                self._db, passed, records_max, received_before_ms, now_ms if days else LATEST
            )
        if trimmed and self._has_keys_with_time:
            self._has_keys_with_time = self._holds_keys_with_time()
        return trimmed

    def discard_old_dead_letters(
        self, received_before_ms: int, letters_max: int = 10_000, *, days: int, now_ms: int
    ) -> int:
        """Remove old dead letters, and return how many; it is repeated until that is 0.

        As for `trim`, the clock and the days that were seen to pass must both say so.
        """
        with self._writing():
            numbers = discarding.old(self._db, received_before_ms, letters_max, days, now_ms)
            return discarding.discard(self._db, numbers, now_ms)

    # ------------------------------------------------------------------ what a person decides

    def request_replay(self, sink: str, offsets: Sequence[int]) -> int:
        """Let parked records be offered to `sink` again; return how many were parked."""
        with self._writing():
            before = self._db.total_changes()
            self._db.executemany(
                "UPDATE parked SET replay = 1 WHERE sink = ? AND offset = ? AND replay = 0",
                ((sink, offset) for offset in offsets),
            )
            requested = self._db.total_changes() - before
        return requested

    def pause(self, sink: str) -> None:
        """Offer nothing more to `sink` until `resume`; a write that has begun is finished."""
        with self._writing():
            cursors.pause(self._db, sink)

    def resume(self, sink: str) -> None:
        """Continue where the sink was paused."""
        with self._writing():
            cursors.resume(self._db, sink)

    def backfill(self, sink: str, first: int, *, may_repeat: bool = True) -> int:
        """Offer again all records from offset `first` on; return how many more now wait.

        A sink that has received nothing yet skips what comes before `first`; then fewer wait.
        Without `may_repeat`, a sink that has received something is left as it is.
        """
        with self._writing():
            return cursors.begin_at(self._db, sink, first, may_repeat)

    def forget(self, sink: str) -> None:
        """Remove the cursor of `sink` and what it has parked; added again, it starts anew."""
        with self._writing():
            cursors.forget(self._db, sink)

    def replay_dead_letter(
        self, dead_letter: int, message: Message, decoded: Identity | Ignored
    ) -> Outcome:
        """Make a record of a dead letter that decodes now; return the outcome.

        In the ledger it was one dead letter and is now one stored record, or one duplicate, or
        ignored. Where the outcome is a dead letter again, nothing changes. Raises `KeyError` if the
        dead letter is not there any more.
        """
        self._room.require(self.used_bytes())
        with self._writing():
            arrival: Arrival = (message, decoded)
            outcome = self._insert_records([arrival], Counter()).outcomes[0]
            if not isinstance(outcome, DeadLetter):
                self._db.execute("DELETE FROM dead_letter WHERE id = ?", (dead_letter,))
                if self._db.changes() == 0:
                    raise KeyError(dead_letter)
                note_moved(self._db, arrival, DeadLetter, outcome)
        return outcome

    def reread(self, rereads: Sequence[Reread], form: PinnedForm) -> list[Repinned]:
        """Let another form read stored messages from now on; return what became of each."""
        self._room.require(self.used_bytes())
        with self._writing():
            return repin(self._db, rereads, form)

    def discard_dead_letters(self, numbers: Sequence[int], now_ms: int) -> int:
        """Remove dead letters for good, and return how many of these ids there were."""
        with self._writing():
            return discarding.discard(self._db, numbers, now_ms)

    def unclaimed(self, after: int, messages_max: int) -> list[UnclaimedEntry]:
        """Return messages that nothing had claimed, with ids above `after`."""
        return unclaimed_topics.entries_after(self._db, after, messages_max)

    def claim(self, entry: UnclaimedEntry, decoded: Identity | Rejected | Ignored) -> Outcome:
        """Make what it is now of a message that was unclaimed; `KeyError` if it is gone."""
        self._room.require(self.used_bytes())
        with self._writing():
            arrival: Arrival = (entry.message, decoded)
            planned = self._insert_records([arrival], Counter())
            self._insert_many(INSERT_DEAD_LETTER, planned.dead_letters)
            unclaimed_topics.remove(self._db, entry)
            note_moved(self._db, arrival, Unclaimed, planned.outcomes[0])
        return planned.outcomes[0]

    def forget_unclaimed(self, topics: Iterable[str] = (), *, now_ms: int = 0) -> int:
        """Remove unclaimed topics, and by `now_ms` what is too old; return how many messages."""
        with self._writing():
            return unclaimed_topics.forget(self._db, topics, now_ms)

    def sessions(self) -> list[str]:
        """Return the names under which broker sessions are remembered."""
        return [str(name) for (name,) in self._db.execute("SELECT name FROM session")]

    def remember_session(self, name: str) -> bool:
        """Note that the broker holds a session `name`; return whether it was known before."""
        if self._db.execute("SELECT 1 FROM session WHERE name = ?", (name,)).fetchone():
            return True
        with self._writing():
            self._db.execute("INSERT INTO session VALUES (?)", (name,))
        return False

    # ------------------------------------------------------------------ figures

    @property
    def files(self) -> OpenFiles:
        """The files of the journal, and whether they are where they were opened."""
        return self._files

    def ledger(self) -> Ledger:
        """Return the ledger: the proof that nothing was dropped in silence."""
        return read_ledger(self._db)

    def used_bytes(self) -> int:
        """Return how many bytes of the file are in use; retention frees pages for new records."""
        pages = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
        return int(pages * self._page_bytes)

    def disk_free_bytes(self) -> int:
        """Return how many bytes the file system would still give us."""
        return self._room.disk_free_bytes()

    def room_bytes(self) -> int:
        """Return how many more bytes can be written before acknowledgements stop."""
        return self._room.left_bytes(self.used_bytes())

    def _cursor(self, sink: str) -> int:
        cursor: int | None = self._db.execute("SELECT cursor FROM sink WHERE name = ?", (sink,)).get
        assert cursor is not None, f"{sink} was forgotten while it was in use"
        return cursor

    def _last_offset(self) -> int:
        return self._one("SELECT coalesce(max(offset), 0) FROM record")

    def _last_dead_letter(self) -> int:
        return self._one("SELECT coalesce(max(id), 0) FROM dead_letter")

    def _one(self, sql: str) -> int:
        value: int = self._db.execute(sql).get
        return value

    def _entries(self, sql: str, bindings: tuple[object, ...]) -> list[Entry]:
        return list(up_to_bytes(map(to_entry, self._db.execute(sql, bindings)), entry_bytes))
