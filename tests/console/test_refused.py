"""Refused, and what an operator does: over real HTTP, on a real journal."""

import asyncio
import base64
import html
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import apsw
import pytest
from msgspec.structs import replace

from echo_ingest.broker.node_accounts import read_nodes
from echo_ingest.decode import Decoder
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.entries import dead_letter_checksum
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Message, Rejected
from echo_ingest.web.console import replay_job
from tests.console.browsing import FORM_TOKEN, Browser, browsing
from tests.harness import HTTP_TOKEN, OPERATOR_TOKEN

RECEIVED_AT_MS = 1_789_365_000_123
SINK = "echo_api"
CALL = {"timestamp": "1789365000", "sensor_id": "rpi", "species": "Litoria ewingii"}
OLD = Rejected(ReasonCode.WRONG_TYPE, "a fraction cannot be read", "confidence")
"""Why a version before this one might have rejected what can be read now."""
GROUP = {"code": "wrong_type", "field": "confidence"}
"""The parameters of the group of `OLD`."""
DECODER = Decoder(1_000_000)


def message(number: int, node: str = "ridge-07", **fields: Any) -> Message:
    payload = {**CALL, "confidence": 60 + number / 100, "id": f"call-{number}", **fields}
    topic = f"iotingestion/{node}"
    return Message(topic, json.dumps(payload).encode(), RECEIVED_AT_MS + number, node)


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browsing(tmp_path) as browser:
        browser.journal.add_sink(SINK)
        yield browser


def reject(browser: Browser, count: int, rejected: Rejected = OLD, **fields: Any) -> None:
    """Keep dead letters; without `fields` to spoil them, they can be read now."""
    browser.journal.append([(message(number, **fields), rejected) for number in range(count)])
    browser.catch_up()


def make_older(browser: Browser, rejected: Rejected, reason: str) -> None:
    """Turn the dead letters with this reason into those of a journal of version 1."""
    db = apsw.Connection(str(browser.journal.path))
    rows = db.execute(
        "SELECT id, digest, received_at_ms, node, topic, properties FROM dead_letter"
        " WHERE code = ?",
        (rejected.code,),
    ).fetchall()
    for number, *columns in rows:
        checksum = dead_letter_checksum((*columns, reason), None, None)
        db.execute(
            "UPDATE dead_letter SET code = NULL, field = NULL, reason = ?, checksum = ?"
            " WHERE id = ?",
            (reason, checksum, number),
        )
    db.close()


def park(browser: Browser, count: int, refused: Refused, first: int = 1_000) -> list[int]:
    messages = [message(first + number) for number in range(count)]
    browser.journal.append([(each, DECODER.identify(each)) for each in messages])
    offsets = [entry.offset for entry in browser.journal.read(SINK, count)]
    browser.journal.settle(SINK, offsets, dict.fromkeys(offsets, refused))
    browser.catch_up()
    return offsets


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not look():
            await asyncio.sleep(0.01)


async def shown(browser: Browser, path: str = "/console/refused") -> str:
    """Return what a page says, without its markup."""
    assert await browser.get(path) == 200, browser.text
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", browser.text)).split())


# ---------------------------------------------------------------------- looking


OUT_OF_RANGE = Rejected(
    ReasonCode.CONFIDENCE_OUT_OF_RANGE,
    "120 is out of range; send a percentage from 0 to 100",
    "confidence",
)
CUT_OFF = Rejected(
    ReasonCode.JSON_CUT_OFF, "the JSON is cut off: it stops in the middle, after 12 bytes"
)
OF_THE_API = Refused("the Echo API answered 422: species: unknown", field="species")


async def test_refused_messages_are_listed_by_reason_with_what_to_do(browser: Browser) -> None:
    assert "No refused messages." in await shown(browser)
    reject(browser, 3, OUT_OF_RANGE)
    reject(browser, 1, CUT_OFF)
    park(browser, 2, OF_THE_API)
    text = await shown(browser)
    assert "confidence: The confidence is out of range. Have the device" in text
    assert "The JSON ends in the middle. A buffer in the device" in text
    assert "Unrecognised messages kept unchanged" in text
    assert "Refused by Echo API" in text and "rules of its own" in text
    assert "No refused messages from creek-02" in await shown(
        browser, "/console/refused?node=creek-02"
    )
    of_node = await shown(browser, "/console/refused?node=ridge-07")
    assert "The confidence is out of range" in of_node


def addresses_of_groups(browser: Browser) -> list[str]:
    return [html.unescape(each) for each in re.findall(r'href="([^"]+/group[^"]+)"', browser.text)]


async def test_each_reason_leads_to_its_group_and_each_message_to_its_own(
    browser: Browser,
) -> None:
    reject(browser, 2, OUT_OF_RANGE)
    reject(browser, 1, replace(OUT_OF_RANGE, detail="130 is out of range"))
    (offset, *_) = park(browser, 2, OF_THE_API)
    park(browser, 1, Refused("no node id", ReasonCode.NODE_UNKNOWN_TO_SINK), 2_000)
    await shown(browser)
    groups = addresses_of_groups(browser)
    assert len(groups) == 3
    confidence = await shown(browser, groups[0])
    assert "3 messages from 1 node" in confidence
    assert "confidence: The confidence is out of range" in confidence
    assert confidence.count("confidence: 120 is out of range; send") == 2
    assert "confidence: 130 is out of range" in confidence
    assert "species: unknown" in await shown(browser, groups[1])
    unknown = await shown(browser, groups[2])
    assert "The sink does not know the node." in unknown and "Register the node" in unknown
    assert await browser.get(f"/console/refused/parked/{SINK}/{offset}") == 200
    assert re.findall(r"<mark>(.*?)</mark>", browser.text) == [
        "  &#34;species&#34;: &#34;Litoria ewingii&#34;,"
    ]
    assert addresses_of_groups(browser) == groups[1:2]


async def test_dead_letters_of_an_older_journal_are_grouped_by_their_text_and_marked(
    browser: Browser,
) -> None:
    spoilt = [message(number, confidence=100 + number) for number in (7, 8)]
    browser.journal.append([(each, OUT_OF_RANGE) for each in spoilt])
    make_older(browser, OUT_OF_RANGE, "confidence: 107 is out of range; send a percentage")
    browser.catch_up()
    text = await shown(browser)
    assert "confidence: … is out of range; send a percentage Have the device send" in text
    reason = urlencode({"reason": "confidence: … is out of range; send a percentage"})
    assert "2 messages" in await shown(browser, f"/console/refused/group?{reason}")
    assert "such as 63.6" in await shown(browser, "/console/refused/letters/1")
    assert re.findall(r"<mark>(.*?)</mark>", browser.text) == ["  &#34;confidence&#34;: 107,"]


async def test_one_is_shown_readably_with_the_wrong_field_marked(browser: Browser) -> None:
    clip = base64.b64encode(bytes(5_000)).decode()
    spoilt = message(1, confidence=120, audioClip=clip, note="</code><script>alert(1)</script>")
    browser.journal.append([(spoilt, OUT_OF_RANGE)])
    text = await shown(browser, "/console/refused/letters/1")
    assert "<script>alert" not in browser.text
    assert re.findall(r"<mark>(.*?)</mark>", browser.text) == ["  &#34;confidence&#34;: 120,"]
    assert f"{len(clip):,} characters of base64: 5.0 kB" in text and clip[:200] not in text
    assert "14 Sep 2026" in text and "UTC" in text and "iotingestion/ridge-07" in text
    async with browser.http.get("/console/refused/letters/1/payload") as reply:
        assert await reply.read() == spoilt.payload
        assert reply.headers["Content-Disposition"].startswith("attachment")
        assert "sandbox" in reply.headers["Content-Security-Policy"]
    for gone in (
        "letters/2",
        "parked/echo_api/7",
        "group?reason=nothing",
        "group?code=nothing",
        "letters/99999999999",
    ):
        assert await browser.get(f"/console/refused/{gone}") == 404


async def test_a_group_says_before_a_retry_what_would_come_of_it(browser: Browser) -> None:
    reject(browser, 2)
    browser.journal.append([(message(7, confidence="high"), OLD)])
    browser.catch_up()
    page = f"/console/refused/group?{urlencode(GROUP)}"
    text = await shown(browser, page)
    assert "All 3 messages were checked just now: 2 would be stored , 1 still cannot" in text
    assert "a number was expected, not text" in text
    assert "Log in" in text and "retry these messages" in text and "<button" not in browser.text
    await browser.log_in(HTTP_TOKEN)
    assert "retry these messages" in await shown(browser, page)
    await browser.log_in()
    assert "Retry all 3" in await shown(browser, page)
    assert f'name="form_token" value="{FORM_TOKEN}"' in browser.text
    assert browser.journal.ledger().dead_letters == 3


# ---------------------------------------------------------------------- replaying


@pytest.mark.slow
async def test_a_group_is_replayed_with_its_progress_and_its_end_in_words(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_job, "SLICE_SECONDS", 0.005)
    reject(browser, 100)
    reject(browser, 1, confidence="high")
    browser.journal.append([(message(5), DECODER.identify(message(5)))])
    await browser.log_in()
    assert await browser.act("replay", **GROUP) == 303
    assert await browser.act("replay", **GROUP) == 409, "one at a time"
    text = await shown(browser)
    seen = re.search(r'<progress max="101" value="(\d+)"', browser.text)
    assert seen is not None and int(seen[1]) < 101 and "Stop" in text
    await until(lambda: browser.journal.ledger().dead_letters == 1)
    await until_shown(browser, "Retry finished")
    text = await shown(browser)
    assert "99 records stored, 1 already stored before, 1 still cannot be read" in text
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
    reject(browser, 300)
    await browser.log_in()
    await browser.act("replay", **GROUP)
    await until(lambda: browser.journal.ledger().dead_letters < 300)
    assert await browser.act("stop-replay") == 303
    await until_shown(browser, "Retry stopped")
    left = browser.journal.ledger().dead_letters
    assert 0 < left < 300
    browser.catch_up()
    monkeypatch.undo()
    assert await browser.act("replay", **GROUP) == 303
    await until(lambda: browser.journal.ledger().dead_letters == 0)


async def test_dead_letters_are_discarded_one_by_one_and_as_a_group(browser: Browser) -> None:
    reject(browser, 3)
    reject(browser, 1, CUT_OFF)
    await browser.log_in()
    assert await browser.get("/console/refused/letters/2") == 200
    assert "Discard this message" in browser.text
    assert await browser.act("discard", number="2") == 303
    assert "1 message was discarded." in browser.text
    browser.catch_up()
    assert await browser.act("discard", number="2") == 404
    assert await browser.act("discard", **GROUP) == 303
    assert "2 messages were discarded." in browser.text
    browser.catch_up()
    text = await shown(browser)
    assert "The JSON ends in the middle." in text and "confidence" not in text
    ledger = browser.journal.ledger()
    assert (ledger.dead_letters, ledger.discarded) == (1, 3)
    text = await shown(browser, "/console")
    assert "discarded" in text


async def test_what_a_sink_refused_is_not_discarded(browser: Browser) -> None:
    (offset,) = park(browser, 1, OF_THE_API)
    await browser.log_in()
    assert "Discard" not in await shown(browser, f"/console/refused/parked/{SINK}/{offset}")
    assert await browser.act("discard", sink=SINK, number=str(offset)) == 404
    assert browser.journal.ledger().sinks[SINK].parked == 1


async def test_one_dead_letter_is_replayed(browser: Browser) -> None:
    reject(browser, 2)
    await browser.log_in()
    assert "This version can read the message" in await shown(browser, "/console/refused/letters/2")
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
    park(browser, 3, OF_THE_API)
    await browser.log_in()
    group = re.search(
        r'href="(/console/refused/group[^"]+)"', (await shown(browser), browser.text)[1]
    )
    assert group is not None
    text = await shown(browser, html.unescape(group[1]))
    assert "All 3 records are offered to Echo API again" in text
    (reason,) = re.findall(r'name="reason" value="([^"]*)"', browser.text)
    assert await browser.act("replay", sink=SINK, reason=html.unescape(reason)) == 303
    await until(lambda: browser.journal.ledger().sinks[SINK].backlog == 3)
    await until_shown(browser, "gone fishing")  # why the store does not take them yet
    offsets = [entry.offset for entry in browser.journal.read(SINK, 10)]
    browser.journal.settle(SINK, offsets, {offsets[0]: Refused("the Echo API answered 422: still")})
    await until_shown(browser, "Retry finished")
    assert "2 accepted, 1 rejected again" in await shown(browser)
    assert "attempts 2" in await shown(browser, f"/console/refused/parked/{SINK}/{offsets[0]}")


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
    reject(browser, 1)
    if token is not None:
        await browser.log_in(token)
    for action, fields in [
        ("replay", GROUP),
        ("stop-replay", {}),
        ("discard", GROUP),
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
