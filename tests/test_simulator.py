"""The simulated forest: it sends what such devices send, and its past fits its present."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from echo_ingest.decode import Decoder
from echo_ingest.quality import TimeProblem
from echo_ingest.record import (
    AnyRecord,
    Detection,
    Message,
    Recording,
    Rejected,
    Telemetry,
)
from echo_ingest.simulator import fleet, history, nodes
from echo_ingest.simulator.forest import battery_percent, is_silent, sun_hour
from tests.harness import Harness, eventually
from tests.several_records import only

BEGAN_AT = datetime(2026, 9, 14, 5, 45, tzinfo=UTC)
PAYLOAD_BYTES_MAX = 1_000_000


@pytest.fixture(scope="module")
def past() -> list[tuple[Message, AnyRecord | Rejected]]:
    devices = fleet("iotingestion", BEGAN_AT)
    rng = Random(1)
    messages = history.messages(history.events(devices, BEGAN_AT, rng), rng)
    return [(message, only(Decoder(PAYLOAD_BYTES_MAX).decode(message))) for message in messages]


def test_all_but_the_device_with_a_bug_send_records(
    past: list[tuple[Message, AnyRecord | Rejected]],
) -> None:
    rejected = Counter(m.node for m, record in past if isinstance(record, Rejected))
    assert rejected.keys() == {"broken-9"}
    assert {m.node for m, _ in past} == nodes(BEGAN_AT).keys()
    sounding = [r for _, r in past if isinstance(r, Detection) and r.clip is not None]
    assert len({record.species for record in sounding}) > 3


def test_a_recorder_identifies_what_it_records(
    past: list[tuple[Message, AnyRecord | Rejected]],
) -> None:
    records = [record for message, record in past if message.node == "swamp-01"]
    began = {r.observed_at for r in records if isinstance(r, Recording)}
    named = {r.observed_at - timedelta(seconds=1) for r in records if isinstance(r, Detection)}
    assert len(began) > 50
    assert named == began


def test_the_past_arrives_in_order_and_each_node_has_its_story(
    past: list[tuple[Message, AnyRecord | Rejected]],
) -> None:
    received = [m.received_at_ms for m, _ in past]
    assert received == sorted(received)
    began_ms = BEGAN_AT.timestamp() * 1000
    assert began_ms - history.DAYS * 86_400_000 < received[0] and received[-1] < began_ms + 1_000
    last = {m.node: (m, record) for m, record in past}
    silent, _ = last["ridge-07"]
    assert began_ms - silent.received_at_ms > 5 * 3_600_000
    message, fast = last["ridge-03"]
    assert not isinstance(fast, Rejected)
    assert fast.time_problem == TimeProblem.AFTER_RECEIPT and fast.device_time is not None
    shown = datetime.fromisoformat(fast.device_time)
    assert shown.timestamp() - message.received_at_ms / 1000 > 2_800
    assert {
        record.time_problem
        for message, record in past
        if message.node != "ridge-03" and not isinstance(record, Rejected)
    } == {None, TimeProblem.CLOCK_NOT_SET}
    late = [
        message.received_at_ms / 1000 - record.observed_at.timestamp()
        for message, record in past
        if message.node == "creek-03" and not isinstance(record, Rejected)
    ]
    assert max(late) > 10 * 3_600 and sorted(late)[len(late) // 2] < 2


def test_batteries_follow_the_sun() -> None:
    forest = nodes(BEGAN_AT)
    ridge = forest["ridge-01"]
    hours = [BEGAN_AT + timedelta(hours=hour) for hour in range(24)]
    levels = {sun_hour(ridge, when): battery_percent(ridge, when) for when in hours}
    assert all(0 < level <= 100 for level in levels.values())
    assert 13 < max(levels, key=levels.__getitem__) < 17
    assert 4 < min(levels, key=levels.__getitem__) < 8
    sinking = [battery_percent(forest["ridge-07"], when - timedelta(days=2)) for when in hours]
    assert sinking == sorted(sinking, reverse=True)
    assert not is_silent(forest["gully-02"], BEGAN_AT)
    assert is_silent(forest["gully-02"], BEGAN_AT + timedelta(hours=1))


def test_reported_batteries_follow_the_sun(
    past: list[tuple[Message, AnyRecord | Rejected]],
) -> None:
    reports = [r for _, r in past if isinstance(r, Telemetry) and r.sensor_id == "ridge-07"]
    levels = [record.health.battery_percent for record in reports]
    assert levels[0] == 97 and levels[-1] is not None and levels[-1] < 1


@pytest.mark.slow
def test_a_demonstration_begins_with_some_days_and_goes_on(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "data")
    started_at = datetime.now(UTC)
    try:
        harness.wait_healthy(harness.start("demo"))

        def sent_now() -> list[dict[str, str]]:
            _, answer = harness.http("/api/nodes?node=ridge-01")
            last_heard_at = datetime.fromisoformat(answer["nodes"][0]["last_heard_at"])
            return list(answer["nodes"]) if last_heard_at > started_at else []

        assert len(eventually(sent_now)) >= history.DAYS
        ledger = harness.ledger_now()
        assert ledger["stored"] > 5_000
        assert ledger["duplicates"] > 100 and ledger["dead_letters"] > 10
    finally:
        harness.close()
