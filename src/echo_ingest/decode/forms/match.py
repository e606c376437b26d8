"""Find the form that a message is in: the first that fits, and at little cost if none does."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from echo_ingest.decode.errors import DecodeError
from echo_ingest.decode.fields import BOM
from echo_ingest.decode.forms.documents import (
    COLUMNS,
    ROWS,
    TABLES,
    Document,
    document,
    of_json,
)
from echo_ingest.decode.forms.form import Form, Match
from echo_ingest.decode.forms.paths import Given, Scope, has, is_true
from echo_ingest.decode.forms.patterns import TEXT_CHARACTERS_MAX, PatternBudget
from echo_ingest.record import Message, Rejected

ANY_LEVEL, ANY_LEVELS = "+", "#"
OPENING_BYTES = 4 * TEXT_CHARACTERS_MAX
TEXT_TABLES = ("csv", "tsv", "lines")
"""A JSON object is none of these."""
READ_BYTES_MAX = 16 * 1024
"""Of longer JSON, which may hold a clip, only the keys are read to find the form."""
SPACES = BOM + b" \t\r\n"
SHAPES_REMEMBERED = 1_024
SHAPE_KEYS_MAX = 64
SHAPE_CHARACTERS_MAX = 4_096
_NOT_READ = object()
_decode_keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Fit(Struct, frozen=True):
    """A message that is in a form."""

    form: Form
    captures: Mapping[str, str]
    document: Document
    unreadable: Rejected | None = None
    """Why the payload, which is of the kind that the form names, cannot be read."""


class Arrived:
    """A message while its form is looked for: what one form had to read, the next one has."""

    def __init__(self, message: Message) -> None:
        """Take the message; nothing is read before a form asks."""
        self.message = message
        self._json: object = _NOT_READ
        self._opening: str | None = None
        self._documents: dict[tuple[str, str, tuple[str, ...]], Document | None] = {}
        self._unreadable: dict[str, Rejected] = {}

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels of the topic."""
        return tuple(self.message.topic.split("/"))

    @property
    def json(self) -> object:
        """The payload as JSON, or None."""
        if self._json is _NOT_READ:
            opening = self.message.payload.lstrip(SPACES)[:1]
            try:
                is_json = opening in (b"{", b"[")
                self._json = of_json(self.message.payload) if is_json else None
            except DecodeError:
                self._json = None
        return self._json

    def document(self, match: Match) -> Document | None:
        """Return the payload as the form has it; None where it is of another type."""
        payload_type, payload = match.payload, self.message.payload
        if payload_type == "json":
            read = self.json
            return read if isinstance(read, dict) else None
        if payload_type == "list":
            read = self.json
            return {ROWS: read} if isinstance(read, list) else None
        if payload_type in ("ndjson", "csv", "tsv", "lines", "text") and not payload:
            return None
        if payload_type in TEXT_TABLES and isinstance(self.json, dict):
            return None
        known = (payload_type, match.separator, match.columns)
        if known not in self._documents:
            try:
                if match.reader is not None:
                    read_by = match.reader(payload) if payload else None
                else:
                    read_by = document(payload_type, payload, match.separator, match.columns)
                self._documents[known] = read_by
            except DecodeError as error:
                self._documents[known] = None
                if match.reader is not None:
                    self._unreadable[payload_type] = error.rejected
        return self._documents[known]

    @property
    def keys(self) -> tuple[str, ...] | None:
        """The keys of the payload, if it is an object of JSON: all that is read of a long one."""
        payload = self.message.payload
        if self._json is not _NOT_READ or len(payload) <= READ_BYTES_MAX:
            return tuple(self.json) if isinstance(self.json, dict) else None
        if payload.lstrip(SPACES)[:1] != b"{":
            return None
        try:
            return tuple(_decode_keys(payload.removeprefix(BOM)))
        except (msgspec.DecodeError, RecursionError):
            return None

    @property
    def opening(self) -> str:
        """The beginning of the payload as text."""
        if self._opening is None:
            opening = self.message.payload[:OPENING_BYTES].decode(errors="replace")
            self._opening = opening.removeprefix("\ufeff")[:TEXT_CHARACTERS_MAX]
        return self._opening

    def unreadable(self, match: Match) -> Rejected | None:
        """Return why a reader cannot read the payload, though it is of its kind."""
        return self._unreadable.get(match.payload)


class Matcher:
    """All forms, in order, by what can be told of a message at once."""

    def __init__(self, forms: Sequence[Form]) -> None:
        """Arrange the forms by the first level of their topics, or else by a key they need."""
        self._forms = tuple(forms)
        self._by_shape: dict[tuple[str, tuple[str, ...]], _Candidates] = {}
        """Topic and keys → what those alone tell: most messages are like others."""
        self._by_level: dict[str, list[int]] = {}
        self._by_key: dict[str, list[int]] = {}
        self._others: list[int] = []
        for number, form in enumerate(self._forms):
            match = form.match
            first_levels = {topic[0] for topic in match.topics}
            if first_levels and not any(map(_is_wild, first_levels)):
                for level in first_levels:
                    self._by_level.setdefault(level, []).append(number)
            elif match.payload == "json" and match.has and isinstance(match.has[0][0], str):
                self._by_key.setdefault(match.has[0][0], []).append(number)
            else:
                self._others.append(number)

    def fit(self, message: Message) -> Fit | None:
        """Return the first form that the message is in; None if it is in none.

        One that would have to read what cannot be read counts where no other fits.
        """
        if not self._forms:
            return None
        arrived = Arrived(message)
        unreadable: Fit | None = None
        candidates = self._candidates(arrived)
        for form in candidates.forms:
            fit = fit_of(form, arrived)
            if fit is not None and fit.unreadable is None:
                return fit
            unreadable = unreadable or fit
        if candidates.certain is not None and isinstance(arrived.json, dict):
            return Fit(candidates.certain, candidates.captures, arrived.json)
        return unreadable

    def tells(self, form: Form | None, message: Message) -> bool:
        """Return whether the topic and the keys alone tell that a message is in this form.

        With None, that it is in none of them.
        """
        if not self._forms:
            return form is None
        candidates = self._candidates(Arrived(message))
        return not candidates.forms and candidates.certain is form

    def _candidates(self, arrived: Arrived) -> "_Candidates":
        """Return the forms that a message may be in, by its topic and its keys."""
        keys = arrived.keys if self._by_key else None
        if keys is None or len(keys) > SHAPE_KEYS_MAX:
            return _Candidates(self._may_be_in(arrived, keys or ()))
        topic = arrived.message.topic
        candidates = self._by_shape.get((topic, keys))
        if candidates is None:
            candidates = _candidates_of(self._may_be_in(arrived, keys), arrived, keys)
            if len(self._by_shape) >= SHAPES_REMEMBERED:
                self._by_shape.clear()
            if sum(map(len, (topic, *keys))) <= SHAPE_CHARACTERS_MAX:
                self._by_shape[topic, keys] = candidates
        return candidates

    def _may_be_in(self, arrived: Arrived, keys: tuple[str, ...]) -> tuple[Form, ...]:
        numbers = [*self._others, *self._by_level.get(arrived.levels[0], ())]
        # A message may have thousands of keys.
        for name in self._by_key.keys() & set(keys):
            numbers += self._by_key[name]
        return tuple(self._forms[number] for number in sorted(numbers))


class _Candidates(Struct, frozen=True):
    """What the topic and the keys of a message tell of the form that it is in."""

    forms: tuple[Form, ...]
    """Those that it may be in, in order."""
    certain: Form | None = None
    """The one that it is in, if it is in none of those."""
    captures: Mapping[str, str] = {}
    """What the pattern of its topic captures."""


def _candidates_of(forms: Iterable[Form], arrived: Arrived, keys: tuple[str, ...]) -> _Candidates:
    """Leave out the forms that the topic or the keys of a JSON object rule out."""
    kept: list[Form] = []
    for form in forms:
        match = form.match
        captures: Mapping[str, str] | None = {}
        if match.topics:
            found = (captured(topic, arrived.levels) for topic in match.topics)
            captures = next((each for each in found if each is not None), None)
        is_json = match.payload == "json"
        if (
            captures is None
            or match.payload in TEXT_TABLES
            or (is_json and not all(steps[0] in keys for steps in match.has))
        ):
            continue
        is_shape_all = all(len(steps) == 1 for steps in match.has)
        if is_json and is_shape_all and match.opens is None and match.where is None:
            return _Candidates(tuple(kept), form, captures)
        kept.append(form)
    return _Candidates(tuple(kept))


def fit_of(form: Form, arrived: Arrived) -> Fit | None:
    """Return how a message is in a form; None if it is not."""
    match = form.match
    captures: Mapping[str, str] = {}
    if match.topics:
        found = (captured(topic, arrived.levels) for topic in match.topics)
        fitting = next((each for each in found if each is not None), None)
        if fitting is None:
            return None
        captures = fitting
    message = arrived.message
    if match.opens is not None and match.opens.compiled.match(arrived.opening) is None:
        return None
    read = arrived.document(match)
    if read is None:
        unreadable = arrived.unreadable(match)
        return None if unreadable is None else Fit(form, captures, {}, unreadable)
    if match.has:
        head: object = read
        if match.payload in TABLES:
            head = first_row(read)
        if not all(has(head, steps) for steps in match.has):
            return None
    if match.where is not None:
        given = Given(captures, message.node, message.received_at_ms, {}, PatternBudget())
        if not is_true(match.where.find(Scope(read, given))):
            return None
    return Fit(form, captures, read)


def captured(pattern: tuple[str, ...], levels: tuple[str, ...]) -> Mapping[str, str] | None:
    """Return what a topic's pattern captures; None where the topic is another one.

    `+` and `{name}` stand for one level, `#` for the rest, as in MQTT [MQTT-4.7.1].
    """
    rest = pattern[-1] == ANY_LEVELS
    fixed = pattern[:-1] if rest else pattern
    if len(levels) != len(fixed) and not (rest and len(levels) > len(fixed)):
        return None
    captures = {}
    for wanted, level in zip(fixed, levels, strict=False):
        if wanted.startswith("{"):
            if not level:
                return None
            captures[wanted[1:-1]] = level
        elif wanted not in (level, ANY_LEVEL):
            return None
    return captures


def _is_wild(level: str) -> bool:
    return level in (ANY_LEVEL, ANY_LEVELS) or level.startswith("{")


def first_row(read: Document) -> object:
    """Return the first row, or the names of the columns where there is none."""
    rows = read.get(ROWS)
    if isinstance(rows, list) and rows:
        return rows[0]
    names = read.get(COLUMNS)
    return dict.fromkeys(names) if isinstance(names, list) else None
