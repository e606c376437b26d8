"""What the almanac keeps of one record. Pure."""

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
"""What is kept of a node's health by the hour; the almanac stores the place in this list."""
READING_MAX = 1e9
"""A value beyond it cannot be a percentage or a temperature, and is left out."""
TELLS_START = frozenset({"audio-file"})
"""Forms whose time is that of the recording's start, as docs/forms.md says."""
FIRMWARE_CHARACTERS_MAX = 64

_AUDIOMOTH_TEMPERATURE = re.compile(r"\btemperature was (-?\d{1,3}(?:\.\d)?)C\b")
_LABEL = re.compile(r"([A-Z][a-z-]+(?: [a-z-]+){1,2})_(\S.*)")

Readings = tuple[float | None, ...]


class ObservedCall(Struct, frozen=True, gc=False):
    """What is kept of a detection."""

    species: str
    common_name: str | None
    confidence: float | None
    has_clip: bool


class ObservedClip(Struct, frozen=True, gc=False):
    """The clip that a message carries."""

    duration_ms: int
    tells_start: bool
    """The record's time is known to be that of its start."""


class Observation(Struct, frozen=True, gc=False):
    """Everything that is kept of a record."""

    observed_at_ms: int
    tells_time: bool
    """The time is the device's own."""
    place: tuple[float, float, float | None] | None
    """Latitude, longitude and uncertainty in metres, of the sensor."""
    readings: Readings | None
    """In the order of `MEASURES`; None where none of them was reported."""
    firmware: str | None
    call: ObservedCall | None
    clip: ObservedClip | None


def observe(record: AnyRecord) -> Observation:
    """Reduce a record to what is kept of it."""
    place = record.place
    clip = record.clip if isinstance(record, Detection | Recording) else None
    health = record.health if isinstance(record, Recording | Telemetry) else None
    metadata = clip.metadata if clip is not None else {}
    call = None
    if isinstance(record, Detection):
        species, common_name = names_of(record.species)
        call = ObservedCall(species, common_name, record.confidence, clip is not None)
    return Observation(
        observed_at_ms=int(record.observed_at.timestamp() * 1000),
        tells_time=record.time_source == "device",
        place=None
        if place is None
        else (place.latitude, place.longitude, place.uncertainty_metres),
        readings=_readings(health, metadata) if health is not None or metadata else None,
        firmware=metadata.get("Firmware Version", "")[:FIRMWARE_CHARACTERS_MAX].strip() or None,
        call=call,
        clip=None if clip is None else _clip(clip, record),
    )


def names_of(species: str) -> tuple[str, str | None]:
    """Return the scientific name, and the common name where the device gives both.

    BirdNET's labels have both: `Turdus merula_Eurasian Blackbird`.
    """
    label = _LABEL.fullmatch(species)
    return (label[1], label[2]) if label is not None else (species, None)


def _clip(clip: Clip, record: AnyRecord) -> ObservedClip:
    tells_start = record.form in TELLS_START and record.time_source == "device"
    return ObservedClip(int(clip.duration_seconds * 1000), tells_start)


def _readings(health: Health | None, metadata: dict[str, str]) -> Readings | None:
    """Return the measures of the record's health, and of what the recorder wrote into its file."""
    reported = health or Health()
    temperature = reported.temperature_celsius
    values = (
        reported.battery_percent,
        temperature if temperature is not None else _temperature(metadata),
        reported.disk_percent,
        reported.cpu_percent,
        reported.memory_percent,
    )
    readings: Readings = tuple(
        None if value is None or not -READING_MAX <= value <= READING_MAX else value
        for value in values
    )
    return None if readings == (None,) * len(MEASURES) else readings


def _temperature(metadata: dict[str, str]) -> float | None:
    """Return the temperature in °C from GUANO's `Temperature Int` or AudioMoth's comment."""
    comment = metadata.get("ICMT") or metadata.get("COMMENT") or ""
    match = _AUDIOMOTH_TEMPERATURE.search(comment)
    text = metadata.get("Temperature Int") or (match[1] if match else "")
    try:
        return float(text) if text else None
    except ValueError:
        return None
