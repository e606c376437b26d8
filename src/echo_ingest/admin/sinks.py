"""A sink waits for a while, and goes on."""

from collections.abc import Collection
from contextlib import closing

from echo_ingest.admin import InvalidInput, journal_of
from echo_ingest.journal import SinkLedger
from echo_ingest.journal.reader import JournalReader
from echo_ingest.settings import Settings


def figures_of(
    settings: Settings, name: str, configured: Collection[str] = ()
) -> SinkLedger | None:
    """Return the figures of a sink; None if it is `configured` and has never run.

    Raises `InvalidInput` for a sink that is neither known nor configured.
    """
    with closing(JournalReader(settings.journal_path)) as archive:
        known = archive.ledger().sinks
    there_are = dict.fromkeys([*known, *configured])
    if name not in there_are:
        raise InvalidInput(
            f"there is no sink {name!r:.80}; there are: {', '.join(there_are) or 'none'}"
        )
    return known.get(name)


def pause(settings: Settings, name: str, configured: Collection[str] = ()) -> int | None:
    """Offer it nothing more; since when that was so already, in ms since 1970, else None."""
    figures = figures_of(settings, name, configured)
    if figures is not None and figures.paused_at_ms is not None:
        return figures.paused_at_ms
    with closing(journal_of(settings)) as journal:
        journal.add_sink(name)  # one that has never run may be paused before it does
        journal.pause(name)
    return None


def resume(settings: Settings, name: str, configured: Collection[str] = ()) -> int | None:
    """Let it go on; how many records wait for it, None if it was not paused."""
    figures = figures_of(settings, name, configured)
    if figures is None or figures.paused_at_ms is None:
        return None
    with closing(journal_of(settings)) as journal:
        journal.resume(name)
    return figures.backlog
