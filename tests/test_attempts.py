"""A record that ends the process which delivers is parked, and nothing else is for that reason.

A process is here one or more `Deliver` with a journal of their own; when it dies, that is closed,
so that nothing is tidied up. Real processes are killed in tests/test_delivery_process.py.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest

from echo_ingest.decode import Decoder
from echo_ingest.journal import Entry, Journal, SinkLedger
from echo_ingest.journal.attempts import Attempt
from echo_ingest.journal.decoding import decode_entry
from echo_ingest.journal.reader import JournalReader
from echo_ingest.pipeline import deliver as deliver_room
from echo_ingest.pipeline.deliver import Deliver, attempts
from echo_ingest.pipeline.deliver.attempts import CHUNK_RECORDS, DEATHS_MAX, Turns
from echo_ingest.reasons import ReasonCode
from echo_ingest.sinks import Cause, Delivery, Unavailable, Written
from tests.test_deliver import message, until

LIMIT = 1_000_000
RECORDS = 150
DEATHS_IN_ALL = DEATHS_MAX + 1
"""In a batch, in a few, and then alone."""


class Killed(Exception):
    """The process is gone."""


class Fragile:
    """A sink in which the process dies whenever it is offered one of the `deadly` records."""

    address = "here"
    is_idempotent = True

    def __init__(self, name: str = "fragile", deadly: Sequence[int] = (), batch: int = 50) -> None:
        self.name = name
        self.batch_records_max = batch
        self.deadly = set(deadly)
        self.trouble: Unavailable | None = None
        self.hangs = False
        self.offered: list[list[int]] = []
        self.taken: list[int] = []
        self.probes = 0
        self.die: Callable[[], None] = lambda: None
        self.killed = asyncio.Event()
        self.writing = asyncio.Event()

    async def write(self, batch: Sequence[Delivery]) -> Written:
        self.offered.append([delivery.offset for delivery in batch])
        self.writing.set()
        await asyncio.sleep(0)
        if self.trouble is not None:
            raise self.trouble
        if self.hangs:
            await self.killed.wait()
            self._die()
        if self.deadly & set(self.offered[-1]):
            self._die()
        self.taken += self.offered[-1]
        return Written(len(batch))

    def _die(self) -> None:
        self.die()
        raise Killed

    async def probe(self) -> None:
        self.probes += 1
        if self.trouble is not None:
            raise self.trouble

    async def close(self) -> None: ...


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = Journal(tmp_path / "journal.db")
    journal.append([message(number) for number in range(RECORDS)])
    yield journal
    assert_all_close(journal)
    journal.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver_room, "delay_seconds", lambda attempt, rng: 0.001)
    monkeypatch.setattr(attempts, "AFTER_START_SECONDS", (0.0, 0.001))


def assert_all_close(journal: Journal) -> None:
    ledger = journal.ledger()
    for sink in ledger.sinks.values():
        assert ledger.stored == sink.delivered + sink.parked + sink.backlog + sink.skipped


def figures(journal: Journal, name: str = "fragile") -> SinkLedger:
    return journal.ledger().sinks[name]


async def process(
    journal: Journal, *sinks: Fragile, done: Callable[[], bool], seed: int = 1
) -> bool:
    """Deliver until `done`, and end in order; return False if the process dies before."""
    turns, stopping = Turns(), asyncio.Event()
    own = Journal(journal.path)
    deliveries = [
        Deliver(own, sink, Decoder(LIMIT), rng=Random(seed), turns=turns) for sink in sinks
    ]
    for sink in sinks:
        sink.die = own.close

    async def stop() -> None:
        await until(done)
        stopping.set()
        for deliver in deliveries:
            deliver.wake()

    try:
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            for deliver in deliveries:
                tasks.create_task(deliver.run(stopping))
            stopping_it = tasks.create_task(stop())
        assert stopping_it.done()
    except BaseExceptionGroup as group:
        if group.subgroup(Killed) is None:
            raise
        return False
    finally:
        own.close()
    return True


async def deaths_until_delivered(journal: Journal, *sinks: Fragile) -> int:
    def is_done() -> bool:
        return all(figures(journal, sink.name).backlog == 0 for sink in sinks)

    deaths = 0
    while not await process(journal, *sinks, done=is_done, seed=deaths):
        deaths += 1
        assert deaths < 60
    return deaths


def parked(journal: Journal) -> dict[int, str | None]:
    reader = JournalReader(journal.path)
    try:
        return {row.offset: row.code for row in reader.parked()}
    finally:
        reader.close()


def rows(journal: Journal) -> list[tuple[object, ...]]:
    beside = apsw.Connection(str(journal.path))
    try:
        return list(beside.execute("SELECT * FROM attempt ORDER BY sink").fetchall())
    finally:
        beside.close()


@pytest.mark.parametrize("deadly", [[1], [40], [50], [51], [RECORDS]])
@pytest.mark.parametrize("batch", [1, 20, 50, 1_000])
async def test_a_record_that_ends_the_process_is_parked_and_all_others_are_delivered(
    journal: Journal, deadly: list[int], batch: int
) -> None:
    sink = Fragile(deadly=deadly, batch=batch)
    deaths = await deaths_until_delivered(journal, sink)
    assert parked(journal) == dict.fromkeys(deadly, ReasonCode.ENDS_DELIVERY)
    assert sorted(sink.taken) == [n for n in range(1, RECORDS + 1) if n not in deadly]
    assert deaths == DEATHS_IN_ALL
    assert [offered for offered in sink.offered if offered == deadly][: DEATHS_MAX - 1]
    assert rows(journal) == []


async def test_each_of_several_is_found_also_side_by_side(journal: Journal) -> None:
    deadly = [7, 8, 90, 150]
    sink = Fragile(deadly=deadly)
    await deaths_until_delivered(journal, sink)
    assert parked(journal) == dict.fromkeys(deadly, ReasonCode.ENDS_DELIVERY)
    assert len(sink.taken) == RECORDS - len(deadly)


async def test_a_record_that_cannot_even_be_read_is_found(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory may run out in SQLite or in the decoder, before a sink is asked."""

    def deadly(decoder: Decoder, entry: Entry) -> object:
        if entry.offset == 33:
            raise Killed
        return decode_entry(decoder, entry)

    monkeypatch.setattr(deliver_room, "decode_entry", deadly)
    sink = Fragile()
    assert await deaths_until_delivered(journal, sink) == DEATHS_IN_ALL
    assert parked(journal) == {33: ReasonCode.ENDS_DELIVERY}


async def test_a_replay_of_it_is_offered_and_parked_again_or_delivered(journal: Journal) -> None:
    sink = Fragile(deadly=[40])
    await deaths_until_delivered(journal, sink)
    journal.request_replay(sink.name, [40])
    assert await deaths_until_delivered(journal, sink) == DEATHS_IN_ALL
    assert parked(journal) == {40: ReasonCode.ENDS_DELIVERY}
    sink.deadly.clear()
    journal.request_replay(sink.name, [40])
    assert await deaths_until_delivered(journal, sink) == 0
    assert parked(journal) == {}
    assert sink.taken[-1] == 40


async def test_of_two_sinks_the_one_that_is_innocent_parks_nothing(journal: Journal) -> None:
    """Both die with the process. Which of the two is to blame is known only if one is alone."""
    guilty, innocent = Fragile("guilty", deadly=[1]), Fragile("innocent", batch=1)
    deaths = await deaths_until_delivered(journal, guilty, innocent)
    assert deaths <= 2 * DEATHS_IN_ALL
    reader = JournalReader(journal.path)
    assert [(row.sink, row.offset) for row in reader.parked()] == [("guilty", 1)]
    reader.close()
    assert set(innocent.taken) == set(range(1, RECORDS + 1))


async def test_what_is_suspected_is_offered_only_while_no_other_sink_is_written_to() -> None:
    turns, order = Turns(), list[str]()

    async def beside(name: str, seconds: float) -> None:
        async with turns.beside():
            order.append(f"{name} begins")
            await asyncio.sleep(seconds)
            order.append(f"{name} ends")

    async def alone() -> None:
        async with turns.alone() as let_others_go_on:
            assert let_others_go_on is not None
            order.append("alone")
            await asyncio.sleep(0.02)
            order.append("survived")
            let_others_go_on()
            await asyncio.sleep(0.02)
            order.append("ends")

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(beside("first", 0.02))
        await asyncio.sleep(0)
        tasks.create_task(alone())
        await asyncio.sleep(0)
        tasks.create_task(beside("second", 0.0))
    assert order[:4] == ["first begins", "first ends", "alone", "survived"]
    assert order[4:] == ["second begins", "second ends", "ends"]


async def test_one_that_hangs_does_not_hold_up_the_others_because_one_wants_to_be_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attempts, "QUIET_SECONDS_MAX", 0.02)
    turns, order = Turns(), list[str]()
    async with asyncio.timeout(10), turns.beside(), turns.alone() as let_others_go_on:
        assert let_others_go_on is None
        async with turns.beside():
            order.append("goes on")
    async with turns.alone() as let_others_go_on:
        assert let_others_go_on is not None
    assert order == ["goes on"]


# ---------------------------------------------------------------------- nothing else is parked


async def killed_in_a_write(journal: Journal, sink: Fragile, seed: int) -> None:
    """Let a process begin a write that hangs, and die in it once it has waited for a moment."""
    sink.killed, sink.writing = asyncio.Event(), asyncio.Event()

    async def kill() -> None:
        rng = Random(seed)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await sink.writing.wait()
        await asyncio.sleep(rng.uniform(0.06, 0.1))
        sink.killed.set()

    killing = asyncio.create_task(kill())
    waiting = process(journal, sink, done=sink.killed.is_set, seed=seed)
    await asyncio.gather(waiting, killing)


async def test_a_sink_that_hangs_while_the_service_is_killed_again_and_again_parks_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "SURVIVED_SECONDS", 0.03)
    sink = Fragile()
    sink.hangs = True
    for number in range(12):
        await killed_in_a_write(journal, sink, number)
    assert len(sink.offered) == 12
    assert figures(journal).backlog == RECORDS
    sink.hangs = False
    assert await deaths_until_delivered(journal, sink) == 0
    assert parked(journal) == {}


async def test_a_sink_that_does_not_answer_a_probe_is_not_offered_what_is_suspected(
    journal: Journal,
) -> None:
    sink = Fragile()
    journal.add_sink(sink.name)
    journal.note_attempt(sink.name, Attempt(1, 1, DEATHS_MAX - 2, is_offered=True))
    sink.trouble = Unavailable("it sleeps", cause=Cause.OVERLOADED)
    for number in range(10):
        await process(journal, sink, done=lambda n=number: sink.probes > n, seed=number)  # type: ignore[misc]
    assert sink.offered == []
    assert rows(journal) == [("fragile", 1, 1, DEATHS_MAX - 1, 0)]
    sink.trouble = None
    assert await deaths_until_delivered(journal, sink) == 0
    assert parked(journal) == {}


async def test_a_process_that_is_killed_right_after_its_start_has_offered_nothing_suspected(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "AFTER_START_SECONDS", (60.0, 60.0))
    sink = Fragile()
    journal.add_sink(sink.name)
    journal.note_attempt(sink.name, Attempt(1, 1, 1, is_offered=True))
    for seed in range(5):
        assert not await process(
            journal, sink, done=lambda: sink_killed_while_idle(sink), seed=seed
        )
    assert sink.offered == []
    assert rows(journal) == [("fragile", 1, 1, 2, 0)]


def sink_killed_while_idle(sink: Fragile) -> bool:
    sink._die()
    return True


async def test_unavailable_is_an_outcome_that_clears_the_suspicion(journal: Journal) -> None:
    sink = Fragile()
    journal.add_sink(sink.name)
    journal.note_attempt(sink.name, Attempt(1, 1, DEATHS_MAX - 2, is_offered=True))

    async def probe_that_passes() -> None:
        sink.trouble = Unavailable("it sleeps", cause=Cause.OVERLOADED)

    sink.probe = probe_that_passes  # type: ignore[method-assign]
    assert await process(journal, sink, done=lambda: len(sink.offered) > 2)
    assert sink.offered[0] == [1]
    assert rows(journal) == []


async def test_what_is_not_offered_after_all_since_the_sink_was_paused_is_not_suspected(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Fragile()
    journal.add_sink(sink.name)
    journal.note_attempt(sink.name, Attempt())
    read = Journal.read

    def paused_meanwhile(own: Journal, *arguments: Any) -> list[Entry]:
        own.pause(sink.name)
        return read(own, *arguments)

    monkeypatch.setattr(Journal, "read", paused_meanwhile)

    def killed_while_it_is_paused() -> bool:
        if sink.name in {name for name, *_ in rows(journal)} and journal.is_paused(sink.name):
            assert rows(journal) == [("fragile", 0, 0, 0, 0)]
            sink._die()
        return False

    assert not await process(journal, sink, done=killed_while_it_is_paused)
    assert sink.offered == []


async def test_while_a_suspected_record_waits_for_its_sink_the_others_go_on(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "SURVIVED_SECONDS", 0.03)
    slow, other = Fragile("slow"), Fragile("other")
    for sink in (slow, other):
        journal.add_sink(sink.name)
    journal.note_attempt("slow", Attempt(1, 1, 1, is_offered=True))
    slow.hangs = True

    def is_delivered() -> bool:
        if slow.offered and figures(journal, "other").backlog == 0:
            slow.killed.set()
        return False

    assert not await process(journal, slow, other, done=is_delivered)
    assert slow.offered == [[1]]


# ---------------------------------------------------------------------- what it costs


async def test_normally_one_row_is_written_at_the_start_and_removed_at_the_end(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[Attempt | None] = []
    note_attempt = Journal.note_attempt

    def noting(journal: Journal, sink: str, attempt: Attempt | None) -> None:
        noted.append(attempt)
        note_attempt(journal, sink, attempt)

    monkeypatch.setattr(Journal, "note_attempt", noting)
    sink = Fragile(batch=10)
    assert await process(journal, sink, done=lambda: figures(journal).backlog == 0)
    assert noted == [Attempt(), None]
    assert [len(offered) for offered in sink.offered] == [10] * (RECORDS // 10)
    assert sink.probes == 0


async def test_after_a_death_by_chance_one_batch_goes_in_parts_and_then_whole_ones(
    journal: Journal,
) -> None:
    sink = Fragile(batch=50)
    sink.hangs = True
    await killed_in_a_write(journal, sink, 1)
    assert [len(offered) for offered in sink.offered] == [50]
    sink.hangs = False
    sink.offered.clear()
    assert await process(journal, sink, done=lambda: figures(journal).backlog == 0)
    assert [len(offered) for offered in sink.offered] == [CHUNK_RECORDS] * 2 + [50, 36]
    assert sink.probes == 0
    assert rows(journal) == []


async def test_what_was_settled_before_the_process_died_is_not_suspected_for_ever(
    journal: Journal,
) -> None:
    sink = Fragile(batch=50)
    journal.add_sink(sink.name)
    journal.settle(sink.name, [1, 2], {})
    journal.note_attempt(sink.name, Attempt(1, 2, DEATHS_MAX, is_offered=True))
    assert await process(journal, sink, done=lambda: figures(journal).backlog == 0)
    assert [len(offered) for offered in sink.offered] == [CHUNK_RECORDS] * 2 + [50, 34]
    assert parked(journal) == {}


def test_a_forgotten_sink_leaves_no_note(tmp_path: Path) -> None:
    with contextlib.closing(Journal(tmp_path / "journal.db")) as journal:
        journal.add_sink("fragile")
        journal.note_attempt("fragile", Attempt(1, 1, 2))
        journal.forget("fragile")
        assert rows(journal) == []
