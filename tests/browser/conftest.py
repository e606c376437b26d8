"""One browser for all, and three services: a forest, one that is empty and closed, a huge one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser import tab as chromium
from tests.browser.forest import OPERATOR_TOKEN, Forest
from tests.house import House


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = chromium.start(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forest]:
    """Everything that there is to look at; whoever reaches it may look."""
    forest = Forest(tmp_path_factory.mktemp("forest"))
    try:
        forest.start()
        yield forest
    finally:
        forest.close()


@pytest.fixture(scope="session")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Nothing has come yet, and looking takes a token."""
    folder: Path = tmp_path_factory.mktemp("closed")
    house = House(folder / "data", IOT_CONSOLE="token", IOT_OPERATOR_TOKEN=OPERATOR_TOKEN)
    try:
        house.up()
        yield house
    finally:
        house.close()
