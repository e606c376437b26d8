"""Identify plain edge predictions, which are most of what a network in the field sends.

What the fast path identifies, `echo.decode` would identify in the same way at six times the cost:
one strict type says which fields there may be and in which range, and text is accepted only where
nothing in it can be unprintable or blank. Everything else (a field of another form, a value at the
edge) gives None and is left to `echo`. `tests/fuzz` holds the two against each other.
"""

from typing import Annotated, Literal, cast

import msgspec
from msgspec import Meta, Struct

from echo_ingest.decode.fields import PARTS_MAX, UNCOUNTED_BYTES_MAX, Fields
from echo_ingest.record import SECONDS_MAX, Identity

PAYLOAD_BYTES_MAX = 1024
"""The least that `IOT_PAYLOAD_BYTES_MAX` can be, so that no message is too large here."""
SECONDS_FROM = 365 * 86_400
"""1971: a clock that says 1970 was never set."""
BACKSLASH, DELETE = ord("\\"), 0x7F

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


class EdgePrediction(Struct, frozen=True, gc=False):
    """The form `edge-prediction`, with its usual values only."""

    timestamp: str | int
    sensor_id: Text
    species: Text
    confidence: Percent
    id: Text | None = None
    type: Literal["prediction"] | None = None
    top5: list[FastRanked] | None = None
    gps_data: FastGps | None = None
    gps_uncertainty: Annotated[float, Meta(ge=0)] | None = None


_OTHER_FIELDS = [
    (name, None, None)
    for name in Fields.__struct_fields__
    if name not in EdgePrediction.__struct_fields__
]
"""All other fields, which must be null where they are there; unknown ones are ignored."""
_OnlyEdgePrediction = cast(
    type[EdgePrediction],
    msgspec.defstruct(
        "OnlyEdgePrediction", _OTHER_FIELDS, bases=(EdgePrediction,), frozen=True, gc=False
    ),
)
_decode = msgspec.json.Decoder(_OnlyEdgePrediction).decode


def identify(payload: bytes) -> Identity | None:
    """Return which message this is, or None if that takes a closer look."""
    if (
        (len(payload) > UNCOUNTED_BYTES_MAX and _is_large(payload))
        # All text is printable: of the control characters, JSON itself lets only DEL pass.
        or not payload.isascii()
        or BACKSLASH in payload  # an escape may stand for anything
        or DELETE in payload
        or payload.rfind(b'" ') >= 0  # text that begins with a space may hold nothing else
    ):
        return None
    try:
        prediction = _decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return None
    stamp = prediction.timestamp
    if isinstance(stamp, str):
        if not stamp.isdigit():
            return None
        stamp = int(stamp)
    if not SECONDS_FROM <= stamp <= SECONDS_MAX:
        return None
    return Identity("detection", stamp, prediction.id, prediction.sensor_id)


def _is_large(payload: bytes) -> bool:
    """Return whether the payload is long, or has too many parts."""
    return len(payload) > PAYLOAD_BYTES_MAX or payload.count(b"{") + payload.count(b"[") > PARTS_MAX
