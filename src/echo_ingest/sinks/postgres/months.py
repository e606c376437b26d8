"""Which months of observed time need a partition: pure, except for the clock of `postpone`.

The database decides which of them get one (migrations/0002_months.sql). A month that was requested
is not requested again until a new month begins, when the database allows later ones.
"""

import time
from collections.abc import Iterable
from datetime import date, datetime, timedelta

AGAIN_SECONDS = 60.0


class MonthPartitions:
    """The months that have been requested."""

    def __init__(self) -> None:
        self._current = date.min
        self._requested: set[date] = set()
        self._again_at = 0.0

    def missing(self, observed: Iterable[datetime], now: datetime) -> list[date]:
        """Return the first days of the months to request: of these times, this one and the next."""
        this_month = date(now.year, now.month, 1)
        if this_month != self._current:
            self._current, self._requested = this_month, set()
        if time.monotonic() < self._again_at:
            return []
        months = {date(each.year, each.month, 1) for each in observed}
        return sorted((months | {this_month, _next(this_month)}) - self._requested)

    def note(self, months: Iterable[date]) -> None:
        """Note that these were requested."""
        self._requested.update(months)

    def postpone(self) -> None:
        """Request none for a while."""
        self._again_at = time.monotonic() + AGAIN_SECONDS


def _next(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)
