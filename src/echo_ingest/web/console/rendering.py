"""How a page is made: a template, the words it may use, and the headers that go with it.

A page's handler asks for data and calls `page`; templates only show. In every template there are:
all of `words` that makes text, with the viewer's zone filled in; `zone` and `now`; `asset(name)`,
the address of a built file; `here`, the name of the page's section.
"""

import gzip
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from litestar import Request, Response
from litestar.datastructures import State
from markupsafe import Markup
from msgspec import json

import echo_ingest
from echo_ingest.web.console import flash, formatting
from echo_ingest.web.console.assets import AssetBundle
from echo_ingest.web.console.auth import NOBODY, viewer_of
from echo_ingest.web.console.flash import FlashMessages
from echo_ingest.web.same_origin import is_by_tls

AnyRequest = Request[object, object, State]

ZONE_COOKIE = "zone"
GZIP_FROM_BYTES = 1_000
GZIP_LEVEL = 5
HTML = "text/html"


def zone_of(request: AnyRequest) -> ZoneInfo:
    """The zone that the browser has said is its own; UTC until it has."""
    return formatting.zone_called(unquote(request.cookies.get(ZONE_COOKIE, "")))


class PageRenderer:
    """Makes pages of templates."""

    def __init__(self, bundle: AssetBundle, tiles: str | None = None) -> None:
        """`tiles` is `IOT_MAP_TILES`: the only other host that a page may load from."""
        self.bundle = bundle
        self.tiles = tiles
        self.told = FlashMessages()
        self._tiles_host = ""
        if tiles is not None:
            self._tiles_host = " https://" + urlsplit(tiles).netloc.replace("{s}", "*")
        self._templates = _environment(bundle)

    def page(
        self,
        request: AnyRequest,
        template: str,
        values: dict[str, Any],
        *,
        status_code: int = 200,
        headers: dict[str, str] | None = None,
    ) -> Response[bytes]:
        """The whole page, gzipped if the browser takes that."""
        nonce = secrets.token_urlsafe(16)
        words_told = self.told.by(request.cookies.get(flash.COOKIE))
        html = self.fragment(
            template,
            {
                "path": request.url.path,
                "nonce": nonce,
                "tiles": self.tiles,
                "viewer": viewer_of(request),
                "told": words_told,
                **values,
            },
            zone_of(request),
        ).encode()
        sent = {"Content-Security-Policy": self._policy(nonce), **POLICIES, **(headers or {})}
        if len(html) >= GZIP_FROM_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
            html = gzip.compress(html, GZIP_LEVEL, mtime=0)
            sent["Content-Encoding"] = "gzip"
        return Response(
            html,
            status_code=status_code,
            headers=sent,
            media_type=HTML,
            cookies=[flash.said(by_tls=is_by_tls(request.headers))] if words_told else [],
        )

    def fragment(
        self, template: str, values: dict[str, Any], zone: ZoneInfo, now: datetime | None = None
    ) -> str:
        """A part of a page, as it stands in the page and comes again by the stream of changes."""
        shown = {
            "viewer": NOBODY,
            "told": None,
            "zone": zone,
            "now": now or datetime.now(UTC),
            **values,
        }
        return self._templates.get_template(template).render(shown)

    def _policy(self, nonce: str) -> str:
        """Nothing from another host but tiles where they are switched on, nothing inline.

        The nonce is for styles alone: a waveform brings its own, in a shadow of the page.
        """
        return (
            f"default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; "
            f"font-src 'self'; connect-src 'self'; "
            f"img-src 'self' data: blob:{self._tiles_host}; media-src 'self' blob:; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )


POLICIES = {
    "Vary": "Accept-Encoding, Cookie",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

PLAIN: Iterable[Callable[..., object]] = (
    *(
        formatting.number,
        formatting.with_unit,
        formatting.counted,
        formatting.size,
        formatting.per_second,
        formatting.span,
    ),
    *(formatting.iso, formatting.day, formatting.night_name),
)


def _environment(bundle: AssetBundle) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {
        "asset": bundle.address,
        "is_built": bundle.is_built,
        "version": echo_ingest.__version__,
        "query": query,
    }
    environment.filters |= {word.__name__: word for word in PLAIN}
    environment.filters |= {
        "ago": _ago,
        "clock": _clock,
        "moment": _moment,
        "moment_short": _moment_short,
        "data": data,
    }
    return environment


def data(value: object) -> Markup:
    """A value as JSON for `<script type="application/json">`: nothing in it can end the element."""
    text = json.encode(value).decode()
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))  # noqa: S704 - escaped


def query(path: str, given: dict[str, object], **changed: object) -> str:
    """`path` with the parameters of `given`, some of them changed; empty ones are left out."""
    wanted = {
        name: value for name, value in {**given, **changed}.items() if value not in (None, "")
    }
    return f"{path}?{urlencode(wanted, doseq=True)}" if wanted else path


@pass_context
def _ago(context: Context, when: formatting.Moment) -> str:
    return formatting.ago(when, context["now"])


@pass_context
def _clock(context: Context, when: formatting.Moment) -> str:
    return formatting.clock(when, context["zone"])


@pass_context
def _moment(context: Context, when: formatting.Moment) -> str:
    return formatting.moment(when, context["zone"])


@pass_context
def _moment_short(context: Context, when: formatting.Moment) -> str:
    return formatting.moment_short(when, context["now"], context["zone"])
