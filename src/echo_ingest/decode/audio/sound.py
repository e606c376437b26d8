"""The measures of a clip by its header, within the limits of what recorders make."""

from codecs import getincrementaldecoder
from struct import Struct as Layout

from msgspec import Struct

from echo_ingest.decode.errors import DecodeError
from echo_ingest.quality import ClipProblem
from echo_ingest.reasons import ReasonCode

SAMPLE_RATE_HZ_MAX = 10_000_000
CHANNELS_MAX = 64
DURATION_SECONDS_MAX = 7 * 86_400
METADATA_ENTRIES_MAX = 100
METADATA_CHARACTERS_MAX = 2_000
METADATA_NAME_CHARACTERS_MAX = 64
TEXT_BYTES_MAX = 4 * METADATA_CHARACTERS_MAX
TRAILERS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")
"""What tags begin with that stand behind the sound (ID3v1, APE, Lyrics3, ID3v2)."""

U16 = Layout("<H")
U32 = Layout("<I")
U64 = Layout("<Q")


class AudioMeasure(Struct, frozen=True, gc=False):
    """The measures of a clip's sound."""

    sample_rate_hz: int
    channels: int
    duration_seconds: float
    metadata: dict[str, str] = {}
    problem: ClipProblem | None = None
    """In which way the header differs from the sound, if it does."""


def measured(
    sample_rate_hz: int,
    channels: int,
    duration_seconds: float,
    metadata: dict[str, str],
    problem: ClipProblem | None = None,
) -> AudioMeasure:
    """Return the measures; raise `DecodeError` where they are impossible or there is no sound."""
    if not 1 <= sample_rate_hz <= SAMPLE_RATE_HZ_MAX:
        raise DecodeError(
            ReasonCode.AUDIO_BROKEN,
            f"the header says {sample_rate_hz:,} samples a second, which no recorder takes",
        )
    if not 1 <= channels <= CHANNELS_MAX:
        raise DecodeError(
            ReasonCode.AUDIO_BROKEN,
            f"the header says {channels:,} channels; 1 to {CHANNELS_MAX} can be right",
        )
    if duration_seconds <= 0:
        raise DecodeError(ReasonCode.AUDIO_EMPTY, "the clip is empty: it has a header and no sound")
    if duration_seconds > DURATION_SECONDS_MAX:
        raise DecodeError(
            ReasonCode.AUDIO_BROKEN,
            f"the header says that the clip lasts {duration_seconds:,.0f} s, which is over a week",
        )
    return AudioMeasure(sample_rate_hz, channels, duration_seconds, metadata, problem)


def joined(measures: list[AudioMeasure]) -> AudioMeasure:
    """Return the measures of several recordings that stand one after the other in a clip."""
    first = measures[0]
    if len(measures) == 1:
        return first
    metadata: dict[str, str] = {}
    for each in measures:
        if (each.sample_rate_hz, each.channels) != (first.sample_rate_hz, first.channels):
            raise DecodeError(
                ReasonCode.SEVERAL_RECORDINGS,
                "the clip is several recordings with different sample rates or channels; send one"
                " recording per message",
            )
        metadata = each.metadata | metadata
    return measured(
        first.sample_rate_hz,
        first.channels,
        sum(each.duration_seconds for each in measures),
        metadata,
        ClipProblem.SEVERAL_FILES,
    )


def note(metadata: dict[str, str], name: str, value: bytes) -> None:
    """Add an entry to `metadata`: printable, short, the first of its name, within the limit."""
    shown = text(value).strip()
    if not shown.isprintable():
        shown = "".join(letter if letter.isprintable() else " " for letter in shown)
    shown = shown[:METADATA_CHARACTERS_MAX].strip()
    if shown and name.isprintable() and len(metadata) < METADATA_ENTRIES_MAX:
        metadata.setdefault(name[:METADATA_NAME_CHARACTERS_MAX], shown)


def text(value: bytes) -> str:
    """Return text up to its first NUL: UTF-8, or Windows-1252 (which holds Latin-1) if it is not.

    Longer text than `metadata` holds is cut off.
    """
    start, ended, _ = value[:TEXT_BYTES_MAX].partition(b"\0")
    is_whole = bool(ended) or len(value) <= TEXT_BYTES_MAX
    try:
        if is_whole:
            return start.decode()
        # A character that was cut in half here is left out.
        return getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return start.decode("cp1252", errors="replace")
