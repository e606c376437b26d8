"""Overview."""

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from echo_ingest.web.console.page import AnyRequest
from echo_ingest.web.console.sources import Sources


def routes(sources: Sources) -> list[HTTPRouteHandler]:
    """The page."""

    @get("/", sync_to_thread=False)
    def overview(request: AnyRequest) -> Response[bytes]:
        """Overview."""
        return sources.pages.page(request, "overview.html", {})

    return [overview]
