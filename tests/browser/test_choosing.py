"""Calls are filtered with the keyboard alone, and the address says by what."""

from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Browser, expect

from tests.browser.forest import Forest
from tests.browser.tab import tab


def test_calls_are_filtered_by_keyboard(browser: Browser, forest: Forest) -> None:
    with tab(browser, forest.origin) as one:
        one.open("/console/calls")
        keys = one.page.keyboard
        one.tab_to("summary")
        keys.press("Enter")
        one.tab_to("[name=species]")
        keys.type("brown tree frog")  # the common name
        one.tab_to("[name=node]")
        keys.type("creek-01")
        one.tab_to("[name=confidence]")
        keys.type("70")
        one.tab_to("form.filters button")
        with one.page.expect_navigation():
            keys.press("Enter")
        filters = parse_qs(urlsplit(one.page.url).query)
        assert filters["species"] == ["brown tree frog"]
        assert (filters["node"], filters["confidence"]) == (["creek-01"], ["70"])
        rows = one.page.locator("#list tbody tr:has(td + td)")
        expect(rows.first).to_be_visible()
        for words in rows.all_inner_texts():
            assert "Litoria ewingii" in words and "creek-01" in words, words
        one.tab_to(".choose p a")
        with one.page.expect_navigation():
            keys.press("Enter")
        assert urlsplit(one.page.url).query == ""
