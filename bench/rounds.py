"""One measurement: a fresh broker, one contestant, a number of messages; drained or live."""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import trustme
from msgspec import Struct

from bench.contestants import Contestant, delivered
from bench.payloads import Form
from bench.usage import Usage, shared_bytes, usage_of
from echo_ingest.broker import PUBLISHER
from tests.crash.programs import mosquitto_of
from tests.harness import PUB_PASSWORD, Harness, eventually, free_port

Mode = Literal["drain", "live"]

POLL_SECONDS = 0.01
ROUND_SECONDS_MAX = 300.0
WARMING_SHARE = 0.1
"""The share of the messages before anything is counted: a start fills caches and makes files."""


class Round(Struct, frozen=True):
    """What one contestant did once."""

    contestant: str
    mode: Mode
    form: Form
    messages: int
    payload_bytes: int
    seconds: float
    """The time from a tenth of the messages to the last."""
    counted: int
    """Messages within that time."""
    cpu_seconds: float
    """CPU time of the contestant, user and system, within that time."""
    system_seconds: float
    broker_cpu_seconds: float
    publisher_cpu_seconds: float
    written_bytes: int
    rss_peak_bytes: int
    """Peak memory of the contestant and the processes it has started; shared pages count once."""
    delivered: int = 0
    """Records that its sinks had when it had received all."""

    @property
    def per_second(self) -> float:
        """Messages a second."""
        return self.counted / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of the contestant for each message."""
        return self.cpu_seconds / self.counted * 1e6


@contextlib.contextmanager
def broker_of(
    mosquitto: Path, journal: Path | None = None, **settings: str
) -> Iterator[tuple[Harness, int]]:
    """Start a service with its broker; yield it with the broker's process id.

    `journal` is a journal that lies ready on the same disk: it is used where it is, and grows.
    """
    parent = journal.parent if journal is not None else None
    with tempfile.TemporaryDirectory(prefix="echo-ingest-bench-", dir=parent) as folder:
        harness = Harness(
            Path(folder) / "data",
            mosquitto=mosquitto,
            IOT_SERVICE_PORT=str(free_port()),
            **_certificates(Path(folder)),
            **settings,
        )
        harness.data_dir.mkdir(mode=0o700)
        if journal is not None:
            journal.rename(harness.data_dir / "journal.db")
        try:
            harness.start("broker")
            yield harness, eventually(lambda: _listening(harness), seconds=60)
        finally:
            harness.close()
            if journal is not None:
                (harness.data_dir / "journal.db").rename(journal)


def _certificates(folder: Path) -> dict[str, str]:
    """Return the settings of a listener for TLS, with the authority for those who use it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    paths = {name: folder / f"{name}.pem" for name in ("authority", "certificate", "key")}
    authority.cert_pem.write_to_path(paths["authority"])
    certificate.cert_chain_pems[0].write_to_path(paths["certificate"])
    certificate.private_key_pem.write_to_path(paths["key"])
    return {
        "IOT_TLS_PORT": str(free_port()),
        "IOT_TLS_CERT_FILE": str(paths["certificate"]),
        "IOT_TLS_KEY_FILE": str(paths["key"]),
        "IOT_TLS_CA_FILE": str(paths["authority"]),
    }


def measure(
    contestant: Contestant,
    mode: Mode,
    form: Form,
    messages: int,
    mosquitto: Path,
    journal: Path | None = None,
    seed: int = 1,
    **settings: str,
) -> Round:
    """Run a contestant once; another seed gives other messages."""
    with (
        broker_of(mosquitto, journal, **settings) as (harness, broker_pid),
        publisher_of(harness, form, messages, seed) as publisher,
    ):
        return _measure(contestant, mode, form, harness, broker_pid, publisher, messages)


def _listening(harness: Harness) -> int:
    pid = mosquitto_of(harness.data_dir)
    assert pid is not None
    assert "MQTT " in harness.log("broker")  # what `broker` prints once it listens
    return pid


class Publisher(Struct):
    """`bench.publisher`, ready to go."""

    process: subprocess.Popen[str]

    def go(self) -> None:
        """Let it publish."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def figures(self) -> dict[str, float]:
        """Wait for its end and return the figures that it prints."""
        assert self.process.stdout is not None
        figures: dict[str, float] = json.loads(self.process.stdout.readline())
        assert self.process.wait(timeout=20) == 0
        return figures


@contextlib.contextmanager
def publisher_of(harness: Harness, form: Form, messages: int, seed: int = 1) -> Iterator[Publisher]:
    """Start a publisher that is connected and has all its messages ready."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "bench.publisher", "--port", str(harness.mqtt_port)),
            *("--user", PUBLISHER, "--password", PUB_PASSWORD),
            *("--form", form, "--messages", str(messages), "--seed", str(seed)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Publisher(process)
    finally:
        process.kill()
        process.wait()


def _measure(
    contestant: Contestant,
    mode: Mode,
    form: Form,
    harness: Harness,
    broker_pid: int,
    publisher: Publisher,
    messages: int,
) -> Round:
    without_it = _sockets(broker_pid)
    contestant.subscribe(harness)
    before = contestant.counted(harness)
    eventually(lambda: _sockets(broker_pid) == without_it)
    published: dict[str, float] = {}
    if mode == "drain":
        publisher.go()
        published = publisher.figures()
    program = contestant.start(harness, messages)
    try:
        if mode == "live":
            eventually(lambda: _sockets(broker_pid) > without_it)
            publisher.go()
        first, last = _watch(
            lambda: contestant.counted(harness) - before, program, broker_pid, messages
        )
        if mode == "live":
            published = publisher.figures()
        passed_on, shared = delivered(harness), 0
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, KeyError):  # it has ended
            shared = shared_bytes(program.pid)
    finally:
        program.send_signal(contestant.last_signal)
        program.wait(timeout=60)
    return Round(
        contestant.name,
        mode,
        form,
        messages,
        int(published["payload_bytes"]),
        last.at - first.at,
        last.count - first.count,
        last.usage.cpu_seconds - first.usage.cpu_seconds,
        last.usage.system_seconds - first.usage.system_seconds,
        last.broker.cpu_seconds - first.broker.cpu_seconds,
        published["cpu_seconds"],
        last.usage.written_bytes - first.usage.written_bytes,
        last.usage.memory_peak_bytes - shared,
        passed_on,
    )


def _sockets(broker_pid: int) -> int:
    """Return how many sockets the broker has: one for each connection, and those that listen."""
    kinds = []
    for descriptor in Path(f"/proc/{broker_pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            kinds.append(str(descriptor.readlink()))
    return sum(kind.startswith("socket:") for kind in kinds)


class Sample(Struct, frozen=True):
    """Where a contestant is at one moment."""

    at: float
    count: int
    usage: Usage
    broker: Usage


def _watch(
    counted: Callable[[], int], program: subprocess.Popen[bytes], broker_pid: int, messages: int
) -> tuple[Sample, Sample]:
    """Return the first sample after it has warmed up, and the one in which it had everything."""
    pause = threading.Event()
    ends = time.monotonic() + ROUND_SECONDS_MAX
    first = last = None
    while time.monotonic() < ends:
        count = counted()
        if count > messages * WARMING_SHARE and (first is None or count > (last or first).count):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, KeyError):
                # One that ends by itself may be gone between two looks: then the last one counts.
                sample = Sample(
                    time.monotonic(), count, usage_of(program.pid), usage_of(broker_pid)
                )
                first, last = first or sample, sample
        if count >= messages:
            assert first is not None and last is not None, "it was too quick to be watched"
            return first, last
        pause.wait(POLL_SECONDS)
    raise TimeoutError(f"{counted():,} of {messages:,} messages after {ROUND_SECONDS_MAX:.0f} s")
