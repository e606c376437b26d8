"""What was not believed is in every export, as data; and nothing else is bent by it."""

import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from operator import attrgetter
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import msgspec
import pytest

from echo_ingest.columns import TABLES, flat
from echo_ingest.export import reading, write_tables
from echo_ingest.export.camtrap import package
from echo_ingest.export.camtrap.deployments import device_of
from echo_ingest.export.camtrap.host_clock import ReceiveTime, contradicted
from echo_ingest.export.camtrap.project import Project, read
from echo_ingest.export.formulas import unescaped
from echo_ingest.export.partial import begin
from echo_ingest.export.writers import COLUMNS, iso_utc
from echo_ingest.journal.entries import Entry
from echo_ingest.quality import TimeProblem
from echo_ingest.record import (
    Detection,
    Health,
    Message,
    Movement,
    Place,
    Recording,
    Telemetry,
    TimeSource,
    kind,
)
from echo_ingest.sinks import Delivery
from tests.export.exporting import export_package as export_journal
from tests.export.exporting import journal_of, no_progress, request_for
from tests.export.test_package import PROJECT, described, require_valid, table
from tests.several_records import DECODER_OF_SEVERAL, delivery_of
from tests.sinks.doubtful import EVERY_PROBLEM, deliveries, problems
from tests.sinks.messages import beyond, detection, json_message

RECORDS = 600
RIDGE, CREEK = Place(-38.7712, 143.5021, 228.6, 20.0), Place(-38.7912, 143.5021)
EVENING = datetime(2026, 11, 25, 11, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
WALK = reading.Walk(last=RECORDS, trimmed=0, position=0)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "otways.toml").write_text(PROJECT)
    return read(tmp_path / "otways.toml")


def page(batch: list[Delivery]) -> reading.JournalPage:
    """Return the records as an export reads them from a journal."""
    entries = [
        reading.ReadRecord(Entry(each.offset, each.key, each.message, False), 0, each.records[0])
        for each in batch
    ]
    return reading.JournalPage(entries, [], batch[-1].offset, 0)


def export_tables(batch: list[Delivery], target: Path, of: reading.Format) -> Path:
    partial = begin(target, request_for(of), WALK)
    partial.add(page(batch), DECODER_OF_SEVERAL)
    write_tables(partial, no_progress)
    partial.finish()
    return target


def export_package(batch: list[Delivery], target: Path, project: Project) -> Path:
    partial = begin(target, request_for("camtrap-dp", audio=True), WALK)
    partial.add(
        page([each for each in batch if not isinstance(each.records[0], Movement)]),
        DECODER_OF_SEVERAL,
    )
    package.write(partial, project, no_progress)
    partial.finish()
    require_valid(target)
    return target


# ---------------------------------------------------------------------- tables


def test_every_column_of_every_format_is_what_the_record_says(tmp_path: Path) -> None:
    batch = deliveries(RECORDS)
    assert problems(batch) == EVERY_PROBLEM
    folders = {of: export_tables(batch, tmp_path / of, of) for of in ("csv", "jsonl", "parquet")}
    truth: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in batch:
        names = [column.name for column in COLUMNS[kind(each.records[0])]]
        values = dict(zip(names[1:], flat(each.records[0]), strict=False))
        truth[kind(each.records[0])].append(values)
    for of_kind, name in TABLES.items():
        with (folders["csv"] / f"{name}.csv").open(newline="") as file:
            as_text = list(csv.DictReader(file))
        lines = [json.loads(line) for line in (folders["jsonl"] / f"{name}.jsonl").open()]
        relation = duckdb.sql(f"FROM '{folders['parquet']}/{name}.parquet'")
        assert relation is not None
        typed = [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]
        types = {column.name: column.type for column in COLUMNS[of_kind]}
        assert len(truth[of_kind]) > 40
        for wanted, cells, line, row in zip(truth[of_kind], as_text, lines, typed, strict=True):
            for column, value in wanted.items():
                if value is None:
                    assert (cells[column], row[column]) == ("", None)
                    assert column not in line
                    continue
                assert line[column] == (iso_utc(value) if isinstance(value, datetime) else value)
                match types[column]:
                    case "text":
                        assert unescaped(cells[column]) == row[column] == value
                    case "truth":
                        assert (cells[column], row[column]) == (str(value).lower(), value)
                    case "time":
                        assert (cells[column], row[column]) == (iso_utc(value), value)
                    case "json":
                        assert json.loads(cells[column]) == json.loads(row[column])
                    case _:
                        assert float(cells[column]) == row[column] == value
                assert not cells[column].startswith(("=", "@", "＝", "－")), column


# ---------------------------------------------------------------------- a data package


def test_a_package_says_of_each_record_what_was_believed(tmp_path: Path, project: Project) -> None:
    batch = deliveries(RECORDS)
    folder = export_package(batch, tmp_path / "out", project)
    placed = {
        device_of(each.records[0].node, each.records[0].sensor_id)
        for each in batch
        if each.records[0].place is not None
    }
    observations = {row["observationID"]: row for row in table(folder, "observations")}
    audio = {row["mediaID"]: row for row in table(folder, "audio")}
    media = {row["mediaID"]: row for row in table(folder, "media")}
    issues: dict[str, set[str]] = defaultdict(set)
    heard = set()
    for each in batch:
        record = each.records[0]
        device = device_of(record.node, record.sensor_id)
        if device not in placed or isinstance(record, Movement):
            continue
        if record.time_problem is not None:
            issues[device].add(record.time_problem)
        if isinstance(record, Detection):
            row = observations.pop(each.key.hex())
            is_animal = record.observation_type == "animal"
            assert row["observationType"] == record.observation_type
            assert unescaped(row["scientificName"]) == (record.species if is_animal else "")
            comments = row["observationComments"].split(" | ")
            assert (f"label: {record.species}" in comments) is not is_animal
            assert (f"the device wrote the time {record.device_time}" in comments) is (
                record.time_problem is not None
            )
            tags = row["observationTags"].split(" | ") if row["observationTags"] else []
            assert ("timeSource:received" in tags) is (record.time_source == "received")
            assert (f"timeProblem:{record.time_problem}" in tags) is (
                record.time_problem is not None
            )
            seconds = record.clip.duration_seconds if record.clip is not None else 0
            ends_at = record.ends_at or record.observed_at + timedelta(seconds=seconds)
            rounded_up = datetime.fromisoformat(row["eventEnd"]) - ends_at
            assert timedelta(0) <= rounded_up < timedelta(seconds=1)
            assert (f"common name: {record.common_name}" in comments) is (
                record.common_name is not None
            )
            assert (f"lowHz:{record.low_hz}" in tags) is (record.low_hz is not None)
            assert (f"highHz:{record.high_hz}" in tags) is (record.high_hz is not None)
            if is_animal:
                heard.add(record.species)
        if each.key.hex() in audio:
            assert isinstance(record, Detection | Recording)
            assert record.clip is not None
            assert audio[each.key.hex()]["problem"] == (record.clip.problem or "")
            assert (record.device_time or "") in media[each.key.hex()]["mediaComments"]
    assert not observations
    assert {row["scientificName"] for row in described(folder)["taxonomic"]} == heard
    for row in table(folder, "deployments"):
        device = unescaped(row["cameraID"])
        codes = {part.partition(":")[0] for part in row["deploymentComments"].split(" | ")}
        assert (row["timestampIssues"], codes) == ("true", issues[device])


def observed(
    number: int, at: datetime, place: Place | None = RIDGE, *, received_at: datetime | None = None,
    **changed: Any,
) -> Delivery:  # fmt: skip
    """Return a detection of one node at a time of its own; it was received soon after."""
    receipt = received_at or at + timedelta(seconds=2)
    record = beyond(node="k01", sensor_id="k01", observed_at=at, place=place, **changed)
    if record.time_source == "received":
        record = msgspec.structs.replace(record, observed_at=receipt)
    arrived = detection(number)
    message = Message(arrived.topic, arrived.payload, int(receipt.timestamp() * 1000), "k01")
    return delivery_of(number, number.to_bytes(16), message, record)


def not_believed(number: int, received_at: datetime, place: Place | None = RIDGE) -> Delivery:
    return observed(
        number, EVENING, place, received_at=received_at, time_source="received",
        time_problem=TimeProblem.AFTER_RECEIPT, device_time="2036-02-07T06:28:16Z",
    )  # fmt: skip


def spans(folder: Path) -> list[tuple[str, str, str]]:
    return [
        (row["deploymentStart"], row["deploymentEnd"], row["timestampIssues"])
        for row in table(folder, "deployments")
    ]


def span(start: datetime, end: datetime, issues: str = "true") -> tuple[str, str, str]:
    return f"{start:%FT%TZ}", f"{end:%FT%TZ}", issues


def test_one_wrong_clock_of_a_device_stretches_nothing(tmp_path: Path, project: Project) -> None:
    """What it sent before the three evenings and after them has the times of receipt."""
    batch = [
        not_believed(1, EVENING - 9 * DAY),
        *(observed(2 + n, EVENING + n * DAY) for n in range(3)),
        not_believed(5, EVENING + 30 * DAY),
    ]
    folder = export_package(batch, tmp_path / "out", project)
    assert spans(folder) == [span(EVENING, EVENING + 2 * DAY)]
    (deployment,) = table(folder, "deployments")
    assert deployment["deploymentComments"] == "after_receipt: 2"
    assert deployment["coordinateUncertainty"] == "20"
    assert deployment["deploymentTags"] == "altitude:228.6"
    assert described(folder)["temporal"] == {"start": "2026-11-25", "end": "2026-11-27"}
    assert len(table(folder, "observations")) == 5


WRONG = (
    "2000-01-01T00:00:05Z", "1970-01-01T00:03:00Z", "1980-01-06T00:00:00Z", "2036-02-07T06:28:16Z",
    "2004-09-14T05:45:12Z", 2_085_978_496, 1_234, "2026-11-25 21:00:00", "2056-11-25T11:00:00Z",
)  # fmt: skip


def test_no_wrong_clock_among_hundreds_stretches_a_deployment(
    tmp_path: Path, project: Project
) -> None:
    """As the journal has them: each stamp is judged again by the decoder."""
    rng = Random(13)
    messages: list[Message] = []
    truth: dict[str, tuple[str, str, str]] = {}
    wrong: dict[str, tuple[str, str]] = {}
    for number in range(60):
        node = f"n{number:02}"
        moments = sorted(EVENING + rng.randrange(0, 5 * 24 * 60) * MINUTE for _ in range(8))
        stamps: list[object] = [at.isoformat() for at in moments]
        for place in rng.sample(range(8), rng.randint(0, 4)):
            stamps[place] = rng.choice(WRONG)
        believed_times = [at for at, stamp in zip(moments, stamps, strict=True)
                          if stamp not in WRONG]  # fmt: skip
        truth[node] = span(
            min(believed_times), max(believed_times), str(len(believed_times) < 8).lower()
        )
        for at, stamp in zip(moments, stamps, strict=True):
            fields = {
                "timestamp": stamp, "species": f"Litoria {len(messages)}", "confidence": 63.6,
                "sensor_id": node, "gps_data": {"lat": -38.7712, "lon": 143.5021},
            }  # fmt: skip
            receipt = at + rng.randrange(60) * timedelta(seconds=1)
            if stamp in WRONG:
                wrong[f"Litoria {len(messages)}"] = f"{receipt:%FT%TZ}", str(stamp)
            messages.append(
                msgspec.structs.replace(
                    json_message(node, fields), received_at_ms=int(receipt.timestamp() * 1000)
                )
            )
    messages.sort(key=attrgetter("received_at_ms"))
    journal = journal_of(tmp_path / "journal.db", messages)
    folder = tmp_path / "out"
    export_journal(journal, folder, request_for("camtrap-dp"), project)
    require_valid(folder)
    assert {
        row["cameraID"]: (row["deploymentStart"], row["deploymentEnd"], row["timestampIssues"])
        for row in table(folder, "deployments")
    } == truth
    observations = {row["scientificName"]: row for row in table(folder, "observations")}
    assert len(observations) == 480
    assert len(wrong) > 80
    for species, row in observations.items():
        tags, comments = row["observationTags"], row["observationComments"]
        if species in wrong:
            received_at, words = wrong[species]
            assert row["eventStart"] == received_at
            assert comments == f"the device wrote the time {words}"
            assert tags.startswith("timeSource:received | timeProblem:")
        else:
            assert (tags, comments) == ("", "")


def test_a_clock_that_was_right_all_the_time_has_no_issues(
    tmp_path: Path, project: Project
) -> None:
    batch = [observed(1 + n, EVENING + n * DAY) for n in range(3)]
    folder = export_package(batch, tmp_path / "out", project)
    assert spans(folder) == [span(EVENING, EVENING + 2 * DAY, "false")]
    (deployment,) = table(folder, "deployments")
    assert deployment["deploymentComments"] == ""


@pytest.mark.parametrize("problem", TimeProblem)
def test_each_problem_is_an_issue_of_its_deployment(
    tmp_path: Path, project: Project, problem: TimeProblem
) -> None:
    """Telemetry says it too: it is the clock of the same device."""
    source: TimeSource = "device" if problem is TimeProblem.CORRECTED else "received"
    report = Telemetry(
        form="node-status", node="k01", observed_at=EVENING + MINUTE, time_source=source,
        time_problem=problem, device_time="1970-01-01T00:00:09Z", health=Health(status="online"),
    )  # fmt: skip
    receipt = observed(2, EVENING + MINUTE)
    batch = [observed(1, EVENING), msgspec.structs.replace(receipt, records=(report,))]
    folder = export_package(batch, tmp_path / "out", project)
    assert [issues for _, _, issues in spans(folder)] == ["true"]
    (deployment,) = table(folder, "deployments")
    assert deployment["deploymentComments"] == f"{problem}: 1"


def test_a_device_without_any_clock_is_where_it_was_heard(tmp_path: Path, project: Project) -> None:
    batch = [
        observed(1 + n, EVENING, place, received_at=EVENING + n * DAY, time_source="received")
        for n, place in enumerate((RIDGE, RIDGE, CREEK, None))
    ]
    folder = export_package(batch, tmp_path / "out", project)
    assert spans(folder) == [
        span(EVENING, EVENING + DAY),
        span(EVENING + 2 * DAY, EVENING + 3 * DAY),
    ]


@pytest.mark.parametrize("leap", [timedelta(days=3_360), -60 * DAY, timedelta(hours=5)])
def test_a_leap_of_our_own_clock_stretches_nothing_and_splits_nothing(
    tmp_path: Path, project: Project, leap: timedelta
) -> None:
    """A node that moves later has a clock; another has none. Our clock leaps, and comes back."""
    batch = []
    for n in range(60):
        at = EVENING + n * 10 * MINUTE
        receipt = at + (leap if 20 <= n < 30 else timedelta(0))
        place = RIDGE if n < 40 else CREEK
        batch.append(observed(1 + n, at, place, received_at=receipt, time_source="received"))
    folder = export_package(batch, tmp_path / "out", project)
    assert spans(folder) == [
        span(EVENING, EVENING + 39 * 10 * MINUTE),
        span(EVENING + 40 * 10 * MINUTE, EVENING + 59 * 10 * MINUTE),
    ]
    assert len(table(folder, "observations")) == 60
    assert described(folder)["created"] == f"{EVENING + 59 * 10 * MINUTE:%FT%TZ}"


def test_a_host_whose_clock_was_not_set_at_first_stretches_nothing(
    tmp_path: Path, project: Project
) -> None:
    unset = datetime(1970, 1, 1, tzinfo=UTC)
    receipts = (unset + MINUTE, EVENING, EVENING + MINUTE)
    batch = [
        observed(1 + n, EVENING, received_at=at, time_source="received")
        for n, at in enumerate(receipts)
    ]
    folder = export_package(batch, tmp_path / "out", project)
    assert spans(folder) == [span(EVENING, EVENING + MINUTE)]


def test_the_problems_of_one_deployment_are_not_those_of_the_next(
    tmp_path: Path, project: Project
) -> None:
    batch = [
        observed(1, EVENING),
        not_believed(2, EVENING + MINUTE),
        observed(3, EVENING + DAY, CREEK),
    ]
    folder = export_package(batch, tmp_path / "out", project)
    assert [row["timestampIssues"] for row in table(folder, "deployments")] == ["true", "false"]


def test_a_deployment_that_rests_on_receipts_alone_says_so(
    tmp_path: Path, project: Project
) -> None:
    """Reports without a time say nothing about a clock, unless nothing else gives the time."""
    report = Telemetry(
        form="node-status",
        node="k01",
        observed_at=EVENING,
        time_source="received",
        place=RIDGE,
        health=Health(status="online"),
    )
    alone = msgspec.structs.replace(observed(1, EVENING), records=(report,))
    folder = export_package([alone], tmp_path / "alone", project)
    assert spans(folder) == [span(EVENING, EVENING)]
    folder = export_package([alone, observed(2, EVENING + MINUTE)], tmp_path / "both", project)
    assert spans(folder) == [span(EVENING + MINUTE, EVENING + MINUTE, "false")]


def test_the_same_package_comes_out_after_an_interruption(tmp_path: Path, project: Project) -> None:
    batch = [
        observed(1 + n, EVENING, received_at=EVENING + n * MINUTE + (n == 3) * 3_000 * DAY,
                 time_source="received")
        for n in range(9)
    ]  # fmt: skip
    partial = begin(tmp_path / "out", request_for("camtrap-dp"), WALK)
    partial.add(page(batch), DECODER_OF_SEVERAL)
    partial.mark_contradicted()
    once = [(each.device, each.receipt_is_contradicted, each.row) for each in partial.in_order()]
    partial.mark_contradicted()
    again = [(each.device, each.receipt_is_contradicted, each.row) for each in partial.in_order()]
    assert once == again
    assert [contradiction for _, contradiction, _ in once].count(True) == 1
    partial.close()


# ---------------------------------------------------------------------- which receipts are true

HOUR_US = 3_600_000_000


def believed(receipts: Sequence[float], agreeing: frozenset[int] = frozenset()) -> list[bool]:
    """Return for receipts in hours, at offsets 0, 1, 2 …, whether each is believed."""
    given = [ReceiveTime(n, int(at * HOUR_US), n in agreeing) for n, at in enumerate(receipts)]
    lost = {
        offset
        for each in contradicted(iter(given), 0)
        for offset in range(each.first_offset, each.last_offset + 1)
    }
    return [n not in lost for n in range(len(receipts))]


def test_receipts_in_order_are_believed_with_all_their_pauses() -> None:
    assert all(believed([0, 0, 1, 5, 5.5, 300, 90_000]))
    assert contradicted(iter([]), 0) == []
    assert all(believed([0, 0.9, 0.1, 1.0, 0.5]))  # less than an hour is left alone


def test_the_most_that_fit_together_are_believed() -> None:
    assert believed([0, 1.5, 90_000, 90_002, 3, 4]) == [True, True, False, False, True, True]
    behind = [1_500, 1_502, 1_504, 0, 2, 1_506, 1_508]
    assert believed(behind) == [True, True, True, False, False, True, True]
    assert believed([90_000, 5]) == [False, True]  # of equals, the later


def test_clocks_of_devices_outweigh_numbers() -> None:
    ahead = [90_000 + 2 * n for n in range(12)]
    receipts = [0, 2, *ahead, 4, 6]
    assert believed(receipts)[:4] == [True, True, True, True]
    judged = believed(receipts, frozenset({0, 1, 14, 15}))
    assert judged == [True, True, *[False] * 12, True, True]


def test_no_other_choice_keeps_more() -> None:
    rng = Random(1)
    for _ in range(300):
        receipts = [rng.randrange(0, 40, 3) for _ in range(rng.randint(1, 9))]
        kept = [at for at, true in zip(receipts, believed(receipts), strict=True) if true]
        assert all(later >= earlier - 1 for earlier, later in pairwise(kept))
        most = max(
            size
            for size in range(len(receipts) + 1)
            for chosen in combinations(receipts, size)
            if list(chosen) == sorted(chosen)
        )
        assert len(kept) == most, receipts
