"""A node as people see it: its state, and what is wrong with its clock. Pure."""

from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from echo_ingest.almanac import Clock, MapPoint, NodeSummary
from echo_ingest.formatting import milliseconds
from echo_ingest.web.console.formatting import ago, span

Badge = Literal["good", "look", "bad", "off", "unknown"]
Mark = tuple[str, float, float, Badge, str]
"""A node on the map: name, latitude, longitude, state, and the state in words."""

HEARD_WITHIN = timedelta(hours=1)
BATTERY_LOW_PERCENT = 20.0


class NodeRow(Struct, frozen=True):
    """A row of the table."""

    node: NodeSummary
    badge: Badge
    word: str
    clock: str | None
    """What is wrong with its clock, in words; None where nothing is."""
    battery_low: bool


def node_row(node: NodeSummary, now: datetime) -> NodeRow:
    """Return the row of a node."""
    badge, word = state(node.last_heard_at_ms, now, disabled=node.account == "disabled")
    battery = node.battery_percent
    battery_low = battery is not None and battery.value < BATTERY_LOW_PERCENT
    return NodeRow(node, badge, word, clock_error(node.clock), battery_low)


def state(last_heard_at_ms: int | None, now: datetime, *, disabled: bool) -> tuple[Badge, str]:
    """Return a shape and a word; a node that was heard within the last hour is well."""
    if disabled:
        return "off", "blocked"
    if last_heard_at_ms is None:
        return "unknown", "never heard"
    if milliseconds(now - HEARD_WITHIN) < last_heard_at_ms:
        return "good", "heard"
    return "look", "silent"


def clock_error(clock: Clock | None) -> str | None:
    """Return what its messages show to be wrong with its clock; None where nothing is."""
    if clock is None or clock.verdict == "right":
        return None
    offset = span(abs(clock.least_delay_seconds))
    if clock.verdict == "ahead":
        return f"clock {offset} ahead"
    return f"clock behind, or messages late, by {offset}"


def map_mark(point: MapPoint, now: datetime) -> Mark:
    """Return the mark of a node on the map."""
    badge, word = state(point.last_heard_at_ms, now, disabled=False)
    if point.last_heard_at_ms is not None:
        word = f"{word}, last {ago(point.last_heard_at_ms, now)}"
    return point.name, round(point.latitude, 5), round(point.longitude, 5), badge, word
