"""Read when, where and by which recorder a clip was recorded, from what its file says.

Such notes are helpful, never required: one that cannot be read stays in the clip's metadata and is
ignored otherwise.
"""

import re
from collections.abc import Callable, Iterator

import msgspec
from msgspec import Struct

from echo_ingest.decode import file_names, noted_places, values
from echo_ingest.decode.audio import wamd
from echo_ingest.decode.noted_times import moment
from echo_ingest.decode.times import TimeReading, from_calendar
from echo_ingest.record import Place

Metadata = dict[str, str]

COMMENTS = ("ICMT", "COMMENT", "DESCRIPTION", "Description")
"""Where a comment stands: LIST INFO, Vorbis comments (two habits), bext."""
ARTISTS = ("IART", "ARTIST")
NO_SERIAL = "0FE081F80FE081F0"
"""AudioMoth firmware 1.0 to 1.1 wrote where its serial number is in memory, the same for all."""

_OPENSOUNDSCAPE = "opso_metadata"
_AUDIOMOTH_SERIAL = re.compile(r"AudioMoth ([0-9A-F]{16})\b", re.ASCII | re.IGNORECASE)
_AUDIOMOTH_TIME = re.compile(
    r"Recorded at (?P<clock>(\d\d):(\d\d):(\d\d)(?:\.(\d+))? (\d\d)/(\d\d)/(\d{4})"
    r"(?: \((?:GPS|UTC([+-]\d{1,2}(?:: ?\d{1,2})?)?)\))?) (?:by|during) ",
    re.ASCII,
)
_BEXT_DATE = re.compile(r"(\d{4})[-_:/ .]?(\d\d)[-_:/ .]?(\d\d)", re.ASCII)
_BEXT_TIME = re.compile(r"(\d\d)[-_:/ .]?(\d\d)[-_:/ .]?(\d\d)", re.ASCII)


class RecorderNotes(Struct, frozen=True, gc=False):
    """When, where and by which recorder a clip was recorded."""

    times: tuple[TimeReading, ...] = ()
    """When the recording began, in order of trust; those that name a zone go first."""
    place: Place | None = None
    serial: str | None = None


NO_NOTES = RecorderNotes()


class _OpenSoundscapeNote(Struct, frozen=True, gc=False):
    """The part of an OpenSoundscape note that is read."""

    recording_start_time: str | None = None


def recorder_notes(metadata: Metadata, file_name: str | None = None) -> RecorderNotes:
    """Read the notes in a clip's metadata, and the name of its file if that is known."""
    if not metadata and not file_name:
        return NO_NOTES
    readings = [read(metadata) for read in TIMES]
    if file_name:
        readings.append(file_names.started_at(file_name))
    times = (reading for reading in readings if reading is not None)
    return RecorderNotes(
        times=tuple(sorted(times, key=lambda reading: reading.moment.tzinfo is None)),
        place=_place(metadata),
        serial=_serial(metadata),
    )


def _values(metadata: Metadata, names: tuple[str, ...]) -> Iterator[str]:
    """Yield the values of those fields that there are."""
    return (metadata[name] for name in names if name in metadata)


def _first_in_calendar(texts: Iterator[str]) -> TimeReading | None:
    readings = (from_calendar(text) for text in texts)
    return next((reading for reading in readings if reading is not None), None)


def _iso_in(*names: str) -> Callable[[Metadata], TimeReading | None]:
    """Return a reader of the first ISO 8601 time in the fields of these names."""
    return lambda metadata: _first_in_calendar(_values(metadata, names))


def _audiomoth_time(metadata: Metadata) -> TimeReading | None:
    """Read "Recorded at 05:45:12 14/09/2026 (UTC+10) by AudioMoth …".

    The form is that of `setHeaderComment` in the firmware. Version 1.0 names no zone; it wrote UTC.
    """
    for comment in _values(metadata, COMMENTS):
        match = _AUDIOMOTH_TIME.match(comment)
        if match is not None:
            _, hour, minute, second, fraction, day, month, year, zone = match.groups()
            zone = zone.replace(" ", "0") if zone else "UTC"
            started = moment(year, month, day, hour, minute, second, fraction=fraction, zone=zone)
            return None if started is None else TimeReading(started, match["clock"])
    return None


def _opensoundscape_time(metadata: Metadata) -> TimeReading | None:
    """Read when a cut of a longer recording begins.

    The comment in the note of OpenSoundscape tells when the whole recording began.
    """
    starts = map(_opensoundscape_start, _values(metadata, COMMENTS))
    return _first_in_calendar(start for start in starts if start is not None)


def _bext_time(metadata: Metadata) -> TimeReading | None:
    """Read date and time of EBU Tech 3285, which leaves open what stands between the digits."""
    day = _BEXT_DATE.fullmatch(metadata.get("OriginationDate", ""))
    clock = _BEXT_TIME.fullmatch(metadata.get("OriginationTime", ""))
    if day is None or clock is None:
        return None
    started = moment(*day.groups(), *clock.groups())
    return None if started is None else TimeReading(started, f"{day[0]} {clock[0]}")


TIMES: tuple[Callable[[Metadata], TimeReading | None], ...] = (
    _iso_in("Timestamp"),  # GUANO; `wamd` where there is no GUANO
    _iso_in(f"{wamd.OWN}Timestamp"),  # `wamd` beside GUANO
    _audiomoth_time,
    _opensoundscape_time,
    _iso_in("RECORDINGSTART"),  # FLAC comments of Frontier Labs
    _bext_time,
    _iso_in("ICRD", "IDIT", "DATE"),  # LIST INFO, Vorbis comments
)
"""The readers of times, in the order in which they are trusted."""
PLACES: tuple[tuple[str, ...], ...] = (
    ("Loc Position", "Loc Elevation", "Loc Accuracy"),
    (f"{wamd.OWN}Loc Position",),
    (f"{wamd.OWN}Last Position",),
    ("SENSORLOCATION",),
)
"""The fields with a place, its elevation and its accuracy, in the order of trust."""
SERIALS = ("Serial", f"{wamd.OWN}Serial", "SENSORUID")


def _place(metadata: Metadata) -> Place | None:
    for fields in PLACES:
        if fields[0] in metadata:
            place = noted_places.place(*(metadata.get(name, "") for name in fields))
            if place is not None:
                return place
    return None


def _serial(metadata: Metadata) -> str | None:
    serial = next(_values(metadata, SERIALS), None)
    if serial is not None:
        return values.tidy(serial[: values.TEXT_CHARACTERS_MAX])
    for text in _values(metadata, (*ARTISTS, *COMMENTS)):
        match = _AUDIOMOTH_SERIAL.search(text)
        if match is not None and match[1].upper() != NO_SERIAL:
            return match[1].upper()
    return None


def _opensoundscape_start(comment: str) -> str | None:
    if not comment.startswith(_OPENSOUNDSCAPE):
        return None
    try:
        note = msgspec.json.decode(comment[len(_OPENSOUNDSCAPE) :], type=_OpenSoundscapeNote)
    except (msgspec.DecodeError, RecursionError):
        return None
    return note.recording_start_time
