"""A node's activity by hour: local days, and the state of each of their hours. Pure.

A node counts as silent only in an hour in which the service was running. Hours are kept in UTC;
where a zone is half an hour off, each counts to the local hour in which it begins.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from echo_ingest.almanac import NodeHour, ServiceHour
from echo_ingest.formatting import milliseconds, utc

HOUR_MS = 3_600_000
SHADES = 4
DAYS_MIN = 7
LISTENED_SHARE_MIN = 0.5

State = Literal["heard", "silent", "away", "unknown", "before", "ahead", "none"]
"""`away`: the service was not running. `unknown`: it is not known whether it was. `before`: the
node had never been heard yet. `ahead`: the hour is not over yet. `none`: clocks were put forward
over the hour."""
WEIGHT: tuple[State, ...] = ("none", "ahead", "before", "unknown", "away", "silent", "heard")
"""From weak to strong: where an hour came twice, the stronger state counts."""


class Hour(Struct, frozen=True):
    """An hour of the calendar."""

    state: State
    messages: int = 0
    """Those with a record of this hour by its own time, or else by receipt; and those rejected."""
    calls: int = 0
    rejected: int = 0
    shade: int = 0
    """1 to `SHADES`, higher for more messages; 0 for none."""

    def __add__(self, other: "Hour") -> "Hour":
        """Add the same hour a second time, where clocks were put back."""
        state = max(self.state, other.state, key=WEIGHT.index)
        return Hour(
            state,
            self.messages + other.messages,
            self.calls + other.calls,
            self.rejected + other.rejected,
        )


class Day(Struct, frozen=True):
    """A local day."""

    day: date
    hours: tuple[Hour, ...]
    """24 of them."""


class LegendShade(Struct, frozen=True):
    """A shade, and how many messages an hour of that shade has."""

    shade: int
    least: int
    most: int | None
    """None: there is no limit."""


class Calendar(Struct, frozen=True):
    """Days, the newest first."""

    days: tuple[Day, ...]
    steps: tuple[int, ...]
    """The fewest messages of each shade; empty where nothing was heard."""

    def has(self, state: State) -> bool:
        """Return whether any hour has that state."""
        return any(hour.state == state for day in self.days for hour in day.hours)

    @property
    def legend(self) -> list[LegendShade]:
        """Return what each shade means that some hour has."""
        shown = {hour.shade for day in self.days for hour in day.hours}
        mosts = (*(least - 1 for least in self.steps[1:]), None)[: len(self.steps)]
        return [
            LegendShade(shade, least, most)
            for shade, (least, most) in enumerate(zip(self.steps, mosts, strict=True), 1)
            if shade in shown
        ]

    @property
    def has_rejected(self) -> bool:
        """Return whether anything was rejected."""
        return any(hour.rejected for day in self.days for hour in day.hours)


def bounds(newest: date, days: int, zone: ZoneInfo) -> tuple[int, int]:
    """Return from when to before when a calendar goes: milliseconds since 1970, UTC."""
    first, end = newest - timedelta(days=days - 1), newest + timedelta(days=1)
    return milliseconds(datetime.combine(first, time(), zone)), milliseconds(
        datetime.combine(end, time(), zone)
    )


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
    """Lay out the hours of a node by local day; `first_heard_at_ms` is None if it never was heard.

    In an hour that was `witnessed`, something was received from some node, so the service was
    running. Days before this node was first heard are left out, except the last `DAYS_MIN`.
    """
    days = min(days, max(DAYS_MIN, _days_since(first_heard_at_ms, newest, zone)))
    heard_hours = {hour.hour_ms: hour for hour in heard}
    shares = {hour.hour_ms: hour.answered_share for hour in listening}
    running = {at_ms for at_ms, share in shares.items() if share >= LISTENED_SHARE_MIN}
    running.update(witnessed)
    sampled_from_ms = min(shares, default=math.inf)
    since_ms, until_ms = bounds(newest, days, zone)
    grid: dict[date, list[Hour]] = {
        newest - timedelta(days=back): [Hour("none")] * 24 for back in range(days)
    }
    for hour_ms in range(since_ms - since_ms % HOUR_MS, until_ms, HOUR_MS):
        local = utc(hour_ms).astimezone(zone)
        if local.date() not in grid:
            continue
        known = heard_hours.get(hour_ms)
        if known is not None:
            messages = max(known.observed, known.received) + known.dead_letters
            hour = Hour("heard", messages, known.calls, known.dead_letters)
        elif hour_ms + HOUR_MS > milliseconds(now):
            hour = Hour("ahead")
        elif first_heard_at_ms is None or hour_ms + HOUR_MS <= first_heard_at_ms:
            hour = Hour("before")
        elif hour_ms in running:
            hour = Hour("silent")
        else:
            hour = Hour("away" if hour_ms >= sampled_from_ms else "unknown")
        grid[local.date()][local.hour] += hour
    return _shaded(grid)


def _days_since(first_heard_at_ms: int | None, newest: date, zone: ZoneInfo) -> int:
    if first_heard_at_ms is None:
        return 0
    first = utc(first_heard_at_ms).astimezone(zone).date()
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
    """Return the fewest messages of each shade, by squares: a busy hour has hundreds of them."""
    least = 0
    for shade in range(SHADES):
        least = max(least + 1, math.ceil(most * (shade / SHADES) ** 2))
        if least <= most:
            yield least


def _with_shade(hour: Hour, steps: Sequence[int]) -> Hour:
    shade = sum(hour.messages >= least for least in steps)
    return Hour(hour.state, hour.messages, hour.calls, hour.rejected, shade)
