"""The dialect of Project Echo's own devices: one JSON object per message.

The keys tell the form, never the topic, which each site chooses. Fields that a form does not know
are left alone. `forms.py` has the table of forms; docs/forms.md tells it to device builders.
"""

from datetime import datetime

from echo_ingest.decode import audio, times, values
from echo_ingest.decode.errors import DecodeError, none_of_the_forms
from echo_ingest.decode.fields import Fields, Lla, Ranked, keys, read, read_id
from echo_ingest.record import (
    Alternative,
    AnyRecord,
    Detection,
    Health,
    Message,
    Movement,
    Place,
    Recording,
    Telemetry,
    TimeSource,
)

ALTERNATIVES_MAX = 100
BOOT_TIME_FROM = 1e9
"""An uptime from here on is the epoch second of the start: as a duration it would be 31 years."""
MODES = frozenset({"Animal_Mode", "Recording_Mode", "Recording_Mode_V2"})
"""The simulator's words, which some devices put where the name of a file belongs."""
HEALTH_KEYS = frozenset(
    ("id", "timestamp", "status", "batteryPct", "cpu", "ram", "disk", "uptime", "health_data")
)
NOTHING_KNOWN = Health()


def decode(message: Message, *, hashed: bool) -> AnyRecord:
    """Make a record of a JSON message; raise `DecodeError` where it is none of the forms.

    `hashed` as in `audio.describe`.
    """
    fields = read(message.payload)
    if fields.animalId is not None:
        return _movement(message, fields, fields.animalId)
    if fields.species is not None:
        return _detection(message, fields, fields.species, hashed=hashed)
    if fields.audioClip is not None:
        as_objects = fields.sourceType is not None or isinstance(fields.microphoneLLA, Lla)
        form = "engine-audio-objects" if as_objects else "engine-audio"
        return _recording(message, fields, form, "audioClip", fields.audioClip, hashed=hashed)
    if fields.audio_file is not None:
        return _recording(
            message, fields, "node-audio", "audio_file", fields.audio_file, hashed=hashed
        )
    return _telemetry(message, fields)


def clip_bytes(payload: bytes) -> bytes | None:
    """Return the audio inside a JSON payload that `decode` accepts; None if it holds none."""
    fields = read(payload)
    field, text = _clip_text(fields)
    if not text or (fields.species is not None and audio.is_reference(text)):
        return None
    return audio.from_base64(text, field)


def _detection(message: Message, fields: Fields, species: str, *, hashed: bool) -> Detection:
    """Forms `edge-prediction` and `detection`."""
    confidence = fields.confidence
    if fields.source_model is not None:
        form = "detection"
    elif (
        fields.sensor_id is not None
        and confidence is not None
        and (fields.type is None or fields.type == "prediction")
    ):
        form = "edge-prediction"
    else:
        raise DecodeError(
            "a species that no model and no node answers for: send source_model (form detection),"
            " or sensor_id and confidence (form edge-prediction)"
        )
    observed_at, time_source = _observed_at(message, fields)
    field, text = _clip_text(fields)
    reference = None
    clip = None
    if text:
        if audio.is_reference(text):
            reference = values.text(text, field, audio.REFERENCE_CHARACTERS_MAX)
        else:
            clip = audio.describe(audio.from_base64(text, field), hashed=hashed)
    return Detection(
        form=form,
        node=message.node,
        sensor_id=_sensor_id(fields),
        message_id=_message_id(fields),
        observed_at=observed_at,
        time_source=time_source,
        place=_sensor_place(fields),
        source_type=values.source_type(fields.sourceType),
        species=values.text(species, "species"),
        confidence=None if confidence is None else values.fraction(confidence),
        alternatives=() if fields.top5 is None else _alternatives(fields.top5),
        model=values.optional_text(fields.source_model, "source_model"),
        animal_place=_animal_place(fields),
        animal_true_place=values.lla(fields.animalTrueLLA, "animalTrueLLA"),
        clip=clip,
        clip_reference=reference,
        sample_rate_hz=None if fields.sampleRate is None else values.sample_rate(fields.sampleRate),
    )


def _recording(
    message: Message, fields: Fields, form: str, field: str, text: str, *, hashed: bool
) -> Recording:
    """Forms `engine-audio`, `engine-audio-objects` and `node-audio`."""
    observed_at, time_source = _observed_at(message, fields)
    named = values.optional_text(fields.audioFile, "audioFile")
    mode = values.optional_text(fields.mode, "mode")
    if named in MODES:
        named, mode = None, mode or named
    return Recording(
        form=form,
        node=message.node,
        sensor_id=_sensor_id(fields),
        message_id=_message_id(fields),
        observed_at=observed_at,
        time_source=time_source,
        place=_sensor_place(fields),
        source_type=values.source_type(fields.sourceType),
        clip=audio.describe(audio.from_base64(text, field), hashed=hashed),
        mode=mode,
        clip_reference=named,
        animal_place=_animal_place(fields),
        animal_true_place=values.lla(fields.animalTrueLLA, "animalTrueLLA"),
        health=_health(fields),
    )


def _movement(message: Message, fields: Fields, animal_id: str | int) -> Movement:
    """Form `movement`."""
    animal_place = values.lla(fields.animalTrueLLA, "animalTrueLLA")
    if fields.species is None or animal_place is None:
        missing = "species" if fields.species is None else "animalTrueLLA"
        raise DecodeError(
            f"a movement needs species, animalId and animalTrueLLA; {missing} is missing"
            " or not known"
        )
    observed_at, time_source = _observed_at(message, fields)
    return Movement(
        form="movement",
        node=message.node,
        sensor_id=_sensor_id(fields),
        message_id=_message_id(fields),
        observed_at=observed_at,
        time_source=time_source,
        place=_sensor_place(fields),
        source_type=values.source_type(fields.sourceType),
        species=values.text(fields.species, "species"),
        animal_id=values.name(animal_id, "animalId"),
        animal_place=animal_place,
    )


def _telemetry(message: Message, fields: Fields) -> Telemetry:
    """Forms `sensor-health` and `node-status`."""
    health = _health(fields)
    sensor_id = _sensor_id(fields)
    if health is None or sensor_id is None:
        # Where only the topic says who, another program's reply must not pass for a status.
        names = keys(message.payload)
        if health is None or not HEALTH_KEYS.issuperset(names):
            raise DecodeError(none_of_the_forms(names))
    if sensor_id is None and message.node is None:
        raise DecodeError(
            "a status that does not say whose: publish it under <prefix>/<node>/…,"
            " or send nodeId or sensorId"
        )
    by_sensor = fields.sensorId is not None or fields.sensor_id is not None
    observed_at, time_source = _observed_at(message, fields)
    return Telemetry(
        form="sensor-health" if by_sensor else "node-status",
        node=message.node,
        sensor_id=sensor_id,
        message_id=_message_id(fields),
        observed_at=observed_at,
        time_source=time_source,
        place=_sensor_place(fields),
        source_type=values.source_type(fields.sourceType),
        health=health,
    )


def _observed_at(message: Message, fields: Fields) -> tuple[datetime, TimeSource]:
    if fields.timestamp is not None:
        moment = times.from_device(fields.timestamp, "timestamp")
        if moment is not None:
            return moment, "device"
    return times.received(message.received_at_ms), "received"


def _clip_text(fields: Fields) -> tuple[str, str | None]:
    if fields.audioClip is not None:
        return "audioClip", fields.audioClip
    return "audio_file", fields.audio_file


def _health(fields: Fields) -> Health | None:
    nested = fields.health_data or fields
    uptime = values.not_negative(nested.uptime, "uptime")
    booted = uptime is not None and uptime >= BOOT_TIME_FROM
    health = Health(
        status=values.optional_text(fields.status, "status"),
        battery_percent=values.not_negative(fields.batteryPct, "batteryPct"),
        cpu_percent=values.not_negative(nested.cpu, "cpu"),
        memory_percent=values.not_negative(nested.ram, "ram"),
        disk_percent=values.not_negative(nested.disk, "disk"),
        uptime_seconds=None if booted else uptime,
        booted_at=times.from_device(uptime, "uptime") if booted and uptime is not None else None,
    )
    return None if health == NOTHING_KNOWN else health


def _sensor_place(fields: Fields) -> Place | None:
    if fields.microphoneLLA is not None:
        return values.lla(fields.microphoneLLA, "microphoneLLA", fields.gps_uncertainty)
    gps = fields.gps_data
    if gps is None:
        return None
    return values.place(gps.lat, gps.lon, None, fields.gps_uncertainty, "gps_data")


def _animal_place(fields: Fields) -> Place | None:
    if fields.animalEstLLA is None:
        return None
    return values.lla(fields.animalEstLLA, "animalEstLLA", fields.animalLLAUncertainty)


def _alternatives(ranked: list[Ranked]) -> tuple[Alternative, ...]:
    if len(ranked) > ALTERNATIVES_MAX:
        raise DecodeError(f"top5: {len(ranked):,} entries; {ALTERNATIVES_MAX} can be read")
    return tuple(
        [
            Alternative(values.text(one.label, "label"), values.fraction(one.confidence))
            for one in ranked
        ]
    )


def _sensor_id(fields: Fields) -> str | None:
    if fields.sensor_id is not None:
        return values.name(fields.sensor_id, "sensor_id")
    if fields.sensorId is not None:
        return values.name(fields.sensorId, "sensorId")
    if fields.nodeId is not None:
        return values.name(fields.nodeId, "nodeId")
    return None if fields.node_id is None else values.name(fields.node_id, "node_id")


def message_id(payload: bytes) -> str | None:
    """Read the id alone; raise `DecodeError` where it cannot be."""
    said = read_id(payload)
    return None if said is None else values.name(said, "id")


def _message_id(fields: Fields) -> str | None:
    return None if fields.id is None else values.name(fields.id, "id")
