"""The rules of the session: with a real mosquitto, and a scripted peer for what no broker does."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import mqtt5
import msgspec
import pytest

from echo_ingest.mqtt import (
    Batch,
    ConnectionLost,
    OptionNames,
    PublishRefused,
    Session,
    SessionOptions,
    packets,
)
from echo_ingest.mqtt import session as session_room
from echo_ingest.mqtt.connection_errors import describe
from echo_ingest.mqtt.inbox import HELD_BYTES_MAX, HELD_MESSAGES_MAX, Inbox
from echo_ingest.mqtt.outbox import Outbox
from echo_ingest.mqtt.packets import encode
from echo_ingest.record import Message, memory_bytes
from echo_ingest.settings import Endpoint
from echo_ingest.settings.endpoint import Scheme
from tests.harness import Device
from tests.plain_broker import PlainBroker

FILTER = "iotingestion/#"


async def poll(look: Callable[[], Awaitable[bool]], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not await look():
            await asyncio.sleep(0.02)


@pytest.fixture
async def broker(mosquitto: Path, tmp_path: Path) -> AsyncIterator[PlainBroker]:
    broker = PlainBroker(mosquitto, tmp_path)
    broker.start()
    yield broker
    broker.stop()


def options(broker: PlainBroker, scheme: Scheme = "mqtt", **changes: object) -> SessionOptions:
    path = "/mqtt" if scheme.startswith("ws") else ""
    chosen: dict[str, object] = {
        "endpoint": Endpoint(scheme, "127.0.0.1", broker.ports[scheme], path),
        "client_id": "echo-ingest",
        "topic_filters": (FILTER,),
        "session_expiry_seconds": 600,
        "tls_ca_file": broker.folder / "ca.pem",
    }
    return SessionOptions(**chosen | changes)  # type: ignore[arg-type]


@asynccontextmanager
async def running(session: Session) -> AsyncIterator[Session]:
    task = asyncio.create_task(session.run())
    try:
        async with asyncio.timeout(15):
            await session.wait_connected()
        yield session
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def batch_of(session: Session, count: int) -> Batch:
    """Receive one batch of exactly `count` messages."""
    async with asyncio.timeout(20):
        batch = await session.receive(count, 10.0)
    assert len(batch.messages) == count
    return batch


def publish(broker: PlainBroker, numbers: range, size: int = 0) -> None:
    device = Device(broker.ports["mqtt"], None)
    device.publish([("iotingestion/a", b"%d " % n + b"x" * size) for n in numbers])
    device.close()


def numbers(batch: Batch) -> list[int]:
    return [int(message.payload.split()[0]) for message in batch.messages]


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "ws", "wss"])
async def test_messages_come_in_order_over_every_transport(
    broker: PlainBroker, scheme: Scheme
) -> None:
    received: list[bytes] = []
    with_loopback = options(broker, scheme, loopback_topic="iotprobe/me")
    async with running(Session(with_loopback, on_loopback=received.append)) as session:
        await asyncio.to_thread(publish, broker, range(500))
        await session.publish("iotingestion/a", b"500 " + b"y" * 80_000, properties=[("k", "v")])
        batch = await batch_of(session, 501)
        assert numbers(batch) == list(range(501))
        assert batch.messages[-1].properties == (("k", "v"),)
        assert session.ack(batch)
        await session.publish("iotprobe/me", b"here", qos=mqtt5.QoS.AT_MOST_ONCE)
        await poll(lambda: _true(received == [b"here"]))


async def _true(value: bool) -> bool:
    return value


async def test_what_was_not_acknowledged_comes_again_and_what_was_does_not(
    broker: PlainBroker,
) -> None:
    async with running(Session(options(broker))) as session:
        await asyncio.to_thread(publish, broker, range(20))
        first = await batch_of(session, 10)
        await batch_of(session, 10)  # never acknowledged
        session.ack(first)
    async with running(Session(options(broker))) as session:
        again = await batch_of(session, 10)
        assert numbers(again) == list(range(10, 20))
        assert all(message.redelivered for message in again.messages)


async def test_the_broker_keeps_messages_while_we_are_away_and_says_it_did(
    broker: PlainBroker,
) -> None:
    present: list[bool] = []
    async with running(Session(options(broker), on_connected=present.append)):
        pass
    await asyncio.to_thread(publish, broker, range(3_000))
    async with running(Session(options(broker), on_connected=present.append)) as session:
        assert numbers(await batch_of(session, 3_000)) == list(range(3_000))
    assert present == [False, True]


async def test_an_ack_of_a_lost_connection_is_void(broker: PlainBroker) -> None:
    async with running(Session(options(broker))) as session:
        await asyncio.to_thread(publish, broker, range(5))
        batch = await batch_of(session, 5)
        assert session._link is not None
        session._link.abort()
        await poll(lambda: _true(session.reconnects == 1))
        assert not session.ack(batch)
        again = await batch_of(session, 5)
        assert session.ack(again)


async def test_a_broker_that_comes_back_is_found_again(broker: PlainBroker) -> None:
    async with running(Session(options(broker))) as session:
        broker.stop()
        await poll(lambda: _true(not session.is_connected))
        broker.start()
        await poll(lambda: _true(session.is_connected))


async def test_a_publish_that_was_not_answered_says_so(broker: PlainBroker) -> None:
    async with running(Session(options(broker, topic_filters=()))) as session:
        broker.process.send_signal(signal.SIGSTOP)
        sending = asyncio.create_task(session.publish("iotingestion/a", b"1"))
        await asyncio.sleep(0)
        assert session._link is not None
        session._link.abort()
        with pytest.raises(ConnectionLost):
            await sending


@pytest.mark.slow
async def test_a_second_client_with_our_id_is_recognised_and_not_fought(
    broker: PlainBroker,
) -> None:
    async with (
        running(Session(options(broker))) as first,
        running(Session(options(broker))) as second,
    ):
        # 2.1 reports it at once; 2.0 only closes the connection, again and again.
        await poll(lambda: _true("client id" in first.state or "client id" in second.state), 40)
        loser, winner = (first, second) if "client id" in first.state else (second, first)
        await poll(lambda: _true(winner.is_connected))
        reconnects = loser.reconnects + winner.reconnects
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loser.wait_connected(), 6.0)
        assert winner.is_connected
        assert loser.reconnects + winner.reconnects == reconnects


async def test_an_untrusted_certificate_is_refused_in_words(broker: PlainBroker) -> None:
    session = Session(options(broker, "mqtts", tls_ca_file=None))
    task = asyncio.create_task(session.run())
    await poll(lambda: _true("certificate" in session.state.lower()))
    task.cancel()


# ---------------------------------------------------------------------- a scripted peer

CONNACK = mqtt5.ConnAckPacket().write()
SUBACK = mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]).write()


async def greet(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, suback: bytes = SUBACK
) -> None:
    """Take a CONNECT and a SUBSCRIBE."""
    await reader.read(1_000)
    writer.write(CONNACK)
    await reader.read(1_000)
    writer.write(suback)


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def scripted(
    play: Script,
    filters: tuple[str, ...] = (FILTER,),
    node_of: Callable[[str], str | None] = lambda _topic: None,
) -> AsyncIterator[Session]:
    """Run a session whose broker is `play`, called once for each connection."""
    server = await asyncio.start_server(play, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    session = Session(
        SessionOptions(
            endpoint=Endpoint("mqtt", "127.0.0.1", port),
            client_id="me",
            topic_filters=filters,
            session_expiry_seconds=60,
        ),
        node_of=node_of,
    )
    task = asyncio.create_task(session.run())
    try:
        yield session
    finally:
        if session._link is not None:
            session._link.abort()  # this peer would never answer, so do not wait for it
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.close()


async def test_pubacks_leave_in_the_order_the_messages_came() -> None:
    received = asyncio.get_running_loop().create_future()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        for packet_id in (9, 4, 7, 1):
            writer.write(
                mqtt5.PublishPacket(
                    "iotingestion/a", b"x", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id
                ).write()
            )
        sent = b""
        while len(sent.split(b"\x40\x02")) < 5:
            sent += await reader.read(1_000)
        received.set_result([int.from_bytes(part[:2]) for part in sent.split(b"\x40\x02")[1:]])

    async with scripted(play) as session:
        session.ack(await batch_of(session, 2))
        session.ack(await batch_of(session, 2))
        assert await asyncio.wait_for(received, 10) == [9, 4, 7, 1]


async def test_an_orderly_end_waits_until_the_broker_has_read_the_acknowledgements() -> None:
    """A broker that finds the connection closed drops what it has not read."""
    sent, before_answer = bytearray(), bytearray()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        writer.write(
            mqtt5.PublishPacket(
                "iotingestion/a", b"x", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=7
            ).write()
        )
        while data := await reader.read(1_000):
            sent.extend(data)
            if sent.count(packets.PINGREQ) == 2 and not before_answer:  # one is sent at the start
                before_answer.extend(sent)
                writer.write(mqtt5.PingRespPacket().write())

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint = Endpoint("mqtt", "127.0.0.1", port)
    session = Session(
        SessionOptions(
            endpoint=endpoint,
            client_id="me",
            topic_filters=(FILTER,),
            session_expiry_seconds=60,
        )
    )
    async with running(session):
        assert session.ack(await batch_of(session, 1))
    puback, goodbye = b"\x40\x02\x00\x07", mqtt5.DisconnectPacket().write()
    await poll(lambda: _true(sent.endswith(goodbye)))
    server.close()
    assert 0 <= before_answer.find(puback) < before_answer.rfind(packets.PINGREQ)
    assert sent == before_answer + goodbye


async def test_it_stops_reading_at_its_own_limit_whatever_the_broker_sends() -> None:
    total = HELD_MESSAGES_MAX + 30_000

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        for number in range(total):
            writer.write(
                mqtt5.PublishPacket(
                    "iotingestion/a", b"%d " % number + b"x" * 200, qos=mqtt5.QoS.AT_LEAST_ONCE,
                    packet_id=number + 1,
                ).write()
            )  # fmt: skip
            await writer.drain()
        await reader.read()

    async with scripted(play) as session:
        await poll(lambda: _true(session._inbox.held.is_full))
        first = await session.receive(total, 0.5)
        assert HELD_MESSAGES_MAX <= len(first.messages) < HELD_MESSAGES_MAX + 5_000
        session.ack(first)
        values = numbers(first)
        while len(values) < total:
            async with asyncio.timeout(20):
                batch = await session.receive(1_000, 0.1)
            values += numbers(batch)
            session.ack(batch)
        assert values == list(range(total))


EMPTY = Message("iotingestion/a", b"", 0)
LARGE = Message("iotingestion/a", bytes(HELD_BYTES_MAX // 16 - memory_bytes(EMPTY)), 0)


@pytest.mark.parametrize(("count", "message"), [(HELD_MESSAGES_MAX, EMPTY), (16, LARGE)])
async def test_it_is_full_at_either_cap_and_has_room_again_at_half_of_it(
    count: int, message: Message
) -> None:
    inbox = Inbox()
    for number in range(1, count + 1):
        assert not inbox.held.is_full
        inbox.put(message, number)
        inbox.wake()
    assert inbox.held.is_full
    messages, packet_ids, taken_bytes = await inbox.take(count, 0.0)
    assert (len(messages), packet_ids) == (count, list(range(1, count + 1)))
    goes_on: list[bool] = []
    inbox.held.on_room.append(lambda: goes_on.append(True))
    for _ in range(count // 2 - 1):
        inbox.held.release(1, taken_bytes // count)
    assert inbox.held.is_full
    assert not goes_on
    inbox.held.release(1, taken_bytes // count)
    assert not inbox.held.is_full
    assert goes_on


async def test_packets_may_be_cut_anywhere() -> None:
    stream = b""
    for number in range(3):
        stream += mqtt5.PublishPacket(
            "iotingestion/a", b"%d " % number + b"x" * 200, qos=mqtt5.QoS.AT_LEAST_ONCE,
            packet_id=number + 1,
        ).write()  # fmt: skip

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        for byte in stream:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()

    async with scripted(play) as session:
        assert numbers(await batch_of(session, 3)) == [0, 1, 2]


NO_SUCH_PROPERTY = b"\x02\x7f\x01"
NOT_UTF_8 = b"\x07\x26\x00\x01\xff\x00\x01v"  # a user property


@pytest.mark.parametrize(
    ("topic", "properties"),
    [
        (b"iotingestion/a", NO_SUCH_PROPERTY),
        (b"iotingestion/a", NOT_UTF_8),
        (b"iotingestion/a\xff", b"\x00"),
    ],
)
async def test_a_publish_the_codec_refuses_is_kept_with_what_can_be_read(
    topic: bytes, properties: bytes
) -> None:
    body = len(topic).to_bytes(2) + topic + (7).to_bytes(2) + properties + b"the payload"
    malformed = bytes([0x32, len(body)]) + body

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        writer.write(malformed)
        await reader.read()

    async with scripted(play) as session:
        batch = await batch_of(session, 1)
        assert batch.messages[0].topic == topic.decode(errors="replace")
        assert batch.messages[0].payload == b"the payload"
        assert batch.packet_ids == [7]


def variable(number: int) -> bytes:
    """Return a Variable Byte Integer [MQTT-1.5.5]."""
    rest, low = divmod(number, 128)
    return bytes([low | 0x80]) + variable(rest) if rest else bytes([low])


@pytest.mark.parametrize(
    "length", [0, 1, 127, 128, 129, 255, 256, 16_383, 16_384, 2_097_151, 2_097_152]
)
def test_a_packet_ends_where_its_length_says(length: int) -> None:
    header = b"\x30" + variable(length)
    assert packets.packet_bytes(memoryview(header + bytes(length + 5))) == len(header) + length
    for size in range(1, len(header)):
        assert packets.packet_bytes(memoryview(header[:size])) == 0


def test_a_length_of_more_than_four_bytes_takes_all_there_is_with_it() -> None:
    assert packets.packet_bytes(memoryview(b"\x30\x80\x80\x80\x80\x01 and more")) == 15


@pytest.mark.parametrize("total", [127, 128, 129, 256, 16_384, 2_097_152])
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("properties_bytes", [0, 3, 100])
def test_a_publish_of_any_size_is_salvaged(total: int, qos: int, properties_bytes: int) -> None:
    head = b"\x00\x01t" + b"\x01\x02" * qos + variable(properties_bytes) + bytes(properties_bytes)
    payload = b"x" * (total - len(head))
    packet = packets.salvage_publish(
        memoryview(bytes([0x30 | qos << 1]) + variable(total) + head + payload)
    )
    assert packet is not None
    assert (packet.topic, packet.packet_id) == ("t", 258 if qos else None)
    assert packet.payload == payload


@pytest.mark.parametrize("properties_bytes", [127, 128, 16_384])
def test_a_publish_with_properties_of_any_size_is_salvaged(properties_bytes: int) -> None:
    body = b"\x00\x01t" + variable(properties_bytes) + bytes(properties_bytes) + b"payload"
    packet = packets.salvage_publish(memoryview(b"\x30" + variable(len(body)) + body))
    assert packet is not None
    assert packet.payload == b"payload"


async def test_qos_0_messages_outlive_the_connection_they_came_by() -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        writer.write(mqtt5.PublishPacket("iotingestion/a", b"1").write())
        writer.write(
            mqtt5.PublishPacket(
                "iotingestion/a", b"2", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1
            ).write()
        )
        await writer.drain()
        writer.close()

    async with scripted(play) as session:
        await poll(lambda: _true("closed" in session.state))
        assert [message.payload for message in session._inbox._messages] == [b"1"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            mqtt5.ConnAckPacket(
                reason_code=mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD
            ).write(),
            "IOT_PASSWORD",
        ),
        (
            mqtt5.DisconnectPacket(
                reason_code=mqtt5.DisconnectReasonCode.SERVER_SHUTTING_DOWN
            ).write(),
            "server shutting down",
        ),
        (b"\x00\x00", "malformed"),
    ],
)
async def test_a_broker_that_rejects_us_is_reported_with_a_remedy(
    answer: bytes, words: str
) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        writer.write(answer)
        await reader.read()

    async with scripted(play) as session:
        await poll(lambda: _true(words in session.state))


def in_words(packet: mqtt5.ConnAckPacket | mqtt5.PubAckPacket) -> str:
    return describe(packet, "", OptionNames())


def test_only_who_is_not_let_in_is_told_to_look_at_name_and_password() -> None:
    refused = mqtt5.ConnAckReasonCode
    for code in (refused.NOT_AUTHORIZED, refused.BAD_USER_NAME_OR_PASSWORD):
        assert in_words(mqtt5.ConnAckPacket(reason_code=code)).endswith("IOT_USER and IOT_PASSWORD")
    for packet in (
        mqtt5.ConnAckPacket(reason_code=refused.SERVER_BUSY),
        mqtt5.PubAckPacket(1, reason_code=mqtt5.PubAckReasonCode.NOT_AUTHORIZED),
    ):
        assert in_words(packet) == packet.reason_code.name.lower().replace("_", " ")
    packet = mqtt5.PubAckPacket(
        1, reason_code=mqtt5.PubAckReasonCode.QUOTA_EXCEEDED, reason_str="the disk is full"
    )
    assert in_words(packet) == "the disk is full"


async def test_a_refused_subscription_is_reported_with_a_remedy() -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refused = mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED]).write()
        await greet(reader, writer, refused)
        await reader.read()

    async with scripted(play) as session:
        await poll(lambda: _true("subscription to iotingestion/#: not auth" in session.state))


async def test_a_refused_publish_says_why() -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        writer.write(CONNACK)
        await reader.read(1_000)
        writer.write(
            mqtt5.PubAckPacket(1, reason_code=mqtt5.PubAckReasonCode.NOT_AUTHORIZED).write()
        )
        await reader.read()

    async with scripted(play, filters=()) as session:
        with pytest.raises(PublishRefused, match="not authorized"):
            await session.publish("elsewhere", b"x")


@pytest.mark.parametrize("seconds", [0, 60])
async def test_a_session_outlives_its_connection_only_where_that_was_asked_for(
    seconds: int,
) -> None:
    connect = asyncio.get_running_loop().create_future()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packet, _ = mqtt5.read(memoryview(await reader.read(1_000)))
        connect.set_result(packet)

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    endpoint = Endpoint("mqtt", "127.0.0.1", server.sockets[0].getsockname()[1])
    asked = SessionOptions(endpoint=endpoint, client_id="me")
    if seconds:
        asked = msgspec.structs.replace(asked, session_expiry_seconds=seconds)
    task = asyncio.create_task(Session(asked).run())
    packet = await asyncio.wait_for(connect, 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    server.close()
    assert packet.session_expiry_interval == seconds
    assert packet.clean_start == (seconds == 0)


async def test_a_broker_that_does_not_answer_a_ping_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_room, "KEEP_ALIVE_SECONDS", 1)
    met = 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal met
        met += 1
        await greet(reader, writer)
        await reader.read(-1)

    async with scripted(play) as session:
        await poll(lambda: _true("the broker sent nothing for 2 s" in session.state))
        await poll(lambda: _true(met == 2))


async def test_no_more_publishes_are_under_way_than_the_broker_takes() -> None:
    sent: list[bytes] = []

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        writer.write(mqtt5.ConnAckPacket(receive_max=2).write())
        unanswered: list[int] = []
        while data := await reader.read(10_000):
            while data:
                packet, size = mqtt5.read(memoryview(data))
                data = data[size:]
                if isinstance(packet, mqtt5.PublishPacket):
                    assert packet.packet_id is not None
                    sent.append(packet.payload)
                    unanswered.append(packet.packet_id)
            assert len(unanswered) <= 2
            if len(unanswered) == 2 or len(sent) == 5:
                for packet_id in unanswered:
                    writer.write(mqtt5.PubAckPacket(packet_id).write())
                unanswered.clear()

    async with scripted(play, filters=()) as session, asyncio.timeout(10):
        await asyncio.gather(*(session.publish("out", b"%d" % number) for number in range(5)))
    assert sent == [b"%d" % number for number in range(5)]


async def test_packet_ids_begin_at_1_anew_and_leave_out_those_under_way() -> None:
    outbox = Outbox(encode)
    assert [outbox.next_packet_id() for _ in range(3)] == [1, 2, 3]
    outbox.expect_puback(65_535)
    outbox.expect_puback(1)
    assert [outbox.next_packet_id() for _ in range(65_532)] == [*range(4, 65_535), 2]
