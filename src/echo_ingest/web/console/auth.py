"""Who may view the console and who may make changes: checked before every page."""

import hmac
import time

from litestar.exceptions import (
    HTTPException,
    NotAuthorizedException,
    PermissionDeniedException,
)
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from echo_ingest.settings import Settings
from echo_ingest.settings.endpoint import is_loopback
from echo_ingest.web.console.sessions import LoginSession, LoginSessions, Role
from echo_ingest.web.form_body import BODY_BYTES_MAX, form_of
from echo_ingest.web.problems import AnyRequest
from echo_ingest.web.same_origin import comes_from_here, is_by_tls, is_for_this_machine

COOKIE = "echo-ingest"
COOKIE_BY_TLS = "__Host-echo-ingest"
"""No other site of the same domain can set a cookie with this name."""
OPEN_TO_ALL = ("/console/login", "/console/static/")
FORM_TOKEN = "form_token"  # noqa: S105 - the field's name


class Viewer(Struct, frozen=True):
    """The person who asks for a page."""

    role: Role | None = None
    ends_at: int | None = None
    """When the log-in ends, in seconds since 1970."""
    form_token: str = ""

    @property
    def may_act(self) -> bool:
        """Return whether this is an operator, who may make changes."""
        return self.role == "operator"

    @property
    def seconds_left(self) -> float | None:
        """Return how long the log-in still lasts; None without a log-in."""
        return None if self.ends_at is None else max(0.0, self.ends_at - time.time())


NOBODY = Viewer()


class LogInFirst(NotAuthorizedException):
    """The page is for those who have logged in."""


def viewer_of(request: AnyRequest) -> Viewer:
    """Return who asks, as the guard has found out; `NOBODY` before the guard has run."""
    viewer = request.scope["state"].get("viewer", NOBODY)
    assert isinstance(viewer, Viewer)
    return viewer


def cookie_name(request: AnyRequest) -> str:
    """Return the name of the session's cookie, which depends on TLS."""
    return COOKIE_BY_TLS if is_by_tls(request.headers) else COOKIE


class LoginGuard:
    """Litestar middleware for all routes of the console."""

    def __init__(self, settings: Settings, sessions: LoginSessions) -> None:
        self._is_open = settings.console_access == "open"
        self._for_this_machine = self._is_open and is_loopback(settings.bind)
        self._sessions = sessions

    def __call__(self, app: ASGIApp) -> ASGIApp:
        """Return `app` for those who are allowed."""

        async def ask_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
            request: AnyRequest = AnyRequest(scope, receive, send)
            self._refuse_strangers(request)
            viewer = self._viewer(request)
            scope["state"]["viewer"] = viewer
            may_read = self._is_open or viewer.role is not None
            if not may_read and not request.url.path.startswith(OPEN_TO_ALL):
                raise LogInFirst("log in to view this page")
            await app(scope, receive, send)

        return ask_and_answer

    def _refuse_strangers(self, request: AnyRequest) -> None:
        if self._for_this_machine and not is_for_this_machine(request.headers):
            raise PermissionDeniedException(
                "the console is open to this machine alone, at http://localhost or http://127.0.0.1;"
                " to use another host name, set IOT_CONSOLE=token and log in"
            )
        if request.method != "GET" and not comes_from_here(request.headers):
            raise PermissionDeniedException(
                "this request came from a page of another site; if you meant it, repeat it in the "
                "console. A proxy in between has to pass the header Host on unchanged"
            )

    def _viewer(self, request: AnyRequest) -> Viewer:
        session = self._sessions.read(request.cookies.get(cookie_name(request), ""))
        match session:
            case None:
                return NOBODY
            case LoginSession("operator", ends_at):
                return Viewer("operator", ends_at, self._sessions.form_token())
            case LoginSession(role, ends_at):
                return Viewer(role, ends_at)


async def acting_form(request: AnyRequest, bytes_max: int = BODY_BYTES_MAX) -> dict[str, str]:
    """Return the form of an operator; raise `HTTPException` for everybody else."""
    viewer = viewer_of(request)
    if not viewer.may_act:
        raise LogInFirst("log in with the operator token to do this")
    form = await form_of(request, bytes_max)
    if not hmac.compare_digest(form.pop(FORM_TOKEN, "").encode(), viewer.form_token.encode()):
        raise HTTPException(
            "this form does not belong to your log-in: load the page again, then repeat it",
            status_code=403,
        )
    return form
