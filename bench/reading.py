"""`python -m bench.reading`: what reading costs the line, which takes messages in.

Each time, the service runs with a journal of 200,000 records that its console knows already, and
the readers have begun. Then its first process is stopped until a backlog waits in the broker, and
the drain of that backlog is measured. Prints a table.
"""

import argparse
import contextlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from msgspec import Struct
from rich.table import Table

from bench.contestants import received, start_service
from bench.growth import make_journal
from bench.results import screen
from bench.rounds import broker_of, publisher_of
from bench.usage import usage_of
from echo_ingest.almanac import Follower, almanac_path
from echo_ingest.decode import Decoder
from echo_ingest.settings import Settings
from tests.crash.__main__ import program_of
from tests.harness import Harness, children, eventually
from tests.tabs import Tabs

RECORDS = 200_000
TABS = 1_000
CHECKS = 16
SCANS = 4
SCAN = "/api/records?kind=movement"
"""No record matches, so that all records are looked at."""
POLL_SECONDS = 0.01
SECONDS_MAX = 120.0

Reading = Callable[[Harness], contextlib.AbstractContextManager[object]]


class Drained(Struct, frozen=True):
    """What one drain took."""

    per_second: float
    cpu_us: float
    """CPU microseconds of the ingest process for each message."""
    web_cpu_share: float
    """The share of a processor that the web process used meanwhile."""
    memory_bytes: int
    """The peak memory of the first process."""
    web_memory_bytes: int


@contextlib.contextmanager
def tabs(harness: Harness) -> Iterator[None]:
    """Open as many tabs as may be open at once."""
    with Tabs(harness.http_port, TABS) as opened:
        eventually(lambda: opened.open == TABS, seconds=60)
        yield
        assert opened.open == TABS and opened.parts > TABS, "they were told, all along"


@contextlib.contextmanager
def asking(harness: Harness, path: str, at_a_time: int) -> Iterator[None]:
    """Run clients that ask the same question, each again as soon as it has its answer."""
    stop, answered = threading.Event(), [0] * at_a_time

    def ask(which: int) -> None:
        while not stop.is_set():
            with contextlib.suppress(urllib.error.URLError, TimeoutError):
                harness.http(path)
                answered[which] += 1

    clients = [threading.Thread(target=ask, args=(which,)) for which in range(at_a_time)]
    for each in clients:
        each.start()
    try:
        eventually(lambda: all(answered), seconds=60)
        yield
    finally:
        stop.set()
        for each in clients:
            each.join()


READINGS: dict[str, tuple[Reading, dict[str, str]]] = {
    "the console is off": (lambda _: contextlib.nullcontext(), {"IOT_CONSOLE": "off"}),
    "nobody reads": (lambda _: contextlib.nullcontext(), {}),
    f"{TABS:,} tabs are open": (tabs, {}),
    f"{CHECKS} clients ask for health": (lambda harness: asking(harness, "/healthz", CHECKS), {}),
    f"{SCANS} clients scan the journal": (lambda harness: asking(harness, SCAN, SCANS), {}),
}


def main() -> None:
    """Measure in turn, and show medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.reading", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--broker", choices=("2.0", "2.1"), default="2.0")
    options = parser.parse_args()
    mosquitto, _ = program_of(options.broker)
    drained: dict[str, list[Drained]] = {name: [] for name in READINGS}
    with tempfile.TemporaryDirectory(prefix="echo-ingest-bench-") as folder:
        prepared = Path(folder)
        _prepare(prepared)
        for _ in range(options.rounds):
            for name, (reading, settings) in READINGS.items():
                each = _drain(prepared, mosquitto, options.messages, reading, settings)
                drained[name].append(each)
    shown = Table(title="A backlog drained, while", title_justify="left")
    shown.add_column("")
    for heading in (
        *("messages/s", "CPU µs/message", "web process, CPU"),
        *("memory MB", "web process, memory MB"),
    ):
        shown.add_column(heading, justify="right")
    for name, rounds in drained.items():
        shown.add_row(
            name,
            f"{median(each.per_second for each in rounds):,.0f}",
            f"{median(each.cpu_us for each in rounds):.2f}",
            f"{median(each.web_cpu_share for each in rounds):.0%}",
            f"{max(each.memory_bytes for each in rounds) / 1e6:.0f}",
            f"{max(each.web_memory_bytes for each in rounds) / 1e6:.0f}",
        )
    screen.print(shown)


def _prepare(folder: Path) -> None:
    """Make a journal, and what the console derives from it."""
    make_journal(folder / "journal.db", RECORDS, lambda _: None)
    follower = Follower(
        almanac_path(folder), folder / "journal.db", Decoder(Settings().payload_bytes_max)
    )
    for _ in follower.round():
        pass
    follower.close()


def _drain(
    prepared: Path, mosquitto: Path, messages: int, reading: Reading, settings: dict[str, str]
) -> Drained:
    with (
        broker_of(mosquitto, None, **settings) as (harness, _),
        publisher_of(harness, "detections", messages) as publisher,
    ):
        for path in prepared.iterdir():
            shutil.copy(path, harness.data_dir)
        program = start_service(harness)
        try:
            eventually(lambda: harness.http("/healthz")[0] == 200, seconds=60)
            with reading(harness):
                program.send_signal(signal.SIGSTOP)
                publisher.go()
                publisher.figures()
                return _watch(harness, program, RECORDS + messages)
        finally:
            program.send_signal(signal.SIGCONT)
            program.terminate()
            program.wait(timeout=60)


def _watch(harness: Harness, program: subprocess.Popen[bytes], count: int) -> Drained:
    (web,) = children(program.pid, "echo_ingest.web")
    messages = count - received(harness)
    line, beside, began = usage_of(program.pid), usage_of(web), time.monotonic()
    program.send_signal(signal.SIGCONT)
    pause = threading.Event()
    while received(harness) < count:
        assert time.monotonic() - began < SECONDS_MAX
        pause.wait(POLL_SECONDS)
    seconds = time.monotonic() - began
    line_after, beside_after = usage_of(program.pid), usage_of(web)
    return Drained(
        messages / seconds,
        (line_after.cpu_seconds - line.cpu_seconds) / messages * 1e6,
        (beside_after.cpu_seconds - beside.cpu_seconds) / seconds,
        line_after.rss_peak_bytes,
        beside_after.rss_peak_bytes,
    )


if __name__ == "__main__":
    main()
