"""A node as people see it: how it is in a word and a shape, what its clock is worth. Pure."""

from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from echo_ingest.almanac import Clock, MapPoint, NodeSummary
from echo_ingest.web.console.formatting import ago, span

Badge = Literal["good", "look", "bad", "off", "unknown"]
Mark = tuple[str, float, float, Badge, str]
"""Name, latitude, longitude, state, and in words how it is: what the map is made of."""

HEARD_WITHIN = timedelta(hours=1)
BATTERY_LOW_PERCENT = 20.0


class NodeRow(Struct, frozen=True):
    """A line of the table."""

    node: NodeSummary
    badge: Badge
    word: str
    clock: str | None
    """What is wrong with its clock, in words; None where nothing is."""
    battery_low: bool


def line(node: NodeSummary, now: datetime) -> NodeRow:
    """How a node is."""
    badge, word = state(node.last_heard_at_ms, now, disabled=node.account == "disabled")
    battery = node.battery_percent
    battery_low = battery is not None and battery.value < BATTERY_LOW_PERCENT
    return NodeRow(node, badge, word, clock_error(node.clock), battery_low)


def state(last_heard_at_ms: int | None, now: datetime, *, disabled: bool) -> tuple[Badge, str]:
    """A shape and a word; heard within the last hour, it is well."""
    if disabled:
        return "off", "disabled"
    if last_heard_at_ms is None:
        return "unknown", "never heard"
    if _ms(now - HEARD_WITHIN) < last_heard_at_ms:
        return "good", "heard"
    return "look", "silent"


def clock_error(clock: Clock | None) -> str | None:
    """What its messages tell of its clock, where it is not right."""
    if clock is None or clock.verdict == "right":
        return None
    by = span(abs(clock.least_delay_seconds))
    if clock.verdict == "ahead":
        return f"clock {by} ahead"
    return f"clock behind, or messages late, by {by}"


def mark(point: MapPoint, now: datetime) -> Mark:
    """A node on the map."""
    badge, word = state(point.last_heard_at_ms, now, disabled=False)
    if point.last_heard_at_ms is not None:
        word = f"{word}, last {ago(point.last_heard_at_ms, now)}"
    return point.name, round(point.latitude, 5), round(point.longitude, 5), badge, word


def _ms(when: datetime) -> int:
    return int(when.timestamp() * 1000)
