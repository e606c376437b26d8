"""What an operator does on the pages is done: replays, pauses, who may come in."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.forest import (
    OUTDATED,
    PREFIX,
    REFUSED_SPECIES,
    Forest,
)
from tests.browser.tab import Tab, tab
from tests.harness import OPERATOR_TOKEN, Device, Harness, eventually


@pytest.fixture
def operator(browser: Browser, forest: Forest) -> Iterator[Tab]:
    """Open a tab of somebody who has logged in with the operator's token."""
    with tab(browser, forest.origin) as one:
        one.open("/console/login")
        one.log_in(OPERATOR_TOKEN)
        expect(one.page.get_by_role("button", name="Log out")).to_be_visible()
        yield one


def test_a_dead_letter_is_replayed_until_it_is_stored(operator: Tab, forest: Forest) -> None:
    before = forest.harness.ledger_now()
    operator.open("/console/refused")
    operator.page.get_by_role("link", name=OUTDATED).click()
    operator.page.locator("tbody a").first.click()
    expect(operator.page.locator("main")).to_contain_text("This version can read the message")
    operator.page.get_by_role("button", name="Retry").click()
    expect(operator.page.locator("#replay")).to_contain_text("1 of 1: 1 record stored")
    after = forest.harness.ledger_now()
    assert after["stored"] == before["stored"] + 1
    assert after["dead_letters"] == before["dead_letters"] - 1


def test_a_group_is_replayed_after_a_preview(operator: Tab, forest: Forest) -> None:
    before = forest.harness.ledger_now()
    operator.open("/console/refused")
    operator.page.get_by_role("link", name=OUTDATED).click()
    preview = operator.page.locator("#preview")
    expect(preview).to_contain_text("would be stored")
    (count,) = map(int, re.findall(r"(\d+) would be stored", preview.inner_text()))
    assert count > 10
    preview.get_by_role("button", name=f"Retry all {count}").click()
    expect(operator.page.locator("#replay")).to_contain_text(f"{count} records stored")
    expect(operator.page.get_by_role("link", name=OUTDATED)).to_have_count(0)
    assert forest.harness.ledger_now()["stored"] == before["stored"] + count


def test_parked_records_are_offered_again_with_progress(operator: Tab, forest: Forest) -> None:
    before = forest.harness.ledger_now()["sinks"]["echo_api"]
    operator.open("/console/refused")
    operator.page.get_by_role("link", name=REFUSED_SPECIES).click()
    button = operator.page.get_by_role("button", name=re.compile(r"Retry all \d+"))
    (count,) = map(int, re.findall(r"\d+", button.inner_text()))
    assert count > 100
    forest.api.freeze()
    try:
        button.click()
        bar = operator.page.get_by_role("progressbar")
        expect(bar).to_have_attribute("max", str(count))
    finally:
        forest.api.thaw()
    expect(operator.page.locator("#replay")).to_contain_text(f"{count} accepted", timeout=20_000)
    expect(bar).to_have_count(0)
    assert forest.harness.ledger_now()["sinks"]["echo_api"]["parked"] == before["parked"] - count


def test_a_store_is_paused_and_goes_on(operator: Tab, forest: Forest) -> None:
    operator.open("/console")
    operator.page.get_by_role("button", name="Pause Echo API").click()
    expect(operator.page.locator("main")).to_contain_text("paused")
    forest.hear("ridge-01", "Crinia signifera")
    eventually(lambda: forest.harness.ledger_now()["sinks"]["echo_api"]["backlog"] == 1)
    operator.page.get_by_role("button", name="Resume Echo API").click()
    eventually(lambda: forest.harness.ledger_now()["sinks"]["echo_api"]["backlog"] == 0)
    expect(operator.page.get_by_role("button", name="Pause Echo API")).to_be_visible()


def test_a_node_is_added_and_blocked(operator: Tab, forest: Forest) -> None:
    operator.open("/console/nodes")
    operator.page.get_by_label("name of the new node").fill("fern-09")
    operator.page.get_by_role("button", name="Create credentials").click()
    expect(operator.page.locator("h1")).to_contain_text("fern-09")
    password = operator.page.locator("dt:text-is('password') + dd").inner_text()

    def may_come_in() -> bool:
        return not device(forest.harness, password).refused

    eventually(may_come_in, seconds=5)
    device(forest.harness, password).publish([(f"{PREFIX}/fern-09", b'{"status": "online"}')])
    operator.open("/console/nodes/fern-09")
    operator.page.get_by_role("button", name="Block this node").click()
    expect(operator.page.locator("main")).to_contain_text("is blocked")
    eventually(lambda: not may_come_in(), seconds=5)
    expect(operator.page.get_by_role("button", name="Unblock")).to_be_visible()


def device(harness: Harness, password: str) -> Device:
    """Connect as the node that was added, which logs in by its own name."""
    return Device(harness.mqtt_port, "fern-09", password, client_id="fern-09")
