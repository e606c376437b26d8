"""What the pages can ask."""

from msgspec import Struct

from echo_ingest.settings import Settings
from echo_ingest.web.console.rendering import PageRenderer
from echo_ingest.web.health import Service
from echo_ingest.web.reader import AlmanacThreads, JournalThreads, Middleware


class ConsoleContext(Struct, frozen=True):
    """The sources that each page gets once, when the routes are created."""

    service: Service
    """How the service is just now: cheap, in memory."""
    journal: JournalThreads
    """What was stored: in threads, a few at a time."""
    almanac: AlmanacThreads
    """The read model: most of a page comes from it, quickly."""
    pages: PageRenderer
    """Renders the answer."""
    settings: Settings
    """The configuration: the broker's address, the place of the files."""
    downloads: Middleware
    """Holds routes that send whole messages and clips to their turns."""
