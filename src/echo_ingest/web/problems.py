"""Every error is JSON, `{"error": "…"}`, or below /console a page, and says what to do."""

from collections.abc import Mapping
from html import escape

import structlog
from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.types import ExceptionHandlersMap, Scope, Send
from msgspec import Struct, json

from echo_ingest.ipc import NoAnswer
from echo_ingest.journal import JournalUnusable
from echo_ingest.process.log import LimitedLog

AnyRequest = Request[object, object, State]

CONSOLE = "/console"
TITLES = {
    400: "This request is not valid",
    401: "Please log in first",
    403: "This is not allowed",
    404: "This page does not exist",
    405: "This is not possible here",
    409: "This is not possible now",
    429: "There were too many attempts",
    500: "Something went wrong",
    503: "This is not available now",
}
OTHER_TITLE = "This did not work"
OUR_MISTAKE = "the service failed to answer; its log says more"
LAST_RESORT = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title} · Echo Ingest</title></head>
<body><main><h1>{title}</h1><p>{text}</p><p><a href="/console">To the overview</a></p></main></body>
</html>
"""

log = structlog.get_logger("web")
peers_log = LimitedLog(log)
"""For what anybody can cause who sends requests."""


class Problem(Struct, frozen=True):
    """What went wrong, and what to send instead."""

    error: str


def problem(
    status_code: int, error: str, headers: Mapping[str, str] | None = None
) -> Response[Problem]:
    """Return a reply that says what is wrong."""
    return Response(
        Problem(error), status_code=status_code, media_type="application/json", headers=headers
    )


async def say(
    scope: Scope,
    send: Send,
    status_code: int,
    error: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Say what is wrong where there is no request that a page could be made for.

    This depends on nothing that the request consists of but its path.
    """
    path = scope["path"]
    if path == CONSOLE or path.startswith(f"{CONSOLE}/"):
        title = TITLES.get(status_code, OTHER_TITLE)
        text = f"{error[0].upper()}{error[1:]}."
        body = LAST_RESORT.format(title=title, text=escape(text)).encode()
        media_type = "text/html; charset=utf-8"
    else:
        body, media_type = json.encode(Problem(error)), "application/json"
    sent = {"Content-Type": media_type, "Content-Length": str(len(body)), **(headers or {})}
    fields = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
    await send({"type": "http.response.start", "status": status_code, "headers": fields})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _http_error(request: AnyRequest, error: HTTPException) -> Response[Problem]:
    return problem(error.status_code, error.detail, error.headers)


def _no_such_page(request: AnyRequest, error: NotFoundException) -> Response[Problem]:
    text = error.detail
    if text == "Not Found":
        text = f"there is nothing at {request.url.path}; /api/openapi.json lists all addresses"
    return problem(404, text)


def _method_not_allowed(request: AnyRequest, error: MethodNotAllowedException) -> Response[Problem]:
    text = "everything here is read-only; use GET"
    if request.url.path.startswith("/ingest/"):
        text = "messages are taken in here; use POST"
    return problem(405, f"{request.method} is not allowed: {text}")


def _not_now(request: AnyRequest, error: JournalUnusable | NoAnswer) -> Response[Problem]:
    return problem(503, str(error))


def _ours(request: AnyRequest, error: Exception) -> Response[Problem]:
    peers_log.error("request failed", path=request.url.path, exc_info=error)
    return problem(500, OUR_MISTAKE)


ERRORS: ExceptionHandlersMap = {
    NotFoundException: _no_such_page,
    MethodNotAllowedException: _method_not_allowed,
    HTTPException: _http_error,
    JournalUnusable: _not_now,
    NoAnswer: _not_now,
    Exception: _ours,
}
