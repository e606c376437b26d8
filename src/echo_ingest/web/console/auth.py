"""Who may look at the console and who may act: asked before every page."""

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
from echo_ingest.web.errors import AnyRequest
from echo_ingest.web.form_body import form_of
from echo_ingest.web.same_origin import comes_from_here, is_by_tls, is_for_this_machine

COOKIE = "echo-ingest"
COOKIE_BY_TLS = "__Host-echo-ingest"
"""Under this name, no other site of the same domain can put one."""
OPEN_TO_ALL = ("/console/login", "/console/static/")
FORM_TOKEN = "form_token"  # noqa: S105 - the field's name


class Viewer(Struct, frozen=True):
    """Whoever asks for a page."""

    role: Role | None = None
    ends_at: int | None = None
    """Until when the log-in holds, in seconds since 1970."""
    form_token: str = ""

    @property
    def may_act(self) -> bool:
        """With the operator's token."""
        return self.role == "operator"

    @property
    def seconds_left(self) -> float | None:
        """How long the log-in holds yet; None: there is none that would end."""
        return None if self.ends_at is None else max(0.0, self.ends_at - time.time())


NOBODY = Viewer()


class LogInFirst(NotAuthorizedException):
    """The page is for those who have logged in."""


def viewer_of(request: AnyRequest) -> Viewer:
    """Who asks, as the guard has found; nobody, where it has not come that far."""
    viewer = request.scope["state"].get("viewer", NOBODY)
    assert isinstance(viewer, Viewer)
    return viewer


def cookie_name(request: AnyRequest) -> str:
    """What the session's cookie is called on this way here."""
    return COOKIE_BY_TLS if is_by_tls(request.headers) else COOKIE


class LoginGuard:
    """Litestar middleware for all routes of the console."""

    def __init__(self, settings: Settings, sessions: LoginSessions) -> None:
        self._is_open = settings.console_access == "open"
        self._for_this_machine = self._is_open and is_loopback(settings.bind)
        self._sessions = sessions

    def __call__(self, app: ASGIApp) -> ASGIApp:
        """`app`, for those who may."""

        async def ask_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
            request: AnyRequest = AnyRequest(scope, receive, send)
            self._refuse_strangers(request)
            viewer = self._viewer(request)
            scope["state"]["viewer"] = viewer
            may_read = self._is_open or viewer.role is not None
            if not may_read and not request.url.path.startswith(OPEN_TO_ALL):
                raise LogInFirst("log in to see this page")
            await app(scope, receive, send)

        return ask_and_answer

    def _refuse_strangers(self, request: AnyRequest) -> None:
        if self._for_this_machine and not is_for_this_machine(request.headers):
            raise PermissionDeniedException(
                "the console is open to this machine alone, as http://localhost or http://127.0.0.1"
                " in the browser; to come by another name, set IOT_CONSOLE=token and log in"
            )
        if request.method != "GET" and not comes_from_here(request.headers):
            raise PermissionDeniedException(
                "this was sent by a page of another site; if it was you, do it in the console. A "
                "proxy between has to pass on the header Host as it is"
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


async def acting_form(request: AnyRequest) -> dict[str, str]:
    """The form of somebody who may act; raises `HTTPException` in words for everybody else."""
    viewer = viewer_of(request)
    if not viewer.may_act:
        raise LogInFirst("log in with the operator's token to do this")
    form = await form_of(request)
    if not hmac.compare_digest(form.pop(FORM_TOKEN, "").encode(), viewer.form_token.encode()):
        raise HTTPException(
            "this form is not of your log-in: load the page again, and then repeat it",
            status_code=403,
        )
    return form
