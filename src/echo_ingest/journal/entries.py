"""Rows of the `record` and `dead_letter` tables as data, and how a damaged row is recognised.

A disk may return other bytes than were stored. A hash covers the payload and its topic, a checksum
all other columns, so a row that has changed is `damaged` and never taken for what the device sent.
Columns are read as bytes for the same reason: reading them must not fail.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, structs

from echo_ingest.reasons import ReasonCode
from echo_ingest.record import PROPERTIES_BYTES_MAX, Message, memory_bytes, payload_hash

ENTRY_COLUMNS = (
    "offset, CAST(key AS BLOB), CAST(digest AS BLOB), CAST(received_at_ms AS INTEGER),"
    " CAST(kind AS BLOB), CAST(node AS BLOB), CAST(topic AS BLOB), CAST(properties AS BLOB),"
    " CAST(payload AS BLOB), checksum, form,"
    " (SELECT CAST(digest AS BLOB) FROM form WHERE id = record.form)"
)
DEAD_LETTER_COLUMNS = (
    "id, CAST(digest AS BLOB), CAST(received_at_ms AS INTEGER), CAST(node AS BLOB),"
    " CAST(topic AS BLOB), CAST(properties AS BLOB), CAST(reason AS BLOB), CAST(payload AS BLOB),"
    " checksum, CAST(code AS BLOB), CAST(field AS BLOB)"
)
FORM_GONE = "gone"
"""In the place of the digest of a form that a damaged journal does not have any more."""
TIME_MS_MAX = 253_402_300_799_999  # the end of the year 9999
PROPERTIES_CHARACTERS_MAX = 6 * PROPERTIES_BYTES_MAX
"""As JSON: a control character, which is one byte in MQTT, is six characters there."""
READ_BYTES_MAX = 8 * 1024 * 1024
"""How much is read at once, in memory; a single row may be larger."""

Row = tuple[Any, ...]
T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode


class Entry(Struct, frozen=True, gc=False):
    """A stored message, as read for a sink or a reader."""

    offset: int
    key: bytes
    message: Message
    damaged: bool
    """Whether its hash or its checksum differs from what was stored."""


class DeadLetterEntry(Struct, frozen=True):
    """A message that was never valid, as it came, and the reason."""

    id: int
    reason: str
    message: Message
    damaged: bool
    """As in an `Entry`."""
    code: str | None = None
    """The `ReasonCode`; None in a journal of version 1."""
    field: str | None = None
    """The field that the reason is about, if it is about one."""


def checksum(columns: Row) -> int:
    """Return the CRC-32 of columns in their order; not of the payload, whose hash is among them."""
    return zlib.crc32(_encode(columns))


def record_checksum(columns: Row, form: int | None) -> int:
    """CRC-32 of a record's columns; our own dialects, and all before version 5, have no form."""
    return checksum(columns if form is None else (*columns, form))


def dead_letter_checksum(columns: Row, code: str | None, field: str | None) -> int:
    """CRC-32 of a dead letter's columns; those of version 1 had neither code nor field."""
    return checksum(columns if code is None else (*columns, code, field))


def to_entry(row: Row) -> Entry:
    """Make an `Entry` of the `ENTRY_COLUMNS` of a row."""
    offset, key, digest, received_at_ms, kind, *texts, payload, expected, form, of_form = row
    node, topic, properties = map(text_of, texts)
    columns = (offset, key, digest, received_at_ms, text_of(kind), node, topic, properties)
    hashed = digest if digest is not None else (key or b"")[4:]
    is_whole = record_checksum(columns, form) == expected
    message, damaged = _message(topic, payload, received_at_ms, node, properties, hashed, is_whole)
    pinned = "" if form is None else text_of(of_form) or FORM_GONE
    return Entry(offset, key or b"", structs.replace(message, form=pinned), damaged)


def to_dead_letter(row: Row) -> DeadLetterEntry:
    """Make a `DeadLetterEntry` of the `DEAD_LETTER_COLUMNS` of a row."""
    number, digest, received_at_ms, *texts, payload, expected, code, field = row
    node, topic, properties, reason, code, field = map(text_of, (*texts, code, field))
    columns = (digest, received_at_ms, node, topic, properties, reason)
    is_whole = dead_letter_checksum(columns, code, field) == expected
    message, damaged = _message(topic, payload, received_at_ms, node, properties, digest, is_whole)
    if code == ReasonCode.PROPERTIES_TOO_LARGE:
        message = structs.replace(message, properties_cut=True)
    return DeadLetterEntry(number, reason or "", message, damaged, code, field)


def entry_bytes(entry: Entry | DeadLetterEntry) -> int:
    """Return about how much memory an entry takes."""
    return memory_bytes(entry.message)


def up_to_bytes(
    rows: Iterable[T], bytes_of: Callable[[T], int], bytes_max: int = READ_BYTES_MAX
) -> Iterator[T]:
    """Yield rows until they take about `bytes_max` bytes of memory, at least one."""
    size_bytes = 0
    for row in rows:
        yield row
        size_bytes += bytes_of(row)
        if size_bytes >= bytes_max:
            return


def _message(
    topic: str | None,
    payload: bytes | None,
    received_at_ms: int | None,
    node: str | None,
    properties: str | None,
    hashed: bytes | None,
    is_whole: bool,
) -> tuple[Message, bool]:
    """Return the message, and whether it is damaged; of a damaged one, as much as can be shown."""
    if is_whole:
        assert topic is not None and received_at_ms is not None
        # Earlier versions stored properties of any size, and these would fill the memory.
        cut = properties is not None and len(properties) > PROPERTIES_CHARACTERS_MAX
        message = Message(
            topic,
            payload or b"",
            received_at_ms,
            node,
            () if cut else properties_of(properties),
            properties_cut=cut,
        )
        return message, payload_hash(message) != hashed
    shown_ms = received_at_ms if 0 <= (received_at_ms or 0) <= TIME_MS_MAX else 0
    return Message(topic or "", payload or b"", shown_ms or 0, node), True


def text_of(column: bytes | None) -> str | None:
    """Return a column of text that was read as bytes, even if it is not text any more."""
    return column.decode(errors="replace") if column is not None else None


def properties_text(message: Message) -> str | None:
    """Return the user properties as their column holds them."""
    return msgspec.json.encode(message.properties).decode() if message.properties else None


def properties_of(text: str | None) -> tuple[tuple[str, str], ...]:
    """Return the user properties that a column holds."""
    if text is None:
        return ()
    return msgspec.json.decode(text, type=tuple[tuple[str, str], ...])
