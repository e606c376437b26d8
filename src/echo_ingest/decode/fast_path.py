"""Identify plain edge predictions, which are most of what a network in the field sends.

What the fast path identifies, `echo.decode` would identify in the same way at six times the cost:
one strict type says which fields there may be and in which range, text is accepted only where
nothing in it can be unprintable or blank, and no key can stand twice. Everything else (a field of
another form, a value at the edge) gives None and is left to `echo`. `tests/fuzz` holds the two
against each other.
"""

from typing import Annotated, Literal, cast

import msgspec
from msgspec import Meta, Struct

from echo_ingest.decode.fields import PARTS_MAX, UNCOUNTED_BYTES_MAX, Fields, repeated_key
from echo_ingest.decode.values import UNCERTAINTY_METRES_MAX
from echo_ingest.record import SECONDS_MAX, Identity

PAYLOAD_BYTES_MAX = 1024
"""The least that `IOT_PAYLOAD_BYTES_MAX` can be, so that no message is too large here."""
SECONDS_FROM = 365 * 86_400
"""1971: a clock that says 1970 was never set."""
BACKSLASH, DELETE, COLON = ord("\\"), 0x7F, ord(":")
SPECIES = b'"species"'
"""A key that each has: messages of other makers' devices have others."""
FIRST_LETTER = "!"
"""Of the characters that are left, only the space comes before it."""
COLONS_MIN = 4
"""Of an `EdgePrediction` without the fields that may be missing."""

Text = Annotated[str, Meta(min_length=1, max_length=256)]
Percent = Annotated[float, Meta(ge=0, le=100)]


class FastRanked(Struct, frozen=True, gc=False):
    """`fields.Ranked`, with its limits."""

    label: Text
    confidence: Percent


class FastGps(Struct, frozen=True, gc=False):
    """`fields.Gps`, with its limits."""

    lat: Annotated[float, Meta(ge=-90, le=90)]
    lon: Annotated[float, Meta(ge=-180, le=180)]


class EdgePrediction(Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """The form `edge-prediction`, with its usual values only, in the order of most devices."""

    type: Literal["prediction"] | None = None
    id: Text | None = None
    timestamp: str | int
    sensor_id: Text
    species: Text
    confidence: Percent
    top5: list[FastRanked] | None = None
    gps_data: FastGps | None = None
    gps_uncertainty: Annotated[float, Meta(ge=0, le=UNCERTAINTY_METRES_MAX)] | None = None


PLAIN_KEYS = frozenset(("sensor_id", "species", "confidence", "timestamp"))
"""Those that are in each."""
_OTHER_FIELDS = [
    (name, None, None)
    for name in Fields.__struct_fields__
    if name not in EdgePrediction.__struct_fields__
]
_EdgePredictionWithMore = cast(
    type[EdgePrediction],
    msgspec.defstruct(
        "EdgePredictionWithMore",
        _OTHER_FIELDS,
        bases=(EdgePrediction,),
        frozen=True,
        gc=False,
        kw_only=True,
        forbid_unknown_fields=False,
    ),
)
"""All other fields must be null where they are there; unknown ones are ignored."""
_decode = msgspec.json.Decoder(EdgePrediction).decode
_decode_with_more = msgspec.json.Decoder(_EdgePredictionWithMore).decode


def identify(payload: bytes) -> Identity | None:
    """Return which message this is, or None if that takes a closer look."""
    if (
        (len(payload) > UNCOUNTED_BYTES_MAX and _is_large(payload))
        # All text is printable: of the control characters, JSON itself lets only DEL pass.
        or not payload.isascii()
        or BACKSLASH in payload  # an escape may stand for anything
        or DELETE in payload
    ):
        return None
    try:
        prediction = _decode(payload)
    except msgspec.ValidationError:
        if SPECIES not in payload:
            return None
        try:
            prediction = _decode_with_more(payload)
        except msgspec.DecodeError:
            return None
    except (msgspec.DecodeError, RecursionError):
        return None
    stamp = prediction.timestamp
    if isinstance(stamp, str):
        if not stamp.isdigit():
            return None
        stamp = int(stamp)
    if not SECONDS_FROM <= stamp <= SECONDS_MAX:
        return None
    message_id, sensor_id = prediction.id, prediction.sensor_id
    # Text that begins with a space may hold nothing else, and that of a sensor may be put in order.
    if " " in sensor_id or prediction.species < FIRST_LETTER:
        return None
    # Each key has one colon: those left over are in text, or belong to keys that are not known.
    colons = payload.count(COLON) - COLONS_MIN
    if message_id is not None:
        if message_id < FIRST_LETTER:
            return None
        colons -= 1
    if (top5 := prediction.top5) is not None:
        for ranked in top5:
            if ranked.label < FIRST_LETTER:
                return None
        colons -= 1 + 2 * len(top5)
    if prediction.type is not None:
        colons -= 1
    if prediction.gps_data is not None:
        colons -= 3
    if prediction.gps_uncertainty is not None:
        colons -= 1
    if colons and repeated_key(payload) is not None:
        return None
    return Identity("detection", stamp, message_id, sensor_id)


def _is_large(payload: bytes) -> bool:
    """Return whether the payload is long, or has too many parts."""
    return len(payload) > PAYLOAD_BYTES_MAX or payload.count(b"{") + payload.count(b"[") > PARTS_MAX
