"""What becomes of each arrival, decided before anything is written. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct

from echo_ingest.journal.entries import checksum, properties_text
from echo_ingest.record import (
    DUPLICATE,
    STORED,
    Identity,
    Message,
    Rejected,
    message_key,
    payload_hash,
)

Arrival = tuple[Message, Identity | Rejected]
Row = tuple[object, ...]


class AppendPlan(Struct):
    """One transaction, before it is written."""

    outcomes: list[str]
    """For each arrival `STORED`, `DUPLICATE`, or why it is a dead letter."""
    records: list[Row]
    dead_letters: list[Row]
    opened: Counter[bytes]
    """Digests stored that a redelivery could not be told from by its key."""
    answered: Counter[bytes]
    """Digests of redeliveries that an earlier stored one answers for."""


def plan(
    arrivals: Sequence[Arrival],
    first_offset: int,
    stored: Mapping[bytes, bytes],
    unacknowledged: Counter[bytes],
) -> AppendPlan:
    """Decide on a batch whose first record would get `first_offset`.

    `stored` has the keys known to be in the journal, with their digests; `unacknowledged` what
    `opened` says, for all that the broker may still redeliver.
    """
    made = AppendPlan([], [], [], Counter(), Counter())
    digests = dict(stored)
    offset = first_offset
    outcome: str
    for message, verdict in arrivals:
        digest = payload_hash(message)
        if type(verdict) is Rejected:
            outcome, identified = verdict.reason, False
        else:
            outcome, identified = STORED, verdict.is_certain
            kind, key = verdict.kind, message_key(message, verdict, digest, offset)
            known = digests.get(key)
            if known == digest:
                outcome = DUPLICATE
            elif known is not None:
                outcome = f"the id {verdict.message_id!r:.80} was used before, for another message"
                identified = False
        if not identified:
            if message.redelivered and unacknowledged[digest] > made.answered[digest]:
                made.answered[digest] += 1
                made.outcomes.append(DUPLICATE)
                continue
            made.opened[digest] += 1
        if outcome == STORED:
            digests[key] = digest
            made.records.append(_record_row(offset, key, digest, message, kind))
            offset += 1
        elif outcome != DUPLICATE:
            made.dead_letters.append(_dead_letter_row(digest, message, outcome))
        made.outcomes.append(outcome)
    return made


def _record_row(offset: int, key: bytes, digest: bytes, message: Message, kind: str) -> Row:
    columns = (
        offset,
        key,
        None if key.endswith(digest) else digest,
        message.received_at_ms,
        kind,
        message.node,
        message.topic,
        properties_text(message),
    )
    return (*columns, message.payload, checksum(columns))


def _dead_letter_row(digest: bytes, message: Message, reason: str) -> Row:
    columns = (
        digest,
        message.received_at_ms,
        message.node,
        message.topic,
        properties_text(message),
        reason,
    )
    return (*columns, message.payload, checksum(columns))
