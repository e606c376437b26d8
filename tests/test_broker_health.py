"""A broker that runs alone reports its health correctly."""

import os
import signal
from pathlib import Path

import pytest

from tests.harness import Harness, eventually

pytestmark = pytest.mark.slow


def test_it_is_healthy_while_messages_pass_and_only_then(mosquitto: Path, tmp_path: Path) -> None:
    harness = Harness(tmp_path / "data", mosquitto=mosquitto, IOT_BROKER_HTTP="true")
    try:
        program = harness.start("broker")
        eventually(lambda: harness.http("/healthz") == (200, {"status": "ok"}))
        assert (
            harness.http("/livez")[0] == harness.http("/readyz")[0] == harness.http("/")[0] == 200
        )
        assert harness.http("/metrics")[0] == harness.http("/api/records")[0] == 404
        broker = harness.broker_pid(program)
        os.kill(broker, signal.SIGSTOP)
        eventually(lambda: harness.http("/healthz")[0] == 503, seconds=15)
        assert "echo" in harness.http("/healthz")[1]["problems"]
        os.kill(broker, signal.SIGCONT)
        eventually(lambda: harness.http("/healthz")[0] == 200, seconds=15)
        assert harness.stop(program) == 0
    finally:
        harness.close()


def test_beside_an_ingestion_it_leaves_the_port_to_the_ingestion(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "data")
    try:
        broker = harness.start("broker")
        ingestion = harness.start("run")
        eventually(lambda: harness.http("/healthz")[0] == 200)
        assert harness.stop(ingestion) == harness.stop(broker) == 0
    finally:
        harness.close()
