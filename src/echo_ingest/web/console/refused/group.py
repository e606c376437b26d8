"""All that was refused for one reason: what would come of a replay, and each of them."""

from typing import Any

from litestar import Response, get
from litestar.exceptions import ClientException
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from echo_ingest.admin.dead_letters import preview
from echo_ingest.almanac import Almanac, RefusedGroup
from echo_ingest.journal.entries import DeadLetter
from echo_ingest.journal.reader import JournalReader
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.refused.advice import advice
from echo_ingest.web.console.refused.replay_form import group_of
from echo_ingest.web.console.rendering import AnyRequest
from echo_ingest.web.console.replay_job import ONES_MAX

PAGE = 25
TRIED_MAX = 200
"""How many dead letters are tried to say what would come of all."""
READ_BYTES_MAX = 16 * 1024 * 1024
NUMBER_DIGITS_MAX = 15
WHY_MAX = 5


class RefusedRow(Struct, frozen=True):
    """A line of the table."""

    address: str
    at_ms: int
    node: str | None
    topic: str
    size_bytes: int
    attempts: int | None = None
    """How often its store was asked to take it."""
    is_asked_for: bool = False
    """It is offered again as soon as the service gets to it."""


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """Its page."""

    @get("/refused/group")
    async def group(request: AnyRequest) -> Response[bytes]:
        """The group of a reason, and of a sink or of dead letters; of `node` alone, if given."""
        asked = request.query_params
        sink, node, before = asked.get("sink") or None, asked.get("node") or None, _before(request)
        numbers: list[int]
        its, numbers = await sources.almanac.ask(
            lambda almanac: _members(almanac, sink, asked.get("reason", ""), node, before)
        )
        values = await sources.journal.ask(
            lambda archive: (
                _letters(archive, numbers, sources.settings.payload_bytes_max, before is None)
                if sink is None
                else _parked(archive, sink, numbers[:PAGE])
            )
        )
        ones: list[RefusedRow] = values["ones"]
        return sources.pages.page(
            request,
            "refused_group.html",
            {
                "group": its,
                "node": node,
                "before": before,
                "advice": advice(sink, its.reason),
                "at_once": min(its.count, ONES_MAX),
                "earlier": numbers[len(ones) - 1] if 0 < len(ones) < len(numbers) else None,
                **values,
            },
        )

    return [group]


def _before(request: AnyRequest) -> int | None:
    text = request.query_params.get("before", "")
    if text and not (text.isascii() and text.isdecimal() and len(text) <= NUMBER_DIGITS_MAX):
        raise ClientException(f"before is {text!r:.40}: it must be a whole number")
    return int(text) if text else None


def _members(
    almanac: Almanac, sink: str | None, reason: str, node: str | None, before: int | None
) -> tuple[RefusedGroup, list[int]]:
    group = group_of(almanac, sink, reason, node)
    return group, almanac.refused_ones(group, node=node, before=before, ones_max=TRIED_MAX)


def _letters(
    archive: JournalReader, numbers: list[int], payload_bytes_max: int, tries: bool
) -> dict[str, Any]:
    """The first of them, as lines; and, if that `tries`, what would come of them now."""
    letters: list[DeadLetter] = []
    size_bytes = 0
    for number in numbers[: TRIED_MAX if tries else PAGE]:
        letter = archive.dead_letter(number)
        if letter is not None:
            letters.append(letter)
            size_bytes += len(letter.message.payload)
        if size_bytes >= READ_BYTES_MAX:
            break
    outcomes = preview(letters if tries else [], payload_bytes_max)
    valid = outcomes.pop(None, 0)
    return {
        "ones": [
            RefusedRow(
                f"/console/refused/letters/{each.id}",
                each.message.received_at_ms,
                each.message.node,
                each.message.topic,
                len(each.message.payload),
            )
            for each in letters[:PAGE]
        ],
        "tried": len(letters) if tries else 0,
        "valid": valid,
        "why": outcomes.most_common(WHY_MAX),
    }


def _parked(archive: JournalReader, sink: str, offsets: list[int]) -> dict[str, Any]:
    rows = [row for offset in offsets for row in archive.parked_at(offset, sink)]
    return {
        "ones": [
            RefusedRow(
                f"/console/refused/parked/{row.sink}/{row.offset}",
                row.parked_at_ms,
                row.node,
                row.topic,
                row.size_bytes,
                row.attempts,
                row.replay_requested,
            )
            for row in rows
        ],
        "tried": 0,
        "valid": 0,
        "why": [],
    }
