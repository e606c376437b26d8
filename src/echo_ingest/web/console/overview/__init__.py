"""Overview: how everything is, in five seconds, and where to look further."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from echo_ingest.almanac import (
    Almanac,
    CallFilter,
    ListedCall,
    Night,
    NodeCounts,
    Sample,
    TimeUntilFull,
)
from echo_ingest.ipc import NoAnswer
from echo_ingest.journal import Ledger
from echo_ingest.sinks import SinkState
from echo_ingest.web.console.auth import Viewer
from echo_ingest.web.console.call_rows import of_calls
from echo_ingest.web.console.common_names import known_as
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.formatting import night_bounds, night_of
from echo_ingest.web.console.overview import facts
from echo_ingest.web.console.overview.facts import DAY, STEP, OverviewFacts
from echo_ingest.web.console.overview.ledger_bars import ledger_bars
from echo_ingest.web.console.overview.quickstart import first_message
from echo_ingest.web.console.overview.sink_table import store_rows, store_title
from echo_ingest.web.console.overview.sparkline import curve
from echo_ingest.web.console.overview.summary import LastNight, sentence
from echo_ingest.web.console.rendering import AnyRequest, zone_of

LATEST = 6
FRAGMENTS = ("sentence", "parts", "pictures")


class ServiceReport(Struct, frozen=True):
    """What the process that ingests says of itself, or what the journal says in its place."""

    ledger: Ledger
    sink_states: dict[str, SinkState]
    problems: dict[str, str]
    metrics: str
    is_away: bool = False


class AlmanacReport(Struct, frozen=True):
    """What the almanac tells."""

    nodes: NodeCounts
    samples: list[Sample]
    room: TimeUntilFull
    last_night: Night | None
    latest: list[ListedCall]
    offset: int


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """The page."""

    @get("/")
    async def overview(request: AnyRequest) -> Response[bytes]:
        """How everything is."""
        zone = zone_of(request)
        values = await look(sources, zone, datetime.now(UTC))
        values["first"] = first_message(sources.settings, request.url.hostname or "localhost")
        return sources.pages.page(request, "overview.html", values)

    return [overview]


async def fragments(sources: ConsoleContext, zone: ZoneInfo, viewer: Viewer) -> dict[str, str]:
    """The parts of the page that change by themselves, by their names."""
    values = await look(sources, zone, datetime.now(UTC)) | {"viewer": viewer}
    # Until something has come, the page tells how to send it, to the host that it was asked at.
    names = ("sentence",) if values["is_new"] else FRAGMENTS
    return {
        name: sources.pages.fragment(f"overview_{name}.html", values, zone, values["now"])
        for name in names
    }


async def look(sources: ConsoleContext, zone: ZoneInfo, now: datetime) -> dict[str, Any]:
    """Ask everybody at once; what the templates show."""
    said, remembered = await asyncio.gather(
        ask_service(sources), sources.almanac.ask(lambda almanac: remember(almanac, zone, now))
    )
    return shown(said, remembered, zone, now)


async def ask_service(sources: ConsoleContext) -> ServiceReport:
    """What it says; where it does not answer, the ledger is read from the journal."""
    service = sources.service
    try:
        return ServiceReport(
            *await asyncio.gather(
                service.ledger(), service.sink_states(), service.healthy(), service.metrics()
            )
        )
    except NoAnswer:
        ledger = await sources.journal.ask(lambda archive: archive.ledger())
        return ServiceReport(ledger, {}, {}, "", is_away=True)


def remember(almanac: Almanac, zone: ZoneInfo, now: datetime) -> AlmanacReport:
    """What of the past is shown."""
    now_ms = _ms(now)
    evening = night_of(now - DAY, zone)
    began, ended = night_bounds(evening, zone)
    nights = almanac.nights(CallFilter(since_ms=_ms(began), until_ms=_ms(ended)), zone, 1)
    return AlmanacReport(
        almanac.count_nodes(now_ms),
        almanac.samples(_ms(now - DAY), now_ms),
        almanac.room(),
        next((night for night in nights if night.evening == evening), None),
        almanac.calls(CallFilter(until_ms=now_ms), LATEST),
        almanac.progress().offset,
    )


def shown(
    said: ServiceReport, remembered: AlmanacReport, zone: ZoneInfo, now: datetime
) -> dict[str, Any]:
    """What the templates show. Pure."""
    ledger, samples, night = said.ledger, remembered.samples, remembered.last_night
    known = OverviewFacts(
        now=now,
        ledger=ledger,
        sink_states=said.sink_states,
        problems=said.problems,
        away_since=facts.last_answered(samples, now) if said.is_away else None,
        nodes=remembered.nodes,
        samples=samples,
        room=remembered.room,
        last_night=_summed(night) if night is not None else None,
    )
    standing = facts.standing(known)
    rates = facts.rates(samples, now)
    first = facts.begins(rates)
    received, store_bars = ledger_bars(ledger)
    return {
        "now": now,
        "is_new": ledger.received == 0,
        "known_as": known_as,
        "clauses": sentence(standing, zone),
        "last_night": night,
        "latest": of_calls(remembered.latest, zone),
        "stores": store_rows(standing.stores, samples, now, zone, first),
        "room": remembered.room,
        "received_last_day": facts.received(samples),
        "clients": facts.clients(said.metrics),
        "dropped": facts.dropped(samples),
        "rate": curve(rates[first:], facts.step_at(now, first), STEP, zone),
        "received": received,
        "store_bars": [(store_title(name), bar) for name, bar in store_bars.items()],
        "stored": ledger.stored,
        "unread": ledger.stored - remembered.offset,
    }


def _summed(night: Night) -> LastNight:
    most = night.species[0]
    return LastNight(
        sum(each.calls for each in night.species),
        len(night.species),
        most.species,
    )


def _ms(when: datetime) -> int:
    return int(when.timestamp() * 1000)
