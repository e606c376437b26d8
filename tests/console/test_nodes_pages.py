"""Nodes on their pages: their query, their state in words, their graphs."""

from datetime import UTC, datetime
from typing import Literal

import pytest

from echo_ingest.admin.node_remedies import span_to_type
from echo_ingest.almanac import (
    Clock,
    HealthHistory,
    HourlyMeasure,
    MapPoint,
    NodeHour,
    NodeSummary,
)
from echo_ingest.decode import NodeRules
from echo_ingest.quality import TimeProblem
from echo_ingest.web.console.nodes.graphs import graphs
from echo_ingest.web.console.nodes.query import NodesQuery, read
from echo_ingest.web.console.nodes.rows import clock_error, map_mark, node_row, state

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
    assert state(now_ms + 10 * 365 * 24 * HOUR_MS, NOW, disabled=False) == ("look", "silent")
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
    assert clock_error(Clock(0.4, "right", 0, 50)) is None
    assert clock_error(Clock(-2_832.0, "ahead", 0, 0)) == "clock 47 min 0 s ahead"
    late = clock_error(Clock(7_200.0, "late or behind", 0, 0))
    assert late == "clock behind, or messages late, by 2 h 0 min"


@pytest.mark.parametrize(
    ("delay_seconds", "words"),
    [
        (-39_598.0, "clock 11 h 0 min ahead, constant over 230 messages"),
        (-37_797.4, "clock 10 h 30 min ahead, constant over 230 messages"),
        (-5.2, "clock 5.0 s ahead, constant over 230 messages"),
        (-599.0, "clock 9 min 59 s ahead, constant over 230 messages"),
        (36_003.0, "clock 10 h 0 min behind, constant over 230 messages"),
        (6_555_600.9, "clock 75 d 21 h behind, constant over 230 messages"),
        (619_315_200.9, "clock 7\u202f168 d 0 h behind, constant over 230 messages"),
        (300.0, "clock behind, or messages late, by 5 min 0 s"),
    ],
)
def test_a_clock_that_is_off_by_a_constant_is_said_so(delay_seconds: float, words: str) -> None:
    verdict: Literal["ahead", "late or behind"] = "ahead" if delay_seconds < 0 else "late or behind"
    assert clock_error(Clock(delay_seconds, verdict, 0, 230)) == words


def test_a_clock_that_is_off_as_the_nodes_file_says_is_no_error() -> None:
    clock = Clock(-39_598.0, "ahead", 0, 230)
    assert clock_error(clock, 39_600) is None
    mended = clock_error(Clock(0.5, "right", 0, 40), 39_600)
    assert mended is not None and mended.endswith("and not 11 h 0 min ahead as the nodes file says")


def summary(**fields: object) -> NodeSummary:
    """Return a node of which nothing is known but these fields."""
    names = NodeSummary.__struct_fields__
    given = {**dict.fromkeys(names), "name": "ridge-07", "sends_fractions": False, **fields}
    return NodeSummary(**{name: given[name] for name in names})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("delay_seconds", "constant_over", "rules", "option"),
    [
        (-39_598.0, 230, NodeRules(), "--clock-ahead=11h"),
        (-37_800.0, 10, NodeRules(), "--clock-ahead=10h30min"),
        (-95.0, 10, NodeRules(), "--clock-ahead=1min35s"),
        (6_555_601.0, 10, NodeRules(), "--clock-ahead=-75d21h"),
        (1_800.0, 10, NodeRules(), "--clock-ahead=-30min"),
        (0.5, 40, NodeRules(clock_ahead_seconds=39_600), "--clock-ahead=0"),
        (0.5, 0, NodeRules(clock_ahead_seconds=39_600), None),
        (-43_200.0, 40, NodeRules(clock_ahead_seconds=39_600), "--clock-ahead=12h"),
        (-39_598.0, 230, NodeRules(clock_ahead_seconds=39_600), None),
        (-39_598.0, 0, NodeRules(), None),
        (-30.0, 230, NodeRules(), None),
        (600.0, 230, NodeRules(), None),
    ],
)
def test_the_correction_of_a_clock_is_offered_and_can_be_typed(
    delay_seconds: float, constant_over: int, rules: NodeRules, option: str | None
) -> None:
    node = summary(clock=Clock(delay_seconds, "ahead", 0, constant_over))
    commands = [each.command for each in node_row(node, NOW, rules).remedies]
    assert commands == ([] if option is None else [f"echo-ingest nodes set ridge-07 {option}"])


@pytest.mark.parametrize("name", ["..", "a b", "-x", "", "$(rm)", "x" * 65])
def test_no_command_is_offered_for_a_name_that_it_cannot_have(name: str) -> None:
    node = summary(name=name, sends_fractions=True)
    assert [each.command for each in node_row(node, NOW, NodeRules()).remedies] == [None]


def test_fractions_are_flagged_with_the_setting_that_mends_it() -> None:
    node = summary(sends_fractions=True)
    (remedy,) = node_row(node, NOW, NodeRules()).remedies
    assert remedy.command == "echo-ingest nodes set ridge-07 --confidence fraction"
    assert node_row(node, NOW, NodeRules(confidence_is_fraction=True)).remedies == ()


@pytest.mark.parametrize("problem", list(TimeProblem))
def test_why_its_time_is_not_believed_stands_on_its_page(problem: TimeProblem) -> None:
    words = [
        each.words for each in node_row(summary(time_problem=problem), NOW, NodeRules()).remedies
    ]
    expected = [] if problem == TimeProblem.CORRECTED else [f"{problem.summary} {problem.advice}"]
    assert words == expected


@pytest.mark.parametrize(
    ("seconds", "typed"),
    [(0, "0"), (39_600, "11h"), (-93_600, "-1d2h"), (90, "1min30s"), (86_461, "1d1min1s")],
)
def test_a_span_is_written_as_the_command_takes_it(seconds: float, typed: str) -> None:
    assert span_to_type(seconds) == typed


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
    [
        (-0.5, "s", 0.5),
        (-2_832.0, "min", 47.2),
        (39_600.0, "h", -11.0),
        (6_555_600.0, "d", -75.88),
    ],
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
