"""What was refused shows where and why, and what cannot be read stays."""

import re

from playwright.sync_api import Browser, expect

from tests.browser.forest import Forest
from tests.browser.tab import tab


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
