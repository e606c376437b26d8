"""Read one value at a time: what the devices' numbers and words mean, within what is possible.

Each function raises `DecodeError` for a value that cannot be true, with the path of its field.
"""

from functools import lru_cache

from msgspec import Struct

from echo_ingest.decode.audio.sound import SAMPLE_RATE_HZ_MAX
from echo_ingest.decode.errors import DecodeError, quoted
from echo_ingest.decode.fields import Lla
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Place, SourceType

TEXT_CHARACTERS_MAX = 256


class PlacePaths(Struct, frozen=True, gc=False):
    """The paths of the fields that make one place."""

    whole: str
    latitude: str
    longitude: str
    uncertainty: str | None = None


class LlaPaths(Struct, frozen=True, gc=False):
    """The paths of a place that devices write as a list or as an object."""

    as_list: PlacePaths
    as_object: PlacePaths


def lla_paths(field: str, uncertainty: str | None = None) -> LlaPaths:
    """Return the paths below `field`; its uncertainty is a field of its own."""
    return LlaPaths(
        as_list=PlacePaths(field, f"{field}[0]", f"{field}[1]", uncertainty),
        as_object=PlacePaths(field, f"{field}.latitude", f"{field}.longitude", uncertainty),
    )


def lla(
    given: list[float] | Lla | None, paths: LlaPaths, uncertainty: float | None = None
) -> Place | None:
    """Read a place given as a list or as an object."""
    if given is None:
        return None
    if isinstance(given, Lla):
        return place(given.latitude, given.longitude, given.altitude, uncertainty, paths.as_object)
    if len(given) not in (2, 3):
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_PLACE,
            f"[latitude, longitude, altitude] was expected, not a list of {len(given):,} values",
            paths.as_list.whole,
        )
    altitude = given[2] if len(given) == 3 else None
    return place(given[0], given[1], altitude, uncertainty, paths.as_list)


def place(
    latitude: float | None,
    longitude: float | None,
    altitude: float | None,
    uncertainty: float | None,
    paths: PlacePaths,
) -> Place | None:
    """Make a place; a place of nothing but zeros means that the device does not know."""
    if latitude is None and longitude is None:
        return None
    if latitude is None or longitude is None:
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_PLACE,
            "only one of latitude and longitude is given",
            paths.whole,
        )
    if not (latitude or longitude or altitude):
        return None
    if not -90 <= latitude <= 90:
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_PLACE,
            f"the latitude {latitude:g} is off the planet (−90 to 90)",
            paths.latitude,
        )
    if not -180 <= longitude <= 180:
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_PLACE,
            f"the longitude {longitude:g} is off the planet (−180 to 180)",
            paths.longitude,
        )
    if uncertainty is not None and uncertainty < 0:
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_VALUE,
            f"an uncertainty of {uncertainty:g} m is less than 0",
            paths.uncertainty,
        )
    return Place(latitude, longitude, altitude, uncertainty)


def not_negative(value: float | None, field: str) -> float | None:
    """Let through a number that is not less than 0."""
    if value is not None and value < 0:
        raise DecodeError(ReasonCode.IMPOSSIBLE_VALUE, f"{value:g} is less than 0", field)
    return value


@lru_cache(maxsize=16_384)  # devices send two decimals: 10,001 values
def fraction(percent: float) -> float:
    """Turn a confidence of 0 to 100 into a fraction."""
    if not 0 <= percent <= 100:
        raise DecodeError(
            ReasonCode.CONFIDENCE_OUT_OF_RANGE,
            f"{percent:g} is out of range; send a percentage from 0 to 100",
            "confidence",
        )
    return round(abs(percent) / 100, 10)


def sample_rate(rate: float) -> int | None:
    """Read a claimed sample rate in hertz; 0 means unknown."""
    if rate == 0:
        return None
    if not 1 <= rate <= SAMPLE_RATE_HZ_MAX:
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_VALUE,
            f"{rate:g} Hz is not a sample rate that a recorder has; the clip itself says it",
            "sampleRate",
        )
    return round(rate)


def source_type(word: str | None) -> SourceType | None:
    """Read whether the message comes from a simulator."""
    match word:
        case None:
            return None
        case "real" | "simulator" as known:
            return known
        case other:
            raise DecodeError(
                ReasonCode.IMPOSSIBLE_VALUE,
                f'"real" or "simulator" was expected, not {quoted(other)}',
                "sourceType",
            )


def name(value: str | int, field: str) -> str:
    """Read an id, which some devices send as a number."""
    return text(value if isinstance(value, str) else str(value), field)


def optional_text(value: str | None, field: str) -> str | None:
    """Read text where an empty one means none."""
    return text(value, field) if value else None


def text(value: str, field: str, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    """Let through text that is printable, not empty and not too long."""
    if value.isprintable() and 0 < len(value) <= characters_max and not value.isspace():
        return value
    if len(value) > characters_max:
        detail = f"the text has {len(value):,} characters; at most {characters_max:,} can be read"
    elif not value.strip():
        detail = "the text is empty"
    else:
        detail = f"the text holds characters that cannot be printed: {quoted(value)}"
    raise DecodeError(ReasonCode.IMPOSSIBLE_VALUE, detail, field)
