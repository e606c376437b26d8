"""Sabotage the code on purpose, one promise of README at a time, and see that its command notices.

    make sabotage [ONLY=words] [JOBS=2]

`sabotages.toml` has the changes. Each is made in a copy of the repository, never in the checkout.
Then its tests run, which belong to the command that README names for the promise: it is caught if
one of them fails, twice. What only breaks an import, a fixture or the time limit is a defect of the
list. Whether the tests pass without any change is tried first. `sabotage-result.txt` gets a line
for each change that was tried, with the date and the commit, and keeps those of the others; commit
it.
"""

import argparse
import queue
import resource
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

from msgspec import Struct
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sabotages import Sabotage, problems, pytest_arguments, read_list
from tree import MEMORY_BYTES_MAX, ROOT, Tree

RESULT = Path(__file__).with_name("sabotage-result.txt")
LIMIT_FACTOR, LIMIT_SECONDS_MIN = 4, 45.0  # others may use the machine too
PASSED, FAILED = 0, 1
OUTPUT_SHOWN_CHARACTERS = 3_000


class Defect(Exception):
    """A sabotage that shows nothing; the text says why."""


class Outcome(Struct, frozen=True):
    """What became of a sabotage."""

    word: str
    """`caught`, `survived` or `defect`."""
    detail: str
    seconds: float


class SabotageTree(Tree):
    """A copy in which sabotages are tried."""

    collected: ClassVar[dict[str, frozenset[str]]] = {}
    """The tests that each selection collects: the same ones in every copy."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._report = folder / "report.xml"
        self._limits: dict[str, float] = {}

    def try_one(self, sabotage: Sabotage) -> Outcome:
        """Make the change, run its tests, and undo the change."""
        began = time.monotonic()
        try:
            self._require_collected(sabotage)
            limit_seconds = self._limit(sabotage.tests)
            word, detail = self._try(sabotage, limit_seconds)
        except Defect as defect:
            word, detail = "defect", str(defect)
        return Outcome(word, detail, time.monotonic() - began)

    def _try(self, sabotage: Sabotage, limit_seconds: float) -> tuple[str, str]:
        file = self.root / sabotage.file
        text = file.read_text()
        file.write_text(sabotage.changed(text))
        try:
            self._require_import(sabotage.file)
            failed = self._failed(sabotage.tests, limit_seconds)
            # A test with real servers may fail by itself, so it has to fail again.
            failed = failed and self._failed(f"--lf {sabotage.tests}", limit_seconds)
        finally:
            file.write_text(text)
        return ("caught", failed) if failed else ("survived", sabotage.tests)

    def _failed(self, tests: str, limit_seconds: float | None) -> str:
        """Run tests until one fails, and return its name; an empty one if all passed."""
        report = f"--junitxml={self._report}"
        code = self.run_pytest("-x", report, *shlex.split(tests), seconds=limit_seconds)
        if code is None:
            raise Defect(f"no test failed within {limit_seconds:.0f} s")
        if code == PASSED:
            return ""
        if code == FAILED:
            report_tree = ElementTree.parse(self._report)  # noqa: S314 - pytest wrote it
            for case in report_tree.iter("testcase"):
                if case.find("failure") is not None:
                    return f"{case.get('classname')}::{case.get('name')}"
        raise Defect(f"no test failed, but pytest ended with {code}:\n{self._tail()}")

    def _limit(self, tests: str) -> float:
        """Return how long tests may take, by how long they take without a change."""
        if tests not in self._limits:
            began = time.monotonic()
            if failed := self._failed(tests, None) and self._failed(f"--lf {tests}", None):
                raise Defect(f"fails without any change: {failed}\n{self._tail()}")
            took_seconds = time.monotonic() - began
            self._limits[tests] = LIMIT_SECONDS_MIN + LIMIT_FACTOR * took_seconds
        return self._limits[tests]

    def _require_collected(self, sabotage: Sabotage) -> None:
        """Raise `Defect` unless the command that README names runs all of the tests."""
        chosen = self._collect(shlex.split(sabotage.tests))
        missing = chosen - self._collect(pytest_arguments(sabotage.readme))
        if missing:
            raise Defect(f"not run by {sabotage.readme}: {', '.join(sorted(missing))}")

    def _collect(self, arguments: list[str]) -> frozenset[str]:
        key = shlex.join(arguments)
        if key not in self.collected:
            code = self.run_pytest("--collect-only", *arguments)
            tests = [line for line in self.output.read_text().splitlines() if "::" in line]
            if code != PASSED or not tests:
                raise Defect(f"no tests are found by {key}:\n{self._tail()}")
            self.collected[key] = frozenset(tests)
        return self.collected[key]

    def _require_import(self, file: str) -> None:
        """Raise `Defect` if the module cannot be imported: then anything would fail."""
        path = Path(file)
        if path.parts[0] == "src" and path.suffix == ".py" and path.stem != "__main__":
            module = ".".join(path.with_suffix("").parts[1:]).removesuffix(".__init__")
            command = [self.python, "-c", f"import {module}"]
            done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
            if done.returncode:
                raise Defect(f"only the import is broken:\n{done.stderr}")

    def _tail(self) -> str:
        return self.output.read_text(errors="replace")[-OUTPUT_SHOWN_CHARACTERS:]


def line_of(sabotage: Sabotage, outcome: Outcome, seen: str) -> str:
    """Return the line of the result; `seen` is the date and the commit."""
    detail = outcome.detail.partition("\n")[0]
    return f"{outcome.word:8} {seen} {sabotage.file}: {sabotage.breaks} [{detail}]"


def commit_of_tree() -> str:
    """Return the commit of the checkout, and whether files differ from it."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.check_output([*git, "rev-parse", "--short=12", "HEAD"], text=True).strip()
    changes = subprocess.check_output([*git, "status", "--porcelain"], text=True).splitlines()
    others = [line for line in changes if not line.endswith(RESULT.name)]
    return f"{commit} and {len(others)} changed files" if others else commit


def keep_result(every: Sequence[Sabotage], new: Mapping[str, str]) -> None:
    """Write a line for each change of the list that was tried, now or before, and the sums."""
    before = RESULT.read_text().splitlines() if RESULT.exists() else []
    lines = []
    for each in every:
        known = (line for line in before if f" {each.file}: {each.breaks} [" in line)
        if line := new.get(each.breaks) or next(known, None):
            lines.append(line)
    words = Counter(line.partition(" ")[0] for line in lines)
    RESULT.write_text("\n".join([*lines, "", summary(words), ""]))


def summary(counts: Counter[str]) -> str:
    """Return how many changes were tried, and how many were not noticed."""
    text = f"tried={counts.total()} survived={counts['survived']}"
    return f"{text} defects={counts['defect']}" if counts["defect"] else text


def main() -> int:
    """Try what the command line asks for; return 1 unless all of it was caught."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="words that file, sentence or tests contain")
    parser.add_argument("--jobs", type=int, default=2, help="how many copies")
    options = parser.parse_args()

    every = read_list()
    if defects := list(problems(every, ROOT)):
        print("sabotage: the list is wrong:", *defects, sep="\n", file=sys.stderr)
        return 1
    words = options.only.lower().split()
    chosen = [
        each
        for each in every
        if all(word in f"{each.file} {each.breaks} {each.tests}".lower() for word in words)
    ]
    seen = f"{datetime.now(UTC):%Y-%m-%d} {commit_of_tree()}"
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    counts, lines = Counter[str](), dict[str, str]()
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[now]}"),
    )
    with (
        tempfile.TemporaryDirectory(prefix="sabotage-") as folder,
        Progress(*columns) as progress,
        ThreadPoolExecutor(options.jobs) as pool,
    ):
        bar = progress.add_task("", total=len(chosen), now="copying")
        trees = queue.SimpleQueue[SabotageTree]()
        for number in range(min(options.jobs, len(chosen))):
            trees.put(SabotageTree(Path(folder, str(number))))
        noting = threading.Lock()

        def attempt(sabotage: Sabotage) -> None:
            tree = trees.get()
            try:
                outcome = tree.try_one(sabotage)
            finally:
                trees.put(tree)
            with noting:
                counts[outcome.word] += 1
                shown = lines[sabotage.breaks] = line_of(sabotage, outcome, seen)
                if outcome.word == "defect":
                    shown += f"\n{outcome.detail}"
                progress.console.out(shown, highlight=False)
                progress.update(bar, advance=1, now=sabotage.file)

        for _ in pool.map(attempt, chosen):
            pass  # but raise what an attempt raised
    keep_result(every, lines)
    print(summary(counts))
    return 0 if counts["caught"] == len(chosen) > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
