"""Write the first draft of a form from one message: what its names and values look like.

The draft is a form that can be read and makes records of this message, as far as any can be made. A
person reads it, and corrects what was guessed wrongly.
"""

import json
import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from echo_ingest.decode.errors import DecodeError
from echo_ingest.decode.forms.documents import COLUMNS, ROWS, TABLES, Document, document
from echo_ingest.decode.forms.form import Form
from echo_ingest.decode.forms.interpret import DecodedByForm
from echo_ingest.decode.forms.likely_fields import (
    HEALTH,
    MEASURED,
    ZONES,
    likelihood,
    number_of,
    plain,
    time_format_of,
    time_of,
)
from echo_ingest.decode.forms.reading import read
from echo_ingest.decode.forms.tracing import UNIT_TO_BE_TYPED
from echo_ingest.decode.forms.trial import try_form
from echo_ingest.decode.forms.zones import zone_of
from echo_ingest.decode.rules import Rules
from echo_ingest.record import Message

LEAVES_MAX = 300
DEPTH_MAX = 8
SAMPLES_MAX = 20
KEY_CHARACTERS_MAX = 60
HAS_MAX = 4
LEFT_SHOWN_MAX = 30
VALUE_CHARACTERS_MAX = 40
EACH_MAX = 3
COLUMNS_MIN = 3
SEPARATORS = {";": ";", ",": ",", "\t": r"\t", "|": "|"}
"""What lines separate values by, and how TOML writes it."""
_PLAIN_KEY = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NOT_NAME = re.compile(r"[^a-z0-9]+")

KINDS_OF_PAYLOAD = ("json", "list", "ndjson", "tsv", "csv")
ENVELOPE = ("node", "message_id", "observed_at", "latitude", "longitude", "altitude_metres")
OF_DETECTION = (
    *("species", "common_name", "confidence", "observed_at", "offset_seconds"),
    *("end_offset_seconds", "duration_seconds", "low_hz", "high_hz", "latitude", "longitude"),
    *("altitude_metres", "node", "sensor_id", "message_id", "model", "clip", "clip_reference"),
)


class NoSuggestion(Exception):
    """No form can be drafted from this message; the text says why."""


class Leaf(Struct, frozen=True):
    """A value of the payload, or the same value of each item of lists."""

    lists: tuple[tuple[str, ...], ...]
    """The lists that it is in, each with its keys within the item of the one before."""
    keys: tuple[str, ...]
    """Its keys within the item, or within the payload."""
    values: list[object]


class Line(Struct, frozen=True):
    """A field of the draft."""

    name: str
    source: str
    """What stands behind `=`."""
    leaves: tuple[Leaf, ...]
    comment: str = ""

    @property
    def text(self) -> str:
        """Return the line as it stands in the file."""
        return f"{self.name} = {self.source}" + (f"  # {self.comment}" if self.comment else "")


class Draft(Struct, frozen=True):
    """The text of a form, and the values that it does not map."""

    text: str
    left: tuple[str, ...]


def suggest(message: Message, rules: Rules, name: str = "my-device") -> Draft:
    """Draft a form for a message; raise `NoSuggestion` where nothing in it can be mapped."""
    payload_type, read_document = document_of(message.payload)
    leaves = list(_leaves(read_document))[:LEAVES_MAX]
    head = [f"name = {_quoted(name)}", 'about = "Which devices send this, for people"', ""]
    head += _match(message, payload_type, read_document, leaves)
    drafting = _Drafting(message, rules, "\n".join(head))
    drafting.add_detection(leaves)
    drafting.add_recording(leaves)
    drafting.add_health(leaves)
    drafting.add_measurements(leaves)
    if not drafting.sections:
        drafting.add_any_numbers(leaves)
    if not drafting.sections:
        raise NoSuggestion(
            "nothing in this message looks like a species, a clip, the state of a device or a"
            " number; docs/form-files.md says how to write a form"
        )
    left = tuple(
        f"{_label(leaf)} = {_shown(leaf.values[0])}" for leaf in leaves if leaf not in drafting.used
    )
    text = drafting.text
    if left:
        text += "\n# Not read, of this message:\n"
        text += "".join(f"#   {each}\n" for each in left[:LEFT_SHOWN_MAX])
    return Draft(text, left)


class _Drafting:
    """The draft while it grows: a field is kept only if the message can be read with it."""

    def __init__(self, message: Message, rules: Rules, head: str) -> None:
        self.message = message
        self.rules = rules
        self.head = head
        self.sections: list[tuple[list[str], list[Line]]] = []
        self.used: list[Leaf] = []

    @property
    def text(self) -> str:
        parts = [self.head]
        for opening, lines in self.sections:
            parts.append("\n".join([*opening, *(line.text for line in lines)]))
        return "\n\n".join(parts) + "\n"

    def add_detection(self, leaves: list[Leaf]) -> None:
        species = _likeliest("species", leaves)
        if species is None:
            return
        opening = ["[[record]]", 'kind = "detection"', *_each(species)]
        self._add(opening, species.lists, OF_DETECTION, leaves)

    def add_recording(self, leaves: list[Leaf]) -> None:
        clip = _likeliest("clip", leaves)
        if clip is None or clip.lists or clip in self.used:
            return
        fields = ("clip", "clip_reference", *ENVELOPE, "sensor_id", *HEALTH)
        self._add(["[[record]]", 'kind = "recording"'], (), fields, leaves)

    def add_health(self, leaves: list[Leaf]) -> None:
        free = [leaf for leaf in leaves if leaf not in self.used]
        for lists in dict.fromkeys(leaf.lists for leaf in free):
            here = [leaf for leaf in free if leaf.lists == lists]
            states = [name for name in HEALTH if _likeliest(name, here) is not None]
            if states:
                opening = ["[[record]]", 'kind = "telemetry"', *_each(here[0])]
                shared = [leaf for leaf in leaves if leaf in free or leaf in self.used]
                self._add(opening, lists, (*states, *ENVELOPE, "sensor_id"), shared)
                return

    def add_measurements(self, leaves: list[Leaf]) -> None:
        free = [leaf for leaf in leaves if leaf not in self.used]
        found: dict[str, Leaf] = {}
        for name in MEASURED:
            leaf = _likeliest(name, [each for each in free if each not in found.values()])
            if leaf is not None and (not found or leaf.lists == next(iter(found.values())).lists):
                found[name] = leaf
        self._add_values({name: (leaf, None) for name, leaf in found.items()}, leaves)

    def add_any_numbers(self, leaves: list[Leaf]) -> None:
        """Take each number for a measurement whose unit is to be typed."""
        numbers = [
            leaf
            for leaf in leaves
            if all(number_of(value) is not None for value in leaf.values)
            and not any(likelihood(name, leaf.keys, leaf.values) for name in ENVELOPE)
        ]
        values: dict[str, tuple[Leaf, str | None]] = {}
        for leaf in numbers:
            if leaf.lists == numbers[0].lists:
                name = _NOT_NAME.sub("_", "_".join(leaf.keys).lower()).strip("_")
                if re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) and len(values) < 32:
                    values[name] = (leaf, UNIT_TO_BE_TYPED)
        self._add_values(values, leaves)

    def _add_values(
        self, values: Mapping[str, tuple[Leaf, str | None]], leaves: list[Leaf]
    ) -> None:
        if not values:
            return
        first = next(iter(values.values()))[0]
        opening = ["[[record]]", 'kind = "measurement"', *_each(first)]
        used = [leaf for leaf, _ in values.values()]
        around = [leaf for leaf in leaves if leaf not in used]
        shared = list(_lines(("node", "observed_at"), first.lists, around))
        lines = []
        for name, (leaf, unit) in values.items():
            source = _toml(_path(leaf, first.lists))
            comment = ""
            if unit is not None:
                source = f"{{ from = {source}, unit = {_quoted(unit)} }}"
                comment = "in which unit?"
            lines.append(Line(name, source, (leaf,), comment))
        self.sections.append((opening, shared))
        self.sections.append((["[record.values]"], []))
        kept = self.sections[-1][1]
        for line in lines:
            kept.append(line)
            if not self._reads():
                kept.pop()
        if not kept:
            del self.sections[-2:]
            return
        self.used += [leaf for line in (*shared, *kept) for leaf in line.leaves]

    def _add(
        self,
        opening: list[str],
        lists: tuple[tuple[str, ...], ...],
        fields: tuple[str, ...],
        leaves: list[Leaf],
    ) -> None:
        kept: list[Line] = []
        self.sections.append((opening, kept))
        halves: list[Line] = []
        for line in _lines(fields, lists, leaves):
            if line.name in ("latitude", "longitude"):
                halves.append(line)
                if len(halves) < 2:
                    continue
            new = halves if line.name in ("latitude", "longitude") else [line]
            kept += new
            if not self._reads():
                del kept[-len(new) :]
        if not kept or not self._reads():
            self.sections.pop()
            return
        self.used += [leaf for line in kept for leaf in line.leaves]

    def _reads(self) -> bool:
        """Return whether the draft is a form, and this message is no error in it."""
        form = read(self.text.encode())
        if not isinstance(form, Form):
            return False
        return isinstance(try_form(form, self.message, self.rules).outcome, DecodedByForm)


# ---------------------------------------------------------------------- the payload


def document_of(payload: bytes) -> tuple[str, Document]:
    """Return what a payload is, by `payload` of a form, and its document; or `NoSuggestion`."""
    opening = payload.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    for payload_type in KINDS_OF_PAYLOAD:
        if (opening in (b"{", b"[")) != (payload_type in ("json", "list", "ndjson")):
            continue
        try:
            read_document = document(payload_type, payload)
        except DecodeError:
            continue
        if read_document is None:
            continue
        if payload_type in TABLES:
            rows = read_document[ROWS]
            assert isinstance(rows, list)
            if not rows or not all(isinstance(row, dict) and row for row in rows):
                continue
            first = rows[0]
            if payload_type in ("csv", "tsv") and (len(first) < 2 or any(map(_is_value, first))):
                continue
        return payload_type, read_document
    if (separator := _separator_of(payload)) is not None:
        raise NoSuggestion(
            "a table is drafted where its first line has the names of the columns, with commas or"
            " tabs between them; for these lines, below"
            f' [match], type payload = "lines", separator = "{separator}" and'
            ' columns = ["date", "time", …], and below [[record]] each = "rows";'
            " docs/form-files.md says more"
        )
    raise NoSuggestion(
        "only JSON, and tables with a line of names, can be drafted; docs/form-files.md says how"
        " to read lines, text and bytes"
    )


def _is_value(name: object) -> bool:
    """Return whether this can be no name of a column: the first line has values already."""
    return number_of(name) is not None or time_of(name) is not None


def _separator_of(payload: bytes) -> str | None:
    """Return what stands between the values of the first line, as TOML writes it."""
    line = payload.lstrip().partition(b"\n")[0].decode(errors="replace")
    if line[:1] in ("{", "["):
        return None
    most = max(SEPARATORS, key=line.count)
    if line.count(most) < COLUMNS_MIN - 1:
        return None
    return SEPARATORS[most]


def _leaves(value: Document) -> Iterator[Leaf]:
    """Yield each value with where it stands, those of the items of a list together."""
    found: dict[tuple[tuple[tuple[str, ...], ...], tuple[str, ...]], list[object]] = {}
    body = {key: each for key, each in value.items() if key != COLUMNS or ROWS not in value}
    stack: list[tuple[object, tuple[tuple[str, ...], ...], tuple[str, ...]]] = [(body, (), ())]
    while stack:
        inner, lists, keys = stack.pop()
        if len(keys) + sum(map(len, lists)) > DEPTH_MAX:
            continue
        if isinstance(inner, dict):
            for key, each in reversed(inner.items()):
                if key.isprintable() and 0 < len(key) <= KEY_CHARACTERS_MAX:
                    stack.append((each, lists, (*keys, key)))
        elif isinstance(inner, list):
            if keys and len(lists) < EACH_MAX and all(isinstance(each, dict) for each in inner):
                stack += [(each, (*lists, keys), ()) for each in reversed(inner[:SAMPLES_MAX])]
        elif keys and (len(found) < LEAVES_MAX or (lists, keys) in found):
            found.setdefault((lists, keys), []).append(inner)
    for (lists, keys), values in found.items():
        yield Leaf(lists, keys, values)


def _match(
    message: Message, payload_type: str, read_document: Document, leaves: list[Leaf]
) -> list[str]:
    lines = ["[match]"]
    if message.node is None and message.topic:
        lines.append(_topic_line(message.topic, leaves))
    head: object = read_document
    if payload_type != "json":
        lines.append(f"payload = {_quoted(payload_type)}")
        rows = read_document[ROWS]
        assert isinstance(rows, list)
        head = rows[0]
    assert isinstance(head, dict)
    keys = [key for key in head if key.isprintable() and 0 < len(key) <= KEY_CHARACTERS_MAX]
    if keys:
        lines.append(f"has = [{', '.join(_toml(_step(key)) for key in keys[:HAS_MAX])}]")
    return lines


def _topic_line(topic: str, leaves: list[Leaf]) -> str:
    """Return the topic, with `{node}` for the level that the payload has as the node's name."""
    levels = topic.split("/")
    node = _likeliest("node", [leaf for leaf in leaves if not leaf.lists])
    if node is not None and levels.count(str(node.values[0])) == 1:
        levels[levels.index(str(node.values[0]))] = "{node}"
        return f"topic = {_quoted('/'.join(levels))}"
    return f"topic = {_quoted(topic)}  # type {{node}} for the level that names the device"


# ---------------------------------------------------------------------- the fields


def _likeliest(field: str, leaves: list[Leaf]) -> Leaf | None:
    best, most = None, 0.0
    for leaf in leaves:
        points = likelihood(field, leaf.keys, leaf.values)
        if points > most:
            best, most = leaf, points
    return best


def _lines(
    fields: tuple[str, ...], lists: tuple[tuple[str, ...], ...], leaves: list[Leaf]
) -> Iterator[Line]:
    """Yield the fields that are found, each value once, and nearest to the item first."""
    reachable = [leaf for leaf in leaves if leaf.lists == lists[: len(leaf.lists)]]
    taken: list[Leaf] = []
    for field in fields:
        free = [leaf for leaf in reachable if leaf not in taken]
        leaf = None
        for length in range(len(lists), -1, -1):
            leaf = leaf or _likeliest(field, [each for each in free if len(each.lists) == length])
        if field == "observed_at":
            line = _time_line(free, leaf, lists)
        else:
            line = None if leaf is None else _line(field, leaf, lists)
        if line is not None:
            taken += line.leaves
            yield line


def _line(field: str, leaf: Leaf, lists: tuple[tuple[str, ...], ...]) -> Line:
    path = _toml(_path(leaf, lists))
    if field == "confidence":
        most = max(number for value in leaf.values if (number := number_of(value)) is not None)
        scale = "fraction" if most <= 1 else "percent" if most <= 100 else "byte"
        return Line(
            field,
            f'{{ from = {path}, scale = "{scale}" }}',
            (leaf,),
            f"a guess: the largest was {most:g}",
        )
    return Line(field, path, (leaf,))


def _time_line(
    leaves: list[Leaf], leaf: Leaf | None, lists: tuple[tuple[str, ...], ...]
) -> Line | None:
    """Return the time: one that names its zone, a day and a time apart, or one without a zone."""
    form = None
    if leaf is not None:
        value = next(value for value in leaf.values if value is not None and value != "")
        reading = time_of(value)
        path = _toml(_path(leaf, lists))
        if reading is not None and reading.moment.tzinfo is not None:
            return Line("observed_at", path, (leaf,))
        form = None if reading is not None else time_format_of(value)
        used, source = [leaf], path
    if apart := _day_and_time(leaves):
        day, clock, sign, form = apart
        used = [day, clock]
        paths = ", ".join(_toml(_path(each, lists)) for each in used)
        source = f'[{paths}], join = "{sign}"'
    elif leaf is None:
        return None
    if form is not None:
        source += f", format = {_quoted(form)}"
    zone = next((each for each in leaves if _is_zone(each)), None)
    if zone is not None:
        source += f", zone_from = {_toml(_path(zone, lists))}"
        return Line("observed_at", f"{{ from = {source} }}", (*used, zone))
    comment = "it names no zone: type the one that it is in"
    if form is not None and form.startswith("%d/%m"):
        comment = f"a guess: the day first; {comment}"
    return Line("observed_at", f'{{ from = {source}, zone = "site" }}', tuple(used), comment)


def _is_zone(leaf: Leaf) -> bool:
    return plain(leaf.keys[-1]) in ZONES and all(
        isinstance(value, str) and zone_of(value) is not None for value in leaf.values
    )


def _day_and_time(leaves: list[Leaf]) -> tuple[Leaf, Leaf, str, str | None] | None:
    """Return a day and a time that stand in two fields, what joins them, and their format."""
    days = [leaf for leaf in leaves if plain(leaf.keys[-1]) in ("date", "day")]
    clocks = [leaf for leaf in leaves if plain(leaf.keys[-1]) in ("time", "clock", "timeofday")]
    for day in days:
        for clock in clocks:
            if day.lists != clock.lists:
                continue
            if time_of(f"{day.values[0]}T{clock.values[0]}"):
                return day, clock, "T", None
            form = time_format_of(f"{day.values[0]} {clock.values[0]}")
            if form is not None:
                return day, clock, " ", form
    return None


def _each(leaf: Leaf) -> list[str]:
    paths = [_toml(".".join(map(_step, keys))) for keys in leaf.lists]
    if not paths:
        return []
    return [f"each = {paths[0]}" if len(paths) == 1 else f"each = [{', '.join(paths)}]"]


def _path(leaf: Leaf, lists: tuple[tuple[str, ...], ...]) -> str:
    """Return the path of a value as it is seen from an item of these lists."""
    up = "parent." * (len(lists) - len(leaf.lists))
    return up + ".".join(map(_step, leaf.keys))


def _label(leaf: Leaf) -> str:
    parts = [f"{'.'.join(keys)}[]" for keys in leaf.lists]
    return ".".join([*parts, *leaf.keys])


def _step(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _quoted(text: str) -> str:
    """Write a text as TOML has it; what cannot be printed is escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in quoted)


def _toml(text: str) -> str:
    """Write a text in TOML: with single quotes where it has double ones."""
    return f"'{text}'" if '"' in text and "'" not in text and "\\" not in text else _quoted(text)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    printable = "".join(letter if letter.isprintable() else "·" for letter in text)
    return printable if len(printable) <= VALUE_CHARACTERS_MAX else f"{printable[:40]}…"
