"""Turn a record into a flat row, with the same columns wherever records become tables. Pure.

Nested fields get a prefix: `clip_sha256`, `animal_latitude`. The sensor's own place has none.
"""

from msgspec.structs import astuple, fields

from echo_ingest.record import (
    AnyRecord,
    Clip,
    Detection,
    Health,
    Measurement,
    Movement,
    Place,
    Recording,
    Telemetry,
)

Row = tuple[object, ...]

TABLES = {
    "detection": "detections",
    "recording": "recordings",
    "telemetry": "telemetry",
    "movement": "movements",
    "measurement": "measurements",
}
"""Kind of record → the name of its table."""

PLACE = tuple(field.name for field in fields(Place))
SHARED = (
    "observed_at",
    "time_source",
    "time_problem",
    "device_time",
    "node",
    "sensor_id",
    *PLACE,
    "source_type",
    "form",
    "message_id",
)
"""The columns that every kind of record has."""
ANIMAL = tuple(f"animal_{name}" for name in PLACE)
ANIMAL_TRUE = tuple(f"animal_true_{name}" for name in PLACE)
CLIP = (*(f"clip_{field.name}" for field in fields(Clip)), "clip_reference")
HEALTH = tuple(field.name for field in fields(Health))

COLUMNS = {
    "detection": (
        *SHARED,
        "species",
        "species_as_sent",
        "common_name",
        "observation_type",
        "confidence",
        "alternatives",
        "model",
        "ends_at",
        "low_hz",
        "high_hz",
        "sample_rate_hz",
        *ANIMAL,
        *ANIMAL_TRUE,
        *CLIP,
    ),
    "recording": (*SHARED, "mode", *ANIMAL, *ANIMAL_TRUE, *CLIP, *HEALTH),
    "telemetry": (*SHARED, *HEALTH),
    "movement": (*SHARED, "species", "species_as_sent", "animal_id", *ANIMAL),
    "measurement": (*SHARED, "name", "value", "unit"),
}
"""Kind of record → the names of the values that `flat` returns for it."""

NO_PLACE: Row = (None,) * len(PLACE)
NO_CLIP: Row = (None,) * len(fields(Clip))
NO_HEALTH: Row = (None,) * len(HEALTH)


def flat(record: AnyRecord) -> Row:
    """Return the record's values in the `COLUMNS` of its kind; None for what is not known.

    `alternatives` and `clip_metadata` stay nested, where there are any.
    """
    shared = (
        record.observed_at,
        record.time_source,
        record.time_problem,
        record.device_time,
        record.node,
        record.sensor_id,
        *flat_place(record.place),
        record.source_type,
        record.form,
        record.message_id,
    )
    match record:
        case Detection():
            return (
                *shared,
                record.species,
                record.species_as_sent,
                record.common_name,
                record.observation_type,
                record.confidence,
                record.alternatives or None,
                record.model,
                record.ends_at,
                record.low_hz,
                record.high_hz,
                record.sample_rate_hz,
                *flat_place(record.animal_place),
                *flat_place(record.animal_true_place),
                *_clip(record.clip),
                record.clip_reference,
            )
        case Recording():
            return (
                *shared,
                record.mode,
                *flat_place(record.animal_place),
                *flat_place(record.animal_true_place),
                *_clip(record.clip),
                record.clip_reference,
                *_health(record.health),
            )
        case Telemetry():
            return (*shared, *_health(record.health))
        case Movement():
            return (
                *shared,
                record.species,
                record.species_as_sent,
                record.animal_id,
                *flat_place(record.animal_place),
            )
        case Measurement():
            return (*shared, record.name, record.value, record.unit)


def flat_place(place: Place | None) -> Row:
    """Return a place in the columns `PLACE`."""
    return NO_PLACE if place is None else astuple(place)


def _clip(clip: Clip | None) -> Row:
    return NO_CLIP if clip is None else (*astuple(clip)[:-1], clip.metadata or None)


def _health(health: Health | None) -> Row:
    return NO_HEALTH if health is None else astuple(health)
