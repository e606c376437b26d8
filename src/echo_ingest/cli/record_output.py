"""Records for programs: JSON Lines, and CSV with flat columns. Times are in UTC."""

import sys
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from echo_ingest.decode.times import received
from echo_ingest.export.csv_table import CsvTable
from echo_ingest.export.record_rows import COLUMNS, named, row
from echo_ingest.journal import Entry
from echo_ingest.journal.decoding import Unreadable
from echo_ingest.record import AnyRecord

Seen = tuple[Entry, AnyRecord | Unreadable]


def json_lines(seen: Iterable[Seen]) -> int:
    """JSON Lines: the record's fields and, before them, the journal's."""
    lines = 0
    for entry, record in seen:
        fields: dict[str, object] = {
            "offset": entry.offset,
            "key": entry.key.hex(),
            "received_at": received(entry.message.received_at_ms),
            "topic": entry.message.topic,
        }
        if entry.damaged:
            fields["damaged"] = True
        elif isinstance(record, Unreadable):
            fields["rejected"] = record.render()
        if not isinstance(record, Unreadable):
            fields |= msgspec.to_builtins(record, builtin_types=(datetime,))
        sys.stdout.write(msgspec.json.encode(fields).decode() + "\n")
        lines += 1
    sys.stdout.flush()
    return lines


CSV_COLUMNS = tuple(
    column
    for column in dict.fromkeys(each for columns in COLUMNS.values() for each in columns)
    if column.name != "audio_path"
)
"""Those of all kinds together."""


def csv_rows() -> Callable[[Iterable[Seen]], int]:
    """CSV: a header, then one flat row a record."""
    table = CsvTable(sys.stdout.buffer, CSV_COLUMNS)

    def show(seen: Iterable[Seen]) -> int:
        rows = 0
        for entry, record in seen:
            table.add_named(_fields(entry, record))
            rows += 1
        sys.stdout.flush()
        return rows

    return show


def _fields(entry: Entry, record: AnyRecord | Unreadable) -> dict[str, object]:
    if not isinstance(record, Unreadable):
        return named(row(entry, record, None))
    return {
        "kind": "?",
        "node": entry.message.node,
        "received_at": received(entry.message.received_at_ms),
        "topic": entry.message.topic,
        "offset": entry.offset,
        "key": entry.key.hex(),
    }
