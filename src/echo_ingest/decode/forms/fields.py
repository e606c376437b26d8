"""One field of a form: where its value comes from, and what the modifiers make of it.

The order is always the same: `from` and `join` find a value; `unknown`, `pattern`, `split` and
`words` read it; `default` takes its place where there is none. What is left is read as the type of
the field, with the modifiers of that type.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from functools import lru_cache, partial
from math import isfinite, isnan
from typing import Any

from msgspec import Struct

from echo_ingest.decode import times, values
from echo_ingest.decode.audio import REFERENCE_CHARACTERS_MAX
from echo_ingest.decode.errors import DecodeError, digits, printable, quoted
from echo_ingest.decode.forms.paths import Path, Scope
from echo_ingest.decode.forms.patterns import TextPattern, search
from echo_ingest.decode.forms.zones import zone_of
from echo_ingest.reasons import ReasonCode

TEXT_CHARACTERS_MAX = 4_096
"""A longer text is no value, unless a pattern finds one near its beginning, or it is a clip."""
NUMBER_CHARACTERS_MAX = 64
UNKNOWN_MAX = 256
LABEL_CHARACTERS_MAX = 50
SIGNIFICANT_DIGITS = 15
SHARES_REMEMBERED = 16_384
SITE = "site"
ZONE_CHARACTERS_MAX = 64

_TYPES = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
_CONVERSION = re.compile(r"%\d*([dxXs])")
_NUMERAL = re.compile(r"[+-]?\d+(\.\d*)?", re.ASCII)


_name = lru_cache(values.TEXTS_REMEMBERED)(values.text)


@lru_cache(SHARES_REMEMBERED)
def _share(scale: str, number: float) -> float | None:
    return values.share_of(*SCALES[scale], number)


def _as_it_is(text: str, label: str) -> str:
    return text


@lru_cache
def _holds_text(form: str) -> bool:
    """Return whether the one value in a format is a text, as in `no. %s`, and no number."""
    conversion = _CONVERSION.search(form.replace("%%", ""))
    return conversion is not None and conversion[1] == "s"


class FieldType(StrEnum):
    """How the value of a field is read."""

    TEXT = "text"
    EXACT = "exact"
    SPECIES = "species"
    NUMBER = "number"
    CONFIDENCE = "confidence"
    TIME = "time"
    TRUTH = "truth"
    CLIP = "clip"
    MEASURED = "measured"


FINDING = frozenset(("from", "value", "join", "unknown", "pattern", "split", "take", "words"))
MODIFIERS: dict[FieldType, frozenset[str]] = {
    FieldType.TEXT: FINDING | {"default", "format"},
    FieldType.EXACT: FINDING | {"default", "format"},
    FieldType.SPECIES: FINDING | {"default", "format"},
    FieldType.NUMBER: FINDING | {"default", "times", "plus"},
    FieldType.CONFIDENCE: FINDING | {"scale"},
    FieldType.TIME: FINDING - {"value", "words"} | {"zone", "zone_from", "unit", "format"},
    FieldType.TRUTH: FINDING | {"default"},
    FieldType.CLIP: frozenset(("from",)),
    FieldType.MEASURED: FINDING | {"default", "times", "plus", "unit"},
}
"""Which modifiers go with which type of field."""
SCALES = {
    "fraction": (1, values.FRACTION_MAX),
    "percent": (100, values.PERCENT_MAX),
    "byte": (255, values.BYTE_MAX),
}
"""Scale of a confidence → what stands for certain, and the most that is still taken for it."""


class Modifiers(Struct, frozen=True):
    """What a form says about a field, checked."""

    paths: tuple[Path, ...] = ()
    value: object = None
    join: str | None = None
    unknown: frozenset[str] = frozenset()
    pattern: TextPattern | None = None
    split: str | None = None
    take: int = 0
    words: Mapping[str, object] | None = None
    default: object = None
    format: str | None = None
    times: float = 1
    plus: float = 0
    scale: str = "fraction"
    unit: str | None = None
    zone: str | None = None
    zone_from: Path | None = None

    @property
    def reads(self) -> bool:
        """Whether a value is more than what a path finds."""
        return bool(self.unknown or self.pattern or self.split) or self.words is not None


class Field(Struct, frozen=True):
    """A field of a record; what reads it is made once, when the form is read."""

    name: str
    field_type: FieldType
    modifiers: Modifiers
    label: str
    """Where the value stands in the payload, or what the form calls it."""
    find: Callable[[Scope], object]
    """Return the value as the modifiers of every type leave it, or None."""

    @property
    def read(self) -> Callable[[Scope], Any]:
        """What reads the value as its type has it; to be asked for once, and kept."""
        match self.field_type:
            case FieldType.NUMBER | FieldType.MEASURED:
                return self.number
            case FieldType.CONFIDENCE:
                return self.share
            case FieldType.TRUTH:
                return self.truth
            case FieldType.TIME:
                return self.written
            case FieldType.CLIP:
                return self.base64
            case FieldType.TEXT if self.modifiers.format is None:
                return partial(_plain_text, self, _name)
            case FieldType.EXACT if self.modifiers.format is None:
                return partial(_plain_text, self, values.exact_text)
            case FieldType.SPECIES if self.modifiers.format is None:
                return partial(_plain_text, self, _as_it_is)
        return self.text

    def in_payload(self, scope: Scope) -> str:
        """Return the label as a path from the top of the payload."""
        if not self.modifiers.paths or self.modifiers.paths[0].label is None:
            return self.name
        path = self.modifiers.paths[0]
        for _ in range(path.levels_up):
            assert scope.above is not None, "the form was read with so many levels"
            scope = scope.above
        joined = ".".join(filter(None, (scope.label, path.label)))
        return joined if 0 < len(joined) <= LABEL_CHARACTERS_MAX else self.name

    def text(self, scope: Scope) -> str | None:
        """Return the value as text; None where there is none."""
        value = self.find(scope)
        if value is None:
            return None
        if self.modifiers.format is not None:
            text = self._formatted(value)
        else:
            text = short_text(value, self.label)
        match self.field_type:
            case FieldType.TEXT:
                is_short = len(text) <= values.TEXT_CHARACTERS_MAX
                return (_name if is_short else values.text)(text, self.label)
            case FieldType.EXACT if self.name == "clip_reference":
                return values.exact_text(text, self.label, REFERENCE_CHARACTERS_MAX)
            case FieldType.EXACT:
                return values.exact_text(text, self.label)
        return text

    def number(self, scope: Scope) -> float | None:
        """Return the value as a number; None where there is none."""
        value = self.find(scope)
        if value is None:
            return None
        number = value if type(value) is float else as_number(value, self.label)
        modifiers = self.modifiers
        if modifiers.times != 1 or modifiers.plus:
            # 385000000 × 1e-7 is 38.5, and not 38.49999999999999.
            number = float(f"{number * modifiers.times + modifiers.plus:.{SIGNIFICANT_DIGITS}g}")
        if not isfinite(number):  # `to_number` reads "nan" and "inf" too
            detail = "it is not a number" if isnan(number) else "the number is too large"
            raise DecodeError(ReasonCode.IMPOSSIBLE_VALUE, detail, self.label)
        return number

    def share(self, scope: Scope) -> float | None:
        """Return a confidence as a fraction; None where there is none."""
        number = self.number(scope)
        if number is None:
            return None
        share = _share(self.modifiers.scale, number)
        if share is None:
            whole, _ = SCALES[self.modifiers.scale]
            raise DecodeError(
                ReasonCode.CONFIDENCE_OFF_SCALE,
                f'{digits(number)} is not from 0 to {whole}, but the form says scale = "'
                f'{self.modifiers.scale}"',
                self.label,
            )
        return share

    def truth(self, scope: Scope) -> bool | None:
        """Return whether something is so; None where nothing says."""
        match self.find(scope):
            case None:
                return None
            case bool() as value:
                return value
            case "true" | "false" as word:
                return word == "true"
            case other:
                raise _wrong_type("true or false", other, self.label)

    def base64(self, scope: Scope) -> str | None:
        """Return the text of a clip; None where there is none."""
        value = self.find(scope)
        if value is None or isinstance(value, str):
            return value
        raise _wrong_type("audio as base64", value, self.label)

    def written(self, scope: Scope) -> tuple[times.TimeReading, ...]:
        """Return the times that are there, in order of trust."""
        if len(self.modifiers.paths) == 1:
            value = self.find(scope)
            return () if value is None else (self._time(value, self.label, scope),)
        return tuple(self._time(value, path, scope) for value, path in self._all(scope))

    def _all(self, scope: Scope) -> list[tuple[object, str]]:
        """Return every value that is there, with its label: of a time, each may be the true one."""
        modifiers = self.modifiers
        if modifiers.join is not None:
            value = self.find(scope)
            return [] if value is None else [(value, self.label)]
        found = []
        for path in modifiers.paths:
            value = as_told(modifiers, path.find(scope), self.label, scope)
            if value is not None:
                found.append((value, path.label or self.label))
        return found

    def _formatted(self, value: object) -> str:
        form = self.modifiers.format
        assert form is not None
        if _holds_text(form):
            return form % short_text(value, self.label)
        # The number may be an id with more digits than a float has.
        number = as_number(value, self.label, exact=True)
        if isinstance(number, float) and not number.is_integer():
            raise _wrong_type("a whole number", value, self.label)
        return form % int(number)

    def _time(self, value: object, label: str, scope: Scope) -> times.TimeReading:
        reading = self._reading(value, label)
        if reading.moment.tzinfo is not None:
            return reading
        zone = self._zone(scope)
        if zone is None:
            raise DecodeError(
                ReasonCode.ZONE_MISSING,
                f"{quoted(value)} names no zone, and neither does the form",
                label,
            )
        if zone == SITE:
            return reading
        known = zone_of(zone) if len(zone) <= ZONE_CHARACTERS_MAX else None
        if known is None:
            raise DecodeError(ReasonCode.IMPOSSIBLE_VALUE, f"{quoted(zone)} is no zone", label)
        moment = reading.moment.replace(tzinfo=known, fold=0)
        return times.TimeReading(moment, reading.words)

    def _zone(self, scope: Scope) -> str | None:
        modifiers = self.modifiers
        if modifiers.zone_from is not None:
            named = modifiers.zone_from.find(scope)
            if named is not None and named != "":
                return short_text(named, modifiers.zone_from.text)
        return modifiers.zone

    def _reading(self, value: object, label: str) -> times.TimeReading:
        unit, form = self.modifiers.unit, self.modifiers.format
        if unit is not None and _is_count(value):
            return times.read_count(as_number(value, label, exact=True), unit, label)
        if isinstance(value, bool | dict | list):
            raise _wrong_type("a time", value, label)
        if form is not None:
            text = short_text(value, label).strip()
            if len(text) <= times.WORDS_CHARACTERS_MAX:
                try:
                    return times.TimeReading(datetime.strptime(text, form), text)
                except ValueError:
                    pass
            raise DecodeError(
                ReasonCode.UNREADABLE_TIME, f"{quoted(text)} is not of the form {form}", label
            )
        assert isinstance(value, str | int | float)
        return times.read(value, label)


def _plain_text(field: Field, read: Callable[[str, str], str], scope: Scope) -> str | None:
    """Read what nearly every text is; `Field.text` reads the others."""
    value = field.find(scope)
    if type(value) is str and len(value) <= values.TEXT_CHARACTERS_MAX:
        return read(value, field.label)
    return None if value is None else field.text(scope)


def field_of(name: str, field_type: FieldType, modifiers: Modifiers) -> Field:
    """Make a field with what finds its value."""
    label = modifiers.paths[0].label if modifiers.paths else None
    label = label if label and len(label) <= LABEL_CHARACTERS_MAX else name
    return Field(name, field_type, modifiers, label, _finder(modifiers, label))


def _finder(modifiers: Modifiers, label: str) -> Callable[[Scope], object]:
    if modifiers.value is not None:
        return lambda scope: modifiers.value
    if modifiers.join is not None:
        return partial(_joined, modifiers, label)
    if len(modifiers.paths) != 1 or modifiers.default is not None or modifiers.reads:
        return partial(_first, modifiers, label)
    find_path = modifiers.paths[0].find

    def find(scope: Scope) -> object:
        value = find_path(scope)
        return None if value == "" else value

    return find


def _joined(modifiers: Modifiers, label: str, scope: Scope) -> object:
    assert modifiers.join is not None
    parts: list[str] = []
    for path in modifiers.paths:
        part: Any = path.find(scope)
        if part is None or part == "":
            return modifiers.default
        is_plain = type(part) is str and len(part) <= TEXT_CHARACTERS_MAX
        parts.append(part if is_plain else short_text(part, label))
    value = modifiers.join.join(parts)
    if modifiers.reads:
        told = as_told(modifiers, value, label, scope)
        return modifiers.default if told is None else told
    return value


def _first(modifiers: Modifiers, label: str, scope: Scope) -> object:
    for path in modifiers.paths:
        value = as_told(modifiers, path.find(scope), label, scope)
        if value is not None:
            return value
    return modifiers.default


def as_told(modifiers: Modifiers, value: object, label: str, scope: Scope) -> object:
    """Return what the modifiers of every type make of a value as it came; None for nothing."""
    if value is None or value == "":
        return None
    if not modifiers.reads:
        return value
    if modifiers.unknown and _is_unknown(value, modifiers.unknown):
        return None
    if modifiers.pattern is not None:
        try:
            value = search(modifiers.pattern, as_text(value, label), scope.given.budget)
        except OverflowError:
            raise DecodeError(
                ReasonCode.TOO_COMPLEX, "there is too much text for the patterns of the form"
            ) from None
    if value is not None and modifiers.split is not None:
        parts = short_text(value, label).split(modifiers.split)
        is_there = -len(parts) <= modifiers.take < len(parts)
        value = parts[modifiers.take].strip() if is_there else None
    if value is None or value == "":
        return None
    if modifiers.unknown and _is_unknown(value, modifiers.unknown):
        return None
    if modifiers.words is None:
        return value
    word = as_text(value, label)
    if word not in modifiers.words and modifiers.default is None:
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_VALUE,
            f"{quoted(word)} is none of the words that the form knows",
            label,
        )
    return modifiers.words.get(word)


def as_text(value: object, label: str) -> str:
    """Return what a device wrote as text; raise `DecodeError` for an object or a list."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return digits(value)
    raise _wrong_type("text or a number", value, label)


def as_number(value: object, label: str, *, exact: bool = False) -> float:
    """Return what a device wrote as a number; raise `DecodeError` where it is none.

    `exact` keeps a whole number whole.
    """
    if isinstance(value, str):
        is_short = len(value) <= NUMBER_CHARACTERS_MAX
        number = values.decimal(value, is_degrees=False) if is_short else None
        if number is None:
            raise DecodeError(
                ReasonCode.WRONG_TYPE, f"a number was expected, not {quoted(value)}", label
            )
        return int(value) if exact and value.strip().isdecimal() else number
    if isinstance(value, int | float) and not isinstance(value, bool):
        if exact and isinstance(value, int):
            return value
        try:
            return float(value)
        except OverflowError:
            raise DecodeError(
                ReasonCode.IMPOSSIBLE_VALUE, "the number is too large", label
            ) from None
    raise _wrong_type("a number", value, label)


def short_text(value: object, label: str) -> str:
    """Return what a device wrote as text; raise `DecodeError` where it is too long for a value.

    Where each of many items reads the same text, the time must not depend on its length.
    """
    text = as_text(value, label)
    if len(text) > TEXT_CHARACTERS_MAX:
        raise DecodeError(
            ReasonCode.IMPOSSIBLE_VALUE,
            f"the text has {len(text):,} characters; at most {TEXT_CHARACTERS_MAX:,} can be read",
            label,
        )
    return text


def unknown_key(value: object) -> str:
    """Return a value as it is compared with those that mean that nothing is known."""
    if isinstance(value, str):
        bare = value.strip()
        return digits(float(bare)) if len(bare) < 20 and _NUMERAL.fullmatch(bare) else bare
    return as_text(value, "unknown")


def _is_unknown(value: object, unknown: frozenset[str]) -> bool:
    if isinstance(value, dict | list) or (isinstance(value, str) and len(value) > UNKNOWN_MAX):
        return False
    return unknown_key(value) in unknown


def _is_count(value: object) -> bool:
    if isinstance(value, str):
        is_short = len(value) <= times.WORDS_CHARACTERS_MAX
        return is_short and _NUMERAL.fullmatch(value.strip()) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong_type(expected: str, value: object, label: str) -> DecodeError:
    found = _TYPES.get(type(value)) or ("an object" if isinstance(value, dict) else None)
    found = found or ("a list" if isinstance(value, list) else quoted(printable(str(value)[:40])))
    return DecodeError(ReasonCode.WRONG_TYPE, f"{expected} was expected, not {found}", label)
