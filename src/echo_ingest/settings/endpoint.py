"""Addresses of brokers and of HTTP services, as people type them."""

import contextlib
import ipaddress
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from msgspec import Struct

Scheme = Literal["mqtt", "mqtts", "ws", "wss"]
DEFAULT_PORTS: dict[Scheme, int] = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
DEFAULT_WEBSOCKET_PATH = "/mqtt"  # mosquitto answers on any path; others use this one by convention

SOCKET_NAME_BYTES_MAX = 100  # Linux allows 107, other systems a few less

HOST = re.compile(r"[\w-][\w.-]*")


class Endpoint(Struct, frozen=True):
    """Where a broker listens. `path` is for WebSockets and is empty otherwise."""

    scheme: Scheme
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


class LocalEndpoint(Struct, frozen=True):
    """The socket file of our own broker, for programs on its machine: nobody types it."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @contextlib.contextmanager
    def name(self) -> Iterator[str]:
        """Yield the name to connect to inside the block; a path that is too long is shortened."""
        name = str(self.path)
        if len(os.fsencode(name)) <= SOCKET_NAME_BYTES_MAX:
            yield name
            return
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            yield f"/proc/self/fd/{folder}/{self.path.name}"
        finally:
            os.close(folder)


def parse_endpoint(text: str) -> Endpoint:
    """Parse `host`, `host:port`, or `mqtt://`, `mqtts://`, `ws://`, `wss://` host[:port][/path].

    IPv6 addresses are written in brackets. Raises `ValueError` with the remedy in its text.
    """
    remedy = (
        "type host, host:port, or host[:port] after mqtt://, mqtts://, ws:// or wss://; "
        "a port is 1 to 65535, and an IPv6 address is written in brackets"
    )
    try:
        url = urlsplit(text if "://" in text else f"mqtt://{text}")
        host, port = url.hostname, url.port
    except ValueError:
        raise ValueError(remedy) from None
    scheme = next((known for known in get_args(Scheme) if known == url.scheme), None)
    if url.username is not None:
        raise ValueError("type user and password in their own settings, not in the address")
    if scheme is None or host is None or not is_host(host) or port == 0:
        raise ValueError(remedy)
    if url.query or url.fragment:
        raise ValueError("leave out everything from ? or # on")
    path = url.path
    if scheme in ("ws", "wss"):
        path = path or DEFAULT_WEBSOCKET_PATH
    elif path:
        raise ValueError("only ws:// and wss:// addresses have a path: leave it out")
    return Endpoint(scheme, host, port or DEFAULT_PORTS[scheme], path)


def check_endpoint(text: str) -> str:
    """Return `text` if `parse_endpoint` accepts it."""
    parse_endpoint(text)
    return text


def check_http_url(text: str) -> str:
    """Return `text` without trailing slashes; raise `ValueError` with the remedy in its text."""
    remedy = "type http:// or https:// and host[:port][/path], such as https://api.example.org"
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise ValueError(remedy) from None
    if url.username is not None:
        raise ValueError("type the key in its own setting, not in the address")
    if url.scheme not in ("http", "https") or host is None or not is_host(host) or port == 0:
        raise ValueError(remedy)
    if not text.isprintable() or " " in text or url.query or url.fragment:
        raise ValueError("leave out spaces, and everything from ? or # on")
    return text.rstrip("/")


def check_bind(text: str) -> str:
    """Return `text` if it is an address to listen on; raise `ValueError` with the remedy."""
    if text != "localhost" and not _is_ip(text):
        raise ValueError(
            "type 127.0.0.1 (for programs on this machine), 0.0.0.0 (for everybody who can "
            "reach this machine) or one of this machine's addresses"
        )
    return text


def is_host(text: str) -> bool:
    """Return whether it is a host name or an IP address (IPv6 without brackets)."""
    return HOST.fullmatch(text) is not None or _is_ip(text)


def is_loopback(text: str) -> bool:
    """Return whether only programs on this machine can reach that address."""
    return text == "localhost" or (_is_ip(text) and ipaddress.ip_address(text).is_loopback)


def local_host(bind: str) -> str:
    """Return where programs on this machine reach what listens at `bind`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
