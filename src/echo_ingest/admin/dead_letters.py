"""Replay what was rejected or refused.

Dead letters are decoded again, with this version; those that are valid now are stored. Parked
records are offered to their sink again, by the service that runs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from msgspec import Struct

from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal
from echo_ingest.journal.entries import DeadLetterEntry
from echo_ingest.journal.reader import Parked
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import DeadLetter, Identity, Outcome, Rejected

DAMAGED = Rejected(ReasonCode.DAMAGED, "damaged: the disk returns other bytes than were stored")
REQUEST_OFFSETS = 1_000
"""How many parked records are asked for in one transaction."""


class Gone(Struct, frozen=True):
    """Outcome of a replay: somebody else has replayed that dead letter."""


def decode_again(dead_letter: DeadLetterEntry, decoder: Decoder) -> Identity | Rejected:
    """Return what a replay would make of a dead letter now."""
    return DAMAGED if dead_letter.damaged else decoder.identify(dead_letter.message)


def preview(
    dead_letters: Iterable[DeadLetterEntry], decoder: Decoder
) -> tuple[int, Counter[Rejected]]:
    """Return how many dead letters are valid now, and why how many others are not."""
    valid, rejected = 0, Counter[Rejected]()
    for dead_letter in dead_letters:
        decoded = decode_again(dead_letter, decoder)
        if isinstance(decoded, Rejected):
            rejected[decoded] += 1
        else:
            valid += 1
    return valid, rejected


def replay(
    journal: Journal, dead_letters: Iterable[DeadLetterEntry], decoder: Decoder
) -> Iterator[Outcome | Gone]:
    """Try each dead letter again; those that stay give a `DeadLetter` that says why."""
    for dead_letter in dead_letters:
        decoded = decode_again(dead_letter, decoder)
        if isinstance(decoded, Rejected):
            yield DeadLetter(decoded)
            continue
        try:
            yield journal.replay_dead_letter(dead_letter.id, dead_letter.message, decoded)
        except KeyError:
            yield Gone()


def request_replay(journal: Journal, chosen: Iterable[Parked]) -> Iterator[int]:
    """Ask for parked records to be offered again, in short transactions.

    Yields for each transaction how many were parked, and not asked for before.
    """
    rows = iter(chosen)
    while some := list(islice(rows, REQUEST_OFFSETS)):
        yield sum(
            journal.request_replay(name, [each.offset for each in some if each.sink == name])
            for name in {each.sink for each in some}
        )
