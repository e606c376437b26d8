"""A link to a node leads to its page, whatever the node is called."""

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from urllib.parse import parse_qs, unquote, urljoin, urlsplit

import pytest
from yarl import URL

from echo_ingest.decode import Decoder
from echo_ingest.record import Message
from echo_ingest.web.console.node_address import node_address
from echo_ingest.web.console.rendering import shown
from tests.console.browsing import Browser, browsing
from tests.console.test_calls import HEARD, call

ODD = (
    *("..", ".", "...", "%2e%2e", "%2E.", "%", "%25", "%2F", "/", "a/b", "../..", "a/../b"),
    *("?", "a?b=c", "#", "a#b", "&", "a=b", ";", "+", "a b", " a ", "\\", "..\\", "'", '"', "<b>"),
    *("ü", "日本", "🐸", "a\u202eb", "\u00a0", "a\tb", "~", "-x", ":", "a:b", "//host", "@", "*"),
)
SIGNS = "./\\%?#&=+ ;:@~e2E5aü"


def odd_names() -> list[str]:
    rng = Random(1)
    made = ["".join(rng.choices(SIGNS, k=rng.randrange(1, 6))) for _ in range(600)]
    return list(dict.fromkeys((*ODD, *made)))


def asked_for(address: str) -> str:
    """Return the name for which a server is asked that gets this address from a browser."""
    parts = urlsplit(address)
    if parts.path == "/console/node":
        (name,) = parse_qs(parts.query, keep_blank_values=True)["name"]
        return name
    path = unquote(parts.path)
    # A browser also takes out these segments where they are written with %2e.
    assert not {".", ".."} & set(path.split("/")), address
    assert path.startswith("/console/nodes/") and path.count("/") == 3, address
    return path.removeprefix("/console/nodes/")


@pytest.mark.parametrize("page", ["/console", "/console/nodes", "/console/calls/7", "/console/"])
def test_an_address_survives_the_resolver_of_a_browser(page: str) -> None:
    for name in odd_names():
        for parameters in ({}, {"until": "2026-09-14"}):
            address = urljoin(f"http://host{page}", node_address(name, **parameters))
            assert asked_for(address) == name
            until = parse_qs(urlsplit(address).query).get("until", [])
            assert until == list(parameters.values())


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browsing(tmp_path) as browser:
        messages = [
            Message(f"iotingestion/{number}", sent.payload, sent.received_at_ms, name)
            for number, name in enumerate((*ODD, "x" * 3_000))
            for sent in (call("Litoria ewingii", number, id=f"{number}"),)
        ]
        browser.journal.append([(m, Decoder(1_000_000).identify(m)) for m in messages])
        browser.catch_up()
        yield browser


async def follow(browser: Browser, link: str) -> int:
    """Open a link as it is written on a page."""
    async with browser.http.get(
        URL(f"http://127.0.0.1:{browser.port}{link}", encoded=True)
    ) as reply:
        browser.text = await reply.text()
        return reply.status


async def test_each_link_of_the_table_and_of_the_list_leads_to_its_node(browser: Browser) -> None:
    for page in ("/console/nodes", "/console/calls", "/console"):
        assert await browser.get(page) == 200
        links = re.findall(r'href="(/console/node[s?][^"]*)"[^>]*>([^<]+)</a>', browser.text)
        links = [
            (html.unescape(link), html.unescape(name))
            for link, name in links
            if link.startswith(("/console/nodes/", "/console/node?"))
        ]
        assert len(links) >= (6 if page == "/console" else len(ODD)), page
        for link, name in links:
            assert shown(asked_for(link)) == name
            if len(name) < 3_000:
                assert await follow(browser, link) == 200, link
                assert f"<h1>{html.escape(name)}</h1>" in browser.text.replace(
                    "&#34;", "&quot;"
                ).replace("&#39;", "&#x27;")


async def test_the_pages_of_a_calendar_stay_with_the_node(browser: Browser) -> None:
    first = HEARD.date().replace(day=1).isoformat()
    for name in ("..", "a/b", "a?b=c"):
        assert await follow(browser, node_address(name, until=first)) == 200
        links = re.findall(r'rel="(?:prev|next)" href="([^"#]+)', browser.text)
        assert {asked_for(html.unescape(link)) for link in links} == {name}


async def test_a_node_without_a_name_is_not_found_in_words(browser: Browser) -> None:
    for link in ("/console/node", "/console/node?name=", "/console/node?name=nobody"):
        assert await follow(browser, link) == 404
        assert "No node called" in html.unescape(browser.text)
