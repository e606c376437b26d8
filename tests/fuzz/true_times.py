"""A moment in the many ways in which devices write it, and what follows from each."""

import itertools
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from functools import lru_cache
from random import Random
from typing import NamedTuple
from zoneinfo import ZoneInfo

from echo_ingest.record import ObservationType
from tests.fuzz.truths import EPOCH, Draft, Site, WhenTruth, microseconds, milliseconds, one_of

ZONES = (
    *("Australia/Melbourne", "Australia/Lord_Howe", "Europe/Berlin", "America/New_York"),
    *("America/St_Johns", "Pacific/Chatham", "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Apia"),
    *("Europe/Dublin", "Africa/Casablanca", "UTC", "Pacific/Kiritimati", "Etc/GMT+12"),
)
SITE_LABELS: tuple[tuple[str, ObservationType], ...] = (
    ("cow bell", "vehicle"),
    ("litoria", "unclassified"),
)
OFFSETS_MINUTES = (0, 0, 600, 660, 60, 120, -300, -210, 330, 345, 765, 840, -720, 570, -30)
TOLERATED = timedelta(minutes=10)
"""How far a clock may be ahead and still be believed."""
DAY = timedelta(days=1)
CLOCK_STARTS = tuple(
    datetime(*day, tzinfo=UTC)
    for day in ((1970, 1, 1), (1980, 1, 1), (1980, 1, 6), (2000, 1, 1), (2010, 1, 1))
)
GPS_WEEKS = timedelta(weeks=1024)
SINCE_1980 = tuple(start - EPOCH for start in CLOCK_STARTS if start.year == 1980)
"""How far a clock is behind that counts seconds since 1980, read as seconds since 1970."""
SINCE_2000 = datetime(2000, 1, 1, tzinfo=UTC) - EPOCH
NOT_SET, BEFORE, AFTER = "clock_not_set", "before_first_day", "after_receipt"
OTHER_START = "other_start"
ROLLOVER, NO_ZONE, CORRECTED = "gps_week_rollover", "zone_unknown", "corrected"
EVERY_PROBLEM = frozenset({NOT_SET, OTHER_START, BEFORE, AFTER, ROLLOVER, NO_ZONE})
UNREADABLE = "unreadable_time"
FIRST_CALENDAR_YEAR, LAST_CALENDAR_YEAR = 1990, 2099


class Written(NamedTuple):
    """A time as a device writes it."""

    label: str
    value: str | int | float | None
    when: WhenTruth
    refused: bool | None = False
    """Whether it must be refused; None: it may be."""


# ------------------------------------------------------------------ the site and the receipt


def site(rng: Random) -> tuple[Site, datetime]:
    """Return what is known at the site, and when the message is received."""
    zone = rng.choice(ZONES) if rng.random() < 0.6 else None
    received_at = datetime(2016, 1, 2, tzinfo=UTC) + timedelta(
        milliseconds=rng.randrange(20 * 365 * 86_400_000)
    )
    if zone is not None and rng.random() < 0.4:
        changes = _changes(zone, rng.randrange(2016, 2036))
        if changes:
            change, _, _ = rng.choice(changes)
            received_at = change + timedelta(milliseconds=rng.randrange(3 * 3_600_000, 20_000_000))
    first_day = {
        0: received_at.date() - timedelta(days=30),
        1: date(1990, 1, 1),
    }.get(rng.randrange(6))
    fraction = rng.random() < 0.1
    ahead = rng.choice((3600.0, -7200.0, 0.5, 86_400.0 * 365)) if rng.random() < 0.05 else 0
    labels = SITE_LABELS if rng.random() < 0.1 else ()
    day = date(2015, 1, 1) if first_day is None else first_day
    return Site(zone, day, fraction, ahead, labels), received_at


@lru_cache(maxsize=500)
def _changes(name: str, year: int) -> tuple[tuple[datetime, timedelta, timedelta], ...]:
    """Return the changes of the offset in a year: when, and the offsets before and after."""
    zone = ZoneInfo(name)
    found = []
    at = datetime(year, 1, 1, tzinfo=UTC)
    for _ in range(366):
        before, after = _offset(at, zone), _offset(at + DAY, zone)
        if before != after:
            low, high = at, at + DAY
            while high - low > timedelta(seconds=1):
                middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
                low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
            found.append((high, before, after))
        at += DAY
    return tuple(found)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


# ------------------------------------------------------------------ moments


def believed_moment(draft: Draft) -> datetime:
    """Return a moment at which something could have happened, often with a fraction of a second."""
    rng, received_at = draft.rng, draft.received_at
    first = datetime.combine(draft.site.first_day, time(), UTC)
    if draft.site.clock_ahead_seconds:
        first += 2 * DAY
    match draft.pick({"live": 50, "days": 20, "old": 10, "ahead": 8, "edge": 5, "change": 25}):
        case "live":
            moment = received_at - timedelta(milliseconds=rng.randrange(20_000))
        case "days":
            moment = received_at - timedelta(seconds=rng.randrange(30 * 86_400))
        case "old":
            moment = first + rng.random() * (received_at - first)
        case "ahead":
            moment = received_at + timedelta(milliseconds=rng.randrange(599_000))
        case "edge":
            moment = first + timedelta(microseconds=rng.choice((0, 1, 1_000_000)))
        case _:
            moment = received_at - timedelta(seconds=rng.randrange(6 * 3600))
    moment = max(moment, first)
    microsecond = rng.choice((0, 0, moment.microsecond // 1000 * 1000, moment.microsecond))
    moment = moment.replace(microsecond=microsecond)
    # Where nothing was heard before 1990, a clock that never was set must not be believed either.
    return received_at.replace(microsecond=0) if _is_suspect(moment, received_at) else moment


def _is_suspect(moment: datetime, received_at: datetime) -> bool:
    """Return whether a clock would say this by itself, in any zone."""
    starts = any(start - DAY < moment < start + 2 * DAY for start in CLOCK_STARTS)
    behind = (GPS_WEEKS, *SINCE_1980, SINCE_2000)
    return starts or any(abs(received_at - each - moment) < 2 * DAY for each in behind)


# ------------------------------------------------------------------ spellings


def zoned(rng: Random, moment: datetime) -> tuple[str, datetime]:
    """Return a moment as ISO 8601 with its zone, and the moment that is then written."""
    minutes = rng.choice(OFFSETS_MINUTES)
    local = moment.astimezone(timezone(timedelta(minutes=minutes)))
    text, cut = clock_text(rng, local)
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    zones = [f"{sign}{hours:02}:{rest:02}", f"{sign}{hours:02}{rest:02}"]
    if rest == 0:
        zones.append(f"{sign}{hours:02}")
    if minutes == 0:
        zones = ["Z", "Z", "Z", "z", "+00:00", "-00:00", "+0000", "+00"]
    return text + rng.choice(zones), moment - (local - cut)


def clock_text(rng: Random, local: datetime) -> tuple[str, datetime]:
    """Return a local time as ISO 8601 without a zone, and the time that is then written."""
    separator = rng.choice("TTT t")
    if rng.random() < 0.2:
        day, clock = f"{local:%Y%m%d}", f"{local:%H%M%S}"
        separator = "T"
    else:
        day, clock = f"{local:%Y-%m-%d}", f"{local:%H:%M:%S}"
    if local.microsecond == 0 and local.second == 0 and rng.random() < 0.3:
        return f"{day}{separator}{clock[:-2].rstrip(':')}", local
    places = rng.choice((0, 3, 6, 6, 6, 1, 9))
    if local.microsecond == 0:
        places = rng.choice((0, 0, 0, 3, 6, 9))
    fraction = f"{local.microsecond:06}"
    fraction = fraction[:places] if places < 7 else f"{fraction}{rng.randrange(1000):03}"
    cut = local.replace(microsecond=int(fraction[:6].ljust(6, "0")))
    mark = rng.choice("...,")
    return f"{day}{separator}{clock}{mark if fraction else ''}{fraction}", cut


def number(rng: Random, moment: datetime, *, as_text: bool) -> tuple[str, str | int | float, int]:
    """Return a moment as a number since 1970, and the microseconds that are then written."""
    exact = microseconds(moment)
    unit, per_second = rng.choice((("s", 1), ("s", 1), ("ms", 10**3), ("µs", 10**6), ("ns", 10**9)))
    kind = rng.choice(("whole", "float", "whole"))
    value: int | float
    if kind == "whole":
        value = exact * per_second // 10**6
        written = value * 10**6 // per_second
        text = str(value)
    elif unit == "s":
        value, written = exact / 10**6, exact
        text = rng.choice((repr(value), f"{exact // 10**6}.{exact % 10**6:06}"))
    else:
        value, written = float(exact * per_second // 10**6), exact
        if unit == "ms":
            value = exact / 1000
        text = f"{value:.3f}" if unit == "ms" else f"{value:.1f}"
        if unit in ("µs", "ns"):
            written = int(value) * 10**6 // per_second
    label = f"{unit}, {kind}"
    if as_text:
        return f"{label} as text", text, written
    return label, value, written


# ------------------------------------------------------------------ what devices write


def stamp(draft: Draft, *, as_text: bool = False) -> Written:
    """Return a time as some device writes it: as number or text, or as text alone."""
    rng = draft.rng
    if draft.takes_fault("time"):
        return _refused(draft, as_text=as_text)
    ways: dict[Callable[[Draft], Written], int] = {
        _zoned: 30,
        _naive: 22,
        _gap: 6,
        _calendar_name: 6,
        _odd: 5,
    }
    if not draft.site.clock_ahead_seconds:
        ways |= {_wrong_clock: 22, _wrong_number: 8, _nothing: 3}
    way = draft.pick({_number_of: 30, **ways})
    written = way(draft)
    if as_text and not isinstance(written.value, str) and written.value is not None:
        return written._replace(value=_digits(written.value))
    if isinstance(written.value, int | float) and rng.random() < 0.2:
        return written._replace(label=f"{written.label} as text", value=_digits(written.value))
    return written


def _digits(value: int | float) -> str:
    text = repr(value)
    return f"{value:.1f}" if "e" in text else text


def note(draft: Draft) -> Written:
    """Return a time as ISO 8601 as recorders write it into their files: true or wrong."""
    ways = {_zoned: 10, _naive: 6, _gap: 1}
    if not draft.site.clock_ahead_seconds:
        ways[_wrong_clock] = 4
    while True:
        written = draft.pick(ways)(draft)
        if isinstance(written.value, str):
            return written


def moment_or_wrong_clock(draft: Draft) -> Written:
    """Return a moment as ISO 8601 in UTC, to the second: one to believe or one of a wrong clock."""
    if draft.chance(0.25) and not draft.site.clock_ahead_seconds:
        start = draft.rng.choice(CLOCK_STARTS) + timedelta(seconds=draft.rng.randrange(86_400))
        text = f"{start:%Y-%m-%dT%H:%M:%S}"
        return Written("clock not set", text, WhenTruth(None, frozenset({NOT_SET})))
    shown = _shown(draft, believed_moment(draft)).replace(microsecond=0)
    return Written("second", f"{shown:%Y-%m-%dT%H:%M:%S}", _when(draft, shown, ""))


def true_when(draft: Draft, shown: datetime) -> WhenTruth:
    """Return the truth of a time to be believed, of which it is not said how it is written."""
    return _when(draft, shown, "")


def local_second(draft: Draft) -> tuple[datetime, WhenTruth]:
    """Return what a local clock shows, to the second, and what that means at this site."""
    for days in itertools.count():
        # A site whose clock is far ahead may have a change of summer time behind every moment.
        moment = believed_moment(draft) - days // 50 * DAY
        shown = _shown(draft, moment).replace(microsecond=0)
        if _same_offset(draft.site.zone, moment, shown):
            break
    local, meant = placed(draft, shown)
    return local, naive_when(draft, meant, "")


def _shown(draft: Draft, moment: datetime) -> datetime:
    """Return what the clock of the device shows at a moment."""
    return moment + timedelta(seconds=draft.site.clock_ahead_seconds)


def _when(draft: Draft, shown: datetime, text: str | int | float) -> WhenTruth:
    """Return the truth of a time that is to be believed."""
    ahead = draft.site.clock_ahead_seconds
    if ahead:
        return WhenTruth(shown - timedelta(seconds=ahead), frozenset({CORRECTED}), text)
    return WhenTruth(shown)


def _zoned(draft: Draft) -> Written:
    text, moment = zoned(draft.rng, _shown(draft, believed_moment(draft)))
    padded = draft.rng.choice((text, text, text, f" {text}", f"{text} "))
    return Written("ISO with zone", padded, _when(draft, moment, text))


def _number_of(draft: Draft) -> Written:
    shown = _shown(draft, believed_moment(draft))
    label, value, written = number(draft.rng, shown, as_text=draft.chance(0.3))
    moment = EPOCH + timedelta(microseconds=written)
    return Written(f"number: {label}", value, _when(draft, moment, value))


def placed(draft: Draft, moment: datetime) -> tuple[datetime, datetime | None]:
    """Return what a local clock shows at a moment, and the moment that is then meant.

    The moment is None where the zone of the site is not known. In the hour that a clock shows
    twice, the first one is meant.
    """
    if draft.site.zone is None:
        minutes = draft.rng.choice((0, 600, -300))
        return (moment + timedelta(minutes=minutes)).replace(tzinfo=None), None
    zone = ZoneInfo(draft.site.zone)
    local = moment.astimezone(zone)
    if local.fold:
        earlier = timedelta(minutes=60 if "Lord_Howe" not in draft.site.zone else 30)
        moment -= earlier
        assert moment.astimezone(zone).replace(tzinfo=None, fold=0) == local.replace(
            tzinfo=None, fold=0
        )
    return local.replace(tzinfo=None, fold=0), moment


def naive_when(draft: Draft, moment: datetime | None, text: str) -> WhenTruth:
    """Return the truth of a time that was written without a zone."""
    if moment is None:
        return WhenTruth(None, frozenset({NO_ZONE}), text)
    if moment < datetime.combine(draft.site.first_day, time(), UTC):  # the first of two hours
        return WhenTruth(None, frozenset({BEFORE}), text)
    return _when(draft, moment, text)


def _naive(draft: Draft) -> Written:
    moment = believed_moment(draft)
    shown = _shown(draft, moment)
    if not _same_offset(draft.site.zone, moment, shown):
        return _zoned(draft)
    local, meant = placed(draft, shown)
    text, cut = clock_text(draft.rng, local)
    if meant is not None:
        meant -= local - cut
    return Written("ISO without zone", text, naive_when(draft, meant, text))


def _same_offset(name: str | None, moment: datetime, shown: datetime) -> bool:
    """Return whether zone and clock can be set right in any order: no change lies around."""
    if name is None or moment == shown:
        return True
    zone = ZoneInfo(name)
    around = [at + hours * DAY / 24 for at in (moment, shown) for hours in (-3, 0, 3)]
    return len({_offset(each, zone) for each in around}) == 1


def _gap(draft: Draft) -> Written:
    """Write a local time that no clock shows: it is left out where summer time begins."""
    zone, received_at = draft.site.zone, draft.received_at
    if zone is None or draft.site.clock_ahead_seconds:
        return _naive(draft)
    first = datetime.combine(draft.site.first_day, time(), UTC) + DAY
    gaps = [
        (change, before, after)
        for year in (received_at.year - 1, received_at.year)
        for change, before, after in _changes(zone, year)
        if after > before and first < change < received_at - DAY / 24
    ]
    if not gaps:
        return _naive(draft)
    change, before, after = draft.rng.choice(gaps)
    inside = draft.rng.random() * (after - before)
    inside -= timedelta(microseconds=inside.microseconds)
    local = (change + before + inside).replace(tzinfo=None)
    text, _ = clock_text(draft.rng, local)
    return Written("ISO in the hour left out", text, WhenTruth(change + inside))


def _calendar_name(draft: Draft) -> Written:
    """Write a time as in file names."""
    moment = believed_moment(draft)
    shown = _shown(draft, moment).replace(microsecond=0)
    if not _same_offset(draft.site.zone, moment, shown):
        return _zoned(draft)
    local, meant = placed(draft, shown)
    text = f"{local:{draft.rng.choice(('%Y%m%d_%H%M%S', '%Y-%m-%d_%H-%M-%S'))}}"
    return Written("as in file names", text, naive_when(draft, meant, text))


def _odd(draft: Draft) -> Written:
    """Write a time in a way that is rare; some of these may be refused, but never misread."""
    rng = draft.rng
    moment = believed_moment(draft).replace(microsecond=0)
    if draft.site.clock_ahead_seconds:
        return _zoned(draft)
    day = moment.replace(hour=0, minute=0, second=0)
    first = datetime.combine(draft.site.first_day, time(), UTC) + 2 * DAY
    match rng.randrange(8):
        case 0 | 1 if day > first and not _is_suspect(day, draft.received_at):
            text = f"{day - DAY:%Y-%m-%d}T24:00{rng.choice(('', ':00', ':00.000'))}Z"
            return Written("24:00", text, WhenTruth(day))
        case 2 | 3 if day > first and not _is_suspect(day, draft.received_at):
            minutes = rng.choice((0, 600, -300))
            local = day + timedelta(minutes=minutes - 1)
            zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:00"
            text = f"{local:%Y-%m-%dT%H:%M}:60{zone}"
            return Written("leap second", text, WhenTruth(day, tolerance=timedelta(seconds=1)))
        case 4:
            text = f"{moment:%Y-%m-%d %H:%M:%S}{rng.choice((' +00:00', ' Z', ' UTC', ' GMT'))}"
            return Written("ISO, space before the zone", text, WhenTruth(moment), None)
        case 5:
            local = moment - timedelta(hours=5)
            return Written(
                "real minus sign", f"{local:%Y-%m-%dT%H:%M:%S}−05:00", WhenTruth(moment), None
            )
        case 6:
            digits = str(milliseconds(moment)).translate(
                {ord(str(digit)): 0x660 + digit for digit in range(10)}
            )
            return Written("Arabic digits", digits, WhenTruth(moment), None)
        case 7:
            week = moment.isocalendar()
            text = f"{week.year}-W{week.week:02}-{week.weekday}T{moment:%H:%M:%S}Z"
            return Written("ISO week", text, WhenTruth(moment), None)
    return _zoned(draft)


def _wrong_clock(draft: Draft) -> Written:
    """Write what a clock shows that is not set."""
    rng, received_at = draft.rng, draft.received_at
    first = datetime.combine(draft.site.first_day, time(), UTC)
    match draft.pick({"start": 10, "future": 8, "rollover": 4, "early": 5}):
        case "start":
            start = rng.choice(CLOCK_STARTS)
            moment = start + timedelta(
                seconds=rng.choice((0, 5, 77, 86_399, rng.randrange(86_400)))
            )
            problems, label = frozenset({NOT_SET}), f"clock starts in {start.year}"
        case "future":
            ahead = rng.choice(
                (
                    timedelta(seconds=601),
                    timedelta(seconds=rng.randrange(660, 86_400)),
                    timedelta(hours=rng.choice((1, 10, 11))),
                    timedelta(days=rng.randrange(1, 365 * 40)),
                )
            )
            moment = received_at + ahead
            if rng.random() < 0.2 and received_at.year < 2036:
                moment = datetime(2036, 2, 7, 6, 28, 16, tzinfo=UTC)
            problems, label = frozenset({AFTER}), "clock ahead"
        case "rollover":
            moment = received_at - GPS_WEEKS - timedelta(seconds=rng.randrange(80_000))
            problems, label = frozenset({ROLLOVER}), "GPS rollover"
            if any(start - DAY < moment < start + 2 * DAY for start in CLOCK_STARTS):
                problems = frozenset({ROLLOVER, NOT_SET})
        case _:
            moment = first - timedelta(seconds=rng.choice((1, 3600, rng.randrange(1, 3 * 10**8))))
            problems, label = frozenset({BEFORE}), "before the first day"
            if _is_suspect(moment, received_at):
                problems = frozenset({BEFORE, ROLLOVER, NOT_SET, OTHER_START})
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    spelling = draft.pick({"zoned": 4, "naive": 3, "number": 4, "other zone": 1})
    if spelling == "zoned":
        text, _ = zoned(rng, moment)
        # A start value in another zone: a clock that shows the first of January there.
        return Written(label, text, WhenTruth(None, problems, text))
    if spelling == "number":
        value = microseconds(moment) / 10**6 if moment.microsecond else milliseconds(moment) // 1000
        if any(abs(received_at - moment - each) < 32 * DAY for each in (*SINCE_1980, SINCE_2000)):
            problems |= {OTHER_START}
        return Written(label, value, WhenTruth(None, problems, value))
    if spelling == "other zone" and label.startswith("clock starts"):
        text = f"{moment:%Y-%m-%dT%H:%M:%S}{rng.choice(('+10:00', '-05:00', '+05:30'))}"
        problems |= {BEFORE}
        return Written(f"{label}, in its zone", text, WhenTruth(None, problems, text))
    # Without a zone, the clock shows the start value itself.
    local = moment.replace(tzinfo=None)
    if not label.startswith("clock starts"):
        local, _ = placed(draft, moment)
        if draft.site.zone is None:
            problems |= {NO_ZONE, BEFORE} if label == "GPS rollover" else {NO_ZONE}
        elif label == "clock ahead" and _is_repeated(local, draft.site.zone):
            return _zoned(draft)
    else:
        problems |= {BEFORE, NO_ZONE} if draft.site.zone is None else {BEFORE}
    text, _ = clock_text(rng, local)
    return Written(f"{label}, without zone", text, WhenTruth(None, problems, text))


def _is_repeated(local: datetime, zone: str) -> bool:
    """Return whether a clock shows this time twice."""
    place = ZoneInfo(zone)
    first, second = (local.replace(tzinfo=place, fold=fold).utcoffset() for fold in (0, 1))
    return first != second


def _wrong_number(draft: Draft) -> Written:
    """Write a number that does not count from 1970, or not in a known unit."""
    rng = draft.rng
    unix = milliseconds(draft.received_at) // 1000
    oldest = 600_000_000 if draft.site.first_day.year < 2000 else 1_400_000_000
    choices: list[tuple[str, int | float]] = [
        ("milliseconds since boot", rng.randrange(10**8, oldest)),
        ("milliseconds since boot", rng.randrange(10**7)),
        ("seconds since boot", rng.randrange(10_000_000)),
        ("seconds since boot", round(rng.random() * 100_000, 3)),
        ("seconds since 1900", unix + 2_208_988_800),
        ("seconds since 1980", unix - rng.randrange(80_000) - SINCE_1980[0] // DAY * 86_400),
        ("GPS seconds", unix + 18 - rng.randrange(80_000) - SINCE_1980[1] // DAY * 86_400),
        ("nothing but zero", 0),
        ("minus one", -1),
        ("below zero", -rng.randrange(10**9)),
        ("a day of Excel", 25_569 + round(unix / 86_400, 6)),
        ("all ones", 2**32 - 1),
    ]
    if oldest > 10**9:
        choices.append(("seconds since 2000", unix - 946_684_800))
    label, value = rng.choice(choices)
    may = label in ("minus one", "below zero", "a day of Excel", "all ones")
    elsewhere = label.startswith(("seconds since 19", "seconds since 20", "GPS"))
    # Today from another start may also be a day on which clocks start.
    problems = frozenset({OTHER_START, NOT_SET}) if elsewhere else EVERY_PROBLEM
    return Written(label, value, WhenTruth(None, problems, value), None if may else False)


def _nothing(draft: Draft) -> Written:
    return Written("no time", None, WhenTruth())


def _refused(draft: Draft, *, as_text: bool) -> Written:
    """Write what is no time, or stands for none in particular."""
    rng = draft.rng
    moment = believed_moment(draft)
    year = min(max(moment.year, FIRST_CALENDAR_YEAR), LAST_CALENDAR_YEAR)
    moment = moment.replace(year=year, day=min(moment.day, 28))
    digits = rng.choice(
        (
            f"{moment:%Y%m%d}",
            f"{moment:%Y%m%d%H%M}",
            f"{moment:%Y%m%d%H%M%S}",
            f"{moment:%Y%m%d%H%M%S}{moment.microsecond // 1000:03}",
        )
    )
    if rng.random() < 0.5:
        value: str | int = digits if as_text or rng.random() < 0.5 else int(digits)
        label = f"{len(digits)} digits of a calendar"
        return Written(label, value, WhenTruth(), refused=True)
    seconds = milliseconds(moment) // 1000
    text = one_of(
        rng,
        *("yesterday", "05:45:12", "--", "inf", "nan", "0x6AA5", "1e400", "²", "12:00 Uhr"),
        *(f"{moment:%Y-%m-%d}", f"{moment:%d/%m/%Y %H:%M:%S}", f"{moment:%a %b %d %H:%M:%S %Y}"),
        *(f"{moment:%Y}-13-01T00:00:00Z", f"{moment:%Y}-02-30T05:45:12Z"),
        *(f"{moment:%Y-%m-%d}T25:00:00Z", f"{moment:%Y-%m-%d}T05:61:00Z"),
        *(f"{moment:%Y-%m-%d}T05:45:61Z", f"{moment:%Y-%m-%d}T05:45:12+25:00"),
        *(f"{moment:%Y-%m-%d}T05:45:12ZZ", f"{moment:%Y-%m-%d}T05:45:12+10:00:"),
        *(f"{moment:%Y-%m-%d}T24:00:01Z", f"{moment:%Y-%m-%d}T05:45:12 nonsense"),
        *(f"{seconds:_}", f"{seconds:,}", f"{seconds} s", f"{seconds}Z", f"{seconds}-0", "x" * 70),
    )
    return Written("no time at all", text, WhenTruth(), refused=True)
