"""The vocabulary: what travels along the line, as frozen data.

A `Message` is what arrived. `decode` makes one or several `Record`s of a valid one, and a
`Rejected` with the reason of any other. The journal stores the message as it came and never its
records: decoding the message again gives the same ones, so two stored forms cannot contradict each
other. A message has an offset there, and a record is known by that and its index in the message.
"""

import functools
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable
from datetime import datetime
from sys import getsizeof
from typing import Literal, TypeVar, final

from msgspec import Struct

from echo_ingest.quality import ClipProblem, TimeProblem
from echo_ingest.reasons import ReasonCode

Container = Literal["wav", "flac", "mp3", "ogg"]
TimeSource = Literal["device", "received"]
SourceType = Literal["real", "simulator"]
ObservationType = Literal["animal", "human", "vehicle", "blank", "unknown", "unclassified"]
"""What was heard, in the words of Camtrap DP 1.0 (`observationType`)."""

SECONDS_MAX = 2**32 - 1
TIME_DIGITS = frozenset((10, 13, 16, 19))
"""How many digits a time has in seconds, milliseconds, microseconds or nanoseconds since 1970."""
DIGITS = "0123456789"
RECORDS_MAX = 1_000
"""How many records a message may have."""
TOPICS_REMEMBERED = 1_000
"""For so many topics we keep something in memory, as long as they are short."""
NODE_CHARACTERS_MAX = 64
TOPIC_CHARACTERS_MAX = 256
"""Of a message that becomes a record. MQTT itself allows 65,535 bytes."""

ACCOUNTS = "iotaccounts"
"""Below this topic, and its account, a message on any other topic travels through our broker."""

PROPERTIES_BYTES_MAX = 65_536
"""How long the properties of a message may be, as they are sent."""
MESSAGE_BYTES = 256
PROPERTY_BYTES = 80
"""What Python needs for a message and for a pair of texts, besides what they hold."""

T = TypeVar("T")

ACCOUNTS_PREFIX = f"{ACCOUNTS}/"

ISO_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)", re.ASCII)
_RECORD_ID = re.compile(r"([1-9]\d{0,15})(?:-([1-9]\d{0,2}))?", re.ASCII)


class Message(Struct, frozen=True, gc=False):
    """One MQTT PUBLISH as received."""

    topic: str
    payload: bytes
    received_at_ms: int
    """When this service read it: milliseconds since 1970, UTC."""
    node: str | None = None
    """The node that sent it: the topic level after the ingestion prefix, if there is one."""
    properties: tuple[tuple[str, str], ...] = ()
    """MQTT 5 user properties, in order [MQTT-3.3.2-18]."""
    redelivered: bool = False
    """The broker's DUP flag [MQTT-3.3.1-1]; not stored."""
    response_topic: str | None = None
    """The topic on which the device wants its receipt [MQTT-3.3.2-13]; not stored."""
    correlation_data: bytes | None = None
    """What the receipt carries back, so that the device can match it to its message; not stored."""
    properties_cut: bool = False
    """Whether its properties were too large and are not here: then it is rejected. Not stored,
    except as the reason of a dead letter."""
    account: str | None = None
    """The account that published it, where its topic does not tell whose it is; `topic` is then
    what the account published it on, and the broker had both in one."""
    receipts_to: str | None = None
    """The gateway that spoke for the node, and gets the receipt; not stored."""
    form: str | None = None
    """By which form in a file it was decoded when it was stored, as the digest of that; empty: by
    our own dialects. None: it is not stored yet, and what it is in has still to be found."""

    @property
    def full_topic(self) -> str:
        """Its topic with the account that published it, as the broker and the journal have it."""
        return self.topic if self.account is None else f"{ACCOUNTS}/{self.account}/{self.topic}"


def published(full_topic: str) -> tuple[str | None, str]:
    """Return the account, if there is one, and the topic, of what `Message.full_topic` returns."""
    if not full_topic.startswith(ACCOUNTS_PREFIX):
        return None, full_topic
    account, _, topic = full_topic.removeprefix(ACCOUNTS_PREFIX).partition("/")
    return account, topic


class Place(Struct, frozen=True, gc=False, omit_defaults=True):
    """A point on Earth (WGS 84)."""

    latitude: float
    """Degrees, −90 to 90."""
    longitude: float
    """Degrees, −180 to 180."""
    altitude_metres: float | None = None
    uncertainty_metres: float | None = None


class Clip(Struct, frozen=True, gc=False, omit_defaults=True):
    """A piece of audio, described by its own bytes and not by what the message claims.

    The bytes stay in the message; `Decoder.clip_bytes` takes them out again.
    """

    container: Container
    size_bytes: int
    sha256: str
    """The hash of the audio file's bytes (after base64), in lower-case hex."""
    sample_rate_hz: int
    channels: int
    duration_seconds: float
    """How long the sound lasts, whatever the header says."""
    problem: ClipProblem | None = None
    """In which way the header differs from the sound, if it does."""
    metadata: dict[str, str] = {}
    """What the file says about itself: GUANO fields, an AudioMoth comment, tags."""


class Alternative(Struct, frozen=True, gc=False):
    """Another species that the model considered."""

    species: str
    confidence: float
    """Fraction, 0 to 1."""


class Health(Struct, frozen=True, gc=False, omit_defaults=True):
    """What a node reports about its own state."""

    status: str | None = None
    battery_percent: float | None = None
    cpu_percent: float | None = None
    memory_percent: float | None = None
    disk_percent: float | None = None
    """Share of the disk in use."""
    temperature_celsius: float | None = None
    uptime_seconds: float | None = None
    booted_at: datetime | None = None
    external_power: bool | None = None
    """Whether it runs on mains or a panel instead of its battery; None where it does not say."""


class Record(Struct, frozen=True, kw_only=True, gc=False, tag_field="kind", omit_defaults=True):
    """What every kind of record says: its form, and who observed it, when and where."""

    form: str
    """The payload form that it was decoded from; a heading of docs/forms.md."""
    node: str | None = None
    """The node that sent it, according to the topic."""
    sensor_id: str | None = None
    """The sensor that observed it, according to the payload."""
    message_id: str | None = None
    """The id that the device gave to this message, if it gave one."""
    observed_at: datetime
    """When it happened, in UTC; when it was received, if the device did not say."""
    time_source: TimeSource
    time_problem: TimeProblem | None = None
    """Why the time is not simply what the device wrote, if it is not."""
    device_time: str | None = None
    """What the device wrote, where there is a `time_problem`; at most 64 characters."""
    place: Place | None = None
    """The position of the sensor, if the message gives one."""
    source_type: SourceType | None = None


class Detection(Record, frozen=True, kw_only=True, gc=False, tag="detection"):
    """A device heard an animal and named it."""

    species: str
    """The name that the device gives; the scientific name in every known form."""
    species_as_sent: str | None = None
    """The name as the device wrote it, where its capital letters differ from those of `species`:
    other systems may know the species by that."""
    observation_type: ObservationType = "animal"
    """What the name stands for: classifiers also name engines, voices and noise."""
    confidence: float | None = None
    """Fraction, 0 to 1."""
    alternatives: tuple[Alternative, ...] = ()
    model: str | None = None
    common_name: str | None = None
    """The name in people's language, where the message has it beside the scientific one."""
    ends_at: datetime | None = None
    """When the call ended, where the message says so and its time is believed."""
    low_hz: float | None = None
    high_hz: float | None = None
    """Between which frequencies it was heard."""
    animal_place: Place | None = None
    """The estimated position of the animal."""
    animal_true_place: Place | None = None
    """The real position of the animal: only a simulator knows it."""
    clip: Clip | None = None
    clip_reference: str | None = None
    """The name or address of audio that is kept elsewhere."""
    sample_rate_hz: int | None = None
    """The rate that the message claims; `clip` has the measured one."""


class Recording(Record, frozen=True, kw_only=True, gc=False, tag="recording"):
    """Audio that nobody has classified yet."""

    clip: Clip
    mode: str | None = None
    """The mode of a simulator, where it sends one."""
    clip_reference: str | None = None
    animal_place: Place | None = None
    animal_true_place: Place | None = None
    health: Health | None = None


class Telemetry(Record, frozen=True, kw_only=True, gc=False, tag="telemetry"):
    """A node reported its own state."""

    health: Health


class Movement(Record, frozen=True, kw_only=True, gc=False, tag="movement"):
    """An animal was at a position."""

    species: str
    animal_id: str
    animal_place: Place
    species_as_sent: str | None = None
    """The name as the device wrote it, where its capital letters differ from those of `species`:
    other systems may know the species by that."""


class Measurement(Record, frozen=True, kw_only=True, gc=False, tag="measurement"):
    """A sensor measured something: one name, one value."""

    name: str
    """What was measured; it ends in its unit where the form gives the name."""
    value: float
    unit: str | None = None
    """None for a plain count."""


AnyRecord = Detection | Recording | Telemetry | Movement | Measurement

KINDS = ("detection", "recording", "telemetry", "movement", "measurement")


class RecordId(Struct, frozen=True, order=True, gc=False):
    """Which record of a journal it is; the order is that of arrival."""

    offset: int
    """That of its message."""
    index: int = 0
    """Its place among the records of the message, from 0."""

    def __str__(self) -> str:
        """Write it as addresses have it: `7`, or `7-2` where it is not the first of its message."""
        return f"{self.offset}-{self.index}" if self.index else str(self.offset)

    @classmethod
    def parse(cls, text: str) -> "RecordId | None":
        """Read what `str` writes; return None for any other text."""
        match = _RECORD_ID.fullmatch(text)
        return None if match is None else cls(int(match[1]), int(match[2] or 0))


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


@final
class Ignored(Struct, frozen=True, gc=False):
    """A message that nobody wants as a record, by a rule: configuration of another program.

    It is an outcome too: the message is counted, by form and day, and not kept.
    """

    form: str
    """The form that says so."""


@final
class Unclaimed(Struct, frozen=True, gc=False):
    """A message on a topic that neither `IOT_TOPIC`, nor a form, nor a person has claimed.

    It is an outcome too: the message is counted, and kept for a while.
    """


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


Outcome = Stored | Duplicate | DeadLetter | Ignored | Unclaimed
"""What became of a message, as the journal has it on disk."""


def kind(record: AnyRecord) -> str:
    """One of `KINDS`."""
    return str(type(record).__struct_config__.tag)


def kinds(records: Iterable[AnyRecord]) -> str:
    """Return the kinds of a message's records, each once, with commas between them."""
    return ",".join(dict.fromkeys(map(kind, records)))


class PinnedForm(Struct, frozen=True):
    """One version of a form in a file: what the journal keeps with the messages in it."""

    name: str
    digest: str
    """The first digits of the SHA-256 of its text, in hex."""
    source: bytes
    """The bytes of its file."""


class Identity(Struct, frozen=True, gc=False):
    """What tells one valid message from another: all that the first half of the line needs."""

    kind: str
    """What `kinds` returns for its records: one of `KINDS`, as a rule."""
    seconds: int = 0
    """The second since 1970 that the device wrote, believed or not; 0 if it wrote none.

    A time without a zone counts as UTC here, so that the identity depends on the message alone.
    """
    message_id: str | None = None
    sensor_id: str | None = None
    has_audio: bool = False
    scope: str | None = None
    """The form within which the id is unique whatever the topic, as where several gateways hear one
    frame; None: the id is one of the topic's."""
    form: PinnedForm | None = None
    """By what it was decoded; None: by our own dialects."""
    node: str | None = None
    """The node that the form takes from the topic or the payload; None: it is that of the message.
    """

    @property
    def is_certain(self) -> bool:
        """Whether a repeat of the message can be told from a second message with the same content.

        It can if the message has an id, a time of its own, or audio. `{"status":"online"}`, sent
        each minute, has none of these: it is not a duplicate of the one before.
        """
        return self.seconds > 0 or self.message_id is not None or self.has_audio


def node_of(message: Message, decoded: object) -> str | None:
    """Return the node that a message belongs to, after it was decoded."""
    return (decoded.node if type(decoded) is Identity else None) or message.node


def memory_bytes(message: Message) -> int:
    """Return about how much memory a message takes: every limit on messages held counts this.

    The payload is most of it, as a rule. But 64 KiB of short properties take 1.5 MB, since each is
    a few objects of Python.
    """
    # A text has up to four bytes for each character; to ask Python takes longer than all this.
    size = MESSAGE_BYTES + 4 * len(message.topic) + len(message.payload)
    if message.properties:
        pairs = message.properties
        size += sum([PROPERTY_BYTES + getsizeof(name) + getsizeof(value) for name, value in pairs])
    if message.response_topic is not None:
        size += 4 * len(message.response_topic)
    if message.correlation_data is not None:
        size += len(message.correlation_data)
    return size


def remembered(of_topic: Callable[[str], T]) -> Callable[[str], T]:
    """Let a function remember its results for some topics, as far as these are short."""
    remembering = functools.lru_cache(TOPICS_REMEMBERED)(of_topic)

    def of_any_topic(topic: str) -> T:
        return (remembering if len(topic) <= TOPIC_CHARACTERS_MAX else of_topic)(topic)

    return of_any_topic


def payload_hash(message: Message) -> bytes:
    """Return 12 bytes of BLAKE2b over topic and payload: devices cannot construct a collision."""
    topic = message.topic if message.account is None else message.full_topic
    digest = _topic_hash(topic).copy()
    digest.update(message.payload)
    return digest.digest()


@remembered
def _topic_hash(topic: str) -> hashlib.blake2b:
    """Return a hash of the topic alone: continuing a copy of it is cheaper than starting anew."""
    return hashlib.blake2b(topic.encode() + b"\0", digest_size=12)


def message_key(message: Message, identity: Identity, digest: bytes, offset: int) -> bytes:
    """Return the key of a message, 16 bytes: the same message always gets the same key.

    `digest` is its `payload_hash`. The last twelve bytes are a hash of what identifies the message:
    its id if the device gave one, else its topic and payload, and where these are not enough
    (`is_certain`), its offset as well. The first four put keys that come one after the other beside
    each other on disk: they are made of the id, or of the time in the payload in seconds (0 if it
    has none).
    """
    if identity.message_id is not None:
        speaker = _speaker(message, identity)
        first = _neighbourhood(speaker, identity, identity.message_id)
        return first + _id_hash(speaker, identity.message_id)
    if identity.is_certain:
        return identity.seconds.to_bytes(4) + digest
    tail = hashlib.blake2b(digest + offset.to_bytes(8), digest_size=12).digest()
    return identity.seconds.to_bytes(4) + tail


def record_key(key: bytes, index: int) -> bytes:
    """Return the key of a record, 16 bytes, of that of its message.

    The first record of a message has the key of the message. The others lie beside it on disk: they
    begin with the same four bytes.
    """
    if index == 0:
        return key
    tail = hashlib.blake2b(key + index.to_bytes(4), digest_size=12, person=b"record").digest()
    return key[:4] + tail


def key_with_time(message: Message, identity: Identity) -> bytes:
    """Return the key that a message with an id had in journals of versions 1 and 2.

    There an id was the same only within the same second of the message's own time.
    """
    speaker = _speaker(message, identity)
    return identity.seconds.to_bytes(4) + _id_hash(speaker, identity.message_id)


def _id_hash(speaker: str, message_id: str | None) -> bytes:
    name = f"{speaker}\0{message_id}"
    return hashlib.blake2b(name.encode(), digest_size=12, person=b"id").digest()


def _speaker(message: Message, identity: Identity) -> str:
    """Return within what a message id is unique. No topic holds the character 0 [MQTT-4.7.3-2]."""
    within = message.full_topic if identity.scope is None else f"\0{identity.scope}"
    return f"{within}\0{identity.sensor_id}"


def _neighbourhood(speaker: str, identity: Identity, message_id: str) -> bytes:
    """Return four bytes that bring ids together which a sensor gives one after the other.

    Most ids end or begin with a time: then it is the second, whatever the unit. Those of devices of
    other makers may hold it as people write it: then its digits are a number. Else these digits
    may count: then it is two bytes for the sensor and two for the number. Random ids have nothing
    in common, and each changes a page of its own on disk.
    """
    if identity.form is not None and (written := ISO_TIME.search(message_id)):
        return (int("".join(written.groups())) & 0xFFFFFFFF).to_bytes(4)
    digits = (
        message_id[len(message_id.rstrip(DIGITS)) :]
        or message_id[: len(message_id) - len(message_id.lstrip(DIGITS))]
        or "0"
    )
    if len(digits) in TIME_DIGITS:
        return (int(digits[:10]) & 0xFFFFFFFF).to_bytes(4)
    sensor = zlib.crc32(speaker.encode()) & 0xFFFF
    return (sensor << 16 | int(digits) & 0xFFFF).to_bytes(4)
