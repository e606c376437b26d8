"""The proxy is a process of its own: whatever becomes of it, devices and the line go on."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mqtt5
import pytest

from echo_ingest.journal import Journal
from tests.harness import PUB_PASSWORD, Device, Harness, children, eventually, free_port, is_gone
from tests.test_delivery_process import metric
from tests.test_line import detection
from tests.test_web_process import is_healthy

pytestmark = pytest.mark.slow


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data")
    yield harness
    harness.close()


def problems_without_it(harness: Harness, program: subprocess.Popen[str]) -> dict[str, str]:
    """Kill it again and again, until the service says that it is not ready; return why."""

    def problems() -> dict[str, str]:
        for pid in children(program.pid, "echo_ingest.proxy"):
            os.kill(pid, signal.SIGKILL)
        status, body = harness.http("/readyz")
        return dict(body["problems"]) if status == 503 else {}

    return eventually(problems)


def test_when_it_dies_it_is_back_and_our_own_session_was_never_lost(harness: Harness) -> None:
    program = harness.up()
    for kills, how in enumerate((signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM), 1):
        device = Device(harness.mqtt_port)
        device.publish([detection(kills)])
        os.kill(killed := harness.proxy_pid(program), how)
        eventually(lambda device=device: not device.is_connected())  # type: ignore[misc]
        eventually(lambda: harness.proxy_pid(program) != killed)
        assert killed not in children(program.pid), "not even as a zombie"
    for port, websocket in ((harness.mqtt_port, False), (harness.ws_port, True)):
        Device(port, websocket=websocket).publish([detection(port)])
    eventually(lambda: harness.ledger_now()["stored"] == 5)
    eventually(lambda: is_healthy(harness))
    assert metric(harness, 'echo_ingest_process_restarts_total{process="proxy"}') == 3
    assert harness.log("up").count("proxy process ended") == 3
    assert harness.broker_connections() == 1


def test_while_it_is_away_devices_wait_and_health_says_so(harness: Harness) -> None:
    program = harness.up()
    proxy = harness.proxy_pid(program)
    os.kill(proxy, signal.SIGSTOP)
    with socket.create_connection(("127.0.0.1", harness.mqtt_port), 20) as waiting:
        waiting.sendall(
            mqtt5.ConnectPacket(
                "", username="echopub", password=PUB_PASSWORD.encode(), clean_start=True
            ).write()
        )
        os.kill(proxy, signal.SIGKILL)
        assert waiting.recv(4)[3] == 0, "the next one lets it in"
    assert "devices cannot connect" in problems_without_it(harness, program)["proxy"]
    Device(harness.mqtt_port).publish([detection(1)])
    eventually(lambda: is_healthy(harness))


def test_it_gives_way_to_nobody_but_memory_and_its_figures_are_with_ours(harness: Harness) -> None:
    program = harness.up()
    proxy = harness.proxy_pid(program)
    assert os.getpriority(os.PRIO_PROCESS, proxy) == os.getpriority(os.PRIO_PROCESS, program.pid)
    assert 0 < int(Path(f"/proc/{proxy}/oom_score_adj").read_text()) < 250
    device = Device(harness.mqtt_port)
    assert Device(harness.ws_port, password="wrong", websocket=True).refused
    of_port = f'{{port="{harness.mqtt_port}"}}'
    eventually(lambda: metric(harness, f"echo_ingest_device_connections{of_port}") == 1)
    assert metric(harness, f"echo_ingest_devices_accepted_total{of_port}") == 1
    # A refusal is counted when its connection has ended; the device does not wait for that.
    refused = 'echo_ingest_devices_refused_total{reason="credentials"}'
    eventually(lambda: metric(harness, refused) == 1)
    assert harness.stop(program) == 0
    assert is_gone(proxy)
    assert not device.is_connected()
    with pytest.raises(ConnectionRefusedError):
        Device(harness.mqtt_port)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("command", ["up", "broker"])
def test_when_its_parent_is_killed_it_goes_and_the_next_has_the_ports(
    harness: Harness, command: str, frozen: bool
) -> None:
    program = harness.start(command)
    eventually(lambda: "MQTT  " in harness.log(command), seconds=30)
    proxy = harness.proxy_pid(program)
    if frozen:
        os.kill(proxy, signal.SIGSTOP)
    harness.kill(program)
    if not frozen:
        eventually(lambda: is_gone(proxy))
    harness.up()
    assert is_gone(proxy)
    Device(harness.mqtt_port).publish([detection(1)])


def test_a_broker_alone_is_ready_only_while_devices_can_connect(harness: Harness) -> None:
    harness.settings["IOT_BROKER_HTTP"] = "true"
    program = harness.start("broker")
    eventually(lambda: harness.http("/readyz")[0] == 200, seconds=30)
    eventually(lambda: is_healthy(harness), seconds=30)
    assert set(problems_without_it(harness, program)) == {"proxy"}
    eventually(lambda: is_healthy(harness), seconds=30)
    assert harness.stop(program) == 0


def test_without_a_broker_of_our_own_there_is_none(harness: Harness, tmp_path: Path) -> None:
    broker = harness.start("broker")
    ingest = harness.start("run")
    harness.wait_healthy(ingest)
    assert children(broker.pid, "echo_ingest.proxy")
    assert not children(ingest.pid, "echo_ingest.proxy")
    assert b"echo_ingest_device" not in harness.http_bytes("/metrics")


def test_the_service_may_come_from_another_machine_by_the_port_for_devices(
    harness: Harness, tmp_path: Path
) -> None:
    """Its own account may use the client ids that no device may have."""
    broker = harness.start("broker")
    eventually(lambda: "MQTT  " in harness.log("broker"), seconds=30)
    account = json.loads((harness.data_dir / "broker" / "service.json").read_text())
    other = Harness(
        tmp_path / "other",
        IOT_ENDPOINT=f"127.0.0.1:{harness.mqtt_port}",
        IOT_USER=account["user"],
        IOT_PASSWORD=account["password"],
        IOT_MQTT_PORT=str(free_port()),
    )
    # which a service has whose session is from an earlier version
    other.data_dir.mkdir()
    with closing(Journal(other.data_dir / "journal.db")) as journal:
        journal.remember_session(f"echo-ingest@mqtt://127.0.0.1:{harness.mqtt_port}")
    try:
        other.wait_healthy(other.start("run"))
        assert Device(harness.mqtt_port, client_id="echo-ingest").refused
        assert is_healthy(other)
        assert other.broker_connections() == 1
    finally:
        other.close()
    assert harness.stop(broker) == 0
