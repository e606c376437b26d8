"""Where a request comes from, as far as its headers tell. Pure.

A browser sends a form to us for any page that asks it to, and shows what we answer to any page that
is under our name. So what acts has to come from a page of ours; and where everybody on this machine
may read, the name has to be this machine's own: a stranger's page can have its name lead here (DNS
rebinding), and would be under it.
"""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from echo_ingest.settings.endpoint import is_loopback

OWN = ("same-origin", "none")
"""`Sec-Fetch-Site` of a page of ours, and of a person who typed the address."""

PLAIN = re.compile(r"[!-~]{1,2000}")
"""An address as browsers write it: what is not ASCII is escaped."""


def comes_from_here(headers: Mapping[str, str]) -> bool:
    """Was this sent by a page of ours, or by a program that is no browser?"""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in OWN
    origin = headers.get("origin")
    host = _host(headers)
    # By either scheme: a proxy with TLS before us speaks plain HTTP to us.
    return origin is None or origin.lower() in (f"http://{host}", f"https://{host}")


def is_elsewheres_link(headers: Mapping[str, str]) -> bool:
    """Has somebody followed a link from another site, and the browser kept our cookie back?"""
    return (
        headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-site", "none") not in OWN
    )


def is_for_this_machine(headers: Mapping[str, str]) -> bool:
    """Did the browser come by a name of its own machine: `localhost`, `127.0.0.1`, `[::1]`?"""
    try:
        name = urlsplit(f"//{_host(headers)}").hostname or ""
    except ValueError:
        return False
    return is_loopback(name)


def is_private(headers: Mapping[str, str]) -> bool:
    """Can nobody read along, by TLS or because it does not leave the browser's own machine?"""
    return is_by_tls(headers) or is_for_this_machine(headers)


def is_by_tls(headers: Mapping[str, str]) -> bool:
    """Does the browser speak TLS to whoever is before us?"""
    return headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower() == "https"


def own_page(address: str, otherwise: str = "/console") -> str:
    """`address`, where it is one of a page of ours; else `otherwise`: never another site's."""
    path, _, _ = address.partition("?")
    plain = PLAIN.fullmatch(address) is not None and "\\" not in address
    ours = path == "/console" or path.startswith("/console/")
    leaves = "//" in path or ".." in path or path.startswith(("/console/login", "/console/actions"))
    return address if plain and ours and not leaves else otherwise


def _host(headers: Mapping[str, str]) -> str:
    return headers.get("host", "").lower()
