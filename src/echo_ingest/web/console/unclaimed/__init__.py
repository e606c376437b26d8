"""Unclaimed topics: what came where nothing expects it, what the broker denied, and what to do."""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from echo_ingest.admin.unclaimed import suggested_filter
from echo_ingest.gauges import DeniedMessages
from echo_ingest.ipc import NoAnswer
from echo_ingest.journal.reader import JournalReader
from echo_ingest.journal.unclaimed_topics import UnclaimedTopic
from echo_ingest.payload_view import readable
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.rendering import AnyRequest

TOPICS_SHOWN_MAX = 200
SAMPLE_CHARACTERS_MAX = 600
DENIED_SHOWN_MAX = 50


class TopicRow(Struct, frozen=True, kw_only=True):
    """A topic, as a line of the table."""

    about: UnclaimedTopic
    sample: str | None
    """The newest message that is kept, or its beginning."""
    suggested: str
    """The filter that the button takes in."""


class UnclaimedView(Struct, frozen=True, kw_only=True):
    """What `unclaimed.html` shows."""

    topics: Sequence[TopicRow]
    total: int
    """How many topics there are."""
    unclaimed: int
    """How many messages the ledger counts as unclaimed."""
    denied: Sequence[DeniedMessages]
    live: None = None


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """Return the page."""

    @get("/unclaimed")
    async def unclaimed(request: AnyRequest) -> Response[bytes]:
        """Show all topics that nothing has claimed, and what was denied."""
        topics, total, count = await sources.journal.ask(_topics)
        denied: Sequence[DeniedMessages] = ()
        with contextlib.suppress(NoAnswer):
            denied = (await sources.service.gauges()).denied
        view = UnclaimedView(
            topics=topics,
            total=total,
            unclaimed=count,
            denied=sorted(denied, key=lambda each: -each.messages)[:DENIED_SHOWN_MAX],
        )
        return sources.pages.page(request, "unclaimed.html", view, now=datetime.now(UTC))

    return [unclaimed]


def _topics(reader: JournalReader) -> tuple[list[TopicRow], int, int]:
    topics = reader.unclaimed_topics()
    rows = [_row(reader, each) for each in topics[:TOPICS_SHOWN_MAX]]
    return rows, len(topics), reader.ledger().unclaimed


def _row(reader: JournalReader, about: UnclaimedTopic) -> TopicRow:
    newest = reader.newest_unclaimed(about.topic, 1)
    sample = readable(newest[0].message.payload) if newest else None
    return TopicRow(
        about=about,
        sample=None if sample is None else sample[:SAMPLE_CHARACTERS_MAX],
        suggested=suggested_filter(about.topic),
    )
