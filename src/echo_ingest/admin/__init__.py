"""Actions of an operator: retry messages, pause and resume sinks, manage nodes' credentials.

The command line and the console use these functions while the service runs. Each action is one or
more short transactions on the journal, or one change of the nodes file.
"""

from echo_ingest.journal import Journal
from echo_ingest.settings import Settings


class ActionError(Exception):
    """The action is not possible; the text says why, and what to do."""


class InvalidInput(ActionError):
    """A value that was given, such as a name or an address, is not valid."""


def journal_of(settings: Settings) -> Journal:
    """Open the journal for writing beside the service; a `JournalReader` must have found it."""
    return Journal(
        settings.journal_path,
        bytes_max=settings.journal_bytes_max,
        disk_free_bytes_min=settings.disk_free_bytes_min,
    )
