"""A loop with its own clock, which jumps to the next timer: hours of waiting take no time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")

NETWORK_SECONDS = 0.005


class _Jump(selectors.DefaultSelector):
    """A selector that advances the clock instead of waiting, unless something comes by network."""

    def __init__(self, network_seconds: float) -> None:
        super().__init__()
        self.now_seconds = 0.0
        self.turns = 0
        """How often the loop has turned since the clock last advanced."""
        self._network_seconds = network_seconds

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        assert self.turns < 10_000, "something goes on for ever in no time"
        idle = timeout is None or timeout > 0
        ready = super().select(self._network_seconds if idle else 0)
        if idle and not ready:
            assert timeout is not None, "nothing would ever happen again"
            self.now_seconds += timeout
            self.turns = 0
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    """A loop that is never idle.

    Both sides of a connection may live in it: before its clock jumps it waits, by ours, for what
    is on its way between them.
    """

    def __init__(self, network_seconds: float = 0.0) -> None:
        self._jump = _Jump(network_seconds)
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now_seconds


def now_seconds() -> float:
    """Return the time by the clock of the running loop."""
    return asyncio.get_running_loop().time()


def run(main: Coroutine[None, None, T], *, network_seconds: float = 0.0) -> T:
    """Run `main` in simulated time."""
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(network_seconds)) as runner:
        return runner.run(main)
