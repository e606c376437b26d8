"""Connections that a command needs: to the broker over MQTT, and to the service over HTTP."""

import secrets
from contextlib import closing
from http.client import HTTPConnection

from echo_ingest.broker import PUBLISHER, own_endpoint, own_login
from echo_ingest.mqtt import ConnectionLost, SessionOptions
from echo_ingest.settings import Endpoint, Settings, parse_endpoint
from echo_ingest.settings.endpoint import local_host
from echo_ingest.settings.secrets import read_secret

HTTP_TIMEOUT_SECONDS = 3.0
REPLY_BYTES_MAX = 64 * 1024


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
    host, port = local_host(settings.bind), settings.http_port
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
        endpoint=Endpoint("mqtt", local_host(settings.bind), settings.mqtt_port),
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
