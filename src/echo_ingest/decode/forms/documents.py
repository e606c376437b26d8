"""The payload as a document that paths can be applied to: JSON, tables, lines, text."""

import csv
import io
from collections.abc import Callable

import msgspec

from echo_ingest.decode.errors import DecodeError, quoted
from echo_ingest.decode.fields import BACKSLASH, BOM, ambiguous, parse, repeated_key
from echo_ingest.reasons import ReasonCode

PARTS_MAX = 20_000
VALUES_MAX = 100_000
DEPTH_MAX = 32
ROWS_MAX = 10_000
COLUMNS_MAX = 256
COLON = ord(":")
ROWS = "rows"
COLUMNS = "columns"
"""The names of the columns, for a table without rows."""
TEXT = "text"
LINE = "line"

Document = dict[str, object]

_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode


def of_json(payload: bytes) -> object:
    """Parse JSON; raise `DecodeError` for anything else, and for what no device sends."""
    value: object = parse(payload, _decode_any, PARTS_MAX, VALUES_MAX)
    if payload.count(b"{") + payload.count(b"[") > DEPTH_MAX:
        _check_depth(value)
    return value


def refuse_repeated_keys(payload: bytes, value: object = None) -> None:
    """Raise `DecodeError` where a key stands twice in an object of JSON that can be parsed.

    `value` is what the payload was parsed to, where that is known: it has each key once.
    """
    if value is not None and BACKSLASH not in payload and has_each_key_once(payload, value):
        return
    path = repeated_key(payload.removeprefix(BOM))
    if path is not None:
        raise ambiguous(path)


def has_each_key_once(payload: bytes, value: object) -> bool:
    """Return whether no key stands twice in an object of JSON without backslashes.

    `value` is what the payload was parsed to, so it has each key once.
    """
    return _encode(value).count(COLON) == payload.count(COLON)


def of_json_lines(payload: bytes) -> Document:
    """Parse a JSON object in each line."""
    rows = []
    for line in payload.splitlines():
        if line.strip():
            rows.append(of_json(line))
            refuse_repeated_keys(line)
            _check_rows(len(rows))
    return {ROWS: rows}


def of_table(payload: bytes, separator: str, columns: tuple[str, ...] = ()) -> Document:
    """Read rows by the names of their columns, which the first line has if none are given.

    A row that is shorter has no more columns; what is longer is not read.
    """
    text = of_text(payload, strip=False)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=False)
    rows: list[object] = []
    names = [name.strip() for name in columns]
    try:
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) > COLUMNS_MAX:
                raise _too_complex(f"a line has {len(cells):,} columns; at most {COLUMNS_MAX}")
            if not names:
                names = [name.strip() for name in cells]
                _refuse_repeated(names)
                continue
            rows.append(dict(zip(names, map(str.strip, cells), strict=False)))
            _check_rows(len(rows))
    except csv.Error as error:
        raise DecodeError(ReasonCode.WRONG_TYPE, f"the table cannot be read: {error}") from None
    return {ROWS: rows, COLUMNS: names}


def of_lines(payload: bytes) -> Document:
    """Read each line that is not empty as a row with one text."""
    rows: list[object] = [
        {LINE: line.strip()} for line in of_text(payload, strip=False).splitlines() if line.strip()
    ]
    _check_rows(len(rows))
    return {ROWS: rows}


def of_text(payload: bytes, *, strip: bool = True) -> str:
    """Return the text of a payload; raise `DecodeError` where it is not UTF-8."""
    try:
        text = payload.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        raise DecodeError(
            ReasonCode.NOT_UTF8, f"the text is not UTF-8 at byte {error.start:,}"
        ) from None
    return text.strip() if strip else text


def document(
    payload_type: str, payload: bytes, separator: str = "", columns: tuple[str, ...] = ()
) -> Document | None:
    """Return the document of a payload of that type; None where it is of another type.

    Raise `DecodeError` where it seems to be of that type but cannot be read.
    """
    if payload_type == "lines" and separator:
        return of_table(payload, separator, columns)
    return PAYLOADS[payload_type](payload)


def _object(payload: bytes) -> Document | None:
    value = of_json(payload)
    return value if isinstance(value, dict) else None


def _list(payload: bytes) -> Document | None:
    value = of_json(payload)
    return {ROWS: value} if isinstance(value, list) else None


PAYLOADS: dict[str, Callable[[bytes], Document | None]] = {
    "json": _object,
    "list": _list,
    "ndjson": of_json_lines,
    "csv": lambda payload: of_table(payload, ","),
    "tsv": lambda payload: of_table(payload, "\t"),
    "lines": of_lines,
    "text": lambda payload: {TEXT: of_text(payload)},
    "bytes": lambda payload: {},
    "empty": lambda payload: None if payload.strip() else {},
    "any": lambda payload: {},
}
"""What `payload` may be in a form, with what makes a document of it."""
TABLES = frozenset(("list", "ndjson", "csv", "tsv", "lines"))
"""Those whose document has rows."""


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise _too_complex(f"objects and lists are nested more than {DEPTH_MAX} deep")


def _refuse_repeated(names: list[str]) -> None:
    """Raise `DecodeError` where two columns have one name; several may have none."""
    named = [name for name in names if name]
    for name in named:
        if named.count(name) > 1:
            raise DecodeError(ReasonCode.AMBIGUOUS_KEY, f"the table has two columns {quoted(name)}")


def _check_rows(count: int) -> None:
    if count > ROWS_MAX:
        raise _too_complex(f"the message has more than {ROWS_MAX:,} rows")


def _too_complex(detail: str) -> DecodeError:
    return DecodeError(ReasonCode.TOO_COMPLEX, detail)
