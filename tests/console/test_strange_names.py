"""Names and topics from outside are seen as what they are, and none of them fills a page."""

from pathlib import Path

import pytest

from echo_ingest.decode import Decoder
from echo_ingest.record import Message
from echo_ingest.web.console.rendering import data, shown
from tests.console.browsing import browsing

DECODER = Decoder(1_000_000)
PAGES = ("/console", "/console/nodes", "/console/calls", "/console/refused")
HIDDEN = [
    *("\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069"),
    *("\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\u061c", "\u2028", "\u2029", "\ufeff"),
    *("\x00", "\x07", "\x1b", "\x7f", "\x85", "\x9b", "\u00ad", "\U000e0041"),
]
CALL = b'{"sensor_id":"rpi","species":"Litoria ewingii","confidence":50,"timestamp":"1790000000"}'


@pytest.mark.parametrize("letter", HIDDEN, ids=ascii)
def test_a_character_that_cannot_be_seen_is_written_out(letter: str) -> None:
    name = f"ridge-{letter}70"
    assert letter not in str(shown(name))
    assert f"{ord(letter):02x}" in str(shown(name))
    assert letter not in str(data({"name": name}))


def test_text_that_can_be_seen_is_shown_as_it_is() -> None:
    for text in ("ridge-07", "Große Wiese", "日本", "🐸", "1\u202f000", "two\nlines\tand more"):
        assert shown(text) == text
    assert shown(7) == 7


async def test_names_of_sixty_kilobytes_make_no_large_page(tmp_path: Path) -> None:
    async with browsing(tmp_path) as browser:
        names = [f"{number}{'x' * 60_000}\u202e" for number in range(100)]
        refused = [Message(f"iotingestion/{name}", CALL, 1_790_000_000_000) for name in names]
        # An earlier version stored such a node; what it has stored is still shown.
        stored = Message(f"iotingestion/{names[0]}", CALL, 1_790_000_000_000, names[0])
        browser.journal.append(
            [
                *((message, DECODER.identify(message)) for message in refused),
                (stored, DECODER.identified(stored, hashed=False).identity),  # type: ignore[union-attr]
            ]
        )
        browser.catch_up()
        ledger = browser.journal.ledger()
        assert (ledger.dead_letters, ledger.stored) == (100, 1)
        for page in PAGES:
            assert await browser.get(page) == 200
            assert len(browser.text) < 200_000, page
            assert "\u202e" not in browser.text
        for page in ("/console/refused/group?code=topic_too_long", "/console/refused/letters/1"):
            assert await browser.get(page) == 200
            assert "characters" in browser.text
            assert len(browser.text) < 200_000, page
