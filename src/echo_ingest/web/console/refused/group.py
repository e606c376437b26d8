"""All messages that were refused for one reason: what a replay would do, and each message."""

from collections.abc import Sequence

from litestar import Response, get
from litestar.exceptions import ClientException
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from echo_ingest.admin.dead_letters import preview
from echo_ingest.almanac import Almanac, RefusedGroup
from echo_ingest.almanac.refusals import ReasonKey
from echo_ingest.decode import Decoder
from echo_ingest.journal.entries import entry_bytes, up_to_bytes
from echo_ingest.journal.reader import JournalReader
from echo_ingest.sinks.registry import title_of
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.refused.advice import advice
from echo_ingest.web.console.refused.replay_form import (
    find_group,
    group_address,
    group_fields,
    is_number,
    key_of,
)
from echo_ingest.web.console.rendering import AnyRequest
from echo_ingest.web.console.replay_job import MESSAGES_MAX

PAGE = 25
TRIED_MAX = 200
"""How many dead letters are decoded to say what a replay of all would do."""
REASONS_MAX = 5


class RefusedRow(Struct, frozen=True, kw_only=True):
    """A message, as a line of the table."""

    address: str
    at_ms: int
    node: str | None
    topic: str
    size_bytes: int
    reason: str
    attempts: int | None = None
    """How often its sink was asked to take it."""
    replay_requested: bool = False
    """It is offered again as soon as the service gets to it."""


class ReplayPreview(Struct, frozen=True):
    """What a replay of dead letters would do."""

    tried: int
    valid: int
    """How many of those tried would be stored."""
    ignored: int
    """How many a form would ignore."""
    reasons: Sequence[tuple[str, int]]
    """Why others would stay, the most frequent reasons first."""


class RefusedGroupView(Struct, frozen=True, kw_only=True):
    """What `refused_group.html` shows."""

    group: RefusedGroup
    node: str | None
    """The node whose messages alone are shown."""
    advice: str
    refused_by: str | None
    """The title of the sink; None for dead letters."""
    fields: dict[str, str | None]
    """What a form sends to replay the group."""
    address: str
    """The address of the first page."""
    newest: str | None
    earlier: str | None
    """Addresses of the first and of the next page; None where there is none."""
    at_once: int
    """How many messages one replay takes."""
    rows: Sequence[RefusedRow]
    preview: ReplayPreview | None
    """None where nothing was tried."""


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """Return the page of a group."""

    @get("/refused/group")
    async def group(request: AnyRequest) -> Response[bytes]:
        """Show a group of dead letters, or of what `sink` refused; of `node` alone, if given."""
        parameters = request.query_params
        sink, node = parameters.get("sink") or None, parameters.get("node") or None
        key, before = key_of(parameters), _before(request)
        members, numbers = await sources.almanac.ask(
            lambda almanac: _members(almanac, sink, key, node, before)
        )
        rows, replay_preview = await sources.journal.ask(
            lambda reader: (
                _dead_letters(reader, numbers, sources.journal.decoder, tries=before is None)
                if sink is None
                else (_parked_rows(reader, sink, numbers[:PAGE]), None)
            )
        )
        last = numbers[len(rows) - 1] if 0 < len(rows) < len(numbers) else None
        address = group_address(sink, key, node)
        view = RefusedGroupView(
            group=members,
            node=node,
            advice=advice(sink, key),
            refused_by=None if sink is None else title_of(sink),
            fields=group_fields(sink, key, node),
            address=address,
            newest=None if before is None else address,
            earlier=None if last is None else group_address(sink, key, node, last),
            at_once=min(members.count, MESSAGES_MAX),
            rows=rows,
            preview=replay_preview,
        )
        return sources.pages.page(request, "refused_group.html", view)

    return [group]


def _before(request: AnyRequest) -> int | None:
    text = request.query_params.get("before", "")
    if text and not is_number(text):
        raise ClientException(f"before is {text!r:.40}: it must be a whole number")
    return int(text) if text else None


def _members(
    almanac: Almanac, sink: str | None, key: ReasonKey, node: str | None, before: int | None
) -> tuple[RefusedGroup, list[int]]:
    group = find_group(almanac, sink, key, node)
    return group, almanac.refused_ones(group, node=node, before=before, ones_max=TRIED_MAX)


def _dead_letters(
    reader: JournalReader, numbers: list[int], decoder: Decoder, *, tries: bool
) -> tuple[list[RefusedRow], ReplayPreview | None]:
    """Read the first page of dead letters; if it `tries`, also what a replay would do."""
    read = map(reader.dead_letter, numbers[: TRIED_MAX if tries else PAGE])
    found = (dead_letter for dead_letter in read if dead_letter is not None)
    dead_letters = list(up_to_bytes(found, entry_bytes))
    rows = [
        RefusedRow(
            address=f"/console/refused/letters/{dead_letter.id}",
            at_ms=dead_letter.message.received_at_ms,
            node=dead_letter.message.node,
            topic=dead_letter.message.topic,
            size_bytes=len(dead_letter.message.payload),
            reason=dead_letter.reason,
        )
        for dead_letter in dead_letters[:PAGE]
    ]
    if not tries or not dead_letters:
        return rows, None
    now = preview(dead_letters, decoder)
    reasons = [(why.render(), count) for why, count in now.rejected.most_common(REASONS_MAX)]
    return rows, ReplayPreview(len(dead_letters), now.valid, now.ignored, reasons)


def _parked_rows(reader: JournalReader, sink: str, offsets: list[int]) -> list[RefusedRow]:
    return [
        RefusedRow(
            address=f"/console/refused/parked/{parked.sink}/{parked.offset}",
            at_ms=parked.parked_at_ms,
            node=parked.node,
            topic=parked.topic,
            size_bytes=parked.size_bytes,
            reason=parked.reason,
            attempts=parked.attempts,
            replay_requested=parked.replay_requested,
        )
        for offset in offsets
        for parked in reader.parked_at(offset, sink)
    ]
