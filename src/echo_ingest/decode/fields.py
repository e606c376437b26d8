"""The fields of Project Echo's JSON, read in one go and typed, but not yet judged."""

from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Struct

from echo_ingest.decode.errors import DecodeError, not_json, wrong_value

PARTS_MAX = 256
"""Objects and lists in one message, and so the depth to which they can nest."""
UNCOUNTED_BYTES_MAX = 2 * PARTS_MAX
"""Shorter messages cannot nest deeply enough to matter."""
VALUES_MAX = 10_000
"""Commas in one message, and so its values and keys."""
STRIDE_BYTES = 1_024
BOM = b"\xef\xbb\xbf"


class Lla(Struct, frozen=True, gc=False):
    """A place as an object: degrees, degrees, metres."""

    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None


class Gps(Struct, frozen=True, gc=False):
    """Where a Raspberry Pi node is, in degrees."""

    lat: float | None = None
    lon: float | None = None


class HealthData(Struct, frozen=True, gc=False):
    """How a Raspberry Pi node is, beside its audio: percent, and seconds or an epoch."""

    cpu: float | None = None
    ram: float | None = None
    disk: float | None = None
    uptime: float | None = None


class Ranked(Struct, frozen=True, gc=False):
    """One entry of `top5`; confidence in percent."""

    label: str
    confidence: float


class Fields(Struct, frozen=True, gc=False):
    """Every field of every form, named as the devices name it."""

    id: str | int | None = None
    type: str | None = None
    timestamp: str | int | float | None = None
    sensor_id: str | int | None = None
    species: str | None = None
    confidence: float | None = None
    top5: list[Ranked] | None = None
    gps_data: Gps | None = None
    gps_uncertainty: float | None = None
    sensorId: str | int | None = None
    nodeId: str | int | None = None
    node_id: str | int | None = None
    animalId: str | int | None = None
    microphoneLLA: list[float] | Lla | None = None
    animalEstLLA: list[float] | Lla | None = None
    animalTrueLLA: list[float] | Lla | None = None
    animalLLAUncertainty: float | None = None
    audioClip: str | None = None
    audio_file: str | None = None
    audioFile: str | None = None
    mode: str | None = None
    sampleRate: float | None = None
    sourceType: str | None = None
    source_model: str | None = None
    status: str | None = None
    batteryPct: float | None = None
    cpu: float | None = None
    ram: float | None = None
    disk: float | None = None
    uptime: float | None = None
    health_data: HealthData | None = None


class MessageIdField(Struct, frozen=True, gc=False):
    """A message's own id."""

    id: str | int | None = None


T = TypeVar("T")

_decode_id = msgspec.json.Decoder(MessageIdField).decode
_decode_fields = msgspec.json.Decoder(Fields).decode
_decode_keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def read(payload: bytes) -> Fields:
    """Read a JSON payload.

    Raises `DecodeError` where it is no JSON object or a field's type is wrong.
    """
    return _read(payload, _decode_fields)


def read_id(payload: bytes) -> str | int | None:
    """Read the field `id` alone, whatever the others are; raise `DecodeError` as `read` does."""
    return _read(payload, _decode_id).id


def _read(payload: bytes, decode: Callable[[bytes], T]) -> T:
    payload = payload.removeprefix(BOM)
    if len(payload) > UNCOUNTED_BYTES_MAX:
        parts = _count(payload, b"{") + _count(payload, b"[")
        if parts > PARTS_MAX and payload.lstrip()[:1] in (b"{", b"["):
            raise DecodeError(
                f"too deep or in too many parts: {parts:,} objects and lists in one message;"
                f" {PARTS_MAX} can be read"
            )
        if _count(payload, b",") > VALUES_MAX:
            raise DecodeError(f"too many values in one message: {VALUES_MAX:,} can be read")
    try:
        if not payload.isascii():
            payload.decode()
        return decode(payload)
    except msgspec.ValidationError as error:
        raise DecodeError(wrong_value(payload, error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(not_json(payload, error)) from None
    except RecursionError:
        raise DecodeError("too deep: objects and lists nest without end") from None


def _count(payload: bytes, mark: bytes) -> int:
    """How often `mark` is there: `find` leaps over a clip in a thirtieth of the time of `count`."""
    times, at = 0, payload.find(mark)
    while at >= 0:
        times += payload.count(mark, at, at + STRIDE_BYTES)
        at = payload.find(mark, at + STRIDE_BYTES)
    return times


def keys(payload: bytes) -> list[str]:
    """Return the names of all fields, known or not, of a payload that `read` accepts."""
    return list(_decode_keys(payload.removeprefix(BOM)))
