"""Find the line of each key in a TOML text, which Python's reader does not tell."""

import re
import tomllib

KeyPath = tuple[str | int, ...]

_SKIPPED = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*",
    re.DOTALL,
)
"""Texts and comments, in which no bracket and no end of a line counts."""
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)$| \(at end of document\)$")


def syntax_error(text: str, error: tomllib.TOMLDecodeError) -> tuple[int, str]:
    """Return the line and the words of an error of the reader."""
    words = str(error)
    match = _AT_LINE.search(words)
    line = int(match[1]) if match and match[1] else text.count("\n") + 1
    return line, _AT_LINE.sub("", words)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line of each table and key of a TOML text that can be read, from 1.

    Keys of inline tables are not in it: they stand on the line of the key that holds them.
    """
    lines: dict[KeyPath, int] = {}
    lists: dict[KeyPath, int] = {}
    table: KeyPath = ()
    line = 1
    for statement in _statements(text):
        begins = line + _blank_lines(statement)
        line += statement.count("\n")
        bare = statement.strip()
        if not bare or bare.startswith("#"):
            continue
        if bare.startswith("[["):
            *before, last = _names(bare[2:], "]")
            path: KeyPath = (*_in_last(before, lists), last)
            number = lists.get(path, -1) + 1
            lists[path] = number
            lines.setdefault(path, begins)
            table = (*path, number)
            lines[table] = begins
        elif bare.startswith("["):
            table = _in_last(_names(bare[1:], "]"), lists)
            lines[table] = begins
        else:
            path = table
            for name in _names(bare, "="):
                path = (*path, name)
                lines.setdefault(path, begins)
    return lines


def line_of(path: KeyPath, lines: dict[KeyPath, int]) -> int:
    """Return the line of a key, or of the nearest table around it."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1


def _blank_lines(statement: str) -> int:
    return statement[: len(statement) - len(statement.lstrip())].count("\n")


def _statements(text: str) -> list[str]:
    """Cut a text into its statements: each ends with its line, but for those within brackets."""
    statements, start, depth, position = [], 0, 0, 0
    while position < len(text):
        here = text[position]
        if here in "\"'#" and (match := _SKIPPED.match(text, position)):
            position = match.end()
            continue
        if here in "[{":
            depth += 1
        elif here in "]}":
            depth -= 1
        elif here == "\n" and depth <= 0:
            statements.append(text[start : position + 1])
            start = position + 1
        position += 1
    statements.append(text[start:])
    return statements


def _names(text: str, end: str) -> list[str]:
    """Return the names of a dotted key that stands before `end`."""
    names, current, position = [], "", 0
    while position < len(text) and text[position] != end:
        here = text[position]
        if here in "\"'" and (match := _SKIPPED.match(text, position)):
            quoted = match[0]
            current += quoted[1:-1] if here == "'" else str(tomllib.loads(f"a = {quoted}")["a"])
            position = match.end()
            continue
        if here == ".":
            names.append(current)
            current = ""
        elif not here.isspace():
            current += here
        position += 1
    return [*names, current]


def _in_last(names: list[str], lists: dict[KeyPath, int]) -> KeyPath:
    """Return the path of a table: a name that is a list stands for its last entry."""
    path: KeyPath = ()
    for name in names:
        path = (*path, name)
        if path in lists:
            path = (*path, lists[path])
    return path
