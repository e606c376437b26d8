"""acoupi, installed as its makers publish it, sends to us, and what it heard is a record here."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Harness, eventually
from tests.test_access import make_node

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent / "acoupi"
LOCK = HERE / "acoupi.lock"
INSTALL_SECONDS_MAX = 240


@pytest.fixture(scope="session")
def acoupi() -> Path:
    """Return a folder with acoupi and its libraries; skip where they cannot be had.

    It is kept in the virtual environment, away from our own libraries, and installed again when the
    lock file changes.
    """
    folder = Path(sys.prefix) / f"acoupi-{sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    if folder.exists():
        return folder
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    command = ["-m", "uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    try:
        done = subprocess.run(
            [sys.executable, *command, "--target", str(unfinished), "--requirements", str(LOCK)],
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS_MAX,
            check=False,
        )
        problem = done.stderr.strip() if done.returncode else None
    except subprocess.TimeoutExpired:
        problem = f"it took more than {INSTALL_SECONDS_MAX} s"
    if problem is not None:
        shutil.rmtree(unfinished, ignore_errors=True)
        pytest.skip(f"acoupi cannot be installed here: {problem}")
    unfinished.rename(folder)
    return folder


@pytest.fixture
def harness(tmp_path: Path, mosquitto: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data", mosquitto=mosquitto)
    yield harness
    harness.close()


class Station:
    """acoupi in a process of its own, which sends what it is asked for."""

    def __init__(self, libraries: Path, port: int, user: str, password: str) -> None:
        paths = f"{libraries}{os.pathsep}{HERE / 'no_sound_card'}"
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(HERE / "station.py"), str(port), user, password],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.facts: dict[str, Any] = json.loads(self._line())

    def send(self, kind: str) -> str:
        """Have it build and send a message; return what acoupi says of it."""
        assert self.process.stdin is not None
        print(kind, file=self.process.stdin, flush=True)
        return self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def has_received(harness: Harness, number: int) -> bool:
    return bool(harness.ledger_now()["received"] == number)


def test_what_acoupi_sends_becomes_records(acoupi: Path, harness: Harness) -> None:
    password = make_node(harness, "ridge-07")
    harness.up()
    with ExitStack() as ending:
        station = Station(acoupi, harness.mqtt_port, "ridge-07", password)
        ending.callback(station.end)
        # One at a time: acoupi connects anew for each, which may cut off the one before.
        for number, kind in enumerate(("detection", "summary", "heartbeat"), 1):
            assert station.send(kind) == f"{kind}: 0 not sent"
            eventually(partial(has_received, harness, number))
        facts = station.facts
    records = harness.records()
    assert {record["node"] for record in records} == {"ridge-07"}

    def of(form: str, kind: str) -> list[dict[str, Any]]:
        found = [each for each in records if (each["form"], each["kind"]) == (form, kind)]
        return sorted(found, key=lambda each: (each["offset"], each["index"]))

    call, presence = of("acoupi-detection", "detection")
    recorded_at = datetime.fromisoformat(facts["recorded_at"])
    assert (call["species"], call["confidence"]) == ("Chalinolobus gouldii", 0.77)
    assert (presence["species"], presence["confidence"]) == ("Vespadelus darlingtoni", 0.58)
    assert [call["message_id"], presence["message_id"]] == facts["ids"][:2]
    assert datetime.fromisoformat(call["observed_at"]) == recorded_at + timedelta(seconds=1.25)
    assert datetime.fromisoformat(call["ends_at"]) == recorded_at + timedelta(seconds=1.5)
    assert datetime.fromisoformat(presence["observed_at"]) == recorded_at
    assert (call["low_hz"], call["high_hz"]) == (39_800, 58_200)
    for each in (call, presence):
        assert (each["sensor_id"], each["model"]) == ("creek-bridge-2", "BatDetect2")
        assert (each["place"]["latitude"], each["place"]["longitude"]) == (-37.42, 145.31)
    (listened,) = of("acoupi-summary", "telemetry")
    assert listened["health"]["status"] == "listened"
    counted = {each["name"]: each["value"] for each in of("acoupi-summary", "measurement")}
    assert counted == {  # acoupi counts every tag of a detection, also those that are no species
        "count_of_Chalinolobus gouldii": 1,
        "count_of_Echolocation": 1,
        "count_of_Vespadelus darlingtoni": 2,
    }
    (alive,) = of("acoupi-heartbeat", "telemetry")
    assert (alive["sensor_id"], alive["health"]["status"]) == (facts["device_id"], "OK")
    measured = {each["name"]: each["value"] for each in of("acoupi-heartbeat", "measurement")}
    assert measured.keys() == {"free_memory_bytes", "remaining_storage_bytes"}
    assert min(measured.values()) > 0
    ledger = harness.ledger()
    assert (ledger["received"], ledger["stored"], ledger["dead_letters"]) == (3, 3, 0)
