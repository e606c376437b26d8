"""Nodes on their pages: their query, their state in words, their graphs."""

from datetime import UTC, datetime

import pytest

from echo_ingest.almanac import Clock, HealthHistory, HourlyMeasure, MapPoint, NodeHour
from echo_ingest.web.console.nodes.graphs import graphs
from echo_ingest.web.console.nodes.query import NodesQuery, read
from echo_ingest.web.console.nodes.rows import clock_error, map_mark, state

NOW = datetime(2026, 9, 14, 8, 0, tzinfo=UTC)
HOUR_MS = 3_600_000


def test_an_address_is_read_back() -> None:
    for query in (
        NodesQuery(),
        NodesQuery("ridge", "silent", "last_heard", True, 3),
        NodesQuery(order="battery"),
        NodesQuery(descending=True),
    ):
        given = {name: str(value) for name, value in query.parameters.items() if value != ""}
        assert read(given) == query
    assert not any(NodesQuery().parameters.values())


def test_a_heading_turns_its_order_round_and_begins_where_people_look() -> None:
    assert NodesQuery().ordered("name")["down"] == "1"
    assert NodesQuery(descending=True).ordered("name")["down"] == ""
    assert NodesQuery().ordered("dead_letters")["down"] == "1"
    assert NodesQuery(page=7).ordered("battery") == NodesQuery(order="battery").parameters


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"which": "dead"}, "one of all, hour, day, silent, never"),
        ({"order": "name; DROP TABLE node"}, "it must be one of name"),
        ({"page": "0"}, "a whole number from 1"),
        ({"page": "-1"}, "a whole number from 1"),
        ({"page": "²"}, "a whole number from 1"),
        ({"page": "2001"}, "to 2000"),
        ({"q": "x" * 65}, "at most 64"),
        ({"quest": "x"}, "'quest' is not a parameter"),
    ],
)
def test_an_address_that_means_nothing_is_refused_in_words(
    given: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        read(given)


def test_how_a_node_is() -> None:
    now_ms = int(NOW.timestamp() * 1000)
    assert state(None, NOW, disabled=False) == ("unknown", "never heard")
    assert state(now_ms - HOUR_MS + 1, NOW, disabled=False) == ("good", "heard")
    assert state(now_ms - HOUR_MS, NOW, disabled=False) == ("look", "silent")
    assert state(now_ms, NOW, disabled=True) == ("off", "blocked")
    assert map_mark(MapPoint("a", -38.123456, 143.5, None, now_ms - 120_000), NOW) == (
        *("a", -38.12346, 143.5, "good"),
        "heard, last 2 minutes ago",
    )
    assert (
        map_mark(MapPoint("a", 1, 2, None, now_ms - 3 * HOUR_MS), NOW)[4]
        == "silent, last 3 hours ago"
    )


def test_what_is_wrong_with_a_clock() -> None:
    assert clock_error(None) is None
    assert clock_error(Clock(0.4, "right", 0)) is None
    assert clock_error(Clock(-2_832.0, "ahead", 0)) == "clock 47 minutes ahead"
    late = clock_error(Clock(7_200.0, "late or behind", 0))
    assert late == "clock behind, or messages late, by 2 hours"


def reading(hour: int, value: float) -> HourlyMeasure:
    return HourlyMeasure(hour * HOUR_MS, value, value, value, 1)


def test_a_graph_has_a_gap_where_the_node_said_nothing() -> None:
    battery = [reading(hour, 80.0 - hour) for hour in (0, 1, 2, 12, 13)]
    (graph,) = graphs(HealthHistory(battery, [], [], [], []), [])
    assert graph.id == "series-battery"
    assert graph.times == [hour * 3_600 for hour in (0, 1, 2, 3, 12, 13)]
    assert graph.line["values"] == [80.0, 79.0, 78.0, None, 68.0, 67.0]


def test_a_node_that_speaks_thrice_a_day_is_no_row_of_gaps() -> None:
    battery = [reading(hour, 50.0) for hour in (0, 8, 16, 24, 72)]
    (graph,) = graphs(HealthHistory(battery, [], [], [], []), [])
    values = graph.line["values"]
    assert isinstance(values, list) and values.count(None) == 1


@pytest.mark.parametrize(
    ("delay_seconds", "unit", "value"),
    [(-0.5, "s", 0.5), (-2_832.0, "min", 47.2), (86_400.0, "h", -24.0)],
)
def test_a_clock_that_is_ahead_stands_above_nought(
    delay_seconds: float, unit: str, value: float
) -> None:
    hours = [NodeHour(0, 1, 0, 1, 0, delay_seconds, delay_seconds)]
    (graph,) = graphs(HealthHistory([], [], [], [], []), hours)
    assert graph.line["unit"] == unit
    assert graph.line["values"] == [value]


def test_a_node_that_reported_nothing_has_no_graph() -> None:
    hours = [NodeHour(0, 1, 0, 1, 0, None, None)]
    assert graphs(HealthHistory([], [], [], [], []), hours) == []
