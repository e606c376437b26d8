"""What retention removes, when, and what stays: on a real journal, whatever the clock does."""

import asyncio
import contextlib
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from structlog.testing import capture_logs

from echo_ingest.journal import Journal, connect
from echo_ingest.journal.receipt_days import DAY_MS
from echo_ingest.pipeline.retention import (
    PAUSE_SECONDS,
    POLL_SECONDS,
    HostClock,
    Retention,
    cutoff_ms,
    length,
    retain,
)
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Identity, Message, Rejected
from tests import clock
from tests.clock import now_seconds
from tests.harness import eventually

HOUR_MS = 3_600_000
START_MS = 1_789_300_800_000 + 7 * HOUR_MS
"""2026-09-13 19:00 UTC."""
REJECTED = Rejected(ReasonCode.EMPTY_MESSAGE, "the message is empty")
WINTER, BATTERY_EMPTY = -60, 3_420
"""Leaps by days: of a board that starts with the time of its last stop, and to 2036."""


class Host(HostClock):
    """A machine whose clock is wrong by what the test says."""

    def __init__(self) -> None:
        self.true_ms = START_MS
        self.wrong_ms = 0

    def now_ms(self) -> int:
        return self.true_ms + self.wrong_ms

    def elapsed_ms(self) -> int:
        return self.true_ms - START_MS


class Station:
    """A journal at work: it stores a record each step, and removes what is due."""

    def __init__(self, path: Path, days: int, host: Host | None = None) -> None:
        self.host = host or Host()
        self.days = days
        self.received: dict[int, int] = {}
        """Offset → when the record was truly received."""
        self.letters: dict[int, int] = {}
        """Id of a dead letter → when it was truly received."""
        self._path = path
        self._newest = 0
        self.start()

    def start(self) -> None:
        self.journal = Journal(self._path)
        self._retention = Retention(self.journal, self.days, self.host)

    def restart(self, *, off_hours: float = 0, wrong_days: float | None = None) -> None:
        self.journal.close()
        self.host.true_ms += round(off_hours * HOUR_MS)
        if wrong_days is not None:
            self.host.wrong_ms = round(wrong_days * DAY_MS)
        self.start()

    def leap(self, wrong_days: float) -> None:
        """Set the clock while the service runs; it looks at it every ten seconds."""
        self.host.wrong_ms = round(wrong_days * DAY_MS)
        self.remove()

    def work(self, hours: float, step_hours: float = 4) -> None:
        for _ in range(max(1, round(hours / step_hours))):
            self.host.true_ms += round(step_hours * HOUR_MS)
            self.store()
            self.remove()

    def store(self) -> None:
        self._newest += 1
        message = Message("t", b"%d" % self._newest, self.host.now_ms(), "n")
        self.journal.append([(message, Identity("telemetry", self._newest)), (message, REJECTED)])
        self.received[self._newest] = self.letters[self._newest] = self.host.true_ms

    def remove(self) -> None:
        """Let retention do what it does, and check that nothing goes that is not old."""
        while self._retention.round():
            pass
        left = set(offsets(self._path))
        for offset in self.received.keys() - left:
            age_ms = self.host.true_ms - self.received.pop(offset)
            assert age_ms >= self.days * DAY_MS, f"{offset} was {age_ms / DAY_MS:.2f} days old"
        while self._retention.discard_round():
            pass
        for number in self.letters.keys() - set(letters(self._path)):
            age_ms = self.host.true_ms - self.letters.pop(number)
            assert age_ms >= self.days * DAY_MS, f"letter {number}: {age_ms / DAY_MS:.2f} days"

    def oldest_days(self) -> float:
        """Return the true age of the oldest record that is not young by its time of receipt."""
        now_ms = self.host.now_ms()
        young_ms = range(cutoff_ms(now_ms, self.days), now_ms + 1)
        ages_ms = [
            self.host.true_ms - self.received[offset]
            for offset, received_at_ms in received(self._path).items()
            if received_at_ms not in young_ms or self.received[offset] == received_at_ms
        ]
        return max(ages_ms) / DAY_MS


class WatchedJournal(Journal):
    """A journal that removes two records at a time and knows when it was asked to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.trims: list[tuple[float, int]] = []
        """When records were removed, by the loop's clock, and how many."""

    def trim(
        self, received_before_ms: int, records_max: int = 2, *, days: int = 0, now_ms: int = 0
    ) -> int:
        trimmed = super().trim(received_before_ms, records_max, days=days, now_ms=now_ms)
        self.trims.append((now_seconds(), trimmed))
        return trimmed


def store(journal: Journal, *ages_days: float) -> None:
    """Store records of these ages, the oldest first, and one each day until now."""
    now_ms = HostClock().now_ms()
    ages = sorted({*ages_days, *range(int(max(ages_days)) + 2)}, reverse=True)
    for number, age_days in enumerate(ages, 1):
        message = Message("t", b"%d" % number, now_ms - round(age_days * DAY_MS), "n")
        journal.append([(message, Identity("telemetry", number))])


def offsets(path: Path) -> list[int]:
    with contextlib.closing(connect(path)) as db:
        return [offset for (offset,) in db.execute("SELECT offset FROM record ORDER BY offset")]


def letters(path: Path) -> list[int]:
    with contextlib.closing(connect(path)) as db:
        return [number for (number,) in db.execute("SELECT id FROM dead_letter ORDER BY id")]


@pytest.fixture
def path() -> Iterator[Path]:
    """Return a path in memory, so that commits do not wait for a disk."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder) / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path)
    yield journal
    journal.close()


@contextlib.asynccontextmanager
async def retaining(journal: Journal, days: int) -> AsyncIterator[None]:
    task = asyncio.create_task(retain(journal, days))
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("days", "expected"),
    [(1, 1_789_278_600_123), (7, 1_788_760_200_123), (365, 1_757_829_000_123)],
)
def test_the_cutoff_is_so_many_days_ago(days: int, expected: int) -> None:
    assert cutoff_ms(1_789_365_000_123, days) == expected


@pytest.mark.parametrize("days", [1, 30])
async def test_what_is_a_little_older_goes_and_what_is_a_little_younger_stays(
    journal: Journal, days: int
) -> None:
    """A record stays for whole days, by UTC: with what is left of its own, for up to one more."""
    store(journal, days + 3, days + 1.01, days - 0.01)
    now_ms = HostClock().now_ms()
    expected = [
        offset
        for offset, at_ms in received(journal.path).items()
        if now_ms // DAY_MS - at_ms // DAY_MS <= days
    ]
    assert len(received(journal.path)) - len(expected) >= 3
    async with retaining(journal, days):
        left = lambda: offsets(journal.path) == expected  # noqa: E731
        await asyncio.to_thread(eventually, left)


def received(path: Path) -> dict[int, int]:
    with contextlib.closing(connect(path)) as db:
        return dict(db.execute("SELECT offset, received_at_ms FROM record ORDER BY offset"))


async def test_without_a_retention_nothing_goes_and_the_days_are_noted(
    journal: Journal,
) -> None:
    store(journal, 40.0)
    before = offsets(journal.path)
    async with retaining(journal, 0):
        await asyncio.sleep(0)
    assert offsets(journal.path) == before
    async with retaining(journal, 30):
        await asyncio.to_thread(eventually, lambda: len(offsets(journal.path)) < len(before))


def test_it_removes_a_little_at_a_time_and_then_looks_now_and_then(path: Path) -> None:
    async def hour() -> list[tuple[float, int]]:
        with contextlib.closing(WatchedJournal(path)) as journal:
            store(journal, *(8 + number / 100 for number in range(5)))
            async with retaining(journal, 7):
                await asyncio.sleep(3_600)
            return journal.trims

    trims = clock.run(hour())
    removed = [trimmed for _, trimmed in trims]
    assert removed[:2] == [2, 2]
    assert sum(removed) in (5, 6, 7)
    number = removed.index(0)
    pauses = [later - before for (before, _), (later, _) in itertools.pairwise(trims)]
    assert pauses[:number] == pytest.approx([PAUSE_SECONDS] * number)
    assert pauses[number:] == pytest.approx([POLL_SECONDS] * len(pauses[number:]))
    assert 300 <= len(trims) <= 400


# ---------------------------------------------------------------------- a clock that leaps


@pytest.mark.parametrize("days", [1, 2, 7, 30])
def test_with_a_true_clock_everything_that_is_due_goes(path: Path, days: int) -> None:
    station = Station(path, days)
    station.work(24 * (days + 20))
    assert days <= station.oldest_days() <= days + 1 + 4 / 24


@pytest.mark.parametrize("on_hours", [1, 8])
def test_a_day_counts_on_which_the_machine_is_on_for_an_hour(path: Path, on_hours: int) -> None:
    station = Station(path, 7)
    for _ in range(30):
        station.work(on_hours, step_hours=1)
        station.restart(off_hours=24 - on_hours)
    station.work(1, step_hours=1)
    assert 7 <= station.oldest_days() <= 9


def test_a_machine_that_runs_every_second_day_removes_what_is_due(path: Path) -> None:
    station = Station(path, 7)
    for _ in range(20):
        station.work(8, step_hours=1)
        station.restart(off_hours=40)
    station.work(1, step_hours=1)
    assert 7 <= station.oldest_days() <= 18


def test_days_on_which_the_machine_is_off_do_not_count(path: Path) -> None:
    station = Station(path, 7)
    station.work(24 * 5)
    last_before = max(station.received)
    station.restart(off_hours=24 * 90)
    station.work(24 * 7)
    assert last_before in station.received
    station.work(24 * 3)
    assert min(station.received) > last_before


@dataclass(frozen=True)
class Leaps:
    """How wrong the clock is, by days, in stretches of some days each."""

    wrong_days: tuple[float, ...]
    stretch_days: float
    by_restart: bool


LEAPS = [
    Leaps(wrong_days, stretch_days, by_restart)
    for wrong_days in (
        (BATTERY_EMPTY,),
        (WINTER,),
        (BATTERY_EMPTY, 0, WINTER, 0),
        (WINTER, BATTERY_EMPTY, 0),
        (WINTER, 0, WINTER, 0, WINTER, 0, WINTER, 0),
        (BATTERY_EMPTY, 0) * 8,
        tuple(range(10, 400, 13)),
        tuple(range(-10, -400, -13)),
    )
    for stretch_days in (0.01, 0.4, 1.3, 12)
    for by_restart in (False, True)
]


@pytest.mark.parametrize("age_days", [1, 31])
@pytest.mark.parametrize("leaps", LEAPS, ids=str)
def test_a_leap_of_the_clock_removes_nothing(path: Path, leaps: Leaps, age_days: int) -> None:
    station = Station(path, 30)
    station.work(24 * age_days, step_hours=12)
    for wrong_days in leaps.wrong_days:
        if leaps.by_restart:
            station.restart(wrong_days=wrong_days)
        else:
            station.leap(wrong_days)
        station.work(24 * leaps.stretch_days, step_hours=min(12, 24 * leaps.stretch_days))
    station.leap(0)
    station.work(24 * 34, step_hours=12)
    assert station.oldest_days() <= 34, "once the clock is right, what is due goes"


@pytest.mark.parametrize("seed", range(250))
def test_whatever_the_clock_does_nothing_goes_before_its_time(path: Path, seed: int) -> None:
    rng = Random(seed)
    days = rng.choice((1, 2, 5, 14))
    station = Station(path, days)
    for _ in range(rng.randint(5, 25)):
        far = rng.choice((-1, 1)) * rng.choice((rng.uniform(3, 90), rng.uniform(90, 4_000)))
        near = rng.choice((-1, 1)) * rng.uniform(0.05, 3)
        wrong_days = rng.choice((0, WINTER, BATTERY_EMPTY, far))
        match rng.randrange(5):
            case 0:
                station.leap(rng.choice((wrong_days, near, station.host.wrong_ms / DAY_MS + near)))
            case 1:
                off_hours = rng.choice((0, rng.uniform(0, 30)))
                now_days = station.host.wrong_ms / DAY_MS
                if abs(wrong_days - now_days + off_hours / 24) < 3:  # as if it had been off
                    wrong_days = now_days
                station.restart(off_hours=off_hours, wrong_days=wrong_days)
            case 2:
                station.restart(off_hours=rng.choice((0, 1, 24, rng.uniform(0, 24 * 20))))
            case _:
                hours = rng.choice((0.1, 3, 24, rng.uniform(0, 24 * days * 2)))
                station.work(hours, step_hours=min(hours, rng.choice((1, 6))))
    station.leap(0)
    station.work(24 * (days + 4), step_hours=6)
    assert station.oldest_days() <= days + 4


@pytest.mark.parametrize("by_hours", [-100, -1.1, 1.1, 26, 24 * 60, -24 * 60, 24 * 3_420])
def test_a_leap_while_it_runs_is_said_once(path: Path, by_hours: float) -> None:
    station = Station(path, 30)
    station.work(24)
    with capture_logs() as logs:
        station.leap(by_hours / 24)
        station.work(24)
    said = [each["event"] for each in logs if each["log_level"] == "warning"]
    assert len(said) == 1
    assert (
        f"leapt {'ahead' if by_hours > 0 else 'back'} by {length(round(abs(by_hours) * HOUR_MS))};"
        in (said[0])
    )


@pytest.mark.parametrize(
    ("wrong_days", "off_hours", "words"),
    [
        (BATTERY_EMPTY, 1, "9.4 years have passed since the newest record"),
        (WINTER, 1, "it is 60 days earlier than when the newest record was received"),
        (-0.2, 1, "it is 3.8 hours earlier"),
        (0, 24 * 45, "45 days have passed"),
        (0, 24 * 20, None),
        (0, 0, None),
        (0.5, 0, None),
    ],
)
def test_a_start_says_what_its_clock_can_hardly_be(
    path: Path, wrong_days: float, off_hours: float, words: str | None
) -> None:
    station = Station(path, 30)
    station.work(24)
    with capture_logs() as logs:
        station.restart(wrong_days=wrong_days, off_hours=off_hours)
    said = [each["event"] for each in logs if each["log_level"] == "warning"]
    assert len(said) == (words is not None)
    assert words is None or words in said[0]


def test_records_that_were_received_by_a_wrong_clock_go_in_their_turn(path: Path) -> None:
    """Ten years would be too long to keep what was received in 2036."""
    station = Station(path, 7)
    station.work(24)
    station.leap(BATTERY_EMPTY)
    station.work(24 * 3)
    station.leap(0)
    station.work(24 * 14)
    assert station.oldest_days() <= 9


def test_dead_letters_go_with_the_records_of_their_days(path: Path) -> None:
    station = Station(path, days=3)
    station.work(hours=10 * 24)
    assert station.letters.keys() == station.received.keys(), "each came with a record"
    assert 3 * 6 <= len(station.letters) <= 5 * 6 + 1
    ledger = station.journal.ledger()
    assert ledger.dead_letters == len(station.letters)
    assert ledger.discarded == 60 - len(station.letters)
    station.journal.close()


def test_no_leap_of_the_clock_makes_dead_letters_go_before_their_time(path: Path) -> None:
    station = Station(path, days=3)
    station.work(hours=24)
    for wrong_days in (BATTERY_EMPTY, 0, WINTER, 0):
        station.leap(wrong_days)  # `remove` checks what has gone
        station.work(hours=24)
    assert len(station.letters) == 30 > 0
    station.work(hours=12 * 24)
    assert max(station.host.true_ms - at_ms for at_ms in station.letters.values()) < 6 * DAY_MS
    station.journal.close()


def test_without_retention_no_dead_letter_goes(path: Path) -> None:
    station = Station(path, days=0)
    station.work(hours=24 * 5)
    assert len(station.letters) == 30
    station.journal.close()
