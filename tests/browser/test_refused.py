"""What was refused, tried again by an operator: seen before, while it runs, and after."""

import re

from playwright.sync_api import Browser, expect

from tests.browser.forest import REASON, Forest
from tests.browser.tab import tab
from tests.browser.test_login import log_in
from tests.house import OPERATOR_TOKEN


def test_a_group_is_tried_again_and_its_store_takes_it(browser: Browser, forest: Forest) -> None:
    with tab(browser, forest.origin) as one:
        one.open("/console/login")
        log_in(one.page, OPERATOR_TOKEN)
        one.open("/console/refused")
        one.page.get_by_role("link", name=REASON).click()
        expect(one.page.locator("#preview")).to_contain_text("offered")
        one.page.get_by_role("button", name=re.compile("Try all .* again")).click()
        expect(one.page.locator("#replay")).to_contain_text("ried again", timeout=20_000)
        expect(one.page.get_by_role("link", name=REASON)).to_have_count(0, timeout=10_000)
        assert forest.house.ledger_now()["sinks"]["echo_api"]["parked"] == 0


def test_a_message_that_cannot_be_read_shows_where_and_stays(
    browser: Browser, forest: Forest
) -> None:
    with tab(browser, forest.origin) as one:
        one.open("/console/refused")
        one.page.get_by_role("link", name=re.compile("^confidence: … is out")).click()
        expect(one.page.get_by_role("button", name=re.compile("Try"))).to_have_count(0)
        one.page.locator("tbody th a").first.click()
        expect(one.page.locator("mark")).to_contain_text('"confidence"')
        expect(one.page.locator("main")).to_contain_text("still cannot be read")
