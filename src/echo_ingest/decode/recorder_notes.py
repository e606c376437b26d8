"""Read what a recorder wrote into its own file: AudioMoth comments, GUANO, OpenSoundscape notes.

Such notes are helpful, never required: one that cannot be read stays in the clip's metadata and is
ignored otherwise.
"""

import re

import msgspec
from msgspec import Struct

from echo_ingest.decode import times, values
from echo_ingest.decode.errors import DecodeError
from echo_ingest.decode.times import TimeReading
from echo_ingest.record import Place

_AUDIOMOTH_SERIAL = re.compile(r"AudioMoth ([0-9A-F]{16})\b")
_OPENSOUNDSCAPE = "opso_metadata"
_LOC_POSITION = values.PlacePaths("Loc Position", "Loc Position", "Loc Position")


class RecorderNotes(Struct, frozen=True, gc=False):
    """When, where and by which recorder a clip was recorded."""

    times: tuple[TimeReading, ...] = ()
    """Those that the file has, in order of trust."""
    place: Place | None = None
    serial: str | None = None


class _OpenSoundscapeNote(Struct, frozen=True, gc=False):
    """The part of an OpenSoundscape note that is read."""

    recording_start_time: str | None = None
    comment: str = ""


def recorder_notes(metadata: dict[str, str]) -> RecorderNotes:
    """Read the notes in a clip's metadata. GUANO goes before comments."""
    comment = metadata.get("ICMT") or metadata.get("COMMENT") or ""
    started = times.from_audiomoth(comment)
    if comment.startswith(_OPENSOUNDSCAPE):
        # A cut of a longer recording: the comment inside the note tells when the whole one began.
        note = _opensoundscape_note(comment)
        started = times.from_calendar(note.recording_start_time or "")
        comment = note.comment
    artist_and_comment = f"{metadata.get('IART') or metadata.get('ARTIST') or ''} {comment}"
    serial = _AUDIOMOTH_SERIAL.search(artist_and_comment)
    guano = times.from_calendar(metadata.get("Timestamp", ""))
    return RecorderNotes(
        times=tuple(each for each in (guano, started) if each is not None),
        place=_guano_place(metadata.get("Loc Position", "")),
        serial=metadata.get("Serial", "")[: values.TEXT_CHARACTERS_MAX]
        or (serial[1] if serial else None),
    )


def _opensoundscape_note(comment: str) -> _OpenSoundscapeNote:
    try:
        return msgspec.json.decode(comment[len(_OPENSOUNDSCAPE) :], type=_OpenSoundscapeNote)
    except (msgspec.DecodeError, RecursionError):
        return _OpenSoundscapeNote()


def _guano_place(text: str) -> Place | None:
    """Read "latitude longitude" in degrees (GUANO 1.0, `Loc Position`)."""
    try:
        latitude, longitude = map(float, text.split())
        return values.place(latitude, longitude, None, None, _LOC_POSITION)
    except (ValueError, DecodeError):
        return None
