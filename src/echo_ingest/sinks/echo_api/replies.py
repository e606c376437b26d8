"""What the Echo API's replies mean: pure.

It has answered errors in four forms over the years: FastAPI's `{"detail": …}`, and an `error` that
is a word or an object, alone or in an envelope with a `status`. All of them become one line of
plain text, and the field that the first problem is about.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec
from msgspec import Struct

from echo_ingest.sinks import Refusal
from echo_ingest.sinks.plain_text import one_line

RETRY_AFTER_SECONDS_MAX = 3600.0
PROBLEMS_MAX = 5

MEANINGS = {
    408: "timed out",
    425: "too early",
    429: "too many requests",
    500: "internal error",
    502: "bad gateway",
    503: "out of service",
    504: "gateway timed out",
}


class Reply(Struct, frozen=True):
    """One answer, read to the end or as far as it matters."""

    status: int
    body: bytes
    retry_after_seconds: float | None = None
    location: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether it is a 2xx and no web page, such as the log-in page of a network in between."""
        return 200 <= self.status < 300 and self.body.lstrip()[:1] != b"<"

    def text(self) -> str:
        """Return the status and the API's own words, on one line."""
        words = plain_words(self.body).rstrip(".")  # the sentence goes on after it
        meaning = MEANINGS.get(self.status)
        status = f"{self.status} ({meaning})" if meaning else str(self.status)
        return one_line(
            f"the Echo API answered {status}: {words}"
            if words
            else f"the Echo API answered {status}"
        )


class BulkProblem(Struct, frozen=True):
    """Why one event of many was not taken."""

    index: int
    errors: object = None


class BulkReply(Struct, frozen=True):
    """The answer of `POST /detections/bulk`: 201 even where it took only some. Payload 67."""

    inserted: int
    rejected: int
    errors: list[BulkProblem]


def bulk_refusals(body: bytes, count: int) -> list[Refusal] | None:
    """Return a refusal for each event that was not taken, in the order of their places.

    None if the answer does not account for all `count` events that were sent.
    """
    try:
        reply = msgspec.json.decode(body, type=BulkReply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    problems = {each.index: each.errors for each in reply.errors if 0 <= each.index < count}
    is_whole = reply.inserted + reply.rejected == count and min(reply.inserted, reply.rejected) >= 0
    if not is_whole or not len(problems) == len(reply.errors) == reply.rejected:
        return None
    return [
        Refusal(
            index,
            one_line(f"the Echo API refused it: {_problems(errors)}"),
            field=_field(errors),
        )
        for index, errors in sorted(problems.items())
    ]


def upload_reference(body: bytes) -> str:
    """Return the id of an upload, by which an event can name it; "" if this version gives none."""
    match _parsed(body):
        case {"upload_id": str(upload_id)}:
            return upload_id
    return ""


def plain_words(body: bytes) -> str:
    """Return what an error says, in one line; "" if it says nothing that can be read."""
    match _parsed(body):
        case {"error": {"message": str(message), "details": [_, *_] as details}}:
            return one_line(f"{message} {_problems(details)}")
        case {"error": {"message": str(message)}} | {"error": str(), "message": str(message)}:
            return one_line(message)
        case {"detail": detail}:
            return one_line(_problems(detail))
        case {"error": str(message)} | {"message": str(message)}:
            return one_line(message)
    return ""


def problem_field(body: bytes) -> str | None:
    """Return the field that the first problem of an error is about; None if it names none."""
    match _parsed(body):
        case {"error": {"details": problems}} | {"detail": problems}:
            return _field(problems)
    return None


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that `Retry-After` asks to wait [RFC 9110, 10.2.3]; at most an hour."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)


def _parsed(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _problems(errors: object) -> str:
    """Turn pydantic's `[{"loc": ["body", "species"], "msg": …}]` into "species: …"."""
    if not isinstance(errors, list):
        return errors if isinstance(errors, str) else ""
    return "; ".join(_problem(error) for error in errors[:PROBLEMS_MAX])


def _problem(error: object) -> str:
    match error:
        case {"msg": str(text)}:
            path = _path(error)
            return f"{path}: {text}" if path else text
        case str(text):
            return text
    return ""


def _field(errors: object) -> str | None:
    """Return the dotted path of the first problem in pydantic's list; None if it has none."""
    path = one_line(_path(errors[0])) if isinstance(errors, list) and errors else ""
    return path or None


def _path(error: object) -> str:
    match error:
        case {"loc": [*path]}:
            return ".".join(str(step) for step in path if step != "body")
    return ""
