"""Nodes."""

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from echo_ingest.web.console.page import AnyRequest
from echo_ingest.web.console.sources import Sources


def routes(sources: Sources) -> list[HTTPRouteHandler]:
    """The page."""

    @get("/nodes", sync_to_thread=False)
    def nodes(request: AnyRequest) -> Response[bytes]:
        """Nodes."""
        return sources.pages.page(request, "nodes.html", {})

    return [nodes]
