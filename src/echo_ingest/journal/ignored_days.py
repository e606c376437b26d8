"""How many messages each form has ignored, by day: they are counted, and not kept."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta

import apsw
from msgspec import Struct

from echo_ingest.journal.node_days import EPOCH
from echo_ingest.journal.plan import Arrival
from echo_ingest.journal.receipt_days import DAY_MS
from echo_ingest.record import Ignored, Outcome

UPSERT_IGNORED_DAY = """
    INSERT INTO ignored_day VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET messages = messages + excluded.messages"""


class IgnoredDay(Struct, frozen=True):
    """How many messages a form has ignored on one day."""

    form: str
    day: date
    """The day of receipt, in UTC."""
    messages: int


def ignored_days(
    arrivals: Sequence[Arrival], outcomes: Sequence[Outcome]
) -> list[tuple[str, int, int]]:
    """Return what a batch adds to `ignored_day`: one that the broker sent again is a duplicate."""
    counts = Counter(
        (outcome.form, message.received_at_ms // DAY_MS)
        for (message, _), outcome in zip(arrivals, outcomes, strict=True)
        if type(outcome) is Ignored
    )
    return [(form, day, count) for (form, day), count in counts.items()]


def read_ignored_days(db: apsw.Connection, since: date | None, limit: int) -> list[IgnoredDay]:
    """Return the days, the newest first, then by form; `since` narrows them down."""
    rows = db.execute(
        "SELECT form, day, messages FROM ignored_day WHERE day >= ?"
        " ORDER BY day DESC, form LIMIT ?",
        (0 if since is None else (since - EPOCH).days, limit),
    )
    return [IgnoredDay(form, EPOCH + timedelta(days=day), count) for form, day, count in rows]
