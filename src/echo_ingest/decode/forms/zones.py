"""The zones that a form or a message names: IANA names and offsets."""

import re
from datetime import UTC, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

ZONES_REMEMBERED = 512
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}(?:/[A-Za-z][A-Za-z0-9_+-]{0,31}){0,2}", re.ASCII)
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d\d?)(?::?([0-5]\d))?", re.ASCII)
_OF_THE_SYSTEM = ("right/", "posix/", "posixrules", "localtime")
_HOURS_MAX = 14


@lru_cache(ZONES_REMEMBERED)
def zone_of(name: str) -> tzinfo | None:
    """Return the zone of this name (`Australia/Melbourne`, `UTC`, `+10:00`); None if unknown."""
    if name in ("UTC", "GMT", "Z"):
        return UTC
    if match := _OFFSET.fullmatch(name):
        sign, hours, minutes = match.groups()
        if int(hours) > _HOURS_MAX:
            return None
        ahead = timedelta(hours=int(hours), minutes=int(minutes or 0))
        return timezone(-ahead if sign == "-" else ahead)
    # Some systems have copies that count leap seconds too, and what their own clock is set to.
    if not _NAME.fullmatch(name) or name.startswith(_OF_THE_SYSTEM):
        return None
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # a folder of zones is a file that cannot be read
        return None
