"""What the page of a call or of a recording shows, computed from records and nothing else. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from echo_ingest.almanac import ListedCall
from echo_ingest.almanac.observation import TELLS_START, names_of
from echo_ingest.decode import Rules
from echo_ingest.formatting import milliseconds
from echo_ingest.quality import TimeProblem
from echo_ingest.record import (
    AnyRecord,
    Clip,
    Detection,
    ObservationType,
    Place,
    RecordId,
    Recording,
)
from echo_ingest.web.console.common_names import known_as
from echo_ingest.web.schemas import StoredRecord

MARK_SECONDS = 1.0
"""Devices give the time of a call in whole seconds."""
CLOCK_FINE_SECONDS = 120
"""A message takes a while and may wait for the network: less says nothing about a clock."""


class NamedSpecies(Struct, frozen=True):
    """A species that a device named, and its confidence."""

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
    """The page is about this call."""


class ClipPlayer(Struct, frozen=True):
    """A clip to listen to."""

    record: RecordId
    """The record that carries it."""
    clip: Clip
    starts_at: datetime | None
    """None where the message's form does not say what its time means."""
    marks: Sequence[Mark]
    kept_at: str | None
    """Where a sink has put a copy, such as `s3://bucket/audio/…`."""


class Timing(Struct, frozen=True):
    """When a record was observed, and when it was received."""

    observed_at: datetime
    received_at: datetime
    source: Literal["device", "received"]
    """Whose clock the time of observation is of."""
    late_seconds: float
    """How long after it was received; negative where the node's clock is ahead."""
    problem: TimeProblem | None
    """Why the time is not simply what the device wrote, if it is not."""
    device_time: str | None
    """What the device wrote, where there is a problem."""

    @property
    def clock(self) -> Literal["fine", "ahead", "late"]:
        """Judge the node's clock: `late` may also be a message that had to wait."""
        if self.late_seconds < -CLOCK_FINE_SECONDS:
            return "ahead"
        return "late" if self.late_seconds > CLOCK_FINE_SECONDS else "fine"


class CallView(Struct, frozen=True, kw_only=True):
    """What `call.html` shows of a call or a recording."""

    record: RecordId
    of_message: int
    """How many records its message has."""
    named: NamedSpecies | None
    """None for a recording: nothing in it has been identified."""
    alternatives: Sequence[NamedSpecies]
    lasted_seconds: float | None
    """How long the call was, where the message says it."""
    low_hz: float | None
    high_hz: float | None
    """Between which frequencies it was heard."""
    node: str | None
    sensor_id: str | None
    place: Place | None
    animal_place: Place | None
    timing: Timing
    model: str | None
    form: str
    is_simulated: bool
    reference: str | None
    """Where the device says that its audio is."""
    player: ClipPlayer | None
    topic: str
    message_bytes: int
    readable: str | None
    """The message as a person can read it; None where it is long, or only audio."""
    earlier: RecordId | None
    later: RecordId | None
    """The one before and the one after, of the same kind and node."""


def named(
    species: str,
    confidence: float | None,
    observation_type: ObservationType,
    common_name: str | None = None,
) -> NamedSpecies:
    """Return a species as people read it."""
    name, in_label = names_of(species)
    is_animal = observation_type == "animal"
    return NamedSpecies(name, known_as(name, common_name or in_label), confidence, is_animal)


def timing(record: AnyRecord, received_at: datetime) -> Timing:
    """Compare the two times of a record."""
    late = (received_at - record.observed_at).total_seconds()
    return Timing(
        observed_at=record.observed_at,
        received_at=received_at,
        source=record.time_source,
        late_seconds=late,
        problem=record.time_problem,
        device_time=record.device_time,
    )


def player_of(
    stored: StoredRecord, calls: Iterable[ListedCall], this: RecordId
) -> ClipPlayer | None:
    """Return the clip in a record, with the `calls` of its node that fall into it marked."""
    record = stored.record
    if not isinstance(record, Detection | Recording) or record.clip is None:
        return None
    starts_at = None
    marks: list[Mark] = []
    if record.form in TELLS_START and record.time_source == "device":
        starts_at = record.observed_at
        marks = list(_marks(starts_at, record.clip, calls, this))
    carrier = RecordId(stored.offset, stored.index)
    return ClipPlayer(carrier, record.clip, starts_at, marks, stored.audio_reference)


def _marks(
    starts_at: datetime, clip: Clip, calls: Iterable[ListedCall], this: RecordId
) -> Iterable[Mark]:
    starts_at_ms = starts_at.timestamp() * 1000
    for call in calls:
        at = (call.observed_at_ms - starts_at_ms) / 1000
        if 0 <= at < clip.duration_seconds:
            until = min(at + MARK_SECONDS, clip.duration_seconds)
            href = f"/console/calls/{call.record}"
            yield Mark(at, until, call.species, href, call.record == this)


def span_of(record: AnyRecord) -> tuple[int, int] | None:
    """Return from when to before when calls may lie in its clip, in ms since 1970.

    None where the message does not say when the clip begins.
    """
    if not isinstance(record, Recording) or record.form not in TELLS_START:
        return None
    end = record.observed_at + timedelta(seconds=record.clip.duration_seconds)
    return milliseconds(record.observed_at), milliseconds(end) + 1


def call_view(
    stored: StoredRecord,
    *,
    of_message: int,
    player: ClipPlayer | None,
    message_bytes: int,
    readable: str | None,
    earlier: RecordId | None,
    later: RecordId | None,
    rules: Rules,
) -> CallView:
    """Return what to show of a record that is a call or a recording."""
    record = stored.record
    assert isinstance(record, Detection | Recording)
    call = record if isinstance(record, Detection) else None
    return CallView(
        record=RecordId(stored.offset, stored.index),
        of_message=of_message,
        named=None
        if call is None
        else named(call.species, call.confidence, call.observation_type, call.common_name),
        lasted_seconds=None
        if call is None or call.ends_at is None
        else (call.ends_at - call.observed_at).total_seconds(),
        low_hz=call.low_hz if call else None,
        high_hz=call.high_hz if call else None,
        alternatives=[
            named(each.species, each.confidence, rules.observation_type(each.species))
            for each in (call.alternatives if call else ())
        ],
        node=record.node,
        sensor_id=record.sensor_id,
        place=record.place,
        animal_place=record.animal_place,
        timing=timing(record, stored.received_at),
        model=call.model if call else None,
        form=record.form,
        is_simulated=record.source_type == "simulator",
        reference=record.clip_reference,
        player=player,
        topic=stored.topic,
        message_bytes=message_bytes,
        readable=readable,
        earlier=earlier,
        later=later,
    )
