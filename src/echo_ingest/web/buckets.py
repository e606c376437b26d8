"""Rates: how much of something each key may do, as buckets that drain by themselves.

At most `KEYS_MAX` keys are remembered, those that were counted last, so that they take little
memory.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

KEYS_MAX = 1_000


class LeakyBuckets:
    """A bucket for each key, which holds so many and drains at so many a second."""

    def __init__(
        self, size: int, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._size = size
        self._per_second = per_second
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_seconds(self, key: str) -> int:
        """Return how long `key` has to wait until its bucket takes another one."""
        return math.ceil(max(0.0, self._level(key) - self._size + 1) / self._per_second)

    def count(self, key: str) -> None:
        """Put another one into the bucket of `key`."""
        self._buckets[key] = self._level(key) + 1, self._clock()
        self._buckets.move_to_end(key)
        if len(self._buckets) > KEYS_MAX:
            self._buckets.popitem(last=False)

    def _level(self, key: str) -> float:
        level, at = self._buckets.get(key, (0.0, 0.0))
        return max(0.0, level - (self._clock() - at) * self._per_second)
