"""The command line as a person runs it: its own process, a real journal, a real broker."""

import asyncio
import base64
import contextlib
import csv
import getpass
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
import typer

from echo_ingest.almanac import Follower, almanac_path
from echo_ingest.cli import app
from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.reader import JournalReader
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.pipeline.confirmed_publish import NoReceipt, ReceiptSession
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Identity, Message, Rejected
from echo_ingest.settings import Endpoint
from tests.harness import Harness, eventually, free_port
from tests.several_records import only

pytestmark = pytest.mark.slow

PAYLOAD_BYTES_MAX = 50_000_000
DEADLINE_SECONDS = 20
NOON_MS = 1_789_387_200_000  # 2026-09-14T12:00:00Z, 22:00 in Melbourne

Cli = Callable[..., subprocess.CompletedProcess[str]]


def wav(seconds: float = 0.5, rate_hz: int = 8_000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate_hz)
        out.writeframes(bytes(range(250)) * int(seconds * rate_hz * 2 / 250))
    return file.getvalue()


def message(node: str, payload: bytes | object, tail: str = "", at_ms: int = NOON_MS) -> Message:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Message(f"iotingestion/{node}{tail}", raw, at_ms, node)


DETECTION = message(
    "ridge-01",
    {
        "timestamp": "1789380000",
        "species": "Dacelo novaeguineae",
        "confidence": 87.25,
        "sensor_id": "mic-3",
    },
)
CLIP = message("creek-02", wav(), "/recording")
HEARTBEAT = message("swamp-01", {"nodeId": "swamp-01", "status": "online", "batteryPct": 71})
MOVEMENT = message(
    "collar-7",
    {
        "timestamp": "2026-09-14T10:00:00Z",
        "species": "Vulpes vulpes",
        "animalId": "fox-7",
        "animalTrueLLA": [-38.77, 143.5, 100.0],
    },
)
HOSTILE = message("e\x1b[2Jvil", b'{"name": "\x1b]0;owned\x07 [red]"}')


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(data_dir),
        "IOT_DATA_DIR": str(data_dir),
        "TZ": "Australia/Melbourne",
        "IOT_HTTP_PORT": str(free_port()),  # at the usual one, somebody's service may answer
        **more,
    }


COMMAND = (sys.executable, "-m", "echo_ingest.cli")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def cli(data_dir: Path) -> Cli:
    """Run `echo-ingest` with these arguments; keyword arguments are environment variables."""

    def run(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            env=environment(data_dir, **more),
            capture_output=True,
            text=True,
            timeout=60,
            cwd=data_dir.parent,
        )

    return run


@pytest.fixture
def journal(data_dir: Path) -> Iterator[Journal]:
    """Make a journal with one record of each kind and two dead letters, open for writing."""
    journal = Journal(data_dir / "journal.db")
    append(journal, DETECTION, CLIP, HEARTBEAT, MOVEMENT, HOSTILE)
    journal.append(
        [
            (
                message("old-1", {"form": "unknown"}),
                Rejected(ReasonCode.UNKNOWN_FORM, "not one of the forms"),
            )
        ]
    )
    yield journal
    journal.close()


def append(journal: Journal, *messages: Message) -> None:
    journal.append([(m, Decoder(PAYLOAD_BYTES_MAX).identify(m)) for m in messages])


# ---------------------------------------------------------------------- help, errors


@pytest.mark.parametrize("command", [(), ("records",), ("publish",)])
def test_help_reads_well_at_80_columns(cli: Cli, command: tuple[str, ...]) -> None:
    shown = cli(*command, "--help", COLUMNS="80")
    assert shown.returncode == 0
    assert "Usage: echo-ingest" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert "…" not in shown.stdout.replace("IOT_ENDPOINT, …", "")


def test_no_journal_is_one_plain_line_with_a_remedy(cli: Cli, data_dir: Path) -> None:
    for command in (("status",), ("dead-letters", "replay", "--all")):
        shown = cli(*command)
        assert shown.returncode == 1
        assert shown.stdout == ""
        assert len(shown.stderr.splitlines()) == 1
        assert "echo-ingest up" in shown.stderr
    assert list(data_dir.iterdir()) == []


def test_wrong_settings_are_said_plainly_and_exit_with_2(cli: Cli) -> None:
    shown = cli("status", IOT_HTTP_PORT="many")
    assert shown.returncode == 2
    assert "IOT_HTTP_PORT" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_settings_file_is_read(cli: Cli, journal: Journal, tmp_path: Path) -> None:
    config = tmp_path / "echo.toml"
    config.write_text(f'data_dir = "{journal.path.parent}"\n')
    shown = cli("--config", config, "status", "--json", IOT_DATA_DIR="")
    assert json.loads(shown.stdout)["stored"] == 4


# ---------------------------------------------------------------------- status


def test_status_as_json_is_the_ledger_of_the_http_api(cli: Cli, journal: Journal) -> None:
    journal.add_sink("echo_api")
    append(journal, DETECTION)
    journal.settle("echo_api", [1, 2], {2: Refused("no")})
    shown = json.loads(cli("status", "--json").stdout)
    lag_seconds = shown["sinks"]["echo_api"].pop("lag_seconds")
    assert lag_seconds > 0
    assert shown == {
        "received": 7,
        "stored": 4,
        "duplicates": 1,
        "dead_letters": 2,
        "lost": 0,
        "sinks": {
            "echo_api": {
                "delivered": 1,
                "parked": 1,
                "backlog": 2,
                "skipped": 0,
                "paused_at_ms": None,
            }
        },
        "ignored": 0,
        "unclaimed": 0,
        "discarded": 0,
    }


def test_status_shows_that_the_ledger_adds_up(cli: Cli, journal: Journal) -> None:
    assert "No sinks: records stay in the journal." in cli("status").stdout
    journal.add_sink("echo_api")
    shown = cli("status").stdout
    assert "received = stored + duplicates + dead letters ✓" in shown
    assert "stored = delivered + parked + backlog + skipped ✓" in shown
    assert "✗" not in shown


def test_status_and_check_flag_a_node_that_sends_fractions(
    cli: Cli, journal: Journal, data_dir: Path
) -> None:
    for number in range(12):
        fields = {"id": f"{number}", "sensor_id": "s", "species": "frog", "confidence": 0.86}
        append(journal, message("bats-03", {**fields, "timestamp": NOON_MS // 1000}))
    command = "echo-ingest nodes set bats-03 --confidence fraction"
    assert command not in cli("status").stderr  # no almanac yet
    follower = Follower(almanac_path(data_dir), data_dir / "journal.db", Decoder(PAYLOAD_BYTES_MAX))
    for _ in follower.round():
        pass
    follower.close()
    assert command in cli("status").stderr and command in cli("status", "--by-node").stderr
    json.loads(cli("status", "--json").stdout)
    checked = cli("check", **free_ports())
    assert checked.returncode == 1
    assert (
        "✗ confidence  bats-03: no confidence in 12 detections is more than 1 %" in checked.stdout
    )
    done = cli(*command.split()[1:])
    assert done.returncode == 0, done.stderr
    assert command not in cli("status").stderr
    assert "confidence" not in cli("check", **free_ports()).stdout


def test_status_by_node_survives_a_leap_of_the_hosts_clock(cli: Cli, journal: Journal) -> None:
    for days in (0, 3_650, 0):
        at_ms = NOON_MS + days * 86_400_000
        report = {
            "nodeId": "swamp-02",
            "status": "online",
            "id": f"{days}{journal.ledger().stored}",
        }
        append(journal, message("swamp-02", report, at_ms=at_ms))
    rows = json.loads(cli("status", "--by-node", "--json").stdout)["nodes"]
    (row,) = [row for row in rows if row["node"] == "swamp-02"]
    assert row["last_heard_at"].startswith("2026-09-14")


DAY_MS = 86_400_000


def test_status_by_node_sums_the_days_chosen_and_says_who_is_silent(
    cli: Cli, journal: Journal
) -> None:
    for days in range(1, 4):
        report = {"nodeId": "swamp-01", "status": "online", "id": f"{days}"}
        append(journal, message("swamp-01", report, at_ms=NOON_MS + days * DAY_MS))
    append(journal, message("swamp-01", report, at_ms=NOON_MS + 3 * DAY_MS + 5))
    shown = cli("status", "--by-node")
    rows = [line.split() for line in shown.stdout.splitlines()[2:]]
    assert rows[0][:4] == ["swamp-01", "2026-09-17", "22:00:00", "+1000"]
    assert rows[0][-6:] == ["5", "4", "1", "0", "272", "B"]
    assert {row[0] for row in rows} == {
        "swamp-01", "ridge-01", "creek-02", "collar-7", "e\\x1b[2Jvil", "old-1",
    }  # fmt: skip
    assert "6 nodes heard\n" in shown.stderr
    since = cli("status", "--by-node", "--json", "--since", "2026-09-16T00:00Z")
    assert json.loads(since.stdout) == {
        "since": "2026-09-16",
        "nodes": [
            {
                "node": "swamp-01",
                "first_heard_at": "2026-09-16T12:00:00Z",
                "last_heard_at": "2026-09-17T12:00:00.005000Z",
                "received": 3,
                "stored": 2,
                "duplicates": 1,
                "dead_letters": 0,
                "ignored": 0,
                "unclaimed": 0,
                "discarded": 0,
                "received_bytes": 3 * len(json.dumps(report)),
            }
        ],
    }
    refused = cli("status", "--since", "7d")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--by-node" in refused.stderr


def received_at(journal: Journal, at_ms: int, node: str) -> None:
    payload = b'{"nodeId": "%s", "status": "online", "timestamp": %d}' % (node.encode(), at_ms)
    message = Message(f"iotingestion/{node}", payload, at_ms, node)
    journal.append([(message, Identity("telemetry", at_ms // 1000))])


def test_status_and_check_say_that_the_clock_was_wrong(cli: Cli, journal: Journal) -> None:
    now_ms = time.time_ns() // 1_000_000
    assert "future" not in cli("status").stderr + cli("check").stdout
    received_at(journal, now_ms + 3_420 * DAY_MS, "gully-09")
    day = f"{datetime.fromtimestamp(now_ms / 1000, UTC) + timedelta(days=3_420):%Y-%m-%d}"
    words = f"the newest message was received on {day} (UTC), which is in the future"
    assert words in cli("status").stderr
    checked = cli("check")
    assert f"✗ clock       {words}" in checked.stdout
    assert checked.returncode == 1
    received_at(journal, now_ms, "gully-09")
    words = f"some messages were received on {day} (UTC), which is in the future"
    assert words in cli("status").stderr
    assert f"– clock       {words}" in cli("check").stdout
    (node,) = (
        each
        for each in json.loads(cli("status", "--by-node", "--json").stdout)["nodes"]
        if each["node"] == "gully-09"
    )
    assert node["last_heard_at"][:10] == f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y-%m-%d}"
    assert node["received"] == 2


def test_what_a_node_sent_is_known_after_its_records_are_gone(cli: Cli, journal: Journal) -> None:
    before = cli("status", "--by-node", "--json").stdout
    assert journal.trim(NOON_MS + DAY_MS) == 3
    assert cli("status", "--by-node", "--json").stdout == before
    with contextlib.closing(JournalReader(journal.path)) as reader:
        days = reader.node_days("ridge-01")
        assert [(day.day, day.stored) for day in days] == [(date(2026, 9, 14), 1)]
        assert reader.record(1) is None
        assert reader.node_days(since=date(2026, 9, 15)) == []
        assert len(reader.node_days(limit=2)) == 2


# ---------------------------------------------------------------------- records


def test_records_are_a_table_newest_first_in_local_time(cli: Cli, journal: Journal) -> None:
    lines = cli("records").stdout.splitlines()
    assert lines[0].split()[0] == "offset"
    rows = [line.split() for line in lines[2:]]
    assert [row[0] for row in rows] == ["4", "3", "2", "1"]
    assert rows[3][1:] == [
        "2026-09-14", "20:00:00", "+1000", "ridge-01", "mic-3", "detection",
        "Dacelo", "novaeguineae", "87.2", "%",
    ]  # fmt: skip
    assert "wav 8 kHz 0.5 s, 8.0 kB" in lines[4]
    assert "online" in lines[3]
    assert "Vulpes vulpes fox-7 at -38.77000, 143.50000" in lines[2]


def test_a_record_says_that_a_node_runs_on_external_power(cli: Cli, journal: Journal) -> None:
    append(journal, message("swamp-01", {"nodeId": "swamp-01", "status": "on", "batteryPct": 101}))
    assert "on, external power" in cli("records").stdout


def test_records_are_filtered(cli: Cli, journal: Journal) -> None:
    def offsets(*options: str) -> list[int]:
        shown = cli("records", "--json", *options)
        assert shown.returncode == 0, shown.stderr
        return [json.loads(line)["offset"] for line in shown.stdout.splitlines()]

    assert offsets("--node", "creek-02", "--kind", "recording") == [2]
    assert offsets("--limit", "2") == [4, 3]
    assert offsets("--since", "2026-09-14T19:59+10:00", "--until", "2026-09-14T20:00:01") == [4, 1]
    refused = cli("records", "--since", "yesterday")
    assert refused.returncode == 2
    assert "2h or 3d" in refused.stderr


def test_records_are_selected_by_the_times_that_the_site_gives_them(
    cli: Cli, journal: Journal
) -> None:
    without_zone = {"nodeId": "local-1", "status": "online", "timestamp": "2026-09-14T15:00:00"}
    append(journal, message("local-1", without_zone))  # 05:00 UTC in Melbourne
    before = ("--until", "2026-09-14T06:00Z")
    for zone, expected in (("Australia/Melbourne", [5]), ("", [])):
        shown = cli("records", "--json", *before, IOT_ZONE=zone)
        assert [json.loads(line)["offset"] for line in shown.stdout.splitlines()] == expected
        exported = cli("export", "-", "--format", "jsonl", *before, IOT_ZONE=zone)
        assert [json.loads(line)["offset"] for line in exported.stdout.splitlines()] == expected


def test_records_as_json_are_what_decode_says(cli: Cli, journal: Journal) -> None:
    shown = [json.loads(line) for line in cli("records", "--json").stdout.splitlines()]
    assert (shown[3].pop("offset"), shown[3].pop("index")) == (1, 0)
    assert len(bytes.fromhex(shown[3].pop("key"))) == 16
    assert shown[3].pop("received_at") == "2026-09-14T12:00:00Z"
    assert shown[3].pop("topic") == DETECTION.topic
    assert shown[3] == json.loads(
        msgspec.json.encode(only(Decoder(PAYLOAD_BYTES_MAX).decode(DETECTION)))
    )


def test_records_as_csv_have_flat_columns(cli: Cli, journal: Journal) -> None:
    rows = list(csv.DictReader(io.StringIO(cli("records", "--csv").stdout)))
    assert [row["kind"] for row in rows] == ["movement", "telemetry", "recording", "detection"]
    assert rows[3]["observed_at"] == "2026-09-14T10:00:00.000000Z"
    assert float(rows[3]["confidence"]) == pytest.approx(0.8725)
    assert rows[2]["clip_sha256"] == hashlib.sha256(CLIP.payload).hexdigest()
    assert (rows[0]["animal_id"], rows[0]["animal_latitude"]) == ("fox-7", "-38.77")


def test_records_are_followed_as_they_arrive_until_ctrl_c(data_dir: Path, journal: Journal) -> None:
    with subprocess.Popen(
        [*COMMAND, "records", "--follow", "--json", "--limit", "1"],
        env=environment(data_dir),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert json.loads(following.stdout.readline())["offset"] == 4
        for offset in (5, 6, 7):
            append(journal, message("swamp-01", {"nodeId": "swamp-01", "status": "online"}))
            assert json.loads(following.stdout.readline())["offset"] == offset
        following.send_signal(signal.SIGINT)
        assert following.wait(DEADLINE_SECONDS) == 0
        assert following.stderr.read() == ""


def test_a_clip_comes_out_byte_for_byte(cli: Cli, journal: Journal, tmp_path: Path) -> None:
    file = tmp_path / "out.wav"
    shown = cli("records", "clip", "2", "-o", file)
    assert file.read_bytes() == CLIP.payload
    assert hashlib.sha256(CLIP.payload).hexdigest() in shown.stderr
    again = cli("records", "clip", "2", "-o", file)
    assert (again.returncode, again.stdout) == (1, "")
    assert "already exists" in again.stderr
    assert "has no clip" in cli("records", "clip", "1").stderr


def test_a_record_is_shown_with_its_message(cli: Cli, journal: Journal) -> None:
    shown = cli("records", "show", "1").stdout
    assert "2026-09-14 22:00:00 +1000" in shown
    assert '"confidence": 0.8725' in shown
    assert '"confidence": 87.25' in shown
    assert "there is no record at offset 99; the newest is 4" in cli("records", "show", "99").stderr


def test_a_pipe_that_closes_early_is_no_error(data_dir: Path, journal: Journal) -> None:
    append(journal, *(message("n", {"nodeId": "n", "status": "online"}) for _ in range(2_000)))
    shell = shutil.which("sh")
    assert shell is not None
    shown = subprocess.run(
        [shell, "-c", '"$0" "$@" | head -n 1', *COMMAND, "records", "--json", "--limit", "2000"],
        env=environment(data_dir),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert json.loads(shown.stdout)["offset"] == 2_004
    assert shown.stderr == ""


# ---------------------------------------------------------------------- dead letters


def test_dead_letters_are_listed_with_their_reasons(cli: Cli, journal: Journal) -> None:
    shown = cli("dead-letters", "list")
    assert "not one of the forms" in shown.stdout
    assert "2 of 2 dead letters" in shown.stderr
    assert "1 of 1 dead letters" in cli("dead-letters", "list", "--node", "old-1").stderr


def test_nothing_a_device_says_controls_the_terminal(cli: Cli, journal: Journal) -> None:
    for command in (("dead-letters", "list"), ("dead-letters", "show", "1")):
        shown = cli(*command, FORCE_COLOR="1", TERM="xterm-256color").stdout
        assert "\x1b[2J" not in shown
        assert "\x1b]0;" not in shown
        assert "\\x1b[2Jvil" in shown


def test_a_dead_letter_is_shown_readably_and_raw(cli: Cli, journal: Journal) -> None:
    journal.append(
        [
            (
                message("a", {"audioClip": "A" * 5_000}),
                Rejected(ReasonCode.UNKNOWN_FORM, "broken base64"),
            ),
            (message("b", b"RIFF\x00\xff" * 100), Rejected(ReasonCode.UNKNOWN_FORM, "cut off")),
        ]
    )
    assert '… (5,000 characters of base64: 3.8 kB)"' in cli("dead-letters", "show", "3").stdout
    assert "52 49 46 46 00 ff" in cli("dead-letters", "show", "4").stdout
    raw = subprocess.run(
        [*COMMAND, "dead-letters", "show", "4", "--raw"],
        env=environment(journal.path.parent),
        capture_output=True,
        timeout=60,
    )
    assert raw.stdout == b"RIFF\x00\xff" * 100
    assert "there is no dead letter 9" in cli("dead-letters", "show", "9").stderr


def test_a_dead_letter_that_is_valid_now_is_stored_by_replay(cli: Cli, journal: Journal) -> None:
    late = message("ridge-02", {**json.loads(DETECTION.payload), "species": "Menura"})
    journal.append(
        [(late, Rejected(ReasonCode.UNKNOWN_FORM, "an older version did not know this form"))]
    )
    journal.append(
        [(DETECTION, Rejected(ReasonCode.UNKNOWN_FORM, "an older version did not know this form"))]
    )
    assert cli("dead-letters", "replay").returncode == 2
    shown = cli("dead-letters", "replay", "--all")
    assert "1 stored, 1 duplicate, 2 rejected again" in shown.stderr
    assert len(shown.stdout.splitlines()) == 4
    append(journal, HEARTBEAT)  # the service goes on beside it
    status = json.loads(cli("status", "--json").stdout)
    assert (status["received"], status["stored"], status["duplicates"]) == (9, 6, 1)
    assert status["dead_letters"] == 2
    replayed = json.loads(cli("records", "--json", "--node", "ridge-02").stdout)
    assert (replayed["species"], replayed["offset"]) == ("Menura", 5)
    assert "there is no dead letter 3" in cli("dead-letters", "replay", "3").stderr


def test_dead_letters_are_exported_with_their_bytes(
    cli: Cli, journal: Journal, tmp_path: Path
) -> None:
    journal.append([(message("b", b"\x00\xff"), Rejected(ReasonCode.UNKNOWN_FORM, "no audio"))])
    file = tmp_path / "dead-letters.jsonl"
    assert "3 lines written" in cli("dead-letters", "export", file).stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["id"] for line in lines] == [1, 2, 3]
    assert base64.b64decode(lines[2]["payload_base64"]) == b"\x00\xff"
    assert lines[2]["reason"] == "no audio"
    assert "already exists" in cli("dead-letters", "export", file).stderr


# ---------------------------------------------------------------------- parked


@pytest.fixture
def parked(journal: Journal) -> Journal:
    """Park two of the records, as a sink would."""
    journal.add_sink("echo_api")
    journal.settle(
        "echo_api", [1, 2, 3, 4], {1: Refused("unknown species"), 2: Refused("30 MB at most")}
    )
    return journal


def test_parked_records_are_listed_and_shown(cli: Cli, parked: Journal) -> None:
    shown = cli("parked", "list")
    assert [line.split()[0] for line in shown.stdout.splitlines()[2:]] == ["2", "1"]
    assert "1 of 1 parked records" in cli("parked", "list", "--reason", "species").stderr
    assert "unknown species" in cli("parked", "show", "1").stdout
    assert "record 3 is not parked" in cli("parked", "show", "3").stderr


def test_replayed_parked_records_are_offered_to_the_sink_again(cli: Cli, parked: Journal) -> None:
    assert cli("parked", "replay").returncode == 2
    assert parked.read("echo_api", 10) == []
    assert "will offer 1 record again" in cli("parked", "replay", "2").stderr
    assert [entry.offset for entry in parked.read("echo_api", 10)] == [2]
    assert "will offer 1 record again" in cli("parked", "replay", "--all").stderr
    assert [entry.offset for entry in parked.read("echo_api", 10)] == [1, 2]
    assert "replay requested" in cli("parked", "list").stdout


def test_parked_records_are_exported_decoded_and_raw(
    cli: Cli, parked: Journal, tmp_path: Path
) -> None:
    file = tmp_path / "parked.jsonl"
    assert "2 lines written" in cli("parked", "export", file).stderr
    first, second = (json.loads(line) for line in file.read_text().splitlines())
    assert (first["record"]["species"], first["reason"]) == (
        "Dacelo novaeguineae",
        "unknown species",
    )
    assert base64.b64decode(second["payload_base64"]) == CLIP.payload


# ---------------------------------------------------------------------- a real broker


class Broker:
    """A mosquitto with one account, `field`, that may publish below iotingestion."""

    def __init__(self, program: Path, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder = folder
        passwords, rules = folder / "passwords", folder / "acl"
        hash_command = [str(program.with_name("mosquitto_passwd")), "-b", "-c", str(passwords)]
        if not Path(hash_command[0]).exists():
            hash_command[0] = "mosquitto_passwd"
        subprocess.run([*hash_command, "field", "right"], check=True, capture_output=True)
        rules.write_text(
            "user field\ntopic readwrite iotingestion/#\ntopic readwrite iotreceipts/#\n"
        )
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\nuser {getpass.getuser()}\n"
            f"password_file {passwords}\nacl_file {rules}\n"
        )
        self._command = [str(program), "-c", str(self._configuration)]
        self.settings = {
            "IOT_ENDPOINT": f"127.0.0.1:{self.port}",
            "IOT_USER": "field",
            "IOT_PASSWORD": "right",
        }

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

        def answers() -> bool:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return True
            return False

        eventually(answers)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("needs mosquitto")
    broker = Broker(Path(program), tmp_path)
    broker.start()
    yield broker
    broker.kill()


@contextlib.asynccontextmanager
async def listening(broker: Broker) -> AsyncIterator[Session]:
    """Open a session that has subscribed to everything that is published."""
    session = Session(
        SessionOptions(
            endpoint=Endpoint("mqtt", "127.0.0.1", broker.port),
            client_id="listener",
            login=lambda: ("field", "right"),
            topic_filters=("iotingestion/#",),
        )
    )
    running = asyncio.create_task(session.run())
    async with asyncio.timeout(DEADLINE_SECONDS):
        await session.wait_connected()
        yield session
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def published(session: Session, count: int) -> list[tuple[str, bytes]]:
    return [(m.topic, m.payload) for m in await arrived(session, count)]


async def arrived(session: Session, count: int) -> list[Message]:
    messages: list[Message] = []
    while len(messages) < count:
        batch = await session.receive(count, 0.05)
        session.ack(batch)
        messages += batch.messages
    return messages


async def test_the_name_of_an_audio_file_goes_with_it(
    cli: Cli, broker: Broker, tmp_path: Path
) -> None:
    names = ("20260914_054512.WAV", "report.json", "ligne\n.flac", "long" * 62 + ".mp3")
    files = [tmp_path / name for name in names]
    for file in files:
        file.write_bytes(wav())
    async with listening(broker) as session:
        shown = await asyncio.to_thread(
            cli, "publish", *files, "--topic", "iotingestion/x", **broker.settings
        )
        assert shown.stderr == "4 acknowledged\n"
        messages = await arrived(session, 4)
    assert [message.properties for message in messages] == [
        (("file_name", names[0]),),
        (),
        (),
        (("file_name", names[3]),),
    ]


async def test_files_are_published_as_a_device_would(
    cli: Cli, broker: Broker, tmp_path: Path
) -> None:
    report, clip, many = tmp_path / "report.json", tmp_path / "call.WAV", tmp_path / "many.jsonl"
    report.write_bytes(b'{"status":"online"}')
    clip.write_bytes(wav())
    many.write_text("".join(f'{{"n":{n}}}\n\n' for n in range(1_000)))
    async with listening(broker) as session:
        shown = await asyncio.to_thread(
            cli, "publish", report, clip, "--node", "ridge-01", **broker.settings
        )
        assert (shown.returncode, shown.stderr) == (0, "2 acknowledged\n")
        assert await published(session, 2) == [
            ("iotingestion/ridge-01", report.read_bytes()),
            ("iotingestion/ridge-01/recording", clip.read_bytes()),
        ]
        shown = await asyncio.to_thread(
            cli, "publish", "--lines", many, "--topic", "iotingestion/x/y", **broker.settings
        )
        assert (shown.returncode, shown.stderr) == (0, "1,000 acknowledged\n")
        assert await published(session, 1_000) == [
            ("iotingestion/x/y", b'{"n":%d}' % n) for n in range(1_000)
        ]


async def test_what_a_lost_connection_left_unanswered_is_published_again(
    data_dir: Path, broker: Broker, tmp_path: Path
) -> None:
    many = tmp_path / "many.jsonl"
    many.write_text("".join(f'{{"n":{n}}}\n' for n in range(100)))
    async with listening(broker) as session:
        publishing = await asyncio.create_subprocess_exec(
            *COMMAND, "publish", "--lines", many, "--topic", "iotingestion/x", "--rate", "100",
            env=environment(data_dir, **broker.settings),
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await published(session, 10)
        broker.kill()
        assert publishing.stderr is not None
        assert b"disconnected" in await publishing.stderr.readline()
        broker.start()
        assert await publishing.stderr.read() == b"100 acknowledged\n"
        assert await publishing.wait() == 0


def test_a_broker_that_says_no_is_quoted_with_a_remedy(
    cli: Cli, broker: Broker, tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    file.write_text("{}")
    wrong = cli("publish", file, **{**broker.settings, "IOT_PASSWORD": "wrong"})
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "check IOT_USER and IOT_PASSWORD" in wrong.stderr
    elsewhere = cli("publish", file, "--topic", "secret/place", **broker.settings)
    assert elsewhere.returncode == 1
    assert "secret/place: not authorized" in elsewhere.stderr
    broker.kill()
    gone = cli("publish", file, **broker.settings)
    assert gone.returncode == 1
    assert "cannot be reached" in gone.stderr
    assert len(wrong.stderr.splitlines()) == len(gone.stderr.splitlines()) == 1


def test_audio_needs_a_node(cli: Cli, tmp_path: Path) -> None:
    clip = tmp_path / "call.wav"
    clip.write_bytes(wav())
    shown = cli("publish", clip, IOT_ENDPOINT="127.0.0.1:1")
    assert shown.returncode == 2
    assert "--node" in shown.stderr


# ---------------------------------------------------------------------- with receipts


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data")
    yield harness
    harness.close()


def detections(path: Path, count: int) -> Path:
    """Write a file of `count` lines, each a valid message of its own."""
    fields = json.loads(DETECTION.payload)
    path.write_text(
        "".join(json.dumps(fields | {"timestamp": 1_789_380_000 + n}) + "\n" for n in range(count))
    )
    return path


def test_wait_ends_with_what_became_of_each_message(harness: Harness, tmp_path: Path) -> None:
    file = detections(tmp_path / "many.jsonl", 300)
    harness.up()
    publish = ("publish", "--wait", "--lines", str(file), "--node", "ridge-01")
    shown = harness.cli(*publish)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "", "300 stored\n")
    assert harness.cli(*publish).stderr == "300 duplicates\n"
    with file.open("a") as lines:
        lines.write('{"n": 1}\n\n' + json.dumps({"id": "one", "status": "online"}))
    shown = harness.cli(*publish)
    assert shown.returncode == 1
    rejected, summary = shown.stderr.splitlines()
    assert rejected.startswith(f"echo-ingest: {file} line 301: rejected: ")
    assert summary == "1 stored, 300 duplicates, 1 rejected"
    assert harness.ledger()["stored"] == 301


def test_wait_goes_through_sigkill_of_the_service(harness: Harness, tmp_path: Path) -> None:
    program = harness.up()
    file = detections(tmp_path / "many.jsonl", 3_000)
    publishing = subprocess.Popen(
        [*COMMAND, "publish", "--wait", "--lines", file, "--node", "n1", "--rate", "1000"],
        env=harness.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: harness.ledger_now()["stored"] > 300)
    harness.kill(program)
    harness.up()
    _, output = publishing.communicate(timeout=60)
    assert publishing.returncode == 0, output
    counts = dict(part.split()[::-1] for part in output.splitlines()[-1].split(", "))
    assert sum(int(count.replace(",", "")) for count in counts.values()) == 3_000
    assert counts.keys() <= {"stored", "duplicate", "duplicates"}
    assert harness.ledger()["stored"] == 3_000


async def test_a_receipt_that_was_lost_is_asked_for_again(cli: Cli, broker: Broker) -> None:
    report = broker.folder / "report.json"
    report.write_bytes(HEARTBEAT.payload)
    async with listening(broker) as session:
        publishing = asyncio.create_task(
            asyncio.to_thread(cli, "publish", "--wait", report, "--node", "x", **broker.settings)
        )
        asked: list[Message] = []
        while len(asked) < 2:  # the first time, we say nothing
            batch = await session.receive(1, 0.01)
            session.ack(batch)
            asked += batch.messages
        first, again = asked
        assert first.response_topic is not None
        assert first.response_topic.startswith("iotreceipts/x/")
        assert (again.payload, again.response_topic) == (first.payload, first.response_topic)
        assert (again.correlation_data, len(again.correlation_data or b"")) == (
            first.correlation_data,
            8,
        )
        for answer in (b"rubbish", b'{"outcome": "duplicate"}'):
            await session.publish(
                first.response_topic, answer, correlation_data=first.correlation_data
            )
        shown = await publishing
    assert (shown.returncode, shown.stderr) == (0, "1 stored\n")


async def test_without_any_receipt_it_gives_up_and_says_what_to_check(broker: Broker) -> None:
    options = SessionOptions(
        endpoint=Endpoint("mqtt", "127.0.0.1", broker.port),
        client_id="patient",
        login=lambda: ("field", "right"),
    )
    acknowledged = []
    receipts = ReceiptSession(options, "x", patience_seconds=0.2)
    async with receipts.connected(), asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(NoReceipt, match="echo-ingest check"):
            await receipts.publish("iotingestion/x", b"{}", lambda: acknowledged.append(1))
    assert acknowledged == [1]


def test_wait_needs_a_node(cli: Cli, tmp_path: Path) -> None:
    file = detections(tmp_path / "one.jsonl", 1)
    for where in ((), ("--topic", "iotingestion"), ("--topic", "elsewhere/n1")):
        shown = cli("publish", "--wait", file, *where, IOT_ENDPOINT="127.0.0.1:1")
        assert (shown.returncode, shown.stdout) == (2, "")
        assert "--wait needs a node" in shown.stderr


# ---------------------------------------------------------------------- check


def free_ports() -> dict[str, str]:
    with contextlib.ExitStack() as held:
        ports = []
        for _ in range(3):
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(str(probe.getsockname()[1]))
    return dict(zip(("IOT_MQTT_PORT", "IOT_WS_PORT", "IOT_HTTP_PORT"), ports, strict=True))


def test_check_finds_nothing_wrong_where_nothing_runs_yet(
    cli: Cli, broker: Broker, data_dir: Path
) -> None:
    shown = cli("check", **free_ports())
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "✗" not in shown.stdout
    assert "– broker      not running" in shown.stdout
    assert "– service     not running" in shown.stdout
    assert shown.stdout.count("is free") == 3
    assert list(data_dir.iterdir()) == []


def test_check_reaches_every_part_and_names_the_remedy(
    cli: Cli, broker: Broker, journal: Journal
) -> None:
    settings = free_ports() | broker.settings
    well = cli("check", **settings)
    assert well.returncode == 0, well.stdout
    assert "✓ journal     4 records; the ledger adds up" in well.stdout
    assert f"✓ broker      mqtt://127.0.0.1:{broker.port}: field can log in" in well.stdout
    journal.path.parent.chmod(0o755)
    with apsw.Connection(str(journal.path)) as tampering:
        tampering.execute("DELETE FROM record WHERE offset = 2")
    with socket.create_server(("127.0.0.1", int(settings["IOT_HTTP_PORT"]))):
        wrong = cli("check", **settings | {"IOT_PASSWORD": "wrong"})
    assert wrong.returncode == 1
    assert "✗ data folder" in wrong.stdout
    assert "chmod 700" in wrong.stdout
    assert "✗ journal     the ledger does not add up" in wrong.stdout
    assert "check IOT_USER and IOT_PASSWORD" in wrong.stdout
    assert "✗ service" in wrong.stdout


def test_check_says_that_ingestion_apart_from_its_broker_needs_the_nodes_file(
    cli: Cli, data_dir: Path
) -> None:
    apart = {"IOT_ENDPOINT": "mqtt://127.0.0.1:1", "IOT_USER": "echo-ingest", "IOT_PASSWORD": "x"}
    assert "set IOT_NODES_FILE to a copy" in cli("check", **apart).stdout
    nodes = data_dir / "nodes.jsonl"
    nodes.write_bytes(b"")
    assert "IOT_NODES_FILE" not in cli("check", **apart).stdout
    nodes.unlink()
    assert "IOT_NODES_FILE" not in cli("check", **apart | {"IOT_USER": "reader"}).stdout


def test_check_names_a_port_that_another_program_has(cli: Cli, broker: Broker) -> None:
    settings = free_ports()
    with socket.create_server(("127.0.0.1", int(settings["IOT_WS_PORT"]))):
        shown = cli("check", **settings)
    assert shown.returncode == 1
    port = f"{settings['IOT_WS_PORT']} at 127.0.0.1"
    assert f"another program uses {port}; stop that program, or set IOT_WS_PORT" in shown.stdout


# ---------------------------------------------------------------------- documentation


def test_every_command_and_option_is_documented() -> None:
    page = (Path(__file__).parents[1] / "docs" / "cli.md").read_text()
    sections = dict(re.findall(r"^##+ (.+)\n((?:(?!^##).*\n?)*)", page, re.MULTILINE))

    def check(command: Any, name: str) -> None:
        if name:
            text = sections[name]
            for parameter in command.params:
                for option in parameter.opts if parameter.param_type_name == "option" else ():
                    assert option in {"--help", "-h"} or option in text, f"{name} {option}"
        for each, inner in getattr(command, "commands", {}).items():
            check(inner, f"{name} {each}".strip())

    check(typer.main.get_command(app), "")


def test_what_the_page_for_devices_shows_is_valid(data_dir: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "devices.md").read_text()
    shown = re.findall(r"-t (\S+) \\\n  -m '(\{.*?\})'", page, re.DOTALL)
    assert shown
    for topic, payload in shown:
        record = only(Decoder(PAYLOAD_BYTES_MAX).decode(Message(topic, payload.encode(), NOON_MS)))
        assert not isinstance(record, Rejected), record
        assert (record.message_id, record.time_source) == ("ridge-01-41", "device")
