"""The read model of the journal: what was heard when, ready for the pages that people look at.

The journal keeps messages as they were received, which is right but slow to query. The almanac is
derived from it: `Follower` reads each record once, and `Almanac` answers within milliseconds,
however long the journal is. `almanac.db` may be deleted at any time: it is built again.

Guarantees
  - Calls, species, nights and refusals are those of the records and dead letters that the journal
    holds now; when the journal is at rest, the almanac is at most a second behind it.
  - A call is a detection of an animal; what classifiers say of voices, engines and noise is none.
  - The latest of anything is the latest that may be true: a leap of the host's clock hides nothing
    that comes after it.
  - A node is known if the journal has ever heard it, or if it has an account.
  - The hourly history of a node begins with the hour in which the oldest record that retention has
    left was received; a part of that hour may be gone.
  - What a node measures is kept by the hour and with its latest value, in at most 300 series.
  - Samples are taken each minute. They alone are not derived: an almanac that is built anew has
    none.
  - A call belongs to the night in which it was observed; `night.py` says which that is.

Times are milliseconds since 1970, UTC; hours are UTC hours.
"""

from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec import Struct

from echo_ingest.almanac import (
    calls,
    hours,
    measurements,
    nights,
    node_summaries,
    refusals,
    samples,
)
from echo_ingest.almanac.almanac_file import AlmanacUnready, open_to_read
from echo_ingest.almanac.calls import CallFilter, ListedCall, ListedRecording, Neighbours, Species
from echo_ingest.almanac.follower import Follower
from echo_ingest.almanac.hours import HealthHistory, NodeHour, ServiceHour
from echo_ingest.almanac.measurements import HourlyMeasure, MeasuredSeries
from echo_ingest.almanac.nights import Night, SpeciesNight
from echo_ingest.almanac.node_summaries import (
    Clock,
    FractionSender,
    MapPoint,
    NodeCounts,
    NodePage,
    NodePlace,
    NodeSummary,
    Order,
    ReportedValue,
    SilentNode,
    Which,
)
from echo_ingest.almanac.observation import CLOCK_TOLERANCE_MS
from echo_ingest.almanac.refusals import RefusedGroup
from echo_ingest.almanac.samples import (
    Sample,
    SinkSample,
    TimeUntilFull,
    note_sample,
)
from echo_ingest.record import RecordId

__all__ = [
    "CLOCK_TOLERANCE_MS",
    "Almanac",
    "AlmanacUnready",
    "CallFilter",
    "Clock",
    "Follower",
    "FractionSender",
    "HealthHistory",
    "HourlyMeasure",
    "ListedCall",
    "ListedRecording",
    "MapPoint",
    "MeasuredSeries",
    "Night",
    "NodeCounts",
    "NodeHour",
    "NodePage",
    "NodePlace",
    "NodeSummary",
    "Order",
    "Progress",
    "RefusedGroup",
    "ReportedValue",
    "Sample",
    "ServiceHour",
    "SilentNode",
    "SinkSample",
    "Species",
    "SpeciesNight",
    "TimeUntilFull",
    "Which",
    "almanac_path",
    "note_sample",
]


def almanac_path(data_dir: Path) -> Path:
    """Return the path of the almanac in the data folder."""
    return data_dir / "almanac.db"


class Progress(Struct, frozen=True):
    """How far the almanac has followed the journal."""

    offset: int
    """Every message up to here has been read; the journal's last offset says how many have not."""
    first_hour_ms: int
    """Where the hourly history begins; 0: nothing was ever removed."""


class Almanac:
    """The answers, read-only; opened for a question or a few, and used in one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open the almanac; raise `AlmanacUnready` if there is none yet."""
        self._db = open_to_read(path)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def progress(self) -> Progress:
        """Return how far the journal has been read; offset 0 before the follower has begun."""
        row = self._db.execute("SELECT offset, first_hour FROM progress").fetchone()
        offset, hour = row or (0, 0)
        return Progress(offset, hour * 3_600_000)

    # ------------------------------------------------------------------ nodes

    def nodes(
        self,
        now_ms: int,
        today_ms: int,
        *,
        text: str = "",
        which: Which = "all",
        order: Order = "name",
        descending: bool = False,
        nodes_max: int = 50,
        skip: int = 0,
    ) -> NodePage:
        """Return a page of at most 500 nodes with `text` in their name, in upper or lower case.

        `today_ms` is when the day began where the viewer is. Nodes without a value to order by
        come last.
        """
        return node_summaries.nodes(
            self._db,
            now_ms,
            today_ms,
            text=text,
            which=which,
            order=order,
            descending=descending,
            nodes_max=nodes_max,
            skip=skip,
        )

    def node(self, name: str, now_ms: int, today_ms: int) -> NodeSummary | None:
        """Return one node; None if it was never heard and has no account."""
        return node_summaries.node(self._db, name, now_ms, today_ms)

    def node_names(self, names_max: int = 500) -> list[str]:
        """Return the names of the nodes that were heard last, in alphabetical order."""
        return node_summaries.names(self._db, names_max)

    def count_nodes(self, now_ms: int) -> NodeCounts:
        """Count the nodes, those that were heard lately, and those that are silent."""
        return node_summaries.count_nodes(self._db, now_ms)

    def fraction_senders(self) -> list[FractionSender]:
        """Return the nodes that send fractions where the form means percent, by name."""
        return node_summaries.fraction_senders(self._db)

    def points(self) -> list[MapPoint]:
        """Return every node that has reported its position, by name; at most 20,000."""
        return node_summaries.points(self._db)

    def calendar(self, node: str, since_ms: int, until_ms: int) -> list[NodeHour]:
        """Return a node's hours, oldest first, without those that have no message.

        `listening` says whether the service itself was running.
        """
        return hours.calendar(self._db, node, since_ms, until_ms)

    def health(self, node: str, since_ms: int, until_ms: int) -> HealthHistory:
        """Return a node's battery, temperature, disk, processor and memory by the hour.

        Its clock is in `calendar`.
        """
        return hours.health(self._db, node, since_ms, until_ms)

    def series(self, node: str) -> list[MeasuredSeries]:
        """Return what a node measures, with the latest value of each; at most 300."""
        return measurements.series_of(self._db, node)

    def measured(
        self, series: MeasuredSeries, since_ms: int, until_ms: int
    ) -> Sequence[HourlyMeasure]:
        """Return a series by the hour, oldest first, without hours that have no measurement."""
        return measurements.measured_hours(self._db, series.number, since_ms, until_ms)

    # ------------------------------------------------------------------ calls

    def calls(
        self, wanted: CallFilter, calls_max: int = 50, before: RecordId | None = None
    ) -> list[ListedCall]:
        """Return a page of at most 500 calls by the time they were observed at, newest first.

        `before` is the last record of the previous page. Calls that were received while the host's
        clock was ahead come first, unless the filter has `until_ms`. The page is empty where there
        are no more calls, or where the record `before` is gone.
        """
        return calls.calls(self._db, wanted, calls_max, before)

    def call(self, record: RecordId) -> ListedCall | None:
        """Return the call that a record is; None if it is not a detection."""
        return calls.call_of(self._db, record)

    def recordings(
        self, wanted: CallFilter, recordings_max: int = 50, before: RecordId | None = None
    ) -> list[ListedRecording]:
        """Return a page of recordings by node and time, paged as `calls` is."""
        return calls.recordings(self._db, wanted, recordings_max, before)

    def neighbours(self, record: RecordId) -> Neighbours:
        """Return those before and after a call or a recording, of the same kind and node."""
        if self.call(record) is not None:
            return calls.call_neighbours(self._db, record)
        return calls.recording_neighbours(self._db, record)

    def nights(self, wanted: CallFilter, zone: ZoneInfo, nights_max: int = 14) -> list[Night]:
        """Return the nights with calls that the filter matches, newest first; at most 31.

        For earlier nights, set `until_ms` to the `since_ms` of the last one.
        """
        return nights.nights(self._db, wanted, zone, nights_max)

    def species(self, species_max: int = 500) -> list[Species]:
        """Return every species, most calls first; at most 500."""
        return calls.species_heard(self._db, species_max)

    # ------------------------------------------------------------------ the service itself

    def samples(self, since_ms: int, until_ms: int, every_minutes: int = 1) -> list[Sample]:
        """Return samples of the service, oldest first: the last one of each `every_minutes`."""
        return samples.samples(self._db, since_ms, until_ms, every_minutes)

    def listening(self, since_ms: int, until_ms: int) -> list[ServiceHour]:
        """Return the hours for which it is known whether the service was running, oldest first."""
        return hours.listening(self._db, since_ms, until_ms)

    def witnessed(self, since_ms: int, until_ms: int) -> list[int]:
        """Return the beginnings of hours in which something was received: the service was running.

        Only the 50 nodes that were heard last are looked at, so that many nodes take no longer.
        """
        return hours.witnessed(self._db, since_ms, until_ms)

    def room(self, now_ms: int) -> TimeUntilFull:
        """Return how long there is room for records."""
        return samples.room_left(self._db, now_ms)

    # ------------------------------------------------------------------ refused

    def refused(self, node: str | None = None, groups_max: int = 200) -> list[RefusedGroup]:
        """Return dead letters and parked records grouped by reason, largest first; at most 200."""
        return refusals.refused(self._db, node, groups_max)

    def refused_ones(
        self,
        group: RefusedGroup,
        *,
        node: str | None = None,
        before: int | None = None,
        ones_max: int = 50,
    ) -> list[int]:
        """Return a page of a group, newest first: ids of dead letters, or offsets of records.

        `before` is the last one of the previous page. A page has at most 1,000.
        """
        return refusals.members(self._db, group.sink, group.reason_id, node, before, ones_max)
