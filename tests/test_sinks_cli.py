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
def house(tmp_path: Path, api: Api) -> Iterator[Harness]:
    folder = tmp_path / "objects"
    folder.mkdir()
    house = Harness(tmp_path / "data", IOT_API_URL=api.url, IOT_OBJECTS_URL=folder.as_uri())
    yield house
    house.close()


def sinks(house: Harness) -> Any:
    return house.ledger_now()["sinks"]


def says(house: Harness, *arguments: str, code: int = 0) -> str:
    done = house.cli("sinks", *arguments)
    assert done.returncode == code, done
    return done.stdout + done.stderr


def row(house: Harness, name: str) -> str:
    """Return what `sinks list` says about one sink."""
    return next(line for line in says(house, "list").splitlines() if line.startswith(name))


def metrics(house: Harness) -> list[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{house.http_port}/metrics", timeout=5) as reply:
        text: str = reply.read().decode()
        return text.splitlines()


def test_a_pause_is_obeyed_seen_everywhere_and_outlives_a_restart(house: Harness, api: Api) -> None:
    program = house.up()
    assert "is paused" in says(house, "pause", "echo_api")
    assert "already paused, since" in says(house, "pause", "echo_api")
    paused = 'echo_ingest_sink_paused{sink="echo_api"} 1.0'
    eventually(lambda: paused in metrics(house), seconds=3)
    device = Device(house.mqtt_port)
    device.publish([detection(n) for n in range(10)])
    eventually(lambda: sinks(house)["objects"]["delivered"] == 10)
    assert sinks(house)["echo_api"]["backlog"] == 10
    assert "paused since" in house.cli("status").stdout
    assert house.http("/api/sinks")[1]["echo_api"]["state"] == "paused"
    assert house.http("/healthz")[0] == 200
    house.stop(program)
    listed = says(house, "list")
    assert re.search("echo_api +Echo API +paused since", listed)
    assert re.search("objects +Audio storage +the service is not running", listed)
    house.up()
    assert sinks(house)["echo_api"]["backlog"] == 10
    assert api.numbers().total() == 0
    assert "is resumed, with a backlog of 10" in says(house, "resume", "echo_api")
    eventually(lambda: sinks(house)["echo_api"]["delivered"] == 10, seconds=5)
    assert api.numbers().total() == len(api.numbers()) == 10


def test_one_that_is_away_is_said_to_be_since_when_and_why_and_the_other_goes_on(
    house: Harness, api: Api
) -> None:
    house.up()
    api.stop()
    Device(house.mqtt_port).publish([detection(n) for n in range(10)])
    eventually(lambda: sinks(house)["objects"]["delivered"] == 10)
    eventually(lambda: house.http("/api/sinks")[1]["echo_api"]["state"] == "unavailable")
    listed = says(house, "list")
    assert re.search("echo_api +Echo API +unavailable since 20.*: no answer.*IOT_API_URL", listed)
    assert re.search("objects +Audio storage +delivering", listed)
    # Waiting can be stopped; the delivery still happens when the API is back.
    waiting = subprocess.Popen(
        [sys.executable, "-m", "echo_ingest.cli", "sinks", "watch", "echo_api"],
        env=house.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None
    assert "waiting; Ctrl-C" in waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    assert "the delivery continues" in waiting.communicate(timeout=20)[1]
    assert waiting.returncode == 1
    api.start()
    eventually(lambda: sinks(house)["echo_api"]["delivered"] == 10, seconds=60)


def test_a_store_that_lost_what_it_had_is_filled_again_from_the_beginning_or_from_a_time(
    house: Harness,
) -> None:
    program = house.up()
    device = Device(house.mqtt_port)
    device.publish([detection(n) for n in range(9)])
    eventually(lambda: sinks(house)["objects"]["delivered"] == 9)
    eventually(lambda: sinks(house)["echo_api"]["delivered"] == 9)
    again = says(house, "backfill", "objects")
    assert "9 records will be delivered to objects again" in again
    assert "objects: 9 records done in" in again
    assert "nothing is waiting for objects" in says(house, "watch", "objects")
    assert "9 records" in says(house, "backfill", "objects", "--from", "1h", "--no-wait")
    eventually(lambda: sinks(house)["objects"]["backlog"] == 0)
    nothing = says(house, "backfill", "objects", "--from", "2100-01-01", code=1)
    assert "nothing was received since 2100" in nothing
    refused = says(house, "backfill", "echo_api", code=1)
    assert "up to 9 records" in refused
    assert "--accept-duplicates" in refused
    assert sinks(house)["echo_api"]["backlog"] == 0
    assert "echo_api: 9 records done" in says(house, "backfill", "echo_api", "--accept-duplicates")
    says(house, "pause", "objects")
    assert "sinks resume objects" in says(house, "backfill", "objects", code=1)
    house.stop(program)
    assert "continues when it starts" in says(house, "backfill", "objects", code=1)


def test_one_that_is_not_configured_any_more_is_kept_until_it_is_forgotten(house: Harness) -> None:
    program = house.up()
    Device(house.mqtt_port).publish([detection(n) for n in range(3)])
    eventually(lambda: sinks(house)["objects"]["delivered"] == 3)
    assert "in use" in says(house, "forget", "objects", code=1)
    house.stop(program)
    objects_url = house.settings.pop("IOT_OBJECTS_URL")
    house.up()
    assert "no longer configured" in row(house, "objects")
    assert "restart the service" in says(house, "backfill", "objects", code=1)
    # With other settings than the service has, it still knows what that one uses.
    api_url = house.settings.pop("IOT_API_URL")
    assert "in use" in says(house, "forget", "echo_api", code=1)
    house.settings["IOT_API_URL"] = api_url
    assert "objects is forgotten" in says(house, "forget", "objects")
    assert list(sinks(house)) == ["echo_api"]
    unknown = says(house, "backfill", "objects", code=2)
    assert "there is no sink 'objects'; the sinks are: echo_api" in unknown
    house.settings["IOT_OBJECTS_URL"] = objects_url
    assert "begins when the service restarts" in row(house, "objects")


def test_one_that_has_never_run_may_be_paused_and_told_where_to_begin(
    house: Harness, api: Api
) -> None:
    house.data_dir.mkdir(mode=0o700)
    with closing(Journal(house.data_dir / "journal.db")) as journal:
        earlier, later = messages(0, 2)
        earlier = replace(earlier, received_at_ms=later.received_at_ms - 86_400_000)
        journal.append(arrivals([earlier, later]))
        moment = datetime.fromtimestamp(later.received_at_ms / 1000, UTC).isoformat()
    assert "begins when the service starts" in row(house, "echo_api")
    says(house, "pause", "echo_api")
    begun = says(house, "backfill", "objects", "--from", moment, "--no-wait")
    assert "objects has no records yet and begins at that time; 1 earlier record will be" in begun
    house.up()
    Device(house.mqtt_port).publish([detection(n) for n in range(3)])
    eventually(lambda: sinks(house)["objects"]["delivered"] == 4)
    assert sinks(house)["objects"]["skipped"] == 1
    assert sinks(house)["echo_api"]["backlog"] == 5
    assert api.numbers().total() == 0
