"""The sums of many records, kept in memory until they are written as rows."""

from collections.abc import Iterator, Sequence
from typing import Any

import apsw
from msgspec import Struct

from echo_ingest.almanac.latest import IS_LATER, is_later
from echo_ingest.almanac.measurements import MeasurementSums
from echo_ingest.almanac.nights import CallRow, add_calls, tenth_of
from echo_ingest.almanac.observation import (
    CLOCK_TOLERANCE_MS,
    HOUR_MS,
    MEASURES,
    Observation,
)
from echo_ingest.almanac.record_numbers import number_of
from echo_ingest.quality import TimeProblem

SPAN_MS = 600_000
LATEST = ("place", "battery", "temperature", "disk", "firmware")
NAMES_MAX = 50_000
"""How many ids are remembered; with more nodes or species, they are looked up again."""
IS_HEARD_LATER = IS_LATER.format(known="last_heard_at_ms", at="?3", soon="?4")
HEARD = f"""
    first_heard_at_ms = min(coalesce(first_heard_at_ms, ?2), ?2),
    last_heard_at_ms = iif({IS_HEARD_LATER}, ?3, last_heard_at_ms)"""
"""Notes when a node was heard first (?2) and last (?3); ?4 is `soon_ms`."""


class NodeHourRow(Struct, gc=False):
    """A row of the table `node_hour`, without its key."""

    received: int = 0
    observed: int = 0
    calls: int = 0
    timed: int = 0
    least_delay_ms: int | None = None
    most_delay_ms: int | None = None


class Aggregate:
    """Adds up records, until `write` puts the sums into the almanac and starts again from zero."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._nodes: dict[str, int] = {}
        self._species: dict[tuple[str, str | None], int] = {}
        self._measurements = MeasurementSums(db)
        self.clear()

    def clear(self) -> None:
        """Forget the sums."""
        self.records = 0
        self._calls: list[CallRow] = []
        self._clips: list[tuple[int, ...]] = []
        self._heard: dict[int, tuple[int, int]] = {}
        self._lately: dict[tuple[int, int], int] = {}
        self._hours: dict[tuple[int, int], NodeHourRow] = {}
        self._health: dict[tuple[int, int, int], list[int]] = {}
        self._latest: dict[str, dict[int, tuple[Any, ...]]] = {what: {} for what in LATEST}
        self._of_species: dict[int, int] = {}
        self._time_problems: dict[int, TimeProblem | None] = {}
        self._confidences: dict[int, tuple[int, float]] = {}
        self._measurements.clear()

    def node_id(self, name: str) -> int:
        """Return the id of a node, which is given one if it has none."""
        node_id = self._nodes.get(name)
        if node_id is None:
            if len(self._nodes) > NAMES_MAX:
                self._nodes.clear()
            self._db.execute("INSERT INTO node (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            node_id = int(self._db.execute("SELECT id FROM node WHERE name = ?", (name,)).get)
            self._nodes[name] = node_id
        return node_id

    def species_id(self, name: str, common_name: str | None) -> int:
        """Return the id of a species, which is given one if it has none."""
        species_id = self._species.get((name, common_name))
        if species_id is None:
            if len(self._species) > NAMES_MAX:
                self._species.clear()
            self._db.execute(
                "INSERT INTO species (name, common_name, calls) VALUES (?, ?, 0)"
                " ON CONFLICT DO UPDATE"
                " SET common_name = coalesce(excluded.common_name, common_name)",
                (name, common_name),
            )
            species_id = int(self._db.execute("SELECT id FROM species WHERE name = ?", (name,)).get)
            self._species[name, common_name] = species_id
        return species_id

    def forget_ids(self) -> None:
        """Forget all ids, after a transaction that gave or removed some."""
        self._nodes.clear()
        self._species.clear()
        self._measurements.forget_ids()

    def add(
        self,
        offset: int,
        node: str,
        received_at_ms: int,
        observations: Sequence[Observation],
        now_ms: int,
    ) -> None:
        """Count a message with its records; there are none where it cannot be decoded any more."""
        self.records += len(observations) or 1
        soon_ms = now_ms + CLOCK_TOLERANCE_MS
        names = {node, *[each.node for each in observations]}
        if len(names) > 1:  # it names nodes that the topic does not
            names.discard("")
        for name in names:
            self._hear(self.node_id(name), received_at_ms, soon_ms)
        self._count_once(received_at_ms, observations)
        for index, observation in enumerate(observations):
            self._add(number_of(offset, index), received_at_ms, observation, soon_ms)

    def _hear(self, node_id: int, received_at_ms: int, soon_ms: int) -> None:
        """Count a message for the node that sent it, or for one that it speaks for."""
        first, last = self._heard.get(node_id, (received_at_ms, received_at_ms))
        if is_later(received_at_ms, last, soon_ms):
            last = received_at_ms
        self._heard[node_id] = min(first, received_at_ms), last
        span = received_at_ms // SPAN_MS, node_id
        self._lately[span] = self._lately.get(span, 0) + 1
        self._hour(node_id, received_at_ms).received += 1

    def _count_once(self, received_at_ms: int, observations: Sequence[Observation]) -> None:
        """Count a message for each hour of its own time, and as one that tells of a clock.

        However many of its records say so: the thirty bands of one sound level are one message.
        """
        hours = {
            (each.node, each.observed_at_ms // HOUR_MS) for each in observations if each.tells_time
        }
        for node, hour in hours:
            self._hour(self.node_id(node), hour * HOUR_MS).observed += 1
        for node in {each.node for each in observations if each.delay_ms is not None}:
            self._hour(self.node_id(node), received_at_ms).timed += 1

    def _add(
        self, number: int, received_at_ms: int, observation: Observation, soon_ms: int
    ) -> None:
        node_id = self.node_id(observation.node)
        received_in = self._hour(node_id, received_at_ms)
        at_ms = observation.observed_at_ms
        delay_ms = observation.delay_ms
        if delay_ms is not None:
            least, most = received_in.least_delay_ms, received_in.most_delay_ms
            received_in.least_delay_ms = delay_ms if least is None else min(least, delay_ms)
            received_in.most_delay_ms = delay_ms if most is None else max(most, delay_ms)
        if observation.tells_time or observation.time_problem is not None:
            self._time_problems[node_id] = observation.time_problem
        if observation.confidence is not None:
            count, most_confidence = self._confidences.get(node_id, (0, 0.0))
            most_confidence = max(most_confidence, observation.confidence)
            self._confidences[node_id] = count + 1, most_confidence
        # With a clock that is ahead, a value counts as of its receipt.
        reported_at_ms = min(at_ms, received_at_ms)
        if observation.place is not None:
            self._note(node_id, "place", reported_at_ms, soon_ms, observation.place)
        if observation.firmware is not None:
            self._note(node_id, "firmware", reported_at_ms, soon_ms, (observation.firmware,))
        if observation.readings is not None:
            for measure, value in enumerate(observation.readings):
                what = MEASURES[measure].partition("_")[0]
                if value is not None and what in LATEST:
                    self._note(node_id, what, reported_at_ms, soon_ms, (value,))
            self._add_readings(node_id, at_ms, observation.readings)
        if observation.measurement is not None:
            self._measurements.add(node_id, observation.measurement, at_ms, reported_at_ms, soon_ms)
        call, clip = observation.call, observation.clip
        if clip is not None:
            self._clips.append(
                (
                    number,
                    node_id,
                    at_ms,
                    clip.duration_ms,
                    clip.tells_start,
                    observation.tells_time,
                    clip.is_named,
                )
            )
        if call is not None:
            species_id = self.species_id(call.species, call.common_name)
            self._hour(node_id, at_ms).calls += 1
            self._of_species[species_id] = self._of_species.get(species_id, 0) + 1
            self._calls.append(
                (
                    number,
                    at_ms,
                    node_id,
                    species_id,
                    tenth_of(call.confidence),
                    call.confidence,
                    call.has_clip,
                    observation.tells_time,
                )
            )

    def _hour(self, node_id: int, at_ms: int) -> NodeHourRow:
        key = node_id, at_ms // HOUR_MS
        row = self._hours.get(key)
        if row is None:
            row = self._hours[key] = NodeHourRow()
        return row

    def _note(
        self, node_id: int, what: str, at_ms: int, soon_ms: int, values: tuple[object, ...]
    ) -> None:
        """Keep the latest value."""
        latest = self._latest[what]
        known = latest.get(node_id)
        if known is None or is_later(at_ms, known[1], soon_ms):
            latest[node_id] = node_id, at_ms, soon_ms, *values

    def _add_readings(self, node_id: int, at_ms: int, readings: tuple[float | None, ...]) -> None:
        for measure, value in enumerate(readings):
            if value is None:
                continue
            key = node_id, measure, at_ms // HOUR_MS
            scaled = round(value * 1000)
            sums = self._health.get(key)
            if sums is None:
                self._health[key] = [1, scaled, scaled, scaled]
            else:
                sums[0] += 1
                sums[1] += scaled
                sums[2] = min(sums[2], scaled)
                sums[3] = max(sums[3], scaled)

    def write(self, first_hour: int, first_span: int, now_ms: int) -> Iterator[None]:
        """Write the sums within the caller's transaction, without hours and spans before these."""
        db = self._db
        soon_ms = now_ms + CLOCK_TOLERANCE_MS
        db.executemany(
            f"UPDATE node SET {HEARD} WHERE id = ?1",  # noqa: S608
            ((node_id, *heard, soon_ms) for node_id, heard in self._heard.items()),
        )
        db.executemany(
            "UPDATE node SET time_problem = ?2 WHERE id = ?1", self._time_problems.items()
        )
        db.executemany(
            "UPDATE node SET confidences = confidences + ?2,"
            " most_confidence = max(coalesce(most_confidence, ?3), ?3) WHERE id = ?1",
            ((node_id, *sums) for node_id, sums in self._confidences.items()),
        )
        db.executemany(
            "INSERT INTO lately VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET records = records + excluded.records",
            ((*key, count) for key, count in self._lately.items() if key[0] >= first_span),
        )
        db.executemany(
            "INSERT INTO node_hour VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " received = received + excluded.received, observed = observed + excluded.observed,"
            " calls = calls + excluded.calls, timed = timed + excluded.timed,"
            " least_delay_ms = min(coalesce(least_delay_ms, excluded.least_delay_ms),"
            "  coalesce(excluded.least_delay_ms, least_delay_ms)),"
            " most_delay_ms = max(coalesce(most_delay_ms, excluded.most_delay_ms),"
            "  coalesce(excluded.most_delay_ms, most_delay_ms))",
            (
                (
                    *key,
                    hour.received,
                    hour.observed,
                    hour.calls,
                    hour.timed,
                    hour.least_delay_ms,
                    hour.most_delay_ms,
                )
                for key, hour in self._hours.items()
                if key[1] >= first_hour
            ),
        )
        yield
        db.executemany(
            "INSERT INTO health_hour VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " readings = readings + excluded.readings, total = total + excluded.total,"
            " least = min(least, excluded.least), most = max(most, excluded.most)",
            ((*key, *sums) for key, sums in self._health.items() if key[2] >= first_hour),
        )
        yield
        self._measurements.write(first_hour)
        yield
        for what, rows in self._latest.items():
            db.executemany(UPDATE_LATEST[what], rows.values())
        db.executemany("INSERT INTO clip VALUES (?, ?, ?, ?, ?, ?, ?)", self._clips)
        db.executemany("INSERT INTO call VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self._calls)
        yield
        add_calls(db, self._calls)
        db.executemany(
            "UPDATE species SET calls = calls + ?2 WHERE id = ?1", self._of_species.items()
        )
        self.clear()


UPDATE_LATEST = {
    what: f"UPDATE node SET {what}_at_ms = ?2, {assigned} WHERE id = ?1"  # noqa: S608
    f" AND {IS_LATER.format(known=f'{what}_at_ms', at='?2', soon='?3')}"
    for what, assigned in {
        "place": "latitude = ?4, longitude = ?5, uncertainty_metres = ?6",
        "battery": "battery_percent = ?4",
        "temperature": "temperature_celsius = ?4",
        "disk": "disk_percent = ?4",
        "firmware": "firmware = ?4",
    }.items()
}
