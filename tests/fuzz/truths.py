"""What is true of a generated message, and the draft in which a generator notes it.

Nothing here knows how messages are decoded: the truth comes first, and a message is one of the ways
in which a device writes it.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import TypeVar

from msgspec import Struct

from echo_ingest.record import Message, ObservationType

Choice = TypeVar("Choice")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOTHING: frozenset[str] = frozenset()


class Raw(str):
    """JSON that is written as it stands."""


class Site(Struct, frozen=True):
    """What the site knows and a message does not say."""

    zone: str | None = None
    first_day: date = date(2015, 1, 1)
    confidence_is_fraction: bool = False
    clock_ahead_seconds: float = 0
    more_labels: tuple[tuple[str, ObservationType], ...] = ()
    """Further labels that name no animal, in lower case, and what they stand for."""


class WhenTruth(Struct, frozen=True):
    """When it happened, and what may be wrong with how the device writes that."""

    moment: datetime | None = None
    """In UTC; None: it cannot be told, so the receipt counts."""
    problems: frozenset[str] = NOTHING
    """One of these codes must be given; empty: none may be given."""
    written: str | int | float | None = None
    """What the device wrote, which a record with a problem repeats."""
    tolerance: timedelta = timedelta(microseconds=2)


class PlaceTruth(Struct, frozen=True):
    """A known place."""

    latitude: float
    longitude: float
    altitude_metres: float | None = None
    uncertainty_metres: float | None = None


class SoundTruth(Struct, frozen=True):
    """A file of sound and what is true of it."""

    data: bytes
    container: str
    sample_rate_hz: int
    channels: int
    seconds: float
    problems: frozenset[str] = NOTHING
    """One of these codes must be given, "" standing for none; empty: none may be given."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Notes in the file that must be kept as they are."""


class Truth(Struct, frozen=True, kw_only=True):
    """Everything that a record of the message must say; None where it must say nothing."""

    kind: str
    form: str
    when: WhenTruth
    sensor_id: str | None = None
    message_id: str | None = None
    source_type: str | None = None
    place: PlaceTruth | None = None
    animal_place: PlaceTruth | None = None
    animal_true_place: PlaceTruth | None = None
    species: str | None = None
    animal_id: str | None = None
    observation_type: str | None = None
    confidence: float | None = None
    alternatives: tuple[tuple[str, float], ...] = ()
    model: str | None = None
    sound: SoundTruth | None = None
    clip_reference: str | None = None
    sample_rate_hz: int | None = None
    mode: str | None = None
    health: Mapping[str, object] = {}
    """The fields of `record.Health` that must have a value."""


class Refusal(Struct, frozen=True):
    """A rejection that is right, or at least allowed."""

    codes: frozenset[str]
    field: str | None = None
    """The path that the rejection must name; None: any."""


class Case(Struct, frozen=True):
    """A message, and every outcome that is right."""

    message: Message
    site: Site
    truth: Truth | None
    """What its record says; None: there must be no record."""
    refusal: Refusal | None
    """How it may be rejected; None: that would be wrong."""
    labels: tuple[str, ...]
    """In which ways each part is written: for counting, and for finding what failures share."""


class Draft:
    """A message that is being written, together with its truth."""

    def __init__(self, rng: Random, site: Site, received_at: datetime, fault: str | None) -> None:
        self.rng = rng
        self.site = site
        self.received_at = received_at
        self.fault = fault
        """The part of the message that must be written so that it is refused."""
        self.fields: list[tuple[str, object]] = []
        self.truth: dict[str, object] = {}
        self.refusal: Refusal | None = None
        self.must_be_refused = False
        self.labels: list[str] = []

    def put(self, name: str, value: object) -> None:
        """Add a field."""
        self.fields.append((name, value))

    def label(self, label: str) -> None:
        """Note in which way a part is written."""
        self.labels.append(label)

    def may_refuse(self, *codes: str) -> None:
        """Allow a rejection, besides what is allowed already."""
        before = self.refusal.codes if self.refusal else NOTHING
        self.refusal = Refusal(before.union(codes))

    def refuse(self, *codes: str, field: str | None = None) -> None:
        """Require a rejection."""
        if self.refusal is None:
            self.refusal = Refusal(frozenset(codes), field)
        else:  # several faults: any of them may be named
            self.refusal = Refusal(self.refusal.codes.union(codes))
        self.must_be_refused = True

    def takes_fault(self, part: str) -> bool:
        """Return whether this part is to be written in a way that must be refused."""
        return self.fault == part and not self.must_be_refused

    def pick(self, weighted: Mapping[Choice, int]) -> Choice:
        """Return one of the keys, as often as its value says."""
        return self.rng.choices(list(weighted), list(weighted.values()))[0]

    def chance(self, probability: float) -> bool:
        """Return whether something happens that happens this often."""
        return self.rng.random() < probability

    def json(self) -> bytes:
        """Return the fields as one JSON object, in one of the many styles of JSON."""
        rng = self.rng
        style = rng.choice(("compact", "spaced", "lines", "escaped", "mark"))
        ascii_only = style == "escaped" or rng.random() < 0.3
        space = {"compact": "", "lines": "\r\n\t"}.get(style, " ")
        parts = [
            f"{self._name(name, style)}:{space}{_json(value, ascii_only=ascii_only)}"
            for name, value in self.fields
        ]
        text = "{" + space + f",{space}".join(parts) + space + "}"
        if style == "lines":
            text = f"\n {text}\r\n"
        return b"\xef\xbb\xbf" * (style == "mark") + text.encode()

    def _name(self, name: str, style: str) -> str:
        if isinstance(name, Raw):
            return name
        if style == "escaped" and self.chance(0.2):
            at = self.rng.randrange(len(name))
            return f'"{name[:at]}\\u{ord(name[at]):04x}{name[at + 1 :]}"'
        return f'"{name}"'


def _json(value: object, *, ascii_only: bool) -> str:
    """Return JSON; `Raw` text inside of lists and objects stays as it is."""
    match value:
        case Raw():
            return value
        case dict():
            parts = (f'"{k}":{_json(v, ascii_only=ascii_only)}' for k, v in value.items())
            return "{" + ",".join(parts) + "}"
        case list() | tuple():
            return "[" + ",".join(_json(each, ascii_only=ascii_only) for each in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


def one_of(rng: Random, *choices: Choice) -> Choice:
    """Return one of the choices."""
    return rng.choice(choices)


def milliseconds(moment: datetime) -> int:
    """Return the milliseconds since 1970."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def microseconds(moment: datetime) -> int:
    """Return the microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def shuffled(rng: Random, items: Sequence[Choice]) -> list[Choice]:
    """Return the same in another order."""
    return rng.sample(items, len(items))
