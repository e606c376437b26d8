"""A node's calendar: local days by hour, and what each hour was. Pure.

Heard wins over silent: a node is silent only in an hour in which the service listened. Hours are
kept in UTC; where a zone is half an hour off, each counts to the local hour in which it begins.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from echo_ingest.almanac import NodeHour, ServiceHour

HOUR_MS = 3_600_000
SHADES = 4
DAYS_MIN = 7
LISTENED_SHARE_MIN = 0.5

State = Literal["heard", "silent", "away", "unknown", "before", "ahead", "none"]
"""`away`: the service did not listen. `unknown`: nobody knows whether it did. `before`: the node
had never been heard yet. `ahead`: it is not over yet. `none`: clocks were put forward over it."""
WEIGHT: tuple[State, ...] = ("none", "ahead", "before", "unknown", "away", "silent", "heard")
"""Which counts where an hour came twice: the later."""


class Hour(Struct, frozen=True):
    """One hour of the calendar."""

    state: State
    messages: int = 0
    """Of this hour by their own time, else by that of receipt, the refused with them."""
    calls: int = 0
    refused: int = 0
    shade: int = 0
    """1 to `SHADES`, the more messages the higher; 0 where none."""

    def __add__(self, other: "Hour") -> "Hour":
        """Both, where clocks were put back and an hour came twice."""
        state = max(self.state, other.state, key=WEIGHT.index)
        return Hour(
            state,
            self.messages + other.messages,
            self.calls + other.calls,
            self.refused + other.refused,
        )


class Day(Struct, frozen=True):
    """A local day."""

    day: date
    hours: tuple[Hour, ...]
    """24 of them."""


class Calendar(Struct, frozen=True):
    """Days, the newest first."""

    days: tuple[Day, ...]
    steps: tuple[int, ...]
    """The fewest messages of each shade; empty where nothing was heard."""

    def has(self, state: State) -> bool:
        """Is any hour like that?"""
        return any(hour.state == state for day in self.days for hour in day.hours)

    @property
    def has_refused(self) -> bool:
        """Was anything refused?"""
        return any(hour.refused for day in self.days for hour in day.hours)


def bounds(newest: date, days: int, zone: ZoneInfo) -> tuple[int, int]:
    """From when to before when the calendar of so many days goes: milliseconds since 1970, UTC."""
    first, end = newest - timedelta(days=days - 1), newest + timedelta(days=1)
    return _ms(datetime.combine(first, time(), zone)), _ms(datetime.combine(end, time(), zone))


def calendar(
    heard: Iterable[NodeHour],
    listening: Iterable[ServiceHour],
    witnessed: Collection[int],
    first_heard_at_ms: int | None,
    newest: date,
    days: int,
    now: datetime,
    zone: ZoneInfo,
) -> Calendar:
    """Put hours together by local day and hour; `first_heard_at_ms` None: it never was.

    In an hour that was `witnessed`, some node was received: the service listened. Days before this
    one was heard first are left out, but for the last `DAYS_MIN` of all.
    """
    days = min(days, max(DAYS_MIN, _days_since(first_heard_at_ms, newest, zone)))
    its = {hour.hour_ms: hour for hour in heard}
    listened = {hour.hour_ms: hour.answered_share for hour in listening}
    there = {at_ms for at_ms, share in listened.items() if share >= LISTENED_SHARE_MIN}
    there.update(witnessed)
    begun_ms = min(listened, default=math.inf)
    since_ms, until_ms = bounds(newest, days, zone)
    grid: dict[date, list[Hour]] = {
        newest - timedelta(days=back): [Hour("none")] * 24 for back in range(days)
    }
    for hour_ms in range(since_ms - since_ms % HOUR_MS, until_ms, HOUR_MS):
        local = datetime.fromtimestamp(hour_ms / 1000, UTC).astimezone(zone)
        if local.date() not in grid:
            continue
        found = its.get(hour_ms)
        if found is not None:
            messages = max(found.observed, found.received) + found.dead_letters
            hour = Hour("heard", messages, found.calls, found.dead_letters)
        elif hour_ms + HOUR_MS > _ms(now):
            hour = Hour("ahead")
        elif first_heard_at_ms is None or hour_ms + HOUR_MS <= first_heard_at_ms:
            hour = Hour("before")
        elif hour_ms in there:
            hour = Hour("silent")
        else:
            hour = Hour("away" if hour_ms >= begun_ms else "unknown")
        grid[local.date()][local.hour] += hour
    return _shaded(grid)


def _days_since(first_heard_at_ms: int | None, newest: date, zone: ZoneInfo) -> int:
    if first_heard_at_ms is None:
        return 0
    first = datetime.fromtimestamp(first_heard_at_ms / 1000, UTC).astimezone(zone).date()
    return (newest - first).days + 1


def _shaded(grid: Mapping[date, Sequence[Hour]]) -> Calendar:
    most = max(hour.messages for hours in grid.values() for hour in hours)
    steps = tuple(_steps(most))
    return Calendar(
        tuple(
            Day(day, tuple(_with_shade(hour, steps) for hour in hours))
            for day, hours in grid.items()
        ),
        steps,
    )


def _steps(most: int) -> Iterator[int]:
    """By squares: a quiet hour and a busy one differ by the hundred."""
    least = 0
    for shade in range(SHADES):
        least = max(least + 1, math.ceil(most * (shade / SHADES) ** 2))
        if least <= most:
            yield least


def _with_shade(hour: Hour, steps: Sequence[int]) -> Hour:
    shade = sum(hour.messages >= least for least in steps)
    return Hour(hour.state, hour.messages, hour.calls, hour.refused, shade)


def _ms(when: datetime) -> int:
    return int(when.timestamp() * 1000)
