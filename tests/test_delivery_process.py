"""Delivery is a process of its own: whatever becomes of it, the line goes on, and the reverse."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
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


DEADLY_LIBRARY = """
import aiohttp, os, signal

request = aiohttp.ClientSession._request

def deadly(session, method, address, **options):
    if b"n30" in (options.get("data") or b""):
        %s
    return request(session, method, address, **options)

aiohttp.ClientSession._request = deadly
"""
"""Loaded by each Python at its start: the process ends in the call for record n30."""


KILLED = "os.kill(os.getpid(), signal.SIGKILL)"


def others_are_delivered(harness: Harness) -> bool:
    figures = sink(harness)
    return bool(figures["delivered"] == 59 and figures["parked"] == 1)


@pytest.mark.parametrize(("end", "bulk"), [(KILLED, "true"), ("raise RuntimeError", "false")])
def test_a_record_that_ends_it_is_parked_and_all_others_are_delivered(
    harness: Harness, api: Api, tmp_path: Path, bulk: str, end: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DEADLY_LIBRARY % end)
    harness.settings |= {"PYTHONPATH": str(tmp_path), "IOT_API_BULK": bulk}
    harness.up()
    publish(harness, range(60))
    eventually(lambda: others_are_delivered(harness), seconds=90)
    assert api.numbers() == {f"n{number}": 1 for number in range(60) if number != 30}
    (row,) = harness.http("/api/parked")[1]["parked"]
    assert (row["offset"], row["attempts"]) == (31, 1)
    assert "3 times in a row" in row["reason"]
    publish(harness, range(60, 90))
    eventually(lambda: sink(harness)["delivered"] == 89, seconds=30)
    assert harness.log("up").count("delivery process ended") == 4


def test_a_record_that_takes_the_whole_service_with_it_is_parked_too(
    harness: Harness, api: Api, tmp_path: Path
) -> None:
    """As where the kernel ends a container as a whole, because its memory is used up."""
    api.stop()
    harness.up()
    publish(harness, range(60))
    eventually(lambda: sink(harness)["backlog"] == 60)
    harness.close()
    api.start()
    end = f"os.kill(os.getppid(), signal.SIGKILL), {KILLED}"
    (tmp_path / "sitecustomize.py").write_text(DEADLY_LIBRARY % end)
    harness.settings["PYTHONPATH"] = str(tmp_path)
    starts = 0
    while True:
        program = harness.start("up")
        starts += 1
        eventually(lambda: program.poll() is not None or others_are_delivered(harness))  # noqa: B023
        if program.poll() is None:
            break
        assert starts < 6
    assert starts == 5
    assert api.numbers() == {f"n{number}": 1 for number in range(60) if number != 30}


@pytest.mark.proof
def test_a_service_that_is_killed_again_and_again_while_the_sink_is_away_parks_nothing(
    harness: Harness, api: Api
) -> None:
    rng = random.Random(4)
    harness.up()
    publish(harness, range(1))
    eventually(lambda: sink(harness)["delivered"] == 1)
    harness.close()
    publish_once = iter([range(1, 60)])
    troubles: list[Callable[[], None]] = [api.freeze, api.stop, lambda: api.start(trouble=503)]
    for begin in troubles:
        begin()
        for _ in range(2):
            program = harness.up()
            for numbers in publish_once:
                publish(harness, numbers)
            delivery = eventually(lambda: harness.delivery_pid(program))  # noqa: B023
            killed_at = time.monotonic() + rng.uniform(0.0, 4.0)
            eventually(lambda: time.monotonic() > killed_at)  # noqa: B023
            os.kill(delivery, signal.SIGKILL)
            harness.kill(program)
    api.change(trouble="")
    harness.up()
    eventually(lambda: sink(harness)["delivered"] == 60, seconds=60)
    assert sink(harness)["parked"] == 0


async def test_one_that_stands_still_is_killed_and_started_again_and_is_not_called_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipc, "SILENT_SECONDS_MAX", 5.0)
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
