"""What a broker grants is compared with what the promise needs, and said if it is too little."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mqtt5
import pytest
from structlog.testing import capture_logs

from echo_ingest.mqtt import PublishRefused, Session, SessionOptions, granted
from echo_ingest.mqtt import session as session_module
from echo_ingest.mqtt.packets import packet_bytes
from echo_ingest.settings import Endpoint
from tests.harness import Device, Harness, eventually
from tests.plain_broker import PlainBroker

FILTERS = ("iotingestion/#", "reserve/+/audio")
GRANTED = mqtt5.SubAckReasonCode
DAY = 86_400


class Scripted:
    """A broker that answers CONNECT and SUBSCRIBE as a test says, and PINGREQ as it must."""

    def __init__(self, connack: mqtt5.ConnAckPacket, *codes: Any) -> None:
        self.connack, self.codes = connack, codes or (GRANTED.GRANTED_QOS_AT_LEAST_ONCE,) * 2
        self.packets: list[mqtt5.Packet] = []
        self.times: list[float] = []

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        buffer = b""
        while data := await reader.read(1_000):
            buffer += data
            while size := packet_bytes(memoryview(buffer)):
                if size > len(buffer):
                    break
                packet, _ = mqtt5.read(memoryview(buffer))
                buffer = buffer[size:]
                self.packets.append(packet)
                self.times.append(asyncio.get_running_loop().time())
                if isinstance(packet, mqtt5.ConnectPacket):
                    writer.write(self.connack.write())
                elif isinstance(packet, mqtt5.SubscribePacket):
                    writer.write(mqtt5.SubAckPacket(packet.packet_id, list(self.codes)).write())
                elif isinstance(packet, mqtt5.PingReqPacket):
                    writer.write(mqtt5.PingRespPacket().write())
        writer.close()


@asynccontextmanager
async def connected(broker: Scripted, **changes: Any) -> AsyncIterator[Session]:
    """Run a durable session at `broker`, and wait until it knows what it is granted."""
    server = await asyncio.start_server(broker.play, "127.0.0.1", 0)
    options: dict[str, Any] = {
        "endpoint": Endpoint("mqtt", "127.0.0.1", server.sockets[0].getsockname()[1]),
        "client_id": "echo-ingest-0fd5c19a74",
        "topic_filters": FILTERS,
        "session_expiry_seconds": 7 * DAY,
    }
    session = Session(SessionOptions(**options | changes))
    before = session.state
    running = asyncio.create_task(session.run())
    try:
        async with asyncio.timeout(15):
            while session.state == before:
                await asyncio.sleep(0.01)
        yield session
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()


QOS_0 = mqtt5.QoS.AT_MOST_ONCE
TOO_LITTLE: dict[str, tuple[dict[str, Any], str]] = {
    "expiry": (
        {"session_expiry_interval": DAY},
        r"for 86,400 s, and not for 604,800 s: .*IOT_SESSION_EXPIRY_SECONDS=86400",
    ),
    "no expiry": ({"session_expiry_interval": 0}, r"for 0 s.*: let it keep sessions longer$"),
    "qos": ({"max_qos": QOS_0}, r"QoS 0 only.*allow QoS 1"),
    "another name": ({"assigned_client_id": "theirs"}, r"replaced the client id"),
    "no receipt": ({"max_packet_size": 65_535}, r"at most 65,535 bytes, and a receipt"),
}


@pytest.mark.parametrize("case", TOO_LITTLE)
async def test_too_little_is_said_with_the_remedy(case: str) -> None:
    changes, words = TOO_LITTLE[case]
    with capture_logs() as lines:
        async with connected(Scripted(mqtt5.ConnAckPacket(**changes))) as session:
            assert session.is_connected, "what arrives is taken nevertheless"
            assert session.shortfall is not None
            assert session.shortfall.startswith("the broker grants too little: ")
            (told,) = [line for line in lines if line["event"] == "too little granted"]
            assert told["reason"] == session.shortfall
            assert re.search(words, session.shortfall)


async def test_what_is_granted_in_full_or_needed_by_nobody_is_no_shortfall() -> None:
    enough = mqtt5.ConnAckPacket(
        session_expiry_interval=7 * DAY,
        receive_max=1,
        max_packet_size=65_536,
        max_qos=mqtt5.QoS.AT_LEAST_ONCE,
        retain_available=False,
        shared_subscription_available=False,
        subscription_id_available=False,
    )
    async with connected(Scripted(enough)) as session:
        assert session.shortfall is None
    less = mqtt5.ConnAckPacket(session_expiry_interval=0, max_qos=QOS_0, max_packet_size=100)
    codes = (GRANTED.GRANTED_QOS_AT_MOST_ONCE,) * 2
    async with connected(Scripted(less, *codes), session_expiry_seconds=0) as session:
        assert session.shortfall is None, "this session ends with its connection anyhow"


async def test_a_size_that_was_asked_for_has_to_be_taken() -> None:
    connack = mqtt5.ConnAckPacket(max_packet_size=2_000_000)
    async with connected(Scripted(connack)) as session:
        assert session.shortfall is None
    async with connected(Scripted(connack), payload_bytes_max=2_000_000) as session:
        assert session.shortfall is None
    async with connected(Scripted(connack), payload_bytes_max=2_000_001) as session:
        assert session.shortfall is not None
        assert session.shortfall.endswith("or set IOT_PAYLOAD_BYTES_MAX=2000000")


async def test_each_filter_is_needed_at_qos_1() -> None:
    codes = (GRANTED.GRANTED_QOS_AT_LEAST_ONCE, GRANTED.GRANTED_QOS_AT_MOST_ONCE)
    async with connected(Scripted(mqtt5.ConnAckPacket(), *codes)) as session:
        assert session.shortfall is not None
        assert "granted reserve/+/audio at QoS 0 only" in session.shortfall


async def test_an_answer_that_leaves_a_filter_out_ends_nothing_but_the_connection() -> None:
    broker = Scripted(mqtt5.ConnAckPacket(), GRANTED.GRANTED_QOS_AT_LEAST_ONCE)
    async with connected(broker) as session:
        assert "answered 1 of our 2 subscriptions" in session.state
        assert not session.is_connected


async def test_where_wildcards_are_not_taken_nothing_is_subscribed_to() -> None:
    broker = Scripted(mqtt5.ConnAckPacket(wildcard_subscription_available=False))
    async with connected(broker) as session:
        assert "no subscription with wildcards, such as iotingestion/#" in session.state
    assert not [each for each in broker.packets if isinstance(each, mqtt5.SubscribePacket)]


async def test_the_broker_is_asked_again_until_it_grants_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "ASK_AGAIN_SECONDS", 0.02)
    broker = Scripted(mqtt5.ConnAckPacket(session_expiry_interval=0))
    with capture_logs() as lines:
        async with connected(broker) as session, asyncio.timeout(15):
            while session.reconnects < 3:
                assert session.shortfall is not None
                assert session.state in ("connected", "stopped", session.shortfall)
                await asyncio.sleep(0.01)
            broker.connack = mqtt5.ConnAckPacket()
            while session.shortfall is not None:
                await asyncio.sleep(0.01)
            await session.wait_connected()
    events = [line["event"] for line in lines if line["event"] != "connected"]
    assert events == ["too little granted", "enough granted"]
    connects = [each for each in broker.packets if isinstance(each, mqtt5.ConnectPacket)]
    assert not any(each.clean_start for each in connects)


async def test_a_shorter_keep_alive_of_the_broker_counts() -> None:
    broker = Scripted(mqtt5.ConnAckPacket(server_keep_alive=1))
    async with connected(broker), asyncio.timeout(15):
        while sum(isinstance(each, mqtt5.PingReqPacket) for each in broker.packets) < 4:
            await asyncio.sleep(0.01)
    pings = [
        at
        for at, each in zip(broker.times, broker.packets, strict=True)
        if isinstance(each, mqtt5.PingReqPacket)
    ]
    assert max(later - at for at, later in itertools.pairwise(pings)) < 1.0


@pytest.mark.parametrize(("server", "seconds"), [(None, 20), (0, 20), (30, 20), (20, 20), (7, 7)])
def test_a_keep_alive_is_never_longer_than_ours(server: int | None, seconds: int) -> None:
    connack = mqtt5.ConnAckPacket(server_keep_alive=server)
    assert granted.keep_alive_seconds(connack, 20) == seconds


async def test_what_the_broker_does_not_take_is_not_sent() -> None:
    """A broker disconnects whoever sends it more [MQTT-3.2.2-15], or at another QoS."""
    broker = Scripted(mqtt5.ConnAckPacket(max_packet_size=70_000, max_qos=QOS_0))
    async with connected(broker) as session:
        with pytest.raises(PublishRefused, match="takes nothing at QoS 1"):
            await session.publish("iotreceipts/a", b"1")
        packets = [
            mqtt5.PublishPacket("iotreceipts/a", b"x" * size).write()
            for size in (10, 70_000 - 20, 70_000)
        ]
        assert len(packets[1]) == 70_000
        assert session.offer(packets) == 2
    # the end of the session waits for a PINGRESP, so the broker has read what came before
    sent = [len(each.payload) for each in broker.packets if isinstance(each, mqtt5.PublishPacket)]
    assert sent == [10, 70_000 - 20]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (mqtt5.ConnAckReasonCode.CLIENT_ID_NOT_VALID, "set IOT_CLIENT_ID"),
        (mqtt5.ConnAckReasonCode.BANNED, "refused us: … is not welcome"),
    ],
)
async def test_a_name_that_is_not_taken_is_said_without_the_name(
    code: mqtt5.ConnAckReasonCode, words: str
) -> None:
    refused = mqtt5.ConnAckPacket(
        reason_code=code, reason_str="echo-ingest-0fd5c19a74 is not welcome"
    )
    async with connected(Scripted(refused)) as session:
        assert words in session.state
        assert "0fd5c19a74" not in session.state


# ---------------------------------------------------------------------- with a real mosquitto


@pytest.fixture
def elsewhere(mosquitto: Path, tmp_path: Path) -> Iterator[PlainBroker]:
    broker = PlainBroker(mosquitto, tmp_path)
    yield broker
    broker.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "settings", "words"),
    [
        ("max_qos 0", {}, "allow QoS 1 (mosquitto: max_qos 1)"),
        ("max_packet_size 20000", {}, "raise that limit (mosquitto: max_packet_size)"),
        (
            "max_packet_size 2000000",
            {"IOT_PAYLOAD_BYTES_MAX": "3000000"},
            "set IOT_PAYLOAD_BYTES_MAX=2000000",
        ),
    ],
)
def test_a_mosquitto_that_grants_too_little_is_not_called_healthy(
    elsewhere: PlainBroker, tmp_path: Path, line: str, settings: Any, words: str
) -> None:
    elsewhere.configure(line)
    elsewhere.start()
    port = elsewhere.ports["mqtt"]
    harness = Harness(tmp_path / "data", IOT_ENDPOINT=f"127.0.0.1:{port}", **settings)
    try:
        harness.start("run")
        for page in ("/readyz", "/healthz"):
            problems = eventually(lambda page=page: harness.http(page)[1]["problems"])  # type: ignore[misc]
            eventually(lambda page=page: words in harness.http(page)[1]["problems"]["session"])  # type: ignore[misc]
            assert harness.http(page)[0] == 503, problems
        device = Device(port, None)
        device.begin(mqtt5.PublishPacket("iotingestion/ridge-07", b'{"status": "on"}').write())
        eventually(lambda: harness.ledger_now()["stored"] == 1)
        done = harness.cli("check")
        assert (done.returncode, words in done.stdout) == (1, True)

        elsewhere.stop()
        elsewhere.configure()
        elsewhere.start()
        eventually(lambda: harness.http("/healthz")[0] == 200)
    finally:
        harness.close()


@pytest.mark.slow
def test_a_mosquitto_that_keeps_nothing_retained_and_wants_pings_often_is_healthy(
    elsewhere: PlainBroker, tmp_path: Path
) -> None:
    elsewhere.configure(
        "retain_available false",
        "max_keepalive 10",
        "max_inflight_messages 3",
        "max_packet_size 2000000",
    )
    elsewhere.start()
    harness = Harness(tmp_path / "data", IOT_ENDPOINT=f"127.0.0.1:{elsewhere.ports['mqtt']}")
    try:
        harness.wait_healthy(harness.start("run"))
        done = harness.cli("check")
        assert (done.returncode, "devices that send more than 2.0 MB" in done.stdout) == (0, True)
    finally:
        harness.close()
