"""The page of one node: its days by hour, how it is, what it said last, what of it was refused."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from litestar import Response, get
from litestar.exceptions import NotFoundException, ValidationException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from echo_ingest.almanac import Almanac, CallFilter
from echo_ingest.record import Place
from echo_ingest.web.console.call_rows import of_calls
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.nodes.calendar import bounds, calendar
from echo_ingest.web.console.nodes.graphs import graphs
from echo_ingest.web.console.nodes.rows import line
from echo_ingest.web.console.overview.sink_table import store_title
from echo_ingest.web.console.rendering import AnyRequest, zone_of

DAYS = 30
CALLS = 5
REASONS = 20
DAY_MS = 86_400_000
FIRST_DAY = date(2000, 1, 1)


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """The page."""

    @get("/nodes/{name:str}")
    async def node(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
        """One of them."""
        zone, now = zone_of(request), datetime.now(UTC)
        until = _day(request.query_params.get("until"), now.astimezone(zone).date())
        values = await sources.almanac.ask(lambda almanac: found(almanac, name, until, now, zone))
        return sources.pages.page(request, "node.html", values)

    return [node]


def found(
    almanac: Almanac, name: str, newest: date, now: datetime, zone: ZoneInfo
) -> dict[str, Any]:
    """What the template shows; raises `NotFoundException` in words."""
    node = almanac.node(name, _ms(now), began_ms(now, zone))
    if node is None:
        raise NotFoundException(
            f"No node called {name!r:.80} was ever heard, and none has credentials. "
            "The table of nodes has those there are."
        )
    since_ms, until_ms = bounds(newest, DAYS, zone)
    hours = almanac.calendar(name, since_ms, until_ms)
    today = now.astimezone(zone).date()
    earlier = newest - timedelta(days=DAYS)
    first_ms = node.first_heard_at_ms
    return {
        "now": now,
        "its": line(node, now),
        "node": node,
        "place": node.place
        and Place(
            node.place.latitude,
            node.place.longitude,
            uncertainty_metres=node.place.uncertainty_metres,
        ),
        "calendar": calendar(
            hours,
            almanac.listening(since_ms, until_ms),
            frozenset(almanac.witnessed(since_ms, until_ms)),
            first_ms,
            newest,
            DAYS,
            now,
            zone,
        ),
        "since": max(since_ms, min(first_ms or since_ms, until_ms - DAY_MS)) // 1000,
        "until": min(until_ms, _ms(now)) // 1000,
        "today": today,
        "newest": newest,
        "earlier": earlier if first_ms is not None and first_ms < since_ms else None,
        "later": min(newest + timedelta(days=DAYS), today) if newest < today else None,
        "graphs": graphs(almanac.health(name, since_ms, until_ms), hours),
        "calls": of_calls(almanac.calls(CallFilter(node=name, until_ms=_ms(now)), CALLS), zone),
        "store_title": store_title,
        "refused": almanac.refused(name, REASONS),
    }


def began_ms(now: datetime, zone: ZoneInfo) -> int:
    """When the day began in `zone`."""
    return _ms(datetime.combine(now.astimezone(zone).date(), time(), zone))


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


def _ms(when: datetime) -> int:
    return int(when.timestamp() * 1000)
