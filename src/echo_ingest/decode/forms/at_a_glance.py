"""Identify plain messages in a form without making their records, at a tenth of the cost. Pure.

Most messages of a device are like those before: the same keys, each with a value of the same type.
Such a shape is learned from a message whose records were made. One typed decode then tells whether
another message has that shape, and reads it. What this identifies, `interpret` would identify in
the same way: one detection with plain paths, in JSON without escapes, whose text is ASCII and in
order, and whose numbers and times are as nearly all devices write them. Everything else gives None
and is left to `interpret`: a value at the edge, a modifier that is rare, whatever is wrong. The
fuzz tests hold the two against each other.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any, ClassVar, NamedTuple, cast

import msgspec
from msgspec import Meta, Struct

from echo_ingest.decode import times, values
from echo_ingest.decode.audio import REFERENCE_CHARACTERS_MAX
from echo_ingest.decode.fields import BACKSLASH
from echo_ingest.decode.forms.documents import Document
from echo_ingest.decode.forms.fields import SCALES, Field
from echo_ingest.decode.forms.form import Form
from echo_ingest.decode.forms.paths import compile_plain
from echo_ingest.record import SECONDS_MAX, Identity, Message

PAYLOAD_BYTES_MAX = 16 * 1024
KEYS_MAX = 64
DEPTH_MAX = 4
TEXTS_REMEMBERED = 16_384
SHAPES_REMEMBERED = 256
"""Each takes up to 40 kB."""
TOPICS_REMEMBERED = 4_096
TRIES_MAX = 8
TOPIC_CHARACTERS_MAX = 1_024
DELETE, QUOTE = 0x7F, ord('"')
FIRST_LETTER = "!"
"""Of the characters of plain text, only the space comes before it."""
SECONDS_OF_1971 = 365 * 86_400
NO_TIME, CALL_TIME_MAX = timedelta(), timedelta(hours=1)
OFFSETS = frozenset(
    f"{sign}{hours:02}:{minutes}"
    for sign in "+-"
    for hours in range(15)
    for minutes in ("00", "30")
)
FIELDS = frozenset(
    (
        *("species", "common_name", "model", "clip_reference", "confidence", "latitude"),
        *("longitude", "message_id", "sensor_id", "observed_at", "ends_at"),
    )
)
"""The fields that a glance knows."""
JOINED = frozenset(("message_id", "sensor_id", "common_name", "model"))
"""Those of them that may be put together."""

Scalar = int | float | bool | None
"""Any value without a quote."""
Nothing = Annotated[list[Scalar], Meta(max_length=0)]


class NotPlain(Exception):
    """A message or a form takes a closer look."""


class Where(NamedTuple):
    """Where a field is: a key of the message, or several whose text is put together."""

    parts: tuple[tuple[str, ...], ...]
    """The key of each part, and the one within it."""
    join: str | None = None


NOWHERE = Where(())


class Glance(Struct, frozen=True):
    """What a form reads of its plain messages: where it finds what it needs."""

    form: Form
    straight: tuple[Where, ...]
    """Species, beginning, end, confidence, latitude, longitude and clip: each is one key."""
    names: tuple[Where, ...]
    """Text that is sent again and again, and that may be missing."""
    message_id: Where
    """The id of the whole message."""
    record_id: Where
    sensor_id: Where
    confidence_max: float
    unknown_ends: frozenset[str]

    def learn(self, document: Document) -> "Shape | None":
        """Return the shape of a message that is in the form; None if it takes a closer look."""
        try:
            shape = _Learned(document)
            return Shape(
                msgspec.json.Decoder(shape.type).decode,
                shape.quotes,
                self.form,
                attrgetter(*(shape.attribute(where) for where in self.straight)),
                tuple(shape.reader(where) for where in self.names),
                shape.reader(self.message_id),
                shape.reader(self.record_id),
                shape.reader(self.sensor_id),
                self.confidence_max,
                self.unknown_ends,
            )
        except NotPlain:
            return None


class ReadObject(Struct, frozen=True, gc=False):
    """A message of one shape, or an object in it; each has a type of its own."""

    absent: ClassVar[None] = None
    """What is read where the message has no such key."""


class Shape(Struct, frozen=True):
    """The keys that messages have, with the types of their values, and how these are read."""

    decode: Callable[[bytes], Any]
    quotes: int
    """How many quotes such a message has; with more of them, a key stands there twice."""
    form: Form
    straight: Callable[[ReadObject], tuple[Any, ...]]
    names: tuple["Reader", ...]
    message_id: "Reader"
    record_id: "Reader"
    sensor_id: "Reader"
    confidence_max: float
    unknown_ends: frozenset[str]

    def identify(self, message: Message) -> Identity | None:
        """Return which message with that many quotes this is; None if that takes a closer look."""
        payload = message.payload
        if (
            not payload.isascii()
            or BACKSLASH in payload  # an escape may stand for anything
            or DELETE in payload  # of the control characters, the only one that JSON lets pass
        ):
            return None
        try:
            plain = self.decode(payload)
            species, begins, ends, confidence, latitude, longitude, clip = self.straight(plain)
            if _name(species) is None or not (
                confidence is None
                or (type(confidence) is float and 0 <= confidence <= self.confidence_max)
            ):
                return None
            if latitude is not None or longitude is not None:
                if type(latitude) is not float or type(longitude) is not float:
                    return None
                if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
                    return None
            _exact(clip, REFERENCE_CHARACTERS_MAX)
            for reader in self.names:
                _name(reader(plain))
            whole = _exact(self.message_id(plain), values.TEXT_CHARACTERS_MAX)
            message_id = whole or _exact(self.record_id(plain), values.TEXT_CHARACTERS_MAX)
            sensor_id = _name(self.sensor_id(plain))
            seconds = _seconds(begins, None if ends in self.unknown_ends else ends)
        except (msgspec.DecodeError, NotPlain, TypeError):  # a list or object cannot be looked up
            return None
        form, node = self.form, message.node
        if form.is_unique_in_form:
            scope = None if whole is None else form.name
            return Identity("detection", seconds, message_id, None, False, scope, form, node)
        return Identity(
            "detection", seconds, message_id, sensor_id or node, False, None, form, node
        )


Reader = Callable[[ReadObject], object]


class Shapes:
    """The shapes of messages that were seen: a device has few, and those of a model are alike."""

    def __init__(self) -> None:
        """Begin without any."""
        self.by_topic: dict[str, dict[int, Shape]] = {}
        """Topic and number of quotes → shape."""
        self._tries: dict[tuple[str, int], int] = {}
        """How many times something was to be learned there: after some, it costs no more."""
        self._made: dict[tuple[str, Outline], Shape | None] = {}
        """Digest of the form and outline → shape, of any topic."""

    def may_learn(self, message: Message) -> bool:
        """Return whether something may still be learned of such a message, and count the try."""
        topic, quotes = message.topic, message.payload.count(QUOTE)
        tries = self._tries.get((topic, quotes), 0)
        if tries >= TRIES_MAX or len(topic) > TOPIC_CHARACTERS_MAX:
            return False
        if len(self._tries) >= TOPICS_REMEMBERED or len(self._made) >= SHAPES_REMEMBERED:
            for each in (self.by_topic, self._tries, self._made):
                each.clear()
        self._tries[topic, quotes] = tries + 1
        return True

    def learn(self, message: Message, glance: Glance, document: Document) -> None:
        """Remember what a message is like, if one like it can be told at a glance.

        It takes the place of a shape with as many quotes on that topic.
        """
        try:
            made = glance.form.digest, outline_of(document)
        except NotPlain:
            return
        if made not in self._made:
            self._made[made] = glance.learn(document)
        shape = self._made[made]
        if shape is not None and shape.identify(message) is not None:
            self.by_topic.setdefault(message.topic, {})[shape.quotes] = shape


Outline = tuple[tuple[str, object], ...]
"""The keys of a document in order, each with the type of its value."""


def outline_of(document: Document, depth: int = 1) -> Outline:
    """Return the outline of a document; raise `NotPlain` where no shape can have it."""
    if depth > DEPTH_MAX or len(document) > KEYS_MAX:
        raise NotPlain
    return tuple([(key, _outline(value, depth)) for key, value in document.items()])


def _outline(value: object, depth: int) -> object:
    if isinstance(value, dict):
        return outline_of(value, depth + 1)
    if isinstance(value, list):
        if value:
            raise NotPlain
        return list
    return str if isinstance(value, str) else None


class _Learned:
    """The shape of one message that has an outline: no list in it holds anything."""

    def __init__(self, document: Document) -> None:
        self.quotes = 0
        self._keys = 0
        self._attributes: dict[tuple[str, ...], str] = {}
        self.type = self._object(document, (), "")

    def attribute(self, where: Where) -> str:
        """Return the attribute that has the value of a key, as `attrgetter` takes it."""
        return self._attributes.get(where.parts[0], "absent") if where.parts else "absent"

    def reader(self, where: Where) -> Reader:
        """Return what reads a field."""
        if where.join is None:
            return attrgetter(self.attribute(where))
        attributes = [self._attributes.get(part, "absent") for part in where.parts]
        get: Callable[[ReadObject], tuple[Any, ...]] = attrgetter("absent", *attributes)
        join = where.join

        def joined(plain: ReadObject) -> str | None:
            _, *parts = get(plain)
            for number, part in enumerate(parts):
                if type(part) is not str:
                    if part is None:
                        return None
                    if type(part) is not int:
                        raise NotPlain
                    parts[number] = str(part)
            return None if "" in parts else join.join(parts)

        return joined

    def _object(self, value: Document, path: tuple[str, ...], prefix: str) -> type[ReadObject]:
        self._keys += len(value)
        self.quotes += 2 * len(value)
        if self._keys > KEYS_MAX:
            raise NotPlain
        fields: list[tuple[str, Any]] = []
        for number, (key, one) in enumerate(value.items()):
            name = f"value_{number}"
            self._attributes[*path, key] = prefix + name
            fields.append((name, self._type(one, (*path, key), f"{prefix}{name}.")))
        made = msgspec.defstruct(
            "PlainObject",
            fields,
            bases=(ReadObject,),
            frozen=True,
            gc=False,
            forbid_unknown_fields=True,
            rename={f"value_{number}": key for number, key in enumerate(value)},
        )
        return cast(type[ReadObject], made)

    def _type(self, value: object, path: tuple[str, ...], prefix: str) -> Any:
        if isinstance(value, str):
            self.quotes += 2
            return str
        if isinstance(value, dict):
            return self._object(value, path, prefix)
        return Nothing if isinstance(value, list) else Scalar


def glance_of(form: Form) -> Glance | None:
    """Return what reads the plain messages of a form; None where a glance is not enough."""
    match = form.match
    levels = {level for topic in match.topics for level in topic}
    if form.ignore or form.layout is not None or match.payload != "json" or "{node}" in levels:
        return None
    if len(form.records) != 1:
        return None
    spec = form.records[0]
    fields = spec.fields
    if spec.kind != "detection" or spec.each or spec.where is not None or fields.keys() - FIELDS:
        return None
    try:
        found = {name: _where(field) for name, field in fields.items()}
        message_id = NOWHERE if form.message_id is None else _where(form.message_id)
    except NotPlain:
        return None
    if any(found[name].join is not None for name in found.keys() - JOINED):
        return None
    if ("latitude" in found) != ("longitude" in found):
        return None
    scale = fields["confidence"].modifiers.scale if "confidence" in fields else "fraction"
    straight = (
        *("species", "observed_at", "ends_at", "confidence", "latitude", "longitude"),
        "clip_reference",
    )
    return Glance(
        form,
        tuple(found.get(name, NOWHERE) for name in straight),
        tuple(found[name] for name in ("common_name", "model") if name in found),
        message_id,
        found.get("message_id", NOWHERE),
        found.get("sensor_id", NOWHERE),
        SCALES[scale][0],
        fields["ends_at"].modifiers.unknown if "ends_at" in fields else frozenset(),
    )


def _where(field: Field) -> Where:
    """Return where a field is; raise `NotPlain` where it says more than that."""
    modifiers = field.modifiers
    is_rare = (
        modifiers.value is not None
        or modifiers.pattern is not None
        or modifiers.split is not None
        or modifiers.words is not None
        or modifiers.default is not None
        or modifiers.format is not None
        or modifiers.unit is not None
        or modifiers.times != 1
        or modifiers.plus != 0
        or (bool(modifiers.unknown) and field.name != "ends_at")
        or any(path.levels_up or not path.label for path in modifiers.paths)
    )
    if is_rare:
        raise NotPlain
    parts: list[tuple[str, ...]] = []
    for path in modifiers.paths:
        match compile_plain(str(path.label)):
            case (str() as outer,):
                parts.append((outer,))
            case (str() as outer, str() as inner):
                parts.append((outer, inner))
            case _:
                raise NotPlain
    if modifiers.join is None and (len(parts) != 1 or len(parts[0]) != 1):
        raise NotPlain
    return Where(tuple(parts), modifiers.join)


@lru_cache(TEXTS_REMEMBERED)
def _name(text: object) -> str | None:
    """Return text that reads as it is written; None where there is none."""
    if text is None or text == "":
        return None
    if type(text) is not str or len(text) > values.TEXT_CHARACTERS_MAX:
        raise NotPlain
    if values.tidy(text) != text:
        raise NotPlain
    return text


def _exact(text: object, characters_max: int) -> str | None:
    if text is None or text == "":
        return None
    if type(text) is not str or text < FIRST_LETTER or len(text) > characters_max:
        raise NotPlain
    return text


def _seconds(begins: object, ends: object) -> int:
    began, ended = _moment(begins), _moment(ends)
    if began is None:
        return 0
    if ended is not None and not NO_TIME <= ended - began <= CALL_TIME_MAX:
        raise NotPlain
    seconds = int(began.timestamp())
    if not SECONDS_OF_1971 <= seconds <= SECONDS_MAX:
        raise NotPlain
    return seconds


def _moment(text: object) -> datetime | None:
    """Read ISO 8601 with an offset of a whole number of half hours, or with Z."""
    if text is None or text == "":
        return None
    if type(text) is not str or len(text) > times.WORDS_CHARACTERS_MAX or text[10:11] != "T":
        raise NotPlain
    if text[-6:] not in OFFSETS and text[-1] != "Z":
        raise NotPlain
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise NotPlain from None
    if moment.tzinfo is None or not 1970 < moment.year < 9999:
        raise NotPlain
    return moment
