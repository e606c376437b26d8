"""What delivery promises to every sink, whatever the sink does. The journal is real."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import apsw
import pytest

from echo_ingest.decode import Decoder
from echo_ingest.journal import Arrival, Journal, SinkLedger, connect
from echo_ingest.pipeline import deliver as deliver_room
from echo_ingest.pipeline.deliver import Deliver
from echo_ingest.record import Message
from echo_ingest.sinks import Cause, Delivery, Refusal, Unavailable, Written

LIMIT = 1_000_000
Answer = Callable[[Sequence[Delivery]], Written]


def take_all(batch: Sequence[Delivery]) -> Written:
    return Written(len(batch))


class ScriptedSink:
    """A sink that answers as the test says, and remembers what it took."""

    name = "scripted"
    address = "here"
    batch_records_max = 10
    is_idempotent = True

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.taken: list[int] = []
        self.offered: list[list[int]] = []

    async def write(self, batch: Sequence[Delivery]) -> Written:
        self.offered.append([delivery.offset for delivery in batch])
        await asyncio.sleep(0)
        written = (self.answers.pop(0) if self.answers else take_all)(batch)
        refused = {refusal.index for refusal in written.refusals}
        self.taken += [d.offset for i, d in enumerate(batch[: written.count]) if i not in refused]
        return written

    async def probe(self) -> None: ...

    async def close(self) -> None: ...


def refuse(*indexes: int) -> Answer:
    return lambda batch: Written(
        len(batch), tuple(Refusal(i, "the species is not known") for i in indexes)
    )


def unavailable(batch: Sequence[Delivery]) -> Written:
    raise Unavailable("it sleeps", cause=Cause.OVERLOADED, retry_after_seconds=0.01)


def message(number: int) -> Arrival:
    payload = b'{"nodeId": "n", "status": "online", "timestamp": %d}' % (1_795_000_000 + number)
    arrived = Message("iotingestion/n", payload, 1_000, "n")
    return arrived, Decoder(LIMIT).identify(arrived)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = Journal(tmp_path / "journal.db")
    yield journal
    journal.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver_room, "delay_seconds", lambda attempt, rng: 0.001)


@asynccontextmanager
async def delivering(journal: Journal, sink: ScriptedSink) -> AsyncIterator[Deliver]:
    deliver = Deliver(journal, sink, decoder=Decoder(LIMIT), rng=Random(1))
    stopping = asyncio.Event()
    task = asyncio.create_task(deliver.run(stopping))
    try:
        yield deliver
    finally:
        stopping.set()
        deliver.wake()
        async with asyncio.timeout(10):
            await task
        assert_closes(journal)


def figures(journal: Journal) -> SinkLedger:
    return journal.ledger().sinks["scripted"]


def assert_closes(journal: Journal) -> None:
    sink = figures(journal)
    assert journal.ledger().stored == sink.delivered + sink.parked + sink.backlog + sink.skipped


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not look():
            await asyncio.sleep(0.005)


async def test_everything_is_delivered_in_order_and_new_records_wake_it(journal: Journal) -> None:
    journal.append([message(n) for n in range(25)])
    sink = ScriptedSink()
    async with delivering(journal, sink) as deliver:
        await until(lambda: figures(journal).backlog == 0)
        journal.append([message(25)])
        deliver.wake()
        await until(lambda: figures(journal).backlog == 0)
    assert sink.taken == list(range(1, 27))


async def test_unavailability_offers_the_same_batch_again_and_is_said(journal: Journal) -> None:
    journal.append([message(n) for n in range(3)])
    sink = ScriptedSink(*[unavailable] * 5)
    async with delivering(journal, sink) as deliver:
        await until(lambda: deliver.unavailable == "it sleeps")
        await until(lambda: figures(journal).backlog == 0)
        assert deliver.unavailable is None
    assert sink.offered == [[1, 2, 3]] * 6
    assert sink.taken == [1, 2, 3]


async def test_a_refused_record_is_parked_with_its_reason_and_the_rest_goes_on(
    journal: Journal,
) -> None:
    journal.append([message(n) for n in range(3)])
    sink = ScriptedSink(refuse(1))
    async with delivering(journal, sink):
        await until(lambda: figures(journal).backlog == 0)
    assert sink.taken == [1, 3]
    assert figures(journal).parked == 1


async def test_a_replay_that_another_process_asked_for_is_delivered(
    journal: Journal, tmp_path: Path
) -> None:
    journal.append([message(n) for n in range(3)])
    sink = ScriptedSink(refuse(0, 2))
    async with delivering(journal, sink):
        await until(lambda: figures(journal).parked == 2)
        beside = Journal(tmp_path / "journal.db")
        assert beside.request_replay("scripted", [1, 3]) == 2
        beside.close()
        await until(lambda: figures(journal).delivered == 3)
    assert sink.taken == [2, 1, 3]


async def test_a_sink_may_take_a_part_and_each_part_is_settled(journal: Journal) -> None:
    journal.append([message(n) for n in range(5)])
    one_by_one: Answer = lambda batch: Written(1)  # noqa: E731
    sink = ScriptedSink(*[one_by_one] * 5)
    async with delivering(journal, sink):
        await until(lambda: figures(journal).backlog == 0)
    assert sink.offered == [[1, 2, 3, 4, 5], [2, 3, 4, 5], [3, 4, 5], [4, 5], [5]]


async def test_a_damaged_record_is_parked_and_never_offered(
    journal: Journal, tmp_path: Path
) -> None:
    journal.append([message(n) for n in range(3)])
    beside = apsw.Connection(str(tmp_path / "journal.db"))
    beside.execute("UPDATE record SET payload = x'7b7d' WHERE offset = 2")
    sink = ScriptedSink()
    async with delivering(journal, sink):
        await until(lambda: figures(journal).backlog == 0)
    assert sink.taken == [1, 3]
    reason = beside.execute("SELECT reason FROM parked").get
    assert "damaged" in reason


async def test_a_mistake_of_ours_ends_it_and_settles_nothing(journal: Journal) -> None:
    def broken(batch: Sequence[Delivery]) -> Written:
        raise ZeroDivisionError

    journal.append([message(1)])
    deliver = Deliver(journal, ScriptedSink(broken), Decoder(LIMIT))
    with pytest.raises(ZeroDivisionError):
        await deliver.run(asyncio.Event())
    assert figures(journal).backlog == 1


async def test_when_told_to_stop_it_settles_the_write_it_is_in(journal: Journal) -> None:
    journal.append([message(n) for n in range(3_000)])
    sink = ScriptedSink()
    deliver = Deliver(journal, sink, decoder=Decoder(LIMIT))
    stopping = asyncio.Event()
    task = asyncio.create_task(deliver.run(stopping))
    await until(lambda: bool(sink.offered))
    stopping.set()
    async with asyncio.timeout(10):
        await task
    assert 0 < len(sink.taken) < 3_000
    assert figures(journal).delivered == len(sink.taken)


async def test_while_another_process_holds_the_journal_it_waits_and_repeats_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver_room, "ROOM_POLL_SECONDS", 0.01)
    journal._db.set_busy_timeout(10)
    journal.append([message(1)])
    sink = ScriptedSink()
    other = connect(journal.path)
    async with delivering(journal, sink) as deliver:
        other.execute("BEGIN IMMEDIATE")
        await until(lambda: deliver.unavailable is not None)
        assert "another process has been writing" in str(deliver.unavailable)
        assert deliver.state.cause == Cause.JOURNAL_BLOCKED
        other.execute("COMMIT")
        await until(lambda: figures(journal).delivered == 1)
    other.close()
    assert len(sink.offered) == 1
