"""FLAC (RFC 9639): metadata blocks, then frames, each with a CRC of its own.

Checked: the last frame is whole (its CRC-16 holds up to the end of the file), and ends where the
header says the sound ends. Frames in the middle are not decoded. Read: STREAMINFO, and the
comment block as metadata.
"""

import re
from typing import NamedTuple

from echo_ingest.decode.audio import flac_frame, tags
from echo_ingest.decode.audio.flac_frame import HEAD_BYTES_MAX, FlacFrame
from echo_ingest.decode.audio.sound import U32, AudioMeasure, joined, measured, note
from echo_ingest.decode.errors import DecodeError
from echo_ingest.quality import ClipProblem
from echo_ingest.reasons import ReasonCode

BLOCKS_MAX = 128
COMMENTS_MAX = 1_000
FILES_MAX = 100
SEARCHED_BYTES_MAX = 500_000
"""The most bytes of which a CRC is computed in search of the last frame; most have below 50 kB."""
SEARCHED_BYTES_MIN = 60_000
"""The same for each of several files."""
STREAMINFO_BYTES = 34
TAG_BYTES_MAX = 100_000

_OPENING = re.compile(rb"fLaC[\0\x80]\0\0\x22")
"""The name, and the head of the first block, which has the same size in every file."""


class StreamInfo(NamedTuple):
    """The content of a STREAMINFO block (RFC 9639, 8.2)."""

    block_samples_min: int
    block_samples_max: int
    sample_rate_hz: int
    channels: int
    samples: int
    """0 where the encoder did not know."""


def measure(data: bytes) -> AudioMeasure:
    """Measure a FLAC file; raise `DecodeError` where it is broken, cut off or empty."""
    starts = _starts(data)
    if len(starts) == 1:
        return _file(data, SEARCHED_BYTES_MAX)
    ends = [*(_before_tag(data, start) for start in starts[1:]), len(data)]
    searched = max(SEARCHED_BYTES_MAX // len(starts), SEARCHED_BYTES_MIN)
    return joined(
        [_file(data[start:end], searched) for start, end in zip(starts, ends, strict=True)]
    )


def streaminfo(info: bytes) -> StreamInfo:
    """Read the body of a STREAMINFO block, of which 18 bytes must be there."""
    packed = int.from_bytes(info[10:18])
    return StreamInfo(
        int.from_bytes(info[:2]),
        int.from_bytes(info[2:4]),
        packed >> 44,
        (packed >> 41 & 7) + 1,
        packed & (1 << 36) - 1,
    )


def _starts(data: bytes) -> list[int]:
    """Return where this file begins, and others that stand behind it."""
    starts = [0]
    for opening in _OPENING.finditer(data, 1):
        starts.append(opening.start())
        if len(starts) > FILES_MAX:
            raise DecodeError(
                ReasonCode.SEVERAL_RECORDINGS,
                f"the clip is more than {FILES_MAX} FLAC files; send one recording per message",
            )
    return starts


def _before_tag(data: bytes, start: int) -> int:
    """Return where the ID3v2 tag begins that leads to `start`; `start` if there is none."""
    at = data.rfind(b"ID3", max(start - TAG_BYTES_MAX, 0), start)
    return at if at >= 0 and tags.sound_at(data, at) == start else start


def _file(data: bytes, searched_bytes: int) -> AudioMeasure:
    info = b""
    metadata: dict[str, str] = {}
    at = 4
    for _ in range(BLOCKS_MAX):
        head = data[at : at + 4]
        if head[:1] == b"\xff":
            break  # a frame: the last block was not marked as such
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
    announced = streaminfo(info)
    first = flac_frame.frame(data[at : at + HEAD_BYTES_MAX])
    if at >= len(data):
        raise DecodeError(
            ReasonCode.AUDIO_EMPTY, "the FLAC is cut off or empty: it has a header and no sound"
        )
    last = _last_frame(data, at, searched_bytes)
    if last is None:
        promise = f"; its header announces {announced.samples:,} samples" * bool(announced.samples)
        raise DecodeError(
            ReasonCode.AUDIO_CUT_OFF, f"the FLAC is cut off: its last frame is not whole{promise}"
        )
    block_samples, full_samples = announced.block_samples_min, announced.block_samples_max
    if first is not None and first.is_fixed and first.number != last.number:
        block_samples = full_samples = first.samples
    start = first.start(block_samples) if first is not None else 0
    samples = last.start(block_samples) + last.samples - start
    rate = last.sample_rate_hz or announced.sample_rate_hz
    problem = _compare(announced, samples, last.is_fixed and last.samples < full_samples)
    if rate != announced.sample_rate_hz:
        problem = ClipProblem.HEADER_DISAGREES
    return measured(rate, announced.channels, samples / max(rate, 1), metadata, problem)


def _compare(announced: StreamInfo, samples: int, is_ended: bool) -> ClipProblem | None:
    """Hold the samples of the frames against those that the header announces.

    `is_ended` says that the last block is shorter than the others, as only the last of all may be.
    """
    if announced.samples == samples:
        return None
    if announced.samples == 0:
        return ClipProblem.LENGTH_NOT_ANNOUNCED
    # Some encoders count the samples of all channels, and some count all twice.
    multiples = (2 * samples, announced.channels * samples)
    if announced.samples < samples or is_ended or announced.samples in multiples:
        return ClipProblem.HEADER_DISAGREES
    raise DecodeError(
        ReasonCode.AUDIO_CUT_OFF,
        f"the FLAC is cut off: its header announces {announced.samples:,} samples, and its frames"
        f" hold {samples:,}",
    )


def _last_frame(data: bytes, start: int, budget: int) -> FlacFrame | None:
    """Return the header of the last frame, if that is whole; tags and zeros may stand behind it.

    `budget` is the most bytes of which a CRC is computed.
    """
    end = tags.sound_end(data)
    # Zeros change no CRC that is 0, and two of them may be the CRC itself.
    end = min(tags.before_zeros(data, end) + 2, end)
    at = end
    while (at := data.rfind(b"\xff", max(start, end - budget), at)) >= 0:
        if data[at + 1 : at + 2] not in (b"\xf8", b"\xf9"):
            continue
        last = flac_frame.frame(data[at : at + HEAD_BYTES_MAX])
        if last is not None:
            budget -= end - at
            if flac_frame.is_whole(data[at:end]):
                return last
    return None


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
