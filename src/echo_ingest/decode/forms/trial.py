"""Try a form with one message: what becomes of it, what nobody read, and what is odd. Pure.

The command line and the console show the same.
"""

import re
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from echo_ingest.decode.forms import Forms
from echo_ingest.decode.forms.form import Form
from echo_ingest.decode.forms.interpret import DecodedByForm, interpret
from echo_ingest.decode.forms.match import Arrived, Fit, fit_of
from echo_ingest.decode.forms.misfit import misfit
from echo_ingest.decode.forms.tracing import rejection_hints, unread, warnings
from echo_ingest.decode.rules import Rules
from echo_ingest.formatting import utc
from echo_ingest.record import AnyRecord, Ignored, Message, Rejected

Became = tuple[AnyRecord, ...] | Rejected | Ignored | None
"""What became of a message; None: it is in no form."""
_CAPTURED = re.compile(r"\{(\w+)\}")


class Trial(Struct, frozen=True):
    """What became of a message that was tried."""

    form: Form | None
    """The form that it is in, or that it was tried with; None: it is in no form."""
    outcome: DecodedByForm | Rejected | Ignored | None
    """None: it is not in the form."""
    unread: tuple[str, ...] = ()
    """The paths of values that no field of the form read."""
    warnings: tuple[str, ...] = ()
    misfit: str | None = None
    """Why it is not in the form that it was tried with."""

    @property
    def records(self) -> tuple[AnyRecord, ...]:
        """Return the records, if it became any."""
        return self.outcome.records if isinstance(self.outcome, DecodedByForm) else ()

    @property
    def became(self) -> Became:
        """Return what `expectation` writes down."""
        return self.outcome.records if isinstance(self.outcome, DecodedByForm) else self.outcome


def try_forms(forms: Forms, message: Message, rules: Rules) -> Trial:
    """Try a message as if it arrived now: with the first form that fits."""
    fit = forms.fit(message)
    return Trial(None, None) if fit is None else _tried(fit, message, rules)


def try_form(form: Form, message: Message, rules: Rules) -> Trial:
    """Try a message with one form."""
    fit = fit_of(form, Arrived(message))
    if fit is None:
        return Trial(form, None, misfit=misfit(form, message))
    return _tried(fit, message, rules)


def _tried(fit: Fit, message: Message, rules: Rules) -> Trial:
    outcome = interpret(fit, message, rules, hashed=True)
    if isinstance(outcome, Rejected):
        return Trial(fit.form, outcome, warnings=rejection_hints(fit.form, outcome))
    if not isinstance(outcome, DecodedByForm):
        return Trial(fit.form, outcome)
    left = unread(fit, message, rules)
    return Trial(fit.form, outcome, left, warnings(outcome, fit, message))


def topic_like(form: Form) -> str | None:
    """Return a topic that fits a form, where it goes by topic: `{node}` is called `node`."""
    if not form.match.topics:
        return None
    levels = [level for level in form.match.topics[0] if level != "#"]
    return "/".join("any" if level == "+" else _CAPTURED.sub(r"\1", level) for level in levels)


def expectation(
    message: Message,
    zone: ZoneInfo | None,
    became: Became,
) -> dict[str, object]:
    """Return what stands in `expected.json` beside an example: where it came from, and became."""
    shown: dict[str, object] = {
        "topic": message.topic,
        "received_at": utc(message.received_at_ms).isoformat().replace("+00:00", "Z"),
    }
    if message.node is not None:
        shown["node"] = message.node
    if zone is not None:
        shown["zone"] = zone.key
    if isinstance(became, Rejected):
        shown["rejected"] = became.render()
    elif isinstance(became, Ignored):
        shown["ignored"] = became.form
    elif became is not None:
        shown["records"] = msgspec.to_builtins(list(became))
    return shown
