"""Who may read: whoever sends the token. Health and metrics ask for none.

Wrong tokens are counted by address, since one that a person chose might be guessed: an address that
has sent `REFUSED_MAX` of them has to wait. At most `ADDRESSES_MAX` are remembered, those that were
refused last, so that the count costs no memory to speak of, whoever comes.
"""

import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from litestar.exceptions import NotAuthorizedException, TooManyRequestsException
from litestar.types import ASGIApp, Receive, Scope, Send

REFUSED_MAX = 20
REFUSED_PER_SECOND = 1 / 3
ADDRESSES_MAX = 1_000

CHALLENGE = 'Bearer realm="echo-ingest"'
REMEDY = (
    "send the header Authorization: Bearer TOKEN, with the token that IOT_HTTP_TOKEN sets, or that "
    "is kept in secrets/http in the data folder"
)


class FailedAttempts:
    """How many wrong tokens each address has sent of late: a bucket that drains by itself."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full)

    def wait_seconds(self, address: str) -> int:
        """How long `address` has to wait before it may try again."""
        return math.ceil(max(0.0, self._level(address) - REFUSED_MAX + 1) / REFUSED_PER_SECOND)

    def let_try(self, scope: Scope) -> str:
        """The address of who asks; raises `TooManyRequestsException` if it has to wait."""
        client = scope.get("client")
        address = client[0] if client else ""
        if wait_seconds := self.wait_seconds(address):
            raise TooManyRequestsException(
                f"too many wrong tokens from {address}; try again in {wait_seconds} s",
                headers={"Retry-After": str(wait_seconds)},
            )
        return address

    def count(self, address: str) -> None:
        """It sent another wrong one."""
        self._full[address] = self._level(address) + 1, self._clock()
        self._full.move_to_end(address)
        if len(self._full) > ADDRESSES_MAX:
            self._full.popitem(last=False)

    def _level(self, address: str) -> float:
        level, at = self._full.get(address, (0.0, 0.0))
        return max(0.0, level - (self._clock() - at) * REFUSED_PER_SECOND)


def only_with(token: str, refusals: FailedAttempts) -> Callable[[ASGIApp], ASGIApp]:
    """Litestar middleware for routes that show what the journal holds.

    Hashes are compared, in constant time, so that not even the token's length is told.
    """
    wanted = hashlib.sha256(token.encode()).digest()

    def middleware(app: ASGIApp) -> ASGIApp:
        async def ask_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
            address = refusals.let_try(scope)
            given = [value for name, value in scope["headers"] if name == b"authorization"]
            if not given:
                raise _refused("this needs a token", CHALLENGE)
            scheme, _, sent = given[0].partition(b" ")
            found = hashlib.sha256(sent.strip()).digest()
            is_token = hmac.compare_digest(found, wanted) and scheme.lower() == b"bearer"
            if not is_token or len(given) > 1:
                refusals.count(address)
                raise _refused("that is not the token", f'{CHALLENGE}, error="invalid_token"')
            await app(scope, receive, send)

        return ask_and_answer

    return middleware


def _refused(why: str, challenge: str) -> NotAuthorizedException:
    return NotAuthorizedException(f"{why}: {REMEDY}", headers={"WWW-Authenticate": challenge})
