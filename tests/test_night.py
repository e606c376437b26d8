"""Nights: from noon to noon in every zone, and what they are called at every hour."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_ingest.formatting import milliseconds
from echo_ingest.night import last_night, night_from, night_of, tonight, word_for

ZONES = tuple(
    map(
        ZoneInfo,
        (
            "UTC",
            "Australia/Melbourne",
            "Australia/Lord_Howe",
            "Australia/Adelaide",
            "America/St_Johns",
            "Asia/Kolkata",
            "Asia/Kathmandu",
            "Pacific/Chatham",
            "Africa/Casablanca",
        ),
    )
)
MELBOURNE = ZoneInfo("Australia/Melbourne")
HALF_HOUR = timedelta(minutes=30)
DAY = timedelta(days=1)
CHANGES = (date(2026, 3, 8), date(2026, 4, 5), date(2026, 10, 4), date(2026, 11, 1))
"""Days on which clocks are changed in St John's, or in Melbourne and on Lord Howe Island."""


def moments(zone: ZoneInfo) -> list[datetime]:
    """Return every half hour of five days around each change of clocks, in UTC."""
    begins = [datetime.combine(day - 2 * DAY, time(), zone).astimezone(UTC) for day in CHANGES]
    return [begin + step * HALF_HOUR for begin in begins for step in range(5 * 48)]


@pytest.mark.parametrize("zone", ZONES, ids=lambda zone: zone.key)
def test_a_night_is_named_by_the_clock_on_the_wall(zone: ZoneInfo) -> None:
    for now in moments(zone):
        local = now.astimezone(zone)
        today, is_morning = local.date(), local.time() < time(12)
        assert night_of(now, zone).evening == (today - DAY if is_morning else today), local
        assert last_night(now, zone).evening == today - DAY, local
        night = tonight(now, zone)
        assert (night.evening if night else None) == (None if is_morning else today), local
        words = [word_for(today - back * DAY, now, zone) for back in (0, 1, 2)]
        assert words == [None if is_morning else "tonight", "last night", None], local


@pytest.mark.parametrize("zone", ZONES, ids=lambda zone: zone.key)
def test_nights_join_without_a_gap_and_hold_their_moments(zone: ZoneInfo) -> None:
    for now in moments(zone):
        night = night_of(now, zone)
        assert night == night_from(night.evening, zone)
        assert night.since_ms <= milliseconds(now) < night.until_ms
        for edge in (night.since_ms, night.until_ms):
            local = datetime.fromtimestamp(edge / 1000, zone)
            assert (local.hour, local.minute) == (12, 0)
        assert night_of(night.until_ms, zone).evening == night.evening + DAY
        assert night_of(night.until_ms - 1, zone) == night
        assert night_of(night.since_ms, zone) == night


@pytest.mark.parametrize(
    ("zone", "evening", "hours"),
    [
        ("Australia/Melbourne", date(2026, 10, 3), 23),
        ("Australia/Melbourne", date(2026, 4, 4), 25),
        ("Australia/Melbourne", date(2026, 7, 1), 24),
        ("Australia/Lord_Howe", date(2026, 10, 3), 23.5),
        ("Australia/Lord_Howe", date(2026, 4, 4), 24.5),
        ("America/St_Johns", date(2026, 3, 7), 23),
        ("America/St_Johns", date(2026, 10, 31), 25),
        ("Asia/Kolkata", date(2026, 10, 31), 24),
        ("Pacific/Apia", date(2011, 12, 29), 24),
        ("Pacific/Apia", date(2011, 12, 30), 0),
    ],
)
def test_a_night_is_shorter_or_longer_where_clocks_change(
    zone: str, evening: date, hours: float
) -> None:
    night = night_from(evening, ZoneInfo(zone))
    assert night.until_ms - night.since_ms == hours * 3_600_000


def test_what_people_call_a_night_at_each_hour() -> None:
    names = []
    for clock in ("00:30", "05:00", "08:00", "11:59", "12:00", "20:00", "23:59"):
        now = datetime.combine(date(2026, 9, 14), time.fromisoformat(clock), MELBOURNE)
        evenings = [date(2026, 9, 14) - back * DAY for back in range(3)]
        names.append((clock, [word_for(evening, now, MELBOURNE) for evening in evenings]))
    morning, afternoon = [None, "last night", None], ["tonight", "last night", None]
    assert names == [
        ("00:30", morning),
        ("05:00", morning),
        ("08:00", morning),
        ("11:59", morning),
        ("12:00", afternoon),
        ("20:00", afternoon),
        ("23:59", afternoon),
    ]


def test_where_a_day_was_left_out_last_night_is_the_one_before_it() -> None:
    apia = ZoneInfo("Pacific/Apia")
    assert last_night(datetime(2011, 12, 31, 9, tzinfo=apia), apia).evening == date(2011, 12, 29)
    assert last_night(datetime(2011, 12, 31, 15, tzinfo=apia), apia).evening == date(2011, 12, 29)


@given(st.datetimes(datetime(1970, 1, 2), datetime(2106, 1, 1)), st.timezones())
def test_every_moment_lies_in_its_night_in_every_zone(when: datetime, zone: ZoneInfo) -> None:
    now = when.replace(tzinfo=UTC)
    night = night_of(now, zone)
    assert night.since_ms <= milliseconds(now) < night.until_ms
    later = [night_from(night.evening + days * DAY, zone) for days in range(3)]
    assert all(before.until_ms == after.since_ms for before, after in pairwise(later))
    assert last_night(now, zone).until_ms - 1 < milliseconds(now) + 86_400_000
