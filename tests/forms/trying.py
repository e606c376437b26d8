"""Forms and messages for tests: a form as TOML, a payload, and what comes out."""

import json
from zoneinfo import ZoneInfo

from echo_ingest.decode.forms import Form, FormError, Forms
from echo_ingest.decode.forms.reading import read
from echo_ingest.decode.rules import Rules
from echo_ingest.record import AnyRecord, Ignored, Message, Rejected

RECEIVED_AT_MS = 1_791_145_860_000  # 2026-10-04T20:31:00Z
MELBOURNE = Rules(zone=ZoneInfo("Australia/Melbourne"))
NO_ZONE = Rules()

HEAD = 'name = "try"\n[match]\nhas = ["x"]\n'
DETECTION = HEAD + '[[record]]\nkind = "detection"\nspecies = "x"\n'
MEASUREMENT = HEAD + '[[record]]\nkind = "measurement"\nname = { value = "it" }\n'


def message(payload: object, topic: str = "t/one", node: str | None = None) -> Message:
    """Return a message whose payload is given as bytes or as something to encode as JSON."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Message(topic, data, RECEIVED_AT_MS, node=node)


def form(text: str) -> Form:
    """Return the form that a text is."""
    result = read(text.encode())
    assert isinstance(result, Form), result
    return result


def errors(text: str) -> tuple[FormError, ...]:
    """Return what is wrong with a text that is no form."""
    result = read(text.encode())
    assert not isinstance(result, Form)
    return result


def forms(*texts: str) -> Forms:
    """Return forms that are tried in this order."""
    made = Forms.of_sources((f"{number}.toml", text.encode()) for number, text in enumerate(texts))
    assert not made.errors, made.errors
    return made


def outcome(
    text: str, arrived: Message, rules: Rules = NO_ZONE
) -> tuple[AnyRecord, ...] | Rejected | Ignored | None:
    """Return what the form makes of the message."""
    return forms(text).decode(arrived, rules)


def records(text: str, arrived: Message, rules: Rules = NO_ZONE) -> tuple[AnyRecord, ...]:
    """Return the records that the form makes of the message."""
    made = outcome(text, arrived, rules)
    assert isinstance(made, tuple), made
    return made


def rejected(text: str, arrived: Message, rules: Rules = NO_ZONE) -> Rejected:
    """Return why the form makes no record of the message."""
    made = outcome(text, arrived, rules)
    assert isinstance(made, Rejected), made
    assert len(made.render()) <= 200
    return made
