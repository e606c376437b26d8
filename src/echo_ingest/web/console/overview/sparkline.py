"""A figure over the last day as a small curve: what goes into its SVG. Pure.

Values come in equal steps of time. Where one is missing, because the service did not run or did not
answer, the curve has a gap: it never joins what is not known.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

HEIGHT = 100
"""The height of the drawing in its own units; its width is one for each step."""
TICK_HOURS = 6
SHORT = timedelta(hours=12)
"""Up to this length there is a tick every hour."""


class Gap(Struct, frozen=True):
    """Steps for which no value is known."""

    first: int
    steps: int


class Tick(Struct, frozen=True):
    """A time on the axis."""

    percent: float
    """Its place, in percent of the width from the left."""
    at: datetime


class Sparkline(Struct, frozen=True):
    """What is drawn."""

    width: int
    line: str
    """SVG path data."""
    area: str
    """SVG path data of the area below the line."""
    gaps: tuple[Gap, ...]
    ticks: tuple[Tick, ...]
    top: float
    """The value at the upper edge; 0 where there is nothing to show."""
    highest_at: int | None
    """The first step with the highest value; None where none is known."""
    newest: float | None


def curve(
    values: Sequence[float | None], first_at: datetime, step: timedelta, zone: ZoneInfo
) -> Sparkline:
    """Draw `values`, the first of which belongs to `first_at`; none is below 0."""
    known = [value for value in values if value is not None]
    highest = max(known, default=0.0)
    line, area = [], []
    for first, run in _runs(values):
        # A step is as wide as it is long: a lone one is seen too.
        points = [
            f"{x} {_y(value, highest)}"
            for place, value in enumerate(run, first)
            for x in (place, place + 1)
        ]
        line.append(f"M{'L'.join(points)}")
        area.append(f"M{first} {HEIGHT}L{'L'.join(points)}L{first + len(run)} {HEIGHT}Z")
    return Sparkline(
        width=max(len(values), 1),
        line="".join(line),
        area="".join(area),
        gaps=tuple(_gaps(values)),
        ticks=tuple(_ticks(first_at, step * len(values), zone)),
        top=highest,
        highest_at=values.index(highest) if known else None,
        newest=values[-1] if values else None,
    )


def _y(value: float, highest: float) -> str:
    return f"{HEIGHT - (HEIGHT * value / highest if highest else 0.0):.1f}"


def _runs(values: Sequence[float | None]) -> Iterator[tuple[int, list[float]]]:
    """Yield each stretch of known values, with the place of the first."""
    run: list[float] = []
    for place, value in enumerate((*values, None)):
        if value is not None:
            run.append(value)
        elif run:
            yield place - len(run), run
            run = []


def _gaps(values: Sequence[float | None]) -> Iterator[Gap]:
    first = None
    for place, value in enumerate((*values, 0.0)):
        if value is None:
            first = place if first is None else first
        elif first is not None:
            yield Gap(first, place - first)
            first = None


def _ticks(first_at: datetime, length: timedelta, zone: ZoneInfo) -> Iterator[Tick]:
    """Yield full hours of the zone; where there are many, only every `TICK_HOURS`-th."""
    hour = timedelta(hours=1)
    every = 1 if length <= SHORT else TICK_HOURS
    at = first_at.astimezone(zone).replace(minute=0, second=0, microsecond=0)
    while at < first_at + length:
        if at >= first_at and at.astimezone(zone).hour % every == 0:
            yield Tick(round(100 * ((at - first_at) / length), 2), at.astimezone(zone))
        at = (at.astimezone(UTC) + hour).astimezone(zone)
