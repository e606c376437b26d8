"""Read every way in which devices write a time, and decide whether it can be true.

Reading gives what the device wrote, with or without a zone (`TimeReading`). `place_in_time` then
decides when something happened: it believes a time that lies between the first day of the project
and the receipt of the message, and else takes the time of receipt and says why.
"""

import re
from collections.abc import Sequence
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, timedelta
from typing import NotRequired, TypedDict
from zoneinfo import ZoneInfo

from msgspec import Struct

from echo_ingest.decode.errors import DecodeError, printable, quoted
from echo_ingest.decode.rules import Rules
from echo_ingest.formatting import utc
from echo_ingest.quality import TimeProblem
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import SECONDS_MAX, Message, TimeSource

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CLOCK_FAILED_YEAR = 1970
DAY = timedelta(days=1)
CLOCK_TOLERANCE = timedelta(minutes=10)
"""How far a time may lie after its receipt: a clock that is set by hand, or once a week by a radio
in the forest, is minutes off, and a record of it is still of more use than the time of receipt."""
CLOCK_STARTS = tuple(
    datetime(*day) for day in ((1970, 1, 1), (1980, 1, 1), (1980, 1, 6), (2000, 1, 1), (2010, 1, 1))
)
"""Where clocks begin that were never set: Unix, FAT, GPS, and the chips of battery-backed clocks.
A recorder that was switched on without a battery counts from there."""
OTHER_STARTS_SECONDS = tuple(
    (datetime(*day) - datetime(1970, 1, 1)).total_seconds()
    for day in ((1900, 1, 1), (1980, 1, 1), (1980, 1, 6), (2000, 1, 1))
)
"""How much later than Unix others begin to count: NTP, FAT, GPS, and some small computers."""
WAITED_MAX = timedelta(days=30)
"""For how long a message may have waited whose count, which is not believed, has another start."""
GPS_WEEKS = timedelta(weeks=1024)
"""GPS counts weeks in ten bits: an old receiver gives a date that lies so far in the past."""
PLAIN_FROM = datetime(2015, 1, 1, tzinfo=UTC)
PLAIN_FROM_DAY = PLAIN_FROM.date()
PLAIN_LATE_SECONDS = 9 * 365 * 86_400
"""A time from that day on that is less than nine years old is none of a clock that was not set, as
long as it is not before the first day either: that spares most messages the rules one by one."""
CLOCK_TOLERANCE_SECONDS = CLOCK_TOLERANCE.total_seconds()
COUNTED_FROM_ELSEWHERE = (None, TimeProblem.BEFORE_FIRST_DAY, TimeProblem.AFTER_RECEIPT)
"""What a count with another start looks like at first."""
ZONE_WEST_SECONDS, ZONE_EAST_SECONDS = 12 * 3600, 14 * 3600
"""How far zones are behind UTC and ahead of it."""

SECONDS_MIN, SECONDS_BEYOND = -62_135_596_800, 253_402_300_800
"""The first second of the year 1, where Python's datetimes begin, and the one after the last."""
MICROSECONDS = 1_000_000
UNITS = {"s": 1, "ms": 1_000, "us": MICROSECONDS, "ns": 1_000_000_000}
"""How many of a unit a second has."""
MILLISECONDS_FROM, MICROSECONDS_FROM, NANOSECONDS_FROM = 10**11, 10**14, 10**17
"""Numbers from here on are in that unit: in the next larger one they would lie in the year 5138."""
PLAIN_NUMBERS = 10**8
"""Numbers from here on that are seconds have more digits than `YYYYMMDD`, and fewer than others."""
NUMBER_BEYOND = 10**20
WORDS_CHARACTERS_MAX = 64

_NUMBER = re.compile(r"([+-]?\d+)(\.\d*)?", re.ASCII)
_DATE_AS_NUMBER = re.compile(
    r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)"
    r"(?:(?P<hour>[01]\d|2[0-4])(?P<minute>[0-5]\d)(?:(?P<second>[0-5]\d|60)(?:\d{3})?)?)?",
    re.ASCII,
)
_DIGITS_OF_A_DATE = {
    8: "YYYYMMDD",
    12: "YYYYMMDDHHMM",
    14: "YYYYMMDDHHMMSS",
    17: "YYYYMMDDHHMMSSmmm",
}
_YEARS_OF_DATES_AS_NUMBERS = range(1970, 2106)
_CALENDAR = re.compile(
    r"(?P<date>[0-9W-]{8,10})[T_ -](?P<hour>\d\d)"
    r"(?:(?P<colon>[:-]?)(?P<minute>\d\d)(?:(?P=colon)(?P<second>\d\d)(?P<fraction>[.,]\d+)?)?)?"
    r"[ ]?(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
"""A date and a time as ISO 8601 has them, or with the signs that are allowed in file names."""

_NO_OFFSET = re.compile(r"[+-]\d\d:?[6-9]\d$", re.ASCII)
"""An offset of more than 59 minutes beside its hours, which Python takes for one."""


class TimeReading(Struct, frozen=True, gc=False):
    """A time as a device wrote it."""

    moment: datetime
    """With the zone that the device named, or without one."""
    words: str
    """What the device wrote."""
    is_count: bool = False
    """It is a number since 1970, or so it seems: the device may count from another day."""

    @property
    def seconds(self) -> int:
        """Return the second since 1970 that is written, a time without a zone read as UTC.

        It is part of the identity of a message, so it depends on nothing but the message. Years
        up to 1970 give 0, as if there was no time.
        """
        moment = in_utc(self.moment) or self.moment.replace(tzinfo=UTC)
        if moment.year <= CLOCK_FAILED_YEAR:
            return 0
        return min(int(moment.timestamp()), SECONDS_MAX)


class PlacedTime(TypedDict):
    """The fields of a record that say when something happened, and how that is known."""

    observed_at: datetime
    time_source: TimeSource
    time_problem: NotRequired[TimeProblem]
    device_time: NotRequired[str]


# ---------------------------------------------------------------------- belief


def place_in_time(candidates: Sequence[TimeReading], message: Message, rules: Rules) -> PlacedTime:
    """Return the first of the `candidates` that can be true, or the time of receipt.

    The candidates stand in order of trust. If none of them is believed, the record says why the
    first is not.
    """
    ahead_seconds = rules.of(message.node).clock_ahead_seconds
    if len(candidates) == 1 and not ahead_seconds and rules.first_day <= PLAIN_FROM_DAY:
        placed = in_utc(candidates[0].moment)
        if placed is not None:
            late_seconds = message.received_at_ms / 1000 - placed.timestamp()
            if (
                -CLOCK_TOLERANCE_SECONDS <= late_seconds <= PLAIN_LATE_SECONDS
                and placed >= PLAIN_FROM
            ):
                return {"observed_at": placed, "time_source": "device"}  # almost always
    received_at = utc(message.received_at_ms)
    problems: list[TimeProblem] = []
    for reading in candidates:
        written = moved(reading.moment, -ahead_seconds) if ahead_seconds else reading.moment
        placed = in_utc(written, rules.zone)
        problem = _problem(written, placed, received_at, rules)
        if (
            reading.is_count
            and problem in COUNTED_FROM_ELSEWHERE
            and _has_other_start(written, received_at, DAY if problem is None else WAITED_MAX)
        ):
            problem = TimeProblem.OTHER_START
        if placed is None or problem is not None:
            problems.append(problem or TimeProblem.ZONE_UNKNOWN)
        elif ahead_seconds:
            return {
                "observed_at": placed,
                "time_source": "device",
                "time_problem": TimeProblem.CORRECTED,
                "device_time": _short(reading.words),
            }
        else:
            return {"observed_at": placed, "time_source": "device"}
    if problems:
        return {
            "observed_at": received_at,
            "time_source": "received",
            "time_problem": problems[0],
            "device_time": _short(candidates[0].words),
        }
    return {"observed_at": received_at, "time_source": "received"}


def _has_other_start(moment: datetime, received_at: datetime, waited_max: timedelta) -> bool:
    """Return whether a count, taken as one since 1970, comes to about now from another start.

    From 1980 today is a day ten years ago, which can lie after the first day of the project.
    """
    return any(
        -CLOCK_TOLERANCE <= received_at - moved(moment, later) <= waited_max
        for later in OTHER_STARTS_SECONDS
    )


def _problem(
    written: datetime, placed: datetime | None, received_at: datetime, rules: Rules
) -> TimeProblem | None:
    """Return why a time cannot be true; `placed` is the same in UTC, if that is known.

    A time that could not be placed is held against the limits as the earliest and as the latest
    moment that it can stand for: a clock that says 2036 is wrong in every zone.
    """
    by_its_own_clock = written.replace(tzinfo=None)
    as_utc = written.replace(tzinfo=UTC) if placed is None else placed
    if as_utc.year <= CLOCK_FAILED_YEAR or any(
        start <= moment < start + DAY
        for start in CLOCK_STARTS
        for moment in (by_its_own_clock, as_utc.replace(tzinfo=None))
    ):
        return TimeProblem.CLOCK_NOT_SET
    earliest = as_utc if placed else moved(as_utc, -ZONE_EAST_SECONDS)
    latest = as_utc if placed else moved(as_utc, ZONE_WEST_SECONDS)
    # A host whose own clock was not set when the message came cannot judge that of a device.
    if received_at >= rules.first_moment:
        if earliest > received_at + CLOCK_TOLERANCE:
            return TimeProblem.AFTER_RECEIPT
        if abs(received_at - GPS_WEEKS - as_utc) <= DAY:
            return TimeProblem.GPS_WEEK_ROLLOVER
    return TimeProblem.BEFORE_FIRST_DAY if latest < rules.first_moment else None


def in_utc(moment: datetime, zone: ZoneInfo | None = None) -> datetime | None:
    """Place a time; one that names no zone is in `zone`, and None if that is not known.

    In the hour that a clock shows twice, the first time counts; in the hour that it leaves out,
    the offset before the change.
    """
    if moment.tzinfo is None:
        if zone is None:
            return None
        moment = moment.replace(tzinfo=zone, fold=0)
    elif moment.tzinfo is UTC:
        return moment
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # in the first or the last hours that Python's datetimes have
        return moment.replace(tzinfo=UTC)


def moved(moment: datetime, seconds: float) -> datetime:
    """Return a time so many seconds later; the first or the last there is, where it is beyond."""
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return (datetime.min if seconds < 0 else datetime.max).replace(tzinfo=moment.tzinfo)


def _short(words: str) -> str:
    """Return what a device wrote, printable and of bounded length."""
    return printable(words.strip()[:WORDS_CHARACTERS_MAX])


# ---------------------------------------------------------------------- reading


def read(stamp: str | int | float, field: str) -> TimeReading:
    """Read ISO 8601, or seconds, milliseconds, microseconds or nanoseconds since 1970.

    Raise `DecodeError` for anything else, naming `field`.
    """
    if not isinstance(stamp, str):
        return TimeReading(_from_number(stamp, field, stamp), str(stamp), is_count=True)
    text = stamp.strip()
    if len(stamp) > WORDS_CHARACTERS_MAX or not text.isascii():
        raise _unreadable(field, stamp)
    if text[10:11] == "T" and (moment := _from_iso(text)) is not None:
        return TimeReading(moment, text)
    value = int(text) if text.isdigit() else _number(text)
    if value is not None:
        return TimeReading(_from_number(value, field, text), text, is_count=True)
    reading = from_calendar(text)
    if reading is None:
        raise _unreadable(field, stamp)
    return reading


def _number(text: str) -> int | float | None:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    whole, fraction = match.groups()
    return float(text) if fraction and fraction.strip(".0") else int(whole)


def from_calendar(text: str) -> TimeReading | None:
    """Read a date and a time, also as `20260914_054512`; return None for everything else."""
    text = text.strip()
    moment = None
    if text[8:9] in ("T", "t") or text[10:11] in ("T", "t", " "):
        moment = _from_iso(text.upper())
    if moment is None:
        moment = _from_unusual_calendar(text)
    return None if moment is None else TimeReading(moment, text)


def _from_iso(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None and moment.tzinfo is not UTC:
            if _NO_OFFSET.search(text):
                return None
            if moment.year in (MINYEAR, MAXYEAR):
                moment.astimezone(UTC)  # which may not exist
    except (ValueError, OverflowError):
        return None
    return moment


def _from_unusual_calendar(text: str) -> datetime | None:
    """Read what `datetime.fromisoformat` does not.

    That is the second 60, the hour 24, a zone after a space or as a name, and the signs between
    date and time that recorders use in the names of files.
    """
    match = _CALENDAR.fullmatch(text.upper())
    if match is None or (text[len(match["date"])] == "-" and match["second"] is None):
        return None  # 20260914-0500 may also be a date with a zone
    hour, minute, second = match["hour"], match["minute"] or "00", match["second"] or "00"
    later = timedelta()
    if second == "60":
        second, later = "59", timedelta(seconds=1)
    if hour == "24":
        if (minute, second) != ("00", "00") or (match["fraction"] or "").strip(".,0"):
            return None
        hour, later = "00", DAY
    zone = match["zone"] or ""
    if zone in ("UTC", "GMT"):
        zone = "Z"
    day, fraction = _extended(match["date"]), match["fraction"] or ""
    moment = _from_iso(f"{day}T{hour}:{minute}:{second}{fraction}{zone}")
    try:
        return None if moment is None else moment + later
    except OverflowError:
        return None


def _extended(day: str) -> str:
    """Write a date with its hyphens, as a time with colons wants it."""
    if "-" in day:
        return day
    if "W" in day:
        return f"{day[:4]}-{day[4:7]}-{day[7:]}"
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"


def read_count(number: float, unit: str, field: str) -> TimeReading:
    """Read a count since 1970 in one of `UNITS`; raise `DecodeError` as `read` does."""
    per_second = UNITS[unit]
    if not SECONDS_MIN * per_second <= number < SECONDS_BEYOND * per_second:
        raise DecodeError(
            ReasonCode.UNREADABLE_TIME,
            f"{quoted(number)} is not a time between the years 1 and 9999",
            field,
        )
    microseconds = number * MICROSECONDS // per_second
    moment = EPOCH + timedelta(microseconds=int(microseconds))
    return TimeReading(moment, str(number), is_count=True)


def _from_number(number: int | float, field: str, stamp: object) -> datetime:
    if PLAIN_NUMBERS <= number < MILLISECONDS_FROM:
        return datetime.fromtimestamp(number, UTC)  # almost always
    # Checked before anything is computed: an integer in JSON may be larger than any float.
    if not SECONDS_MIN <= number < NUMBER_BEYOND:
        raise DecodeError(
            ReasonCode.UNREADABLE_TIME,
            f"{quoted(stamp)} is not a time between the years 1 and 9999",
            field,
        )
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, int):
        _refuse_dates(number, field, stamp)
    if number < MILLISECONDS_FROM:
        return datetime.fromtimestamp(number, UTC)
    if number < MICROSECONDS_FROM:
        return datetime.fromtimestamp(number / 1000, UTC)
    # Whole numbers alone keep the microseconds.
    return EPOCH + timedelta(
        microseconds=int(number) if number < NANOSECONDS_FROM else int(number) // 1000
    )


def _refuse_dates(number: int, field: str, stamp: object) -> None:
    """Refuse a date that is written as a number: as a count of seconds it would be another time."""
    digits = str(number)
    if len(digits) not in _DIGITS_OF_A_DATE:
        return
    match = _DATE_AS_NUMBER.fullmatch(digits)
    if match is None or int(match["year"]) not in _YEARS_OF_DATES_AS_NUMBERS:
        return
    try:
        day = date(int(match["year"]), int(match["month"]), int(match["day"]))
    except ValueError:
        return
    meant = f"{day}T{match['hour'] or '00'}:{match['minute'] or '00'}:{match['second'] or '00'}Z"
    raise DecodeError(
        ReasonCode.UNREADABLE_TIME,
        f"{quoted(stamp)} looks like a date without separators"
        f" ({_DIGITS_OF_A_DATE[len(digits)]}); send {meant} or seconds since 1970",
        field,
    )


def _unreadable(field: str, text: str) -> DecodeError:
    return DecodeError(
        ReasonCode.UNREADABLE_TIME,
        f"{quoted(text)} cannot be read as a time; send one like 2026-09-14T05:45:12Z",
        field,
    )
