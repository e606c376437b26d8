"""Delivery through days of faults, in simulated time: whatever a sink does, all of it arrives.

The journal is real and its clock is not: the loop's time jumps to the next timer whenever there is
nothing to do, so that an outage of hours takes milliseconds. `SEEDS=5000 pytest
tests/test_deliver_model.py` looks for longer, `SEED=7` begins with that seed.
"""

import asyncio
import contextlib
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import apsw
import pytest

from echo_ingest.decode import Decoder
from echo_ingest.journal import Arrival, Entry, Journal, JournalFull
from echo_ingest.journal.cursors import Refused
from echo_ingest.pipeline.deliver import IDLE_POLL_SECONDS, Deliver
from echo_ingest.record import Message
from echo_ingest.sinks import Cause, Delivery, Refusal, Unavailable, Written
from tests import clock
from tests.clock import now_seconds
from tests.lossy_storage import recording

SEEDS = int(os.environ.get("SEEDS", "70"))
FIRST_SEED = int(os.environ.get("SEED", "1"))
LIMIT = 1_000_000
SLOW_SECONDS_MAX = 120.0
RETRY_AFTER_SECONDS_MAX = 3_600.0
FATES = {
    "well": ("takes all", "takes all", "takes some"),
    "slow": ("slow", "takes some"),
    "down": ("unavailable",),
    "busy": ("retry after",),
    "deaf": ("answer lost", "hangs", "takes some"),
    "flaky": ("takes some", "slow", "unavailable", "retry after", "answer lost", "hangs"),
}

SPOIL = """
    UPDATE record SET payload = CAST(replace(payload, 'online', 'asleep') AS BLOB)
    WHERE offset = ?"""


class TightJournal(Journal):
    """A journal whose disk is full at times, and that counts how often it is read."""

    full = False
    reads = 0

    def read(self, sink: str, records_max: int, behind: str | None = None) -> list[Entry]:
        self.reads += 1
        return super().read(sink, records_max, behind)

    def settle(
        self,
        sink: str,
        offsets: Sequence[int],
        refusals: Mapping[int, Refused],
        place: str | None = None,
    ) -> int:
        if self.full:
            raise JournalFull("no room")
        return super().settle(sink, offsets, refusals, place)


class FaultySink:
    """A sink in changing moods that checks when and in what order it is offered what."""

    name = "faulty"
    address = "here"
    is_idempotent = True

    def __init__(self, rng: Random) -> None:
        self.batch_records_max = rng.choice((1, 7, 50))
        self.mood = "well"
        self.refuses: set[int] = set()
        self.ever_refused: set[int] = set()
        self.taken: Counter[int] = Counter()
        """How often it took each offset; a dict keeps the order in which it first did."""
        self.confirmed: Counter[int] = Counter()
        """How often it also confirmed each offset."""
        self.offers = 0
        self._rng = rng
        self._failures = 0
        self._next = (0.0, math.inf)
        self._writing = False

    def met_anew(self) -> None:
        """Note that the writer was restarted, and does not know how often this sink has failed."""
        self._failures, self._next = 0, (0.0, math.inf)

    async def write(self, batch: Sequence[Delivery]) -> Written:
        soonest, latest = self._next
        assert soonest - 1e-6 <= now_seconds() <= latest + 1e-6
        offsets = [delivery.offset for delivery in batch]
        assert 0 < len(offsets) <= self.batch_records_max
        assert offsets == sorted(set(offsets))
        assert not self._writing
        self.offers += 1
        self._writing = True
        try:
            return await self._answer(offsets)
        finally:
            self._writing = False

    async def _answer(self, offsets: list[int]) -> Written:
        fate = self._rng.choice(FATES[self.mood])
        if fate == "unavailable":
            raise self._unavailable(None)
        if fate == "retry after":
            raise self._unavailable(self._rng.uniform(0, RETRY_AFTER_SECONDS_MAX))
        if fate == "hangs":
            await asyncio.sleep(SLOW_SECONDS_MAX)
            raise self._unavailable(None)
        count = len(offsets) if fate == "takes all" else self._rng.randint(1, len(offsets))
        refused = [o for o in offsets[:count] if o in self.refuses]
        took = [o for o in offsets[:count] if o not in self.refuses]
        self.ever_refused.update(refused)
        self.taken.update(took)
        if fate == "slow":
            await asyncio.sleep(self._rng.uniform(0, SLOW_SECONDS_MAX))
        if fate == "answer lost":
            raise self._unavailable(None)
        self.confirmed.update(took)
        self.met_anew()
        return Written(count, tuple(Refusal(offsets.index(o), "not known") for o in refused))

    def _unavailable(self, retry_after_seconds: float | None) -> Unavailable:
        self._failures += 1
        ceiling = min(60.0, 0.5 * 2.0 ** min(self._failures - 1, 32))
        asked_seconds = retry_after_seconds or 0.0
        self._next = (
            now_seconds() + max(asked_seconds, ceiling / 2),
            now_seconds() + max(asked_seconds, ceiling),
        )
        return Unavailable(
            "not now", cause=Cause.OVERLOADED, retry_after_seconds=retry_after_seconds
        )

    async def probe(self) -> None: ...

    async def close(self) -> None: ...


class Days:
    """A journal, its delivery and its sink, through faults that a seed decides on."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path = path
        self._rng = Random(seed)
        self._journal = TightJournal(path)
        self._sink = FaultySink(self._rng)
        self._stored = 0
        self._damaged: set[int] = set()
        self._reads = self._wakes = self._starts = self._killed_while_full = 0
        self._stopping = asyncio.Event()
        self._deliver: Deliver
        self._task: asyncio.Task[None]

    async def pass_by(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._start(group)
            for _ in range(self._rng.randint(5, 12)):
                await self._episode()
                fate = self._rng.choice(("goes on", "killed", "stopped"))
                if fate != "goes on":
                    await (self._kill() if fate == "killed" else self._stop())
                    self._start(group)
                self._replay()
            self._sink.mood, self._journal.full = "well", False
            async with asyncio.timeout(RETRY_AFTER_SECONDS_MAX + SLOW_SECONDS_MAX + 60):
                while self._journal.ledger().sinks["faulty"].backlog:
                    await asyncio.sleep(1)
            await self._stop()
        self._check()
        self._journal.close()

    async def _episode(self) -> None:
        """Spend minutes in one mood, or hours without a sink, while more arrives."""
        self._sink.mood = self._rng.choice(tuple(FATES))
        gone = self._sink.mood in ("down", "busy")
        self._journal.full = not gone and self._rng.random() < 0.2
        for _ in range(self._rng.randint(1, 4)):
            self._arrive()
            await asyncio.sleep(self._rng.uniform(0, 2 * 3_600 if gone else 30))

    def _arrive(self) -> None:
        batch = [arrival(self._stored + n) for n in range(1, self._rng.randint(2, 25))]
        for offset in range(self._stored + 1, self._stored + len(batch) + 1):
            if self._rng.random() < 0.1:
                self._sink.refuses.add(offset)
            elif self._rng.random() < 0.03:
                self._damaged.add(offset)
        self._stored += self._journal.append(batch).stored
        with contextlib.closing(apsw.Connection(str(self._path))) as beside:
            beside.executemany(SPOIL, ((offset,) for offset in self._damaged))
        self._deliver.wake()
        self._wakes += 1

    def _replay(self) -> None:
        """Mend the sink for some of what it refused, and ask to replay more than that."""
        refused = sorted(self._sink.ever_refused)
        some = self._rng.sample(refused, self._rng.randint(0, len(refused)))
        self._sink.refuses.difference_update(some[: len(some) // 2])
        with contextlib.closing(Journal(self._path)) as beside:
            beside.request_replay("faulty", some)

    def _start(self, group: asyncio.TaskGroup) -> None:
        if self._rng.random() < 0.5:
            self._reads += self._journal.reads
            full = self._journal.full
            self._journal.close()
            self._journal = TightJournal(self._path)
            self._journal.full = full
        self._sink.met_anew()
        self._stopping = asyncio.Event()
        self._deliver = Deliver(
            self._journal, self._sink, decoder=Decoder(LIMIT), rng=Random(self._rng.random())
        )
        self._task = group.create_task(self._deliver.run(self._stopping))
        self._starts += 1

    async def _kill(self) -> None:
        self._killed_while_full += self._journal.full
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _stop(self) -> None:
        """Stop delivery; the current write ends first, and a wait for room is cut off."""
        self._stopping.set()
        self._deliver.wake()
        await asyncio.wait({self._task}, timeout=SLOW_SECONDS_MAX + IDLE_POLL_SECONDS)
        if not self._task.done():
            assert self._journal.full
            await self._kill()

    def _check(self) -> None:
        sink, ledger = self._sink, self._journal.ledger()
        figures, taken = ledger.sinks["faulty"], set(sink.taken)
        parked = (sink.ever_refused - taken) | self._damaged
        assert ledger.stored == self._stored
        assert taken | parked == set(range(1, self._stored + 1))
        assert not taken & self._damaged
        assert (figures.delivered, figures.parked) == (len(taken), len(parked))
        in_order = [offset for offset in sink.taken if offset not in sink.ever_refused]
        assert in_order == sorted(in_order)
        assert set(sink.confirmed) == taken
        assert max(sink.confirmed.values(), default=0) <= 1 + self._killed_while_full
        reads = self._reads + self._journal.reads
        reasons = sink.offers + len(self._damaged) + self._wakes + 2 * self._starts
        assert reads <= reasons + now_seconds() / IDLE_POLL_SECONDS


def arrival(number: int) -> Arrival:
    payload = b'{"nodeId": "n", "status": "online", "timestamp": %d}' % (1_795_000_000 + number)
    message = Message("iotingestion/n", payload, 1_000, "n")
    return message, Decoder(LIMIT).identify(message)


@pytest.mark.slow
def test_all_arrives_once_and_in_order_whatever_the_sink_does(tmp_path: Path) -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            with recording(folder):
                clock.run(Days(folder / "journal.db", seed).pass_by())
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
