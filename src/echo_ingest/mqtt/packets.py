"""What the codec leaves to us: subscriptions, where a packet ends, a PUBLISH it will not read."""

import sys
from array import array
from collections.abc import Sequence

import mqtt5

PUBLISH = 3
PUBACK_OF_TWO_BYTES = 0x4002
PINGREQ = mqtt5.PingReqPacket().write()


def pubacks(packet_ids: Sequence[int]) -> bytes:
    """PUBACKs that say success, by leaving the reason code out [MQTT-3.4.2-1]."""
    words = array("H", [PUBACK_OF_TWO_BYTES]) * (2 * len(packet_ids))
    words[1::2] = array("H", packet_ids)
    if sys.byteorder == "little":
        words.byteswap()
    return words.tobytes()


def subscriptions(
    topic_filters: tuple[str, ...], echo_topic: str | None
) -> list[mqtt5.TopicFilter]:
    """Topic filters at QoS 1, and the echo topic at QoS 0."""
    # A retained message is sent with a new subscription only, not at each reconnect.
    retained = mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS
    filters = [
        mqtt5.TopicFilter(pattern, max_qos=mqtt5.QoS.AT_LEAST_ONCE, retain_handling=retained)
        for pattern in topic_filters
    ]
    if echo_topic is not None:
        filters.append(mqtt5.TopicFilter(echo_topic, max_qos=mqtt5.QoS.AT_MOST_ONCE))
    return filters


def packet_bytes(view: memoryview) -> int:
    """Length of the packet that begins here, with its fixed header; 0 if that cannot be told yet.

    A remaining length of more than four bytes is malformed [MQTT-1.5.5-1]: all there is is bad.
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
    """Does the codec say so that it cannot read a packet, or not yet?

    On text that is not UTF-8 it panics, in Rust, and what arrives here is no `Exception`.
    """
    return isinstance(error, IndexError | ValueError) or type(error).__name__ == "PanicException"


def salvage_publish(view: memoryview) -> mqtt5.PublishPacket | None:
    """Topic, packet id and payload of a PUBLISH whose properties or text the codec refuses.

    Such a message is kept and acknowledged like any other: left alone, the broker would send it
    again for ever, and nothing behind it would come through. None if it is not a PUBLISH, or if
    not even that much can be read.
    """
    try:
        if view[0] >> 4 != PUBLISH:
            return None
        position = 1 + next(i for i in range(1, 5) if view[i] < 0x80)
        topic_end = position + 2 + int.from_bytes(view[position : position + 2])
        topic = bytes(view[position + 2 : topic_end]).decode(errors="replace")
        qos = mqtt5.QoS(view[0] >> 1 & 0b11)
        position, packet_id = topic_end, None
        if qos != mqtt5.QoS.AT_MOST_ONCE:
            packet_id = int.from_bytes(view[position : position + 2])
            position += 2
        length, shift = 0, 0
        while True:
            length |= (view[position] & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if view[position - 1] < 0x80:
                break
        payload = bytes(view[position + length :])
    except (IndexError, ValueError, StopIteration):
        return None
    return mqtt5.PublishPacket(
        topic, payload, qos=qos, packet_id=packet_id, duplicate=bool(view[0] & 0b1000)
    )
