"""Errors below /console, as pages: what is wrong and what to do, in words."""

from typing import Any
from urllib.parse import urlencode

from litestar import Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.response import Redirect
from litestar.types import ExceptionHandlersMap

from echo_ingest.almanac import AlmanacUnready
from echo_ingest.ipc import NoAnswer
from echo_ingest.journal import JournalUnusable
from echo_ingest.web.console.auth import LogInFirst
from echo_ingest.web.console.login import next_of
from echo_ingest.web.console.rendering import AnyRequest, PageRenderer
from echo_ingest.web.errors import log
from echo_ingest.web.same_origin import is_link_from_elsewhere

TITLES = {
    400: "That cannot be asked",
    401: "Log in first",
    403: "Not allowed",
    404: "Nothing here",
    405: "Not possible here",
    429: "Too often",
    500: "A mistake of this service",
    503: "Not now",
}


def problem_pages(pages: PageRenderer) -> ExceptionHandlersMap:
    """How each kind of error is shown."""

    def shown(
        request: AnyRequest, status_code: int, words: str, headers: dict[str, str] | None = None
    ) -> Response[bytes]:
        title = TITLES.get(status_code, "That did not work")
        values = {"title": title, "words": words, "status_code": status_code}
        return pages.page(request, "problem.html", values, status_code=status_code, headers=headers)

    def http_error(request: AnyRequest, error: HTTPException) -> Response[bytes]:
        words = error.detail
        if words == "Not Found":
            words = f"There is no page {request.url.path}."
        return shown(request, error.status_code, words, dict(error.headers or {}))

    def log_in_first(request: AnyRequest, error: LogInFirst) -> Response[Any]:
        onward = next_of(request)
        if is_link_from_elsewhere(request.headers):
            # Loaded again from a page of ours, the browser sends the cookie that it kept back.
            return pages.page(request, "onward.html", {"onward": onward})
        mode = request.headers.get("sec-fetch-mode", "navigate")
        if request.method == "GET" and mode == "navigate":
            return Redirect(f"/console/login?{urlencode({'next': onward})}", status_code=303)
        return shown(request, 401, error.detail)

    def not_now(
        request: AnyRequest, error: JournalUnusable | AlmanacUnready | NoAnswer
    ) -> Response[bytes]:
        return shown(request, 503, str(error))

    def ours(request: AnyRequest, error: Exception) -> Response[bytes]:
        log.error("page failed", path=request.url.path, exc_info=error)
        return shown(request, 500, "Its log says more. Other pages may still work.")

    # Those of the whole service, one by one: its own for a narrower kind would come first.
    return {
        NotFoundException: http_error,
        MethodNotAllowedException: http_error,
        LogInFirst: log_in_first,
        HTTPException: http_error,
        JournalUnusable: not_now,
        AlmanacUnready: not_now,
        NoAnswer: not_now,
        Exception: ours,
    }
