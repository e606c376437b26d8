"""`python -m tests.browser`: the console in a real browser; further arguments go to pytest."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tally import Tally


class Pages(Tally):
    """And of which pages, and how quick they were."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: set[object] = set()
        self.figures: list[tuple[str, float, float, float, int]] = []

    def called(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == "page" and report.outcome == "passed":
                self.pages.add(value)
            if name == "figure" and isinstance(value, tuple):
                self.figures.append(value)

    def table(self) -> Iterator[str]:
        """How long the server took for pages of 10,000 nodes, and how large they were."""
        if self.figures:
            yield f"{'page':24} {'first ms':>9} {'median ms':>10} {'most ms':>8} {'kB':>6}"
        for page, *each_ms, size_bytes in self.figures:
            first, median, most = each_ms
            yield f"{page:24} {first:9.0f} {median:10.0f} {most:8.0f} {size_bytes / 1e3:6.0f}"


def main() -> int:
    tally = Pages()
    code = pytest.main([str(Path(__file__).parent), *sys.argv[1:]], plugins=[tally])
    print(*tally.table(), sep="\n")
    if tally.outcomes["skipped"]:
        print(tally.counts("skipped"))
    print(f"pages={len(tally.pages)} {tally.counts('passed', 'failed')}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
