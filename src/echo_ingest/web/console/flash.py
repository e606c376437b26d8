"""What is said to a person after an action: kept for the next page, by a name in a cookie.

It is not in the page's address, where anybody could put words into our mouth.
"""

import secrets
from collections import OrderedDict

from litestar.datastructures import Cookie

COOKIE = "told"
SECONDS = 60
TOLD_MAX = 100


class FlashMessages:
    """The last of them, by name."""

    def __init__(self) -> None:
        self._words: OrderedDict[str, str] = OrderedDict()

    def note(self, words: str, *, by_tls: bool) -> Cookie:
        """Keep it for whoever gets this cookie, which goes over TLS alone if it came `by_tls`."""
        name = secrets.token_urlsafe(9)
        self._words[name] = words
        if len(self._words) > TOLD_MAX:
            self._words.popitem(last=False)
        return _cookie(name, SECONDS, by_tls)

    def by(self, name: str | None) -> str | None:
        """What was said, if it is still known."""
        return self._words.get(name) if name else None


def said(*, by_tls: bool) -> Cookie:
    """It is shown once."""
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
