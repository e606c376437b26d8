"""Read a form from its TOML text: compiled, or all that is wrong with it at once."""

import re
import tomllib
from collections.abc import Mapping

import msgspec

from echo_ingest.decode.forms.bytes_layout import (
    ENCODINGS,
    LAYOUT_BYTES_MAX,
    ORDERS,
    SIZES,
    SKIPPED,
    Layout,
    LayoutItem,
)
from echo_ingest.decode.forms.complaints import Complaints, shown
from echo_ingest.decode.forms.documents import PAYLOADS, TABLES
from echo_ingest.decode.forms.field_reading import FieldReader
from echo_ingest.decode.forms.fields import Field, FieldType, Modifiers, field_of
from echo_ingest.decode.forms.form import Form, FormError, Match, digest_of
from echo_ingest.decode.forms.match import ANY_LEVEL, ANY_LEVELS
from echo_ingest.decode.forms.paths import Path, PathError, PathWorld, Step, compile_plain
from echo_ingest.decode.forms.record_spec import (
    ENDS,
    FIELDS,
    REQUIRED,
    RecordSpec,
    record_spec,
)
from echo_ingest.decode.forms.units import COUNT_END, unit_of
from echo_ingest.decode.payloads import PayloadError, PayloadReader, Payloads, without_keys
from echo_ingest.key_lines import KeyPath, key_lines, syntax_error

FORM_BYTES_MAX = 65_536
RECORD_SPECS_MAX = 32
EACH_MAX = 3
VALUES_MAX = 64
HAS_MAX = 16
TOPICS_MAX = 8
TOPIC_LEVELS_MAX = 32
KEYS = ("name", "about", "ignore", "match", "layout", "identity", "record")
MATCH_KEYS = ("topic", "has", "where", "payload", "opens", "columns", "separator")
LAYOUT_KEYS = ("from", "encoding", "order", "items")
SCOPES = ("node", "form")
NEEDS_OPENS = frozenset(("text", "any", "bytes", "lines", "csv", "tsv", "ndjson", "list"))
"""Payloads of which nothing else tells where they come from."""
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_CAPTURE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_MEASURED_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LAYOUT_ITEM = re.compile(r"([a-z_][a-z0-9_]*):([a-z]\d+)")


def read(source: bytes, payloads: Payloads | None = None) -> Form | tuple[FormError, ...]:
    """Read a form from the bytes of its file; return what is wrong with it if it is none.

    `payloads` read payloads of bytes, with the keys of the site.
    """
    if len(source) > FORM_BYTES_MAX:
        return (
            FormError(1, f"the file has {len(source):,} bytes; type at most {FORM_BYTES_MAX:,}"),
        )
    try:
        text = source.decode("utf-8-sig").replace("\r\n", "\n")
        table = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        return (FormError(line, "the file is not UTF-8; save it as UTF-8"),)
    except tomllib.TOMLDecodeError as error:
        line, words = syntax_error(text, error)
        return (FormError(line, f"the TOML is broken: {words}"),)
    except (RecursionError, ValueError, OverflowError) as error:
        return (FormError(1, f"the TOML cannot be read: {str(error)[:100]}"),)
    complaints = Complaints(key_lines(text))
    form = FormReader(complaints, payloads or without_keys()).form(table, source)
    return complaints.errors or form


class FormReader:
    """Reads one form from its table."""

    def __init__(self, complaints: Complaints, payloads: Payloads) -> None:
        """Take what collects the errors, and what reads payloads of bytes."""
        self._complain = complaints
        self._payloads = payloads
        self._fields = FieldReader(complaints)

    def form(self, table: Mapping[str, object], source: bytes) -> Form:
        """Return the form; it is worth nothing if there are complaints."""
        complain = self._complain
        complain.unknown_keys(table, KEYS, ())
        name = self._name(table)
        about = complain.text(table["about"], ("about",)) if "about" in table else None
        ignore = table.get("ignore", False)
        if not isinstance(ignore, bool):
            complain.add(("ignore",), f"{shown(ignore)} was found; type true or false")
        match = self._match(table.get("match"))
        captures = [_captures(topic) for topic in match.topics]
        named = frozenset.intersection(*captures) if captures else frozenset()
        layout = self._layout(table, PathWorld(named), match.payload)
        world = PathWorld(named, frozenset(item.name for item in layout.items) if layout else named)
        if layout is None:
            world = PathWorld(named)
        message_id, is_unique_in_form = self._identity(table, world)
        records = self._records(table, world, ignore=bool(ignore))
        return Form(
            name=name,
            digest=digest_of(source),
            source=source,
            about=about or "",
            match=match,
            ignore=bool(ignore),
            layout=layout,
            records=records,
            message_id=message_id,
            is_unique_in_form=is_unique_in_form,
        )

    def _name(self, table: Mapping[str, object]) -> str:
        if "name" not in table:
            self._complain.add((), 'the form has no name; type name = "my-device" at its beginning')
            return ""
        name = self._complain.text(table["name"], ("name",), longest=64)
        if name is not None and not _NAME.fullmatch(name):
            self._complain.add(
                ("name",), f"{name!r} was found; type small letters, digits and - only"
            )
        return name or ""

    # ------------------------------------------------------------------ match

    def _match(self, given: object) -> Match:
        complain, at = self._complain, ("match",)
        nothing = Match("json", (), (), None, None, (), "")
        if given is None:
            complain.add((), "the form has no [match]; type which topic or which keys it is for")
            return nothing
        table = complain.table(given, at)
        if table is None:
            return nothing
        complain.unknown_keys(table, MATCH_KEYS, at)
        payload = "json"
        if "payload" in table:
            known = (*PAYLOADS, *sorted(self._payloads.names))
            payload = complain.choice(table["payload"], known, (*at, "payload")) or "any"
        reader = None if payload in PAYLOADS else self._payload_reader(payload)
        topics: tuple[tuple[str, ...], ...] = ()
        if "topic" in table:
            patterns = complain.texts(table["topic"], (*at, "topic"), TOPICS_MAX)
            topics = tuple(self._topic(pattern, (*at, "topic")) for pattern in patterns)
        has: tuple[tuple[Step, ...], ...] = ()
        if "has" in table:
            keys = complain.texts(table["has"], (*at, "has"), HAS_MAX)
            has = tuple(filter(None, (self._key(key, (*at, "has")) for key in keys)))
            if payload in PAYLOADS and payload not in TABLES and payload != "json":
                complain.add((*at, "has"), f"a payload of {payload} has no keys; type opens")
        where = opens = None
        if "where" in table:
            named = frozenset().union(*map(_captures, topics))
            where = self._fields.path(table["where"], PathWorld(named), (*at, "where"))
        if "opens" in table:
            opens = self._fields.pattern(table["opens"], (*at, "opens"), at_beginning=True)
        columns, separator = self._columns(table, payload)
        if not {"topic", "has", "where", "opens"} & set(table) and payload != "empty":
            complain.add(at, "it would match every message; type topic, has, where or opens")
        elif not {"topic", "has", "opens"} & set(table) and payload in NEEDS_OPENS:
            complain.add(at, f"a payload of {payload} needs topic, has or opens as well")
        if payload not in PAYLOADS and "topic" not in table:
            complain.add(at, f"a payload of {payload} needs topic: no other message is tried")
        return Match(payload, topics, has, where, opens, columns, separator, reader)

    def _payload_reader(self, payload: str) -> PayloadReader | None:
        try:
            return self._payloads.reader(payload)
        except PayloadError as error:
            self._complain.add(("match", "payload"), str(error))
            return None

    def _topic(self, pattern: str, at: KeyPath) -> tuple[str, ...]:
        levels = tuple(pattern.split("/"))
        names = [match[1] for match in map(_CAPTURE.fullmatch, levels) if match]
        for number, level in enumerate(levels):
            is_capture = _CAPTURE.fullmatch(level) is not None
            is_wild = level == ANY_LEVEL or (level == ANY_LEVELS and number == len(levels) - 1)
            if not is_capture and not is_wild and set(level) & set("{}+#\0"):
                self._complain.add(
                    at,
                    f"the level {level!r} cannot be read; type a name, + for any level, {{name}} to"
                    " keep it, or # at the end for the rest",
                )
        if len(set(names)) < len(names):
            self._complain.add(at, f"{pattern!r} captures a name twice; type another name")
        if len(levels) > TOPIC_LEVELS_MAX:
            self._complain.add(at, f"{len(levels)} levels were found; type {TOPIC_LEVELS_MAX}")
        return levels

    def _key(self, key: str, at: KeyPath) -> tuple[Step, ...] | None:
        try:
            return compile_plain(key)
        except PathError as error:
            self._complain.add(at, str(error))
            return None

    def _columns(self, table: Mapping[str, object], payload: str) -> tuple[tuple[str, ...], str]:
        complain = self._complain
        for key in ("columns", "separator"):
            if key in table and payload != "lines":
                complain.add(("match", key), 'it goes with payload = "lines" alone')
        if payload != "lines" or "separator" not in table:
            if payload == "lines" and "columns" in table:
                complain.add(("match", "columns"), 'type what separates them: separator = ";"')
            return (), ""
        separator = complain.text(table["separator"], ("match", "separator"), longest=1)
        if separator in ('"', "\n", "\r", " "):
            complain.add(("match", "separator"), f"{separator!r} cannot separate columns")
        if "columns" not in table:
            complain.add(("match",), 'type the names of the columns: columns = ["date", "time"]')
            return (), ""
        columns = complain.texts(table["columns"], ("match", "columns"), 64)
        if len(set(columns)) < len(columns):
            complain.add(("match", "columns"), "a name stands twice; type another")
        return columns, separator or ""

    # ------------------------------------------------------------------ layout and identity

    def _layout(self, table: Mapping[str, object], world: PathWorld, payload: str) -> Layout | None:
        complain, at = self._complain, ("layout",)
        if "layout" not in table:
            return None
        given = complain.table(table["layout"], at)
        if given is None:
            return None
        complain.unknown_keys(given, LAYOUT_KEYS, at)
        path = None
        if "from" in given:
            path = self._fields.path(given["from"], world, (*at, "from"))
        elif payload != "bytes":
            complain.add(at, 'type from (where the bytes are), or payload = "bytes" in [match]')
        encoding = order = None
        if "encoding" in given:
            encoding = complain.choice(given["encoding"], ENCODINGS, (*at, "encoding"))
        if "order" in given:
            order = complain.choice(given["order"], ORDERS, (*at, "order"))
        if "items" not in given:
            complain.add(at, 'type what the bytes hold: items = ["species:u8", "battery:u16"]')
            return None
        items, size = [], 0
        for text in complain.texts(given["items"], (*at, "items"), 256):
            match = _LAYOUT_ITEM.fullmatch(text)
            if match is None or match[2] not in SIZES:
                complain.add(
                    (*at, "items"),
                    f"{text!r} was found; type a name and a type, such as battery:u16; there are"
                    f" {', '.join(SIZES)}, and the name _ for what is skipped",
                )
                continue
            items.append(LayoutItem(match[1], match[2], size))
            size += SIZES[match[2]]
        names = [item.name for item in items if item.name != SKIPPED]
        if len(set(names)) < len(names):
            complain.add((*at, "items"), "a name stands twice; type another")
        if size > LAYOUT_BYTES_MAX:
            complain.add((*at, "items"), f"they have {size:,} bytes; type {LAYOUT_BYTES_MAX:,}")
        return Layout(path, encoding or "base64", order or "big", tuple(items), size)

    def _identity(self, table: Mapping[str, object], world: PathWorld) -> tuple[Field | None, bool]:
        complain, at = self._complain, ("identity",)
        if "identity" not in table:
            return None, False
        given = complain.table(table["identity"], at)
        if given is None:
            return None, False
        complain.unknown_keys(given, ("message_id", "scope"), at)
        scope: str | None = "node"
        if "scope" in given:
            scope = complain.choice(given["scope"], SCOPES, (*at, "scope"))
        if "message_id" not in given:
            complain.add(
                at, "type message_id: the field, or fields with join, that tell messages apart"
            )
            return None, False
        message_id = self._fields.field(
            "message_id", given["message_id"], FieldType.EXACT, world, (*at, "message_id")
        )
        return message_id, scope == "form"

    # ------------------------------------------------------------------ records

    def _records(
        self, table: Mapping[str, object], world: PathWorld, *, ignore: bool
    ) -> tuple[RecordSpec, ...]:
        given = table.get("record", [])
        if not isinstance(given, list):
            self._complain.add(("record",), "type [[record]], with two brackets")
            return ()
        if ignore and given:
            self._complain.add(("record",), "a form with ignore = true makes no record")
        if not ignore and not given:
            self._complain.add((), "the form makes no record; type [[record]] or ignore = true")
        if len(given) > RECORD_SPECS_MAX:
            self._complain.add(("record",), f"{len(given)} were found; type {RECORD_SPECS_MAX}")
        specs = (
            self._record(each, world, ("record", number))
            for number, each in enumerate(given[:RECORD_SPECS_MAX])
        )
        return tuple(spec for spec in specs if spec is not None)

    def _record(self, given: object, world: PathWorld, at: KeyPath) -> RecordSpec | None:
        complain = self._complain
        table = complain.table(given, at)
        if table is None:
            return None
        if "kind" not in table:
            complain.add(at, f"it has no kind; type one of {', '.join(FIELDS)}")
            return None
        kind = complain.choice(table["kind"], FIELDS, (*at, "kind"))
        if kind is None:
            return None
        each = self._each(table, world, at)
        inner = PathWorld(world.captures, world.fixed, len(each))
        where = None
        if "where" in table:
            where = self._fields.path(table["where"], inner, (*at, "where"))
        types = FIELDS[kind]
        complain.unknown_keys(table, ("kind", "each", "where", "values", *types), at)
        fields: dict[str, Field] = {}
        for name, field_type in types.items():
            if name in table:
                field = self._fields.field(name, table[name], field_type, inner, (*at, name))
                if field is not None:
                    fields[name] = field
        measured = self._values(table, kind, inner, at)
        self._refuse_halves(table, kind, at)
        return record_spec(kind, fields, each, where, measured)

    def _each(self, table: Mapping[str, object], world: PathWorld, at: KeyPath) -> tuple[Path, ...]:
        if "each" not in table:
            return ()
        at = (*at, "each")
        paths: list[Path] = []
        for text in self._complain.texts(table["each"], at, EACH_MAX):
            inner = PathWorld(world.captures, world.fixed, len(paths))
            path = self._fields.path(text, inner, at)
            if path is None:
                break
            if path.levels_up or text.startswith("$"):
                self._complain.add(
                    at, f"{text!r} was found; type a list that is in the item itself"
                )
            paths.append(path)
        return tuple(paths)

    def _values(
        self, table: Mapping[str, object], kind: str, world: PathWorld, at: KeyPath
    ) -> Mapping[str, Field]:
        complain = self._complain
        here = (*at, "values")
        if kind != "measurement":
            if "values" in table:
                complain.add(
                    here, 'it goes with kind = "measurement" alone; type a second [[record]]'
                )
            return {}
        if "values" not in table:
            for name in ("name", "value"):
                if name not in table:
                    complain.add(
                        at, f"it has no {name}; type name and value, or a table [record.values]"
                    )
            return {}
        for name in ("name", "value"):
            if name in table:
                complain.add((*at, name), "the names are in [record.values]; leave this out")
        given = complain.table(table["values"], here)
        if given is None:
            return {}
        if not 0 < len(given) <= VALUES_MAX:
            complain.add(here, f"{len(given)} values were found; type 1 to {VALUES_MAX}")
        fields = {}
        for name, source in list(given.items())[:VALUES_MAX]:
            field = self._fields.field(name, source, FieldType.MEASURED, world, (*here, name))
            if field is not None:
                fields[name] = self._with_unit(name, field, (*here, name))
        return fields

    def _with_unit(self, name: str, field: Field, at: KeyPath) -> Field:
        """Return the field with the unit that its name ends in."""
        if not _MEASURED_NAME.fullmatch(name):
            self._complain.add(at, "type a name of small letters, digits and _, at most 64")
        unit, given = unit_of(name), field.modifiers.unit
        if unit is not None and given is not None and unit != given:
            self._complain.add(
                at,
                f"the name says {unit}, and unit says {given}; type one name and unit that agree",
            )
        if (
            unit is None
            and given is None
            and not (name == COUNT_END or name.endswith(f"_{COUNT_END}"))
        ):
            self._complain.add(
                at,
                "it has no unit; end the name in one, such as _percent or _volts, or in _count, or"
                ' type unit = "…"',
            )
        return field_of(name, field.field_type, _with(field, unit or given))

    def _refuse_halves(self, table: Mapping[str, object], kind: str, at: KeyPath) -> None:
        complain = self._complain
        for name in REQUIRED[kind]:
            if name not in table:
                complain.add(at, f"a {kind} needs {name}; type {name} = and where it stands")
        for prefix in ("", "animal_"):
            halves = [f"{prefix}latitude", f"{prefix}longitude"]
            there = [name for name in halves if name in table]
            if len(there) == 1:
                (missing,) = set(halves) - set(there)
                complain.add((*at, there[0]), f"it needs {missing} beside it")
            for name in (f"{prefix}altitude_metres", f"{prefix}uncertainty_metres"):
                if name in table and not there:
                    complain.add((*at, name), f"it needs {halves[0]} and {halves[1]} beside it")
        ends = [name for name in ENDS if name in table]
        if len(ends) > 1:
            complain.add((*at, ends[1]), f"{ends[0]} says the end already; type one of the two")
        for name in ("offset_seconds", *ENDS):
            if name in table and "observed_at" not in table:
                complain.add((*at, name), "it needs observed_at, from which it counts")


def _captures(levels: tuple[str, ...]) -> frozenset[str]:
    return frozenset(match[1] for match in map(_CAPTURE.fullmatch, levels) if match)


def _with(field: Field, unit: str | None) -> Modifiers:
    return msgspec.structs.replace(field.modifiers, unit=unit)
