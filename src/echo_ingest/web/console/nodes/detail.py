"""The page of one node: activity by hour, health, latest calls, refused messages."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from litestar import Response, get
from litestar.exceptions import NotFoundException, ValidationException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Struct

from echo_ingest.almanac import (
    CLOCK_TOLERANCE_MS,
    Almanac,
    CallFilter,
    MeasuredSeries,
    NodeSummary,
)
from echo_ingest.decode import NodeRules
from echo_ingest.formatting import milliseconds
from echo_ingest.record import Place
from echo_ingest.sinks.registry import title_of
from echo_ingest.web.console.call_rows import CallRows, of_calls
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.nodes.calendar import Calendar, bounds, calendar
from echo_ingest.web.console.nodes.graphs import Graph, decimals_of, graphs, measured_graph
from echo_ingest.web.console.nodes.rows import NodeRow, node_row
from echo_ingest.web.console.rendering import AnyRequest, zone_of

DAYS = 30
CALLS = 5
REASONS = 20
MEASURED_GRAPHS = 6
"""Of so many measurements there is a graph; a node may have hundreds, of which people choose."""
DAY_MS = 86_400_000
FIRST_DAY = date(2000, 1, 1)


class RefusedReason(Struct, frozen=True):
    """Messages of a node that were rejected or refused for one reason."""

    reason: str
    count: int
    last_at_ms: int
    refused_by: str | None
    """The title of the sink; None: they are dead letters."""


class MeasuredRow(Struct, frozen=True):
    """What a node measures, with the latest value."""

    series: MeasuredSeries
    decimals: int
    """With how many decimals the latest value is written."""


class NodeMeasurements(Struct, frozen=True):
    """All that a node measures, and graphs of a part."""

    lines: Sequence[MeasuredRow]
    graphs: Sequence[Graph]
    chosen: str
    """The measurement that the graphs are of; empty where nobody has chosen one."""

    @property
    def has_sensors(self) -> bool:
        """Return whether any was measured by a sensor with a name other than the node's."""
        return any(line.series.sensor for line in self.lines)


class NodeView(Struct, frozen=True, kw_only=True):
    """What `node.html` shows."""

    node: NodeSummary
    row: NodeRow
    place: Place | None
    calendar: Calendar
    newest: date
    """The last day of the calendar."""
    today: date
    earlier: date | None
    later: date | None
    """The last days of the calendars before and after; None where there is none."""
    graphs: Sequence[Graph]
    measured: NodeMeasurements
    since: int
    until: int
    """The time that graphs cover, in seconds since 1970."""
    calls: CallRows
    refused: Sequence[RefusedReason]


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """Return the page of one node."""

    @get("/nodes/{name:str}")
    async def node(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
        """Show one node."""
        return await shown(request, name)

    @get("/node")
    async def oddly_named_node(request: AnyRequest) -> Response[bytes]:
        """Show one node whose name cannot be part of a path."""
        return await shown(request, request.query_params.get("name", ""))

    async def shown(request: AnyRequest, name: str) -> Response[bytes]:
        zone, now = zone_of(request), datetime.now(UTC)
        until = _day(request.query_params.get("until"), now.astimezone(zone).date())
        rules = sources.journal.decoder.rules.of(name)
        measure = request.query_params.get("measure")
        view = await sources.almanac.ask(
            lambda almanac: view_of(almanac, name, until, now, zone, rules, measure)
        )
        return sources.pages.page(request, "node.html", view, now=now)

    return [node, oddly_named_node]


def view_of(
    almanac: Almanac,
    name: str,
    newest: date,
    now: datetime,
    zone: ZoneInfo,
    rules: NodeRules,
    measure: str | None = None,
) -> NodeView:
    """Read what the page shows; `measure` is the measurement of which to show graphs.

    Raises `NotFoundException`, in words, if there is no such node.
    """
    node = almanac.node(name, milliseconds(now), day_began_ms(now, zone))
    if node is None:
        raise NotFoundException(
            f"No node called {name!r:.80} has ever been heard, and none has credentials. "
            "The table of nodes lists them all."
        )
    since_ms, until_ms = bounds(newest, DAYS, zone)
    hours = almanac.calendar(name, since_ms, until_ms)
    today = now.astimezone(zone).date()
    earlier = newest - timedelta(days=DAYS)
    first_ms = node.first_heard_at_ms
    return NodeView(
        node=node,
        row=node_row(node, now, rules),
        place=_place(node),
        calendar=calendar(
            hours,
            almanac.listening(since_ms, until_ms),
            frozenset(almanac.witnessed(since_ms, until_ms)),
            first_ms,
            newest,
            DAYS,
            now,
            zone,
        ),
        newest=newest,
        today=today,
        earlier=earlier if first_ms is not None and first_ms < since_ms else None,
        later=min(newest + timedelta(days=DAYS), today) if newest < today else None,
        graphs=graphs(almanac.health(name, since_ms, until_ms), hours),
        measured=measured_of(almanac, name, since_ms, until_ms, measure),
        since=max(since_ms, min(first_ms or since_ms, until_ms - DAY_MS)) // 1000,
        until=min(until_ms, milliseconds(now)) // 1000,
        calls=of_calls(
            almanac.calls(
                CallFilter(node=name, until_ms=milliseconds(now) + CLOCK_TOLERANCE_MS), CALLS
            ),
            zone,
        ),
        refused=[
            RefusedReason(
                group.reason,
                group.count,
                group.last_at_ms,
                None if group.sink is None else title_of(group.sink),
            )
            for group in almanac.refused(name, REASONS)
        ],
    )


def measured_of(
    almanac: Almanac, name: str, since_ms: int, until_ms: int, measure: str | None
) -> NodeMeasurements:
    """Read what a node measures, with graphs of one measurement, or of the first few."""
    series = almanac.series(name)
    shown = [each for each in series if measure in (None, "", each.name)][:MEASURED_GRAPHS]
    hourly = [(each, almanac.measured(each, since_ms, until_ms)) for each in shown]
    return NodeMeasurements(
        [MeasuredRow(each, decimals_of([each.latest])) for each in series],
        [
            measured_graph(number, each, hours)
            for number, (each, hours) in enumerate(hourly)
            if hours
        ],
        measure or "",
    )


def day_began_ms(now: datetime, zone: ZoneInfo) -> int:
    """Return when the day began in `zone`, in milliseconds since 1970."""
    return milliseconds(datetime.combine(now.astimezone(zone).date(), time(), zone))


def _place(node: NodeSummary) -> Place | None:
    if node.place is None:
        return None
    return Place(
        node.place.latitude,
        node.place.longitude,
        uncertainty_metres=node.place.uncertainty_metres,
    )


def _day(text: str | None, today: date) -> date:
    if not text:
        return today
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = FIRST_DAY - timedelta(days=1)
    if not FIRST_DAY <= day <= today:
        raise ValidationException(
            f"until is {text!r:.40}: it must be a day such as {today}, not after today"
        )
    return day
