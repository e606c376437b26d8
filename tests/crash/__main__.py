"""`python -m tests.crash --kills 1000 --messages 1000000 --seed 7 --broker 2.1`: the crash run.

A seed replays the plan: every message, every fault, its targets, its length, and after how many
messages it comes. When a process really dies, between which two instructions, is up to the machine,
as is what is on its way at that moment; so a failure comes back often, but not each time.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from echo_ingest.broker import find_mosquitto, version
from tests.crash.evidence import Evidence
from tests.crash.reconcile import SHOWN, Verdict, near, reconcile
from tests.crash.run import Run
from tests.machine import machine, versions

LINE_EVERY_SECONDS = 30.0
BAR_CHARACTERS = 30


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--broker", choices=("2.0", "2.1"), default="2.0")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--keep", action="store_true", help="keep the folder, whatever comes of it")
    options = parser.parse_args(arguments)
    print(f"seed={options.seed}", flush=True)
    mosquitto, its_version = program_of(options.broker)
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="echo-ingest-crash-"))
    run = Run(folder, mosquitto, its_version, options.seed, options.messages)
    evidence = asyncio.run(run.go(options.kills, Progress(options.kills)))
    verdict = reconcile(evidence)
    seconds = time.monotonic() - started
    explain(evidence, verdict)
    if options.json is not None:
        text = msgspec.json.encode(figures(evidence, verdict, seconds))
        options.json.write_bytes(msgspec.json.format(text) + b"\n")
    if verdict.is_good and not options.keep:
        shutil.rmtree(folder)
    else:
        print(f"kept: {folder}")
    print(line(evidence, verdict, seconds))
    return 0 if verdict.is_good else 1


def program_of(wanted: str) -> tuple[Path, tuple[int, int, int]]:
    """Return a mosquitto of that version: the one installed, or that of TEST_MOSQUITTO_21."""
    programs = [find_mosquitto(None)]
    if named := os.environ.get("TEST_MOSQUITTO_21"):
        programs.append(find_mosquitto(Path(named)))
    for program in programs:
        its_version = version(program)
        if f"{its_version[0]}.{its_version[1]}" == wanted:
            return program, its_version
    sys.exit(
        f"there is no mosquitto {wanted} here: install it, or for 2.1 set TEST_MOSQUITTO_21 to "
        "what `tests/mosquitto21 FOLDER` prints"
    )


class Progress:
    """The progress of a run: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self, kills: int) -> None:
        self._kills = kills
        self._printed_at = time.monotonic()

    def __call__(self, run: Run) -> None:
        done, total = run.answers.done, run.messages
        progress = f"{done:,} of {total:,} messages, {run.kills} of {self._kills} kills"
        if sys.stderr.isatty():
            filled = BAR_CHARACTERS * min(done, total) // total
            bar = "█" * filled + "░" * (BAR_CHARACTERS - filled)
            print(f"\r{bar} {progress} ", end="\n" if done >= total else "", file=sys.stderr)
        elif time.monotonic() - self._printed_at > LINE_EVERY_SECONDS:
            self._printed_at = time.monotonic()
            print(progress, file=sys.stderr, flush=True)


def explain(evidence: Evidence, verdict: Verdict) -> None:
    """Return each problem, with the faults that were near it."""
    for what in ("lost", "duplicated", "undelivered"):
        for number in getattr(verdict, what)[:SHOWN]:
            print(f"{what}: {near(evidence, number)}")
    for problem in verdict.problems[:SHOWN]:
        print(f"not as promised: {problem}")
    if len(verdict.problems) > SHOWN:
        print(f"… and {len(verdict.problems) - SHOWN} more")


def line(evidence: Evidence, verdict: Verdict, seconds: float) -> str:
    """Return the whole run in one line."""
    kills = sum(done.fault.kind == "kill" for done in evidence.faults)
    broker = ".".join(map(str, evidence.version))
    return (
        f"acked={verdict.acknowledged} receipted={verdict.receipted} kills={kills} "
        f"lost={len(verdict.lost)} duplicated={len(verdict.duplicated)} seconds={seconds:.0f} "
        f"undelivered={len(verdict.undelivered)} repeats={verdict.calls_repeated} "
        f"puback_only_lost={len(verdict.puback_only_lost)} problems={len(verdict.problems)} "
        f"broker={broker} seed={evidence.seed}"
    )


def figures(evidence: Evidence, verdict: Verdict, seconds: float) -> dict[str, object]:
    """Return the same and more, to be kept with the machine on which it was measured."""
    faults = evidence.faults
    by_target = Counter(f"{done.fault.kind} {'+'.join(done.fault.targets)}" for done in faults)
    return {
        "line": line(evidence, verdict, seconds),
        "date": datetime.now(UTC).date().isoformat(),
        "seed": evidence.seed,
        "messages": evidence.messages,
        "acknowledged": verdict.acknowledged,
        "receipted": verdict.receipted,
        "publishes": sum(evidence.answers.published),
        "kills": sum(done.fault.kind == "kill" for done in faults),
        "processes_hit": sum(done.hit for done in faults),
        "faults": dict(sorted(by_target.items())),
        "starts": evidence.starts,
        "service_transitions": evidence.transitions,
        "device_reconnects": evidence.reconnects,
        "lost": len(verdict.lost),
        "duplicated": len(verdict.duplicated),
        "undelivered": len(verdict.undelivered),
        "puback_only_lost": len(verdict.puback_only_lost),
        "nameless_repeated": verdict.nameless_repeated,
        "api_calls_repeated": verdict.calls_repeated,
        "api_messages_repeated": verdict.repeated,
        "problems": verdict.problems,
        "flow_seconds": round(evidence.flow_seconds),
        "drain_seconds": round(evidence.drain_seconds),
        "seconds": round(seconds),
        "machine": machine(),
        "versions": versions(evidence.version),
    }


if __name__ == "__main__":
    sys.exit(main())
