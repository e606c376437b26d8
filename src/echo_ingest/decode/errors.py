"""Why a payload cannot become a record, in words its sender can act on.

Every reason stays under 200 characters and repeats at most 60 characters of the payload.
"""

import re

import msgspec

from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Rejected

SAID_CHARACTERS_MAX = 40
KEYS_SHOWN_MAX = 4

_WRONG_TYPE = re.compile(r"Expected `([^`]+)`, got `([^`]+)`(?: - at `\$\.?([^`]*)`)?")
_MISSING = re.compile(r"Object missing required field `([^`]+)` - at `\$\.?([^`]*)`")
_OUT_OF_RANGE = re.compile(r"out of range - at `\$\.?([^`]*)`")
_AT_BYTE = re.compile(r"\(byte (\d+)\)")
_NO_NUMBER = re.compile(rb"-?(nan|inf)", re.IGNORECASE)

_WORDS = {
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
    (b"\xff\xfe", "UTF-16 text; send UTF-8"),
    (b"\xfe\xff", "UTF-16 text; send UTF-8"),
)


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


def said(value: object) -> str:
    """What the sender wrote, quoted, printable and short."""
    text = str(value)
    shown = text[:SAID_CHARACTERS_MAX]
    shown = "".join(letter if letter.isprintable() else "·" for letter in shown)
    return f'"{shown}…"' if len(text) > SAID_CHARACTERS_MAX else f'"{shown}"'


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
        return f"text {said(text.strip())}"
    return f"binary data that starts with the bytes {head[:4].hex(' ')}"


def not_json(payload: bytes, error: msgspec.DecodeError | UnicodeDecodeError) -> str:
    """Say in which way `payload` is not JSON; `error` is what the parser found."""
    start = payload.lstrip()[:1]
    if not start:
        return "the message is empty"
    if start not in (b"{", b"[", b'"'):
        return f"neither a JSON object nor WAV, FLAC, MP3 or Ogg audio but {looks_like(payload)}"
    if isinstance(error, UnicodeDecodeError):
        return "the JSON is not UTF-8; send UTF-8"
    found = _AT_BYTE.search(str(error))
    if found is None:
        return f"the JSON is cut off: it stops in the middle, after {len(payload):,} bytes"
    at = int(found[1])
    if _NO_NUMBER.match(payload, at) or _NO_NUMBER.match(payload, max(at - 1, 0)):
        return "NaN and infinity are no numbers in JSON; send null where a value is not known"
    near = payload[max(at - 10, 0) : at + 10].decode(errors="replace")
    return f"broken JSON at byte {at:,}, near {said(near)}"


def none_of_the_forms(keys: list[str]) -> str:
    """Say that these keys make no form."""
    shown = ", ".join(said(key[:10]) for key in keys[:KEYS_SHOWN_MAX]) or "no fields"
    more = ", …" if len(keys) > KEYS_SHOWN_MAX else ""
    return f"none of the forms in docs/forms.md: a JSON object with {shown}{more}"


def wrong_value(payload: bytes, error: msgspec.ValidationError) -> str:
    """Turn the parser's words about one field into plain ones."""
    if payload.lstrip()[:1] not in (b"{", b"[", b'"'):
        return not_json(payload, error)
    text = str(error)
    if found := _WRONG_TYPE.search(text):
        expected, got, field = found.groups()
        if not field:
            return f"a device sends one JSON object per message; this is {_WORDS.get(got, got)}"
        kinds = [kind for kind in expected.split(" | ") if kind != "null"]
        if "float" in kinds and "int" in kinds:
            kinds.remove("int")
        wanted = " or ".join(_WORDS.get(kind, kind) for kind in kinds)
        return f"{field}: {wanted} was expected, found {_WORDS.get(got, got)}"
    if found := _MISSING.search(text):
        return f'{found[2]}: "{found[1]}" is missing'
    if found := _OUT_OF_RANGE.search(text):
        return f"{found[1]}: the number is too large"
    return f"a value cannot be read: {text[:100]}"
