"""Who has logged in: a signed cookie says so, and nothing is stored here.

A cookie is `role.end.nonce.signature`: the second since 1970 at which it ends, and a few random
bytes, so that no two log-ins have the same cookie. It is signed with a key derived from the token
of its role alone. So it reveals nothing about the other role's token, and a changed token ends all
sessions that began with it. Logging out removes the cookie from the browser; a copy of the cookie
would stay valid until its end.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from typing import Literal, get_args

from msgspec import Struct

from echo_ingest.settings import Tokens

Role = Literal["reader", "operator"]

SESSION_SECONDS: dict[Role, int] = {"reader": 30 * 86_400, "operator": 12 * 3_600}
NONCE_BYTES = 12
COOKIE = re.compile(r"(reader|operator)\.(\d{1,12})\.([0-9A-Za-z_-]{16})\.([0-9a-f]{64})", re.ASCII)


class LoginSession(Struct, frozen=True):
    """A valid log-in."""

    role: Role
    ends_at: int
    """Seconds since 1970."""


class LoginSessions:
    """Begins sessions, and recognises those that it has begun."""

    def __init__(self, tokens: Tokens, clock: Callable[[], float] = time.time) -> None:
        self._digests: dict[Role, bytes] = {
            "operator": _digest(tokens.operator),
            "reader": _digest(tokens.reader),
        }
        self._keys: dict[Role, bytes] = {
            "operator": _signed(tokens.operator.encode(), "session of the console"),
            "reader": _signed(tokens.reader.encode(), "session of the console"),
        }
        self._clock = clock

    def role_of(self, token: str) -> Role | None:
        """Return the role of `token`; None if it is wrong. It takes equally long for each."""
        given = _digest(token)
        fits = {role: hmac.compare_digest(given, own) for role, own in self._digests.items()}
        return next((role for role, is_equal in fits.items() if is_equal), None)

    def begin(self, role: Role) -> str:
        """Return a cookie for a person who has sent the token of `role`."""
        ends_at = int(self._clock()) + SESSION_SECONDS[role]
        text = f"{role}.{ends_at}.{secrets.token_urlsafe(NONCE_BYTES)}"
        return f"{text}.{_signed(self._keys[role], text).hex()}"

    def read(self, cookie: str) -> LoginSession | None:
        """Return the session of that cookie; None if we did not sign it, or if it has ended."""
        match = COOKIE.fullmatch(cookie)
        if match is None:
            return None
        role = next(each for each in get_args(Role) if each == match[1])
        wanted = _signed(self._keys[role], cookie.rpartition(".")[0]).hex()
        if not hmac.compare_digest(wanted, match[4]) or int(match[2]) <= self._clock():
            return None
        return LoginSession(role, int(match[2]))

    def form_token(self) -> str:
        """Return what every form of an action contains, and no other site can know."""
        return _signed(self._keys["operator"], "form of the console").hex()


def _digest(token: str) -> bytes:
    # All digests have the same length, so that not even the token's length is revealed.
    return hashlib.sha256(token.encode()).digest()


def _signed(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
