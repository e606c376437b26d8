"""Calls: species by night and the list of all calls; a page for each call, with its clip.

The almanac knows which calls there were, how often and when; the journal has what a message said,
and its clip.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct
from msgspec.structs import asdict, replace

from echo_ingest.almanac import CLOCK_TOLERANCE_MS, Almanac, CallFilter
from echo_ingest.formatting import milliseconds
from echo_ingest.record import SECONDS_MAX
from echo_ingest.web.console.call_rows import CallRow, of_calls, of_recordings
from echo_ingest.web.console.calls import detail, nights
from echo_ingest.web.console.calls.nights import NightColumn, NightsTable, SpeciesRow
from echo_ingest.web.console.calls.query import (
    NAMES,
    PERCENTS,
    CallsQuery,
    Show,
    address,
    export_command,
    parameters,
    read,
)
from echo_ingest.web.console.common_names import known_as
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.rendering import AnyRequest, zone_of

LINES_MAX = 50
KNOWN_MAX = 300
SPECIES_MAX = 500
NEVER = datetime.fromtimestamp(SECONDS_MAX, UTC)
"""No record has a later time than this: decode rejects it."""
EXAMPLE = """{"sensor_id": "ridge-07", "timestamp": "2026-09-14T05:45:12Z",
 "species": "Litoria ewingii", "confidence": 63.64}

echo-ingest publish --wait --node ridge-07 frog.json"""
CONFIDENCES = (("", "any"), *((str(percent), f"{percent} % or more") for percent in PERCENTS[1:]))


class CallsFragments(Struct, frozen=True, kw_only=True):
    """What `calls_lead.html`, `calls_nights.html` and `calls_list.html` show.

    Nothing, where the query is wrong.
    """

    recordings: bool = False
    """Whether the list has recordings rather than calls."""
    is_live: bool = False
    """Whether everything is shown, so that the page may be brought up to date."""
    narrowed: bool = True
    """Whether a filter leaves something out."""
    table: NightsTable | None = None
    last_night: tuple[NightColumn, SpeciesRow | None] | None = None
    tonight: tuple[NightColumn, SpeciesRow | None] | None = None
    """The night and the species with the most calls; None where the table has no such night."""
    lines: Sequence[CallRow] = ()
    zone_name: str | None = None
    """The zone of all lines; None where each names its own."""
    earlier: str | None = None
    newest: str | None = None
    """Addresses of the next page and of the first; None where there is none."""
    ahead: str | None = None
    """Where the calls are that are dated in the future."""
    command: str = ""
    """Exports the same calls as a table."""
    confidence_percent_min: int | None = None


class CallsView(CallsFragments, frozen=True, kw_only=True):
    """What `calls.html` shows."""

    live: Show | None
    """The topic of changes that the page follows; None where it stays as it is."""
    unread: int
    """Records that the almanac has not read yet."""
    stored: int
    wrong: Mapping[str, str]
    """What is wrong with the query, by parameter."""
    typed: Mapping[str, str]
    """What the fields of the form contain."""
    unnarrowed: str
    """The address without any filter."""
    known_species: Sequence[str]
    known_nodes: Sequence[str]
    confidences: Sequence[tuple[str, str]] = CONFIDENCES
    example: str = EXAMPLE


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """Return the page of calls and the pages of each one."""

    @get("/calls")
    async def calls(request: AnyRequest) -> Response[bytes]:
        """Show calls, or recordings in which nothing was identified."""
        zone, now = zone_of(request), datetime.now(UTC)
        query, typed, wrong = read(request.query_params.multi_items(), zone)
        stored = await sources.journal.ask(lambda reader: reader.last_offset())

        def view(almanac: Almanac) -> CallsView:
            shown = CallsFragments() if wrong else fragments_of(almanac, query, now, zone)
            return CallsView(
                **asdict(shown),
                live=query.show if shown.is_live else None,
                unread=max(0, stored - almanac.progress().offset),
                stored=stored,
                wrong=wrong,
                typed=fields_of(query, typed, wrong, zone),
                unnarrowed=address(CallsQuery(show=query.show), zone),
                known_species=[each.species for each in almanac.species(KNOWN_MAX)],
                known_nodes=almanac.node_names(KNOWN_MAX),
            )

        return sources.pages.page(
            request,
            "calls.html",
            await sources.almanac.ask(view),
            status_code=400 if wrong else 200,
            now=now,
        )

    return [calls, *detail.routes(sources)]


def fragments(
    sources: ConsoleContext, almanac: Almanac, show: Show, zone: ZoneInfo
) -> dict[str, str]:
    """Render the parts of the page that change by themselves, by name, without any filter."""
    now = datetime.now(UTC)
    shown = fragments_of(almanac, CallsQuery(show=show), now, zone)
    parts = ("list",) if show == "recordings" else ("lead", "nights", "list")
    return {
        f"calls-{part}": sources.pages.fragment(f"calls_{part}.html", shown, zone, now)
        for part in parts
    }


def fragments_of(
    almanac: Almanac, query: CallsQuery, now: datetime, zone: ZoneInfo
) -> CallsFragments:
    """Read the nights and the calls of a query."""
    soon = now + timedelta(milliseconds=CLOCK_TOLERANCE_MS)
    query = replace(query, species=as_published(query.species, almanac))
    wanted = filter_of(query if query.until else replace(query, until=soon))
    table = ahead = None
    if query.show == "recordings":
        recordings = almanac.recordings(wanted, LINES_MAX + 1, query.before)
        page = of_recordings(recordings[:LINES_MAX], zone)
        records = [recording.record for recording in recordings]
    else:
        calls = almanac.calls(wanted, LINES_MAX + 1, query.before)
        page, records = of_calls(calls[:LINES_MAX], zone), [call.record for call in calls]
        if query.before is None:
            table = nights.table(almanac.nights(wanted, zone, nights.NIGHTS), query, now, zone)
        if query.until is None and almanac.calls(filter_of(in_future(query, soon)), 1):
            ahead = address(in_future(query, soon), zone)
    earlier = None
    if len(records) > LINES_MAX:
        earlier = address(replace(query, before=records[LINES_MAX - 1]), zone)
    return CallsFragments(
        recordings=query.show == "recordings",
        is_live=query == CallsQuery(show=query.show),
        narrowed=query.is_narrowed,
        table=table,
        last_night=None if table is None else table.called("last night"),
        tonight=None if table is None else table.called("tonight"),
        lines=page.lines,
        zone_name=page.zone_name,
        earlier=earlier,
        newest=address(replace(query, before=None), zone) if query.before else None,
        ahead=ahead,
        command=export_command(query),
        confidence_percent_min=query.confidence_percent,
    )


def fields_of(
    query: CallsQuery, typed: Mapping[str, str], wrong: Mapping[str, str], zone: ZoneInfo
) -> dict[str, str]:
    """Return what the form's fields contain: the query in the viewer's zone, or what was typed."""
    return dict.fromkeys(NAMES, "") | (dict(typed) if wrong else parameters(query, zone))


def as_published(name: str | None, almanac: Almanac) -> str | None:
    """Return the species as devices publish it; `name` may be its common name, in any case.

    A name that no device has published stays as it is.
    """
    if name is None:
        return None
    known = almanac.species(SPECIES_MAX)
    if any(each.species == name for each in known):
        return name
    wanted = name.casefold()
    for each in known:
        common_name = known_as(each.species, each.common_name) or ""
        if wanted in (each.species.casefold(), common_name.casefold()):
            return each.species
    return name


def in_future(query: CallsQuery, soon: datetime) -> CallsQuery:
    """Return the same query for calls dated after `soon`.

    They were received while the clock of this host was ahead: a device's time is not believed where
    it lies after its receipt.
    """
    return replace(query, since=max(soon, query.since or soon), until=NEVER, before=None)


def filter_of(query: CallsQuery) -> CallFilter:
    """Return the almanac's filter for a query."""
    return CallFilter(
        species=query.species,
        node=query.node,
        confidence_percent_min=query.confidence_percent,
        since_ms=None if query.since is None else milliseconds(query.since),
        until_ms=None if query.until is None else milliseconds(query.until),
    )
