"""A journal to take out of, and what comes out, without the command line between."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

from echo_ingest.decode import Decoder
from echo_ingest.export import gather, write_tables
from echo_ingest.export.camtrap import package
from echo_ingest.export.camtrap.package import PackageSummary
from echo_ingest.export.camtrap.project import Project
from echo_ingest.export.partial import ExportSummary, begin
from echo_ingest.export.reading import Format, Request, start
from echo_ingest.journal import Journal
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.record import Message
from tests.sinks.messages import PAYLOAD_BYTES_MAX

EVERYTHING = Selection()


def journal_of(path: Path, messages: Iterable[Message]) -> Path:
    """Make a journal that holds `messages`, at offsets 1, 2, 3 …"""
    with closing(Journal(path)) as journal:
        outcomes = journal.append(
            [(each, Decoder(PAYLOAD_BYTES_MAX).identify(each)) for each in messages]
        )
    assert outcomes.stored == len(outcomes.outcomes), outcomes
    return path


def asked(
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
        payload_bytes_max=PAYLOAD_BYTES_MAX,
    )


def unseen(_total: int, _doing: str) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda _count: None)


def take_out(journal: Path, target: Path, request: Request) -> ExportSummary:
    """Tables, in the folder `target`."""
    with closing(JournalReader(journal)) as archive:
        partial = begin(target, request, start(archive, request))
        gather(archive, partial, unseen)
    write_tables(partial, unseen)
    gathered = partial.gathered()
    partial.finish()
    return gathered


def pack(
    journal: Path, target: Path, request: Request, project: Project
) -> tuple[ExportSummary, PackageSummary]:
    """Export a data package into the folder `target`."""
    with closing(JournalReader(journal)) as archive:
        partial = begin(target, request, start(archive, request))
        gather(archive, partial, unseen)
    packed = package.write(partial, project, unseen)
    gathered = partial.gathered()
    partial.finish()
    return gathered, packed


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by their path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
