"""Edge predictions that need no second look: most of what a network in the field sends.

Whatever is known at a glance here is exactly what `echo.decode` would say of it, at a sixth of the
cost: one strict type says which fields there may be and in which range, and text is taken only
where nothing in it can be unprintable or blank. All else is None, and left to `echo`: a field of
another form, a value at the edge. `tests/fuzz` holds the two against each other.
"""

from typing import Annotated, Literal, cast

import msgspec
from msgspec import Meta, Struct

from echo_ingest.decode.fields import PARTS_MAX, UNCOUNTED_BYTES_MAX, Fields
from echo_ingest.decode.times import SECONDS_MAX
from echo_ingest.record import Identity

PAYLOAD_BYTES_MAX = 1024
"""The least that `IOT_PAYLOAD_BYTES_MAX` can be, so that no message is too large here."""
SECONDS_FROM = 365 * 86_400
"""1971: a clock that says 1970 was never set."""
BACKSLASH, DELETE = ord("\\"), 0x7F

Text = Annotated[str, Meta(min_length=1, max_length=256)]
Percent = Annotated[float, Meta(ge=0, le=100)]


class FastRanked(Struct, frozen=True, gc=False):
    """As `fields.Ranked`."""

    label: Text
    confidence: Percent


class FastGps(Struct, frozen=True, gc=False):
    """As `fields.Gps`."""

    lat: Annotated[float, Meta(ge=-90, le=90)]
    lon: Annotated[float, Meta(ge=-180, le=180)]


class EdgePrediction(Struct, frozen=True, gc=False):
    """The form `edge-prediction`, its values where they usually are."""

    timestamp: str | int
    sensor_id: Text
    species: Text
    confidence: Percent
    id: Text | None = None
    type: Literal["prediction"] | None = None
    top5: list[FastRanked] | None = None
    gps_data: FastGps | None = None
    gps_uncertainty: Annotated[float, Meta(ge=0)] | None = None


_OTHERS = [
    (name, None, None)
    for name in Fields.__struct_fields__
    if name not in EdgePrediction.__struct_fields__
]
"""All other fields, null if they are there at all; what no form knows is left alone."""
_Alone = cast(
    type[EdgePrediction],
    msgspec.defstruct("Alone", _OTHERS, bases=(EdgePrediction,), frozen=True, gc=False),
)
_decode = msgspec.json.Decoder(_Alone).decode


def identify(payload: bytes) -> Identity | None:
    """Which message this is, if that can be told at a glance; else None."""
    if (
        (len(payload) > UNCOUNTED_BYTES_MAX and _is_much(payload))
        # All text is printable: of control characters, JSON itself lets only the last one pass.
        or not payload.isascii()
        or BACKSLASH in payload  # it may stand for anything
        or DELETE in payload
        or payload.rfind(b'" ') >= 0  # a text that begins with a space may hold nothing else
    ):
        return None
    try:
        found = _decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return None
    stamp = found.timestamp
    if isinstance(stamp, str):
        if not stamp.isdigit():
            return None
        stamp = int(stamp)
    if not SECONDS_FROM <= stamp <= SECONDS_MAX:
        return None
    return Identity("detection", stamp, found.id, found.sensor_id)


def _is_much(payload: bytes) -> bool:
    """Is it long, or of too many parts?"""
    return len(payload) > PAYLOAD_BYTES_MAX or payload.count(b"{") + payload.count(b"[") > PARTS_MAX
