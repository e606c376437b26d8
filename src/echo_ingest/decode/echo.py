"""Decode the dialect of Project Echo's own devices: one JSON object per message.

The keys decide the form, never the topic, which each site chooses. Fields that a form does not know
are ignored. `echo_forms.py` has the table of forms; docs/forms.md explains it to device builders.
"""

from collections.abc import Callable

from msgspec import Struct

from echo_ingest.decode import audio, times, values
from echo_ingest.decode.base64_clip import from_base64
from echo_ingest.decode.errors import DecodeError, no_known_form, quoted
from echo_ingest.decode.fields import (
    Fields,
    HealthData,
    Lla,
    Ranked,
    keys,
    read,
    read_accepted,
    read_id,
)
from echo_ingest.decode.identified import Identified
from echo_ingest.decode.recorder_notes import NO_NOTES, recorder_notes
from echo_ingest.decode.rules import Rules
from echo_ingest.formatting import utc
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    Alternative,
    Clip,
    Detection,
    Health,
    Message,
    Movement,
    Place,
    Recording,
    Telemetry,
)


class HealthPaths(Struct, frozen=True, gc=False):
    """The paths of the fields that tell how a node is."""

    cpu: str
    memory: str
    disk: str
    uptime: str


ALTERNATIVES_MAX = 100
MODES = frozenset({"Animal_Mode", "Recording_Mode", "Recording_Mode_V2"})
"""The simulator's mode words, which some devices put where a file name belongs."""
HEALTH_KEYS = frozenset(
    ("id", "timestamp", "status", "batteryPct", "cpu", "ram", "disk", "uptime", "health_data")
)
NOTHING_KNOWN = Health()
FLAT_HEALTH = HealthPaths("cpu", "ram", "disk", "uptime")
NESTED_HEALTH = HealthPaths(
    "health_data.cpu", "health_data.ram", "health_data.disk", "health_data.uptime"
)
GPS = values.PlacePaths("gps_data", "gps_data.lat", "gps_data.lon", "gps_uncertainty")
MICROPHONE = values.lla_paths("microphoneLLA", "gps_uncertainty")
ANIMAL_ESTIMATE = values.lla_paths("animalEstLLA", "animalLLAUncertainty")
ANIMAL_TRUTH = values.lla_paths("animalTrueLLA")


def decode(message: Message, rules: Rules, *, hashed: bool) -> Identified:
    """Make a record of a JSON message; raise `DecodeError` where it fits none of the forms.

    `hashed` as in `audio.describe`.
    """
    fields = read(message.payload)
    if fields.animalId is not None:
        return _movement(message, fields, fields.animalId, rules)
    if fields.species is not None:
        return _detection(message, fields, fields.species, rules, hashed=hashed)
    if fields.audioClip is not None:
        as_objects = fields.sourceType is not None or isinstance(fields.microphoneLLA, Lla)
        form = "engine-audio-objects" if as_objects else "engine-audio"
        return _recording(
            message, fields, form, ("audioClip", fields.audioClip), rules, hashed=hashed
        )
    if fields.audio_file is not None:
        return _recording(
            message, fields, "node-audio", ("audio_file", fields.audio_file), rules, hashed=hashed
        )
    return _telemetry(message, fields, rules)


def clip_bytes(payload: bytes) -> bytes | None:
    """Return the audio in a JSON payload that `decode` accepts; None where there is no audio."""
    fields = read_accepted(payload)
    field, text = _clip_text(fields)
    if not text or (fields.species is not None and audio.is_reference(text)):
        return None
    return from_base64(text, field)


def _detection(
    message: Message, fields: Fields, species: str, rules: Rules, *, hashed: bool
) -> Identified:
    """Decode the forms `edge-prediction` and `detection`."""
    confidence = fields.confidence
    if fields.source_model is not None:
        form = "detection"
    elif (
        fields.sensor_id is not None
        and confidence is not None
        and (fields.type is None or fields.type == "prediction")
    ):
        form = "edge-prediction"
    elif fields.sensor_id is not None and confidence is not None:
        raise DecodeError(
            ReasonCode.SPECIES_WITHOUT_SOURCE,
            f'{quoted(fields.type)} is not "prediction": send that or no type (form'
            " edge-prediction), or source_model (form detection)",
            "type",
        )
    else:
        raise DecodeError(
            ReasonCode.SPECIES_WITHOUT_SOURCE,
            "a species alone is not enough: send source_model (form detection), or sensor_id and"
            " confidence (form edge-prediction)",
        )
    field, text = _clip_text(fields)
    reference = None
    clip = None
    if text:
        if audio.is_reference(text):
            reference = values.exact_text(text, field, audio.REFERENCE_CHARACTERS_MAX)
        else:
            clip = _clip(text, field, hashed=hashed)
    name = values.species(species, "species")
    fraction = _fraction_of(message, rules)
    notes = NO_NOTES if clip is None else recorder_notes(clip.metadata)
    written = (*_written(fields), *notes.times)
    when = times.place_in_time(written, message, rules)
    record = Detection(
        form=form,
        node=message.node,
        sensor_id=_sensor_id(fields) or notes.serial,
        message_id=_message_id(fields),
        **when,
        place=_sensor_place(fields) or notes.place,
        source_type=values.source_type(fields.sourceType, "sourceType"),
        species=name,
        species_as_sent=values.as_sent(species, name),
        observation_type=rules.observation_type(name),
        confidence=None if confidence is None else fraction(confidence),
        alternatives=() if fields.top5 is None else _alternatives(fields.top5, fraction),
        model=values.optional_text(fields.source_model, "source_model"),
        animal_place=_animal_place(fields),
        animal_true_place=values.lla(fields.animalTrueLLA, ANIMAL_TRUTH),
        clip=clip,
        clip_reference=reference,
        sample_rate_hz=None
        if fields.sampleRate is None
        else values.sample_rate(fields.sampleRate, "sampleRate"),
    )
    return Identified(record, written)


def _recording(
    message: Message,
    fields: Fields,
    form: str,
    sound: tuple[str, str],
    rules: Rules,
    *,
    hashed: bool,
) -> Identified:
    """Decode the forms `engine-audio`, `engine-audio-objects` and `node-audio`."""
    reference = values.optional_exact_text(fields.audioFile, "audioFile")
    mode = values.optional_text(fields.mode, "mode")
    if reference is not None and (word := values.tidy(reference)) in MODES:
        reference, mode = None, mode or word
    clip = _clip(sound[1], sound[0], hashed=hashed)
    notes = recorder_notes(clip.metadata, reference)
    written = (*_written(fields), *notes.times)
    when = times.place_in_time(written, message, rules)
    record = Recording(
        form=form,
        node=message.node,
        sensor_id=_sensor_id(fields) or notes.serial,
        message_id=_message_id(fields),
        **when,
        place=_sensor_place(fields) or notes.place,
        source_type=values.source_type(fields.sourceType, "sourceType"),
        clip=clip,
        mode=mode,
        clip_reference=reference,
        animal_place=_animal_place(fields),
        animal_true_place=values.lla(fields.animalTrueLLA, ANIMAL_TRUTH),
        health=_health(message, fields, rules),
    )
    return Identified(record, written)


def _movement(message: Message, fields: Fields, animal_id: str | int, rules: Rules) -> Identified:
    """Decode the form `movement`."""
    animal_place = values.lla(fields.animalTrueLLA, ANIMAL_TRUTH)
    if fields.species is None or animal_place is None:
        missing = "species" if fields.species is None else "animalTrueLLA"
        raise DecodeError(
            ReasonCode.INCOMPLETE_MOVEMENT,
            "it is missing or unknown; a movement needs species, animalId and animalTrueLLA",
            missing,
        )
    written = _written(fields)
    when = times.place_in_time(written, message, rules)
    species = values.species(fields.species, "species")
    record = Movement(
        form="movement",
        node=message.node,
        sensor_id=_sensor_id(fields),
        message_id=_message_id(fields),
        **when,
        place=_sensor_place(fields),
        source_type=values.source_type(fields.sourceType, "sourceType"),
        species=species,
        species_as_sent=values.as_sent(fields.species, species),
        animal_id=values.name(animal_id, "animalId"),
        animal_place=animal_place,
    )
    return Identified(record, written)


def _telemetry(message: Message, fields: Fields, rules: Rules) -> Identified:
    """Decode the forms `sensor-health` and `node-status`."""
    health = _health(message, fields, rules)
    if health is None and fields.batteryPct is not None:
        health = NOTHING_KNOWN  # it reports that it does not know its battery
    sensor_id = _sensor_id(fields)
    if health is None or sensor_id is None:
        # Where only the topic names the node, another program's reply must not pass for a status.
        names = keys(message.payload)
        if health is None or not HEALTH_KEYS.issuperset(names):
            raise no_known_form(names)
    if sensor_id is None and message.node is None:
        raise DecodeError(
            ReasonCode.STATUS_WITHOUT_NODE,
            "the status does not say which node it is about: publish it under <prefix>/<node>/…,"
            " or send nodeId or sensorId",
        )
    by_sensor = fields.sensorId is not None or fields.sensor_id is not None
    written = _written(fields)
    when = times.place_in_time(written, message, rules)
    record = Telemetry(
        form="sensor-health" if by_sensor else "node-status",
        node=message.node,
        sensor_id=sensor_id,
        message_id=_message_id(fields),
        **when,
        place=_sensor_place(fields),
        source_type=values.source_type(fields.sourceType, "sourceType"),
        health=health,
    )
    return Identified(record, written)


def _written(fields: Fields) -> tuple[times.TimeReading, ...]:
    """Return the time that the message gives, if it gives one."""
    return () if fields.timestamp is None else (times.read(fields.timestamp, "timestamp"),)


def _clip(text: str, field: str, *, hashed: bool) -> Clip:
    data = from_base64(text, field)
    try:
        return audio.describe(data, hashed=hashed)
    except DecodeError as error:
        raise error.within(field) from None


def _clip_text(fields: Fields) -> tuple[str, str | None]:
    if fields.audioClip is not None:
        return "audioClip", fields.audioClip
    return "audio_file", fields.audio_file


def _health(message: Message, fields: Fields, rules: Rules) -> Health | None:
    source: Fields | HealthData
    if fields.health_data is None:
        source, paths = fields, FLAT_HEALTH
    else:
        source, paths = fields.health_data, NESTED_HEALTH
    battery_percent, external_power = values.battery(fields.batteryPct, "batteryPct")
    uptime_seconds = booted_at = None
    if source.uptime is not None:
        uptime_seconds, booted_at = values.uptime(
            source.uptime,
            paths.uptime,
            rules.first_moment,
            utc(message.received_at_ms),
            rules.of(message.node).clock_ahead_seconds,
        )
    health = Health(
        status=values.optional_exact_text(fields.status, "status"),
        battery_percent=battery_percent,
        external_power=external_power,
        cpu_percent=values.percent(source.cpu, paths.cpu, values.CPU_PERCENT_MAX),
        memory_percent=values.percent(source.ram, paths.memory),
        disk_percent=values.percent(source.disk, paths.disk),
        uptime_seconds=uptime_seconds,
        booted_at=booted_at,
    )
    return None if health == NOTHING_KNOWN else health


def _sensor_place(fields: Fields) -> Place | None:
    place = values.lla(fields.microphoneLLA, MICROPHONE, fields.gps_uncertainty)
    gps = fields.gps_data
    if place is not None or gps is None:
        return place
    return values.place(gps.lat, gps.lon, None, fields.gps_uncertainty, GPS)


def _animal_place(fields: Fields) -> Place | None:
    if fields.animalEstLLA is None:
        return None
    return values.lla(fields.animalEstLLA, ANIMAL_ESTIMATE, fields.animalLLAUncertainty)


def _fraction_of(message: Message, rules: Rules) -> Callable[[float], float]:
    """Return how the confidence of this message's node is read."""
    is_fraction = rules.of(message.node).confidence_is_fraction
    return values.given_fraction if is_fraction else values.fraction


def _alternatives(
    ranked: list[Ranked], fraction: Callable[[float], float]
) -> tuple[Alternative, ...]:
    if len(ranked) > ALTERNATIVES_MAX:
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_VALUE,
            f"the list has {len(ranked):,} entries; at most {ALTERNATIVES_MAX} can be read",
            "top5",
        )
    alternatives: list[Alternative] = []
    add = alternatives.append
    try:
        for entry in ranked:
            add(Alternative(values.species(entry.label, "label"), fraction(entry.confidence)))
    except DecodeError as error:
        raise error.within(f"top5[{len(alternatives)}]") from None
    return tuple(alternatives)


def _sensor_id(fields: Fields) -> str | None:
    if fields.sensor_id is not None:
        return values.name(fields.sensor_id, "sensor_id")
    if fields.sensorId is not None:
        return values.name(fields.sensorId, "sensorId")
    if fields.nodeId is not None:
        return values.name(fields.nodeId, "nodeId")
    return None if fields.node_id is None else values.name(fields.node_id, "node_id")


def message_id(payload: bytes) -> str | None:
    """Read the id alone; raise `DecodeError` where that is not possible."""
    given = read_id(payload)
    return None if given is None else _exact_id(given)


def _message_id(fields: Fields) -> str | None:
    return None if fields.id is None else _exact_id(fields.id)


def _exact_id(given: str | int) -> str:
    """Return the message's own id just as it came, since it identifies the message."""
    return values.exact_text(given if isinstance(given, str) else str(given), "id")
