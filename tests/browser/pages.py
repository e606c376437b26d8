"""The pages of the console, and where the forest has one of each."""

from collections.abc import Callable

from msgspec import Struct

from tests.browser.forest import Forest


def a_call(forest: Forest) -> str:
    """Where the newest call with a clip is."""
    records = forest.house.http("/api/records?kind=detection&limit=500")[1]["records"]
    offsets = [each["offset"] for each in records if "clip" in each["record"]]
    return f"/console/calls/{offsets[0]}"


class Shown(Struct, frozen=True):
    """A page, and words that are on it, scripts or not."""

    path: str | Callable[[Forest], str]
    words: tuple[str, ...]

    def address(self, forest: Forest) -> str:
        return self.path if isinstance(self.path, str) else self.path(forest)


PAGES = {
    "overview": Shown("/console", ("nodes heard", "ridge-07")),
    "nodes": Shown("/console/nodes", ("ridge-07", "creek-03")),
    "node": Shown("/console/nodes/ridge-07", ("ridge-07", "battery")),
    "calls": Shown("/console/calls", ("Litoria ewingii",)),
    "call": Shown(a_call, ("kHz", "byte for byte", "microphone")),
    "recordings": Shown("/console/calls?show=recordings", ("length", "Recordings")),
    "refused": Shown("/console/refused", ("NaN",)),
    "log-in": Shown("/console/login", ("token",)),
}
