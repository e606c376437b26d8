"""Say why a message is not in a form, for those who write the form. Pure."""

from echo_ingest.decode.errors import DecodeError, printable, quoted
from echo_ingest.decode.forms.documents import TABLES, Document, document
from echo_ingest.decode.forms.form import Form, Match
from echo_ingest.decode.forms.match import Arrived, captured, first_row, fit_of
from echo_ingest.decode.forms.paths import Step, has
from echo_ingest.record import Message

KEYS_SHOWN_MAX = 10


def misfit(form: Form, message: Message) -> str | None:
    """Return the first reason why a message is not in a form; None if it is in it."""
    arrived = Arrived(message)
    if fit_of(form, arrived) is not None:
        return None
    match = form.match
    if match.topics and all(captured(topic, arrived.levels) is None for topic in match.topics):
        patterns = " or ".join("/".join(topic) for topic in match.topics)
        return f"its topic is {quoted(printable(message.topic))}, and not like {patterns}"
    if match.opens is not None and match.opens.compiled.match(arrived.opening) is None:
        return f"it does not begin with {match.opens.compiled.pattern}"
    read = arrived.document(match)
    if read is None:
        return _unread(match, message.payload)
    return _missing(match, read) or "what `where` in [match] looks for is missing or empty"


def _unread(match: Match, payload: bytes) -> str:
    """Say why the payload is not of the type that the form names."""
    kind = "json" if match.payload == "list" else match.payload
    try:
        read = document(kind, payload, match.separator, match.columns)
    except DecodeError as error:
        return f'it is no payload = "{match.payload}": {error.rejected.render()}'
    if match.payload == "json" and read is None:
        return 'it is no object of JSON; is it payload = "list"?'
    if match.payload == "list" and read is not None:
        return 'it is no list of JSON; is it payload = "json"?'
    return f'it is no payload = "{match.payload}"'


def _missing(match: Match, read: Document) -> str | None:
    head = first_row(read) if match.payload in TABLES else read
    missing = [written(steps) for steps in match.has if not has(head, steps)]
    if not missing:
        return None
    keys = list(head)[:KEYS_SHOWN_MAX] if isinstance(head, dict) else []
    there = f"; there are {', '.join(map(printable, keys))}" if keys else ""
    return f"it has no {' and no '.join(missing)}{there}"


def written(steps: tuple[Step, ...]) -> str:
    """Write a plain path as it stands in a form."""
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".")
