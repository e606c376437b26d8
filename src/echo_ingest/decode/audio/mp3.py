"""MP3: MPEG-1, 2 and 2.5 audio, layer III (ISO 11172-3, 13818-3).

Checked: whole frames follow each other to the end, and they are as many as a Xing or VBRI header
announces. Frames are counted and not decoded. Read: sample rate, channels, duration. Tags and
zeros before, between and behind the frames are stepped over.
"""

import re
from functools import cache
from typing import NamedTuple

from echo_ingest.decode.audio import tags
from echo_ingest.decode.audio.sound import AudioMeasure, joined, measured
from echo_ingest.decode.errors import DecodeError
from echo_ingest.quality import ClipProblem
from echo_ingest.reasons import ReasonCode

FILES_MAX = 100
JUNK_BYTES_MAX = 4_096
"""The rubbish before and behind the sound that is stepped over, at most."""
HEAD_BYTES = 4
FREE_FORMAT_BYTES_MAX = 6_000
RUN_FRAMES = 200
"""As many frames are stepped over at a time; one by one takes ten times as long."""

_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_HZ = (44_100, 48_000, 32_000)
_COUNTS = (b"Xing", b"Info", b"VBRI")
_VBRI_AT = 36
_ERASED = re.compile(rb"\xff*")
"""What erased flash memory holds."""


class Mp3Frame(NamedTuple):
    """The content of a frame header."""

    size_bytes: int
    samples: int
    sample_rate_hz: int
    channels: int
    xing_at: int


class Mp3Count(NamedTuple):
    """What the encoder says about the file, in place of a first frame."""

    frames: int
    size_bytes: int
    """Of the whole sound, this frame included; 0 where it does not say."""
    added_samples: int
    """Silence that the encoder added at both ends."""


class Mp3Run(NamedTuple):
    """Frames that follow each other."""

    frames: int
    end: int
    stopped: bool
    """Whether the run ends because the next frame is another kind or begins another file."""


def frame(data: bytes, at: int) -> Mp3Frame | None:
    """Read the frame header at `at`; return None where there is no header of layer III."""
    head = data[at : at + HEAD_BYTES]
    if len(head) < HEAD_BYTES or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
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


def begins(data: bytes, at: int) -> bool:
    """Return whether a frame begins at `at`, and behind it another, or a tag, or nothing."""
    head = frame(data, at)
    if head is None:
        return is_free_format(data, at)
    behind = at + head.size_bytes
    return (
        behind >= len(data)
        or frame(data, behind) is not None
        or tags.sound_at(data, behind) > behind
    )


def is_free_format(data: bytes, at: int) -> bool:
    """Return whether frames begin at `at` that do not say how long they are."""
    head = data[at : at + HEAD_BYTES]
    if len(head) < HEAD_BYTES or frame(bytes((*head[:2], head[2] | 0x10, head[3])), 0) is None:
        return False
    like = head[:2] + bytes([head[2] & 0xFD])
    return head[2] >> 4 == 0 and data.find(like, at + HEAD_BYTES, at + FREE_FORMAT_BYTES_MAX) > 0


def measure(data: bytes) -> AudioMeasure:
    """Measure an MP3 file; raise `DecodeError` where it is broken, cut off or empty."""
    end = tags.sound_end(data)
    at = _first_frame(data, tags.sound_at(data), end)
    head = frame(data, at)
    if head is None and is_free_format(data, at):
        raise DecodeError(
            ReasonCode.UNKNOWN_AUDIO_FORMAT,
            "the MP3 is in free format, whose frames do not say how long they are; use a fixed"
            " bit rate",
        )
    if head is None or at + head.size_bytes > end:
        raise DecodeError(
            ReasonCode.AUDIO_CUT_OFF,
            "the MP3 is cut off or empty: it holds no whole frame of sound",
        )
    measures: list[AudioMeasure] = []
    starts = _further_counts(data, at + head.size_bytes, end)
    behind: int | None = at
    while behind is not None:
        if len(measures) == FILES_MAX:
            raise DecodeError(
                ReasonCode.SEVERAL_RECORDINGS,
                f"the clip is more than {FILES_MAX} MP3 files; send one recording per message",
            )
        at = behind
        measure, behind = _file(data, at, end, starts)
        measures.append(measure)
    return joined(measures)


def _first_frame(data: bytes, at: int, end: int) -> int:
    """Return where the first frame begins, behind some rubbish if need be; `at` without one."""
    candidate = at - 1
    while (candidate := data.find(b"\xff", candidate + 1, min(at + JUNK_BYTES_MAX, end))) >= 0:
        if begins(data, candidate):
            return candidate
    return at


def _file(data: bytes, at: int, end: int, starts: list[int]) -> tuple[AudioMeasure, int | None]:
    """Measure the file at `at`, and return where another begins behind it, if one does."""
    head = frame(data, at)
    assert head is not None
    count = _announced(data[at : at + head.size_bytes], head)
    run = _walk(data, at, end, starts)
    if run.frames == 0:
        raise DecodeError(ReasonCode.AUDIO_CUT_OFF, "the last MP3 in the clip is cut off")
    frames = run.frames - 1 if count else run.frames
    is_counted = count is not None and 0 < count.frames <= frames
    behind = run.end if run.stopped else _behind_run(data, run.end, end, frames, is_counted)
    problem = None
    added = 0
    if count is not None:
        added = count.added_samples
        # Zeros are no sound, also where they fill the file up to the size that was announced.
        arrived_end = run.end if data.startswith(b"\0", run.end) else len(data)
        problem = _compare(count, frames, arrived_end - at, run.end - at)
    samples = frames * head.samples
    if added < samples:
        samples -= added
    elif samples:
        problem = ClipProblem.HEADER_DISAGREES
    duration = samples / head.sample_rate_hz
    return measured(head.sample_rate_hz, head.channels, duration, {}, problem), behind


def _compare(
    count: Mp3Count, frames: int, arrived_bytes: int, own_bytes: int
) -> ClipProblem | None:
    """Hold the frames that are there against the encoder's count."""
    if count.frames == 0:
        return ClipProblem.LENGTH_NOT_ANNOUNCED
    missing = count.frames - frames
    # Some encoders count the frame that holds the count, too.
    if missing > 1 or (missing == 1 and count.size_bytes > arrived_bytes):
        if not 0 < count.size_bytes <= arrived_bytes:
            announced, arrived, unit = count.frames, frames, "frames"
            if count.size_bytes > arrived_bytes:
                announced, arrived, unit = count.size_bytes, arrived_bytes, "bytes"
            raise DecodeError(
                ReasonCode.AUDIO_CUT_OFF,
                f"the MP3 is cut off: its header announces {announced:,} {unit} of sound, and"
                f" {arrived:,} arrived",
            )
        return ClipProblem.HEADER_DISAGREES
    wrong_bytes = count.size_bytes and abs(count.size_bytes - own_bytes) > JUNK_BYTES_MAX
    return ClipProblem.HEADER_DISAGREES if missing < -1 or wrong_bytes else None


def _announced(first: bytes, head: Mp3Frame) -> Mp3Count | None:
    """Return the encoder's own count: a Xing, Info or VBRI header."""
    if first[_VBRI_AT : _VBRI_AT + 4] == b"VBRI" and len(first) >= 54:
        return Mp3Count(int.from_bytes(first[50:54]), int.from_bytes(first[46:50]), 0)
    xing = first[head.xing_at :]
    if xing[:4] not in (b"Xing", b"Info") or len(xing) < 16:
        return None
    frames = int.from_bytes(xing[8:12]) if xing[7] & 1 else 0
    size = int.from_bytes(xing[12:16]) if xing[7] & 3 == 3 else 0
    added = 0
    if xing[120:124] in (b"LAME", b"Lavf", b"Lavc") and len(xing) >= 144:
        # The encoder's delay and padding, 12 bits each.
        packed = int.from_bytes(xing[141:144])
        added = (packed >> 12) + (packed & 0xFFF)
    return Mp3Count(frames, size, added)


def _further_counts(data: bytes, at: int, end: int) -> list[int]:
    """Return where frames with a count begin behind the first: each opens another file."""
    starts = set()
    for name in _COUNTS:
        hit = at
        for _ in range(FILES_MAX):
            hit = data.find(name, hit + 1, end)
            if hit < 0:
                break
            for before in (_VBRI_AT,) if name == b"VBRI" else (13, 21, 36):
                head = frame(data, hit - before)
                if head is not None and (name == b"VBRI" or head.xing_at == before):
                    starts.add(hit - before)
    return sorted(starts)


@cache
def _frames(second: int, rate: int) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return what matches one frame of this version and sample rate, and what matches many.

    `second` is the second byte of its header, and `rate` the bits for the rate in the third.
    """
    bytes_by_size: dict[int, list[int]] = {}
    for rest in range(256):
        head = frame(bytes((0xFF, second, rest, 0)), 0)
        if head is not None and rest & 0x0C == rate:
            bytes_by_size.setdefault(head.size_bytes, []).append(rest)
    sizes = b"|".join(
        b"[%s].{%d}" % (re.escape(bytes(thirds)), size - 3)
        for size, thirds in bytes_by_size.items()
    )
    one = rb"\xff[%s](?:%s)" % (re.escape(bytes((second & 0xFE, second))), sizes)
    many = rb"(?:%s){%d}+" % (one, RUN_FRAMES)
    return re.compile(one, re.DOTALL), re.compile(many, re.DOTALL)


def _walk(data: bytes, at: int, end: int, starts: list[int]) -> Mp3Run:
    """Step over this frame and all whole frames of the same kind, up to one of the `starts`."""
    head = data[at : at + HEAD_BYTES]
    one, many = _frames(head[1] | 1, head[2] & 0x0C)
    frames = 0
    for stop in (*(start for start in starts if start > at), end):
        for pattern, count in ((many, RUN_FRAMES), (one, 1)):
            while (found := pattern.match(data, at, stop)) is not None:
                at = found.end()
                frames += count
        if at == stop < end:
            return Mp3Run(frames, at, True)
    following = frame(data, at)
    whole = following is not None and at + following.size_bytes <= end
    return Mp3Run(frames, at, whole and begins(data, at))


def _behind_run(data: bytes, at: int, end: int, frames: int, is_counted: bool) -> int | None:
    """Return where another file begins behind the last frame, if one does.

    Raise `DecodeError` where frames are cut off or damaged. `is_counted` says that the encoder
    counted no more frames than there are.
    """
    opening = data[at : min(at + HEAD_BYTES, end)]
    half_a_head = (
        len(opening) < HEAD_BYTES
        and opening[:1] == b"\xff"
        and (len(opening) == 1 or opening[1] & 0xE6 == 0xE2)
    )
    if not is_counted and (frame(data, at) is not None or half_a_head):
        raise DecodeError(
            ReasonCode.AUDIO_CUT_OFF,
            f"the MP3 is cut off in its last frame, after {frames:,} whole ones",
        )
    behind = min(tags.sound_at(data, at), end)
    if behind >= end or _ERASED.fullmatch(data, behind, end):
        return None
    next_at = _first_frame(data, behind, end)
    is_next = frame(data, next_at) is not None and next_at + HEAD_BYTES <= end
    tagged = next_at == behind and data[at:behind].count(0) < behind - at
    if is_next and tagged:
        return next_at
    if is_next or (end - behind > JUNK_BYTES_MAX and not is_counted):
        raise DecodeError(
            ReasonCode.AUDIO_BROKEN, f"the MP3 is broken after {frames:,} frames, at byte {at:,}"
        )
    return None
