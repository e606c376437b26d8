"""The metrics that are not counters: those of the broker, the nodes and the free space."""

import asyncio
import re
import urllib.request
from pathlib import Path

import pytest

from echo_ingest import broker
from echo_ingest.journal import Journal
from echo_ingest.monitoring.broker_stats import METRIC_OF_TOPIC, BrokerStats, parse_values
from echo_ingest.mqtt import SessionOptions
from echo_ingest.record import Message
from echo_ingest.settings import Settings
from tests.harness import Device, Harness, eventually, free_port


def metrics(harness: Harness) -> dict[str, float]:
    """Return each series by its name and labels, as exposed."""
    url = f"http://127.0.0.1:{harness.http_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as reply:
        text = reply.read().decode()
    return {
        name: float(value) for name, value in re.findall(r"^([^#\s].*) (\S+)$", text, re.MULTILINE)
    }


@pytest.mark.slow
async def test_the_broker_publishes_its_statistics_and_they_vanish_with_it(
    mosquitto: Path, tmp_path: Path
) -> None:
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path / "data",
            "mosquitto": mosquitto,
            "mqtt_port": free_port(),
            "ws_port": free_port(),
        }
    )
    async with broker.running(settings) as own:
        login = (own.service.user, own.service.password)
        stats = BrokerStats(
            SessionOptions(endpoint=own.endpoint, client_id="us", login=lambda: login)
        )
        assert stats.values == {}
        listening = asyncio.create_task(stats.run())
        async with asyncio.timeout(20):
            while stats.values.keys() != set(METRIC_OF_TOPIC.values()):
                await asyncio.sleep(0.02)
        assert stats.values["echo_ingest_broker_dropped_messages"] == 0
        assert stats.values["echo_ingest_broker_held_messages"] > 0
        assert stats.values["echo_ingest_broker_heap_bytes"] > 10_000
    async with asyncio.timeout(20):
        while stats.values:
            await asyncio.sleep(0.02)
    listening.cancel()


def test_a_value_that_is_not_a_number_is_left_out() -> None:
    topic = "$SYS/broker/clients/connected"
    published = [(topic, b"7"), (topic, b"nan"), (topic, b"\xff"), ("$SYS/broker/uptime", b"9")]
    messages = [Message(name, payload, 0) for name, payload in published]
    assert parse_values(messages) == {"echo_ingest_broker_clients": 7}


@pytest.mark.slow
def test_the_metrics_page_covers_broker_and_nodes_and_counts_no_message_for_them(
    tmp_path: Path,
) -> None:
    harness = Harness(tmp_path / "data")
    try:
        first = harness.up()
        device = Device(harness.mqtt_port)
        device.publish(
            [("iotingestion/ridge-07", b'{"status":"online"}'), ("iotingestion/x", b"?")]
        )
        device.close()
        eventually(lambda: harness.ledger_now()["received"] == 2)
        harness.stop(first)
        harness.up()
        # as long as the broker takes to publish a new value
        eventually(lambda: metrics(harness).get("echo_ingest_broker_clients") == 2)
        page = metrics(harness)
        assert page['echo_ingest_nodes_heard{within="hour"}'] == 2
        assert page["echo_ingest_dead_letters"] == 1
        assert page['echo_ingest_receipts_total{outcome="dropped"}'] == 0
        assert page["echo_ingest_journal_salvaged"] == 0
        (tmp_path / "data" / "journal.db.salvage.txt").touch()
        assert metrics(harness)["echo_ingest_journal_salvaged"] == 1
        assert harness.ledger()["received"] == 2
    finally:
        harness.close()


def test_the_free_space_is_what_the_limit_or_the_disk_leaves(tmp_path: Path) -> None:
    free = Journal(tmp_path / "a.db")
    assert free.room_bytes() == pytest.approx(free.disk_free_bytes(), rel=0.1)
    capped = Journal(tmp_path / "b.db", bytes_max=1_000_000)
    assert capped.room_bytes() == 1_000_000 - capped.used_bytes()
    full = Journal(tmp_path / "c.db", disk_free_bytes_min=2**60)
    assert full.room_bytes() == 0
    for journal in (free, capped, full):
        journal.close()
