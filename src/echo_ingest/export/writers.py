"""The formats of an export: how its tables are written as CSV, JSON Lines and Parquet.

There is a table for each kind of record, with the same columns in every format. Their names and
values come from `columns.py`; a new column that is not text needs its type here. docs/export.md
explains the columns.

CSV follows RFC 4180: UTF-8, commas, CRLF, and a header; times end with Z and decimals have points.
Text that a spreadsheet could run as a formula has apostrophes there (`formulas.py`): JSON Lines
and Parquet contain it unchanged. Numbers are never changed.

JSON Lines has one object per line, with the columns of its table as fields; unknown values are left
out.

Parquet is for R's arrow, pandas, Polars and DuckDB: its columns have types, and times are instants
in UTC. It is written in row groups, so that memory does not grow with the number of rows.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import IO, Any, Literal, cast

import msgspec
from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
from arro3.io import write_parquet as write_batches
from msgspec import Struct

from echo_ingest.columns import COLUMNS as FLAT
from echo_ingest.columns import Row, flat
from echo_ingest.export import formulas
from echo_ingest.formatting import utc
from echo_ingest.journal import Entry
from echo_ingest.journal.entries import up_to_bytes
from echo_ingest.record import AnyRecord, kind, record_key

ROW_GROUP_ROWS = 100_000
ROW_GROUP_BYTES = 64 * 1024 * 1024
"""A row group is in memory until it is complete, and a topic alone may have 64 kB."""
BATCH_ROWS = 10_000
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# ---------------------------------------------------------------------- columns and rows


ColumnType = Literal["text", "whole", "number", "truth", "time", "json"]
"""`whole` is a whole number; `json` is a nested value, which becomes JSON text if need be."""

COLUMN_TYPES: dict[str, ColumnType] = {
    **dict.fromkeys(("observed_at", "received_at", "booted_at", "ends_at"), "time"),
    **dict.fromkeys(("offset", "index", "sample_rate_hz", "clip_size_bytes"), "whole"),
    **dict.fromkeys(("clip_sample_rate_hz", "clip_channels"), "whole"),
    **dict.fromkeys(("alternatives", "clip_metadata"), "json"),
    "external_power": "truth",
    **dict.fromkeys(("confidence", "value", "clip_duration_seconds", "uptime_seconds"), "number"),
}
"""The types of columns whose names do not end with a unit."""
NUMBER_ENDINGS = ("latitude", "longitude", "_metres", "_percent", "_celsius", "low_hz", "high_hz")


class TableColumn(Struct, frozen=True):
    """A column of a table."""

    name: str
    type: ColumnType


def _column(name: str) -> TableColumn:
    return TableColumn(
        name, COLUMN_TYPES.get(name, "number" if name.endswith(NUMBER_ENDINGS) else "text")
    )


def _columns(of_kind: str, names: tuple[str, ...]) -> tuple[TableColumn, ...]:
    audio = ("audio_path",) if of_kind in ("detection", "recording") else ()
    journal = ("received_at", "topic", "offset", "index", "key")
    return tuple(map(_column, ("kind", *names, *audio, *journal)))


COLUMNS = {of_kind: _columns(of_kind, names) for of_kind, names in FLAT.items()}
"""Kind of record → its columns, in the order of `row`."""
NAMES = {of_kind: tuple(each.name for each in columns) for of_kind, columns in COLUMNS.items()}


def row(entry: Entry, index: int, record: AnyRecord, audio_path: str | None) -> Row:
    """Return the values of a record for the `COLUMNS` of its kind; None means unknown.

    `index` is its place in the message.
    """
    of_kind = kind(record)
    audio = (audio_path,) if "audio_path" in NAMES[of_kind] else ()
    received_at = utc(entry.message.received_at_ms)
    key = record_key(entry.key, index).hex()
    journal = (received_at, entry.message.topic, entry.offset, index, key)
    return (of_kind, *flat(record), *audio, *journal)


def named(row: Row) -> dict[str, Any]:
    """Return a row as a mapping from column name to value."""
    return dict(zip(NAMES[str(row[0])], row, strict=True))


def iso_utc(when: datetime) -> str:
    """Format a time as ISO 8601 in UTC with microseconds: always as long, so that it sorts."""
    return when.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


# ---------------------------------------------------------------------- CSV


class CsvTable:
    """A CSV table that is written row by row, after its header."""

    def __init__(self, file: IO[bytes], columns: Sequence[TableColumn]) -> None:
        self._converters = [CSV_CONVERTERS[column.type] for column in columns]
        self._writer = csv.writer(_Utf8(file))
        self._names = [column.name for column in columns]
        self._writer.writerow(self._names)

    def add(self, row: Row) -> None:
        """Write one row; None becomes an empty field."""
        self._writer.writerow(
            None if value is None else convert(value)
            for convert, value in zip(self._converters, row, strict=True)
        )

    def add_named(self, fields: Mapping[str, object]) -> None:
        """Write one row; columns that are not in `fields` stay empty."""
        self.add(tuple(map(fields.get, self._names)))


class _Utf8:
    """The file that the csv module writes text to."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())


def write_csv(file: IO[bytes], columns: Sequence[TableColumn], rows: Iterable[Row]) -> None:
    """Write a header and all `rows`."""
    table = CsvTable(file, columns)
    for row in rows:
        table.add(row)


def json_text(value: object) -> str:
    """Return a nested value as JSON text."""
    return msgspec.json.encode(value).decode()


def word(truth: bool) -> str:
    """Return a truth value as R, spreadsheets and Camtrap DP write it."""
    return "true" if truth else "false"


def _unchanged(value: object) -> object:
    return value


def _json_without_formulas(value: object) -> str:
    return formulas.in_json(json_text(value))


CSV_CONVERTERS: dict[ColumnType, Callable[[Any], object]] = {
    "text": formulas.escaped,
    "whole": _unchanged,
    "number": _unchanged,
    "truth": word,
    "time": iso_utc,
    "json": _json_without_formulas,
}
"""How a value of each type becomes text; the csv module adds the quotes."""


# ---------------------------------------------------------------------- JSON Lines


def write_json_lines(file: IO[bytes], columns: Sequence[TableColumn], rows: Iterable[Row]) -> None:
    """Write each of `rows` as a line."""
    for row in rows:
        file.write(json_line(columns, row))


def json_line(columns: Sequence[TableColumn], row: Row) -> bytes:
    """Return one row as a line."""
    fields = {
        column.name: iso_utc(value) if isinstance(value, datetime) else value
        for column, value in zip(columns, row, strict=True)
        if value is not None
    }
    return msgspec.json.encode(fields) + b"\n"


# ---------------------------------------------------------------------- Parquet


PARQUET_TYPES: dict[ColumnType, DataType] = {
    "text": DataType.utf8(),
    "whole": DataType.int64(),
    "number": DataType.float64(),
    "truth": DataType.bool(),
    "time": DataType.timestamp("us", tz="UTC"),
    "json": DataType.utf8(),
}


def write_parquet(
    file: IO[bytes], columns: Sequence[TableColumn], rows: Iterable[Row], row_bytes_max: int = 1
) -> None:
    """Write all `rows` as a Parquet file; `row_bytes_max` is about the size of the largest."""
    schema = Schema([Field(column.name, PARQUET_TYPES[column.type]) for column in columns])
    output = _ParquetOutput(file)
    try:
        write_batches(
            RecordBatchReader.from_batches(schema, output.guarded(_batches(schema, columns, rows))),
            cast(IO[bytes], output),
            compression="zstd(3)",
            max_row_group_size=max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES // row_bytes_max)),
            created_by="echo-ingest",
        )
    except BaseException as error:
        raise output.error or error from None
    if output.error is not None:
        raise output.error


class _ParquetOutput:
    """Keeps an error of either side, because arro3 hides it in another error or panics."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            if self.error is None:
                self._file.write(data)
        except OSError as error:
            self.error = error
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def flush(self) -> None:
        """Do nothing: the code that opened the file flushes it."""

    def guarded(self, batches: Iterator[RecordBatch]) -> Iterator[RecordBatch]:
        try:
            while self.error is None and (batch := next(batches, None)) is not None:
                yield batch
        except BaseException as error:
            self.error = error
            raise


def _batches(
    schema: Schema, columns: Sequence[TableColumn], rows: Iterable[Row]
) -> Iterator[RecordBatch]:
    ordered = iter(rows)
    while batch_rows := list(up_to_bytes(islice(ordered, BATCH_ROWS), _text_bytes)):
        values = zip(*batch_rows, strict=True)
        arrays = [_array(column, each) for column, each in zip(columns, values, strict=True)]
        yield RecordBatch.from_arrays(arrays, schema=schema)


def _text_bytes(row: Row) -> int:
    return sum([len(value) for value in row if isinstance(value, str)])


def _array(column: TableColumn, values: tuple[Any, ...]) -> Array:
    match column.type:
        case "time":
            whole = [None if each is None else (each - EPOCH) // MICROSECOND for each in values]
            return Array(whole, DataType.int64()).cast(PARQUET_TYPES["time"])
        case "json":
            return Array(
                [None if each is None else json_text(each) for each in values],
                PARQUET_TYPES["json"],
            )
        case "number":
            return Array(
                [None if each is None else float(each) for each in values],
                PARQUET_TYPES["number"],
            )
        case _:
            return Array(values, PARQUET_TYPES[column.type])
