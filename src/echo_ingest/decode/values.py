"""One value at a time: what the devices' numbers and words mean, within what is possible.

Each function raises `DecodeError` for a value that cannot be true, naming its field.
"""

from functools import lru_cache

from echo_ingest.decode.audio.sound import SAMPLE_RATE_HZ_MAX
from echo_ingest.decode.errors import DecodeError, said
from echo_ingest.decode.fields import Lla
from echo_ingest.record import Place, SourceType

TEXT_CHARACTERS_MAX = 256


def lla(
    given: list[float] | Lla | None, field: str, uncertainty: float | None = None
) -> Place | None:
    """Read a place given as a list or as an object."""
    if given is None:
        return None
    if isinstance(given, Lla):
        return place(given.latitude, given.longitude, given.altitude, uncertainty, field)
    if len(given) not in (2, 3):
        raise DecodeError(
            f"{field}: [latitude, longitude, altitude] expected, found {len(given)} values"
        )
    return place(given[0], given[1], given[2] if len(given) == 3 else None, uncertainty, field)


def place(
    latitude: float | None,
    longitude: float | None,
    altitude: float | None,
    uncertainty: float | None,
    field: str,
) -> Place | None:
    """Make a place; a place of nothing but zeros means that the device does not know."""
    if latitude is None and longitude is None:
        return None
    if latitude is None or longitude is None:
        raise DecodeError(f"{field}: only one of latitude and longitude is there")
    if not (latitude or longitude or altitude):
        return None
    if not -90 <= latitude <= 90:
        raise DecodeError(f"{field}: latitude {latitude:g} is off the planet (−90 to 90)")
    if not -180 <= longitude <= 180:
        raise DecodeError(f"{field}: longitude {longitude:g} is off the planet (−180 to 180)")
    if uncertainty is not None and uncertainty < 0:
        raise DecodeError(f"{field}: its uncertainty of {uncertainty:g} m is less than 0")
    return Place(latitude, longitude, altitude, uncertainty)


def not_negative(value: float | None, field: str) -> float | None:
    """Let through what cannot be less than nothing."""
    if value is not None and value < 0:
        raise DecodeError(f"{field}: {value:g} is less than 0")
    return value


@lru_cache(maxsize=16_384)  # devices send two decimals: 10,001 values
def fraction(percent: float) -> float:
    """Turn a confidence of 0 to 100 into a fraction."""
    if not 0 <= percent <= 100:
        raise DecodeError(
            f"confidence: {percent:g} is out of range; send a percentage from 0 to 100"
        )
    return round(abs(percent) / 100, 10)


def sample_rate(rate: float) -> int | None:
    """Read a claimed sample rate in hertz; 0 means unknown."""
    if rate == 0:
        return None
    if not 1 <= rate <= SAMPLE_RATE_HZ_MAX:
        raise DecodeError(f"sampleRate: {rate:g} Hz is no sample rate")
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
                f'sourceType: "real" or "simulator" was expected, found {said(other)}'
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
        raise DecodeError(f"{field}: {len(value):,} characters; {characters_max} can be read")
    if not value.strip():
        raise DecodeError(f"{field}: is empty")
    raise DecodeError(f"{field}: holds characters that cannot be printed: {said(value)}")
