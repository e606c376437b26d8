"""`python -m bench`: measure, show, write bench/results/ and the plots of docs/performance.md.

What is there is written after each round. A part that fails is noted and shown at the end, and the
run ends with 1; when time is up, what has not been begun is left out, and said to be.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress

from bench import growth
from bench.contestants import AIOMQTT, COUNTER, MOSQUITTO_SUB, PAHO, Contestant, ours
from bench.figures import Row, ratio, table
from bench.latency import latencies
from bench.payloads import Form
from bench.peers import MQTTWARN, NODE_RED
from bench.plots import draw
from bench.profiling import profile
from bench.results import Results, line, results_of, screen, show
from bench.rounds import Mode, measure
from tests.crash.__main__ import program_of

ROOT = Path(__file__).parents[1]
RATES = (100, 1_000, 10_000)


class Contest(msgspec.Struct, frozen=True):
    """One thing that is measured in each round."""

    label: str
    contestant: Contestant
    mode: Mode
    form: Form
    messages: int
    quick_messages: int = 0
    settings: dict[str, str] = {}


CONTESTS = (
    Contest("drain: echo-ingest", ours(), "drain", "detections", 400_000, 200_000),
    Contest("drain: mosquitto_sub", MOSQUITTO_SUB, "drain", "detections", 400_000, 200_000),
    Contest("drain: counter", COUNTER, "drain", "detections", 400_000),
    Contest("drain: paho", PAHO, "drain", "detections", 60_000, 15_000),
    Contest("drain: aiomqtt", AIOMQTT, "drain", "detections", 30_000, 10_000),
    Contest("live: echo-ingest", ours(), "live", "detections", 300_000, 100_000),
    Contest("live: counter", COUNTER, "live", "detections", 300_000, 100_000),
    Contest("socket beside the broker: echo-ingest", ours("unix"), "drain", "detections", 200_000),
    Contest("BirdNET-Go: echo-ingest", ours(), "drain", "BirdNET-Go", 200_000),
    Contest("mix: echo-ingest", ours(), "drain", "mix", 150_000),
    Contest("WebSocket: echo-ingest", ours("ws"), "drain", "detections", 200_000),
    Contest("TLS: echo-ingest", ours("mqtts"), "drain", "detections", 200_000),
    Contest("clips as JSON: echo-ingest", ours(), "drain", "clips", 300),
    Contest("clips as bytes: echo-ingest", ours(), "drain", "raw clips", 300),
)
NO_CONSOLE = {"IOT_CONSOLE": "off"}
"""Its almanac would first read through the whole journal that lies ready, beside the drain."""
EMPTY = "empty journal, console off: echo-ingest"
GROWN = "grown journal, console off: echo-ingest"
"""A drain into a journal that holds `GROWN_RECORDS`."""
RETAINING = "grown journal, retention on: echo-ingest"
DELIVERING = "with delivery on: echo-ingest"
GROWN_MESSAGES = 400_000
GROWN_RECORDS = 10_000_000
GROWN_ROUNDS_MAX = 3
BACKLOG_RECORDS = 1_000_000
GROWTH_SHARE = 0.45
"""The share of the time that is kept for all that comes after the rounds."""


class Course(msgspec.Struct, frozen=True):
    """How much is measured, and where it goes."""

    mosquitto: Path
    quick: bool
    rounds: int
    scale: float
    began: float
    seconds_max: float
    results: Path
    pictures: Path

    def of(self, number: int) -> int:
        """Return `number` on the scale of this run, but at least what still means something."""
        return max(int(number * self.scale), min(number, 300))

    def is_over(self, share: float = 1.0) -> bool:
        """Tell whether this share of the time has gone by."""
        return time.monotonic() - self.began > self.seconds_max * share


def main() -> int:
    """Measure, and end with one line of ratios."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, no growth")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=40, help="begin nothing after that")
    parser.add_argument("--scale", type=float, default=1, help="share of the messages: a rehearsal")
    parser.add_argument("--broker", choices=("2.0", "2.1"), default="2.0")
    parser.add_argument("--peers", action="store_true", help="beside Node-RED and mqttwarn")
    options = parser.parse_args()
    mosquitto, version = program_of(options.broker)
    results = results_of(version)
    name = "bench-peers" if options.peers else f"bench-{options.broker}"
    kept, pictures = ROOT / "bench" / "results", ROOT / "docs" / "performance"
    if options.quick or options.scale != 1:  # what is published comes from whole runs
        kept = pictures = Path(tempfile.gettempdir()) / "echo-ingest-bench"
    course = Course(
        mosquitto,
        options.quick,
        1 if options.quick else options.rounds,
        options.scale,
        time.monotonic(),
        options.minutes * 60,
        kept / f"{name}.json",
        pictures,
    )
    if options.peers:
        _with_peers(course, results)
    else:
        _alone(course, results)
    results.write(course.results)
    for failure in results.failures:
        print(f"failed: {failure}", file=sys.stderr)
    print(results.line)
    return 1 if results.failures else 0


def _alone(course: Course, results: Results) -> None:
    with Progress(console=Console(stderr=True)) as progress:
        _rounds(course, results, progress)
        if not course.quick:
            _grow(course, results, progress)
    if not course.quick:
        flame = course.results.with_name("flame.svg")
        with results.part("profile"):
            results.profile = profile(course.of(400_000), course.mosquitto, flame)
    results.line = line(results)
    show(results)
    if not course.quick:
        with results.part("pictures"):
            draw(results.rounds, results.latency, results.profile, course.pictures)


def _rounds(course: Course, results: Results, progress: Progress) -> None:
    """Run all contests in turn, round by round."""
    contests = [c for c in CONTESTS if c.quick_messages or not course.quick]
    steps = progress.add_task("rounds", total=course.rounds * (len(contests) + 1))
    for number in range(course.rounds):
        if course.is_over(1 - GROWTH_SHARE):
            results.left_out.append(f"rounds {number + 1} to {course.rounds}")
            return
        for contest in contests:
            progress.update(steps, description=contest.label)
            _once(course, results, contest)
            progress.advance(steps)
        progress.update(steps, description="latency")
        with results.part("latency"):
            seconds = 3.0 if course.quick else max(20.0 * course.scale, 2.0)
            rates = (1_000,) if course.quick else RATES
            results.latency.append(latencies(rates, seconds, course.mosquitto))
        if not course.quick:
            results.measure_disk()
        progress.advance(steps)
        results.line = line(results)
        results.write(course.results)


def _once(
    course: Course,
    results: Results,
    contest: Contest,
    journal: Path | None = None,
    seed: int = 1,
) -> None:
    number = course.of(contest.quick_messages if course.quick else contest.messages)
    with results.part(contest.label):
        done = measure(
            contest.contestant,
            contest.mode,
            contest.form,
            number,
            course.mosquitto,
            journal,
            seed,
            **contest.settings,
        )
        results.rounds.setdefault(contest.label, []).append(done)


def _with_peers(course: Course, results: Results) -> None:
    """Run the same drain with programs that people set up rather than write."""
    contests = [
        Contest(each.name, each, "drain", "detections", messages)
        for each, messages in ((ours(), 200_000), (NODE_RED, 10_000), (MQTTWARN, 2_000))
    ]
    for _ in range(course.rounds):
        for contest in contests:
            _once(course, results, contest)
        results.write(course.results)
    rows = [Row(name, each) for name, each in results.rounds.items()]
    screen.print(table("A backlog drained", rows))
    own = results.rounds.get("echo-ingest", [])
    ratios = {
        name: ratio([(a.per_second, b.per_second) for a, b in zip(own, each, strict=False)])
        for name, each in results.rounds.items()
        if name != "echo-ingest" and own
    }
    results.line = " ".join(f"drain/{name}={each.median:.0f}" for name, each in ratios.items())


def _grow(course: Course, results: Results, progress: Progress) -> None:
    """Measure everything about a journal that has grown."""
    with tempfile.TemporaryDirectory(prefix="echo-ingest-bench-") as folder:
        backlog, grown, audio = (Path(folder) / n for n in ("backlog.db", "grown.db", "audio"))
        with results.part("delivery of a backlog"):
            records = course.of(BACKLOG_RECORDS)
            _make(backlog, records, progress)
            results.delivered_per_second = growth.delivered_per_second(
                course.mosquitto, backlog, records, **NO_CONSOLE
            )
        with results.part("a grown journal"):
            _make(grown, course.of(GROWN_RECORDS), progress)
        audio.mkdir(mode=0o700)  # the sink does not make it, and would wait for it
        for label, journal in (("empty", None), (f"{course.of(GROWN_RECORDS):,} records", grown)):
            with results.part(f"start with a journal, {label}"):
                results.start_seconds[label] = growth.start_seconds(
                    course.mosquitto, journal, **NO_CONSOLE
                )
        rounds = min(course.rounds, GROWN_ROUNDS_MAX)
        contests = (
            (EMPTY, None, NO_CONSOLE),
            (GROWN, grown, NO_CONSOLE),
            (RETAINING, grown, {**NO_CONSOLE, "IOT_RETENTION_DAYS": "1"}),
            (DELIVERING, None, {"IOT_OBJECTS_URL": audio.as_uri()}),
        )
        steps = progress.add_task("growth", total=rounds * len(contests))
        seed = 1
        for number in range(rounds):
            if course.is_over():
                results.left_out.append(f"growth, rounds {number + 1} to {rounds}")
                return
            for label, journal, settings in contests:
                seed += 1  # what has been drained into a journal once would be a duplicate
                progress.update(steps, description=label)
                contest = Contest(
                    label, ours(), "drain", "detections", GROWN_MESSAGES, settings=settings
                )
                _once(course, results, contest, journal, seed)
                progress.advance(steps)
            results.write(course.results)


def _make(path: Path, records: int, progress: Progress) -> None:
    task = progress.add_task(f"a journal of {records:,} records", total=records)
    growth.make_journal(path, records, lambda count: progress.advance(task, count))
    progress.remove_task(task)


if __name__ == "__main__":
    sys.exit(main())
