"""Read one field of a form from TOML: which modifiers it has, and whether they fit its type."""

import re
from collections.abc import Mapping
from datetime import datetime

import msgspec

from echo_ingest.decode.forms.complaints import Complaints, shown
from echo_ingest.decode.forms.fields import (
    MODIFIERS,
    SCALES,
    SITE,
    Field,
    FieldType,
    Modifiers,
    field_of,
    unknown_key,
)
from echo_ingest.decode.forms.paths import Path, PathError, PathWorld, compile_path
from echo_ingest.decode.forms.patterns import PatternError, TextPattern, compile_pattern
from echo_ingest.decode.forms.zones import zone_of
from echo_ingest.decode.times import UNITS
from echo_ingest.key_lines import KeyPath

SOURCES_MAX = 8
WORDS_MAX = 1_000
UNKNOWN_MAX = 100
FORMAT_CHARACTERS_MAX = 64
UNIT_CHARACTERS_MAX = 32
_TEXT_FORMAT = re.compile(r"(?:[^%]|%%)*%0?\d{0,2}[dxXs](?:[^%]|%%)*")
_DIRECTIVE = re.compile(r"%(.)")
_DIRECTIVES = frozenset("YymdHIMSfjpbBz%")
_PROBE = datetime(2026, 9, 14, 5, 45, 12)
_HOLDS_TEXT = frozenset((FieldType.TEXT, FieldType.EXACT, FieldType.SPECIES))
_HOLDS_NUMBER = frozenset((FieldType.NUMBER, FieldType.CONFIDENCE, FieldType.MEASURED))


class FieldReader:
    """Reads the fields of one form; what is wrong goes to the complaints."""

    def __init__(self, complaints: Complaints) -> None:
        """Take the complaints of the form."""
        self._complain = complaints

    def field(
        self, name: str, given: object, field_type: FieldType, world: PathWorld, at: KeyPath
    ) -> Field | None:
        """Read a field, given as a path, as several, or as a table with modifiers."""
        table = given if isinstance(given, dict) else {"from": given}
        if not isinstance(given, str | list | dict):
            self._complain.add(
                at,
                f"{shown(given)} was found; type a path in quotes, or {{value = {shown(given)}}}",
            )
            return None
        known = MODIFIERS[field_type]
        for key in table:
            if key not in known and any(key in others for others in MODIFIERS.values()):
                self._complain.add(
                    at, f"{key} does not go with this field; there are {', '.join(sorted(known))}"
                )
        mods = {key: value for key, value in table.items() if key in known}
        every = frozenset().union(*MODIFIERS.values())
        self._complain.unknown_keys(table, every, at)
        if ("from" in mods) == ("value" in mods):
            which = "value" if "value" in known else "none"
            words = "type either from (a path) or value (what it always is)"
            self._complain.add(at, words if which == "value" else "type from (a path)")
            return None
        modifiers = self._modifiers(mods, field_type, world, at)
        return field_of(name, field_type, modifiers)

    def path(self, text: object, world: PathWorld, at: KeyPath) -> Path | None:
        """Read a path."""
        words = self._complain.text(text, at, longest=1_024)
        if words is None:
            return None
        try:
            return compile_path(words, world)
        except PathError as error:
            self._complain.add(at, str(error))
            return None

    def pattern(
        self, text: object, at: KeyPath, *, at_beginning: bool = False
    ) -> TextPattern | None:
        """Read a regular expression; `at_beginning` as in `compile_pattern`."""
        words = self._complain.text(text, at, longest=1_024)
        if words is None:
            return None
        try:
            return compile_pattern(words, at_beginning=at_beginning)
        except PatternError as error:
            self._complain.add(at, str(error))
            return None

    def _modifiers(
        self, mods: Mapping[str, object], field_type: FieldType, world: PathWorld, at: KeyPath
    ) -> Modifiers:
        complain = self._complain
        changes: dict[str, object] = {}
        if "from" in mods:
            texts = complain.texts(mods["from"], at, SOURCES_MAX)
            paths = [self.path(text, world, at) for text in texts]
            changes["paths"] = tuple(path for path in paths if path is not None)
            if field_type == FieldType.CLIP and any(p and p.levels_up for p in paths):
                complain.add(
                    at, "the audio of all items is the same; leave out each, or its parent"
                )
        for key in ("value", "default"):
            if key in mods:
                changes[key] = self._constant(mods[key], field_type, (*at, key))
        if "join" in mods:
            joiner = mods["join"]
            if isinstance(joiner, str) and len(joiner) <= 16:
                changes["join"] = joiner
            else:
                complain.add((*at, "join"), f"{shown(joiner)} was found; type a short text")
        self._splitting(mods, changes, at)
        if "pattern" in mods:
            changes["pattern"] = self.pattern(mods["pattern"], (*at, "pattern"))
        if "unknown" in mods:
            changes["unknown"] = self._unknown(mods["unknown"], (*at, "unknown"))
        if "words" in mods:
            changes["words"] = self._words(mods["words"], field_type, (*at, "words"))
        for key in ("times", "plus"):
            if key in mods:
                number = complain.number(mods[key], (*at, key))
                changes[key] = 0.0 if number is None else number
                if key == "times" and number == 0:
                    complain.add((*at, key), "0 was found; every value would be 0")
        if field_type == FieldType.CONFIDENCE:
            changes["scale"] = self._scale(mods, at)
        if field_type == FieldType.TIME:
            self._time(mods, changes, world, at)
        elif "format" in mods:
            changes["format"] = self._text_format(mods["format"], (*at, "format"))
        if field_type == FieldType.MEASURED and "unit" in mods:
            changes["unit"] = complain.text(
                mods["unit"], (*at, "unit"), longest=UNIT_CHARACTERS_MAX
            )
        return msgspec.structs.replace(Modifiers(), **changes)

    def _splitting(
        self, mods: Mapping[str, object], changes: dict[str, object], at: KeyPath
    ) -> None:
        if "split" in mods:
            changes["split"] = self._complain.text(mods["split"], (*at, "split"), longest=16)
        if "take" in mods:
            take = mods["take"]
            if "split" not in mods:
                self._complain.add((*at, "take"), "it needs split, which says what to take from")
            elif isinstance(take, bool) or not isinstance(take, int) or abs(take) > 1_000:
                self._complain.add(
                    (*at, "take"),
                    f"{shown(take)} was found; type 0 for the first part, -1 for the last",
                )
            else:
                changes["take"] = take

    def _constant(self, value: object, field_type: FieldType, at: KeyPath) -> object:
        if field_type in _HOLDS_TEXT:
            return self._complain.text(value, at)
        if field_type in _HOLDS_NUMBER:
            return self._complain.number(value, at)
        if isinstance(value, bool):
            return value
        self._complain.add(at, f"{shown(value)} was found; type true or false")
        return None

    def _unknown(self, given: object, at: KeyPath) -> frozenset[str]:
        listed = given if isinstance(given, list) else [given]
        if len(listed) > UNKNOWN_MAX or not all(
            isinstance(each, str | int | float) and abs_is_small(each) for each in listed
        ):
            self._complain.add(
                at, f"{shown(given)} was found; type a list of texts or numbers, such as [0, -1]"
            )
            return frozenset()
        return frozenset(unknown_key(each) for each in listed)

    def _words(self, given: object, field_type: FieldType, at: KeyPath) -> Mapping[str, object]:
        table = self._complain.table(given, at)
        if table is None:
            return {}
        if not 0 < len(table) <= WORDS_MAX:
            self._complain.add(at, f"{len(table):,} words were found; type 1 to {WORDS_MAX:,}")
        return {word: self._constant(meaning, field_type, at) for word, meaning in table.items()}

    def _scale(self, mods: Mapping[str, object], at: KeyPath) -> str:
        if "scale" not in mods:
            self._complain.add(
                at,
                'it needs its scale: type scale = "fraction" (0 to 1), "percent" (0 to 100) or'
                ' "byte" (0 to 255)',
            )
            return "fraction"
        return self._complain.choice(mods["scale"], SCALES, (*at, "scale")) or "fraction"

    def _text_format(self, given: object, at: KeyPath) -> str | None:
        text = self._complain.text(given, at, longest=FORMAT_CHARACTERS_MAX)
        if text is not None and not _TEXT_FORMAT.fullmatch(text):
            self._complain.add(
                at, f"{text!r} was found; type a text with one of %s, %d, %x, such as !%08x"
            )
            return None
        return text

    # ------------------------------------------------------------------ times

    def _time(
        self,
        mods: Mapping[str, object],
        changes: dict[str, object],
        world: PathWorld,
        at: KeyPath,
    ) -> None:
        if "zone" in mods:
            zone = self._complain.text(mods["zone"], (*at, "zone"), longest=64)
            if zone is not None and zone != SITE and zone_of(zone) is None:
                self._complain.add(
                    (*at, "zone"),
                    f"{zone!r} is no zone; type site, UTC, a name such as Australia/Melbourne, or"
                    " an offset such as +10:00",
                )
            changes["zone"] = zone
        if "zone_from" in mods:
            changes["zone_from"] = self.path(mods["zone_from"], world, (*at, "zone_from"))
        if "unit" in mods:
            changes["unit"] = self._complain.choice(mods["unit"], UNITS, (*at, "unit"))
        if "format" in mods:
            changes["format"] = self._time_format(mods["format"], (*at, "format"))
            if "unit" in mods:
                self._complain.add(at, "unit is for numbers, and format for text; type one of them")

    def _time_format(self, given: object, at: KeyPath) -> str | None:
        text = self._complain.text(given, at, longest=FORMAT_CHARACTERS_MAX)
        if text is None:
            return None
        directives = _DIRECTIVE.findall(text)
        unknown = [each for each in directives if each not in _DIRECTIVES]
        twice = [each for each in directives if directives.count(each) > 1 and each != "%"]
        if unknown or twice or text.count("%") != len(directives) + directives.count("%"):
            self._complain.add(
                at,
                f"{text!r} was found; type each of %Y %m %d %H %M %S once, such as %Y%m%d_%H%M%S",
            )
            return None
        try:
            datetime.strptime(_PROBE.strftime(text), text)
        except (ValueError, re.error) as error:
            self._complain.add(at, f"{text!r} is no format of a time: {error}")
            return None
        known = set(directives)
        if not {"Y", "y"} & known or not {"d", "j"} & known:
            self._complain.add(at, f"{text!r} has no year or no day")
            return None
        if "j" not in known and not {"m", "b", "B"} & known:
            self._complain.add(at, f"{text!r} has no month; type %m beside %d")
            return None
        if "I" in known and "p" not in known:
            self._complain.add(at, f"{text!r} has half a day; type %p beside %I, or %H")
            return None
        return text


def abs_is_small(value: object) -> bool:
    """Return whether a number is small enough to be compared, and any text."""
    return isinstance(value, str) or (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    )
