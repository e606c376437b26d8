"""Which months of observed time want a partition: pure but for the clock that `postpone` reads.

The database decides which of them get one (migrations/0002_months.sql); what was asked for once is
not asked for again, until a new month begins and with it more of them can be had.
"""

import time
from collections.abc import Iterable
from datetime import date, datetime, timedelta

AGAIN_SECONDS = 60.0


class MonthPartitions:
    """What has been asked for."""

    def __init__(self) -> None:
        self._now = date.min
        self._asked: set[date] = set()
        self._again_at = 0.0

    def missing(self, observed: Iterable[datetime], now: datetime) -> list[date]:
        """The first days of the months to ask for: of these times, and ahead of time."""
        this = date(now.year, now.month, 1)
        if this != self._now:
            self._now, self._asked = this, set()
        if time.monotonic() < self._again_at:
            return []
        months = {date(each.year, each.month, 1) for each in observed}
        return sorted((months | {this, _next(this)}) - self._asked)

    def note(self, months: Iterable[date]) -> None:
        """These were asked for."""
        self._asked.update(months)

    def postpone(self) -> None:
        """Ask for none for a while."""
        self._again_at = time.monotonic() + AGAIN_SECONDS


def _next(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)
