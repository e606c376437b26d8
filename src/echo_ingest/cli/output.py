"""What a person sees: times, numbers and plain errors.

Results go to standard output, all that is said about them to standard error, so that a pipe gets
results and nothing else. Colours and progress bars appear on a terminal only.
"""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
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

from echo_ingest.formatting import utc
from echo_ingest.payload_view import printable

PIPE_COLUMNS = 1_000
PROGRESS_FROM = 50

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


def moment(when: datetime | int) -> str:
    """Local time with the zone's offset; `when` is aware, or milliseconds since 1970."""
    if isinstance(when, int):
        when = utc(when)
    with contextlib.suppress(OverflowError, ValueError):  # the ends of the calendar
        when = when.astimezone()
    return when.strftime("%Y-%m-%d %H:%M:%S %z")


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
