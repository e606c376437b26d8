"""Walking through a journal from one end to the other, beside the service that writes it."""

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from echo_ingest.decode import Decoder
from echo_ingest.journal import Entry
from echo_ingest.journal.decoding import Unreadable, decode_entry
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import KINDS, AnyRecord, Movement, kind

Format = Literal["csv", "jsonl", "parquet", "camtrap-dp"]

NAMED = ("detection", "movement")
"""The kinds that name a species."""
Cause = Literal["damaged", "not decoded by this version any more", "simulated", "movements"]
"""Why a record is left out of an export."""


class Request(Struct, frozen=True, kw_only=True):
    """What is asked for."""

    format: Format
    journal: str
    """Where it is."""
    selection: Selection
    species: tuple[str, ...] = ()
    """Case-folded; none for all."""
    audio: bool = False
    """With the clips, as files."""
    project: str | None = None
    """The project file, for a package."""
    payload_bytes_max: int

    @property
    def is_package(self) -> bool:
        """Not tables of records, but of deployments and what was heard there."""
        return self.format == "camtrap-dp"


class Walk(Struct, frozen=True):
    """From where to where; known when it begins, so that it ends however much arrives meanwhile."""

    last: int
    """The newest offset when it began."""
    trimmed: int
    """Up to where retention had removed records by then."""
    position: int
    """Up to where it has come."""


class LeftOut(Struct, frozen=True):
    """A record that was selected and cannot be given."""

    offset: int
    cause: Cause
    reason: str
    """In words; many reasons may have one cause."""


class JournalPage(Struct, frozen=True):
    """A stretch of the journal."""

    records: list[tuple[Entry, AnyRecord]]
    left_out: list[LeftOut]
    """Records that were selected and cannot be given."""
    up_to: int
    gone: int
    """Records of anyone that retention has removed since the walk began, or damage has lost."""


def kinds(request: Request) -> tuple[str, ...]:
    """The kinds of record that the answer may hold, in the order of `record.KINDS`."""
    chosen = KINDS if request.selection.kind is None else (request.selection.kind,)
    return tuple(each for each in chosen if each in NAMED or not request.species)


def is_wanted(request: Request, species: str | None) -> bool:
    """Whether a record of `species` is asked for; None where it names none."""
    return not request.species or (species is not None and species.casefold() in request.species)


def start(archive: JournalReader, request: Request) -> Walk:
    """A walk from the first to the last that there is now of the time that is asked for."""
    trimmed = archive.trimmed_offset()
    first, last = archive.span(request.selection.since, request.selection.until)
    return Walk(last, trimmed, max(first - 1, 0))


def pages(archive: JournalReader, request: Request, walk: Walk) -> Iterator[JournalPage]:
    """What follows the walk's position, in order of arrival; the same each time.

    For a package also what tells of deployments alone: a device is not silent because the species
    that was asked for is.
    """
    decoder = Decoder(request.payload_bytes_max)
    chosen = kinds(request)
    position = walk.position
    while position < walk.last:
        stretch = archive.stretch(request.selection, position, walk.last, walk.trimmed)
        position = stretch.up_to
        records, left_out = [], []
        for entry in stretch.entries:
            record = decode_entry(decoder, entry)
            if isinstance(record, Unreadable):
                left_out.append(LeftOut(entry.offset, _cause(record), record.render()))
            elif request.is_package and record.source_type == "simulator":
                left_out.append(LeftOut(entry.offset, "simulated", "no animal was there"))
            elif request.is_package and isinstance(record, Movement):
                left_out.append(
                    LeftOut(entry.offset, "movements", "a package has no table for them")
                )
            elif request.is_package or (
                kind(record) in chosen and is_wanted(request, getattr(record, "species", None))
            ):
                records.append((entry, record))
        yield JournalPage(records, left_out, position, stretch.gone)


def _cause(unreadable: Unreadable) -> Cause:
    is_damaged = unreadable.code is ReasonCode.DAMAGED
    return "damaged" if is_damaged else "not decoded by this version any more"
