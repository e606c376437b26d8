"""Make the examples of the shipped forms whose payloads are bytes: `python -m` this module.

The numbers of the fields are written again here, from the definitions that Meshtastic, ChirpStack
and the Eclipse Foundation publish.
"""

import struct
from collections.abc import Mapping
from functools import reduce
from operator import xor

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from echo_ingest.decode.forms import SHIPPED
from tests.forms.wire_format import data, double, fixed, single, whole

NODE, PACKET_ID, GATEWAY = 0xAABBCCDD, 771_203_345, "!a1b2c3d4"
HEARD_AT = 1_791_145_812  # 2026-10-04T20:30:12Z
PUBLIC_KEY = bytes.fromhex("d4f1bb3a20290759f0bcffabcf4e6901")


# ---------------------------------------------------------------------- Meshtastic


def packet(port: int, payload: bytes) -> bytes:
    """Return what stands in a packet once it is decrypted."""
    return whole(1, port) + data(2, payload)


def envelope(content: bytes, *, channel: str = "LongFast", number: int = 0) -> bytes:
    """Return a packet as a gateway publishes it; `content` is its field `decoded` or another."""
    heard = fixed(1, NODE) + fixed(2, 0xFFFFFFFF) + whole(3, number) + content
    heard += fixed(6, PACKET_ID) + fixed(7, HEARD_AT) + single(8, 6.5) + whole(9, 2)
    heard += whole(12, -91) + whole(15, 3)
    return data(1, heard) + data(2, channel) + data(3, GATEWAY)


def decoded(port: int, payload: bytes) -> bytes:
    """Return a packet of a gateway that publishes what it has decrypted."""
    return envelope(data(4, packet(port, payload)))


def encrypted(
    port: int, payload: bytes, *, channel: str = "LongFast", key: bytes = PUBLIC_KEY
) -> bytes:
    """Return a packet as it was on the air; a key has 16 or 32 bytes, or none."""
    content = packet(port, payload)
    if key:
        encryptor = Cipher(AES(key), CTR(struct.pack("<QII", PACKET_ID, NODE, 0))).encryptor()
        content = encryptor.update(content) + encryptor.finalize()
    number = reduce(xor, channel.encode() + key, 0)
    return envelope(data(5, content), channel=channel, number=number)


SPECIES = b'{"species": "Limnodynastes dumerilii", "confidence": 0.74, "node": "pond-9"}'
POSITION = (
    *(fixed(1, -378_810_000), fixed(2, 1_453_420_000), whole(3, 284), fixed(4, HEARD_AT - 12)),
    *(whole(11, 131), whole(19, 11), whole(23, 32)),
)
DEVICE_METRICS = b"".join(
    (whole(1, 68), single(2, 3.871), single(3, 2.4), single(4, 0.31), whole(5, 40_231))
)
ENVIRONMENT_METRICS = single(1, 11.4) + single(2, 87.5) + single(3, 981.2)
USER = data(1, "!aabbccdd") + data(2, "Pond nine") + data(3, "P9") + whole(5, 43)


# ---------------------------------------------------------------------- ChirpStack


def moment(nanos: int) -> bytes:
    """Return a time as a message."""
    return whole(1, HEARD_AT) + whole(2, nanos)


DEVICE = b"".join(
    data(number, text)
    for number, text in (
        (1, "00000000-0000-4000-8000-000000000010"),
        (2, "Reserve"),
        (3, "00000000-0000-4000-8000-000000000011"),
        (4, "Frogs"),
        (5, "00000000-0000-4000-8000-000000000012"),
        (6, "Frog node"),
        (7, "pond-3"),
        (8, "a84041ffff180b21"),
        (9, data(1, "slope") + data(2, "north")),
    )
)


def event(last: int, nanos: int, fields: bytes) -> bytes:
    """Return an event about the device; `last` is what its id ends in."""
    which = data(1, f"00000000-0000-4000-8000-0000000000{last}") + data(2, moment(nanos))
    return which + data(3, DEVICE) + fields


def struct_of(values: Mapping[str, float | str]) -> bytes:
    """Return an object as the codec of a device profile makes it."""
    return b"".join(
        data(
            1,
            data(1, key) + data(2, data(3, value) if isinstance(value, str) else double(2, value)),
        )
        for key, value in values.items()
    )


RECEPTION = (
    *(data(1, "a84041ffff1ee2b4"), whole(2, 190_233), whole(6, -104), single(7, 4.2)),
    data(12, double(1, -37.881) + double(2, 145.342) + double(3, 284.0)),
)
UPLINK = event(
    32,
    775_023_242,
    data(4, "01a2b3c4")
    + whole(5, 1)
    + whole(6, 5)
    + whole(7, 207)
    + whole(8, 2)
    + data(10, b"\x03\x57\x40")
    + data(11, struct_of({"species": "Crinia signifera", "confidence": 64, "battery": 92}))
    + data(12, b"".join(RECEPTION))
    + data(13, whole(1, 917_000_000)),
)
STATUS = event(31, 927_172_638, whole(5, 14) + single(8, 73.62))
JOIN = event(33, 104_000_000, data(4, "01a2b3c4"))
LOG = (
    data(1, moment(311_414_029))
    + data(2, DEVICE)
    + whole(3, 1)
    + whole(4, 5)
    + data(5, "Frame-counter reset or rollover detected")
    + data(6, data(1, "deduplication_id") + data(2, "00000000-0000-4000-8000-000000000030"))
)


# ---------------------------------------------------------------------- Sparkplug B

INT32, FLOAT, BOOLEAN, STRING = 3, 9, 11, 12


def metric(
    name: str, datatype: int, value: bytes, *, later_ms: int = 0, alias: int | None = None
) -> bytes:
    """Return a metric of the payload; it has an alias where one is given."""
    known_by = (data(1, name) if name else b"") + (b"" if alias is None else whole(2, alias))
    return data(2, known_by + whole(3, HEARD_AT * 1000 + later_ms) + whole(4, datatype) + value)


def sparkplug(*metrics: bytes, number: int) -> bytes:
    """Return a payload with these metrics."""
    return whole(1, HEARD_AT * 1000 + 311) + b"".join(metrics) + whole(3, number)


NODE_BIRTH = sparkplug(
    metric("bdSeq", 8, whole(11, 4)),
    metric("Node Control/Rebirth", BOOLEAN, whole(14, 0)),
    metric("Supply/Voltage", FLOAT, single(12, 12.61), alias=1),
    metric("Enclosure/Temperature", INT32, whole(10, -4 & 0xFFFFFFFF), alias=2),
    metric("Enclosure/Door open", BOOLEAN, whole(14, 1), alias=3),
    metric("Firmware", STRING, data(15, "2.4.1"), alias=4),
    number=0,
)
DEVICE_DATA = sparkplug(
    metric("Water/Temperature", FLOAT, single(12, 13.85), later_ms=120),
    metric("", 0, single(12, 0.42), later_ms=140, alias=7),
    number=9,
)

EXAMPLES = {
    "meshtastic-protobuf-detection": encrypted(1, SPECIES),
    "meshtastic-protobuf-position": decoded(3, b"".join(POSITION)),
    "meshtastic-protobuf-telemetry": encrypted(
        67, fixed(1, HEARD_AT - 2) + data(2, DEVICE_METRICS)
    ),
    "meshtastic-protobuf-sensor": decoded(10, b"Burrow door detected"),
    "meshtastic-protobuf-talk": encrypted(4, USER),
    "chirpstack-protobuf-uplink": UPLINK,
    "chirpstack-protobuf-status": STATUS,
    "chirpstack-protobuf-join": JOIN,
    "chirpstack-protobuf-log": LOG,
    "sparkplug-node": NODE_BIRTH,
    "sparkplug-device": DEVICE_DATA,
    "sparkplug-node-death": sparkplug(metric("bdSeq", 8, whole(11, 4)), number=0),
    "sparkplug-device-death": sparkplug(number=12),
    "sparkplug-command": sparkplug(metric("Node Control/Rebirth", BOOLEAN, whole(14, 1)), number=0),
}
"""Name of a form → its example."""


if __name__ == "__main__":
    for name, payload in EXAMPLES.items():
        (SHIPPED / name / "example.pb").write_bytes(payload)
