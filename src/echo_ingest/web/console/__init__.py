"""The console: what people look at in the morning, below /console. docs/console.md shows it.

A page is a package and a template: the package asks the sources and hands a view to the template.
Pages work without scripts; with them, one stream of changes keeps parts of a page up to date, and
maps, graphs and clips are interactive. No page's package imports another's: what pages share lies
beside the packages.
"""

from pathlib import Path
from typing import get_args
from zoneinfo import ZoneInfo

from litestar import HttpMethod, Router, route
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from echo_ingest.settings import Settings, Tokens
from echo_ingest.web.console import (
    actions,
    calls,
    login,
    make_form,
    nodes,
    overview,
    refused,
    unclaimed,
)
from echo_ingest.web.console.assets import bundle_page, read_bundle
from echo_ingest.web.console.auth import LoginGuard, Viewer
from echo_ingest.web.console.calls.query import Show
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.error_pages import problem_pages
from echo_ingest.web.console.live_updates import LiveUpdates, Parts, live_stream
from echo_ingest.web.console.rendering import PageRenderer
from echo_ingest.web.console.replay_job import ReplayJobs
from echo_ingest.web.console.sessions import LoginSessions
from echo_ingest.web.failed_attempts import FailedAttempts
from echo_ingest.web.form_body import BODY_BYTES_MAX
from echo_ingest.web.health import Service
from echo_ingest.web.reader import AlmanacThreads, JournalThreads, downloads_in_turn

__all__ = ["create_console"]


def create_console(
    service: Service,
    journal: JournalThreads,
    almanac: AlmanacThreads,
    live: LiveUpdates,
    settings: Settings,
    tokens: Tokens,
    failed: FailedAttempts,
) -> Router:
    """Create all routes below /console, for those who are allowed."""
    bundle = read_bundle()
    pages = PageRenderer(bundle, settings.map_tiles)
    sessions = LoginSessions(tokens)
    sources = ConsoleContext(service, journal, almanac, pages, settings, downloads_in_turn())
    replays = ReplayJobs()
    live.offer("overview", lambda zone, viewer: overview.fragments(sources, zone, viewer))
    live.offer("nodes", lambda zone, _: nodes.fragments(sources, zone))
    live.offer(
        "refused",
        lambda zone, viewer: refused.fragments(sources, replays, zone, viewer),
    )
    for show in get_args(Show):
        live.offer(show, _calls(sources, show))
    return Router(
        "/console",
        route_handlers=[
            *overview.routes(sources),
            *nodes.routes(sources),
            *calls.routes(sources),
            *refused.routes(sources, replays),
            *unclaimed.routes(sources),
            *make_form.routes(sources),
            *actions.routes(sources, replays),
            live_stream(live),
            *login.routes(pages, sessions, failed, is_open=settings.console_access == "open"),
            bundle_page(bundle),
            nothing_here,
        ],
        middleware=[LoginGuard(settings, sessions)],
        request_max_body_size=BODY_BYTES_MAX,
        exception_handlers=problem_pages(pages),
        include_in_schema=False,
    )


def _calls(sources: ConsoleContext, show: Show) -> Parts:
    async def parts(zone: ZoneInfo, _: Viewer) -> dict[str, str]:
        return await sources.almanac.ask(
            lambda almanac: calls.fragments(sources, almanac, show, zone)
        )

    return parts


@route("/{rest:path}", http_method=[HttpMethod.GET, HttpMethod.POST], sync_to_thread=False)
def nothing_here(rest: FromPath[Path]) -> None:
    """Answer any other address with a page rather than with JSON."""
    raise NotFoundException
