"""The counts of a test program, which ends with one line."""

from collections import Counter

import pytest


class Tally:
    """A plugin of pytest that counts."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An error while preparing or clearing up is a failure, a skip while preparing is a skip.
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.outcome] += 1
        if report.when == "call":
            self.called(report)

    def called(self, report: pytest.TestReport) -> None:
        """Count a test that has run to its end, or failed."""

    def counts(self, *outcomes: str) -> str:
        """Return the end of the line: `passed=87 failed=0`."""
        return " ".join(f"{each}={self.outcomes[each]}" for each in outcomes)
