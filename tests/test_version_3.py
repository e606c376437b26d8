"""MQTT 3.1.1: its packets as the standard writes them, and sessions with such a broker."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import mqtt5
import pytest

from echo_ingest.mqtt import Session, SessionOptions, inbox, version_3
from echo_ingest.mqtt.inbox import HeldMessages
from echo_ingest.mqtt.packets import packet_bytes
from echo_ingest.record import PROPERTIES_BYTES_MAX
from echo_ingest.settings import Endpoint, MqttVersion
from tests.harness import Device
from tests.plain_broker import PlainBroker

QOS_0, QOS_1 = mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE
CONNACK, CONNACK_WITH_SESSION = b"\x20\x02\x00\x00", b"\x20\x02\x01\x00"


# ---------------------------------------------------------------------- packets


def test_packets_are_written_as_the_standard_has_them() -> None:
    connect = mqtt5.ConnectPacket(
        "ab", username="me", password=b"pw", clean_start=False, keep_alive=20, receive_max=7
    )
    assert version_3.encode(connect) == (
        b"\x10\x16\x00\x04MQTT\x04\xc0\x00\x14\x00\x02ab\x00\x02me\x00\x02pw"
    )
    bare = mqtt5.ConnectPacket("", clean_start=True)
    assert version_3.encode(bare) == b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"
    filters = [mqtt5.TopicFilter("a/#", max_qos=QOS_1), mqtt5.TopicFilter("b", max_qos=QOS_0)]
    assert version_3.encode(mqtt5.SubscribePacket(10, filters)) == (
        b"\x82\x0c\x00\x0a\x00\x03a/#\x01\x00\x01b\x00"
    )
    publish = mqtt5.PublishPacket(
        "a/b", b"x" * 200, qos=QOS_1, packet_id=5, retain=True, user_properties=[("k", "v")]
    )
    assert version_3.encode(publish) == b"\x33\xcf\x01\x00\x03a/b\x00\x05" + b"x" * 200
    assert version_3.of_version_5(mqtt5.PublishPacket("a", b"x").write()) == b"\x30\x04\x00\x01ax"
    assert version_3.encode(mqtt5.PingReqPacket()) == b"\xc0\x00"
    assert version_3.encode(mqtt5.DisconnectPacket()) == b"\xe0\x00"


def test_packets_are_read_with_what_follows_left_alone() -> None:
    stream = b"\x3b\x09\x00\x03a/b\x00\x05xy" + b"\x30\x03\x00\x01a" + b"\x20\x02\x01\x00"
    first, size = version_3.read(memoryview(stream))
    assert isinstance(first, mqtt5.PublishPacket)
    assert (first.topic, first.payload, first.packet_id) == ("a/b", b"xy", 5)
    assert (first.qos, first.duplicate, first.retain, size) == (QOS_1, True, True, 11)
    second, size = version_3.read(memoryview(stream[11:]))
    assert isinstance(second, mqtt5.PublishPacket)
    assert (second.topic, second.payload, second.packet_id, size) == ("a", b"", None, 5)
    third, _ = version_3.read(memoryview(stream[16:]))
    assert isinstance(third, mqtt5.ConnAckPacket)
    assert third.session_present


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (1, "UNSUPPORTED_PROTOCOL_VERSION"),
        (2, "CLIENT_ID_NOT_VALID"),
        (3, "SERVER_UNAVAILABLE"),
        (4, "BAD_USER_NAME_OR_PASSWORD"),
        (5, "NOT_AUTHORIZED"),
        (77, "UNSPECIFIED_ERROR"),
    ],
)
def test_a_refused_connection_is_called_as_in_version_5(code: int, name: str) -> None:
    packet, _ = version_3.read(memoryview(b"\x20\x02\x00" + bytes([code])))
    assert isinstance(packet, mqtt5.ConnAckPacket)
    assert packet.reason_code.name == name


@pytest.mark.parametrize("size", range(11))
def test_a_packet_that_is_cut_off_is_not_read_yet(size: int) -> None:
    with pytest.raises(IndexError):
        version_3.read(memoryview(b"\x3b\x09\x00\x03a/b\x00\x05xy"[:size]))


@pytest.mark.parametrize(
    "packet",
    [
        b"\x30\x03\x00\x09a",
        b"\x36\x05\x00\x01a\x00\x01",
        b"\x20\x03\x00\x00\x00",
        b"\xf0\x00",
        b"\x30" + b"\xff" * 4,
    ],
)
def test_a_malformed_packet_is_not_read(packet: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        version_3.read(memoryview(packet))


def test_a_topic_that_is_not_utf_8_is_kept_with_its_message() -> None:
    packet, _ = version_3.read(memoryview(b"\x30\x05\x00\x02a\xffx"))
    assert isinstance(packet, mqtt5.PublishPacket)
    assert (packet.topic, packet.payload) == ("a\ufffd", b"x")


# ---------------------------------------------------------------------- with a scripted broker


class Scripted:
    """A broker of 3.1.1 that keeps our session, answers SUBSCRIBE at QoS 1, and sends `packets`."""

    def __init__(self, *packets: bytes, connack: bytes = CONNACK) -> None:
        self.packets, self.connack = packets, connack
        self.got: list[bytes] = []
        self.connections = 0
        self.hang_up = asyncio.Event()

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        buffer = b""
        while data := await _either(reader.read(1_000), self.hang_up):
            buffer += data
            while (size := packet_bytes(memoryview(buffer))) and size <= len(buffer):
                packet, buffer = buffer[:size], buffer[size:]
                self.got.append(packet)
                if packet[0] == 0x10:
                    writer.write(self.connack)
                elif packet[0] == 0x82:
                    writer.write(b"\x90\x03" + packet[2:4] + b"\x01" + b"".join(self.packets))
                elif packet[0] == 0xC0:
                    writer.write(b"\xd0\x00")
        self.hang_up.clear()
        writer.close()

    def kinds(self) -> list[int]:
        return [packet[0] for packet in self.got if packet[0] != 0xC0]


async def _either(reading: object, event: asyncio.Event) -> bytes:
    waiting = [asyncio.ensure_future(reading), asyncio.ensure_future(event.wait())]  # type: ignore[call-overload]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    result: bytes = b"" if event.is_set() else waiting[0].result()
    for each in waiting:
        each.cancel()
    return result


@asynccontextmanager
async def connected(broker: Scripted, version: MqttVersion = "3.1.1") -> AsyncIterator[Session]:
    server = await asyncio.start_server(broker.play, "127.0.0.1", 0)
    session = Session(
        SessionOptions(
            endpoint=Endpoint("mqtt", "127.0.0.1", server.sockets[0].getsockname()[1]),
            client_id="ours",
            version=version,
            topic_filters=("a/#",),
            session_expiry_seconds=600,
        )
    )
    running = asyncio.create_task(session.run())
    try:
        yield session
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()


async def poll(look: object) -> None:
    async with asyncio.timeout(15):
        while not look():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_messages_are_acknowledged_and_a_large_one_keeps_its_bytes() -> None:
    """In MQTT 5, the first bytes of these payloads would be the length of their properties."""
    large = b"\xff\xff\xff\x01" + b"x" * (PROPERTIES_BYTES_MAX + 70_000)
    packets = [
        version_3.encode(mqtt5.PublishPacket("a/b", payload, qos=QOS_1, packet_id=number))
        for number, payload in enumerate((b"{}", large, b"", b"\x05abcdefg"), 1)
    ]
    broker = Scripted(*packets)
    async with connected(broker) as session, asyncio.timeout(15):
        payloads: list[bytes] = []
        while len(payloads) < len(packets):
            batch = await session.receive(10, 0.01)
            payloads += [message.payload for message in batch.messages]
            assert not any(message.properties_cut for message in batch.messages)
            assert session.ack(batch)
        assert payloads == [b"{}", large, b"", b"\x05abcdefg"]
        await poll(
            lambda: broker.kinds().count(0x40) == len(packets) or b"\x40\x02\x00\x04" in broker.got
        )
    assert [packet for packet in broker.got if packet[0] == 0x40] == [
        b"\x40\x02\x00" + bytes([number]) for number in (1, 2, 3, 4)
    ]
    assert broker.got[0][8:10] == b"\x04\x00", "level 4, and the session is kept"
    await poll(lambda: broker.got[-1] == b"\xe0\x00")


async def test_a_session_that_the_broker_has_kept_is_not_subscribed_to_again() -> None:
    """Each SUBSCRIBE would bring all retained messages once more."""
    broker = Scripted(connack=CONNACK_WITH_SESSION)
    async with connected(broker) as session:
        await poll(lambda: session.is_connected)
        assert broker.kinds() == [0x10, 0x82]
        broker.hang_up.set()
        await poll(lambda: session.reconnects == 1 and session.is_connected)
        assert broker.kinds() == [0x10, 0x82, 0x10]
        broker.connack = CONNACK
        broker.hang_up.set()
        await poll(lambda: session.reconnects == 2 and session.is_connected)
        assert broker.kinds() == [0x10, 0x82, 0x10, 0x10, 0x82]


async def test_a_broker_that_speaks_the_older_version_only_is_reported_with_the_remedy() -> None:
    async with connected(Scripted(connack=b"\x20\x02\x00\x01"), "5") as session:
        await poll(lambda: 'version = "3.1.1"' in session.state)
        assert session.state.startswith("the broker does not speak MQTT 5")


# ---------------------------------------------------------------------- with a real broker


@pytest.fixture
def broker(mosquitto: Path, tmp_path: Path) -> Iterator[PlainBroker]:
    broker = PlainBroker(mosquitto, tmp_path)
    broker.start()
    yield broker
    broker.stop()


@asynccontextmanager
async def at(broker: PlainBroker, held: HeldMessages, topic: str) -> AsyncIterator[Session]:
    session = Session(
        SessionOptions(
            endpoint=Endpoint("mqtt", "127.0.0.1", broker.ports["mqtt"]),
            client_id=f"ours-{topic}",
            version="3.1.1",
            topic_filters=(f"{topic}/#",),
            session_expiry_seconds=600,
        ),
        held=held,
    )
    running = asyncio.create_task(session.run())
    try:
        async with asyncio.timeout(15):
            await session.wait_connected()
        yield session
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_sessions_share_one_limit_and_go_on_together(
    broker: PlainBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "HELD_MESSAGES_MAX", 10)
    held = HeldMessages()
    async with at(broker, held, "a") as first, at(broker, held, "b") as second:
        device = Device(broker.ports["mqtt"], None)
        await asyncio.to_thread(device.publish, [("a/x", b"%d" % n) for n in range(10)])
        await poll(lambda: held.is_full)
        await asyncio.to_thread(device.publish, [("b/x", b"1"), ("b/x", b"2")])
        async with asyncio.timeout(15):
            batch = await second.receive(10, 0.01)
            assert held.is_full
            await asyncio.to_thread(device.publish, [("b/x", b"3")])
            batches = [batch, await first.receive(10, 0.01)]
            assert sum(len(each.messages) for each in batches) >= 11
            for session, each in zip((second, first), batches, strict=True):
                assert session.ack(each)
            assert not held.is_full
            payloads = [message.payload for message in batch.messages]
            while payloads[-1] != b"3":
                batch = await second.receive(10, 0.01)
                payloads += [message.payload for message in batch.messages]
                assert second.ack(batch)
        assert payloads == [b"1", b"2", b"3"]
        assert (held.messages, held.bytes) == (0, 0)
        device.close()
