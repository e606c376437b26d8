"""Reading a journal from one end to the other for an export, while the service writes to it."""

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from echo_ingest.decode import Decoder
from echo_ingest.journal import Entry
from echo_ingest.journal.decoding import Unreadable, decode_entry, selected
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import KINDS, AnyRecord, Movement, kind

Format = Literal["csv", "jsonl", "parquet", "camtrap-dp"]

KINDS_WITH_SPECIES = ("detection", "movement")
Cause = Literal["damaged", "not readable by this version", "simulated", "movements"]
"""Why a record is left out of an export."""
UNREADABLE: Cause = "not readable by this version"


class Request(Struct, frozen=True, kw_only=True):
    """What to export."""

    format: Format
    journal: str
    """The path of the journal."""
    selection: Selection
    species: tuple[str, ...] = ()
    """Case-folded names; if empty, all species."""
    audio: bool = False
    """Whether to export the clips as files."""
    project: str | None = None
    """The path of the project file, for a package."""

    @property
    def is_package(self) -> bool:
        """Return whether this is a data package, not tables of records."""
        return self.format == "camtrap-dp"


class Walk(Struct, frozen=True):
    """The part of the journal to read, fixed at the start, so that new records do not extend it."""

    last: int
    """The newest offset at the start."""
    trimmed: int
    """The offset up to which retention had removed records at the start."""
    position: int
    """The offset up to which the journal has been read."""


class ReadRecord(Struct, frozen=True, gc=False):
    """A record, with its message and its place among the records of that."""

    entry: Entry
    index: int
    record: AnyRecord


class LeftOut(Struct, frozen=True):
    """A record that was selected but cannot be exported, or a message that cannot be read."""

    offset: int
    index: int
    cause: Cause
    reason: str
    """A sentence; one cause can have many reasons."""


class JournalPage(Struct, frozen=True):
    """A stretch of the journal."""

    records: list[ReadRecord]
    left_out: list[LeftOut]
    """The records that were selected but cannot be exported."""
    up_to: int
    gone: int
    """How many records of any node retention removed since the start, or damage destroyed."""


def kinds(request: Request) -> tuple[str, ...]:
    """Return the kinds of records that the export can have, in the order of `record.KINDS`."""
    chosen = KINDS if request.selection.kind is None else (request.selection.kind,)
    return tuple(each for each in chosen if each in KINDS_WITH_SPECIES or not request.species)


def is_wanted(request: Request, species: str | None) -> bool:
    """Return whether the request includes a record of `species`; None means it has no species."""
    return not request.species or (species is not None and species.casefold() in request.species)


def start(reader: JournalReader, request: Request) -> Walk:
    """Return the stretch of the journal that can now have records of the requested time."""
    trimmed = reader.trimmed_offset()
    first, last = reader.span(request.selection)
    return Walk(last, trimmed, max(first - 1, 0))


def pages(
    reader: JournalReader, decoder: Decoder, request: Request, walk: Walk
) -> Iterator[JournalPage]:
    """Yield the records after the walk's position, in order of arrival; the same each time.

    For a package these include the records of other species, because they show that a device was
    working.
    """
    chosen = kinds(request)
    position = walk.position
    while position < walk.last:
        stretch = reader.stretch(request.selection, position, walk.last, walk.trimmed)
        position = stretch.up_to
        records: list[ReadRecord] = []
        left_out: list[LeftOut] = []
        for entry in stretch.entries:
            decoded = decode_entry(decoder, entry)
            if isinstance(decoded, Unreadable):
                left_out.append(LeftOut(entry.offset, 0, _cause(decoded), decoded.render()))
                continue
            for index, record in selected(request.selection, decoded):
                if (why := _why_left_out(request, record)) is not None:
                    left_out.append(LeftOut(entry.offset, index, *why))
                elif request.is_package or (
                    kind(record) in chosen and is_wanted(request, getattr(record, "species", None))
                ):
                    records.append(ReadRecord(entry, index, record))
        yield JournalPage(records, left_out, position, stretch.gone)


def _why_left_out(request: Request, record: AnyRecord) -> tuple[Cause, str] | None:
    if request.is_package and record.source_type == "simulator":
        return "simulated", "the animal is simulated"
    if request.is_package and isinstance(record, Movement):
        return "movements", "a data package has no table for movements"
    return None


def _cause(unreadable: Unreadable) -> Cause:
    return "damaged" if unreadable.code is ReasonCode.DAMAGED else UNREADABLE
