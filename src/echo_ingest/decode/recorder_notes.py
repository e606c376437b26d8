"""What a recorder wrote into its own file: AudioMoth comments, GUANO, OpenSoundscape's notes.

Such notes are helpful, never required: one that cannot be read is left in the clip's metadata and
otherwise passed over.
"""

import re
from datetime import datetime

import msgspec
from msgspec import Struct

from echo_ingest.decode import times, values
from echo_ingest.decode.errors import DecodeError
from echo_ingest.record import Place

_AUDIOMOTH_SERIAL = re.compile(r"AudioMoth ([0-9A-F]{16})\b")
_OPSO = "opso_metadata"


class Notes(Struct, frozen=True, gc=False):
    """When, where and by which recorder."""

    recorded_at: datetime | None = None
    place: Place | None = None
    serial: str | None = None


class _Opso(Struct, frozen=True, gc=False):
    recording_start_time: str | None = None
    comment: str = ""


def notes(metadata: dict[str, str]) -> Notes:
    """Read the notes out of a clip's metadata. GUANO goes before comments."""
    comment = metadata.get("ICMT") or metadata.get("COMMENT") or ""
    started = times.from_audiomoth(comment)
    if comment.startswith(_OPSO):
        # A cut of a longer recording: the comment inside tells when the whole one began.
        opso = _opso(comment)
        started = times.with_zone(opso.recording_start_time or "")
        comment = opso.comment
    named = f"{metadata.get('IART') or metadata.get('ARTIST') or ''} {comment}"
    serial = _AUDIOMOTH_SERIAL.search(named)
    return Notes(
        # GUANO: a time without a zone is the recorder's local time, so nobody knows when.
        recorded_at=times.with_zone(metadata.get("Timestamp", "")) or started,
        place=_guano_place(metadata.get("Loc Position", "")),
        serial=metadata.get("Serial", "")[: values.TEXT_CHARACTERS_MAX]
        or (serial[1] if serial else None),
    )


def _opso(comment: str) -> _Opso:
    try:
        return msgspec.json.decode(comment[len(_OPSO) :], type=_Opso)
    except (msgspec.DecodeError, RecursionError):
        return _Opso()


def _guano_place(text: str) -> Place | None:
    """Read "latitude longitude" in degrees (GUANO 1.0, `Loc Position`)."""
    try:
        latitude, longitude = map(float, text.split())
        return values.place(latitude, longitude, None, None, "Loc Position")
    except (ValueError, DecodeError):
        return None
