"""What a person sees: times, numbers, payloads and plain errors.

Results go to standard output, all that is said about them to standard error, so that a pipe gets
results and nothing else. Colours and progress bars appear on a terminal only.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, TypeVar

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS = 1_000
PROGRESS_FROM = 50
LINES_MAX = 200
STRING_CHARACTERS_MAX = 72
TEXT_CHARACTERS_MAX = 4_000
HEX_BYTES_MAX = 256

T = TypeVar("T")

# In a pipe lines are as long as they are: folding them would break what reads them.
out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)
err = Console(highlight=False, stderr=True, soft_wrap=True)


def fail(message: str, exit_code: int = 1) -> NoReturn:
    """Say in plain words what is wrong and what to do, and end."""
    say_error(message)
    raise typer.Exit(exit_code)


def say_error(message: str) -> None:
    """One plain line on standard error."""
    err.print(Text.assemble(("echo-ingest: ", "bold red"), printable(message, keep="\n")))


def say(message: str) -> None:
    """Something about the results, beside them."""
    err.print(Text(printable(message, keep="\n")))


def printable(text: str, keep: str = "") -> str:
    """Text from a device, unable to move the cursor or to set the title of the terminal."""
    return "".join(c if c.isprintable() or c in keep else f"\\x{ord(c):02x}" for c in text)


def moment(when: datetime | int) -> str:
    """Local time with the zone's offset; `when` is aware, or milliseconds since 1970."""
    if isinstance(when, int):
        when = datetime.fromtimestamp(when / 1000, UTC)
    with contextlib.suppress(OverflowError, ValueError):  # the ends of the calendar
        when = when.astimezone()
    return when.strftime("%Y-%m-%d %H:%M:%S %z")


def size(size_bytes: int) -> str:
    """Bytes, for people."""
    if size_bytes < 1_000:
        return f"{size_bytes} B"
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1e3:.1f} kB"
    if size_bytes < 1_000_000_000:
        return f"{size_bytes / 1e6:.1f} MB"
    return f"{size_bytes / 1e9:,.1f} GB"


def counted(count: int, things: str) -> str:
    """`1 node`, `2 nodes`: `things` is a plural that ends in s, or a word that has none."""
    return f"{count:,} {things if count != 1 else things.removesuffix('s')}"


def duration(seconds: float) -> str:
    """An age, in its two largest units."""
    whole = int(seconds)
    for name, unit, smaller, smaller_unit in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= unit:
            return f"{whole // unit:,} {name} {whole % unit // smaller_unit} {smaller}"
    return f"{seconds:.1f} s" if seconds else "0 s"


def table(*columns: str, header: bool = True) -> Table:
    """An empty table. A column is `name`, `name>` to align it right, `name+` to let it fold."""
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_header=header)
    for column in columns:
        name = column.rstrip(">+")
        shown.add_column(
            name,
            justify="right" if column.endswith(">") else "left",
            no_wrap=not column.endswith("+"),
            overflow="fold",
        )
    return shown


def cells(*values: object) -> list[Text]:
    """A row of a table; nothing in it is taken as markup."""
    return [Text("" if value is None else printable(str(value))) for value in values]


class _Rate(ProgressColumn):
    """How many a second, lately."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s")


@contextlib.contextmanager
def progress(total: int, doing: str) -> Iterator[Callable[[int], None]]:
    """A progress bar, on a terminal and if there are many; tell what it gives how many are done."""
    bar = Progress(
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=err,
        disable=total <= PROGRESS_FROM or not err.is_terminal,
    )
    with bar:
        task = bar.add_task(doing, total=total)
        yield lambda count: bar.advance(task, count)


def progressed(rows: Iterable[T], total: int, doing: str) -> Iterator[T]:
    """Hand on `rows`; each is done when the next is asked for."""
    with progress(total, doing) as advance:
        for row in rows:
            yield row
            advance(1)


def write_lines(path: Path, lines: Iterator[dict[str, object]]) -> None:
    """Write JSON Lines to a new file, and say how many."""
    written = 0
    try:
        with path.open("xb") as file:
            for line in lines:
                file.write(msgspec.json.encode(line) + b"\n")
                written += 1
    except FileExistsError:
        fail(f"{path} exists already; name another file")
    say(f"{path}: {written:,} written")


# ---------------------------------------------------------------------- payloads


def readable(payload: bytes) -> str:
    """A payload as a person can read it: JSON indented, text as it is, else its first bytes."""
    if not payload:
        return "(empty)"
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return _hex(payload)
    try:
        return _first_lines(
            json.dumps(_folded(json.loads(text)), indent=2, ensure_ascii=False).splitlines()
        )
    except (ValueError, RecursionError):
        pass
    if "\0" in text:
        return _hex(payload)
    return _first_lines(_fold(text, TEXT_CHARACTERS_MAX).splitlines())


def _folded(value: object) -> object:
    """The same JSON value with long strings cut."""
    match value:
        case str():
            return _fold(value, STRING_CHARACTERS_MAX)
        case dict():
            return {_fold(str(name), STRING_CHARACTERS_MAX): _folded(value[name]) for name in value}
        case list():
            return [_folded(v) for v in value]
    return value


def _fold(text: str, characters_max: int) -> str:
    if len(text) <= characters_max:
        return text
    return f"{text[: characters_max - 20]}… ({len(text):,} characters)"


def _first_lines(lines: list[str]) -> str:
    shown = [printable(line) for line in lines[:LINES_MAX]]
    if len(lines) > LINES_MAX:
        shown.append(f"… ({len(lines) - LINES_MAX:,} more lines)")
    return "\n".join(shown)


def _hex(payload: bytes) -> str:
    lines = []
    for start in range(0, min(len(payload), HEX_BYTES_MAX), 16):
        part = payload[start : start + 16]
        text = "".join(chr(b) if 32 <= b < 127 else "." for b in part)
        lines.append(f"{start:08x}  {part.hex(' '):<47}  {text}")
    if len(payload) > HEX_BYTES_MAX:
        lines.append(f"… ({size(len(payload))} in all)")
    return "\n".join(lines)
