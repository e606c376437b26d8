"""Measure a clip by its bytes alone: WAV, FLAC, MP3 or Ogg."""

import hashlib
from binascii import a2b_base64

from echo_ingest.decode.audio import flac, mp3, ogg, tags, time_expansion, wav
from echo_ingest.decode.audio.riff import FILE_NAMES
from echo_ingest.decode.errors import DecodeError, looks_like
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Clip, Container

REFERENCE_CHARACTERS_MAX = 1_024
_MEASURES = {"wav": wav.measure, "flac": flac.measure, "mp3": mp3.measure, "ogg": ogg.measure}
MP3_OPENING_CHARACTERS = 8
_SIGNS_OF_NAMES = frozenset(".:\\")
_BASE64_OPENINGS = ("UklGR", "UkY2N", "Qlc2N", "ZkxhQ", "SUQz", "T2dnU", "//", "/+")
"""The base64 of RIFF, RF64, BW64, fLaC, ID3, OggS, and of the first bits of an MP3 frame."""


def container(data: bytes) -> Container | None:
    """Return the container that the first bytes of `data` announce; None for anything else.

    Tags and zeros before them do not count; a tag alone is taken for that of an MP3.
    """
    at = _sound_at(data)
    opening = data[at : at + 4]
    if opening in FILE_NAMES and b"WAVE".startswith(data[at + 8 : at + 12]):
        return "wav"
    if opening == b"fLaC":
        return "flac"
    if opening == b"OggS":
        return "ogg"
    if data[:3] == b"ID3" or mp3.begins(data, at) or (at == 0 and mp3.frame(data, 0) is not None):
        return "mp3"
    return None


def _sound_at(data: bytes) -> int:
    """Return where the tags and zeros before the sound end."""
    return tags.sound_at(data) if data.startswith((b"ID3", b"\0")) else 0


def describe(data: bytes, *, hashed: bool) -> Clip:
    """Measure a clip; raise `DecodeError` where it is broken, cut off, empty or not audio.

    The SHA-256 costs a hundred times the rest; it is left empty unless `hashed`.
    """
    if not data:
        raise DecodeError(ReasonCode.AUDIO_EMPTY, "the clip is empty: it has 0 bytes")
    kind = container(data)
    if kind is None:
        raise DecodeError(
            ReasonCode.UNKNOWN_AUDIO_FORMAT,
            f"the clip is not WAV, FLAC, MP3 or Ogg audio, but {looks_like(data)}",
        )
    at = _sound_at(data)
    sound = time_expansion.as_heard(_MEASURES[kind](data[at:] if at else data))
    return Clip(
        container=kind,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest() if hashed else "",
        sample_rate_hz=sound.sample_rate_hz,
        channels=sound.channels,
        duration_seconds=sound.duration_seconds,
        problem=sound.problem,
        metadata=sound.metadata,
    )


def is_reference(text: str) -> bool:
    """Return whether this is the name or address of a clip, and not the clip itself.

    Text that begins like a clip in base64, or is longer than any name, is a clip. The base64 of an
    MP3 without a tag begins like a path: it holds no sign that a name has before its ending or
    between its words.
    """
    if len(text) > REFERENCE_CHARACTERS_MAX or text.startswith("data:"):
        return False
    if not text.startswith(_BASE64_OPENINGS):
        return True
    if text[0] != "/":
        return False
    try:
        opening = a2b_base64(text[:MP3_OPENING_CHARACTERS], strict_mode=True)
    except ValueError:
        return True
    return mp3.frame(opening, 0) is None or not _SIGNS_OF_NAMES.isdisjoint(text)
