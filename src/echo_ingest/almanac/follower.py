"""Keeps the almanac up to date with the journal, a little at a time.

`Follower.round` goes on from where it was. Each of its steps takes a few milliseconds, so that a
thread that runs it can pause between them. What belongs together is written in one transaction
with the progress, so that a process that is killed goes on from there. If the journal is another
one than before, or no longer holds what it held, the almanac is begun anew.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import apsw
import structlog

from echo_ingest.almanac.aggregate import SPAN_MS, Aggregate
from echo_ingest.almanac.almanac_file import UNUSABLE, begin_anew, open_to_write, rows_of
from echo_ingest.almanac.mirror import Mirror
from echo_ingest.almanac.observation import CLOCK_TOLERANCE_MS, HOUR_MS, Observation, observe
from echo_ingest.almanac.prune import drop_hours, drop_trimmed
from echo_ingest.decode import Decoder, Rules
from echo_ingest.journal import Entry, JournalFull, JournalUnusable
from echo_ingest.journal.changes import JournalChanges, JournalMarks
from echo_ingest.journal.decoding import DAMAGED, Unreadable, decode_entry
from echo_ingest.journal.journal_file import transaction
from echo_ingest.journal.open_files import file_of, files_of

STEP_RECORDS = 25
"""They take less than a millisecond of Python: the same process answers pages in between."""
STEP_BYTES = 512 * 1024
WRITE_RECORDS = 4_000
WRITE_SECONDS = 1.0
PAUSE_SECONDS = 0.001
ROUND_SECONDS = 0.5
TROUBLE_SECONDS = 1.0
SELDOM_SECONDS = 60.0
LATELY_SPANS = 7
WORLD = (
    *(JournalUnusable, JournalFull, OSError),
    *(apsw.BusyError, apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.CantOpenError),
)

DERIVED = (
    *("progress", "node", "lately", "node_hour", "health_hour", "species", "call"),
    *("species_hour", "clip", "refusal", "reason", "series", "series_hour"),
)
"""The tables that are read from the journal; the others cannot be made again."""

Steps = Generator[None, None, None]

log = structlog.get_logger("almanac")


def time_ms() -> int:
    """Return the time of the host's clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def rules_key(rules: Rules) -> str:
    """Return a text that differs where messages are read by other rules."""
    nodes = sorted((name, repr(node)) for name, node in dict(rules.nodes).items())
    zone = rules.zone.key if rules.zone is not None else None
    return repr((zone, rules.first_day, sorted(rules.not_animals.items()), nodes))


class Follower:
    """The writer of the almanac at `path`; all of its calls are made from one thread."""

    def __init__(
        self,
        path: Path,
        journal_path: Path,
        decoder: Decoder,
        nodes_path: Path | None = None,
        now_ms: Callable[[], int] = time_ms,
    ) -> None:
        """`now_ms` is the clock that tells which times may be true."""
        self._now_ms = now_ms
        self._path = path
        self._journal_path = journal_path
        self._decoder = decoder
        self._nodes_path = nodes_path
        self._closing = contextlib.ExitStack()
        self._version = -1
        self._seldom_at = 0.0
        self._trimmed: tuple[int, int] | None = None
        self._reread: int | None = None
        self._is_open = False

    def run(self, stop: threading.Event) -> None:
        """Follow the journal until `stop` is set; log when that is not possible, and try again."""
        trouble = ""
        while not stop.is_set():
            pause = ROUND_SECONDS
            try:
                with contextlib.closing(self.round()) as steps:
                    for _ in steps:
                        if stop.wait(PAUSE_SECONDS):
                            break
                if trouble:
                    log.info("almanac follows the journal again")
                trouble = ""
            except WORLD as error:
                if str(error) != trouble:
                    log.warning("almanac cannot follow the journal", reason=str(error))
                trouble, pause = str(error), TROUBLE_SECONDS
                self.close()
            stop.wait(pause)
        self.close()

    def close(self) -> None:
        """Close both files; what was not written yet will be read again."""
        self._closing.close()
        self._is_open = False

    def round(self) -> Steps:
        """Read everything new, in steps; raise `JournalUnusable` where there is no journal."""
        try:
            yield from self._round()
        except UNUSABLE as error:
            self._begin_anew(str(error))
            yield from self._round()

    def _round(self) -> Steps:
        if not self._is_open or self._files_changed():
            self._open()
        if self._db.execute("SELECT rules FROM progress").get != rules_key(self._decoder.rules):
            self._read_again("messages are read by other rules now")
        reread = self._journal.reread()
        if reread != self._db.execute("SELECT reread FROM progress").get and reread == self._reread:
            # The number is the one of the round before, so the person's command is done.
            self._read_again("messages are read by other forms now")
        self._reread = reread
        if self._nodes_path is not None:
            self._mirror.accounts(self._nodes_path)
        version = self._journal.version()
        seldom = time.monotonic() - self._seldom_at >= SELDOM_SECONDS
        if version == self._version and not seldom:
            return
        more = True
        while more:  # far behind, dead letters and parked records do not wait for all records
            marks = self._journal.marks()
            if marks.trimmed_offset > self._db.execute("SELECT offset FROM progress").get:
                self._mirror.heard(self._now_ms())  # some nodes had only records that are gone
            more = yield from self._records()
            yield from self._mirror.letters(marks, self._now_ms())
            yield from self._mirror.parked(marks)
            if (marks.trimmed_offset, marks.left_behind) != self._trimmed:
                yield from self._trim(marks)
        if seldom:
            yield from self._mirror.last_heard(self._now_ms())
            self._mirror.tidy()
            span = self._now_ms() // SPAN_MS
            self._db.execute(
                "DELETE FROM lately WHERE span < ? OR span > ?", (span - LATELY_SPANS, span + 1)
            )
            self._seldom_at = time.monotonic()
        self._version = version

    # ------------------------------------------------------------------ opening

    def _files_changed(self) -> bool:
        """Return whether the journal is another one, or a file of the almanac is gone."""
        return file_of(self._journal_path) != self._journal.file or self._files != [
            file_of(path) for path in files_of(self._path)
        ]

    def _open(self) -> None:
        self.close()
        self._journal = self._closing.enter_context(
            contextlib.closing(JournalChanges(self._journal_path))
        )
        self._db = self._closing.enter_context(contextlib.closing(open_to_write(self._path)))
        self._files = [file_of(path) for path in files_of(self._path)]
        self._aggregate = Aggregate(self._db)
        self._mirror = Mirror(self._db, self._journal, self._aggregate)
        self._version = -1
        self._trimmed = None
        self._seldom_at = time.monotonic()
        marks = self._journal.marks()
        known = rows_of(self._db, "SELECT journal, offset, key FROM progress")
        if not known:
            self._begin(marks)
        elif (why := self._contradiction(marks, *known[0])) is not None:
            self._begin_anew(why)
            self._open()
        self._is_open = True

    def _contradiction(self, marks: JournalMarks, file: str, offset: int, key: bytes) -> str | None:
        """Say why the almanac belongs to another journal; None if it belongs to this one."""
        if file != self._journal.file:
            return "it belongs to another journal"
        if offset > marks.last_offset:
            return f"the journal ends at offset {marks.last_offset:,}, before {offset:,}"
        stored = self._journal.key(offset)
        if offset and stored != key and (stored is not None or offset > marks.trimmed_offset):
            return f"the journal holds another record at offset {offset:,}"
        return None

    def _begin_anew(self, why: str) -> None:
        log.warning("almanac begun anew", reason=why)
        self.close()
        begin_anew(self._path)

    def _begin(self, marks: JournalMarks) -> None:
        self._mirror.heard(self._now_ms())
        self._db.execute(
            "INSERT INTO progress VALUES (1, ?, ?, ?, 0, x'', 0, ?)",
            (
                *(self._journal.file, rules_key(self._decoder.rules), marks.reread),
                self._first_hour(marks),
            ),
        )

    def _read_again(self, why: str) -> None:
        """Forget what is read from the journal, since it is read in another way now."""
        log.info("almanac reads the journal again", reason=why)
        with transaction(self._db):
            for table in DERIVED:
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608
        self._open()

    # ------------------------------------------------------------------ records

    def _records(self) -> Generator[None, None, bool]:
        """Read some records in one transaction; return whether there may be more."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            more = yield from self._batch()
            self._db.execute("COMMIT")
        except BaseException:
            self.close()  # the transaction was not committed
            raise
        yield
        return more

    def _batch(self) -> Generator[None, None, bool]:
        began = time.monotonic()
        offset, first_hour = self._db.execute("SELECT offset, first_hour FROM progress").get
        key = None
        more = True
        while self._aggregate.records < WRITE_RECORDS and time.monotonic() < began + WRITE_SECONDS:
            entries = self._journal.entries(offset, STEP_RECORDS, STEP_BYTES)
            if not entries:
                more = False
                break
            step_from = self._aggregate.records
            for entry in entries:
                self._add(entry)
                offset, key = entry.offset, entry.key
                if self._aggregate.records - step_from > STEP_RECORDS:
                    yield
                    step_from = self._aggregate.records
                if self._aggregate.records >= WRITE_RECORDS:
                    break
            yield
        if key is not None:
            now_ms = self._now_ms()
            span = now_ms // SPAN_MS - LATELY_SPANS
            yield from self._aggregate.write(first_hour, span, now_ms)
            self._db.execute("UPDATE progress SET offset = ?, key = ?", (offset, key))
        return more

    def _add(self, entry: Entry) -> None:
        records = decode_entry(self._decoder, entry)
        if records is DAMAGED:
            return
        message, rules = entry.message, self._decoder.rules
        received_at_ms = message.received_at_ms
        observations: list[Observation] = []
        if not isinstance(records, Unreadable):
            observations = [observe(record, received_at_ms, rules) for record in records]
        self._aggregate.add(
            entry.offset, message.node or "", received_at_ms, observations, self._now_ms()
        )

    # ------------------------------------------------------------------ retention

    def _trim(self, marks: JournalMarks) -> Iterator[None]:
        yield from drop_trimmed(self._db, self._journal, marks.trimmed_offset)
        drop_hours(self._db, self._first_hour(marks))
        self._aggregate.forget_ids()
        self._trimmed = marks.trimmed_offset, marks.left_behind

    def _first_hour(self, marks: JournalMarks) -> int:
        """Return the hour in which the oldest record that retention has left was received.

        Return 0 where nothing was removed, or where all that is left is dated by a wrong clock.
        """
        now_ms, first_ms = self._now_ms(), marks.first_received_at_ms
        if not marks.trimmed_offset or first_ms is None:
            return 0
        return first_ms // HOUR_MS if first_ms <= now_ms + CLOCK_TOLERANCE_MS else 0
