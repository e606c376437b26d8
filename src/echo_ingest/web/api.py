"""The read API: records, clips, dead letters and parked records, as the journal holds them."""

from datetime import date, datetime
from itertools import islice
from typing import Annotated, Literal

from litestar import Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException, NotFoundException, ValidationException
from litestar.params import FromQuery, PathParameter, QueryParameter, SkipValidation
from litestar.response import Stream

from echo_ingest.journal.entries import DeadLetterEntry, up_to_bytes
from echo_ingest.journal.reader import JournalReader, Selection, parked_bytes
from echo_ingest.record import RECORDS_MAX, RecordId
from echo_ingest.web.downloads import download
from echo_ingest.web.lookup import clip_file, entry_at, one_of, shown
from echo_ingest.web.problems import AnyRequest, Problem, problem
from echo_ingest.web.reader import JournalThreads, downloads_in_turn, questions_in_turn
from echo_ingest.web.schemas import (
    DeadLetterPage,
    DeadMessage,
    NodeDays,
    ParkedPage,
    RecordPage,
    StoredRecord,
    dead_message,
    dead_message_bytes,
    node_on_day,
    refused_record,
)

PAGE_MAX = 500
NODE_DAYS_MAX = 10_000
GIVEN = {"journal", "request"}
"""Parameters that do not come from the address."""
NUMBER_MAX = 2**53 - 1  # the largest that every reader of JSON takes for what it is

BYTES = "application/octet-stream"

WANTED = {
    "offset": "a whole number from 1",
    "index": f"a whole number from 0 to {RECORDS_MAX - 1}",
    "number": "a whole number from 1",
    "before": "an offset, a whole number from 1",
    "after": "a whole number from 0",
    "limit": f"a whole number from 1 to {PAGE_MAX}",
    "kind": "detection, recording, telemetry, movement or measurement",
}
DAY = "a day in UTC, such as 2026-09-14"
ZONED = "a time with its zone, such as 2026-09-14T05:45:12Z (send + as %2B)"

Kind = Literal["detection", "recording", "telemetry", "movement", "measurement"]
Text = Annotated[str | None, QueryParameter()]
Zoned = Annotated[str | None, QueryParameter(description=ZONED)]
Day = Annotated[str | None, QueryParameter(description=DAY)]
Number = Annotated[int, PathParameter(ge=1, le=NUMBER_MAX)]
Index = Annotated[int, QueryParameter(ge=0, lt=RECORDS_MAX)]
Before = Annotated[int | None, QueryParameter(ge=1, le=NUMBER_MAX)]
After = Annotated[int, QueryParameter(ge=0, le=NUMBER_MAX)]
Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)]
Journal = NamedDependency[SkipValidation[JournalThreads]]


def read_api(journal: JournalThreads) -> Router:
    """Return all routes that read the journal."""
    questions = Router(
        "/",
        route_handlers=[
            list_records,
            show_record,
            list_dead_letters,
            show_dead_letter,
            list_parked,
            list_nodes,
        ],
        middleware=[questions_in_turn()],
    )
    downloads = Router(
        "/",
        route_handlers=[download_clip, download_record_payload, download_dead_letter_payload],
        middleware=[downloads_in_turn()],
    )
    return Router(
        "/api",
        route_handlers=[questions, downloads],
        dependencies={"journal": Provide(lambda: journal, sync_to_thread=False)},
        before_request=_refuse_unknown_parameters,
        exception_handlers={ValidationException: _say_what_to_send},
        tags=["journal"],
    )


@get("/records")
async def list_records(
    journal: Journal,
    node: Text = None,
    kind: FromQuery[Kind | None] = None,
    since: Zoned = None,
    until: Zoned = None,
    before: Before = None,
    limit: Limit = 50,
) -> RecordPage:
    """List records, last received first; `since` and `until` are observed times.

    Those of one message are all on one page, which may then have more than `limit`.
    """
    selection = Selection(node, kind, _instant("since", since), _instant("until", until))

    def question(reader: JournalReader) -> RecordPage:
        records: list[StoredRecord] = []
        following: int | None = None
        for entry in reader.newest(selection, limit, before):
            records += shown(reader, entry, journal.decoder, selection)
            following = entry.offset
            if len(records) >= limit:  # several of one message count as several
                break
        return RecordPage(records, following)

    return await journal.ask(question)


@get("/records/{offset:int}", raises=[NotFoundException])
async def show_record(journal: Journal, offset: Number, index: Index = 0) -> StoredRecord:
    """Show one record; `index` is its place in its message."""

    def question(reader: JournalReader) -> StoredRecord:
        records = shown(reader, entry_at(reader, offset), journal.decoder)
        return one_of(records, RecordId(offset, index))

    return await journal.ask(question)


@get("/records/{offset:int}/clip", raises=[NotFoundException])
async def download_clip(
    request: AnyRequest, journal: Journal, offset: Number, index: Index = 0
) -> Stream:
    """Download a record's audio file, byte for byte as the device sent it, or a part of it."""
    record = RecordId(offset, index)
    file = await journal.ask(lambda reader: clip_file(reader, record, journal.decoder))
    return download(file.audio, file.media_type, file.name, request.headers)


@get("/records/{offset:int}/payload", media_type=BYTES, raises=[NotFoundException])
async def download_record_payload(journal: Journal, offset: Number) -> Stream:
    """Download the message, as it came."""
    payload = await journal.ask(lambda reader: entry_at(reader, offset).message.payload)
    return download(payload, BYTES, f"record-{offset}.bin")


@get("/dead-letters")
async def list_dead_letters(
    journal: Journal, node: Text = None, reason: Text = None, after: After = 0, limit: Limit = 50
) -> DeadLetterPage:
    """List messages that were never valid, in order of arrival."""

    def question(reader: JournalReader) -> list[DeadMessage]:
        letters = islice(reader.dead_letters(after, node, reason), limit)
        return [dead_message(letter) for letter in up_to_bytes(letters, dead_message_bytes)]

    dead = await journal.ask(question)
    return DeadLetterPage(dead, dead[-1].id if dead else None)


@get("/dead-letters/{number:int}", raises=[NotFoundException])
async def show_dead_letter(journal: Journal, number: Number) -> DeadMessage:
    """Show one message that was never valid."""
    return await journal.ask(lambda reader: dead_message(_dead_letter(reader, number)))


@get("/dead-letters/{number:int}/payload", media_type=BYTES, raises=[NotFoundException])
async def download_dead_letter_payload(journal: Journal, number: Number) -> Stream:
    """Download a message that was never valid, as it came."""
    payload = await journal.ask(lambda reader: _dead_letter(reader, number).message.payload)
    return download(payload, BYTES, f"dead-letter-{number}.bin")


@get("/parked", raises=[NotFoundException])
async def list_parked(
    journal: Journal, sink: Text = None, node: Text = None, after: After = 0, limit: Limit = 50
) -> ParkedPage:
    """List the records that a sink refused, by sink and offset."""

    def question(reader: JournalReader) -> ParkedPage:
        sinks = reader.ledger().sinks
        if sink is not None and sink not in sinks:
            known = ", ".join(sinks) or "none"
            raise NotFoundException(f"there is no sink {sink!r:.80}; known sinks: {known}")
        rows = islice(reader.parked(sink, node, after=after), limit)
        parked = [refused_record(row) for row in up_to_bytes(rows, parked_bytes)]
        return ParkedPage(parked, reader.count_parked(sink, node))

    return await journal.ask(question)


@get("/nodes")
async def list_nodes(journal: Journal, node: Text = None, since: Day = None) -> NodeDays:
    """List what each node sent on each day; these figures outlive the records."""
    first_day = _day(since)
    days = await journal.ask(lambda reader: reader.node_days(node, first_day, NODE_DAYS_MAX + 1))
    return NodeDays([node_on_day(day) for day in days[:NODE_DAYS_MAX]], len(days) > NODE_DAYS_MAX)


def _dead_letter(reader: JournalReader, number: int) -> DeadLetterEntry:
    dead_letter = reader.dead_letter(number)
    if dead_letter is None:
        raise NotFoundException(f"there is no dead letter {number}; it may have been replayed")
    return dead_letter


def _instant(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise HTTPException(f"{name} must be {ZONED}", status_code=400)
    return instant


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text is not None else None
    except ValueError:
        raise HTTPException(f"since must be {DAY}", status_code=400) from None


def _say_what_to_send(request: AnyRequest, error: ValidationException) -> Response[Problem]:
    assert isinstance(error.extra, list)
    names = [wrong["key"] for wrong in error.extra]
    return problem(400, "; ".join(f"{name} must be {WANTED[name]}" for name in names))


def _refuse_unknown_parameters(request: AnyRequest) -> None:
    """Refuse a filter that is misspelt or given twice: the answer would quietly be another."""
    parameters = request.route_handler.parsed_fn_signature.parameters.keys()
    possible = sorted(parameters - request.path_params.keys() - GIVEN)
    left = set(possible)
    for name, _ in request.query_params.multi_items():
        if name not in left:
            known = ", ".join(possible) or "none"
            error = f"{name!r:.80} is unknown or given twice; allowed, once each: {known}"
            raise HTTPException(error, status_code=400)
        left.remove(name)
