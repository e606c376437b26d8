"""Read every way in which devices write a time, as an aware datetime in UTC.

A clock that was never set says 1970. The functions return None for such a time.
"""

import re
from datetime import UTC, datetime, timedelta

from echo_ingest.decode.errors import DecodeError, quoted
from echo_ingest.reasons import ReasonCode

CLOCK_FAILED_YEAR = 1970
YEAR_MAX = 2105
SECONDS_MAX = 2**32 - 1
SECONDS_MIN = -62_135_596_800
"""The first second of the year 1, where Python's datetimes begin."""
MILLISECONDS_FROM = 10**11
"""Numbers from here on are milliseconds: as seconds they would lie in the year 5138."""
STAMP_CHARACTERS_MAX = 64

_AUDIOMOTH = re.compile(
    r"Recorded at (\d\d):(\d\d):(\d\d)(?:\.\d{1,6})? (\d\d)/(\d\d)/(\d{4})"
    r" \(UTC(?:([+-])(\d{1,2})(?::(\d\d))?)?\)",
    re.ASCII,
)


def from_device(stamp: str | int | float, field: str) -> datetime | None:
    """Read ISO 8601 or epoch seconds or milliseconds, as number or text.

    A time without a zone counts as UTC. Raises `DecodeError` for anything else, naming `field`.
    """
    if not isinstance(stamp, str):
        return _from_epoch(stamp, field, stamp)
    if len(stamp) > STAMP_CHARACTERS_MAX:
        raise _unreadable(field, stamp)
    try:
        if stamp.isdigit():
            return _from_epoch(int(stamp), field, stamp)
        text = stamp.strip()
        if text[8:9] in ("T", "t") or text[10:11] in ("T", "t", " "):
            return _from_calendar(datetime.fromisoformat(text.upper()), field, text)
        return _from_epoch(float(text), field, text)
    except ValueError:
        raise _unreadable(field, stamp) from None


def with_zone(text: str) -> datetime | None:
    """Read an ISO 8601 time that names its zone; return None for everything else."""
    try:
        moment = datetime.fromisoformat(text.strip())
        return None if moment.tzinfo is None else _from_calendar(moment, "", text)
    except (ValueError, DecodeError):
        return None


def from_audiomoth(comment: str) -> datetime | None:
    """Read "Recorded at 05:45:12 14/09/2026 (UTC+10) by AudioMoth …".

    Return None for other text. The form is that of `setHeaderComment` in the AudioMoth firmware.
    """
    match = _AUDIOMOTH.match(comment)
    if match is None:
        return None
    hour, minute, second, day, month, year = map(int, match.groups()[:6])
    zone_offset = timedelta(hours=int(match[8] or 0), minutes=int(match[9] or 0))
    if match[7] == "-":
        zone_offset = -zone_offset
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC) - zone_offset
        return _from_calendar(moment, "", comment)
    except (ValueError, OverflowError, DecodeError):
        return None


def received(at_ms: int) -> datetime:
    """Turn a receive time into a datetime."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _from_epoch(number: int | float, field: str, stamp: object) -> datetime | None:
    in_milliseconds = number >= MILLISECONDS_FROM
    # Checked before the division: an integer in JSON may be larger than any float.
    if not SECONDS_MIN <= number <= SECONDS_MAX * (1000 if in_milliseconds else 1):
        raise _out_of_range(field, stamp)
    moment = datetime.fromtimestamp(number / 1000 if in_milliseconds else number, UTC)
    return None if moment.year <= CLOCK_FAILED_YEAR else moment


def _from_calendar(moment: datetime, field: str, stamp: str) -> datetime | None:
    if moment.year > YEAR_MAX:
        raise _out_of_range(field, stamp)
    if moment.year < CLOCK_FAILED_YEAR:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return None if moment.year <= CLOCK_FAILED_YEAR else moment


def _out_of_range(field: str, stamp: object) -> DecodeError:
    return DecodeError(
        ReasonCode.UNREADABLE_TIME,
        f"{quoted(stamp)} is not a time between the years 1 and {YEAR_MAX}",
        field,
    )


def _unreadable(field: str, text: str) -> DecodeError:
    return DecodeError(
        ReasonCode.UNREADABLE_TIME,
        f"{quoted(text)} cannot be read as a time; send one like 2026-09-14T05:45:12Z",
        field,
    )
