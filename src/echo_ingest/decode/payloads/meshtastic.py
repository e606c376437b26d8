"""Packets of Meshtastic as gateways publish them, by the names that they have in its JSON.

https://github.com/meshtastic/protobufs/blob/master/meshtastic/mqtt.proto, and mesh.proto beside it.
A packet is encrypted with the key of its channel, unless its gateway is set otherwise. The key that
every channel has at first is public, so it is tried where the site gives no other.
"""

import struct
from collections.abc import Mapping
from functools import reduce
from operator import xor
from typing import Any

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from echo_ingest.decode.errors import DecodeError, quoted
from echo_ingest.decode.fields import ambiguous, parse, repeated_key
from echo_ingest.decode.payloads.protobuf import Plain, Schema
from echo_ingest.reasons import ReasonCode

DEFAULT_KEY = bytes.fromhex("d4f1bb3a20290759f0bcffabcf4e6901")
"""What the key of one byte, 1, stands for: `AQ==` in base64."""
KEY_BYTES = (16, 32)
PRIVATE = "PKI"
"""The channel of messages for one node, which has a key of its own."""
JSON_VALUES_MAX = 1_000
FIRST_FIELD = b"\x08"
"""What decrypted data begin with: nothing else tells a wrong key."""
TEXTS = {1: "text", 10: "detection_sensor", 11: "alert", 66: "range_test"}
"""Ports whose payload is text."""
MESSAGES = {
    3: ("position", "Position"),
    4: ("nodeinfo", "User"),
    67: ("telemetry", "Telemetry"),
}
"""Ports whose payload is a message."""
OTHERS = {
    **{5: "routing", 6: "admin", 8: "waypoint", 65: "store_forward", 70: "traceroute"},
    **{71: "neighborinfo", 73: "map_report"},
}

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_FLOATS = "temperature relative_humidity barometric_pressure gas_resistance voltage current"
_SCHEMA = Schema(
    {
        "ServiceEnvelope": ("1 packet MeshPacket", "2 channel_id string", "3 gateway_id string"),
        "MeshPacket": (
            "1 from fixed32",
            "2 to fixed32",
            "3 channel uint32",
            "4 decoded Data",
            "5 encrypted bytes?",
            "6 id fixed32",
            "7 rx_time fixed32",
            "8 rx_snr float",
            "9 hop_limit uint32",
            "12 rx_rssi int32",
            "14 via_mqtt bool",
            "15 hop_start uint32",
            "17 pki_encrypted bool",
        ),
        "Data": ("1 portnum uint32", "2 payload bytes"),
        "Position": (
            "1 latitude_i sfixed32?",
            "2 longitude_i sfixed32?",
            "3 altitude int32?",
            "4 time fixed32",
            "11 PDOP uint32",
            "15 ground_speed uint32?",
            "16 ground_track uint32?",
            "19 sats_in_view uint32",
            "23 precision_bits uint32",
        ),
        # Names that people give their nodes are left out: the firmware may cut them in a letter.
        "User": ("1 id string", "5 hardware uint32"),
        "Telemetry": (
            "1 time fixed32",
            "2 device DeviceMetrics",
            "3 environment EnvironmentMetrics",
            "4 air_quality AirQualityMetrics",
            "5 power PowerMetrics",
            "6 local LocalStats",
            "8 host HostMetrics",
        ),
        "DeviceMetrics": (
            "1 battery_level uint32?",
            "2 voltage float?",
            "3 channel_utilization float?",
            "4 air_util_tx float?",
            "5 uptime_seconds uint32?",
        ),
        "EnvironmentMetrics": (
            *(f"{number} {name} float?" for number, name in enumerate(_FLOATS.split(), 1)),
            "7 iaq uint32?",
            "8 distance float?",
            "9 lux float?",
            "13 wind_direction uint32?",
            "14 wind_speed float?",
            "16 wind_gust float?",
            "19 rainfall_1h float?",
            "20 rainfall_24h float?",
            "21 soil_moisture uint32?",
            "22 soil_temperature float?",
        ),
        "AirQualityMetrics": (
            "1 pm10_standard uint32?",
            "2 pm25_standard uint32?",
            "3 pm100_standard uint32?",
            "13 co2 uint32?",
        ),
        "LocalStats": (
            "1 uptime_seconds uint32?",
            "2 channel_utilization float?",
            "3 air_util_tx float?",
        ),
        "HostMetrics": (
            "1 uptime_seconds uint32?",
            "2 freemem_bytes uint64?",
            "3 diskfree1_bytes uint64?",
        ),
        "PowerMetrics": tuple(
            f"{2 * channel + each} ch{channel}_{name} float?"
            for channel in range(1, 9)
            for each, name in ((-1, "voltage"), (0, "current"))
        ),
    }
)


def read(payload: bytes, keys: Mapping[str, bytes]) -> Plain | None:
    """Read a packet; `keys` are those of channels, by name.

    Raise `DecodeError` where it is encrypted with a key that is not known.
    """
    envelope = _SCHEMA.read("ServiceEnvelope", payload)
    packet: Plain | None = None if envelope is None else envelope.get("packet")
    if envelope is None or packet is None or not packet["from"]:
        return None
    channel: str = envelope["channel_id"]
    start, limit = packet["hop_start"], packet["hop_limit"]
    is_private = packet["pki_encrypted"] or channel == PRIVATE
    plain = {
        "from": packet["from"],
        "to": packet["to"],
        "id": packet["id"],
        "channel": packet["channel"],
        "channel_name": channel,
        "sender": envelope["gateway_id"],
        "timestamp": packet["rx_time"],
        "rssi": packet["rx_rssi"],
        "snr": packet["rx_snr"],
        "hop_start": start,
        "hops_away": start - limit if 0 < start >= limit else None,
        "encrypted": "encrypted" in packet,
    }
    if "encrypted" in packet and is_private:
        return {**plain, "type": "private", "payload": {}}
    data = packet.get("decoded")
    if "encrypted" in packet:
        data = _decrypted(packet, channel, keys)
    if data is None:
        return None
    port: int = data["portnum"]
    return {**plain, "port": port, **_content(port, data["payload"])}


def _content(port: int, payload: bytes) -> Plain:
    """Return the type of a packet and what is in it."""
    if port in TEXTS:
        return {"type": TEXTS[port], "payload": _of_text(payload)}
    if port not in MESSAGES:
        return {"type": OTHERS.get(port, f"port_{port}"), "payload": {"bytes": payload}}
    name, kind = MESSAGES[port]
    content = _SCHEMA.read(kind, payload)
    if content is None:
        raise DecodeError(ReasonCode.WRONG_TYPE, f"the {name} in the packet cannot be read")
    if kind == "Telemetry":
        # As in the JSON: a packet has one of these groups, whose names do not overlap in it.
        content = {
            "time": content.pop("time"),
            "groups": list(content),
            **{name: value for group in content.values() for name, value in group.items()},
        }
    return {"type": name, "payload": content}


def _of_text(payload: bytes) -> Plain:
    """Return the object that a text is, or else the text."""
    if payload.lstrip().startswith(b"{"):
        try:
            sent: Plain = parse(payload, _decode_object, JSON_VALUES_MAX, JSON_VALUES_MAX)
        except DecodeError:
            pass
        else:
            path = repeated_key(payload)
            if path is not None:
                raise ambiguous(path)
            return sent
    return {"text": payload.decode(errors="replace")}


def _decrypted(packet: Plain, channel: str, keys: Mapping[str, bytes]) -> Plain:
    key = _expanded(keys.get(channel, b"\x01"), channel)
    if reduce(xor, channel.encode() + key, 0) != packet["channel"]:
        known = "the key given for it is another" if channel in keys else "it has no key here"
        raise DecodeError(
            ReasonCode.NO_KEY, f"the packet is of the channel {quoted(channel)}, and {known}"
        )
    encrypted: bytes = packet["encrypted"]
    if key:
        nonce = struct.pack("<QII", packet["id"], packet["from"], 0)
        decryptor = Cipher(AES(key), CTR(nonce)).decryptor()
        encrypted = decryptor.update(encrypted) + decryptor.finalize()
    data = _SCHEMA.read("Data", encrypted) if encrypted.startswith(FIRST_FIELD) else None
    if data is None:
        raise DecodeError(
            ReasonCode.NO_KEY,
            f"the packet of the channel {quoted(channel)} cannot be decrypted with the key that"
            " is known for it",
        )
    return data


def _expanded(key: bytes, channel: str) -> bytes:
    """Return the key that a short one stands for, as the firmware makes it."""
    if len(key) == 1:
        # 0 stands for no encryption, and 1 for the public key; each further number adds one to
        # its last byte.
        last = (DEFAULT_KEY[-1] + key[0] - 1) % 256
        return DEFAULT_KEY[:-1] + bytes([last]) if key[0] else b""
    size = next((size for size in KEY_BYTES if len(key) <= size), None)
    if size is None:
        raise DecodeError(
            ReasonCode.NO_KEY,
            f"the key of the channel {quoted(channel)} has {len(key)} bytes; at most 32 are used",
        )
    return key.ljust(size, b"\0") if key else b""
