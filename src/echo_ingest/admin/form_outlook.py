"""What would become of dead letters by one form, before anything is changed."""

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct

from echo_ingest.admin.dead_letters import DAMAGED
from echo_ingest.decode.forms import Form, Forms
from echo_ingest.decode.forms.trial import try_form
from echo_ingest.decode.rules import Rules
from echo_ingest.journal.entries import DeadLetterEntry
from echo_ingest.record import Ignored, Rejected


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


def outlook(dead_letters: Iterable[DeadLetterEntry], form: Form, rules: Rules) -> Outlook:
    """Try a form with dead letters; nothing is changed."""
    found = Outlook()
    for dead_letter in dead_letters:
        if dead_letter.damaged:
            found.rejected[DAMAGED] += 1
            continue
        trial = try_form(form, dead_letter.message, rules)
        if isinstance(trial.outcome, Ignored):
            found.ignored += 1
        elif isinstance(trial.outcome, Rejected):
            found.rejected[trial.outcome] += 1
        elif trial.outcome is None:
            found.misfits[trial.misfit or ""] += 1
        else:
            found.messages += 1
            found.records.update(
                str(type(record).__struct_config__.tag) for record in trial.records
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
