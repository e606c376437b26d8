"""Replays: one at a time and in slices, so that the service and the pages go on meanwhile.

A replay is a generator that yields its progress. It runs in a thread of its own for
`SLICE_SECONDS` at a time, with a pause of the same length between two slices: each step may be a
commit, for which the service would have to wait. A replay lives in this process; where that ends,
the remaining messages stay as they are.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import apsw
import structlog
from litestar.exceptions import HTTPException
from msgspec import Struct
from msgspec.structs import replace

from echo_ingest.admin import dead_letters, journal_of
from echo_ingest.decode import Decoder
from echo_ingest.journal import JournalFull, JournalUnusable
from echo_ingest.journal.reader import JournalReader
from echo_ingest.record import DeadLetter, Duplicate, Ignored, Stored
from echo_ingest.settings import Settings

MESSAGES_MAX = 100_000
"""How many messages of a larger group are replayed at once: the newest; the rest can follow."""
SLICE_SECONDS = 0.05
WATCH_SECONDS = 0.5
WATCH_SECONDS_MAX = 3_600.0
REASONS_MAX = 5
EXPECTED_ERRORS = (
    JournalFull,
    JournalUnusable,
    apsw.BusyError,
    apsw.FullError,
    apsw.IOError,
    OSError,
)

log = structlog.get_logger("web")


class ReplayStep(Struct, frozen=True):
    """The progress of a replay."""

    done: int
    stored: int = 0
    """Dead letters that are records now, or parked records that their sink has taken."""
    duplicates: int = 0
    refused: int = 0
    """Messages that are still rejected, or were refused again."""
    reasons: tuple[tuple[str, int], ...] = ()
    """The most frequent reasons for that, with how often each occurred."""
    ignored: int = 0
    """Dead letters that a form ignores now."""
    pause_seconds: float = SLICE_SECONDS


class ReplayJob(Struct, frozen=True):
    """The replay that runs, or the last one."""

    reason: str
    """What the replayed messages have in common."""
    sink: str | None
    """The sink to which they are offered; None for dead letters."""
    total: int
    began_at_ms: int
    step: ReplayStep = ReplayStep(0)
    ended_at_ms: int | None = None
    is_stopped: bool = False
    """A person has stopped it."""
    problem: str | None = None
    """Why it could not go on."""


Steps = Generator[ReplayStep, None, None]


class ReplayJobs:
    """Runs replays, one at a time."""

    def __init__(self) -> None:
        self.replay: ReplayJob | None = None
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="replay")
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether a replay runs, so that another one has to wait."""
        return self._task is not None and not self._task.done()

    def start(self, replay: ReplayJob, steps: Steps) -> None:
        """Start a replay; raise `HTTPException` while another one runs."""
        if self.is_running:
            raise HTTPException(
                "another replay is running: wait for its end, or stop it", status_code=409
            )
        self.replay = replay
        self._task = asyncio.create_task(self._run(steps))
        self._task.add_done_callback(self._ended)

    def stop(self) -> None:
        """Stop the replay where it is."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, steps: Steps) -> None:
        in_thread = asyncio.get_running_loop().run_in_executor
        try:
            while (step := await in_thread(self._threads, _slice, steps)) is not None:
                self._note(step=step)
                await asyncio.sleep(step.pause_seconds)
        finally:
            await in_thread(self._threads, steps.close)

    def _ended(self, task: asyncio.Task[None]) -> None:
        problem, error = None, None if task.cancelled() else task.exception()
        if isinstance(error, EXPECTED_ERRORS):
            problem = str(error)
        elif error is not None:
            problem = "an internal error; the log has the details"
            log.error("replay failed", exc_info=error)
        self._note(
            ended_at_ms=time.time_ns() // 1_000_000, is_stopped=task.cancelled(), problem=problem
        )
        assert self.replay is not None
        step = self.replay.step
        log.info(
            "replay ended",
            done=step.done,
            stored=step.stored,
            duplicates=step.duplicates,
            ignored=step.ignored,
            refused=step.refused,
            stopped=task.cancelled(),
            problem=problem,
        )

    def _note(self, **changed: object) -> None:
        assert self.replay is not None
        self.replay = replace(self.replay, **changed)


def _slice(steps: Steps) -> ReplayStep | None:
    """Take as many steps as there is time for; return the last, or None when there are no more."""
    end = time.monotonic() + SLICE_SECONDS
    last = None
    for step in steps:
        last = step
        if time.monotonic() >= end or step.pause_seconds > SLICE_SECONDS:
            break
    return last


# ---------------------------------------------------------------------- what is replayed


def replay_dead_letters(settings: Settings, decoder: Decoder, numbers: Sequence[int]) -> Steps:
    """Decode these dead letters again, and store those that are valid now."""
    stored = duplicates = ignored = 0
    rejected: Counter[str] = Counter()
    with (
        closing(JournalReader(settings.journal_path)) as reader,
        closing(journal_of(settings)) as journal,
    ):
        for done, number in enumerate(numbers, 1):
            dead_letter = reader.dead_letter(number)
            # None: somebody else has replayed it meanwhile.
            chosen = [] if dead_letter is None else [dead_letter]
            for outcome in dead_letters.replay(journal, chosen, decoder):
                match outcome:
                    case Stored():
                        stored += 1
                    case Duplicate():
                        duplicates += 1
                    case Ignored():
                        ignored += 1
                    case DeadLetter(rejected=why):
                        rejected[why.render()] += 1
            reasons = tuple(rejected.most_common(REASONS_MAX))
            yield ReplayStep(done, stored, duplicates, rejected.total(), reasons, ignored)


def replay_parked(settings: Settings, sink: str, offsets: Sequence[int]) -> Steps:
    """Have these records offered to their sink again, and watch what becomes of them."""
    if not offsets:
        return
    first, last = min(offsets), max(offsets)
    with closing(JournalReader(settings.journal_path)) as reader:
        since_ms = time.time_ns() // 1_000_000
        with closing(journal_of(settings)) as journal:
            rows = (row for offset in offsets for row in reader.parked_at(offset, sink))
            for _ in dead_letters.request_replay(journal, rows):
                yield ReplayStep(0)
        until = time.monotonic() + WATCH_SECONDS_MAX
        while time.monotonic() < until:
            waiting, again, why = reader.replays(sink, first, last, since_ms)
            done = max(0, len(offsets) - waiting)
            stored = max(0, done - again)
            reasons = ((why, again),) if why is not None else ()
            yield ReplayStep(done, stored, 0, again, reasons, pause_seconds=WATCH_SECONDS)
            if not waiting:
                return
