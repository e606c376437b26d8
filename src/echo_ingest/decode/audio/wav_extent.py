"""How many bytes of a WAV are sound: what its data chunk announces, held against what is there.

A program that writes to a pipe cannot come back to fill in a size, and leaves 0 or one as large as
possible. Then the sound goes on to the end of the message. Where a size is plainly wrong, the RIFF
header and the bytes behind the sound are asked.
"""

from typing import NamedTuple

from echo_ingest.decode.audio import riff
from echo_ingest.decode.audio.sound import TRAILERS
from echo_ingest.quality import ClipProblem

SIZE_IN_DS64 = 0xFFFFFFFF
NEAR_BYTES = 2**20
SLACK_BYTES = 9
"""The most by which the size in a RIFF header is wrong that counts its own 8 bytes and a pad."""
TINY_BYTES = 100
"""Sizes up to here are those of a header, which some programs write where they know no better."""


class SoundExtent(NamedTuple):
    """The bytes of sound that are there; fewer than `announced_bytes` if the clip is cut off."""

    size_bytes: int
    problem: ClipProblem | None = None
    announced_bytes: int | None = None


def is_placeholder(size: int) -> bool:
    """Return whether a size is one that a program writes that cannot know it.

    These are 2³¹ and 2³² less or more a header: no MQTT message is that long.
    """
    return abs(size - 2**31) <= NEAR_BYTES or size >= 2**32 - NEAR_BYTES


def extent(data: bytes, start: int, size: int, file_end: int | None) -> SoundExtent:
    """Return how much of `data` behind `start` is sound.

    `size` is what the data chunk announces, and `file_end` where the RIFF header ends the file, if
    it says that.
    """
    arrived = len(data) - start
    if size > arrived:
        if is_placeholder(size):
            return _to_the_end(data, start, ClipProblem.LENGTH_NOT_ANNOUNCED)
        if file_end == len(data):
            # A file that was cut off is shorter than its RIFF header says, and this one is not.
            rest = _to_the_end(data, start, ClipProblem.HEADER_DISAGREES)
            return rest._replace(announced_bytes=size)
        return SoundExtent(arrived, None, size)
    end = start + size
    rest_bytes = len(data) - end
    if rest_bytes <= 1 or _is_something_else(data, end) or _is_something_else(data, end + size % 2):
        return SoundExtent(size)
    if size == 0:
        return _to_the_end(data, start, ClipProblem.LENGTH_NOT_ANNOUNCED)
    confirmed = file_end is not None and abs(file_end - end) <= SLACK_BYTES
    if rest_bytes <= size:
        padding = confirmed or (file_end != len(data) and _is_zero(data, end))
    else:
        padding = confirmed and size > TINY_BYTES and _is_zero(data, end)
    return SoundExtent(size) if padding else _to_the_end(data, start, ClipProblem.HEADER_DISAGREES)


def _is_something_else(data: bytes, at: int) -> bool:
    """Return whether a chunk, another file or a tag begins at `at`, and so the sound has ended."""
    return riff.is_chunk(data, at) or data.startswith(TRAILERS, at)


def _is_zero(data: bytes, at: int) -> bool:
    """Return whether there is nothing but zeros up to the end, or up to the next file."""
    end = riff.next_file(data, at)
    if end is None:
        end = len(data)
    return data.count(0, at, end) == end - at


def _to_the_end(data: bytes, start: int, problem: ClipProblem) -> SoundExtent:
    """Return everything up to the next file, or up to chunks that lead exactly to the end."""
    end = riff.next_file(data, start)
    if end is None:
        end = len(data)
    return SoundExtent(riff.tail(data, start, end) - start, problem)
