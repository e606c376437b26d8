"""What the read API shows of records, dead letters and parked records, and how it is made."""

from datetime import UTC, date, datetime

from msgspec import Struct

from echo_ingest.decode import Decoder
from echo_ingest.journal import Entry
from echo_ingest.journal.decoding import Unreadable, decode_entry
from echo_ingest.journal.entries import DeadLetterEntry
from echo_ingest.journal.node_days import NodeDay
from echo_ingest.journal.reader import Parked
from echo_ingest.record import AnyRecord
from echo_ingest.sinks import clips


class StoredRecord(Struct, frozen=True):
    """One record, decoded from the message as it came."""

    offset: int
    """Its place in the journal: 1, 2, 3 … in order of arrival."""
    key: str
    """Hex; the same message always gets the same key."""
    received_at: datetime
    topic: str
    record: AnyRecord | None
    """Null where `problem` says why."""
    problem: str | None
    audio_reference: str | None
    """Where its clip is kept besides, such as `s3://bucket/audio/…`; null if only here."""


class RecordPage(Struct, frozen=True):
    """Records, newest first."""

    records: list[StoredRecord]
    next: int | None
    """Give it as `before` to read on; null at the end."""


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
    """Give it as `after` to read on; null at the end."""


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
    """How many there are in all, wherever this page begins."""


class NodeOnDay(Struct, frozen=True):
    """What a node sent on one day: `received = stored + duplicates + dead_letters`."""

    node: str | None
    """Null for messages whose topic names none."""
    day: date
    """Of receipt, in UTC."""
    received: int
    stored: int
    duplicates: int
    dead_letters: int
    received_bytes: int
    first_heard_at: datetime
    last_heard_at: datetime


class NodeDays(Struct, frozen=True):
    """The ledger by node and day, the newest days first."""

    nodes: list[NodeOnDay]
    more: bool
    """There are more than one answer holds: name a node, or a later `since`."""


def stored_record(entry: Entry, decoder: Decoder, place: str | None) -> StoredRecord:
    """Decode `entry` again, or say why that cannot be done; `place` has its clip, if it has one."""
    message = entry.message
    decoded = decode_entry(decoder, entry)
    record = None if isinstance(decoded, Unreadable) else decoded
    problem = decoded.render() if isinstance(decoded, Unreadable) else None
    return StoredRecord(
        entry.offset,
        entry.key.hex(),
        _utc(message.received_at_ms),
        message.topic,
        record,
        problem,
        clips.reference(place, record) if place is not None and record is not None else None,
    )


def dead_message(dead_letter: DeadLetterEntry) -> DeadMessage:
    """Show `dead_letter` without its payload."""
    message = dead_letter.message
    return DeadMessage(
        dead_letter.id,
        dead_letter.reason,
        _utc(message.received_at_ms),
        message.node,
        message.topic,
        message.properties,
        len(message.payload),
    )


def refused_record(parked: Parked) -> RefusedRecord:
    """Show `parked` with its time as a date."""
    return RefusedRecord(
        parked.sink,
        parked.offset,
        parked.reason,
        _utc(parked.parked_at_ms),
        parked.attempts,
        parked.replay_requested,
        parked.node,
        parked.topic,
        parked.size_bytes,
    )


def node_on_day(node_day: NodeDay) -> NodeOnDay:
    """Show `node_day` with its times as dates."""
    return NodeOnDay(
        node_day.node or None,
        node_day.day,
        node_day.received,
        node_day.stored,
        node_day.duplicates,
        node_day.dead_letters,
        node_day.received_bytes,
        _utc(node_day.first_heard_at_ms),
        _utc(node_day.last_heard_at_ms),
    )


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
