"""What the loopback check promises, with a real mosquitto and a real session."""

import asyncio
import contextlib
import math
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from echo_ingest.monitoring.loopback import PERIOD_SECONDS, LoopbackCheck
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.settings import Endpoint
from tests.harness import free_port

pytestmark = pytest.mark.slow


class Broker:
    """A mosquitto that lets everyone in."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._configuration = directory / "mosquitto.conf"
        self._configuration.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["/usr/sbin/mosquitto", "-c", str(self._configuration)], stderr=subprocess.DEVNULL
        )

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    if not Path("/usr/sbin/mosquitto").exists():
        pytest.skip("no mosquitto here; install the package mosquitto")
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.kill()


async def eventually(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def checking(broker: Broker) -> AsyncIterator[tuple[LoopbackCheck, Session]]:
    loopback = LoopbackCheck("ingest")
    options = SessionOptions(
        endpoint=Endpoint("mqtt", "127.0.0.1", broker.port),
        client_id="ingest",
        topic_filters=("#",),
        loopback_topic=loopback.topic,
        session_expiry_seconds=60,
    )
    session = Session(options, on_loopback=loopback.on_message)
    tasks = [asyncio.create_task(session.run()), asyncio.create_task(loopback.run(session))]
    yield loopback, session
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_the_age_grows_while_the_broker_is_stopped_and_falls_when_it_continues(
    broker: Broker,
) -> None:
    async with checking(broker) as (loopback, _):
        assert loopback.age_seconds == math.inf
        await eventually(lambda: loopback.age_seconds < PERIOD_SECONDS / 2)
        broker.signal(signal.SIGSTOP)
        await eventually(lambda: loopback.age_seconds > 2 * PERIOD_SECONDS)
        broker.signal(signal.SIGCONT)
        await eventually(lambda: loopback.age_seconds < PERIOD_SECONDS / 2)


async def test_the_check_goes_on_with_a_new_connection(broker: Broker) -> None:
    async with checking(broker) as (loopback, session):
        await eventually(lambda: loopback.age_seconds < PERIOD_SECONDS / 2)
        broker.kill()
        await eventually(lambda: loopback.age_seconds > PERIOD_SECONDS and not session.is_connected)
        broker.start()
        await eventually(lambda: loopback.age_seconds < PERIOD_SECONDS / 2)


async def test_a_loopback_message_is_not_received_as_a_message(broker: Broker) -> None:
    async with checking(broker) as (loopback, session):
        await eventually(lambda: loopback.age_seconds < PERIOD_SECONDS / 2)
        await session.publish("iotingestion/ridge-07", b"hello")
        async with asyncio.timeout(10):
            batch = await session.receive(10, 0.2)
        assert [message.payload for message in batch.messages] == [b"hello"]


async def test_what_this_process_did_not_send_does_not_count(broker: Broker) -> None:
    async with checking(broker) as (loopback, session):
        await eventually(lambda: loopback.age_seconds < PERIOD_SECONDS / 2)
        stranger = LoopbackCheck("ingest")
        received: list[bytes] = []
        options = SessionOptions(
            endpoint=session.options.endpoint, client_id="other", loopback_topic=loopback.topic
        )
        listening = asyncio.create_task(Session(options, on_loopback=received.append).run())
        await eventually(lambda: bool(received))
        listening.cancel()
        for payload in received:
            stranger.on_message(payload)
        assert stranger.age_seconds == math.inf


@pytest.mark.parametrize("payload", [b"", b"x", b" ", b"\xff \xff", b"token nan", b"token 1e999"])
def test_any_other_payload_is_ignored(payload: bytes) -> None:
    loopback = LoopbackCheck("ingest")
    loopback.on_message(payload.replace(b"token", loopback._token))
    assert loopback.age_seconds == math.inf
