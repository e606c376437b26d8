"""The days on which the journal worked, in the order in which they were seen.

The clock of a machine may leap: by ten years where a battery is empty, by two months and back where
a board without one starts. So retention does not trust the clock alone. A day counts as passed only
if it was seen to begin and to end: the day before it was seen earlier, the day after it was seen
later, and the clock did not leap into it or out of it. However far a leap goes, the day in which
it ends does not count; nor does the first day after some on which the machine was off.

A day that was seen once is not seen again: where a clock runs through the same days a second time,
retention removes less than it could.
"""

from collections.abc import Iterable

import apsw

DAY_MS = 86_400_000
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
COUNTED = """
    SELECT offset FROM receipt_day AS this WHERE leapt = 0
    AND EXISTS (SELECT 1 FROM receipt_day WHERE day = this.day - 1 AND id < this.id)
    AND EXISTS (SELECT 1 FROM receipt_day WHERE day = this.day + 1 AND id > this.id)
    ORDER BY id DESC LIMIT 1 OFFSET ?"""


def day_of(at_ms: int) -> int:
    """Return the day of a moment, UTC: days since 1970."""
    return at_ms // DAY_MS


def fill(db: apsw.Connection) -> None:
    """Note the days of the records that are there, for a journal that did not note them itself."""
    db.execute("DELETE FROM receipt_day")
    db.execute(FILL, (DAY_MS,))


def note(db: apsw.Connection, days: Iterable[int], newest: int) -> None:
    """Note days when they are seen for the first time; `newest` is the last offset before that."""
    db.executemany(
        "INSERT OR IGNORE INTO receipt_day (day, offset) VALUES (?, ?)",
        ((day, newest) for day in sorted(days)),
    )


def note_leap(db: apsw.Connection, left: int, reached: int) -> None:
    """Note that the clock leapt out of one day and into another, or within a day."""
    db.execute("UPDATE receipt_day SET leapt = 1 WHERE day IN (?, ?)", (left, reached))


def passed_since(db: apsw.Connection, days: int) -> int:
    """Return the newest offset since which so many whole days have passed; 0 if there is none."""
    offset: int | None = db.execute(COUNTED, (days - 1,)).get
    return offset or 0
