"""One refused message: why, what to do, and the message itself, made readable."""

from collections.abc import Sequence
from typing import Annotated

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter
from litestar.response import Stream
from msgspec import Struct

from echo_ingest.admin.dead_letters import decode_again
from echo_ingest.almanac.refusals import reason_key
from echo_ingest.decode import Decoder
from echo_ingest.journal.entries import DeadLetterEntry
from echo_ingest.journal.reader import JournalReader, Parked
from echo_ingest.payload_view import PayloadLine, Subject, lines_of
from echo_ingest.record import Message, Rejected
from echo_ingest.sinks.registry import title_of
from echo_ingest.web.api import BYTES, Number
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.refused.advice import advice
from echo_ingest.web.console.refused_groups import group_address, make_form_address
from echo_ingest.web.console.rendering import AnyRequest
from echo_ingest.web.downloads import download
from echo_ingest.web.lookup import entry_at

Name = Annotated[str, PathParameter(max_length=100)]


class RefusedMessageView(Struct, frozen=True, kw_only=True):
    """What `refused_one.html` shows."""

    number: int
    """The id of a dead letter, or the offset of a record."""
    reason: str
    advice: str
    group_address: str
    message: Message
    payload_address: str
    lines: Sequence[PayloadLine]
    sink: str | None = None
    refused_by: str | None = None
    """The title of the sink; None for a dead letter."""
    parked: Parked | None = None
    make_form_address: str | None = None
    """Where a form is made for it and the like; None for a parked record."""
    still_rejected: str | None = None
    """Why this version rejects a dead letter; None where it would accept the message."""


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """Return the pages of a dead letter and of a parked record, and the downloads of both."""
    decoder = sources.journal.decoder

    @get("/refused/letters/{number:int}")
    async def letter(request: AnyRequest, number: Number) -> Response[bytes]:
        """Show a dead letter."""
        dead_letter = await sources.journal.ask(lambda reader: _dead_letter(reader, number))
        view = dead_letter_view(dead_letter, decoder)
        return sources.pages.page(request, "refused_one.html", view)

    @get("/refused/parked/{sink:str}/{offset:int}")
    async def parked(request: AnyRequest, sink: Name, offset: Number) -> Response[bytes]:
        """Show a record that a sink refused."""
        message, row = await sources.journal.ask(lambda reader: _parked(reader, sink, offset))
        return sources.pages.page(request, "refused_one.html", parked_view(message, row))

    @get("/refused/letters/{number:int}/payload", media_type=BYTES, middleware=[sources.downloads])
    async def letter_payload(number: Number) -> Stream:
        """Send the message of a dead letter, as it came."""
        dead_letter = await sources.journal.ask(lambda reader: _dead_letter(reader, number))
        return download(dead_letter.message.payload, BYTES, f"refused-{number}.bin")

    @get(
        "/refused/parked/{sink:str}/{offset:int}/payload",
        media_type=BYTES,
        middleware=[sources.downloads],
    )
    async def parked_payload(sink: Name, offset: Number) -> Stream:
        """Send the message of a parked record, as it came."""
        message, _ = await sources.journal.ask(lambda reader: _parked(reader, sink, offset))
        return download(message.payload, BYTES, f"record-{offset}.bin")

    return [letter, parked, letter_payload, parked_payload]


def dead_letter_view(dead_letter: DeadLetterEntry, decoder: Decoder) -> RefusedMessageView:
    """Return the view of a dead letter.

    The message is decoded again, to tell whether it can be read now, and what to mark.
    """
    decoded = decode_again(dead_letter, decoder)
    rejected = decoded if isinstance(decoded, Rejected) else None
    key = reason_key(dead_letter.reason, dead_letter.code, dead_letter.field)
    return RefusedMessageView(
        number=dead_letter.id,
        reason=dead_letter.reason,
        advice=advice(None, key),
        group_address=group_address(None, key, None),
        message=dead_letter.message,
        payload_address=f"/console/refused/letters/{dead_letter.id}/payload",
        lines=lines_of(dead_letter.message.payload, _subject(dead_letter, rejected)),
        make_form_address=make_form_address(key, None, dead_letter.id),
        still_rejected=None if rejected is None else rejected.render(),
    )


def _subject(dead_letter: DeadLetterEntry, rejected: Rejected | None) -> Subject:
    """Return what to mark: what the stored reason is about.

    The journal does not keep where JSON is broken, and of version 1 not the field either: then the
    reason for which the message is `rejected` now tells.
    """
    if rejected is None or dead_letter.code not in (None, rejected.code):
        return dead_letter.field
    return rejected


def parked_view(message: Message, parked: Parked) -> RefusedMessageView:
    """Return the view of a record that a sink refused."""
    key = reason_key(parked.reason, parked.code, parked.field)
    return RefusedMessageView(
        number=parked.offset,
        reason=parked.reason,
        advice=advice(parked.sink, key),
        group_address=group_address(parked.sink, key, None),
        message=message,
        payload_address=f"/console/refused/parked/{parked.sink}/{parked.offset}/payload",
        lines=lines_of(message.payload, parked.field),
        sink=parked.sink,
        refused_by=title_of(parked.sink),
        parked=parked,
    )


def _dead_letter(reader: JournalReader, number: int) -> DeadLetterEntry:
    dead_letter = reader.dead_letter(number)
    if dead_letter is None:
        raise NotFoundException(
            f"There is no refused message {number}: it was replayed, or never existed."
        )
    return dead_letter


def _parked(reader: JournalReader, sink: str, offset: int) -> tuple[Message, Parked]:
    rows = reader.parked_at(offset, sink)
    if not rows:
        raise NotFoundException(
            f"Record {offset} is not refused by {title_of(sink)}, or was accepted since."
        )
    return entry_at(reader, offset).message, rows[0]
