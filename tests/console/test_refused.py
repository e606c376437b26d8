"""Refused, and what an operator does: over real HTTP, on a real journal."""

import asyncio
import base64
import html
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from echo_ingest.broker.nodes import read_nodes
from echo_ingest.decode import identify
from echo_ingest.record import Message, Rejected
from echo_ingest.web.console import replay_job
from tests.console.browsing import FORM_TOKEN, Browser, browsing
from tests.harness import HTTP_TOKEN, OPERATOR_TOKEN

RECEIVED_AT_MS = 1_789_365_000_123
SINK = "echo_api"
CALL = {"timestamp": "1789365000", "sensor_id": "rpi", "species": "Litoria ewingii"}
OLD_REASON = "confidence: a fraction cannot be read"
"""As a version before this one might have said of what can be read now."""


def message(number: int, node: str = "ridge-07", **fields: Any) -> Message:
    payload = {**CALL, "confidence": 60 + number / 100, "id": f"call-{number}", **fields}
    topic = f"iotingestion/{node}"
    return Message(topic, json.dumps(payload).encode(), RECEIVED_AT_MS + number, node)


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browsing(tmp_path) as browser:
        browser.journal.add_sink(SINK)
        yield browser


def refuse(browser: Browser, count: int, reason: str = OLD_REASON, **fields: Any) -> None:
    """So many dead letters; without `fields` to spoil them, they can be read now."""
    browser.journal.append(
        [(message(number, **fields), Rejected(reason)) for number in range(count)]
    )
    browser.catch_up()


def park(browser: Browser, count: int, reason: str) -> None:
    limit = browser.settings.payload_bytes_max
    each = [message(1_000 + number) for number in range(count)]
    browser.journal.append([(one, identify(one, limit)) for one in each])
    offsets = [entry.offset for entry in browser.journal.read(SINK, count)]
    browser.journal.settle(SINK, offsets, dict.fromkeys(offsets, reason))
    browser.catch_up()


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not look():
            await asyncio.sleep(0.01)


async def shown(browser: Browser, path: str = "/console/refused") -> str:
    """What a page says, without its markup."""
    assert await browser.get(path) == 200, browser.text
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", browser.text)).split())


# ---------------------------------------------------------------------- looking


async def test_what_is_refused_stands_by_reason_with_what_to_do(browser: Browser) -> None:
    assert "Nothing is refused" in await shown(browser)
    refuse(browser, 3, "confidence: 120 is out of range; send a percentage from 0 to 100")
    refuse(browser, 1, "the JSON is cut off: it stops in the middle, after 12 bytes")
    park(browser, 2, "the Echo API answered 422: species: unknown")
    text = await shown(browser)
    assert "Confidence is a percentage" in text and "buffer in the device" in text
    assert "Echo API" in text and "rules of its own" in text
    assert "Nothing is refused" in await shown(browser, "/console/refused?node=creek-02")
    assert "confidence: … is out of range" in await shown(browser, "/console/refused?node=ridge-07")


async def test_one_is_shown_readably_with_the_wrong_field_marked(browser: Browser) -> None:
    clip = base64.b64encode(bytes(5_000)).decode()
    spoilt = message(1, confidence=120, audioClip=clip, note="</code><script>alert(1)</script>")
    browser.journal.append([(spoilt, Rejected("confidence: 120 is out of range; send …"))])
    text = await shown(browser, "/console/refused/letters/1")
    assert "<script>alert" not in browser.text
    assert re.findall(r"<mark>(.*?)</mark>", browser.text) == ["  &#34;confidence&#34;: 120,"]
    assert f"{len(clip):,} characters of base64: 5.0 kB" in text and clip[:200] not in text
    assert "14 Sep 2026" in text and "UTC" in text and "iotingestion/ridge-07" in text
    async with browser.http.get("/console/refused/letters/1/payload") as reply:
        assert await reply.read() == spoilt.payload
        assert reply.headers["Content-Disposition"].startswith("attachment")
        assert "sandbox" in reply.headers["Content-Security-Policy"]
    for gone in ("letters/2", "parked/echo_api/7", "group?reason=nothing", "letters/99999999999"):
        assert await browser.get(f"/console/refused/{gone}") == 404


async def test_a_group_says_before_it_is_tried_again_what_would_come_of_it(
    browser: Browser,
) -> None:
    refuse(browser, 2)
    browser.journal.append([(message(7, confidence="high"), Rejected(OLD_REASON))])
    browser.catch_up()
    page = f"/console/refused/group?reason={OLD_REASON.replace(' ', '+')}"
    text = await shown(browser, page)
    assert "All 3 were looked at just now: 2 would be stored , 1 still cannot be read" in text
    assert "a number was expected, found text" in text
    assert "Log in with the operator token" in text and "<button" not in browser.text
    await browser.log_in(HTTP_TOKEN)
    assert "Log in with the operator token" in await shown(browser, page)
    await browser.log_in()
    assert "Try all 3 again" in await shown(browser, page)
    assert f'name="form_token" value="{FORM_TOKEN}"' in browser.text
    assert browser.journal.ledger().dead_letters == 3


# ---------------------------------------------------------------------- replaying


@pytest.mark.slow
async def test_a_group_is_replayed_with_its_progress_and_its_end_in_words(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_job, "SLICE_SECONDS", 0.005)
    refuse(browser, 100)
    refuse(browser, 1, confidence="high")
    browser.journal.append([(message(5), identify(message(5), 10_000))])
    await browser.log_in()
    assert await browser.act("replay", reason=OLD_REASON) == 303
    assert await browser.act("replay", reason=OLD_REASON) == 409, "one at a time"
    text = await shown(browser)
    seen = re.search(r'<progress max="101" value="(\d+)"', browser.text)
    assert seen is not None and int(seen[1]) < 101 and "Stop" in text
    await until(lambda: browser.journal.ledger().dead_letters == 1)
    await until_shown(browser, "Tried again")
    text = await shown(browser)
    assert "99 records stored, 1 there already, 1 still cannot be read" in text
    assert "<progress" not in browser.text
    ledger = browser.journal.ledger()
    assert (ledger.received, ledger.stored, ledger.duplicates) == (102, 100, 1)


async def until_shown(browser: Browser, words: str) -> None:
    async with asyncio.timeout(15):
        while words not in await shown(browser):
            await asyncio.sleep(0.02)


async def test_a_replay_can_be_stopped_and_leaves_the_rest_as_it_is(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_job, "SLICE_SECONDS", 0.001)
    refuse(browser, 300)
    await browser.log_in()
    await browser.act("replay", reason=OLD_REASON)
    await until(lambda: browser.journal.ledger().dead_letters < 300)
    assert await browser.act("stop-replay") == 303
    await until_shown(browser, "Stopped")
    left = browser.journal.ledger().dead_letters
    assert 0 < left < 300
    browser.catch_up()
    monkeypatch.undo()
    assert await browser.act("replay", reason=OLD_REASON) == 303
    await until(lambda: browser.journal.ledger().dead_letters == 0)


async def test_one_dead_letter_is_replayed(browser: Browser) -> None:
    refuse(browser, 2)
    await browser.log_in()
    assert "It can be read now" in await shown(browser, "/console/refused/letters/2")
    assert await browser.act("replay", number="2") == 303
    await until(lambda: browser.journal.ledger().stored == 1)
    assert await browser.get("/console/refused/letters/2") == 404
    assert await browser.get("/console/refused/letters/1") == 200
    assert await browser.act("replay", number="2") == 404
    assert await browser.act("replay", number="x") == 400


async def test_parked_records_are_offered_again_and_watched_until_they_are_done(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_job, "WATCH_SECONDS", 0.02)
    park(browser, 3, "the Echo API answered 422: species: unknown")
    await browser.log_in()
    group = re.search(
        r'href="(/console/refused/group[^"]+)"', (await shown(browser), browser.text)[1]
    )
    assert group is not None
    text = await shown(browser, html.unescape(group[1]))
    assert "is offered all 3 again" in text
    (reason,) = re.findall(r'name="reason" value="([^"]*)"', browser.text)
    assert await browser.act("replay", sink=SINK, reason=html.unescape(reason)) == 303
    await until(lambda: browser.journal.ledger().sinks[SINK].backlog == 3)
    await until_shown(browser, "gone fishing")  # why the store does not take them yet
    offsets = [entry.offset for entry in browser.journal.read(SINK, 10)]
    browser.journal.settle(SINK, offsets, {offsets[0]: "the Echo API answered 422: still"})
    await until_shown(browser, "Tried again")
    assert "2 taken, 1 refused again" in await shown(browser)
    assert "tries 2" in await shown(browser, f"/console/refused/parked/{SINK}/{offsets[0]}")


# ---------------------------------------------------------------------- the other actions


async def test_a_store_is_paused_and_goes_on(browser: Browser) -> None:
    await browser.log_in()
    assert await browser.act("pause", sink=SINK, back="/console/refused") == 303
    assert browser.journal.is_paused(SINK)
    assert "Echo API is paused" in browser.text and browser.reply.url.path == "/console/refused"
    await browser.get("/console/refused")
    assert "Echo API is paused" not in browser.text, "it is shown once"
    await browser.act("pause", sink=SINK)
    assert "paused already" in browser.text
    await browser.act("resume", sink=SINK)
    assert not browser.journal.is_paused(SINK) and "is resumed" in browser.text
    assert await browser.act("pause", sink="nowhere") == 400
    assert "here is no sink" in browser.text and "nowhere" not in browser.journal.ledger().sinks


@pytest.mark.slow
async def test_a_node_is_let_in_with_a_password_that_is_shown_once_and_shut_out(
    browser: Browser, capfd: pytest.CaptureFixture[str]
) -> None:
    await browser.log_in()
    assert await browser.act("add-node", node="ridge-09", url="wss://iot.example.org/mqtt") == 200
    (password,) = re.findall(r"<dt>password</dt><dd><code>([^<]+)</code>", browser.text)
    assert len(password) == 24 and "wss://iot.example.org:443/mqtt" in browser.text
    assert browser.reply.headers["Cache-Control"] == "no-store"
    assert 'src="data:image/svg+xml' in browser.text
    (node,) = read_nodes(browser.settings.nodes_path)
    assert node.name == "ridge-09" and not node.disabled
    assert await browser.act("add-node", node="ridge-09") == 400
    assert password not in browser.text
    for wrong in ({"node": "a/b"}, {"node": "echopub"}, {"node": "x", "url": "nowhere:0"}, {}):
        assert await browser.act("add-node", **wrong) == 400
    assert await browser.act("disable-node", node="ridge-09", back="/console/refused") == 303
    assert "is blocked" in browser.text and read_nodes(browser.settings.nodes_path)[0].disabled
    await browser.act("enable-node", node="ridge-09", back="/console/refused")
    assert not read_nodes(browser.settings.nodes_path)[0].disabled
    log = "".join(capfd.readouterr())
    assert "add node" in log and password not in log and OPERATOR_TOKEN not in log


async def test_nodes_of_a_broker_elsewhere_are_not_made_here(tmp_path: Path) -> None:
    async with browsing(tmp_path, endpoint="mqtt://broker.example:1884", user="x") as browser:
        await browser.log_in()
        assert await browser.act("add-node", node="ridge-09") == 400
        assert "another machine" in browser.text and not browser.settings.nodes_path.exists()


@pytest.mark.parametrize("token", [None, HTTP_TOKEN])
async def test_nobody_acts_without_the_operators_token(browser: Browser, token: str | None) -> None:
    refuse(browser, 1)
    if token is not None:
        await browser.log_in(token)
    for action, fields in [
        ("replay", {"reason": OLD_REASON}),
        ("stop-replay", {}),
        *((each, {"sink": SINK}) for each in ("pause", "resume")),
        *((each, {"node": "ridge-07"}) for each in ("add-node", "disable-node", "enable-node")),
    ]:
        assert await browser.act(action, **fields) == 401
        assert "Log in" in browser.text
        assert await browser.get(f"/console/actions/{action}") in (404, 405)
    assert browser.journal.ledger().dead_letters == 1
    assert not browser.journal.is_paused(SINK) and not browser.settings.nodes_path.exists()


async def test_a_form_without_the_pages_own_value_does_nothing(browser: Browser) -> None:
    await browser.log_in()
    for token in ("", "x", FORM_TOKEN[:-1], "é"):
        fields = {"form_token": token, "sink": SINK}
        assert await browser.post("/console/actions/pause", fields) == 403
    assert await browser.post("/console/actions/pause", {"sink": SINK}) == 403
    assert not browser.journal.is_paused(SINK)
