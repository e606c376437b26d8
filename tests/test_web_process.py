"""The web process is separate: whatever happens to it, the line goes on, and the reverse."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from echo_ingest import ipc, metrics
from echo_ingest.almanac import Almanac, Sample, almanac_path
from echo_ingest.gauges import ServiceGauges
from echo_ingest.ipc import Answers, IngestClient, answer
from echo_ingest.process.orphans import lock_file
from echo_ingest.service import supervisor
from echo_ingest.service.supervisor import keep_running
from echo_ingest.service.web_process import listen, web_child
from echo_ingest.settings import Settings
from echo_ingest.web.console.live_updates import TABS_MAX
from tests import clock
from tests.harness import (
    HTTP_TOKEN,
    TOKENS,
    Device,
    Harness,
    children,
    eventually,
    free_port,
    is_gone,
)
from tests.tabs import Tabs
from tests.test_line import detection


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data")
    yield harness
    harness.close()


def samples(harness: Harness) -> list[Sample]:
    with contextlib.closing(Almanac(almanac_path(harness.data_dir))) as almanac:
        return almanac.samples(0, time.time_ns() // 1_000_000)


def is_healthy(harness: Harness) -> bool:
    return harness.http("/healthz")[0] == 200


@pytest.mark.slow
def test_when_the_web_process_dies_records_go_on_and_health_is_back_in_a_moment(
    harness: Harness,
) -> None:
    program = harness.up()
    device = Device(harness.mqtt_port)
    for kills, how in enumerate((signal.SIGKILL, signal.SIGSEGV), 1):
        web = harness.web_pid(program)
        os.kill(web, how)
        device.publish([detection(kills)])
        eventually(lambda: is_healthy(harness))
        eventually(lambda kills=kills: harness.ledger_now()["stored"] == kills)  # type: ignore[misc]
        assert web not in children(program.pid), "not even as a zombie"
        restarts = f'\necho_ingest_process_restarts_total{{process="web"}} {kills}.0\n'
        assert restarts in harness.http_bytes("/metrics").decode()
    assert harness.log("up").count("web process ended") == 2
    sample = eventually(lambda: samples(harness)[-1:])[0]
    assert sample.answered and sample.room_bytes and sample.disk_free_bytes
    web = harness.web_pid(program)
    assert harness.stop(program) == 0
    assert is_gone(web)


@pytest.mark.slow
def test_a_thousand_tabs_hold_up_neither_records_nor_health_also_when_they_are_cut_off(
    harness: Harness,
) -> None:
    program = harness.up()
    device = Device(harness.mqtt_port)
    with Tabs(harness.http_port, TABS_MAX + 5) as tabs:
        eventually(lambda: (tabs.open, tabs.refused) == (TABS_MAX, 5))
        parts_before = tabs.parts
        device.publish([detection(number) for number in range(1_000)])
        eventually(lambda: harness.ledger_now()["stored"] == 1_000)
        assert is_healthy(harness)
        eventually(lambda: tabs.parts >= parts_before + TABS_MAX)
        os.kill(harness.web_pid(program), signal.SIGKILL)
        device.publish([detection(number) for number in range(1_000, 2_000)])
        eventually(lambda: is_healthy(harness))
        eventually(lambda: tabs.open == 0)
    with Tabs(harness.http_port, TABS_MAX) as tabs:
        eventually(lambda: tabs.open == TABS_MAX)
        assert harness.stop(program) == 0
    assert harness.ledger()["stored"] == 2_000
    assert "does not stop" not in harness.log("up")


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_when_the_service_is_killed_its_web_process_goes_and_the_next_has_the_port(
    harness: Harness, frozen: bool
) -> None:
    program = harness.up()
    web = harness.web_pid(program)
    if frozen:
        os.kill(web, signal.SIGSTOP)
    harness.kill(program)
    if not frozen:
        eventually(lambda: is_gone(web))
    harness.up()
    assert is_gone(web)


@pytest.mark.slow
def test_a_service_that_stands_still_is_not_called_well(harness: Harness) -> None:
    program = harness.up()
    os.kill(program.pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor() as at_once:
            ledger = at_once.submit(harness.http, "/api/ledger")
            for status, body in at_once.map(harness.http, ("/livez", "/readyz", "/healthz")):
                assert (status, "has not answered" in body["problems"]["service"]) == (503, True)
        assert ledger.result()[0] == 503
        assert harness.http("/api/records")[0] == 200, "what is on disk can still be read"
    finally:
        os.kill(program.pid, signal.SIGCONT)
    eventually(lambda: is_healthy(harness))
    assert harness.http("/livez")[0] == 200


@pytest.mark.slow
def test_the_web_process_has_the_settings_of_the_service_and_a_lower_priority(
    harness: Harness, tmp_path: Path
) -> None:
    config = tmp_path / "site.toml"
    config.write_text(f'http_token = "{HTTP_TOKEN}"\n')
    del harness.settings["IOT_HTTP_TOKEN"]
    harness.settings["IOT_CONFIG"] = str(config)
    program = harness.up()
    config.unlink()
    web = harness.web_pid(program)
    assert os.getpriority(os.PRIO_PROCESS, web) == os.getpriority(os.PRIO_PROCESS, program.pid) + 10
    assert int(Path(f"/proc/{web}/oom_score_adj").read_text()) == 500, "it goes before the line"
    os.kill(web, signal.SIGTERM)
    eventually(lambda: harness.web_pid(program) != web)
    assert harness.http("/api/ledger")[0] == 200


# ---------------------------------------------------------------------- the door alone


async def test_figures_reach_the_web_process_as_values() -> None:
    ours, theirs = socket.socketpair()
    gauges = ServiceGauges(
        journal_bytes=1, disk_free_bytes=2, room_bytes=3, broker_clients=4, broker_dropped=5
    )
    answering = asyncio.create_task(answer(ours, {"gauges": lambda: gauges}))
    client = await IngestClient.at(theirs)
    running = asyncio.create_task(client.run())
    assert await client.gauges() == gauges
    running.cancel()
    answering.cancel()
    await asyncio.gather(running, answering, return_exceptions=True)


@contextlib.asynccontextmanager
async def opened(tmp_path: Path, answers: Answers, module: str = "") -> AsyncIterator[None]:
    """Keep a web process running, or `module` in its place."""
    others = set(children(os.getpid()))  # such as a server that other tests share
    settings = Settings(data_dir=tmp_path, console="off")
    with listen("127.0.0.1", free_port()) as listener, lock_file(tmp_path / "web.pid") as lock:
        wanted = web_child(settings, TOKENS, listener, lock, answers)
        if module:
            wanted = structs.replace(wanted, module=module)
        running = asyncio.create_task(keep_running(wanted))
        yield
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert set(children(os.getpid())) <= others


async def become(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not look():
            await asyncio.sleep(0.02)


async def test_one_that_dies_again_and_again_is_told_each_time_and_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECONDS", 0.02)
    restarts = metrics.RESTARTS.labels("web")._value
    before = restarts.get()
    with capture_logs() as log:
        async with opened(tmp_path, {}, module="not_there"):
            await become(lambda: len(log) >= 5)
    assert {line["how"] for line in log} == {"exit code 1"}
    assert restarts.get() - before == len(log)


def test_one_that_says_nothing_is_given_up_within_half_a_minute_and_not_at_once() -> None:
    async def given_up_after_seconds() -> float:
        ours, theirs = socket.socketpair()
        with theirs:
            assert not await ipc.answer(ours, {})
        return clock.now_seconds()

    assert 20 <= clock.run(given_up_after_seconds()) <= 30


@pytest.mark.slow
async def test_one_that_stands_still_is_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipc, "SILENT_SECONDS_MAX", 3.0)
    asked: list[float] = []

    def live() -> dict[str, str]:
        asked.append(time.monotonic())
        return {}

    with capture_logs() as log:
        async with opened(tmp_path, {"live": live}):
            await become(lambda: bool(asked))
            (web,) = children(os.getpid(), "echo_ingest.web")
            os.kill(web, signal.SIGSTOP)
            await become(lambda: len(asked) > 1)
    assert is_gone(web)
    assert "did not respond" in log[0]["how"]
