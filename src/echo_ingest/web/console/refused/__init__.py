"""Refused: what nobody could read and what stores would not take, by reason, and what to do."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from echo_ingest.almanac import Almanac
from echo_ingest.ipc import NoAnswer
from echo_ingest.web.console.auth import Viewer
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.refused import detail, group
from echo_ingest.web.console.refused.advice import advice
from echo_ingest.web.console.rendering import AnyRequest
from echo_ingest.web.console.replay_job import ReplayJobs

SHOWN_AFTER_END = timedelta(hours=1)
FRAGMENTS = ("replay", "groups")


def routes(sources: ConsoleContext, replaying: ReplayJobs) -> list[HTTPRouteHandler]:
    """The page of all groups, that of each, and that of each message."""

    @get("/refused")
    async def refused(request: AnyRequest) -> Response[bytes]:
        """All groups; of `node` alone, if given."""
        node = request.query_params.get("node") or None
        values = await look(sources, replaying, node, datetime.now(UTC))
        if node is None:
            values["live"] = "refused"
        return sources.pages.page(request, "refused.html", values)

    return [refused, *group.routes(sources), *detail.routes(sources)]


async def fragments(
    sources: ConsoleContext, replaying: ReplayJobs, zone: ZoneInfo, viewer: Viewer
) -> dict[str, str]:
    """The parts of the page that change by themselves, by their names, where all is shown."""
    now = datetime.now(UTC)
    values = await look(sources, replaying, None, now) | {"viewer": viewer}
    return {
        f"refused-{name}": sources.pages.fragment(f"refused_{name}.html", values, zone, now)
        for name in FRAGMENTS
    }


async def look(
    sources: ConsoleContext, replaying: ReplayJobs, node: str | None, now: datetime
) -> dict[str, Any]:
    """What the templates show."""
    values = await sources.almanac.ask(lambda almanac: found(almanac, node))
    return values | {"now": now} | await under_way(sources, replaying, now)


def found(almanac: Almanac, node: str | None) -> dict[str, Any]:
    """The groups."""
    groups = almanac.refused(node)
    return {
        "node": node,
        "letters": [each for each in groups if each.sink is None],
        "parked": [each for each in groups if each.sink is not None],
        "total": sum(each.count for each in groups),
        "advice": advice,
    }


async def under_way(
    sources: ConsoleContext, replaying: ReplayJobs, now: datetime
) -> dict[str, Any]:
    """The replay that runs, or has ended lately; and how the store is that it waits for."""
    replay, waits_for = replaying.replay, None
    if replay is not None and replay.ended_at_ms is not None:
        ended = datetime.fromtimestamp(replay.ended_at_ms / 1000, UTC)
        replay = replay if now - ended < SHOWN_AFTER_END else None
    if replay is not None and replay.sink is not None and replay.ended_at_ms is None:
        try:
            state = (await sources.service.sink_states()).get(replay.sink)
            waits_for = state if state is not None and state.state != "delivering" else None
        except NoAnswer:
            pass
    return {"replay": replay, "waits_for": waits_for}
