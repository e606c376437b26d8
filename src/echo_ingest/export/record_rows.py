"""Rows as people get them: one table for each kind of record, the same columns in every format.

docs/export.md says what each column means.
"""

from datetime import UTC, datetime
from typing import Any, Literal

from msgspec import Struct

from echo_ingest.columns import COLUMNS as FLAT
from echo_ingest.columns import Row, flat
from echo_ingest.decode.times import received
from echo_ingest.journal import Entry
from echo_ingest.record import AnyRecord, kind

Type = Literal["text", "whole", "number", "time", "json"]

TYPES: dict[str, Type] = {
    **dict.fromkeys(("observed_at", "received_at", "booted_at"), "time"),
    **dict.fromkeys(("offset", "sample_rate_hz", "clip_size_bytes"), "whole"),
    **dict.fromkeys(("clip_sample_rate_hz", "clip_channels"), "whole"),
    **dict.fromkeys(("alternatives", "clip_metadata"), "json"),
    **dict.fromkeys(("confidence", "clip_duration_seconds", "uptime_seconds"), "number"),
}
"""Of columns whose unit does not tell it."""
NUMBERS = ("latitude", "longitude", "_metres", "_percent", "_celsius")


class TableColumn(Struct, frozen=True):
    """A column of a table."""

    name: str
    type: Type
    """`whole` is a whole number; `json` what text holds as JSON where there is nothing better."""


def _column(name: str) -> TableColumn:
    return TableColumn(name, TYPES.get(name, "number" if name.endswith(NUMBERS) else "text"))


def _columns(of_kind: str, names: tuple[str, ...]) -> tuple[TableColumn, ...]:
    audio = ("audio_path",) if of_kind in ("detection", "recording") else ()
    journal = ("received_at", "topic", "offset", "key")
    return tuple(map(_column, ("kind", *names, *audio, *journal)))


COLUMNS = {of_kind: _columns(of_kind, names) for of_kind, names in FLAT.items()}
"""Kind of record → its columns, in the order of `row`."""
NAMES = {of_kind: tuple(each.name for each in columns) for of_kind, columns in COLUMNS.items()}


def row(entry: Entry, record: AnyRecord, audio_path: str | None) -> Row:
    """The values of one record in the `COLUMNS` of its kind; None for what is not known."""
    of_kind = kind(record)
    audio = (audio_path,) if "audio_path" in NAMES[of_kind] else ()
    received_at = received(entry.message.received_at_ms)
    journal = (received_at, entry.message.topic, entry.offset, entry.key.hex())
    return (of_kind, *flat(record), *audio, *journal)


def named(row: Row) -> dict[str, Any]:
    """A row as fields by name."""
    return dict(zip(NAMES[str(row[0])], row, strict=True))


def written(moment: datetime) -> str:
    """ISO 8601 in UTC to the microsecond, always of one length, so that text sorts as time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
