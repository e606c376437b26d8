"""Connections that a command needs: to the broker over MQTT, and to the service over HTTP."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
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
    # `run` never returns. If it fails, the block must not wait for it for ever.
    running.add_done_callback(lambda done: None if done.cancelled() else inside.cancel())
    try:
        while session.state == before and not running.done():  # noqa: ASYNC110 - a session has no event for it
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
    properties: Sequence[tuple[str, str]] = (),
    response_topic: str | None = None,
    correlation_data: bytes | None = None,
) -> int:
    """Publish until the broker has acknowledged the message; return the number of attempts.

    After a lost connection it is unknown whether the broker has the message, so it is sent again: a
    duplicate is recognised, but a loss would not be. Raises `PublishRefused`, or `ConnectionLost`
    when the connection was lost `LOSSES_MAX` times.
    """
    for attempt in range(1, LOSSES_MAX + 1):
        try:
            await session.publish(
                topic,
                payload,
                properties=properties,
                response_topic=response_topic,
                correlation_data=correlation_data,
            )
        except ConnectionLost as error:
            lost = error
        else:
            return attempt
    raise ConnectionLost(
        f"the connection was lost {LOSSES_MAX} times while {len(payload):,} bytes were sent to "
        f"{topic} ({lost}); if the message is larger than the broker accepts, raise its limit"
    ) from lost


def is_own(settings: Settings) -> bool:
    """Return whether the broker is the one that `up` or `broker` runs, with its accounts."""
    if settings.endpoint is None:
        return True
    endpoint = parse_endpoint(settings.endpoint)
    here = endpoint.scheme == "mqtt" and endpoint.host in ("localhost", "127.0.0.1", "::1")
    return here and endpoint.port == settings.mqtt_port and settings.user is None


def ask_service(settings: Settings, path: str) -> tuple[int, bytes]:
    """GET `path` from the service on this machine; return the status and the start of the body.

    Raises `OSError` or `HTTPException` if no HTTP server answers.
    """
    host, port = local_host(settings), settings.http_port
    headers = {"Authorization": f"Bearer {http_token(settings)}"}
    with closing(HTTPConnection(host, port, timeout=HTTP_TIMEOUT_SECONDS)) as connection:
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read(REPLY_BYTES_MAX)


def http_token(settings: Settings) -> str:
    """Return the token for the read API, or "" if this machine does not have it."""
    if settings.http_token is not None:
        return settings.http_token.get_secret_value()
    return read_secret(settings.data_dir, "http") or ""


def local_host(settings: Settings) -> str:
    """Return an address of our own servers; if they listen on all addresses, the loopback one."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.bind, settings.bind)  # noqa: S104


def require_publisher(settings: Settings) -> SessionOptions:
    """Return how to connect as a device; raise `ConnectionLost` if there is no account for it."""
    options = publisher_options(settings)
    if options is None:
        raise ConnectionLost(
            "this machine does not have the password of echopub: start `echo-ingest up` once, or "
            "set IOT_PUB_PASSWORD; for a broker elsewhere, set IOT_ENDPOINT"
        )
    return options


def publisher_options(settings: Settings) -> SessionOptions | None:
    """Return how to connect as a device: to our own broker as `echopub`, elsewhere as `IOT_USER`.

    With `IOT_ECHOPUB=false` it is our service's own account. None if our own broker has never been
    started, or if only a hash of the password is kept.
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
    """Return how to connect to our own broker as the service; None if it never started."""
    if own_login(settings.data_dir) is None:
        return None
    return SessionOptions(
        endpoint=own_endpoint(settings.data_dir),
        client_id=_client_id(),
        login=lambda: own_login(settings.data_dir),
    )


def _client_id() -> str:
    return f"echo-ingest-publish-{secrets.token_hex(4)}"
