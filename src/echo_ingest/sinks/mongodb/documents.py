"""Records as the Echo Store keeps them: pure, from a batch to the writes that it needs.

Sources: what Project Echo's API stores of an event, a movement, an upload and a heartbeat, and what
its HMI reads: an event by `ObjectId`, joined with `species._id` and `nodes._id`; an older API
answers a whole list of events with an error if the species of one of them is missing there.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import bson
import msgspec
from bson import ObjectId
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from msgspec import Struct

from echo_ingest.formatting import utc
from echo_ingest.reasons import ReasonCode
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
    record_key,
)
from echo_ingest.sinks import Delivery, Refusal, clips, project_echo, which_record
from echo_ingest.sinks.project_echo import EventRefused, Schema

EVENTS, MOVEMENTS, AUDIO_UPLOADS, MEASUREMENTS, SPECIES, NODES = (
    "events",
    "movements",
    "audio_uploads",
    "measurements",
    "species",
    "nodes",
)
COLLECTIONS = (EVENTS, MOVEMENTS, AUDIO_UPLOADS, MEASUREMENTS, SPECIES, NODES)

DOCUMENT_BYTES_MAX = 16 * 1_048_576
ID_BYTES = 17
"""What `_id` adds to a document: a type, a name and an `ObjectId`."""
UNKNOWN = "Unknown"
"""What the API itself writes for a species that the database does not have."""

AHEAD_MAX = timedelta(days=1)
"""More than a clock that is believed can be ahead."""

Fields = dict[str, object]


class Write(Struct, frozen=True, gc=False):
    """One update of one document; a second time it changes nothing."""

    collection: str
    id: ObjectId | str
    deliveries: tuple[int, ...]
    """Places in the batch of the messages that need it."""
    update: Mapping[str, object]
    condition: Mapping[str, object] = {}
    """What else must be true of the document."""
    key: str = ""
    """The key of the record in hex, if the document is its own."""
    which: str = ""
    """Then the words that name it, where its message has several."""

    @property
    def is_upsert(self) -> bool:
        """Whether the document is created if it is missing."""
        return not self.condition


class Report(Struct, frozen=True, gc=False):
    """A record in which a node reports about itself."""

    delivery: Delivery
    record: AnyRecord


class WritePlan(Struct, frozen=True, gc=False):
    """What a batch becomes."""

    refusals: list[Refusal]
    joins: list[Write]
    """Species and nodes, which must be there before what names them."""
    documents: list[Write]
    """One for each record that has a document; then where nodes are and what they reported about
    themselves, the newest of each."""


def plan(batch: Sequence[Delivery], schema: Schema) -> WritePlan:
    """Plan the writes for a batch; `schema` is the form of places that Project Echo reads."""
    refusals: list[Refusal] = []
    joins: dict[tuple[str, str], list[int]] = {}
    documents: list[Write] = []
    reports: dict[str, tuple[Report, list[int]]] = {}
    places: dict[str, tuple[Place, list[int]]] = {}
    for index, delivery in enumerate(batch):
        before, number = len(documents), 0
        reported_now: list[tuple[str, Report]] = []
        try:
            for number, record in enumerate(delivery.records):
                documents.extend(_own_documents(index, delivery, number, record, schema))
                if (reporter := _reporter(record)) is not None:
                    reported_now.append((reporter, Report(delivery, record)))
        except EventRefused as refused:  # then nothing of the message is written
            del documents[before:]
            refusals.append(refused.refusal(index, which_record(number, len(delivery.records))))
            continue
        for record in delivery.records:
            for name in _joined(record):
                _add(joins.setdefault(name, []), index)
            node = project_echo.node_id(record)
            if node is not None and record.place is not None and (NODES, node) in joins:
                _add(places.setdefault(node, (record.place, []))[1], index)
        for reporter, report in reported_now:
            newest, indexes = reports.setdefault(reporter, (report, []))
            _add(indexes, index)
            if _is_newer(report, newest):
                reports[reporter] = (report, indexes)
    located = [_location(node, place, tuple(i)) for node, (place, i) in places.items()]
    reported = [
        write
        for node, (newest, indexes) in reports.items()
        for write in _report(node, newest, tuple(indexes))
    ]
    joined = [
        Write(collection, name, tuple(indexes), {"$setOnInsert": fields})
        for (collection, name), indexes in joins.items()
        for fields in [_species(name) if collection == SPECIES else _node(name)]
    ]
    return WritePlan(refusals, joined, documents + located + reported)


def _add(indexes: list[int], index: int) -> None:
    """Add an index once, however many records of the message need the write."""
    if not indexes or indexes[-1] != index:
        indexes.append(index)


def document_id(key: bytes) -> ObjectId:
    """Make an `ObjectId`, as the HMI asks for, of the record's time and 8 bytes of its hash.

    As in the ids that MongoDB makes, the time comes first, so that neighbours in time are
    neighbours in the index. Two records of one second have the same id once in 10^19 pairs;
    `messageKey` in the document tells them apart, so that such a clash is seen.
    """
    return ObjectId(key[:12])


def _own_documents(
    index: int, delivery: Delivery, number: int, record: AnyRecord, schema: Schema
) -> Iterator[Write]:
    """Yield the record's own document.

    Telemetry has none, nor has a sound of no animal without its clip: the Echo Store has no
    collection for them. That of measurements is our own. Raises `EventRefused`.
    """
    match record:
        case Detection() as sound if project_echo.is_sound_of_no_animal(sound):
            if sound.clip is None:
                return
            project_echo.check_finite(sound)
            fields = _upload(sound, sound.clip, delivery, number, schema) | {
                "label": sound.species,
                "observationType": sound.observation_type,
                **_extent(sound),
            }
            collection = AUDIO_UPLOADS
        case Detection() as detection:
            audio = _audio(delivery, number, detection) or detection.clip_reference or ""
            form = project_echo.event_form(detection, schema, audio)
            fields = msgspec.to_builtins(form, builtin_types=(datetime,)) | _extent(detection)
            collection = EVENTS
        case Recording() as recording:
            project_echo.check_finite(recording)
            fields = _upload(recording, recording.clip, delivery, number, schema)
            collection = AUDIO_UPLOADS
        case Movement() as movement:
            project_echo.check_finite(movement)
            fields = {
                "timestamp": movement.observed_at,
                "species": project_echo.species_of(movement),
                "animalId": movement.animal_id,
                "animalTrueLLA": project_echo.lla(movement.animal_place),
            }
            collection = MOVEMENTS
        case Measurement() as measurement:
            project_echo.check_finite(measurement)
            fields = _measurement(measurement, schema)
            collection = MEASUREMENTS
        case _:
            return
    key, which = delivery.key, ""
    if len(delivery.records) > 1:
        key = record_key(key, number)
        which = which_record(number, len(delivery.records))
        fields["recordIndex"] = number
    fields["messageKey"] = key.hex()
    document = _encoded(fields | _quality(record))
    update = {"$setOnInsert": document}
    yield Write(collection, document_id(key), (index,), update, key=key.hex(), which=which)


def _quality(record: AnyRecord) -> Fields:
    """Return what was not believed of a record, and where its time is not the device's own."""
    clip = clips.clip_of(record)
    fields = {
        "timeSource": record.time_source if record.time_source == "received" else None,
        "timeProblem": record.time_problem,
        "deviceTime": record.device_time,
        "clipProblem": None if clip is None else clip.problem,
    }
    return {name: str(value) for name, value in fields.items() if value is not None}


def _extent(detection: Detection) -> Fields:
    """Return what a detection says beyond the fields of an event, as far as it does."""
    fields: Fields = {
        "commonName": detection.common_name,
        "endTimestamp": detection.ends_at,
        "lowHz": detection.low_hz,
        "highHz": detection.high_hz,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _encoded(fields: Fields) -> RawBSONDocument:
    """Encode as BSON, once, so that the size is known. Raises `EventRefused`."""
    try:
        encoded = bson.encode(fields)
    except (BSONError, OverflowError, UnicodeEncodeError) as error:
        raise EventRefused(
            f"MongoDB cannot hold it: {error}", ReasonCode.NOT_SUPPORTED_BY_SINK
        ) from None
    _check_size(len(encoded) + ID_BYTES)
    return RawBSONDocument(encoded)


def _check_size(size_bytes: int) -> None:
    """Raise `EventRefused` if a document is larger than MongoDB takes."""
    if size_bytes > DOCUMENT_BYTES_MAX:
        raise EventRefused(
            f"with its clip the record has {size_bytes:,} bytes, and a document of MongoDB at most "
            f"{DOCUMENT_BYTES_MAX:,}: keep audio in object storage (IOT_OBJECTS_URL and "
            "IOT_AUDIO=reference), then replay",
            ReasonCode.TOO_LARGE_FOR_SINK,
        )


def _audio(delivery: Delivery, number: int, record: Detection | Recording) -> str:
    """Return a record's clip in base64, or its address; "" without one. Raises `EventRefused`."""
    clip = record.clip
    if clip is None or delivery.clip_place is not None:
        return clips.reference_of(delivery, record) or ""
    _check_size(-(-clip.size_bytes // 3) * 4)  # before it takes four times as much memory
    audio = clips.audio_of(delivery.decoder, delivery.message, number)
    return base64.b64encode(audio).decode("ascii")


def _upload(
    record: Recording | Detection, clip: Clip, delivery: Delivery, number: int, schema: Schema
) -> Fields:
    name = project_echo.upload_name(record, clip)
    return {
        "filename": name,
        "original_filename": name,
        "content_type": project_echo.CONTENT_TYPES.get(clip.container, f"audio/{clip.container}"),
        "size_bytes": clip.size_bytes,
        "sha256": clip.sha256,
        "timestamp": record.observed_at,
        "sensorId": project_echo.node_id(record),
        "microphoneLLA": _microphone(record.place, schema),
        "sampleRate": clip.sample_rate_hz,
        "channels": clip.channels,
        "durationSeconds": clip.duration_seconds,
        "audioClip": _audio(delivery, number, record),
    }


def _microphone(place: Place | None, schema: Schema) -> object:
    lla = project_echo.lla(place)
    return lla if schema == "arrays" else msgspec.to_builtins(project_echo.LlaObject(*lla))


def _measurement(measurement: Measurement, schema: Schema) -> Fields:
    fields: Fields = {
        "timestamp": measurement.observed_at,
        "sensorId": project_echo.node_id(measurement),
        "name": measurement.name,
        "value": measurement.value,
        "unit": measurement.unit,
    }
    if measurement.place is not None:
        fields["microphoneLLA"] = _microphone(measurement.place, schema)
    return fields


# ---------------------------------------------------------------------- what others join


def _joined(record: AnyRecord) -> Iterator[tuple[str, str]]:
    """Yield the species and the node that the record names."""
    if isinstance(record, Detection | Movement) and not project_echo.is_sound_of_no_animal(record):
        yield SPECIES, project_echo.species_of(record)
    node = project_echo.node_id(record)
    if node is not None and not isinstance(record, Movement):
        yield NODES, node


def _species(name: str) -> Fields:
    return {"commonName": name, "type": UNKNOWN, "status": UNKNOWN, "diet": UNKNOWN}


def _node(name: str) -> Fields:
    return {
        "name": name,
        "type": UNKNOWN,
        "model": UNKNOWN,
        "customProperties": {},
        "connectedNodes": [],
        "components": [],
    }


def _location(node: str, place: Place, deliveries: tuple[int, ...]) -> Write:
    """Return the update that sets where the node is, unless its document says so already."""
    location = {"latitude": place.latitude, "longitude": place.longitude}
    nowhere = {"location": {"$exists": False}}
    return Write(NODES, node, deliveries, {"$set": {"location": location}}, nowhere)


def _reporter(record: AnyRecord) -> str | None:
    """Return the node whose health the record reports, if it does. Raises `EventRefused`."""
    match record:
        case Telemetry():
            project_echo.check_finite(record)
            return project_echo.require_node_id(record)
        case Recording(health=Health()):
            return project_echo.node_id(record)
    return None


def _is_newer(report: Report, known: Report) -> bool:
    """Return whether a report replaces the one that is known, as the conditions of `_report` do."""
    known_at, at = known.record.observed_at, report.record.observed_at
    return at > known_at or (
        report.delivery.offset > known.delivery.offset
        and known_at > _impossible_from(report.delivery)
    )


def _impossible_from(delivery: Delivery) -> datetime:
    """Return the time after which nothing was observed that was stored before this record.

    Where our own clock was ahead for a while, reports without a time of their own say so.
    """
    return utc(delivery.message.received_at_ms) + AHEAD_MAX


def _report(node: str, report: Report, deliveries: tuple[int, ...]) -> Iterator[Write]:
    """Yield two updates with the report, of which at most one applies.

    One is for a node without a report, the other for a node with an older one, or with one of a
    time that cannot be true.

    `lastSeen` is text, as the API writes it and wants to read it again.
    """
    delivery, record = report.delivery, report.record
    assert isinstance(record, Telemetry | Recording)
    health, at = record.health, record.observed_at.astimezone(UTC)
    assert health is not None
    values = {
        "status": health.status,
        "batteryPercent": health.battery_percent,
        "cpuPercent": health.cpu_percent,
        "memoryPercent": health.memory_percent,
        "diskPercent": health.disk_percent,
        "temperatureCelsius": health.temperature_celsius,
        "uptimeSeconds": health.uptime_seconds,
        "bootedAt": health.booted_at,
        "externalPower": health.external_power,
        "timeProblem": None if record.time_problem is None else str(record.time_problem),
        "deviceTime": record.device_time,
    }
    known = {name: value for name, value in values.items() if value is not None}
    update = {
        "$set": {
            "health": {"observedAt": at, "journalOffset": delivery.offset, **known},
            "lastSeen": at.isoformat(),
            "lastMessage": project_echo.heartbeat_line(record),
        }
    }
    impossible = {"health.observedAt": {"$gt": _impossible_from(delivery)}}
    older = [
        {"health.observedAt": {"$lt": at}},
        impossible | {"health.journalOffset": {"$lt": delivery.offset}},
        impossible | {"health.journalOffset": {"$exists": False}},
    ]
    yield Write(NODES, node, deliveries, update, {"health.observedAt": {"$exists": False}})
    yield Write(NODES, node, deliveries, update, {"$or": older})
