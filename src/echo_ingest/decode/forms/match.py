"""Find the form that a message is in: the first that fits, and at little cost if none does."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from echo_ingest.decode.errors import DecodeError
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
from echo_ingest.record import Message

ANY_LEVEL, ANY_LEVELS = "+", "#"
OPENING_BYTES = 4 * TEXT_CHARACTERS_MAX
_NOT_READ = object()


class Fit(Struct, frozen=True):
    """A message that is in a form."""

    form: Form
    captures: Mapping[str, str]
    document: Document


class Arrived:
    """A message while its form is looked for: what one form had to read, the next one has."""

    def __init__(self, message: Message) -> None:
        """Take the message; nothing is read before a form asks."""
        self.message = message
        self.levels = tuple(message.topic.split("/"))
        self._json: object = _NOT_READ
        self._documents: dict[tuple[str, str, tuple[str, ...]], Document | None] = {}

    @property
    def json(self) -> object:
        """The payload as JSON, or None."""
        if self._json is _NOT_READ:
            opening = self.message.payload.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
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
        known = (payload_type, match.separator, match.columns)
        if known not in self._documents:
            try:
                self._documents[known] = document(
                    payload_type, payload, match.separator, match.columns
                )
            except DecodeError:
                self._documents[known] = None
        return self._documents[known]


class Matcher:
    """All forms, in order, by what can be told of a message at once."""

    def __init__(self, forms: Sequence[Form]) -> None:
        """Arrange the forms by the first level of their topics, or else by a key they need."""
        self._forms = tuple(forms)
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
        """Return the first form that the message is in; None if it is in none."""
        if not self._forms:
            return None
        arrived = Arrived(message)
        for number in self._candidates(arrived):
            fit = fit_of(self._forms[number], arrived)
            if fit is not None:
                return fit
        return None

    def _candidates(self, arrived: Arrived) -> Iterable[int]:
        numbers = [*self._others, *self._by_level.get(arrived.levels[0], ())]
        read = arrived.json if self._by_key else None
        if isinstance(read, dict):
            by_key = self._by_key
            # Whichever are fewer: a message may have thousands of keys, and so may forms.
            names: Iterable[str] = read
            if len(read) > len(by_key):
                names = [name for name in by_key if name in read]
            for name in names:
                numbers += by_key.get(name, ())
        numbers.sort()
        return numbers


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
    if match.opens is not None and not _opens(match, message.payload):
        return None
    read = arrived.document(match)
    if read is None:
        return None
    if match.has:
        head: object = read
        if match.payload in TABLES:
            head = _first_row(read)
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


def _opens(match: Match, payload: bytes) -> bool:
    assert match.opens is not None
    text = payload[:OPENING_BYTES].decode(errors="replace").removeprefix("\ufeff")
    return match.opens.compiled.match(text[:TEXT_CHARACTERS_MAX]) is not None


def _first_row(read: Document) -> object:
    """Return the first row, or the names of the columns where there is none."""
    rows = read.get(ROWS)
    if isinstance(rows, list) and rows:
        return rows[0]
    names = read.get(COLUMNS)
    return dict.fromkeys(names) if isinstance(names, list) else None
