"""Nodes: a map and a table of all, and a page for each with its days and how it is."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from litestar import Response, get
from litestar.exceptions import ValidationException
from litestar.handlers import HTTPRouteHandler

from echo_ingest.admin.nodes import broker_url, manages_our_broker
from echo_ingest.almanac import Almanac
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.nodes import detail
from echo_ingest.web.console.nodes.query import PAGE_NODES, WORDS, NodesQuery, read
from echo_ingest.web.console.nodes.rows import line, mark
from echo_ingest.web.console.rendering import AnyRequest, zone_of

MARKS_MAX = 20_000
MARKS_LIVE_MAX = 500
"""With more nodes than this the map stays as it was when the page was loaded."""
COLUMNS = (
    *(("name", "node", False), ("last_heard", "last heard", False)),
    *(("battery", "battery", True), ("records_today", "messages today", True)),
    *((None, "calls today", True), ("dead_letters", "refused, last day", True)),
    ("clock", "clock", False),
)
"""By which order, its heading, and whether it is aligned to the right."""


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """The table with its map, and the page of each node."""

    @get("/nodes")
    async def nodes(request: AnyRequest) -> Response[bytes]:
        """All of them."""
        zone, now = zone_of(request), datetime.now(UTC)
        try:
            asked = read(dict(request.query_params.multi_items()))
        except ValueError as error:
            raise ValidationException(str(error)) from None
        values = await sources.almanac.ask(lambda almanac: found(almanac, asked, now, zone))
        values["place"] = (
            broker_url(sources.settings) if manages_our_broker(sources.settings) else None
        )
        values["hostname"] = request.url.hostname or "localhost"
        if asked == NodesQuery():
            values["live"] = "nodes"
        return sources.pages.page(request, "nodes.html", values)

    return [nodes, *detail.routes(sources)]


async def fragments(sources: ConsoleContext, zone: ZoneInfo) -> dict[str, str]:
    """The parts of the page that change by themselves, by their names, where all is shown."""
    now = datetime.now(UTC)
    values = await sources.almanac.ask(
        lambda almanac: found(almanac, NodesQuery(), now, zone, MARKS_LIVE_MAX)
    )
    values["tiles"] = sources.pages.tiles
    names = ("counts", "table", "marks") if values["marks"] else ("counts", "table")
    return {name: sources.pages.fragment(f"nodes_{name}.html", values, zone, now) for name in names}


def found(
    almanac: Almanac, asked: NodesQuery, now: datetime, zone: ZoneInfo, marks_max: int = MARKS_MAX
) -> dict[str, Any]:
    """What the templates show of what was asked for; no marks where there are too many nodes."""
    now_ms = int(now.timestamp() * 1000)
    counts = almanac.count_nodes(now_ms)
    page = almanac.nodes(
        now_ms,
        detail.began_ms(now, zone),
        text=asked.text,
        which=asked.which,
        order=asked.order,
        descending=asked.descending,
        nodes_max=PAGE_NODES,
        skip=asked.skip,
    )
    return {
        "now": now,
        "asked": asked,
        "columns": COLUMNS,
        "words": WORDS,
        "counts": counts,
        "lines": [line(node, now) for node in page.nodes],
        "total": page.total,
        "pages": max(1, -(-page.total // PAGE_NODES)),
        "marks": [mark(point, now) for point in almanac.points()]
        if counts.known <= marks_max
        else [],
    }
