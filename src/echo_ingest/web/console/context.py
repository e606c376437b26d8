"""What pages may ask."""

from msgspec import Struct

from echo_ingest.settings import Settings
from echo_ingest.web.console.rendering import PageRenderer
from echo_ingest.web.health import Service
from echo_ingest.web.reader import AlmanacThreads, JournalThreads


class ConsoleContext(Struct, frozen=True):
    """Handed to each page once, when the routes are made."""

    service: Service
    """How the house is just now: cheap, in memory."""
    journal: JournalThreads
    """What was stored: in threads, a few at a time."""
    almanac: AlmanacThreads
    """What was heard when: made ready, so that most of a page comes from it."""
    pages: PageRenderer
    """Makes the answer."""
    settings: Settings
    """How this house is set up: what its broker's address is, where its files are."""
