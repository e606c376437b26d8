"""A page for each call and each recording, its sound, and the message as it came."""

from collections.abc import Sequence

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Stream
from msgspec import Struct

from echo_ingest.almanac import Almanac, CallFilter, ListedCall
from echo_ingest.journal.reader import JournalReader
from echo_ingest.payload_view import readable
from echo_ingest.record import Detection, Recording
from echo_ingest.web.console.calls.detail_view import page_of, sound_of, span_of
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.rendering import AnyRequest
from echo_ingest.web.lookup import clip_file, entry_at, shown
from echo_ingest.web.reader import download, in_turn
from echo_ingest.web.schemas import StoredRecord

NUMBER_MAX = 2**53 - 1
MARKS_MAX = 200
READABLE_BYTES_MAX = 2_000_000
"""It takes about 15 ms for each MB."""
BYTES = "application/octet-stream"


class CallContext(Struct, frozen=True):
    """What the almanac knows of a record."""

    call: ListedCall | None
    """None: it is no call."""
    earlier: int | None
    later: int | None
    """The one before, and the one after, of the same kind and node."""


class StoredFacts(Struct, frozen=True):
    """What the journal holds of a record."""

    stored: StoredRecord
    message_bytes: int
    readable: str | None
    """The message as a person can read it; None where it is long, or sound and nothing else."""
    carrier: StoredRecord
    """The record that carries its sound, if any does: itself, or a recording of the same time."""


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """The page, the clip and the message of a record."""
    turns = [in_turn()]
    decoder = sources.journal.decoder

    @get("/calls/{offset:int}")
    async def call(request: AnyRequest, offset: FromPath[int]) -> Response[bytes]:
        """One call, or one recording."""
        _require(offset)
        around = await sources.almanac.ask(lambda almanac: around_of(almanac, offset))
        told = await sources.journal.ask(lambda archive: tell(archive, offset, around, decoder))
        calls: Sequence[ListedCall] = ()
        if (wanted := calls_within(told.carrier)) is not None:
            calls = await sources.almanac.ask(lambda almanac: almanac.calls(wanted, MARKS_MAX))
        sound = sound_of(told.carrier, calls, offset)
        page = page_of(told.stored, told.message_bytes, sound)
        values = {"page": page, "around": around, "readable": told.readable}
        return sources.pages.page(request, "call.html", values)

    @get("/calls/{offset:int}/clip", middleware=turns)
    async def clip(request: AnyRequest, offset: FromPath[int]) -> Stream:
        """The audio file, byte for byte as the device sent it; or a part of it."""
        _require(offset)
        file = await sources.journal.ask(lambda archive: clip_file(archive, offset, decoder))
        return download(file.audio, file.media_type, file.name, request.headers)

    @get("/calls/{offset:int}/message", middleware=turns)
    async def message(offset: FromPath[int]) -> Stream:
        """The message as it came."""
        _require(offset)
        entry = await sources.journal.ask(lambda archive: entry_at(archive, offset))
        return download(entry.message.payload, BYTES, f"record-{offset}.bin")

    return [call, clip, message]


def around_of(almanac: Almanac, offset: int) -> CallContext:
    """Look up what lies around a record."""
    return CallContext(almanac.call(offset), *almanac.neighbours(offset))


def tell(archive: JournalReader, offset: int, around: CallContext, decoder: Decoder) -> StoredFacts:
    """Read a record, and the one with its sound.

    Raises `NotFoundException` where it is not there, or is neither a call nor a recording.
    """
    entry = entry_at(archive, offset)
    stored = carrier = shown(archive, entry, decoder)
    if stored.record is None:
        raise NotFoundException(f"record {offset} is {stored.problem}")
    if not isinstance(stored.record, Detection | Recording):
        raise NotFoundException(f"record {offset} is neither a call nor a recording")
    sound = around.call.clip_offset if around.call else None
    if sound is not None and sound != offset and (other := archive.record(sound)) is not None:
        carrier = shown(archive, other, decoder)
    payload = entry.message.payload
    is_shown = payload.startswith(b"{") and len(payload) <= READABLE_BYTES_MAX
    return StoredFacts(stored, len(payload), readable(payload) if is_shown else None, carrier)


def calls_within(carrier: StoredRecord) -> CallFilter | None:
    """Which calls may lie in its clip; None where nothing tells."""
    if carrier.record is None or (span := span_of(carrier.record)) is None:
        return None
    return CallFilter(node=carrier.record.node or "", since_ms=span[0], until_ms=span[1])


def _require(offset: int) -> None:
    if not 1 <= offset <= NUMBER_MAX:
        raise NotFoundException(f"there is no record {offset}; they are counted from 1")
