"""The results of a run so far: kept, shown, and printed in one line, whatever is missing."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from subprocess import SubprocessError

import msgspec
from msgspec import Struct, field
from rich.console import Console

from bench.disk import synced_bytes_per_second
from bench.figures import Row, ratio, table
from bench.latency import Latency
from bench.payloads import CLIP_BYTES
from bench.rounds import Round
from tests.machine import machine, versions

DISK_CHUNKS = 400

screen = Console(width=150)


class Results(Struct):
    """Everything that was measured and is written to bench/results/."""

    machine: dict[str, object]
    versions: dict[str, str]
    line: str = ""
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    rounds: dict[str, list[Round]] = {}
    latency: list[list[Latency]] = []
    disk_bytes_per_second: list[float] = []
    start_seconds: dict[str, float] = {}
    delivered_per_second: float | None = None
    profile: dict[str, float] = {}
    failures: list[str] = []
    """Parts that failed, and why; all others were measured nevertheless."""
    left_out: list[str] = []
    """Parts for which there was no time."""

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """Note a part that fails, and let the run go on."""
        try:
            yield
        except (AssertionError, OSError, RuntimeError, SubprocessError, ValueError) as error:
            self.failures.append(f"{what}: {type(error).__name__}: {error}")
            screen.print(f"[bold]{what} failed[/]", traceback.format_exc(limit=-3), sep="\n")

    def measure_disk(self) -> None:
        """Measure the disk, with which clips are compared."""
        with self.part("disk"):
            self.disk_bytes_per_second.append(synced_bytes_per_second(CLIP_BYTES, DISK_CHUNKS))

    def write(self, path: Path) -> None:
        """Write what has been measured so far."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")


def results_of(version: tuple[int, int, int]) -> Results:
    """Return results that are still empty, for this machine and this mosquitto."""
    return Results(machine(), versions(version))


def line(results: Results) -> str:
    """Return the whole run in one line; what was not measured is a question mark."""
    drain = results.rounds.get("drain: echo-ingest", [])
    at_1000 = [each for run in results.latency for each in run if each.rate == 1_000]
    every = [each for rounds in results.rounds.values() for each in rounds]
    ours = [each for each in every if each.contestant.startswith("echo-ingest")]
    return " ".join(
        (
            *(
                f"drain/{other}={_over(results, 'drain: echo-ingest', f'drain: {other}')}"
                for other in ("mosquitto_sub", "paho", "aiomqtt")
            ),
            f"live/counter={_over(results, 'live: echo-ingest', 'live: counter')}",
            f"cpu_us={_text([each.cpu_us for each in drain], median, '.2f')}",
            f"p99_ms={_text([each.p99_ms for each in at_1000], median, '.1f')}",
            f"rss_mb={_text([each.rss_peak_bytes / 1e6 for each in ours], max, '.0f')}",
        )
    )


def _over(results: Results, one: str, other: str) -> str:
    """Return the ratio of two contestants, round by round."""
    pairs = list(zip(results.rounds.get(one, []), results.rounds.get(other, []), strict=False))
    if not pairs:
        return "?"
    return f"{ratio([(a.per_second, b.per_second) for a, b in pairs]).median:.2f}"


def _text(values: Sequence[float], chosen: Callable[[Sequence[float]], float], form: str) -> str:
    return format(chosen(values), form) if values else "?"


def show(results: Results) -> None:
    """Print all tables."""
    rows = [Row(label, rounds) for label, rounds in results.rounds.items()]
    screen.print(table("Throughput", rows))
    for run in results.latency:
        _show_latency(run)
    if results.disk_bytes_per_second:
        disk = median(results.disk_bytes_per_second)
        screen.print(f"Disk, 500 kB written and synced one after the other: {disk / 1e6:,.0f} MB/s")
    if results.delivered_per_second is not None:
        screen.print(f"Delivery of a backlog: {results.delivered_per_second:,.0f} records/s")
    for label, rounds in results.rounds.items():
        if passed_on := [each.delivered / each.seconds for each in rounds if each.delivered]:
            screen.print(f"{label}: {median(passed_on):,.0f} records/s delivered meanwhile")
    for what, seconds in results.start_seconds.items():
        screen.print(f"Start with a journal, {what}: {seconds:.1f} s")
    for step, share in results.profile.items():
        screen.print(f"{share:6.1%}  {step}")
    for what in results.left_out:
        screen.print(f"Left out, there was no time: {what}")
    for failure in results.failures:
        screen.print(f"Failed: {failure}", markup=False)


def _show_latency(run: Sequence[Latency]) -> None:
    for each in run:
        screen.print(
            f"Receipt after, at {each.rate:,} messages/s: p50 {each.p50_ms:.1f} ms, "
            f"p99 {each.p99_ms:.1f} ms, p99.9 {each.p999_ms:.1f} ms "
            f"({each.receipts:,} receipts for {each.sent:,} messages)"
        )
