"""FLAC (RFC 9639): metadata blocks, then frames, each with a CRC of its own.

Checked: the last frame is whole (its CRC-16 holds up to the end of the file) and ends where the
header says the sound ends. Frames in the middle are not decoded. Read: STREAMINFO, and the
comment block as metadata.
"""

from echo_ingest.decode.audio.sound import U32, AudioMeasure, measured, note
from echo_ingest.decode.errors import DecodeError
from echo_ingest.reasons import ReasonCode

BLOCKS_MAX = 128
COMMENTS_MAX = 1_000
SEARCHED_BYTES_MAX = 500_000
"""The most bytes of which a CRC is computed in search of the last frame; most have below 50 kB."""
STREAMINFO_BYTES = 34


def measure(data: bytes) -> AudioMeasure:
    """Measure a FLAC file; raise `DecodeError` where it is broken, cut off or empty."""
    info = b""
    metadata: dict[str, str] = {}
    at = 4
    for _ in range(BLOCKS_MAX):
        head = data[at : at + 4]
        size = int.from_bytes(head[1:])
        body = data[at + 4 : at + 4 + size]
        if len(head) < 4 or len(body) < size:
            raise DecodeError(
                ReasonCode.AUDIO_CUT_OFF,
                f"the FLAC is cut off in its header, after {len(data):,} bytes",
            )
        at += 4 + size
        if head[0] & 0x7F == 0 and not info:
            info = body
        elif head[0] & 0x7F == 4:
            _note_comments(metadata, body)
        if head[0] & 0x80:
            break
    if len(info) < STREAMINFO_BYTES:
        raise DecodeError(ReasonCode.AUDIO_BROKEN, "the FLAC has no whole STREAMINFO block")
    rate, channels, announced_samples = streaminfo(info)
    if at >= len(data):
        raise DecodeError(
            ReasonCode.AUDIO_EMPTY, "the FLAC is cut off or empty: it has a header and no sound"
        )
    samples = _samples_by_last_frame(data, at, int.from_bytes(info[:2]))
    if samples is None or (announced_samples and samples < announced_samples):
        raise DecodeError(
            ReasonCode.AUDIO_CUT_OFF,
            "the FLAC is cut off: its last frame is not whole, or ends before the last of the"
            f" {announced_samples:,} samples that its header announces",
        )
    return measured(rate, channels, samples / max(rate, 1), metadata)


def streaminfo(info: bytes) -> tuple[int, int, int]:
    """Read sample rate, channels and samples (0: unknown) of a STREAMINFO block (RFC 9639, 8.2)."""
    packed = int.from_bytes(info[10:18])
    return packed >> 44, (packed >> 41 & 7) + 1, packed & (1 << 36) - 1


def _samples_by_last_frame(data: bytes, start: int, block_samples: int) -> int | None:
    """Return where the last whole frame ends, in samples from the start; None without one."""
    end = len(data) - 128 if data[-128:-125] == b"TAG" else len(data)
    budget = SEARCHED_BYTES_MAX
    at = end
    while (at := data.rfind(b"\xff", max(start, end - budget), at)) >= 0:
        if data[at + 1 : at + 2] not in (b"\xf8", b"\xf9"):
            continue
        samples = _frame_end(data[at : at + 16], block_samples)
        if samples is not None:
            budget -= end - at
            # The CRC of a frame followed by its own CRC is 0 (RFC 9639, 9.3).
            if _crc16(data[at:end]) == 0:
                return samples
    return None


def _frame_end(head: bytes, block_samples: int) -> int | None:
    """Return the number of the sample after a frame, by its header (RFC 9639, 9.1), or None."""
    if len(head) < 6 or head[3] & 1 or head[2] >> 4 == 0 or head[2] & 15 == 15:
        return None
    ones = 8 - (head[4] ^ 0xFF).bit_length()
    if ones == 1 or ones > 7:
        return None
    number = head[4] & (0x7F >> ones)
    at = 5
    for byte in head[5 : 4 + max(ones, 1)]:
        number = number << 6 | byte & 0x3F
        at += 1
    code = head[2] >> 4
    if code == 1:
        samples = 192
    elif code <= 5:
        samples = 144 << code
    elif code <= 7:
        wide = code - 5
        samples = int.from_bytes(head[at : at + wide]) + 1
        at += wide
    else:
        samples = 1 << code
    at += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if at >= len(head) or _crc8(head[: at + 1]) != 0:
        return None
    return (number if head[1] & 1 else number * block_samples) + samples


def _note_comments(metadata: dict[str, str], body: bytes) -> None:
    """Read "NAME=value" entries: Vorbis comments, without their framing bit."""
    if len(body) < 8:
        return
    at = 4 + U32.unpack_from(body)[0]
    for _ in range(COMMENTS_MAX):
        at += 4
        if at + 4 > len(body):
            return
        (size,) = U32.unpack_from(body, at)
        name, equals, value = body[at + 4 : at + 4 + size].partition(b"=")
        if equals:
            note(metadata, name.decode(errors="replace").upper(), value)
        at += size


def _table(polynomial: int, bits: int) -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> bits - 1 else 0)
            value &= (1 << bits) - 1
        rows.append(value)
    return tuple(rows)


_CRC8 = _table(0x07, 8)
_CRC16 = _table(0x8005, 16)


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _CRC8[value ^ byte]
    return value


def _crc16(data: bytes) -> int:
    value = 0
    for byte in data:
        value = (value << 8 & 0xFF00) ^ _CRC16[value >> 8 ^ byte]
    return value
