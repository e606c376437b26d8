"""`echo-ingest export` as a person types it; killed, resumed, refused, in a pipe."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import duckdb
import pytest

from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal
from tests.export.exporting import files, journal_of
from tests.export.test_package import PROJECT
from tests.harness import eventually
from tests.sinks.messages import PAYLOAD_BYTES_MAX, detection, message, messages
from tests.test_full_disk import fill

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-m", "echo_ingest.cli", "export")
CLIPS = 600
MESSAGES = 1_500
"""Two in five have a clip; plain detections follow, so that writing takes a moment too."""
DETECTIONS = 8_000
GROWTH_KB_MAX = 16_000

Export = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    journal_of(folder / "journal.db", messages(0, MESSAGES))
    plain = range(MESSAGES, MESSAGES + DETECTIONS)
    journal_of(folder / "journal.db", [detection(number) for number in plain])
    return folder


def environment(data_dir: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path),
            "IOT_DATA_DIR": str(data_dir), "TZ": "Australia/Melbourne"}  # fmt: skip


@pytest.fixture
def export(data_dir: Path, tmp_path: Path) -> Export:
    """Run `echo-ingest export` in `tmp_path`, with the journal of this module or another."""

    def run(*arguments: str, of: Path = data_dir) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env=environment(of),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def cut_short(
    data_dir: Path, folder: Path, arguments: tuple[str, ...], when: Callable[[], bool], how: int
) -> subprocess.CompletedProcess[str]:
    """Start an export and end it at a moment."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(data_dir),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            eventually(lambda: when() or program.poll() is not None)
        finally:
            program.send_signal(how)
        stdout, stderr = program.communicate(timeout=20)
    return subprocess.CompletedProcess(arguments, program.returncode, stdout, stderr)


def clips(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*.wav"))


@pytest.mark.parametrize("of", ["csv", "camtrap-dp"])
def test_sigkill_at_any_moment_changes_nothing(
    data_dir: Path, tmp_path: Path, export: Export, of: str
) -> None:
    (tmp_path / "otways.toml").write_text(PROJECT)
    options: tuple[str, ...] = ("--format", of, "--audio")
    if of == "camtrap-dp":
        options += ("--project", "otways.toml")
    whole = export("whole", *options)
    assert whole.returncode == 0, whole.stderr
    target, under_way = tmp_path / "out", tmp_path / "out.partial" / "files"
    arguments: tuple[str, ...] = ("out", *options)
    journal = tmp_path / "copy"
    with closing(apsw.Connection(str(data_dir / "journal.db"))) as db:
        journal.mkdir()
        db.execute("VACUUM INTO ?", (str(journal / "journal.db"),))
    for number, moment in enumerate(
        (
            lambda: clips(under_way) > 50,
            lambda: clips(under_way) > CLIPS - 100,
            lambda: any(under_way.glob("*.csv")),
        )
    ):
        cut_short(journal, tmp_path, arguments, moment, signal.SIGKILL)
        if target.exists():
            assert number == 2, "only the last moment is a short one"
            break
        arguments = ("out", "--resume")
        with closing(apsw.Connection(f"{tmp_path}/out.partial/progress.db")) as db:
            position = int(db.execute("SELECT position FROM asked").get)
        with closing(Journal(journal / "journal.db")) as retention:
            retention.trim(2**53, records_max=position)
    else:
        resumed = export(*arguments, of=journal)
        assert resumed.returncode == 0, resumed.stderr
        assert resumed.stderr.splitlines()[-1] == whole.stderr.splitlines()[-1].replace(
            "whole", "out"
        )
        assert not (tmp_path / "out.partial").exists()
    assert clips(target) == CLIPS
    assert files(target) == files(tmp_path / "whole")


def test_ctrl_c_says_how_to_go_on(data_dir: Path, tmp_path: Path, export: Export) -> None:
    under_way = tmp_path / "out.partial"
    stopped = cut_short(
        data_dir, tmp_path, ("out", "--audio"), lambda: clips(under_way) > 100, signal.SIGINT
    )
    assert stopped.returncode == 1
    assert "interrupted; `echo-ingest export out --resume` continues" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    again = export("out")
    assert again.returncode == 1
    assert "--resume` continues it; to start over, remove that folder" in again.stderr
    more = export("out", "--resume", "--audio")
    assert (more.returncode, "leave out all others" in more.stderr) == (2, True)
    resumed = export("out", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert re.match(r"out.partial: continuing after record [\d,]+ of 9,500\n", resumed.stderr)
    assert f"{MESSAGES * 2 // 5 + DETECTIONS:,} detections" in resumed.stderr


def test_a_full_disk_is_said_and_it_goes_on_when_there_is_room(
    tmp_path: Path, disk: Path, export: Export
) -> None:
    filler = fill(disk, leave_bytes=2_000_000)
    full = export("disk/out")
    assert full.returncode == 1
    assert full.stderr == (
        "echo-ingest: the disk that holds disk/out is full: make room; "
        "`echo-ingest export disk/out --resume` continues\n"
    )
    assert not (disk / "out").exists()
    filler.unlink()
    resumed = export("disk/out", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    export("elsewhere")
    assert files(disk / "out") == files(tmp_path / "elsewhere")


def test_two_cannot_write_the_same(data_dir: Path, tmp_path: Path, export: Export) -> None:
    command = [*COMMAND, "out", "--audio"]
    with subprocess.Popen(command, env=environment(data_dir), cwd=tmp_path) as first:
        try:
            eventually(lambda: clips(tmp_path / "out.partial") > 0)
            first.send_signal(signal.SIGSTOP)  # so that it is still there, however slow the other
            second = export("out", "--resume")
        finally:
            first.send_signal(signal.SIGCONT)
            first.terminate()
    assert second.returncode == 1
    assert "another export is writing to out.partial; wait until it ends" in second.stderr


def test_the_last_line_says_what_there_is_and_what_was_left_out(
    tmp_path: Path, export: Export
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    journal_of(data / "journal.db", messages(0, 20))
    refused = message(20)
    with closing(Journal(data / "journal.db")) as journal:
        identity = Decoder(PAYLOAD_BYTES_MAX).identify(refused)
        broken = type(refused)(refused.topic, b"{", refused.received_at_ms, refused.node)
        journal.append([(broken, identity)])
    with closing(apsw.Connection(str(data / "journal.db"))) as disk:
        disk.execute("UPDATE record SET payload = zeroblob(9) WHERE offset = 1")
    done = export("out", "--audio", of=data)
    assert done.returncode == 0
    assert done.stdout == ""
    why, last = done.stderr.splitlines()
    assert why.startswith("left out 1: it cannot be decoded any more: the JSON")
    sizes = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.csv"))
    assert last == (
        f"out: 7 detections, 4 recordings, 4 telemetry, 4 movements, 0 measurements"
        " in 5 files,"
        f" {sizes / 1000:.1f} kB, 8 clips, 5.5 kB;"
        " left out: 1 damaged, 1 not readable by this version"
    )
    assert export("out", of=data).stderr == (
        "echo-ingest: out already exists; name another folder, or remove it\n"
    )


def test_rows_go_down_a_pipe(export: Export) -> None:
    as_csv = export("-", "--kind", "detection", "--node", "creek-03")
    rows = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    assert {row["node"] for row in rows} == {"creek-03"}
    assert as_csv.stderr == f"{len(rows):,} detections; nothing left out\n"
    lines = export("-", "--format", "jsonl", "--species", "SUS SCROFA").stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert {row["species"] for row in rows} == {"Sus scrofa"}
    assert [row["offset"] for row in rows] == sorted(row["offset"] for row in rows)
    assert len(rows) == MESSAGES // 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-",), "choose it with --kind, or use --format jsonl"),
        (("-", "--format", "parquet"), "for anything else, name a folder"),
        (("-", "--kind", "detection", "--audio"), "for anything else, name a folder"),
        (("o", "--format", "camtrap-dp"), "add --project FILE"),
        (
            ("o", "--format", "camtrap-dp", "--project", "p", "--kind", "detection"),
            "leave out --kind",
        ),
        (("o", "--project", "p"), "add --format camtrap-dp"),
        (("o", "--kind", "telemetry", "--species", "x"), "kind telemetry have no species"),
    ],
)
def test_what_cannot_be_is_said_with_its_remedy(
    tmp_path: Path, export: Export, arguments: tuple[str, ...], words: str
) -> None:
    refused = export(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert words in refused.stderr
    assert not any(tmp_path.iterdir())


def test_what_is_not_ours_is_left_alone(data_dir: Path, tmp_path: Path, export: Export) -> None:
    precious = tmp_path / "out.partial" / "notes.txt"
    precious.parent.mkdir()
    precious.write_text("mine")
    refused = export("out")
    assert (
        refused.returncode,
        "out.partial already exists and is not an export" in refused.stderr,
    ) == (1, True)
    assert "no out.partial to continue" in export("out", "--resume").stderr
    assert precious.read_text() == "mine"
    assert "already exists" in export(".").stderr
    under_way = tmp_path / "two.partial"
    cut_short(data_dir, tmp_path, ("two", "--audio"), lambda: clips(under_way) > 9, signal.SIGKILL)
    other = tmp_path / "other"
    other.mkdir()
    journal_of(other / "journal.db", messages(0, 10))
    refused = export("two", "--resume", of=other)
    assert (refused.returncode, "was begun with the journal" in refused.stderr) == (1, True)


def test_what_is_not_there_is_said_plainly(tmp_path: Path, export: Export) -> None:
    assert "there is no folder" in export("nowhere/out").stderr
    assert "no out.partial to continue" in export("out", "--resume").stderr
    missing = export("out", "--format", "camtrap-dp", "--project", "missing.toml")
    assert "missing.toml cannot be read" in missing.stderr
    assert not any(tmp_path.iterdir())


def test_memory_does_not_grow_with_the_journal(tmp_path: Path) -> None:
    def peak_kb(count: int) -> int:
        data = tmp_path / f"data-{count}"
        data.mkdir()
        for first in range(0, count, 5_000):
            journal_of(data / "journal.db", [detection(n) for n in range(first, first + 5_000)])
        program = subprocess.Popen(
            [*COMMAND, f"out-{count}"], env=environment(data), cwd=tmp_path,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _, status, used = os.wait4(program.pid, 0)
        program.returncode = os.waitstatus_to_exitcode(status)
        assert program.returncode == 0
        return used.ru_maxrss

    small, large = peak_kb(5_000), peak_kb(40_000)
    rows = duckdb.sql(f"FROM '{tmp_path}/out-40000/detections.csv'")
    assert rows is not None
    assert len(rows) == 40_000
    assert large - small < GROWTH_KB_MAX, (small, large)
