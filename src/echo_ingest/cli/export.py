"""`export`: write records as tables for R, Python and spreadsheets, or as a data package."""

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from echo_ingest.cli.options import OfKind, OfNode, Since, Until, open_reader, settings_of
from echo_ingest.cli.output import fail, out, progress, say
from echo_ingest.columns import TABLES
from echo_ingest.decode import Decoder
from echo_ingest.export import gather, stream, write_tables
from echo_ingest.export.camtrap import package
from echo_ingest.export.camtrap.package import PackageSummary
from echo_ingest.export.camtrap.project import ProjectError, read
from echo_ingest.export.partial import ExportRefused, ExportSummary, begin, folder_of, resume_export
from echo_ingest.export.reading import UNREADABLE, Request, kinds, start
from echo_ingest.formatting import counted
from echo_ingest.journal import JournalFull
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.payload_view import size
from echo_ingest.process.files import why_unwritable
from echo_ingest.site_decoder import decoder_of

STANDARD_OUTPUT = Path("-")


class Format(StrEnum):
    """The formats of `reading.Format`, as choices of an option."""

    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"
    camtrap_dp = "camtrap-dp"


def export(
    context: typer.Context,
    target: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="The new folder; [b]-[/] is standard output."),
    ],
    as_format: Annotated[
        Format,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="[b]csv[/], [b]jsonl[/], [b]parquet[/] or [b]camtrap-dp[/].",
        ),
    ] = Format.csv,
    node: OfNode = None,
    kind: OfKind = None,
    species: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this species; you can repeat the option."),
    ] = None,
    since: Since = None,
    until: Until = None,
    audio: Annotated[bool, typer.Option("--audio", help="Export the clips too, as files.")] = False,
    project: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The project file for a data package."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an export that was interrupted.")
    ] = False,
) -> None:
    """Export records to a new folder, as tables or as a data package.

    There is one table for each kind of record, in order of arrival. The
    service may be running.
    """
    settings = settings_of(context)
    request = Request(
        format=as_format.value,
        journal=str(settings.journal_path.absolute()),
        selection=Selection(node, kind and kind.value, since, until),
        species=tuple(name.casefold() for name in species or ()),
        audio=audio,
        project=None if project is None else str(project),
    )
    if conflicts := list(_conflicts(target, request, resume)):
        fail("\n".join(conflicts), 2)
    try:
        decoder = decoder_of(settings)
        reader = open_reader(settings, decoder)
        if target == STANDARD_OUTPUT:
            _to_standard_output(reader, decoder, request)
        else:
            _to_folder(target, reader, decoder, request, resume)
    except (ExportRefused, ProjectError) as error:
        fail(str(error))
    except (JournalFull, OSError) as error:
        number = error.errno if isinstance(error, OSError) else errno.ENOSPC
        if (why := why_unwritable(target, number)) is None:
            raise
        fail(f"{why}; {_how_to_continue(target)}")
    except KeyboardInterrupt:
        fail(f"interrupted; {_how_to_continue(target)}")


def _conflicts(target: Path, request: Request, resume: bool) -> Iterator[str]:
    """Yield an error for each combination of options that is not possible."""
    to_pipe = target == STANDARD_OUTPUT
    if resume:
        without_options = Request(
            format="csv",
            journal=request.journal,
            selection=Selection(),
        )
        if to_pipe or request != without_options:
            yield "--resume uses the options that the export began with; leave out all others"
        return
    if request.is_package and request.project is None:
        yield (
            "a data package must state who made it, how, and under which licence: write a project "
            "file as docs/export.md shows, and add --project FILE"
        )
    if request.is_package and request.selection.kind is not None:
        yield "a data package needs all kinds of records; leave out --kind"
    if not request.is_package and request.project is not None:
        yield "only a data package uses a project file; add --format camtrap-dp"
    if not kinds(request):
        yield (
            f"records of the kind {request.selection.kind} have no species; leave out --kind or "
            "--species"
        )
    if not to_pipe:
        return
    if request.audio or request.format not in ("csv", "jsonl"):
        yield (
            "only csv and jsonl can go to standard output, without --audio; for anything else, "
            "name a folder"
        )
    if request.format == "csv" and len(kinds(request)) > 1:
        yield (
            "csv on standard output can hold only one table: choose it with --kind, or use "
            "--format jsonl"
        )


def _how_to_continue(target: Path) -> str:
    if target == STANDARD_OUTPUT:
        return "then type the same command again"
    return f"`echo-ingest export {target} --resume` continues"


def _to_standard_output(reader: JournalReader, decoder: Decoder, request: Request) -> None:
    show = _no_progress if out.is_terminal else progress
    summary = stream(reader, decoder, request, sys.stdout.buffer, show)
    _say_why(summary)
    tables = {TABLES[each]: summary.rows.get(each, 0) for each in kinds(request)}
    say(f"{_amounts(tables)}; {_left_out(summary)}")


def _no_progress(_total: int, _doing: str) -> AbstractContextManager[Callable[[int], None]]:
    """Show no progress bar, because the rows are printed on the same terminal."""
    return nullcontext(lambda _count: None)


def _to_folder(
    target: Path, reader: JournalReader, decoder: Decoder, request: Request, resume: bool
) -> None:
    if resume:
        partial = resume_export(target, request.journal)
        walk, request = partial.walk, partial.request
        say(f"{folder_of(target)}: continuing after record {walk.position:,} of {walk.last:,}")
        project = None if request.project is None else read(Path(request.project))
    else:
        project = None if request.project is None else read(Path(request.project))
        partial = begin(target, request, start(reader, request))
    gather(reader, decoder, partial, progress)
    packaged = PackageSummary()
    if project is None:
        rows = write_tables(partial, progress)
    else:
        packaged = package.write(partial, project, progress)
        rows = packaged.rows
    summary = partial.summary()
    partial.finish()
    _say_why(summary)
    if packaged.unplaced:
        named = ", ".join(packaged.unplaced)
        more = packaged.unplaced_devices - len(packaged.unplaced)
        say(
            f"the location of these devices is unknown: {named}"
            f"{f' and {more:,} more' if more else ''}; add it to {request.project} under "
            "[locations], and export again"
        )
    file_sizes = [path.stat().st_size for path in target.iterdir() if path.is_file()]
    clips = ""
    if request.audio:
        clips = f", {counted(summary.clips, 'clips')}, {size(summary.clip_bytes)}"
    say(
        f"{target}: {_amounts(rows)} in {counted(len(file_sizes), 'files')}, "
        f"{size(sum(file_sizes))}{clips}; {_left_out(summary, packaged)}"
    )


def _say_why(summary: ExportSummary) -> None:
    """Print the reasons why this version could not decode some records."""
    for cause, reason, records in summary.reasons:
        if cause == UNREADABLE:
            say(f"left out {records:,}: {reason}")


def _amounts(rows: dict[str, int]) -> str:
    return ", ".join(counted(count, table) for table, count in rows.items() if table != "audio")


def _left_out(summary: ExportSummary, packaged: PackageSummary | None = None) -> str:
    parts = [f"{count:,} {cause}" for cause, count in summary.left_out.items()]
    if summary.gone:
        parts.append(
            f"{summary.gone:,} from any node removed by retention, or lost by damage, before they "
            "were read"
        )
    if packaged is not None and packaged.unplaced_records:
        parts.append(f"{packaged.unplaced_records:,} from devices whose location is unknown")
    return f"left out: {', '.join(parts)}" if parts else "nothing left out"
