"""Replay what was rejected or refused.

Dead letters are decoded again, with this version; those that are valid now are stored. Parked
records are offered to their sink again, by the service that runs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from echo_ingest.decode import identify
from echo_ingest.journal import Journal
from echo_ingest.journal.entries import DeadLetter
from echo_ingest.journal.reader import Parked
from echo_ingest.record import Identity, Rejected

DAMAGED = Rejected("damaged: what the disk gives back is not what was stored")
GONE = "replayed by someone else"
REQUEST_OFFSETS = 1_000
"""How many parked records are asked for in one transaction."""


def verdict(letter: DeadLetter, payload_bytes_max: int) -> Identity | Rejected:
    """What would come of it now."""
    return DAMAGED if letter.damaged else identify(letter.message, payload_bytes_max)


def preview(letters: Iterable[DeadLetter], payload_bytes_max: int) -> Counter[str | None]:
    """What would come of a replay: how many are valid now (None), and why others are not."""
    return Counter(
        its.reason if isinstance(its, Rejected) else None
        for its in (verdict(letter, payload_bytes_max) for letter in letters)
    )


def replay(
    journal: Journal, letters: Iterable[DeadLetter], payload_bytes_max: int
) -> Iterator[str]:
    """Try each again; its outcome is `STORED`, `DUPLICATE`, `GONE`, or why it stays as it is."""
    for letter in letters:
        its = verdict(letter, payload_bytes_max)
        if isinstance(its, Rejected):
            yield its.reason
            continue
        try:
            yield journal.replay_dead_letter(letter.id, letter.message, its)
        except KeyError:
            yield GONE


def request_replay(journal: Journal, chosen: Iterable[Parked]) -> Iterator[int]:
    """Ask for it in short transactions; of each, how many were parked and not asked for yet."""
    rows = iter(chosen)
    while some := list(islice(rows, REQUEST_OFFSETS)):
        yield sum(
            journal.request_replay(name, [each.offset for each in some if each.sink == name])
            for name in {each.sink for each in some}
        )
