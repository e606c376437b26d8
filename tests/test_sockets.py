"""Where our programs really listen: looked at on the sockets, on both versions of mosquitto."""

import asyncio
import contextlib
import os
import shlex
import socket
import subprocess
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from echo_ingest import broker
from echo_ingest.broker import BrokerError, check_sockets
from echo_ingest.broker.sockets import bind_port, listen, listening_sockets
from echo_ingest.settings import Settings
from tests.harness import Harness, children, eventually, free_port

ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""Before a command: it gets a network of its own, so that what it opens is open to nobody."""

EVERYBODY = "0.0.0.0"  # noqa: S104 - only in such a network
HAS_IPV6 = Path("/proc/net/if_inet6").exists()
ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")


def needs_a_network_of_its_own() -> None:
    """Skip the test where no program can have one."""
    try:
        subprocess.run([*ALONE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no program can have a network of its own here: {error}")


# ---------------------------------------------------------------------- what is found


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1", marks=ipv6)])
def test_a_socket_is_found_once_it_listens(address: str) -> None:
    port = free_port()
    (bound,) = bind_port(address, port, "IOT_MQTT_PORT")
    with bound:
        assert (address, port) not in found(os.getpid())
        listen(bound, "IOT_MQTT_PORT")
        assert (address, port) in found(os.getpid())
        with socket.create_connection((address, port)) as connection:
            assert (address, connection.getsockname()[1]) not in found(os.getpid())
    assert (address, port) not in found(os.getpid())


def found(pid: int) -> list[tuple[str, int]]:
    return [(each.address, each.port) for each in listening_sockets(pid)]


def test_localhost_is_each_address_that_it_has() -> None:
    with contextlib.ExitStack() as stack:
        bound = [stack.enter_context(each) for each in bind_port("localhost", free_port(), "")]
        addresses = {each.getsockname()[0] for each in bound}
        assert "127.0.0.1" in addresses
        assert addresses <= {"127.0.0.1", "::1"}


def test_a_port_that_was_taken_meanwhile_is_named_with_what_to_type() -> None:
    port = free_port()
    (ours,), (theirs,) = (bind_port("127.0.0.1", port, "IOT_WS_PORT") for _ in range(2))
    with ours, theirs:
        listen(theirs, "IOT_WS_PORT")
        with pytest.raises(BrokerError, match=f"port {port} on 127.0.0.1: .*IOT_WS_PORT="):
            listen(ours, "IOT_WS_PORT")


def test_an_address_of_another_machine_is_not_bound() -> None:
    with pytest.raises(BrokerError, match="set IOT_BIND to an address of this machine"):
        bind_port("192.0.2.1", free_port(), "IOT_MQTT_PORT")


# ---------------------------------------------------------------------- what is not allowed


@contextlib.asynccontextmanager
async def listening(address: str) -> AsyncIterator[int]:
    """Yield the id of a process that listens at `address` port 9001, in a network of its own."""
    needs_a_network_of_its_own()
    program = f"""
        import socket, sys
        family = socket.AF_INET6 if ":" in {address!r} else socket.AF_INET
        listener = socket.create_server(({address!r}, 9001), family=family)
        print("listens", flush=True)
        sys.stdin.read()
    """
    process = await asyncio.create_subprocess_exec(
        *(*ALONE, "python3", "-c", textwrap.dedent(program)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdin is not None
    assert await process.stdout.readline() == b"listens\n"
    yield process.pid
    process.stdin.close()
    await process.wait()


@pytest.mark.parametrize(
    ("address", "bind", "shown"),
    [
        (EVERYBODY, "127.0.0.1", "0.0.0.0:9001"),
        (EVERYBODY, "::1", "0.0.0.0:9001"),
        (EVERYBODY, "192.0.2.1", "0.0.0.0:9001"),
        (EVERYBODY, "localhost", "0.0.0.0:9001"),
        pytest.param("::", "127.0.0.1", r"\[::\]:9001", marks=ipv6),
        pytest.param("::", EVERYBODY, r"\[::\]:9001", marks=ipv6),
    ],
)
async def test_a_socket_that_more_people_can_reach_is_reported(
    address: str, bind: str, shown: str
) -> None:
    async with listening(address) as pid:
        with pytest.raises(BrokerError, match=rf"mosquitto listens at {shown}, .*IOT_BIND={bind} "):
            check_sockets(bind, {"mosquitto": pid})


@pytest.mark.parametrize(
    ("address", "bind"),
    [
        (EVERYBODY, EVERYBODY),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "192.0.2.1"),
        pytest.param("::", "::", marks=ipv6),
        pytest.param("::1", "::1", marks=ipv6),
    ],
)
async def test_a_socket_where_the_setting_has_it_is_not(address: str, bind: str) -> None:
    async with listening(address) as pid:
        assert found(pid) == [(address, 9001)]
        check_sockets(bind, {"mosquitto": pid})


def test_a_process_that_has_ended_has_no_sockets() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert listening_sockets(ended.pid) == []


# ---------------------------------------------------------------------- mosquitto


def disobedient(mosquitto: Path, folder: Path, *lines: str) -> Path:
    """Return a mosquitto, in a network of its own, whose configuration has `lines` before all."""
    needs_a_network_of_its_own()
    program = folder / "bin" / "mosquitto"
    program.parent.mkdir()
    (folder / "lib").symlink_to(mosquitto.parent.parent / "lib")  # its plugins
    program.write_text(
        f'#!/bin/sh\n[ "$1" = -h ] && exec {mosquitto} -h\n'
        f"printf '%s\\n' {shlex.join(lines)} | cat - $2 >disobedient.conf\n"
        f"chmod a+r disobedient.conf\n"
        f"exec {shlex.join(ALONE)} {mosquitto} -c disobedient.conf\n"
    )
    program.chmod(0o755)
    return program


@pytest.mark.slow
async def test_the_earlier_configuration_of_the_port_for_websockets_ends_the_start_on_2_0(
    mosquitto: Path, tmp_path: Path
) -> None:
    """2.0 listens on every interface, whatever the configuration says; 2.1 where it should."""
    program = disobedient(mosquitto, tmp_path, "listener 9001 127.0.0.1", "protocol websockets")
    obeys = broker.version(mosquitto) >= (2, 1, 0)
    settings = site(tmp_path, program)
    if obeys:
        async with broker.running(settings) as own:
            assert ("127.0.0.1", 9001) in found(own.pid)
    else:
        with pytest.raises(BrokerError, match=r"mosquitto listens at \[::\]:9001.*IOT_BIND"):
            await start(settings)
    assert not children(os.getpid(), "mosquitto")


@pytest.mark.slow
async def test_a_listener_for_everybody_ends_the_start(mosquitto: Path, tmp_path: Path) -> None:
    program = disobedient(mosquitto, tmp_path, f"listener 9001 {EVERYBODY}")
    with pytest.raises(BrokerError, match=r"mosquitto listens at 0\.0\.0\.0:9001"):
        await start(site(tmp_path, program))
    assert not children(os.getpid(), "mosquitto")


def site(folder: Path, program: Path, **more: object) -> Settings:
    ports = {"mqtt_port": free_port(), "ws_port": free_port()}
    return Settings.model_validate(
        {"data_dir": folder / "data", "mosquitto": program, **ports, **more}
    )


async def start(settings: Settings) -> None:
    async with broker.running(settings):
        pass


# ---------------------------------------------------------------------- all that runs


@pytest.fixture
def harness(tmp_path: Path, mosquitto: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data", mosquitto=mosquitto)
    yield harness
    harness.close()


@pytest.mark.slow
@pytest.mark.parametrize("bind", ["127.0.0.1", pytest.param("::1", marks=ipv6), "localhost"])
def test_everything_listens_where_the_settings_say_and_nowhere_else(
    harness: Harness, bind: str
) -> None:
    service_port = free_port()
    harness.settings |= {"IOT_BIND": bind, "IOT_SERVICE_PORT": str(service_port)}
    program = harness.start("up")
    eventually(lambda: "web process answers" in harness.log("up"), seconds=30)
    started = [program.pid, *children(program.pid)]
    assert len(started) == 4
    places = {place for pid in started for place in found(pid)}
    ports = {harness.mqtt_port, harness.ws_port, harness.http_port, service_port}
    assert {port for _, port in places} == ports
    assert {address for address, _ in places} <= (
        {bind} if bind != "localhost" else {"127.0.0.1", "::1"}
    )
    assert {port for _, port in found(harness.broker_pid(program))} == {service_port}
    assert harness.stop(program) == 0
