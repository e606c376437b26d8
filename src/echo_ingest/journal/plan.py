"""What becomes of each arrival, decided before anything is written. Pure."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, structs

from echo_ingest.decode.forms import DecodedByForm, Form, Forms
from echo_ingest.decode.forms import differ_only_in_time as records_differ_only_in_time
from echo_ingest.decode.rules import Rules
from echo_ingest.decode.same_message import differ_only_in_time
from echo_ingest.journal.entries import (
    checksum,
    dead_letter_checksum,
    properties_text,
    record_checksum,
)
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    DeadLetter,
    Duplicate,
    Identity,
    Ignored,
    Message,
    Outcome,
    Rejected,
    Stored,
    Unclaimed,
    key_with_time,
    message_key,
    node_of,
    payload_hash,
)

Arrival = tuple[Message, Identity | Rejected | Ignored | Unclaimed]
Row = tuple[object, ...]


class StoredKey(Struct, frozen=True, gc=False):
    """What is stored under a key."""

    digest: bytes
    offset: int
    message: Message | None = None
    """The message, if it is one of the same batch."""


class AppendPlan(Struct):
    """One transaction, before it is written."""

    first_offset: int
    """The offset of the first record, if there is one."""
    outcomes: list[Outcome]
    """One for each arrival, in order."""
    records: list[Row]
    dead_letters: list[Row]
    duplicates: int
    ignored: Counter[str]
    """By the names of the forms that say so."""
    unclaimed: list[Message]
    opened: Counter[bytes]
    """Digests stored that a redelivery could not be told from by its key."""
    answered: Counter[bytes]
    """Digests of redeliveries that an earlier stored message answers for."""


class Known(Struct, frozen=True):
    """What the journal is known to hold before a batch."""

    read: Callable[[int], Message]
    """Returns the message at an offset."""
    keys: Mapping[bytes, StoredKey] = {}
    """Records by their keys."""
    keys_with_time: Mapping[bytes, StoredKey] = {}
    """Records of earlier versions that have an id, by their keys (`key_with_time`)."""
    forms: Mapping[str, int] = {}
    """The rows of the forms that messages of the batch are in, by their digests."""


def plan(
    arrivals: Sequence[Arrival],
    first_offset: int,
    journal: Known,
    unacknowledged: Counter[bytes],
) -> AppendPlan:
    """Decide on a batch whose first record would get `first_offset`.

    `unacknowledged` is what `opened` says, for all that the broker may still redeliver.
    """
    planned = AppendPlan(first_offset, [], [], [], 0, Counter(), [], Counter(), Counter())
    known_keys, keys_with_time = dict(journal.keys), journal.keys_with_time
    offset = first_offset
    outcome: Outcome
    for message, decoded in arrivals:
        digest = payload_hash(message)
        if type(decoded) is Rejected:
            outcome, is_certain = DeadLetter(decoded), False
        elif type(decoded) is Ignored or type(decoded) is Unclaimed:
            outcome, is_certain = decoded, False
        else:
            outcome, is_certain = Stored(offset), decoded.is_certain
            key = message_key(message, decoded, digest, offset)
            first = known_keys.get(key)
            if keys_with_time and decoded.message_id is not None:
                first = keys_with_time.get(key_with_time(message, decoded), first)
            if first is not None:
                if _is_same(message, decoded, digest, first, journal):
                    outcome = Duplicate(first.offset)
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
            assert type(decoded) is Identity
            known_keys[key] = StoredKey(digest, offset, message)
            planned.records.append(_record_row(offset, key, digest, message, decoded, journal))
            offset += 1
        elif type(outcome) is DeadLetter:
            planned.dead_letters.append(_dead_letter_row(digest, message, outcome.rejected))
        elif type(outcome) is Ignored:
            planned.ignored[outcome.form] += 1
        elif type(outcome) is Unclaimed:
            planned.unclaimed.append(message)
        else:
            planned.duplicates += 1
    return planned


def _is_same(
    message: Message, identity: Identity, digest: bytes, first: StoredKey, journal: Known
) -> bool:
    """Return whether a message is the same as the first one that was stored under its key.

    Without an id its content is in the key. User properties are not in the digest.
    """
    if first.digest == digest and (identity.message_id is None or not message.properties):
        return True
    stored = journal.read(first.offset) if first.message is None else first.message
    form = identity.form
    if not isinstance(form, Form):
        return differ_only_in_time(stored, message)
    # By the form of now: that of before may have been edited since.
    as_first, as_new = _by_form(form, stored, identity), _by_form(form, message, identity)
    return (
        as_first is not None
        and as_new is not None
        and records_differ_only_in_time(as_first, as_new)
    )


def _by_form(form: Form, message: Message, identity: Identity) -> DecodedByForm | None:
    """Return what a form makes of one of two messages with the same identity.

    Where the form does not name the node, it may be the gateway: another one for each of the two.
    """
    alike = structs.replace(message, node=node_of(message, identity))
    decoded = Forms.decoded_as(form, alike, Rules(), hashed=True)
    return decoded if isinstance(decoded, DecodedByForm) else None


def _id_reused(identity: Identity) -> Rejected:
    return Rejected(
        ReasonCode.ID_REUSED,
        f"the id {identity.message_id!r:.80} was used before, for another message",
        field="id",
    )


def _record_row(
    offset: int, key: bytes, digest: bytes, message: Message, identity: Identity, journal: Known
) -> Row:
    columns = (
        offset,
        key,
        None if key.endswith(digest) else digest,
        message.received_at_ms,
        identity.kind,
        identity.node or message.node,
        message.topic if message.account is None else message.full_topic,
        properties_text(message),
    )
    if identity.form is None:
        return (*columns, message.payload, checksum(columns), None)
    form = journal.forms[identity.form.digest]
    return (*columns, message.payload, record_checksum(columns, form), form)


def _dead_letter_row(digest: bytes, message: Message, rejected: Rejected) -> Row:
    columns = (
        digest,
        message.received_at_ms,
        message.node,
        message.full_topic,
        properties_text(message),
        rejected.render(),
    )
    code, field = rejected.code.value, rejected.field
    return (*columns, message.payload, dead_letter_checksum(columns, code, field), code, field)
