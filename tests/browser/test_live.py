"""What happens is on the page within two seconds, and a page that no longer hears of it says so."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.browser.forest import Forest
from tests.browser.tab import Tab, tab
from tests.harness import eventually

WITHIN_MS = 2_000
WATCH = """(words) => {
  window.seenAtMs = null;
  const look = () => {
    const said = document.querySelector('main').textContent.replace(/\\s+/g, ' ');
    if (window.seenAtMs === null && said.includes(words)) window.seenAtMs = Date.now();
  };
  look();
  if (window.seenAtMs !== null) throw new Error(`the page says ${words} already`);
  new MutationObserver(look).observe(document.body,
    {subtree: true, childList: true, characterData: true, attributes: true});
}"""


@contextmanager
def awaiting(one: Tab, words: str) -> Iterator[None]:
    """Check that what is done inside makes the page say `words` in time, without a reload."""
    expect(one.page.locator("[data-live-state]")).to_have_text("live")
    one.page.evaluate(WATCH, words)
    yield
    acknowledged_ms = time.time() * 1_000
    one.page.wait_for_function("() => window.seenAtMs !== null")
    took_ms = one.page.evaluate("window.seenAtMs") - acknowledged_ms
    assert took_ms < WITHIN_MS, f"{words}: {took_ms:.0f} ms after it was acknowledged"


def test_a_call_is_on_the_page_within_two_seconds(browser: Browser, forest: Forest) -> None:
    with tab(browser, forest.origin) as one:
        one.open("/console/calls")
        with awaiting(one, "Potorous tridactylus"):
            forest.hear("ridge-01", "Potorous tridactylus")


def test_a_new_node_is_on_the_page_within_two_seconds(browser: Browser, forest: Forest) -> None:
    with tab(browser, forest.origin) as one:
        one.open("/console/nodes")
        with awaiting(one, "fern-01"):
            forest.publish("fern-01", status="online")


def test_a_refused_message_is_on_the_page_within_two_seconds(
    browser: Browser, forest: Forest
) -> None:
    with tab(browser, forest.origin) as one:
        one.open("/console/refused")
        with awaiting(one, "latitude"):
            forest.hear("ridge-02", "Ninox boobook", gps_data={"lat": 999, "lon": 143.5})


def test_the_overview_counts_a_new_node_within_two_seconds(
    browser: Browser, forest: Forest
) -> None:
    with tab(browser, forest.origin) as one:
        one.open("/console")
        names = {day["node"] for day in forest.harness.http("/api/nodes")[1]["nodes"]}
        with awaiting(one, f"of {len(names) + 1} nodes"):
            forest.publish("fern-02", status="online")


def test_a_page_whose_server_died_says_so_and_comes_back(browser: Browser, forest: Forest) -> None:
    with tab(browser, forest.origin) as one:
        one.open("/console/calls")
        state = one.page.locator("[data-live-state]")
        expect(state).to_have_text("live")
        killed = web_pid(forest.program.pid)
        forest.harness.kill_pid(killed)
        expect(state).to_contain_text("not live since")
        assert eventually(lambda: web_pid(forest.program.pid)) != killed
        expect(state).to_have_text("live", timeout=20_000)
        with awaiting(one, "Rattus lutreolus"):
            forest.hear("ridge-02", "Rattus lutreolus")
        one.forgive("Failed to load resource")


def web_pid(service: int) -> int:
    """Return the process of the service that answers HTTP."""
    children = Path(f"/proc/{service}/task/{service}/children").read_text().split()
    pids = [
        int(child)
        for child in children
        if b"echo_ingest.web" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    if not pids:
        raise ValueError("there is no web process")
    return pids[0]
