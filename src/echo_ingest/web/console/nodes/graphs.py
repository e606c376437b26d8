"""What a node reported as lines of a graph, with a gap wherever it reported nothing. Pure."""

import math
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from echo_ingest.almanac import HealthHistory, HourlyMeasure, MeasuredSeries, NodeHour

HOUR_SECONDS = 3_600
DAY_SECONDS = 24 * HOUR_SECONDS
GAP_HOURS_MIN = 3
DECIMALS_MAX = 6
GAP_STEPS = 3
"""A gap is this many times longer than the node usually leaves between hours with a reading."""


class Graph(Struct, frozen=True):
    """One measure."""

    id: str
    title: str
    note: str
    """How to read it; empty where that is clear."""
    times: list[int]
    """Seconds since 1970, UTC."""
    line: dict[str, object]
    """The line as `parts.series` takes it."""


def graphs(health: HealthHistory, hours: Sequence[NodeHour]) -> list[Graph]:
    """Return a graph for each measure that the node has reported, and for its clock."""
    measures = (
        ("battery", "Battery", "%", 0, health.battery_percent),
        ("temperature", "Temperature of the recorder", "°C", 1, health.temperature_celsius),
        ("disk", "Disk in use", "%", 0, health.disk_percent),
        ("processor", "Processor", "%", 0, health.cpu_percent),
        ("memory", "Memory in use", "%", 0, health.memory_percent),
    )
    shown = [
        _graph(
            name, title, "", unit, decimals, {each.hour_ms // 1000: each.mean for each in hourly}
        )
        for name, title, unit, decimals, hourly in measures
        if hourly
    ]
    ahead = {
        hour.hour_ms // 1000: -hour.least_delay_seconds
        for hour in hours
        if hour.least_delay_seconds is not None
    }
    if ahead:
        unit, seconds, decimals = _clock_unit(ahead.values())
        offsets = {at: value / seconds for at, value in ahead.items()}
        note = "above 0: ahead; below 0: behind, or messages arrived late"
        shown.append(_graph("clock", "Clock offset", note, unit, decimals, offsets))
    return shown


def measured_graph(number: int, series: MeasuredSeries, hourly: Sequence[HourlyMeasure]) -> Graph:
    """Return the graph of what a node measures; `number` is its place on the page."""
    means = {each.hour_ms // 1000: each.mean for each in hourly}
    note = f"of {series.sensor}" if series.sensor else ""
    decimals = decimals_of(means.values())
    return _graph(
        f"measured-{number}", series.name, note, series.unit or "", decimals, means, label="mean"
    )


def decimals_of(values: Collection[float]) -> int:
    """Return with how many decimals to write values, so that the largest has about three digits."""
    largest = max(map(abs, values), default=0.0)
    if largest >= 1_000 or all(value.is_integer() for value in values):
        return 0
    return max(0, min(DECIMALS_MAX, 2 - math.floor(math.log10(largest))))


def _clock_unit(errors: Collection[float]) -> tuple[str, int, int]:
    """Choose the unit that words would have for the largest error: unit, seconds, decimals."""
    largest = max(map(abs, errors))
    if largest < 300:
        return "s", 1, 1
    if largest < 4 * HOUR_SECONDS:
        return "min", 60, 1
    return ("h", HOUR_SECONDS, 1) if largest < DAY_SECONDS else ("d", DAY_SECONDS, 1)


def _graph(
    name: str,
    title: str,
    note: str,
    unit: str,
    decimals: int,
    values: Mapping[int, float],
    label: str | None = None,
) -> Graph:
    points = list(_with_gaps(values))
    digits = max(2, decimals)
    line = {
        "label": label or name,
        "unit": unit,
        "decimals": decimals,
        "values": [None if value is None else round(value, digits) for _, value in points],
    }
    return Graph(f"series-{name}", title, note, [at for at, _ in points], line)


def _with_gaps(values: Mapping[int, float]) -> Iterator[tuple[int, float | None]]:
    times = sorted(values)
    apart = [after - before for before, after in pairwise(times)]
    usual = statistics.median(apart) if apart else HOUR_SECONDS
    gap = max(GAP_HOURS_MIN * HOUR_SECONDS, GAP_STEPS * usual)
    for at, following in zip(times, [*times[1:], None], strict=True):
        yield at, values[at]
        if following is not None and following - at > gap:
            yield at + HOUR_SECONDS, None
