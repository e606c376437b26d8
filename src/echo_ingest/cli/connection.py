"""A connection to the broker for as long as a command takes."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import closing
from http.client import HTTPConnection

from echo_ingest.broker import PUBLISHER, own_endpoint, own_login
from echo_ingest.mqtt import ConnectionLost, Session, SessionOptions
from echo_ingest.settings import Endpoint, Settings, parse_endpoint
from echo_ingest.settings.secrets import read_secret

STATE_POLL_SECONDS = 0.02
HTTP_TIMEOUT_SECONDS = 3.0
REPLY_BYTES_MAX = 64 * 1024
LOSSES_MAX = 5


@contextlib.asynccontextmanager
async def connected(session: Session) -> AsyncIterator[None]:
    """Keep `session` connected inside the block; raise `ConnectionLost` if it cannot begin."""
    before = session.state
    running = asyncio.create_task(session.run())
    inside = asyncio.current_task()
    assert inside is not None
    # `run` never returns: if it breaks, the block must not wait for it for ever.
    running.add_done_callback(lambda done: None if done.cancelled() else inside.cancel())
    try:
        while session.state == before and not running.done():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(STATE_POLL_SECONDS)
        if not session.is_connected:
            raise ConnectionLost(session.state)
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def publish_acknowledged(
    session: Session,
    topic: str,
    payload: bytes,
    *,
    response_topic: str | None = None,
    correlation_data: bytes | None = None,
) -> int:
    """Publish until the broker has acknowledged it; return how often that took.

    The broker may have what a lost connection left unanswered, or not: a duplicate is recognised, a
    loss would not be. Raises `PublishRefused`, or `ConnectionLost` after `LOSSES_MAX` of them.
    """
    for attempt in range(1, LOSSES_MAX + 1):
        try:
            await session.publish(
                topic, payload, response_topic=response_topic, correlation_data=correlation_data
            )
        except ConnectionLost as error:
            lost = error
        else:
            return attempt
    raise ConnectionLost(
        f"the connection was lost {LOSSES_MAX} times while {len(payload):,} bytes were sent to "
        f"{topic} ({lost}); if that is more than the broker takes, raise its limit"
    ) from lost


def is_own(settings: Settings) -> bool:
    """Is the broker the one that `up` or `broker` runs, with its accounts?"""
    if settings.endpoint is None:
        return True
    endpoint = parse_endpoint(settings.endpoint)
    here = endpoint.scheme == "mqtt" and endpoint.host in ("localhost", "127.0.0.1", "::1")
    return here and endpoint.port == settings.mqtt_port and settings.user is None


def ask_service(settings: Settings, path: str) -> tuple[int, bytes]:
    """GET from the HTTP side of the service here; its status, and the beginning of its answer.

    Raises `OSError` or `HTTPException` where nothing answers as it should.
    """
    host, port = local_host(settings), settings.http_port
    headers = {"Authorization": f"Bearer {http_token(settings)}"}
    with closing(HTTPConnection(host, port, timeout=HTTP_TIMEOUT_SECONDS)) as connection:
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read(REPLY_BYTES_MAX)


def http_token(settings: Settings) -> str:
    """What the read API asks for, as far as it is known here."""
    if settings.http_token is not None:
        return settings.http_token.get_secret_value()
    return read_secret(settings.data_dir, "http") or ""


def local_host(settings: Settings) -> str:
    """Where our own servers answer: all addresses means this machine's own, too."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.bind, settings.bind)  # noqa: S104


def require_publisher(settings: Settings) -> SessionOptions:
    """How to connect as a device; raises `ConnectionLost` where there is no account for one."""
    options = publisher_options(settings)
    if options is None:
        raise ConnectionLost(
            "the password of echopub is not known here; start `echo-ingest up` once, or set "
            "IOT_PUB_PASSWORD, or IOT_ENDPOINT for a broker elsewhere"
        )
    return options


def publisher_options(settings: Settings) -> SessionOptions | None:
    """How to connect as a device: to our own broker as `echopub`, elsewhere as ourselves.

    Where nobody shares an account, as the service itself. None if our own broker has never been
    started, or knows no more of the password than a hash.
    """
    if not is_own(settings):
        assert settings.endpoint is not None
        return SessionOptions(
            endpoint=parse_endpoint(settings.endpoint),
            client_id=_client_id(),
            login=lambda: settings.login,
            tls_ca_file=settings.tls_ca_file,
        )
    if not settings.echopub:
        return service_options(settings)
    password = read_secret(settings.data_dir, PUBLISHER)
    if settings.pub_password is not None:
        password = settings.pub_password.get_secret_value()
    if password is None:
        return None
    return SessionOptions(
        endpoint=Endpoint("mqtt", local_host(settings), settings.mqtt_port),
        client_id=_client_id(),
        login=lambda: (PUBLISHER, password),
    )


def service_options(settings: Settings) -> SessionOptions | None:
    """How to connect to our own broker as its service; None if it has never been started."""
    if own_login(settings.data_dir) is None:
        return None
    return SessionOptions(
        endpoint=own_endpoint(settings.data_dir),
        client_id=_client_id(),
        login=lambda: own_login(settings.data_dir),
    )


def _client_id() -> str:
    return f"echo-ingest-publish-{secrets.token_hex(4)}"
