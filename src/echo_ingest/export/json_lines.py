"""JSON Lines: one object a line, with the columns of its table; what is not known is not there."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import IO

import msgspec

from echo_ingest.columns import Row
from echo_ingest.export.record_rows import TableColumn, written


def write(file: IO[bytes], columns: Sequence[TableColumn], rows: Iterable[Row]) -> None:
    """Write all `rows`."""
    for row in rows:
        file.write(line(columns, row))


def line(columns: Sequence[TableColumn], row: Row) -> bytes:
    """One row."""
    fields = {
        column.name: written(value) if isinstance(value, datetime) else value
        for column, value in zip(columns, row, strict=True)
        if value is not None
    }
    return msgspec.json.encode(fields) + b"\n"
