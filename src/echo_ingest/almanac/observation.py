"""What the almanac notes of one record. Pure."""

import re

from msgspec import Struct

from echo_ingest.record import AnyRecord, Clip, Detection, Health, Recording, Telemetry

HOUR_MS = 3_600_000
MEASURES = (
    "battery_percent",
    "temperature_celsius",
    "disk_percent",
    "cpu_percent",
    "memory_percent",
)
"""What is kept of a node's health by the hour, by their place in this list."""
READING_MAX = 1e9
"""What is beyond it is no percentage or temperature of anything, and left out."""
TELLS_START = frozenset({"audio-file"})
"""Forms whose time is that of the recording's start, as docs/forms.md says."""
FIRMWARE_CHARACTERS_MAX = 64

_AUDIOMOTH_TEMPERATURE = re.compile(r"\btemperature was (-?\d{1,3}(?:\.\d)?)C\b")
_LABEL = re.compile(r"([A-Z][a-z-]+(?: [a-z-]+){1,2})_(\S.*)")

Readings = tuple[float | None, ...]


class ObservedCall(Struct, frozen=True, gc=False):
    """A detection, as far as it is noted."""

    species: str
    common_name: str | None
    confidence: float | None
    has_clip: bool


class ObservedClip(Struct, frozen=True, gc=False):
    """Audio that a message carries."""

    duration_ms: int
    tells_start: bool
    """The record's time is known to be that of its start."""


class Observation(Struct, frozen=True, gc=False):
    """All that is noted of a record."""

    observed_at_ms: int
    tells_time: bool
    """The time is the device's own."""
    place: tuple[float, float, float | None] | None
    """Latitude, longitude and uncertainty in metres, of the sensor."""
    readings: Readings | None
    """In the order of `MEASURES`; None where nothing of it was said."""
    firmware: str | None
    call: ObservedCall | None
    sound: ObservedClip | None


def heard(record: AnyRecord) -> Observation:
    """Reduce a record to what is noted of it."""
    place = record.place
    clip = record.clip if isinstance(record, Detection | Recording) else None
    health = record.health if isinstance(record, Recording | Telemetry) else None
    said = clip.metadata if clip is not None else {}
    call = None
    if isinstance(record, Detection):
        species, common_name = names_of(record.species)
        call = ObservedCall(species, common_name, record.confidence, clip is not None)
    return Observation(
        int(record.observed_at.timestamp() * 1000),
        record.time_source == "device",
        None if place is None else (place.latitude, place.longitude, place.uncertainty_metres),
        _readings(health, said) if health is not None or said else None,
        said.get("Firmware Version", "")[:FIRMWARE_CHARACTERS_MAX].strip() or None,
        call,
        None if clip is None else _sound(clip, record),
    )


def names_of(species: str) -> tuple[str, str | None]:
    """The scientific name, and the name people use where the device says both.

    BirdNET's labels hold both: `Turdus merula_Eurasian Blackbird`.
    """
    label = _LABEL.fullmatch(species)
    return (label[1], label[2]) if label is not None else (species, None)


def _sound(clip: Clip, record: AnyRecord) -> ObservedClip:
    tells_start = record.form in TELLS_START and record.time_source == "device"
    return ObservedClip(int(clip.duration_seconds * 1000), tells_start)


def _readings(health: Health | None, said: dict[str, str]) -> Readings | None:
    """Of health, and of what the recorder wrote into its file."""
    known = health or Health()
    temperature = known.temperature_celsius
    told = (
        known.battery_percent,
        temperature if temperature is not None else _temperature(said),
        known.disk_percent,
        known.cpu_percent,
        known.memory_percent,
    )
    readings: Readings = tuple(
        None if value is None or not -READING_MAX <= value <= READING_MAX else value
        for value in told
    )
    return None if readings == (None,) * len(MEASURES) else readings


def _temperature(said: dict[str, str]) -> float | None:
    """Of the recorder, in °C: GUANO's `Temperature Int`, or an AudioMoth's comment."""
    comment = said.get("ICMT") or said.get("COMMENT") or ""
    found = _AUDIOMOTH_TEMPERATURE.search(comment)
    text = said.get("Temperature Int") or (found[1] if found else "")
    try:
        return float(text) if text else None
    except ValueError:
        return None
