"""See which values of a payload a form reads, and what is odd about what it made: for trying it.

The document is replaced by one that notes each value that is taken out of it, so what counts as
read is what this very message had read from it.
"""

import re
from collections.abc import ItemsView, Iterator, Set, ValuesView
from datetime import timedelta

from msgspec.structs import replace

from echo_ingest.decode.errors import DecodeError
from echo_ingest.decode.forms.documents import COLUMNS, TABLES
from echo_ingest.decode.forms.fields import Field, FieldType
from echo_ingest.decode.forms.form import Form
from echo_ingest.decode.forms.interpret import DecodedByForm, interpret, top_scope
from echo_ingest.decode.forms.match import Fit
from echo_ingest.decode.forms.records import items
from echo_ingest.decode.rules import Rules
from echo_ingest.decode.values import NEAR_ZERO_DEGREES
from echo_ingest.formatting import utc
from echo_ingest.quality import TimeProblem
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Detection, Measurement, Message, Rejected

DOUBTFUL_PERCENT = 0.01
"""Nobody sends confidences in percent that are all at most 1."""
DOUBTFUL_BYTE = 1 / 255
UNIT_TO_BE_TYPED = "?"
"""What a draft has where nothing tells the unit."""
HALF_HOUR = timedelta(minutes=30)
ZONE_HALF_HOURS_MAX = 28
"""No zone is further from UTC than 14 hours."""
ON_ITS_WAY_MAX = timedelta(minutes=2)
"""A message with a wrong zone is a whole number of half hours old, and what it was on its way."""
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class _Notes:
    """Which values have been read: by their paths, with `[]` for any index."""

    def __init__(self) -> None:
        self.read: set[str] = set()
        self.gone_through: set[str] = set()
        """The objects whose keys are like the indices of a list."""


class _NotedObject(dict[str, object]):
    """An object of a document that notes which of its values are read."""

    def __init__(self, source: dict[str, object], path: str, notes: _Notes) -> None:
        self.path = path
        self.paths = {key: _joined(path, key) for key in source}
        self.notes = notes
        super().__init__(
            {key: _noted(value, self.paths[key], notes) for key, value in source.items()}
        )

    def get(self, key: str, default: object = None) -> object:
        if key in self.paths:
            self.notes.read.add(self.paths[key])
        return super().get(key, default)

    def values(self) -> ValuesView[object]:  # type: ignore[override]
        self._go_through()
        return super().values()

    def items(self) -> ItemsView[str, object]:  # type: ignore[override]
        self._go_through()
        return super().items()

    def _go_through(self) -> None:
        self.notes.gone_through.add(self.path)
        self.notes.read.update(self.paths.values())


class _NotedList(list[object]):
    """A list of a document that notes that its values are read."""

    def __init__(self, source: list[object], path: str, notes: _Notes) -> None:
        self.path = f"{path}[]"
        self.notes = notes
        super().__init__(_noted(value, self.path, notes) for value in source)

    def __getitem__(self, index: object) -> object:  # type: ignore[override]
        self.notes.read.add(self.path)
        return super().__getitem__(index)  # type: ignore[call-overload]

    def __iter__(self) -> Iterator[object]:
        self.notes.read.add(self.path)
        return super().__iter__()


def unread(fit: Fit, message: Message, rules: Rules) -> tuple[str, ...]:
    """Return the paths of the values of a payload that no field of the form read.

    `[]` stands for any index, and `*` for any key of an object that the form goes through.
    """
    notes = _Notes()
    document = {key: value for key, value in fit.document.items() if key != COLUMNS}
    noted = _NotedObject(document, "", notes)
    interpret(replace(fit, document=noted), message, rules, hashed=False)
    was_read: dict[str, bool] = {}
    for path, shown in _leaves(document, "", "", notes.gone_through):
        was_read[shown] = was_read.get(shown, False) or path in notes.read
    return tuple(shown for shown, is_read in was_read.items() if not is_read)


def warnings(decoded: DecodedByForm, fit: Fit, message: Message) -> tuple[str, ...]:
    """Return what is odd about the records that a form made, for those who write it."""
    found = (
        *_confidence_warnings(decoded),
        *_time_warnings(decoded, message),
        *_place_warnings(fit, message),
        *_node_warnings(decoded),
        *_unit_warnings(decoded),
    )
    return tuple(dict.fromkeys(found))


def rejection_hints(form: Form, rejected: Rejected) -> tuple[str, ...]:
    """Return what may be missing in a form that rejects a message, for those who write it."""
    hints = []
    times = [
        field
        for spec in form.records
        for field in spec.fields.values()
        if field.field_type is FieldType.TIME and field.modifiers.format is None
    ]
    if rejected.code is ReasonCode.UNREADABLE_TIME and times:
        hints.append(
            'a form can say how a time is written: add format, such as format = "%d.%m.%Y %H:%M:%S"'
        )
    if form.match.payload in TABLES and any(not spec.each for spec in form.records):
        hints.append('the lines of this payload are in rows: type each = "rows" in [[record]]')
    return tuple(hints)


def _confidence_warnings(decoded: DecodedByForm) -> Iterator[str]:
    shares = [
        record.confidence
        for record in decoded.records
        if isinstance(record, Detection) and record.confidence is not None
    ]
    scales = {field.modifiers.scale for field in _confidences(decoded.form)}
    if shares and max(shares) > 0 and scales == {"percent"} and max(shares) <= DOUBTFUL_PERCENT:
        yield "every confidence is at most 1 %: is the scale fraction?"
    if shares and max(shares) > 0 and scales == {"byte"} and max(shares) <= DOUBTFUL_BYTE:
        yield "every confidence is at most 1 of 255: is the scale fraction?"


def _time_warnings(decoded: DecodedByForm, message: Message) -> Iterator[str]:
    for record in decoded.records:
        if record.time_problem is not None:
            why = record.time_problem.summary
            if record.time_problem is TimeProblem.AFTER_RECEIPT:
                why += " Is the zone right?"
            yield f"the time {record.device_time} is not believed: {why}"
        elif record.time_source == "received":
            yield "no time was found: the time of receipt counts"
    received_at = utc(message.received_at_ms)
    waits = {_half_hours(received_at - record.observed_at) for record in decoded.records}
    if len(waits) == 1 and (halves := waits.pop()) is not None:
        yield f"every time is {halves / 2:g} hours before the receipt: is the zone right?"


def _half_hours(waited: timedelta) -> int | None:
    """Return in how many half hours a message came, if it is a number that a wrong zone gives."""
    halves = round(waited / HALF_HOUR)
    is_near = abs(waited - halves * HALF_HOUR) <= ON_ITS_WAY_MAX
    return halves if is_near and 1 <= halves <= ZONE_HALF_HOURS_MAX else None


def _place_warnings(fit: Fit, message: Message) -> Iterator[str]:
    try:
        top = top_scope(fit, message)
        for spec in fit.form.records:
            for place in filter(None, (spec.place, spec.animal_place)):
                for item in items(spec, top):
                    latitude, longitude = place.latitude.number(item), place.longitude.number(item)
                    if latitude is None or longitude is None:
                        continue
                    if max(abs(latitude), abs(longitude)) <= NEAR_ZERO_DEGREES:
                        yield "the place 0, 0 means that none is known"
    except DecodeError:
        return  # the message is rejected for it


def _node_warnings(decoded: DecodedByForm) -> Iterator[str]:
    if any(record.node is None for record in decoded.records):
        yield "no node is named: type node, or capture {node} in the topic"


def _unit_warnings(decoded: DecodedByForm) -> Iterator[str]:
    for record in decoded.records:
        if isinstance(record, Measurement) and record.unit == UNIT_TO_BE_TYPED:
            yield f"the unit of {record.name} is not known: type it instead of {UNIT_TO_BE_TYPED}"


def _confidences(form: Form) -> Iterator[Field]:
    for spec in form.records:
        if "confidence" in spec.fields:
            yield spec.fields["confidence"]


def _noted(value: object, path: str, notes: _Notes) -> object:
    if isinstance(value, dict):
        return _NotedObject(value, path, notes)
    if isinstance(value, list):
        return _NotedList(value, path, notes)
    return value


def _leaves(
    value: object, path: str, shown: str, gone_through: Set[str]
) -> Iterator[tuple[str, str]]:
    """Yield the path of each value that is neither an object nor a list, and how it is shown."""
    if isinstance(value, dict):
        for key, inner in value.items():
            label = f"{shown}.*" if path in gone_through else _joined(shown, key)
            yield from _leaves(inner, _joined(path, key), label.lstrip("."), gone_through)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, f"{path}[]", f"{shown}[]", gone_through)
    else:
        yield path, shown


def _joined(path: str, key: str) -> str:
    return f"{path}.{_shown(key)}" if path else _shown(key)


def _shown(key: str) -> str:
    """Write a key as it stands in a path."""
    return key if _PLAIN_NAME.fullmatch(key) else f'"{key}"'
