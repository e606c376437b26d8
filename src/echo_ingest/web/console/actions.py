"""What an operator does: each action is a form, and the next page says what came of it.

Actions do what the command line does, by the same functions, in their own thread.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

import segno
import structlog
from litestar import Response, post
from litestar.exceptions import ClientException, HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.response import Redirect
from msgspec import Struct, json

from echo_ingest.admin import ActionError, dead_letters, journal_of, nodes, sinks
from echo_ingest.broker import BrokerError
from echo_ingest.broker.node_accounts import new_password
from echo_ingest.journal import JournalFull
from echo_ingest.sinks.registry import title_of
from echo_ingest.web.console.auth import acting_form
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.formatting import counted
from echo_ingest.web.console.node_address import node_address
from echo_ingest.web.console.refused import replay_form
from echo_ingest.web.console.rendering import AnyRequest
from echo_ingest.web.console.replay_job import ReplayJobs
from echo_ingest.web.same_origin import is_by_tls, own_page

REFUSED = "/console/refused"
FOLLOWED_SECONDS, FOLLOWED_POLLS = 0.05, 40

T = TypeVar("T")


class NodeAddedView(Struct, frozen=True):
    """What the page with new credentials shows."""

    credentials: nodes.NodeCredentials
    qr_code: str
    """The credentials as an image, as a data URI."""


log = structlog.get_logger("web")


def routes(sources: ConsoleContext, replays: ReplayJobs) -> list[HTTPRouteHandler]:
    """Return a route for each action."""
    settings, flash = sources.settings, sources.pages.flash
    threads = ThreadPoolExecutor(1, thread_name_prefix="action")

    async def decide(what: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, what)
        except ActionError as error:
            raise ClientException(str(error)) from None
        except (BrokerError, JournalFull) as error:
            raise HTTPException(str(error), status_code=503) from None

    def back(request: AnyRequest, form: dict[str, str], message: str, otherwise: str) -> Redirect:
        where = own_page(form.get("back", ""), otherwise)
        cookie = flash.keep(message, by_tls=is_by_tls(request.headers))
        return Redirect(where, status_code=303, cookies=[cookie])

    @post("/actions/replay", status_code=303)
    async def replay(request: AnyRequest) -> Redirect:
        """Retry one refused message, or all of a group."""
        form = await acting_form(request)
        job, steps = await replay_form.replay_of(sources, form)
        replays.start(job, steps)
        log.info(
            "operator acts", action="replay", reason=job.reason, sink=job.sink, total=job.total
        )
        return Redirect(f"{REFUSED}#replay", status_code=303)

    @post("/actions/stop-replay", status_code=303)
    async def stop_replay(request: AnyRequest) -> Redirect:
        """Stop the replay that is under way."""
        await acting_form(request)
        replays.stop()
        log.info("operator acts", action="stop replay")
        return Redirect(f"{REFUSED}#replay", status_code=303)

    @post("/actions/discard", status_code=303)
    async def discard(request: AnyRequest) -> Redirect:
        """Remove one dead letter, or all of a group, for good."""
        form = await acting_form(request)
        reason, numbers = await replay_form.chosen(sources, form, None)

        def remove() -> int:
            with closing(journal_of(settings)) as journal:
                return sum(dead_letters.discard(journal, numbers))

        discarded = await decide(remove)
        log.info("operator acts", action="discard", reason=reason, discarded=discarded)
        what = f"{counted(discarded, 'messages')} {'was' if discarded == 1 else 'were'} discarded."
        return back(request, {}, what, REFUSED)

    @post("/actions/pause", status_code=303)
    async def pause(request: AnyRequest) -> Redirect:
        """Pause a sink."""
        form = await acting_form(request)
        sink = _field(form, "sink")
        since = await decide(lambda: sinks.pause(settings, sink))
        log.info("operator acts", action="pause", sink=sink)
        if since is not None:
            return back(request, form, f"{title_of(sink)} is paused already.", "/console")
        message = (
            f"{title_of(sink)} is paused: once the current write has ended, it gets no more "
            "records. New records wait for it."
        )
        return back(request, form, message, "/console")

    @post("/actions/resume", status_code=303)
    async def resume(request: AnyRequest) -> Redirect:
        """Resume a sink."""
        form = await acting_form(request)
        sink = _field(form, "sink")
        backlog = await decide(lambda: sinks.resume(settings, sink))
        log.info("operator acts", action="resume", sink=sink)
        message = f"{title_of(sink)} was not paused."
        if backlog is not None:
            waits = "waits" if backlog == 1 else "wait"
            message = f"{title_of(sink)} is resumed: {counted(backlog, 'records')} {waits} for it."
        return back(request, form, message, "/console")

    @post("/actions/add-node", status_code=200)
    async def add_node(request: AnyRequest) -> Response[bytes]:
        """Create credentials for a device, and show them once."""
        form = await acting_form(request)
        name, url = _field(form, "node"), form.get("url", "").strip() or None

        def add() -> nodes.NodeCredentials:
            _require_nodes(sources)
            nodes.check_name_and_topic(settings, name)
            place = nodes.broker_url(settings, url)
            password, hashed = new_password()
            nodes.add(settings, name, hashed)
            return nodes.credentials_for(settings, name, password, place)

        credentials = await decide(add)
        log.info("operator acts", action="add node", node=name)
        code = segno.make(json.encode(credentials), micro=False)
        qr_code = code.svg_data_uri(scale=4, border=3, light="#fff")
        return sources.pages.page(request, "node_added.html", NodeAddedView(credentials, qr_code))

    @post("/actions/disable-node", status_code=303)
    async def disable_node(request: AnyRequest) -> Redirect:
        """Block a device."""
        form = await acting_form(request)
        return await set_disabled(request, form, True)

    @post("/actions/enable-node", status_code=303)
    async def enable_node(request: AnyRequest) -> Redirect:
        """Unblock a device."""
        form = await acting_form(request)
        return await set_disabled(request, form, False)

    async def set_disabled(request: AnyRequest, form: dict[str, str], disabled: bool) -> Redirect:
        name = _field(form, "node")

        def change() -> None:
            _require_nodes(sources)
            nodes.set_disabled(settings, name, disabled)

        await decide(change)
        await followed(name, "disabled" if disabled else "enabled")
        log.info("operator acts", action="disable node" if disabled else "enable node", node=name)
        message = (
            f"{name} is blocked within two seconds; the messages that it has sent are kept."
            if disabled
            else f"{name} is unblocked and can connect again with the credentials that it had."
        )
        return back(request, form, message, node_address(name))

    async def followed(name: str, account: str) -> None:
        """Wait until the pages show it too: they would offer to do the same again."""
        for _ in range(FOLLOWED_POLLS):
            node = await sources.almanac.ask(lambda almanac: almanac.node(name, 0, 0))
            if node is not None and node.account == account:
                return
            await asyncio.sleep(FOLLOWED_SECONDS)

    return [replay, stop_replay, discard, pause, resume, add_node, disable_node, enable_node]


def _require_nodes(sources: ConsoleContext) -> None:
    if not nodes.manages_our_broker(sources.settings):
        raise ActionError(
            "the broker runs on another machine: run `echo-ingest nodes` there to manage its nodes"
        )


def _field(form: dict[str, str], name: str) -> str:
    value = form.get(name, "").strip()
    if not value:
        raise ClientException(f"the field {name} is empty: go back and fill it in")
    return value
