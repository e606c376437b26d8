"""Read when a recording began from the name that the recorder gave to its file.

A name that could mean several times, or none, gives None: nothing is guessed.
"""

import re
from datetime import UTC, date, datetime

from echo_ingest.decode.noted_times import YEAR_MAX, YEAR_MIN, moment, utc_offset
from echo_ingest.decode.times import TimeReading

SECONDS_MIN = 1_420_070_400
"""2015: no recorder that counts seconds in its names is older."""
SECONDS_MAX = 2**31 - 1

_EXTENSION = re.compile(r"(?:\.[A-Za-z][A-Za-z0-9]{1,4})+$")
_SECONDS = re.compile(r"\d{10}", re.ASCII)
_MILLISECONDS = re.compile(r"\d{13}", re.ASCII)
_HEXADECIMAL = re.compile(r"(?=.*[A-F])[0-9A-F]{8}", re.ASCII)
"""The names that AudioMoth firmware up to 1.1 gave; digits alone could be anything."""
_DATE = r"(?P<year>\d{4})(?P<between>[-_.]?)(?P<month>\d\d)(?P=between)(?P<day>\d\d)"
_ANY_DATE = re.compile(rf"(?<![A-Za-z0-9]){_DATE}(?!\d)", re.ASCII)
_START = re.compile(
    rf"(?<!\d){_DATE}"
    # $ is written by the Song Meter SM3, birdnet by BirdNET-Pi.
    r"(?P<joint>[T_ $-]|--|-birdnet-(?:RTSP_\d+-)?)?"
    r"(?P<hour>\d\d)(?P<colon>[-:_.h]?)(?P<minute>\d\d)(?:(?P=colon)|(?<=h\d\d)m)(?P<second>\d\d)"
    r"(?!\d)s?(?:[._](?P<fraction>\d{3}|(?<=\.)\d{6})(?!\d))?"
    r"(?:(?P<zulu>Z|[ _-]?(?:UTC|GMT))(?![A-Za-z0-9+-])"
    r"|(?P<offset>[+-]\d\d(?::?\d\d)?)(?![\d:])"
    r"|[ _]?[(\[](?:UTC|GMT)?(?P<bracketed>[+-]\d{1,2}(?::?\d\d)?)?[)\]]"
    r"|[ _-]?(?:UTC|GMT)(?P<named>[+-]\d{1,2}(?::?\d\d)?)(?!\d)"
    r"|_(?P<apart>[+-]\d{4})(?!\d))?",
    re.ASCII,
)


def started_at(name: str) -> TimeReading | None:
    """Return the time in a file's name: in UTC if it names its zone, otherwise naive."""
    base_name = re.split(r"[/\\]", name)[-1]
    stem = _EXTENSION.sub("", base_name)
    if _SECONDS.fullmatch(stem):
        started = _since_1970(int(stem))
    elif _MILLISECONDS.fullmatch(stem):
        started = _since_1970(int(stem) / 1000)
    elif _HEXADECIMAL.fullmatch(stem):
        started = _since_1970(int(stem, 16))
    else:
        started = _in_words(stem)
    return None if started is None else TimeReading(started, base_name)


def _since_1970(seconds: float) -> datetime | None:
    if not SECONDS_MIN <= seconds <= SECONDS_MAX:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def _in_words(stem: str) -> datetime | None:
    """Read a date and a time of day; there must be one of each."""
    matches = list(_START.finditer(stem))
    starts = {_start(match) for match in matches}
    dates = {_date(match) for match in (*matches, *_ANY_DATE.finditer(stem))} - {None}
    return starts.pop() if len(starts) == len(dates) == 1 else None


def _date(match: re.Match[str]) -> date | None:
    year = int(match["year"])
    try:
        day = date(year, int(match["month"]), int(match["day"]))
    except ValueError:
        return None
    return day if YEAR_MIN <= year <= YEAR_MAX else None


def _start(match: re.Match[str]) -> datetime | None:
    if match["joint"] is None and (match["between"] or match["colon"]):
        return None
    offset = match["offset"]
    if offset is not None and offset.startswith("-"):
        if utc_offset(offset) is None:
            offset = None  # a dash and a count
        elif len(offset) == 3 and match["joint"] != "T":
            return None  # either of them
    return moment(
        *match.group("year", "month", "day", "hour", "minute", "second"),
        fraction=match["fraction"],
        zone=offset or match["bracketed"] or match["named"] or match["apart"] or _zulu(match),
    )


def _zulu(match: re.Match[str]) -> str | None:
    """Return UTC where the name says just that, in brackets or without."""
    says_utc = match["zulu"] or re.search(r"[(\[](?:UTC|GMT)[)\]]$", match[0])
    return "UTC" if says_utc else None
