"""WAV: RIFF with a `fmt ` and a `data` chunk, RF64 (EBU Tech 3306) and BW64 (ITU-R BS.2088).

Checked: the sound is all there, and the fields of the header agree with it (`wav_extent`,
`wav_format`). Read: sample rate, channels, duration, and the notes in the chunks that `wav_notes`
knows.
"""

from typing import NamedTuple

from echo_ingest.decode.audio import mp3, riff, wav_extent, wav_format, wav_notes
from echo_ingest.decode.audio.sound import U32, U64, AudioMeasure, joined, measured
from echo_ingest.decode.audio.wav_extent import SIZE_IN_DS64, SoundExtent, is_placeholder
from echo_ingest.decode.errors import DecodeError
from echo_ingest.reasons import ReasonCode

FILES_MAX = 100


def measure(data: bytes) -> AudioMeasure:
    """Measure a WAV file; raise `DecodeError` where it is broken, cut off or empty."""
    measures: list[AudioMeasure] = []
    nothing: DecodeError | None = None
    at: int | None = 0
    while at is not None:
        if len(measures) == FILES_MAX:
            raise DecodeError(
                ReasonCode.SEVERAL_RECORDINGS,
                f"the clip is more than {FILES_MAX} WAV files; send one recording per message",
            )
        file = _walk(data, at)
        try:
            measures.append(_measure(data, file))
        except DecodeError as error:
            if error.rejected.code is not ReasonCode.AUDIO_EMPTY:
                raise
            nothing = error  # which does no harm beside recordings
        at = file.next_at
    if nothing is not None and not measures:
        raise nothing
    return joined(measures)


class WavFile(NamedTuple):
    """What the chunks of one WAV file hold."""

    size_bytes: int
    layout: bytes
    fact_samples: int | None
    sound_at: int
    sound: SoundExtent | None
    metadata: dict[str, str]
    next_at: int | None
    """Where another file begins behind this one, if one does."""


def _walk(data: bytes, file_at: int) -> WavFile:
    """Step over the chunks of one file."""
    file_end, wide_size = _file_end(data, file_at, None), None
    layout, sound_at = b"", 0
    fact_samples: int | None = None
    sound: SoundExtent | None = None
    notes: list[tuple[bytes, bytes, int]] = []
    at = start = file_at + 12
    for _ in range(riff.CHUNKS_MAX):
        if sound is None:
            at = riff.nearby(data, at, start)
        if at + riff.HEAD_BYTES > len(data):
            next_at = None
            break
        if riff.is_file(data, at):
            next_at = at
            break
        if sound is not None and data[at] == 0:
            at = riff.behind_zeros(data, at)
            continue
        name, size = riff.HEAD.unpack_from(data, at)
        start = at + riff.HEAD_BYTES
        if name == b"data":
            if size == SIZE_IN_DS64 and wide_size is not None:
                size = wide_size
            extent = wav_extent.extent(data, start, size, file_end)
            size = extent.size_bytes
            if sound is None or sound.size_bytes == 0:
                sound, sound_at = extent, start
            elif size:
                raise DecodeError(
                    ReasonCode.SEVERAL_RECORDINGS,
                    "the WAV has more than one data chunk; send one recording per message",
                )
        else:
            body = data[start : start + size]
            if name == b"ds64" and len(body) >= 16:
                (wide_size,) = U64.unpack_from(body, 8)
                file_end = _file_end(data, file_at, body)
            elif name == b"fmt ":
                layout = layout or body
            elif name == b"fact" and len(body) >= 4:
                (fact_samples,) = U32.unpack_from(body)
            elif name in wav_notes.READERS and len(notes) < wav_notes.CHUNKS_MAX:
                notes.append((name, body, size))
        at = riff.behind(data, start, size)
    else:
        raise DecodeError(
            ReasonCode.AUDIO_BROKEN, f"the WAV has more than {riff.CHUNKS_MAX:,} chunks"
        )
    size_bytes = (len(data) if next_at is None else next_at) - file_at
    metadata = wav_notes.metadata(notes)
    return WavFile(size_bytes, layout, fact_samples, sound_at, sound, metadata, next_at)


def _file_end(data: bytes, at: int, ds64: bytes | None) -> int | None:
    """Return where the file ends by its header; None where that does not say."""
    sizes = ds64 or data[at + 4 : at + 8]
    size = (U64 if ds64 else U32).unpack_from(sizes)[0] if len(sizes) >= 4 else 0
    return None if size == 0 or is_placeholder(size) else at + riff.HEAD_BYTES + size


def _measure(data: bytes, file: WavFile) -> AudioMeasure:
    if len(file.layout) < wav_format.LAYOUT_BYTES_MIN:
        raise DecodeError(
            ReasonCode.AUDIO_BROKEN,
            f'the WAV has no whole "fmt " chunk in its {file.size_bytes:,} bytes',
        )
    sound = file.sound
    if sound is None:
        raise DecodeError(
            ReasonCode.AUDIO_CUT_OFF,
            f"the WAV is cut off or empty: it has no data chunk in its {file.size_bytes:,} bytes",
        )
    form = wav_format.read(file.layout)
    seconds, problem = 0.0, None
    if sound.announced_bytes is None or sound.problem is not None:
        if sound.size_bytes == 0:
            raise DecodeError(
                ReasonCode.AUDIO_EMPTY, "the clip is empty: its data chunk holds 0 bytes of sound"
            )
        if form.kind == wav_format.MP3:
            return _of_mp3(data, file, sound)
        seconds, problem = wav_format.lasting(form, sound.size_bytes, file.fact_samples)
    if sound.announced_bytes is not None and seconds == 0:
        raise DecodeError(
            ReasonCode.AUDIO_CUT_OFF,
            f"the clip is cut off: its data chunk announces {sound.announced_bytes:,} bytes of"
            f" sound, and {sound.size_bytes:,} arrived",
        )
    return measured(form.rate, form.channels, seconds, file.metadata, sound.problem or problem)


def _of_mp3(data: bytes, file: WavFile, sound: SoundExtent) -> AudioMeasure:
    """Measure an MP3 that is the sound of a WAV."""
    inner = mp3.measure(data[file.sound_at : file.sound_at + sound.size_bytes])
    return measured(
        inner.sample_rate_hz,
        inner.channels,
        inner.duration_seconds,
        file.metadata,
        sound.problem or inner.problem,
    )
