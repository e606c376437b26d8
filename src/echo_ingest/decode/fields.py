"""The fields of Project Echo's JSON, read in one go and typed; their values are checked later."""

import json
import re
from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Struct

from echo_ingest.decode.errors import DecodeError, not_json, quoted, wrong_value
from echo_ingest.reasons import ReasonCode

PARTS_MAX = 256
"""The most objects and lists in one message, and so the depth to which they can nest."""
UNCOUNTED_BYTES_MAX = 2 * PARTS_MAX
"""Shorter messages cannot nest deeply enough to matter."""
VALUES_MAX = 10_000
"""The most commas in one message, and so the most values and keys."""
STRIDE_BYTES = 1_024
BOM = b"\xef\xbb\xbf"
BACKSLASH = ord("\\")
LONG_TEXT_BYTES = 1_024
"""Longer text is audio as base64, which has no colons and takes a while to parse."""
_PLAIN_PATH = re.compile(r"[A-Za-z][A-Za-z0-9_.\[\]-]{0,59}")


class Lla(Struct, frozen=True, gc=False, omit_defaults=True):
    """A place as an object: degrees, degrees, metres."""

    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None


class Gps(Struct, frozen=True, gc=False, omit_defaults=True):
    """Where a Raspberry Pi node is, in degrees."""

    lat: float | None = None
    lon: float | None = None


class HealthData(Struct, frozen=True, gc=False, omit_defaults=True):
    """The health of a Raspberry Pi node, beside its audio: percent, and seconds or an epoch."""

    cpu: float | None = None
    ram: float | None = None
    disk: float | None = None
    uptime: float | None = None


class Ranked(Struct, frozen=True, gc=False):
    """One entry of `top5`; confidence in percent."""

    label: str
    confidence: float


class Fields(Struct, frozen=True, gc=False, omit_defaults=True):
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
    microphoneLLA: list[float | None] | Lla | None = None
    animalEstLLA: list[float | None] | Lla | None = None
    animalTrueLLA: list[float | None] | Lla | None = None
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
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def read(payload: bytes) -> Fields:
    """Read a JSON payload; raise `DecodeError` for anything but an object with the right types.

    No key may stand twice in one object, whether it is known or not.
    """
    fields = _read(payload, _decode_fields)
    # Each key has one colon: as many as those of the fields that were read leave none for others.
    # An escaped colon in a text would be counted with those, though it is none.
    if _count(payload, b":") != _colons_of(fields) or _may_have_escaped_colon(payload):
        path = repeated_key(payload.removeprefix(BOM))
        if path is not None:
            raise ambiguous(path)
    return fields


def read_accepted(payload: bytes) -> Fields:
    """Read a JSON payload that `read` has accepted before."""
    return _read(payload, _decode_fields)


def read_id(payload: bytes) -> str | int | None:
    """Read the field `id` alone, whatever the others hold; raise `DecodeError` as `read` does."""
    return _read(payload, _decode_id).id


def _read(payload: bytes, decode: Callable[[bytes], T]) -> T:
    return parse(payload, decode, PARTS_MAX, VALUES_MAX)


def parse(payload: bytes, decode: Callable[[bytes], T], parts_max: int, values_max: int) -> T:
    """Parse JSON with `decode`, unless it holds too much; raise `DecodeError` where it cannot."""
    text = payload.removeprefix(BOM)
    if len(text) > max(UNCOUNTED_BYTES_MAX, parts_max):
        parts = _count(text, b"{") + _count(text, b"[")
        if parts > parts_max and text.lstrip()[:1] in (b"{", b"["):
            raise DecodeError(
                ReasonCode.TOO_COMPLEX,
                f"the message holds {parts:,} objects and lists; at most {parts_max:,} can be read",
            )
        if _count(text, b",") > values_max:
            raise DecodeError(
                ReasonCode.TOO_COMPLEX,
                f"the message holds too many values; at most {values_max:,} can be read",
            )
    try:
        if not text.isascii():
            text.decode()
        return decode(text)
    except msgspec.ValidationError as error:
        raise wrong_value(text, error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_json(text, error, bytes_before=len(payload) - len(text)) from None
    except RecursionError:
        raise DecodeError(
            ReasonCode.TOO_COMPLEX, "objects and lists are nested too deeply to be read"
        ) from None


def _count(payload: bytes, mark: bytes) -> int:
    """Count `mark`: `find` leaps over a clip in a thirtieth of the time that `count` takes."""
    if len(payload) <= STRIDE_BYTES:
        return payload.count(mark)
    total, start = 0, payload.find(mark)
    while start >= 0:
        total += payload.count(mark, start, start + STRIDE_BYTES)
        start = payload.find(mark, start + STRIDE_BYTES)
    return total


def keys(payload: bytes) -> list[str]:
    """Return the names of all fields, known or not, of a payload that `read` accepts."""
    return list(_decode_keys(payload.removeprefix(BOM)))


# ---------------------------------------------------------------- keys that stand twice


class _KeyedObject(dict[str, object]):
    """An object of the JSON, and the first key that stands in it twice."""

    twice: str | None = None


def _colons_of(fields: Fields) -> int:
    """Count the colons of a message that holds these fields, each once, and no other keys."""
    if fields.audioClip or fields.audio_file:
        clips = {
            name: text and text[:LONG_TEXT_BYTES]
            for name, text in (("audioClip", fields.audioClip), ("audio_file", fields.audio_file))
        }
        fields = msgspec.structs.replace(fields, **clips)
    return _encode(fields).count(b":")


def repeated_key(text: bytes) -> str | None:
    """Return the path of the first key that stands twice in its object, if there is one.

    `text` is JSON that can be parsed.
    """
    if len(text) > LONG_TEXT_BYTES and BACKSLASH not in text:
        text = _without_long_texts(text)
    if not _may_have_escaped_colon(text):
        try:
            if _encode(_decode_any(text)).count(b":") == _count(text, b":"):
                return None
        except msgspec.ValidationError:
            pass  # a field that is not known holds a number that is too large
    # The numbers do not matter, and to read one of a million digits would take a while.
    whole = json.loads(text, object_pairs_hook=_json_object, parse_int=len, parse_float=len)
    return _path_of_repeated_key(whole, "")


def _may_have_escaped_colon(text: bytes) -> bool:
    return BACKSLASH in text and b"\\u003" in text


def _without_long_texts(text: bytes) -> bytes:
    """Return the JSON with each long text in it left out; there is no backslash in it."""
    kept, start = [], 0
    opening = text.find(b'"')
    while opening >= 0:
        closing = text.find(b'"', opening + 1)
        if closing - opening > LONG_TEXT_BYTES:
            kept.append(text[start : opening + 1])
            start = closing
        opening = text.find(b'"', closing + 1)
    return b"".join((*kept, text[start:]))


def _json_object(pairs: list[tuple[str, object]]) -> _KeyedObject:
    keyed = _KeyedObject(pairs)
    if len(keyed) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                keyed.twice = key
                break
            seen.add(key)
    return keyed


def _path_of_repeated_key(value: object, path: str) -> str | None:
    if isinstance(value, _KeyedObject):
        below = f"{path}." if path else ""
        if value.twice is not None:
            return f"{below}{value.twice}"
        inside = [(f"{below}{key}", inner) for key, inner in value.items()]
    elif isinstance(value, list):
        inside = [(f"{path}[{index}]", inner) for index, inner in enumerate(value)]
    else:
        return None
    return next(filter(None, (_path_of_repeated_key(inner, at) for at, inner in inside)), None)


def ambiguous(path: str) -> DecodeError:
    """Make the error that says that the key at `path` stands twice in its object."""
    detail = "this key stands twice in its JSON object; it is not known which value is right"
    if _PLAIN_PATH.fullmatch(path):
        return DecodeError(ReasonCode.AMBIGUOUS_KEY, detail, path)
    return DecodeError(
        ReasonCode.AMBIGUOUS_KEY,
        f"the key {quoted(path)} stands twice in its JSON object; it is not known which value is"
        " right",
    )
