"""A form is made for messages that nothing can read: drafted, tried, saved, replayed."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.forest import Forest
from tests.browser.tab import Tab, tab
from tests.harness import OPERATOR_TOKEN, eventually

GROUP = "code=unknown_form&node=pond-1"
CALLS = 3


@pytest.fixture
def operator(browser: Browser, forest: Forest) -> Iterator[Tab]:
    with tab(browser, forest.origin) as one:
        one.open("/console/login")
        one.log_in(OPERATOR_TOKEN)
        expect(one.page.get_by_role("button", name="Log out")).to_be_visible()
        yield one


def test_a_form_is_made_tried_saved_and_its_messages_are_replayed(
    operator: Tab, forest: Forest
) -> None:
    before = forest.harness.ledger_now()
    for number in range(CALLS):
        call = {"latin": "Crinia signifera", "score": 61.5 + number, "mystery": "x7"}
        forest.publish("pond-1", began=datetime.now(UTC).isoformat(), heard=[call])
    page = operator.page

    def is_listed() -> bool:
        reply = page.request.get(f"{forest.origin}/console/refused/group?{GROUP}")
        return reply.ok and f"{CALLS} messages" in reply.text().replace("\u00a0", " ")

    eventually(is_listed)
    operator.open(f"/console/refused/group?{GROUP}")
    page.get_by_role("link", name="Make a form").click()
    outcome, source = page.locator("#all-tried"), page.locator("textarea")
    expect(outcome).to_contain_text(f"{CALLS} detection")
    expect(page.get_by_label("Fields that nobody reads")).to_contain_text("heard[].mystery")
    assert operator.grave() == []
    assert operator.overflowing() == []

    drafted = source.input_value()
    source.fill(drafted.replace('scale = "percent"', 'scale = "per cent"'))
    expect(page.locator(".errors")).to_contain_text("scale")
    source.fill(drafted.replace('species = "latin"', "species ="))
    expect(page.locator(".errors")).to_contain_text("line")
    place_cursor(operator, "species =")
    page.get_by_role("button", name='"Crinia signifera"').click()
    expect(source).to_have_value(drafted)
    place_cursor(operator, "species =")
    page.get_by_role("button", name='"x7"').click()
    expect(source).to_have_value(drafted.replace('"latin"', '"mystery"'))
    expect(page.get_by_label("Fields that nobody reads")).to_contain_text("heard[].latin")

    source.fill(drafted.replace('"my-device"', '"pond-recorder"'))
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Saved form")).to_contain_text("pond-recorder is saved and in use")
    page.get_by_role("button", name=f"Retry all {CALLS}").click()
    expect(page.locator("#replay")).to_contain_text(f"{CALLS} records stored")
    after = forest.harness.ledger_now()
    assert after["stored"] == before["stored"] + CALLS
    assert after["dead_letters"] == before["dead_letters"]


def place_cursor(one: Tab, line: str) -> None:
    """Put the cursor into a line of the form."""
    one.page.locator("textarea").evaluate(
        "(area, line) => { const at = area.value.indexOf(line) + line.length;"
        " area.focus(); area.setSelectionRange(at, at); }",
        line,
    )
