"""What would become of kept messages by one form, before anything is changed."""

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct

from echo_ingest.admin.dead_letters import DAMAGED
from echo_ingest.decode.forms import Form, Forms
from echo_ingest.decode.forms.misfit import misfit
from echo_ingest.decode.rules import Rules
from echo_ingest.journal.entries import DeadLetterEntry
from echo_ingest.journal.unclaimed_topics import UnclaimedEntry
from echo_ingest.record import Ignored, Rejected

KeptEntry = DeadLetterEntry | UnclaimedEntry
"""A message that is kept, though it is no record."""


class Outlook(Struct):
    """How many messages would become what."""

    messages: int = 0
    """How many would be stored."""
    records: Counter[str] = msgspec.field(default_factory=Counter[str])
    """Kind of record → how many of them these messages would become."""
    ignored: int = 0
    rejected: Counter[Rejected] = msgspec.field(default_factory=Counter[Rejected])
    misfits: Counter[str] = msgspec.field(default_factory=Counter[str])
    """Why others are not in the form → how many."""

    @property
    def tried(self) -> int:
        """Return how many messages were tried."""
        left = self.ignored + self.rejected.total() + self.misfits.total()
        return self.messages + left


def outlook(kept: Iterable[KeptEntry], form: Form, rules: Rules) -> Outlook:
    """Try a form with messages that are kept; nothing is changed."""
    found = Outlook()
    for entry in kept:
        if entry.damaged:
            found.rejected[DAMAGED] += 1
            continue
        decoded = Forms.decoded_as(form, entry.message, rules, hashed=False)
        if isinstance(decoded, Ignored):
            found.ignored += 1
        elif isinstance(decoded, Rejected):
            found.rejected[decoded] += 1
        elif decoded is None:
            found.misfits[misfit(form, entry.message) or ""] += 1
        else:
            found.messages += 1
            found.records.update(
                str(type(record).__struct_config__.tag) for record in decoded.records
            )
    return found


def in_form(
    dead_letters: Iterable[DeadLetterEntry], forms: Forms, form: Form
) -> Iterator[DeadLetterEntry]:
    """Yield the dead letters that a form in use would take, before any other."""
    for dead_letter in dead_letters:
        fit = forms.fit(dead_letter.message)
        if fit is not None and fit.form.name == form.name:
            yield dead_letter
