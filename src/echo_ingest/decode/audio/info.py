"""The chunk `LIST` of type `INFO` of a WAV (IBM and Microsoft, 1991): tags of four letters."""

import re
from collections.abc import Iterator

from echo_ingest.decode.audio.sound import U32, note

TAGS_MAX = 1_000
_TAG = re.compile(rb"[A-Za-z0-9]{3}[A-Za-z0-9 ]")
_PADDING = re.compile(rb"\0{1,3}")


def fields(body: bytes) -> dict[str, str]:
    """Return the tags of a chunk under their own names; lists of another type have none."""
    entries: dict[str, str] = {}
    if body[:4] == b"INFO":
        for tag, value in _tags(body):
            note(entries, tag.decode("latin-1"), value)
    return entries


def _tags(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 4
    for _ in range(TAGS_MAX):
        if at + 8 > len(body):
            return
        (size,) = U32.unpack_from(body, at + 4)
        yield body[at : at + 4], body[at + 8 : at + 8 + size]
        at += 8 + size
        # A tag of odd size is followed by a byte of padding. Some writers forget it, others add
        # more, or something other than NUL: the next tag is where its name is.
        if size & 1 and not _TAG.match(body, at):
            at += 1
        if padding := _PADDING.match(body, at):
            at = padding.end()
