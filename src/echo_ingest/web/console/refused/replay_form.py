"""Which refused messages an address or a form means, and the replay that a form asks for."""

import time
from collections.abc import Mapping

from litestar.exceptions import ClientException, NotFoundException

from echo_ingest.almanac import Almanac, RefusedGroup
from echo_ingest.almanac.refusals import ReasonKey
from echo_ingest.journal.reader import JournalReader
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.rendering import query
from echo_ingest.web.console.replay_job import (
    MESSAGES_MAX,
    ReplayJob,
    Steps,
    replay_dead_letters,
    replay_parked,
)

PAGE = 1_000
NUMBER_DIGITS_MAX = 15
GONE = (
    "No messages are refused for that reason any more: they were replayed, or the reason changed."
)


def group_fields(sink: str | None, key: ReasonKey, node: str | None) -> dict[str, str | None]:
    """Return the parameters of a group, for an address and for a form."""
    return {
        "sink": sink,
        "code": key.code or None,
        "field": key.field or None,
        "reason": key.text or None,
        "node": node,
    }


def group_address(
    sink: str | None, key: ReasonKey, node: str | None, before: int | None = None
) -> str:
    """Return the address of a group's page, of the messages `before` a number."""
    return query("/console/refused/group", {**group_fields(sink, key, node), "before": before})


def key_of(parameters: Mapping[str, str]) -> ReasonKey:
    """Read a group's key from the parameters that `group_fields` gives."""
    code = parameters.get("code", "")
    if code:
        return ReasonKey(code=code, field=parameters.get("field", ""))
    return ReasonKey(text=parameters.get("reason", ""))


def find_group(
    almanac: Almanac, sink: str | None, key: ReasonKey, node: str | None
) -> RefusedGroup:
    """Return the group as it is now; raise `NotFoundException` where there is none."""
    for group in almanac.refused(node):
        if (group.sink, group.key) == (sink, key):
            return group
    raise NotFoundException(GONE)


async def replay_of(sources: ConsoleContext, form: dict[str, str]) -> tuple[ReplayJob, Steps]:
    """Make the replay of one message, by its `number`, or of a group, by its parameters."""
    sink = form.get("sink") or None
    reason, numbers = await chosen(sources, form, sink)
    replay = ReplayJob(reason, sink, len(numbers), time.time_ns() // 1_000_000)
    if sink is None:
        steps = replay_dead_letters(sources.settings, sources.journal.decoder, numbers)
    else:
        steps = replay_parked(sources.settings, sink, numbers)
    return replay, steps


async def chosen(
    sources: ConsoleContext, form: dict[str, str], sink: str | None
) -> tuple[str, list[int]]:
    """Return the refused messages that a form means, in order of arrival, and why they were."""
    node = form.get("node") or None
    if (number := form.get("number")) is not None:
        if not is_number(number):
            raise ClientException("number must be a whole number from 1")
        numbers = [int(number)]
        reason = await sources.journal.ask(lambda reader: _reason_of(reader, sink, numbers[0]))
    else:
        reason, numbers = await sources.almanac.ask(
            lambda almanac: _members(almanac, find_group(almanac, sink, key_of(form), node), node)
        )
    numbers.reverse()
    return reason, numbers


def is_number(text: str) -> bool:
    """Return whether a parameter is a whole number that the journal may have."""
    return text.isascii() and text.isdecimal() and len(text) <= NUMBER_DIGITS_MAX


def _reason_of(reader: JournalReader, sink: str | None, number: int) -> str:
    if sink is not None:
        for parked in reader.parked_at(number, sink):
            return parked.reason
    elif (dead_letter := reader.dead_letter(number)) is not None:
        return dead_letter.reason
    raise NotFoundException(GONE)


def _members(almanac: Almanac, group: RefusedGroup, node: str | None) -> tuple[str, list[int]]:
    numbers: list[int] = []
    before: int | None = None
    while len(numbers) < MESSAGES_MAX:
        page = almanac.refused_ones(group, node=node, before=before, ones_max=PAGE)
        numbers += page
        if len(page) < PAGE:
            break
        before = page[-1]
    return group.reason, numbers
