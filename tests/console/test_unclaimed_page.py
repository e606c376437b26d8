"""The page of unclaimed topics: what is on it, and its two buttons."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from echo_ingest.broker.taken_topics import read_taken_topics, taken_topics_path
from echo_ingest.record import Message, Unclaimed
from tests.console.browsing import Browser, browsing

MS = 1_790_000_000_000


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browsing(tmp_path) as browser:
        yield browser


def keep(browser: Browser, topic: str, payload: bytes) -> None:
    message = Message(topic, payload, MS, "ridge-07", account="ridge-07")
    browser.journal.append([(message, Unclaimed())])


async def test_nothing_is_unclaimed_at_first(opened: Browser) -> None:
    assert await opened.get("/console/unclaimed") == 200
    assert "All that came was expected" in opened.text
    assert "has denied no message" in opened.text


async def test_topics_are_shown_with_what_came_and_only_an_operator_may_act(
    opened: Browser,
) -> None:
    keep(opened, "birdnet/detections", b'{"bird": "<script>"}')
    keep(opened, "birdnet/detections", b"newest & last")
    assert await opened.get("/console/unclaimed") == 200
    assert "birdnet/detections" in opened.text
    assert "published by ridge-07" in opened.text
    assert "newest &amp; last" in opened.text
    assert "Take birdnet/# in" not in opened.text
    await opened.log_in()
    assert await opened.get("/console/unclaimed") == 200
    assert "Take birdnet/# in" in opened.text


async def test_a_topic_is_taken_in_or_discarded(opened: Browser) -> None:
    keep(opened, "birdnet/detections", b"{}")
    keep(opened, "else", b"{}")
    await opened.log_in()
    assert await opened.act("take-topic", filter="birdnet/#") == 303
    assert "birdnet/# is taken in" in opened.text
    assert read_taken_topics(taken_topics_path(opened.settings)) == ("birdnet/#",)
    assert await opened.act("take-topic", filter="iotreceipts/#") == 400
    assert "where this service itself publishes" in opened.text
    assert await opened.act("discard-topic", topic="else") == 303
    assert "1 message discarded" in opened.text
    assert [each.message.topic for each in opened.journal.unclaimed(0, 10)] == [
        "birdnet/detections"
    ]
    assert opened.journal.ledger().unclaimed == 2, "what came is not uncounted"
