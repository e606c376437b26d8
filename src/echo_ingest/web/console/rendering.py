"""How a page is rendered: a template, the words it may use, and the headers that go with it.

A page's handler asks for data and hands its template one view: a frozen Struct, whose fields are
the template's variables; `view` is the Struct itself, for its properties. Templates only show. In
every template there are also: all of `formatting` that returns text, as filters that know the
viewer's zone; `zone`, `now` and `viewer`; `asset(name)`, the address of a built file. A template
sets `here`, the name of the page's section.
"""

import gzip
import secrets
from collections.abc import Callable, Iterable, Mapping
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
from msgspec import Struct, json
from msgspec.structs import asdict

import echo_ingest
from echo_ingest.payload_view import printable
from echo_ingest.sinks.registry import title_of
from echo_ingest.web.console import flash, formatting
from echo_ingest.web.console.assets import AssetBundle
from echo_ingest.web.console.auth import NOBODY, Viewer, viewer_of
from echo_ingest.web.console.common_names import known_as
from echo_ingest.web.console.flash import FlashMessages
from echo_ingest.web.console.node_address import node_address
from echo_ingest.web.same_origin import is_by_tls

AnyRequest = Request[object, object, State]
ZONE_COOKIE = "zone"
GZIP_FROM_BYTES = 1_000
GZIP_LEVEL = 5
TEXT_CHARACTERS_MAX = 4_000
"""Of one value; payloads are shown in lines that are shorter."""
SPACES = "\n\t\xa0\u2009\u202f"
HTML = "text/html"


def zone_of(request: AnyRequest) -> ZoneInfo:
    """Return the zone that the browser has given as its own; UTC until it has."""
    return formatting.zone_called(unquote(request.cookies.get(ZONE_COOKIE, "")))


class PageRenderer:
    """Renders templates as pages and as parts of pages."""

    def __init__(self, bundle: AssetBundle, tiles: str | None = None) -> None:
        """Take `IOT_MAP_TILES` as `tiles`: the only other host that a page may load from."""
        self.bundle = bundle
        self.tiles = tiles
        self.flash = FlashMessages()
        self._tiles_host = ""
        if tiles is not None:
            self._tiles_host = " https://" + urlsplit(tiles).netloc.replace("{s}", "*")
        self._templates = _environment(bundle)

    def page(
        self,
        request: AnyRequest,
        template: str,
        view: Struct,
        *,
        status_code: int = 200,
        headers: dict[str, str] | None = None,
        now: datetime | None = None,
    ) -> Response[bytes]:
        """Return the whole page, gzipped if the browser takes that."""
        nonce = secrets.token_urlsafe(16)
        flash_message = self.flash.read(request.cookies.get(flash.COOKIE))
        html = self._render(
            template,
            {
                "path": request.url.path,
                "nonce": nonce,
                "tiles": self.tiles,
                "viewer": viewer_of(request),
                "flash_message": flash_message,
                "zone": zone_of(request),
                "now": now or datetime.now(UTC),
            },
            view,
        ).encode()
        sent = {"Content-Security-Policy": self._policy(nonce), **POLICIES, **(headers or {})}
        if len(html) >= GZIP_FROM_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
            html = gzip.compress(html, GZIP_LEVEL, mtime=0)
            sent["Content-Encoding"] = "gzip"
        cookies = [flash.expired(by_tls=is_by_tls(request.headers))] if flash_message else []
        return Response(
            html, status_code=status_code, headers=sent, media_type=HTML, cookies=cookies
        )

    def fragment(
        self,
        template: str,
        view: Struct,
        zone: ZoneInfo,
        now: datetime | None = None,
        viewer: Viewer = NOBODY,
    ) -> str:
        """Return a part of a page, for the page itself and for the stream of changes."""
        shared = {"viewer": viewer, "zone": zone, "now": now or datetime.now(UTC)}
        return self._render(template, shared, view)

    def _render(self, template: str, shared: Mapping[str, Any], view: Struct) -> str:
        """Render a template with the fields of `view`, a frozen Struct, as its variables."""
        return self._templates.get_template(template).render({**shared, **asdict(view)})

    def _policy(self, nonce: str) -> str:
        """Forbid other hosts, except for tiles where they are switched on, and anything inline.

        The nonce is for styles alone: a waveform brings its own, in a shadow tree.
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
        formatting.duration,
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
        finalize=shown,
    )
    environment.globals |= {
        "asset": bundle.address,
        "is_built": bundle.is_built,
        "version": echo_ingest.__version__,
        "known_as": known_as,
        "query": query,
        "node_address": node_address,
    }
    environment.filters |= {word.__name__: word for word in PLAIN}
    environment.filters["sink_title"] = title_of
    environment.filters |= {
        "ago": _ago,
        "clock": _clock,
        "moment": _moment,
        "moment_short": _moment_short,
        "data": data,
    }
    return environment


def shown(value: object) -> object:
    """Return what a template shows of a value: of a text, what can be seen and fits on a page.

    A name that a device gives itself must neither hide nor turn the text around it (U+202E).
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    if len(value) > TEXT_CHARACTERS_MAX:
        value = f"{value[:TEXT_CHARACTERS_MAX]}…"
    return printable(value, keep=SPACES)


def data(value: object) -> Markup:
    """Return JSON for `<script type="application/json">`: nothing in it can end the element.

    All of it can be seen, as in `shown`: control characters are escaped by JSON itself.
    """
    text = json.encode(value).decode()
    if not text.isprintable():
        text = "".join(printable(c, keep=SPACES).replace("\\", "\\\\") for c in text)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - escaped


def query(path: str, given: dict[str, object], **changed: object) -> str:
    """Return `path` with the parameters `given`, some of them changed; leave empty ones out."""
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
