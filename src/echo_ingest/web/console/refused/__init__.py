"""Refused messages: what could not be read and what sinks refused, by reason, and what to do."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from echo_ingest.almanac import Almanac, RefusedGroup
from echo_ingest.ipc import NoAnswer
from echo_ingest.sinks import SinkState
from echo_ingest.sinks.registry import title_of
from echo_ingest.web.console.auth import Viewer
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.refused import group, message
from echo_ingest.web.console.refused.advice import advice
from echo_ingest.web.console.refused_groups import group_address
from echo_ingest.web.console.rendering import AnyRequest
from echo_ingest.web.console.replay_job import ReplayJob, ReplayJobs

SHOWN_AFTER_END = timedelta(hours=1)
FRAGMENTS = ("replay", "groups")


class GroupRow(Struct, frozen=True, kw_only=True):
    """A group, as a line of the table."""

    reason: str
    advice: str
    address: str
    refused_by: str | None
    """The title of the sink; None for dead letters."""
    count: int
    replay_requested: int
    nodes: int
    last_at_ms: int


class RefusedView(Struct, frozen=True, kw_only=True):
    """What `refused.html`, `refused_replay.html` and `refused_groups.html` show."""

    node: str | None
    """The node whose messages alone are shown."""
    live: str | None
    """The topic of changes that the page follows; None where it stays as it is."""
    dead_letters: Sequence[GroupRow]
    parked: Sequence[GroupRow]
    replay: ReplayJob | None
    """The replay that runs, or has ended lately."""
    waits_for: SinkState | None
    """The state of the sink for which the replay waits."""
    replay_sink: str | None
    """The title of the sink that is offered the records; None for dead letters."""


def routes(sources: ConsoleContext, replaying: ReplayJobs) -> list[HTTPRouteHandler]:
    """Return the page of all groups, that of each group, and that of each message."""

    @get("/refused")
    async def refused(request: AnyRequest) -> Response[bytes]:
        """Show all groups, or those of `node` alone."""
        node, now = request.query_params.get("node") or None, datetime.now(UTC)
        view = await refused_view(sources, replaying, node, now)
        return sources.pages.page(request, "refused.html", view, now=now)

    return [refused, *group.routes(sources), *message.routes(sources)]


async def fragments(
    sources: ConsoleContext, replaying: ReplayJobs, zone: ZoneInfo, viewer: Viewer
) -> dict[str, str]:
    """Render the parts of the page of all groups that change by themselves, by their names."""
    now = datetime.now(UTC)
    view = await refused_view(sources, replaying, None, now)
    return {
        f"refused-{name}": sources.pages.fragment(f"refused_{name}.html", view, zone, now, viewer)
        for name in FRAGMENTS
    }


async def refused_view(
    sources: ConsoleContext, replaying: ReplayJobs, node: str | None, now: datetime
) -> RefusedView:
    """Collect what the templates show."""
    rows = await sources.almanac.ask(lambda almanac: group_rows(almanac, node))
    replay = recent(replaying.replay, now)
    return RefusedView(
        node=node,
        live="refused" if node is None else None,
        dead_letters=[row for row in rows if row.refused_by is None],
        parked=[row for row in rows if row.refused_by is not None],
        replay=replay,
        waits_for=await _awaited_sink(sources, replay),
        replay_sink=None if replay is None or replay.sink is None else title_of(replay.sink),
    )


def group_rows(almanac: Almanac, node: str | None) -> list[GroupRow]:
    """Read the groups, the largest first."""
    return [_group_row(group, node) for group in almanac.refused(node)]


def recent(replay: ReplayJob | None, now: datetime) -> ReplayJob | None:
    """Return a replay that runs, or has ended less than `SHOWN_AFTER_END` ago."""
    if replay is None or replay.ended_at_ms is None:
        return replay
    ended = datetime.fromtimestamp(replay.ended_at_ms / 1000, UTC)
    return replay if now - ended < SHOWN_AFTER_END else None


def _group_row(group: RefusedGroup, node: str | None) -> GroupRow:
    return GroupRow(
        reason=group.reason,
        advice=advice(group.sink, group.key),
        address=group_address(group.sink, group.key, node),
        refused_by=None if group.sink is None else title_of(group.sink),
        count=group.count,
        replay_requested=group.replay_requested,
        nodes=group.nodes,
        last_at_ms=group.last_at_ms,
    )


async def _awaited_sink(sources: ConsoleContext, replay: ReplayJob | None) -> SinkState | None:
    if replay is None or replay.sink is None or replay.ended_at_ms is not None:
        return None
    try:
        state = (await sources.service.sink_states()).get(replay.sink)
    except NoAnswer:
        return None
    return state if state is not None and state.state != "delivering" else None
