"""WAV: RIFF with a `fmt ` and a `data` chunk (IBM and Microsoft, 1991), RF64 (EBU Tech 3306).

Checked: the data chunk is all there. Read: sample rate, channels, duration, and the notes in chunks
that `wav_notes` knows.
"""

from collections.abc import Iterator

from echo_ingest.decode.audio import wav_notes
from echo_ingest.decode.audio.sound import U16, U32, U64, AudioMeasure, measured
from echo_ingest.decode.errors import DecodeError
from echo_ingest.reasons import ReasonCode

CHUNKS_MAX = 1_000
SIZE_IN_DS64 = 0xFFFFFFFF
FIXED_SIZE_FORMATS = frozenset({1, 3, 6, 7})
"""PCM, float, A-law, µ-law: each sample has the same size, so size gives duration."""
EXTENSIBLE = 0xFFFE


def measure(data: bytes) -> AudioMeasure:
    """Measure a WAV file; raise `DecodeError` where it is broken, cut off or empty."""
    layout = b""
    announced_samples: int | None = None
    sound_bytes: int | None = None
    wide_size: int | None = None
    notes: list[tuple[bytes, bytes, int]] = []
    for name, start, size in _chunks(data, 12, len(data)):
        if name == b"data" and size == SIZE_IN_DS64 and wide_size is not None:
            size = wide_size
        arrived = len(data) - start
        if name == b"data" and size > arrived:
            raise DecodeError(
                ReasonCode.AUDIO_CUT_OFF,
                f"the clip is cut off: its data chunk announces {size:,} bytes of sound, and"
                f" {arrived:,} arrived",
            )
        body = data[start : start + size] if name != b"data" else b""
        if name == b"ds64" and len(body) >= 16:
            (wide_size,) = U64.unpack_from(body, 8)
        elif name == b"fmt ":
            layout = body
        elif name == b"fact" and len(body) >= 4:
            (announced_samples,) = U32.unpack_from(body)
        elif name == b"data" and sound_bytes is None:
            sound_bytes = size
        elif name in wav_notes.READERS and len(notes) < wav_notes.CHUNKS_MAX:
            notes.append((name, body, size))
    if len(layout) < 16:
        raise DecodeError(
            ReasonCode.AUDIO_BROKEN, f'the WAV has no whole "fmt " chunk in its {len(data):,} bytes'
        )
    if sound_bytes is None:
        raise DecodeError(
            ReasonCode.AUDIO_CUT_OFF,
            f"the WAV is cut off or empty: it has no data chunk in its {len(data):,} bytes",
        )
    return _measure(layout, sound_bytes, announced_samples, wav_notes.metadata(notes))


def _measure(
    layout: bytes, sound_bytes: int, announced_samples: int | None, metadata: dict[str, str]
) -> AudioMeasure:
    (kind,), (channels,) = U16.unpack_from(layout), U16.unpack_from(layout, 2)
    (rate,), (bytes_a_second,) = U32.unpack_from(layout, 4), U32.unpack_from(layout, 8)
    (frame_bytes,) = U16.unpack_from(layout, 12)
    if kind == EXTENSIBLE and len(layout) >= 26:
        (kind,) = U16.unpack_from(layout, 24)
    if sound_bytes == 0:
        raise DecodeError(
            ReasonCode.AUDIO_EMPTY, "the clip is empty: its data chunk holds 0 bytes of sound"
        )
    if kind in FIXED_SIZE_FORMATS:
        if frame_bytes == 0 or rate == 0:
            raise DecodeError(
                ReasonCode.AUDIO_BROKEN,
                "the WAV header says 0 bytes per sample or 0 samples a second",
            )
        duration = sound_bytes // frame_bytes / rate
    elif announced_samples and rate:
        duration = announced_samples / rate
    elif bytes_a_second:
        duration = sound_bytes / bytes_a_second
    else:
        raise DecodeError(
            ReasonCode.AUDIO_BROKEN,
            f"the WAV header does not say how long sound of format {kind} lasts",
        )
    return measured(rate, channels, duration, metadata)


def _chunks(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and announced size of each chunk; odd sizes are padded by one byte."""
    for _ in range(CHUNKS_MAX):
        if at + 8 > end:
            return
        (size,) = U32.unpack_from(data, at + 4)
        yield data[at : at + 4], at + 8, size
        at += 8 + size + (size & 1)
    raise DecodeError(ReasonCode.AUDIO_BROKEN, f"the WAV has more than {CHUNKS_MAX:,} chunks")
