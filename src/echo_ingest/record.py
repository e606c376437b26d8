"""The vocabulary: what travels along the line, as frozen data.

A `Message` is what arrived. `decode` turns it into a `Record` (valid) or `Rejected` (never
valid, with the reason). A record is never stored by itself: the journal keeps the message as it
came, and decoding it again gives the same record, so one stored form cannot contradict another.
"""

import functools
import hashlib
from datetime import datetime
from typing import Literal, final

from msgspec import Struct

from echo_ingest.reasons import ReasonCode

Container = Literal["wav", "flac", "mp3", "ogg"]
TimeSource = Literal["device", "received"]
SourceType = Literal["real", "simulator"]

SECONDS_MAX = 2**32 - 1
TOPICS_REMEMBERED = 1_000
"""Of each of these something is kept in memory; one can be 64 kB long."""


class Message(Struct, frozen=True, gc=False):
    """One MQTT PUBLISH as received."""

    topic: str
    payload: bytes
    received_at_ms: int
    """When this service read it: milliseconds since 1970, UTC."""
    node: str | None = None
    """Who sent it: the topic level after the ingestion prefix, if there is one."""
    properties: tuple[tuple[str, str], ...] = ()
    """MQTT 5 user properties, in order [MQTT-3.3.2-18]."""
    redelivered: bool = False
    """The broker's DUP flag [MQTT-3.3.1-1]; not stored."""
    response_topic: str | None = None
    """Where the device wants its receipt [MQTT-3.3.2-13]; not stored."""
    correlation_data: bytes | None = None
    """What the receipt is to carry, so that the device knows which it is; not stored."""


class Place(Struct, frozen=True, gc=False, omit_defaults=True):
    """A point on Earth (WGS 84)."""

    latitude: float
    """Degrees, −90 to 90."""
    longitude: float
    """Degrees, −180 to 180."""
    altitude_metres: float | None = None
    uncertainty_metres: float | None = None


class Clip(Struct, frozen=True, gc=False, omit_defaults=True):
    """A piece of audio, described from its own bytes and not from what was said of it.

    The bytes stay in the message; `decode.clip_bytes` takes them out again.
    """

    container: Container
    size_bytes: int
    sha256: str
    """Of the audio file's bytes (after base64), lower-case hex."""
    sample_rate_hz: int
    channels: int
    duration_seconds: float
    metadata: dict[str, str] = {}
    """What the file says of itself: GUANO fields, an AudioMoth comment, tags."""


class Alternative(Struct, frozen=True, gc=False):
    """Another species the model thought of."""

    species: str
    confidence: float
    """Fraction, 0 to 1."""


class Health(Struct, frozen=True, gc=False, omit_defaults=True):
    """How a node says it is."""

    status: str | None = None
    battery_percent: float | None = None
    cpu_percent: float | None = None
    memory_percent: float | None = None
    disk_percent: float | None = None
    """Share of the disk in use."""
    temperature_celsius: float | None = None
    uptime_seconds: float | None = None
    booted_at: datetime | None = None


class Record(Struct, frozen=True, kw_only=True, gc=False, tag_field="kind", omit_defaults=True):
    """What every kind of record says: which form, who, when, where."""

    form: str
    """The payload form it was decoded from; a heading of docs/forms.md."""
    node: str | None = None
    """Who sent it, by the topic."""
    sensor_id: str | None = None
    """Who it claims to be, by the payload."""
    message_id: str | None = None
    """The device's own id of this message, if it gave one."""
    observed_at: datetime
    """UTC. When it happened, or when it was received if the device did not say."""
    time_source: TimeSource
    place: Place | None = None
    """Where the sensor is, as far as the message says."""
    source_type: SourceType | None = None


class Detection(Record, frozen=True, kw_only=True, gc=False, tag="detection"):
    """An animal was heard and named."""

    species: str
    """As the device names it; the scientific name in every form known."""
    confidence: float | None = None
    """Fraction, 0 to 1."""
    alternatives: tuple[Alternative, ...] = ()
    model: str | None = None
    animal_place: Place | None = None
    """Where the animal is estimated to be."""
    animal_true_place: Place | None = None
    """Where it really is: only a simulator knows."""
    clip: Clip | None = None
    clip_reference: str | None = None
    """Name or address of audio that is kept elsewhere."""
    sample_rate_hz: int | None = None
    """As claimed by the message; `clip` has the measured one."""


class Recording(Record, frozen=True, kw_only=True, gc=False, tag="recording"):
    """Audio that nobody has classified yet."""

    clip: Clip
    mode: str | None = None
    """The simulator's mode word, where it sends one."""
    clip_reference: str | None = None
    animal_place: Place | None = None
    animal_true_place: Place | None = None
    health: Health | None = None


class Telemetry(Record, frozen=True, kw_only=True, gc=False, tag="telemetry"):
    """A node's report about itself."""

    health: Health


class Movement(Record, frozen=True, kw_only=True, gc=False, tag="movement"):
    """An animal was at a place."""

    species: str
    animal_id: str
    animal_place: Place


AnyRecord = Detection | Recording | Telemetry | Movement

KINDS = ("detection", "recording", "telemetry", "movement")


@final
class Rejected(Struct, frozen=True, gc=False):
    """A message that is not, and never was, a valid record, and why."""

    code: ReasonCode
    detail: str
    """What is wrong, in words a biologist can act on; after `field` and a colon, where given."""
    field: str | None = None
    """The field it is about, as a path with the names that the device uses (`top5[0].label`)."""
    position: int | None = None
    """The byte of the payload at which its JSON is broken."""

    def render(self) -> str:
        """Return the whole reason, for people: at most 200 characters. Nothing parses it."""
        return self.detail if self.field is None else f"{self.field}: {self.detail}"


class Stored(Struct, frozen=True, gc=False):
    """Outcome of a message: it is a record of the journal now."""

    offset: int


class Duplicate(Struct, frozen=True, gc=False):
    """Outcome of a message: the journal had it before."""

    offset: int | None = None
    """Where it is; None for a redelivered message that nothing but its bytes identifies."""


class DeadLetter(Struct, frozen=True, gc=False):
    """Outcome of a message: it is kept as it came, but is no record."""

    rejected: Rejected


Outcome = Stored | Duplicate | DeadLetter
"""What became of a message that is on disk."""


def kind(record: AnyRecord) -> str:
    """One of `KINDS`."""
    return str(type(record).__struct_config__.tag)


class Identity(Struct, frozen=True, gc=False):
    """What the first half of the line needs to know of a valid message: which it is."""

    kind: str
    """One of `KINDS`."""
    seconds: int = 0
    """The time that the message itself gives, in seconds since 1970; 0 where it gives none."""
    message_id: str | None = None
    sensor_id: str | None = None
    has_audio: bool = False

    @property
    def is_certain(self) -> bool:
        """Can the same message, sent again, be told from a second one that says the same?

        True if it carries an id, a time of its own, or audio. `{"status":"online"}`, sent each
        minute, carries none: it is not a duplicate of itself.
        """
        return self.seconds > 0 or self.message_id is not None or self.has_audio


def identity(record: AnyRecord) -> Identity:
    """Which message a record was decoded from."""
    seconds = 0
    if record.time_source == "device":
        seconds = min(max(int(record.observed_at.timestamp()), 1), SECONDS_MAX)
    has_audio = getattr(record, "clip", None) is not None
    return Identity(kind(record), seconds, record.message_id, record.sensor_id, has_audio)


def payload_hash(message: Message) -> bytes:
    """12 bytes of BLAKE2b over topic and payload; devices cannot make two that collide."""
    digest = _topic_hash(message.topic).copy()
    digest.update(message.payload)
    return digest.digest()


@functools.lru_cache(TOPICS_REMEMBERED)
def _topic_hash(topic: str) -> hashlib.blake2b:
    """A hash that has taken in the topic: to go on from a copy is cheaper than to begin anew."""
    return hashlib.blake2b(topic.encode() + b"\0", digest_size=12)


def message_key(message: Message, its: Identity, digest: bytes, offset: int) -> bytes:
    """16 bytes: the same message always gets the same key. `digest` is its `payload_hash`.

    The first four are the payload's own time in seconds (0 where it gives none), big-endian, so
    that neighbours in time are neighbours on disk; the rest is the hash of what identifies it: the
    device's message id, else topic and payload, and where that is not certain, the journal offset
    besides.
    """
    if its.message_id is not None:
        said = f"{message.topic}\0{its.sensor_id}\0{its.message_id}"
        tail = hashlib.blake2b(said.encode(), digest_size=12, person=b"id").digest()
    elif its.is_certain:
        tail = digest
    else:
        tail = hashlib.blake2b(digest + offset.to_bytes(8), digest_size=12).digest()
    return its.seconds.to_bytes(4) + tail
