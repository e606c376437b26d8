"""Paths into a message: JMESPath, with plain ones compiled to a short walk.

A path takes time that is linear in what it looks at, whatever a device sends: only functions that
keep to that are allowed, and where a list is gone through, what lies above it is reached by plain
paths alone.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from msgspec import Struct

from echo_ingest.decode.forms.patterns import PatternBudget

PATH_CHARACTERS_MAX = 512
DEPTH_MAX = 64
"""How deep the parts of a path may be nested: the library goes down by calls of functions."""
CHOSEN_MAX = 16
"""How many values a path may put together: each of them may hold the whole message once more."""
PARENT = "parent"
GO_ON = frozenset(("subexpression", "projection", "filter_projection", "flatten"))
"""Parts of a path that go on from what their first part has found."""
LINEAR_FUNCTIONS = frozenset(
    (
        *("contains", "ends_with", "join", "keys", "length", "max", "max_by", "min", "min_by"),
        *("not_null", "reverse", "starts_with", "to_number", "to_string", "type", "values"),
    )
)
"""Those that take linear time and cannot compute: what values mean, the modifiers say."""

_NAME = r'(?:[A-Za-z_]\w*|"(?:[^"\\]|\\.)*")'
_INDEX = r"\[-?\d{1,6}\]"
_PLAIN = re.compile(rf"(?:@|{_NAME}(?:{_INDEX})*(?:\.{_NAME}(?:{_INDEX})*)*)", re.ASCII)
_STEP = re.compile(rf"({_NAME})|\[(-?\d+)\]", re.ASCII)
_GIVEN = re.compile(r"\$([a-z]+)(?:\.(.+))?")

Step = str | int


class Given(Struct, frozen=True):
    """What is known of a message besides its document."""

    topic: Mapping[str, str]
    """What the pattern of the topic captured, by name."""
    node: str | None
    received_at_ms: int
    fixed: Mapping[str, object]
    """The values of the bytes that `[layout]` describes."""
    budget: PatternBudget


class Scope(Struct, frozen=True):
    """What a path is applied to: the message, or an item in it."""

    value: object
    given: Given
    above: "Scope | None" = None
    key: Step | None = None
    """Under which key or index of the list it is."""
    each: str = ""
    """The path of the list that it is in."""

    @property
    def label(self) -> str:
        """The path of the item, for people: `calls[3]`."""
        if self.above is None:
            return ""
        path = ".".join(filter(None, (self.above.label, self.each)))
        return f"{path}[{self.key}]" if isinstance(self.key, int) else f"{path}.{self.key}"


class Path(Struct, frozen=True):
    """A compiled path."""

    text: str
    find: Callable[[Scope], object]
    """Return the value, or None."""
    levels_up: int = 0
    label: str | None = None
    """The path in the payload, seen from the scope that it belongs to; None if it is not plain."""


class PathError(ValueError):
    """A path cannot be read: what is wrong with it, and what to type instead."""


class PathWorld(Struct, frozen=True):
    """What paths of a form may refer to."""

    captures: Set[str] = frozenset()
    """The names that the pattern of every topic captures."""
    fixed: Set[str] = frozenset()
    """The names of the values of `[layout]`."""
    levels: int = 0
    """Within how many lists the path is."""


def compile_path(text: str, world: PathWorld) -> Path:
    """Compile a path; raise `PathError` where it is none."""
    if not text.strip():
        raise PathError("it is empty; type the name of a field")
    if len(text) > PATH_CHARACTERS_MAX:
        raise PathError(f"it has {len(text):,} characters; at most {PATH_CHARACTERS_MAX} are read")
    if text.startswith("$"):
        return _given(text, world)
    levels_up, rest = _above(text, world)
    if _PLAIN.fullmatch(rest):
        steps = () if rest == "@" else _steps(rest)
        label = "" if rest == "@" else rest
        return Path(text, _walker(steps, levels_up), levels_up, label)
    if levels_up:
        raise PathError(
            f"after {PARENT!r}, only a plain path can be read, such as {PARENT}.name; this one"
            " would go through the whole message for each item"
        )
    return Path(text, _searcher(text, world))


def compile_plain(text: str) -> tuple[Step, ...]:
    """Return the steps of a plain path; raise `PathError` for any other."""
    if not _PLAIN.fullmatch(text) or text == "@":
        raise PathError(f"{text!r} is no plain path; type names with dots between, such as a.b")
    return _steps(text)


def walk(value: object, steps: tuple[Step, ...]) -> object:
    """Go down to a value; None where something on the way is not there."""
    for step in steps:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        elif isinstance(value, list) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    return value


def has(value: object, steps: tuple[Step, ...]) -> bool:
    """Return whether there is something at the end of the path, be it null."""
    *before, last = steps
    inner = walk(value, tuple(before))
    if isinstance(last, str):
        return isinstance(inner, dict) and last in inner
    return isinstance(inner, list) and -len(inner) <= last < len(inner)


def is_true(value: object) -> bool:
    """Return whether JMESPath takes a value for true: 0 is, and what is empty is not."""
    return value is not None and value is not False and value not in ("", [], {})


def _steps(text: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    for name, index in _STEP.findall(text):
        if not name:
            steps.append(int(index))
        elif name.startswith('"'):
            try:
                steps.append(str(json.loads(name)))
            except ValueError:
                raise PathError(f"{name} is no text as JSON writes it") from None
        else:
            steps.append(name)
    return tuple(steps)


def _walker(steps: tuple[Step, ...], levels_up: int) -> Callable[[Scope], object]:
    if levels_up == 0 and len(steps) == 1 and isinstance(key := steps[0], str):

        def find_key(scope: Scope) -> object:
            value = scope.value
            return value.get(key) if isinstance(value, dict) else None

        return find_key

    def find(scope: Scope) -> object:
        for _ in range(levels_up):
            assert scope.above is not None, "the form was read with so many levels"
            scope = scope.above
        return walk(scope.value, steps)

    return find


def _above(text: str, world: PathWorld) -> tuple[int, str]:
    """Return how many levels a path goes up, and what is left of it."""
    if not world.levels:
        return 0, text
    levels_up, rest = 0, text
    while rest == PARENT or rest.startswith(f"{PARENT}."):
        levels_up, rest = levels_up + 1, rest[len(PARENT) + 1 :] or "@"
    if levels_up > world.levels:
        raise PathError(f"it goes up {levels_up} levels, but is within {world.levels}")
    return levels_up, rest


def _given(text: str, world: PathWorld) -> Path:
    """Compile `$topic.name`, `$bytes.name`, `$node`, `$received`, `$key` or `$index`."""
    match = _GIVEN.fullmatch(text)
    word: str = match[1] if match else ""
    name: str | None = match[2] if match else None
    if word == "topic" and name is not None and name in world.captures:
        return Path(text, lambda scope: scope.given.topic.get(name))
    if word == "bytes" and name is not None and name in world.fixed:
        return Path(text, lambda scope: scope.given.fixed.get(name))
    if word in ("topic", "bytes") and name is not None:
        known = world.captures if word == "topic" else world.fixed
        where = "the pattern of each topic" if word == "topic" else "[layout]"
        names = ", ".join(sorted(known)) or "nothing"
        raise PathError(f"{where} names {names}, and not {name!r}")
    if name is None and (find := _WORDS.get(word)) is not None:
        if word in ("key", "index") and not world.levels:
            raise PathError(f"${word} is known only within `each`")
        return Path(text, find)
    raise PathError(
        f"{text!r} is not known; type $topic.NAME, $bytes.NAME, $node, $received, $key or $index"
    )


_WORDS: dict[str, Callable[[Scope], object]] = {
    "node": lambda scope: scope.given.node,
    "received": lambda scope: scope.given.received_at_ms,
    "key": lambda scope: scope.key,
    "index": lambda scope: scope.key,
}


def _searcher(text: str, world: PathWorld) -> Callable[[Scope], object]:
    try:
        compiled = jmespath.compile(text)
    except (JMESPathError, ValueError, RecursionError) as error:
        first = str(error).partition("\n")[0][:120]
        raise PathError(
            f"{text!r} is not JMESPath ({first}); a name with other signs than letters, digits and"
            " _ needs double quotes, as in '\"Start (s)\"'"
        ) from None
    chosen = 0
    for depth, node in _nodes(compiled.parsed):
        if depth > DEPTH_MAX:
            raise PathError(f"its parts are nested too deeply; at most {DEPTH_MAX} can be read")
        match node["type"]:
            case "function_expression" if node["value"] not in LINEAR_FUNCTIONS:
                raise PathError(
                    f"the function {node['value']} cannot be used; there are"
                    f" {', '.join(sorted(LINEAR_FUNCTIONS))}"
                )
            case "multi_select_list" | "multi_select_dict":
                chosen += len(node["children"])
            case "field" if world.levels and node["value"] == PARENT:
                raise PathError(
                    f"a path that reaches up to {PARENT!r} must be plain, such as {PARENT}.name"
                )
            case kind if kind in GO_ON and node["children"][0]["type"] == "not_expression":
                raise PathError("! stands for the first name alone; type !(a.b) instead of !a.b")
            case "slice" if 0 in node["children"][2:]:
                raise PathError("the step of a slice cannot be 0")
    if chosen > CHOSEN_MAX:
        raise PathError(f"it chooses {chosen} values; at most {CHOSEN_MAX} can be chosen")

    def find(scope: Scope) -> object:
        try:
            return compiled.search(scope.value)
        except (JMESPathError, ValueError, TypeError, OverflowError):
            return None  # a function was given a value of another type than it takes

    return find


def _nodes(top: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each part of a path with how deep it is nested."""
    waiting = [(1, top)]
    while waiting:
        depth, node = waiting.pop()
        yield depth, node
        waiting += [(depth + 1, child) for child in node["children"] if isinstance(child, dict)]
