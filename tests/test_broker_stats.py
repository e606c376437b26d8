"""What the metrics say beside the counters: of the broker, of the nodes, of the room there is."""

import asyncio
import re
import urllib.request
from pathlib import Path

import pytest

from echo_ingest import broker
from echo_ingest.journal import Journal
from echo_ingest.monitoring.broker_stats import FIGURES, BrokerStats, figures
from echo_ingest.mqtt import SessionOptions
from echo_ingest.record import Message
from echo_ingest.settings import Settings
from tests.harness import Device, Harness, eventually, free_port


def metrics(house: Harness) -> dict[str, float]:
    """Each series by its name and labels, as exposed."""
    url = f"http://127.0.0.1:{house.http_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as reply:
        text = reply.read().decode()
    return {
        name: float(value) for name, value in re.findall(r"^([^#\s].*) (\S+)$", text, re.MULTILINE)
    }


@pytest.mark.slow
async def test_figures_are_the_brokers_and_go_when_it_goes(mosquitto: Path, tmp_path: Path) -> None:
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
        heard = BrokerStats(
            SessionOptions(endpoint=own.endpoint, client_id="us", login=lambda: login)
        )
        assert heard.known == {}
        listening = asyncio.create_task(heard.run())
        async with asyncio.timeout(20):
            while heard.known.keys() != set(FIGURES.values()):
                await asyncio.sleep(0.02)
        assert heard.known["echo_ingest_broker_dropped_messages"] == 0
        assert heard.known["echo_ingest_broker_held_messages"] > 0
        assert heard.known["echo_ingest_broker_heap_bytes"] > 10_000
    async with asyncio.timeout(20):
        while heard.known:
            await asyncio.sleep(0.02)
    listening.cancel()


def test_what_is_no_figure_is_left_out() -> None:
    topic = "$SYS/broker/clients/connected"
    said = [(topic, b"7"), (topic, b"nan"), (topic, b"\xff"), ("$SYS/broker/uptime", b"9")]
    messages = [Message(name, payload, 0) for name, payload in said]
    assert figures(messages) == {"echo_ingest_broker_clients": 7}


@pytest.mark.slow
def test_the_metrics_page_tells_of_broker_and_nodes_and_none_of_it_is_a_message(
    tmp_path: Path,
) -> None:
    house = Harness(tmp_path / "data")
    try:
        first = house.up()
        device = Device(house.mqtt_port)
        device.publish(
            [("iotingestion/ridge-07", b'{"status":"online"}'), ("iotingestion/x", b"?")]
        )
        device.close()
        eventually(lambda: house.ledger_now()["received"] == 2)
        house.stop(first)
        house.up()
        # as long as the broker takes to say something new
        eventually(lambda: metrics(house).get("echo_ingest_broker_clients") == 2)
        page = metrics(house)
        assert page['echo_ingest_nodes_heard{within="hour"}'] == 2
        assert page["echo_ingest_dead_letters"] == 1
        assert page['echo_ingest_receipts_total{outcome="dropped"}'] == 0
        assert page["echo_ingest_journal_salvaged"] == 0
        (tmp_path / "data" / "journal.db.salvage.txt").touch()
        assert metrics(house)["echo_ingest_journal_salvaged"] == 1
        assert house.ledger()["received"] == 2
    finally:
        house.close()


def test_room_is_what_the_cap_or_the_disk_leaves(tmp_path: Path) -> None:
    free = Journal(tmp_path / "a.db")
    assert free.room_bytes() == pytest.approx(free.disk_free_bytes(), rel=0.1)
    capped = Journal(tmp_path / "b.db", bytes_max=1_000_000)
    assert capped.room_bytes() == 1_000_000 - capped.used_bytes()
    full = Journal(tmp_path / "c.db", disk_free_bytes_min=2**60)
    assert full.room_bytes() == 0
    for journal in (free, capped, full):
        journal.close()
