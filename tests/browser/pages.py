"""The pages of the console, and where the forest has one of each."""

import html
import re
from collections.abc import Callable

from msgspec import Struct

from tests.browser.forest import REFUSED_SPECIES, Forest


def a_call(forest: Forest) -> str:
    """Return the address of the newest call that was identified in a recording."""
    (newest,) = forest.harness.http("/api/records?kind=detection&node=swamp-01&limit=1")[1][
        "records"
    ]
    return f"/console/calls/{newest['offset']}"


def a_group(forest: Forest) -> str:
    """Return the address of all messages that were refused for one reason."""
    page = forest.harness.http_bytes("/console/refused").decode()
    link = re.search(r'href="(/console/refused/group[^"]*)"', page)
    assert link, page
    return html.unescape(link[1])


def a_letter(forest: Forest) -> str:
    """Return the address of the first message that could not be read."""
    (letter,) = forest.harness.http("/api/dead-letters?limit=1&node=broken-9")[1]["dead_letters"]
    return f"/console/refused/letters/{letter['id']}"


def a_form_to_make(forest: Forest) -> str:
    """Return the address at which a form is made for what could not be read."""
    page = forest.harness.http_bytes(a_letter(forest)).decode()
    link = re.search(r'href="(/console/make-form[^"]*)"', page)
    assert link, page
    return html.unescape(link[1])


def a_parked_record(forest: Forest) -> str:
    """Return the address of the first record that the Echo API refused."""
    (parked,) = forest.harness.http("/api/parked?limit=1&sink=echo_api")[1]["parked"]
    return f"/console/refused/parked/echo_api/{parked['offset']}"


class Shown(Struct, frozen=True):
    """A page, and words that are on it, scripts or not."""

    path: str | Callable[[Forest], str]
    words: tuple[str, ...]

    def address(self, forest: Forest) -> str:
        return self.path if isinstance(self.path, str) else self.path(forest)


PAGES = {
    "overview": Shown("/console", ("nodes were heard", "ridge-07")),
    "nodes": Shown("/console/nodes", ("ridge-07", "creek-03")),
    "node": Shown("/console/nodes/ridge-07", ("ridge-07", "battery", "sound_level_1.0_kHz", "dB")),
    "calls": Shown("/console/calls", ("Litoria ewingii",)),
    "call": Shown(a_call, ("kHz", "byte for byte", "microphone")),
    "recordings": Shown("/console/calls?show=recordings", ("length", "Recordings")),
    "refused": Shown("/console/refused", ("NaN",)),
    "refused-group": Shown(a_group, ("What to do", "Retry")),
    "refused-letter": Shown(a_letter, ("What to do", "download unchanged")),
    "refused-record": Shown(a_parked_record, ("What to do", REFUSED_SPECIES)),
    "make-form": Shown(a_form_to_make, ("Make a form", "The message", "name =")),
    "log-in": Shown("/console/login", ("token",)),
}
