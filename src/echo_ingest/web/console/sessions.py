"""Who has logged in: a cookie that says it, signed, so that nothing is kept here.

A cookie is `role.end.nonce.signature`: until which second since 1970 it holds, and a few random
bytes, so that no two log-ins have the same one. It is signed with a key made of the token that was
given, and of no other. So it tells nothing of the other role's token, and a token that is changed
ends all sessions begun with it. To log out takes the cookie from the browser; a copy of it would
hold until its end.
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
    """A log-in that holds."""

    role: Role
    ends_at: int
    """Seconds since 1970."""


class LoginSessions:
    """Begins sessions, and knows those that it has begun."""

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
        """Whose token that is; None if it is nobody's. Takes as long for each."""
        given = _digest(token)
        fits = {role: hmac.compare_digest(given, its) for role, its in self._digests.items()}
        return next((role for role, does in fits.items() if does), None)

    def begin(self, role: Role) -> str:
        """A cookie for whoever has given the token of `role`."""
        ends_at = int(self._clock()) + SESSION_SECONDS[role]
        text = f"{role}.{ends_at}.{secrets.token_urlsafe(NONCE_BYTES)}"
        return f"{text}.{_signed(self._keys[role], text).hex()}"

    def read(self, cookie: str) -> LoginSession | None:
        """The session of that cookie; None where it is none of ours, or has ended."""
        found = COOKIE.fullmatch(cookie)
        if found is None:
            return None
        role = next(each for each in get_args(Role) if each == found[1])
        wanted = _signed(self._keys[role], cookie.rpartition(".")[0]).hex()
        if not hmac.compare_digest(wanted, found[4]) or int(found[2]) <= self._clock():
            return None
        return LoginSession(role, int(found[2]))

    def form_token(self) -> str:
        """What every form that acts has in it: no page of anybody else can know it."""
        return _signed(self._keys["operator"], "form of the console").hex()


def _digest(token: str) -> bytes:
    # Of the same length for all, so that not even the token's is told.
    return hashlib.sha256(token.encode()).digest()


def _signed(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
