"""Tables of the command line: each column stays, however long a value is."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from rich.cells import cell_len

from echo_ingest.broker.node_accounts import NodeAccount, change_nodes, now
from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal
from echo_ingest.journal.cursors import Refused
from echo_ingest.quality import TimeProblem
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Message, Rejected
from tests.stored import as_stored
from tests.test_cli import COMMAND, NOON_MS, environment

NORTH_RIDGE = "eui-70b3d57ed005a1b2-otways-north-ridge-line-recorder-0123456789"
NAMES = ("n1", NORTH_RIDGE, "x" * 3_000, "日本" * 200, "a b " * 500, "e\u0301" * 300)
HEADINGS = {
    ("records", "--limit", "9"): ["offset", "observed at", "node", "sensor", "kind", "summary"],
    ("dead-letters", "list"): ["id", "received", "node", "topic", "size", "reason"],
    ("parked", "list"): [
        *("offset", "sink", "parked", "node", "topic", "size", "attempts", "reason"),
    ],
    ("status", "--by-node"): [
        *("node", "last heard", "ago", "received", "stored", "duplicates", "dead letters", "size"),
    ],
    ("nodes", "list"): ["node", "state", "created", "last heard", "ago", "today"],
    ("sinks", "list"): ["sink", "title", "state", "delivered", "parked", "backlog", "lag"],
}
WIDER = frozenset((("status", "--by-node"), ("parked", "list"), ("sinks", "list")))
"""Tables whose numbers and times alone take more than 80 columns, or nearly."""


def call(name: str, number: int, **more: object) -> Message:
    fields = {"id": f"{number}", "sensor_id": name, "species": name, "confidence": 63.64}
    fields |= {"timestamp": NOON_MS // 1000, **more}
    return Message(f"iotingestion/{name}", json.dumps(fields).encode(), NOON_MS + 400, name)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    journal = Journal(folder / "journal.db")
    journal.add_sink("echo_api")
    messages = [call(name[:256].strip(), number) for number, name in enumerate(NAMES)]
    for number, name in enumerate(NAMES, 100):  # a node may have a longer name than a sensor
        sent = call("s", number)
        messages.append(Message(sent.topic, sent.payload, sent.received_at_ms, name))
    arrivals = as_stored(messages, 1_000_000)
    rejected = Rejected(ReasonCode.UNKNOWN_FORM, "it is none of the forms, " * 9)
    for name in NAMES:
        message = Message(f"iotingestion/{name}", b"{}", NOON_MS, name)
        arrivals.append((message, rejected))
    journal.append(arrivals)
    offsets = [entry.offset for entry in journal.read("echo_api", 99)]
    journal.settle("echo_api", offsets, {each: Refused("422: " + "no " * 50) for each in offsets})
    journal.close()
    accounts = {name: NodeAccount(name, now(), None) for name in ("n1", NORTH_RIDGE[:64])}
    change_nodes(folder / "nodes.jsonl", lambda nodes: nodes.update(accounts))
    yield folder


def in_a_pipe(data_dir: Path, *arguments: str) -> list[str]:
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=environment(data_dir),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def on_a_terminal(data_dir: Path, columns: int, *arguments: str) -> list[str]:
    """Return what a command prints on a terminal of that width."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env={**environment(data_dir), "TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=subprocess.DEVNULL,
    )
    os.close(its)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65_536)
        except OSError:  # nobody holds the other end any more
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    assert process.wait(60) == 0
    return shown.decode().replace("\r", "").splitlines()


def check_columns(lines: list[str], headings: list[str]) -> None:
    heading, rule = lines[0], lines[1]
    assert re.split(r"\s{2,}", heading.strip()) == headings
    assert set(rule.strip()) <= {"─", " "}, rule
    assert "…" in "".join(lines[2:])


@pytest.mark.parametrize("arguments", HEADINGS, ids=" ".join)
@pytest.mark.parametrize("columns", [80, 100, 200])
def test_all_columns_stay_on_a_terminal(
    data_dir: Path, arguments: tuple[str, ...], columns: int
) -> None:
    lines = on_a_terminal(data_dir, columns, *arguments)
    if arguments == ("sinks", "list"):
        assert re.split(r"\s{2,}", lines[0].strip()) == HEADINGS[arguments]
        return
    if columns < 200 or arguments != ("nodes", "list"):
        check_columns(lines, HEADINGS[arguments])
    if arguments not in WIDER:
        assert max(map(cell_len, lines)) <= columns


@pytest.mark.parametrize("arguments", HEADINGS, ids=" ".join)
def test_all_columns_stay_in_a_pipe_and_lines_are_not_folded(
    data_dir: Path, arguments: tuple[str, ...]
) -> None:
    lines = in_a_pipe(data_dir, *arguments)
    assert re.split(r"\s{2,}", lines[0].strip()) == HEADINGS[arguments]
    rows = [line for line in lines[2:] if line.strip()]
    if arguments[0] == "records":
        assert len(rows) == 9 and all(re.search(r" 2026-\d\d-\d\d ", row) for row in rows)
    if arguments[0] in ("dead-letters", "parked"):
        assert all("none of the forms" in row or "422: no" in row for row in rows)
        assert any("…" in row for row in rows)
    assert NORTH_RIDGE[:64] in "\n".join(lines) or arguments == ("sinks", "list")


def test_numbers_and_times_are_never_cut(data_dir: Path) -> None:
    rng = Random(1)
    for _ in range(6):
        columns = rng.randrange(40, 140)
        for line in on_a_terminal(data_dir, columns, "records", "--limit", "12")[2:]:
            if line.split() and line.split()[0].isdigit():
                assert re.match(r"\s*\d+  2026-09-14 \d\d:\d\d:\d\d [+-]\d{4}", line), columns


def test_records_say_what_is_not_believed(data_dir: Path) -> None:
    journal = Journal(data_dir / "journal.db")
    wrong = call("n7", 100, timestamp="2036-02-07T06:28:16Z")
    silent = call("n7", 101, timestamp=None)
    journal.append([(each, Decoder(1_000_000).identify(each)) for each in (wrong, silent)])
    offset = journal.ledger().stored - 1
    journal.close()
    problem = TimeProblem.AFTER_RECEIPT
    done = subprocess.run(
        [*COMMAND, "records", "--limit", "3"],
        env=environment(data_dir),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    marked = ["*" in line for line in done.stdout.splitlines()[2:]]
    assert marked == [True, True, False]
    assert "* the time of receipt" in done.stderr and f"records show {offset + 1}" in done.stderr
    shown = "\n".join(in_a_pipe(data_dir, "records", "show", f"{offset}"))
    assert problem.summary in shown and problem.advice in shown
    assert "The device wrote 2036-02-07T06:28:16Z." in shown
    shown = "\n".join(in_a_pipe(data_dir, "records", "show", f"{offset + 1}"))
    assert "The message gives no time" in shown
    lines = [json.loads(line) for line in in_a_pipe(data_dir, "records", "--json", "--limit", "3")]
    assert [line.get("time_problem") for line in lines] == [None, "after_receipt", None]
    assert lines[1]["device_time"] == "2036-02-07T06:28:16Z"
    assert problem.summary in lines[1]["problems"]["time"]
    assert "problems" not in lines[2]
    terminal = on_a_terminal(data_dir, 80, "records", "--limit", "3")
    assert "*" in terminal[2] and max(map(cell_len, terminal)) <= 80
