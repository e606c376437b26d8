"""`python -m bench`: measure, show, write bench/results/ and the plots of docs/performance.md."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec
from rich.console import Console
from rich.progress import Progress

from bench import growth
from bench.contestants import AIOMQTT, COUNTER, MOSQUITTO_SUB, PAHO, Contestant, ours
from bench.disk import synced_bytes_per_second
from bench.figures import Row, ratio, table
from bench.latency import Latency, latencies
from bench.payloads import CLIP_BYTES, Form
from bench.peers import MQTTWARN, NODE_RED
from bench.plots import draw
from bench.profiling import profile
from bench.rounds import Mode, Round, measure
from tests.crash.__main__ import program_of
from tests.machine import machine, versions

ROOT = Path(__file__).parents[1]
RATES = (100, 1_000, 10_000)

screen = Console(width=150)


class Contest(msgspec.Struct, frozen=True):
    """One thing that is measured in each round."""

    label: str
    contestant: Contestant
    mode: Mode
    form: Form
    messages: int
    quick_messages: int


CONTESTS = (
    Contest("drain: echo-ingest", ours(), "drain", "detections", 400_000, 100_000),
    Contest("drain: mosquitto_sub", MOSQUITTO_SUB, "drain", "detections", 400_000, 100_000),
    Contest("drain: counter", COUNTER, "drain", "detections", 400_000, 0),
    Contest("drain: paho", PAHO, "drain", "detections", 60_000, 15_000),
    Contest("drain: aiomqtt", AIOMQTT, "drain", "detections", 30_000, 10_000),
    Contest("live: echo-ingest", ours(), "live", "detections", 300_000, 100_000),
    Contest("live: counter", COUNTER, "live", "detections", 300_000, 100_000),
    Contest(
        "socket beside the broker: echo-ingest", ours("unix"), "drain", "detections", 200_000, 0
    ),
    Contest("mix: echo-ingest", ours(), "drain", "mix", 150_000, 0),
    Contest("WebSocket: echo-ingest", ours("ws"), "drain", "detections", 200_000, 0),
    Contest("TLS: echo-ingest", ours("mqtts"), "drain", "detections", 200_000, 0),
    Contest("clips as JSON: echo-ingest", ours(), "drain", "clips", 300, 0),
    Contest("clips as bytes: echo-ingest", ours(), "drain", "raw clips", 300, 0),
)
GROWN = "grown journal: echo-ingest"
"""A drain into a journal that holds `GROWN_RECORDS`."""
RETAINING = "grown journal, retention on: echo-ingest"
DELIVERING = "with delivery on: echo-ingest"
GROWN_RECORDS = 10_000_000
BACKLOG_RECORDS = 1_000_000


class Results(msgspec.Struct):
    """All that was measured: what is written to bench/results/."""

    line: str
    date: str
    machine: dict[str, object]
    versions: dict[str, str]
    rounds: dict[str, list[Round]]
    latency: list[list[Latency]]
    disk_bytes_per_second: list[float]
    start_seconds: dict[str, float]
    delivered_per_second: float | None
    profile: dict[str, float]


def main() -> int:
    """Measure, and end with one line of ratios."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, no growth")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--broker", choices=("2.0", "2.1"), default="2.0")
    parser.add_argument("--peers", action="store_true", help="beside Node-RED and mqttwarn")
    options = parser.parse_args()
    mosquitto, version = program_of(options.broker)
    if options.peers:
        return _with_peers(mosquitto, version, options.rounds)
    rounds = 1 if options.quick else options.rounds
    results = Results(
        "",
        datetime.now(UTC).date().isoformat(),
        machine(),
        versions(version),
        {},
        [],
        [],
        {},
        None,
        {},
    )
    contests = [c for c in CONTESTS if c.quick_messages or not options.quick]
    with Progress(console=Console(stderr=True)) as progress:
        steps = progress.add_task("rounds", total=rounds * (len(contests) + 1))
        for _ in range(rounds):
            for contest in contests:
                progress.update(steps, description=contest.label)
                number = contest.quick_messages if options.quick else contest.messages
                done = measure(contest.contestant, contest.mode, contest.form, number, mosquitto)
                results.rounds.setdefault(contest.label, []).append(done)
                progress.advance(steps)
            progress.update(steps, description="latency")
            seconds = 5.0 if options.quick else 20.0
            rates = (1_000,) if options.quick else RATES
            results.latency.append(latencies(rates, seconds, mosquitto))
            if not options.quick:
                results.disk_bytes_per_second.append(synced_bytes_per_second(CLIP_BYTES, 400))
            progress.advance(steps)
        if not options.quick:
            _grow(results, mosquitto, min(rounds, 3), progress)
    if not options.quick:
        flame = ROOT / "bench" / "results" / "flame.svg"
        results.profile = profile(400_000, mosquitto, flame)
    results.line = line(results)
    show(results)
    if not options.quick:
        _write(results, f"bench-{options.broker}")
        draw(results.rounds, results.latency, results.profile, ROOT / "docs" / "performance")
    print(results.line)
    return 0


def _with_peers(mosquitto: Path, version: tuple[int, int, int], rounds: int) -> int:
    """The same drain by programs that people set up rather than write."""
    contests = ((ours(), 200_000), (NODE_RED, 10_000), (MQTTWARN, 2_000))
    done: dict[str, list[Round]] = {contestant.name: [] for contestant, _ in contests}
    for _ in range(rounds):
        for contestant, number in contests:
            each = measure(contestant, "drain", "detections", number, mosquitto)
            done[contestant.name].append(each)
    screen.print(table("A backlog drained", [Row(name, each) for name, each in done.items()]))
    ratios = {
        name: ratio(
            [(a.per_second, b.per_second) for a, b in zip(done["echo-ingest"], each, strict=True)]
        )
        for name, each in done.items()
        if name != "echo-ingest"
    }
    said = " ".join(f"drain/{name}={each.median:.0f}" for name, each in ratios.items())
    results = Results(
        said,
        datetime.now(UTC).date().isoformat(),
        machine(),
        versions(version),
        done,
        [],
        [],
        {},
        None,
        {},
    )
    _write(results, "bench-peers")
    print(said)
    return 0


def _grow(results: Results, mosquitto: Path, rounds: int, progress: Progress) -> None:
    """Everything about a journal that has grown."""
    small = next(contest for contest in CONTESTS if contest.contestant.name == "echo-ingest")
    with tempfile.TemporaryDirectory(prefix="echo-ingest-bench-") as folder:
        backlog = Path(folder) / "backlog.db"
        _ready(backlog, BACKLOG_RECORDS, progress)
        results.delivered_per_second = growth.delivered_per_second(
            mosquitto, backlog, BACKLOG_RECORDS
        )
        grown = Path(folder) / "grown.db"
        _ready(grown, GROWN_RECORDS, progress)
        results.start_seconds = {
            "empty": growth.start_seconds(mosquitto),
            f"{GROWN_RECORDS:,} records": growth.start_seconds(mosquitto, grown),
        }
        audio = Path(folder) / "audio"
        audio.mkdir(mode=0o700)  # the sink does not make it, and would wait for it
        for _ in range(rounds):
            for label, journal, more in (
                (small.label, None, {}),
                (GROWN, grown, {}),
                (RETAINING, grown, {"IOT_RETENTION_DAYS": "1"}),
                (DELIVERING, None, {"IOT_OBJECTS_URL": audio.as_uri()}),
            ):
                done = measure(
                    small.contestant,
                    "drain",
                    "detections",
                    small.messages,
                    mosquitto,
                    journal,
                    **more,
                )
                results.rounds.setdefault(label, []).append(done)


def _ready(path: Path, records: int, progress: Progress) -> None:
    task = progress.add_task(f"a journal of {records:,} records", total=records)
    growth.make_journal(path, records, lambda made: progress.advance(task, made))
    progress.remove_task(task)


# ---------------------------------------------------------------------- what came of it


def _write(results: Results, name: str) -> None:
    text = msgspec.json.format(msgspec.json.encode(results))
    (ROOT / "bench" / "results" / f"{name}.json").write_bytes(text + b"\n")


def line(results: Results) -> str:
    """The whole run in one line."""
    drain = results.rounds["drain: echo-ingest"]
    at_1000 = [each for run in results.latency for each in run if each.rate == 1_000]
    every = [each for rounds in results.rounds.values() for each in rounds]
    rss = max(each.rss_peak_bytes for each in every if each.contestant.startswith("echo-ingest"))
    return " ".join(
        (
            f"drain/mosquitto_sub={_over(results, 'drain: echo-ingest', 'drain: mosquitto_sub')}",
            f"drain/paho={_over(results, 'drain: echo-ingest', 'drain: paho')}",
            f"drain/aiomqtt={_over(results, 'drain: echo-ingest', 'drain: aiomqtt')}",
            f"live/counter={_over(results, 'live: echo-ingest', 'live: counter')}",
            f"cpu_us={median(each.cpu_us for each in drain):.2f}",
            f"p99_ms={median(each.p99_ms for each in at_1000):.1f}",
            f"rss_mb={rss / 1e6:.0f}",
        )
    )


def _over(results: Results, one: str, other: str) -> str:
    """Their ratio, round by round."""
    pairs = zip(results.rounds[one], results.rounds[other], strict=False)
    return f"{ratio([(a.per_second, b.per_second) for a, b in pairs]).median:.2f}"


def show(results: Results) -> None:
    """Tables of everything."""
    rows = [Row(label, rounds) for label, rounds in results.rounds.items()]
    screen.print(table("Throughput", rows))
    for run in results.latency:
        _show_latency(run)
    if results.disk_bytes_per_second:
        disk = median(results.disk_bytes_per_second)
        screen.print(f"Disk, 500 kB written and synced one after the other: {disk / 1e6:,.0f} MB/s")
    if results.delivered_per_second is not None:
        screen.print(f"Delivery of a backlog: {results.delivered_per_second:,.0f} records/s")
    for what, seconds in results.start_seconds.items():
        screen.print(f"Start with a journal, {what}: {seconds:.1f} s")
    for step, share in results.profile.items():
        screen.print(f"{share:6.1%}  {step}")


def _show_latency(run: Sequence[Latency]) -> None:
    for each in run:
        screen.print(
            f"Receipt after, at {each.rate:,} messages/s: p50 {each.p50_ms:.1f} ms, "
            f"p99 {each.p99_ms:.1f} ms, p99.9 {each.p999_ms:.1f} ms "
            f"({each.receipts:,} receipts for {each.sent:,} messages)"
        )


if __name__ == "__main__":
    sys.exit(main())
