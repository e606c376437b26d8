"""The metrics that are not counters: those of the broker, the nodes and the free space."""

import asyncio
import contextlib
import json
import math
import os
import re
import time
import urllib.request
from pathlib import Path

import apsw
import pytest

from echo_ingest import broker
from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal
from echo_ingest.journal.cursors import Refused
from echo_ingest.monitoring.broker_stats import METRIC_OF_TOPIC, BrokerStats, parse_values
from echo_ingest.mqtt import SessionOptions
from echo_ingest.record import Message
from echo_ingest.service.runtime import Runtime
from echo_ingest.settings import Endpoint, Settings
from tests.harness import Device, Harness, eventually, free_port


def metrics(harness: Harness) -> dict[str, float]:
    """Return each series by its name and labels, as exposed."""
    url = f"http://127.0.0.1:{harness.http_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as reply:
        return series(reply.read().decode())


def series(text: str) -> dict[str, float]:
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
        # The session, and what reads the broker's statistics in the service and in the proxy.
        # As long as the broker takes to publish a new value.
        eventually(lambda: metrics(harness).get("echo_ingest_broker_clients") == 3)
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


LOST = 3
SINKS = ("echo_api", "objects")
HOUR_MS = 3_600_000


def fill(path: Path) -> None:
    """Fill a journal so that no figure is 0: each sink has parked and waiting records."""
    now_ms = time.time_ns() // 1_000_000
    with contextlib.closing(Journal(path)) as journal:
        for name in SINKS:
            journal.add_sink(name)
        for offset in range(1, 41):
            if offset == 21:
                journal.note_day(now_ms - 24 * HOUR_MS)
            age_ms = 48 * HOUR_MS if offset <= 20 else HOUR_MS  # the first are past a day
            fields = {"nodeId": "n", "status": "online", "timestamp": 1_795_000_000 + offset}
            payload = json.dumps(fields | {"note": "x" * 5_000}).encode()
            message = Message("iotingestion/n", payload, now_ms - age_ms, "n")
            assert journal.append([(message, Decoder(1_000_000).identify(message))]).stored == 1
        for number in range(7):
            rubbish = Message("iotingestion/n", b"?%d" % number, now_ms, "n")
            journal.append([(rubbish, Decoder(1_000_000).identify(rubbish))])
        journal.acknowledged()
        for name, settled, parked in (("echo_api", 25, 2), ("objects", 30, 4)):
            refusals = {
                offset: Refused("not known") for offset in range(settled - parked + 1, settled + 1)
            }
            journal.settle(name, range(1, settled + 1), refusals)
            journal.pause(name)
    with contextlib.closing(apsw.Connection(str(path))) as db:
        db.execute("DELETE FROM record WHERE offset BETWEEN 22 AND ?", (21 + LOST,))
        db.execute("DELETE FROM parked WHERE offset BETWEEN 22 AND ?", (21 + LOST,))
        db.execute(
            "UPDATE sink SET delivered = cursor - (SELECT count(*) FROM parked WHERE sink = name)"
        )
        db.execute("INSERT INTO lost VALUES (22, ?)", (21 + LOST,))


def counted(path: Path) -> dict[str, float]:
    """Return what the gauges should say, counted by row, or by SQLite and the file system."""
    with contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        pages, free, size = (
            db.execute(f"PRAGMA {name}").get
            for name in ("page_count", "freelist_count", "page_size")
        )
        expected = {
            "echo_ingest_journal_bytes": (pages - free) * size,
            "echo_ingest_journal_lost_messages": LOST,
            "echo_ingest_dead_letters": db.execute("SELECT count(*) FROM dead_letter").get,
        }
        for name in SINKS:
            label = f'{{sink="{name}"}}'
            cursor, paused_at_ms = db.execute(
                "SELECT cursor, paused_at_ms FROM sink WHERE name = ?", (name,)
            ).get
            parked = db.execute("SELECT count(*) FROM parked WHERE sink = ?", (name,)).get
            waiting = db.execute("SELECT count(*) FROM record WHERE offset > ?", (cursor,)).get
            expected[f"echo_ingest_sink_backlog_records{label}"] = waiting
            expected[f"echo_ingest_sink_parked_records{label}"] = parked
            expected[f"echo_ingest_sink_paused{label}"] = paused_at_ms is not None
    assert free > 0
    assert all(value > 0 for value in expected.values()), expected
    return expected


def assert_as_counted(page: dict[str, float], path: Path, cap_bytes: int, kept_bytes: int) -> None:
    """Compare a page of metrics with the journal, while nothing comes in."""
    expected = counted(path)
    assert {name: page[name] for name in expected} == expected
    used_bytes = expected["echo_ingest_journal_bytes"]
    status = os.statvfs(path.parent)
    free_bytes = status.f_bavail * status.f_frsize
    assert page["echo_ingest_disk_free_bytes"] == pytest.approx(free_bytes, rel=0.1)
    room_bytes = cap_bytes - used_bytes if cap_bytes else free_bytes - kept_bytes
    assert page["echo_ingest_journal_room_bytes"] == pytest.approx(
        room_bytes, abs=0 if cap_bytes else free_bytes * 0.1
    )
    for name in SINKS:
        lag_seconds = page[f'echo_ingest_sink_lag_seconds{{sink="{name}"}}']
        assert 3_600 <= lag_seconds <= 3_900


def test_each_gauge_is_what_is_there(tmp_path: Path) -> None:
    fill(tmp_path / "journal.db")
    settings = Settings(data_dir=tmp_path)
    with contextlib.closing(Journal(tmp_path / "journal.db", bytes_max=50_000_000)) as journal:
        assert journal.trim(time.time_ns() // 1_000_000 - 24 * HOUR_MS) > 0
        runtime = Runtime(settings, journal, Endpoint("mqtt", "127.0.0.1", 1), lambda: None)
        page = series(runtime.metrics())
        assert_as_counted(page, tmp_path / "journal.db", 50_000_000, 0)
        assert page["echo_ingest_journal_bytes"] == journal.used_bytes()
        gauges = runtime.gauges()
        assert gauges.journal_bytes == page["echo_ingest_journal_bytes"]
        assert gauges.room_bytes == page["echo_ingest_journal_room_bytes"]
        assert gauges.disk_free_bytes == pytest.approx(page["echo_ingest_disk_free_bytes"], rel=0.1)
        assert (gauges.broker_clients, gauges.broker_dropped) == (None, None)
        assert page["echo_ingest_broker_connected"] == 0
        assert page["echo_ingest_echo_age_seconds"] == math.inf
        assert page["echo_ingest_journal_blocked"] == 0
        runtime.intakes[0].ingest.blocked = "no room"
        assert series(runtime.metrics())["echo_ingest_journal_blocked"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("cap_bytes", [0, 50_000_000])
def test_the_running_service_says_what_is_there_and_keeps_to_its_retention(
    tmp_path: Path, cap_bytes: int
) -> None:
    kept_bytes = 1_000_000
    (tmp_path / "objects").mkdir()
    harness = Harness(
        tmp_path / "data",
        IOT_RETENTION_DAYS="1",
        IOT_JOURNAL_BYTES_MAX=str(cap_bytes),
        IOT_DISK_FREE_BYTES_MIN=str(kept_bytes),
        IOT_API_URL=f"http://127.0.0.1:{free_port()}",
        IOT_OBJECTS_URL=(tmp_path / "objects").as_uri(),
    )
    harness.data_dir.mkdir(mode=0o700)
    path = harness.data_dir / "journal.db"
    fill(path)
    try:
        harness.up()
        with contextlib.closing(apsw.Connection(str(path))) as db:
            # Older than a day, the first 20 go; younger, and behind each cursor, 21 stays.
            eventually(lambda: db.execute("SELECT min(offset) FROM record").get == 21)
        eventually(lambda: 0 < metrics(harness)["echo_ingest_echo_age_seconds"] < 10)
        page = metrics(harness)
        assert_as_counted(page, path, cap_bytes, kept_bytes)
        assert page["echo_ingest_broker_connected"] == 1
        with contextlib.closing(Journal(path)) as beside:
            assert page["echo_ingest_journal_bytes"] == beside.used_bytes()
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
