"""What a `[[record]]` may say: the fields of each kind of record, and how each is read. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from echo_ingest.decode import values
from echo_ingest.decode.audio.sound import SAMPLE_RATE_HZ_MAX
from echo_ingest.decode.errors import DecodeError, digits
from echo_ingest.decode.forms.fields import Field, FieldType
from echo_ingest.decode.forms.paths import Path, Scope
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Place

CELSIUS_MIN, CELSIUS_MAX = -100, 200

_SHARED = {
    "node": FieldType.TEXT,
    "sensor_id": FieldType.TEXT,
    "message_id": FieldType.EXACT,
    "observed_at": FieldType.TIME,
    "offset_seconds": FieldType.NUMBER,
    "latitude": FieldType.NUMBER,
    "longitude": FieldType.NUMBER,
    "altitude_metres": FieldType.NUMBER,
    "uncertainty_metres": FieldType.NUMBER,
    "source_type": FieldType.TEXT,
}
_HEALTH = {
    "status": FieldType.EXACT,
    "battery_percent": FieldType.NUMBER,
    "external_power": FieldType.TRUTH,
    "cpu_percent": FieldType.NUMBER,
    "memory_percent": FieldType.NUMBER,
    "disk_percent": FieldType.NUMBER,
    "temperature_celsius": FieldType.NUMBER,
    "uptime_seconds": FieldType.NUMBER,
}
_ANIMAL_PLACE = {
    "animal_latitude": FieldType.NUMBER,
    "animal_longitude": FieldType.NUMBER,
    "animal_altitude_metres": FieldType.NUMBER,
    "animal_uncertainty_metres": FieldType.NUMBER,
}
FIELDS: Mapping[str, Mapping[str, FieldType]] = {
    "detection": {
        **_SHARED,
        **_ANIMAL_PLACE,
        "species": FieldType.SPECIES,
        "common_name": FieldType.TEXT,
        "confidence": FieldType.CONFIDENCE,
        "model": FieldType.TEXT,
        "ends_at": FieldType.TIME,
        "end_offset_seconds": FieldType.NUMBER,
        "duration_seconds": FieldType.NUMBER,
        "low_hz": FieldType.NUMBER,
        "high_hz": FieldType.NUMBER,
        "sample_rate_hz": FieldType.NUMBER,
        "clip": FieldType.CLIP,
        "clip_reference": FieldType.EXACT,
    },
    "recording": {
        **_SHARED,
        **_ANIMAL_PLACE,
        **_HEALTH,
        "mode": FieldType.TEXT,
        "clip": FieldType.CLIP,
        "clip_reference": FieldType.EXACT,
    },
    "telemetry": {**_SHARED, **_HEALTH},
    "movement": {
        **_SHARED,
        **_ANIMAL_PLACE,
        "species": FieldType.SPECIES,
        "animal_id": FieldType.TEXT,
    },
    "measurement": {**_SHARED, "name": FieldType.TEXT, "value": FieldType.MEASURED},
}
"""Kind of record → its fields, with the type of each."""
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "detection": ("species",),
    "recording": ("clip",),
    "telemetry": (),
    "movement": ("species", "animal_id", "animal_latitude", "animal_longitude"),
    "measurement": (),
}
"""Kind of record → the fields that a form must give. Those of a measurement may be in `values`."""
ENDS = ("ends_at", "end_offset_seconds", "duration_seconds")
"""Three ways to say when a call ended: a form has one of them."""


Reader = Callable[[Scope], Any]


def _between(least: float, most: float) -> Callable[[float, str], float]:
    """Return what lets through a number between two others."""

    def check(number: float, label: str) -> float:
        if least <= number <= most:
            return number
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_VALUE,
            f"{digits(number)} is not from {least:,} to {most:,}",
            label,
        )

    return check


STRAIGHT = frozenset(
    (
        *("sensor_id", "source_type", "common_name", "confidence", "model", "low_hz", "high_hz"),
        *("sample_rate_hz", "clip_reference", "mode", "animal_id"),
    )
)
"""Fields of a form that are fields of the record, without more ado."""
STRAIGHT_HEALTH = frozenset(_HEALTH) - {"battery_percent", "uptime_seconds"}
CHECKS: Mapping[str, Callable[[Any, str], object]] = {
    "low_hz": _between(0, SAMPLE_RATE_HZ_MAX),
    "high_hz": _between(0, SAMPLE_RATE_HZ_MAX),
    "sample_rate_hz": values.sample_rate,
    "source_type": values.source_type,
    "temperature_celsius": _between(CELSIUS_MIN, CELSIUS_MAX),
    "cpu_percent": lambda value, label: values.percent(value, label, values.CPU_PERCENT_MAX),
    "memory_percent": values.percent,
    "disk_percent": values.percent,
}
"""What else is asked of a value besides its type."""


class PlaceSpec(Struct, frozen=True):
    """Where a place is read from."""

    latitude: Field
    longitude: Field
    altitude: Field | None
    uncertainty: Field | None
    paths: values.PlacePaths

    def read(self, item: Scope) -> Place | None:
        """Return the place; None where it is not known."""
        return values.place(
            self.latitude.number(item),
            self.longitude.number(item),
            None if self.altitude is None else self.altitude.number(item),
            None if self.uncertainty is None else self.uncertainty.number(item),
            self.paths,
        )


class RecordSpec(Struct, frozen=True):
    """One `[[record]]` of a form, with what reads its fields."""

    kind: str
    fields: Mapping[str, Field]
    each: tuple[Path, ...]
    where: Path | None
    values: Mapping[str, Field]
    """Of measurements: the name of each, with its value."""
    readers: Mapping[str, Reader]
    straight: tuple[tuple[str, Reader], ...]
    health: tuple[tuple[str, Reader], ...]
    place: PlaceSpec | None
    animal_place: PlaceSpec | None
    end: Field | None
    """The one of `ENDS` that the form has."""


def record_spec(
    kind: str,
    fields: Mapping[str, Field],
    each: tuple[Path, ...],
    where: Path | None,
    measured: Mapping[str, Field],
) -> RecordSpec:
    """Return a `[[record]]` with what reads its fields."""
    readers = {name: _reader(field) for name, field in fields.items()}
    return RecordSpec(
        kind,
        fields,
        each,
        where,
        measured,
        readers,
        tuple((name, read) for name, read in readers.items() if name in STRAIGHT),
        tuple((name, read) for name, read in readers.items() if name in STRAIGHT_HEALTH),
        _place(fields, ""),
        _place(fields, "animal_"),
        next((fields[name] for name in ENDS if name in fields), None),
    )


def _reader(field: Field) -> Reader:
    read, check, label = field.read, CHECKS.get(field.name), field.label
    if check is None:
        return read

    def read_checked(item: Scope) -> object:
        value = read(item)
        return None if value is None else check(value, label)

    return read_checked


def _place(fields: Mapping[str, Field], prefix: str) -> PlaceSpec | None:
    latitude, longitude, altitude, uncertainty = (
        fields.get(f"{prefix}{name}")
        for name in ("latitude", "longitude", "altitude_metres", "uncertainty_metres")
    )
    if latitude is None or longitude is None:
        return None
    paths = values.PlacePaths(
        latitude.label,
        latitude.label,
        longitude.label,
        None if uncertainty is None else uncertainty.label,
        None if altitude is None else altitude.label,
    )
    return PlaceSpec(latitude, longitude, altitude, uncertainty, paths)
