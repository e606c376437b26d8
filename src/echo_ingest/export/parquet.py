"""Parquet, for R's arrow, pandas, Polars and DuckDB: typed columns, times as instants in UTC.

Written in row groups, so that memory stays the same however many rows there are.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import IO, Any, cast

from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
from arro3.io import write_parquet

from echo_ingest.columns import Row
from echo_ingest.export.csv_table import json_text
from echo_ingest.export.record_rows import TableColumn, Type

ROW_GROUP_ROWS = 100_000
BATCH_ROWS = 10_000
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TYPES: dict[Type, DataType] = {
    "text": DataType.utf8(),
    "whole": DataType.int64(),
    "number": DataType.float64(),
    "time": DataType.timestamp("us", tz="UTC"),
    "json": DataType.utf8(),
}


def write(file: IO[bytes], columns: Sequence[TableColumn], rows: Iterable[Row]) -> None:
    """Write all `rows`."""
    schema = Schema([Field(column.name, TYPES[column.type]) for column in columns])
    output = _ParquetOutput(file)
    try:
        write_parquet(
            RecordBatchReader.from_batches(schema, output.guarded(_batches(schema, columns, rows))),
            cast(IO[bytes], output),
            compression="zstd(3)",
            max_row_group_size=ROW_GROUP_ROWS,
            created_by="echo-ingest",
        )
    except BaseException as error:
        raise output.trouble or error from None
    if output.trouble is not None:
        raise output.trouble


class _ParquetOutput:
    """Keeps what goes wrong on either side: arro3 hides it in another error, or panics."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.trouble: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            if self.trouble is None:
                self._file.write(data)
        except OSError as error:
            self.trouble = error
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def flush(self) -> None:
        """Who opened the file does that."""

    def guarded(self, batches: Iterator[RecordBatch]) -> Iterator[RecordBatch]:
        try:
            while self.trouble is None and (batch := next(batches, None)) is not None:
                yield batch
        except BaseException as error:
            self.trouble = error
            raise


def _batches(
    schema: Schema, columns: Sequence[TableColumn], rows: Iterable[Row]
) -> Iterator[RecordBatch]:
    ordered = iter(rows)
    while some := list(islice(ordered, BATCH_ROWS)):
        values = zip(*some, strict=True)
        arrays = [_array(column, each) for column, each in zip(columns, values, strict=True)]
        yield RecordBatch.from_arrays(arrays, schema=schema)


def _array(column: TableColumn, values: tuple[Any, ...]) -> Array:
    match column.type:
        case "time":
            whole = [None if each is None else (each - EPOCH) // MICROSECOND for each in values]
            return Array(whole, DataType.int64()).cast(TYPES["time"])
        case "json":
            return Array(
                [None if each is None else json_text(each) for each in values], TYPES["json"]
            )
        case "number":
            return Array(
                [None if each is None else float(each) for each in values], TYPES["number"]
            )
        case _:
            return Array(values, TYPES[column.type])
