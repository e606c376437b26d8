"""A node's calendar tells heard from silent, and silent from a service that was not running."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from echo_ingest.almanac import NodeHour, ServiceHour
from echo_ingest.web.console.nodes.calendar import SHADES, Calendar, Hour, bounds, calendar

ZONE = ZoneInfo("Australia/Melbourne")
TODAY = date(2026, 9, 14)
NOW = datetime(2026, 9, 14, 8, 20, tzinfo=ZONE)


def ms(day: int, hour: int, zone: ZoneInfo = ZONE, month: int = 9) -> int:
    return int(datetime(2026, month, day, hour, tzinfo=zone).timestamp() * 1000)


def node_hour(at_ms: int, received: int = 1, observed: int = 0, refused: int = 0) -> NodeHour:
    return NodeHour(at_ms, received, refused, observed, 0, None, None)


def listened(first_ms: int, hours: int, share: float = 1.0) -> list[ServiceHour]:
    return [ServiceHour(first_ms + hour * 3_600_000, share, 60) for hour in range(hours)]


def shown(
    hours: list[NodeHour],
    listening: list[ServiceHour],
    first_heard_at_ms: int | None,
    witnessed: frozenset[int] = frozenset(),
    zone: ZoneInfo = ZONE,
    today: date = TODAY,
    now: datetime = NOW,
) -> Calendar:
    return calendar(hours, listening, witnessed, first_heard_at_ms, today, 3, now, zone)


def hour(shown: Calendar, day: int, at: int) -> Hour:
    (row,) = [each for each in shown.days if each.day.day == day]
    return row.hours[at]


def test_each_hour_has_its_state() -> None:
    laid = shown(
        [
            node_hour(ms(13, 3)),
            node_hour(ms(13, 9), received=0, observed=7),
            node_hour(ms(14, 1), refused=2),
        ],
        [
            *listened(ms(13, 4), 4),
            *listened(ms(13, 8), 1, share=0.2),
            *listened(ms(13, 12), 1, share=0.6),
        ],
        ms(13, 3) + 60_000,
    )
    states = {
        (each.day.day, at): hour.state for each in laid.days for at, hour in enumerate(each.hours)
    }
    assert states[12, 23] == states[13, 2] == "before"
    assert states[13, 3] == "heard"
    assert states[13, 4] == states[13, 7] == states[13, 12] == "silent"
    assert states[13, 8] == states[13, 10] == states[14, 0] == "away"
    assert hour(laid, 13, 9).messages == 7, (
        "late messages belong to the hour in which they were observed"
    )
    assert (hour(laid, 14, 1).messages, hour(laid, 14, 1).rejected) == (3, 2)
    assert states[14, 7] == "away"
    assert states[14, 8] == states[14, 9] == states[14, 23] == "ahead"
    assert [each.day.day for each in laid.days] == [14, 13, 12]


def test_before_the_first_sample_it_is_not_known_whether_the_service_was_running() -> None:
    laid = shown([node_hour(ms(12, 3))], listened(ms(13, 5), 1), ms(12, 3))
    assert hour(laid, 12, 2).state == "before"
    assert hour(laid, 12, 4).state == hour(laid, 13, 4).state == "unknown"
    assert hour(laid, 13, 5).state == "silent"
    assert hour(laid, 13, 6).state == "away"


def test_where_other_nodes_were_heard_the_service_was_running() -> None:
    witnessed = frozenset((ms(12, 4), ms(13, 8)))
    listening = listened(ms(13, 7), 2, share=0.1)  # it was restarted
    laid = shown([node_hour(ms(12, 3))], listening, ms(12, 3), witnessed)
    assert hour(laid, 12, 4).state == hour(laid, 13, 8).state == "silent"
    assert hour(laid, 12, 5).state == "unknown"
    assert hour(laid, 13, 7).state == "away"


def test_a_node_that_was_never_heard_has_no_silence() -> None:
    laid = shown([], listened(ms(12, 0), 60), None)
    assert {hour.state for each in laid.days for hour in each.hours} == {"before", "ahead"}
    assert laid.steps == ()


def test_shades_rise_with_the_messages() -> None:
    counts = [1, 5, 20, 60, 100, 400]
    hours = [node_hour(ms(13, at), received=count) for at, count in enumerate(counts)]
    laid = shown(hours, [], ms(13, 0))
    shades = [hour(laid, 13, at).shade for at in range(len(counts))]
    assert shades == sorted(shades) and shades[0] == 1 and shades[-1] == SHADES
    assert laid.steps == (1, 25, 100, 225)
    assert hour(laid, 13, 7).shade == 0


def test_the_legend_has_a_box_for_what_is_seen_and_no_other() -> None:
    for counts in ([400], [1, 400], [1, 30, 400], [2, 3], [1, 5, 20, 60, 100, 300], []):
        hours = [node_hour(ms(13, at), received=count) for at, count in enumerate(counts)]
        laid = shown(hours, [], ms(13, 0))
        for count in counts:
            (fits,) = [
                each
                for each in laid.legend
                if each.least <= count and (each.most is None or count <= each.most)
            ]
            assert fits.shade == hour(laid, 13, counts.index(count)).shade
        assert {each.shade for each in laid.legend} == {
            each.shade for day in laid.days for each in day.hours if each.shade
        }
    laid = shown([node_hour(ms(13, at)) for at in range(24)], [], ms(13, 0))
    assert not laid.has("silent") and not laid.has_rejected


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 16])
def test_no_shade_is_for_nothing(most: int) -> None:
    laid = shown([node_hour(ms(13, 0), received=most)], [], ms(13, 0))
    assert laid.steps[0] == 1 and list(laid.steps) == sorted(set(laid.steps))
    assert laid.steps[-1] <= most


def test_clocks_put_back_and_forward() -> None:
    zone, month = ZONE, 4  # 5 April 2026: 03:00 is 02:00 again
    twice = datetime(2026, 4, 4, 15, tzinfo=UTC)
    now = datetime(2026, 4, 6, 0, 0, tzinfo=zone)
    hours = [node_hour(int((twice + timedelta(hours=more)).timestamp() * 1000)) for more in (0, 1)]
    back = shown(hours, [], ms(1, 0, month=month), today=date(2026, 4, 6), now=now)
    assert hour(back, 5, 2).messages == 2
    now = datetime(2026, 10, 6, 0, 0, tzinfo=zone)
    forward = shown([], [], ms(1, 0, month=10), today=date(2026, 10, 5), now=now)
    assert hour(forward, 4, 2).state == "none"
    assert [hour.state for hour in forward.days[1].hours].count("none") == 1


def test_half_an_hour_off_counts_to_the_hour_in_which_it_begins() -> None:
    zone = ZoneInfo("Asia/Kolkata")
    at = datetime(2026, 9, 13, 3, tzinfo=UTC)
    laid = shown([node_hour(int(at.timestamp() * 1000))], [], 0, zone=zone)
    assert hour(laid, 13, 8).state == "heard"
    since_ms, until_ms = bounds(TODAY, 3, zone)
    assert until_ms - since_ms == 3 * 86_400_000
