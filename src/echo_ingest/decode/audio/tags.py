"""Tags and padding around the sound: ID3v2 before it, ID3v1, APE and Lyrics3 behind it.

Nothing in them is read here. They are stepped over, as many as there are.
"""

import re

from echo_ingest.decode.audio.sound import U32

TAGS_MAX = 100
ID3V2_BYTES = 10
ID3V1_BYTES = 128
ID3V1_ENHANCED_BYTES = 227
APE_BYTES = 32
APE_HAS_HEADER = 0x80
LYRICS_BYTES_MAX = 70_000
BLOCK_BYTES = 65_536

_NOT_ZERO = re.compile(rb"[^\0]")


def sound_at(data: bytes, at: int = 0) -> int:
    """Return where the tags and zeros that begin at `at` end; `at` if there are none."""
    for _ in range(TAGS_MAX):
        behind = _behind_tag(data, at)
        if behind is None:
            break
        at = behind
    return min(at, len(data))


def sound_end(data: bytes) -> int:
    """Return where the tags at the end of `data` begin."""
    end = len(data)
    for _ in range(TAGS_MAX):
        before = _before_tag(data, end)
        if before is None or not 0 <= before < end:
            break
        end = before
    return end


def before_zeros(data: bytes, end: int) -> int:
    """Return where the zeros that lead to `end` begin."""
    while end > 0:
        block = data[max(end - BLOCK_BYTES, 0) : end]
        rest = len(block.rstrip(b"\0"))
        end -= len(block) - rest
        if rest:
            break
    return end


def _behind_tag(data: bytes, at: int) -> int | None:
    """Return where the tag or the padding that begins at `at` ends; None for anything else."""
    if data.startswith(b"\0", at):
        sound = _NOT_ZERO.search(data, at)
        return sound.start() if sound else len(data)
    if data.startswith(b"ID3", at) and at + ID3V2_BYTES <= len(data):
        footer = ID3V2_BYTES if data[at + 5] & 0x10 else 0
        return at + ID3V2_BYTES + _synchsafe(data, at + 6) + footer
    if data.startswith(b"TAG+", at):
        return at + ID3V1_ENHANCED_BYTES
    if data.startswith(b"TAG", at):
        return at + ID3V1_BYTES
    if data.startswith(b"APETAGEX", at) and at + APE_BYTES <= len(data):
        (size,) = U32.unpack_from(data, at + 12)
        return at + APE_BYTES + int(size)
    if data.startswith(b"LYRICSBEGIN", at):
        end = data.find(b"LYRICS200", at, at + LYRICS_BYTES_MAX)
        end = max(end, data.find(b"LYRICSEND", at, at + LYRICS_BYTES_MAX))
        return None if end < 0 else end + 9
    return None


def _before_tag(data: bytes, end: int) -> int | None:
    """Return where the tag begins that ends at `end`, or in the zeros before; None without one."""
    if data.startswith(b"\0", end - 1):
        # An ID3v1 tag, too, is filled up with zeros.
        nonzero = before_zeros(data, end)
        begin = data.rfind(b"TAG", max(nonzero - ID3V1_BYTES, 0), nonzero)
        if begin >= 0 and begin + ID3V1_BYTES <= end:
            return begin
    elif data.startswith(b"TAG", max(end - ID3V1_BYTES, 0)):
        return end - ID3V1_BYTES
    if data.startswith(b"TAG+", max(end - ID3V1_ENHANCED_BYTES, 0)):
        return end - ID3V1_ENHANCED_BYTES
    if end >= APE_BYTES and data.startswith(b"APETAGEX", end - APE_BYTES):
        header = APE_BYTES if data[end - 9] & APE_HAS_HEADER else 0
        (size,) = U32.unpack_from(data, end - 20)
        return end - int(size) - header
    if data.startswith(b"3DI", max(end - ID3V2_BYTES, 0)):
        return end - 2 * ID3V2_BYTES - _synchsafe(data, end - 4)
    if data.startswith((b"LYRICS200", b"LYRICSEND"), max(end - 9, 0)):
        begin = data.rfind(b"LYRICSBEGIN", max(end - LYRICS_BYTES_MAX, 0), end)
        return None if begin < 0 else begin
    return None


def _synchsafe(data: bytes, at: int) -> int:
    """Read a size in four bytes of seven bits (id3.org, ID3v2.4, 6.2)."""
    size = 0
    for byte in data[at : at + 4]:
        size = size << 7 | byte & 0x7F
    return size
