"""MQTT 3.1.1, for brokers that do not speak MQTT 5: packets of the codec, without properties.

The codec knows MQTT 5 only. The packets of the two versions differ in their properties, which are
not in 3.1.1, and in a few numbers; so the codec's own objects are written and read in that form.
[MQTT-3.1.1] in a comment means the standard of that version.
"""

import mqtt5

from echo_ingest.mqtt.packets import packet_bytes

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP = 2, 3, 4, 9, 13
PROTOCOL_LEVEL = 4
CLEAN_SESSION, HAS_PASSWORD, HAS_USER = 0x02, 0x40, 0x80
DUPLICATE, RETAIN = 0x08, 0x01

_CODES = mqtt5.ConnAckReasonCode
REFUSALS = {
    1: _CODES.UNSUPPORTED_PROTOCOL_VERSION,
    2: _CODES.CLIENT_ID_NOT_VALID,
    3: _CODES.SERVER_UNAVAILABLE,
    4: _CODES.BAD_USER_NAME_OR_PASSWORD,
    5: _CODES.NOT_AUTHORIZED,
}
"""What the return codes of CONNACK are called in MQTT 5."""


def encode(packet: mqtt5.Packet) -> bytes:
    """Return the bytes of a packet; what only MQTT 5 has is left out."""
    match packet:
        case mqtt5.ConnectPacket():
            return _connect(packet)
        case mqtt5.SubscribePacket():
            filters = [
                _text(each.pattern) + bytes([int(each.max_qos)]) for each in packet.topic_filters
            ]
            return _packet(0x82, packet.packet_id.to_bytes(2) + b"".join(filters))
        case mqtt5.PublishPacket():
            flags = int(packet.qos) << 1 | packet.retain * RETAIN | packet.duplicate * DUPLICATE
            packet_id = b"" if packet.packet_id is None else packet.packet_id.to_bytes(2)
            return _packet(PUBLISH << 4 | flags, _text(packet.topic) + packet_id + packet.payload)
        case _:
            return packet.write()  # PINGREQ and DISCONNECT are two bytes in both versions


def of_version_5(packet: bytes) -> bytes:
    """Return the bytes of a PUBLISH that was written for MQTT 5."""
    return encode(mqtt5.read(memoryview(packet))[0])


def read(view: memoryview) -> tuple[mqtt5.Packet, int]:
    """Read the packet that begins here; return it with its length.

    Raises `IndexError` if its end is missing, and `ValueError` if it is malformed. Text that is not
    UTF-8 is read nevertheless: the message would come again for ever if it were not taken.
    """
    size = packet_bytes(view)
    if size == 0 or size > len(view):
        raise IndexError("the packet is not complete")
    begin = next((index for index in range(1, 5) if view[index] < 0x80), 0) + 1
    if begin == 1:
        raise ValueError("the length of a packet has more than four bytes")
    return _read_body(view[0], view[begin:size]), size


def _read_body(first: int, body: memoryview) -> mqtt5.Packet:
    kind = first >> 4
    if kind == PUBLISH:
        return _read_publish(first, body)
    if kind == CONNACK and len(body) == 2:
        code = REFUSALS.get(body[1], _CODES.UNSPECIFIED_ERROR) if body[1] else _CODES.SUCCESS
        return mqtt5.ConnAckPacket(session_present=bool(body[0] & 1), reason_code=code)
    if kind == SUBACK and len(body) > 2:
        codes = [mqtt5.SubAckReasonCode(each) for each in body[2:]]
        return mqtt5.SubAckPacket(int.from_bytes(body[:2]), codes)
    if kind == PUBACK and len(body) == 2:
        return mqtt5.PubAckPacket(int.from_bytes(body))
    if kind == PINGRESP and not body:
        return mqtt5.PingRespPacket()
    raise ValueError(f"a packet of type {kind} with {len(body)} bytes")


def _read_publish(first: int, body: memoryview) -> mqtt5.PublishPacket:
    topic_end = 2 + int.from_bytes(body[:2])
    qos = mqtt5.QoS(first >> 1 & 0b11)
    begin = topic_end if qos == mqtt5.QoS.AT_MOST_ONCE else topic_end + 2
    if len(body) < begin:
        raise ValueError("a PUBLISH that ends within its topic")
    return mqtt5.PublishPacket(
        bytes(body[2:topic_end]).decode(errors="replace"),
        bytes(body[begin:]),
        qos=qos,
        retain=bool(first & RETAIN),
        packet_id=int.from_bytes(body[topic_end:begin]) if begin > topic_end else None,
        duplicate=bool(first & DUPLICATE),
    )


def _connect(packet: mqtt5.ConnectPacket) -> bytes:
    flags, payload = packet.clean_start * CLEAN_SESSION, _text(packet.client_id)
    if packet.username is not None:
        flags, payload = flags | HAS_USER, payload + _text(packet.username)
        if packet.password is not None:  # without a user there is none [MQTT-3.1.1: 3.1.2-22]
            length = len(packet.password).to_bytes(2)
            flags, payload = flags | HAS_PASSWORD, payload + length + packet.password
    head = _text("MQTT") + bytes([PROTOCOL_LEVEL, flags]) + packet.keep_alive.to_bytes(2)
    return _packet(0x10, head + payload)


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2) + data


def _packet(first: int, body: bytes) -> bytes:
    length, remaining = bytearray(), len(body)
    while True:
        remaining, low = remaining >> 7, remaining & 0x7F
        length.append(low | 0x80 if remaining else low)
        if not remaining:
            return bytes([first]) + bytes(length) + body
