"""What a person decides: what is tried again, which sink waits, which device may come in.

The command line and the console act through here, beside the service that runs: each decision is
one or more short transactions on the journal, or one change of the file of nodes.
"""

from echo_ingest.journal import Journal
from echo_ingest.settings import Settings


class ActionError(Exception):
    """It cannot be done as asked; the text says why, and what to do."""


class InvalidInput(ActionError):
    """What was typed can mean nothing here: a name, an address."""


def journal_of(settings: Settings) -> Journal:
    """The journal, to be written beside the service. Only where `JournalReader` has found it."""
    return Journal(
        settings.journal_path,
        bytes_max=settings.journal_bytes_max,
        disk_free_bytes_min=settings.disk_free_bytes_min,
    )
