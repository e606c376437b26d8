"""What every sink promises when its server is away, fails, or is lost in the middle of a call."""

import asyncio

import pytest

from echo_ingest.sinks import Cause, Unavailable
from tests.proxy import Proxy
from tests.sinks.backend import Backend
from tests.sinks.delivering import Line, until
from tests.sinks.messages import messages

pytestmark = [pytest.mark.slow, pytest.mark.only(where=lambda backend: backend.has_server)]

BATCH = 5
CALLS_MAX = 100
"""More pieces than `BATCH` records travel in, whatever the protocol; each is struck once."""


async def test_down_at_the_start_and_between_calls(line: Line, backend: Backend) -> None:
    await backend.stop()
    line.append(messages(0, 10))
    async with line.delivering() as (deliver, _):
        await until(lambda: deliver.unavailable)
        await backend.start()
        await line.until_settled()
        await backend.stop()
        line.append(messages(11, 10))  # a recording first: every sink keeps something of it
        deliver.wake()
        await until(lambda: deliver.unavailable)
        assert line.figures.backlog == 10
        await backend.start()
        await line.until_settled()
        assert deliver.unavailable is None
    await line.check()


async def test_the_reason_of_a_server_that_is_down_names_the_setting_and_its_cause(
    backend: Backend,
) -> None:
    sink = backend.sink(backend.port)
    await backend.stop()
    address = next(iter(backend.settings(backend.port)))
    with pytest.raises(Unavailable, match=address) as raised:
        await sink.probe()
    assert (raised.value.cause, raised.value.http_status) == (Cause.UNREACHABLE, None)
    await backend.start()
    await sink.probe()
    await sink.close()


@pytest.mark.parametrize("upward", [True, False], ids=["request", "reply"])
async def test_a_connection_may_break_at_any_moment(
    line: Line, backend: Backend, proxy: Proxy, upward: bool
) -> None:
    """Before each piece of a conversation, from the first on, until one is not long enough."""
    for pieces in range(CALLS_MAX):
        line.append(messages(BATCH * pieces, BATCH))
        fell = proxy.strike(pieces, upward=upward, how="cut")
        async with line.delivering(proxy.port):
            await line.until_settled()
        proxy.release()
        if not fell.is_set():
            break
    else:
        raise AssertionError("a conversation has more moments than were struck")
    assert pieces >= 2, "nothing was struck"
    await line.check()


async def test_a_connection_that_breaks_while_it_is_idle(
    line: Line, backend: Backend, proxy: Proxy
) -> None:
    async with line.delivering(proxy.port) as (deliver, _):
        for first in range(0, 15, 5):
            line.append(messages(first, 5))
            deliver.wake()
            await line.until_settled()
            proxy.cut()
    await line.check()


async def test_hanging_past_its_time_out(line: Line, backend: Backend) -> None:
    line.append(messages(0, 10))
    async with line.delivering() as (deliver, _):
        await line.until_settled()
        backend.freeze()
        try:
            line.append(messages(10, 10))
            deliver.wake()
            await until(lambda: deliver.unavailable)
        finally:
            backend.thaw()
        await line.until_settled()
    await line.check()


async def test_a_slow_network_is_no_failure(line: Line, backend: Backend, proxy: Proxy) -> None:
    proxy.latency_seconds = 0.02
    line.append(messages(0, 20))
    async with line.delivering(proxy.port):
        await line.until_settled()
    assert line.unsure == 0
    await line.check()


@pytest.mark.parametrize("pieces", [0, 1, 3])
async def test_cancelled_in_the_middle_a_fresh_sink_goes_on(
    line: Line, backend: Backend, proxy: Proxy, pieces: int
) -> None:
    line.append(messages(0, 20))
    fell = proxy.strike(pieces, upward=True, how="hold")
    async with line.delivering(proxy.port, batch_records_max=10):
        async with asyncio.timeout(10):
            await fell.wait()
    proxy.release()
    assert line.unsure == 1
    async with line.delivering(proxy.port):
        await line.until_settled()
    await line.check()


@pytest.mark.parametrize("pieces", [0, 1, 3])
async def test_the_server_is_killed_in_the_middle(
    line: Line, backend: Backend, proxy: Proxy, pieces: int
) -> None:
    line.append(messages(0, 20))
    fell = proxy.strike(pieces, upward=False, how="hold")
    async with line.delivering(proxy.port, batch_records_max=10):
        async with asyncio.timeout(10):
            await fell.wait()
        await backend.kill()
        proxy.release()
        await backend.start()
        await line.until_settled()
    await line.check()
