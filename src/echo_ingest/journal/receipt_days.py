"""The days on which the journal worked, in the order in which they were seen.

The clock of a machine may leap: by ten years where a battery is empty, by two months and back where
a board without one starts. So retention does not trust the clock alone. A row says that the clock
showed another day than before. A day counts as passed only if it was seen between an earlier day
and a later one, each at most `GAP_DAYS_MAX` away, and no leap was noticed meanwhile. So the day in
which a leap begins or ends does not count, however far the leap goes; nor does the first or the
last day before the machine was off for longer.

Between two rows that count, at least a whole day has passed for each of them, unless a clock leaps
by up to `GAP_DAYS_MAX` while the machine is off: that cannot be told from days that it was off.
"""

from collections.abc import Iterable

import apsw
from msgspec import Struct

DAY_MS = 86_400_000
GAP_DAYS_MAX = 2
"""A machine may run every second day only, and its records must go at some time."""
NEVER = 2**62
"""A day that no clock can show."""

FILL = """
    INSERT INTO receipt_day (day, offset)
    WITH first AS MATERIALIZED (
        SELECT received_at_ms / ? AS day, min(offset) - 1 AS offset FROM record GROUP BY 1
    ), known AS (SELECT day FROM node_day UNION SELECT day FROM first)
    SELECT day, coalesce(
        first.offset,
        (SELECT later.offset FROM first AS later WHERE later.day > known.day
         ORDER BY later.day LIMIT 1),
        (SELECT coalesce(max(offset), 0) FROM record)
    ) AS before FROM known LEFT JOIN first USING (day) ORDER BY before, day
"""
PASSED = f"""
    SELECT id, offset FROM (
        SELECT id, offset, leapt, day - lag(day) OVER by_id AS after_before,
        lead(day) OVER by_id - day AS before_after FROM receipt_day WINDOW by_id AS (ORDER BY id)
    ) WHERE leapt = 0 AND after_before BETWEEN 1 AND {GAP_DAYS_MAX}
    AND before_after BETWEEN 1 AND {GAP_DAYS_MAX} ORDER BY id DESC LIMIT 1 OFFSET ?"""  # noqa: S608


class LastDay(Struct, frozen=True):
    """The newest row."""

    id: int = 0
    day: int = NEVER


def day_of(at_ms: int) -> int:
    """Return the day of a moment, UTC: days since 1970."""
    return at_ms // DAY_MS


def fill(db: apsw.Connection) -> None:
    """Note the days of the records that are there, for a journal that did not note them itself."""
    db.execute("DELETE FROM receipt_day")
    db.execute(FILL, (DAY_MS,))


def last_day(db: apsw.Connection) -> LastDay:
    """Return the newest row; one that is like no other if there is none."""
    row = db.execute("SELECT id, day FROM receipt_day ORDER BY id DESC LIMIT 1").fetchone()
    return LastDay(*row) if row is not None else LastDay()


def note(db: apsw.Connection, last: LastDay, days: Iterable[int], newest: int) -> LastDay:
    """Note the days that the clock showed since `last`, in this order, and return the last one.

    `newest` is the offset of the newest record from before.
    """
    for day in days:
        if day != last.day:
            last = LastDay(last.id + 1, day)
            db.execute(
                "INSERT INTO receipt_day (id, day, offset) VALUES (?, ?, ?)", (last.id, day, newest)
            )
    return last


def note_leap(db: apsw.Connection, since: int) -> None:
    """Note that the clock has leapt in one of the rows from `since` on."""
    db.execute("UPDATE receipt_day SET leapt = 1 WHERE id >= ?", (since,))


def passed_since(db: apsw.Connection, days: int) -> int:
    """Return the newest offset since which so many whole days have passed; 0 if there is none."""
    row = db.execute(PASSED, (days - 1,)).fetchone()
    return 0 if row is None else int(row[1])


def passed_row(db: apsw.Connection, days: int) -> int | None:
    """Return since which row so many whole days have passed; None if there is none."""
    row = db.execute(PASSED, (days - 1,)).fetchone()
    return None if row is None else int(row[0])
