"""The list of sabotages, `sabotages.toml`, and what has to be true of each before it is tried."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

LIST = Path(__file__).with_name("sabotages.toml")
COMMANDS = re.compile(r"`([^`]+)`")


class Sabotage(Struct, frozen=True, forbid_unknown_fields=True):
    """A change of one file that breaks a promise, and the tests that have to notice it."""

    file: str
    """The path below the root of the repository."""
    breaks: str
    """What is no longer true, in one sentence."""
    before: str
    """Text that is in the file exactly once."""
    after: str
    readme: str
    """The command that shows the promise, as README has it."""
    tests: str
    """Arguments of pytest that select tests of that command, as few as are needed."""

    def changed(self, text: str) -> str:
        """Return the text of the file with the change; raise `ValueError` if it does not fit."""
        count = text.count(self.before)
        if count != 1:
            raise ValueError(f"{self.file}: found {count} times, not once:\n{self.before}")
        changed = text.replace(self.before, self.after)
        if self.file.endswith(".py"):
            try:
                is_same = ast.dump(ast.parse(text)) == ast.dump(ast.parse(changed))
            except SyntaxError as error:
                raise ValueError(f"{self.file}: only the syntax is broken: {error}") from None
            if is_same:
                raise ValueError(f"{self.file}: nothing but text for people is changed")
        return changed


def read_list(path: Path = LIST) -> list[Sabotage]:
    """Return all sabotages of the list."""
    class_of_list = dict[str, list[Sabotage]]
    return msgspec.toml.decode(path.read_bytes(), type=class_of_list)["sabotage"]


def commands(readme: str) -> set[str]:
    """Return the commands of README's table of promises, and of its section on `make test`."""
    table = [line for line in readme.splitlines() if line.startswith(("| ", "make "))]
    shown = {each for line in table for each in COMMANDS.findall(line.split(" | ")[-1])}
    return shown | {"make test"}


def pytest_arguments(command: str) -> list[str]:
    """Return which tests a command of README runs, as arguments of pytest."""
    match shlex.split(command):
        case ["T", *arguments]:
            return arguments
        case [path] if path.startswith("tests/"):
            return [path]
        case ["make", "test"]:
            return ["tests"]
        case ["make", "sinks"]:
            return ["tests/sinks"]
        case ["make", "console-test", *only]:
            words = only[0].removeprefix("ONLY=") if only else ""
            return ["tests/browser", *(["-k", words] if words else [])]
    raise ValueError(f"this command runs no tests of pytest: {command}")


def problems(sabotages: list[Sabotage], root: Path) -> Iterator[str]:
    """Yield what is wrong with the list, as far as reading tells."""
    known = commands((root / "README.md").read_text())
    for each in sabotages:
        try:
            each.changed((root / each.file).read_text())
            pytest_arguments(each.readme)
        except (OSError, ValueError) as error:
            yield str(error)
        if each.readme not in known:
            yield f"{each.file}: README does not name this command: {each.readme}"
        for word in shlex.split(each.tests):
            path = word.partition("::")[0]
            if path.startswith("tests/") and not (root / path).exists():
                yield f"{each.file}: there is no {path}"
    for text in {each.breaks for each in sabotages}:
        if sum(each.breaks == text for each in sabotages) > 1:
            yield f"twice in the list: {text}"
