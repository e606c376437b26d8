"""Each alert fires when it should and not when it should not, and says where to read on."""

import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from echo_ingest.metrics import DELIVERY, PROXY, REGISTRY
from tests.test_docs import ROOT, anchors
from tests.tools import tool

RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
RUNBOOK = ROOT / "docs" / "alerts.md"
SECONDS = 20


class Story(msgspec.Struct, frozen=True):
    """Series, a value a minute as promtool writes them, and when to look."""

    minutes: int
    series: dict[str, str]


UP = 'up{job="echo-ingest"}'
STARTED = 'process_start_time_seconds{job="echo-ingest"}'
FARM = 'echo_ingest_endpoint_connected{endpoint="farm"}'
LOST = 'echo_ingest_sessions_lost_total{job="echo-ingest"}'
LAG, BACKLOG = (
    'echo_ingest_sink_lag_seconds{sink="a"}',
    'echo_ingest_sink_backlog_records{sink="a"}',
)
HOUR, DAY, WEEK = (f'echo_ingest_nodes_heard{{within="{w}"}}' for w in ("hour", "day", "week"))
ROOM = "echo_ingest_journal_room_bytes"
RESTARTS = 'echo_ingest_process_restarts_total{process="delivery"}'
DROPPED = 'echo_ingest_receipts_total{outcome="dropped"}'

# alert → stories in which it fires, and stories in which it does not
STORIES: dict[str, tuple[list[Story], list[Story]]] = {
    "EchoIngestDown": (
        [Story(3, {UP: "0x9"}), Story(9, {UP: "1x4 stale"}), Story(3, {'up{job="other"}': "1x9"})],
        [Story(9, {UP: "1x9"}), Story(9, {UP: "1x5 0 1x9"})],
    ),
    "EchoIngestRestarting": (
        [Story(60, {STARTED: "0x9 600x9 1200x9 1800x9 2400x29"})],
        [Story(60, {STARTED: "0x9 600x9 1200x49"})],
    ),
    "EchoIngestProcessRestarting": (
        [Story(60, {RESTARTS: "0x9 1x9 2x9 5x29"})],
        [Story(60, {RESTARTS: "0x9 1x9 2x39"})],
    ),
    "EchoIngestEndpointAway": (
        [Story(12, {FARM: "1 0x12"})],
        [Story(30, {FARM: "1 0x9 1 0x9 1x9"})],
    ),
    "EchoIngestMessagesDoNotPass": (
        [
            Story(3, {"echo_ingest_echo_age_seconds": "1 20 80 140"}),
            Story(3, {"echo_ingest_echo_age_seconds": "Inf Inf Inf Inf"}),
        ],
        [Story(4, {"echo_ingest_echo_age_seconds": "1 20 2 20 2"})],
    ),
    "EchoIngestAcknowledgementsStopped": (
        [Story(3, {"echo_ingest_journal_blocked": "0 1 1 1"})],
        [Story(3, {"echo_ingest_journal_blocked": "0 1 0 1"})],
    ),
    "EchoIngestSessionLost": (
        [
            Story(30, {LOST: "0x19 1x19", STARTED: "-9000x99"}),
            # seen at the start, before the first scrape; also where it was so before the restart
            Story(9, {LOST: "1x99", STARTED: "0x99"}),
            Story(30, {LOST: "1x99", STARTED: "-9000x19 1200x99"}),
        ],
        [
            Story(30, {LOST: "0x99", STARTED: "0x99"}),
            Story(90, {LOST: "1x99", STARTED: "0x99"}),
        ],
    ),
    "EchoIngestBrokerDropping": (
        [Story(12, {"echo_ingest_broker_dropped_messages_total": "0x8 3x9"})],
        [Story(30, {"echo_ingest_broker_dropped_messages_total": "0x8 3x30"})],
    ),
    "EchoIngestSalvaged": (
        [Story(1, {"echo_ingest_journal_salvaged": "0 1"})],
        [Story(2, {"echo_ingest_journal_salvaged": "0 1 0"})],
    ),
    "EchoIngestNothingHeard": (
        [Story(30, {HOUR: "3x9 0x30", DAY: "3x50"})],
        [
            Story(60, {HOUR: "0x60", DAY: "0x60"}),  # a new node, or one that is known to be silent
            Story(60, {HOUR: "1x60", DAY: "3x60"}),
        ],
    ),
    "EchoIngestNodesSilent": (
        [Story(40, {DAY: "3x5 2x50", WEEK: "3x60"})],
        [Story(40, {DAY: "3x5 2x20 3x50", WEEK: "3x60"})],
    ),
    "EchoIngestRoomWithinADay": (
        [Story(90, {ROOM: "5e9-4e6x90"})],
        [
            Story(90, {ROOM: "5e9-3e6x90"}),
            Story(90, {ROOM: "1e6x90"}),
            Story(90, {ROOM: "9e9x30 9e9-9e7x10 8e9x90"}),  # somebody copies a file
        ],
    ),
    "EchoIngestDeadLetters": (
        [Story(60, {"echo_ingest_dead_letters": "7x50 8x20"})],
        [Story(60, {"echo_ingest_dead_letters": "7x50 6x20"})],
    ),
    "EchoIngestParked": (
        [Story(60, {'echo_ingest_sink_parked_records{sink="a"}': "7x50 8x20"})],
        [Story(60, {'echo_ingest_sink_parked_records{sink="a"}': "7x50 6x20"})],
    ),
    "EchoIngestSinkUnavailable": (
        [Story(40, {'echo_ingest_sink_unavailable{sink="a"}': "0 1+1x50"})],
        [Story(40, {'echo_ingest_sink_unavailable{sink="a"}': "0 1+1x25 0x20"})],
    ),
    "EchoIngestBacklogGrowing": (
        [Story(60, {LAG: "0+60x60", BACKLOG: "0+100x60"})],
        [
            Story(60, {LAG: "0+60x60", BACKLOG: "9000-100x60"}),  # late, and catching up
            Story(60, {LAG: "5x60", BACKLOG: "0+100x60"}),
        ],
    ),
    "EchoIngestConnectionUnsteady": (
        [Story(70, {"echo_ingest_broker_connections_total": "0+0.25x70"})],
        [Story(70, {"echo_ingest_broker_connections_total": "0+0.15x70"})],
    ),
    "EchoIngestDevicesHeldBack": (
        [Story(20, {"echo_ingest_devices_held_back": "0x10 1x10"})],
        [Story(20, {"echo_ingest_devices_held_back": "0x10 1x7 0 1x4"})],
    ),
    "EchoIngestReceiptsDropped": (
        [Story(40, {DROPPED: "0+1x40"})],
        [Story(40, {DROPPED: "0x20 5x40"})],
    ),
}


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def checked(folder: Path, rules: str) -> str:
    """Return what promtool says about all stories with these rules; empty if each goes as told."""
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": s, "values": v} for s, v in story.series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertstate="firing", alertname="{name}"}})',
                    "eval_time": f"{story.minutes}m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                }
            ],
        }
        for name, (firing, quiet) in STORIES.items()
        for fires, stories in ((True, firing), (False, quiet))
        for story in stories
    ]
    (folder / "rules.yml").write_text(rules)
    (folder / "stories.yml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests})
    )
    done = subprocess.run(
        [tool("promtool"), "test", "rules", folder / "stories.yml"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.slow
def test_each_alert_fires_when_it_should_and_not_else(tmp_path: Path) -> None:
    assert STORIES.keys() == alerts().keys()
    assert all(firing and quiet for firing, quiet in STORIES.values())
    assert checked(tmp_path, RULES.read_text()) == ""


@pytest.mark.slow
@pytest.mark.parametrize(("always", "found_by"), [("vector(1)", 1), ("vector(1) > 1", 0)])
def test_an_alert_that_always_or_never_fires_is_found(
    tmp_path: Path, always: str, found_by: int
) -> None:
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                rule.pop("for", None)
                rule["expr"] = always
    output = checked(tmp_path, yaml.safe_dump(rules))
    for name, stories in STORIES.items():
        assert output.count(f'alertname=\\"{name}\\"') == len(stories[found_by]), name


def test_the_configuration_and_its_rules_are_well_formed() -> None:
    done = subprocess.run(
        [tool("promtool"), "check", "config", RULES.with_name("prometheus.yml")],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "rules found" in done.stdout


def test_each_alert_leads_to_its_heading_and_each_heading_has_its_alert() -> None:
    runbook_anchors = anchors(RUNBOOK)
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"
        assert name.lower() in runbook_anchors
    headings = re.findall(r"^### (EchoIngest\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert set(headings) == alerts().keys()


def test_rules_name_metrics_that_exist() -> None:
    rules = [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    for rule in rules:
        assert unknown(rule["expr"]) <= recorded, rule


def unknown(query: str) -> set[str]:
    """Return the names in a query that are none of our metrics."""
    suffixes = {
        "counter": ("_total",),
        "histogram": ("_bucket", "_sum", "_count"),
        "info": ("_info",),
    }
    known = {
        family.name + suffix
        for registry in (REGISTRY, DELIVERY, PROXY)
        for family in registry.collect()
        for suffix in suffixes.get(family.type, ("",))
    }
    return set(re.findall(r"\b(?:echo_ingest|process)[\w:]+", query)) - known
