"""Describe a form as a JSON Schema, for those who build a device or check what one sends. Pure.

A form names what it reads, and so does the schema; any other field may be there. What only the
interpreter can judge, such as whether a time can be true, stays with the interpreter.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jmespath

from echo_ingest.decode.audio.sound import SAMPLE_RATE_HZ_MAX
from echo_ingest.decode.forms.documents import ROWS, TABLES
from echo_ingest.decode.forms.fields import SCALES, SITE, Field, FieldType
from echo_ingest.decode.forms.form import Form
from echo_ingest.decode.forms.paths import PARENT, Path, Step, compile_plain
from echo_ingest.decode.forms.record_spec import (
    CELSIUS_MAX,
    CELSIUS_MIN,
    REQUIRED,
    RecordSpec,
)
from echo_ingest.decode.values import (
    ALTITUDE_METRES_MAX,
    ALTITUDE_METRES_MIN,
    CPU_PERCENT_MAX,
    UNCERTAINTY_METRES_MAX,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MEDIA_TYPES = {
    "json": "application/json",
    "list": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "lines": "text/plain",
    "text": "text/plain",
}
"""What a payload is called over HTTP and in AsyncAPI; all others are bytes."""
RANGES: Mapping[str, tuple[float, float]] = {
    "latitude": (-90, 90),
    "longitude": (-180, 180),
    "animal_latitude": (-90, 90),
    "animal_longitude": (-180, 180),
    "altitude_metres": (ALTITUDE_METRES_MIN, ALTITUDE_METRES_MAX),
    "animal_altitude_metres": (ALTITUDE_METRES_MIN, ALTITUDE_METRES_MAX),
    "uncertainty_metres": (0, UNCERTAINTY_METRES_MAX),
    "animal_uncertainty_metres": (0, UNCERTAINTY_METRES_MAX),
    "cpu_percent": (0, CPU_PERCENT_MAX),
    "memory_percent": (0, 100),
    "disk_percent": (0, 100),
    "temperature_celsius": (CELSIUS_MIN, CELSIUS_MAX),
    "low_hz": (0, SAMPLE_RATE_HZ_MAX),
    "high_hz": (0, SAMPLE_RATE_HZ_MAX),
    "sample_rate_hz": (0, SAMPLE_RATE_HZ_MAX),
}
NUMBER_AS_TEXT = r"^\s*([+−-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?)?\s*$"
SCALE_WORDS = {
    "fraction": "a fraction, 0 to 1",
    "percent": "in percent, 0 to 100",
    "byte": "0 to 255",
}
_TYPES: Mapping[FieldType, tuple[str, ...]] = {
    FieldType.TEXT: ("string", "number"),
    FieldType.EXACT: ("string", "number"),
    FieldType.SPECIES: ("string", "number"),
    FieldType.NUMBER: ("number", "string"),
    FieldType.MEASURED: ("number", "string"),
    FieldType.CONFIDENCE: ("number", "string"),
    FieldType.TIME: ("string", "number"),
    FieldType.TRUTH: ("boolean", "string", "number"),
    FieldType.CLIP: ("string",),
}
Schema = dict[str, Any]


class _PayloadPart:
    """A place in the payload while the schema is made: what stands there, and what is below."""

    def __init__(self) -> None:
        self.keys: dict[str, _PayloadPart] = {}
        self.required: set[str] = set()
        self.items: _PayloadPart | None = None
        self.values: _PayloadPart | None = None
        self.is_list = False
        self.types: tuple[str, ...] = ()
        self.words: list[str] = []
        self.limits: Schema = {}
        self.needed = False

    def key(self, name: str) -> "_PayloadPart":
        return self.keys.setdefault(name, _PayloadPart())

    def item(self) -> "_PayloadPart":
        self.is_list = True
        self.items = self.items or _PayloadPart()
        return self.items

    def schema(self) -> Schema:
        """Return the schema of this place."""
        types = list(self.types)
        made: Schema = {}
        if self.words:
            made["description"] = "; ".join(dict.fromkeys(self.words))
        if self.keys or self.values:
            types.append("object")
        if self.is_list:
            types.append("array")
        if types and not self.needed:
            types.append("null")
        if types:
            types = list(dict.fromkeys(types))
            made["type"] = types[0] if len(types) == 1 else types
        made |= self.limits
        if self.keys:
            made["properties"] = {name: place.schema() for name, place in self.keys.items()}
        if self.required:
            made["required"] = sorted(self.required)
        if self.values is not None:
            others = self.values.schema()
            if self.keys:  # what is no object among these is passed over
                others.pop("type", None)
            made["additionalProperties"] = others
        if self.items is not None:
            made["items"] = self.items.schema()
        return made


def media_type(payload: str) -> str:
    """Return the media type of what `payload` in [match] calls so."""
    return MEDIA_TYPES.get(payload, "application/octet-stream")


def schema_of(form: Form) -> Schema:
    """Return the JSON Schema of the payloads of a form."""
    root = _PayloadPart()
    root.needed = True
    match = form.match
    head = root
    if match.payload in TABLES:
        rows = root.key(ROWS)
        rows.needed = True
        head = rows.item()
        head.needed = True
        for column in match.columns:
            head.key(column)
    for steps in match.has:
        _require(head, steps)
    for spec in form.records:
        _describe_record(root, spec)
    if form.message_id is not None:
        for path in form.message_id.modifiers.paths:
            for place in _go(path.text, [root], []):
                _describe(place, form.message_id)
    made: Schema = {"$schema": DIALECT, "title": form.name, "description": form.about}
    if match.topics:
        made["x-topics"] = ["/".join(topic) for topic in match.topics]
    return made | _payload(form, root)


def _payload(form: Form, root: _PayloadPart) -> Schema:
    """Return the schema of the payload as it is sent: JSON as it is, all else as a text."""
    kind = form.match.payload
    if kind == "json":
        return {"type": "object"} | {
            key: value for key, value in root.schema().items() if key != "type"
        }
    if kind == "list":
        return root.key(ROWS).schema()
    made: Schema = {"contentMediaType": media_type(kind)}
    if kind in TABLES:
        made |= {"type": "string", "contentSchema": root.key(ROWS).schema()}
    elif kind == "empty":
        made |= {"type": "string", "maxLength": 0}
    elif kind == "text":
        made["type"] = "string"
    if kind in ("text", "lines") and form.match.opens is not None:
        made["pattern"] = f"^(?:{form.match.opens.compiled.pattern.removeprefix('^')})"
    return made


def _describe_record(root: _PayloadPart, spec: RecordSpec) -> None:
    levels: list[list[_PayloadPart]] = [[root]]
    uses_keys = any(path.text == "$key" for path in _paths(spec))
    for path in spec.each:
        inner: list[_PayloadPart] = []
        for place in _go(path.text, levels[-1], levels[:-1]):
            if uses_keys:
                place.values = place.values or _PayloadPart()
                inner.append(place.values)
            elif place is not root:
                inner.append(place.item())
        levels.append(inner)
    if spec.where is not None:
        _go(spec.where.text, levels[-1], levels[:-1])
    for name, field in (*spec.fields.items(), *spec.values.items()):
        paths = field.modifiers.paths
        for path in paths:
            places = _go(path.text, levels[-1], levels[:-1])
            for place in places:
                _describe(place, field)
        is_needed = name in REQUIRED[spec.kind] and field.modifiers.default is None
        if is_needed and len(paths) == 1 and spec.where is None and not field.modifiers.unknown:
            _need(levels[-1], paths[0])


def _paths(spec: RecordSpec) -> list[Path]:
    fields = (*spec.fields.values(), *spec.values.values())
    return [path for field in fields for path in field.modifiers.paths]


def _require(place: _PayloadPart, steps: tuple[Step, ...]) -> None:
    """Note that there is something at a plain path, as `has` asks."""
    for number, step in enumerate(steps):
        if isinstance(step, int):
            place = place.item()
        else:
            place.required.add(step)
            place = place.key(step)
        place.needed = place.needed or number < len(steps) - 1


def _need(places: list[_PayloadPart], path: Path) -> None:
    """Note that a record needs the value at a plain path, directly in its item."""
    if path.label and path.label == path.text and not path.levels_up:
        steps = compile_plain(path.text)
        if len(steps) == 1 and isinstance(steps[0], str):
            for place in places:
                place.required.add(steps[0])
                place.key(steps[0]).needed = True


def _describe(place: _PayloadPart, field: Field) -> None:
    modifiers = field.modifiers
    words = field.name
    types = _TYPES[field.field_type]
    if field.field_type is FieldType.CONFIDENCE:
        words = f"{field.name}, {SCALE_WORDS[modifiers.scale]}"
    elif field.field_type is FieldType.TIME:
        words = f"{field.name}{_time_words(field)}"
    elif field.field_type is FieldType.CLIP:
        words = f"{field.name}, a WAV, FLAC, MP3 or Ogg file in base64"
        place.limits["contentEncoding"] = "base64"
    if modifiers.unit is not None and field.field_type is FieldType.MEASURED:
        words = f"{field.name}, in {modifiers.unit}"
    if modifiers.times != 1 or modifiers.plus:
        words += f", as {field.name} = value × {modifiers.times:g}"
        words += f" + {modifiers.plus:g}" if modifiers.plus else ""
    if modifiers.join is not None:
        words = f"a part of {field.name}"
    if modifiers.words:
        words += f": {', '.join(list(modifiers.words)[:10])}"
    place.words.append(words)
    is_read = modifiers.reads or modifiers.join is not None
    place.types = (*place.types, *(("string", "number") if is_read else types))
    if not is_read and types[0] == "number":
        place.limits["pattern"] = NUMBER_AS_TEXT
        if modifiers.times == 1 and not modifiers.plus:
            place.limits |= _range(field)


def _range(field: Field) -> Schema:
    if field.field_type is FieldType.CONFIDENCE:
        return {"minimum": 0, "maximum": SCALES[field.modifiers.scale][0]}
    least, most = RANGES.get(field.name, (None, None))
    return {} if least is None else {"minimum": least, "maximum": most}


def _time_words(field: Field) -> str:
    modifiers = field.modifiers
    if modifiers.unit is not None:
        return f", in {modifiers.unit} since 1970"
    written = f", written as {modifiers.format}" if modifiers.format is not None else ""
    if modifiers.zone_from is not None:
        return f"{written}, in the zone that {modifiers.zone_from.text} names"
    if modifiers.zone == SITE:
        return f"{written}, in the zone of the site where it names none"
    if modifiers.zone is not None:
        return f"{written}, in the zone {modifiers.zone} where it names none"
    return f"{written}, with its zone"


# ---------------------------------------------------------------------- along a path


def _go(text: str, here: list[_PayloadPart], above: list[list[_PayloadPart]]) -> list[_PayloadPart]:
    """Return the places that a path leads to, and note those on its way."""
    if text.startswith("$"):
        return []
    while above and (text == PARENT or text.startswith(f"{PARENT}.")):
        here, above = above[-1], above[:-1]
        text = text[len(PARENT) + 1 :] or "@"
    return _along(jmespath.compile(text).parsed, _Reached(here)).places


class _Reached(NamedTuple):
    """The places that a part of a path leads to."""

    places: list[_PayloadPart]
    are_gathered: bool = False
    """Whether a projection has gathered them in a new list: an index then chooses one of them."""


def _along(node: Mapping[str, Any], here: _Reached) -> _Reached:
    children = node["children"]
    match node["type"]:
        case "field":
            return _Reached([place.key(node["value"]) for place in here.places])
        case "index" | "slice" if here.are_gathered:
            return _Reached(here.places, node["type"] == "slice")
        case "index" | "slice":
            return _Reached([place.item() for place in here.places])
        case "subexpression" | "index_expression" | "pipe":
            for child in children:
                here = _along(child, here)
            return here
        case "identity" | "current":
            return here
        case "projection" | "filter_projection":
            before = _along(children[0], here)
            listed = before.places
            if not before.are_gathered:
                listed = [place.item() for place in listed]
            for child in children[2:]:
                _along(child, _Reached(listed))
            return _Reached(_along(children[1], _Reached(listed)).places, True)
        case "flatten":
            before = _along(children[0], here)
            return _Reached([place.item() for place in before.places], True)
        case "or_expression":
            places = [each for child in children for each in _along(child, here).places]
            return _Reached(list(dict.fromkeys(places)))  # each once: they must not double
        case _:
            for child in children:
                if isinstance(child, dict):
                    _along(child, here)
            return _Reached([])
