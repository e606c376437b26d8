"""Calls by night and species, from noon to noon in any time zone.

They are counted by UTC hour and species, and within these by tenths of confidence, so that hours
can be added up for any zone and from any confidence on. Where a night or a filter divides an hour,
as in zones that are half an hour off, the calls of that hour are counted from the records.
"""

from array import array
from collections.abc import Iterable
from datetime import date
from zoneinfo import ZoneInfo

import apsw
import msgspec
from msgspec import Struct

from echo_ingest.almanac.almanac_file import rows_of
from echo_ingest.almanac.calls import EACH_TENTH, END_MS, CallFilter, ids_of, newest
from echo_ingest.almanac.observation import HOUR_MS
from echo_ingest.almanac.record_numbers import id_of
from echo_ingest.night import night_of
from echo_ingest.record import RecordId

NIGHTS_MAX = 31
NODE_IDS = "I"


class SpeciesNight(Struct, frozen=True):
    """One species in one night."""

    species: str
    """The scientific name, as the devices give it."""
    common_name: str | None
    calls: int
    nodes: int
    """How many different nodes heard it."""
    best_confidence: float | None
    """Fraction, 0 to 1. None: no call has a confidence."""
    best_record: RecordId
    """A call with that confidence."""
    first_at_ms: int
    last_at_ms: int
    """When the first and the last call were observed: milliseconds since 1970, UTC."""


class Night(Struct, frozen=True):
    """The calls from one noon to the next."""

    evening: date
    """The local day on which it begins, at noon."""
    since_ms: int
    until_ms: int
    """From when and before when calls were observed: milliseconds since 1970, UTC."""
    species: tuple[SpeciesNight, ...]
    """Species with the most calls first."""


class ConfidenceBin(Struct, array_like=True, gc=False):
    """Calls of one species in one hour whose confidence lies in one tenth."""

    tenth: int
    """-1: without a confidence."""
    calls: int
    best_confidence: float | None
    best_record: int
    """Its number, as `record_numbers` has it."""
    first_at_ms: int
    last_at_ms: int
    nodes: bytes
    """Ids of the nodes that heard it, each once: 4 bytes, in the machine's order."""

    def add(self, record: int, observed_at_ms: int, confidence: float | None) -> None:
        """Count one more call; `_write` adds its node."""
        self.calls += 1
        self.first_at_ms = min(self.first_at_ms, observed_at_ms)
        self.last_at_ms = max(self.last_at_ms, observed_at_ms)
        if confidence is not None and (
            self.best_confidence is None or confidence > self.best_confidence
        ):
            self.best_confidence, self.best_record = confidence, record


CallRow = tuple[int, int, int, int, int, float | None, int, int]
"""A row of the table `call`."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[ConfidenceBin]).decode


def tenth_of(confidence: float | None) -> int:
    """Return the tenth of a confidence, rounded down: 6 for 0.69; -1 without a confidence."""
    return -1 if confidence is None else int(confidence * 10)


def add_calls(db: apsw.Connection, calls: Iterable[CallRow]) -> None:
    """Count new calls into their hours."""
    by_hour: dict[tuple[int, int], list[CallRow]] = {}
    for call in calls:
        by_hour.setdefault((call[1] // HOUR_MS, call[3]), []).append(call)
    for (hour, species_id), new in by_hour.items():
        known = rows_of(
            db,
            "SELECT tenths FROM species_hour WHERE hour = ? AND species_id = ?",
            (hour, species_id),
        )
        _write(db, hour, species_id, _decode(known[0][0]) if known else [], new)


def recount(db: apsw.Connection, hour: int, species_id: int) -> None:
    """Count an hour again from the calls that are left in it."""
    first = hour * HOUR_MS
    left = rows_of(
        db,
        "SELECT record, observed_at_ms, node_id, species_id, tenth, confidence, has_clip,"  # noqa: S608
        f" tells_time FROM call WHERE species_id = ? AND {EACH_TENTH}"
        " AND observed_at_ms >= ? AND observed_at_ms < ? ORDER BY record",
        (species_id, first, first + HOUR_MS),
    )
    if left:
        _write(db, hour, species_id, [], left)
    else:
        db.execute("DELETE FROM species_hour WHERE hour = ? AND species_id = ?", (hour, species_id))


def _write(
    db: apsw.Connection,
    hour: int,
    species_id: int,
    known: list[ConfidenceBin],
    calls: Iterable[CallRow],
) -> None:
    bins = _with_calls(known, calls)
    db.execute(
        "INSERT INTO species_hour VALUES (?1, ?2, ?3)"
        " ON CONFLICT DO UPDATE SET tenths = excluded.tenths",
        (hour, species_id, _encode(bins)),
    )


def _with_calls(known: list[ConfidenceBin], calls: Iterable[CallRow]) -> list[ConfidenceBin]:
    """Count calls of one species into its bins; return all bins by tenth."""
    tenths = {tenth.tenth: tenth for tenth in known}
    nodes: dict[int, set[int]] = {}
    for record, observed_at_ms, node_id, _, tenth, confidence, *_ in calls:
        counted = tenths.get(tenth)
        if counted is None:
            counted = tenths[tenth] = ConfidenceBin(
                tenth=tenth,
                calls=0,
                best_confidence=None,
                best_record=record,
                first_at_ms=observed_at_ms,
                last_at_ms=observed_at_ms,
                nodes=b"",
            )
        counted.add(record, observed_at_ms, confidence)
        nodes.setdefault(tenth, set()).add(node_id)
    for tenth, new in nodes.items():
        counted = tenths[tenth]
        counted.nodes = array(NODE_IDS, new.union(array(NODE_IDS, counted.nodes))).tobytes()
    return [tenths[each] for each in sorted(tenths)]


# ---------------------------------------------------------------------- queries


def nights(db: apsw.Connection, wanted: CallFilter, zone: ZoneInfo, nights_max: int) -> list[Night]:
    """Return the newest nights with wanted calls, newest first."""
    ids = ids_of(db, wanted)
    if ids is None:
        return []
    node_id, species_id = ids
    least = wanted.least_tenth
    newest_nights: list[Night] = []
    before = END_MS if wanted.until_ms is None else wanted.until_ms
    since = -END_MS if wanted.since_ms is None else wanted.since_ms
    while len(newest_nights) < min(nights_max, NIGHTS_MAX):
        last = newest(db, node_id, species_id, wanted, (before, 0), 1)
        if not last:
            break
        night = night_of(last[0][0], zone)
        within = max(night.since_ms, since), min(night.until_ms, before)
        if node_id is None:
            parts = _of_all(db, species_id, least, *within)
        else:
            parts = _of_node(db, node_id, species_id, least, *within)
        species = tuple(_added_up(db, parts))
        newest_nights.append(Night(night.evening, night.since_ms, night.until_ms, species))
        before = night.since_ms
    return newest_nights


def _of_all(
    db: apsw.Connection, species_id: int | None, least: int, first_ms: int, end_ms: int
) -> dict[int, list[ConfidenceBin]]:
    """Return the bins to add up for each species."""
    parts: dict[int, list[ConfidenceBin]] = {}
    first_hour, end_hour = -(-first_ms // HOUR_MS), end_ms // HOUR_MS
    for part_first_ms, part_end_ms in _parts_of_hours(first_ms, end_ms):
        hour = part_first_ms // HOUR_MS
        others = ((hour * HOUR_MS, part_first_ms), (part_end_ms, (hour + 1) * HOUR_MS))
        if any(_has_calls(db, *other) for other in others):
            _add_part(db, species_id, least, part_first_ms, part_end_ms, parts)
        else:  # the whole hour is the same, and already counted
            first_hour, end_hour = min(first_hour, hour), max(end_hour, hour + 1)
    rows = rows_of(
        db,
        "SELECT species_id, tenths FROM species_hour WHERE hour >= ?1 AND hour < ?2"
        " AND (?3 IS NULL OR species_id = ?3)",
        (first_hour, end_hour, species_id),
    )
    for number, tenths in rows:
        wanted = [tenth for tenth in _decode(tenths) if tenth.tenth >= least]
        if wanted:
            parts.setdefault(number, []).extend(wanted)
    return parts


def _parts_of_hours(first_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """Return what lies before the first whole hour of a span, and after the last one."""
    first_hour_ms, end_hour_ms = -(-first_ms // HOUR_MS) * HOUR_MS, end_ms // HOUR_MS * HOUR_MS
    if first_hour_ms > end_hour_ms:  # all of it lies within one hour
        return [(first_ms, end_ms)]
    spans = (first_ms, first_hour_ms), (end_hour_ms, end_ms)
    return [(first, end) for first, end in spans if first < end]


def _has_calls(db: apsw.Connection, first_ms: int, end_ms: int) -> bool:
    wanted = CallFilter(since_ms=first_ms)
    return first_ms < end_ms and bool(newest(db, None, None, wanted, (end_ms, 0), 1))


def _add_part(
    db: apsw.Connection,
    species_id: int | None,
    least: int,
    first_ms: int,
    end_ms: int,
    parts: dict[int, list[ConfidenceBin]],
) -> None:
    """Count the calls in a part of an hour into bins of their own."""
    index, term = "call_by_time", "?4 IS NULL AND"
    if species_id is not None:
        index, term = "call_by_species", "species_id = ?4 AND"
    rows = rows_of(
        db,
        "SELECT record, observed_at_ms, node_id, species_id, tenth, confidence, has_clip,"  # noqa: S608
        f" tells_time FROM call INDEXED BY {index} WHERE {term} {EACH_TENTH} AND tenth >= ?1"
        " AND observed_at_ms >= ?2 AND observed_at_ms < ?3 ORDER BY record",
        (least, first_ms, end_ms, species_id),
    )
    by_species: dict[int, list[CallRow]] = {}
    for row in rows:
        by_species.setdefault(row[3], []).append(row)
    for number, calls in by_species.items():
        parts.setdefault(number, []).extend(_with_calls([], calls))


def _of_node(
    db: apsw.Connection,
    node_id: int,
    species_id: int | None,
    least: int,
    first_ms: int,
    end_ms: int,
) -> dict[int, list[ConfidenceBin]]:
    """Return the same for one node, whose calls are few enough to be counted from the records."""
    source = (
        f"FROM call INDEXED BY call_by_node WHERE node_id = ?1 AND {EACH_TENTH} AND tenth >= ?2"
        " AND observed_at_ms >= ?3 AND observed_at_ms < ?4 AND (?5 IS NULL OR species_id = ?5)"
        " GROUP BY species_id, tenth"
    )
    bindings = node_id, least, first_ms, end_ms, species_id
    counted = rows_of(
        db,
        f"SELECT species_id, tenth, count(*), min(observed_at_ms), max(observed_at_ms) {source}",
        bindings,
    )
    # A query of its own: beside a single max(), SQLite takes the other columns from its row.
    best = {
        (number, tenth): (confidence, record)
        for number, tenth, confidence, record in rows_of(
            db, f"SELECT species_id, tenth, max(confidence), record {source}", bindings
        )
    }
    parts: dict[int, list[ConfidenceBin]] = {}
    nodes = array(NODE_IDS, [node_id]).tobytes()
    for number, tenth, calls, first_at_ms, last_at_ms in counted:
        best_confidence, best_record = best[number, tenth]
        parts.setdefault(number, []).append(
            ConfidenceBin(
                tenth=tenth,
                calls=calls,
                best_confidence=best_confidence,
                best_record=best_record,
                first_at_ms=first_at_ms,
                last_at_ms=last_at_ms,
                nodes=nodes,
            )
        )
    return parts


def _added_up(db: apsw.Connection, parts: dict[int, list[ConfidenceBin]]) -> list[SpeciesNight]:
    """Add up the bins of each species, most calls first."""
    night = []
    for species_id, bins in parts.items():
        name, common_name = db.execute(
            "SELECT name, common_name FROM species WHERE id = ?", (species_id,)
        ).get
        best = max(bins, key=_best_confidence)
        night.append(
            SpeciesNight(
                species=name,
                common_name=common_name,
                calls=sum([each.calls for each in bins]),
                nodes=len(set().union(*[array(NODE_IDS, each.nodes) for each in bins])),
                best_confidence=best.best_confidence,
                best_record=id_of(best.best_record),
                first_at_ms=min([each.first_at_ms for each in bins]),
                last_at_ms=max([each.last_at_ms for each in bins]),
            )
        )
    return sorted(night, key=lambda each: (-each.calls, each.species))


def _best_confidence(tenth: ConfidenceBin) -> float:
    return -1.0 if tenth.best_confidence is None else tenth.best_confidence
