"""What becomes of each arrival, decided before anything is written. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct

from echo_ingest.journal.entries import checksum, dead_letter_checksum, properties_text
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    DeadLetter,
    Duplicate,
    Identity,
    Message,
    Outcome,
    Rejected,
    Stored,
    message_key,
    payload_hash,
)

Arrival = tuple[Message, Identity | Rejected]
Row = tuple[object, ...]


class StoredKey(Struct, frozen=True, gc=False):
    """What the journal holds under a key."""

    digest: bytes
    offset: int


class AppendPlan(Struct):
    """One transaction, before it is written."""

    outcomes: list[Outcome]
    """One for each arrival, in order."""
    records: list[Row]
    dead_letters: list[Row]
    duplicates: int
    opened: Counter[bytes]
    """Digests stored that a redelivery could not be told from by its key."""
    answered: Counter[bytes]
    """Digests of redeliveries that an earlier stored message answers for."""


def plan(
    arrivals: Sequence[Arrival],
    first_offset: int,
    stored: Mapping[bytes, StoredKey],
    unacknowledged: Counter[bytes],
) -> AppendPlan:
    """Decide on a batch whose first record would get `first_offset`.

    `stored` has the keys known to be in the journal; `unacknowledged` what `opened` says, for all
    that the broker may still redeliver.
    """
    planned = AppendPlan([], [], [], 0, Counter(), Counter())
    known_keys = dict(stored)
    offset = first_offset
    outcome: Outcome
    for message, decoded in arrivals:
        digest = payload_hash(message)
        if type(decoded) is Rejected:
            outcome, is_certain = DeadLetter(decoded), False
        else:
            outcome, is_certain = Stored(offset), decoded.is_certain
            kind, key = decoded.kind, message_key(message, decoded, digest, offset)
            known = known_keys.get(key)
            if known is not None:
                if known.digest == digest:
                    outcome = Duplicate(known.offset)
                else:
                    outcome, is_certain = DeadLetter(_id_reused(decoded)), False
        if not is_certain:
            if message.redelivered and unacknowledged[digest] > planned.answered[digest]:
                planned.answered[digest] += 1
                planned.outcomes.append(Duplicate())
                planned.duplicates += 1
                continue
            planned.opened[digest] += 1
        planned.outcomes.append(outcome)
        if type(outcome) is Stored:
            known_keys[key] = StoredKey(digest, offset)
            planned.records.append(_record_row(offset, key, digest, message, kind))
            offset += 1
        elif type(outcome) is DeadLetter:
            planned.dead_letters.append(_dead_letter_row(digest, message, outcome.rejected))
        else:
            planned.duplicates += 1
    return planned


def _id_reused(identity: Identity) -> Rejected:
    return Rejected(
        ReasonCode.ID_REUSED,
        f"the id {identity.message_id!r:.80} was used before, for another message",
        field="id",
    )


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


def _dead_letter_row(digest: bytes, message: Message, rejected: Rejected) -> Row:
    columns = (
        digest,
        message.received_at_ms,
        message.node,
        message.topic,
        properties_text(message),
        rejected.render(),
    )
    code, field = rejected.code.value, rejected.field
    return (*columns, message.payload, dead_letter_checksum(columns, code, field), code, field)
