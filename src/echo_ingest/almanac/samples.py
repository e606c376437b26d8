"""Samples of the service, one each minute for eight days: its ledger, its sinks, its disk space.

They are not derived from the journal: an almanac that is built anew has none from before.
"""

import itertools
import statistics
from collections.abc import Mapping
from pathlib import Path

import apsw
from msgspec import Struct

from echo_ingest.almanac.almanac_file import open_to_write, rows_of
from echo_ingest.almanac.observation import HOUR_MS
from echo_ingest.gauges import ServiceGauges
from echo_ingest.journal import Ledger
from echo_ingest.journal.journal_file import transaction

MINUTE_MS = 60_000
KEPT_MINUTES = 8 * 24 * 60
KEPT_HOURS = 400 * 24
ROOM_HOURS_MIN = 6
DAYS_MAX = 3_650


class SinkSample(Struct, frozen=True):
    """The state of a sink."""

    backlog: int
    """Records that waited for it."""
    parked: int
    lag_seconds: float
    """Age of the oldest record that waited; 0 if none did."""


class Sample(Struct, frozen=True):
    """The state of the service in one minute."""

    at_ms: int
    """When the minute begins: milliseconds since 1970, UTC."""
    answered: bool
    """If it did not, the fields below are None, and there are no sinks."""
    received: int | None
    """Messages since the journal was created, as the next two: a rate is a difference."""
    stored: int | None
    duplicates: int | None
    dead_letters: int | None
    """Dead letters that are kept: a replay takes some away."""
    broker_dropped: int | None
    """Messages that the broker has dropped since it started; a lower number: it was restarted."""
    journal_bytes: int | None
    disk_free_bytes: int | None
    room_bytes: int | None
    """How much more could be written before acknowledgements stop."""
    sinks: dict[str, SinkSample]


class TimeUntilFull(Struct, frozen=True):
    """How long there is room for records."""

    room_bytes: int | None
    """How much more can be written before acknowledgements stop. None: not sampled yet."""
    filling_bytes_per_day: float | None
    """Below 0: it is emptying. None: fewer than six hours of the last eight days are known."""
    days: float | None
    """Days until nothing more can be stored at this rate. None: the rate is not known, or it will
    not be full within ten years."""


def note_sample(
    path: Path, at_ms: int, ledger: Ledger | None, gauges: ServiceGauges | None
) -> None:
    """Write the sample of this minute; without a ledger, the service did not answer."""
    minute = at_ms // MINUTE_MS
    answered = ledger is not None and gauges is not None
    db = open_to_write(path)
    try:
        with transaction(db):
            is_new = not db.execute("SELECT 1 FROM sample WHERE minute = ?", (minute,)).fetchone()
            values: tuple[int | None, ...] = (None,) * 8
            if ledger is not None and gauges is not None:
                values = (
                    ledger.received,
                    ledger.stored,
                    ledger.duplicates,
                    ledger.dead_letters,
                    gauges.broker_dropped,
                    gauges.journal_bytes,
                    gauges.disk_free_bytes,
                    gauges.room_bytes,
                )
            if not is_new:
                return
            db.execute(
                "INSERT INTO sample VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (minute, answered, *values),
            )
            for name, sink in ledger.sinks.items() if ledger is not None and answered else ():
                db.execute(
                    "INSERT INTO sink_sample VALUES (?, ?, ?, ?, ?)",
                    (minute, name, sink.backlog, sink.parked, sink.lag_seconds),
                )
            db.execute(
                "INSERT INTO listening VALUES (?1, 1, ?2) ON CONFLICT DO UPDATE SET"
                " minutes = minutes + 1, answered = answered + ?2",
                (at_ms // HOUR_MS, answered),
            )
            _drop_oldest(db)
    finally:
        db.close()


def _drop_oldest(db: apsw.Connection) -> None:
    """Remove what is too old, by number and not by age: the clock may have leapt."""
    for table, unit, kept in (
        ("sample", "minute", KEPT_MINUTES),
        ("listening", "hour", KEPT_HOURS),
    ):
        db.execute(
            f"DELETE FROM {table} WHERE {unit} <="  # noqa: S608
            f" (SELECT {unit} FROM {table} ORDER BY {unit} DESC LIMIT 1 OFFSET ?)",
            (kept,),
        )
    db.execute("DELETE FROM sink_sample WHERE minute < (SELECT min(minute) FROM sample)")


def samples(db: apsw.Connection, since_ms: int, until_ms: int, every_minutes: int) -> list[Sample]:
    """Return samples from one time to before another, oldest first: the last of each span."""
    span = since_ms // MINUTE_MS, -(-until_ms // MINUTE_MS)
    rows = rows_of(
        db,
        "SELECT * FROM sample WHERE minute >= ? AND minute < ? AND minute IN"
        " (SELECT max(minute) FROM sample WHERE minute >= ?1 AND minute < ?2 GROUP BY minute / ?3)"
        " ORDER BY minute",
        (*span, every_minutes),
    )
    by_minute: dict[int, dict[str, SinkSample]] = {row[0]: {} for row in rows}
    for minute, name, *values in rows_of(
        db, "SELECT * FROM sink_sample WHERE minute >= ? AND minute < ?", span
    ):
        if minute in by_minute:
            by_minute[minute][name] = SinkSample(*values)
    return [
        Sample(
            at_ms=minute * MINUTE_MS,
            answered=bool(answered),
            received=received,
            stored=stored,
            duplicates=duplicates,
            dead_letters=dead_letters,
            broker_dropped=dropped,
            journal_bytes=journal_bytes,
            disk_free_bytes=disk_free_bytes,
            room_bytes=room_bytes,
            sinks=by_minute[minute],
        )
        for (
            minute,
            answered,
            received,
            stored,
            duplicates,
            dead_letters,
            dropped,
            journal_bytes,
            disk_free_bytes,
            room_bytes,
        ) in rows
    ]


def room_left(db: apsw.Connection, now_ms: int) -> TimeUntilFull:
    """Return how long there is room, at the rate of the last eight days."""
    minute = now_ms // MINUTE_MS
    rows = rows_of(
        db,
        "SELECT minute / 60, room_bytes FROM sample WHERE room_bytes IS NOT NULL"
        " AND minute >= ? AND minute <= ? ORDER BY minute",
        (minute - KEPT_MINUTES, minute),
    )
    by_hour: dict[int, int] = dict(rows)  # the last of each hour
    if not by_hour:
        return TimeUntilFull(None, None, None)
    room_bytes = list(by_hour.values())[-1]
    change = per_hour(by_hour)
    if change is None:
        return TimeUntilFull(room_bytes, None, None)
    filling = -change * 24
    days = room_bytes / filling if filling > 0 else None
    return TimeUntilFull(
        room_bytes, filling, days if days is not None and days <= DAYS_MAX else None
    )


def per_hour(values: Mapping[int, int]) -> float | None:
    """Return how much a value changes in an hour, on average; None if too few hours are known.

    For each day, the hours of the greatest fall and the greatest rise are left out: in them,
    somebody has stored or removed a large file.
    """
    points = list(values.items())
    changes = sorted((y - b) / (x - a) for (a, b), (x, y) in itertools.pairwise(points))
    if len(changes) < ROOM_HOURS_MIN:
        return None
    left_out = max(1, len(changes) // 24)
    return statistics.fmean(changes[left_out:-left_out])
