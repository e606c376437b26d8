"""Regular expressions of forms: only those that cannot take long, on short texts alone."""

import re
import warnings

from msgspec import Struct

PATTERN_CHARACTERS_MAX = 256
TEXT_CHARACTERS_MAX = 256
"""Only so much of a text is looked at."""
BUDGET_CHARACTERS = 65_536
"""On so many characters of one message the patterns of a form run."""
STARS_MAX, ANCHORED_STARS_MAX = 2, 3
"""How many parts of a pattern may repeat without a narrow limit: one more where it can begin at the
beginning alone. Then a text takes at most the third power of its length."""
SEVERAL_STARS_WEIGHT = 16
"""By so much more a text counts against the budget where several parts repeat without limit."""
REPEATS_MAX = 8
NARROW = 8
"""Repeats that vary by less than this hardly count."""
SIGNS = (*map(chr, range(128)), "é", "Ω", "中")
"""Those that tell whether two classes overlap."""
_QUANTIFIER = re.compile(r"[*+?]|\{(\d+)\}|\{(\d*),(\d*)\}")
_FLAGS = re.compile(r"\(\?([a-zA-Z]+)\)")
_ALLOWED_FLAGS = frozenset("i")


class PatternError(ValueError):
    """A pattern cannot be used: what is wrong with it, and what to type instead."""


class TextPattern(Struct, frozen=True):
    """A pattern that cannot take long."""

    compiled: re.Pattern[str]
    weight: int
    """How often each character that it looks at counts."""


class PatternBudget(Struct):
    """How much text the patterns may still look at in one message; what was looked at is kept."""

    left: int = BUDGET_CHARACTERS
    found: dict[tuple[str, str], str | None] = {}


class _Group(Struct):
    """What a group of a pattern holds, as far as the scan has come."""

    repeats: bool = False
    has_choice: bool = False


def compile_pattern(text: str, *, at_beginning: bool = False) -> TextPattern:
    """Compile a pattern; raise `PatternError` where it is none, or may take long.

    `at_beginning`: it is only tried at the beginning of a text.
    """
    if len(text) > PATTERN_CHARACTERS_MAX:
        raise PatternError(
            f"it has {len(text):,} characters; at most {PATTERN_CHARACTERS_MAX} are read"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as for [[, which may mean another thing one day
            compiled = re.compile(text)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise PatternError(f"{text!r} is no regular expression: {error}") from None
    stars = _check(text, at_beginning=at_beginning)
    if compiled.groups > 1:
        raise PatternError("it has several groups; put what is meant into one, others into (?:…)")
    return TextPattern(compiled, 1 if stars <= 1 else SEVERAL_STARS_WEIGHT)


def search(pattern: TextPattern, text: str, budget: PatternBudget) -> str | None:
    """Return what the group of the pattern holds, or all that it fits; None if it fits nowhere.

    Raise `OverflowError` where the message has more text than patterns look at.
    """
    text = text[:TEXT_CHARACTERS_MAX]
    known = (pattern.compiled.pattern, text)
    if known in budget.found:
        return budget.found[known]
    cost = len(text) * pattern.weight
    if budget.left < cost:
        raise OverflowError
    budget.left -= cost
    match = pattern.compiled.search(text)
    found = None if match is None else match[pattern.compiled.groups]
    budget.found[known] = found
    return found


def _check(text: str, *, at_beginning: bool) -> int:
    """Return how many parts of a pattern repeat without limit.

    Raise `PatternError` for what makes it slow: repeats in repeats, looking back, too many.
    """
    if flags := _FLAGS.match(text):
        if not _ALLOWED_FLAGS.issuperset(flags[1]):
            raise PatternError(f"the flags {flags[1]!r} cannot be used; (?i) can")
        text = text[flags.end() :]
    groups = [_Group()]
    stars = repeats = 0
    last: _Group | None = None
    previous_star, previous_star_end = "", -1
    position = 0
    while position < len(text):
        here = text[position]
        if (quantifier := _QUANTIFIER.match(text, position)) is not None:
            if last is not None and (last.repeats or last.has_choice):
                raise PatternError(
                    "a repeat within a repeat, or of alternatives, may take very long; write it out"
                )
            if varies := _varies(quantifier):
                groups[-1].repeats = True
                repeats += 1
                if varies > NARROW:
                    stars += 1
                    start = _start_of(text, position)
                    if previous_star_end == start and _overlap(previous_star, text[start:position]):
                        raise PatternError(
                            "two parts that repeat without limit stand side by side; put what"
                            " separates them between"
                        )
                    previous_star, previous_star_end = text[start:position], quantifier.end()
            elif last is not None:
                groups[-1].repeats |= last.repeats
            position = quantifier.end()
            last = None
            continue
        last = None
        if here == "\\":
            _refuse_reference(text, position)
            position += 2
        elif here == "[":
            position = _end_of_class(text, position)
        elif here == "(":
            position = _after_opening(text, position)
            groups.append(_Group())
        elif here == ")" and len(groups) > 1:
            last = groups.pop()
            groups[-1].repeats |= last.repeats
            position += 1
        else:
            if here == "|":
                groups[-1].has_choice = True
            position += 1
    stars_max = ANCHORED_STARS_MAX if at_beginning or text.startswith("^") else STARS_MAX
    if stars > stars_max or repeats > REPEATS_MAX:
        raise PatternError(
            f"it has {stars} parts that repeat without limit and {repeats} that repeat; at most"
            f" {stars_max} and {REPEATS_MAX} can be used, and with ^ at its beginning"
            f" {ANCHORED_STARS_MAX}"
        )
    return stars


def _varies(quantifier: re.Match[str]) -> int:
    """Return by how many times a quantifier may vary."""
    match quantifier[0][0]:
        case "?":
            return 1
        case "*" | "+":
            return TEXT_CHARACTERS_MAX
    _, least, most = quantifier.groups()
    if quantifier[1] is not None:
        return 0
    return (int(most) if most else TEXT_CHARACTERS_MAX) - int(least or 0)


def _overlap(one: str, other: str) -> bool:
    """Return whether two parts of a pattern, each for one sign, may stand for the same sign."""
    try:
        first, second = re.compile(one), re.compile(other)
    except re.error:  # the end of a group
        return True
    return any(first.fullmatch(sign) and second.fullmatch(sign) for sign in SIGNS)


def _start_of(text: str, quantifier: int) -> int:
    """Return where the part before a quantifier begins, if it is one sign or one class."""
    if text[quantifier - 1] == "]":
        return text.rfind("[", 0, quantifier)
    if quantifier > 1 and text[quantifier - 2] == "\\":
        return quantifier - 2
    return quantifier - 1


def _refuse_reference(text: str, position: int) -> None:
    following = text[position + 1 : position + 2]
    if following.isdigit() and following != "0":
        raise PatternError("a reference to what a group found cannot be used")


def _end_of_class(text: str, position: int) -> int:
    """Return where a class of characters ends: `]` as its first sign stands for itself."""
    position += 2 if text[position + 1 : position + 2] == "^" else 1
    if text[position : position + 1] == "]":
        position += 1
    while position < len(text) and text[position] != "]":
        position += 2 if text[position] == "\\" else 1
    return position + 1


def _after_opening(text: str, position: int) -> int:
    if text.startswith("(?:", position):
        return position + 3
    if text.startswith("(?", position):
        raise PatternError(
            f"{text[position : position + 4]!r} cannot be used in a pattern; (…) and (?:…) can"
        )
    return position + 1
