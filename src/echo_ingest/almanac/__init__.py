"""What was heard when: answers for people's eyes, kept ready beside the journal.

The journal keeps messages as they came, which is right and slow to ask. The almanac is derived
from it: `Follower` reads each record once, and `Almanac` answers within milliseconds, however long
the journal is. `almanac.db` may be deleted at any time: it is made again.

What holds
  - Calls, species, nights and refusals are those of the records and dead letters that the journal
    holds now; what is followed is at most a second behind a journal at rest.
  - A node is known if the journal has ever heard it, or if it has an account.
  - By the hour, a node is told from the hour on in which the oldest record that retention has left
    was received; of that hour, a part may be gone.
  - Samples are taken by the minute, and are the one thing that is not derived: begun anew, an
    almanac has none.
  - A call belongs to a night by the UTC hour in which it was observed.

Times are milliseconds since 1970, UTC; hours are UTC hours.
"""

from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec import Struct

from echo_ingest.almanac import calls, hours, nights, nodes, recordings, refusals, samples
from echo_ingest.almanac.calls import CallFilter, ListedCall, Species
from echo_ingest.almanac.database import AlmanacUnready, open_to_read
from echo_ingest.almanac.follower import Follower
from echo_ingest.almanac.hours import HealthHistory, HourlyMeasure, NodeHour, ServiceHour
from echo_ingest.almanac.nights import Night, SpeciesNight
from echo_ingest.almanac.nodes import (
    Clock,
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
from echo_ingest.almanac.recordings import ListedRecording
from echo_ingest.almanac.refusals import RefusedGroup
from echo_ingest.almanac.samples import (
    Sample,
    ServiceStatus,
    SinkSample,
    TimeUntilFull,
    note_sample,
)

__all__ = [
    "Almanac",
    "AlmanacUnready",
    "CallFilter",
    "Clock",
    "Follower",
    "HealthHistory",
    "HourlyMeasure",
    "ListedCall",
    "ListedRecording",
    "MapPoint",
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
    "ServiceStatus",
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
    """Where it lies in the data folder."""
    return data_dir / "almanac.db"


class Progress(Struct, frozen=True):
    """How far the almanac has followed the journal."""

    offset: int
    """All records up to here are in it; the journal's last offset says how many are not."""
    first_hour_ms: int
    """Nothing by the hour is told from before; 0: all that there ever was is."""


class Almanac:
    """Answers, read-only; opened for one question or a few, in any one thread."""

    def __init__(self, path: Path) -> None:
        """Raise `AlmanacUnready`, in words, if there is none yet."""
        self._db = open_to_read(path)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def progress(self) -> Progress:
        """How far it has come; offset 0 before the follower has begun."""
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
        """Nodes with `text` in their name, in upper or lower case; a page of at most 500.

        `today_ms` is when the day began, which is where the asker is. Nodes of which nothing is
        known that the order could go by come last.
        """
        return nodes.nodes(
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
        """One node; None if it was never heard and has no account."""
        return nodes.node(self._db, name, now_ms, today_ms)

    def node_names(self, names_max: int = 500) -> list[str]:
        """The names of those heard last, by the alphabet."""
        return nodes.names(self._db, names_max)

    def count_nodes(self, now_ms: int) -> NodeCounts:
        """How many nodes there are, how many were heard, and since when others are silent."""
        return nodes.count_nodes(self._db, now_ms)

    def points(self) -> list[MapPoint]:
        """Every node that has said where it is, by name; at most 20,000."""
        return nodes.points(self._db)

    def calendar(self, node: str, since_ms: int, until_ms: int) -> list[NodeHour]:
        """A node's hours, the oldest first; one in which nothing came or was observed is not told.

        Whether the service itself was there, `listening` tells.
        """
        return hours.calendar(self._db, node, since_ms, until_ms)

    def health(self, node: str, since_ms: int, until_ms: int) -> HealthHistory:
        """A node's battery, temperature, disk, processor and memory by the hour.

        Its clock is in `calendar`.
        """
        return hours.health(self._db, node, since_ms, until_ms)

    # ------------------------------------------------------------------ calls

    def calls(
        self, wanted: CallFilter, calls_max: int = 50, before: int | None = None
    ) -> list[ListedCall]:
        """Calls by when they were observed, the newest first; a page of at most 500.

        `before` is the last offset of the page before. A device whose clock is ahead comes first,
        so give `until_ms`. Empty where nothing more is there, or that offset is not any more.
        """
        return calls.calls(self._db, wanted, calls_max, before)

    def call(self, offset: int) -> ListedCall | None:
        """The call whose record is at `offset`; None if there is no detection."""
        return calls.call_at(self._db, offset)

    def recordings(
        self, wanted: CallFilter, recordings_max: int = 50, before: int | None = None
    ) -> list[ListedRecording]:
        """Sound in which no animal was named, by node and time; pages as those of `calls`."""
        return recordings.recordings(self._db, wanted, recordings_max, before)

    def neighbours(self, offset: int) -> tuple[int | None, int | None]:
        """Of a call or a recording: the one before and the one after it, of the same node."""
        if self.call(offset) is not None:
            return calls.neighbours(self._db, offset)
        return recordings.neighbours(self._db, offset)

    def nights(self, wanted: CallFilter, zone: ZoneInfo, nights_max: int = 14) -> list[Night]:
        """Nights in which something wanted was called, the newest first; at most 31.

        For further ones, have `until_ms` be the `since_ms` of the last.
        """
        return nights.nights(self._db, wanted, zone, nights_max)

    def species(self, species_max: int = 500) -> list[Species]:
        """Every species, the most calls first; at most 500."""
        return calls.species_heard(self._db, species_max)

    # ------------------------------------------------------------------ the service itself

    def samples(self, since_ms: int, until_ms: int, every_minutes: int = 1) -> list[Sample]:
        """How the service was, the oldest first; the last sample of each `every_minutes`."""
        return samples.samples(self._db, since_ms, until_ms, every_minutes)

    def listening(self, since_ms: int, until_ms: int) -> list[ServiceHour]:
        """In which hours the service itself was there, as far as that is known."""
        return hours.listening(self._db, since_ms, until_ms)

    def witnessed(self, since_ms: int, until_ms: int) -> list[int]:
        """When the hours begin in which something was received, so that the service was there.

        Told by the 50 nodes that were heard last, so that it takes no longer with many.
        """
        return hours.witnessed(self._db, since_ms, until_ms)

    def room(self) -> TimeUntilFull:
        """How long the room for records lasts."""
        return samples.room_left(self._db)

    # ------------------------------------------------------------------ refused

    def refused(self, node: str | None = None, groups_max: int = 200) -> list[RefusedGroup]:
        """Dead letters and parked records by reason, the most first; at most 200 groups."""
        return refusals.refused(self._db, node, groups_max)

    def refused_ones(
        self,
        group: RefusedGroup,
        *,
        node: str | None = None,
        before: int | None = None,
        ones_max: int = 50,
    ) -> list[int]:
        """Ids of the dead letters of a group, or offsets of its records: the newest first.

        `before` is the last one of the page before. At most 1,000.
        """
        return refusals.members(self._db, group.sink, group.reason_id, node, before, ones_max)
