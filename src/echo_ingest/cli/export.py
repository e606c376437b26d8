"""`export`: data for R, Python, spreadsheets and repositories."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from echo_ingest.cli.options import (
    OfKind,
    OfNode,
    Since,
    Until,
    archive_of,
    settings_of,
)
from echo_ingest.cli.output import fail, out, progress, say
from echo_ingest.columns import TABLES
from echo_ingest.export import gather, stream, write_tables
from echo_ingest.export.camtrap import package
from echo_ingest.export.camtrap.package import PackageSummary
from echo_ingest.export.camtrap.project import ProjectError, read
from echo_ingest.export.partial import ExportRefused, ExportSummary, begin, folder_of, go_on
from echo_ingest.export.reading import Request, kinds, start
from echo_ingest.formatting import counted
from echo_ingest.journal import JournalFull
from echo_ingest.journal.database import NO_ROOM
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.payload_view import size

STANDARD_OUTPUT = Path("-")


class Format(StrEnum):
    """`reading.Format`, as choices of an option."""

    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"
    camtrap_dp = "camtrap-dp"


def export(
    context: typer.Context,
    target: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="A new folder; [b]-[/] is standard output."),
    ],
    as_format: Annotated[
        Format,
        typer.Option("--format", metavar="FORMAT", help="csv, jsonl, parquet or camtrap-dp."),
    ] = Format.csv,
    node: OfNode = None,
    kind: OfKind = None,
    species: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this species; may be given several times."),
    ] = None,
    since: Since = None,
    until: Until = None,
    audio: Annotated[bool, typer.Option("--audio", help="With the clips, as files.")] = False,
    project: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What a package must say and no journal knows."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an export that was cut short.")
    ] = False,
) -> None:
    """Write records into a new folder: tables, or a data package.

    A table has one kind of record, oldest first. The service may run
    meanwhile.
    """
    settings = settings_of(context)
    request = Request(
        format=as_format.value,
        journal=str(settings.journal_path.absolute()),
        selection=Selection(node, kind and kind.value, since, until),
        species=tuple(name.casefold() for name in species or ()),
        audio=audio,
        project=None if project is None else str(project),
        payload_bytes_max=settings.payload_bytes_max,
    )
    if wrong := list(_clashes(target, request, resume)):
        fail("\n".join(wrong), 2)
    try:
        if target == STANDARD_OUTPUT:
            _to_standard_output(archive_of(settings), request)
        else:
            _into_folder(target, archive_of(settings), request, resume)
    except (ExportRefused, ProjectError) as error:
        fail(str(error))
    except (JournalFull, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_ROOM:
            raise
        fail(f"the disk that holds {target} is full: make room; {_how_to_go_on(target)}")
    except KeyboardInterrupt:
        fail(f"cut short; {_how_to_go_on(target)}")


def _clashes(target: Path, request: Request, resume: bool) -> Iterator[str]:
    """What cannot be asked for together."""
    to_pipe = target == STANDARD_OUTPUT
    if resume:
        nothing = Request(
            format="csv",
            journal=request.journal,
            selection=Selection(),
            payload_bytes_max=request.payload_bytes_max,
        )
        if to_pipe or request != nothing:
            yield "--resume goes on with what was asked for; leave the other options out"
        return
    if request.is_package and request.project is None:
        yield (
            "a data package must say who made it, how and under which licence: write that down "
            "as docs/export.md shows, and add --project FILE"
        )
    if request.is_package and request.selection.kind is not None:
        yield "a data package is made of all kinds of record; leave --kind out"
    if not request.is_package and request.project is not None:
        yield "only a data package has a project; add --format camtrap-dp"
    if not kinds(request):
        yield f"no {request.selection.kind} names a species; leave --kind or --species out"
    if not to_pipe:
        return
    if request.audio or request.format not in ("csv", "jsonl"):
        yield "standard output takes csv and jsonl, without --audio; name a folder for the rest"
    if request.format == "csv" and len(kinds(request)) > 1:
        yield "csv on standard output is one table: choose it by --kind, or take --format jsonl"


def _how_to_go_on(target: Path) -> str:
    if target == STANDARD_OUTPUT:
        return "type the same again"
    return f"`echo-ingest export {target} --resume` goes on"


def _to_standard_output(archive: JournalReader, request: Request) -> None:
    show = _unseen if out.is_terminal else progress
    gathered = stream(archive, request, sys.stdout.buffer, show)
    _say_why(gathered)
    tables = {TABLES[each]: gathered.rows.get(each, 0) for each in kinds(request)}
    say(f"{_amounts(tables)}; {_left_out(gathered)}")


def _unseen(_total: int, _doing: str) -> AbstractContextManager[Callable[[int], None]]:
    """No progress bar, where rows come on the same terminal."""
    return nullcontext(lambda _count: None)


def _into_folder(target: Path, archive: JournalReader, request: Request, resume: bool) -> None:
    if resume:
        partial = go_on(target, request.journal)
        walk, request = partial.walk, partial.request
        say(f"{folder_of(target)}: going on after record {walk.position:,} of {walk.last:,}")
        project = None if request.project is None else read(Path(request.project))
    else:
        project = None if request.project is None else read(Path(request.project))
        partial = begin(target, request, start(archive, request))
    gather(archive, partial, progress)
    packed = PackageSummary()
    if project is None:
        rows = write_tables(partial, progress)
    else:
        packed = package.write(partial, project, progress)
        rows = packed.rows
    gathered = partial.gathered()
    partial.finish()
    _say_why(gathered)
    if packed.unplaced:
        named = ", ".join(packed.unplaced)
        more = packed.unplaced_devices - len(packed.unplaced)
        say(
            f"nobody knows where these are: {named}{f' and {more:,} more' if more else ''}; "
            f"say so in {request.project} under [locations], and export again"
        )
    files = [path.stat().st_size for path in target.iterdir() if path.is_file()]
    clips = (
        f", {counted(gathered.clips, 'clips')}, {size(gathered.clip_bytes)}"
        if request.audio
        else ""
    )
    say(
        f"{target}: {_amounts(rows)} in {counted(len(files), 'files')}, "
        f"{size(sum(files))}{clips}; "
        f"{_left_out(gathered, packed)}"
    )


def _say_why(gathered: ExportSummary) -> None:
    """What this version makes of records that it does not decode: each reason is another."""
    for cause, reason, records in gathered.reasons:
        if cause == "not decoded by this version any more":
            say(f"left out {records:,}: {reason}")


def _amounts(rows: dict[str, int]) -> str:
    return ", ".join(counted(count, table) for table, count in rows.items() if table != "audio")


def _left_out(gathered: ExportSummary, packed: PackageSummary | None = None) -> str:
    parts = [f"{count:,} {why}" for why, count in gathered.left_out.items()]
    if gathered.gone:
        parts.append(
            f"{gathered.gone:,}, of anyone, gone before they were read (retention, or damage)"
        )
    if packed is not None and packed.unplaced_records:
        parts.append(f"{packed.unplaced_records:,} of devices whose place is not known")
    return f"left out: {', '.join(parts)}" if parts else "nothing left out"
