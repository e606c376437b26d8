"""Mutation testing: change lines of `src/echo_ingest` one by one, and name what no test noticed.

    .venv/bin/python scripts/mutate.py --per-file 5 --seed 1 --out mutants.jsonl

Each change is tried in a copy of the repository with a virtual environment of its own, by the tests
that `AREAS` names: the quick ones first, the slow ones only for what the quick ones let through. A
test that fails or that runs out of time has noticed the change. `mutate_equivalent.toml` explains
changes that mean nothing. Whether the tests pass without any change is tried first.

`--out` gets a line of JSON for each change. With `--resume`, changes that it already has as caught
are not tried again; those that survived are, since tests may have been added.
"""

import argparse
import contextlib
import hashlib
import json
import os
import queue
import resource
import shlex
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from mutations import Change, Key, find_changes
from tree import MEMORY_BYTES_MAX, ROOT, Tree

SOURCE = Path("src", "echo_ingest")
EXPLAINED = Path(__file__).with_name("mutate_equivalent.toml")
LIMIT_FACTOR, LIMIT_SECONDS_MIN = 5, 60.0  # others may use the machine too


class Guards(NamedTuple):
    """The arguments of pytest that pick the tests of an area."""

    quick: str
    """Files whose tests run without those that are marked as slow."""
    slow: str
    """Files whose tests run for what the others let through."""


LINE = "tests/test_line.py::test_sigkill_in_the_middle_three_times_loses_nothing"
SALVAGE = Guards(
    "tests/test_salvage.py tests/test_journal.py tests/test_journal_migration.py",
    "tests/test_salvage.py",
)
AREAS = {
    "decode": Guards(
        "tests/decode/test_examples.py tests/decode/test_reasons.py tests/decode/test_sound.py "
        "tests/decode/test_times.py tests/decode/test_audio_file.py tests/decode/test_fast_path.py "
        "tests/decode/test_base64.py tests/test_receipts.py",
        "tests/decode tests/fuzz/test_fuzz.py",
    ),
    "journal/recovery/sqlite_pages.py": SALVAGE,
    "journal/recovery/repair_ledger.py": SALVAGE,
    "journal/recovery/detect.py": SALVAGE,
    "journal/recovery/salvage.py": SALVAGE,
    "journal/changes.py": Guards(
        "tests/test_almanac.py tests/test_almanac_model.py tests/test_journal_migration.py", LINE
    ),
    "journal/node_days.py": Guards("tests/test_journal_model.py", LINE),
    "journal/decoding.py": Guards(
        "tests/test_deliver.py tests/test_journal_reader.py",
        "tests/test_reference.py",
    ),
    "journal": Guards(
        "tests/test_journal.py tests/test_journal_reader.py tests/test_salvage.py "
        "tests/test_deliver.py tests/test_journal_migration.py",
        "tests/test_reference.py tests/test_almanac.py tests/test_almanac_model.py "
        "tests/test_web.py tests/test_journal_model.py tests/test_power_loss.py "
        f"tests/test_full_disk.py {LINE}",
    ),
    "pipeline/deliver": Guards(
        "tests/test_deliver.py tests/test_reference.py",
        "tests/test_waits.py tests/test_deliver_model.py tests/test_delivery_process.py",
    ),
    "mqtt": Guards("tests/test_mqtt.py", f"tests/test_waits.py tests/test_mqtt.py {LINE}"),
    "backoff.py": Guards("tests/test_waits.py -k backoff", "tests/test_waits.py"),
    "pipeline/retention.py": Guards("tests/test_retention.py", "tests/test_full_disk.py"),
    "pipeline/receipts.py": Guards("tests/test_receipts.py", "tests/test_receipts.py"),
    "pipeline/ingest.py": Guards(
        "tests/test_ingest.py", f"tests/test_ingest.py tests/test_receipts.py {LINE}"
    ),
    "sinks/echo_api": Guards(
        "tests/test_echo_api.py", "tests/test_waits.py tests/sinks -k 'echo_api or waits'"
    ),
    "sinks/postgres": Guards(
        "tests/test_postgres_remedies.py", "tests/test_postgres.py tests/sinks -k postgres"
    ),
    "sinks/mongodb": Guards(
        "tests/test_mongodb.py", "tests/test_mongodb.py tests/sinks -k mongodb"
    ),
    "sinks/objects": Guards(
        "tests/test_objects.py", "tests/test_objects.py tests/sinks -k objects"
    ),
    "sinks": Guards(
        "tests/test_clips.py tests/test_settings.py tests/test_objects.py tests/test_echo_api.py "
        "tests/test_sink_registry.py",
        "tests/test_sinks_cli.py tests/test_sink_registry.py",
    ),
    "reasons.py": Guards(
        "tests/decode/test_reasons.py tests/console/test_advice.py", "tests/console"
    ),
    "process/files.py": Guards("tests/test_files.py", "tests/test_power_loss.py tests/export"),
    "broker/access_rules.py": Guards("tests/test_nodes.py", "tests/test_access.py"),
}
"""The areas, by a path below `SOURCE`; the first area that has a file counts."""


def read_changes(area: str) -> dict[str, list[Change]]:
    """Return every change of each file that is in `area` and in none before it."""
    before = [ROOT / SOURCE / other for other in list(AREAS)[: list(AREAS).index(area)]]
    top = ROOT / SOURCE / area
    files = sorted(top.rglob("*.py")) if top.is_dir() else [top]
    return {
        path: find_changes(path, file.read_bytes())
        for file in files
        for path in [file.relative_to(ROOT / SOURCE).as_posix()]
        if not any(file.is_relative_to(other) for other in before)
    }


def choose(changes: Sequence[Change], count: int, seed: int) -> list[Change]:
    """Choose `count` changes, the same ones as long as their lines stay as they are."""

    def place(change: Change) -> bytes:
        text = f"{seed} {change.before} {change.after}"
        return hashlib.blake2b(text.encode()).digest()

    return sorted({change.key: change for change in changes}.values(), key=place)[:count]


class MutationTree(Tree):
    """A copy in which changes are tried."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._limits: dict[str, float] = {}

    def try_change(self, change: Change, guards: Guards, *, is_quick: bool) -> str:
        """Make the change and run its tests; return what noticed it, or "survived"."""
        file = self.root / SOURCE / change.path
        text = file.read_bytes()
        stages = [(f"-m 'not slow' {guards.quick}", 1), (guards.slow, 2)]
        for tests, attempts in stages[:1] if is_quick else stages:
            seconds = self._limit(tests)
            file.write_bytes(text[: change.start] + change.new + text[change.end :])
            try:
                outcome = self._run(tests, seconds, attempts)
            finally:
                file.write_bytes(text)
            if outcome != "passed":
                return outcome
        return "survived"

    def _limit(self, tests: str) -> float:
        """How long tests may take, by how long they take without a change; they have to pass."""
        if tests not in self._limits:
            started = time.monotonic()
            if self._run(tests, None, 2) != "passed":
                raise RuntimeError(f"without any change, these fail: {tests}")
            seconds = LIMIT_SECONDS_MIN + LIMIT_FACTOR * (time.monotonic() - started)
            self._limits[tests] = seconds
        return self._limits[tests]

    def _run(self, tests: str, seconds: float | None, attempts: int) -> str:
        """Run tests until one fails; return "passed", "failed" or "timeout".

        One with real servers may fail by itself, so it has to fail at each of the attempts.
        """
        outcome = self._pytest(*shlex.split(tests), seconds=seconds)
        if outcome == "failed" and attempts > 1:
            return self._run(f"--lf {tests}", seconds, attempts - 1)
        return outcome

    def _pytest(self, *arguments: str, seconds: float | None) -> str:
        code = self.run_pytest("-xqq", *arguments, seconds=seconds)
        assert code != pytest.ExitCode.USAGE_ERROR, f"pytest does not take {arguments}"
        if code is None:
            return "timeout"
        passed = code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        return "passed" if passed else "failed"


@contextlib.contextmanager
def borrowed(trees: "queue.SimpleQueue[MutationTree]") -> Iterator[MutationTree]:
    """Take a tree that nobody uses, and give it back."""
    tree = trees.get()
    try:
        yield tree
    finally:
        trees.put(tree)


def read_explained() -> set[Key]:
    """Return the keys of the changes that mean nothing."""
    entries = tomllib.loads(EXPLAINED.read_text())["equivalent"]
    return {(entry["path"], entry["before"], entry["after"]) for entry in entries}


def read_caught(out: Path) -> set[Key]:
    """Return the keys of the changes that an earlier run has caught."""
    results = [json.loads(line) for line in out.read_text().splitlines()]
    return {
        (each["path"], each["before"], each["after"])
        for each in results
        if each["outcome"] != "survived"
    }


def main() -> int:
    """Try the changes that the command line asks for; return 1 if one survived unexplained."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--area", action="append", choices=AREAS, help="only this; repeatable")
    parser.add_argument("--per-file", type=int, default=5, help="how many changes of each file")
    parser.add_argument("--seed", type=int, default=1, help="which of them")
    parser.add_argument("--workers", type=int, default=2, help="how many at a time")
    parser.add_argument("--out", type=Path, default=Path("mutants.jsonl"))
    parser.add_argument("--quick", action="store_true", help="leave out the slow tests")
    parser.add_argument("--resume", action="store_true", help="keep what --out has as caught")
    options = parser.parse_args()

    explained = read_explained()
    caught = read_caught(options.out) if options.resume and options.out.exists() else set()
    counts, left = Counter[str](), dict[str, list[Change]]()
    for area in options.area or AREAS:
        for changes in read_changes(area).values():
            for change in choose(changes, options.per_file, options.seed):
                if change.key in explained:
                    counts["explained"] += 1
                elif change.key in caught:
                    counts["caught"] += 1
                else:
                    left.setdefault(area, []).append(change)
    total = sum(map(len, left.values()))
    print(f"mutate: {counts.total() + total} changes, {total} of them are left to try", flush=True)

    os.nice(10)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    with (
        tempfile.TemporaryDirectory(prefix="mutate-") as folder,
        options.out.open("a" if options.resume else "w") as out,
        ThreadPoolExecutor(options.workers) as pool,
    ):
        trees = queue.SimpleQueue[MutationTree]()
        for number in range(options.workers):
            trees.put(MutationTree(Path(folder, str(number))))
        noting = threading.Lock()

        def try_area(area: str) -> None:
            with borrowed(trees) as tree:
                for change in left[area]:
                    outcome = tree.try_change(change, AREAS[area], is_quick=options.quick)
                    with noting:
                        counts["survived" if outcome == "survived" else "caught"] += 1
                        result = {
                            n: getattr(change, n) for n in ("path", "line", "before", "after")
                        }
                        print(json.dumps(result | {"outcome": outcome}), file=out, flush=True)
                        print(f"{counts.total()} {outcome}: {change}", flush=True)

        largest_first = sorted(left, key=lambda area: len(left[area]), reverse=True)
        for _ in pool.map(try_area, largest_first):
            pass  # but raise what an area raised
    print(
        f"mutate: tried={counts.total()} caught={counts['caught']} "
        f"explained={counts['explained']} survived={counts['survived']}"
    )
    return 1 if counts["survived"] else 0


if __name__ == "__main__":
    sys.exit(main())
