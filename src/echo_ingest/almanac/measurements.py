"""What nodes measure: the sums of many measurements by the hour, and what is asked about them."""

from collections.abc import Sequence

import apsw
from msgspec import Struct

from echo_ingest.almanac.almanac_file import rows_of
from echo_ingest.almanac.latest import IS_LATER, is_later
from echo_ingest.almanac.observation import HOUR_MS, ObservedMeasurement

SERIES_MAX = 300
"""How many series of one node are kept: what it measures may be named by its messages."""
SERIES_REMEMBERED = 50_000
HOURS_MAX = 24 * 400

IS_LATEST = IS_LATER.format(known="latest_at_ms", at="?2", soon="?3")

SeriesKey = tuple[int, str, str, str]
"""Node, sensor, name and unit."""


class HourlyMeasure(Struct, frozen=True):
    """One measure of a node in one hour."""

    hour_ms: int
    """When the hour begins in which the node measured: milliseconds since 1970, UTC."""
    least: float
    mean: float
    most: float
    readings: int


class MeasuredSeries(Struct, frozen=True):
    """What a node measures with one sensor, under one name and in one unit."""

    number: int
    """By which `measured_hours` knows it."""
    sensor: str | None
    """None where it is the node itself."""
    name: str
    unit: str | None
    """None for a plain count."""
    latest: float
    latest_at_ms: int


class MeasurementSums:
    """The sums of many measurements, kept in memory until they are written as rows."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._series: dict[SeriesKey, int | None] = {}
        self.clear()

    def clear(self) -> None:
        """Forget the sums."""
        self._hours: dict[tuple[int, int], tuple[int, float, float, float]] = {}
        self._latest: dict[int, tuple[int, int, int, float]] = {}

    def forget_ids(self) -> None:
        """Forget all ids, after a transaction that gave or removed some."""
        self._series.clear()

    def add(
        self,
        node_id: int,
        measured: ObservedMeasurement,
        at_ms: int,
        reported_at_ms: int,
        soon_ms: int,
    ) -> None:
        """Count a measurement, unless its node has too many series."""
        series_id = self._series_id((node_id, measured.sensor, measured.name, measured.unit))
        if series_id is None:
            return
        value, hour = measured.value, at_ms // HOUR_MS
        readings, total, least, most = self._hours.get((series_id, hour), (0, 0.0, value, value))
        self._hours[series_id, hour] = (
            readings + 1,
            total + value,
            min(least, value),
            max(most, value),
        )
        known = self._latest.get(series_id)
        if known is None or is_later(reported_at_ms, known[1], soon_ms):
            self._latest[series_id] = series_id, reported_at_ms, soon_ms, value

    def _series_id(self, key: SeriesKey) -> int | None:
        """Return the id of a series, which is given one if it has none and there is room."""
        if key in self._series:
            return self._series[key]
        if len(self._series) > SERIES_REMEMBERED:
            self._series.clear()
        self._db.execute(
            "INSERT INTO series (node_id, sensor, name, unit) SELECT ?1, ?2, ?3, ?4"
            " WHERE (SELECT count(*) FROM series WHERE node_id = ?1) < ?5 ON CONFLICT DO NOTHING",
            (*key, SERIES_MAX),
        )
        ids = rows_of(
            self._db,
            "SELECT id FROM series WHERE node_id = ? AND sensor = ? AND name = ? AND unit = ?",
            key,
        )
        series_id = self._series[key] = ids[0][0] if ids else None
        return series_id

    def write(self, first_hour: int) -> None:
        """Write the sums within the caller's transaction, without hours before the first."""
        self._db.executemany(
            "INSERT INTO series_hour VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " readings = readings + excluded.readings, total = total + excluded.total,"
            " least = min(least, excluded.least), most = max(most, excluded.most)",
            ((*key, *sums) for key, sums in self._hours.items() if key[1] >= first_hour),
        )
        self._db.executemany(
            f"UPDATE series SET latest = ?4, latest_at_ms = ?2 WHERE id = ?1 AND {IS_LATEST}",  # noqa: S608
            self._latest.values(),
        )


def drop_series(db: apsw.Connection, first_hour: int) -> None:
    """Remove the series that have no measurement since `first_hour`."""
    db.execute(
        "DELETE FROM series WHERE latest_at_ms < ?1 AND NOT EXISTS"
        " (SELECT 1 FROM series_hour WHERE series_id = series.id)",
        (first_hour * HOUR_MS,),
    )


def series_of(db: apsw.Connection, node: str) -> list[MeasuredSeries]:
    """Return what a node measures, with the latest value of each, in order of sensor and name."""
    rows = rows_of(
        db,
        "SELECT id, nullif(sensor, ''), name, nullif(unit, ''), latest, latest_at_ms FROM series"
        " WHERE node_id = (SELECT id FROM node WHERE name = ?) AND latest_at_ms IS NOT NULL"
        " ORDER BY sensor, name, unit LIMIT ?",
        (node, SERIES_MAX),
    )
    return [MeasuredSeries(*row) for row in rows]


def measured_hours(
    db: apsw.Connection, number: int, since_ms: int, until_ms: int
) -> Sequence[HourlyMeasure]:
    """Return the hours of a series from one time to before another, oldest first."""
    rows = rows_of(
        db,
        "SELECT hour, least, total / readings, most, readings FROM series_hour"
        " WHERE series_id = ? AND hour >= ? AND hour < ? ORDER BY hour LIMIT ?",
        (number, since_ms // HOUR_MS, -(-until_ms // HOUR_MS), HOURS_MAX),
    )
    return [HourlyMeasure(hour * HOUR_MS, *sums) for hour, *sums in rows]
