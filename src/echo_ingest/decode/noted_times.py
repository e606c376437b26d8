"""Make a time of the digits that recorders write into their files and the names of these.

A time that names its zone is returned in UTC, another one naive.
"""

import re
from datetime import UTC, datetime, timedelta

YEAR_MIN, YEAR_MAX = 1969, 2105  # where a clock that was not set begins, west of Greenwich
HOURS_WEST_MAX, HOURS_EAST_MAX = 12, 14

_ZONE = re.compile(r"([+-])(\d{1,2})(?::?(\d\d))?", re.ASCII)


def moment(
    year: str,
    month: str,
    day: str,
    hour: str,
    minute: str,
    second: str,
    *,
    fraction: str | None = None,
    zone: str | None = None,
) -> datetime | None:
    """Make a time of digits; `zone` is Z, UTC or an offset, and None where none is named."""
    offset = None if zone is None else utc_offset(zone)
    if zone is not None and offset is None:
        return None
    try:
        read = datetime(
            int(year),
            int(month),
            int(day),
            int(hour),
            int(minute),
            int(second),
            int((fraction or "0")[:6].ljust(6, "0")),
        )
    except ValueError:
        return None
    if not YEAR_MIN <= read.year <= YEAR_MAX:
        return None
    return read if offset is None else (read - offset).replace(tzinfo=UTC)


def utc_offset(zone: str) -> timedelta | None:
    """Read "Z", "UTC", "+10", "+1000", "+10:30" or "-3:30"; None where no place has that offset."""
    if zone.upper() in ("Z", "UTC"):
        return timedelta(0)
    match = _ZONE.fullmatch(zone)
    if match is None:
        return None
    hours, minutes = int(match[2]), int(match[3] or 0)
    offset = timedelta(hours=hours, minutes=minutes)
    hours_max = HOURS_WEST_MAX if match[1] == "-" else HOURS_EAST_MAX
    if minutes % 15 or offset > timedelta(hours=hours_max):
        return None
    return -offset if match[1] == "-" else offset
