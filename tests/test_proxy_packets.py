"""The proxy's pure parts: packets however they are cut, the gate, places, and lines in the log."""

import random
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, pairwise

import mqtt5
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from wsproto import ConnectionType
from wsproto.connection import Connection as ClientFrames
from wsproto.events import BytesMessage

from echo_ingest.broker.node_accounts import node_password
from echo_ingest.proxy.activity import LINES_PER_SECOND_MAX, Activity, Peer, shown
from echo_ingest.proxy.gate import Gate
from echo_ingest.proxy.packets import (
    MALFORMED,
    TOO_LARGE,
    PacketRefused,
    PacketWalker,
    connect_bytes,
    parse_connect,
    refusal,
    write_length,
)
from echo_ingest.proxy.places import (
    KEPT_BYTES_MAX,
    KEPT_BYTES_PER_SECOND,
    HeldBytes,
    KeptBytes,
    Places,
)
from echo_ingest.proxy.websocket import WebSocketLayer
from echo_ingest.settings import PACKET_OVERHEAD_BYTES

PAYLOAD_BYTES_MAX = 300_000
FROM_DEVICES = (3, 4, 5, 6, 7, 8, 10, 12, 14, 15)


def packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + write_length(len(body)) + body


def publish(
    payload: bytes, *, qos: int = 1, properties: bytes | None = b"", topic: bytes = b"a/b"
) -> bytes:
    """Return a PUBLISH; without `properties` it is one of MQTT 3.1.1."""
    body = len(topic).to_bytes(2) + topic + (b"\0\1" if qos else b"")
    if properties is not None:
        body += write_length(len(properties)) + properties
    return packet(0x30 | qos << 1, body + payload)


def chunks(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        yield data[start:end]


# ---------------------------------------------------------------------- what comes after CONNECT

# sizes at the edges of what a length can say in one byte more, and of what is allowed
SIZES = st.one_of(
    st.integers(0, 300),
    st.sampled_from([127, 128, 16_383, 16_384, PACKET_OVERHEAD_BYTES - 1, PACKET_OVERHEAD_BYTES]),
)
GOOD = st.one_of(
    st.builds(
        lambda kind, size: packet(kind << 4, bytes(size)), st.sampled_from((4, 5, 8, 10, 12)), SIZES
    ),
    st.builds(
        lambda size, qos, properties: publish(bytes(size), qos=qos, properties=bytes(properties)),
        st.one_of(SIZES, st.integers(100_000, 250_000)),
        st.integers(0, 2),
        st.sampled_from([0, 1, 127, 128, 20_000, PACKET_OVERHEAD_BYTES - 10]),
    ),
)
BAD_PACKETS = [
    (MALFORMED, packet(0x00, b"")),
    (MALFORMED, packet(0x10, b"")),
    (MALFORMED, packet(0x20, b"\0\0")),
    (MALFORMED, packet(0x90, b"\0\0\0")),
    (MALFORMED, packet(0xD0, b"")),
    (MALFORMED, b"\xc0\x80\x80\x80\x80\x00"),
    (TOO_LARGE, packet(0x82, bytes(PACKET_OVERHEAD_BYTES + 1))),
    (TOO_LARGE, publish(b"", properties=bytes(PACKET_OVERHEAD_BYTES + 1))),
    (TOO_LARGE, publish(bytes(100_000), properties=bytes(PACKET_OVERHEAD_BYTES - 8))),
    (TOO_LARGE, publish(bytes(100_000), topic=bytes(65_535))),
    (TOO_LARGE, publish(bytes(PAYLOAD_BYTES_MAX + PACKET_OVERHEAD_BYTES))),
]
CUTS = st.lists(st.integers(0, 2**32), max_size=30)


class Feeding:
    """What a connection does with a walker: what may not be passed on yet is fed again."""

    def __init__(self, level: int = 5) -> None:
        self.walker = PacketWalker(level, PAYLOAD_BYTES_MAX)
        self.passed = self.fed = 0
        self._rest = b""

    def feed(self, chunk: bytes, *, may_publish: bool = True) -> None:
        data = self._rest + chunk
        self.fed += len(chunk)
        try:
            passed = self.walker.feed(data, may_publish=may_publish)
        except PacketRefused as refused:
            self.passed += refused.good_bytes
            raise
        self.passed += passed
        self._rest = data[passed:]


def edges(packets: list[bytes]) -> list[int]:
    """Return where each packet begins, and where the last one ends."""
    return [0, *accumulate(len(each) for each in packets)]


@settings(max_examples=200, deadline=None)
@given(st.lists(GOOD, max_size=8), CUTS)
def test_what_keeps_within_the_limits_passes_however_it_is_cut(
    packets: list[bytes], cuts: list[int]
) -> None:
    feeding, starts = Feeding(), edges(packets)
    for chunk in chunks(b"".join(packets), cuts):
        feeding.feed(chunk)
        # only a length that is not complete waits
        assert feeding.fed - feeding.passed <= 4
        begun = bisect_right(starts, feeding.passed) - 1
        of_it = feeding.passed - starts[begun]
        is_publish = of_it > 0 and packets[begun][0] >> 4 == 3
        assert feeding.walker.unfinished == (of_it if is_publish else 0)
    assert feeding.passed == starts[-1]
    assert not feeding.walker.said_goodbye


@settings(max_examples=300, deadline=None)
@given(st.lists(GOOD, min_size=1, max_size=8), CUTS, st.integers(0, 30))
def test_at_a_closed_gate_all_passes_that_comes_before_the_next_publish(
    packets: list[bytes], cuts: list[int], closes_before: int
) -> None:
    feeding, stream, starts = Feeding(), b"".join(packets), edges(packets)
    expected = None
    for number, chunk in enumerate(chunks(stream, cuts)):
        if number >= closes_before and expected is None:
            waiting = (
                start
                for start, each in zip(starts, packets, strict=False)
                if start >= feeding.passed and each[0] >> 4 == 3
            )
            expected = next(waiting, len(stream))
        feeding.feed(chunk, may_publish=expected is None)
        if expected is not None:
            # what has begun goes on, and what stands behind the next one waits with it
            assert min(expected, feeding.fed - 4) <= feeding.passed <= expected
    if expected is not None:
        assert feeding.passed == expected
    feeding.feed(b"")
    assert feeding.passed == len(stream)


def test_the_walker_tells_what_messages_may_cost() -> None:
    walker = PacketWalker(5, PAYLOAD_BYTES_MAX)
    message = publish(bytes(1_000), properties=bytes(50))
    walker.feed(message)
    overhead = len(message) - 1_000 - 3
    assert walker.largest_overhead == overhead
    assert walker.cost == 2 * len(message) + 26 * overhead
    walker.cost = 0
    clip = publish(bytes(200_000))
    walker.feed(clip[:100_000])
    assert walker.cost == 0  # what has come of it is counted by itself
    walker.feed(clip[100_000:] + packet(0xC0, b""))
    assert walker.cost == 2 * len(clip) + 26 * overhead
    old = PacketWalker(4, PAYLOAD_BYTES_MAX)
    old.feed(publish(bytes(1_000), properties=None))
    assert old.cost == 2 * len(publish(bytes(1_000), properties=None))


def test_what_asks_for_an_answer_waits_where_too_many_are_missing() -> None:
    walker = PacketWalker(5, PAYLOAD_BYTES_MAX)
    silent = publish(b"x", qos=0) + packet(0x40, b"\0\1") + packet(0x70, b"\0\1")
    assert walker.feed(silent * 10, asked_max=5) == len(silent) * 10
    assert walker.asked == 0
    asking = [publish(b"x", qos=1), publish(b"x", qos=2)]
    asking += [packet(first, b"\0\1") for first in (0x62, 0x82, 0xA2)] + [packet(0xC0, b"")]
    stream = b"".join(asking)
    assert walker.feed(stream, asked_max=5) == len(stream) - 2
    assert walker.feed(stream[-2:], asked_max=5) == 0
    walker.answered(1)
    assert walker.feed(stream[-2:], asked_max=5) == 0
    walker.answered(2)
    assert walker.feed(stream[-2:], asked_max=5) == 2
    clip = publish(bytes(1_000))
    walker.answered(2)
    assert walker.feed(clip[:500], asked_max=5) == 500
    assert walker.feed(clip[500:], asked_max=5) == len(clip) - 500  # it has begun
    walker.answered(1_000_000)
    assert walker.asked == 0


def test_what_is_subscribed_to_is_counted_however_it_is_cut() -> None:
    body = b"\0\1\0" + (len(b"a/b/+/#").to_bytes(2) + b"a/b/+/#\1") * 50
    stream = packet(0x82, body) + packet(0xC0, b"") + publish(b"////", topic=b"a/b/c")
    for cut in range(1, len(stream)):
        feeding = Feeding()
        for chunk in chunks(stream, [cut, cut + 100]):
            feeding.feed(chunk)
        assert feeding.walker.kept_bytes == 25 * len(body) + 750 * 150


def elsewhere(topic: bytes) -> bytes | None:
    return b"below/" + topic if topic.startswith(b"x") else None


class Changing(Feeding):
    """Feeds a walker that changes topics, and keeps what goes to the broker."""

    def __init__(self) -> None:
        super().__init__()
        self.walker = PacketWalker(5, PAYLOAD_BYTES_MAX, elsewhere)
        self.sent = b""

    def feed(self, chunk: bytes, *, may_publish: bool = True) -> None:
        self._rest += chunk
        try:
            passed = self.walker.feed(self._rest, may_publish=may_publish)
        except PacketRefused as refused:
            self.sent += self.walker.passed_on(self._rest, refused.good_bytes)
            raise
        self.sent += self.walker.passed_on(self._rest, passed)
        self._rest = self._rest[passed:]


PLACES = [b"x", b"x" * 1_024, b"a/b", b"a" * 2_000, "xß".encode(), b"xx" * 60]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(PLACES), SIZES, st.integers(0, 2), st.booleans()), max_size=8
    ),
    CUTS,
    st.booleans(),
)
def test_topics_are_changed_and_nothing_is_retained_however_it_is_cut(
    sent: list[tuple[bytes, int, int, bool]], cuts: list[int], small: bool
) -> None:
    stream = expected = packet(0xC0, b"")
    for topic, size, qos, retain in sent:
        message = publish(bytes(size), topic=topic, qos=qos)
        stream += bytes((message[0] | retain,)) + message[1:] + packet(0xC0, b"")
        other = elsewhere(topic) or topic
        expected += publish(bytes(size), topic=other, qos=qos) + packet(0xC0, b"")
    changing = Changing()
    for chunk in chunks(stream, [*range(0, 1_500, 7), *cuts] if small else cuts):
        changing.feed(chunk)
    assert changing.sent == expected


def test_a_topic_that_would_be_changed_has_a_limit_and_what_came_before_it_passes() -> None:
    changing, good = Changing(), publish(b"1", topic=b"x")
    with pytest.raises(PacketRefused, match="1,024 are allowed") as caught:
        changing.feed(good + publish(b"", topic=b"x" * 1_025))
    assert caught.value.code == TOO_LARGE
    assert changing.sent == publish(b"1", topic=b"below/x")
    large = publish(bytes(PAYLOAD_BYTES_MAX + PACKET_OVERHEAD_BYTES), topic=b"x")
    changing = Changing()
    with pytest.raises(PacketRefused):
        changing.feed(good + large)
    assert changing.sent == publish(b"1", topic=b"below/x")


def test_a_session_that_stays_costs_something() -> None:
    def connect(level: int, flags: int, properties: bytes) -> int:
        head = b"\0\4MQTT" + bytes((level, flags)) + b"\0\x3c"
        head += write_length(len(properties)) + properties if level == 5 else b""
        will = b"\0\x64" + b"/" * 100 + b"\0\0" if flags & 4 else b""
        return parse_connect(packet(0x10, head + b"\0\1x" + will)).kept_bytes

    assert connect(4, 2, b"") == connect(5, 0, b"") == connect(5, 2, b"\x21\0\x14") == 0
    assert 5_000 < connect(4, 0, b"") < 6_000
    assert connect(4, 6, b"") == 0  # its last will is not retained
    assert 5_000 < connect(5, 2, b"\x11\0\0\x0e\x10") < 6_000


def test_an_account_may_add_so_much_at_once_and_so_much_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = 1_000.0
    monkeypatch.setattr("time.monotonic", lambda: seconds)
    kept = KeptBytes()
    assert kept.allows(b"a", KEPT_BYTES_MAX)
    assert not kept.allows(b"a", KEPT_BYTES_MAX + 1)
    kept.add(b"a", KEPT_BYTES_MAX)
    assert not kept.allows(b"a", 1_000)
    assert kept.allows(b"b", KEPT_BYTES_MAX)
    seconds += 2
    assert kept.allows(b"a", 2 * KEPT_BYTES_PER_SECOND)
    assert not kept.allows(b"a", 2 * KEPT_BYTES_PER_SECOND + 1_000)
    seconds += 1_000_000
    assert not kept.allows(b"a", KEPT_BYTES_MAX + 1)


CONNECT_HEAD = b"\0\4MQTT\x05\x06\0\x3c\0"


@pytest.mark.parametrize(
    ("client_id", "properties", "topic", "payload"),
    [(257, 10, 10, 10), (10, 257, 10, 10), (10, 10, 10, 4_087), (10, 10, 4_087, 10)],
)
def test_what_stays_with_a_session_is_small(
    client_id: int, properties: int, topic: int, payload: int
) -> None:
    def connect(client_id: int, properties: int, topic: int, payload: int) -> bytes:
        sizes = (client_id, topic, payload)
        first, *rest = (size.to_bytes(2) + b"x" * size for size in sizes)
        will_properties = write_length(properties) + bytes(properties)
        return packet(0x10, CONNECT_HEAD + first + will_properties + b"".join(rest))

    parse_connect(connect(min(client_id, 256), min(properties, 256), 10, 4_086))
    with pytest.raises(PacketRefused, match="are allowed") as caught:
        parse_connect(connect(client_id, properties, topic, payload))
    assert caught.value.code == TOO_LARGE


def test_a_short_packet_that_breaks_off_says_nothing_of_the_next() -> None:
    walker = PacketWalker(5, PAYLOAD_BYTES_MAX)
    walker.feed(packet(0x32, b"\0"))  # its topic is missing: mosquitto will see to that
    clip = publish(bytes(200_000), topic=b"topic")
    walker.feed(clip[:5])
    walker.feed(clip[5:])
    assert walker.largest_overhead == 2 + 5 + 2 + 1


@settings(max_examples=200, deadline=None)
@given(st.lists(GOOD, max_size=4), st.sampled_from(BAD_PACKETS), CUTS)
def test_what_breaks_a_limit_is_found_before_its_payload_however_it_is_cut(
    packets: list[bytes], bad: tuple[int, bytes], cuts: list[int]
) -> None:
    feeding = Feeding()
    before, (code, last) = b"".join(packets), bad
    with pytest.raises(PacketRefused) as caught:
        for chunk in chunks(before + last, cuts):
            feeding.feed(chunk)
    assert caught.value.code == code
    passed = feeding.passed
    # all that is good has passed, and of the rest no more than a header, or a topic without an end
    assert len(before) <= passed <= len(before) + (65_540 if code == TOO_LARGE else 5)


@pytest.mark.parametrize("number", range(len(BAD_PACKETS)))
def test_what_breaks_a_limit_is_found_wherever_its_beginning_is_cut(number: int) -> None:
    code, bad = BAD_PACKETS[number]
    for cut in (*range(1, 20), *range(65_530, 65_550)):
        feeding = Feeding()
        with pytest.raises(PacketRefused) as caught:
            for chunk in chunks(bad, [cut, cut + 1]):
                feeding.feed(chunk)
        assert caught.value.code == code


def test_thousands_of_packets_in_chunks_of_every_size() -> None:
    rng = random.Random(14)
    packets = [
        publish(bytes(rng.randrange(200)), qos=rng.randrange(3))
        if rng.random() < 0.8
        else packet(rng.choice((4, 8, 12)) << 4, bytes(rng.randrange(200)))
        for _ in range(5_000)
    ]
    stream = b"".join(packets)
    for size in (1, 2, 3, 7, 64, 1_000, 65_536):
        feeding = Feeding(4)
        for start in range(0, len(stream), size):
            feeding.feed(stream[start : start + size])
        feeding.feed(b"\xe0\0")  # it still stands at the beginning of a packet
        assert feeding.walker.said_goodbye


def test_only_mqtt_5_has_properties() -> None:
    clip = b"\xff\xff\xff\x7f" + bytes(200_000)
    PacketWalker(4, PAYLOAD_BYTES_MAX).feed(publish(clip, properties=None))
    with pytest.raises(PacketRefused):
        PacketWalker(5, PAYLOAD_BYTES_MAX).feed(publish(clip, properties=None))


def test_a_packet_that_stops_half_way_keeps_no_more_than_its_beginning() -> None:
    walker = PacketWalker(5, PAYLOAD_BYTES_MAX)
    stream = publish(bytes(200_000), topic=b"a" * 60_000)
    for start in range(0, 50_000, 500):
        walker.feed(stream[start : start + 500])
    assert len(walker._beginning or b"") <= PACKET_OVERHEAD_BYTES + 8


# ---------------------------------------------------------------------- WebSockets


def test_who_sends_many_small_frames_gets_small_chunks() -> None:
    layer, client = WebSocketLayer(), ClientFrames(ConnectionType.CLIENT)
    at_first = layer.chunk_bytes_max
    layer.receive(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
    layer.trusted = True
    for _ in range(20):
        assert layer.receive(client.send(BytesMessage(bytes(500)))) == (bytes(500), b"")
    assert layer.chunk_bytes_max >= 8 * at_first
    layer.receive(client.send(BytesMessage(b"")) * 100)
    assert layer.chunk_bytes_max == at_first


# ---------------------------------------------------------------------- CONNECT

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
CONNECTS = st.builds(
    mqtt5.ConnectPacket,
    client_id=TEXTS.filter(bool),  # the codec makes up one that is empty
    username=st.none() | TEXTS,
    password=st.none() | st.binary(max_size=40),
    clean_start=st.booleans(),
    keep_alive=st.integers(0, 65_535),
    session_expiry_interval=st.integers(0, 2**32 - 1),
    user_properties=st.lists(st.tuples(TEXTS, TEXTS), max_size=5),
    will=st.none()
    | st.builds(
        mqtt5.Will,
        topic=st.text("abü/ ", min_size=1, max_size=40),
        payload=st.binary(max_size=300),
        retain=st.booleans(),
        user_properties=st.lists(st.tuples(TEXTS, TEXTS), max_size=3),
    ),
)


@settings(max_examples=100, deadline=None)
@given(CONNECTS, TEXTS)
def test_connect_is_read_and_gets_other_names(connect: mqtt5.ConnectPacket, user: str) -> None:
    written = connect.write()
    for length in range(1, len(written)):
        size = connect_bytes(written[:length])
        assert size is None if length < 2 else size in (None, len(written))
    parsed = parse_connect(written)
    assert parsed.client_id.decode() == connect.client_id
    assert parsed.user == (None if connect.username is None else connect.username.encode())
    assert parsed.level == 5
    assert parsed.will_topic == (None if connect.will is None else connect.will.topic.encode())
    kept, _ = mqtt5.read(memoryview(parsed.rewritten()))
    assert isinstance(kept, mqtt5.ConnectPacket)
    assert (kept.client_id, kept.username, kept.password) == (
        connect.client_id,
        connect.username,
        connect.password,
    )
    rewritten = parsed.rewritten(
        client_id=b"node:1", will_topic=b"below/it", login=(user.encode(), b"derived")
    )
    changed, size = mqtt5.read(memoryview(rewritten))
    assert size == len(rewritten)
    assert isinstance(changed, mqtt5.ConnectPacket)
    assert (changed.username, changed.password) == (user, b"derived")
    assert changed.client_id == "node:1"
    for name in ("clean_start", "keep_alive", "session_expiry_interval"):
        assert getattr(changed, name) == getattr(connect, name)
    assert changed.user_properties == connect.user_properties
    assert (changed.will is None) == (connect.will is None)
    if changed.will is not None and connect.will is not None:
        assert (changed.will.topic, changed.will.payload, changed.will.user_properties) == (
            "below/it",
            connect.will.payload,
            connect.will.user_properties,
        )
        assert not changed.will.retain


@settings(deadline=None)
@given(CONNECTS, st.integers(0, 2**16), st.integers(0, 255))
def test_a_damaged_connect_is_refused_or_read(
    connect: mqtt5.ConnectPacket, place: int, byte: int
) -> None:
    damaged = bytearray(connect.write())
    damaged[place % len(damaged)] = byte
    try:
        size = connect_bytes(damaged)
        if size == len(damaged):
            parse_connect(bytes(damaged))
    except PacketRefused:
        pass


@pytest.mark.parametrize(
    "begun",
    [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00", b"\x30\x05", b"\x10\x80\x80\x80\x80\x01"],
)
def test_what_is_no_connect_is_refused_at_its_first_bytes(begun: bytes) -> None:
    with pytest.raises(PacketRefused) as caught:
        connect_bytes(begun)
    assert caught.value.code == MALFORMED


@pytest.mark.parametrize("name_and_level", [b"\0\4MQTT\4", b"\0\4MQTT\5", b"\0\6MQIsdp\3"])
def test_a_large_connect_is_refused_once_its_version_is_known(name_and_level: bytes) -> None:
    large = packet(0x10, name_and_level + bytes(PACKET_OVERHEAD_BYTES + 1))
    with pytest.raises(PacketRefused) as caught:
        connect_bytes(large[:13])
    assert caught.value.code == TOO_LARGE


def test_each_version_is_told_in_its_own_words() -> None:
    assert refusal(5, 0x95, logged_in=False) == b"\x20\x03\x00\x95\x00"
    assert refusal(5, 0x95, logged_in=True) == b"\xe0\x01\x95"
    assert refusal(4, 0x85, logged_in=False) == b"\x20\x02\x00\x02"
    assert refusal(4, 0x95, logged_in=False) == refusal(4, 0x85, logged_in=True) == b""
    assert refusal(None, 0x81, logged_in=False) == refusal(5, None, logged_in=True) == b""


def test_the_password_of_a_node_follows_from_the_secret_and_its_name() -> None:
    passwords = {node_password(key, name) for key in (b"one", b"two") for name in ("a", "b")}
    assert len(passwords) == 4
    assert node_password(b"one", "a") == "bkxky00hPCjhcI8tNXvamuw3UWnTKeZp55V8c2JfVwY"


# ---------------------------------------------------------------------- the gate


class Held:
    """Waits at the gate, and waits again if that is closed when its turn comes."""

    def __init__(self, gate: Gate, *, closes_it: bool = False) -> None:
        self.passed = 0
        self._gate, self._closes_it = gate, closes_it
        gate.wait(self)

    def pass_on(self) -> None:
        if not self._gate.is_open:
            self._gate.wait(self)
            return
        self.passed += 1
        if self._closes_it:
            self._gate.close()


def test_the_gate_lets_those_who_wait_go_on_once() -> None:
    gate = Gate()
    assert gate.is_open
    gate.close()
    gone, waiting = Held(gate), Held(gate)
    gate.wait(waiting)
    gate.forget(gone)
    assert (gate.is_open, gate.waiting) == (False, 1)
    gate.open()
    gate.open()
    assert (gate.is_open, gate.waiting, waiting.passed, gone.passed) == (True, 0, 1, 0)


def test_who_finds_the_gate_closed_again_keeps_the_place() -> None:
    gate = Gate()
    gate.close()
    those = [Held(gate, closes_it=True) for _ in range(3)]
    for turn in range(3):
        gate.open()
        those.append(Held(gate, closes_it=True))
        assert [each.passed for each in those[:3]] == [1] * (turn + 1) + [0] * (2 - turn)


def test_a_gate_that_is_no_longer_shut_asks_those_who_wait_though_it_is_closed() -> None:
    asked = []

    class Device:
        def pass_on(self) -> None:
            asked.append((gate.is_open, gate.is_shut))

    gate = Gate()
    gate.close()
    gate.shut()
    gate.wait(Device())
    gate.shut()
    assert asked == []
    gate.close()
    assert asked == [(False, False)]


# ---------------------------------------------------------------------- places and memory


class Connection:
    def __init__(self) -> None:
        self.evicted_for: str | None = None

    def evict(self, label: str, words: str) -> None:
        self.evicted_for = label

    def shut_down(self) -> None:
        raise AssertionError("nobody asked for that")


def test_a_stranger_makes_room_and_a_device_does_not() -> None:
    places = Places(2)
    device, stranger, newcomer, late = (Connection() for _ in range(4))
    assert places.enter(device, "192.0.2.1")
    places.log_in(device)
    assert places.enter(stranger, "192.0.2.2")
    assert places.enter(newcomer, "192.0.2.3")
    assert (stranger.evicted_for, device.evicted_for, len(places)) == ("full", None, 2)
    places.log_in(newcomer)
    assert not places.enter(late, "192.0.2.4")
    places.leave(device)
    assert places.enter(late, "192.0.2.4")
    for each in (late, late, newcomer):
        places.leave(each)
    assert len(places) == 0


def test_who_was_evicted_cannot_log_in_any_more() -> None:
    places = Places(1)
    first, second = Connection(), Connection()
    places.enter(first, "192.0.2.1")
    places.enter(second, "192.0.2.1")
    places.log_in(first)
    assert places.occupants == [second]


@pytest.mark.parametrize("flood", ["192.0.2.9", "2001:db8:0:1::"])
def test_a_flood_of_one_origin_hits_itself(flood: str) -> None:
    places = Places(10)
    slow = Connection()
    assert places.enter(slow, "192.0.2.1")
    floods = [Connection() for _ in range(1_000)]
    for number, each in enumerate(floods):
        assert places.enter(each, f"{flood}{number:x}" if ":" in flood else flood)
    assert slow.evicted_for is None
    assert len(places) == 10
    assert [each.evicted_for for each in floods] == ["full"] * 991 + [None] * 9


def test_those_who_hold_the_most_before_the_log_in_make_room() -> None:
    held = HeldBytes(1_000)
    device, *greedy = (Connection() for _ in range(5))
    held.hold(device, 100)
    for each, size in zip(greedy, (250, 300, 350), strict=False):
        held.hold(each, 100)
        held.hold(each, size)
    assert held.total == 1_000
    assert {each.evicted_for for each in greedy} == {None}
    held.hold(greedy[3], 90)
    evicted = [each.evicted_for for each in (device, *greedy)]
    assert evicted == [None, None, None, "memory", None]
    assert held.total == 740
    held.release(device)
    held.release(device)
    assert held.total == 640


# ---------------------------------------------------------------------- the log


def test_lines_of_strangers_are_limited_and_hide_no_device() -> None:
    activity = Activity()
    with capture_logs() as lines:
        for _ in range(3 * LINES_PER_SECOND_MAX):
            activity.refused(Peer("192.0.2.1", 1883), "credentials", "not authorized")
        activity.connected(Peer("192.0.2.2", 1883))
    refused = [line for line in lines if line["event"] == "device refused"]
    assert LINES_PER_SECOND_MAX <= len(refused) <= 2 * LINES_PER_SECOND_MAX
    assert lines[-1]["event"] == "device connected"


def test_names_from_outside_are_short_and_visible() -> None:
    assert shown(b"ridge-07") == "ridge-07"
    assert shown("ü\u202e\n".encode() + b"\xff") == "ü\\x202e\\x0a\N{REPLACEMENT CHARACTER}"
    assert len(shown("ü".encode() * 30_000)) == 64
