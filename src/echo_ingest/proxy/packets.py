"""MQTT packets in the stream from a device: followed, and hardly ever kept. Pure.

A walker sees each chunk once and remembers only how much of the current packet is still to come.
It finds the limits in the few bytes that come before anything large: nothing that breaks them is
passed on.
"""

import struct
from collections.abc import Callable, Iterable

from msgspec import Struct

from echo_ingest.broker.topic_rights import ELSEWHERE_TOPIC_BYTES_MAX
from echo_ingest.settings import PACKET_OVERHEAD_BYTES

CONNECT, CONNACK, PUBLISH, SUBSCRIBE, DISCONNECT = 1, 2, 3, 8, 14
CONNECT_BYTE, CONNACK_BYTE, DISCONNECT_BYTE = 0x10, 0x20, 0xE0

COPIES = 2
"""Of each message in mosquitto, while it also has the packet: one is kept, one goes to a reader."""
FILTER_FACTOR, LEVEL_BYTES = 25, 750
"""What mosquitto takes for each byte of a SUBSCRIBE, and for each level of a topic in it."""
SESSION_BYTES = 5_000
SESSION_EXPIRY_PROPERTY = 0x11
ANSWER_BYTES_MIN = 2
"""PINGRESP; all other answers are longer."""
UNLIMITED = 2**63
PROPERTY_FACTOR = 26
"""An empty user property has 5 bytes, and becomes three objects that take 128."""

NO_TOPIC = b"\xff\xff\xff"
"""What no topic begins with, as it is not UTF-8."""

CLIENT_ID_BYTES_MAX, WILL_BYTES_MAX, WILL_PROPERTIES_BYTES_MAX = 256, 4_096, 256
"""mosquitto keeps these as long as a session, of which there may be any number."""

MALFORMED, PROTOCOL_ERROR = 0x81, 0x82
UNSUPPORTED_VERSION, INVALID_CLIENT_ID = 0x84, 0x85
SERVER_UNAVAILABLE, SHUTTING_DOWN, TOO_LARGE, QUOTA_EXCEEDED = 0x88, 0x8B, 0x95, 0x97
CODES_BEFORE_5 = {UNSUPPORTED_VERSION: 1, INVALID_CLIENT_ID: 2, SERVER_UNAVAILABLE: 3}
"""The return codes of MQTT 3 for reason codes of MQTT 5; for the others there is none."""

PROTOCOL_NAMES = {b"MQTT": (4, 5), b"MQIsdp": (3,)}
BRIDGE_BIT = 0x80
"""mosquitto's mark for a broker that connects as a client, in the protocol level."""
QOS_BITS, RETAIN_BIT = 0b110, 0b1
"""Of the first byte of a PUBLISH."""
USER_FLAG, PASSWORD_FLAG, WILL_RETAIN_FLAG, WILL_FLAG, CLEAN_FLAG = 0x80, 0x40, 0x20, 0x04, 0x02

NEVER, OTHER, ASKS, A_PUBLISH, A_DISCONNECT = range(5)
KINDS_OF_TYPES = {
    PUBLISH: A_PUBLISH,
    **dict.fromkeys((4, 5, 7, 15), OTHER),
    **dict.fromkeys((6, 8, 10, 12), ASKS),  # PUBREL, SUBSCRIBE, UNSUBSCRIBE, PINGREQ
    DISCONNECT: A_DISCONNECT,
}
KINDS = bytes(KINDS_OF_TYPES.get(first >> 4, NEVER) for first in range(256))
"""What a packet is, by its first byte; a device may not send those of `NEVER` after CONNECT."""


class PacketRefused(Exception):
    """A packet that a device may not send."""

    def __init__(self, label: str, words: str, code: int | None = None) -> None:
        super().__init__(words)
        self.label = label
        """The kind of reason, for the metric."""
        self.words = words
        self.code = code
        """The reason code of MQTT 5 that says it to the device."""
        self.good_bytes = 0
        """How much of the chunk comes before the packet and may still be passed on."""


def malformed(words: str) -> PacketRefused:
    """Return what to raise for bytes that are not MQTT."""
    return PacketRefused("malformed", words, MALFORMED)


def too_large(what: str, size: int, size_max: int) -> PacketRefused:
    """Return what to raise for what breaks a limit."""
    words = f"{what} has {size:,} bytes, and at most {size_max:,} are allowed"
    return PacketRefused("too large", words, TOO_LARGE)


def read_length(data: bytes | bytearray, position: int) -> tuple[int, int]:
    """Return a number of one to four bytes [MQTT-1.5.5], and the position behind it.

    Raises `IndexError` if its end is missing, and `PacketRefused` if it is longer.
    """
    length = 0
    for shift in (0, 7, 14, 21):
        byte = data[position]
        position += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return length, position
    raise malformed("the length of a packet has more than four bytes")


def write_length(length: int) -> bytes:
    """Return a number as `read_length` reads it."""
    written = bytearray()
    while length >= 0x80:
        written.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes((*written, length))


# ---------------------------------------------------------------------- CONNECT


class Connect(Struct, frozen=True):
    """A CONNECT packet, and what is to be known of it."""

    packet: bytes
    level: int
    client_id: bytes
    user: bytes | None
    will_topic: bytes | None
    kept_bytes: int
    """What mosquitto may keep when the connection has ended."""
    body_at: int
    flags_at: int
    client_id_at: int
    will_topic_at: int
    login_at: int
    """Where user name and password are, which come last."""

    def rewritten(
        self,
        *,
        client_id: bytes | None = None,
        will_topic: bytes | None = None,
        login: tuple[bytes, bytes] | None = None,
    ) -> bytes:
        """Return the packet with these in place of its own, and with a will that is not retained.

        None leaves what is there.
        """
        flags = self.packet[self.flags_at] & ~WILL_RETAIN_FLAG
        edits = []
        if client_id is not None:
            edits.append((self.client_id_at, 2 + len(self.client_id), _field(client_id)))
        if will_topic is not None and self.will_topic is not None:
            edits.append((self.will_topic_at, 2 + len(self.will_topic), _field(will_topic)))
        if login is not None:
            flags |= USER_FLAG | PASSWORD_FLAG
            left = len(self.packet) - self.login_at
            edits.append((self.login_at, left, b"".join(map(_field, login))))
        edits.insert(0, (self.flags_at, 1, bytes((flags,))))
        body = spliced(self.packet, self.body_at, len(self.packet), edits)
        return b"".join((self.packet[:1], write_length(len(body)), body))


def _field(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def spliced(data: bytes, begin: int, end: int, edits: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Return a part of `data` with what stands at some places replaced.

    An edit is where it is, how much goes, and what comes instead; edits are in order.
    """
    parts: list[bytes] = []
    for at, size, instead in edits:
        parts += (data[begin:at], instead)
        begin = at + size
    return b"".join((*parts, data[begin:end]))


def connect_level(data: bytes | bytearray) -> int | None:
    """Return the protocol level of a CONNECT that has begun; None if it is not there yet."""
    if data[:1] != bytes((CONNECT_BYTE,)):
        return None
    try:
        _, body_at = read_length(data, 1)
        return data[body_at + 2 + int.from_bytes(data[body_at : body_at + 2])] & ~BRIDGE_BIT
    except (IndexError, PacketRefused):
        return None


def connect_bytes(data: bytes | bytearray) -> int | None:
    """Return the length of the CONNECT that begins here; None if it is not there yet.

    Raises `PacketRefused` if it is not a CONNECT, or larger than is allowed.
    """
    if data[0] != CONNECT_BYTE:
        raise malformed("what it sent first is not an MQTT CONNECT")
    try:
        length, body_at = read_length(data, 1)
    except IndexError:
        return None
    # The name of the protocol is known: a length that is too large is only said in its version.
    if length > PACKET_OVERHEAD_BYTES and len(data) >= body_at + 9:
        raise too_large("CONNECT", length, PACKET_OVERHEAD_BYTES)
    return body_at + length


def parse_connect(packet: bytes) -> Connect:
    """Read a complete CONNECT. Raises `PacketRefused`."""
    _, body_at = read_length(packet, 1)
    fields = _ConnectFields(packet, body_at)
    name = fields.field()
    flags_at = fields.position + 1
    level_byte, flags, *_keep_alive = fields.take(4)
    level = level_byte & ~BRIDGE_BIT
    if level not in PROTOCOL_NAMES.get(name, ()):
        raise PacketRefused(
            "malformed", f"{name[:8]!r} level {level} is no known protocol", UNSUPPORTED_VERSION
        )
    has_properties = level == 5
    if has_properties:
        # A byte of that value may be something else, but without one the session ends at once.
        keeps_session = SESSION_EXPIRY_PROPERTY in fields.take(fields.length())
    else:
        keeps_session = not flags & CLEAN_FLAG
    client_id_at = fields.position
    client_id = fields.field()
    _limit("its client id", len(client_id), CLIENT_ID_BYTES_MAX)
    will_topic = None
    will_topic_at = fields.position
    if flags & WILL_FLAG:
        if has_properties:
            size = len(fields.take(fields.length()))
            _limit("what its last will has as properties", size, WILL_PROPERTIES_BYTES_MAX)
        will_topic_at = fields.position
        will_topic, payload = fields.field(), fields.field()
        _limit("its last will", len(will_topic) + len(payload), WILL_BYTES_MAX)
    login_at = fields.position
    user = fields.field() if flags & USER_FLAG else None
    return Connect(
        packet=packet,
        level=level,
        client_id=client_id,
        user=user,
        will_topic=will_topic,
        kept_bytes=SESSION_BYTES + COPIES * len(packet) if keeps_session else 0,
        body_at=body_at,
        flags_at=flags_at,
        client_id_at=client_id_at,
        will_topic_at=will_topic_at,
        login_at=login_at,
    )


def _limit(what: str, size: int, size_max: int) -> None:
    if size > size_max:
        raise too_large(what, size, size_max)


class _ConnectFields:
    """Reads the fields of a packet one after the other."""

    def __init__(self, packet: bytes, position: int) -> None:
        self.position = position
        self._packet = packet

    def take(self, size: int) -> bytes:
        taken = self._packet[self.position : self.position + size]
        if len(taken) < size:
            raise malformed("a field of CONNECT is longer than the packet")
        self.position += size
        return taken

    def field(self) -> bytes:
        """Take a text, or bytes with a length of two bytes before them."""
        return self.take(int.from_bytes(self.take(2)))

    def length(self) -> int:
        try:
            length, self.position = read_length(self._packet, self.position)
        except IndexError:
            raise malformed("CONNECT ends within a length") from None
        return length


def refusal(level: int | None, code: int | None, *, logged_in: bool) -> bytes:
    """Return the packet that tells a device why its connection ends; empty if there is none."""
    if code is None or level is None:
        return b""
    if level == 5:
        return bytes((DISCONNECT_BYTE, 1, code) if logged_in else (CONNACK_BYTE, 3, 0, code, 0))
    if logged_in or code not in CODES_BEFORE_5:
        return b""
    return bytes((CONNACK_BYTE, 2, 0, CODES_BEFORE_5[code]))


def connack_code(data: bytes | bytearray) -> int | None:
    """Return the reason or return code of a CONNACK that begins here; None if it is not there yet.

    Raises `PacketRefused` if it is something else.
    """
    if data[0] != CONNACK_BYTE:
        raise PacketRefused("broker away", "the broker did not answer CONNECT", SERVER_UNAVAILABLE)
    try:
        _, body_at = read_length(data, 1)
        return data[body_at + 1]
    except IndexError:
        return None


# ---------------------------------------------------------------------- what comes after CONNECT


class PacketWalker:
    """Follows the packets that come after CONNECT, however they are cut into chunks."""

    __slots__ = ("_beginning", "_edits", "_first", "_has_properties", "_left", "_plain",
                 "_publish_bytes_max", "_size", "_subscribes", "_topic_at_broker", "asked", "cost",
                 "kept_bytes", "largest_overhead", "said_goodbye", "unfinished")  # fmt: skip

    def __init__(
        self,
        level: int,
        payload_bytes_max: int,
        topic_at_broker: Callable[[bytes], bytes | None] | None = None,
    ) -> None:
        """`topic_at_broker` returns the topic that a message is to have; None: its own, always.

        Where it is long, the function gets only its beginning.
        """
        self.said_goodbye = False
        """Whether a DISCONNECT was among the packets."""
        self.unfinished = 0
        """How much has come of a PUBLISH whose end is still to come."""
        self.cost = 0
        """What mosquitto may need for the PUBLISHes that have ended, beside their own bytes; it is
        set back where it is added up."""
        self.asked = 0
        """How many answers mosquitto owes, at least."""
        self.largest_overhead = 0
        """The most that was no payload in a PUBLISH."""
        self.kept_bytes = 0
        """What mosquitto keeps of the SUBSCRIBEs that have come; it is set back where it is added
        up."""
        self._topic_at_broker = topic_at_broker
        self._plain = b"" if topic_at_broker is None else NO_TOPIC
        """The last topic that need not be changed, with its length before it."""
        self._edits: list[tuple[int, int, bytes]] = []
        """What is to be changed in the current chunk, as `spliced` takes it."""
        self._has_properties = level == 5
        self._publish_bytes_max = payload_bytes_max + PACKET_OVERHEAD_BYTES
        self._subscribes = False
        """Whether the current packet is a SUBSCRIBE."""
        self._left = 0
        """How much of the current packet is still to come."""
        self._first, self._size = 0, 0
        """The first byte of the current packet, and its length with all that belongs to it."""
        self._beginning: bytes | None = None
        """The beginning of a PUBLISH, while it does not tell yet how much of it is no payload."""

    def answered(self, size: int) -> None:
        """Note that mosquitto has sent so many bytes: they may all be answers."""
        self.asked = max(0, self.asked - size // ANSWER_BYTES_MIN)

    def passed_on(self, chunk: bytes, passed: int) -> bytes:
        """Return what goes to the broker for the beginning of the chunk that was fed last."""
        if not self._edits:
            return chunk if passed == len(chunk) else chunk[:passed]
        return spliced(chunk, 0, passed, [each for each in self._edits if each[0] < passed])

    def feed(self, chunk: bytes, *, may_publish: bool = True, asked_max: int = UNLIMITED) -> int:
        """Follow the next chunk, and return how much of it may be passed on.

        The rest is the beginning of a packet, which is to be fed again: with more, if its length or
        its topic is not complete, or once another PUBLISH may begin, or once answers have come.
        Raises `PacketRefused`.
        """
        position, size = self._left, len(chunk)
        if self._edits:
            self._edits = []
        if position:
            if self._beginning is not None:
                self._look(self._beginning + chunk[:position])
            if self._subscribes:
                self._note_filters(chunk[:position])
            if position > size:
                self._left = position - size
                if self.unfinished:
                    self.unfinished += size
                return size
            if self.unfinished:
                self.unfinished = 0
                self._note_publish(self._size)
        self._left, self._subscribes = 0, False
        try:
            while position < size:
                start = position
                kind = KINDS[chunk[position]]
                if kind == A_PUBLISH and not may_publish:
                    return start
                if self.asked >= asked_max:
                    return start
                try:
                    length = chunk[position + 1]
                    position += 2
                    if length >= 0x80:
                        length, position = read_length(chunk, position - 1)
                except IndexError:
                    return start
                if kind == A_PUBLISH:
                    is_plain = chunk.startswith(self._plain, position)
                    if (not is_plain or chunk[start] & RETAIN_BIT) and not self._edit_publish(
                        chunk, start, position, length
                    ):
                        return start
                    if chunk[start] & QOS_BITS:
                        self.asked += 1
                    if length > self.largest_overhead and (
                        self._has_properties or length > PACKET_OVERHEAD_BYTES
                    ):
                        if length > self._publish_bytes_max:
                            raise too_large("PUBLISH", length, self._publish_bytes_max)
                        self._first = chunk[start]
                        self._look(chunk[position : position + length])
                elif kind == NEVER:
                    raise malformed(f"a device may not send packets of type {chunk[start] >> 4}")
                elif length > PACKET_OVERHEAD_BYTES:
                    raise too_large("a packet without payload", length, PACKET_OVERHEAD_BYTES)
                elif kind == ASKS:
                    self.asked += 1
                    if chunk[start] >> 4 == SUBSCRIBE:
                        self._note_filters(chunk[position : position + length])
                        self._subscribes = position + length > size
                elif kind == A_DISCONNECT:
                    self.said_goodbye = True
                position += length
                if position > size:
                    self._size, self._left = position - start, position - size
                    if kind == A_PUBLISH:
                        self.unfinished = size - start
                elif kind == A_PUBLISH:
                    self._note_publish(position - start)
        except PacketRefused as refused:
            refused.good_bytes = start
            raise
        return size

    def _edit_publish(self, chunk: bytes, start: int, position: int, length: int) -> bool:
        """Note how a PUBLISH is to be changed; return False if not enough of it has come.

        The broker retains none, and gets each on the topic that it is to have there.
        """
        first = chunk[start] & ~RETAIN_BIT
        if self._topic_at_broker is not None and length >= 2:
            topic_at = position + 2
            topic_end = topic_at + int.from_bytes(chunk[position:topic_at])
            needed = min(topic_end, topic_at + ELSEWHERE_TOPIC_BYTES_MAX, position + length)
            if len(chunk) < max(needed, topic_at):
                return False
            topic = self._topic_at_broker(chunk[topic_at:needed])
            if topic is not None and topic_end <= position + length:
                if topic_end > needed:
                    size, size_max = topic_end - topic_at, ELSEWHERE_TOPIC_BYTES_MAX
                    raise too_large("a topic that is not the node's own", size, size_max)
                longer = length + len(topic) - (topic_end - topic_at)
                header = b"".join((bytes((first,)), write_length(longer), _field(topic)))
                self._edits.append((start, topic_end - start, header))
                return True
            if topic is None and topic_end == needed:
                self._plain = chunk[position:topic_end]
        if first != chunk[start]:
            self._edits.append((start, 1, bytes((first,))))
        return True

    def _look(self, beginning: bytes) -> None:
        """Check what comes before the payload of a PUBLISH."""
        overhead = publish_overhead(beginning, self._first, has_properties=self._has_properties)
        self._beginning = beginning if overhead is None else None
        if overhead is not None and overhead > self.largest_overhead:
            self.largest_overhead = overhead

    def _note_filters(self, part: bytes) -> None:
        self.kept_bytes += FILTER_FACTOR * len(part) + LEVEL_BYTES * part.count(b"/")

    def _note_publish(self, size: int) -> None:
        self._beginning = None
        self.cost += COPIES * size + PROPERTY_FACTOR * min(size, self.largest_overhead)


def publish_overhead(beginning: bytes, first: int, *, has_properties: bool) -> int | None:
    """Return how many bytes of a PUBLISH come before its payload; None if not known yet.

    `beginning` is what is there of the packet behind its length, and `first` is its first byte.
    Raises `PacketRefused` if they are too many.
    """
    if len(beginning) < 2:
        return None
    overhead = 2 + int.from_bytes(beginning[:2]) + (2 if first & QOS_BITS else 0)
    if has_properties and overhead <= PACKET_OVERHEAD_BYTES:
        try:
            length, behind = read_length(beginning, overhead)
        except IndexError:
            return None
        overhead = behind + length
    if overhead > PACKET_OVERHEAD_BYTES:
        raise too_large("what is not payload in a PUBLISH", overhead, PACKET_OVERHEAD_BYTES)
    return overhead
