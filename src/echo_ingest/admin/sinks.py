"""Pausing and resuming the delivery to a sink."""

from collections.abc import Collection
from contextlib import closing

from echo_ingest.admin import InvalidInput, journal_of
from echo_ingest.journal import SinkLedger
from echo_ingest.journal.reader import JournalReader
from echo_ingest.settings import Settings


def figures_of(
    settings: Settings, name: str, configured: Collection[str] = ()
) -> SinkLedger | None:
    """Return a sink's part of the ledger; None if it is `configured` but has never run.

    Raises `InvalidInput` for a sink that is neither in the journal nor configured.
    """
    with closing(JournalReader(settings.journal_path)) as reader:
        known = reader.ledger().sinks
    names = dict.fromkeys([*known, *configured])
    if name not in names:
        raise InvalidInput(
            f"there is no sink {name!r:.80}; "
            + (f"the sinks are: {', '.join(names)}" if names else "no sink is configured")
        )
    return known.get(name)


def pause(settings: Settings, name: str, configured: Collection[str] = ()) -> int | None:
    """Pause delivery to a sink; if it was paused already, return since when, in ms since 1970."""
    figures = figures_of(settings, name, configured)
    if figures is not None and figures.paused_at_ms is not None:
        return figures.paused_at_ms
    with closing(journal_of(settings)) as journal:
        journal.add_sink(name)  # a sink can be paused before it first runs
        journal.pause(name)
    return None


def resume(settings: Settings, name: str, configured: Collection[str] = ()) -> int | None:
    """Resume delivery to a sink; return the size of its backlog, or None if it was not paused."""
    figures = figures_of(settings, name, configured)
    if figures is None or figures.paused_at_ms is None:
        return None
    with closing(journal_of(settings)) as journal:
        journal.resume(name)
    return figures.backlog
