"""Every page: in light and dark, on a phone and zoomed, by keyboard, without scripts."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser

from tests.browser.forest import Forest
from tests.browser.pages import PAGES, Shown
from tests.browser.tab import tab

PHONE = (390, 844)
ZOOMED = (640, 400)
"""The size of a window of 1280 by 800 at a zoom of 200 %."""


@pytest.fixture(params=PAGES)
def shown(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Shown:
    record_property("page", request.param)
    return PAGES[request.param]


def test_it_is_whole_in_light_and_dark(browser: Browser, forest: Forest, shown: Shown) -> None:
    with tab(browser, forest.origin) as one:
        response = one.open(shown.address(forest))
        assert response.status == 200
        assert one.page.locator("h1").count() == 1
        assert one.grave() == []
        one.page.emulate_media(color_scheme="dark")
        assert one.grave() == []


@pytest.mark.parametrize(("size", "pixels"), [(PHONE, 3), (ZOOMED, 2)], ids=["phone", "zoomed"])
def test_it_never_scrolls_sideways(
    browser: Browser, forest: Forest, shown: Shown, size: tuple[int, int], pixels: float
) -> None:
    with tab(browser, forest.origin, size=size, pixels=pixels) as one:
        one.open(shown.address(forest))
        assert one.overflowing() == []


def test_the_tab_key_comes_to_every_control(browser: Browser, forest: Forest, shown: Shown) -> None:
    with tab(browser, forest.origin) as one:
        one.open(shown.address(forest))
        assert one.unreached() == []


def test_it_says_the_same_without_scripts(browser: Browser, forest: Forest, shown: Shown) -> None:
    with tab(browser, forest.origin, scripts=False) as one:
        one.page.goto(forest.origin + shown.address(forest))
        text = one.page.locator("main").inner_text()
        assert [words for words in shown.words if words not in text] == [], text
