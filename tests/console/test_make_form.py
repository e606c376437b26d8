"""Making a form for messages that are kept: trying changes nothing, saving asks first."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from echo_ingest.admin.form_making import TRIED_MAX
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Message, Rejected, Unclaimed
from tests.console.browsing import FORM_TOKEN, Browser, browsing
from tests.console.test_refused import RECEIVED_AT_MS, shown, until
from tests.harness import HTTP_TOKEN

WHY = Rejected(ReasonCode.UNKNOWN_FORM, "no known form")
GROUP = {"code": str(WHY.code)}
PAGE = "/console/make-form"
HERE = f"{PAGE}?{urlencode(GROUP)}"
FORM = """
name = "pond"
about = "The recorders at the pond"
[match]
has = ["calls", "began"]
[[record]]
kind = "detection"
each = "calls"
species = "latin"
confidence = { from = "score", scale = "percent" }
observed_at = { from = "parent.began", zone = "UTC" }
"""


def payload(number: int, **more: object) -> bytes:
    calls = [{"latin": "Crinia signifera", "score": 60 + number / 100, "mystery": "x7"}]
    return json.dumps({"began": "2026-09-14 05:30:00", "calls": calls, **more}).encode()


def reject(browser: Browser, count: int, **more: object) -> None:
    browser.journal.append(
        [
            (
                Message("iotingestion/pond", payload(number, **more), RECEIVED_AT_MS, "pond"),
                WHY,
            )
            for number in range(count)
        ]
    )
    browser.catch_up()


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browsing(tmp_path) as browser:
        await browser.log_in()
        yield browser


async def send(browser: Browser, where: str, source: str, **more: str) -> int:
    fields = {"form_token": FORM_TOKEN, **GROUP, "source": source.replace("\n", "\r\n"), **more}
    return await browser.post(f"{PAGE}{where}", fields)


def said(browser: Browser) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", browser.text).split())


async def test_a_group_leads_to_a_draft_that_is_tried_with_all_its_messages(
    operator: Browser,
) -> None:
    reject(operator, 3)
    group = await shown(operator, f"/console/refused/group?{urlencode(GROUP)}")
    assert "Make a form" in group
    text = await shown(operator, HERE)
    assert "For 3 messages: The fields of the message fit no known form." in text
    assert 'each = "calls"' in text and 'species = "latin"' in text
    assert "becomes 1 record" in text and "Crinia signifera" in text
    assert "All 3 messages stored 3: 3 detection" in text
    assert "Fields that nobody reads began calls[].mystery" in text
    assert 'data-steps="[&#34;calls&#34;, 0, &#34;latin&#34;]"' in operator.text
    assert operator.journal.ledger().dead_letters == 3, "nothing is changed by trying"


async def test_what_is_typed_is_tried_with_errors_by_line_and_each_message_counted(
    operator: Browser,
) -> None:
    reject(operator, 2)
    reject(operator, 1, calls=[{"latin": "Crinia signifera", "score": "high"}])
    assert await send(operator, "/try", FORM) == 200
    assert "<html" not in operator.text
    text = said(operator)
    assert "All 3 messages stored 2: 2 detection rejected 1: calls[0].score" in text
    wrong = FORM.replace('scale = "percent"', 'scale = "per cent"')
    assert await send(operator, "/try", wrong) == 200
    assert "line 10" in said(operator) and "scale" in said(operator)
    elsewhere = FORM.replace('"began"]', '"started"]')
    assert await send(operator, "/try", elsewhere) == 200
    assert "not in the form 3: it has no started" in said(operator)


async def test_without_scripts_a_button_tries_it_and_shows_another_message(
    operator: Browser,
) -> None:
    reject(operator, 2)
    older = (await operator.get(HERE), re.search(r'name="show" value="(\d+)"', operator.text))[1]
    assert older is not None
    assert await send(operator, "", FORM, show=older[1]) == 200
    assert 'name = "pond"'.replace('"', "&#34;") in operator.text, "what was typed is kept"
    assert f'name="shown" value="{older[1]}"' in operator.text


async def test_a_large_group_is_tried_up_to_a_limit_that_is_named(operator: Browser) -> None:
    reject(operator, TRIED_MAX + 5)
    assert await send(operator, "/try", FORM) == 200
    assert re.search(r"The newest \d+ of 505 messages", said(operator)), said(operator)


async def test_a_form_is_saved_and_its_messages_are_replayed(operator: Browser) -> None:
    reject(operator, 3)
    assert await send(operator, "/save", FORM) == 303, said(operator)
    saved = operator.settings.forms_path / "pond.toml"
    assert saved.read_text() == FORM, "with the ends of lines that a file has"
    text = await shown(operator, operator.reply.headers["Location"])
    assert "The form pond is saved and in use" in text and "Retry all 3" in text
    assert await operator.act("replay", **GROUP) == 303
    await until(lambda: operator.journal.ledger().stored == 3)
    assert operator.journal.ledger().dead_letters == 0


async def test_no_form_is_replaced_before_a_person_has_agreed(operator: Browser) -> None:
    reject(operator, 1)
    folder = operator.settings.forms_path
    assert await send(operator, "/save", FORM) == 303
    other = FORM.replace("at the pond", "of others")
    assert await send(operator, "/save", other) == 409
    assert "there is a form in" in said(operator) and "Replace it" in said(operator)
    assert "of others" in operator.text, "what was typed is kept"
    assert (folder / "pond.toml").read_text() == FORM
    agreed = re.search(r'name="agreed" value="(\w+)"', operator.text)
    assert agreed is not None
    newer = FORM.replace("at the pond", "of a colleague")
    (folder / "pond.toml").write_text(newer)
    assert await send(operator, "/save", other, agreed=agreed[1]) == 409, "it is another by now"
    agreed = re.search(r'name="agreed" value="(\w+)"', operator.text)
    assert agreed is not None
    assert await send(operator, "/save", other, agreed=agreed[1]) == 303
    assert (folder / "pond.toml").read_text() == other
    shipped = FORM.replace('name = "pond"', 'name = "acoupi-detection"')
    assert await send(operator, "/save", shipped) == 409
    assert "is a form that we ship" in said(operator)
    assert not (folder / "acoupi-detection.toml").exists()


async def test_what_is_no_form_is_not_saved_and_no_name_leaves_the_folder(
    operator: Browser,
) -> None:
    reject(operator, 1)
    for spoilt in (FORM.replace('"pond"', '"../pond"'), "name = ", FORM.replace("each", "eech")):
        assert await send(operator, "/save", spoilt) == 400
        assert "Not saved: line" in said(operator)
    assert await send(operator, "/save", "#" * 70_000) == 413
    assert await send(operator, "/try", "#" * 300_000) == 413
    assert not operator.settings.forms_path.exists()


async def test_only_an_operator_may_try_and_save(operator: Browser) -> None:
    reject(operator, 1)
    for where in ("", "/try", "/save"):
        fields = {**GROUP, "source": FORM}
        assert await operator.post(f"{PAGE}{where}", fields) == 403, "without the form's token"
        mine = {**fields, "form_token": FORM_TOKEN}
        assert await operator.post(f"{PAGE}{where}", mine, Origin="https://else.where") == 403
    await operator.log_in(HTTP_TOKEN)
    for where in ("", "/try", "/save"):
        assert await send(operator, where, FORM) == 401
    assert await operator.get(HERE) == 200
    assert "<textarea" not in operator.text and "Log in" in operator.text
    assert not operator.settings.forms_path.exists()


async def test_an_unclaimed_topic_leads_to_a_form_too(operator: Browser) -> None:
    kept = Message("pond/north", payload(1), RECEIVED_AT_MS, None, account="north")
    operator.journal.append([(kept, Unclaimed())])
    assert await operator.get("/console/unclaimed") == 200
    assert f"{PAGE}?topic=pond%2Fnorth" in operator.text
    text = await shown(operator, f"{PAGE}?topic=pond%2Fnorth")
    assert "For 1 message on the topic pond/north" in text
    assert "The only message stored 1: 1 detection" in text
    fields = {"form_token": FORM_TOKEN, "topic": "pond/north", "source": FORM}
    assert await operator.post(f"{PAGE}/save", fields) == 303
    text = await shown(operator, operator.reply.headers["Location"])
    assert "What is kept of pond/north and fits it is read within seconds" in text
    assert await operator.get(f"{PAGE}?topic=pond%2Fsouth") == 404


async def test_another_form_of_the_site_that_comes_first_is_named(operator: Browser) -> None:
    reject(operator, 2)
    assert await send(operator, "/save", FORM) == 303
    later = FORM.replace('name = "pond"', 'name = "pool"')
    assert await send(operator, "/try", later) == 200
    assert "another form 2: your form pond comes before this one" in said(operator)
    earlier = FORM.replace('name = "pond"', 'name = "pome"')
    assert await send(operator, "/try", earlier) == 200
    assert "stored 2: 2 detection" in said(operator)


async def test_a_payload_that_is_no_tree_is_shown_as_text(operator: Browser) -> None:
    message = Message("iotingestion/pond", b"\x00\x01<script>", RECEIVED_AT_MS, "pond")
    operator.journal.append([(message, WHY)])
    operator.catch_up()
    text = await shown(operator, HERE)
    assert "Nothing was drafted" in text and "00 01 3c" in text
    assert "<script>" not in operator.text.replace('<script type="module"', "")
