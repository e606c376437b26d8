"""Refused."""

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from echo_ingest.web.console.page import AnyRequest
from echo_ingest.web.console.sources import Sources


def routes(sources: Sources) -> list[HTTPRouteHandler]:
    """The page."""

    @get("/refused", sync_to_thread=False)
    def refused(request: AnyRequest) -> Response[bytes]:
        """Refused."""
        return sources.pages.page(request, "refused.html", {})

    return [refused]
