"""Exports from a journal, without the command line."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

from echo_ingest.export import gather, write_tables
from echo_ingest.export.camtrap import package
from echo_ingest.export.camtrap.package import PackageSummary
from echo_ingest.export.camtrap.project import Project
from echo_ingest.export.partial import ExportSummary, begin
from echo_ingest.export.reading import Format, Request, start
from echo_ingest.journal import Journal
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.record import Message
from tests.several_records import DECODER_OF_SEVERAL
from tests.sinks.messages import PAYLOAD_BYTES_MAX
from tests.stored import as_stored

EVERYTHING = Selection()


def journal_of(path: Path, messages: Iterable[Message]) -> Path:
    """Make a journal that holds `messages`, at offsets 1, 2, 3 …"""
    with closing(Journal(path)) as journal:
        outcomes = journal.append(as_stored(messages, PAYLOAD_BYTES_MAX))
    assert outcomes.stored == len(outcomes.outcomes), outcomes
    return path


def request_for(
    of: Format = "csv",
    selection: Selection = EVERYTHING,
    *,
    species: tuple[str, ...] = (),
    audio: bool = False,
) -> Request:
    return Request(
        format=of,
        journal="journal.db",
        selection=selection,
        species=species,
        audio=audio,
    )


def no_progress(_total: int, _doing: str) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda _count: None)


def export_tables(journal: Path, target: Path, wanted: Request) -> ExportSummary:
    """Export tables to the folder `target`."""
    with closing(JournalReader(journal, DECODER_OF_SEVERAL)) as reader:
        partial = begin(target, wanted, start(reader, wanted))
        gather(reader, DECODER_OF_SEVERAL, partial, no_progress)
    write_tables(partial, no_progress)
    summary = partial.summary()
    partial.finish()
    return summary


def export_package(
    journal: Path, target: Path, wanted: Request, project: Project
) -> tuple[ExportSummary, PackageSummary]:
    """Export a data package to the folder `target`."""
    with closing(JournalReader(journal, DECODER_OF_SEVERAL)) as reader:
        partial = begin(target, wanted, start(reader, wanted))
        gather(reader, DECODER_OF_SEVERAL, partial, no_progress)
    packaged = package.write(partial, project, no_progress)
    summary = partial.summary()
    partial.finish()
    return summary, packaged


def files(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, by their path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
