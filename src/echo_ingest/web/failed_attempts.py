"""The rate of failed log-ins: how often an address may send a wrong token.

A token that a person chose might be guessed. An address that has sent `FAILED_MAX` wrong tokens has
to wait.
"""

import time
from collections.abc import Callable

from litestar.exceptions import TooManyRequestsException
from litestar.types import Scope

from echo_ingest.web.buckets import LeakyBuckets
from echo_ingest.web.connections import address_of

FAILED_MAX = 20
FORGIVEN_PER_SECOND = 1 / 3


class FailedAttempts(LeakyBuckets):
    """How many wrong tokens each address has sent lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(FAILED_MAX, FORGIVEN_PER_SECOND, clock)

    def let_try(self, scope: Scope) -> str:
        """Return the client's address; raise `TooManyRequestsException` if it has to wait."""
        address = address_of(scope)
        if wait_seconds := self.wait_seconds(address):
            raise TooManyRequestsException(
                f"too many wrong tokens came from {address}; try again in {wait_seconds} s",
                headers={"Retry-After": str(wait_seconds)},
            )
        return address
