"""Why a payload cannot become a record, in words its sender can act on.

Every rendered reason stays under 200 characters and repeats at most 60 characters of the payload.
The patterns here read the error messages of `msgspec`, which gives them as text alone.
"""

import re

import msgspec

from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Rejected

QUOTED_CHARACTERS_MAX = 40
KEYS_SHOWN_MAX = 4

_WRONG_TYPE = re.compile(r"Expected `([^`]+)`, got `([^`]+)`(?: - at `\$\.?([^`]*)`)?")
_MISSING = re.compile(r"Object missing required field `([^`]+)` - at `\$\.?([^`]*)`")
_OUT_OF_RANGE = re.compile(r"out of range - at `\$\.?([^`]*)`")
_AT_BYTE = re.compile(r"\(byte (\d+)\)")
_NOT_A_NUMBER = re.compile(rb"-?(nan|inf)", re.IGNORECASE)

_JSON_OPENINGS = (b"{", b"[", b'"')

_TYPE_NAMES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "object": "an object",
    "array": "a list",
}

_OPENINGS = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"%PDF", "a PDF document"),
    (b"FORM", "an AIFF file"),
    (b"RIFF", "a RIFF file that is not WAV"),
)
_BYTE_ORDER_MARKS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_WIDE_CODECS = (
    ("UTF-32", "utf-32-le"),
    ("UTF-32", "utf-32-be"),
    ("UTF-16", "utf-16-le"),
    ("UTF-16", "utf-16-be"),
)
_WIDE_JSON = re.compile(r'\s*(?:\{\s*(?:["}\ufffd]|\Z)|\[\s*[]["{\d-]|"[ -~])')
_WIDE_BYTES = 64
"""So much of the beginning tells the encoding: even, and enough for an indented first key."""


class DecodeError(Exception):
    """A message cannot become a record; `rejected` says why."""

    def __init__(
        self,
        code: ReasonCode,
        detail: str,
        field: str | None = None,
        position: int | None = None,
    ) -> None:
        """Take what `Rejected` holds."""
        self.rejected = Rejected(code, detail, field, position)
        super().__init__(self.rejected.render())

    def within(self, parent: str) -> "DecodeError":
        """Return the same error about the same field, or about none, inside of `parent`."""
        rejected = self.rejected
        field = parent if rejected.field is None else f"{parent}.{rejected.field}"
        return DecodeError(rejected.code, rejected.detail, field, rejected.position)


def quoted(value: object) -> str:
    """Quote what the sender wrote, printable and short."""
    text = str(value)
    shown = printable(text[:QUOTED_CHARACTERS_MAX])
    return f'"{shown}…"' if len(text) > QUOTED_CHARACTERS_MAX else f'"{shown}"'


def printable(text: str) -> str:
    """Return the text with a dot for each character that cannot be printed."""
    return "".join(letter if letter.isprintable() else "·" for letter in text)


def digits(number: float) -> str:
    """Write a number with as many digits as it has, so that it is not shown as another one."""
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def wide_encoding(data: bytes) -> str | None:
    """Name the encoding of text whose characters have two or four bytes each."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return encoding
    head = data[:_WIDE_BYTES]
    if b"\0" not in head:
        return None
    for encoding, codec in _WIDE_CODECS:
        if _WIDE_JSON.match(head.decode(codec, errors="replace")):
            return encoding
    return None


def looks_like(data: bytes) -> str:
    """Name bytes that are neither audio nor JSON: "a PNG image", "text "hello"", …"""
    for opening, name in _OPENINGS:
        if data.startswith(opening):
            return name
    if data[4:8] == b"ftyp":
        return "an MP4 or M4A file"
    head = data[:200]
    text = head.decode(errors="ignore")
    if len(text.encode()) >= len(head) - 3 and text.replace("\n", " ").strip().isprintable():
        return f"text {quoted(text.strip())}"
    return f"binary data that starts with the bytes {head[:4].hex(' ')}"


def not_json(
    payload: bytes, error: msgspec.DecodeError | UnicodeDecodeError, *, bytes_before: int = 0
) -> DecodeError:
    """Make the error that says in which way `payload` is not JSON; `error` is the parser's.

    Positions count `bytes_before`, which the parser has not seen.
    """
    opening = payload.lstrip()[:1]
    if not opening:
        return DecodeError(ReasonCode.EMPTY_MESSAGE, "the message is empty")
    if (encoding := wide_encoding(payload)) is not None:
        return DecodeError(ReasonCode.NOT_UTF8, f"the text is {encoding}; send UTF-8")
    if opening not in _JSON_OPENINGS:
        return DecodeError(
            ReasonCode.NEITHER_JSON_NOR_AUDIO,
            "the message is neither a JSON object nor WAV, FLAC, MP3 or Ogg audio, but"
            f" {looks_like(payload)}",
        )
    if isinstance(error, UnicodeDecodeError):
        position = bytes_before + error.start
        return DecodeError(
            ReasonCode.NOT_UTF8,
            f"the JSON is not UTF-8 at byte {position:,}; send UTF-8",
            position=position,
        )
    at_byte = _AT_BYTE.search(str(error))
    if at_byte is None:
        position = bytes_before + len(payload)
        return DecodeError(
            ReasonCode.JSON_CUT_OFF,
            f"the JSON is cut off: it stops in the middle, after {position:,} bytes",
            position=position,
        )
    broken_at = int(at_byte[1])
    position = bytes_before + broken_at
    for start in (max(broken_at - 1, 0), broken_at):
        if _NOT_A_NUMBER.match(payload, start):
            return DecodeError(
                ReasonCode.NOT_A_NUMBER,
                "JSON has no NaN and no infinity; send null where a value is not known",
                position=bytes_before + start,
            )
    near = payload[max(broken_at - 10, 0) : broken_at + 10].decode(errors="replace")
    return DecodeError(
        ReasonCode.BROKEN_JSON,
        f"the JSON is broken at byte {position:,}, near {quoted(near)}",
        position=position,
    )


def no_known_form(keys: list[str]) -> DecodeError:
    """Make the error that says that an object with these keys has no known form."""
    shown = ", ".join(quoted(key[:10]) for key in keys[:KEYS_SHOWN_MAX]) or "no fields"
    more = ", …" if len(keys) > KEYS_SHOWN_MAX else ""
    return DecodeError(
        ReasonCode.UNKNOWN_FORM,
        f"a JSON object with {shown}{more} is none of the forms in docs/forms.md",
    )


def wrong_value(payload: bytes, error: msgspec.ValidationError) -> DecodeError:
    """Make the error that says in plain words what the parser has said about one field."""
    if payload.lstrip()[:1] not in _JSON_OPENINGS or wide_encoding(payload) is not None:
        return not_json(payload, error)
    text = str(error)
    if match := _WRONG_TYPE.search(text):
        expected, actual, field = match.groups()
        actual_name = _TYPE_NAMES.get(actual, actual)
        if not field:
            return DecodeError(
                ReasonCode.NOT_AN_OBJECT,
                f"a device sends one JSON object per message; this is {actual_name}",
            )
        types = [name for name in expected.split(" | ") if name != "null"]
        if "float" in types and "int" in types:
            types.remove("int")
        expected_names = " or ".join(_TYPE_NAMES.get(name, name) for name in types)
        return DecodeError(
            ReasonCode.WRONG_TYPE, f"{expected_names} was expected, not {actual_name}", field
        )
    if match := _MISSING.search(text):
        missing, parent = match.groups()
        field = f"{parent}.{missing}" if parent else missing
        return DecodeError(ReasonCode.MISSING_FIELD, "this field is missing", field)
    if match := _OUT_OF_RANGE.search(text):
        return DecodeError(ReasonCode.IMPOSSIBLE_VALUE, "the number is too large", match[1])
    return DecodeError(ReasonCode.WRONG_TYPE, f"a value cannot be read: {text[:100]}")
