"""Nodes: a map and a table of all nodes, and a page for each with its activity and its health."""

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from litestar import Response, get
from litestar.exceptions import ValidationException
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct
from msgspec.structs import asdict

from echo_ingest.admin.nodes import broker_url, manages_our_broker
from echo_ingest.almanac import Almanac, NodeCounts
from echo_ingest.decode import Rules
from echo_ingest.formatting import milliseconds
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.nodes import detail
from echo_ingest.web.console.nodes.query import COLUMNS, PAGE_NODES, STATES, NodesQuery, read
from echo_ingest.web.console.nodes.rows import Mark, NodeRow, map_mark, node_row
from echo_ingest.web.console.rendering import AnyRequest, zone_of

MARKS_MAX = 20_000
MARKS_LIVE_MAX = 500
"""With more nodes than this, the map stays as it was when the page was loaded."""


class NodesFragments(Struct, frozen=True, kw_only=True):
    """What `nodes_counts.html`, `nodes_table.html` and `nodes_marks.html` show."""

    chosen: NodesQuery
    counts: NodeCounts
    lines: Sequence[NodeRow]
    """A page of the table."""
    total: int
    """Nodes that the query matches."""
    pages: int
    marks: Sequence[Mark]
    """Empty where there are too many nodes for the map."""
    tiles: str | None
    """Where the tiles of the map come from; None where it has none."""
    columns: Sequence[tuple[str | None, str, bool]] = COLUMNS


class NodesView(NodesFragments, frozen=True, kw_only=True):
    """What `nodes.html` shows."""

    is_live: bool
    """Whether everything is shown, so that the page may be brought up to date."""
    live: str | None
    """The topic of changes that the page follows; None where it stays as it is."""
    place: str | None
    """Where devices reach the broker; None where it is not ours."""
    hostname: str
    states: Sequence[tuple[str, str]] = STATES


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """Return the page of all nodes and the page of each one."""

    @get("/nodes")
    async def nodes(request: AnyRequest) -> Response[bytes]:
        """Show all nodes, or those that the query matches."""
        zone, now = zone_of(request), datetime.now(UTC)
        try:
            query = read(dict(request.query_params.multi_items()))
        except ValueError as error:
            raise ValidationException(str(error)) from None
        tiles, rules = sources.pages.tiles, sources.journal.decoder.rules
        shown = await sources.almanac.ask(
            lambda almanac: fragments_of(almanac, query, now, zone, tiles, rules)
        )
        is_live = query == NodesQuery()
        view = NodesView(
            **asdict(shown),
            is_live=is_live,
            live="nodes" if is_live else None,
            place=broker_url(sources.settings) if manages_our_broker(sources.settings) else None,
            hostname=request.url.hostname or "localhost",
        )
        return sources.pages.page(request, "nodes.html", view, now=now)

    return [nodes, *detail.routes(sources)]


async def fragments(sources: ConsoleContext, zone: ZoneInfo) -> dict[str, str]:
    """Render the parts of the page that change by themselves, by name, without any filter."""
    now, tiles = datetime.now(UTC), sources.pages.tiles
    rules = sources.journal.decoder.rules
    shown = await sources.almanac.ask(
        lambda almanac: fragments_of(almanac, NodesQuery(), now, zone, tiles, rules, MARKS_LIVE_MAX)
    )
    names = ("counts", "table", "marks") if shown.marks else ("counts", "table")
    return {name: sources.pages.fragment(f"nodes_{name}.html", shown, zone, now) for name in names}


def fragments_of(
    almanac: Almanac,
    query: NodesQuery,
    now: datetime,
    zone: ZoneInfo,
    tiles: str | None,
    rules: Rules,
    marks_max: int = MARKS_MAX,
) -> NodesFragments:
    """Read the nodes of a query, and the marks of the map unless there are too many nodes."""
    now_ms = milliseconds(now)
    counts = almanac.count_nodes(now_ms)
    page = almanac.nodes(
        now_ms,
        detail.day_began_ms(now, zone),
        text=query.text,
        which=query.which,
        order=query.order,
        descending=query.descending,
        nodes_max=PAGE_NODES,
        skip=query.skip,
    )
    return NodesFragments(
        chosen=query,
        counts=counts,
        lines=[node_row(node, now, rules.of(node.name)) for node in page.nodes],
        total=page.total,
        pages=max(1, -(-page.total // PAGE_NODES)),
        marks=[map_mark(point, now) for point in almanac.points()]
        if counts.known <= marks_max
        else [],
        tiles=tiles,
    )
