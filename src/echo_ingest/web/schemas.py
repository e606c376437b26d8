"""What the read API shows of records, dead letters and parked records, and how it is built."""

from datetime import date, datetime

from msgspec import Struct

from echo_ingest.decode import Decoder
from echo_ingest.formatting import utc
from echo_ingest.journal import Entry
from echo_ingest.journal.decoding import Unreadable, decode_entry, selected
from echo_ingest.journal.entries import DeadLetterEntry
from echo_ingest.journal.node_days import NodeDay
from echo_ingest.journal.reader import Parked, Selection
from echo_ingest.record import AnyRecord, memory_bytes, record_key
from echo_ingest.sinks import clips

EVERYTHING = Selection()


class StoredRecord(Struct, frozen=True):
    """One record, decoded from the message as it came."""

    offset: int
    """The place of its message in the journal: 1, 2, 3 … in order of arrival."""
    index: int
    """Its place among the records of the message: 0, 1, 2 …"""
    key: str
    """Hex; the same record of the same message always gets the same key."""
    received_at: datetime
    topic: str
    record: AnyRecord | None
    """Null if it cannot be decoded; `problem` says why."""
    problem: str | None
    audio_reference: str | None
    """Where else its clip is kept, such as `s3://bucket/audio/…`; null if only here."""


class RecordPage(Struct, frozen=True):
    """Records, newest first; those of one message in their order there, all on one page."""

    records: list[StoredRecord]
    next: int | None
    """The `before` of the next page; null at the end."""


class DeadMessage(Struct, frozen=True):
    """A message that was never valid, and why."""

    id: int
    reason: str
    received_at: datetime
    node: str | None
    topic: str
    properties: tuple[tuple[str, str], ...]
    size_bytes: int


class DeadLetterPage(Struct, frozen=True):
    """Dead letters in order of arrival."""

    dead_letters: list[DeadMessage]
    next: int | None
    """The `after` of the next page; null at the end."""


class RefusedRecord(Struct, frozen=True):
    """A record that one sink refused, and why."""

    sink: str
    offset: int
    reason: str
    parked_at: datetime
    attempts: int
    replay_requested: bool
    node: str | None
    topic: str
    size_bytes: int


class ParkedPage(Struct, frozen=True):
    """Parked records, by sink and offset."""

    parked: list[RefusedRecord]
    total: int
    """The number of all parked records, wherever this page begins."""


class NodeOnDay(Struct, frozen=True):
    """What a node sent on one day; the terms add up as those of the whole ledger do."""

    node: str | None
    """Null for messages whose topic names none."""
    day: date
    """The day of receipt, in UTC."""
    received: int
    stored: int
    duplicates: int
    dead_letters: int
    ignored: int
    unclaimed: int
    discarded: int
    received_bytes: int
    first_heard_at: datetime
    last_heard_at: datetime


class NodeDays(Struct, frozen=True):
    """The ledger by node and day, the newest days first."""

    nodes: list[NodeOnDay]
    more: bool
    """There are more than fit into one answer: name a node, or a later `since`."""


def stored_records(
    entry: Entry,
    decoder: Decoder,
    place: str | None,
    selection: Selection = EVERYTHING,
) -> list[StoredRecord]:
    """Decode the selected records of `entry` again, or say why they cannot be decoded.

    `place` keeps their clips, if any.
    """
    decoded = decode_entry(decoder, entry)
    if isinstance(decoded, Unreadable):
        return [_stored(entry, 0, None, decoded.render(), None)]
    return [
        _stored(
            entry,
            index,
            record,
            None,
            clips.reference(place, record) if place is not None else None,
        )
        for index, record in selected(selection, decoded)
    ]


def _stored(
    entry: Entry,
    index: int,
    record: AnyRecord | None,
    problem: str | None,
    audio_reference: str | None,
) -> StoredRecord:
    message = entry.message
    return StoredRecord(
        offset=entry.offset,
        index=index,
        key=record_key(entry.key, index).hex(),
        received_at=utc(message.received_at_ms),
        topic=message.topic,
        record=record,
        problem=problem,
        audio_reference=audio_reference,
    )


def dead_message(dead_letter: DeadLetterEntry) -> DeadMessage:
    """Return `dead_letter` without its payload."""
    message = dead_letter.message
    return DeadMessage(
        id=dead_letter.id,
        reason=dead_letter.reason,
        received_at=utc(message.received_at_ms),
        node=message.node,
        topic=message.topic,
        properties=message.properties,
        size_bytes=len(message.payload),
    )


def dead_message_bytes(dead_letter: DeadLetterEntry) -> int:
    """Return about how much memory `dead_message` keeps."""
    return memory_bytes(dead_letter.message) - len(dead_letter.message.payload)


def refused_record(parked: Parked) -> RefusedRecord:
    """Return `parked` with its time as a date."""
    return RefusedRecord(
        sink=parked.sink,
        offset=parked.offset,
        reason=parked.reason,
        parked_at=utc(parked.parked_at_ms),
        attempts=parked.attempts,
        replay_requested=parked.replay_requested,
        node=parked.node,
        topic=parked.topic,
        size_bytes=parked.size_bytes,
    )


def node_on_day(node_day: NodeDay) -> NodeOnDay:
    """Return `node_day` with its times as dates."""
    return NodeOnDay(
        node=node_day.node or None,
        day=node_day.day,
        received=node_day.received,
        stored=node_day.stored,
        duplicates=node_day.duplicates,
        dead_letters=node_day.dead_letters,
        ignored=node_day.ignored,
        unclaimed=node_day.unclaimed,
        discarded=node_day.discarded,
        received_bytes=node_day.received_bytes,
        first_heard_at=utc(node_day.first_heard_at_ms),
        last_heard_at=utc(node_day.last_heard_at_ms),
    )
