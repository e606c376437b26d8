"""HTTP: health, metrics, the read API and the console. docs/http.md describes it.

It runs in its own process (`__main__.py`), which asks the ingest process how it is (`ipc.py`).
The journal is read in threads, a few at a time, for those who send the token.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import h11
import uvicorn
from litestar import Litestar, Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

import echo_ingest
from echo_ingest.almanac import almanac_path
from echo_ingest.broker.node_rules import decoder_of
from echo_ingest.decode import Decoder
from echo_ingest.settings import Settings, Tokens
from echo_ingest.web.access import only_with
from echo_ingest.web.api import read_api
from echo_ingest.web.console import create_console
from echo_ingest.web.console.live_updates import TABS_MAX, LiveUpdates
from echo_ingest.web.failed_attempts import FailedAttempts
from echo_ingest.web.health import Conditions, Service, figures_pages, health_pages, metrics_page
from echo_ingest.web.problems import ERRORS
from echo_ingest.web.reader import AlmanacThreads, JournalThreads

__all__ = ["Conditions", "Service", "create_app", "create_health_app", "serve"]

KEEP_ALIVE_SECONDS = 15
GRACE_SECONDS = 3
HEADER_BYTES_MAX = 16 * 1024
CONNECTIONS_MAX = 500 + TABS_MAX  # so that open tabs cannot keep anybody else out

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
    """Create all routes. All but health and metrics ask for a token, the console as configured.

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
                ],
                middleware=[with_token],
                security=[{"token": []}],
            ),
            *console,
        ],
        exception_handlers=ERRORS,
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title="Echo Ingest",
            version=echo_ingest.__version__,
            description="What the journal holds, read-only.",
            components=Components(
                security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}
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
    app: Litestar, listener: socket.socket, started: asyncio.Event | None = None
) -> None:
    """Answer at `listener` until cancelled; set `started` once it answers.

    When it is cancelled, replies that have begun get `GRACE_SECONDS` to finish.
    """
    server = _Server(
        uvicorn.Config(
            _with_headers(app),
            http=_Connection,
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
            limit_concurrency=CONNECTIONS_MAX,
            h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        ),
        started or asyncio.Event(),
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await serving


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


class _Server(uvicorn.Server):
    """uvicorn in our event loop: we handle the signals, and `started` is set when it is up."""

    def __init__(self, config: uvicorn.Config, started: asyncio.Event) -> None:
        super().__init__(config)
        self._is_up = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._is_up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Connection(H11Protocol):
    """A connection that is closed if no whole request comes for as long as it may idle.

    It is also closed if the client goes on sending a body after the answer.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._close_unless_requested()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None:
            self._close_unless_requested()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self.loop.call_later(GRACE_SECONDS, self._close_unless_sent)

    def _close_unless_sent(self) -> None:
        if self.conn.their_state is h11.SEND_BODY:
            self.transport.close()

    def _close_unless_requested(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
