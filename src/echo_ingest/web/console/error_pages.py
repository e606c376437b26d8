"""Errors below /console as pages, which say what is wrong and what to do."""

from typing import Any
from urllib.parse import urlencode

from litestar import Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.response import Redirect
from litestar.types import ExceptionHandlersMap
from msgspec import Struct

from echo_ingest.almanac import AlmanacUnready
from echo_ingest.ipc import NoAnswer
from echo_ingest.journal import JournalUnusable
from echo_ingest.web.console.auth import LogInFirst
from echo_ingest.web.console.login import next_of
from echo_ingest.web.console.rendering import AnyRequest, PageRenderer
from echo_ingest.web.problems import OTHER_TITLE, TITLES, peers_log
from echo_ingest.web.same_origin import is_link_from_elsewhere


class ProblemView(Struct, frozen=True):
    """What the page of an error shows."""

    title: str
    text: str
    status_code: int


class RedirectView(Struct, frozen=True):
    """What the page that leads on to another one shows."""

    onward: str


def problem_pages(pages: PageRenderer) -> ExceptionHandlersMap:
    """Return how each kind of error is shown."""

    def problem_page(
        request: AnyRequest, status_code: int, text: str, headers: dict[str, str] | None = None
    ) -> Response[bytes]:
        title = TITLES.get(status_code, OTHER_TITLE)
        view = ProblemView(title, text, status_code)
        return pages.page(request, "problem.html", view, status_code=status_code, headers=headers)

    def http_error(request: AnyRequest, error: HTTPException) -> Response[bytes]:
        text = error.detail
        if text == "Not Found":
            text = f"There is no page {request.url.path}."
        return problem_page(request, error.status_code, text, dict(error.headers or {}))

    def log_in_first(request: AnyRequest, error: LogInFirst) -> Response[Any]:
        onward = next_of(request)
        if is_link_from_elsewhere(request.headers):
            # When one of our pages leads there, the browser sends the cookie that it withheld.
            return pages.page(request, "redirect.html", RedirectView(onward))
        mode = request.headers.get("sec-fetch-mode", "navigate")
        if request.method == "GET" and mode == "navigate":
            return Redirect(f"/console/login?{urlencode({'next': onward})}", status_code=303)
        return problem_page(request, 401, error.detail)

    def not_now(
        request: AnyRequest, error: JournalUnusable | AlmanacUnready | NoAnswer
    ) -> Response[bytes]:
        return problem_page(request, 503, str(error))

    def our_mistake(request: AnyRequest, error: Exception) -> Response[bytes]:
        peers_log.error("page failed", path=request.url.path, exc_info=error)
        return problem_page(
            request,
            500,
            "This page could not be shown; the service's log says why. Other pages may still work.",
        )

    # Each kind is listed: the handlers of the whole service for a narrower kind would win.
    return {
        NotFoundException: http_error,
        MethodNotAllowedException: http_error,
        LogInFirst: log_in_first,
        HTTPException: http_error,
        JournalUnusable: not_now,
        AlmanacUnready: not_now,
        NoAnswer: not_now,
        Exception: our_mistake,
    }
