"""MP3: MPEG-1, 2 and 2.5 audio, layer III (ISO 11172-3, 13818-3).

Checked: a frame is there and whole, and no fewer bytes arrived than a Xing or VBRI header
announces; without such a header, that whole frames follow each other to the end. Read: sample rate,
channels, duration. Tags (ID3v2, ID3v1, APE) are skipped.
"""

from typing import NamedTuple

from echo_ingest.decode.audio.sound import AudioMeasure, measured
from echo_ingest.decode.errors import DecodeError
from echo_ingest.reasons import ReasonCode

FRAMES_MAX = 200_000
JUNK_BYTES_MAX = 4_096
"""The padding that some taggers leave between the tag and the sound, at most."""

_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_HZ = (44_100, 48_000, 32_000)
_TRAILERS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")


class Mp3Frame(NamedTuple):
    """The content of a frame header."""

    size_bytes: int
    samples: int
    sample_rate_hz: int
    channels: int
    xing_at: int


def frame(data: bytes, at: int) -> Mp3Frame | None:
    """Read the frame header at `at`; return None where there is no header of layer III."""
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, kbit_index, rate_index = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or not 0 < kbit_index < 15 or rate_index == 3:
        return None
    first = version == 3
    rate = _RATES_HZ[rate_index] >> (0 if first else 1 if version == 2 else 2)
    bits = (_KBITS_1 if first else _KBITS_2)[kbit_index] * 1_000
    size = (144 if first else 72) * bits // rate + (head[2] >> 1 & 1)
    mono = head[3] >> 6 == 3
    side_bytes = (17 if mono else 32) if first else (9 if mono else 17)
    return Mp3Frame(size, 1_152 if first else 576, rate, 1 if mono else 2, 4 + side_bytes)


def measure(data: bytes) -> AudioMeasure:
    """Measure an MP3 file; raise `DecodeError` where it is broken, cut off or empty."""
    at = _after_tag(data)
    head = frame(data, at)
    if head is None or at + head.size_bytes > len(data):
        raise DecodeError(
            ReasonCode.AUDIO_CUT_OFF,
            "the MP3 is cut off or empty: it holds no whole frame of sound",
        )
    announced = _announced(data[at : at + head.size_bytes], head)
    if announced is None:
        samples = _walk(data, at) * head.samples
    else:
        samples, size = announced
        if size > len(data) - at:
            raise DecodeError(
                ReasonCode.AUDIO_CUT_OFF,
                f"the MP3 is cut off: its header announces {size:,} bytes of sound, and"
                f" {len(data) - at:,} arrived",
            )
    return measured(head.sample_rate_hz, head.channels, samples / head.sample_rate_hz, {})


def _after_tag(data: bytes) -> int:
    """Return where the sound begins: behind an ID3v2 tag (id3.org, ID3v2.4, 3.1) and padding."""
    at = 0
    if data.startswith(b"ID3") and len(data) >= 10:
        size = 0
        for byte in data[6:10]:
            size = size << 7 | byte & 0x7F
        at = 10 + size + (10 if data[5] & 0x10 else 0)
    for start in range(at, min(at + JUNK_BYTES_MAX, len(data) - 3)):
        head = frame(data, start)
        if head is not None:
            behind = start + head.size_bytes
            if behind >= len(data) or frame(data, behind) or data.startswith(_TRAILERS, behind):
                return start
    return at


def _announced(first: bytes, head: Mp3Frame) -> tuple[int, int] | None:
    """Return samples and bytes by the encoder's own count: a Xing, Info or VBRI header."""
    if first[36:40] == b"VBRI" and len(first) >= 54:
        frames, size = int.from_bytes(first[50:54]), int.from_bytes(first[46:50])
        return (frames * head.samples, size) if frames else None
    xing = first[head.xing_at :]
    if xing[:4] not in (b"Xing", b"Info") or len(xing) < 16 or not xing[7] & 1:
        return None
    samples = int.from_bytes(xing[8:12]) * head.samples
    size = int.from_bytes(xing[12:16]) if xing[7] & 2 else 0
    if xing[120:124] in (b"LAME", b"Lavf", b"Lavc") and len(xing) >= 144:
        # The encoder's delay and padding, 12 bits each: silence that the encoder added.
        added = int.from_bytes(xing[141:144])
        samples = max(samples - (added >> 12) - (added & 0xFFF), 0)
    return samples, size


def _walk(data: bytes, at: int) -> int:
    """Count the whole frames up to the end."""
    for count in range(FRAMES_MAX):
        head = frame(data, at)
        if head is None or at + head.size_bytes > len(data):
            rest = data[at : at + JUNK_BYTES_MAX]
            if head is None and rest.strip(b"\0") and not rest.startswith(_TRAILERS):
                raise DecodeError(
                    ReasonCode.AUDIO_BROKEN,
                    f"the MP3 is broken after {count:,} frames, at byte {at:,}",
                )
            if head is not None:
                raise DecodeError(
                    ReasonCode.AUDIO_CUT_OFF,
                    f"the MP3 is cut off in its last frame, after {count:,} whole ones",
                )
            return count
        at += head.size_bytes
    raise DecodeError(
        ReasonCode.AUDIO_BROKEN,
        f"the MP3 has more than {FRAMES_MAX:,} frames and no header that counts them",
    )
