"""Records in the forms of Project Echo: pure, one function for each call of its API.

The Echo API takes them, and its database keeps almost the same, so MongoDB gets them too. Sources:
the API's own `EventSchema` and `MovementSchema`, in the form with arrays (2023 to August 2026) and
the form with objects (since September 2026), and its upload call.
"""

import base64
import math
import re
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    Clip,
    Container,
    Detection,
    Measurement,
    Movement,
    Place,
    Record,
    Recording,
    Telemetry,
)
from echo_ingest.sinks import Delivery, Refusal, clips

Schema = Literal["objects", "arrays"]
Lla = tuple[float, float, float]

JSON_BYTES_MAX = 1_048_576
"""The largest JSON body that the API reads; it answers 413 above."""
UPLOAD_BYTES_MAX = 30 * 1_048_576
"""The largest file that its upload call takes."""
CONFIDENCE_DECIMALS = 6
"""63.64 % is stored as the fraction 0.6364, which times 100 is 63.63999999999999."""
LEAST_PERCENT, MOST_PERCENT = 0.01, 99.99
"""What stands for exactly 0 and 100 in the arrays form, which refuses those two."""
NOWHERE: Lla = (0.0, 0.0, 0.0)
"""A place that is not known, as devices send it."""
CONTENT_TYPES: dict[Container, str] = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
}
"""What the upload call takes; there is none for Ogg."""


class EventRefused(Exception):
    """The API will not take this record as it is; the text says why.

    `code` says which rule of ours that is, `field` which field the API complains about.
    """

    def __init__(
        self, reason: str, code: ReasonCode | None = None, field: str | None = None
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.field = field

    def refusal(self, index: int, which: str = "") -> Refusal:
        """Return it as the refusal of the message at `index` of a batch.

        `which` names the record that it is about, where the message has several.
        """
        return Refusal(index, which + str(self), self.code, self.field)


class Event(Struct, frozen=True, kw_only=True, gc=False):
    """What both forms of the body of `POST /engine/event` share."""

    timestamp: datetime
    sensorId: str
    species: str
    audioClip: str
    sampleRate: int
    source_model: str | UnsetType = UNSET


class ArraysEvent(Event, frozen=True, kw_only=True, gc=False):
    """Places as lists; nothing may be null. Payload 60 of the wire contract."""

    microphoneLLA: Lla
    animalEstLLA: Lla
    animalTrueLLA: Lla
    animalLLAUncertainty: int
    confidence: float


class LlaObject(Struct, frozen=True, gc=False):
    """A place as an object: degrees, degrees, metres."""

    latitude: float
    longitude: float
    altitude: float


class ObjectsEvent(Event, frozen=True, kw_only=True, gc=False):
    """Places as objects; what is not known of the animal is null. Payload 61."""

    sourceType: str
    microphoneLLA: LlaObject
    animalEstLLA: LlaObject | None
    animalTrueLLA: LlaObject | None
    animalLLAUncertainty: float | None
    confidence: float | None


class MovementBody(Struct, frozen=True, gc=False):
    """The body of `POST /sim/movement`. Payload 05."""

    timestamp: float
    species: str
    animalId: str
    animalTrueLLA: Lla


class HeartbeatBody(Struct, frozen=True, gc=False):
    """The body of `PUT /iot/nodes/{id}/heartbeat`. Payload 64."""

    message: str


def is_sound_of_no_animal(record: Record) -> bool:
    """Return whether a device heard something and named no animal: that makes no event.

    Its events are joined with the species of the same name, and drawn on a map of animals.
    """
    return isinstance(record, Detection) and record.observation_type != "animal"


def needs_no_call(record: Record) -> bool:
    """Return whether the API has no call for a record, and nobody has to do anything about it."""
    return isinstance(record, Measurement) or is_sound_of_no_animal(record)


def node_id(record: Record) -> str | None:
    """Return the node that the API is told: the id in the payload, else the one in the topic."""
    return record.sensor_id or record.node


def require_node_id(record: Record) -> str:
    """Return `node_id`; raise `EventRefused` if there is none, for calls that need one."""
    node = node_id(record)
    if node is None:
        raise EventRefused(
            "the record has no node id: publish below <prefix>/<node>, or send nodeId or sensorId",
            ReasonCode.NODE_ID_MISSING,
        )
    return node


def event(detection: Detection, schema: Schema, audio: str = "") -> bytes:
    """Return the body for a detection, as `event_form` has it. Raises `EventRefused`."""
    return msgspec.json.encode(event_form(detection, schema, audio))


def event_form(detection: Detection, schema: Schema, audio: str) -> ArraysEvent | ObjectsEvent:
    """Return a detection in the fields of Project Echo.

    `audio` is the clip in base64, or the address at which it is kept.

    Raises `EventRefused` for a detection that the form cannot express.
    """
    sensor_id = node_id(detection)
    if sensor_id is None:
        raise EventRefused(
            "Project Echo takes no event without a sensor id, and neither the payload nor the "
            "topic names one: publish below <prefix>/<node>, or send sensor_id",
            ReasonCode.NODE_ID_MISSING,
        )
    check_finite(detection)
    clip = detection.clip
    rate_hz = clip.sample_rate_hz if clip is not None else detection.sample_rate_hz or 0
    percent = _percent(detection.confidence)
    if schema == "objects":
        return ObjectsEvent(
            timestamp=detection.observed_at,
            sensorId=sensor_id,
            species=species_of(detection),
            sourceType=detection.source_type or "real",
            microphoneLLA=LlaObject(*lla(detection.place)),
            animalEstLLA=_lla_object(detection.animal_place),
            animalTrueLLA=_lla_object(detection.animal_true_place),
            animalLLAUncertainty=_uncertainty_metres(detection.animal_place),
            audioClip=audio,
            confidence=percent,
            sampleRate=rate_hz,
            source_model=detection.model or UNSET,
        )
    if percent is None:
        raise EventRefused(
            "the detection has no confidence: an event in the arrays form needs one, and to make "
            "one up would be a guess",
            ReasonCode.NOT_SUPPORTED_BY_SINK,
        )
    animal = detection.animal_place or detection.place
    return ArraysEvent(
        timestamp=detection.observed_at,
        sensorId=sensor_id,
        species=species_of(detection),
        microphoneLLA=lla(detection.place),
        animalEstLLA=lla(animal),
        animalTrueLLA=lla(detection.animal_true_place or animal),
        # Rounded up, since rounded down it would claim more than the device does.
        animalLLAUncertainty=math.ceil(_uncertainty_metres(animal) or 0.0),
        audioClip=audio,
        confidence={0.0: LEAST_PERCENT, 100.0: MOST_PERCENT}.get(percent, percent),
        sampleRate=rate_hz,
        source_model=detection.model or UNSET,
    )


def species_of(record: Detection | Movement) -> str:
    """Return the name of the species as the sender wrote it.

    Project Echo joins events and movements to its species by this name, letter by letter, and
    writes some with two capital letters (`Sus Scrofa`).
    """
    return record.species_as_sent or record.species


def event_with_clip(
    delivery: Delivery, index: int, detection: Detection, schema: Schema
) -> bytes | None:
    """Return the body with the clip in it, if there is one; None if the API does not read so much.

    Where the clip is kept elsewhere, the body names it. `index` is that of the detection in its
    message.
    """
    reference = clips.reference_of(delivery, detection)
    if detection.clip is None or reference is not None:
        return event(detection, schema, reference or detection.clip_reference or "")
    if detection.clip.size_bytes * 4 // 3 > JSON_BYTES_MAX:
        return None
    audio = clips.audio_of(delivery.decoder, delivery.message, index)
    body = event(detection, schema, base64.b64encode(audio).decode("ascii"))
    return body if len(body) <= JSON_BYTES_MAX else None


def movement(record: Movement) -> bytes:
    """Return the body for a movement. Raises `EventRefused`."""
    check_finite(record)
    return msgspec.json.encode(
        MovementBody(
            record.observed_at.timestamp(),
            species_of(record),
            record.animal_id,
            lla(record.animal_place),
        )
    )


def heartbeat(record: Telemetry | Recording) -> bytes:
    """Return the body for a node's report. Raises `EventRefused`."""
    return msgspec.json.encode(HeartbeatBody(heartbeat_line(record)))


def heartbeat_line(record: Telemetry | Recording) -> str:
    """Return one line on the state of a node, with the time at which it was reported.

    The API keeps the line, and its own time as that of the last contact: after an outage, only
    the line says when the node was really heard, and whether its clock was believed. Raises
    `EventRefused`.
    """
    check_finite(record)
    health = record.health
    assert health is not None
    values = (
        ("battery", health.battery_percent, "%"),
        ("cpu", health.cpu_percent, "%"),
        ("memory", health.memory_percent, "%"),
        ("disk", health.disk_percent, "%"),
        ("temperature", health.temperature_celsius, "°C"),
        ("uptime", health.uptime_seconds, "s"),
    )
    parts = [f"{name} {value:g} {unit}" for name, value, unit in values if value is not None]
    if health.external_power is not None:
        parts.append("external power" if health.external_power else "no external power")
    if health.booted_at is not None:
        parts.append(f"started {_short(health.booted_at)}")
    if record.time_problem is not None:
        parts.append(f"its clock says {record.device_time} ({record.time_problem})")
    state = ", ".join([health.status or "alive", *parts])
    return f"{_short(record.observed_at)} {state}"


def check_upload(clip: Clip) -> None:
    """Raise `EventRefused` for a clip that the upload call does not take.

    The bytes of such a clip need not travel.
    """
    if clip.container not in CONTENT_TYPES:
        raise EventRefused(
            "the Echo API takes WAV, MP3 and FLAC, but this clip is Ogg: let the recorder write "
            "one of the three",
            ReasonCode.NOT_SUPPORTED_BY_SINK,
        )
    if clip.size_bytes > UPLOAD_BYTES_MAX:
        raise EventRefused(
            f"the Echo API takes clips of at most {UPLOAD_BYTES_MAX:,} bytes; this one has "
            f"{clip.size_bytes:,}: let the recorder make shorter clips",
            ReasonCode.TOO_LARGE_FOR_SINK,
        )


def upload_name(record: Record, clip: Clip) -> str:
    """Return a file name with the node, the time and the clip, which have no fields in the call."""
    who = re.sub(r"[^A-Za-z0-9-]+", "_", node_id(record) or "unknown")[:64]
    when = record.observed_at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{who}_{when}_{clip.sha256[:12]}.{clip.container}"


def check_finite(record: Record) -> None:
    """Raise `EventRefused` for NaN or infinity: the API stores them and answers 500, each time."""
    if not _is_finite(record):
        raise EventRefused(
            "the record holds NaN or infinity, which the Echo API stores but cannot answer",
            ReasonCode.NOT_SUPPORTED_BY_SINK,
        )


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Struct):
        return all(map(_is_finite, msgspec.structs.astuple(value)))
    return not isinstance(value, tuple) or all(map(_is_finite, value))


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else round(fraction * 100, CONFIDENCE_DECIMALS)


def lla(place: Place | None) -> Lla:
    """Return a place as three numbers; zeros if it is unknown, as devices send it then."""
    if place is None:
        return NOWHERE
    return (place.latitude, place.longitude, place.altitude_metres or 0.0)


def _lla_object(place: Place | None) -> LlaObject | None:
    return None if place is None else LlaObject(*lla(place))


def _uncertainty_metres(place: Place | None) -> float | None:
    return None if place is None else place.uncertainty_metres


def _short(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
