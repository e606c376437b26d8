"""Edge predictions that need no second look: most of what a network in the field sends.

Whatever is known at a glance here is exactly what `echo.decode` would say of it, at a sixth of the
cost: one strict type says which fields there are and in which range, and text is taken only where
nothing in it can be unprintable or blank. Everything else is None, and left to `echo`: an unknown
field, a value at the edge, another form. `tests/fuzz` holds the two against each other.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from echo_ingest.decode.times import SECONDS_MAX
from echo_ingest.record import Identity

PAYLOAD_BYTES_MAX = 1024
"""The least that `IOT_PAYLOAD_BYTES_MAX` can be, so that no message is too large here."""
SECONDS_FROM = 365 * 86_400
"""1971: a clock that says 1970 was never set."""
BACKSLASH, DELETE = ord("\\"), 0x7F

Text = Annotated[str, Meta(min_length=1, max_length=256)]
Percent = Annotated[float, Meta(ge=0, le=100)]


class Ranked(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """As `fields.Ranked`."""

    label: Text
    confidence: Percent


class Gps(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """As `fields.Gps`."""

    lat: Annotated[float, Meta(ge=-90, le=90)]
    lon: Annotated[float, Meta(ge=-180, le=180)]


class EdgePrediction(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The form `edge-prediction`, its values where they usually are."""

    timestamp: str | int
    sensor_id: Text
    species: Text
    confidence: Percent
    id: Text | None = None
    type: Literal["prediction"] | None = None
    top5: list[Ranked] | None = None
    gps_data: Gps | None = None
    gps_uncertainty: Annotated[float, Meta(ge=0)] | None = None


_decode = msgspec.json.Decoder(EdgePrediction).decode


def identify(payload: bytes) -> Identity | None:
    """Which message this is, if that can be told at a glance; else None."""
    if (
        len(payload) > PAYLOAD_BYTES_MAX
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
