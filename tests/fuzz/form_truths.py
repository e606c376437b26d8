"""What is true of a message of another maker's device, and how such messages are drafted.

Nothing here knows how forms are interpreted: what a field means is written down again.
"""

import json
import unicodedata
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec import Struct

from echo_ingest.record import Message
from tests.fuzz import true_times, true_values
from tests.fuzz.truths import NOTHING, Draft, PlaceTruth, Site, WhenTruth

STATION = "station-1"
"""The account of a device whose topic does not name its node."""
WORDS_BESIDE: Mapping[str, object] = {
    "firmware": "1.2.3",
    "note": 'a "quoted" {brace}, 900',
    "extra": {"confidence": 900, "species": "no", "timestamp": 5},
}
"""What a later version of a device might add."""


class FormTruth(Struct, frozen=True, kw_only=True):
    """Everything that one record of the message must say; what is not here, it must not have."""

    kind: str
    when: WhenTruth
    place: PlaceTruth | None = None
    health: Mapping[str, object] = {}
    values: Mapping[str, object] = {}
    """The other fields."""


class FormCase(Struct, frozen=True):
    """A message, and what it must become."""

    message: Message
    site: Site
    form: str
    truths: tuple[FormTruth, ...]
    """Its records; empty: it must be rejected or ignored."""
    refusal: frozenset[str]
    """The reasons of which one must be given; empty: it must not be rejected."""
    labels: tuple[str, ...]


class Letter(NamedTuple):
    """What a device sends, and what is true of it."""

    form: str
    topic: str
    payload: bytes
    truths: list[FormTruth]
    refusal: frozenset[str] = NOTHING


def as_json(draft: Draft, document: dict[str, object]) -> bytes:
    """Return JSON as devices write it, now and then with fields that nobody knows."""
    if draft.chance(0.2):
        document = {**WORDS_BESIDE, **document}
    if draft.chance(0.2):
        names = draft.rng.sample(list(document), len(document))
        document = {name: document[name] for name in names}
    indent = draft.rng.choice((None, None, None, 2))
    text = json.dumps(document, ensure_ascii=draft.chance(0.5), indent=indent)
    return text.encode() + draft.rng.choice((b"", b"", b"\n", b"\r\n"))


def named(draft: Draft) -> tuple[str, dict[str, object]]:
    """Return a species as the device writes it, and what the record says of it."""
    name = true_values.species(draft)
    tidy = unicodedata.normalize("NFC", " ".join(name.written.split()))
    fields: dict[str, object] = {"species": name.name, "observation_type": name.observation_type}
    if tidy != name.name:
        fields["species_as_sent"] = tidy
    return name.written, fields


def fraction(draft: Draft) -> float:
    """Return a confidence between 0 and 1."""
    value = round(draft.rng.random(), draft.rng.choice((1, 2, 4, 4, 6)))
    value = draft.rng.choice((value, value, value, value, 0, 1, 1.0))
    return true_values.float32(value) if draft.chance(0.2) else value


def place(draft: Draft, *, with_altitude: bool = False) -> tuple[float, float, PlaceTruth | None]:
    """Return a latitude and a longitude with what they mean: both 0 where none is set."""
    if draft.chance(0.15):
        return 0, 0, None
    latitude, longitude = true_values.coordinates(draft)
    altitude = true_values.altitude(draft) if with_altitude else None
    return latitude, longitude, PlaceTruth(latitude, longitude, altitude)


def zoned_moment(draft: Draft) -> tuple[str, WhenTruth]:
    """Return a time with its zone."""
    text, moment = true_times.zoned(draft.rng, true_times.believed_moment(draft))
    return text, WhenTruth(moment)


def unix_second(draft: Draft) -> tuple[int, WhenTruth]:
    """Return the seconds since 1970."""
    moment = true_times.believed_moment(draft).replace(microsecond=0)
    return int(moment.timestamp()), WhenTruth(moment)


def local_or_zoned(draft: Draft, span_seconds: float = 0) -> tuple[str, WhenTruth]:
    """Return a time in the zone of the site, or one that names its zone.

    What happens up to `span_seconds` later can be believed too.
    """
    while True:
        if draft.chance(0.6):
            local, when = true_times.local_second(draft)
            text = f"{local:%Y-%m-%d}{draft.rng.choice('T ')}{local:%H:%M:%S}"
        else:
            text, when = zoned_moment(draft)
        if ends_before_receipt(draft, when, span_seconds):
            return text, when


def ends_before_receipt(draft: Draft, when: WhenTruth, span_seconds: float) -> bool:
    """Return whether what begins then and lasts so long can be believed."""
    if when.moment is None:
        return not span_seconds or "before_first_day" not in when.problems
    return not span_seconds or later(when.moment, span_seconds) <= draft.received_at


def later(moment: datetime, seconds: float) -> datetime:
    """Return a moment so much later."""
    return moment + timedelta(seconds=seconds)


def shifted(when: WhenTruth, seconds: float) -> WhenTruth:
    """Return the truth of what happened later by the same clock."""
    if when.moment is None:
        return when
    return WhenTruth(later(when.moment, seconds), when.problems, when.written)
