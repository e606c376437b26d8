"""A broker that runs alone says honestly how it is."""

import os
import signal
from pathlib import Path

import pytest

from tests.harness import Harness, eventually

pytestmark = pytest.mark.slow


def test_it_is_well_while_messages_pass_and_only_then(mosquitto: Path, tmp_path: Path) -> None:
    house = Harness(tmp_path / "data", mosquitto=mosquitto, IOT_BROKER_HTTP="true")
    try:
        program = house.start("broker")
        eventually(lambda: house.http("/healthz") == (200, {"status": "ok"}))
        assert house.http("/livez")[0] == house.http("/readyz")[0] == house.http("/")[0] == 200
        assert house.http("/metrics")[0] == house.http("/api/records")[0] == 404
        broker = house.broker_pid(program)
        os.kill(broker, signal.SIGSTOP)
        eventually(lambda: house.http("/healthz")[0] == 503, seconds=15)
        assert "echo" in house.http("/healthz")[1]["problems"]
        os.kill(broker, signal.SIGCONT)
        eventually(lambda: house.http("/healthz")[0] == 200, seconds=15)
        assert house.stop(program) == 0
    finally:
        house.close()


def test_beside_an_ingestion_it_leaves_the_port_to_that_one(tmp_path: Path) -> None:
    house = Harness(tmp_path / "data")
    try:
        broker = house.start("broker")
        ingestion = house.start("run")
        eventually(lambda: house.http("/healthz")[0] == 200)
        assert house.stop(ingestion) == house.stop(broker) == 0
    finally:
        house.close()
