"""The contents of a journal, counted one by one in plain Python: the almanac must say the same."""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec import structs

from echo_ingest.almanac import Almanac, CallFilter, ListedCall, Night
from echo_ingest.almanac.observation import CLOCK_TOLERANCE_MS, MEASURES
from echo_ingest.journal.node_days import NodeDay
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.quality import TimeProblem
from echo_ingest.record import (
    AnyRecord,
    Detection,
    Measurement,
    RecordId,
    Recording,
    Telemetry,
)
from tests.several_records import DECODER_OF_SEVERAL

PAYLOAD_BYTES_MAX = 1_000_000
HOUR_MS = 3_600_000
ZONES = tuple(map(ZoneInfo, ("UTC", "Australia/Adelaide", "Europe/Berlin", "Asia/Kathmandu")))
FILTERS = (
    CallFilter(),
    CallFilter(species="Litoria ewingii"),
    CallFilter(species="Nobody knows", node="n1"),
    CallFilter(node="n1"),
    CallFilter(node="n2", species="Crinia signifera", confidence_percent_min=50),
    CallFilter(confidence_percent_min=0),
    CallFilter(confidence_percent_min=100),
    CallFilter(species="Crinia signifera", confidence_percent_min=70),
)


@dataclass(frozen=True)
class JournalRecord:
    """A record in the journal."""

    id: RecordId
    node: str
    """The node that sent it."""
    sent_by: str
    """The node that its message was received from."""
    received_at_ms: int
    record: AnyRecord

    @property
    def observed_at_ms(self) -> int:
        return int(self.record.observed_at.timestamp() * 1000)

    @property
    def written_ms(self) -> int | None:
        """Return the time that the device wrote, believed or not."""
        if self.record.time_source == "device":
            return self.observed_at_ms
        if self.record.time_problem is None:
            return None
        assert self.record.time_problem == TimeProblem.AFTER_RECEIPT
        return int(datetime.fromisoformat(self.record.device_time or "").timestamp() * 1000)

    @property
    def is_call(self) -> bool:
        return isinstance(self.record, Detection) and self.record.observation_type == "animal"

    @property
    def clip_ms(self) -> int | None:
        record = self.record
        clip = record.clip if isinstance(record, Detection | Recording) else None
        return None if clip is None else int(clip.duration_seconds * 1000)


def records(reader: JournalReader) -> Iterator[JournalRecord]:
    offset = 0
    while page := reader.after(Selection(), offset):
        for entry in page:
            offset, message = entry.offset, entry.message
            decoded = DECODER_OF_SEVERAL.decode(message)
            assert isinstance(decoded, tuple)
            for index, record in enumerate(decoded):
                yield JournalRecord(
                    RecordId(offset, index),
                    record.node or "",
                    message.node or "",
                    message.received_at_ms,
                    record,
                )


def check(almanac_path: Path, journal_path: Path) -> None:
    """Check that the almanac says what a recount of the journal says."""
    with contextlib.ExitStack() as closing:
        reader = closing.enter_context(contextlib.closing(JournalReader(journal_path)))
        almanac = closing.enter_context(contextlib.closing(Almanac(almanac_path)))
        entries = list(records(reader))
        assert almanac.progress().offset == reader.last_offset()
        check_calls(almanac, entries)
        for zone in ZONES:
            check_nights(almanac, entries, zone)
        check_refused(almanac, reader)
        check_nodes(almanac, reader, entries)
        check_hours(almanac, reader, entries)
        check_series(almanac, reader, entries)


# ---------------------------------------------------------------------- calls


def check_calls(almanac: Almanac, entries: list[JournalRecord]) -> None:
    recordings = [each for each in entries if isinstance(each.record, Recording)]
    expected = sorted(
        (call_of(each, recordings) for each in entries if each.is_call),
        key=lambda call: (call.observed_at_ms, call.record),
        reverse=True,
    )
    ranges: list[tuple[int | None, int | None]] = [(None, None)]
    if expected:
        third, last = expected[len(expected) // 3], expected[-1]
        ranges += [(None, third.observed_at_ms), (last.observed_at_ms + 1, third.observed_at_ms)]
    for wanted in FILTERS:
        for since_ms, until_ms in ranges:
            narrowed = CallFilter(
                wanted.species, wanted.node, wanted.confidence_percent_min, since_ms, until_ms
            )
            assert paged(almanac, narrowed) == [
                call for call in expected if is_wanted(call, narrowed)
            ]
    counts = Counter(call.species for call in expected)
    assert [(each.species, each.calls) for each in almanac.species()] == sorted(
        counts.items(), key=lambda each: (-each[1], each[0])
    )


def paged(almanac: Almanac, wanted: CallFilter) -> list[ListedCall]:
    calls: list[ListedCall] = []
    while page := almanac.calls(wanted, 7, calls[-1].record if calls else None):
        calls += page
    return calls


def is_wanted(call: ListedCall, wanted: CallFilter) -> bool:
    least = wanted.confidence_percent_min
    return (
        wanted.species in (None, call.species)
        and wanted.node in (None, call.node)
        and (least is None or (call.confidence is not None and call.confidence >= least / 100))
        and (wanted.since_ms is None or call.observed_at_ms >= wanted.since_ms)
        and (wanted.until_ms is None or call.observed_at_ms < wanted.until_ms)
    )


def call_of(entry: JournalRecord, recordings: list[JournalRecord]) -> ListedCall:
    record = entry.record
    assert isinstance(record, Detection)
    species, _, common_name = record.species.partition("_")
    clip_record = entry.id if record.clip is not None else None
    if clip_record is None and entry.node and record.time_source == "device":
        under_way = [
            (each.observed_at_ms, each.id)
            for each in recordings
            if each.node == entry.node
            and each.record.form == "audio-file"
            and each.record.time_source == "device"
            and each.clip_ms is not None
            and each.observed_at_ms <= entry.observed_at_ms < each.observed_at_ms + each.clip_ms
        ]
        clip_record = max(under_way)[1] if under_way else None
    return ListedCall(
        *(entry.id, entry.observed_at_ms, entry.node, species, common_name or None),
        *(record.confidence, clip_record, record.time_source == "device"),
    )


# ---------------------------------------------------------------------- nights


def check_nights(almanac: Almanac, entries: list[JournalRecord], zone: ZoneInfo) -> None:
    all_calls = [call_of(each, []) for each in entries if each.is_call]
    for wanted in FILTERS:
        calls = [call for call in all_calls if is_wanted(call, wanted)]
        by_night: dict[date, dict[str, list[ListedCall]]] = defaultdict(lambda: defaultdict(list))
        for call in calls:
            by_night[evening_of(call.observed_at_ms, zone)][call.species].append(call)
        nights = all_nights(almanac, wanted, zone)
        assert [night.evening for night in nights] == sorted(by_night, reverse=True)
        for night in nights:
            calls_by_species = by_night[night.evening]
            assert {each.species for each in night.species} == set(calls_by_species)
            for listed in night.species:
                species_calls = calls_by_species[listed.species]
                sure = [call.confidence for call in species_calls if call.confidence is not None]
                assert listed.calls == len(species_calls)
                assert listed.nodes == len({call.node for call in species_calls})
                assert listed.best_confidence == max(sure, default=None)
                best = {call.record: call.confidence for call in species_calls}
                assert best[listed.best_record] == listed.best_confidence
                assert listed.first_at_ms == min(call.observed_at_ms for call in species_calls)
                assert listed.last_at_ms == max(call.observed_at_ms for call in species_calls)
                assert night.since_ms <= listed.first_at_ms <= listed.last_at_ms < night.until_ms


def all_nights(almanac: Almanac, wanted: CallFilter, zone: ZoneInfo) -> list[Night]:
    """Return all nights, read two at a time."""
    nights: list[Night] = []
    while page := almanac.nights(wanted, zone, 2):
        nights += page
        wanted = structs.replace(wanted, until_ms=page[-1].since_ms)
    return nights


def evening_of(at_ms: int, zone: ZoneInfo) -> date:
    local = datetime.fromtimestamp(at_ms / 1000, zone)
    return local.date() - timedelta(days=local.hour < 12)


# ---------------------------------------------------------------------- refused


def check_refused(almanac: Almanac, reader: JournalReader) -> None:
    expected: dict[tuple[str | None, str], list[tuple[int, str, bool]]] = defaultdict(list)
    for letter in reader.dead_letters():
        ones = expected[None, letter.code or letter.reason.partition(" ")[0]]
        ones.append((letter.id, letter.message.node or "", False))
    for parked in reader.parked():
        ones = expected[parked.sink, parked.code or parked.reason.partition(" ")[0]]
        ones.append((parked.offset, parked.node or "", parked.replay_requested))
    groups = almanac.refused()
    keys = [(each.sink, each.key.code or each.key.text.partition(" ")[0]) for each in groups]
    assert len(keys) == len(expected) and set(keys) == set(expected)
    for group, key in zip(groups, keys, strict=True):
        ones = expected[key]
        numbers = sorted((number for number, _, _ in ones), reverse=True)
        assert group.count == len(ones)
        assert group.nodes == len({node for _, node, _ in ones})
        assert group.replay_requested == sum(replay for *_, replay in ones)
        assert group.example == numbers[0]
        offsets: list[int] = []
        while page := almanac.refused_ones(
            group, before=offsets[-1] if offsets else None, ones_max=3
        ):
            offsets += page
        assert offsets == numbers


# ---------------------------------------------------------------------- nodes and hours


def check_nodes(almanac: Almanac, reader: JournalReader, entries: list[JournalRecord]) -> None:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    days: dict[str, list[NodeDay]] = defaultdict(list)
    for day in reader.node_days():
        days[day.node].append(day)
    days.pop("", None)
    page = almanac.nodes(now_ms, now_ms)
    assert page.total == len(days)
    assert {node.name for node in page.nodes} == days.keys()
    soon_ms = now_ms + CLOCK_TOLERANCE_MS
    for node in page.nodes:
        of_node = days[node.name]
        assert node.first_heard_at_ms == min(day.first_heard_at_ms for day in of_node)
        assert node.last_heard_at_ms is not None
        last = [day.last_heard_at_ms for day in of_node]
        if (true := max((at for at in last if at <= soon_ms), default=None)) is not None:
            assert node.last_heard_at_ms == true
        else:  # it was heard only while the host's clock was ahead
            assert soon_ms < node.last_heard_at_ms <= max(last)
        clips = [each.id for each in entries if each.node == node.name and each.clip_ms]
        assert node.last_clip == max(clips, default=None)


def check_hours(almanac: Almanac, reader: JournalReader, entries: list[JournalRecord]) -> None:
    """Check all hours but the one in which retention stopped, which may not be complete."""
    trimmed = reader.trimmed_offset() > 0
    first_ms = almanac.progress().first_hour_ms + (HOUR_MS if trimmed else 0)
    received: Counter[tuple[str, int]] = Counter()
    calls: Counter[tuple[str, int]] = Counter()
    of_own_time: dict[tuple[str, int], set[int]] = defaultdict(set)
    """The offsets of messages with a record of this hour by its own time."""
    delays: dict[tuple[str, int], list[int]] = defaultdict(list)
    dead_letters: Counter[tuple[str, int]] = Counter()
    readings: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    for each in entries:
        hour, observed = each.received_at_ms // HOUR_MS, each.observed_at_ms // HOUR_MS
        received[each.sent_by, hour] += each.id.index == 0
        calls[each.node, observed] += each.is_call
        if each.record.time_source == "device":
            of_own_time[each.node, observed].add(each.id.offset)
        if each.written_ms is not None:
            of_sound = (each.clip_ms or 0) if each.record.form == "audio-file" else 0
            delays[each.node, hour].append(each.received_at_ms - each.written_ms - of_sound)
        if isinstance(each.record, Recording | Telemetry) and each.record.health is not None:
            for measure in MEASURES:
                value = getattr(each.record.health, measure)
                if value is not None:
                    readings[each.node, observed, measure].append(value)
    for letter in reader.dead_letters():
        message = letter.message
        dead_letters[message.node or "", message.received_at_ms // HOUR_MS] += 1
    for name in {node for node, _ in (*received, *dead_letters)}:
        calendar = {hour.hour_ms // HOUR_MS: hour for hour in almanac.calendar(name, 0, 2**44)}
        hours = {
            hour for of, hour in (*received, *calls, *of_own_time, *dead_letters) if of == name
        }
        for hour in hours | calendar.keys():
            if hour * HOUR_MS < first_ms:
                continue
            listed, of = calendar.get(hour), (name, hour)
            counts = (listed.dead_letters, listed.calls, listed.received) if listed else (0, 0, 0)
            assert counts[:2] == (dead_letters[of], calls[of]), of
            assert counts[2] == received[of] or (trimmed and counts[2] > received[of]), of
            observed, at_least = listed.observed if listed else 0, len(of_own_time[of])
            assert observed == at_least or (trimmed and observed > at_least), of
            if listed is not None and not trimmed:
                both = listed.least_delay_seconds, listed.most_delay_seconds
                ms = delays.get(of)
                assert both == ((min(ms) / 1000, max(ms) / 1000) if ms else (None, None))
        health = almanac.health(name, 0, 2**44)
        for measure in MEASURES:
            for reading in getattr(health, measure):
                values = readings[name, reading.hour_ms // HOUR_MS, measure]
                if not trimmed:
                    assert reading.readings == len(values)
                    assert (reading.least, reading.most) == (min(values), max(values))
                    assert abs(reading.mean - sum(values) / len(values)) < 1e-6


def check_series(almanac: Almanac, reader: JournalReader, entries: list[JournalRecord]) -> None:
    """Check each hour of what nodes measure; retention may have left more than the journal has."""
    readings: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for each in entries:
        record = each.record
        if isinstance(record, Measurement):
            sensor = record.sensor_id if record.sensor_id != record.node else None
            hour_ms = each.observed_at_ms // HOUR_MS * HOUR_MS
            readings[each.node, sensor, record.name, record.unit, hour_ms].append(record.value)
    kept = {
        (node, series.sensor, series.name, series.unit, hour.hour_ms): hour
        for node in {each.node for each in entries}
        for series in almanac.series(node)
        for hour in almanac.measured(series, 0, 2**44)
    }
    if reader.trimmed_offset() > 0:
        return
    assert kept.keys() == readings.keys()
    for of, hour in kept.items():
        values = readings[of]
        assert (hour.readings, hour.least, hour.most) == (len(values), min(values), max(values)), of
        assert abs(hour.mean - sum(values) / len(values)) < 1e-6
