"""`echo-ingest sinks` beside the running service with two sinks: the Echo API, and a folder."""

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from echo_ingest.journal import Journal
from tests.api import Api
from tests.harness import Device, Harness, eventually
from tests.sinks.messages import arrivals, messages
from tests.test_delivery import detection

pytestmark = pytest.mark.slow


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()
    api.start()
    yield api
    api.stop()


@pytest.fixture
def harness(tmp_path: Path, api: Api) -> Iterator[Harness]:
    folder = tmp_path / "objects"
    folder.mkdir()
    harness = Harness(tmp_path / "data", IOT_API_URL=api.url, IOT_OBJECTS_URL=folder.as_uri())
    yield harness
    harness.close()


def sinks(harness: Harness) -> Any:
    return harness.ledger_now()["sinks"]


def says(harness: Harness, *arguments: str, code: int = 0) -> str:
    done = harness.cli("sinks", *arguments)
    assert done.returncode == code, done
    return done.stdout + done.stderr


def row(harness: Harness, name: str) -> str:
    """Return what `sinks list` says about one sink."""
    return next(line for line in says(harness, "list").splitlines() if line.startswith(name))


def metrics(harness: Harness) -> list[str]:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{harness.http_port}/metrics", timeout=5
    ) as reply:
        text: str = reply.read().decode()
        return text.splitlines()


def test_a_pause_is_obeyed_seen_everywhere_and_outlives_a_restart(
    harness: Harness, api: Api
) -> None:
    program = harness.up()
    assert "is paused" in says(harness, "pause", "echo_api")
    assert "already paused, since" in says(harness, "pause", "echo_api")
    paused = 'echo_ingest_sink_paused{sink="echo_api"} 1.0'
    eventually(lambda: paused in metrics(harness), seconds=3)
    device = Device(harness.mqtt_port)
    device.publish([detection(n) for n in range(10)])
    eventually(lambda: sinks(harness)["objects"]["delivered"] == 10)
    assert sinks(harness)["echo_api"]["backlog"] == 10
    assert "paused since" in harness.cli("status").stdout
    assert harness.http("/api/sinks")[1]["echo_api"]["state"] == "paused"
    assert harness.http("/healthz")[0] == 200
    harness.stop(program)
    listed = says(harness, "list")
    assert re.search("echo_api +Echo API +paused since", listed)
    assert re.search("objects +Audio storage +the service is not running", listed)
    harness.up()
    assert sinks(harness)["echo_api"]["backlog"] == 10
    assert api.numbers().total() == 0
    assert "is resumed, with a backlog of 10" in says(harness, "resume", "echo_api")
    eventually(lambda: sinks(harness)["echo_api"]["delivered"] == 10, seconds=5)
    assert api.numbers().total() == len(api.numbers()) == 10


def test_one_that_is_away_is_said_to_be_since_when_and_why_and_the_other_goes_on(
    harness: Harness, api: Api
) -> None:
    harness.up()
    api.stop()
    Device(harness.mqtt_port).publish([detection(n) for n in range(10)])
    eventually(lambda: sinks(harness)["objects"]["delivered"] == 10)
    eventually(lambda: harness.http("/api/sinks")[1]["echo_api"]["state"] == "unavailable")
    listed = says(harness, "list")
    assert re.search("echo_api +Echo API +unavailable since 20.*: no answer.*IOT_API_URL", listed)
    assert re.search("objects +Audio storage +delivering", listed)
    # Waiting can be stopped; the delivery still happens when the API is back.
    waiting = subprocess.Popen(
        [sys.executable, "-m", "echo_ingest.cli", "sinks", "watch", "echo_api"],
        env=harness.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None
    assert "waiting; Ctrl-C" in waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    try:
        said = waiting.communicate(timeout=5)[1]
    except subprocess.TimeoutExpired:
        # Python loses a signal that comes just while a generator is closed: then press it again.
        waiting.send_signal(signal.SIGINT)
        said = waiting.communicate(timeout=20)[1]
    assert "the delivery continues" in said
    assert waiting.returncode == 1
    api.start()
    eventually(lambda: sinks(harness)["echo_api"]["delivered"] == 10, seconds=60)


def test_a_store_that_lost_what_it_had_is_filled_again_from_the_beginning_or_from_a_time(
    harness: Harness,
) -> None:
    program = harness.up()
    device = Device(harness.mqtt_port)
    device.publish([detection(n) for n in range(9)])
    eventually(lambda: sinks(harness)["objects"]["delivered"] == 9)
    eventually(lambda: sinks(harness)["echo_api"]["delivered"] == 9)
    again = says(harness, "backfill", "objects")
    assert "9 records will be delivered to objects again" in again
    assert "objects: 9 records done in" in again
    assert "nothing is waiting for objects" in says(harness, "watch", "objects")
    assert "9 records" in says(harness, "backfill", "objects", "--from", "1h", "--no-wait")
    eventually(lambda: sinks(harness)["objects"]["backlog"] == 0)
    nothing = says(harness, "backfill", "objects", "--from", "2100-01-01", code=1)
    assert "nothing was received since 2100" in nothing
    refused = says(harness, "backfill", "echo_api", code=1)
    assert "up to 9 records" in refused
    assert "--accept-duplicates" in refused
    assert sinks(harness)["echo_api"]["backlog"] == 0
    assert "echo_api: 9 records done" in says(
        harness, "backfill", "echo_api", "--accept-duplicates"
    )
    says(harness, "pause", "objects")
    assert "sinks resume objects" in says(harness, "backfill", "objects", code=1)
    harness.stop(program)
    assert "continues when it starts" in says(harness, "backfill", "objects", code=1)


def test_one_that_is_not_configured_any_more_is_kept_until_it_is_forgotten(
    harness: Harness,
) -> None:
    program = harness.up()
    Device(harness.mqtt_port).publish([detection(n) for n in range(3)])
    eventually(lambda: sinks(harness)["objects"]["delivered"] == 3)
    assert "in use" in says(harness, "forget", "objects", code=1)
    harness.stop(program)
    objects_url = harness.settings.pop("IOT_OBJECTS_URL")
    harness.up()
    assert "no longer configured" in row(harness, "objects")
    assert "restart the service" in says(harness, "backfill", "objects", code=1)
    # With other settings than the service has, it still knows what that one uses.
    api_url = harness.settings.pop("IOT_API_URL")
    assert "in use" in says(harness, "forget", "echo_api", code=1)
    harness.settings["IOT_API_URL"] = api_url
    assert "objects is forgotten" in says(harness, "forget", "objects")
    assert list(sinks(harness)) == ["echo_api"]
    unknown = says(harness, "backfill", "objects", code=2)
    assert "there is no sink 'objects'; the sinks are: echo_api" in unknown
    harness.settings["IOT_OBJECTS_URL"] = objects_url
    assert "begins when the service restarts" in row(harness, "objects")


def test_one_that_has_never_run_may_be_paused_and_told_where_to_begin(
    harness: Harness, api: Api
) -> None:
    harness.data_dir.mkdir(mode=0o700)
    with closing(Journal(harness.data_dir / "journal.db")) as journal:
        earlier, later = messages(0, 2)
        earlier = replace(earlier, received_at_ms=later.received_at_ms - 86_400_000)
        journal.append(arrivals([earlier, later]))
        moment = datetime.fromtimestamp(later.received_at_ms / 1000, UTC).isoformat()
    assert "begins when the service starts" in row(harness, "echo_api")
    says(harness, "pause", "echo_api")
    begun = says(harness, "backfill", "objects", "--from", moment, "--no-wait")
    assert "objects has no records yet and begins at that time; 1 earlier record will be" in begun
    harness.up()
    Device(harness.mqtt_port).publish([detection(n) for n in range(3)])
    eventually(lambda: sinks(harness)["objects"]["delivered"] == 4)
    assert sinks(harness)["objects"]["skipped"] == 1
    assert sinks(harness)["echo_api"]["backlog"] == 5
    assert api.numbers().total() == 0
