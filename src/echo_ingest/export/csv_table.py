"""CSV as RFC 4180 has it: UTF-8, commas, CRLF, a header; times with Z, decimal points.

A spreadsheet takes text that begins with `=`, `+`, `-` or `@` for a formula and runs it, and what
devices send is not ours. Such text gets an apostrophe before it, here and nowhere else: JSON Lines
and Parquet hold it as it came. Numbers are never touched.
"""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any

import msgspec

from echo_ingest.columns import Row
from echo_ingest.export.record_rows import TableColumn, Type, written

FORMULA_OPENINGS = ("=", "+", "-", "@", "\t", "\r", "\n")


class CsvTable:
    """A table that grows row by row, from its header on."""

    def __init__(self, file: IO[bytes], columns: Sequence[TableColumn]) -> None:
        self._ways = [WAYS[column.type] for column in columns]
        self._writer = csv.writer(_Utf8(file))
        self._names = [column.name for column in columns]
        self._writer.writerow(self._names)

    def add(self, row: Row) -> None:
        """Write one row; None becomes an empty field."""
        cells = zip(self._ways, row, strict=True)
        self._writer.writerow([None if value is None else way(value) for way, value in cells])

    def add_named(self, fields: Mapping[str, object]) -> None:
        """Write one row; what `fields` does not have stays empty."""
        self.add(tuple(map(fields.get, self._names)))


class _Utf8:
    """What the csv module writes text to."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())


def write(file: IO[bytes], columns: Sequence[TableColumn], rows: Iterable[Row]) -> None:
    """Write a header and all `rows`."""
    table = CsvTable(file, columns)
    for row in rows:
        table.add(row)


def harmless(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA_OPENINGS) else text


def json_text(value: object) -> str:
    """A nested value as JSON."""
    return msgspec.json.encode(value).decode()


def _as_it_is(value: object) -> object:
    return value


WAYS: dict[Type, Callable[[Any], object]] = {
    "text": harmless,
    "whole": _as_it_is,
    "number": _as_it_is,
    "time": written,
    "json": json_text,
}
"""How a value of each type is written; the csv module does the quoting."""
