"""How long the sound of a WAV lasts, by its bytes and by the layout that its `fmt ` chunk gives.

The fields of that chunk say the same thing several times, and may contradict each other. Players
go by channels and bits, so these are right where a recording has ever been listened to; a wrong
block size or byte rate is heard by nobody.
"""

from struct import Struct as Layout
from typing import NamedTuple

from echo_ingest.decode.audio.sound import U16
from echo_ingest.decode.errors import DecodeError
from echo_ingest.quality import ClipProblem
from echo_ingest.reasons import ReasonCode

_LAYOUT = Layout("<HHIIHH")
LAYOUT_BYTES_MIN = _LAYOUT.size
PCM, MS_ADPCM, FLOAT, A_LAW, MU_LAW, IMA_ADPCM, GSM, MP3 = 1, 2, 3, 6, 7, 0x11, 0x31, 0x55
EXTENSIBLE = 0xFFFE
FIXED_SIZE_FORMATS = frozenset({PCM, FLOAT, A_LAW, MU_LAW})
"""Each sample has the same size, so size gives duration."""
BITS_MAX = 64
FACT_UNKNOWN = (None, 0, 0xFFFFFFFF)
DEVIATION_MAX = 0.02
DEVIATION_SECONDS_MAX = 0.1
"""The byte rate of other compressed formats is rounded, and their last block is not full."""


class WavFormat(NamedTuple):
    """The fields of a `fmt ` chunk."""

    kind: int
    channels: int
    rate: int
    bytes_a_second: int
    block_bytes: int
    bits: int
    block_samples: int
    """The samples in a block of a compressed format; 0 where it does not say."""


class Lasting(NamedTuple):
    """How long the sound lasts."""

    seconds: float
    problem: ClipProblem | None = None


def read(layout: bytes) -> WavFormat:
    """Read the body of a `fmt ` chunk, of which 16 bytes must be there."""
    kind, channels, rate, bytes_a_second, block_bytes, bits = _LAYOUT.unpack_from(layout)
    block_samples = U16.unpack_from(layout, 18)[0] if len(layout) >= 20 else 0
    if kind == EXTENSIBLE:
        kind = U16.unpack_from(layout, 24)[0] if len(layout) >= 26 else PCM
    return WavFormat(kind, channels, rate, bytes_a_second, block_bytes, bits, block_samples)


def lasting(form: WavFormat, sound_bytes: int, fact_samples: int | None) -> Lasting:
    """Return how long the sound lasts; raise `DecodeError` where the header does not tell.

    `fact_samples` is what a `fact` chunk counts, if there is one.
    """
    if form.rate == 0 or form.channels == 0:
        raise DecodeError(
            ReasonCode.AUDIO_BROKEN,
            f"the WAV header says {form.channels} channels and {form.rate} samples a second",
        )
    if fact_samples in FACT_UNKNOWN:
        fact_samples = None
    if form.kind in FIXED_SIZE_FORMATS:
        return _fixed_size(form, sound_bytes, fact_samples)
    samples = _by_blocks(form, sound_bytes)
    if samples is not None:
        return _in_blocks(form, samples, fact_samples)
    return _by_rate(form, sound_bytes, fact_samples)


def _fixed_size(form: WavFormat, sound_bytes: int, fact_samples: int | None) -> Lasting:
    by_bits = form.channels * _sample_bytes(form)
    agreed = form.block_bytes == by_bits > 0 and form.bytes_a_second == by_bits * form.rate
    frame_bytes = by_bits if agreed else _frame_bytes(form, by_bits, sound_bytes, fact_samples)
    samples = sound_bytes // frame_bytes
    # Some count the samples of all channels.
    agreed = agreed and fact_samples in (None, samples, samples * form.channels)
    return Lasting(samples / form.rate, None if agreed else ClipProblem.HEADER_DISAGREES)


def _sample_bytes(form: WavFormat) -> int:
    """Return the bytes of a sample by the bits that the header gives; 0 for an impossible value."""
    if form.kind in (A_LAW, MU_LAW):
        return 1
    if form.kind == FLOAT:
        return form.bits // 8 if form.bits in (16, 32, 64) else 0
    return (form.bits + 7) // 8 if form.bits <= BITS_MAX else 0


def _frame_bytes(form: WavFormat, by_bits: int, sound_bytes: int, fact_samples: int | None) -> int:
    """Return the bytes of a sample on all channels where the header contradicts itself."""
    by_rate = form.bytes_a_second // form.rate
    if fact_samples is not None:
        for size in (by_bits, form.block_bytes, by_rate):
            if size and sound_bytes // size == fact_samples:
                return size
    both = form.block_bytes if form.bytes_a_second == form.block_bytes * form.rate else 0
    if form.kind == PCM and 16 < form.bits <= 32 and both == 4 * form.channels:
        return both  # samples of 20 or 24 bits, each in 4 bytes
    if by_bits:
        return by_bits
    if not both:
        raise DecodeError(
            ReasonCode.AUDIO_BROKEN,
            f"the WAV header contradicts itself: it says {form.bits} bits and"
            f" {form.block_bytes:,} bytes per sample, and {form.bytes_a_second:,} bytes a second",
        )
    return both


def _by_blocks(form: WavFormat, sound_bytes: int) -> tuple[int, int, bool] | None:
    """Return the least and most samples in the blocks, and whether the header has their size right.

    Return None for a format whose blocks are not known.
    """
    channels, block = form.channels, form.block_bytes
    if form.kind == IMA_ADPCM and form.bits == 4:
        head, first = 4 * channels, 1
    elif form.kind == MS_ADPCM and form.bits == 4:
        head, first = 7 * channels, 2
    elif form.kind == GSM and block == 65 and channels == 1:
        samples = (sound_bytes + block - 2) // block * 320  # one byte may be a pad
        return max(samples - 319, 1), samples, form.block_samples in (0, 320)
    else:
        return None
    if block <= head:
        return None
    block_samples = (block - head) * 2 // channels + first
    whole, rest = divmod(sound_bytes, block)
    samples = whole * block_samples + (max(rest - head, 0) * 2 // channels + first if rest else 0)
    least = max(samples - block_samples + 1, 1)
    return least, samples, form.block_samples in (0, block_samples)


def _in_blocks(form: WavFormat, blocks: tuple[int, int, bool], fact_samples: int | None) -> Lasting:
    """Return what a `fact` chunk counts if the blocks hold as much, else what they hold."""
    least, most, agreed = blocks
    if fact_samples is not None and least <= fact_samples <= most:
        most = fact_samples
    elif fact_samples is not None:
        agreed = False
        if least <= fact_samples // form.channels <= most:
            most = fact_samples // form.channels
    return Lasting(most / form.rate, None if agreed else ClipProblem.HEADER_DISAGREES)


def _by_rate(form: WavFormat, sound_bytes: int, fact_samples: int | None) -> Lasting:
    by_rate = sound_bytes / form.bytes_a_second if form.bytes_a_second else None
    if fact_samples is None:
        if by_rate is None:
            raise DecodeError(
                ReasonCode.AUDIO_BROKEN,
                f"the WAV header does not say how long sound of format {form.kind} lasts",
            )
        return Lasting(by_rate)
    for channels in (1, form.channels):
        by_count = fact_samples / channels / form.rate
        if by_rate is None or (
            abs(by_count - by_rate) <= DEVIATION_SECONDS_MAX + DEVIATION_MAX * by_rate
        ):
            return Lasting(by_count, ClipProblem.HEADER_DISAGREES if channels > 1 else None)
    raise DecodeError(
        ReasonCode.AUDIO_BROKEN,
        f"the WAV header contradicts itself: its sound of format {form.kind} lasts"
        f" {fact_samples / form.rate:,.2f} s by its count and {by_rate:,.2f} s by its byte rate",
    )
