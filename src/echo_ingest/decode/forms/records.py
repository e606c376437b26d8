"""What a form makes of a document: the records of each `[[record]]`, checked like all others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar, cast

import msgspec
from msgspec import Struct

from echo_ingest.decode import audio, times, values
from echo_ingest.decode.audio.sound import SAMPLE_RATE_HZ_MAX
from echo_ingest.decode.base64_clip import from_base64
from echo_ingest.decode.errors import DecodeError, digits, quoted
from echo_ingest.decode.forms.fields import Field, FieldType
from echo_ingest.decode.forms.paths import Path, Scope, is_true
from echo_ingest.decode.recorder_notes import NO_NOTES, RecorderNotes, recorder_notes
from echo_ingest.decode.rules import Rules
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
    Place,
    Recording,
    Telemetry,
)

FormRecord = AnyRecord | Measurement
"""What forms make; the rest of the line does not know measurements yet."""

RECORDS_MAX = 1_000
"""The most records of one message."""
CELSIUS_MIN, CELSIUS_MAX = -100, 200
CALL_SECONDS_MAX = 7 * 86_400
MEASURED_NAME_CHARACTERS_MAX = 64
NO_HEALTH = Health()

_SHARED = {
    "node": FieldType.TEXT,
    "sensor_id": FieldType.TEXT,
    "message_id": FieldType.EXACT,
    "observed_at": FieldType.TIME,
    "offset_seconds": FieldType.NUMBER,
    "latitude": FieldType.NUMBER,
    "longitude": FieldType.NUMBER,
    "altitude_metres": FieldType.NUMBER,
    "uncertainty_metres": FieldType.NUMBER,
    "source_type": FieldType.TEXT,
}
_HEALTH = {
    "status": FieldType.EXACT,
    "battery_percent": FieldType.NUMBER,
    "external_power": FieldType.TRUTH,
    "cpu_percent": FieldType.NUMBER,
    "memory_percent": FieldType.NUMBER,
    "disk_percent": FieldType.NUMBER,
    "temperature_celsius": FieldType.NUMBER,
    "uptime_seconds": FieldType.NUMBER,
}
_ANIMAL_PLACE = {
    "animal_latitude": FieldType.NUMBER,
    "animal_longitude": FieldType.NUMBER,
    "animal_altitude_metres": FieldType.NUMBER,
    "animal_uncertainty_metres": FieldType.NUMBER,
}
FIELDS: Mapping[str, Mapping[str, FieldType]] = {
    "detection": {
        **_SHARED,
        **_ANIMAL_PLACE,
        "species": FieldType.SPECIES,
        "common_name": FieldType.TEXT,
        "confidence": FieldType.CONFIDENCE,
        "model": FieldType.TEXT,
        "ends_at": FieldType.TIME,
        "end_offset_seconds": FieldType.NUMBER,
        "duration_seconds": FieldType.NUMBER,
        "low_hz": FieldType.NUMBER,
        "high_hz": FieldType.NUMBER,
        "sample_rate_hz": FieldType.NUMBER,
        "clip": FieldType.CLIP,
        "clip_reference": FieldType.EXACT,
    },
    "recording": {
        **_SHARED,
        **_ANIMAL_PLACE,
        **_HEALTH,
        "mode": FieldType.TEXT,
        "clip": FieldType.CLIP,
        "clip_reference": FieldType.EXACT,
    },
    "telemetry": {**_SHARED, **_HEALTH},
    "movement": {
        **_SHARED,
        **_ANIMAL_PLACE,
        "species": FieldType.SPECIES,
        "animal_id": FieldType.TEXT,
    },
    "measurement": {**_SHARED, "name": FieldType.TEXT, "value": FieldType.MEASURED},
}
"""Kind of record → its fields, with the type of each."""
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "detection": ("species",),
    "recording": ("clip",),
    "telemetry": (),
    "movement": ("species", "animal_id", "animal_latitude", "animal_longitude"),
    "measurement": (),
}
"""Kind of record → the fields that a form must give. Those of a measurement may be in `values`."""
ENDS = ("ends_at", "end_offset_seconds", "duration_seconds")
"""Three ways to say when a call ended: a form has one of them."""


T = TypeVar("T")


class RecordSpec(Struct, frozen=True):
    """One `[[record]]` of a form."""

    kind: str
    fields: Mapping[str, Field]
    each: tuple[Path, ...] = ()
    where: Path | None = None
    values: Mapping[str, Field] = {}
    """Of measurements: the name of each, with its value."""


class Made(NamedTuple):
    """A record, and what else the identity of its message depends on."""

    record: FormRecord
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
            if spec.where is not None and not is_true(spec.where.find(item)):
                continue
            if spec.values:
                for name, field in spec.values.items():
                    value = _within(item, field, Field.number)
                    if value is not None:
                        reading = _Reading(self, spec, item)
                        unit = field.modifiers.unit
                        yield Made(
                            reading.measurement(name, value, unit), reading.seconds, item, spec
                        )
                continue
            reading = _Reading(self, spec, item)
            record = _MAKERS[spec.kind](reading)
            if record is not None:
                yield Made(record, reading.seconds, item, spec)


def items(spec: RecordSpec, top: Scope) -> Iterator[Scope]:
    """Yield what a `[[record]]` looks at: the message, or each item of a list in it."""
    level = iter((top,))
    for path in spec.each:
        level = _items(path, level)
    return level


def has_list(spec: RecordSpec, top: Scope) -> bool:
    """Return whether the message has the list that a `[[record]]` goes through, be it empty."""
    return bool(spec.each) and isinstance(spec.each[0].find(top), list | dict)


def _items(path: Path, level: Iterator[Scope]) -> Iterator[Scope]:
    for scope in level:
        found = path.find(scope)
        prefix = f"{scope.label}.{path.text}" if scope.label else path.text
        if isinstance(found, dict):
            for key, value in found.items():
                yield Scope(value, scope.given, scope, key, f"{prefix}.{key}"[:100])
        elif isinstance(found, list):
            for index, value in enumerate(found):
                yield Scope(value, scope.given, scope, index, f"{prefix}[{index}]"[:100])
        elif found is not None:
            raise DecodeError(ReasonCode.WRONG_TYPE, "a list was expected", prefix[:50])


def _within(item: Scope, field: Field, read: Callable[[Field, Scope], T]) -> T:
    """Read a field; an error names the place in the payload."""
    try:
        return read(field, item)
    except DecodeError as error:
        rejected = error.rejected
        if rejected.field == field.label:
            rejected = msgspec.structs.replace(rejected, field=field.in_payload(item))
        raise DecodeError(rejected.code, rejected.detail, rejected.field) from None


class _Reading:
    """The values of one record while it is being made."""

    def __init__(self, maker: Maker, spec: RecordSpec, item: Scope) -> None:
        self.maker = maker
        self.rules = maker.rules
        self.fields = spec.fields
        self.item = item
        self.seconds = 0
        self.message = maker.message
        self.node = self._node()
        if self.node != self.message.node:
            self.message = msgspec.structs.replace(self.message, node=self.node)

    # ------------------------------------------------------------------ values by type

    def text(self, name: str) -> str | None:
        return self._read(name, Field.text)

    def number(self, name: str) -> float | None:
        return self._read(name, Field.number)

    def between(self, name: str, least: float, most: float) -> float | None:
        number = self.number(name)
        if number is not None and not least <= number <= most:
            raise DecodeError(
                ReasonCode.IMPOSSIBLE_VALUE,
                f"{digits(number)} is not from {least:,} to {most:,}",
                self.label(name),
            )
        return number

    def percent(self, name: str, most: float = 100) -> float | None:
        return values.percent(self.number(name), self.label(name), most)

    def label(self, name: str) -> str:
        field = self.fields.get(name)
        return name if field is None else field.in_payload(self.item)

    def _read(self, name: str, read: Callable[[Field, Scope], T]) -> T | None:
        field = self.fields.get(name)
        return None if field is None else _within(self.item, field, read)

    # ------------------------------------------------------------------ what all kinds have

    def _node(self) -> str | None:
        """Return the node that the form names, or else that of the topic."""
        node = self.text("node")
        if node is None:
            node = self.item.given.topic.get("node") or self.message.node
        if node is not None and len(node) > NODE_CHARACTERS_MAX:
            raise DecodeError(
                ReasonCode.IMPOSSIBLE_VALUE,
                f"a node's name has at most {NODE_CHARACTERS_MAX} characters, not {len(node):,}",
                self.label("node"),
            )
        return node

    def shared(self, *, notes: RecorderNotes = NO_NOTES) -> dict[str, object]:
        """Return the fields that every kind of record has."""
        begins = self._begins()
        written = (*begins, *notes.times)
        for reading in written:
            if seconds := reading.seconds:
                self.seconds = seconds
                break
        return {
            "form": self.maker.form,
            "node": self.node,
            "sensor_id": self.text("sensor_id") or notes.serial,
            "message_id": self.text("message_id") or self.maker.message_id,
            "place": self.place("") or notes.place,
            "source_type": values.source_type(self.text("source_type")),
            **times.place_in_time(written, self.message, self.rules),
        }

    def _begins(self) -> tuple[times.TimeReading, ...]:
        written = self._read("observed_at", Field.written) or ()
        later = self.number("offset_seconds")
        if not later:
            return written
        return tuple(_later(reading, later) for reading in written)

    def place(self, prefix: str) -> Place | None:
        """Return where the sensor is, or with the prefix `animal_`, the animal."""
        latitude, longitude, altitude, uncertainty = (
            f"{prefix}{name}"
            for name in ("latitude", "longitude", "altitude_metres", "uncertainty_metres")
        )
        if latitude not in self.fields:
            return None
        paths = values.PlacePaths(
            self.label(latitude),
            self.label(latitude),
            self.label(longitude),
            self.label(uncertainty),
            self.label(altitude),
        )
        return values.place(
            self.number(latitude),
            self.number(longitude),
            self.number(altitude),
            self.number(uncertainty),
            paths,
        )

    def health(self) -> Health:
        """Return what the node says about its own state."""
        battery, on_power = values.battery(
            self.number("battery_percent"), self.label("battery_percent")
        )
        says = self._read("external_power", Field.truth)
        uptime = self.number("uptime_seconds")
        booted_at = None
        if uptime is not None:
            uptime, booted_at = values.uptime(
                uptime,
                self.label("uptime_seconds"),
                self.rules.first_moment,
                utc(self.message.received_at_ms),
                self.rules.of(self.node).clock_ahead_seconds,
            )
        return Health(
            status=self.text("status"),
            battery_percent=battery,
            external_power=on_power if says is None else says,
            cpu_percent=self.percent("cpu_percent", values.CPU_PERCENT_MAX),
            memory_percent=self.percent("memory_percent"),
            disk_percent=self.percent("disk_percent"),
            temperature_celsius=self.between("temperature_celsius", CELSIUS_MIN, CELSIUS_MAX),
            uptime_seconds=uptime,
            booted_at=booted_at,
        )

    def species(self) -> dict[str, object]:
        label = self.label("species")
        sent = self.text("species")
        if sent is None:
            raise DecodeError(ReasonCode.MISSING_FIELD, "the species is missing", label)
        name = values.species(sent, label)
        return {"species": name, "species_as_sent": values.as_sent(sent, name)}

    def clip(self) -> tuple[Clip | None, str | None, RecorderNotes]:
        """Return the clip, the name of its file, and what the recorder wrote into it."""
        reference = self.text("clip_reference")
        encoded = self._read("clip", Field.base64)
        if encoded is None:
            return None, reference, NO_NOTES
        label = self.label("clip")
        data = from_base64(encoded, label)
        try:
            clip = audio.describe(data, hashed=self.maker.hashed)
        except DecodeError as error:
            raise error.within(label) from None
        return clip, reference, recorder_notes(clip.metadata, reference)

    # ------------------------------------------------------------------ the kinds

    def detection(self) -> Detection:
        clip, reference, notes = self.clip()
        shared = self.shared(notes=notes)
        named = self.species()
        low, high = (self.between(name, 0, SAMPLE_RATE_HZ_MAX) for name in ("low_hz", "high_hz"))
        if low is not None and high is not None and low > high:
            raise DecodeError(
                ReasonCode.IMPOSSIBLE_VALUE,
                f"the highest frequency is {digits(high)} Hz, below the lowest, {digits(low)} Hz",
                self.label("high_hz"),
            )
        rate = self.number("sample_rate_hz")
        fields = {
            **shared,
            **named,
            "observation_type": self.rules.observation_type(str(named["species"])),
            "confidence": self._read("confidence", Field.share),
            "common_name": self.text("common_name"),
            "model": self.text("model"),
            "ends_at": self._ends_at(shared),
            "low_hz": low,
            "high_hz": high,
            "animal_place": self.place("animal_"),
            "clip": clip,
            "clip_reference": reference,
            "sample_rate_hz": None
            if rate is None
            else values.sample_rate(rate, self.label("sample_rate_hz")),
        }
        return Detection(**fields)  # type: ignore[arg-type]

    def recording(self) -> Recording:
        clip, reference, notes = self.clip()
        if clip is None:
            raise DecodeError(ReasonCode.MISSING_FIELD, "the clip is missing", self.label("clip"))
        health = self.health()
        fields = {
            **self.shared(notes=notes),
            "clip": clip,
            "clip_reference": reference,
            "mode": self.text("mode"),
            "animal_place": self.place("animal_"),
            "health": None if health == NO_HEALTH else health,
        }
        return Recording(**fields)  # type: ignore[arg-type]

    def telemetry(self) -> Telemetry | None:
        """Return None where the message says nothing of the node: other records may be in it."""
        health = self.health()
        shared = self.shared()
        if health == NO_HEALTH and shared["place"] is None:
            return None
        return Telemetry(**shared, health=health)  # type: ignore[arg-type]

    def movement(self) -> Movement:
        animal_id, place = self.text("animal_id"), self.place("animal_")
        if animal_id is None or place is None:
            missing = "animal_id" if animal_id is None else "animal_latitude"
            raise DecodeError(
                ReasonCode.INCOMPLETE_MOVEMENT,
                "it is missing or unknown; a movement needs an animal and its place",
                self.label(missing),
            )
        fields = {
            **self.shared(),
            **self.species(),
            "animal_id": animal_id,
            "animal_place": place,
        }
        return Movement(**fields)  # type: ignore[arg-type]

    def measured(self) -> Measurement | None:
        """Return the measurement that the item is; None where it has no value."""
        value, name = self.number("value"), self.text("name")
        if value is None:
            return None
        if name is None or len(name) > MEASURED_NAME_CHARACTERS_MAX:
            code = ReasonCode.MISSING_FIELD if name is None else ReasonCode.IMPOSSIBLE_VALUE
            detail = (
                "the name of the measurement is missing"
                if name is None
                else f"{quoted(name)} has more than {MEASURED_NAME_CHARACTERS_MAX} characters"
            )
            raise DecodeError(code, detail, self.label("name"))
        return self.measurement(name, value, self.fields["value"].modifiers.unit)

    def measurement(self, name: str, value: float, unit: str | None) -> Measurement:
        return Measurement(**self.shared(), name=name, value=value, unit=unit)  # type: ignore[arg-type]

    def _ends_at(self, shared: Mapping[str, object]) -> datetime | None:
        """Return when the call ended; None where its beginning is not believed.

        What a device's clock tells well, even where it is wrong, is the time between the two.
        """
        name = next((name for name in ENDS if name in self.fields), None)
        if name is None or shared["time_source"] != "device":
            return None
        observed_at = cast(datetime, shared["observed_at"])
        if name == "ends_at":
            lasts = self._between(observed_at, self._read(name, Field.written) or ())
        else:
            lasts = self.number(name)
            if lasts is not None and name == "end_offset_seconds":
                lasts -= self.number("offset_seconds") or 0
        if lasts is None:
            return None
        if not 0 <= lasts <= CALL_SECONDS_MAX:
            raise DecodeError(
                ReasonCode.IMPOSSIBLE_VALUE,
                f"the call would last {digits(lasts)} seconds",
                self.label(name),
            )
        return observed_at + timedelta(seconds=lasts)

    def _between(self, observed_at: datetime, ends: Sequence[times.TimeReading]) -> float | None:
        """Return the seconds from the beginning that was believed to the end, by one clock."""
        ahead = self.rules.of(self.node).clock_ahead_seconds
        for begin in self._begins():
            first = times.in_utc(begin.moment, self.rules.zone)
            if ends and first is not None and times.moved(first, -ahead) == observed_at:
                last = times.in_utc(ends[0].moment, self.rules.zone)
                return None if last is None else (last - first).total_seconds()
        return None


_MAKERS: dict[str, Callable[[_Reading], FormRecord | None]] = {
    "detection": _Reading.detection,
    "recording": _Reading.recording,
    "telemetry": _Reading.telemetry,
    "movement": _Reading.movement,
    "measurement": _Reading.measured,
}


def _later(reading: times.TimeReading, seconds: float) -> times.TimeReading:
    return times.TimeReading(times.moved(reading.moment, seconds), reading.words, reading.is_count)
