"""A page for each call and each recording, with its clip and the message as the device sent it."""

from collections.abc import Sequence

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Stream
from msgspec import Struct

from echo_ingest.almanac import Almanac, CallFilter, ListedCall
from echo_ingest.decode import Decoder
from echo_ingest.journal.reader import JournalReader
from echo_ingest.payload_view import readable
from echo_ingest.record import Detection, Recording
from echo_ingest.web.console.calls.detail_view import call_view, player_of, span_of
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.rendering import AnyRequest
from echo_ingest.web.downloads import download
from echo_ingest.web.lookup import clip_file, entry_at, shown
from echo_ingest.web.schemas import StoredRecord

NUMBER_MAX = 2**53 - 1
MARKS_MAX = 200
READABLE_BYTES_MAX = 2_000_000
"""Making a message readable takes about 15 ms for each MB."""
BYTES = "application/octet-stream"


class CallContext(Struct, frozen=True):
    """What the almanac knows of a record."""

    call: ListedCall | None
    """None: it is not a call."""
    earlier: int | None
    later: int | None
    """Offsets of the one before and the one after, of the same kind and node."""


class StoredFacts(Struct, frozen=True):
    """What the journal holds of a record."""

    stored: StoredRecord
    message_bytes: int
    readable: str | None
    """The message as a person can read it; None where it is long, or only audio."""
    carrier: StoredRecord
    """The record with its clip, if there is one: itself, or a recording of the same time."""


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """Return the page, the clip and the message of a record."""
    decoder = sources.journal.decoder

    @get("/calls/{offset:int}")
    async def call(request: AnyRequest, offset: FromPath[int]) -> Response[bytes]:
        """Show one call or one recording."""
        _require(offset)
        around = await sources.almanac.ask(lambda almanac: context_of(almanac, offset))
        facts = await sources.journal.ask(lambda reader: facts_of(reader, offset, around, decoder))
        calls: Sequence[ListedCall] = ()
        if (wanted := calls_within(facts.carrier)) is not None:
            calls = await sources.almanac.ask(lambda almanac: almanac.calls(wanted, MARKS_MAX))
        view = call_view(
            facts.stored,
            player=player_of(facts.carrier, calls, offset),
            message_bytes=facts.message_bytes,
            readable=facts.readable,
            earlier=around.earlier,
            later=around.later,
            rules=decoder.rules,
        )
        return sources.pages.page(request, "call.html", view)

    @get("/calls/{offset:int}/clip", middleware=[sources.downloads])
    async def clip(request: AnyRequest, offset: FromPath[int]) -> Stream:
        """Send the audio file, byte for byte as the device sent it, or a part of it."""
        _require(offset)
        file = await sources.journal.ask(lambda reader: clip_file(reader, offset, decoder))
        return download(file.audio, file.media_type, file.name, request.headers)

    @get("/calls/{offset:int}/message", middleware=[sources.downloads])
    async def message(offset: FromPath[int]) -> Stream:
        """Send the message as the device sent it."""
        _require(offset)
        entry = await sources.journal.ask(lambda reader: entry_at(reader, offset))
        return download(entry.message.payload, BYTES, f"record-{offset}.bin")

    return [call, clip, message]


def context_of(almanac: Almanac, offset: int) -> CallContext:
    """Look up the call and its neighbours."""
    earlier, later = almanac.neighbours(offset)
    return CallContext(almanac.call(offset), earlier, later)


def facts_of(
    reader: JournalReader, offset: int, around: CallContext, decoder: Decoder
) -> StoredFacts:
    """Read a record, and the one with its clip.

    Raises `NotFoundException` where there is none, or where it is neither a call nor a recording.
    """
    entry = entry_at(reader, offset)
    stored = carrier = shown(reader, entry, decoder)
    if stored.record is None:
        raise NotFoundException(f"record {offset} cannot be shown: it is {stored.problem}")
    if not isinstance(stored.record, Detection | Recording):
        raise NotFoundException(f"record {offset} is neither a call nor a recording")
    clip_offset = around.call.clip_offset if around.call else None
    if clip_offset is not None and clip_offset != offset:
        other = reader.record(clip_offset)
        if other is not None:
            carrier = shown(reader, other, decoder)
    payload = entry.message.payload
    is_readable = payload.startswith(b"{") and len(payload) <= READABLE_BYTES_MAX
    return StoredFacts(stored, len(payload), readable(payload) if is_readable else None, carrier)


def calls_within(carrier: StoredRecord) -> CallFilter | None:
    """Return a filter for the calls that may lie in its clip; None where that is not known."""
    if carrier.record is None or (span := span_of(carrier.record)) is None:
        return None
    return CallFilter(node=carrier.record.node or "", since_ms=span[0], until_ms=span[1])


def _require(offset: int) -> None:
    if not 1 <= offset <= NUMBER_MAX:
        raise NotFoundException(f"there is no record {offset}; records are counted from 1")
