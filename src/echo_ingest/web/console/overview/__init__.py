"""Overview: how everything is, in five seconds, and where to look further."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from echo_ingest.almanac import (
    CLOCK_TOLERANCE_MS,
    Almanac,
    CallFilter,
    ListedCall,
    Night,
    NodeCounts,
    Sample,
    TimeUntilFull,
)
from echo_ingest.formatting import milliseconds
from echo_ingest.gauges import ServiceGauges
from echo_ingest.ipc import NoAnswer
from echo_ingest.journal import Ledger
from echo_ingest.night import last_night
from echo_ingest.sinks import SinkState
from echo_ingest.sinks.registry import title_of
from echo_ingest.web.console.auth import Viewer
from echo_ingest.web.console.call_rows import CallRows, of_calls
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.overview import facts
from echo_ingest.web.console.overview.facts import DAY, STEP, OverviewFacts
from echo_ingest.web.console.overview.ledger_bars import LedgerBar, ledger_bars
from echo_ingest.web.console.overview.quickstart import FirstMessage, first_message
from echo_ingest.web.console.overview.sink_table import SinkRow, sink_rows
from echo_ingest.web.console.overview.sparkline import Sparkline, curve
from echo_ingest.web.console.overview.summary import Clause, LastNight, clauses_of
from echo_ingest.web.console.rendering import AnyRequest, zone_of

LATEST = 6
FRAGMENTS = ("sentence", "parts", "pictures")


class ServiceReport(Struct, frozen=True):
    """What the ingest process reports, or the journal in its place."""

    ledger: Ledger
    sink_states: dict[str, SinkState]
    problems: dict[str, str]
    gauges: ServiceGauges | None
    """None where the ingest process does not answer."""
    endpoints: dict[str, str] = {}
    """What is wrong with each broker of `IOT_ENDPOINTS`, by its name."""


class AlmanacReport(Struct, frozen=True):
    """What the almanac tells of the past."""

    nodes: NodeCounts
    samples: list[Sample]
    room: TimeUntilFull
    last_night: Night | None
    latest: list[ListedCall]
    offset: int
    """How far the almanac has read the journal."""


class OverviewView(Struct, frozen=True, kw_only=True):
    """What the templates of the overview show."""

    clauses: Sequence[Clause]
    is_new: bool
    """No message has been received yet."""
    first: FirstMessage
    last_night: Night | None
    latest: CallRows
    sinks: Sequence[SinkRow]
    room: TimeUntilFull
    received_last_day: int
    clients: int | None
    """Connections to the broker; None: not known."""
    dropped: int | None
    """Messages that the broker dropped in the last day; None: not known."""
    rate: Sparkline
    """Messages per second over the last day."""
    received: LedgerBar
    sink_bars: Sequence[tuple[str, LedgerBar]]
    """For each sink, its title and what became of the stored records."""
    stored: int
    unread: int
    """Records that the almanac has not read yet."""


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """Return the page's route."""

    @get("/")
    async def overview(request: AnyRequest) -> Response[bytes]:
        """Show how everything is."""
        now = datetime.now(UTC)
        view = await look(sources, zone_of(request), now, request.url.hostname or "localhost")
        return sources.pages.page(request, "overview.html", view, now=now)

    return [overview]


async def fragments(sources: ConsoleContext, zone: ZoneInfo, viewer: Viewer) -> dict[str, str]:
    """Return the parts of the page that change by themselves, by name."""
    now = datetime.now(UTC)
    view = await look(sources, zone, now)
    # Until a message has come, the page tells how to send one to the host that the browser asked.
    names = ("sentence",) if view.is_new else FRAGMENTS
    return {
        name: sources.pages.fragment(f"overview_{name}.html", view, zone, now, viewer)
        for name in names
    }


async def look(
    sources: ConsoleContext, zone: ZoneInfo, now: datetime, hostname: str = "localhost"
) -> OverviewView:
    """Ask the ingest process and the almanac at once, and return what the templates show."""
    service, past = await asyncio.gather(
        ask_service(sources), sources.almanac.ask(lambda almanac: ask_almanac(almanac, zone, now))
    )
    return view_of(service, past, first_message(sources.settings, hostname), zone, now)


async def ask_service(sources: ConsoleContext) -> ServiceReport:
    """Ask the ingest process; where it does not answer, read the ledger from the journal."""
    service = sources.service
    try:
        return ServiceReport(
            *await asyncio.gather(
                service.ledger(),
                service.sink_states(),
                service.healthy(),
                service.gauges(),
                service.endpoints(),
            )
        )
    except NoAnswer:
        ledger = await sources.journal.ask(lambda reader: reader.ledger())
        return ServiceReport(ledger, {}, {}, None)


def ask_almanac(almanac: Almanac, zone: ZoneInfo, now: datetime) -> AlmanacReport:
    """Read from the almanac what the page shows of the past."""
    now_ms = milliseconds(now)
    night, soon_ms = last_night(now, zone), now_ms + CLOCK_TOLERANCE_MS
    within = CallFilter(since_ms=night.since_ms, until_ms=min(night.until_ms, soon_ms))
    nights = almanac.nights(within, zone, 1)
    return AlmanacReport(
        nodes=almanac.count_nodes(now_ms),
        samples=almanac.samples(milliseconds(now - DAY), now_ms),
        room=almanac.room(now_ms),
        last_night=nights[0] if nights else None,
        latest=almanac.calls(CallFilter(until_ms=soon_ms), LATEST),
        offset=almanac.progress().offset,
    )


def view_of(
    service: ServiceReport, past: AlmanacReport, first: FirstMessage, zone: ZoneInfo, now: datetime
) -> OverviewView:
    """Return what the templates show. Pure."""
    ledger, samples, gauges = service.ledger, past.samples, service.gauges
    # The ledger of this moment stands on the same page as what is counted from samples.
    until_now = samples if gauges is None else [*samples, facts.sample_now(ledger, gauges, now)]
    known = OverviewFacts(
        now=now,
        ledger=ledger,
        sink_states=service.sink_states,
        problems=service.problems,
        endpoints=service.endpoints,
        away_since=facts.last_answered(samples, now) if gauges is None else None,
        nodes=past.nodes,
        samples=until_now,
        room=past.room,
        last_night=_total(past.last_night) if past.last_night is not None else None,
    )
    state = facts.state_of(known)
    rates = facts.rates(samples, now)
    begin = facts.begins(rates)
    received, sink_bars = ledger_bars(ledger)
    return OverviewView(
        clauses=clauses_of(state, zone),
        is_new=ledger.received == 0,
        first=first,
        last_night=past.last_night,
        latest=of_calls(past.latest, zone),
        sinks=sink_rows(state.sinks, samples, now, zone, begin),
        room=past.room,
        received_last_day=facts.received(until_now),
        clients=gauges.broker_clients if gauges is not None else None,
        dropped=facts.dropped(until_now),
        rate=curve(rates[begin:], facts.step_at(now, begin), STEP, zone),
        received=received,
        sink_bars=[(title_of(name), bar) for name, bar in sink_bars.items()],
        stored=ledger.stored,
        unread=ledger.stored - past.offset,
    )


def _total(night: Night) -> LastNight:
    return LastNight(
        sum(each.calls for each in night.species),
        len(night.species),
        night.species[0].species,
    )
