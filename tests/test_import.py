"""`import`: tables and folders of recordings become records, once, however often it is repeated."""

import math
import struct
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from echo_ingest.cli.import_files import recording_of, rows_of
from tests.harness import Harness, eventually

ZONE = "Australia/Melbourne"
ANALYZER = "Start (s),End (s),Scientific name,Common name,Confidence"
LYREBIRD = "3.0,6.0,Menura novaehollandiae,Superb Lyrebird,0.8712"
WHIPBIRD = '6.0,9.0,Psophodes olivaceus,"Whipbird, Eastern",0.5204'
SELECTIONS = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\t"
    "Common Name\tScientific Name\tSpecies Code\tConfidence\tBegin Path\tFile Offset (s)\n"
    "1\tSpectrogram 1\t1\t63.0\t66.0\t0\t15000\tSuperb Lyrebird\tMenura novaehollandiae\tsuplyr1\t"
    "0.8712\t/recordings/S4A08123_20261005_060100.wav\t3.0\n"
)
BATS = (
    "id,det_prob,start_time,end_time,high_freq,low_freq,class,class_prob\n"
    "0,0.745,0.3105,0.3142,78125,41016,Nyctophilus gouldi,0.712\n"
    "1,0.69,0.4019,0.4051,75195,42969,Nyctophilus gouldi,0.655\n"
)


def payloads(table: Path, separator: str = ",") -> list[str]:
    return [payload.decode() for _, payload in rows_of(table, separator)]


def recording(path: Path, tone_hz: int = 1_000) -> None:
    """Write a second of a tone, which differs from those of other frequencies."""
    frames = [int(9_000 * math.sin(2 * math.pi * tone_hz * n / 8_000)) for n in range(8_000)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(struct.pack("<8000h", *frames))


# ---------------------------------------------------------------------- what is in a table


def test_each_row_is_a_table_of_its_own(tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    table.write_text(f"{ANALYZER},File\n{LYREBIRD},a.wav\n\n{WHIPBIRD},a.wav")
    assert payloads(table) == [
        f"{ANALYZER},File\n{LYREBIRD},a.wav\n",
        f"{ANALYZER},File\n{WHIPBIRD},a.wav\n",
    ]
    assert [line for line, _ in rows_of(table, ",")] == [2, 4]


def test_a_table_that_names_no_recording_gets_its_own_name(tmp_path: Path) -> None:
    table = tmp_path / 'a, "b" 20261005_060000.BirdNET.results.csv'
    table.write_bytes(b"\xef\xbb\xbf" + f"{ANALYZER}\r\n{LYREBIRD}\r\n".encode())
    cell = '"a, ""b"" 20261005_060000"'
    assert payloads(table) == [f"{ANALYZER},File\n{LYREBIRD},{cell}\n"]
    assert recording_of(tmp_path / "x.wav.csv") == "x.wav"


def test_text_in_quotes_may_go_over_several_lines_and_be_in_any_encoding(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(b'File,Note\na,"one\ntwo"\nb,\xff\n')
    rows = list(rows_of(table, ","))
    assert rows == [(2, b'File,Note\na,"one\ntwo"\n'), (4, b"File,Note\nb,\xff\n")]


def test_a_quote_that_is_never_closed_and_a_file_that_is_no_table_cost_little(
    tmp_path: Path,
) -> None:
    table = tmp_path / "t.csv"
    rows = "".join(f"a,{number}\n" for number in range(300_000))
    table.write_text(f'File,Note\nb,"open\n{rows}')
    began = time.process_time()
    sizes = [len(payload) for _, payload in rows_of(table, ",")]
    assert time.process_time() - began < 20
    assert max(sizes) < 1_100_000
    assert len(sizes) > 100_000, "what comes later is read again"
    table.write_bytes(b"x" * 3_000_000)
    lines = [line for line, _ in rows_of(table, ",")]
    assert lines == [1, 1]


# ---------------------------------------------------------------------- with a real service


@pytest.fixture
def harness(mosquitto: Path, tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data", mosquitto=mosquitto, IOT_ZONE=ZONE)
    harness.up()
    yield harness
    harness.close()


def season(folder: Path) -> Path:
    """Make a folder as people have it after a season: tables, recordings, and other files."""
    (folder / "creek").mkdir(parents=True)
    (folder / "creek" / "S4A08123_20261005_060000.BirdNET.results.csv").write_text(
        f"{ANALYZER}\n{LYREBIRD}\n{WHIPBIRD}\n"
    )
    (folder / "creek" / "S4A08123_20261005_060100.BirdNET.selection.table.txt").write_text(
        SELECTIONS
    )
    (folder / "TREE-04_20261005_210000.wav.csv").write_text(BATS)
    recording(folder / "S4A08123_20261005_060000.wav")
    (folder / "notes.docx").write_bytes(b"not for us")
    (folder / ".hidden.csv").write_text("x\n1\n")
    return folder


@pytest.mark.slow
def test_a_folder_becomes_records_with_their_own_times_and_is_there_only_once(
    harness: Harness, tmp_path: Path
) -> None:
    folder = season(tmp_path / "season")
    done = harness.cli("import", str(folder), "--node", "creek")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.splitlines() == ["4 files: 6 stored"]
    records = {
        (record["observed_at"], record["kind"], record.get("species")): record
        for record in harness.records()
    }
    assert sorted(records, key=str) == [
        ("2026-10-04T19:00:00Z", "recording", None),
        ("2026-10-04T19:00:03Z", "detection", "Menura novaehollandiae"),
        ("2026-10-04T19:00:06Z", "detection", "Psophodes olivaceus"),
        ("2026-10-04T19:01:03Z", "detection", "Menura novaehollandiae"),
        ("2026-10-05T10:00:00.310500Z", "detection", "Nyctophilus gouldi"),
        ("2026-10-05T10:00:00.401900Z", "detection", "Nyctophilus gouldi"),
    ]
    assert {record["node"] for record in records.values()} == {"creek"}
    again = harness.cli("import", str(folder), "--node", "creek", "--zone", ZONE)
    assert (again.returncode, again.stderr.splitlines()) == (0, ["4 files: 6 duplicates"])
    table = folder / "creek" / "S4A08123_20261005_060000.BirdNET.results.csv"
    table.write_text(table.read_text() + LYREBIRD.replace("3.0,6.0", "9.0,12.0") + "\n")
    grown = harness.cli("import", str(table), "--node", "creek")
    assert grown.stderr.splitlines() == ["1 file: 1 stored, 2 duplicates"]
    assert harness.ledger()["dead_letters"] == 0


@pytest.mark.slow
def test_an_import_that_was_killed_is_repeated_and_nothing_is_twice(
    harness: Harness, tmp_path: Path
) -> None:
    table = tmp_path / "S4A08123_20261005_060000.csv"
    rows = [LYREBIRD.replace("3.0,6.0", f"{3 * n}.0,{3 * n + 3}.0") for n in range(20_000)]
    table.write_text("\n".join([ANALYZER, *rows, ""]))
    program = harness.start_cli("import", str(table), "--node", "creek")
    eventually(lambda: harness.ledger_now()["stored"] > 500)
    program.kill()
    program.wait()
    stored = harness.ledger_now()["stored"]
    assert stored < 20_000, "it was killed in the middle"
    done = harness.cli("import", str(table), "--node", "creek")
    assert done.returncode == 0, done.stderr
    ledger = harness.ledger()
    assert (ledger["stored"], ledger["dead_letters"]) == (20_000, 0)
    assert ledger["duplicates"] >= stored


@pytest.mark.slow
def test_what_would_be_rejected_or_get_a_wrong_time_is_not_sent_and_says_why(
    harness: Harness, tmp_path: Path
) -> None:
    folder = tmp_path / "season"
    folder.mkdir()
    (folder / "spending.csv").write_text("what,how much\ntent,200\n")
    (folder / "afternoon.csv").write_text(f"{ANALYZER}\n{LYREBIRD}\n")
    (folder / "S4A_20261005_060000.csv").write_text(
        f"{ANALYZER}\n{LYREBIRD}\n{LYREBIRD.replace('0.8712', '87.12')}\n"
    )
    recording(folder / "evening.wav")
    with (folder / "whole_night.wav").open("wb") as whole:
        whole.truncate(8_000_000_000)
    done = harness.cli("import", str(folder), "--node", "creek")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[-1] == "5 files: 1 stored, 5 not understood"
    assert any("it has 8,000,000,000 bytes, more than" in line for line in lines)
    assert any(f"{folder / 'spending.csv'} line 2: " in line for line in lines)
    (timeless,) = [line for line in lines if "evening.wav" in line]
    assert "when it was recorded is not known" in timeless
    (wrong,) = [line for line in lines if "S4A_20261005_060000.csv line 3" in line]
    assert "Confidence" in wrong
    ledger = harness.ledger()
    assert (ledger["received"], ledger["stored"]) == (1, 1)


BARE = """name = "bare"
[match]
opens = '\\d\\d\\.\\d\\d\\.\\d{4},'
payload = "lines"
separator = ","
columns = ["day", "time", "frog"]
[[record]]
kind = "detection"
each = "rows"
species = "frog"
observed_at = { from = ["day", "time"], join = " ", format = "%d.%m.%Y %H:%M", zone = "UTC" }
"""


@pytest.mark.slow
def test_each_line_of_a_table_without_a_header_is_stored_once(
    harness: Harness, tmp_path: Path
) -> None:
    """Taken for a header, its first line would be sent again with each of the others."""
    (harness.data_dir / "forms.d").mkdir()
    (harness.data_dir / "forms.d" / "bare.toml").write_text(BARE)
    eventually(lambda: "forms changed" in harness.log("up"))
    frogs = ["Crinia signifera", "Litoria ewingii", "Litoria peronii"]
    table = tmp_path / "log.csv"
    table.write_text("".join(f"05.10.2026,07:3{at},{frog}\n" for at, frog in enumerate(frogs)))
    done = harness.cli("import", str(table), "--node", "shed", "--zone", ZONE)
    assert done.stderr.splitlines()[-1] == "1 file: 3 stored", done.stderr
    stored = [each["species"] for each in harness.records()]
    assert sorted(stored) == frogs


@pytest.mark.slow
def test_the_zone_is_asked_for_and_a_form_can_be_demanded(harness: Harness, tmp_path: Path) -> None:
    table = tmp_path / "S4A_20261005_060000.csv"
    table.write_text(f"{ANALYZER}\n{LYREBIRD}\n")
    clip = tmp_path / "S4A_20261005_060000.wav"
    recording(clip)
    elsewhere = ["--node", "creek", "--zone", "Asia/Tokyo"]
    for arguments, words in (
        ([str(table), *elsewhere], "set IOT_ZONE=Asia/Tokyo there and here"),
        ([str(table), "--node", "creek", "--zone", "Melbourne"], "type Australia/Melbourne"),
        ([str(table), "--node", "creek", "--form", "nothing"], "there is no form 'nothing'"),
        ([str(table), "--node", "a/b"], "cannot be the name of a node"),
        ([str(table), "--node", "n" * 65], "up to 64 characters"),
    ):
        done = harness.cli("import", *arguments)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    del harness.settings["IOT_ZONE"]
    done = harness.cli("import", str(clip), "--node", "creek")
    assert (done.returncode, "add --zone" in done.stderr.replace("\n", " ")) == (2, True)
    assert harness.cli("import", str(clip), *elsewhere).returncode == 0
    (record,) = harness.records()
    assert record["observed_at"] == "2026-10-04T21:00:00Z", "that of the zone which was typed"
    harness.settings["IOT_ZONE"] = ZONE
    done = harness.cli("import", str(table), "--node", "creek", "--form", "batdetect2-csv")
    assert done.returncode == 1
    assert "in the form birdnet-analyzer-csv, and not in batdetect2-csv" in done.stderr
    done = harness.cli("import", str(table), "--node", "creek", "--form", "birdnet-analyzer-csv")
    assert (done.returncode, done.stderr.splitlines()) == (0, ["1 file: 1 stored"])
