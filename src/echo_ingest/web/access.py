"""Who may read: everybody who sends the token. Health and metrics do not ask for one.

Wrong tokens are counted by address, since a token that a person chose might be guessed: an address
that has sent `FAILED_MAX` wrong ones has to wait. At most `ADDRESSES_MAX` addresses are remembered,
those that failed last, so that the count takes little memory however many there are.
"""

import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from litestar.exceptions import NotAuthorizedException, TooManyRequestsException
from litestar.types import ASGIApp, Receive, Scope, Send

FAILED_MAX = 20
FORGIVEN_PER_SECOND = 1 / 3
ADDRESSES_MAX = 1_000

CHALLENGE = 'Bearer realm="echo-ingest"'
REMEDY = (
    "send the header Authorization: Bearer TOKEN, with the token from IOT_HTTP_TOKEN or from the "
    "file secrets/http in the data folder"
)


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
        address = client[0] if client else ""
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


def only_with(token: str, failed: FailedAttempts) -> Callable[[ASGIApp], ASGIApp]:
    """Return Litestar middleware for routes that show what the journal holds.

    Hashes are compared in constant time, so that not even the token's length is revealed.
    """
    wanted = hashlib.sha256(token.encode()).digest()

    def middleware(app: ASGIApp) -> ASGIApp:
        async def ask_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
            address = failed.let_try(scope)
            given = [value for name, value in scope["headers"] if name == b"authorization"]
            if not given:
                raise _refused("this page needs a token", CHALLENGE)
            scheme, _, sent = given[0].partition(b" ")
            sent_hash = hashlib.sha256(sent.strip()).digest()
            is_token = hmac.compare_digest(sent_hash, wanted) and scheme.lower() == b"bearer"
            if not is_token or len(given) > 1:
                failed.count(address)
                raise _refused("the token is wrong", f'{CHALLENGE}, error="invalid_token"')
            await app(scope, receive, send)

        return ask_and_answer

    return middleware


def _refused(why: str, challenge: str) -> NotAuthorizedException:
    return NotAuthorizedException(f"{why}: {REMEDY}", headers={"WWW-Authenticate": challenge})
