"""RIFF (IBM and Microsoft, 1991): a file is chunks, each with a name, a size and a body.

Chunks of odd size are padded by one byte, which some writers leave out; and some sizes are a few
bytes wrong. So the next chunk is looked for where it must be, and then nearby.
"""

import re
from struct import Struct as Layout

FILE_NAMES = (b"RIFF", b"RF64", b"BW64")
HEAD = Layout("<4sI")
"""The name of a chunk, and the size that it announces."""
HEAD_BYTES = 8
CHUNKS_MAX = 1_000
NEARBY_BYTES = 64
TAIL_BYTES = 65_536
TAIL_HITS_MAX = 64

_KNOWN = (
    rb"fmt |data|LIST|fact|ds64|guan|wamd|bext|iXML|axml|chna|cue |plst|smpl|inst|JUNK|junk|PAD "
    rb"|FLLR|Fake|id3 |ID3 |PEAK|levl|cart|umid|acid|strc|afsp|minf|elm1|regn|olym|_PMX|Xcom"
)
_KNOWN_NAME = re.compile(_KNOWN)
_FILE = re.compile(rb"(?:RIFF|RF64|BW64)....WAVE", re.DOTALL)
_NOT_ZERO = re.compile(rb"[^\0]")
_SOUND_OR_LAYOUT = re.compile(rb"data|fmt ")


def is_file(data: bytes, at: int) -> bool:
    """Return whether a WAV file begins at `at`."""
    return data.startswith(FILE_NAMES, at) and data.startswith(b"WAVE", at + 8)


def is_chunk(data: bytes, at: int) -> bool:
    """Return whether a chunk begins at `at`: one with a known name, or with any that fits."""
    if _KNOWN_NAME.match(data, at) or is_file(data, at):
        return True
    start = at + HEAD_BYTES
    if start > len(data):
        return False
    name, size = HEAD.unpack_from(data, at)
    return start + int(size) <= len(data) and name.isascii() and name.decode().isprintable()


def behind(data: bytes, start: int, size: int) -> int:
    """Return where the chunk after this one begins: after a pad byte, if the writer made one."""
    end = start + size
    if not size & 1 or _KNOWN_NAME.match(data, end + 1):
        return end + (size & 1)
    if _KNOWN_NAME.match(data, end) or (is_chunk(data, end) and not is_chunk(data, end + 1)):
        return end
    return end + 1


def behind_zeros(data: bytes, at: int) -> int:
    """Return where the zeros end that begin at `at`: they fill the last block of a card."""
    found = _NOT_ZERO.search(data, at)
    return found.start() if found else len(data)


def nearby(data: bytes, at: int, start: int) -> int:
    """Return where the sound or its layout is, if no chunk begins at `at` and one does nearby.

    `start` is where the body of the chunk before begins.
    """
    if is_chunk(data, at):
        return at
    match = _SOUND_OR_LAYOUT.search(data, max(at - HEAD_BYTES, start), at + NEARBY_BYTES)
    return match.start() if match else at


def next_file(data: bytes, start: int) -> int | None:
    """Return where the first WAV file behind `start` begins."""
    match = _FILE.search(data, start)
    return match.start() if match else None


def tail(data: bytes, start: int, end: int) -> int:
    """Return where the chunks begin that lead exactly to `end`, or `end` if there are none."""
    hits = _KNOWN_NAME.finditer(data, max(start, end - TAIL_BYTES), end)
    for _, hit in zip(range(TAIL_HITS_MAX), hits, strict=False):
        at = hit.start()
        for _ in range(TAIL_HITS_MAX):
            if at + HEAD_BYTES > end or not is_chunk(data, at):
                break
            _, size = HEAD.unpack_from(data, at)
            at = behind(data, at + HEAD_BYTES, size)
        if at in (end, end + 1):
            return hit.start()
    return end
