"""What the page of a call or of a recording says, made of records and nothing else."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from echo_ingest.almanac import ListedCall
from echo_ingest.almanac.observation import TELLS_START, names_of
from echo_ingest.record import AnyRecord, Clip, Detection, Place, Recording
from echo_ingest.web.console.common_names import known_as
from echo_ingest.web.schemas import StoredRecord

NOISE = frozenset({"background", "noise", "nothing", "none", "unknown"})
"""What models call a sound that is no animal's."""
MARK_SECONDS = 1.0
"""Devices tell the time of a call in whole seconds."""
CLOCK_FINE_SECONDS = 120
"""A message takes a while, and waits for the network: no less says anything of a clock."""


class NamedSpecies(Struct, frozen=True):
    """A name that a device gave, and how sure it was."""

    species: str
    common_name: str | None
    confidence: float | None
    """Fraction, 0 to 1."""
    is_animal: bool
    """Models know silence and noise too."""


class Mark(Struct, frozen=True):
    """Where in a clip a call is."""

    from_seconds: float
    to_seconds: float
    species: str
    href: str
    is_this: bool
    """The call that the page is about."""


class ClipPlayer(Struct, frozen=True):
    """A clip to listen to."""

    offset: int
    """The record that carries it."""
    clip: Clip
    starts_at: datetime | None
    """None where the message's form does not say what its time means."""
    marks: Sequence[Mark]
    kept_at: str | None
    """Where it is kept besides, such as `s3://bucket/audio/…`."""


class Timing(Struct, frozen=True):
    """When it was heard, and when that was told."""

    observed_at: datetime
    received_at: datetime
    told: Literal["device", "received"]
    """Whose clock the first is of."""
    late_seconds: float
    """How long after; negative where the node's clock is ahead."""

    @property
    def clock(self) -> Literal["fine", "ahead", "late"]:
        """What that says of the node's clock: `late` may also be a message that had to wait."""
        if self.late_seconds < -CLOCK_FINE_SECONDS:
            return "ahead"
        return "late" if self.late_seconds > CLOCK_FINE_SECONDS else "fine"


class DetailView(Struct, frozen=True):
    """All that is said of a call or a recording."""

    offset: int
    named: NamedSpecies | None
    """None of a recording: nobody has named what is in it."""
    alternatives: Sequence[NamedSpecies]
    node: str | None
    sensor_id: str | None
    place: Place | None
    animal_place: Place | None
    timing: Timing
    model: str | None
    form: str
    is_simulated: bool
    reference: str | None
    """The device's own word for where its audio is."""
    sound: ClipPlayer | None
    topic: str
    message_bytes: int


def named(species: str, confidence: float | None) -> NamedSpecies:
    """As people read it."""
    name, said = names_of(species)
    return NamedSpecies(name, known_as(name, said), confidence, name.casefold() not in NOISE)


def timing(record: AnyRecord, received_at: datetime) -> Timing:
    """How the two times compare."""
    late = (received_at - record.observed_at).total_seconds()
    return Timing(record.observed_at, received_at, record.time_source, late)


def sound_of(stored: StoredRecord, calls: Iterable[ListedCall], this: int) -> ClipPlayer | None:
    """The clip in a record, with the `calls` of its node that fall into it marked."""
    record = stored.record
    if not isinstance(record, Detection | Recording) or record.clip is None:
        return None
    starts_at = None
    if record.form in TELLS_START and record.time_source == "device":
        starts_at = record.observed_at
    return ClipPlayer(
        stored.offset,
        record.clip,
        starts_at,
        [] if starts_at is None else list(_marks(starts_at, record.clip, calls, this)),
        stored.audio_reference,
    )


def _marks(
    starts_at: datetime, clip: Clip, calls: Iterable[ListedCall], this: int
) -> Iterable[Mark]:
    starts_at_ms = starts_at.timestamp() * 1000
    for call in calls:
        at = (call.observed_at_ms - starts_at_ms) / 1000
        if 0 <= at < clip.duration_seconds:
            until = min(at + MARK_SECONDS, clip.duration_seconds)
            href = f"/console/calls/{call.offset}"
            yield Mark(at, until, call.species, href, call.offset == this)


def span_of(record: AnyRecord) -> tuple[int, int] | None:
    """From when and before when calls may lie in its clip: ms since 1970; None if nothing tells."""
    if not isinstance(record, Recording) or record.form not in TELLS_START:
        return None
    end = record.observed_at + timedelta(seconds=record.clip.duration_seconds)
    return int(record.observed_at.timestamp() * 1000), int(end.timestamp() * 1000) + 1


def page_of(stored: StoredRecord, message_bytes: int, sound: ClipPlayer | None) -> DetailView:
    """What to show of a record that is a call or a recording."""
    record = stored.record
    assert isinstance(record, Detection | Recording)
    call = record if isinstance(record, Detection) else None
    return DetailView(
        offset=stored.offset,
        named=named(call.species, call.confidence) if call else None,
        alternatives=[named(a.species, a.confidence) for a in call.alternatives] if call else [],
        node=record.node,
        sensor_id=record.sensor_id,
        place=record.place,
        animal_place=record.animal_place,
        timing=timing(record, stored.received_at),
        model=call.model if call else None,
        form=record.form,
        is_simulated=record.source_type == "simulator",
        reference=record.clip_reference,
        sound=sound,
        topic=stored.topic,
        message_bytes=message_bytes,
    )
