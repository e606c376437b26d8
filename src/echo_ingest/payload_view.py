"""Show a payload so that a person can read it: indented JSON, plain text, or its first bytes. Pure.

Long strings, such as clips, are folded. What a reason is about is marked: a field by its path, and
broken JSON by the position of the byte.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice, pairwise

from msgspec import Struct

from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Rejected

LINES_MAX = 200
LINES_COUNTED_MAX = 10_000
STRING_CHARACTERS_MAX = 72
TEXT_CHARACTERS_MAX = 4_000
HEX_BYTES_MAX = 256
JSON_BYTES_MAX = 16 * 1024 * 1024
JSON_COMMAS_MAX = 200_000
NEAR_CHARACTERS = 400
"""How many characters of a text are shown before and after the marked place."""

BASE64_FROM_CHARACTERS = 200
BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]+={0,2}\s*")
STEP = re.compile(r"[^.\[\]]+")
"""A step of a field's path: `top5[0].confidence` has three."""
NOT_NUMBERS = ("NaN", "Infinity", "-Infinity")

Subject = Rejected | str | None
"""What is to be marked: why a message is rejected, or a field by the name that a sink gives it."""


class PayloadLine(Struct, frozen=True):
    """A line of the payload as it is shown."""

    text: str
    is_marked: bool = False
    """The reason is about what stands here."""


class _JsonObject(list[tuple[str, object]]):
    """The keys and values of an object as they stand: a key may stand twice."""


class _Number(str):
    """A number as it stands in the payload: a float would round it."""


class _JsonNode(Struct, frozen=True):
    """A JSON value on its line."""

    text: str
    path: tuple[str, ...]
    value: object


def readable(payload: bytes) -> str:
    """Return the payload's lines as one text."""
    return "\n".join(line.text for line in lines_of(payload))


def lines_of(payload: bytes, subject: Subject = None) -> list[PayloadLine]:
    """Return at most `LINES_MAX` lines, and one that says how many more there are."""
    if not payload:
        return [PayloadLine("(empty)")]
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        if payload.lstrip()[:1] not in (b"{", b"["):
            return _hex(payload)
        text = payload.decode(errors="replace")
    position = _position(payload, text, subject)
    if position is None and _is_parsed(payload):
        try:
            parsed = json.loads(
                text,
                object_pairs_hook=_JsonObject,
                parse_int=_Number,
                parse_float=_Number,
                parse_constant=_Number,
            )
            nodes = list(islice(_nodes(parsed), LINES_COUNTED_MAX))
        except (ValueError, RecursionError):
            pass
        else:
            return _marked(nodes, subject)
    if "\0" in text:
        return _hex(payload)
    return _text(text, position)


def _is_parsed(payload: bytes) -> bool:
    return len(payload) <= JSON_BYTES_MAX and payload.count(b",") <= JSON_COMMAS_MAX


def printable(text: str, keep: str = "") -> str:
    """Return a device's text as characters that can all be seen.

    It cannot move a terminal's cursor, set its title, or turn the text around it (U+202E).
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(ord(c)) for c in text)


def _escaped(character: int) -> str:
    """Return how Python writes a character that cannot be seen, such as U+202E."""
    if character < 0x100:
        return f"\\x{character:02x}"
    return f"\\u{character:04x}" if character < 0x1_0000 else f"\\U{character:08x}"


def size(size_bytes: int) -> str:
    """Return a number of bytes, for people."""
    if size_bytes < 1_000:
        return f"{size_bytes} B"
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1e3:.1f} kB"
    if size_bytes < 1_000_000_000:
        return f"{size_bytes / 1e6:.1f} MB"
    return f"{size_bytes / 1e9:,.1f} GB"


# ---------------------------------------------------------------------- JSON


def _nodes(
    value: object, path: tuple[str, ...] = (), before: str = "", after: str = ""
) -> Iterator[_JsonNode]:
    """Yield the lines of a value; `before` and `after` stand on the first and the last of them."""
    indent = "  " * len(path)
    match value:
        case _JsonObject() if value:
            opening, closing = "{", "}"
            items = [(name, f"{_quoted(name)}: ", item) for name, item in value]
        case list() if value:
            opening, closing = "[", "]"
            items = [(str(index), "", item) for index, item in enumerate(value)]
        case _:
            yield _JsonNode(f"{indent}{before}{_scalar(value)}{after}", path, value)
            return
    yield _JsonNode(f"{indent}{before}{opening}", path, None)
    for index, (step, name, item) in enumerate(items):
        yield from _nodes(item, (*path, step), name, "," if index + 1 < len(items) else "")
    yield _JsonNode(f"{indent}{closing}{after}", (), None)


def _scalar(value: object) -> str:
    match value:
        case _Number():
            return value if len(value) <= STRING_CHARACTERS_MAX else f"{value[:50]}…"
        case str():
            return _quoted(value)
        case True:
            return "true"
        case False:
            return "false"
        case None:
            return "null"
    return "{}" if isinstance(value, _JsonObject) else "[]"


def _quoted(text: str) -> str:
    return printable(json.dumps(_fold(text, STRING_CHARACTERS_MAX), ensure_ascii=False))


def _fold(text: str, characters_max: int) -> str:
    if len(text) <= characters_max:
        return text
    kind = f" of base64: {size(len(text) * 3 // 4)}" if _is_base64(text) else ""
    return f"{text[: characters_max - 20]}… ({len(text):,} characters{kind})"


def _is_base64(text: str) -> bool:
    """Judge by the beginning: to look at all of a long clip would take a while."""
    return (
        len(text) >= BASE64_FROM_CHARACTERS
        and BASE64.fullmatch(text[:BASE64_FROM_CHARACTERS]) is not None
    )


# ---------------------------------------------------------------------- what is marked


def _marked(nodes: list[_JsonNode], subject: Subject) -> list[PayloadLine]:
    marked = _lines_about(nodes, subject)
    lines = [
        PayloadLine(node.text, index in marked) for index, node in enumerate(nodes[:LINES_MAX])
    ]
    if (left := len(nodes) - LINES_MAX) > 0:
        at_least = "at least " if len(nodes) == LINES_COUNTED_MAX else ""
        lines.append(PayloadLine(f"… ({at_least}{left:,} more lines)"))
    return lines


def _lines_about(nodes: list[_JsonNode], subject: Subject) -> set[int]:
    """Return the numbers of the lines that the reason is about; none where that is not known."""
    if isinstance(subject, Rejected):
        if subject.code == ReasonCode.NOT_A_NUMBER:
            return {
                index
                for index, node in enumerate(nodes)
                if isinstance(node.value, _Number) and node.value in NOT_NUMBERS
            }
        return _lines_at(nodes, subject.field)
    return _lines_at_sinks_name(nodes, subject)


def _lines_at(nodes: list[_JsonNode], field: str | None) -> set[int]:
    """Find the field at this path; where it is missing, the innermost object that lacks it."""
    path = _steps(field)
    while path:
        lines = {index for index, node in enumerate(nodes) if node.path == path}
        if lines:
            return lines
        path = path[:-1]
    return set()


def _lines_at_sinks_name(nodes: list[_JsonNode], field: str | None) -> set[int]:
    """Find a field that a sink names: the one at that path, else the only one that ends with it.

    A sink may write the name in another way, and may have the field in another place.
    """
    steps = _steps(field)
    if not steps:
        return set()
    if lines := {index for index, node in enumerate(nodes) if node.path == steps}:
        return lines
    path = tuple(map(_folded, steps))
    endings = {
        index: len(node.path)
        for index, node in enumerate(nodes)
        if tuple(map(_folded, node.path))[-len(path) :] == path
    }
    same_path = {index for index, length in endings.items() if length == len(path)}
    return same_path or (set(endings) if len(endings) == 1 else set())


def _steps(field: str | None) -> tuple[str, ...]:
    return tuple(STEP.findall(field or ""))


def _folded(name: str) -> str:
    """Fold what names differ in: the Echo API calls `sensorId` what a device calls `sensor_id`."""
    return name.replace("_", "").lower()


# ---------------------------------------------------------------------- other text, and bytes


def _position(payload: bytes, text: str, subject: Subject) -> int | None:
    """Return the character at which the JSON is broken, if it is."""
    if not isinstance(subject, Rejected) or subject.position is None:
        return None
    if subject.code == ReasonCode.NOT_A_NUMBER and _is_parsed(payload):
        return None  # Python's parser reads it, so that its line can be marked
    before = len(payload[: subject.position].decode(errors="replace"))
    return min(before, max(0, len(text) - 1))


def _text(text: str, position: int | None) -> list[PayloadLine]:
    if position is None:
        return _first_lines(_fold(text, TEXT_CHARACTERS_MAX).splitlines())
    start, end = max(0, position - NEAR_CHARACTERS), position + NEAR_CHARACTERS
    lines = []
    if start:
        lines.append(PayloadLine(f"… ({start:,} characters before)"))
    line_start = start
    for line in text[start:end].splitlines(keepends=True):
        # A line can be as long as the whole message: only a piece of it is marked.
        around = (min(max(0, position - line_start + step), len(line)) for step in (-20, 20))
        for first, last in pairwise(sorted({0, *around, len(line)})):
            piece = line[first:last].rstrip("\r\n")
            is_marked = line_start + first <= position < line_start + last
            lines.append(PayloadLine(printable(piece), is_marked))
        line_start += len(line)
    if end < len(text):
        lines.append(PayloadLine(f"… ({len(text) - end:,} characters after)"))
    return lines


def _first_lines(lines: list[str]) -> list[PayloadLine]:
    first = [PayloadLine(printable(line)) for line in lines[:LINES_MAX]]
    if len(lines) > LINES_MAX:
        first.append(PayloadLine(f"… ({len(lines) - LINES_MAX:,} more lines)"))
    return first


def _hex(payload: bytes) -> list[PayloadLine]:
    lines = []
    for start in range(0, min(len(payload), HEX_BYTES_MAX), 16):
        part = payload[start : start + 16]
        text = "".join(chr(b) if 32 <= b < 127 else "." for b in part)
        lines.append(PayloadLine(f"{start:08x}  {part.hex(' '):<47}  {text}"))
    if len(payload) > HEX_BYTES_MAX:
        lines.append(PayloadLine(f"… ({size(len(payload))} in all)"))
    return lines
