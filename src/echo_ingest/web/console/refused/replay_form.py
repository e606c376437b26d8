"""Which refused messages are meant: a group by its reason, or one; and a replay of them."""

import time

from litestar.exceptions import ClientException, NotFoundException

from echo_ingest.almanac import Almanac, RefusedGroup
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.replay_job import ONES_MAX, ReplayJob, Steps, of_letters, of_parked

PAGE = 1_000
GONE = "Nothing is refused for that reason any more: it was replayed, or the reason has changed."


def group_of(almanac: Almanac, sink: str | None, reason: str, node: str | None) -> RefusedGroup:
    """The group, as it is now; raises `NotFoundException`."""
    for group in almanac.refused(node):
        if (group.sink, group.reason) == (sink, reason):
            return group
    raise NotFoundException(GONE)


async def replay_of(sources: ConsoleContext, form: dict[str, str]) -> tuple[ReplayJob, Steps]:
    """What a form asks for: `number` of one, or the `reason` of a group, of `sink` and `node`."""
    sink, node = form.get("sink") or None, form.get("node") or None
    reason = form.get("reason", "")
    if (number := form.get("number")) is not None:
        if not number.isascii() or not number.isdecimal() or len(number) > 15:
            raise ClientException("number must be a whole number from 1")
        numbers = [int(number)]
        reason = await sources.journal.ask(
            lambda archive: (
                next((each.reason for each in archive.parked_at(numbers[0], sink)), "")
                if sink is not None
                else letter.reason
                if (letter := archive.dead_letter(numbers[0])) is not None
                else ""
            )
        )
        if not reason:
            raise NotFoundException(GONE)
    else:
        numbers = await sources.almanac.ask(
            lambda almanac: _members(almanac, group_of(almanac, sink, reason, node), node)
        )
    replay = ReplayJob(reason, sink, len(numbers), time.time_ns() // 1_000_000)
    numbers.reverse()  # in order of arrival
    if sink is None:
        return replay, of_letters(sources.settings, numbers)
    return replay, of_parked(sources.settings, sink, numbers)


def _members(almanac: Almanac, group: RefusedGroup, node: str | None) -> list[int]:
    found: list[int] = []
    before: int | None = None
    while len(found) < ONES_MAX:
        page = almanac.refused_ones(group, node=node, before=before, ones_max=PAGE)
        found += page
        if len(page) < PAGE:
            break
        before = page[-1]
    return found
