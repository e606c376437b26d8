"""A node by the hour: what was heard of it and how it was; and when the service itself listened."""

import apsw
from msgspec import Struct

from echo_ingest.almanac.database import rows_of
from echo_ingest.almanac.observation import HOUR_MS, MEASURES

HOURS_MAX = 24 * 400
WITNESSES = 50


class NodeHour(Struct, frozen=True):
    """What came of a node in one hour. An hour without any has none of these."""

    hour_ms: int
    """When it begins: milliseconds since 1970, a whole hour in UTC."""
    received: int
    """Records that were received in it."""
    dead_letters: int
    """Received in it, and not replayed since."""
    observed: int
    """Records that say themselves that they are of this hour, whenever they came: a node that was
    out of reach has some where `received` is 0."""
    calls: int
    """Detections observed in it."""
    least_delay_seconds: float | None
    """Of the records received in it that tell their own time: receipt less that time. Below 0 the
    node's clock is ahead by at least so much; above, it is behind by at most so much. None: none
    told its time."""
    most_delay_seconds: float | None
    """The same of the one that took longest; far from the least: they waited on the node."""


class HourlyMeasure(Struct, frozen=True):
    """One measure of a node in one hour."""

    hour_ms: int
    """When the hour begins: milliseconds since 1970, UTC. That in which the node measured."""
    least: float
    mean: float
    most: float
    readings: int


class HealthHistory(Struct, frozen=True):
    """A node's measures over time, hours without one left out; the oldest first."""

    battery_percent: list[HourlyMeasure]
    temperature_celsius: list[HourlyMeasure]
    """Of the recorder itself."""
    disk_percent: list[HourlyMeasure]
    """In use."""
    cpu_percent: list[HourlyMeasure]
    memory_percent: list[HourlyMeasure]


class ServiceHour(Struct, frozen=True):
    """Whether the service itself was there in one hour. An hour that is not told is not known."""

    hour_ms: int
    """When it begins: milliseconds since 1970, UTC."""
    answered_share: float
    """Of the minutes looked at, 0 to 1."""
    minutes: int
    """How many were looked at; few in the hour in which it was started."""


def calendar(db: apsw.Connection, node: str, since_ms: int, until_ms: int) -> list[NodeHour]:
    """A node's hours from one time to before another, the oldest first."""
    rows = rows_of(
        db,
        "SELECT hour, received, dead_letters, observed, calls, least_delay_ms, most_delay_ms"
        " FROM node_hour WHERE node_id = (SELECT id FROM node WHERE name = ?)"
        " AND hour >= ? AND hour < ? ORDER BY hour LIMIT ?",
        (node, *_hours(since_ms, until_ms), HOURS_MAX),
    )
    return [
        NodeHour(*(hour * HOUR_MS, *counts, _seconds(least), _seconds(most)))
        for hour, *counts, least, most in rows
    ]


def health(db: apsw.Connection, node: str, since_ms: int, until_ms: int) -> HealthHistory:
    """A node's measures from one time to before another."""
    its: tuple[list[HourlyMeasure], ...] = tuple([] for _ in MEASURES)
    rows = rows_of(
        db,
        "SELECT measure, hour, readings, total, least, most FROM health_hour"
        " WHERE node_id = (SELECT id FROM node WHERE name = ?) AND measure < ?"
        " AND hour >= ? AND hour < ? ORDER BY measure, hour LIMIT ?",
        (node, len(MEASURES), *_hours(since_ms, until_ms), HOURS_MAX * len(MEASURES)),
    )
    for measure, hour, readings, total, least, most in rows:
        its[measure].append(
            HourlyMeasure(
                *(hour * HOUR_MS, least / 1000, total / readings / 1000, most / 1000, readings)
            )
        )
    return HealthHistory(*its)


def listening(db: apsw.Connection, since_ms: int, until_ms: int) -> list[ServiceHour]:
    """Hours in which it is known whether the service answered, the oldest first."""
    rows = rows_of(
        db,
        "SELECT hour, answered, minutes FROM listening WHERE hour >= ? AND hour < ?"
        " ORDER BY hour LIMIT ?",
        (*_hours(since_ms, until_ms), HOURS_MAX),
    )
    return [ServiceHour(hour * HOUR_MS, yes / minutes, minutes) for hour, yes, minutes in rows]


def witnessed(db: apsw.Connection, since_ms: int, until_ms: int) -> list[int]:
    """When the hours begin in which one of the `WITNESSES` nodes heard last was received."""
    rows = db.execute(
        "SELECT DISTINCT hour FROM node_hour WHERE node_id IN"
        " (SELECT id FROM node WHERE last_heard_at_ms IS NOT NULL"
        "  ORDER BY last_heard_at_ms DESC LIMIT ?)"
        " AND hour >= ? AND hour < ? AND received > 0 ORDER BY hour LIMIT ?",
        (WITNESSES, *_hours(since_ms, until_ms), HOURS_MAX),
    )
    return [hour * HOUR_MS for (hour,) in rows]


def _hours(since_ms: int, until_ms: int) -> tuple[int, int]:
    return since_ms // HOUR_MS, -(-until_ms // HOUR_MS)


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000
