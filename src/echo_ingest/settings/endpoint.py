"""Addresses, as people type them."""

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
DEFAULT_WEBSOCKET_PATH = "/mqtt"  # mosquitto answers on any; others on this, by custom

SOCKET_NAME_BYTES_MAX = 100  # Linux takes 107, others a few less

HOST = re.compile(r"[\w-][\w.-]*")


class Endpoint(Struct, frozen=True):
    """Where a broker listens. `path` belongs to WebSockets and is empty for the others."""

    scheme: Scheme
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


class LocalEndpoint(Struct, frozen=True):
    """The way into our own broker for programs on its machine: nobody types it."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @contextlib.contextmanager
    def name(self) -> Iterator[str]:
        """What to connect to, inside the block; shorter than the path where that is too long."""
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
    """`host`, `host:port`, or `mqtt://`, `mqtts://`, `ws://`, `wss://` host[:port][/path].

    IPv6 addresses stand in brackets. Raises `ValueError` with the remedy in its text.
    """
    remedy = (
        "type host, host:port, or host[:port] after mqtt://, mqtts://, ws:// or wss://; "
        "a port is 1 to 65535, an IPv6 address stands in brackets"
    )
    try:
        url = urlsplit(text if "://" in text else f"mqtt://{text}")
        host, port = url.hostname, url.port
    except ValueError:
        raise ValueError(remedy) from None
    scheme = next((known for known in get_args(Scheme) if known == url.scheme), None)
    if url.username is not None:
        raise ValueError("type user and password as settings of their own, not in the address")
    if scheme is None or host is None or not is_host(host) or port == 0:
        raise ValueError(remedy)
    if url.query or url.fragment:
        raise ValueError("leave out what follows ? or #")
    path = url.path
    if scheme in ("ws", "wss"):
        path = path or DEFAULT_WEBSOCKET_PATH
    elif path:
        raise ValueError("only ws:// and wss:// have a path: leave it out")
    return Endpoint(scheme, host, port or DEFAULT_PORTS[scheme], path)


def check_endpoint(text: str) -> str:
    """`text` itself, if `parse_endpoint` takes it."""
    parse_endpoint(text)
    return text


def check_http_url(text: str) -> str:
    """`text` without slashes at its end; raises `ValueError` with the remedy in its text."""
    remedy = "type http:// or https:// and host[:port][/path], such as https://api.example.org"
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise ValueError(remedy) from None
    if url.username is not None:
        raise ValueError("type the key as a setting of its own, not in the address")
    if url.scheme not in ("http", "https") or host is None or not is_host(host) or port == 0:
        raise ValueError(remedy)
    if not text.isprintable() or " " in text or url.query or url.fragment:
        raise ValueError("leave out what follows ? or #, and blanks")
    return text.rstrip("/")


def check_bind(text: str) -> str:
    """`text` itself, if one can listen there; raises `ValueError` with the remedy in its text."""
    if text != "localhost" and not _is_ip(text):
        raise ValueError(
            "type 127.0.0.1 (for programs on this machine), 0.0.0.0 (for everybody who can "
            "reach it) or one of its addresses"
        )
    return text


def is_host(text: str) -> bool:
    """Is it a host name or an IP address (IPv6 without brackets)?"""
    return HOST.fullmatch(text) is not None or _is_ip(text)


def is_loopback(text: str) -> bool:
    """Can only programs on this machine reach that address?"""
    return text == "localhost" or (_is_ip(text) and ipaddress.ip_address(text).is_loopback)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
