"""What the codec does not do: subscriptions, the length of a packet, reading a broken PUBLISH."""

import sys
from array import array
from collections.abc import Sequence

import mqtt5
from msgspec import Struct

from echo_ingest.record import PROPERTIES_BYTES_MAX

PUBLISH = 3
PUBACK_OF_TWO_BYTES = 0x4002
CONNACK_OF_VERSION_3 = b"\x20\x02"
PINGREQ = mqtt5.PingReqPacket().write()


def encode(packet: mqtt5.Packet) -> bytes:
    """Return the bytes of a packet in MQTT 5."""
    return packet.write()


def pubacks(packet_ids: Sequence[int]) -> bytes:
    """Return PUBACKs that report success by leaving the reason code out [MQTT-3.4.2-1]."""
    words = array("H", [PUBACK_OF_TWO_BYTES]) * (2 * len(packet_ids))
    words[1::2] = array("H", packet_ids)
    if sys.byteorder == "little":
        words.byteswap()
    return words.tobytes()


def subscriptions(
    topic_filters: tuple[str, ...], qos: mqtt5.QoS, loopback_topic: str | None
) -> list[mqtt5.TopicFilter]:
    """Return subscriptions: the topic filters at `qos`, and the loopback topic at QoS 0."""
    # Retained messages are sent only for a new subscription, not at each reconnect.
    retained = mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS
    filters = [
        mqtt5.TopicFilter(pattern, max_qos=qos, retain_handling=retained)
        for pattern in topic_filters
    ]
    if loopback_topic is not None:
        filters.append(mqtt5.TopicFilter(loopback_topic, max_qos=mqtt5.QoS.AT_MOST_ONCE))
    return filters


def packet_bytes(view: memoryview) -> int:
    """Return the length of the packet that begins here, with its header; 0 if not known yet.

    A remaining length of more than four bytes is malformed [MQTT-1.5.5-1]: then all bytes are bad.
    """
    length = 0
    for index in range(1, 5):
        if index >= len(view):
            return 0
        length |= (view[index] & 0x7F) << 7 * (index - 1)
        if view[index] < 0x80:
            return 1 + index + length
    return len(view)


def is_unreadable(error: BaseException) -> bool:
    """Return whether the error means that the codec cannot read a packet, or not yet.

    On text that is not UTF-8 its Rust code panics; Python gets an error that is no `Exception`.
    """
    return isinstance(error, IndexError | ValueError) or type(error).__name__ == "PanicException"


def is_older_connack(view: memoryview) -> bool:
    """Return whether it is the CONNACK of MQTT 3.1.1, which has no properties."""
    return len(view) == 4 and view[:2] == CONNACK_OF_VERSION_3


class _Publish(Struct, frozen=True):
    """Where a PUBLISH has its parts, without reading its properties."""

    topic: slice
    qos: mqtt5.QoS
    packet_id: int | None
    properties: slice
    """The payload follows them."""


def without_large_properties(view: memoryview) -> mqtt5.PublishPacket | None:
    """Return a PUBLISH without its properties if these are larger than `PROPERTIES_BYTES_MAX`.

    The codec would make objects of them that take twenty times as much memory. Return None if they
    are not so large, or if it is not a PUBLISH.
    """
    parts = _parts(view)
    if parts is None or parts.properties.stop - parts.properties.start <= PROPERTIES_BYTES_MAX:
        return None
    return _bare(view, parts)


def salvage_publish(view: memoryview) -> mqtt5.PublishPacket | None:
    """Read topic, packet id and payload of a PUBLISH whose properties or text the codec rejects.

    Such a message is kept and acknowledged like any other: if it were not, the broker would send
    it again for ever, and no later message would arrive. Return None if it is not a PUBLISH, or if
    even these fields cannot be read.
    """
    parts = _parts(view)
    return None if parts is None else _bare(view, parts)


def _parts(view: memoryview) -> _Publish | None:
    try:
        if view[0] >> 4 != PUBLISH:
            return None
        position = 1 + next(i for i in range(1, 5) if view[i] < 0x80)
        topic = slice(position + 2, position + 2 + int.from_bytes(view[position : position + 2]))
        qos = mqtt5.QoS(view[0] >> 1 & 0b11)
        position, packet_id = topic.stop, None
        if qos != mqtt5.QoS.AT_MOST_ONCE:
            packet_id = int.from_bytes(view[position : position + 2])
            position += 2
        length, shift = 0, 0
        while True:
            length |= (view[position] & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if view[position - 1] < 0x80:
                break
    except (IndexError, ValueError, StopIteration):
        return None
    return _Publish(topic, qos, packet_id, slice(position, position + length))


def _bare(view: memoryview, parts: _Publish) -> mqtt5.PublishPacket:
    return mqtt5.PublishPacket(
        bytes(view[parts.topic]).decode(errors="replace"),
        bytes(view[parts.properties.stop :]),
        qos=parts.qos,
        packet_id=parts.packet_id,
        duplicate=bool(view[0] & 0b1000),
    )
