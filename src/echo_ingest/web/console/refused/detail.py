"""One message that was refused: why, what to do, and the message itself, made readable."""

from typing import Annotated

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter
from litestar.response import Stream

from echo_ingest.admin.dead_letters import verdict
from echo_ingest.almanac.refusals import alike
from echo_ingest.journal.entries import DeadLetter
from echo_ingest.journal.reader import JournalReader, Parked
from echo_ingest.payload_view import lines_of
from echo_ingest.record import Message, Rejected
from echo_ingest.web.api import BYTES, Number
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.refused.advice import advice
from echo_ingest.web.console.rendering import AnyRequest
from echo_ingest.web.downloads import download
from echo_ingest.web.lookup import entry_at

Name = Annotated[str, PathParameter(max_length=100)]


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """The page of a dead letter, that of a parked record, and what came, to be downloaded."""
    payload_bytes_max = sources.settings.payload_bytes_max

    @get("/refused/letters/{number:int}")
    async def letter(request: AnyRequest, number: Number) -> Response[bytes]:
        """A dead letter."""
        its = await sources.journal.ask(lambda archive: _letter(archive, number))
        now = verdict(its, payload_bytes_max)
        return sources.pages.page(
            request,
            "refused_one.html",
            {
                **_shown(its.message, None, its.reason),
                "number": number,
                "parked": None,
                "still": now.reason if isinstance(now, Rejected) else None,
                "payload": f"/console/refused/letters/{number}/payload",
            },
        )

    @get("/refused/parked/{sink:str}/{offset:int}")
    async def parked(request: AnyRequest, sink: Name, offset: Number) -> Response[bytes]:
        """A record that a sink refused."""
        message, its = await sources.journal.ask(lambda archive: _parked(archive, sink, offset))
        return sources.pages.page(
            request,
            "refused_one.html",
            {
                **_shown(message, sink, its.reason),
                "number": offset,
                "parked": its,
                "still": None,
                "payload": f"/console/refused/parked/{sink}/{offset}/payload",
            },
        )

    @get("/refused/letters/{number:int}/payload", media_type=BYTES)
    async def letter_payload(number: Number) -> Stream:
        """A dead letter's message, as it came."""
        its = await sources.journal.ask(lambda archive: _letter(archive, number))
        return download(its.message.payload, BYTES, f"refused-{number}.bin")

    @get("/refused/parked/{sink:str}/{offset:int}/payload", media_type=BYTES)
    async def parked_payload(sink: Name, offset: Number) -> Stream:
        """A parked record's message, as it came."""
        message, _ = await sources.journal.ask(lambda archive: _parked(archive, sink, offset))
        return download(message.payload, BYTES, f"record-{offset}.bin")

    return [letter, parked, letter_payload, parked_payload]


def _letter(archive: JournalReader, number: int) -> DeadLetter:
    letter = archive.dead_letter(number)
    if letter is None:
        raise NotFoundException(
            f"There is no refused message {number}: it was replayed, or there never was."
        )
    return letter


def _parked(archive: JournalReader, sink: str, offset: int) -> tuple[Message, Parked]:
    rows = archive.parked_at(offset, sink)
    if not rows:
        raise NotFoundException(
            f"Record {offset} is not refused: its store has taken it since, or always had."
        )
    return entry_at(archive, offset).message, rows[0]


def _shown(message: Message, sink: str | None, reason: str) -> dict[str, object]:
    return {
        "message": message,
        "sink": sink,
        "reason": reason,
        "alike": alike(reason),
        "advice": advice(sink, alike(reason)),
        "lines": lines_of(message.payload, reason),
        "size_bytes": len(message.payload),
    }
