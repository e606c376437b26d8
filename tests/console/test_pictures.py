"""What the overview's pictures are made of: nothing hidden, nothing joined that is not known."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_ingest.journal import Ledger
from echo_ingest.journal.ledger import SinkLedger
from echo_ingest.web.console.overview.ledger_bars import VISIBLE, WIDTH, bar, ledger_bars
from echo_ingest.web.console.overview.sparkline import Gap, curve

AT = datetime(2026, 9, 13, 22, 10, tzinfo=UTC)
STEP = timedelta(minutes=10)
ZONE = ZoneInfo("Australia/Melbourne")


def test_a_curve_is_never_drawn_over_what_is_not_known() -> None:
    drawn = curve([None, 4.0, 2.0, None, None, 0.0, None], AT, STEP, ZONE)
    assert drawn.line == "M1 0.0L2 0.0L2 50.0L3 50.0M5 100.0L6 100.0"
    assert drawn.area.count("M") == drawn.area.count("Z") == 2
    assert drawn.gaps == (Gap(0, 1), Gap(3, 2), Gap(6, 1))
    assert (drawn.top, drawn.highest_at, drawn.newest, drawn.width) == (4.0, 1, None, 7)


@pytest.mark.parametrize("values", [[], [None] * 3, [0.0] * 3, [5.0]])
def test_a_curve_of_next_to_nothing(values: list[float | None]) -> None:
    drawn = curve(values, AT, STEP, ZONE)
    assert drawn.width >= 1
    assert ("nan" in drawn.line) is False
    assert (drawn.highest_at is None) == (not any(value is not None for value in values))


def test_the_axis_has_full_hours_of_the_zone_also_where_clocks_change() -> None:
    day = curve([1.0] * 144, AT, STEP, ZONE)
    assert [tick.at.hour for tick in day.ticks] == [12, 18, 0, 6]
    assert all(tick.at.minute == 0 for tick in day.ticks)
    half_an_hour_off = curve([1.0] * 144, AT, STEP, ZoneInfo("Asia/Kolkata"))
    assert [tick.at.strftime("%H:%M") for tick in half_an_hour_off.ticks] == [
        *("06:00", "12:00", "18:00", "00:00")
    ]
    forward = curve([1.0] * 144, datetime(2026, 10, 3, 13, 0, tzinfo=UTC), STEP, ZONE)
    assert [tick.at.hour for tick in forward.ticks] == [0, 6, 12, 18]
    assert forward.ticks[1].percent - forward.ticks[0].percent < 25


def test_the_axis_of_a_few_hours_has_each_of_them() -> None:
    assert [tick.at.hour for tick in curve([1.0] * 18, AT, STEP, ZONE).ticks] == [9, 10, 11]


LEDGER = Ledger(
    received=1_000_000,
    stored=999_900,
    duplicates=99,
    dead_letters=1,
    lost=0,
    sinks={"echo_api": SinkLedger(999_000, 1, 899, 0, 3.0, None)},
)


def test_one_refused_of_a_million_is_seen() -> None:
    received, sinks = ledger_bars(LEDGER)
    assert [share.name for share in received.shares] == ["stored", "duplicates", "dead letters"]
    assert [share.width for share in received.shares] == [WIDTH - 2 * VISIBLE, VISIBLE, VISIBLE]
    assert received.missing == 0 and received.gap is None
    assert [share.count for share in sinks["echo_api"].shares] == [999_000, 1, 899, 0]
    assert sinks["echo_api"].shares[-1].width == 0


@pytest.mark.parametrize("missing", [1, -1, 200_000])
def test_a_ledger_that_does_not_close_is_a_broken_bar(missing: int) -> None:
    broken = bar("received", 1_000_000 + missing, {"stored": 900_000, "refused": 100_000})
    assert broken.missing == missing
    assert broken.gap is not None and broken.gap.count == abs(missing)
    assert broken.gap.width >= VISIBLE
    assert broken.gap.x + broken.gap.width == pytest.approx(WIDTH, abs=0.05)


def test_nothing_received_yet_is_an_empty_bar() -> None:
    assert all(share.width == 0 for share in bar("received", 0, {"stored": 0}).shares)


@given(st.lists(st.integers(min_value=0, max_value=10**12), min_size=1, max_size=5))
def test_parts_of_a_bar_stand_beside_each_other_and_fill_it(counts: list[int]) -> None:
    drawn = bar("stored", sum(counts), {str(place): count for place, count in enumerate(counts)})
    ends = 0.0
    for share in drawn.shares:
        assert share.x == pytest.approx(ends, abs=0.02)
        # What is hardly above `VISIBLE` pays for the smaller ones too.
        assert (share.width >= VISIBLE * 0.95) == (share.count > 0)
        ends = share.x + share.width
    assert ends == pytest.approx(WIDTH if any(counts) else 0, abs=0.05)
