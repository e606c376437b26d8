"""`python -m tests.siege --minutes 10 --seed 7 --broker 2.1 --shape split`: the siege.

A seed replays the schedule: which attack begins when, from where, and what it sends, and what the
good devices send. When a packet really arrives is up to the machine.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests import cgroup, postgres
from tests.crash.__main__ import program_of
from tests.machine import machine, versions
from tests.siege.attackers.kinds import ATTACKS
from tests.siege.evidence import Evidence
from tests.siege.judge import SHOWN, Verdict, judge
from tests.siege.run import Run
from tests.siege.site import Shape

LINE_EVERY_SECONDS = 30.0
SHOWN_ANSWERS = 5
MB = 1_048_576


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.siege", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--broker", choices=("2.0", "2.1"), default="2.0")
    parser.add_argument("--shape", choices=get_args(Shape), default="up")
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS), metavar="KIND")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--keep", action="store_true", help="keep the folder, whatever comes of it")
    options = parser.parse_args(arguments)
    for reason in (cgroup.missing(), postgres.missing()):
        if reason is not None:
            sys.exit(reason)
    print(f"seed={options.seed}", flush=True)
    mosquitto, version = program_of(options.broker)
    folder = Path(tempfile.mkdtemp(prefix="echo-ingest-siege-"))
    run = Run(folder, mosquitto, options.shape, options.seed, options.minutes * 60, options.only)
    with Reporter(run) as reporter:
        evidence = asyncio.run(run.go(reporter.report))
    verdict = judge(evidence)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table(evidence))
    explain(evidence, verdict)
    broker = ".".join(map(str, version))
    summary = line(evidence, verdict, broker, options.shape)
    if options.json is not None:
        text = msgspec.json.encode(
            {**figures(evidence, verdict), "line": summary, "versions": versions(version)}
        )
        options.json.write_bytes(msgspec.json.format(text) + b"\n")
    if verdict.is_good and not options.keep:
        shutil.rmtree(folder)
    else:
        print(f"kept: {folder}")
    print(summary)
    return 0 if verdict.is_good else 1


class Reporter:
    """The progress of a siege: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self, run: Run) -> None:
        columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        is_terminal = sys.stderr.isatty()
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not is_terminal)
        self._task = self._progress.add_task("starting", total=run.seconds)
        self._printed_at = time.monotonic()

    def __enter__(self) -> "Reporter":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def report(self, run: Run) -> None:
        receipted = sum(device.receipted for device in run.devices)
        due = sum(
            message.due_seconds < run.elapsed_seconds
            for device in run.devices
            for message in device.messages
        )
        words = (
            f"{receipted:,} of {due:,} receipts, {run.attacks} attacks, {len(run.under_way)} now"
        )
        self._progress.update(self._task, completed=run.elapsed_seconds, description=words)
        is_due = time.monotonic() - self._printed_at > LINE_EVERY_SECONDS
        if self._progress.disable and is_due:
            self._printed_at = time.monotonic()
            print(f"{run.elapsed_seconds:.0f} s: {words}", file=sys.stderr, flush=True)


def table(evidence: Evidence) -> Table:
    """Return what each kind of attack was answered."""
    shown = Table("attack", "bouts", "tries", "what the server answered")
    for kind, attacked in evidence.attacked.items():
        common = attacked.answers.most_common(SHOWN_ANSWERS)
        words = ", ".join(f"{answer} ×{count:,}" for answer, count in common)
        shown.add_row(kind, str(attacked.bouts), f"{attacked.attempts:,}", words)
    return shown


def explain(evidence: Evidence, verdict: Verdict) -> None:
    """Print what was measured, and each broken promise."""
    for path, page in evidence.health.items():
        reds = ", ".join(f"{begin:.0f}–{end:.0f} s" for begin, end in page.red)
        print(f"{path}: {dict(page.answers.most_common(SHOWN_ANSWERS))}, red: {reds or 'never'}")
    for name, peak_bytes in evidence.peak_bytes.items():
        limit_mb = evidence.limit_bytes[name] / MB
        print(f"memory of {name}: {peak_bytes / MB:.0f} of {limit_mb:.0f} MB at most")
    peaks = (f"{name} {peak / MB:.0f} MB" for name, peak in evidence.process_peak_bytes.items())
    print(f"memory of processes at most: {', '.join(peaks)}")
    times = verdict.receipt_seconds
    print(
        f"receipts after: p50 {verdict.median_seconds * 1e3:.0f} ms, "
        f"p99 {verdict.p99_seconds:.1f} s, at most {times[-1] if times else 0:.1f} s"
    )
    for node, troubles in evidence.troubles.items():
        if troubles:
            print(f"{node} had to reconnect: {dict(troubles.most_common(SHOWN_ANSWERS))}")
    for problem in verdict.problems[:SHOWN]:
        print(f"not as promised: {problem}")
    if len(verdict.problems) > SHOWN:
        print(f"… and {len(verdict.problems) - SHOWN} more")


def line(evidence: Evidence, verdict: Verdict, broker: str, shape: Shape) -> str:
    """Return the whole siege in one line."""
    attacks = sum(attacked.bouts for attacked in evidence.attacked.values())
    tries = sum(attacked.attempts for attacked in evidence.attacked.values())
    peaks = "+".join(f"{peak / MB:.0f}" for peak in evidence.peak_bytes.values())
    return (
        f"siege broker={broker} shape={shape} minutes={evidence.seconds / 60:g} "
        f"seed={evidence.seed} attacks={attacks} tries={tries} good={verdict.good} "
        f"receipted={verdict.receipted} lost={len(verdict.lost)} "
        f"duplicated={len(verdict.duplicated)} undelivered={len(verdict.undelivered)} "
        f"longest_red_s={verdict.longest_red_seconds:.1f} peak_mb={peaks} "
        f"held_back={evidence.held_back} oom={evidence.oom_kills} restarts={evidence.restarts} "
        f"traces={len(evidence.traces)} problems={len(verdict.problems)}"
    )


def figures(evidence: Evidence, verdict: Verdict) -> dict[str, object]:
    """Return the same and more, to be kept with the machine on which it was measured."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "longest_red_seconds": {
            path: round(page.longest_red_seconds, 1) for path, page in evidence.health.items()
        },
        "peak_mb": {name: peak // MB for name, peak in evidence.peak_bytes.items()},
        "limit_mb": {name: limit // MB for name, limit in evidence.limit_bytes.items()},
        "process_peak_mb": {
            name: peak // MB for name, peak in sorted(evidence.process_peak_bytes.items())
        },
        "receipt_seconds": {
            "median": round(verdict.median_seconds, 3),
            "p99": round(verdict.p99_seconds, 3),
            "max": round(verdict.receipt_seconds[-1], 3),
        },
        "reconnects": {node: sum(each.values()) for node, each in evidence.troubles.items()},
        "log_mb": round(evidence.log_bytes / MB, 1),
        "attacks": {
            kind: {
                "bouts": attacked.bouts,
                "tries": attacked.attempts,
                "answers": dict(attacked.answers.most_common()),
            }
            for kind, attacked in evidence.attacked.items()
        },
        "problems": verdict.problems,
        "machine": machine(),
    }


if __name__ == "__main__":
    sys.exit(main())
