"""Who may read: everybody who sends the token. Health and metrics do not ask for one."""

import hashlib
import hmac
from collections.abc import Callable

from litestar.exceptions import NotAuthorizedException
from litestar.types import ASGIApp, Receive, Scope, Send

from echo_ingest.web.failed_attempts import FailedAttempts

CHALLENGE = 'Bearer realm="echo-ingest"'
REMEDY = (
    "send the header Authorization: Bearer TOKEN, with the token from IOT_HTTP_TOKEN or from the "
    "file secrets/http in the data folder"
)


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
