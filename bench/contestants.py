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
    """Make its session at the broker, then disconnect."""
    start: Callable[[Harness, int], subprocess.Popen[bytes]]
    """Start it on that session; it may end by itself after a given number of messages."""
    counted: Callable[[Harness], int]
    """How many messages it has received so far, or stored if it stores them."""
    last_signal: int = signal.SIGTERM
    """What ends it."""


def port_for_readers(harness: Harness) -> int:
    """Return the port at which mosquitto itself listens: so readers differ in nothing else."""
    return int(harness.settings["IOT_SERVICE_PORT"])


# ---------------------------------------------------------------------- ours


def start_service(harness: Harness, scheme: Scheme = "unix") -> subprocess.Popen[bytes]:
    """Start `echo-ingest run` with its full durability."""
    environment = harness.environment()
    if scheme != "unix":
        account = service_credentials(harness.data_dir)
        assert account is not None, "the broker makes it"
        ports = {
            "mqtt": port_for_readers(harness),
            "ws": harness.ws_port,
            "mqtts": int(harness.settings["IOT_TLS_PORT"]),
        }
        environment |= {
            "IOT_ENDPOINT": f"{scheme}://127.0.0.1:{ports[scheme]}",
            "IOT_USER": account.user,
            "IOT_PASSWORD": account.password,
        }
    command = [sys.executable, "-m", "echo_ingest.cli", "run"]
    return start(harness, command, "service", environment)


def _subscribe_service(harness: Harness, scheme: Scheme) -> None:
    program = start_service(harness, scheme)
    eventually(lambda: harness.http("/healthz")[0] == 200, seconds=SESSION_SECONDS_MAX)
    program.terminate()
    assert program.wait(timeout=60) == 0


def received(harness: Harness) -> int:
    """Return what the journal's ledger counts as committed, whatever its outcome."""
    return _of_journal(harness, "SELECT received FROM ledger")


def delivered(harness: Harness) -> int:
    """Return how many records its sinks have had; 0 without a sink or without our journal."""
    return _of_journal(harness, "SELECT coalesce(sum(delivered), 0) FROM sink")


def _of_journal(harness: Harness, sql: str) -> int:
    with contextlib.suppress(apsw.Error):
        path = harness.data_dir / "journal.db"
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        with contextlib.closing(db):
            return int(db.execute(sql).get)
    return 0


def ours(scheme: Scheme = "mqtt") -> Contestant:
    """Return the service as a process; `unix` reaches a broker beside it, all else a remote one."""
    return Contestant(
        "echo-ingest",
        lambda harness: _subscribe_service(harness, scheme),
        lambda harness, _messages: start_service(harness, scheme),
        received,
    )


# ---------------------------------------------------------------------- the others


def _mosquitto_sub(harness: Harness) -> list[str]:
    return [
        *("mosquitto_sub", "-h", "127.0.0.1", "-p", str(port_for_readers(harness))),
        *("-u", SUBSCRIBER, "-P", SUB_PASSWORD, "-c", "-i", CLIENT_ID, "-q", "1", "-t", TOPIC),
    ]


def _subscribe_mosquitto_sub(harness: Harness) -> None:
    subprocess.run([*_mosquitto_sub(harness), "-E"], check=True, timeout=20)


def _start_mosquitto_sub(harness: Harness, messages: int) -> subprocess.Popen[bytes]:
    command = [*_mosquitto_sub(harness), "-C", str(messages), "-F", "x"]
    return start(harness, command, "mosquitto_sub")


MOSQUITTO_SUB = Contestant(
    "mosquitto_sub",
    _subscribe_mosquitto_sub,
    _start_mosquitto_sub,
    lambda harness: (
        _size_bytes(log_of(harness, "mosquitto_sub")) // 2
    ),  # an x and a line's end each
    signal.SIGKILL,  # told to end while it ends by itself, it may wait for itself for ever
)


def _python(name: str, command: Callable[[Harness, int], list[str]]) -> Contestant:
    """Return a consumer of `bench` that prints how many it has had, and ends at a given number."""

    def begin(harness: Harness, messages: int) -> subprocess.Popen[bytes]:
        account = ["--user", SUBSCRIBER, "--password", SUB_PASSWORD, "--messages", str(messages)]
        return start(harness, [sys.executable, "-m", *command(harness, messages), *account], name)

    def subscribe(harness: Harness) -> None:
        assert begin(harness, 0).wait(timeout=SESSION_SECONDS_MAX) == 0

    return Contestant(name, subscribe, begin, lambda harness: _last_number(log_of(harness, name)))


def _plain(library: str) -> Contestant:
    def command(harness: Harness, _messages: int) -> list[str]:
        store = harness.data_dir.with_suffix(f".{library}.db")
        return [
            *("bench.plain_consumer", library, "--port", str(port_for_readers(harness))),
            *("--store", str(store)),
        ]

    return _python(library, command)


PAHO = _plain("paho")
AIOMQTT = _plain("aiomqtt")
COUNTER = _python(
    "counter",
    lambda harness, _messages: [
        *("bench.counter", "--endpoint", f"127.0.0.1:{port_for_readers(harness)}"),
    ],
)


# ---------------------------------------------------------------------- processes


def start(
    harness: Harness, command: list[str], name: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a contestant's program; what it prints is in `log_of(harness, name)`."""
    with log_of(harness, name).open("wb") as output:
        return subprocess.Popen(
            command,
            env=environment or harness.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def log_of(harness: Harness, name: str) -> Path:
    """Return what a contestant's program has printed."""
    return harness.data_dir.with_suffix(f".{name}.out")


def _size_bytes(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _last_number(log: Path) -> int:
    if not log.exists():
        return 0
    with log.open("rb") as output:
        output.seek(max(0, log.stat().st_size - 64))
        lines = output.read().split(b"\n")[:-1]
    return int(lines[-1]) if lines and lines[-1].isdigit() else 0
