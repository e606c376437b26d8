"""The ledger by node and day: which nodes sent messages, when, and what became of these."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import apsw
from msgspec import Struct

from echo_ingest.journal.plan import Arrival, Row
from echo_ingest.journal.receipt_days import DAY_MS
from echo_ingest.record import (
    DeadLetter,
    Duplicate,
    Identity,
    Ignored,
    Message,
    Outcome,
    Stored,
    Unclaimed,
    node_of,
)

HEARD_WITHIN_MS = {"hour": DAY_MS // 24, "day": DAY_MS, "week": 7 * DAY_MS}
EPOCH = date(1970, 1, 1)

CREDIBLE_AHEAD_MS = DAY_MS // 24
"""What was heard later than this from now was heard while the clock of the machine was wrong."""

REPLAY_NODE_DAY = """
    INSERT INTO node_day VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    received = received + excluded.received, stored = stored + excluded.stored,
    duplicates = duplicates + excluded.duplicates,
    dead_letters = dead_letters + excluded.dead_letters,
    ignored = ignored + excluded.ignored, unclaimed = unclaimed + excluded.unclaimed,
    discarded = discarded + excluded.discarded,
    received_bytes = received_bytes + excluded.received_bytes"""
UPSERT_NODE_DAY = f"""{REPLAY_NODE_DAY},
    first_heard_at_ms = min(first_heard_at_ms, excluded.first_heard_at_ms),
    last_heard_at_ms = iif(last_heard_at_ms > excluded.last_heard_at_ms + {CREDIBLE_AHEAD_MS},
        excluded.last_heard_at_ms, max(last_heard_at_ms, excluded.last_heard_at_ms))"""
"""A clock that was set back was wrong before: then the message that came later is the last one."""


class NodeDay(Struct, frozen=True):
    """What one node sent on one day; the terms add up as those of the whole ledger do."""

    node: str
    """The topic level after the ingestion prefix; empty for messages without one."""
    day: date
    """The day of receipt, in UTC."""
    received: int
    stored: int
    duplicates: int
    dead_letters: int
    received_bytes: int
    first_heard_at_ms: int
    last_heard_at_ms: int
    ignored: int = 0
    unclaimed: int = 0
    discarded: int = 0


_PLACES: dict[type[Outcome], int] = {
    Stored: 1,
    Duplicate: 2,
    DeadLetter: 3,
    Ignored: 7,
    Unclaimed: 8,
}
"""Where each outcome is counted in a row, after node and day."""


def tally(arrivals: Sequence[Arrival], outcomes: Sequence[Outcome]) -> list[tuple[Any, ...]]:
    """Return what a batch adds to `node_day`: a row for each node and day in it."""
    alike: dict[tuple[str | None, int, type[Outcome]], list[int]] = {}
    for (message, decoded), outcome in zip(arrivals, outcomes, strict=True):
        node = message.node
        if type(decoded) is Identity and decoded.node is not None:
            node = _counted_for(message, decoded, outcome)
        group = node, message.received_at_ms, type(outcome)
        counts = alike.get(group)
        if counts is None:
            counts = alike[group] = [0, 0]
        counts[0] += 1
        counts[1] += len(message.payload)
    sums: dict[tuple[str, int], list[int]] = {}
    for (node, heard_at_ms, of_type), (count, size_bytes) in alike.items():
        day = node or "", heard_at_ms // DAY_MS
        sum_ = sums.setdefault(day, [0, 0, 0, 0, 0, heard_at_ms, heard_at_ms, 0, 0, 0])
        sum_[0] += count
        sum_[_PLACES[of_type]] += count
        sum_[4] += size_bytes
        sum_[5] = min(sum_[5], heard_at_ms)
        sum_[6] = max(sum_[6], heard_at_ms)
    return [(*node_day, *sum_) for node_day, sum_ in sums.items()]


def _counted_for(message: Message, decoded: object, outcome: Outcome) -> str | None:
    """Return the node for which a message counts: a dead letter is kept with that of its topic."""
    return message.node if type(outcome) is DeadLetter else node_of(message, decoded)


def replayed(
    message: Message, decoded: object, outcome: Outcome, was: type[Outcome] = DeadLetter
) -> list[Row]:
    """Return what changes in `node_day` when a dead letter becomes something else now.

    Its form may know another node than its topic named: then it counts as received from that one.
    """
    heard_at_ms, size_bytes = message.received_at_ms, len(message.payload)
    day, heard = heard_at_ms // DAY_MS, (heard_at_ms, heard_at_ms)
    before, after = message.node or "", _counted_for(message, decoded, outcome) or ""
    moved = int(before != after)
    counts = [moved, 0, 0, 0, moved * size_bytes, *heard, 0, 0, 0]
    counts[_PLACES[type(outcome)]] += 1
    left = [-moved, 0, 0, 0, -moved * size_bytes, *heard, 0, 0, 0]
    left[_PLACES[was]] -= 1
    return [(before, day, *left), (after, day, *counts)]


def discarded_on(node: str | None, received_at_ms: int) -> Row:
    """Return what changes in `node_day` when a dead letter is discarded."""
    heard = (received_at_ms, received_at_ms)
    return (node or "", received_at_ms // DAY_MS, 0, 0, 0, -1, 0, *heard, 0, 0, 1)


def of_another_node(before: str | None, after: str | None, message: Message) -> list[Row]:
    """Return what changes in `node_day` when a stored message belongs to another node now."""
    if before == after:
        return []
    heard_at_ms, size_bytes = message.received_at_ms, len(message.payload)
    day, rest = heard_at_ms // DAY_MS, (heard_at_ms, heard_at_ms, 0, 0, 0)
    return [
        (before or "", day, -1, -1, 0, 0, -size_bytes, *rest),
        (after or "", day, 1, 1, 0, 0, size_bytes, *rest),
    ]


class NodeContact(Struct, frozen=True):
    """When a node was last heard, and how often today."""

    last_heard_at_ms: int
    received_today: int


def read_last_heard(db: apsw.Connection, now_ms: int) -> dict[str, NodeContact]:
    """Return every node that was ever heard, by name; days that are still to come do not count.

    Such days were noted while the clock of the machine was wrong. A node that has no other was
    heard all the same: then the earliest counts.
    """
    rows = db.execute(
        "SELECT node, coalesce(max(last_heard_at_ms) FILTER (WHERE day <= ?2),"
        "  min(first_heard_at_ms)), sum(iif(day = ?1, received, 0)) FROM node_day GROUP BY node",
        (now_ms // DAY_MS, (now_ms + CREDIBLE_AHEAD_MS) // DAY_MS),
    )
    return {node: NodeContact(*counts) for node, *counts in rows}


def read_node_days(
    db: apsw.Connection, node: str | None, since: date | None, limit: int
) -> list[NodeDay]:
    """Return the days, the newest first, then by node; `node` and `since` narrow them down."""
    rows = db.execute(
        "SELECT * FROM node_day WHERE (?1 IS NULL OR node = ?1) AND day >= ?2"
        " ORDER BY day DESC, node LIMIT ?3",
        (node, (since - EPOCH).days if since is not None else 0, limit),
    )
    return [NodeDay(name, EPOCH + timedelta(days=day), *counts) for name, day, *counts in rows]


def nodes_heard(db: apsw.Connection, now_ms: int) -> dict[str, int]:
    """Return how many nodes were heard within each span of `HEARD_WITHIN_MS`.

    It takes two steps down the primary key for each node, however many days that has. What was
    heard on days that are still to come says nothing about now.
    """
    rows = db.execute(
        "WITH RECURSIVE name(node) AS (SELECT min(node) FROM node_day WHERE node > ''"
        " UNION ALL SELECT (SELECT min(node) FROM node_day WHERE node > name.node)"
        "  FROM name WHERE node IS NOT NULL)"
        " SELECT (SELECT last_heard_at_ms FROM node_day WHERE node_day.node = name.node"
        "  AND day <= ? ORDER BY day DESC LIMIT 1) FROM name WHERE node IS NOT NULL",
        ((now_ms + CREDIBLE_AHEAD_MS) // DAY_MS,),
    )
    heard = dict.fromkeys(HEARD_WITHIN_MS, 0)
    for (last_heard_at_ms,) in rows:
        if last_heard_at_ms is None:
            continue
        for within, span_ms in HEARD_WITHIN_MS.items():
            heard[within] += last_heard_at_ms > now_ms - span_ms
    return heard
