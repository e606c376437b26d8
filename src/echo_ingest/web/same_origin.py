"""Where a request comes from, as far as its headers tell. Pure.

A browser sends a form to us for any page that asks it to, and shows our answers to any page that
has our host name. So a request that changes something has to come from one of our pages; and where
everybody on this machine may read, the host name has to be this machine's own: the host name of a
foreign page can be pointed at this machine (DNS rebinding).
"""

import re
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import urlsplit

from echo_ingest.settings.endpoint import is_loopback

OWN = ("same-origin", "none")
"""`Sec-Fetch-Site` of our own pages, and of a person who typed the address."""

PLAIN = re.compile(r"[!-~]{1,2000}")
"""An address as browsers write it: everything but ASCII is escaped."""


HOST = re.compile(r"(?:[A-Za-z0-9._~-]*|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{0,5}))?", re.ASCII)
"""A host and its port. Nothing is escaped in it: no host that we have is called so."""
PORT_MAX = 65_535


def is_host(text: str) -> bool:
    """Return whether this can be the header Host; it may be empty. [RFC 9112, 3.2]"""
    match = HOST.fullmatch(text)
    if match is None or int(match[2] or 0) > PORT_MAX:
        return False
    try:
        return match[1] is None or bool(IPv6Address(match[1]))
    except AddressValueError:
        return False


def comes_from_here(headers: Mapping[str, str]) -> bool:
    """Return whether this was sent by one of our pages, or by a program that is no browser."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in OWN
    origin = headers.get("origin")
    host = _host(headers)
    # Either scheme is right: a proxy with TLS in front of us speaks plain HTTP to us.
    return origin is None or origin.lower() in (f"http://{host}", f"https://{host}")


def is_link_from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Return whether this is a link followed from another site, so that our cookie was not sent."""
    return (
        headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-site", "none") not in OWN
    )


def is_for_this_machine(headers: Mapping[str, str]) -> bool:
    """Return whether the host is the browser's own: `localhost`, `127.0.0.1` or `[::1]`."""
    try:
        name = urlsplit(f"//{_host(headers)}").hostname or ""
    except ValueError:
        return False
    return is_loopback(name)


def is_private(headers: Mapping[str, str]) -> bool:
    """Return whether nobody can read along: by TLS, or because it never leaves the machine."""
    return is_by_tls(headers) or is_for_this_machine(headers)


def is_by_tls(headers: Mapping[str, str]) -> bool:
    """Return whether the browser speaks TLS to the proxy in front of us."""
    return headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower() == "https"


def own_page(address: str, otherwise: str = "/console") -> str:
    """Return `address` if it is one of our pages, else `otherwise`: never another site."""
    path, _, _ = address.partition("?")
    plain = PLAIN.fullmatch(address) is not None and "\\" not in address
    ours = path == "/console" or path.startswith("/console/")
    leaves = "//" in path or ".." in path or path.startswith(("/console/login", "/console/actions"))
    return address if plain and ours and not leaves else otherwise


def _host(headers: Mapping[str, str]) -> str:
    return headers.get("host", "").lower()
