"""HTTP: health, metrics, the read API and the console. docs/http.md describes it.

It runs in its own process (`__main__.py`), which asks the ingest process how it is (`ipc.py`).
The journal is read in threads, a few at a time, for those who send the token.
"""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator

import uvicorn
from litestar import Litestar, Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

import echo_ingest
from echo_ingest.almanac import almanac_path
from echo_ingest.decode import Decoder
from echo_ingest.settings import Settings, Tokens
from echo_ingest.site_decoder import decoder_of
from echo_ingest.web.access import only_with
from echo_ingest.web.api import read_api
from echo_ingest.web.connections import (
    GRACE_SECONDS,
    HEADER_BYTES_MAX,
    KEEP_ALIVE_SECONDS,
    Connection,
    Connections,
    Limits,
)
from echo_ingest.web.console import create_console
from echo_ingest.web.console.live_updates import LiveUpdates
from echo_ingest.web.doorway import Doorway
from echo_ingest.web.failed_attempts import FailedAttempts
from echo_ingest.web.form_schemas import form_schemas
from echo_ingest.web.health import Conditions, Service, figures_pages, health_pages, metrics_page
from echo_ingest.web.posting import post_api
from echo_ingest.web.problems import ERRORS, OUR_MISTAKE, say
from echo_ingest.web.reader import AlmanacThreads, JournalThreads
from echo_ingest.web.same_origin import is_host

__all__ = ["HEALTH_LIMITS", "Conditions", "Service", "create_app", "create_health_app", "serve"]

FILES_BESIDE_CONNECTIONS = 300
"""Among them the connections that are being taken over, and those that are being closed."""
QUEUE_MAX = 4_096
"""Connections that wait in the kernel to be taken over; the kernel may allow fewer."""
UNSENT_BYTES_IN_KERNEL = 128 * 1024
"""Of an answer that is not taken, so much waits in the kernel; the rest waits here, and counts."""
LIMITS = Limits()
HEALTH_LIMITS = Limits(waiting=200, waiting_of_address=120, busy=100, busy_of_address=80, ready=100)
TOO_BUSY = "too many requests are being answered already; try again in a moment"
WRONG_HOST = "the header Host must be a host name or an address, and a port if there is one"

HEADERS = [("X-Content-Type-Options", "nosniff")]
UNLESS_SET = {
    b"cache-control": b"no-store",
    # A payload comes from a stranger: opened in a browser, it must not run as one of our pages.
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'; sandbox",
}


def create_health_app(conditions: Conditions) -> Litestar:
    """Create the health pages alone, for a process that has no journal."""
    return Litestar(
        route_handlers=health_pages(conditions),
        exception_handlers=ERRORS,
        logging_config=None,
        openapi_config=None,
    )


def create_app(
    service: Service,
    settings: Settings,
    tokens: Tokens,
    live: LiveUpdates | None = None,
    decoder: Decoder | None = None,
) -> Litestar:
    """Create all routes. Health and metrics are open; the others ask who it is.

    `live` sends changes to open tabs, if it is run. The rules of `decoder` may be kept up to date.
    """
    decoder = decoder or decoder_of(settings)
    failed = FailedAttempts()
    with_token = only_with(tokens.reader, failed)
    console = []
    if settings.console_access != "off":
        almanac = AlmanacThreads(almanac_path(settings.data_dir))
        journal = JournalThreads(settings.journal_path, decoder)
        console = [
            create_console(
                service, journal, almanac, live or LiveUpdates(), settings, tokens, failed
            )
        ]
    return Litestar(
        route_handlers=[
            *health_pages(service),
            metrics_page(service),
            Router(
                "/",
                route_handlers=[
                    *figures_pages(service),
                    # One of its own, so that neither waits for the other.
                    read_api(JournalThreads(settings.journal_path, decoder)),
                    form_schemas(decoder),
                ],
                middleware=[with_token],
                security=[{"token": []}],
            ),
            post_api(service, settings, decoder.rules),
            *console,
        ],
        exception_handlers=ERRORS,
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title="Echo Ingest",
            version=echo_ingest.__version__,
            description="What the journal holds, and a way in for messages.",
            components=Components(
                security_schemes={
                    "token": SecurityScheme(type="http", scheme="bearer"),
                    "basic": SecurityScheme(type="http", scheme="basic"),
                }
            ),
            openapi_router=Router(
                "/api/openapi.json",
                route_handlers=[],
                middleware=[with_token],
                include_in_schema=False,
            ),
            # The document alone: the pages that show it load their scripts from other hosts.
            render_plugins=[JsonRenderPlugin(path="/")],
        ),
    )


async def serve(
    app: Litestar,
    listener: socket.socket,
    started: asyncio.Event | None = None,
    limits: Limits = LIMITS,
) -> None:
    """Answer at `listener` until cancelled; set `started` once it answers.

    There are fewer connections than `limits` allow if this process may not open as many files.
    When it is cancelled, replies that have begun get `GRACE_SECONDS` to finish.
    """
    files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files_max != resource.RLIM_INFINITY:
        limits = limits.within(files_max - FILES_BESIDE_CONNECTIONS)
    connections = Connections(limits, _with_headers(_turned_away))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_IN_KERNEL)
    server = _Server(
        uvicorn.Config(
            _with_headers(_answering_all(app)),
            http=H11Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            headers=HEADERS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
            h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        ),
        connections,
        started or asyncio.Event(),
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    watching = asyncio.create_task(connections.watch())
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await serving
        watching.cancel()


def _with_headers(app: ASGIApp) -> ASGIApp:
    """Return `app` with the headers above added to answers that do not set them."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def complete_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"]]
                names = {name.lower() for name, _ in headers}
                headers += [each for each in UNLESS_SET.items() if each[0] not in names]
                message["headers"] = headers
            await send(message)

        await app(scope, receive, complete_and_send)

    return answer


def _answering_all(app: ASGIApp) -> ASGIApp:
    """Return `app` with an answer in words also where it has none.

    Without a valid Host, a request has no address, and no page could be made for it. A mistake of
    ours in what makes pages of errors is answered here, and logged by the server.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def note_and_send(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        if not is_host(host.decode("latin-1")):
            return await say(scope, send, 400, WRONG_HOST)
        try:
            await app(scope, receive, note_and_send)
        except Exception:
            if not has_begun:
                await say(scope, send, 500, OUR_MISTAKE)
            raise

    return answer


async def _turned_away(scope: Scope, receive: Receive, send: Send) -> None:
    await say(scope, send, 503, TOO_BUSY, {"Retry-After": "5", "Connection": "close"})


class _Server(uvicorn.Server):
    """uvicorn in our event loop: we handle the signals, and `started` is set when it is up."""

    def __init__(
        self, config: uvicorn.Config, connections: Connections, started: asyncio.Event
    ) -> None:
        super().__init__(config)
        self.servers = []  # asyncio's: our own doorways take their place
        self._connections = connections
        self._doorways: list[Doorway] = []
        self._is_up = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in sockets or ():
            listener.listen(QUEUE_MAX)
            self._doorways.append(Doorway(listener, self._connections, self._connection))
        self.started = True
        self._is_up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for doorway in self._doorways:
            doorway.close()
        await super().shutdown(sockets)

    def _connection(self, received: bytes) -> Connection:
        return Connection(
            self._connections,
            received,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
