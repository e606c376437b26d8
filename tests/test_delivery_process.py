"""Delivery is a process of its own: whatever becomes of it, the line goes on, and the reverse."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from echo_ingest import ipc
from echo_ingest.pipeline.deliver.ipc import REPORT_SECONDS
from echo_ingest.process.orphans import lock_file
from echo_ingest.process.shutdown import cancel
from echo_ingest.service.delivery_process import DeliveryProcess
from echo_ingest.settings import Settings
from echo_ingest.sinks import Cause
from tests.api import Api
from tests.harness import Device, Harness, children, eventually, is_gone
from tests.test_delivery import detection, sink
from tests.test_web_process import become, is_healthy

pytestmark = pytest.mark.slow

DELIVERED = 'echo_ingest_sink_delivered_records_total{sink="echo_api"}'


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()
    api.start()
    yield api
    api.stop()


@pytest.fixture
def harness(tmp_path: Path, api: Api) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data", IOT_API_URL=api.url)
    yield harness
    harness.close()


def publish(harness: Harness, numbers: range) -> None:
    Device(harness.mqtt_port).publish([detection(number) for number in numbers])


def metric(harness: Harness, series: str) -> float:
    lines = harness.http_bytes("/metrics").decode().splitlines()
    (line,) = [each for each in lines if each.startswith(f"{series} ")]
    return float(line.rpartition(" ")[2])


def test_it_gives_way_and_without_a_sink_there_is_none(harness: Harness) -> None:
    program = harness.up()
    delivery = eventually(lambda: harness.delivery_pid(program))
    own = os.getpriority(os.PRIO_PROCESS, program.pid)
    eventually(lambda: os.getpriority(os.PRIO_PROCESS, delivery) == own + 5)
    eventually(lambda: Path(f"/proc/{delivery}/oom_score_adj").read_text() == "250\n")
    assert harness.stop(program) == 0
    assert is_gone(delivery)
    del harness.settings["IOT_API_URL"]
    assert not children(harness.up().pid, "echo_ingest.pipeline.deliver")


def test_when_it_dies_the_line_goes_on_and_it_is_back_with_each_record_once(
    harness: Harness, api: Api
) -> None:
    program = harness.up()
    for kills, how in enumerate((signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM), 1):
        publish(harness, range(20 * (kills - 1), 20 * kills))
        eventually(lambda kills=kills: sink(harness)["delivered"] == 20 * kills)  # type: ignore[misc]
        os.kill(killed := harness.delivery_pid(program), how)
        eventually(lambda: is_healthy(harness))
        eventually(lambda: harness.delivery_pid(program) not in (0, killed))
    publish(harness, range(60, 80))
    eventually(lambda: metric(harness, DELIVERED) == 20)
    assert metric(harness, 'echo_ingest_process_restarts_total{process="delivery"}') == 3
    assert harness.http("/api/sinks")[1]["echo_api"]["state"] == "delivering"
    assert api.numbers() == {f"n{number}": 1 for number in range(80)}
    assert harness.log("up").count("delivery process ended") == 3


def test_why_a_sink_is_unavailable_reaches_whoever_asks_the_service_as_data(
    harness: Harness, api: Api
) -> None:
    """From the sink by the delivery process and the web process, each time as JSON."""

    def state() -> dict[str, Any]:
        states: dict[str, dict[str, Any]] = harness.http("/api/sinks")[1]
        return states["echo_api"]

    api.change(trouble=503)
    harness.up()
    publish(harness, range(1))
    for status, cause in ((503, "answers_errors"), (429, "overloaded"), (401, "credentials")):
        api.change(trouble=status)
        eventually(lambda status=status: state().get("http_status") == status)  # type: ignore[misc]
        assert state()["state"] == "unavailable"
        assert state()["cause"] == cause
    api.stop()
    eventually(lambda: state().get("cause") == "unreachable")
    assert "http_status" not in state()
    api.start()
    eventually(lambda: state() == {"state": "delivering"})


def test_of_a_service_that_is_killed_it_finishes_what_it_is_in_and_nothing_comes_twice(
    harness: Harness, api: Api
) -> None:
    program = harness.up()
    delivery = eventually(lambda: harness.delivery_pid(program))
    api.freeze()
    publish(harness, range(20))
    eventually(lambda: f":{api.port:04X} 01 " in Path("/proc/net/tcp").read_text())
    os.kill(program.pid, signal.SIGSTOP)
    stopped_at = time.monotonic()
    eventually(lambda: time.monotonic() > stopped_at + 2 * REPORT_SECONDS)  # that nobody reads
    harness.kill(program)
    api.thaw()
    eventually(lambda: is_gone(delivery))
    assert harness.ledger()["sinks"]["echo_api"]["delivered"] == 20
    harness.up()
    assert api.numbers() == {f"n{number}": 1 for number in range(20)}


def test_one_that_stands_still_when_the_service_is_killed_is_ended_by_the_next_start(
    harness: Harness,
) -> None:
    program = harness.up()
    delivery = eventually(lambda: harness.delivery_pid(program))
    os.kill(delivery, signal.SIGSTOP)
    harness.kill(program)
    harness.up()
    assert is_gone(delivery)
    publish(harness, range(20))
    eventually(lambda: sink(harness)["delivered"] == 20)


async def test_one_that_stands_still_is_killed_and_started_again_and_is_not_called_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipc, "SILENT_SECONDS_MAX", 2.0)
    settings = Settings(data_dir=tmp_path, api_url="http://127.0.0.1:9")
    delivery = DeliveryProcess(settings)
    assert delivery.states["echo_api"].reason == "the process that delivers is starting"
    assert delivery.states["echo_api"].cause == Cause.STARTING
    with lock_file(tmp_path / "delivery.pid") as lock, capture_logs() as log:
        running = asyncio.create_task(delivery.run(lock))
        await become(lambda: delivery.states["echo_api"].state == "delivering")
        (frozen,) = children(os.getpid(), "echo_ingest.pipeline.deliver")
        os.kill(frozen, signal.SIGSTOP)
        await become(lambda: delivery.states["echo_api"].state == "unavailable")
        assert "starting" in str(delivery.states["echo_api"].reason)
        await become(lambda: delivery.states["echo_api"].state == "delivering")
        await cancel([running])
    assert is_gone(frozen) and not children(os.getpid(), "echo_ingest.pipeline.deliver")
    assert [line["event"] for line in log] == ["delivery process ended"]
    assert "did not respond" in log[0]["how"]
