"""Calls."""

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from echo_ingest.web.console.page import AnyRequest
from echo_ingest.web.console.sources import Sources


def routes(sources: Sources) -> list[HTTPRouteHandler]:
    """The page."""

    @get("/calls", sync_to_thread=False)
    def calls(request: AnyRequest) -> Response[bytes]:
        """Calls."""
        return sources.pages.page(request, "calls.html", {})

    return [calls]
