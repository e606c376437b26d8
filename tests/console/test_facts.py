"""What the overview derives from a sample each minute: nothing is filled in."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from echo_ingest.almanac import NodeCounts, Sample, SilentNode, SinkSample, TimeUntilFull
from echo_ingest.gauges import ServiceGauges
from echo_ingest.journal import Ledger
from echo_ingest.journal.ledger import SinkLedger
from echo_ingest.settings import load
from echo_ingest.sinks import SinkState
from echo_ingest.web.console.overview import AlmanacReport, ServiceReport, facts, view_of
from echo_ingest.web.console.overview.facts import OverviewFacts
from echo_ingest.web.console.overview.quickstart import FirstMessage, first_message

NOW = datetime(2026, 9, 14, 8, 4, 30, tzinfo=UTC)


def sample(minutes_ago: int, received: int, refused: int = 0, dropped: int | None = 0) -> Sample:
    at_ms = int((NOW - timedelta(minutes=minutes_ago)).timestamp()) // 60 * 60_000
    waiting = {"echo_api": SinkSample(minutes_ago, 0, 0.0)}
    return Sample(at_ms, True, received, received, 0, refused, dropped, 1, 1, 1, waiting)


def unanswered(minutes_ago: int) -> Sample:
    return replace(
        sample(minutes_ago, 0),
        answered=False,
        received=None,
        dead_letters=None,
        broker_dropped=None,
        sinks={},
    )


def test_rates_are_by_the_second_and_gaps_stay_gaps() -> None:
    samples = [
        *(sample(m, 60_000 - 60 * m) for m in range(300, 200, -1)),
        *(unanswered(m) for m in range(200, 150, -1)),
        *(sample(m, 60_000 - 60 * m) for m in range(100, 0, -1)),
    ]
    rates = facts.rates(samples, NOW)
    assert len(rates) == 144
    assert {rate for rate in rates if rate is not None} == {1.0}
    ages = [minutes for minutes, rate in zip(range(1434, -6, -10), rates, strict=True) if rate]
    assert min(ages) < 10 and max(ages) < 310
    assert not [age for age in ages if 115 < age < 195]


def test_a_young_service_is_drawn_from_where_it_began() -> None:
    old: list[float | None] = [None] * 20 + [1.0] * 124
    assert facts.begins(old) == 20
    assert facts.step_at(NOW, 143) <= NOW < facts.step_at(NOW, 144)
    assert facts.begins([None] * 143 + [1.0]) == 144 - 18
    assert facts.begins([None] * 144) == 0


def test_what_waited_is_the_most_of_each_step() -> None:
    waited = facts.waiting([sample(m, 0) for m in (24, 23, 3, 2)], NOW, "echo_api")
    assert [value for value in waited if value is not None] == [24.0, 3.0]
    assert facts.waiting([sample(3, 0)], NOW, "postgres") == [None] * 144


def test_refused_are_counted_also_across_a_replay() -> None:
    counts = [(90, 5), (70, 9), (50, 12), (40, 2), (30, 6)]  # between 50 and 40, some are replayed
    samples = [sample(minutes_ago, 0, refused) for minutes_ago, refused in counts]
    now_ms, hour_ms = (int(at.timestamp() * 1000) for at in (NOW, NOW - timedelta(hours=1)))
    assert facts.refused_between(samples, hour_ms, now_ms) == 4
    assert facts.refused_between([sample(m, 0, 60 - m) for m in range(59, 0, -1)], 0, now_ms) == 58


def test_an_hour_without_samples_has_no_count() -> None:
    hour_ms = int((NOW - timedelta(hours=1)).timestamp() * 1000)
    samples = [unanswered(80), *(sample(m, 0, 90 - m) for m in range(50, 0, -1))]
    assert facts.refused_between(samples, hour_ms - 3_600_000, hour_ms) is None
    state = facts.state_of(replace(known(LEDGER), samples=samples))
    assert (state.refused_this_hour, state.refused_hour_before) == (49, None)


def test_a_broker_that_was_restarted_counts_from_nothing() -> None:
    samples = [sample(3, 0, dropped=10), sample(2, 0, dropped=12), sample(1, 0, dropped=5)]
    assert facts.dropped(samples) == 2 + 5
    assert facts.dropped([unanswered(2), sample(1, 0, dropped=None)]) is None


def known(ledger: Ledger) -> OverviewFacts:
    return OverviewFacts(
        now=NOW,
        ledger=ledger,
        sink_states={"echo_api": SinkState("delivering")},
        problems={},
        away_since=None,
        nodes=NodeCounts(
            17, 14, 15, 1, [SilentNode("ridge-07", 1_000), SilentNode("creek-03", 500)]
        ),
        samples=[],
        room=TimeUntilFull(10, 5.0, 2.0),
        last_night=None,
    )


LEDGER = Ledger(10, 7, 2, 1, 0, {"echo_api": SinkLedger(5, 1, 1, 0, 3.0, None)})


def test_the_state_counts_the_silent_and_not_those_never_heard() -> None:
    state = facts.state_of(known(LEDGER))
    assert (state.heard, state.silent, state.missing) == (14, 2, 0)
    assert [each.node for each in state.latest_silences] == ["ridge-07", "creek-03"]
    assert state.sinks[0].state == "delivering" and state.sinks[0].refused == 1
    assert state.disk_days == 2.0


@pytest.mark.parametrize(
    ("ledger", "missing"),
    [
        (replace(LEDGER, received=12), 2),
        (replace(LEDGER, sinks={"echo_api": SinkLedger(4, 1, 1, 0, 3.0, None)}), 1),
        (replace(LEDGER, sinks={"attic": SinkLedger(9, 1, 1, 0, 3.0, None)}), -4),
    ],
)
def test_a_ledger_that_does_not_add_up_is_seen_wherever_it_does_not(
    ledger: Ledger, missing: int
) -> None:
    assert facts.state_of(known(ledger)).missing == missing


def test_the_first_message_goes_to_this_very_broker(tmp_path: Path) -> None:
    own = load({"IOT_DATA_DIR": str(tmp_path), "IOT_MQTT_PORT": "1999", "IOT_TOPIC": "reserve/#"})
    commands = first_message(own, "pond.example.org")
    assert "-h pond.example.org -p 1999 -u echopub" in commands.elsewhere
    assert f'-P "$(cat {tmp_path}/secrets/echopub)"' in commands.elsewhere
    assert "-t reserve/ridge-07 " in commands.elsewhere
    other = load(
        {
            "IOT_ENDPOINT": "mqtts://broker.example.org",
            "IOT_USER": "frogs",
            "IOT_PASSWORD": "never-to-be-shown",
        }
    )
    commands = first_message(other, "pond.example.org")
    assert '-h broker.example.org -p 8883 -u frogs -P "$PASSWORD"' in commands.elsewhere
    assert "never-to-be-shown" not in commands.elsewhere + commands.here


def test_what_the_overview_counts_is_of_the_same_moment_as_its_ledger() -> None:
    """The newest sample is up to a minute old; the ledger beside it is not."""
    now_ms = int(NOW.timestamp() * 1000)
    samples = [
        sample(minutes_ago, 1_000 - 10 * minutes_ago, 3) for minutes_ago in range(600, 0, -1)
    ]
    ledger = Ledger(1_042, 1_000, 30, 12, 0, {})
    gauges = ServiceGauges(journal_bytes=1, disk_free_bytes=2, room_bytes=3, broker_dropped=5)
    past = AlmanacReport(
        nodes=NodeCounts(1, 1, 1, 0, []),
        samples=samples,
        room=TimeUntilFull(None, None, None),
        last_night=None,
        latest=[],
        offset=1_000,
    )
    first = FirstMessage("n", "u", "here", "elsewhere")
    shown = view_of(ServiceReport(ledger, {}, {}, gauges), past, first, ZoneInfo("UTC"), NOW)
    oldest = samples[0].received
    assert oldest is not None
    assert shown.received_last_day == ledger.received - oldest
    assert shown.dropped == 5
    assert "9 messages were rejected in the last hour." in [each.text for each in shown.clauses]
    silent = view_of(ServiceReport(ledger, {}, {}, None), past, first, ZoneInfo("UTC"), NOW)
    assert silent.received_last_day == 990 - oldest  # nothing newer is known
    assert facts.sample_now(ledger, gauges, NOW).at_ms < now_ms
