"""Tables hold what decode says, whatever reads them, and the same bytes each time."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import duckdb
import pytest
from msgspec import structs

from echo_ingest.columns import TABLES
from echo_ingest.decode import Decoder
from echo_ingest.export import reading, writers
from echo_ingest.export.clips import path_of, write
from echo_ingest.export.formulas import unescaped
from echo_ingest.export.partial import begin, resume_export
from echo_ingest.export.writers import COLUMNS
from echo_ingest.journal import Journal
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.record import KINDS, Clip, Message, Rejected, kind
from tests.export.exporting import EVERYTHING, export_tables, files, journal_of, request_for
from tests.several_records import DECODER_OF_SEVERAL, only, several, sound_level
from tests.sinks.messages import (
    LIMITS,
    MORNING,
    PAYLOAD_BYTES_MAX,
    beyond,
    detection,
    json_message,
    message,
    messages,
)

MORNING_AT = datetime.fromtimestamp(MORNING, UTC)
FORMULA = '=HYPERLINK("https://example.org","frog")'


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Make a journal with every kind of record, and every value at its limit."""
    formula = detection(2_000, species=FORMULA, source_model="@model", id="-1")
    levels = [several(number, sound_level(number, -41.25 - number)) for number in range(8)]
    return journal_of(
        tmp_path / "journal.db", [*messages(0, 40), *LIMITS.values(), *levels, formula]
    )


def test_an_export_that_has_ended_survives_a_power_cut(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names in a folder are kept in the folder: it is flushed after the last of them."""
    target = tmp_path / "out"
    flushed: list[tuple[Path, bool]] = []
    flush = os.fsync

    def record(descriptor: int) -> None:
        flush(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        flushed.append((path, target.exists()))

    monkeypatch.setattr(os, "fsync", record)
    export_tables(journal, target, request_for(audio=True))
    assert (tmp_path, True) in flushed
    before = {
        path.with_name(path.name.removesuffix(".new")) for path, is_there in flushed if not is_there
    }
    under_way = tmp_path / "out.partial" / "files"
    made = [target, *target.rglob("*")]
    assert before >= {under_way / path.relative_to(target) for path in made}


def csv_rows(folder: Path, table: str) -> list[dict[str, str]]:
    with (folder / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def queried(sql: str) -> duckdb.DuckDBPyRelation:
    """Return what another implementation of Parquet reads."""
    relation = duckdb.sql(sql)
    assert relation is not None
    return relation


def json_rows(folder: Path, table: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{table}.jsonl").read_text().splitlines()]


def offsets(folder: Path) -> list[int]:
    """Return the offsets of all rows of an export to JSON Lines."""
    names = [path.stem for path in folder.glob("*.jsonl")]
    return sorted(row["offset"] for name in names for row in json_rows(folder, name))


# ---------------------------------------------------------------------- the same in every format


def test_each_row_is_what_decode_says(journal: Path, tmp_path: Path) -> None:
    export_tables(journal, tmp_path / "out", request_for("jsonl"))
    exported = {
        row["offset"]: row
        for table in TABLES.values()
        for row in json_rows(tmp_path / "out", table)
    }
    with closing(JournalReader(journal)) as reader:
        offset = 0
        while entries := reader.after(EVERYTHING, offset):
            for entry in entries:
                record = only(DECODER_OF_SEVERAL.decode(entry.message))
                assert not isinstance(record, Rejected)
                row = exported.pop(entry.offset)
                assert (row["kind"], row["topic"]) == (kind(record), entry.message.topic)
                assert datetime.fromisoformat(row["observed_at"]) == record.observed_at
                assert row["key"] == entry.key.hex()
                for part, prefix in (
                    (record, ""),
                    (record.place, ""),
                    (getattr(record, "animal_place", None), "animal_"),
                    (getattr(record, "clip", None), "clip_"),
                    (getattr(record, "health", None), ""),
                ):
                    for name in part.__struct_fields__ if part is not None else ():
                        value = getattr(part, name)
                        if isinstance(value, str | float | int):
                            assert row[prefix + name] == value, name
            offset = entries[-1].offset
    assert not exported


def test_csv_and_parquet_say_the_same_as_json_lines(journal: Path, tmp_path: Path) -> None:
    for of in ("csv", "jsonl", "parquet"):
        export_tables(journal, tmp_path / of, request_for(of, audio=True))
    for of_kind, table in TABLES.items():
        types = {column.name: column.type for column in COLUMNS[of_kind]}
        expected = json_rows(tmp_path / "jsonl", table)
        assert len(expected) >= 8
        in_csv = csv_rows(tmp_path / "csv", table)
        relation = queried(f"FROM '{tmp_path}/parquet/{table}.parquet'")
        assert relation.columns == list(in_csv[0]) == list(types)
        in_parquet = [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]
        for row, as_text, typed in zip(expected, in_csv, in_parquet, strict=True):
            for name, of_type in types.items():
                value = row.get(name)
                if value is None:
                    assert (as_text[name], typed[name]) == ("", None), name
                    continue
                match of_type:
                    case "text":
                        assert unescaped(as_text[name]) == typed[name] == value
                    case "truth":
                        assert as_text[name] == ("true" if value else "false")
                        assert typed[name] is value
                    case "whole":
                        assert int(as_text[name]) == typed[name] == value
                    case "number":
                        assert float(as_text[name]) == typed[name] == value
                    case "json":
                        assert json.loads(as_text[name]) == json.loads(typed[name]) == value
                    case "time":
                        assert as_text[name] == value
                        assert typed[name] == datetime.fromisoformat(value)


def test_csv_is_what_rfc_4180_says_and_runs_nothing(journal: Path, tmp_path: Path) -> None:
    export_tables(journal, tmp_path / "out", request_for())
    raw = (tmp_path / "out" / "detections.csv").read_bytes()
    assert raw.endswith(b"\r\n")
    assert raw.count(b"\n") == raw.count(b"\r\n")
    row = csv_rows(tmp_path / "out", "detections")[-1]
    assert (row["species"], row["model"], row["message_id"]) == (f"'{FORMULA}", "'@model", "'-1")
    assert row["latitude"] == "-38.7712"
    assert row["observed_at"] == f"{MORNING_AT + timedelta(seconds=2_000):%FT%T}.000000Z"
    export_tables(journal, tmp_path / "lines", request_for("jsonl"))
    assert json_rows(tmp_path / "lines", "detections")[-1]["species"] == FORMULA


def test_parquet_has_its_types_and_row_groups(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(writers, "ROW_GROUP_ROWS", 10)
    journal = journal_of(tmp_path / "journal.db", [detection(number) for number in range(25)])
    export_tables(journal, tmp_path / "out", request_for("parquet"))
    file = tmp_path / "out" / "detections.parquet"
    groups = queried(f"FROM parquet_metadata('{file}')").project("row_group_id").distinct()
    assert len(groups.fetchall()) == 3
    relation = queried(f"FROM '{file}'").project('observed_at, confidence, "offset", alternatives')
    assert [*map(str, relation.types)] == [
        "TIMESTAMP WITH TIME ZONE",
        "DOUBLE",
        "BIGINT",
        "VARCHAR",
    ]


def test_a_row_group_of_parquet_holds_no_more_rows_than_fit_into_memory(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(writers, "ROW_GROUP_BYTES", 200_000)
    long = [structs.replace(detection(number), topic="a" * 60_000) for number in range(7)]
    journal = journal_of(tmp_path / "journal.db", long)
    export_tables(journal, tmp_path / "out", request_for("parquet"))
    file = tmp_path / "out" / "detections.parquet"
    groups = queried(f"FROM parquet_metadata('{file}')").project("row_group_id").distinct()
    assert len(groups.fetchall()) == 3
    assert len(queried(f"FROM '{file}'").fetchall()) == 7


@pytest.mark.parametrize("of", ["csv", "jsonl", "parquet"])
def test_the_same_journal_gives_the_same_bytes(
    journal: Path, tmp_path: Path, of: reading.Format
) -> None:
    for name in ("one", "two"):
        export_tables(journal, tmp_path / name, request_for(of, audio=True))
    once = files(tmp_path / "one")
    assert once == files(tmp_path / "two")
    assert {f"{table}.{of}" for table in TABLES.values()} <= once.keys()


# ---------------------------------------------------------------------- which


def test_time_node_kind_and_species_choose(tmp_path: Path) -> None:
    fox = json_message("collar", {"timestamp": MORNING, "species": "Vulpes vulpes", "animalId": "f",
                          "animalTrueLLA": [-38.7, 143.5, 10.0]})  # fmt: skip
    frog = detection(3, species="Crinia signifera")
    journal = journal_of(tmp_path / "journal.db", [detection(0), detection(61), fox, frog])

    def exported(number: int, selection: Selection, *species: str) -> list[int]:
        folder = tmp_path / str(number)
        export_tables(journal, folder, request_for("jsonl", selection, species=species))
        return offsets(folder)

    assert exported(1, Selection(since=MORNING_AT + timedelta(seconds=1))) == [2, 4]
    assert exported(2, Selection(until=MORNING_AT + timedelta(seconds=1))) == [1, 3]
    assert exported(3, Selection(node="collar")) == [3]
    assert exported(4, Selection(kind="detection")) == [1, 2, 4]
    assert exported(5, EVERYTHING, "crinia signifera", "vulpes vulpes") == [3, 4]
    assert {path.name for path in (tmp_path / "4").iterdir()} == {"detections.jsonl"}
    assert {path.name for path in (tmp_path / "5").iterdir()} == {
        "detections.jsonl",
        "movements.jsonl",
    }


def test_damaged_records_and_those_that_do_not_decode_are_left_out_and_counted(
    tmp_path: Path,
) -> None:
    journal = journal_of(tmp_path / "journal.db", [message(number) for number in range(6)])
    refused = Message("iotingestion/n", b'{"species":"?"}', MORNING * 1000, "n")
    with closing(Journal(journal)) as writing:  # as an earlier version may have taken it
        writing.append([(refused, Decoder(PAYLOAD_BYTES_MAX).identify(detection(99)))])
    with closing(apsw.Connection(str(journal))) as disk:
        disk.execute("UPDATE record SET payload = zeroblob(9) WHERE offset IN (2, 4)")
    summary = export_tables(journal, tmp_path / "out", request_for("jsonl"))
    assert offsets(tmp_path / "out") == [1, 3, 5, 6]
    assert summary.left_out == {"damaged": 2, "not readable by this version": 1}
    assert "send source_model" in summary.reasons[-1][1] + summary.reasons[0][1]


def test_retention_may_run_meanwhile(tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "journal.db", messages(0, 2_500))
    with closing(JournalReader(journal)) as reader, closing(Journal(journal)) as writing:
        walk = reading.start(reader, request_for())
        pages = reading.pages(reader, Decoder(PAYLOAD_BYTES_MAX), request_for(), walk)
        first = next(pages)
        assert [each.entry.offset for each in first.records] == list(range(1, 1_001))
        while writing.trim((MORNING + 1_800) * 1000, records_max=500):
            pass
        rest = list(pages)
        again = pages_of(reader)
        there = [each.entry.offset for page in again for each in page.records]
    read = [each.entry.offset for page in rest for each in page.records]
    assert read == [offset for offset in there if offset > 1_000]
    assert 100 < len(read) < 1_000
    assert sum(page.gone for page in rest) == 1_500 - len(read)
    assert sum(page.gone for page in again) == 0  # that was before it began


def test_what_was_gone_is_counted_across_an_interruption(journal: Path, tmp_path: Path) -> None:
    target, wanted = tmp_path / "out", request_for()
    with closing(JournalReader(journal, Decoder(PAYLOAD_BYTES_MAX))) as reader:
        partial = begin(target, wanted, reading.start(reader, wanted))
    partial.add(reading.JournalPage([], [], up_to=3, gone=2), Decoder(PAYLOAD_BYTES_MAX))
    partial.close()
    again = resume_export(target, wanted.journal)
    again.add(reading.JournalPage([], [], up_to=9, gone=5), Decoder(PAYLOAD_BYTES_MAX))
    assert again.summary().gone == 7
    again.close()


def pages_of(reader: JournalReader) -> list[reading.JournalPage]:
    return list(
        reading.pages(
            reader, Decoder(PAYLOAD_BYTES_MAX), request_for(), reading.start(reader, request_for())
        )
    )


def test_what_arrives_meanwhile_is_for_the_next_export(tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "journal.db", messages(0, 1_010))
    with closing(JournalReader(journal, Decoder(PAYLOAD_BYTES_MAX))) as reader:
        pages = reading.pages(
            reader, Decoder(PAYLOAD_BYTES_MAX), request_for(), reading.start(reader, request_for())
        )
        read = len(next(pages).records)
        journal_of(journal, messages(1_010, 10))
        assert read + sum(len(page.records) for page in pages) == 1_010


# ---------------------------------------------------------------------- clips


def test_clips_are_the_bytes_as_recorded_and_each_row_names_its_own(
    journal: Path, tmp_path: Path
) -> None:
    summary = export_tables(journal, tmp_path / "out", request_for("jsonl", audio=True))
    named = set()
    for table in ("detections", "recordings"):
        for row in json_rows(tmp_path / "out", table):
            assert ("audio_path" in row) == ("clip_sha256" in row)
            if path := row.get("audio_path"):
                audio = (tmp_path / "out" / path).read_bytes()
                assert hashlib.sha256(audio).hexdigest() == row["clip_sha256"]
                assert row["node"] in path
                assert f"{datetime.fromisoformat(row['observed_at']):%Y%m%dT%H%M%SZ}" in path
                named.add(path)
    there = {path for path in files(tmp_path / "out") if path.startswith("audio/")}
    assert there == named
    assert summary.clips == len(named) > 10
    assert summary.clip_bytes == sum(len(files(tmp_path / "out")[path]) for path in named)


def clip_of(audio: bytes, sha256: str | None = None) -> Clip:
    digest = sha256 or hashlib.sha256(audio).hexdigest()
    return Clip("wav", len(audio), digest, 8_000, 1, 0.5)


def test_no_name_that_a_device_gives_leads_out_of_the_folder(tmp_path: Path) -> None:
    for node in ("../../etc/passwd", "..", "/root", "a\0b", "a/../b", "", "é" * 200):
        record = beyond(node=node, sensor_id=None, observed_at=MORNING_AT)
        path = write(tmp_path, record, clip_of(b"sound"), b"sound")
        assert (tmp_path / path).resolve().is_relative_to(tmp_path / "audio")
        assert (tmp_path / path).read_bytes() == b"sound"


def test_another_clip_of_the_same_name_gets_one_of_its_own(tmp_path: Path) -> None:
    record = beyond(observed_at=MORNING_AT)
    true, forged = clip_of(b"true"), hashlib.sha256(b"true").hexdigest()[:16] + "0" * 48
    first = write(tmp_path, record, true, b"true")
    assert write(tmp_path, record, true, b"true") == first == path_of(record, true)
    second = write(tmp_path, record, clip_of(b"false", forged), b"false")
    assert second != first
    assert (tmp_path / first).read_bytes() == b"true"
    assert (tmp_path / second).read_bytes() == b"false"


# ---------------------------------------------------------------------- what goes wrong


def test_a_full_disk_and_ctrl_c_come_through_the_parquet_writer() -> None:
    columns = COLUMNS["telemetry"]

    def interrupted() -> Iterator[tuple[object, ...]]:
        yield (None,) * len(columns)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writers.write_parquet(io.BytesIO(), columns, interrupted())
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(OSError, match="No space"),
    ):
        writers.write_parquet(full, columns, [(None,) * len(columns)])


def test_no_kind_is_left_without_columns() -> None:
    assert tuple(COLUMNS) == tuple(TABLES) == KINDS
