"""`python -m tests.sinks`: the contract of every sink; further arguments go to pytest."""

import sys
from pathlib import Path

import pytest

from tests.tally import Tally


class Sinks(Tally):
    """The tally, and which sinks were really tested."""

    def __init__(self) -> None:
        super().__init__()
        self.sinks: set[str] = set()

    def called(self, report: pytest.TestReport) -> None:
        _, _, parameters = report.nodeid.partition("[")
        self.sinks.add(parameters.partition(".")[0])


def main() -> int:
    tally = Sinks()
    code = pytest.main([str(Path(__file__).parent), *sys.argv[1:]], plugins=[tally])
    print(f"sinks={len(tally.sinks)} {tally.counts('passed', 'failed', 'skipped')}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
