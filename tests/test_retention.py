"""What retention removes, when, and what stays: on a real journal with old records."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal, connect
from echo_ingest.pipeline.retention import PAUSE_SECONDS, POLL_SECONDS, cutoff_ms, retain
from echo_ingest.record import Message
from tests import clock
from tests.clock import now_seconds
from tests.harness import eventually

DAY_SECONDS = 86_400.0
LITTLE_SECONDS = 60.0


class WatchedJournal(Journal):
    """A journal that removes two records at a time and knows when it was asked to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.trims: list[tuple[float, int]] = []
        """When records were removed, by the loop's clock, and how many."""

    def trim(self, received_before_ms: int, records_max: int = 2) -> int:
        trimmed = super().trim(received_before_ms, records_max)
        self.trims.append((now_seconds(), trimmed))
        return trimmed


def store(journal: Journal, *ages_seconds: float) -> None:
    """Store a record of each age, and one of now: the newest is never removed."""
    now_ms = time.time_ns() // 1_000_000
    for number, age_seconds in enumerate((*ages_seconds, 0.0)):
        payload = b'{"nodeId": "n", "status": "online", "timestamp": %d}' % (1_795_000_000 + number)
        message = Message("iotingestion/n", payload, now_ms - round(age_seconds * 1000), "n")
        journal.append([(message, Decoder(1_000_000).identify(message))])


def offsets(path: Path) -> list[int]:
    with contextlib.closing(connect(path)) as db:
        return [offset for (offset,) in db.execute("SELECT offset FROM record ORDER BY offset")]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.db")
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
    older = days * DAY_SECONDS + LITTLE_SECONDS
    younger = days * DAY_SECONDS - LITTLE_SECONDS
    store(journal, older, younger, older, younger, younger)
    async with retaining(journal, days):
        left = lambda: offsets(journal.path) == [2, 4, 5, 6]  # noqa: E731
        await asyncio.to_thread(eventually, left)


async def test_without_a_retention_nothing_goes(journal: Journal) -> None:
    store(journal, 10_000 * DAY_SECONDS, 1.0)
    async with asyncio.timeout(10):
        await retain(journal, 0)  # it has nothing to wait for
    assert offsets(journal.path) == [1, 2, 3]


def test_it_removes_a_little_at_a_time_and_then_looks_now_and_then(tmp_path: Path) -> None:
    async def hour() -> list[tuple[float, int]]:
        with contextlib.closing(WatchedJournal(tmp_path / "journal.db")) as journal:
            store(journal, *[2 * DAY_SECONDS] * 5)
            async with retaining(journal, 1):
                await asyncio.sleep(3_600)
            return journal.trims

    trims = clock.run(hour())
    assert [trimmed for _, trimmed in trims[:4]] == [2, 2, 1, 0]
    times = [at for at, _ in trims]
    pauses = [later - before for before, later in itertools.pairwise(times)]
    assert pauses[:3] == pytest.approx([PAUSE_SECONDS] * 3)
    assert pauses[3:] == pytest.approx([POLL_SECONDS] * len(pauses[3:]))
    assert 300 <= len(trims) <= 400
