"""A payload as a person can read it: JSON indented, text as it is, else its first bytes. Pure.

Long strings are folded, which is where clips are. What a reason speaks of is marked: a field by its
path (`top5[0].confidence: …`), a place by its byte (`broken JSON at byte 8`), a clip by being one.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice, pairwise

from msgspec import Struct

LINES_MAX = 200
LINES_COUNTED_MAX = 10_000
STRING_CHARACTERS_MAX = 72
TEXT_CHARACTERS_MAX = 4_000
HEX_BYTES_MAX = 256
JSON_BYTES_MAX = 16 * 1024 * 1024
JSON_COMMAS_MAX = 200_000
NEAR_CHARACTERS = 400
"""What is shown of a text before and after the place that is marked."""

BASE64_FROM_CHARACTERS = 200
BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]+={0,2}\s*")
FIELD = re.compile(r"(?:^|: )([A-Za-z_][\w-]*(?:\.[\w-]+|\[\d+\])*): (\S+)?")
STEP = re.compile(r"[\w-]+")
AT_BYTE = re.compile(r"at byte ([\d,]+), near")
OF_CLIP = re.compile(r"\b(?:the clip|the (?:WAV|FLAC|MP3|Ogg)|the header says)\b")
NO_NUMBER = ("NaN", "Infinity", "-Infinity")


class PayloadLine(Struct, frozen=True):
    """One line of it."""

    text: str
    is_marked: bool = False
    """The reason speaks of what is here."""


class _Number(str):
    """As it stands in the payload: a float would round it."""


class _JsonNode(Struct, frozen=True):
    """A value of JSON on its line."""

    text: str
    path: tuple[str, ...]
    value: object


def readable(payload: bytes) -> str:
    """The lines of it, as one text."""
    return "\n".join(line.text for line in lines_of(payload))


def lines_of(payload: bytes, reason: str = "") -> list[PayloadLine]:
    """At most `LINES_MAX` lines of it, and one that says how many more there are."""
    if not payload:
        return [PayloadLine("(empty)")]
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        if payload.lstrip()[:1] not in (b"{", b"["):
            return _hex(payload)
        text = payload.decode(errors="replace")
    if len(payload) <= JSON_BYTES_MAX and payload.count(b",") <= JSON_COMMAS_MAX:
        try:
            parsed = json.loads(
                text, parse_int=_Number, parse_float=_Number, parse_constant=_Number
            )
            nodes = list(islice(_nodes(parsed), LINES_COUNTED_MAX))
        except (ValueError, RecursionError):
            pass
        else:
            return _marked(nodes, reason)
    if "\0" in text:
        return _hex(payload)
    return _text(text, _place(payload, text, reason))


def printable(text: str, keep: str = "") -> str:
    """Text from a device, unable to move the cursor or to set the title of the terminal."""
    return "".join(c if c.isprintable() or c in keep else f"\\x{ord(c):02x}" for c in text)


def size(size_bytes: int) -> str:
    """Bytes, for people."""
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
    """Its lines, indented; `before` and `after` stand on the first and the last of them."""
    indent = "  " * len(path)
    match value:
        case dict() if value:
            opening, closing = "{", "}"
            inner = [(str(name), f"{_quoted(str(name))}: ", value[name]) for name in value]
        case list() if value:
            opening, closing = "[", "]"
            inner = [(str(index), "", each) for index, each in enumerate(value)]
        case _:
            yield _JsonNode(f"{indent}{before}{_scalar(value)}{after}", path, value)
            return
    yield _JsonNode(f"{indent}{before}{opening}", path, None)
    for index, (step, name, each) in enumerate(inner):
        yield from _nodes(each, (*path, step), name, "," if index + 1 < len(inner) else "")
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
    return "{}" if isinstance(value, dict) else "[]"


def _quoted(text: str) -> str:
    return printable(json.dumps(_fold(text, STRING_CHARACTERS_MAX), ensure_ascii=False))


def _fold(text: str, characters_max: int) -> str:
    if len(text) <= characters_max:
        return text
    kind = f" of base64: {size(len(text) * 3 // 4)}" if _is_base64(text) else ""
    return f"{text[: characters_max - 20]}… ({len(text):,} characters{kind})"


def _is_base64(text: str) -> bool:
    """By its beginning: to look at all of a long clip would take a while."""
    return (
        len(text) >= BASE64_FROM_CHARACTERS
        and BASE64.fullmatch(text[:BASE64_FROM_CHARACTERS]) is not None
    )


# ---------------------------------------------------------------------- what is marked


def _marked(nodes: list[_JsonNode], reason: str) -> list[PayloadLine]:
    chosen = _spoken_of(nodes, reason)
    lines = [PayloadLine(node.text, at in chosen) for at, node in enumerate(nodes[:LINES_MAX])]
    if (left := len(nodes) - LINES_MAX) > 0:
        at_least = "at least " if len(nodes) == LINES_COUNTED_MAX else ""
        lines.append(PayloadLine(f"… ({at_least}{left:,} more lines)"))
    return lines


def _spoken_of(nodes: list[_JsonNode], reason: str) -> set[int]:
    """Which of them the reason speaks of; none, where that cannot be told."""
    if "NaN" in reason:
        return {at for at, node in enumerate(nodes) if _is(node, *NO_NUMBER)}
    for found in FIELD.finditer(reason):
        steps = tuple(map(_alike, STEP.findall(found[1])))
        ends = {
            at: node
            for at, node in enumerate(nodes)
            if node.path and tuple(map(_alike, node.path))[-len(steps) :] == steps
        }
        # Of several that are called so, the one that has the value the reason says.
        said = {at for at, node in ends.items() if found[2] and _says(node, found[2])}
        whole = {at for at, node in ends.items() if len(node.path) == len(steps)}
        if chosen := said or whole or set(ends):
            return chosen
    if OF_CLIP.search(reason):
        return {at for at, node in enumerate(nodes) if node.path[-1:] in CLIPS}
    return set()


CLIPS = (("audioClip",), ("audio_file",))


def _alike(name: str) -> str:
    """The Echo API calls a field `sensorId` that a device calls `sensor_id`."""
    return name.replace("_", "").lower()


def _is(node: _JsonNode, *numbers: str) -> bool:
    return isinstance(node.value, _Number) and node.value in numbers


def _says(node: _JsonNode, word: str) -> bool:
    if not isinstance(node.value, _Number):
        return False
    try:
        return f"{float(node.value):g}" == word
    except ValueError:
        return False


# ---------------------------------------------------------------------- other text, and bytes


def _place(payload: bytes, text: str, reason: str) -> int | None:
    """At which character the reason says that something is wrong."""
    if "cut off" in reason:
        return max(0, len(text) - 1)
    if (found := AT_BYTE.search(reason)) is None:
        return None
    at_byte = int(found[1].replace(",", ""))
    return min(len(payload[:at_byte].decode(errors="replace")), max(0, len(text) - 1))


def _text(text: str, place: int | None) -> list[PayloadLine]:
    if place is None:
        return _first_lines(_fold(text, TEXT_CHARACTERS_MAX).splitlines())
    start, end = max(0, place - NEAR_CHARACTERS), place + NEAR_CHARACTERS
    shown = []
    if start:
        shown.append(PayloadLine(f"… ({start:,} characters before)"))
    at = start
    for line in text[start:end].splitlines(keepends=True):
        # A line that is as long as a message would be marked as a whole.
        around = (min(max(0, place - at + step), len(line)) for step in (-20, 20))
        for first, last in pairwise(sorted({0, *around, len(line)})):
            piece = line[first:last].rstrip("\r\n")
            shown.append(PayloadLine(printable(piece), at + first <= place < at + last))
        at += len(line)
    if end < len(text):
        shown.append(PayloadLine(f"… ({len(text) - end:,} characters after)"))
    return shown


def _first_lines(lines: list[str]) -> list[PayloadLine]:
    shown = [PayloadLine(printable(line)) for line in lines[:LINES_MAX]]
    if len(lines) > LINES_MAX:
        shown.append(PayloadLine(f"… ({len(lines) - LINES_MAX:,} more lines)"))
    return shown


def _hex(payload: bytes) -> list[PayloadLine]:
    lines = []
    for start in range(0, min(len(payload), HEX_BYTES_MAX), 16):
        part = payload[start : start + 16]
        text = "".join(chr(b) if 32 <= b < 127 else "." for b in part)
        lines.append(PayloadLine(f"{start:08x}  {part.hex(' '):<47}  {text}"))
    if len(payload) > HEX_BYTES_MAX:
        lines.append(PayloadLine(f"… ({size(len(payload))} in all)"))
    return lines
