"""What every page of the console relies on: headers, errors in plain words, files of the bundle."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from echo_ingest import web
from echo_ingest.almanac import almanac_path
from echo_ingest.almanac.follower import Follower
from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal, Ledger
from echo_ingest.record import Message
from echo_ingest.settings import Settings
from echo_ingest.web.console.assets import read_bundle
from tests.console.browsing import browsing
from tests.harness import TOKENS, free_port
from tests.test_web import RECEIVED_AT_MS, Fine, serving

ROOT = Path(__file__).parents[1]


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with visiting(Settings(data_dir=tmp_path)) as http:
        yield http


@contextlib.asynccontextmanager
async def visiting(
    settings: Settings, service: type[Fine] = Fine
) -> AsyncIterator[aiohttp.ClientSession]:
    """Start the console in front of an empty journal."""
    port = free_port()
    journal = Journal(settings.data_dir / "journal.db")
    app = web.create_app(service(journal), settings, TOKENS)
    async with serving(app, port), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        yield http
    journal.close()


async def test_a_page_forbids_whatever_it_does_not_need(browser: aiohttp.ClientSession) -> None:
    for path in ("/console", "/console/nodes", "/console/nothing"):
        async with browser.get(path) as reply:
            (policy,) = reply.headers.getall("Content-Security-Policy")
            assert "default-src 'none'" in policy and "unsafe" not in policy
            assert "http" not in policy
            assert reply.headers.getall("Cache-Control") == ["no-store"]
            assert "<h1>" in await reply.text()


async def test_nothing_that_a_device_sends_becomes_a_part_of_a_page(tmp_path: Path) -> None:
    markup = "<b onclick=alert(1)>"
    fields = {"sensor_id": f"s{markup}", "species": markup, "confidence": 63.64, "id": markup}
    async with browsing(tmp_path) as browser:
        for topic, sent in (("iotingestion/n", fields), (f"iotingestion/{markup}/x", {**fields})):
            for payload in (json.dumps(sent).encode(), f"{markup} is no JSON".encode()):
                message = Message(topic, payload, RECEIVED_AT_MS, topic.split("/")[1])
                browser.journal.append([(message, Decoder(10_000).identify(message))])
        assert browser.journal.ledger().stored == browser.journal.ledger().dead_letters == 2
        browser.catch_up()
        await browser.log_in()
        pages = ["/console", "/console/calls", "/console/calls/1", "/console/nodes"]
        pages += ["/console/refused", f"/console/nodes/{quote(markup, safe='')}"]
        shown = 0
        for path in pages:
            assert await browser.get(path) == 200, path
            assert "<b onclick" not in browser.text, path
            shown += browser.text.count("&lt;b onclick=alert(1)&gt;")
        assert shown >= len(pages) - 1


async def test_tiles_are_the_only_thing_that_another_host_may_give(tmp_path: Path) -> None:
    tiles = "https://{s}.tiles.example.org:8443/{z}/{x}/{y}.png?key=1"
    settings = Settings(data_dir=tmp_path, map_tiles=tiles)
    async with visiting(settings) as http, http.get("/console/nodes") as reply:
        directives = reply.headers["Content-Security-Policy"].split("; ")
    (allowing,) = [each for each in directives if "http" in each]
    assert allowing == "img-src 'self' data: blob: https://*.tiles.example.org:8443"


async def test_an_error_is_a_page_in_words(browser: aiohttp.ClientSession) -> None:
    for path, status, words in [
        ("/console/nothing", 404, "There is no page /console/nothing"),
        ("/console/static/nothing.js", 404, "load the page again"),
        ("/console/static/manifest.json", 404, "There is no file"),
    ]:
        async with browser.get(path) as reply:
            text = await reply.text()
            assert reply.status == status and words in text, text
            assert reply.content_type == "text/html"


class Broken(Fine):
    """A service with a mistake of ours in it."""

    async def ledger(self) -> Ledger:
        raise RuntimeError("a detail of ours")


async def test_a_mistake_of_ours_is_a_page_in_words_without_its_details(tmp_path: Path) -> None:
    Journal(tmp_path / "journal.db").close()
    with contextlib.closing(
        Follower(almanac_path(tmp_path), tmp_path / "journal.db", Decoder(10_000))
    ) as follower:
        for _ in follower.round():  # without an almanac the page might be missing for that
            pass
    async with visiting(Settings(data_dir=tmp_path), Broken) as http:
        async with http.get("/console") as reply:
            text = await reply.text()
            assert reply.status == 500 and reply.content_type == "text/html"
        assert "the service&#39;s log says why" in text
        assert "detail of ours" not in text and "RuntimeError" not in text


async def test_the_files_of_the_bundle_are_kept_for_ever(browser: aiohttp.ClientSession) -> None:
    bundle = read_bundle()
    if not bundle.is_built:
        pytest.skip("nothing is built: make console")
    address = bundle.address("console.css")
    assert address is not None
    async with browser.get(address) as reply:
        assert reply.status == 200
        assert reply.headers["Content-Encoding"] == "gzip"
        assert "immutable" in reply.headers["Cache-Control"]
        gzipped = await reply.text()
    async with browser.get(address, headers={"Accept-Encoding": "identity"}) as reply:
        assert "Content-Encoding" not in reply.headers
        assert await reply.text() == gzipped


async def test_the_bundle_brings_the_licences_of_all_that_is_in_it(
    browser: aiohttp.ClientSession,
) -> None:
    address = read_bundle().address("licences.txt")
    if address is None:
        pytest.skip("nothing is built: make console")
    async with browser.get(address) as reply:
        licences = await reply.text()
    package = json.loads((ROOT / "console" / "package.json").read_text())
    for name in package["dependencies"].keys() - {"esbuild"}:
        assert f"{name} {package['dependencies'][name].strip('^').partition('.')[0]}." in licences
    assert licences.count("Copyright") >= 3
