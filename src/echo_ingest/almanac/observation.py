"""What the almanac keeps of one record. Pure."""

import re
from datetime import datetime, timedelta

from msgspec import Struct

from echo_ingest.decode import Rules, times
from echo_ingest.decode.errors import DecodeError
from echo_ingest.formatting import milliseconds
from echo_ingest.quality import TimeProblem
from echo_ingest.record import AnyRecord, Clip, Detection, Health, Measurement, Recording, Telemetry

HOUR_MS = 3_600_000
CLOCK_TOLERANCE_MS = times.CLOCK_TOLERANCE // timedelta(milliseconds=1)
"""A time that lies farther ahead of now comes from a wrong clock, and is not the latest."""
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
MEASURED_MAX = 1e15
"""A measurement beyond it is left out: no sum of many is then without end."""
TELLS_START = frozenset({"audio-file"})
"""Forms whose time is that of the recording's start, as docs/forms.md says."""
FIRMWARE_CHARACTERS_MAX = 64
STEADY = frozenset(
    (TimeProblem.AFTER_RECEIPT, TimeProblem.BEFORE_FIRST_DAY, TimeProblem.GPS_WEEK_ROLLOVER)
)
"""Why a time is not believed that is nevertheless measured: the clock may be off by a constant. A
clock that was not set starts anew each time, and a time without a zone may be right."""

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
    is_named: bool
    """It is the clip of a detection, whether of an animal or not; else it is a recording."""


class ObservedMeasurement(Struct, frozen=True, gc=False):
    """What is kept of a measurement."""

    sensor: str
    """The sensor that measured; empty where it is the node itself."""
    name: str
    unit: str
    """Empty for a plain count."""
    value: float


class Observation(Struct, frozen=True, gc=False):
    """Everything that is kept of a record."""

    node: str
    """The node that sent it; empty where none is known."""
    observed_at_ms: int
    tells_time: bool
    """The time is the device's own."""
    time_problem: TimeProblem | None
    delay_ms: int | None
    """From the time that the device wrote, or the end of its recording, to receipt; None where it
    wrote none that says something about its clock."""
    confidence: float | None
    """Fraction, 0 to 1, of a detection of whatever kind."""
    place: tuple[float, float, float | None] | None
    """Latitude, longitude and uncertainty in metres, of the sensor."""
    readings: Readings | None
    """In the order of `MEASURES`; None where none of them was reported."""
    firmware: str | None
    call: ObservedCall | None
    clip: ObservedClip | None
    measurement: ObservedMeasurement | None


def observe(record: AnyRecord, received_at_ms: int, rules: Rules) -> Observation:
    """Reduce a record to what is kept of it."""
    place = record.place
    clip = record.clip if isinstance(record, Detection | Recording) else None
    health = record.health if isinstance(record, Recording | Telemetry) else None
    metadata = clip.metadata if clip is not None else {}
    call = None
    if isinstance(record, Detection) and record.observation_type == "animal":
        species, common_name = names_of(record.species)
        common_name = record.common_name or common_name
        call = ObservedCall(species, common_name, record.confidence, clip is not None)
    return Observation(
        node=record.node or "",
        observed_at_ms=milliseconds(record.observed_at),
        tells_time=record.time_source == "device",
        time_problem=record.time_problem,
        delay_ms=_delay_ms(record, clip, received_at_ms, rules),
        confidence=record.confidence if isinstance(record, Detection) else None,
        place=None
        if place is None
        else (place.latitude, place.longitude, place.uncertainty_metres),
        readings=_readings(health, metadata) if health is not None or metadata else None,
        firmware=metadata.get("Firmware Version", "")[:FIRMWARE_CHARACTERS_MAX].strip() or None,
        call=call,
        clip=None if clip is None else _clip(clip, record),
        measurement=_measurement(record) if isinstance(record, Measurement) else None,
    )


def names_of(species: str) -> tuple[str, str | None]:
    """Return the scientific name, and the common name where the device gives both.

    BirdNET's labels have both: `Turdus merula_Eurasian Blackbird`.
    """
    label = _LABEL.fullmatch(species)
    return (label[1], label[2]) if label is not None else (species, None)


def _delay_ms(
    record: AnyRecord, clip: Clip | None, received_at_ms: int, rules: Rules
) -> int | None:
    """Return how long after the time that the device wrote its record was received."""
    if record.time_problem in STEADY:
        written = _written(record.device_time or "")
        if written is not None and written.tzinfo is None and rules.zone is not None:
            written = written.replace(tzinfo=rules.zone)
        if written is None or written.tzinfo is None:
            return None
        written_ms = milliseconds(written)
    elif record.time_source == "device":
        written_ms = milliseconds(record.observed_at)
        if record.time_problem == TimeProblem.CORRECTED:
            written_ms += int(rules.of(record.node).clock_ahead_seconds * 1000)
    else:
        return None
    if clip is not None and record.form in TELLS_START:
        written_ms += int(clip.duration_seconds * 1000)
    return received_at_ms - written_ms


def _written(words: str) -> datetime | None:
    """Read what a device wrote as its time; None where that is not possible."""
    try:
        return times.read(words, "").moment
    except DecodeError:
        return None


def _clip(clip: Clip, record: AnyRecord) -> ObservedClip:
    tells_start = record.form in TELLS_START and record.time_source == "device"
    return ObservedClip(
        int(clip.duration_seconds * 1000), tells_start, isinstance(record, Detection)
    )


def _measurement(record: Measurement) -> ObservedMeasurement | None:
    """Return what is kept of a measurement; None where its value is beyond `MEASURED_MAX`."""
    if not -MEASURED_MAX <= record.value <= MEASURED_MAX:
        return None
    sensor = record.sensor_id if record.sensor_id != record.node else None
    return ObservedMeasurement(sensor or "", record.name, record.unit or "", record.value)


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
