"""The programs that are measured, each started on the same broker with the same messages."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import apsw
from msgspec import Struct

from echo_ingest.broker import SUBSCRIBER, service_credentials
from tests.harness import SUB_PASSWORD, Harness, eventually

TOPIC = "iotingestion/#"
CLIENT_ID = "bench-mosquitto-sub"
SESSION_SECONDS_MAX = 30.0

Scheme = Literal["unix", "mqtt", "ws", "mqtts"]


class Contestant(Struct, frozen=True):
    """One consumer of messages."""

    name: str
    subscribe: Callable[[Harness], None]
    """Make its session at the broker, and leave."""
    start: Callable[[Harness, int], subprocess.Popen[bytes]]
    """Start it on that session; it may end by itself after so many messages."""
    counted: Callable[[Harness], int]
    """How many it has had so far: stored, where it stores."""
    last_signal: int = signal.SIGTERM
    """What ends it."""


# ---------------------------------------------------------------------- ours


def start_service(house: Harness, scheme: Scheme = "unix") -> subprocess.Popen[bytes]:
    """`echo-ingest run`, all of its durability on."""
    environment = house.environment()
    if scheme != "unix":
        account = service_credentials(house.data_dir)
        assert account is not None, "the broker makes it"
        ports = {
            "mqtt": house.mqtt_port,
            "ws": house.ws_port,
            "mqtts": int(house.settings["IOT_TLS_PORT"]),
        }
        environment |= {
            "IOT_ENDPOINT": f"{scheme}://127.0.0.1:{ports[scheme]}",
            "IOT_USER": account.user,
            "IOT_PASSWORD": account.password,
        }
    command = [sys.executable, "-m", "echo_ingest.cli", "run"]
    return start(house, command, "service", environment)


def _subscribe_service(house: Harness, scheme: Scheme) -> None:
    program = start_service(house, scheme)
    eventually(lambda: house.http("/healthz")[0] == 200, seconds=SESSION_SECONDS_MAX)
    program.terminate()
    assert program.wait(timeout=60) == 0


def received(house: Harness) -> int:
    """Return what the journal's ledger counts as committed, whatever its outcome."""
    return _of_journal(house, "SELECT received FROM ledger")


def delivered(house: Harness) -> int:
    """Return how much its sinks have had; 0 if there is none, or the journal is not ours."""
    return _of_journal(house, "SELECT coalesce(sum(delivered), 0) FROM sink")


def _of_journal(house: Harness, sql: str) -> int:
    with contextlib.suppress(apsw.Error):
        path = house.data_dir / "journal.db"
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        with contextlib.closing(db):
            return int(db.execute(sql).get)
    return 0


def ours(scheme: Scheme = "mqtt") -> Contestant:
    """Return the service as a process; `unix` reaches a broker beside it, all else a remote one."""
    return Contestant(
        "echo-ingest",
        lambda house: _subscribe_service(house, scheme),
        lambda house, _messages: start_service(house, scheme),
        received,
    )


# ---------------------------------------------------------------------- the others


def _mosquitto_sub(house: Harness) -> list[str]:
    return [
        *("mosquitto_sub", "-h", "127.0.0.1", "-p", str(house.mqtt_port)),
        *("-u", SUBSCRIBER, "-P", SUB_PASSWORD, "-c", "-i", CLIENT_ID, "-q", "1", "-t", TOPIC),
    ]


def _subscribe_mosquitto_sub(house: Harness) -> None:
    subprocess.run([*_mosquitto_sub(house), "-E"], check=True, timeout=20)


def _start_mosquitto_sub(house: Harness, messages: int) -> subprocess.Popen[bytes]:
    command = [*_mosquitto_sub(house), "-C", str(messages), "-F", "x"]
    return start(house, command, "mosquitto_sub")


MOSQUITTO_SUB = Contestant(
    "mosquitto_sub",
    _subscribe_mosquitto_sub,
    _start_mosquitto_sub,
    lambda house: _size_bytes(log_of(house, "mosquitto_sub")) // 2,  # an x and a line's end each
    signal.SIGKILL,  # told to end while it ends by itself, it may wait for itself for ever
)


def _python(name: str, command: Callable[[Harness, int], list[str]]) -> Contestant:
    """Return a consumer of `bench` that prints how many it has had, and ends at a given number."""

    def begin(house: Harness, messages: int) -> subprocess.Popen[bytes]:
        account = ["--user", SUBSCRIBER, "--password", SUB_PASSWORD, "--messages", str(messages)]
        return start(house, [sys.executable, "-m", *command(house, messages), *account], name)

    def subscribe(house: Harness) -> None:
        assert begin(house, 0).wait(timeout=SESSION_SECONDS_MAX) == 0

    return Contestant(name, subscribe, begin, lambda house: _last_number(log_of(house, name)))


def _plain(library: str) -> Contestant:
    def command(house: Harness, _messages: int) -> list[str]:
        store = house.data_dir.with_suffix(f".{library}.db")
        return [
            *("bench.plain_consumer", library, "--port", str(house.mqtt_port)),
            *("--store", str(store)),
        ]

    return _python(library, command)


PAHO = _plain("paho")
AIOMQTT = _plain("aiomqtt")
COUNTER = _python(
    "counter",
    lambda house, _messages: ["bench.counter", "--endpoint", f"127.0.0.1:{house.mqtt_port}"],
)


# ---------------------------------------------------------------------- processes


def start(
    house: Harness, command: list[str], name: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a contestant's program; what it prints is in `log_of(house, name)`."""
    with log_of(house, name).open("wb") as output:
        return subprocess.Popen(
            command,
            env=environment or house.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def log_of(house: Harness, name: str) -> Path:
    """Return what a contestant's program has printed."""
    return house.data_dir.with_suffix(f".{name}.out")


def _size_bytes(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _last_number(log: Path) -> int:
    if not log.exists():
        return 0
    with log.open("rb") as output:
        output.seek(max(0, log.stat().st_size - 64))
        lines = output.read().split(b"\n")[:-1]
    return int(lines[-1]) if lines and lines[-1].isdigit() else 0
