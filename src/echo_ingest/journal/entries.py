"""A row of the `record` table, as data."""

import msgspec
from msgspec import Struct

from echo_ingest.record import Message, payload_hash

ENTRY_COLUMNS = "offset, key, digest, received_at_ms, node, topic, properties, payload"


class Entry(Struct, frozen=True, gc=False):
    """A stored message, as read for a sink or a reader."""

    offset: int
    key: bytes
    message: Message
    damaged: bool
    """The payload is not what was stored: its hash differs."""


def to_entry(row: tuple[object, ...]) -> Entry:
    """An `Entry` from the `ENTRY_COLUMNS` of a row, its payload compared with its hash."""
    offset, key, digest, received_at_ms, node, topic, properties, payload = row
    assert isinstance(key, bytes)
    message = Message(
        topic=topic,  # type: ignore[arg-type]
        payload=payload,  # type: ignore[arg-type]
        received_at_ms=received_at_ms,  # type: ignore[arg-type]
        node=node,  # type: ignore[arg-type]
        properties=properties_of(properties),  # type: ignore[arg-type]
    )
    damaged = payload_hash(message) != (key[4:] if digest is None else digest)
    return Entry(offset, key, message, damaged)  # type: ignore[arg-type]


def properties_text(message: Message) -> str | None:
    """User properties for their column."""
    return msgspec.json.encode(message.properties).decode() if message.properties else None


def properties_of(text: str | None) -> tuple[tuple[str, str], ...]:
    """User properties from their column."""
    if text is None:
        return ()
    return msgspec.json.decode(text, type=tuple[tuple[str, str], ...])
