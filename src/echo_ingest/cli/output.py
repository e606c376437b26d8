"""How commands show tables, times, progress and errors.

Results go to standard output and everything else to standard error, so that a pipe gets the results
and nothing else. Colours and progress bars appear only on a terminal.
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
from rich.cells import cell_len
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
from rich.table import Column, Table
from rich.text import Text

from echo_ingest.formatting import counted, utc
from echo_ingest.payload_view import printable

PIPE_COLUMNS = 1_000
CUT_FROM = 100
"""No value of a column that is cut is shown wider, in a pipe either."""
CUT_LEAST, FOLD_LEAST = 6, 12
GAP, GAP_LEAST = 3, 2
"""The columns of a terminal between two columns of a table."""
PROGRESS_FROM = 50

T = TypeVar("T")

# Lines are not folded in a pipe: that would break the program that reads them.
out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)
err = Console(highlight=False, stderr=True, soft_wrap=True)


def fail(message: str, exit_code: int = 1) -> NoReturn:
    """Say what is wrong and what to do about it, and end the command."""
    say_error(message)
    raise typer.Exit(exit_code)


def say_error(message: str) -> None:
    """Print an error as a plain line on standard error."""
    err.print(Text.assemble(("echo-ingest: ", "bold red"), printable(message, keep="\n")))


def say(message: str) -> None:
    """Print a remark about the results on standard error."""
    err.print(Text(printable(message, keep="\n")))


def moment(when: datetime | int) -> str:
    """Format a time in the local zone, with its offset; `when` is aware, or ms since 1970."""
    if isinstance(when, int):
        when = utc(when)
    with contextlib.suppress(OverflowError, ValueError):  # at the ends of the calendar
        when = when.astimezone()
    return when.strftime("%Y-%m-%d %H:%M:%S %z")


def day(when: datetime) -> str:
    """Format the day of a time in the local zone."""
    return moment(when)[:10]


def table(*columns: str, header: bool = True) -> Table:
    """Return an empty table for `print_table`.

    `name>` aligns a column to the right. `name+` lets it fold on a terminal; in `name~`, long
    values, such as names that devices give themselves, are cut with an ellipsis.
    """
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_header=header)
    for column in columns:
        shown.add_column(
            column.rstrip(">+~"),
            justify="right" if column.endswith(">") else "left",
            no_wrap=not column.endswith("+"),
            overflow="ellipsis" if column.endswith("~") else "fold",
        )
    return shown


def print_table(shown: Table) -> None:
    """Print a table with all of its columns, however long a value is."""
    out.print(fitted(shown), crop=False)


def fitted(shown: Table) -> Table:
    """Return a table of `table`, with columns as wide as there is room.

    Where a terminal is too narrow even for those that are never cut, the table is wider than it.
    """
    natural = [_natural_width(column, shown.show_header) for column in shown.columns]
    widths = [
        min(width, CUT_FROM) if _is_cut(column) else width
        for column, width in zip(shown.columns, natural, strict=True)
    ]
    gaps = len(widths) - 1
    shown.collapse_padding = out.is_terminal and sum(widths) + GAP * gaps > out.width
    gap = GAP_LEAST if shown.collapse_padding else GAP
    if out.is_terminal:
        least = [
            min(width, CUT_LEAST if _is_cut(column) else width if column.no_wrap else FOLD_LEAST)
            for column, width in zip(shown.columns, widths, strict=True)
        ]
        room = out.width - gap * gaps
        while sum(widths) > room:
            # The widest of those that can give way: so one long value takes no room of others.
            spare = [width if width > low else 0 for width, low in zip(widths, least, strict=True)]
            if not any(spare):
                break
            widths[spare.index(max(spare))] -= 1
    for column, width in zip(shown.columns, widths, strict=True):
        column.width = width
        column.min_width = None
    shown.width = sum(widths) + gap * gaps
    return shown


def _is_cut(column: Column) -> bool:
    return column.overflow == "ellipsis"


def _natural_width(column: Column, header: bool) -> int:
    """Return how wide a column would like to be, in cells of a terminal."""
    values = [*([column.header] if header else []), *column.cells]
    widest = max((cell_len(str(value)) for value in values), default=0)
    return max(widest, column.min_width or 0)


def cells(*values: object) -> list[Text]:
    """Return the cells of a table row; nothing in them is interpreted as markup."""
    return [Text("" if value is None else printable(str(value))) for value in values]


class _Rate(ProgressColumn):
    """The column of a progress bar that shows the current rate."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s")


@contextlib.contextmanager
def progress(total: int, doing: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal if `total` is large.

    Yields a function to call with the number of items that were done since the last call.
    """
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
    """Yield each of `rows` and show progress: a row is done when the next one is asked for."""
    with progress(total, doing) as advance:
        for row in rows:
            yield row
            advance(1)


def write_lines(path: Path, lines: Iterator[dict[str, object]]) -> None:
    """Write JSON Lines to a new file and say how many lines it has."""
    written = 0
    try:
        with path.open("xb") as file:
            for line in lines:
                file.write(msgspec.json.encode(line) + b"\n")
                written += 1
    except FileExistsError:
        fail(f"{path} already exists; name another file")
    say(f"{path}: {counted(written, 'lines')} written")
