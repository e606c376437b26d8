"""One browser for all, and three services: a forest, one that is empty and closed, a huge one."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser import tab as chromium
from tests.browser.forest import Forest
from tests.harness import Harness

MAKING_SECONDS_MAX = 240
ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run first the tests that only look, then those that act, then those that need much data."""
    items.sort(key=lambda item: (_needs_much(item), "operator" in item.fixturenames))  # type: ignore[attr-defined]


def _needs_much(item: pytest.Item) -> bool:
    return "huge" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session", autouse=True)
def making(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[subprocess.Popen[bytes], Path] | None]:
    """Make the huge data folder while the tests that do not need it go on."""
    if not any(_needs_much(item) for item in request.session.items):
        yield None
        return
    data_dir = tmp_path_factory.mktemp("huge") / "data"
    command = ["nice", sys.executable, "-m", "tests.browser.huge", str(data_dir)]
    program = subprocess.Popen(command, cwd=ROOT)
    yield program, data_dir
    program.kill()
    program.wait()


@pytest.fixture(scope="session")
def huge(making: tuple[subprocess.Popen[bytes], Path]) -> Iterator[Harness]:
    """10,000 nodes, 1,000,000 records, and one sink that is far behind."""
    program, data_dir = making
    assert program.wait(MAKING_SECONDS_MAX) == 0
    harness = Harness(data_dir, IOT_API_URL="http://127.0.0.1:9")
    try:
        harness.up()
        yield harness
    finally:
        harness.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = chromium.start(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forest]:
    """Start a service with something on every page, which anyone who reaches it may read."""
    forest = Forest(tmp_path_factory.mktemp("forest"))
    try:
        forest.start()
        yield forest
    finally:
        forest.close()


@pytest.fixture(scope="session")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """Nothing has come yet, and looking takes a token."""
    folder: Path = tmp_path_factory.mktemp("closed")
    harness = Harness(folder / "data", IOT_CONSOLE="token")
    try:
        harness.up()
        yield harness
    finally:
        harness.close()
