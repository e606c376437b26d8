"""The hourly history of a node: its messages and its health; and when the service was running."""

import apsw
from msgspec import Struct

from echo_ingest.almanac.almanac_file import rows_of
from echo_ingest.almanac.measurements import HourlyMeasure
from echo_ingest.almanac.observation import HOUR_MS, MEASURES

HOURS_MAX = 24 * 400
WITNESSES = 50


class NodeHour(Struct, frozen=True):
    """The messages of a node in one hour; an hour without messages has no row."""

    hour_ms: int
    """When the hour begins: milliseconds since 1970, a whole hour in UTC."""
    received: int
    """Messages with records that were received in it."""
    dead_letters: int
    """Dead letters that were received in it, and not replayed since."""
    observed: int
    """Messages with a record whose own time is in this hour, whenever they were received: a node
    that was out of reach has some where `received` is 0."""
    calls: int
    """Detections observed in it."""
    least_delay_seconds: float | None
    """The least time from when the node made a record, or ended a recording, by its own clock, to
    receipt, among those received in this hour. Below 0, the clock is ahead by at least that; above
    0, it is behind by at most that. None: no record tells of the clock."""
    most_delay_seconds: float | None
    """The greatest such time; if it is far from the least, messages waited on the node."""


class HealthHistory(Struct, frozen=True):
    """A node's measures over time, oldest first, without hours that have no reading."""

    battery_percent: list[HourlyMeasure]
    temperature_celsius: list[HourlyMeasure]
    """Inside the recorder."""
    disk_percent: list[HourlyMeasure]
    """Disk in use."""
    cpu_percent: list[HourlyMeasure]
    memory_percent: list[HourlyMeasure]


class ServiceHour(Struct, frozen=True):
    """Whether the service itself was running in one hour; without a row, it is not known."""

    hour_ms: int
    """When the hour begins: milliseconds since 1970, UTC."""
    answered_share: float
    """The share of sampled minutes in which it answered, 0 to 1."""
    minutes: int
    """How many minutes were sampled; few in the hour in which it was started."""


def calendar(db: apsw.Connection, node: str, since_ms: int, until_ms: int) -> list[NodeHour]:
    """Return a node's hours from one time to before another, oldest first."""
    rows = rows_of(
        db,
        "SELECT hour, received, dead_letters, observed, calls, least_delay_ms, most_delay_ms"
        " FROM node_hour WHERE node_id = (SELECT id FROM node WHERE name = ?)"
        " AND hour >= ? AND hour < ? ORDER BY hour LIMIT ?",
        (node, *_hours(since_ms, until_ms), HOURS_MAX),
    )
    return [
        NodeHour(
            hour_ms=hour * HOUR_MS,
            received=received,
            dead_letters=dead_letters,
            observed=observed,
            calls=calls,
            least_delay_seconds=_seconds(least_ms),
            most_delay_seconds=_seconds(most_ms),
        )
        for hour, received, dead_letters, observed, calls, least_ms, most_ms in rows
    ]


def health(db: apsw.Connection, node: str, since_ms: int, until_ms: int) -> HealthHistory:
    """Return a node's measures from one time to before another."""
    by_measure: tuple[list[HourlyMeasure], ...] = tuple([] for _ in MEASURES)
    rows = rows_of(
        db,
        "SELECT measure, hour, readings, total, least, most FROM health_hour"
        " WHERE node_id = (SELECT id FROM node WHERE name = ?) AND measure < ?"
        " AND hour >= ? AND hour < ? ORDER BY measure, hour LIMIT ?",
        (node, len(MEASURES), *_hours(since_ms, until_ms), HOURS_MAX * len(MEASURES)),
    )
    for measure, hour, readings, total, least, most in rows:
        mean = total / readings / 1000
        by_measure[measure].append(
            HourlyMeasure(hour * HOUR_MS, least / 1000, mean, most / 1000, readings)
        )
    return HealthHistory(*by_measure)


def listening(db: apsw.Connection, since_ms: int, until_ms: int) -> list[ServiceHour]:
    """Return the hours for which it is known whether the service answered, oldest first."""
    rows = rows_of(
        db,
        "SELECT hour, answered, minutes FROM listening WHERE hour >= ? AND hour < ?"
        " ORDER BY hour LIMIT ?",
        (*_hours(since_ms, until_ms), HOURS_MAX),
    )
    return [
        ServiceHour(hour * HOUR_MS, answered / minutes, minutes) for hour, answered, minutes in rows
    ]


def witnessed(db: apsw.Connection, since_ms: int, until_ms: int) -> list[int]:
    """Return when hours begin in which one of the `WITNESSES` nodes heard last was received."""
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
