"""The overview and the page of calls mean the same night, at every hour and in every zone."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from echo_ingest.almanac import Almanac
from echo_ingest.web.console.calls import fragments_of
from echo_ingest.web.console.calls.query import CallsQuery
from echo_ingest.web.console.overview import ask_almanac
from tests.test_almanac import Site

DAY = timedelta(days=1)
EVERY = timedelta(minutes=37)
MELBOURNE = ZoneInfo("Australia/Melbourne")
PLACES = [
    ("UTC", date(2026, 10, 4)),
    ("Australia/Melbourne", date(2026, 10, 4)),
    ("Australia/Melbourne", date(2026, 4, 5)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("America/St_Johns", date(2026, 3, 8)),
    ("America/St_Johns", date(2026, 11, 1)),
    ("Asia/Kolkata", date(2026, 10, 4)),
]


@contextlib.contextmanager
def site_at(folder: Path) -> Iterator[Site]:
    site = Site(folder)
    yield site
    site.follower.close()
    site.journal.close()


def both(almanac: Almanac, now: datetime, zone: ZoneInfo) -> tuple[Counter[str], int, int]:
    """Return last night as the overview has it, and the counts of the page of calls.

    These are the calls of last night and of tonight.
    """
    on_overview = ask_almanac(almanac, zone, now).last_night
    page = fragments_of(almanac, CallsQuery(), now, zone)
    species = on_overview.species if on_overview is not None else ()
    last = page.last_night[0].calls if page.last_night is not None else 0
    if page.last_night is not None and on_overview is not None:
        assert page.last_night[0].evening == on_overview.evening
        most = page.last_night[1]
        assert most is not None and most.species == on_overview.species[0].species
    tonight = page.tonight[0].calls if page.tonight is not None else 0
    return Counter({each.species: each.calls for each in species}), last, tonight


@pytest.mark.parametrize(("name", "change"), PLACES)
def test_both_pages_show_the_same_night_over_a_change_of_clocks(
    tmp_path: Path, name: str, change: date
) -> None:
    zone = ZoneInfo(name)
    begins, ends = (
        datetime.combine(day, time(), zone).astimezone(UTC)
        for day in (change - 3 * DAY, change + 3 * DAY)
    )
    calls: list[tuple[datetime, str]] = []
    with site_at(tmp_path) as site:
        at = begins
        while at < ends:
            species = "Litoria ewingii" if len(calls) % 3 else "Crinia signifera"
            site.call("a", int(at.timestamp() * 1000), species)
            calls.append((at, species))
            at += EVERY
        with contextlib.closing(site.follow()) as almanac:
            for hours in range(24, 24 * 5):
                now = begins + timedelta(hours=hours, minutes=hours % 60)
                today = now.astimezone(zone).date()
                edges = [today - DAY, today, today + DAY]
                noons = [datetime.combine(day, time(12), zone) for day in edges]
                soon = now + timedelta(minutes=10)
                last = Counter(of for at, of in calls if noons[0] <= at < min(noons[1], soon))
                tonight = sum(noons[1] <= at < min(noons[2], soon) for at, _ in calls)
                if now < noons[1]:
                    tonight = 0
                found = both(almanac, now, zone)
                assert found == (last, last.total(), tonight), now.astimezone(zone)


def test_at_ten_past_nine_both_pages_mean_the_night_that_has_just_ended(tmp_path: Path) -> None:
    now = datetime(2026, 11, 29, 9, 10, tzinfo=MELBOURNE)
    with site_at(tmp_path) as site:
        for evening, count in ((27, 7), (28, 69)):
            start = datetime(2026, 11, evening, 21, 30, tzinfo=MELBOURNE)
            for number in range(count):
                at = start + timedelta(minutes=number)
                site.call("a", int(at.timestamp() * 1000), "Litoria ewingii")
        with contextlib.closing(site.follow()) as almanac:
            assert both(almanac, now, MELBOURNE) == (Counter({"Litoria ewingii": 69}), 69, 0)
            afternoon = now.replace(hour=15)
            assert both(almanac, afternoon, MELBOURNE)[1] == 69
            day_after = now + DAY
            assert both(almanac, day_after, MELBOURNE)[1] == 0
