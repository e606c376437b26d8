"""Who may look, and who may act: by log-in, and never by a form of somebody else's page."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.elsewhere import elsewhere
from tests.browser.forest import Forest
from tests.browser.tab import tab
from tests.harness import HTTP_TOKEN, OPERATOR_TOKEN, Harness

PAGES = ("/console", "/console/nodes", "/console/calls", "/console/refused")


@pytest.fixture
def origin(closed: Harness) -> str:
    return f"http://127.0.0.1:{closed.http_port}"


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_shown_before_the_log_in(browser: Browser, origin: str, path: str) -> None:
    with tab(browser, origin) as one:
        one.open(path)
        expect(one.page.locator("h1")).to_have_text("Log in")
        expect(one.page.get_by_label("Token")).to_be_focused()
        one.log_in(HTTP_TOKEN)
        expect(one.page.locator("h1")).not_to_have_text("Log in")
        assert one.page.url == origin + path
        one.problems = [each for each in one.problems if "status of 401" not in each]


def test_a_wrong_token_is_said_and_the_page_stays_closed(browser: Browser, origin: str) -> None:
    with tab(browser, origin) as one:
        one.open("/console/login")
        one.log_in("guessed")
        expect(one.page.get_by_role("alert")).to_contain_text("token is wrong")
        one.page.goto(origin + "/console")
        expect(one.page.locator("h1")).to_have_text("Log in")
        one.forgive("status of 401")


def test_after_the_log_out_nothing_is_shown(browser: Browser, origin: str) -> None:
    with tab(browser, origin) as one:
        one.open("/console/login")
        one.log_in(OPERATOR_TOKEN)
        expect(one.page.locator("h1")).not_to_have_text("Log in")
        (cookie,) = [c for c in one.page.context.cookies() if c["name"] == "echo-ingest"]
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
        one.page.get_by_role("button", name="Log out").click()
        expect(one.page.locator("h1")).to_have_text("Log in")
        assert "echo-ingest" not in {cookie["name"] for cookie in one.page.context.cookies()}


def test_reading_is_not_acting(browser: Browser, forest: Forest) -> None:
    """In the forest everybody may look; to act takes the operator's token."""
    with tab(browser, forest.origin) as one:
        one.open("/console")
        assert one.page.locator("main form[method=post]").count() == 0
        for token in (None, HTTP_TOKEN):
            if token is not None:
                one.open("/console/login")
                one.log_in(token)
                expect(one.page.locator("h1")).not_to_have_text("Log in")
            answer = one.page.request.post(
                forest.origin + "/console/actions/pause",
                form={"sink": "echo_api"},
                headers={"Origin": forest.origin, "Sec-Fetch-Site": "same-origin"},
            )
            assert answer.status in (401, 403), answer.text()
        assert forest.harness.http("/api/sinks")[1]


@pytest.fixture
def stranger(forest: Forest) -> Iterator[str]:
    """Another site, on this machine: a page of it sends a form of ours as soon as it is loaded."""
    form = (
        f'<form method="post" action="{forest.origin}/console/actions/pause">'
        '<input name="sink" value="echo_api"></form>'
        "<script>document.forms[0].submit()</script>"
    ).encode()
    with elsewhere("text/html", form) as site:
        yield site.origin


def test_a_form_on_another_site_does_nothing(
    browser: Browser, forest: Forest, stranger: str
) -> None:
    with tab(browser, forest.origin) as one:
        one.open("/console/login")
        one.log_in(OPERATOR_TOKEN)
        expect(one.page.locator("h1")).not_to_have_text("Log in")
        one.page.goto(stranger)
        expect(one.page.locator("body")).to_contain_text("another site")
        assert "paused" not in str(forest.harness.http("/api/sinks")[1])
        one.problems.clear()  # the other site's own requests are elsewhere, and the refusal is one
