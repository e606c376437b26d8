"""Removing dead letters for good: counted, by the reason for which they had been rejected."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import apsw
from msgspec import Struct

from echo_ingest.journal.node_days import EPOCH, REPLAY_NODE_DAY, discarded_on
from echo_ingest.journal.receipt_days import DAY_MS, day_of, passed_row

UPSERT_DISCARDED_DAY = """
    INSERT INTO discarded_day VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET messages = messages + excluded.messages"""
OLDEST = """
    SELECT id FROM (SELECT id, received_at_ms FROM dead_letter ORDER BY id LIMIT :most)
    WHERE (received_at_ms < :before OR received_at_ms > :now)
    AND received_at_ms / :day_ms NOT IN (SELECT day FROM receipt_day WHERE id >= :since)"""
"""No day on which they were received, or may have been by a wrong clock, was seen `since`."""


class DiscardedDay(Struct, frozen=True):
    """How many dead letters were discarded on one day, by the reason for them."""

    code: str
    """The `ReasonCode`; empty in dead letters of version 1."""
    day: date
    """The day on which they were discarded, in UTC."""
    messages: int


def discard(db: apsw.Connection, numbers: Sequence[int], now_ms: int) -> int:
    """Remove these dead letters and return how many there were; part of the caller's transaction.

    In the ledger, and in that by node and day, they are discarded from now on.
    """
    codes: Counter[str] = Counter()
    node_days = []
    for number in numbers:
        row = db.execute(
            "DELETE FROM dead_letter WHERE id = ? RETURNING code, node, received_at_ms", (number,)
        ).fetchone()
        if row is not None:
            code, node, received_at_ms = row
            codes[code or ""] += 1
            node_days.append(discarded_on(node, received_at_ms))
    if node_days:
        today = day_of(now_ms)
        rows = [(code, today, count) for code, count in codes.items()]
        db.executemany(UPSERT_DISCARDED_DAY, rows)
        db.executemany(REPLAY_NODE_DAY, node_days)
        db.execute(
            "UPDATE ledger SET dead_letters = dead_letters - ?1, discarded = discarded + ?1",
            (len(node_days),),
        )
    return len(node_days)


def old(
    db: apsw.Connection, received_before_ms: int, letters_max: int, days: int, now_ms: int
) -> list[int]:
    """Return dead letters of before that time, after which so many days were seen to pass.

    As for records, a time of receipt after `now_ms` says nothing.
    """
    since = passed_row(db, days)
    if since is None:
        return []
    bindings = {
        **{"most": letters_max, "before": received_before_ms, "now": now_ms},
        **{"day_ms": DAY_MS, "since": since},
    }
    rows: list[Any] = db.execute(OLDEST, bindings).fetchall()
    return [number for (number,) in rows]


def read_discarded_days(db: apsw.Connection, since: date | None, limit: int) -> list[DiscardedDay]:
    """Return the days, the newest first, then by reason; `since` narrows them down."""
    rows: list[Any] = db.execute(
        "SELECT code, day, messages FROM discarded_day WHERE day >= ?"
        " ORDER BY day DESC, code LIMIT ?",
        (0 if since is None else (since - EPOCH).days, limit),
    ).fetchall()
    return [DiscardedDay(code, EPOCH + timedelta(days=day), count) for code, day, count in rows]
