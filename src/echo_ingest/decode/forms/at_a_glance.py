"""Identify plain messages in a form without making their records, at a fifth of the cost. Pure.

What this identifies, `interpret` would identify in the same way. It reads one detection with plain
paths, in JSON without escapes, whose text is ASCII and in order, and whose numbers and times are as
nearly all devices write them. Everything else gives None and is left to `interpret`: a value at the
edge, a modifier that is rare, whatever is wrong. The fuzz tests hold the two against each other.
"""

from datetime import datetime
from functools import lru_cache
from typing import Any, cast

from msgspec import Struct

from echo_ingest.decode import times, values
from echo_ingest.decode.audio import REFERENCE_CHARACTERS_MAX
from echo_ingest.decode.fields import BACKSLASH
from echo_ingest.decode.forms.documents import Document, has_each_key_once
from echo_ingest.decode.forms.fields import SCALES, Field
from echo_ingest.decode.forms.form import Form
from echo_ingest.decode.forms.paths import compile_plain
from echo_ingest.record import SECONDS_MAX, Identity, Message

TEXTS_REMEMBERED = 16_384
DELETE = 0x7F
FIRST_LETTER = "!"
"""Of the characters of plain text, only the space comes before it."""
SECONDS_OF_1971 = 365 * 86_400
CALL_SECONDS_MAX = 3_600
FIELDS = frozenset(
    (
        *("species", "common_name", "model", "clip_reference", "confidence", "latitude"),
        *("longitude", "message_id", "sensor_id", "observed_at", "ends_at"),
    )
)
"""The fields that a glance knows."""
JOINED = frozenset(("message_id", "sensor_id", "common_name", "model"))
"""Those of them that may be put together."""


class NotPlain(Exception):
    """A message or a form takes a closer look."""


class Joined(Struct, frozen=True):
    """Text that is put together."""

    join: str
    parts: tuple[tuple[str, str | None], ...]
    """The key of each part, and the one within it."""

    def find(self, document: Document) -> str | None:
        """Return the text; None where a part is missing."""
        texts: list[str] = []
        for outer, inner in self.parts:
            part: Any = document.get(outer)
            if inner is not None:
                part = part.get(inner) if type(part) is dict else None
            if part is None or part == "":
                return None
            if type(part) is not str:
                if type(part) is not int:
                    raise NotPlain
                part = str(part)
            texts.append(part)
        return self.join.join(texts)


Where = str | Joined
"""A key of the message, or several."""


class Glance(Struct, frozen=True):
    """What reads the plain messages of one form: where it finds what it needs."""

    form: Form
    species: str
    names: tuple[str, ...]
    """Text that is sent again and again, and that may be missing."""
    joined_names: tuple[Joined, ...]
    clip_reference: str | None
    confidence: str | None
    confidence_max: float
    latitude: str | None
    longitude: str | None
    message_id: Where | None
    """The id of the whole message."""
    record_id: Where | None
    sensor_id: Where | None
    begins: str | None
    ends: str | None
    unknown_ends: frozenset[str]

    def identify(self, message: Message, document: Document) -> Identity | None:
        """Return which message this is, or None if that takes a closer look."""
        payload = message.payload
        if (
            not payload.isascii()
            or BACKSLASH in payload  # an escape may stand for anything
            or DELETE in payload  # of the control characters, the only one that JSON lets pass
            or not has_each_key_once(payload, document)
        ):
            return None
        try:
            if _name(document.get(self.species)) is None or not self._is_plain(document):
                return None
            whole = _exact(_found(self.message_id, document), values.TEXT_CHARACTERS_MAX)
            message_id = whole
            if whole is None and self.record_id is not None:
                message_id = _exact(_found(self.record_id, document), values.TEXT_CHARACTERS_MAX)
            sensor_id = _name(_found(self.sensor_id, document))
            seconds = self._seconds(document)
        except (NotPlain, TypeError):  # a list or an object cannot be looked up
            return None
        form, node = self.form, message.node
        if form.is_unique_in_form:
            scope = None if whole is None else form.name
            return Identity("detection", seconds, message_id, None, False, scope, form, node)
        return Identity(
            "detection", seconds, message_id, sensor_id or node, False, None, form, node
        )

    def _is_plain(self, document: Document) -> bool:
        """Return whether all is plain on which the identity does not depend."""
        get = document.get
        for key in self.names:
            _name(get(key))
        for joined in self.joined_names:
            _name(joined.find(document))
        if self.clip_reference is not None:
            _exact(get(self.clip_reference), REFERENCE_CHARACTERS_MAX)
        confidence: Any = None if self.confidence is None else get(self.confidence)
        if confidence is not None and not (
            type(confidence) is float and 0 <= confidence <= self.confidence_max
        ):
            return False
        if self.latitude is None or self.longitude is None:
            return True
        latitude, longitude = get(self.latitude), get(self.longitude)
        if latitude is None or longitude is None:
            return latitude is longitude
        return (
            type(latitude) is float
            and type(longitude) is float
            and -90 <= latitude <= 90
            and -180 <= longitude <= 180
        )

    def _seconds(self, document: Document) -> int:
        began = None if self.begins is None else _moment(document.get(self.begins))
        if began is None:
            return 0
        ends = None if self.ends is None else document.get(self.ends)
        ended = None if ends in self.unknown_ends else _moment(ends)
        began_seconds = began.timestamp()
        if ended is not None and not 0 <= ended.timestamp() - began_seconds <= CALL_SECONDS_MAX:
            raise NotPlain
        seconds = int(began_seconds)
        if not SECONDS_OF_1971 <= seconds <= SECONDS_MAX:
            raise NotPlain
        return seconds


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
        message_id = None if form.message_id is None else _where(form.message_id)
    except NotPlain:
        return None
    keys = {name: where for name, where in found.items() if isinstance(where, str)}
    if found.keys() - keys.keys() - JOINED:
        return None
    names = [found[name] for name in ("common_name", "model") if name in found]
    scale = fields["confidence"].modifiers.scale if "confidence" in fields else "fraction"
    return Glance(
        form,
        keys["species"],
        tuple(each for each in names if isinstance(each, str)),
        tuple(each for each in names if isinstance(each, Joined)),
        keys.get("clip_reference"),
        keys.get("confidence"),
        SCALES[scale][0],
        keys.get("latitude"),
        keys.get("longitude"),
        message_id,
        found.get("message_id"),
        found.get("sensor_id"),
        keys.get("observed_at"),
        keys.get("ends_at"),
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
    parts: list[tuple[str, str | None]] = []
    for path in modifiers.paths:
        match compile_plain(str(path.label)):
            case (str() as outer,):
                parts.append((outer, None))
            case (str() as outer, str() as inner):
                parts.append((outer, inner))
            case _:
                raise NotPlain
    if modifiers.join is not None:
        return Joined(modifiers.join, tuple(parts))
    if len(parts) == 1 and parts[0][1] is None:
        return parts[0][0]
    raise NotPlain


def _found(where: Where | None, document: Document) -> object:
    if type(where) is Joined:
        return where.find(document)
    return None if where is None else document.get(cast(str, where))


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


def _moment(text: object) -> datetime | None:
    """Read ISO 8601 with an offset of a whole number of half hours, or with Z."""
    if text is None or text == "":
        return None
    if type(text) is not str or len(text) > times.WORDS_CHARACTERS_MAX or text[10:11] != "T":
        raise NotPlain
    if text[-1] != "Z" and (text[-6:-5] not in ("+", "-") or text[-3:] not in (":00", ":30")):
        raise NotPlain
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise NotPlain from None
    if moment.tzinfo is None or not 1970 < moment.year < 9999:
        raise NotPlain
    return moment
