"""Calls: what called last night, and one by one; a page for each, with its sound.

Which calls, how often and when comes from the almanac; what one of them said, and its sound, from
the journal.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec.structs import replace

from echo_ingest.almanac import Almanac, CallFilter
from echo_ingest.record import SECONDS_MAX
from echo_ingest.web.console.calls import detail, nights
from echo_ingest.web.console.calls.query import (
    NAMES,
    PERCENTS,
    CallsQuery,
    Show,
    address,
    parameters,
    read,
)
from echo_ingest.web.console.calls.rows import export_command, of_calls, of_recordings
from echo_ingest.web.console.common_names import known_as
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.rendering import AnyRequest, zone_of

LINES_MAX = 50
KNOWN_MAX = 300
SPECIES_MAX = 500
CLOCKS_APART = timedelta(minutes=2)
"""What is observed later than that from now was told by a clock that is ahead."""
NEVER = datetime.fromtimestamp(SECONDS_MAX, UTC)
"""No device is believed that says it is later."""
EXAMPLE = """{"sensor_id": "ridge-07", "timestamp": "2026-09-14T05:45:12Z",
 "species": "Litoria ewingii", "confidence": 63.64}

echo-ingest publish --wait --node ridge-07 frog.json"""

NOTHING: dict[str, Any] = {
    **{"recordings": False, "is_live": False, "narrowed": True, "lines": [], "zone_name": None},
    **{"table": None, "last_night": None, "tonight": None, "earlier": None, "newest": None},
    **{"command": "", "least": None, "ahead": None},
}
"""What is shown of a question that cannot be asked."""


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """The page of calls, and those of `one`."""

    @get("/calls")
    async def calls(request: AnyRequest) -> Response[bytes]:
        """Calls, or recordings that wait for a name."""
        zone, now = zone_of(request), datetime.now(UTC)
        asked, typed, wrong = read(request.query_params.multi_items(), zone)
        values = await sources.almanac.ask(
            lambda almanac: {
                **(NOTHING if wrong else found(almanac, asked, now, zone)),
                **offered(almanac),
                "followed": almanac.progress().offset,
            }
        )
        values |= {
            "stored": await sources.journal.ask(lambda archive: archive.last_offset()),
            "wrong": wrong,
            "typed": typed_again(asked, typed, wrong, zone),
            "unnarrowed": address(CallsQuery(show=asked.show), zone),
            "now": now,
        }
        if values["is_live"]:
            values["live"] = asked.show
        return sources.pages.page(request, "calls.html", values, status_code=400 if wrong else 200)

    return [calls, *detail.routes(sources)]


def fragments(
    sources: ConsoleContext, almanac: Almanac, show: Show, zone: ZoneInfo
) -> dict[str, str]:
    """The parts of the page that change by themselves, by their names, where all is shown."""
    now = datetime.now(UTC)
    values = found(almanac, CallsQuery(show=show), now, zone)
    parts = ("list",) if show == "recordings" else ("lead", "nights", "list")
    return {
        f"calls-{part}": sources.pages.fragment(f"calls_{part}.html", values, zone, now)
        for part in parts
    }


def found(almanac: Almanac, asked: CallsQuery, now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    """What the templates show of the nights and the calls that were asked for."""
    soon = now + CLOCKS_APART
    asked = replace(asked, species=as_heard(asked.species, almanac))
    wanted = wanted_of(asked if asked.until else replace(asked, until=soon))
    table = ahead = None
    if asked.show == "recordings":
        recordings = almanac.recordings(wanted, LINES_MAX + 1, asked.before)
        page, offsets = of_recordings(recordings[:LINES_MAX], zone), [r.offset for r in recordings]
    else:
        calls = almanac.calls(wanted, LINES_MAX + 1, asked.before)
        page, offsets = of_calls(calls[:LINES_MAX], zone), [call.offset for call in calls]
        if asked.before is None:
            table = nights.table(almanac.nights(wanted, zone, nights.NIGHTS), asked, now, zone)
        if asked.until is None and almanac.calls(wanted_of(of_the_future(asked, soon)), 1):
            ahead = address(of_the_future(asked, soon), zone)
    earlier = None
    if len(offsets) > LINES_MAX:
        earlier = address(replace(asked, before=offsets[LINES_MAX - 1]), zone)
    return {
        **NOTHING,
        "recordings": asked.show == "recordings",
        "is_live": asked == CallsQuery(show=asked.show),
        "narrowed": asked.is_narrowed,
        "ahead": ahead,
        "table": table,
        "last_night": table and table.called("last night"),
        "tonight": table and table.called("tonight"),
        "lines": page.lines,
        "zone_name": page.zone_name,
        "earlier": earlier,
        "newest": address(replace(asked, before=None), zone) if asked.before else None,
        "command": export_command(asked),
        "least": asked.confidence_percent,
    }


def offered(almanac: Almanac) -> dict[str, Any]:
    """What the fields of the form propose."""
    return {
        "known_species": [each.species for each in almanac.species(KNOWN_MAX)],
        "known_nodes": almanac.node_names(KNOWN_MAX),
        "confidences": [("", "any")]
        + [(str(percent), f"{percent} % or more") for percent in PERCENTS[1:]],
        "example": EXAMPLE,
    }


def typed_again(
    asked: CallsQuery, typed: Mapping[str, str], wrong: Mapping[str, str], zone: ZoneInfo
) -> dict[str, str]:
    """What stands in the fields: what was asked, in the viewer's zone; what is wrong as it was."""
    return dict.fromkeys(NAMES, "") | (dict(typed) if wrong else parameters(asked, zone))


def as_heard(name: str | None, almanac: Almanac) -> str | None:
    """The species as devices give it, where `name` is what people call it, or in other letters."""
    if name is None:
        return None
    known = almanac.species(SPECIES_MAX)
    if any(each.species == name for each in known):
        return name
    wanted = name.casefold()
    for each in known:
        called = known_as(each.species, each.common_name) or ""
        if wanted in (each.species.casefold(), called.casefold()):
            return each.species
    return name


def of_the_future(asked: CallsQuery, soon: datetime) -> CallsQuery:
    """The same, observed when it was not yet: by a clock that is ahead."""
    return replace(asked, since=max(soon, asked.since or soon), until=NEVER, before=None)


def wanted_of(asked: CallsQuery) -> CallFilter:
    """As the almanac has it."""
    return CallFilter(
        species=asked.species,
        node=asked.node,
        confidence_percent_min=asked.confidence_percent,
        since_ms=None if asked.since is None else int(asked.since.timestamp() * 1000),
        until_ms=None if asked.until is None else int(asked.until.timestamp() * 1000),
    )
