"""The ledger: what was received, and where all of it is."""

from typing import Any

import apsw
from msgspec import Struct


class SinkLedger(Struct, frozen=True):
    """`stored = skipped + delivered + parked + backlog`."""

    delivered: int
    parked: int
    backlog: int
    skipped: int
    lag_seconds: float
    """Age of the oldest record in the backlog; 0 if there is none."""


class Ledger(Struct, frozen=True):
    """`received = stored + duplicates + dead_letters`."""

    received: int
    stored: int
    duplicates: int
    dead_letters: int
    sinks: dict[str, SinkLedger]


def read_ledger(db: apsw.Connection) -> Ledger:
    """The ledger as of one moment."""
    db.execute("BEGIN DEFERRED")
    try:
        return _ledger(db)
    finally:
        db.execute("COMMIT")


def _ledger(db: apsw.Connection) -> Ledger:
    sinks = {}
    rows: list[Any] = db.execute("SELECT name, cursor, skipped, delivered FROM sink").fetchall()
    for name, cursor, skipped, delivered in rows:
        waiting = db.execute("SELECT coalesce(max(offset), ?1) - ?1 FROM record", (cursor,)).get
        parked, replays = db.execute(
            "SELECT count(*) FILTER (WHERE replay = 0), count(*) FILTER (WHERE replay = 1)"
            " FROM parked WHERE sink = ?",
            (name,),
        ).get
        lag_seconds = db.execute(
            "SELECT max(0, unixepoch('subsec') - min(received_at_ms) / 1000.0) FROM ("
            " SELECT received_at_ms FROM record WHERE offset = ?1 + 1 UNION ALL"
            " SELECT received_at_ms FROM parked JOIN record USING (offset)"
            " WHERE sink = ?2 AND replay = 1)",
            (cursor, name),
        ).get
        sinks[name] = SinkLedger(
            delivered, parked, waiting + replays, skipped, round(lag_seconds or 0.0, 3)
        )
    received, stored, duplicates, dead_letters = db.execute(
        "SELECT received, stored, duplicates, dead_letters FROM ledger"
    ).get
    return Ledger(received, stored, duplicates, dead_letters, sinks)
