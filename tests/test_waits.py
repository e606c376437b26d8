"""How long we wait before we try again, by a clock that jumps: sinks, the Echo API, the broker."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from email.utils import formatdate
from pathlib import Path
from random import Random
from typing import Any

import mqtt5
import pytest
from aiohttp import web

from echo_ingest.backoff import delay_seconds
from echo_ingest.decode import Decoder
from echo_ingest.journal import Entry, Journal, JournalFull
from echo_ingest.journal.cursors import Refused
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.pipeline.deliver import (
    IDLE_POLL_SECONDS,
    PAUSE_POLL_SECONDS,
    ROOM_POLL_SECONDS,
    Deliver,
)
from echo_ingest.record import Message
from echo_ingest.settings import Endpoint
from echo_ingest.sinks import Cause, Delivery, Sink, Unavailable, Written
from echo_ingest.sinks.echo_api import EchoApi
from tests import clock
from tests.clock import now_seconds
from tests.replica import Replica

LIMIT = 1_000_000
FIRST, MOST = 0.5, 60.0


class Extreme(Random):
    """Draws the same each time."""

    def __init__(self, drawn: float) -> None:
        super().__init__()
        self._drawn = drawn

    def random(self) -> float:
        return self._drawn


# ---------------------------------------------------------------------- backoff


def ceiling(attempt: int, first: float = FIRST, most: float = MOST) -> float:
    """Return the longest wait before an attempt: doubled each time, never over `most`."""
    seconds = first
    for _ in range(attempt - 1):
        seconds = min(2 * seconds, most)
    return min(seconds, most)


@pytest.mark.parametrize(("first", "most"), [(0.5, 60.0), (0.2, 60.0), (0.5, 5.0), (3.0, 2.0)])
def test_backoff_is_between_half_and_all_of_a_ceiling_that_doubles(
    first: float, most: float
) -> None:
    rng = Random(1)
    for attempt in (*range(1, 100), 10_000):
        top = ceiling(attempt, first, most)
        assert delay_seconds(attempt, Extreme(0.0), first=first, most=most) == top / 2
        assert delay_seconds(attempt, Extreme(1.0), first=first, most=most) == top
        assert top / 2 <= delay_seconds(attempt, rng, first=first, most=most) <= top <= most


def test_backoff_begins_at_half_a_second_and_ends_at_a_minute() -> None:
    tops = [delay_seconds(attempt, Extreme(1.0)) for attempt in range(1, 10)]
    assert tops == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_clients_that_lost_the_same_server_come_back_at_different_times() -> None:
    for attempt in (1, 5, 50):
        waits = [delay_seconds(attempt, Random(seed)) / ceiling(attempt) for seed in range(1_000)]
        assert len(set(waits)) == 1_000
        assert min(waits) < 0.55
        assert max(waits) > 0.95


# ---------------------------------------------------------------------- a sink


class TimedSink:
    """Notes when it is offered something; unavailable for as long as it has answers."""

    name = "timed"
    address = "here"
    batch_records_max = 10
    is_idempotent = True

    def __init__(self, *answers: float | None) -> None:
        """Each answer is what the sink says about when to try again."""
        self.offered_at: list[float] = []
        self._answers = list(answers)

    async def write(self, batch: Sequence[Delivery]) -> Written:
        self.offered_at.append(now_seconds())
        if self._answers:
            raise Unavailable(
                "not now", cause=Cause.OVERLOADED, retry_after_seconds=self._answers.pop(0)
            )
        return Written(len(batch))

    async def probe(self) -> None: ...

    async def close(self) -> None: ...


class TimedJournal(Journal):
    """Notes when it is asked for what; full for the first `full` times that it is to settle."""

    full = 0

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read_at: list[float] = []
        self.looked_for_pause_at: list[float] = []
        self.settled_at: list[float] = []

    def read(self, sink: str, records_max: int, behind: str | None = None) -> list[Entry]:
        self.read_at.append(now_seconds())
        return super().read(sink, records_max, behind)

    def is_paused(self, sink: str) -> bool:
        self.looked_for_pause_at.append(now_seconds())
        return super().is_paused(sink)

    def settle(
        self,
        sink: str,
        offsets: Sequence[int],
        refusals: Mapping[int, Refused],
        place: str | None = None,
    ) -> int:
        self.settled_at.append(now_seconds())
        if len(self.settled_at) <= self.full:
            raise JournalFull("no room")
        return super().settle(sink, offsets, refusals, place)


def pauses(times: Sequence[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def assert_backs_off(waits: Sequence[float], most: float = MOST) -> None:
    """Check the waits before attempts 1, 2, 3 …"""
    for attempt, wait in enumerate(waits, 1):
        top = ceiling(attempt, most=most)
        assert top / 2 - 1e-6 <= wait <= top + 1e-6, (attempt, wait)


def store(journal: Journal, number: int = 0) -> None:
    payload = (
        b'{"timestamp": "%d", "sensor_id": "n", "species": "Litoria ewingii", "confidence": 63.6}'
        % (1_795_000_000 + number)
    )
    message = Message("iotingestion/n", payload, 1_000, "n")
    assert journal.append([(message, Decoder(LIMIT).identify(message))]).stored == 1


@contextlib.asynccontextmanager
async def delivering(
    journal: Journal,
    sink: Sink,
    *,
    rng: Random | None = None,
    on_settled: Callable[[], None] = lambda: None,
) -> AsyncIterator[Deliver]:
    deliver = Deliver(journal, sink, decoder=Decoder(LIMIT), rng=rng, on_settled=on_settled)
    stopping = asyncio.Event()
    task = asyncio.create_task(deliver.run(stopping))
    try:
        yield deliver
    finally:
        stopping.set()
        deliver.wake()
        await task


async def delivered(journal: Journal, sink: str, count: int) -> None:
    async with asyncio.timeout(3_600):
        while journal.ledger().sinks[sink].delivered < count:
            await asyncio.sleep(0.001)


def offered_at(path: Path, sink: TimedSink, rng: Random | None = None) -> list[float]:
    """Return when a sink is offered one record, until it takes that."""

    async def play() -> list[float]:
        with contextlib.closing(Journal(path)) as journal:
            store(journal)
            async with delivering(journal, sink, rng=rng):
                await asyncio.sleep(4 * 3_600)
            assert journal.ledger().sinks[sink.name].delivered == 1
        return sink.offered_at

    return clock.run(play())


def test_a_sink_that_is_unavailable_is_asked_again_ever_less_often(tmp_path: Path) -> None:
    waits = pauses(offered_at(tmp_path / "journal.db", TimedSink(*[None] * 10), Random(1)))
    assert len(waits) == 10
    assert_backs_off(waits)


def test_two_that_deliver_do_not_ask_in_the_same_instant(tmp_path: Path) -> None:
    one, other = (offered_at(tmp_path / each, TimedSink(*[None] * 5)) for each in ("a", "b"))
    assert not set(one[1:]) & set(other[1:])


def test_a_sink_that_says_when_is_asked_then_unless_backoff_takes_longer(tmp_path: Path) -> None:
    answers = (7.0, 600.0, 0.0, None, 0.1, 3_600.0)
    waits = pauses(offered_at(tmp_path / "journal.db", TimedSink(*answers), Random(1)))
    assert [waits[0], waits[1], waits[5]] == pytest.approx([7.0, 600.0, 3_600.0])
    for attempt in (3, 4, 5):
        assert ceiling(attempt) / 2 <= waits[attempt - 1] + 1e-6
        assert waits[attempt - 1] <= ceiling(attempt) + 1e-6


def test_once_a_sink_has_taken_something_backoff_begins_anew(tmp_path: Path) -> None:
    async def play() -> list[float]:
        sink = TimedSink(*[None] * 6)
        with contextlib.closing(Journal(tmp_path / "journal.db")) as journal:
            store(journal)
            async with delivering(journal, sink) as deliver:
                await delivered(journal, sink.name, 1)
                sink.offered_at.clear()
                sink._answers = [None] * 3
                store(journal, 1)
                deliver.wake()
                await delivered(journal, sink.name, 2)
        return sink.offered_at

    assert_backs_off(pauses(clock.run(play())))


def test_new_records_do_not_shorten_the_wait_and_a_stop_does(tmp_path: Path) -> None:
    async def play() -> tuple[list[float], float]:
        sink = TimedSink(600.0, 600.0)
        with contextlib.closing(Journal(tmp_path / "journal.db")) as journal:
            store(journal)
            async with delivering(journal, sink) as deliver:
                for number in range(1, 71):
                    await asyncio.sleep(10)
                    store(journal, number)
                    deliver.wake()
                stopped_at = now_seconds()
            return sink.offered_at, now_seconds() - stopped_at

    offered, stop_seconds = clock.run(play())
    assert offered == pytest.approx([0.0, 600.0])
    assert stop_seconds < 1.0


def test_where_there_is_nothing_or_a_pause_it_looks_once_a_second(tmp_path: Path) -> None:
    async def play() -> None:
        sink = TimedSink()
        with contextlib.closing(TimedJournal(tmp_path / "journal.db")) as journal:
            async with delivering(journal, sink):
                await asyncio.sleep(60)
                assert 60 <= len(journal.read_at) <= 62
                assert set(pauses(journal.read_at)) <= {IDLE_POLL_SECONDS}
                journal.pause(sink.name)
                await asyncio.sleep(2)
                journal.looked_for_pause_at.clear()
                journal.read_at.clear()
                await asyncio.sleep(60)
                assert 59 <= len(journal.looked_for_pause_at) <= 61
                assert set(pauses(journal.looked_for_pause_at)) <= {PAUSE_POLL_SECONDS}
                assert journal.read_at == []

    clock.run(play())
    assert IDLE_POLL_SECONDS == PAUSE_POLL_SECONDS == 1.0


def test_where_there_is_no_room_to_settle_it_tries_once_a_second(tmp_path: Path) -> None:
    async def play() -> list[float]:
        with contextlib.closing(TimedJournal(tmp_path / "journal.db")) as journal:
            journal.full = 5
            store(journal)
            async with delivering(journal, TimedSink()):
                await delivered(journal, "timed", 1)
            return journal.settled_at

    assert pauses(clock.run(play())) == pytest.approx([1.0] * 5)
    assert ROOM_POLL_SECONDS == 1.0


# ---------------------------------------------------------------------- the Echo API


class TimedReplica(Replica):
    """Notes when it is asked to store something."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked_at: list[float] = []

    def _before(self, request: web.Request) -> web.Response | None:
        if request.method == "POST":
            self.asked_at.append(now_seconds())
        return super()._before(request)


def asked_at(path: Path, *, bulk: bool = False, **options: object) -> list[float]:
    """Return when the real sink asks the API to store one record, until the API does."""

    async def play() -> list[float]:
        replica = TimedReplica(**options)
        await replica.start()
        api = EchoApi(url=replica.url, key=None, schema="objects", bulk=bulk)
        with contextlib.closing(Journal(path)) as journal:
            store(journal)
            settled = asyncio.Event()
            async with delivering(journal, api, on_settled=settled.set):
                await settled.wait()
        assert len(replica.received) == 1
        await api.close()
        await replica.stop()
        return replica.asked_at

    return clock.run(play(), network_seconds=clock.NETWORK_SECONDS)


@pytest.mark.parametrize(
    ("status", "bulk", "retry_after", "seconds"),
    [
        (429, False, "7", 7.0),
        (429, True, "7", 7.0),
        (503, False, "120", 120.0),
        (503, True, "120", 120.0),
    ],
)
def test_the_api_is_asked_again_when_it_has_said_and_hardly_later(
    tmp_path: Path, status: int, bulk: bool, retry_after: str, seconds: float
) -> None:
    times = asked_at(
        tmp_path / "journal.db", bulk=bulk, trouble=status, trouble_times=2, retry_after=retry_after
    )
    assert pauses(times) == pytest.approx([seconds, seconds], abs=0.1)


def test_a_date_is_as_good_as_seconds(tmp_path: Path) -> None:
    date = formatdate(time.time() + 600, usegmt=True)  # whole seconds, and the test takes some
    (wait,) = pauses(
        asked_at(tmp_path / "journal.db", trouble=429, trouble_times=1, retry_after=date)
    )
    assert 570 <= wait <= 600.1


@pytest.mark.parametrize(
    "retry_after", ["", "0", "-3", "soon", "7 apples", "Sun, 06 Nov 1994 08:49:37 GMT"]
)
def test_an_api_that_does_not_say_when_is_asked_ever_less_often(
    tmp_path: Path, retry_after: str
) -> None:
    waits = pauses(
        asked_at(tmp_path / "journal.db", trouble=429, trouble_times=5, retry_after=retry_after)
    )
    assert len(waits) == 5
    assert_backs_off(waits)


# ---------------------------------------------------------------------- the broker

Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def connected_at(play: Play, count: int) -> list[float]:
    """Return when a session connects to a broker that plays `play` and disconnects each time."""

    async def peer() -> list[float]:
        times: list[float] = []
        enough = asyncio.Event()

        async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            times.append(now_seconds())
            if len(times) == count:
                enough.set()
            await play(reader, writer)
            writer.close()

        server = await asyncio.start_server(meet, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        session = Session(
            SessionOptions(endpoint=Endpoint("mqtt", "127.0.0.1", port), client_id="me")
        )
        task = asyncio.create_task(session.run())
        async with asyncio.timeout(86_400):
            await enough.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.close()
        return times

    return clock.run(peer(), network_seconds=clock.NETWORK_SECONDS)


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1_000)


async def let_in_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1_000)
    writer.write(mqtt5.ConnAckPacket().write())


async def take_over(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await let_in_and_hang_up(reader, writer)
    why = mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER
    writer.write(mqtt5.DisconnectPacket(reason_code=why).write())


def test_a_broker_that_hangs_up_is_tried_again_every_five_seconds_at_most() -> None:
    waits = pauses(connected_at(hang_up, 10))
    assert_backs_off(waits, most=5.0)


def test_after_three_short_connections_in_a_row_we_stand_back_for_a_minute() -> None:
    waits = pauses(connected_at(let_in_and_hang_up, 7))
    assert waits[2] == pytest.approx(60.0, abs=0.1)
    assert waits[5] == pytest.approx(60.0, abs=0.1)
    for index in (0, 1, 3, 4):
        assert 0.25 - 1e-6 <= waits[index] <= 0.5 + 1e-6


def test_where_the_broker_says_that_another_has_our_id_we_stand_back_for_five_minutes() -> None:
    assert pauses(connected_at(take_over, 3)) == pytest.approx([300.0, 300.0], abs=0.1)
