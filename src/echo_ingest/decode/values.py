"""Read one value at a time: what the devices' numbers and words mean, within what is possible.

Each function raises `DecodeError` for a value that cannot be true, with the path of its field.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from math import isfinite
from unicodedata import normalize

from msgspec import Struct

from echo_ingest.decode.audio.sound import SAMPLE_RATE_HZ_MAX
from echo_ingest.decode.errors import DecodeError, digits, quoted
from echo_ingest.decode.fields import Lla
from echo_ingest.decode.times import CLOCK_TOLERANCE_SECONDS
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import SECONDS_MAX, Place, SourceType

TEXT_CHARACTERS_MAX = 256
TEXTS_REMEMBERED = 4_096
"""They are what is sent again and again: names of species and sensors."""
NAME_WORDS_MAX = 3
"""A scientific name has up to three words; a longer text may hold names within it."""
NEAR_ZERO_DEGREES = 0.01
"""About 1 km around 0°, 0°: a receiver without a fix. There is only sea."""
NO_FIX = -1.0
"""What some receivers write as latitude and as longitude where they have no fix."""
ALTITUDE_METRES_MIN, ALTITUDE_METRES_MAX = -500, 9_000
UNCERTAINTY_METRES_MAX = 100_000
PERCENT_MAX = 100.0001
"""A confidence of 100 in 32 bits may read 100.0000076."""
FRACTION_MAX = 1.000001
BYTE_MAX = 255.0
CALIBRATION_PERCENT = 0.5
"""By so much a full battery or an empty disk may miss 100 or 0, as each is measured."""
EXTERNAL_POWER, BATTERY_UNKNOWN = 101, 255
"""What Meshtastic's firmware and Smart Battery chips write in the place of a percentage."""
CPU_PERCENT_MAX = 12_800
"""All of 128 cores."""
UPTIME_SECONDS_MAX = 315_576_000
"""Ten years. What is between it and the first day is neither a duration nor a time."""

_WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""The property White_Space of Unicode; Python's own has four separators for machines too."""
_WHITE_SPACES = re.compile(f"[{_WHITE_SPACE}]+")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019\u02bc\u2010\u2011-][^\W\d_]+)*")
"""Letters alone, with hyphens and apostrophes within."""
_DECIMAL = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
"""1,234 may be a thousand and more, or one and a bit."""


class PlacePaths(Struct, frozen=True, gc=False):
    """The paths of the fields that make one place."""

    whole: str
    latitude: str
    longitude: str
    uncertainty: str | None = None
    altitude: str | None = None


class LlaPaths(Struct, frozen=True, gc=False):
    """The paths of a place that devices write as a list or as an object."""

    as_list: PlacePaths
    as_object: PlacePaths


def lla_paths(field: str, uncertainty: str | None = None) -> LlaPaths:
    """Return the paths below `field`; its uncertainty is a field of its own."""
    return LlaPaths(
        as_list=PlacePaths(field, f"{field}[0]", f"{field}[1]", uncertainty, f"{field}[2]"),
        as_object=PlacePaths(
            field, f"{field}.latitude", f"{field}.longitude", uncertainty, f"{field}.altitude"
        ),
    )


def lla(
    given: list[float | None] | Lla | None, paths: LlaPaths, uncertainty: float | None = None
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
    if given[0] is None or given[1] is None:
        return None
    altitude = given[2] if len(given) == 3 else None
    return place(given[0], given[1], altitude, uncertainty, paths.as_list)


def place(
    latitude: float | None,
    longitude: float | None,
    altitude: float | None,
    uncertainty: float | None,
    paths: PlacePaths,
) -> Place | None:
    """Make a place; near 0°, 0° and at −1°, −1° it means that the device does not know."""
    if latitude is None and longitude is None:
        return None
    if latitude is None or longitude is None:
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_PLACE,
            "only one of latitude and longitude is given",
            paths.whole,
        )
    if (
        abs(latitude) <= NEAR_ZERO_DEGREES and abs(longitude) <= NEAR_ZERO_DEGREES
    ) or latitude == longitude == NO_FIX:
        return None
    if not -90 <= latitude <= 90:
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_PLACE,
            f"the latitude {digits(latitude)} is off the planet (−90 to 90)",
            paths.latitude,
        )
    if not -180 <= longitude <= 180:
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_PLACE,
            f"the longitude {digits(longitude)} is off the planet (−180 to 180)",
            paths.longitude,
        )
    if altitude is not None and not ALTITUDE_METRES_MIN <= altitude <= ALTITUDE_METRES_MAX:
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_VALUE,
            f"an altitude of {digits(altitude)} m is not on Earth"
            f" (−{-ALTITUDE_METRES_MIN} to {ALTITUDE_METRES_MAX:,})",
            paths.altitude,
        )
    if uncertainty is not None and not 0 <= uncertainty <= UNCERTAINTY_METRES_MAX:
        detail = "less than 0" if uncertainty < 0 else f"more than {UNCERTAINTY_METRES_MAX:,} m"
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_VALUE,
            f"an uncertainty of {digits(uncertainty)} m is {detail}",
            paths.uncertainty,
        )
    return Place(latitude, longitude, altitude, uncertainty)


def decimal(written: str, *, is_degrees: bool) -> float | None:
    """Read a number that is written as text; return None where it is none, or could be two.

    The comma is the decimal sign of many countries, and separates thousands in others. A number of
    degrees has no thousands.
    """
    bare = written.strip().replace("\N{MINUS SIGN}", "-")
    if not _DECIMAL.fullmatch(bare) or (not is_degrees and _THOUSANDS.fullmatch(bare)):
        return None
    number = float(bare.replace(",", "."))
    return number if isfinite(number) else None


def percent(value: float | None, field: str, most: float = 100) -> float | None:
    """Read a percentage that may be off by the error of its measurement."""
    if value is None or 0 <= value <= most:
        return value
    if not -CALIBRATION_PERCENT <= value <= most + CALIBRATION_PERCENT:
        detail = "less than 0" if value < 0 else f"more than {most:,} %"
        raise DecodeError(ReasonCode.IMPOSSIBLE_VALUE, f"{digits(value)} is {detail}", field)
    return min(max(value, 0.0), most)


def battery(value: float | None, field: str) -> tuple[float | None, bool | None]:
    """Read the charge of a battery in percent, and whether the node runs on external power."""
    if value == EXTERNAL_POWER:
        return None, True
    if value == BATTERY_UNKNOWN:
        return None, None
    try:
        return percent(value, field), None
    except DecodeError as error:
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_VALUE,
            f"{error.rejected.detail}; send 0 to 100, {EXTERNAL_POWER} for external power, or"
            " null where it is not known",
            field,
        ) from None


def uptime(
    value: float, field: str, first: datetime, received: datetime, clock_ahead: float
) -> tuple[float | None, datetime | None]:
    """Read how long a node has been running in seconds, or when it was started.

    The start is a time since 1970, in seconds or milliseconds, by a clock that is `clock_ahead`
    seconds ahead; it lies between `first` and `received`.
    """
    if 0 <= value <= UPTIME_SECONDS_MAX:
        return value, None
    if value < 0:
        raise DecodeError(ReasonCode.IMPOSSIBLE_VALUE, f"{digits(value)} is less than 0", field)
    last = received.timestamp() + CLOCK_TOLERANCE_SECONDS
    for seconds in (value - clock_ahead, value / 1000 - clock_ahead):
        if first.timestamp() <= seconds <= last:
            return None, datetime.fromtimestamp(seconds, UTC)
    if last < value <= SECONDS_MAX:
        detail = "as the time of the start is after the receipt: the clock of the node is ahead"
    else:
        detail = (
            "is neither the seconds since the start nor the time of the start; if it counts"
            " milliseconds, divide it by 1,000"
        )
    raise DecodeError(ReasonCode.IMPOSSIBLE_VALUE, f"{digits(value)} {detail}", field)


@lru_cache(maxsize=16_384)  # devices send two decimals: 10,001 values
def fraction(percentage: float) -> float:
    """Turn a confidence of 0 to 100 into a fraction."""
    share = share_of(100, PERCENT_MAX, percentage)
    if share is None:
        raise DecodeError(
            ReasonCode.CONFIDENCE_OUT_OF_RANGE,
            f"{digits(percentage)} is out of range; send a percentage from 0 to 100",
            "confidence",
        )
    return share


@lru_cache(maxsize=16_384)
def given_fraction(confidence: float) -> float:
    """Read the confidence of a node that sends fractions, as the nodes file says."""
    share = share_of(1, FRACTION_MAX, confidence)
    if share is None:
        raise DecodeError(
            ReasonCode.CONFIDENCE_NOT_A_FRACTION,
            f"{digits(confidence)} is not from 0 to 1, but the nodes file says"
            ' "confidence": "fraction" for this node',
            "confidence",
        )
    return share


def share_of(whole: float, most: float, value: float) -> float | None:
    """Return a confidence of 0 to `whole` as a fraction; None where it is beyond.

    `most` is what still counts as whole, and as far below 0 it still counts as 0.
    """
    if not whole - most <= value <= most:
        return None
    return round(min(max(value, 0.0), whole) / whole, 10)


def sample_rate(rate: float, field: str) -> int | None:
    """Read a claimed sample rate in hertz; 0 means unknown."""
    if rate == 0:
        return None
    if not 1 <= rate <= SAMPLE_RATE_HZ_MAX:
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_VALUE,
            f"{digits(rate)} Hz is not a sample rate that a recorder has; the clip itself says it",
            field,
        )
    return round(rate)


def source_type(word: str | None, field: str) -> SourceType | None:
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
                field,
            )


def name(value: str | int, field: str) -> str:
    """Read an id, which some devices send as a number."""
    return text(value if isinstance(value, str) else str(value), field)


def species(value: str, field: str) -> str:
    """Read the name of a species, so that two names differ only where more than their case does."""
    if len(value) > TEXT_CHARACTERS_MAX:
        return _sentence_case(text(value, field))
    return _species(value, field)


def as_sent(value: str, species: str) -> str | None:
    """Return a name with the capital letters that the device gave it, where `species` has others.

    `value` is what `species` was read from.
    """
    name = tidy(value)
    return None if name == species else name


def optional_text(value: str | None, field: str) -> str | None:
    """Read text where an empty one means none."""
    return text(value, field) if value else None


def optional_exact_text(value: str | None, field: str) -> str | None:
    """Let through text where an empty one means none."""
    return exact_text(value, field) if value else None


def text(value: str, field: str) -> str:
    """Read a name: printable, not empty and not too long, with its white space in order."""
    if len(value) > TEXT_CHARACTERS_MAX:
        value = value.strip(_WHITE_SPACE)
    return exact_text(tidy(value) if len(value) <= TEXT_CHARACTERS_MAX else value, field)


@lru_cache(TEXTS_REMEMBERED)
def tidy(value: str) -> str:
    """Return text as it looks: without white space around it, one space within, composed (NFC)."""
    return normalize("NFC", _WHITE_SPACES.sub(" ", value).strip(" "))


@lru_cache(TEXTS_REMEMBERED)
def _species(value: str, field: str) -> str:
    return _sentence_case(text(value, field))


def _sentence_case(name: str) -> str:
    """Write a name with a capital letter first.

    A scientific name has no other capitals. What may be a label with several names or a code is
    left alone but for the first letter.
    """
    words = name.split(" ")
    if len(words) <= NAME_WORDS_MAX and all(map(_WORD.fullmatch, words)):
        name = name[0] + name[1:].lower()
    capital = name[0].upper()
    return capital + name[1:] if len(capital) == 1 else name


def exact_text(value: str, field: str, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
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
