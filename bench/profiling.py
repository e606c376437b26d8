"""Where the time goes: the service sampled by py-spy while it drains a backlog."""

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from bench.contestants import ours
from bench.rounds import Publisher, broker_of, publisher_of
from tests.harness import eventually

PY_SPY = Path(sys.executable).with_name("py-spy")
SAMPLES_PER_SECOND = 500
STEPS: Mapping[str, tuple[str, ...]] = {
    "SQLite: rows, keys, commit, sync": ("_insert_records", "_insert", "__exit__", "_writing"),
    "hash of the payload": ("payload_hash", "_topic_hash"),
    "plan: keys and rows": ("plan", "_record_row", "message_key", "checksum", "properties_text"),
    "identify: is it valid, and which": ("identify", "decode", "_detection", "read"),
    "read packets from the socket": ("_feed", "put", "data_received", "_read_ready"),
    "ledger of nodes and days": ("tally",),
    "look for receipts": ("receipt", "_give_receipts"),
}
"""The functions of each step; the innermost function of a stack that is named here counts."""


def profile(messages: int, mosquitto: Path, flame: Path) -> dict[str, float]:
    """Return the share of CPU time of each step, 0 to 1; write a flame graph to `flame`."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "stacks"
        for path, kind in ((raw, "raw"), (flame, "flamegraph")):
            _drain(messages, mosquitto, path, kind)
        return _shares(raw.read_text())


def _drain(messages: int, mosquitto: Path, path: Path, kind: str) -> None:
    contestant = ours()
    with (
        broker_of(mosquitto) as (harness, _),
        publisher_of(harness, "detections", messages) as publisher,
    ):
        contestant.subscribe(harness)
        _publish(publisher)
        program = contestant.start(harness, messages)
        try:
            eventually(lambda: contestant.counted(harness) > 0, seconds=30)
            subprocess.run(
                [
                    *(str(PY_SPY), "record", "--pid", str(program.pid), "--output", str(path)),
                    *("--format", kind, "--rate", str(SAMPLES_PER_SECOND), "--duration", "2"),
                ],
                check=True,
                capture_output=True,
                timeout=60,
            )
        finally:
            program.terminate()
            program.wait(timeout=60)


def _publish(publisher: Publisher) -> None:
    publisher.go()
    publisher.figures()


def _shares(stacks: str) -> dict[str, float]:
    """By step, from lines of `outer;…;Class.inner (file:line) count`.

    Of the event loop only: the other threads wait, and may look busy from outside while they do.
    """
    spent: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = (frame.partition(" ")[0] for frame in reversed(stack.split(";")))
        names = [frame.rpartition(".")[2] for frame in frames]
        if "run_forever" in names:
            spent[_step(names)] += int(count)
    return {step: round(count / spent.total(), 3) for step, count in spent.most_common()}


def _step(names: list[str]) -> str:
    for name in names:
        for step, functions in STEPS.items():
            if name in functions:
                return step
    return "everything else"
