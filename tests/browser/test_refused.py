"""What was refused shows where and why, and what cannot be read stays."""

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.forest import Forest
from tests.browser.tab import tab
from tests.harness import OPERATOR_TOKEN


@pytest.mark.parametrize("size", [(390, 844), (1024, 800)], ids=["phone", "wide"])
def test_what_an_operator_sees_is_whole_on_a_phone_and_in_the_dark(
    browser: Browser, forest: Forest, size: tuple[int, int]
) -> None:
    with tab(browser, forest.origin, size=size) as one:
        one.open("/console/login")
        one.log_in(OPERATOR_TOKEN)
        expect(one.page.locator("h1")).not_to_have_text("Log in")
        one.open("/console/refused")
        group = one.page.locator("#letters tbody th a").first.get_attribute("href")
        one.open(group or "")
        letter = one.page.locator("tbody th a").first.get_attribute("href")
        for path in ("/console", "/console/nodes", "/console/nodes/ridge-07", group, letter):
            one.open(path or "")
            assert one.overflowing() == [], path
            assert one.grave() == [], path
            one.page.emulate_media(color_scheme="dark")
            assert one.grave() == [], path
            one.page.emulate_media(color_scheme="light")


def test_a_message_that_cannot_be_read_shows_where_and_stays(
    browser: Browser, forest: Forest
) -> None:
    with tab(browser, forest.origin) as one:
        one.open("/console/refused")
        one.page.get_by_role(
            "link", name=re.compile("^confidence: The confidence is out of range")
        ).click()
        expect(one.page.get_by_role("button", name=re.compile("Retry"))).to_have_count(0)
        one.page.locator("tbody th a").first.click()
        expect(one.page.locator("mark")).to_contain_text('"confidence"')
        expect(one.page.locator("main")).to_contain_text("still not valid")
