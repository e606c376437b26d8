"""Both halves of the line on a full disk: a small one, mounted for the test.

The broker has its data elsewhere, so that it is the journal alone that has no room.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal
from echo_ingest.record import Message
from tests.api import Api
from tests.conftest import DISK_BYTES
from tests.harness import Device, Harness, eventually, is_gone
from tests.test_delivery import detection

pytestmark = pytest.mark.slow

RSS_GROWTH_BYTES_MAX = 48 * 1024 * 1024
"""The session keeps 20,000 messages or 16 MiB that wait for their acknowledgement."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "elsewhere")
    harness.start("broker")
    eventually(lambda: (harness.data_dir / "broker" / "service.json").exists())
    yield harness
    harness.close()


@pytest.fixture
def harness(disk: Path, broker: Harness) -> Iterator[Harness]:
    account = json.loads((broker.data_dir / "broker" / "service.json").read_text())
    harness = Harness(
        disk / "data",
        IOT_ENDPOINT=f"127.0.0.1:{broker.mqtt_port}",
        IOT_USER=account["user"],
        IOT_PASSWORD=account["password"],
        IOT_DISK_FREE_BYTES_MIN="0",
    )
    yield harness
    harness.close()


def heartbeat(number: int) -> tuple[str, bytes]:
    fields = {"nodeId": f"n{number}", "status": "online " + "x" * 200, "timestamp": 1_795_000_000}
    return "iotingestion/n", json.dumps(fields).encode()


def fill(disk: Path, leave_bytes: int = 0) -> Path:
    """Take all room but `leave_bytes`."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        status = os.statvfs(disk)
        rest = status.f_bavail * status.f_frsize - leave_bytes
        while rest > 0:
            try:
                rest -= file.write(bytes(min(rest, 65_536)))
            except OSError:
                break
    return filler


def rss_bytes(program: subprocess.Popen[str]) -> int:
    for line in Path(f"/proc/{program.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def problems(harness: Harness, path: str) -> dict[str, Any]:
    status, body = harness.http(path)
    assert (status == 200) == (body.get("problems", {}) == {})
    problems: dict[str, Any] = body.get("problems", {})
    return problems


@pytest.mark.parametrize(
    ("free_bytes_min", "words"), [(4_194_304, "IOT_DISK_FREE_BYTES_MIN"), (0, "is full: make room")]
)
def test_on_a_full_disk_acknowledgements_stop_memory_stays_flat_and_it_goes_on_by_itself(
    harness: Harness, broker: Harness, disk: Path, free_bytes_min: int, words: str
) -> None:
    harness.settings["IOT_DISK_FREE_BYTES_MIN"] = str(free_bytes_min)
    program = harness.start("run")
    harness.wait_healthy(program)
    device = Device(broker.mqtt_port)
    device.publish([heartbeat(n) for n in range(1_000)])
    eventually(lambda: harness.ledger_now()["stored"] == 1_000)

    warm_bytes = rss_bytes(program)
    filler = fill(disk, free_bytes_min // 2)
    device.publish([heartbeat(n) for n in range(1_000, 25_000)])
    for path in ("/readyz", "/healthz"):
        eventually(lambda path=path: words in problems(harness, path).get("journal", ""))  # type: ignore[misc]
    stored = harness.ledger()["stored"]
    device.publish([heartbeat(n) for n in range(25_000, 75_000)])  # the broker has room
    assert harness.ledger()["stored"] == stored < 25_000
    os.kill(harness.web_pid(program), signal.SIGKILL)  # nor does HTTP need room to come back
    eventually(lambda: harness.http("/livez")[0] == 200)
    assert program.poll() is None
    grown_bytes = rss_bytes(program) - warm_bytes
    assert grown_bytes < RSS_GROWTH_BYTES_MAX
    print(f"warm={warm_bytes} grown={grown_bytes}")

    subprocess.run(["mount", "-o", f"remount,size={4 * DISK_BYTES}", str(disk)], check=True)
    filler.unlink()
    eventually(lambda: harness.ledger_now()["stored"] == 75_000, seconds=60)
    eventually(lambda: problems(harness, "/healthz") == {})
    assert harness.ledger()["received"] == 75_000  # none came twice: it was never disconnected
    log = harness.log("run")
    assert log.count("acknowledgements stopped") == log.count("acknowledgements continue") == 1


def test_what_a_sink_took_while_the_disk_was_full_is_settled_later_and_not_sent_twice(
    harness: Harness, broker: Harness, disk: Path
) -> None:
    api = Api()
    harness.settings["IOT_API_URL"] = api.url
    try:
        program = harness.start("run")
        harness.wait_healthy(program)
        total = 400
        Device(broker.mqtt_port).publish([detection(n) for n in range(total)])
        eventually(lambda: harness.ledger_now()["sinks"]["echo_api"]["backlog"] == total)
        filler = fill(disk)
        api.start(requests_per_minute=None)
        # it may have waited half a minute before it tries again
        eventually(lambda: "settling stopped" in harness.log("run"), seconds=60)
        taken = api.numbers()
        assert 0 < len(taken) < total
        assert harness.ledger()["sinks"]["echo_api"]["backlog"] > 0
        assert harness.http("/livez")[0] == 200
        assert api.numbers() == taken, "it waits, and sends nothing on"
        assert program.poll() is None
        filler.unlink()
        eventually(lambda: harness.ledger_now()["sinks"]["echo_api"]["backlog"] == 0, seconds=60)
        numbers = api.numbers()
        assert len(numbers) == total
        assert set(numbers.values()) == {1}, "each once"
    finally:
        api.stop()


def test_at_the_journals_cap_it_goes_on_by_itself_once_a_sink_lets_retention_make_room(
    tmp_path: Path,
) -> None:
    api = Api()
    harness = Harness(
        tmp_path / "data",
        IOT_API_URL=api.url,
        IOT_RETENTION_DAYS="1",
        IOT_BATCH_RECORDS_MAX="50",  # room is looked for before each batch
    )
    harness.data_dir.mkdir(mode=0o700)
    before = 1_000
    two_days_ago_ms = (time.time_ns() - 2 * 86_400 * 10**9) // 1_000_000
    messages = [Message(*detection(n), two_days_ago_ms, "ridge-01") for n in range(before)]
    old = Journal(harness.data_dir / "journal.db")
    old.append([(message, Decoder(1_000_000).identify(message)) for message in messages])
    old.note_day(two_days_ago_ms + 86_400_000)
    harness.settings["IOT_JOURNAL_BYTES_MAX"] = str(old.used_bytes() + 100_000)
    old.close()
    try:
        program = harness.up()
        Device(harness.mqtt_port).publish([detection(n) for n in range(before, 2 * before)])
        eventually(lambda: "IOT_JOURNAL" in problems(harness, "/readyz").get("journal", ""))
        assert before <= harness.ledger()["stored"] < 2 * before
        api.start()
        eventually(lambda: harness.ledger_now()["stored"] == 2 * before, seconds=60)
        eventually(lambda: harness.ledger_now()["sinks"]["echo_api"]["backlog"] == 0, seconds=60)
        eventually(lambda: problems(harness, "/healthz") == {})
        assert set(api.numbers().values()) == {1}
        assert program.poll() is None
    finally:
        harness.close()
        api.stop()


def test_a_damaged_journal_is_not_touched_before_there_is_room_to_save_it(
    harness: Harness, broker: Harness, disk: Path
) -> None:
    program = harness.start("run")
    harness.wait_healthy(program)
    Device(broker.mqtt_port).publish([heartbeat(n) for n in range(20_000)])
    eventually(lambda: harness.ledger_now()["stored"] == 20_000)
    assert harness.stop(program) == 0
    journal = harness.data_dir / "journal.db"
    with journal.open("r+b") as file:
        file.write(bytes(100))
    before = journal.read_bytes()
    filler = fill(disk, 1_000_000)
    done = harness.cli("run")
    assert done.returncode == 1
    assert "make room" in done.stderr and "Traceback" not in done.stderr
    assert journal.read_bytes() == before
    assert [path.name for path in harness.data_dir.glob("journal.db*")] == ["journal.db"]
    filler.unlink()
    harness.wait_healthy(harness.start("run"))
    assert harness.ledger()["stored"] == 20_000
    assert harness.ledger()["lost"] == 0


def test_a_log_that_cannot_be_written_does_not_end_the_service(
    harness: Harness, broker: Harness
) -> None:
    program = harness.start("run", Path("/dev/full"))  # each write: no space left on device
    eventually(lambda: harness.http("/healthz")[0] == 200, seconds=30)
    Device(broker.mqtt_port).publish([heartbeat(n) for n in range(100)])
    eventually(lambda: harness.ledger_now()["stored"] == 100)
    assert program.poll() is None


def test_a_start_on_a_full_disk_ends_in_words_and_the_next_one_works(
    harness: Harness, broker: Harness, disk: Path
) -> None:
    program = harness.start("run")
    harness.wait_healthy(program)
    Device(broker.mqtt_port).publish([heartbeat(n) for n in range(100)])
    eventually(lambda: harness.ledger_now()["stored"] == 100)
    web = harness.web_pid(program)
    harness.kill(program)
    eventually(lambda: is_gone(web))  # what it has open would take room until it ends
    for name in ("journal.db-shm", "lock"):
        (harness.data_dir / name).unlink(missing_ok=True)
    filler = fill(disk)
    done = harness.cli("run")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "room" in done.stderr or "No space left" in done.stderr
    filler.unlink()
    harness.wait_healthy(harness.start("run"))
    assert harness.ledger()["stored"] == 100
