"""Numbers, spans and times as people read them. Pure: a zone is always given, never assumed.

Numbers have a narrow space between thousands, quantities have a unit, times have a zone.
"""

import functools
import itertools
import math
import re
import zoneinfo
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from echo_ingest import formatting

NARROW_SPACE = "\u202f"
NO_BREAK_SPACE = "\u00a0"
MINUS = "−"

ZONE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")
SPANS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
SPANS_WITH_TWO_UNITS_BELOW = 10

Moment = datetime | int
"""Aware, or milliseconds since 1970."""


# ---------------------------------------------------------------------- numbers


def number(value: float, decimals: int = 0) -> str:
    """Write `12 304`, `0.87` or `−4.5`; what is not finite is a dash."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:,.{decimals}f}".replace(",", NARROW_SPACE)
    if text.startswith("-"):
        text = text[1:] if float(f"{value:.{decimals}f}") == 0 else MINUS + text[1:]
    return text


def with_unit(value: float, unit: str, decimals: int = 0) -> str:
    """Write `4.1 V` or `85 %`, with a space at which a line cannot break."""
    return f"{number(value, decimals)}{NO_BREAK_SPACE}{unit}"


def counted(count: int, things: str) -> str:
    """Write `1 node` or `2 nodes`, as `echo_ingest.formatting.counted` does."""
    return formatting.counted(count, things, thousands=NARROW_SPACE)


def size(size_bytes: float) -> str:
    """Write bytes with about three digits: `640 kB`, `1.2 GB`."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        # As it will be shown: 999,999 bytes are 1.0 MB and not 1,000 kB.
        if abs(size_bytes) >= scale * 0.9995:
            value = size_bytes / scale
            return with_unit(value, unit, 1 if abs(value) < 99.95 else 0)
    return with_unit(size_bytes, "B")


def per_second(rate: float, beside: float | None = None) -> str:
    """Write `1 204 /s` or `3.2 /s`; per minute or per hour where that is less than one.

    Use the unit of the rate that it stands `beside`, where there is one.
    """
    measure = rate if beside is None else beside
    unit, seconds = next(
        (unit, seconds)
        for unit, seconds in (("/s", 1), ("/min", 60), ("/h", 3_600))
        if measure * seconds >= 0.95 or measure == 0 or unit == "/h"
    )
    return with_unit(rate * seconds, unit, 0 if rate * seconds >= 9.95 or rate == 0 else 1)


# ---------------------------------------------------------------------- spans


def span(seconds: float) -> str:
    """Write `40 seconds`, `2 minutes`, `3 hours 20 minutes` or `12 days`: as exactly as needed."""
    whole = max(0, int(seconds))
    for (name, unit), (smaller_name, smaller) in itertools.pairwise(SPANS):
        count = whole // unit
        if count >= SPANS_WITH_TWO_UNITS_BELOW or (count and name == "minute"):
            return counted(count, f"{name}s")
        if count:
            rest = whole % unit // smaller
            return counted(count, f"{name}s") + (
                f" {counted(rest, f'{smaller_name}s')}" if rest else ""
            )
    return counted(whole, "seconds") if whole else "less than a second"


def duration(seconds: float) -> str:
    """Write by how much a clock is off, such as `11 h 0 min`."""
    return formatting.duration(seconds, thousands=NARROW_SPACE)


def ago(when: Moment, now: datetime) -> str:
    """Write `2 minutes ago`; a time in the future, from a wrong clock, is `in 2 minutes`."""
    seconds = (now - _aware(when)).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    return f"in {span(-seconds)}" if seconds < 0 else f"{span(seconds)} ago"


# ---------------------------------------------------------------------- times


@functools.lru_cache(1_000)
def zone_called(name: str) -> ZoneInfo:
    """Return the zone of that IANA name, else UTC: the name comes from a browser."""
    if len(name) <= 64 and ZONE_NAME.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            pass
    return ZoneInfo("UTC")


def clock(when: Moment, zone: ZoneInfo, *, seconds: bool = False) -> str:
    """Write `03:12 AEST`."""
    local = _local(when, zone)
    return (
        f"{local:%H:%M:%S}" + f" {zone_of(local)}" if seconds else f"{local:%H:%M} {zone_of(local)}"
    )


def moment(when: Moment, zone: ZoneInfo) -> str:
    """Write `14 Sep 2026, 03:12:45 AEST`."""
    local = _local(when, zone)
    return f"{day(local.date())}, {local:%H:%M:%S} {zone_of(local)}"


def moment_short(when: Moment, now: datetime, zone: ZoneInfo) -> str:
    """Write `03:12 AEST` for today, `yesterday 03:12 AEST`, else the day too, and the year."""
    local, today = _local(when, zone), now.astimezone(zone).date()
    text = f"{local:%H:%M} {zone_of(local)}"
    match (today - local.date()).days:
        case 0:
            return text
        case 1:
            return f"yesterday {text}"
    if local.year == today.year:
        return f"{local.day} {local:%b}, {text}"
    return f"{day(local.date())}, {text}"


def iso(when: Moment) -> str:
    """Write RFC 3339 in UTC, for the `datetime` attribute of `<time>`."""
    return _aware(when).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def day(when: date) -> str:
    """Write `14 Sep 2026`."""
    return f"{when.day} {when:%b} {when.year:04}"


def zone_of(local: datetime) -> str:
    """Write `AEST`; `UTC+3` where a zone has no letters."""
    name = local.tzname() or "UTC"
    if name[0] not in "+-":
        return name
    offset = local.utcoffset() or timedelta()
    minutes = abs(offset) // timedelta(minutes=1)
    sign = "+" if offset >= timedelta() else MINUS
    return f"UTC{sign}{minutes // 60}" + (f":{minutes % 60:02}" if minutes % 60 else "")


# ---------------------------------------------------------------------- nights


def night_name(night: date) -> str:
    """Write `night of 14 to 15 Sep 2026`."""
    morning = night + timedelta(days=1)
    if (night.year, night.month) == (morning.year, morning.month):
        return f"night of {night.day} to {day(morning)}"
    if night.year == morning.year:
        return f"night of {night.day} {night:%b} to {day(morning)}"
    return f"night of {day(night)} to {day(morning)}"


def _aware(when: Moment) -> datetime:
    if isinstance(when, int):
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=when)
    return when


def _local(when: Moment, zone: ZoneInfo) -> datetime:
    aware = _aware(when)
    try:
        return aware.astimezone(zone)
    except (OverflowError, ValueError):  # the ends of the calendar, where a clock has failed
        return aware
