"""The message that a person sees after an action: kept for the next page, by a name in a cookie.

It is not in the page's address, where anybody could put words into our mouth.
"""

import secrets
from collections import OrderedDict

from litestar.datastructures import Cookie

COOKIE = "told"
SECONDS = 60
MESSAGES_MAX = 100


class FlashMessages:
    """The latest messages, by name."""

    def __init__(self) -> None:
        self._messages: OrderedDict[str, str] = OrderedDict()

    def keep(self, message: str, *, by_tls: bool) -> Cookie:
        """Keep `message` for the browser that gets this cookie, over TLS alone if `by_tls`."""
        name = secrets.token_urlsafe(9)
        self._messages[name] = message
        if len(self._messages) > MESSAGES_MAX:
            self._messages.popitem(last=False)
        return _cookie(name, SECONDS, by_tls)

    def read(self, name: str | None) -> str | None:
        """Return the message of that name, if it is still known."""
        return self._messages.get(name) if name else None


def expired(*, by_tls: bool) -> Cookie:
    """Return a cookie that removes the message's: it is shown once."""
    return _cookie("", 0, by_tls)


def _cookie(name: str, seconds: int, by_tls: bool) -> Cookie:
    return Cookie(
        key=COOKIE,
        value=name,
        max_age=seconds,
        path="/console",
        secure=by_tls,
        httponly=True,
        samesite="strict",
    )
