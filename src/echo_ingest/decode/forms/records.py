"""What a form makes of a document: the records of each `[[record]]`, checked like all others."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from echo_ingest.decode import audio, times, values
from echo_ingest.decode.base64_clip import from_base64
from echo_ingest.decode.errors import DecodeError, digits, quoted
from echo_ingest.decode.forms.paths import Path, Scope, is_true
from echo_ingest.decode.forms.record_spec import RecordSpec
from echo_ingest.decode.recorder_notes import NO_NOTES, RecorderNotes, recorder_notes
from echo_ingest.decode.rules import Rules, may_speak_for
from echo_ingest.formatting import utc
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    NODE_CHARACTERS_MAX,
    AnyRecord,
    Clip,
    Detection,
    Health,
    Measurement,
    Message,
    Movement,
    Recording,
    Telemetry,
)

RECORDS_MAX = 1_000
"""The most records of one message."""
CALL_SECONDS_MAX = 7 * 86_400
CLOCK_PUT_BACK_SECONDS = 3_600
MEASURED_NAME_CHARACTERS_MAX = 64
NO_HEALTH = Health()


class Made(NamedTuple):
    """A record, and what else the identity of its message depends on."""

    record: AnyRecord
    seconds: int
    """The second since 1970 that the device wrote; 0 if it wrote none."""
    item: Scope
    spec: RecordSpec


class Maker(Struct, frozen=True):
    """Makes records of one message."""

    form: str
    message: Message
    rules: Rules
    hashed: bool
    message_id: str | None
    """The id of the whole message, which its records have if they have none of their own."""

    def make(self, spec: RecordSpec, top: Scope) -> Iterator[Made]:
        """Yield the records of a `[[record]]`; raise `DecodeError` where one cannot be right."""
        for item in items(spec, top):
            try:
                unmade = _Unmade(self, spec, item)
                made = _MAKERS[spec.kind](unmade)
            except DecodeError as error:
                raise _within(item, spec, error) from None
            for record in made:
                yield Made(record, unmade.seconds, item, spec)


def items(spec: RecordSpec, top: Scope) -> Iterator[Scope]:
    """Yield what a `[[record]]` is made of: the message, or items of a list in it, if they fit."""
    level = iter((top,))
    for path in spec.each:
        level = _items(path, level)
    where = spec.where
    return level if where is None else (item for item in level if is_true(where.find(item)))


def has_list(spec: RecordSpec, top: Scope) -> bool:
    """Return whether the message has the list that a `[[record]]` goes through, be it empty."""
    return bool(spec.each) and isinstance(spec.each[0].find(top), list | dict)


def _items(path: Path, level: Iterator[Scope]) -> Iterator[Scope]:
    for scope in level:
        found = path.find(scope)
        if isinstance(found, dict):
            for key, value in found.items():
                yield Scope(value, scope.given, scope, key, path.text)
        elif isinstance(found, list):
            for index, value in enumerate(found):
                yield Scope(value, scope.given, scope, index, path.text)
        elif found is not None:
            raise DecodeError(ReasonCode.WRONG_TYPE, "a list was expected", path.text[:50])


def _within(item: Scope, spec: RecordSpec, error: DecodeError) -> DecodeError:
    """Return an error about a field as one about its place in the payload."""
    rejected = error.rejected
    for field in (*spec.fields.values(), *spec.values.values()):
        if field.label == rejected.field:
            return DecodeError(rejected.code, rejected.detail, field.in_payload(item))
    return error


class _Unmade:
    """The values of one record while it is being made."""

    def __init__(self, maker: Maker, spec: RecordSpec, item: Scope) -> None:
        self.maker = maker
        self.spec = spec
        self.item = item
        self.seconds = 0
        self.message = maker.message
        self.begins: tuple[times.TimeReading, ...] = ()
        """When it happened by clocks of the site's zone."""
        self.written: tuple[times.TimeReading, ...] = ()
        """The same, whatever zone the site is in."""
        node = self._node()
        if node != self.message.node:
            self.message = msgspec.structs.replace(self.message, node=node)

    def read(self, name: str) -> Any:
        read = self.spec.readers.get(name)
        return None if read is None else read(self.item)

    def label(self, name: str) -> str:
        field = self.spec.fields.get(name)
        return name if field is None else field.label

    # ------------------------------------------------------------------ what all kinds have

    def _node(self) -> str | None:
        """Return the node that the form names, if that is believed, or else that of the topic."""
        message = self.maker.message
        named: str | None = self.read("node") or self.item.given.topic.get("node")
        if named is None:
            return message.node
        if len(named) > NODE_CHARACTERS_MAX:
            raise DecodeError(
                ReasonCode.IMPOSSIBLE_VALUE,
                f"a node's name has at most {NODE_CHARACTERS_MAX} characters, not {len(named):,}",
                self.label("node"),
            )
        patterns = self.maker.rules.speaks_for(message)
        if patterns is None or named == message.node or may_speak_for(patterns, named):
            return named
        if patterns:
            raise DecodeError(
                ReasonCode.NODE_NOT_CLAIMED,
                f"the gateway {message.node} may not speak for {named!r:.80}",
                self.label("node"),
            )
        return message.node

    def shared(self, *, notes: RecorderNotes = NO_NOTES) -> dict[str, Any]:
        """Return the fields that every kind of record has, and those that are as in the form."""
        spec, item = self.spec, self.item
        fields: dict[str, Any] = {"form": self.maker.form, "node": self.message.node}
        for name, read in spec.straight:
            value = read(item)
            if value is not None:
                fields[name] = value
        if notes.serial is not None:
            fields.setdefault("sensor_id", notes.serial)
        fields["message_id"] = self.read("message_id") or self.maker.message_id
        place = None if spec.place is None else spec.place.read(item)
        fields["place"] = place or notes.place
        written: tuple[times.TimeReading, ...] = self.read("observed_at") or ()
        later: float | None = self.read("offset_seconds")
        rules = self.maker.rules
        self.begins = _later(written, later, rules.zone) if later else written
        # The identity must not depend on what is known of the site.
        self.written = _later(written, later, None) if later else written
        for reading in (*self.written, *notes.times):
            if seconds := reading.seconds:
                self.seconds = seconds
                break
        fields.update(times.place_in_time((*self.begins, *notes.times), self.message, rules))
        return fields

    def health(self) -> Health:
        """Return what the node says about its own state."""
        rules = self.maker.rules
        fields: dict[str, Any] = {}
        battery = self.read("battery_percent")
        if battery is not None:
            label = self.label("battery_percent")
            fields["battery_percent"], fields["external_power"] = values.battery(battery, label)
        uptime = self.read("uptime_seconds")
        if uptime is not None:
            fields["uptime_seconds"], fields["booted_at"] = values.uptime(
                uptime,
                self.label("uptime_seconds"),
                rules.first_moment,
                utc(self.message.received_at_ms),
                rules.of(self.message.node).clock_ahead_seconds,
            )
        for name, read in self.spec.health:
            value = read(self.item)
            if value is not None:
                fields[name] = value
        return Health(**fields)

    def name_species(self, fields: dict[str, Any]) -> str:
        """Add the name of the species to the fields of a record."""
        label = self.label("species")
        sent: str | None = self.read("species")
        if sent is None:
            raise DecodeError(ReasonCode.MISSING_FIELD, "the species is missing", label)
        name = values.species(sent, label)
        fields["species"], fields["species_as_sent"] = name, values.as_sent(sent, name)
        return name

    def clip(self) -> tuple[Clip | None, RecorderNotes]:
        """Return the clip, and what the recorder wrote into it."""
        encoded: str | None = self.read("clip")
        if encoded is None:
            return None, NO_NOTES
        label = self.label("clip")
        data = from_base64(encoded, label)
        try:
            clip = audio.describe(data, hashed=self.maker.hashed)
        except DecodeError as error:
            raise error.within(label) from None
        return clip, recorder_notes(clip.metadata, self.read("clip_reference"))

    # ------------------------------------------------------------------ the kinds

    def detection(self) -> Sequence[Detection]:
        clip, notes = self.clip()
        fields = self.shared(notes=notes)
        name = self.name_species(fields)
        low, high = fields.get("low_hz"), fields.get("high_hz")
        if low is not None and high is not None and low > high:
            raise DecodeError(
                ReasonCode.IMPOSSIBLE_VALUE,
                f"the highest frequency is {digits(high)} Hz, below the lowest, {digits(low)} Hz",
                self.label("high_hz"),
            )
        if self.spec.end is not None:
            fields["ends_at"] = self._ends_at(fields)
        if self.spec.animal_place is not None:
            fields["animal_place"] = self.spec.animal_place.read(self.item)
        fields["observation_type"] = self.maker.rules.observation_type(name)
        return (Detection(**fields, clip=clip),)

    def recording(self) -> Sequence[Recording]:
        clip, notes = self.clip()
        if clip is None:
            raise DecodeError(ReasonCode.MISSING_FIELD, "the clip is missing", self.label("clip"))
        fields = self.shared(notes=notes)
        health = self.health()
        if self.spec.animal_place is not None:
            fields["animal_place"] = self.spec.animal_place.read(self.item)
        return (Recording(**fields, clip=clip, health=None if health == NO_HEALTH else health),)

    def telemetry(self) -> Sequence[Telemetry]:
        """Return none where the message says nothing of the node: other records may be in it."""
        health = self.health()
        fields = self.shared()
        if health == NO_HEALTH and fields["place"] is None:
            return ()
        return (Telemetry(**fields, health=health),)

    def movement(self) -> Sequence[Movement]:
        fields = self.shared()
        self.name_species(fields)
        spec = self.spec.animal_place
        place = None if spec is None else spec.read(self.item)
        if "animal_id" not in fields or place is None:
            missing = "animal_latitude" if "animal_id" in fields else "animal_id"
            raise DecodeError(
                ReasonCode.INCOMPLETE_MOVEMENT,
                "it is missing or unknown; a movement needs an animal and its place",
                self.label(missing),
            )
        return (Movement(**fields, animal_place=place),)

    def measurements(self) -> Sequence[Measurement]:
        """Return those of the table `values`, or the one that the item is, if it has a value."""
        if self.spec.values:
            found = [
                (name, field.number(self.item), field.modifiers.unit)
                for name, field in self.spec.values.items()
            ]
        else:
            unit = self.spec.fields["value"].modifiers.unit
            value = self.read("value")
            found = [] if value is None else [(self._measured_name(), value, unit)]
        shared: dict[str, Any] = {}
        made = []
        for name, value, unit in found:
            if value is not None:
                shared = shared or self.shared()
                made.append(Measurement(**shared, name=name, value=value, unit=unit))
        return made

    def _measured_name(self) -> str:
        name: str | None = self.read("name")
        label = self.label("name")
        if name is None:
            raise DecodeError(
                ReasonCode.MISSING_FIELD, "the name of the measurement is missing", label
            )
        if len(name) > MEASURED_NAME_CHARACTERS_MAX:
            raise DecodeError(
                ReasonCode.IMPOSSIBLE_VALUE,
                f"{quoted(name)} has more than {MEASURED_NAME_CHARACTERS_MAX} characters",
                label,
            )
        return name

    def _ends_at(self, fields: dict[str, Any]) -> datetime | None:
        """Return when the call ended; None where its beginning is not believed.

        What a device's clock tells well, even where it is wrong, is the time between the two.
        """
        end = self.spec.end
        if end is None:
            return None
        ends: Sequence[times.TimeReading] = ()
        if end.name == "ends_at":
            ends = end.written(self.item)
            lasts = self._by_one_clock(ends)
        else:
            lasts = end.number(self.item)
            if lasts is not None and end.name == "end_offset_seconds":
                lasts -= self.read("offset_seconds") or 0
        # A message must be valid or not whatever the site's zone is, and whenever it comes.
        if lasts is not None and not 0 <= lasts <= CALL_SECONDS_MAX:
            raise DecodeError(
                ReasonCode.IMPOSSIBLE_VALUE,
                f"the call would last {digits(lasts)} seconds",
                end.label,
            )
        if fields["time_source"] != "device":
            return None
        observed_at: datetime = fields["observed_at"]
        if ends:
            lasts = self._between(observed_at, ends)
        if lasts is None or not 0 <= lasts <= CALL_SECONDS_MAX:
            return None  # in the hour that a clock shows twice
        return observed_at + timedelta(seconds=lasts)

    def _by_one_clock(self, ends: Sequence[times.TimeReading]) -> float | None:
        """Return the seconds between the times that are written; None where one says nothing.

        Where clocks are put back by an hour, the end seems to come before the beginning.
        """
        if not ends or not self.written or not self.written[0].seconds:
            return None
        first, last = self.written[0].moment, ends[0].moment
        if (first.tzinfo is None) != (last.tzinfo is None):
            return None
        lasts = (last - first).total_seconds()
        is_put_back = first.tzinfo is None and -CLOCK_PUT_BACK_SECONDS <= lasts < 0
        return None if is_put_back else lasts

    def _between(self, observed_at: datetime, ends: Sequence[times.TimeReading]) -> float | None:
        """Return the seconds from the beginning that was believed to the end, by one clock."""
        zone = self.maker.rules.zone
        ahead = self.maker.rules.of(self.message.node).clock_ahead_seconds
        for begin in self.begins:
            first = times.in_utc(begin.moment, zone)
            if ends and first is not None and times.moved(first, -ahead) == observed_at:
                last = times.in_utc(ends[0].moment, zone)
                return None if last is None else (last - first).total_seconds()
        return None


_MAKERS: dict[str, Callable[[_Unmade], Sequence[AnyRecord]]] = {
    "detection": _Unmade.detection,
    "recording": _Unmade.recording,
    "telemetry": _Unmade.telemetry,
    "movement": _Unmade.movement,
    "measurement": _Unmade.measurements,
}


def _later(
    written: Sequence[times.TimeReading], seconds: float, zone: ZoneInfo | None
) -> tuple[times.TimeReading, ...]:
    """Return times so much later by clocks in `zone`, or by clocks that nobody puts on or back."""
    return tuple(
        times.TimeReading(_moved(each.moment, seconds, zone), each.words, each.is_count)
        for each in written
    )


def _moved(moment: datetime, seconds: float, zone: ZoneInfo | None) -> datetime:
    """Return a time so much later; in `zone`, summer time may have begun or ended in between."""
    placed = times.in_utc(moment, zone) if moment.tzinfo is None else None
    if placed is not None:
        try:
            return times.moved(placed, seconds).astimezone(zone)
        except OverflowError:  # in the first or the last hours that Python's datetimes have
            pass
    return times.moved(moment, seconds)
