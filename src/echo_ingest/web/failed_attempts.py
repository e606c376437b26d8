"""The rate of failed log-ins: how often an address may send a wrong token.

A token that a person chose might be guessed. An address that has sent `FAILED_MAX` wrong tokens has
to wait. At most `ADDRESSES_MAX` addresses are remembered, those that failed last, so that the count
takes little memory.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from litestar.exceptions import TooManyRequestsException
from litestar.types import Scope

from echo_ingest.web.connections import network_of

FAILED_MAX = 20
FORGIVEN_PER_SECOND = 1 / 3
ADDRESSES_MAX = 1_000


class FailedAttempts:
    """How many wrong tokens each address has sent lately: a bucket that drains by itself."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_seconds(self, address: str) -> int:
        """Return how long `address` has to wait before it may try again."""
        return math.ceil(max(0.0, self._level(address) - FAILED_MAX + 1) / FORGIVEN_PER_SECOND)

    def let_try(self, scope: Scope) -> str:
        """Return the client's address; raise `TooManyRequestsException` if it has to wait."""
        client = scope.get("client")
        address = network_of(client[0]) if client else ""
        if wait_seconds := self.wait_seconds(address):
            raise TooManyRequestsException(
                f"too many wrong tokens came from {address}; try again in {wait_seconds} s",
                headers={"Retry-After": str(wait_seconds)},
            )
        return address

    def count(self, address: str) -> None:
        """Count another wrong token from `address`."""
        self._buckets[address] = self._level(address) + 1, self._clock()
        self._buckets.move_to_end(address)
        if len(self._buckets) > ADDRESSES_MAX:
            self._buckets.popitem(last=False)

    def _level(self, address: str) -> float:
        level, at = self._buckets.get(address, (0.0, 0.0))
        return max(0.0, level - (self._clock() - at) * FORGIVEN_PER_SECOND)
