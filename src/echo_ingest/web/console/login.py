"""Logging in and out."""

from typing import Any

from litestar import Response, get, post
from litestar.datastructures import Cookie
from litestar.exceptions import PermissionDeniedException
from litestar.handlers import HTTPRouteHandler
from litestar.response import Redirect
from msgspec import Struct

from echo_ingest.web.console.auth import cookie_name
from echo_ingest.web.console.rendering import AnyRequest, PageRenderer
from echo_ingest.web.console.sessions import SESSION_SECONDS, LoginSessions
from echo_ingest.web.failed_attempts import FailedAttempts
from echo_ingest.web.form_body import form_of
from echo_ingest.web.problems import log, peers_log
from echo_ingest.web.same_origin import is_by_tls, is_private, own_page

ADDRESS = "/console/login"
NOT_PRIVATE = (
    "Log-in needs HTTPS or a tunnel: your token would be sent unencrypted. Use a proxy with TLS "
    "that sets X-Forwarded-Proto: https, or open a tunnel from your machine, such as "
    "ssh -L 8080:localhost:8080 HOST, and then go to http://localhost:8080/console"
)


class LoginView(Struct, frozen=True, kw_only=True):
    """What the log-in page shows."""

    onward: str
    """The page that follows the log-in."""
    is_open: bool
    """Everybody may view the console; only changes need a log-in."""
    is_wrong: bool
    """The token that was sent was wrong."""
    problem: str | None
    """Why nobody can log in this way."""


def next_of(request: AnyRequest) -> str:
    """Return the page that was asked for, to be shown after the log-in."""
    query = f"?{request.url.query}" if request.url.query else ""
    return own_page(f"{request.url.path}{query}")


def routes(
    pages: PageRenderer, sessions: LoginSessions, failed: FailedAttempts, *, is_open: bool
) -> list[HTTPRouteHandler]:
    """Return the page to log in, and the actions of logging in and out."""

    def login_page(request: AnyRequest, onward: str, status_code: int = 200) -> Response[bytes]:
        view = LoginView(
            onward=onward,
            is_open=is_open,
            is_wrong=status_code != 200,
            problem=None if is_private(request.headers) else NOT_PRIVATE,
        )
        return pages.page(request, "login.html", view, status_code=status_code)

    @get("/login", sync_to_thread=False)
    def ask(request: AnyRequest) -> Response[bytes]:
        """Ask for a token."""
        return login_page(request, own_page(request.query_params.get("next", "")))

    @post("/login", status_code=303)
    async def log_in(request: AnyRequest) -> Response[Any]:
        """Begin a session with a token."""
        if not is_private(request.headers):
            raise PermissionDeniedException(NOT_PRIVATE)
        address = failed.let_try(request.scope)
        form = await form_of(request)
        onward = own_page(form.get("next", ""))
        role = sessions.role_of(form.get("token", "").strip())
        if role is None:
            failed.count(address)
            peers_log.warning("wrong token at the console", address=address)
            return login_page(request, onward, 401)
        log.info("logged in", role=role, address=address)
        cookie = _cookie(request, sessions.begin(role), SESSION_SECONDS[role])
        return Redirect(onward, status_code=303, cookies=[cookie])

    @post("/logout", status_code=303, sync_to_thread=False)
    def log_out(request: AnyRequest) -> Redirect:
        """Take the session from the browser."""
        return Redirect("/console", status_code=303, cookies=[_cookie(request, "", 0)])

    return [ask, log_in, log_out]


def _cookie(request: AnyRequest, value: str, seconds: int) -> Cookie:
    by_tls = is_by_tls(request.headers)
    return Cookie(
        key=cookie_name(request),
        value=value,
        max_age=seconds,
        path="/" if by_tls else "/console",
        secure=by_tls,
        httponly=True,
        samesite="strict",
    )
