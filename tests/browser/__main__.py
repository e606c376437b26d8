"""`python -m tests.browser`: the console in a real browser; further arguments go to pytest."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest


class Tally:
    """What came of each test, and of which pages."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.pages: set[object] = set()
        self.figures: list[tuple[str, float, float, int]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An error while preparing or clearing up is a failure, a skip while preparing is a skip.
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.outcome] += 1
        if report.when == "call" and report.outcome == "passed":
            self.pages |= {value for name, value in report.user_properties if name == "page"}
            self.figures += [
                value
                for name, value in report.user_properties
                if name == "figure" and isinstance(value, tuple)
            ]

    def table(self) -> Iterator[str]:
        """How long the server took for pages of 10,000 nodes, and how large they were."""
        if self.figures:
            yield f"{'page':24} {'median ms':>10} {'most ms':>8} {'kB':>6}"
        for page, median_ms, most_ms, size_bytes in self.figures:
            yield f"{page:24} {median_ms:10.0f} {most_ms:8.0f} {size_bytes / 1e3:6.0f}"

    def line(self) -> str:
        count = self.outcomes
        skipped = f" skipped={count['skipped']}" if count["skipped"] else ""
        return f"pages={len(self.pages)} passed={count['passed']} failed={count['failed']}{skipped}"


def main() -> int:
    tally = Tally()
    code = pytest.main([str(Path(__file__).parent), *sys.argv[1:]], plugins=[tally])
    print(*tally.table(), tally.line(), sep="\n")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
