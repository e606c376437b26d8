"""10,000 nodes and 1,000,000 records: no page takes the server 300 ms, or the network 1 MB."""

import html
import re
import statistics
import time
import urllib.request
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Request

from tests.browser.tab import tab
from tests.harness import Harness

MILLISECONDS_MAX = 300
BYTES_MAX = 1_000_000
REQUESTS = 7


PARKED = r"/console/refused/group\?[^\"]*sink=echo_api"
PAGES = {
    "overview": ("/console",),
    "nodes": ("/console/nodes",),
    "node": ("/console/nodes/node-00042",),
    "calls": ("/console/calls",),
    "calls of a species": ("/console/calls?species=Ninox+strenua",),
    "calls of a node": ("/console/calls?node=node-00042",),
    "call": ("/console/calls", r"/console/calls/\d"),
    "refused": ("/console/refused",),
    "refused for a reason": ("/console/refused", "/console/refused/group"),
    "refused message": ("/console/refused", "/console/refused/group", "/console/refused/letters/"),
    "refused by a store": ("/console/refused", PARKED),
    "refused record": ("/console/refused", PARKED, "/console/refused/parked/"),
}
"""A page, and the beginnings of the addresses of the links to follow from there."""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_much_is_as_quick(
    browser: Browser, huge: Harness, name: str, record_property: Callable[[str, object], None]
) -> None:
    origin = f"http://127.0.0.1:{huge.http_port}"
    path = follow(huge, *PAGES[name])
    took_ms = [milliseconds(origin + path) for _ in range(REQUESTS)]
    size_bytes = transferred(browser, origin, path)
    median = statistics.median(took_ms)
    record_property("figure", (name, took_ms[0], median, max(took_ms), size_bytes))
    assert median < MILLISECONDS_MAX, took_ms
    assert size_bytes < BYTES_MAX


def follow(harness: Harness, path: str, *links: str) -> str:
    """Return the path of the page that these links lead to."""
    for link in links:
        (href, *_) = re.findall(f'href="({link}[^"]*)"', harness.http_bytes(path).decode())
        path = html.unescape(href)
    return path


def milliseconds(address: str) -> float:
    """Return the milliseconds until the whole page is here, mostly the server's time."""
    request = urllib.request.Request(address, headers={"Accept-Encoding": "gzip"})  # noqa: S310
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310 - loopback
        reply.read()
    return (time.perf_counter() - began) * 1_000


def transferred(browser: Browser, origin: str, path: str) -> int:
    """Return the bytes that a browser with an empty cache transfers for the whole page."""
    sizes: list[int] = []

    def count(request: Request) -> None:
        size = request.sizes()
        sizes.append(size["responseBodySize"] + size["responseHeadersSize"])

    with tab(browser, origin) as one:
        one.page.on("requestfinished", count)
        one.open(path)
    return sum(sizes)
