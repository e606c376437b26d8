"""Journal, data folder, secrets and almanac that go away under the running service.

Nothing is acknowledged for a journal that nobody finds any more: the service is not ready, says
why, saves what it can, and ends. A start without the journal of before begins a new one and says
so. And folders, locks and disks that are not as they should be.
"""

import contextlib
import fcntl
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from echo_ingest.almanac import note_sample
from echo_ingest.broker.node_accounts import NodesUnusable, change_nodes
from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal, JournalFull, JournalGone
from echo_ingest.journal.reader import JournalReader
from echo_ingest.journal.recovery.detect import noted
from echo_ingest.process.files import why_unwritable
from echo_ingest.process.orphans import lock_file
from echo_ingest.record import Message
from echo_ingest.service.storage_watch import PERIOD_SECONDS
from tests.harness import Device, Harness, eventually
from tests.test_delivery import detection
from tests.test_full_disk import fill, problems

GONE_SECONDS_MAX = 40.0


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data")
    yield harness
    harness.close()


def mount(path: Path, *options: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    done = subprocess.run(["mount", *options, str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")


def message(number: int) -> Message:
    topic, payload = detection(number)
    return Message(topic, payload, 1_795_000_000_000 + number, "ridge-01")


def append(journal: Journal, *numbers: int) -> None:
    decoder = Decoder(1_000_000)
    journal.append([(message(number), decoder.identify(message(number))) for number in numbers])


# ---------------------------------------------------------------------- the journal by itself


def removed(folder: Path) -> Path:
    (folder / "journal.db").unlink()
    return Path()


def replaced(folder: Path) -> Path:
    shutil.copy(folder / "journal.db", folder / "copy")
    (folder / "copy").rename(folder / "journal.db")
    return folder / "journal.db"


def moved(folder: Path) -> Path:
    return (folder / "journal.db").rename(folder / "elsewhere.db")


def wal_removed(folder: Path) -> Path:
    (folder / "journal.db-wal").unlink()
    return folder / "journal.db"


def shm_removed(folder: Path) -> Path:
    (folder / "journal.db-shm").unlink()
    return folder / "journal.db"


def folder_moved(folder: Path) -> Path:
    return folder.rename(folder.with_name("elsewhere")) / "journal.db"


def folder_replaced(folder: Path) -> Path:
    path = folder_moved(folder)
    folder.mkdir(mode=0o700)
    return path


Loss = Callable[[Path], Path]
LOSSES: dict[Loss, str] = {
    removed: "was removed or replaced",
    replaced: "was removed or replaced",
    moved: "was moved to",
    wal_removed: "journal.db-wal was removed or replaced",
    shm_removed: "journal.db-shm was removed or replaced",
    folder_moved: "is not the folder any more",
    folder_replaced: "is not the folder any more",
}


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_more_is_stored_in_a_journal_that_is_gone(tmp_path: Path, loss: Loss) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with contextlib.closing(Journal(folder / "journal.db")) as journal:
        append(journal, *range(50))
        now_at = loss(folder)
        with pytest.raises(JournalGone, match=LOSSES[loss]):
            append(journal, 50)
        if loss is moved:
            now_at.rename(folder / "journal.db")
        with pytest.raises(JournalGone):  # it stays so: some of it may have gone elsewhere
            append(journal, 51)
        if loss is moved:
            (folder / "journal.db").rename(now_at)
    if loss is moved:  # alone, without its WAL
        assert not Path(f"{now_at}-wal").exists()
    if loss not in (removed, replaced):
        with contextlib.closing(JournalReader(now_at)) as reader:
            assert reader.audit() == []
            assert reader.ledger().stored >= 50


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_whose_journal_goes_while_it_is_written_does_not_count(
    tmp_path: Path, loss: Loss
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with contextlib.closing(Journal(folder / "journal.db")) as journal:

        def trace(_cursor: object, sql: str, _bindings: object) -> bool:
            if "UPDATE ledger" in sql:
                loss(folder)
            return True

        journal._db.exec_trace = trace
        with pytest.raises(JournalGone, match=LOSSES[loss]):
            append(journal, 1)
        journal._db.exec_trace = None


@pytest.mark.parametrize("loss", [removed, replaced])
def test_a_journal_that_was_removed_is_rescued_with_all_that_it_held(
    tmp_path: Path, loss: Loss
) -> None:
    copy = tmp_path / "rescued"
    with contextlib.closing(Journal(tmp_path / "journal.db")) as journal:
        append(journal, *range(8_000))
        loss(tmp_path)
        with pytest.raises(JournalGone):
            journal.files.require()
        assert journal.files.may_be_rescued
        steps = journal.files.rescue(copy)
        next(steps)
        steps.close()
        assert sorted(path.name for path in tmp_path.glob("rescued*")) == []
        assert len(list(journal.files.rescue(copy))) > 1
    assert copy.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(JournalReader(copy)) as reader:
        assert reader.audit() == []
        assert reader.ledger().stored == 8_000


def test_a_copy_of_the_journal_for_which_there_is_no_room_leaves_nothing_behind(
    disk: Path,
) -> None:
    with contextlib.closing(Journal(disk / "journal.db")) as journal:
        append(journal, *range(10_000))
        fill(disk, leave_bytes=journal.used_bytes() // 2)
        (disk / "journal.db").unlink()
        with pytest.raises(JournalFull):
            list(journal.files.rescue(disk / "rescued"))
        assert not [*disk.glob("rescued*")]


def test_a_journal_that_another_program_cuts_or_overwrites_is_damaged_and_vacuum_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.db"
    with contextlib.closing(Journal(path)) as journal:
        append(journal, *range(500))
        with contextlib.closing(apsw.Connection(str(path))) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            backup = path.read_bytes()
        append(journal, *range(500, 2_000))
        with contextlib.closing(apsw.Connection(str(path))) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            journal.files.require_content()
            db.execute("CREATE TABLE room AS SELECT zeroblob(1000000)")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            journal.files.require_content()
            db.execute("DROP TABLE room")
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        journal.files.require()
        journal.files.require_content()
        path.write_bytes(backup)
        journal.files.require()
        with pytest.raises(apsw.CorruptError, match="another program has overwritten it"):
            journal.files.require_content()


# ---------------------------------------------------------------------- the running service


def problem_until_end(harness: Harness, program: subprocess.Popen[str]) -> str:
    """Return what /readyz said of the journal before the service ended."""
    said: list[str] = []

    def has_ended() -> bool:
        with contextlib.suppress(OSError, ValueError):
            status, body = harness.http("/readyz")
            if status == 503 and "journal" in body.get("problems", {}):
                said.append(body["problems"]["journal"])
        return program.poll() is not None

    eventually(has_ended, seconds=GONE_SECONDS_MAX)
    assert program.returncode == 1
    assert "Traceback" not in harness.log("up")
    return said[-1] if said else ""


def stored(harness: Harness, count: int) -> None:
    Device(harness.mqtt_port).publish([detection(number) for number in range(count)])
    eventually(lambda: harness.ledger_now()["stored"] == count)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [removed, moved, wal_removed, folder_replaced])
def test_the_service_is_not_ready_and_ends_in_words_when_its_journal_is_gone(
    harness: Harness, loss: Loss
) -> None:
    program = harness.up()
    stored(harness, 300)
    loss(harness.data_dir)
    if loss is wal_removed:
        status, body = harness.http("/api/records?limit=5")
        assert status == 200 or "cannot be opened" in body["error"]
        noted(harness.data_dir / "journal.db", "a reader that missed the file says so")
    words = LOSSES[loss]
    assert words in problem_until_end(harness, program)
    last = harness.log("up").strip().splitlines()[-1]
    assert words in last and "start again" in last
    rescued = [*harness.data_dir.glob("journal.db.rescued-*Z")]
    assert [path.name in last for path in rescued] == [True] * (loss is removed)
    if loss is folder_replaced:
        shutil.rmtree(harness.data_dir, ignore_errors=True)
        harness.data_dir.with_name("elsewhere").rename(harness.data_dir)
    for path in (*rescued, *harness.data_dir.glob("elsewhere.db")):
        path.rename(harness.data_dir / "journal.db")
    assert not [*harness.data_dir.glob("journal.db.damage*")]
    harness.up()
    assert harness.ledger()["stored"] == 300
    assert "new journal in a used folder" not in harness.log("up")


@pytest.mark.slow
def test_no_receipt_goes_out_for_what_went_to_a_journal_that_is_gone(harness: Harness) -> None:
    program = harness.up()
    topic = "iotreceipts/ridge-01/me"
    listener = Device(harness.mqtt_port)
    listener.subscribe(topic)
    asking = Device(harness.mqtt_port)
    asking.publish([detection(1)], response_topic=topic)
    assert listener.receipts(1)[0]["outcome"] == "stored"
    (harness.data_dir / "journal.db").unlink()
    asking.publish([detection(2)], response_topic=topic)  # to the broker, which keeps it for us
    assert listener.received_topics(2.0) == []
    problem_until_end(harness, program)
    assert harness.log("up").count("acknowledgements stopped") == 1
    (rescued,) = harness.data_dir.glob("journal.db.rescued-*Z")
    rescued.rename(harness.data_dir / "journal.db")
    harness.up()
    eventually(lambda: harness.ledger_now()["stored"] == 2)


@pytest.mark.slow
def test_the_service_ends_when_an_empty_folder_is_where_its_volume_was(
    harness: Harness, tmp_path: Path
) -> None:
    harness.data_dir.mkdir(mode=0o700)
    mount(harness.data_dir, "-t", "tmpfs", "-o", "mode=0700", "none")
    mounted = [harness.data_dir]
    try:
        program = harness.up()
        stored(harness, 20)
        # What is being made at that very moment goes into the folder that was below.
        eventually((harness.data_dir / "almanac.db-wal").exists)
        subprocess.run(["umount", "--lazy", str(harness.data_dir)], check=True)
        mounted.clear()
        assert "its volume was unmounted" in problem_until_end(harness, program)
        assert [*harness.data_dir.iterdir()] == []
    finally:
        for path in mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_no_almanac_begins_where_there_is_no_journal(tmp_path: Path) -> None:
    # A volume was unmounted, and its folder is there without it.
    path = tmp_path / "almanac.db"
    with pytest.raises(OSError, match=r"journal\.db"):
        note_sample(path, 0, None, None)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
def test_the_service_ends_in_words_when_its_secrets_are_gone_and_the_next_start_says_so(
    harness: Harness,
) -> None:
    program = harness.up()
    secrets = harness.data_dir / "secrets"
    secrets.rename(harness.data_dir / "elsewhere")
    words = "secrets was removed or replaced"
    assert words in problem_until_end(harness, program)
    assert words in harness.log("up").strip().splitlines()[-1]
    harness.up()
    assert "new secrets in a used folder" in harness.log("up")


@pytest.mark.slow
def test_a_journal_that_is_overwritten_in_its_place_is_salvaged_at_the_next_start(
    harness: Harness,
) -> None:
    path = harness.data_dir / "journal.db"
    program = harness.up()
    stored(harness, 300)
    assert harness.stop(program) == 0
    backup = path.read_bytes()
    program = harness.up()
    Device(harness.mqtt_port).publish([detection(number) for number in range(300, 4_000)])
    eventually(lambda: harness.ledger_now()["stored"] == 4_000)
    with contextlib.closing(apsw.Connection(str(path))) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert path.stat().st_size > len(backup)
    threading.Event().wait(2 * PERIOD_SECONDS)  # it knows how long the journal is
    path.write_bytes(backup)
    problem_until_end(harness, program)
    assert "is damaged" in harness.log("up").strip().splitlines()[-1]
    harness.up()
    assert "journal salvaged" in harness.log("up")


@pytest.mark.slow
@pytest.mark.parametrize("suffixes", [("", "-wal", "-shm"), ("",), ("-wal",), ("-shm",)])
def test_the_almanac_is_made_again_while_the_service_runs(
    harness: Harness, suffixes: tuple[str, ...]
) -> None:
    program = harness.up()
    stored(harness, 50)
    path = harness.data_dir / "almanac.db"

    def calls() -> int:
        with (
            contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db,
            contextlib.suppress(apsw.Error),
        ):
            return int(db.execute("SELECT count(*) FROM call").get)
        return 0

    eventually(lambda: calls() == 50)
    for suffix in suffixes:
        Path(f"{path}{suffix}").unlink()
    Device(harness.mqtt_port).publish([detection(number) for number in range(50, 60)])
    eventually(lambda: path.exists() and calls() == 60)
    assert harness.http("/readyz")[0] == 200
    assert harness.stop(program) == 0


# ---------------------------------------------------------------------- a start without the journal


@pytest.mark.slow
def test_a_new_journal_in_a_used_folder_is_an_error_line_and_check_says_so(
    harness: Harness,
) -> None:
    program = harness.up()
    stored(harness, 10)
    assert harness.stop(program) == 0
    assert "used folder" not in harness.log("up"), "the first start is none"
    for path in harness.data_dir.glob("journal.db*"):
        path.unlink()
    harness.up()
    (line,) = [each for each in harness.log("up").splitlines() if "in a used folder" in each]
    assert '"level":"error"' in line.replace(" ", "") or "[error" in line
    note = harness.data_dir / "journal.db.missed.txt"
    assert "web.pid" in note.read_text()
    checked = harness.cli("check")
    assert checked.returncode == 1
    assert f"read {note}" in checked.stdout
    note.unlink()
    assert "used folder" not in harness.cli("check").stdout


@pytest.mark.slow
def test_a_first_start_after_nodes_were_added_or_a_start_failed_is_no_loss(
    harness: Harness,
) -> None:
    assert harness.cli("nodes", "add", "ridge-07").returncode == 0
    harness.settings["IOT_MOSQUITTO"] = "/bin/false"
    assert harness.cli("up").returncode == 1
    del harness.settings["IOT_MOSQUITTO"]
    harness.up()
    assert "used folder" not in harness.log("up")
    assert not (harness.data_dir / "journal.db.missed.txt").exists()


# ---------------------------------------------------------------------- disks


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Mount a small ext4; return it, and the file that tells the kernel of an error on it."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("an ext4 in a file takes root and mkfs.ext4")
    image, path = tmp_path / "image", tmp_path / "disk"
    image.touch()
    os.truncate(image, 64 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    path.mkdir()
    mount(path, "-o", "loop,errors=remount-ro", str(image))
    try:
        device = next(
            Path(line.split()[0]).name
            for line in Path("/proc/mounts").read_text().splitlines()
            if line.split()[1] == str(path)
        )
        yield path, Path(f"/sys/fs/ext4/{device}/trigger_fs_error")
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.slow
def test_a_disk_that_turns_read_only_is_said_in_words_and_nothing_is_acknowledged(
    failing_disk: tuple[Path, Path], tmp_path: Path
) -> None:
    disk, trigger = failing_disk
    if not trigger.exists():
        pytest.skip("this kernel cannot pretend an error on ext4")
    broker = Harness(tmp_path / "elsewhere")
    harness = Harness(
        disk / "data",
        IOT_ENDPOINT=f"127.0.0.1:{broker.mqtt_port}",
        IOT_DISK_FREE_BYTES_MIN="0",
    )
    try:
        broker.start("broker")
        account_file = broker.data_dir / "broker" / "service.json"
        account = json.loads(eventually(lambda: account_file.read_bytes()))
        harness.settings |= {"IOT_USER": account["user"], "IOT_PASSWORD": account["password"]}
        log = tmp_path / "run.log"
        program = harness.start("run", log)
        eventually(lambda: harness.http("/readyz")[0] == 200, seconds=30)
        device = Device(broker.mqtt_port)
        device.publish([detection(number) for number in range(10)])
        eventually(lambda: harness.ledger_now()["stored"] == 10)
        trigger.write_text("a test")
        device.publish([detection(number) for number in range(10, 20)])
        eventually(lambda: "is read-only" in problems(harness, "/readyz").get("journal", ""))
        assert "fsck" in harness.http("/readyz")[1]["problems"]["journal"]
        assert program.poll() is None
        assert "Traceback" not in log.read_text()
        assert log.read_text().count("acknowledgements stopped") == 1
        assert harness.ledger_now()["stored"] == 10
        checked = harness.cli("check")
        assert "is read-only" in checked.stdout and checked.returncode == 1
        harness.stop(program)
        again = harness.cli("run")
        assert again.returncode == 1
        assert "is read-only" in again.stderr and "Traceback" not in again.stderr
    finally:
        harness.close()
        broker.close()


def test_without_an_inode_the_words_are_true(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount(disk, "-t", "tmpfs", "-o", "size=64m,nr_inodes=40", "none")
    try:
        harness = Harness(disk / "data")
        for number in range(100):
            with contextlib.suppress(OSError):
                (disk / f"{number}").touch()
        done = harness.cli("up")
        assert done.returncode == 1
        assert "no inode left" in done.stderr and "Traceback" not in done.stderr
        (disk / "0").unlink()
        (disk / "data").mkdir(mode=0o700)
        for command in ("up", "check"):
            done = harness.cli(command)
            assert done.returncode == 1
            assert "no inode left" in done.stdout + done.stderr
            assert "is full" not in done.stdout + done.stderr
        with pytest.raises(OSError, match="No space left") as raised:
            (disk / "more").touch()
        (disk / "filler").unlink(missing_ok=True)
        assert "although bytes are free" in (why_unwritable(disk, raised.value.errno) or "")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


# ---------------------------------------------------------------------- folders and locks


@pytest.mark.slow
def test_a_data_folder_that_others_can_enter_is_closed_with_its_locks(harness: Harness) -> None:
    harness.data_dir.mkdir(mode=0o755)
    (harness.data_dir / "broker").mkdir(mode=0o755)
    for name in ("lock", "web.pid", "broker/lock", "broker/mosquitto.pid"):
        (harness.data_dir / name).touch(mode=0o644)
    program = harness.up()
    assert harness.data_dir.stat().st_mode & 0o777 == 0o700
    assert "data folder closed to other users" in harness.log("up")
    for name in ("lock", "web.pid", "broker/lock", "broker/mosquitto.pid"):
        assert (harness.data_dir / name).stat().st_mode & 0o777 == 0o600, name
    assert harness.stop(program) == 0


AS_SOMEBODY_ELSE = """
import os, sys, typer
from echo_ingest.cli.serve import serve
from echo_ingest.settings import load
settings = load(os.environ, None)
os.setuid(int(sys.argv[1]))
try:
    serve(sys.argv[2], settings)
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


@pytest.mark.parametrize("command", ["up", "run", "broker"])
def test_a_data_folder_of_somebody_else_that_others_can_enter_is_refused(command: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("another owner takes root")
    with tempfile.TemporaryDirectory() as folder:  # the folders of pytest are closed to others
        Path(folder).chmod(0o755)
        harness = Harness(Path(folder) / "data")
        harness.data_dir.mkdir()
        harness.data_dir.chmod(0o777)
        done = subprocess.run(
            [sys.executable, "-c", AS_SOMEBODY_ELSE, str(pwd.getpwnam("nobody").pw_uid), command],
            env=harness.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "other users can enter" in done.stderr and "Traceback" not in done.stderr
        assert [*harness.data_dir.iterdir()] == []


def test_a_lock_file_is_no_link_to_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), lock_file(tmp_path / "lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_that_another_program_holds_on_the_folder_of_nodes_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echo_ingest.process.folder_lock.LOCK_SECONDS_MAX", 0.2)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(NodesUnusable, match="another program has held the lock"):
            change_nodes(tmp_path / "nodes.jsonl", lambda nodes: None)
    finally:
        os.close(descriptor)
    change_nodes(tmp_path / "nodes.jsonl", lambda nodes: None)
