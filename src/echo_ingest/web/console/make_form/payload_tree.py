"""A payload as a tree of values, each with the steps of its path: what a person clicks on. Pure."""

import json
from collections.abc import Iterable

from msgspec import Struct

from echo_ingest.decode.forms.documents import COLUMNS, ROWS
from echo_ingest.decode.forms.paths import Step
from echo_ingest.decode.forms.suggest import NoSuggestion, document_of

VALUES_MAX = 1_000
"""How many values are shown of one payload."""
ITEMS_MAX = 20
"""How many items of a list are shown: the others are alike."""
VALUE_CHARACTERS_MAX = 60
KEY_CHARACTERS_MAX = 80
OPEN_LEVELS = 3


class TreeValue(Struct, frozen=True, kw_only=True):
    """A value of the payload."""

    key: str
    steps: str
    """Its path from the top of the document, as a list in JSON."""
    kind: str
    """What it is, in a word."""
    text: str
    """The value, or its beginning; of an object or a list, how much is in it."""
    inner: tuple["TreeValue", ...] = ()
    left_out: int = 0
    """How many more values are in it."""
    is_open: bool = False


def tree_of(payload: bytes) -> tuple[TreeValue, ...]:
    """Return the values of a payload; none where it is neither JSON nor a table."""
    try:
        _, document = document_of(payload)
    except NoSuggestion:
        return ()
    pairs = [
        (key, value) for key, value in document.items() if key != COLUMNS or ROWS not in document
    ]
    return _Tree().inner(pairs, ())[0]


class _Tree:
    """A tree while it grows."""

    def __init__(self) -> None:
        self.room = VALUES_MAX

    def inner(
        self, pairs: Iterable[tuple[Step, object]], steps: tuple[Step, ...]
    ) -> tuple[tuple[TreeValue, ...], int]:
        """Return the values at the end of a path, and how many of them are left out."""
        shown, left_out = [], 0
        for step, value in pairs:
            if self.room <= 0:
                left_out += 1
                continue
            self.room -= 1
            shown.append(self.value((*steps, step), value))
        return tuple(shown), left_out

    def value(self, steps: tuple[Step, ...], value: object) -> TreeValue:
        """Return a value, and what is in it."""
        key = str(steps[-1])
        shown: tuple[TreeValue, ...] = ()
        left_out = 0
        if isinstance(value, dict) and value:
            kind, text = "object", f"{len(value):,}"
            shown, left_out = self.inner(value.items(), steps)
        elif isinstance(value, list) and value:
            kind, text = "list", f"{len(value):,}"
            shown, left_out = self.inner(enumerate(value[:ITEMS_MAX]), steps)
            left_out += max(0, len(value) - ITEMS_MAX)
        else:
            kind, text = _kind(value), json.dumps(value, ensure_ascii=False)
        return TreeValue(
            key=_cut(key, KEY_CHARACTERS_MAX),
            steps=json.dumps(steps),
            kind=kind,
            text=_cut(text, VALUE_CHARACTERS_MAX),
            inner=shown,
            left_out=left_out,
            is_open=len(steps) < OPEN_LEVELS,
        )


def _kind(value: object) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "number"
        case None:
            return "nothing"
        case dict():
            return "object"
        case list():
            return "list"
    return "text"


def _cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else f"{text[:characters_max]}…"
