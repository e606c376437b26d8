"""Replays: one at a time, in slices, so that ingestion and the pages go on meanwhile.

A replay is a generator of its progress. It runs in its own thread for `SLICE_SECONDS` at a time,
with an equal pause between two slices: each step may be a commit, for which ingestion would wait.
It lives in this process; if the process ends, the rest stays as it was.
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
from echo_ingest.journal import JournalFull, JournalUnusable
from echo_ingest.journal.reader import JournalReader
from echo_ingest.record import DUPLICATE, STORED
from echo_ingest.settings import Settings

ONES_MAX = 100_000
"""Of a larger group, only this many of the newest are replayed; the rest can follow."""
SLICE_SECONDS = 0.05
WATCH_SECONDS = 0.5
WATCH_SECONDS_MAX = 3_600.0
WORLD = (JournalFull, JournalUnusable, apsw.BusyError, apsw.FullError, apsw.IOError, OSError)

log = structlog.get_logger("web")


class ReplayStep(Struct, frozen=True):
    """The progress of a replay."""

    done: int
    stored: int = 0
    """Dead letters that are records now; parked records that their sink has taken."""
    duplicates: int = 0
    refused: int = 0
    """Still not valid; refused again."""
    why: tuple[tuple[str, int], ...] = ()
    """The most frequent reasons for that."""
    pause_seconds: float = SLICE_SECONDS


class ReplayJob(Struct, frozen=True):
    """The replay that is under way, or the last one."""

    reason: str
    """The reason that the replayed messages have in common."""
    sink: str | None
    """The sink to which they are offered; None: they are dead letters."""
    total: int
    began_at_ms: int
    step: ReplayStep = ReplayStep(0)
    ended_at_ms: int | None = None
    is_stopped: bool = False
    """A person has stopped it."""
    trouble: str | None = None
    """Why it could not go on."""


Steps = Generator[ReplayStep, None, None]


class ReplayJobs:
    """Runs replays."""

    def __init__(self) -> None:
        self.replay: ReplayJob | None = None
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="replay")
        self._task: asyncio.Task[None] | None = None

    @property
    def is_under_way(self) -> bool:
        """Return whether a replay is running, so that another has to wait."""
        return self._task is not None and not self._task.done()

    def start(self, replay: ReplayJob, steps: Steps) -> None:
        """Begin a replay; raise `HTTPException` if one is under way."""
        if self.is_under_way:
            raise HTTPException(
                "another replay is under way: wait until it ends, or stop it", status_code=409
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
        trouble, error = None, None if task.cancelled() else task.exception()
        if isinstance(error, WORLD):
            trouble = str(error)
        elif error is not None:
            trouble = "the service failed; its log says more"
            log.error("replay failed", exc_info=error)
        self._note(
            ended_at_ms=time.time_ns() // 1_000_000, is_stopped=task.cancelled(), trouble=trouble
        )
        assert self.replay is not None
        step = self.replay.step
        log.info(
            "replay ended",
            done=step.done,
            stored=step.stored,
            duplicates=step.duplicates,
            refused=step.refused,
            stopped=task.cancelled(),
            trouble=trouble,
        )

    def _note(self, **changed: object) -> None:
        assert self.replay is not None
        self.replay = replace(self.replay, **changed)


def _slice(steps: Steps) -> ReplayStep | None:
    """Return the last of the steps for which there is time; None when there are no more."""
    end = time.monotonic() + SLICE_SECONDS
    last = None
    for step in steps:
        last = step
        if time.monotonic() >= end or step.pause_seconds > SLICE_SECONDS:
            break
    return last


# ---------------------------------------------------------------------- what is replayed


def of_letters(settings: Settings, numbers: Sequence[int]) -> Steps:
    """Decode these dead letters again, and store what is valid now."""
    outcomes: Counter[str] = Counter()
    with (
        closing(JournalReader(settings.journal_path)) as archive,
        closing(journal_of(settings)) as journal,
    ):
        for done, number in enumerate(numbers, 1):
            letter = archive.dead_letter(number)
            given = [] if letter is None else [letter]  # somebody else has replayed it meanwhile
            outcomes.update(dead_letters.replay(journal, given, settings.payload_bytes_max))
            still = Counter(outcomes)
            stored, duplicates = still.pop(STORED, 0), still.pop(DUPLICATE, 0)
            del still[dead_letters.GONE]
            yield ReplayStep(done, stored, duplicates, still.total(), tuple(still.most_common(5)))


def of_parked(settings: Settings, sink: str, offsets: Sequence[int]) -> Steps:
    """Offer these records to their sink again, and watch the result."""
    if not offsets:
        return
    first, last = min(offsets), max(offsets)
    with closing(JournalReader(settings.journal_path)) as archive:
        since_ms = time.time_ns() // 1_000_000
        with closing(journal_of(settings)) as journal:
            rows = (row for offset in offsets for row in archive.parked_at(offset, sink))
            for _ in dead_letters.request_replay(journal, rows):
                yield ReplayStep(0)
        until = time.monotonic() + WATCH_SECONDS_MAX
        while time.monotonic() < until:
            waiting, again, why = archive.replays(sink, first, last, since_ms)
            done = max(0, len(offsets) - waiting)
            stored = max(0, done - again)
            reasons = ((why, again),) if why is not None else ()
            yield ReplayStep(done, stored, 0, again, reasons, pause_seconds=WATCH_SECONDS)
            if not waiting:
                return
