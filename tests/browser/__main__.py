"""`python -m tests.browser`: the console in a real browser; further arguments go to pytest."""

import sys
from collections import Counter
from pathlib import Path

import pytest


class Tally:
    """What came of each test, and of which pages."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.pages: set[object] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An error while preparing or clearing up is a failure, a skip while preparing is a skip.
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.outcome] += 1
        if report.when == "call" and report.outcome == "passed":
            self.pages |= {value for name, value in report.user_properties if name == "page"}

    def line(self) -> str:
        count = self.outcomes
        skipped = f" skipped={count['skipped']}" if count["skipped"] else ""
        return f"pages={len(self.pages)} passed={count['passed']} failed={count['failed']}{skipped}"


def main() -> int:
    tally = Tally()
    code = pytest.main([str(Path(__file__).parent), *sys.argv[1:]], plugins=[tally])
    print(tally.line())
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
