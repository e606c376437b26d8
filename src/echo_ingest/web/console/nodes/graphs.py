"""What a node measured, as lines of a graph: a gap where it said nothing, never a bridge. Pure."""

import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from echo_ingest.almanac import HealthHistory, NodeHour

HOUR_SECONDS = 3_600
GAP_HOURS_MIN = 3
GAP_STEPS = 3
"""A gap is so many times longer than a node usually leaves between two hours with a reading."""

CLOCK = "Clock against ours: above 0 it is ahead; below, it is behind or messages came late"


class Graph(Struct, frozen=True):
    """One measure."""

    id: str
    title: str
    times: list[int]
    """Seconds since 1970, UTC."""
    line: dict[str, object]
    """As `parts.series` takes it."""


def graphs(health: HealthHistory, hours: Sequence[NodeHour]) -> list[Graph]:
    """Of what the node has told; what it never told has none."""
    told: list[tuple[str, str, str, int, dict[int, float]]] = [
        (name, title, unit, decimals, {each.hour_ms // 1000: each.mean for each in readings})
        for name, title, unit, decimals, readings in (
            ("battery", "Battery", "%", 0, health.battery_percent),
            ("temperature", "Temperature of the recorder", "°C", 1, health.temperature_celsius),
            ("disk", "Disk in use", "%", 0, health.disk_percent),
            ("processor", "Processor", "%", 0, health.cpu_percent),
            ("memory", "Memory in use", "%", 0, health.ram_percent),
        )
    ]
    ahead = {
        hour.hour_ms // 1000: -hour.least_delay_seconds
        for hour in hours
        if hour.least_delay_seconds is not None
    }
    unit, seconds, decimals = _clock_unit(ahead.values())
    told.append(
        (
            *("clock", CLOCK, unit, decimals),
            {at: value / seconds for at, value in ahead.items()},
        )
    )
    return [
        _graph(name, title, unit, decimals, values)
        for name, title, unit, decimals, values in told
        if values
    ]


def _clock_unit(errors: Collection[float]) -> tuple[str, int, int]:
    """Seconds, minutes or hours, by the largest error."""
    largest = max(map(abs, errors), default=0.0)
    if largest < 300:
        return "s", 1, 1
    return ("min", 60, 1) if largest < 4 * HOUR_SECONDS else ("h", HOUR_SECONDS, 1)


def _graph(name: str, title: str, unit: str, decimals: int, values: Mapping[int, float]) -> Graph:
    points = list(_with_gaps(values))
    line = {
        "label": name,
        "unit": unit,
        "decimals": decimals,
        "values": [None if value is None else round(value, 2) for _, value in points],
    }
    return Graph(f"series-{name}", title, [at for at, _ in points], line)


def _with_gaps(values: Mapping[int, float]) -> Iterator[tuple[int, float | None]]:
    times = sorted(values)
    apart = [after - before for before, after in pairwise(times)]
    usual = statistics.median(apart) if apart else HOUR_SECONDS
    gap = max(GAP_HOURS_MIN * HOUR_SECONDS, GAP_STEPS * usual)
    for at, following in zip(times, [*times[1:], None], strict=True):
        yield at, values[at]
        if following is not None and following - at > gap:
            yield at + HOUR_SECONDS, None
