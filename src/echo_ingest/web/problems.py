"""Every error is JSON, `{"error": "…"}`, and says what to do."""

from collections.abc import Mapping

import structlog
from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.types import ExceptionHandlersMap
from msgspec import Struct

from echo_ingest.ipc import NoAnswer
from echo_ingest.journal import JournalUnusable

AnyRequest = Request[object, object, State]

log = structlog.get_logger("web")


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


def _http_error(request: AnyRequest, error: HTTPException) -> Response[Problem]:
    return problem(error.status_code, error.detail, error.headers)


def _no_such_page(request: AnyRequest, error: NotFoundException) -> Response[Problem]:
    text = error.detail
    if text == "Not Found":
        text = f"there is nothing at {request.url.path}; /api/openapi.json lists all addresses"
    return problem(404, text)


def _method_not_allowed(request: AnyRequest, error: MethodNotAllowedException) -> Response[Problem]:
    return problem(405, f"{request.method} is not allowed: everything here is read-only; use GET")


def _not_now(request: AnyRequest, error: JournalUnusable | NoAnswer) -> Response[Problem]:
    return problem(503, str(error))


def _ours(request: AnyRequest, error: Exception) -> Response[Problem]:
    log.error("request failed", path=request.url.path, exc_info=error)
    return problem(500, "the service failed to answer; its log says more")


ERRORS: ExceptionHandlersMap = {
    NotFoundException: _no_such_page,
    MethodNotAllowedException: _method_not_allowed,
    HTTPException: _http_error,
    JournalUnusable: _not_now,
    NoAnswer: _not_now,
    Exception: _ours,
}
