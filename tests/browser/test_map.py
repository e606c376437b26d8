"""The map loads nothing from another host; with tiles switched on, only from their host."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.browser.elsewhere import Elsewhere, elsewhere
from tests.browser.forest import PREFIX, Forest
from tests.browser.tab import tab
from tests.harness import Device, Harness, eventually

LOADED = ".leaflet-tile-loaded"
TILE = re.compile(r"/\d+/\d+/\d+\.png")
BLOCKED = """(address) => new Promise((resolve) => {
  document.addEventListener('securitypolicyviolation', (event) => resolve(event.violatedDirective));
  const image = new Image();
  image.onload = () => resolve('was loaded');
  image.src = address;
})"""


@pytest.fixture
def tiles() -> Iterator[Elsewhere]:
    """Serve tiles, all of them green."""
    tile = io.BytesIO()
    Image.new("RGB", (256, 256), "#b8d8a8").save(tile, "png")
    with elsewhere("image/png", tile.getvalue(), by_tls=True) as host:
        yield host


@pytest.fixture
def mapped(tmp_path: Path, tiles: Elsewhere) -> Iterator[Harness]:
    """Start a service with tiles for its map, and one node on it."""
    harness = Harness(tmp_path / "data", IOT_MAP_TILES=tiles.origin + "/{z}/{x}/{y}.png")
    try:
        harness.up()
        place = {"sensorId": "ridge-07", "status": "online", "microphoneLLA": [-38.6, 143.7, 487]}
        payload = json.dumps(place).encode()
        Device(harness.mqtt_port).publish([(f"{PREFIX}/ridge-07", payload)])
        eventually(lambda: "143.7" in harness.http_bytes("/console/nodes").decode())
        yield harness
    finally:
        harness.close()


def test_tiles_come_from_their_host_and_nothing_from_another(
    browser: Browser, mapped: Harness, tiles: Elsewhere
) -> None:
    origin = f"http://127.0.0.1:{mapped.http_port}"
    with tab(browser, origin, trusting=True) as one:
        one.open("/console/nodes")
        expect(one.page.locator(LOADED).first).to_be_visible()
        expect(one.page.locator(".leaflet-control-attribution")).to_contain_text(tiles.host)
        asked = list(tiles.asked)
        assert asked and all(TILE.fullmatch(path) for path, _ in asked)
        assert {referer for _, referer in asked} == {f"{origin}/"}, "its name, and no page of it"
        one.forgive(f"asked {tiles.origin}/")
        other = tiles.origin.replace("127.0.0.1", "localhost")
        assert one.page.evaluate(BLOCKED, f"{other}/0/0/0.png") == "img-src"
        one.forgive("Content Security Policy")
        one.problems = [each for each in one.problems if each != f"asked {other}/0/0/0.png"]
        assert tiles.asked == asked


def test_without_tiles_there_is_a_grid_and_nobody_is_asked(
    browser: Browser, forest: Forest
) -> None:
    with tab(browser, forest.origin) as one:
        response = one.open("/console/nodes")
        policy = response.headers["content-security-policy"]
        assert "img-src 'self' data: blob:;" in policy and "https" not in policy
        expect(one.page.locator(".leaflet-control-scale-line")).to_be_visible()
        expect(one.page.locator(".leaflet-tile")).to_have_count(0)
