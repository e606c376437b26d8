"""Parked records are offered to their sink again, by the service that runs."""

from collections.abc import Iterable, Iterator
from itertools import islice

from echo_ingest.journal import Journal
from echo_ingest.journal.reader import Parked

REQUEST_OFFSETS = 1_000


def request_replay(journal: Journal, chosen: Iterable[Parked]) -> Iterator[int]:
    """Ask for it in short transactions; of each, how many were parked and not asked for yet."""
    rows = iter(chosen)
    while some := list(islice(rows, REQUEST_OFFSETS)):
        yield sum(
            journal.request_replay(name, [each.offset for each in some if each.sink == name])
            for name in {each.sink for each in some}
        )
