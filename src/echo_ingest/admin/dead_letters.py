"""Retrying messages that were rejected, and records that a sink refused; discarding the former.

Dead letters are decoded again with this version, and those that are valid now are stored. Parked
records are only marked: the running service then offers them to their sink again.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from msgspec import Struct

from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal, decoding
from echo_ingest.journal.entries import DeadLetterEntry
from echo_ingest.journal.reader import Parked
from echo_ingest.record import DeadLetter, Identity, Ignored, Outcome, Rejected

DAMAGED = Rejected(decoding.DAMAGED.code, decoding.DAMAGED.detail)
REQUEST_OFFSETS = 1_000
"""How many parked records are marked in one transaction."""
DISCARDED_AT_ONCE = 1_000


class Gone(Struct, frozen=True):
    """Outcome of a replay: the dead letter had been replayed already."""


class Preview(Struct, frozen=True):
    """What would become of dead letters now."""

    valid: int
    ignored: int
    rejected: Counter[Rejected]


def decode_again(dead_letter: DeadLetterEntry, decoder: Decoder) -> Identity | Rejected | Ignored:
    """Return the result of decoding a dead letter with this version."""
    return DAMAGED if dead_letter.damaged else decoder.identify(dead_letter.message)


def preview(dead_letters: Iterable[DeadLetterEntry], decoder: Decoder) -> Preview:
    """Count the dead letters that are valid or ignored now, and the reasons of the others."""
    valid, ignored, rejected = 0, 0, Counter[Rejected]()
    for dead_letter in dead_letters:
        decoded = decode_again(dead_letter, decoder)
        if isinstance(decoded, Rejected):
            rejected[decoded] += 1
        elif isinstance(decoded, Ignored):
            ignored += 1
        else:
            valid += 1
    return Preview(valid, ignored, rejected)


def replay(
    journal: Journal, dead_letters: Iterable[DeadLetterEntry], decoder: Decoder
) -> Iterator[Outcome | Gone]:
    """Decode each dead letter again, store it if it is valid, and yield the outcome."""
    for dead_letter in dead_letters:
        decoded = decode_again(dead_letter, decoder)
        if isinstance(decoded, Rejected):
            yield DeadLetter(decoded)
            continue
        try:
            yield journal.replay_dead_letter(dead_letter.id, dead_letter.message, decoded)
        except KeyError:
            yield Gone()


def discard(journal: Journal, numbers: Iterable[int]) -> Iterator[int]:
    """Remove dead letters for good, in short transactions; yield for each how many there were."""
    ids = iter(numbers)
    while batch := list(islice(ids, DISCARDED_AT_ONCE)):
        yield journal.discard_dead_letters(batch, time.time_ns() // 1_000_000)


def request_replay(journal: Journal, chosen: Iterable[Parked]) -> Iterator[int]:
    """Mark parked records to be offered again, in short transactions.

    Yields for each transaction the number of records that were marked now and not before.
    """
    rows = iter(chosen)
    while batch := list(islice(rows, REQUEST_OFFSETS)):
        yield sum(
            journal.request_replay(name, [each.offset for each in batch if each.sink == name])
            for name in {each.sink for each in batch}
        )
