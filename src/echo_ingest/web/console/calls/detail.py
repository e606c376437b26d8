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
from echo_ingest.record import Detection, RecordId, Recording
from echo_ingest.web.console.calls.detail_view import call_view, player_of, span_of
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.rendering import AnyRequest
from echo_ingest.web.downloads import download
from echo_ingest.web.lookup import clip_file, entry_at, one_of, shown
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
    earlier: RecordId | None
    later: RecordId | None
    """The one before and the one after, of the same kind and node."""


class StoredFacts(Struct, frozen=True):
    """What the journal holds of a record."""

    stored: StoredRecord
    of_message: int
    """How many records its message has."""
    message_bytes: int
    readable: str | None
    """The message as a person can read it; None where it is long, or only audio."""
    carrier: StoredRecord
    """The record with its clip, if there is one: itself, or a recording of the same time."""


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """Return the page, the clip and the message of a record."""
    decoder = sources.journal.decoder

    @get("/calls/{record:str}")
    async def call(request: AnyRequest, record: FromPath[str]) -> Response[bytes]:
        """Show one call or one recording."""
        wanted = _record(record)
        around = await sources.almanac.ask(lambda almanac: context_of(almanac, wanted))
        facts = await sources.journal.ask(lambda reader: facts_of(reader, wanted, around, decoder))
        calls: Sequence[ListedCall] = ()
        if (within := calls_within(facts.carrier)) is not None:
            calls = await sources.almanac.ask(lambda almanac: almanac.calls(within, MARKS_MAX))
        view = call_view(
            facts.stored,
            of_message=facts.of_message,
            player=player_of(facts.carrier, calls, wanted),
            message_bytes=facts.message_bytes,
            readable=facts.readable,
            earlier=around.earlier,
            later=around.later,
            rules=decoder.rules,
        )
        return sources.pages.page(request, "call.html", view)

    @get("/calls/{record:str}/clip", middleware=[sources.downloads])
    async def clip(request: AnyRequest, record: FromPath[str]) -> Stream:
        """Send the audio file, byte for byte as the device sent it, or a part of it."""
        wanted = _record(record)
        file = await sources.journal.ask(lambda reader: clip_file(reader, wanted, decoder))
        return download(file.audio, file.media_type, file.name, request.headers)

    @get("/calls/{record:str}/message", middleware=[sources.downloads])
    async def message(record: FromPath[str]) -> Stream:
        """Send the message as the device sent it."""
        offset = _record(record).offset
        entry = await sources.journal.ask(lambda reader: entry_at(reader, offset))
        return download(entry.message.payload, BYTES, f"record-{offset}.bin")

    return [call, clip, message]


def context_of(almanac: Almanac, record: RecordId) -> CallContext:
    """Look up the call and its neighbours."""
    earlier, later = almanac.neighbours(record)
    return CallContext(almanac.call(record), earlier, later)


def facts_of(
    reader: JournalReader, record: RecordId, around: CallContext, decoder: Decoder
) -> StoredFacts:
    """Read a record, and the one with its clip.

    Raises `NotFoundException` where there is none, or where it is neither a call nor a recording.
    """
    entry = entry_at(reader, record.offset)
    records = shown(reader, entry, decoder)
    stored = carrier = one_of(records, record)
    if stored.record is None:
        raise NotFoundException(f"record {record} cannot be shown: it is {stored.problem}")
    if not isinstance(stored.record, Detection | Recording):
        raise NotFoundException(f"record {record} is neither a call nor a recording")
    clip_record = around.call.clip_record if around.call else None
    if clip_record is not None and clip_record != record:
        other = reader.record(clip_record.offset)
        if other is not None:
            carrier = one_of(shown(reader, other, decoder), clip_record)
    payload = entry.message.payload
    is_readable = payload.startswith(b"{") and len(payload) <= READABLE_BYTES_MAX
    return StoredFacts(
        stored=stored,
        of_message=len(records),
        message_bytes=len(payload),
        readable=readable(payload) if is_readable else None,
        carrier=carrier,
    )


def calls_within(carrier: StoredRecord) -> CallFilter | None:
    """Return a filter for the calls that may lie in its clip; None where that is not known."""
    if carrier.record is None or (span := span_of(carrier.record)) is None:
        return None
    return CallFilter(node=carrier.record.node or "", since_ms=span[0], until_ms=span[1])


def _record(text: str) -> RecordId:
    record = RecordId.parse(text)
    if record is None or record.offset > NUMBER_MAX:
        raise NotFoundException(f"there is no record {text:.40}; records are counted from 1")
    return record
