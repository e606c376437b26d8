"""`python -m tests.sinks`: the contract of every sink; further arguments go to pytest."""

import sys
from collections import Counter
from pathlib import Path

import pytest


class Tally:
    """What came of each test, and which sinks were really tested."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.sinks: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An error while preparing or clearing up is a failure, a skip while preparing is a skip.
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.outcome] += 1
        if report.when == "call":
            _, _, parameters = report.nodeid.partition("[")
            self.sinks.add(parameters.partition(".")[0])

    def line(self) -> str:
        count = self.outcomes
        return (
            f"sinks={len(self.sinks)} passed={count['passed']} failed={count['failed']}"
            f" skipped={count['skipped']}"
        )


def main() -> int:
    tally = Tally()
    code = pytest.main([str(Path(__file__).parent), *sys.argv[1:]], plugins=[tally])
    print(tally.line())
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
