"""A journal that the disk has damaged: what can be read is saved, what is lost is reported.

Seeded damage of many kinds to real files, left by an orderly stop and by a kill. After each the
service's own start (`mend`) must give a journal that works, whatever it took; `DAMAGES=2000` is
the long proof, and `SEED=7` begins with that seed.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import NamedTuple

import apsw
import pytest

from echo_ingest.decode import Decoder
from echo_ingest.journal import Arrival, Entry, Journal, JournalUnusable
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.decoding import DAMAGED, decode_entry
from echo_ingest.journal.entries import ENTRY_COLUMNS, to_entry
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.journal.recovery.detect import find_damage, is_damage, note_of, noted, noting
from echo_ingest.journal.recovery.salvage import _copy_small, mend, report_of, salvage
from echo_ingest.journal.recovery.sqlite_pages import SqlitePages
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Identity, Message, Rejected
from tests.api import Api
from tests.harness import Device, Harness, eventually
from tests.test_delivery import detection

DAMAGES = int(os.environ.get("DAMAGES", "46"))
FIRST_SEED = int(os.environ.get("SEED", "1"))
PAGE = 4096
RECORDS = 4_000
TRIMMED = 300
START_SECONDS = int(datetime(2026, 9, 14, 5, 45, 12, tzinfo=UTC).timestamp())
START_MS = START_SECONDS * 1000


class Truth(NamedTuple):
    """What was in the journal before it was damaged."""

    records: dict[int, Message]
    dead_letters: dict[int, Message]
    cursors: dict[str, int]
    parked: set[tuple[str, int]]


def arrival(rng: Random, number: int) -> Arrival:
    node = f"ridge-{number % 5}"
    clip = rng.randbytes(rng.randrange(4_000, 60_000)).hex() if number % 101 == 0 else ""
    payload = json.dumps({"n": number, "clip": clip, "pad": "x" * rng.randrange(300)}).encode()
    properties = (("recorded_at", "2026-09-14"),) if number % 7 == 0 else ()
    message = Message(f"iotingestion/{node}", payload, START_MS + number, node, properties)
    if number % 11 == 0:
        return message, Rejected(ReasonCode.UNKNOWN_FORM, "not JSON")
    if number % 13 == 0:
        return message, Identity("telemetry")
    message_id = str(number) if number % 3 == 0 else None
    return message, Identity("detection", START_SECONDS + number, message_id)


def fill(journal: Journal, rng: Random, numbers: range) -> None:
    batch = []
    for number in numbers:
        batch.append(arrival(rng, number))
        if len(batch) >= rng.randrange(1, 200):
            journal.append(batch)
            journal.acknowledged()
            batch = []
    journal.append(batch)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return two folders: a journal as an orderly stop leaves it, and one as a kill does."""
    folder = tmp_path_factory.mktemp("lived")
    rng = Random(1)
    (folder / "stopped").mkdir()
    path = folder / "stopped" / "journal.db"
    journal = Journal(path)
    for name in ("api", "store"):
        journal.add_sink(name)
    fill(journal, rng, range(RECORDS // 2))
    settle(journal, "api", 1_500)
    settle(journal, "store", 700)
    assert journal.trim(START_MS + TRIMMED)
    journal.close()
    journal = Journal(path)
    fill(journal, rng, range(RECORDS // 2, RECORDS))
    settle(journal, "api", 500)
    assert journal.backfill("api", 1_801)
    journal.pause("store")
    journal.request_replay("api", [offset for name, offset in parked(path) if name == "api"][:5])
    shutil.copytree(folder / "stopped", folder / "killed")
    journal.close()
    assert (folder / "killed" / "journal.db-wal").stat().st_size > 100 * PAGE
    return folder


def settle(journal: Journal, name: str, count: int) -> None:
    while count > 0:
        offsets = [entry.offset for entry in journal.read(name, min(count, 90))]
        refused = {offset: Refused("unknown species") for offset in offsets if offset % 50 == 0}
        journal.settle(name, offsets, refused)
        count -= len(offsets)


def parked(path: Path) -> set[tuple[str, int]]:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    return {(str(name), int(str(at))) for name, at in db.execute("SELECT sink, offset FROM parked")}


def truth_of(path: Path) -> Truth:
    with contextlib.closing(JournalReader(path)) as reader:
        assert reader.audit() == []
        return Truth(
            {entry.offset: entry.message for entry in entries(reader)},
            {letter.id: letter.message for letter in reader.dead_letters()},
            {
                name: ledger.skipped
                + ledger.delivered
                + len([p for p in parked(path) if p[0] == name])
                for name, ledger in reader.ledger().sinks.items()
            },
            parked(path),
        )


def entries(reader: JournalReader) -> Iterator[Entry]:
    offset = 0
    while page := reader.after(Selection(), offset):
        yield from page
        offset = page[-1].offset


# ---------------------------------------------------------------------- damage


def overwrite(path: Path, position: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        file.write(data)


def pages_of(path: Path) -> int:
    return path.stat().st_size // PAGE


def header(rng: Random, path: Path) -> None:
    overwrite(path, 0, rng.randbytes(rng.choice((16, 100, PAGE))))


def zeroed_pages(rng: Random, path: Path) -> None:
    count = rng.choice((1, 3, 40))
    overwrite(path, rng.randrange(1, pages_of(path) - count) * PAGE, bytes(count * PAGE))


def garbled_pages(rng: Random, path: Path) -> None:
    for _ in range(rng.choice((1, 5, 30))):
        overwrite(path, rng.randrange(pages_of(path)) * PAGE, rng.randbytes(PAGE))


def garbled_middle_of_pages(rng: Random, path: Path) -> None:
    for _ in range(20):
        overwrite(path, rng.randrange(PAGE, path.stat().st_size - 512), rng.randbytes(512))


def swapped_pages(rng: Random, path: Path) -> None:
    data = path.read_bytes()
    one, two = (rng.randrange(1, pages_of(path)) * PAGE for _ in range(2))
    overwrite(path, one, data[two : two + PAGE])
    overwrite(path, two, data[one : one + PAGE])


def roots(rng: Random, path: Path) -> None:
    """Return the page that leads to all others of a table."""
    number = rng.randrange(2, 14)
    overwrite(path, (number - 1) * PAGE, rng.choice((bytes(PAGE), rng.randbytes(PAGE))))


def truncated(rng: Random, path: Path) -> None:
    os.truncate(path, rng.randrange(1, path.stat().st_size))


def flipped_bits(rng: Random, path: Path) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 10, 300))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def flipped_in_small_tables(rng: Random, path: Path) -> None:
    """Flip a bit in a page of a small table, which holds cursors or sums."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    root_pages = db.execute(
        "SELECT rootpage FROM sqlite_schema"
        " WHERE name IN ('sink', 'parked', 'ledger', 'node_day', 'session')"
    ).fetchall()
    db.close()
    page = int(str(rng.choice(root_pages)[0])) - 1
    data = path.read_bytes()[page * PAGE : (page + 1) * PAGE]
    used = [at for at, byte in enumerate(data) if byte]
    at = rng.choice(used)
    overwrite(path, page * PAGE + at, bytes([data[at] ^ 1 << rng.randrange(8)]))


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def wal_garbled(rng: Random, path: Path) -> None:
    wal = wal_of(path)
    overwrite(wal, rng.randrange(32, wal.stat().st_size // 2), rng.randbytes(rng.choice((1, 900))))


def wal_header(rng: Random, path: Path) -> None:
    overwrite(wal_of(path), 0, rng.randbytes(32))


def both(rng: Random, path: Path) -> None:
    garbled_pages(rng, path)
    wal_garbled(rng, path)


def file_gone(rng: Random, path: Path) -> None:
    path.unlink()


def file_emptied(rng: Random, path: Path) -> None:
    os.truncate(path, 0)


Damage = Callable[[Random, Path], None]
OF_THE_FILE: list[Damage] = [
    *(header, zeroed_pages, garbled_pages, garbled_middle_of_pages, swapped_pages, roots),
    *(truncated, flipped_bits, flipped_in_small_tables),
]
OF_THE_WAL: list[Damage] = [wal_garbled, wal_header, both, file_gone, file_emptied]


# ---------------------------------------------------------------------- promises


def live(path: Path) -> tuple[int, dict[str, set[int]], dict[int, Message]]:
    """Start as the service does, deliver all, and read all; start again where damage is met.

    Returns how many starts it took, what each sink was offered, and all messages it was offered.
    """
    offered: dict[str, set[int]] = {"api": set(), "store": set()}
    messages: dict[int, Message] = {}
    for starts in range(1, 5):
        mend(path)
        with contextlib.suppress(JournalUnusable), noting(path):
            journal = Journal(path)
            with contextlib.closing(journal), contextlib.closing(JournalReader(path)) as reader:
                for name in offered:
                    journal.add_sink(name)
                    while batch := journal.read(name, 90):
                        whole = {entry.offset for entry in batch if not entry.damaged}
                        offered[name] |= whole
                        messages |= {e.offset: e.message for e in batch if e.offset in whole}
                        damaged = {e.offset: Refused("damaged") for e in batch if e.damaged}
                        journal.settle(name, [entry.offset for entry in batch], damaged)
                for _ in (*entries(reader), *reader.dead_letters(), *reader.parked()):
                    pass
                if wrong := reader.audit():
                    raise noted(path, wrong)
            return starts, offered, messages
    raise AssertionError("it does not come up")


def check(path: Path, truth: Truth) -> tuple[set[int], set[int]]:
    """Compare the journal with the truth; return what was saved and what was not."""
    with contextlib.closing(JournalReader(path)) as reader:
        kept = {entry.offset: entry for entry in entries(reader)}
        dead_letters = {each.id: each for each in reader.dead_letters()}
        lost = {
            offset
            for first, last in reader._rows("SELECT first, last FROM lost")
            for offset in range(first, last + 1)
        }
    saved = {offset for offset, entry in kept.items() if not entry.damaged}
    for offset in saved - truth.records.keys():
        assert offset <= TRIMMED and "ledger could not be read" in report_of(path).read_text()
    assert {offset: kept[offset].message for offset in saved & truth.records.keys()}.items() <= (
        truth.records.items()
    ), "nothing is other than it was"
    for letter in dead_letters.values():
        assert letter.damaged or letter.message in truth.dead_letters.values()
    gone = truth.records.keys() - kept.keys()
    if gone - lost and "or more" not in report_of(path).read_text():
        assert "parked for" in report_of(path).read_text()
        assert {at for _, at in truth.parked if at <= TRIMMED} >= gone - lost
    return saved & truth.records.keys(), gone


def works(path: Path, used: set[int]) -> None:
    """Check that it takes messages, under offsets never used, and that the ledger adds up."""
    journal = Journal(path)
    newest = journal._last_offset()
    assert newest >= max(used, default=0)
    journal.append([arrival(Random(2), RECORDS + 1)])
    assert [entry.offset for entry in journal.read("api", 9)] == [newest + 1]
    journal.settle("api", [newest + 1], {})
    journal.close()
    with contextlib.closing(JournalReader(path)) as reader:
        assert reader.audit() == []
        assert reader.ledger().sinks["api"].backlog == 0


def readable(path: Path) -> set[int]:
    """Return the offsets SQLite still reads from the damaged file: up, down, and one by one."""
    copy = path.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path.parent, copy)
    offsets: set[int] = set()
    try:
        db = apsw.Connection(str(copy / path.name))
    except apsw.Error:
        return offsets
    select = f"SELECT {ENTRY_COLUMNS} FROM record"  # noqa: S608
    queries = [f"{select} ORDER BY offset {order}" for order in ("ASC", "DESC")]
    queries += [f"{select} WHERE offset = {offset}" for offset in range(1, RECORDS, 7)]
    for query in queries:
        with contextlib.suppress(apsw.Error, TypeError):
            for row in db.execute(query):
                entry = to_entry(row)
                if not entry.damaged:
                    offsets.add(entry.offset)
    with contextlib.suppress(apsw.Error):
        db.close()
    shutil.rmtree(copy)
    return offsets


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "left_by"),
    [
        *((each, left_by) for each in OF_THE_FILE for left_by in ("stopped", "killed")),
        *((each, "killed") for each in OF_THE_WAL),
    ],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_what_can_be_read_of_a_damaged_journal_is_saved_and_the_rest_is_said_to_be_lost(
    lived: Path, tmp_path: Path, damage: Damage, left_by: str
) -> None:
    truth = truth_of(shutil.copytree(lived / left_by, tmp_path / "whole") / "journal.db")
    kinds = 2 * len(OF_THE_FILE) + len(OF_THE_WAL)
    total: Counter[str] = Counter()
    for seed in range(FIRST_SEED, FIRST_SEED + max(1, DAMAGES // kinds)):
        folder = shutil.copytree(lived / left_by, tmp_path / f"{seed}")
        path = folder / "journal.db"
        damage(Random(seed), path)
        could = readable(path)
        starts, offered, messages = live(path)
        saved, gone = check(path, truth)
        assert could <= saved, "what SQLite could read is saved"
        assert messages.items() <= truth.records.items() or "ledger could not" in (
            report_of(path).read_text()
        ), "nothing wrong is delivered"
        for name, cursor in truth.cursors.items():
            assert {offset for offset in saved if offset > cursor} <= offered[name], (
                "all that was saved is delivered"
            )
        works(path, saved)
        total += Counter(damages=1, starts=starts, saved=len(saved), lost=len(gone))
        total += Counter(salvaged=report_of(path).exists(), sqlite=len(could))
        shutil.rmtree(folder)
    print(damage.__name__, left_by, json.dumps(total))


# ---------------------------------------------------------------------- one promise at a time


@pytest.mark.parametrize(
    "column",
    ["key", "digest", "received_at_ms", "kind", "node", "topic", "properties", "payload"],
)
def test_a_change_in_any_column_of_a_record_is_known_when_it_is_read(
    tmp_path: Path, column: str
) -> None:
    journal = Journal(tmp_path / "journal.db")
    fill(journal, Random(1), range(1, 200))
    journal.add_sink("api")
    db = apsw.Connection(str(journal.path))
    types = {type(value) for (value,) in db.execute(f"SELECT {column} FROM record")}  # noqa: S608
    if bytes in types:
        change = f"CAST({column} || x'00' AS BLOB)"
    elif str in types:
        change = f"CAST(CAST({column} AS BLOB) || x'ff' AS TEXT)"  # not even text any more
    else:
        change = f"{column} + 1"
    db.execute(f"UPDATE record SET {column} = {change} WHERE {column} IS NOT NULL")  # noqa: S608
    changed = db.changes()
    assert changed
    read = journal.read("api", 500)
    assert sum(entry.damaged for entry in read) == changed
    # None of them goes on to a sink, nor to whoever reads.
    records = [decode_entry(Decoder(1_000_000), entry) for entry in read]
    assert [record == DAMAGED for record in records] == [entry.damaged for entry in read]
    with contextlib.closing(JournalReader(journal.path)) as reader:
        assert [entry.damaged for entry in entries(reader)] == [e.damaged for e in read]
    journal.close()


@pytest.mark.parametrize("column", ["digest", "received_at_ms", "node", "topic", "reason"])
def test_a_change_in_a_dead_letter_is_known_when_it_is_read(tmp_path: Path, column: str) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path)
    journal.append([arrival(Random(1), 11), arrival(Random(1), 22)])
    journal.close()
    db = apsw.Connection(str(path))
    change = f"{column} + 1" if column == "received_at_ms" else "CAST('other' AS {})"
    change = change.format("BLOB" if column == "digest" else "TEXT")
    db.execute(f"UPDATE dead_letter SET {column} = {change} WHERE id = 2")  # noqa: S608
    db.close()
    with contextlib.closing(JournalReader(path)) as reader:
        assert [letter.damaged for letter in reader.dead_letters()] == [False, True]


def test_a_gap_in_the_offsets_is_damage_and_not_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    fill(journal, Random(1), range(100))
    journal.add_sink("api")
    newest = journal._last_offset()
    db = apsw.Connection(str(journal.path))
    db.execute("UPDATE record SET offset = 4000 WHERE offset = 40")
    db.close()
    with pytest.raises(apsw.CorruptError):
        journal.read("api", 500)
    with pytest.raises(apsw.CorruptError):
        journal.append([arrival(Random(1), 200)])
    journal.close()
    starts, offered, _ = live(journal.path)
    assert starts == 1
    assert offered["api"] == set(range(1, newest + 1)) - {40}


def test_a_pause_outlives_a_salvage_and_where_it_does_not_that_is_said(
    lived: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(lived / "stopped", tmp_path / "j") / "journal.db"
    salvage(path, "a test")
    with contextlib.closing(Journal(path)) as journal:
        assert journal.is_paused("store")
        assert not journal.is_paused("api")
    with contextlib.closing(apsw.Connection(str(path))) as db:
        db.execute("UPDATE sink SET skipped = -1 WHERE name = 'store'")
    words = salvage(path, "a test").words()
    assert "How far store had come cannot be told" in words
    assert "It is not paused any more" in words


@pytest.mark.parametrize(
    ("note", "why"), [("the disk says so\n", "the disk says so"), ("", "a note says so")]
)
def test_damage_that_was_noted_is_damage_until_it_is_salvaged(
    tmp_path: Path, note: str, why: str
) -> None:
    path = tmp_path / "journal.db"
    Journal(path).close()
    assert find_damage(path) is None
    note_of(path).write_text(note)  # empty where the disk had no room for the text
    assert find_damage(path) == why
    salvage(path, why)
    assert find_damage(path) is None


def test_an_orderly_stop_a_kill_and_a_cut_off_commit_are_no_damage(
    lived: Path, tmp_path: Path
) -> None:
    for left_by in ("stopped", "killed"):
        path = shutil.copytree(lived / left_by, tmp_path / left_by) / "journal.db"
        assert find_damage(path) is None
    size = wal_of(path).stat().st_size
    for cut in (1, 20, 24 + PAGE, 5 * (24 + PAGE) + 100):
        os.truncate(wal_of(path), size - cut)
        assert find_damage(path) is None
        assert JournalReader(path).audit() == []


@pytest.mark.slow
def test_a_salvage_that_is_killed_begins_anew_and_one_that_is_complete_is_brought_to_its_end(
    lived: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(lived / "killed", tmp_path / "killed") / "journal.db"
    truth = truth_of(path)
    overwrite(path, 7 * PAGE, bytes(3 * PAGE))
    wal_header(Random(1), path)
    damaged = {name: path.with_name(path.name + name).read_bytes() for name in ("", "-wal")}
    building = path.with_name("journal.db.salvaging")
    for kills in range(11):
        salvaging = multiprocessing.get_context("spawn").Process(target=mend, args=(path,))
        salvaging.start()
        if kills == 0:
            eventually(building.exists, seconds=60)
        salvaging.join(kills * 0.15)
        salvaging.kill()
        salvaging.join()
        if salvaging.exitcode == 0:
            break  # it was complete
        if building.exists():
            with building.open("ab") as cut_off:
                cut_off.write(b"half a page")
    live(path)
    saved, gone = check(path, truth)
    assert len(saved) > len(truth.records) - 60 and len(gone) < 60
    (kept,) = path.parent.glob("journal.db.damaged-*Z")
    assert kept.read_bytes() == damaged[""]
    assert kept.with_name(kept.name + "-wal").read_bytes() == damaged["-wal"]

    moment = kept.name.rpartition("-")[2]
    for moved in range(4):
        folder = shutil.copytree(path.parent, tmp_path / f"moved-{moved}")
        again = folder / path.name
        again.rename(again.with_name(f"journal.db.salvaged-{moment}"))
        for suffix in ("-shm", "-wal", "")[moved:]:
            file = folder / f"{kept.name}{suffix}"
            if file.exists():
                file.rename(folder / f"journal.db{suffix}")
        mend(again)
        assert check(again, truth) == (saved, gone)
        assert (folder / kept.name).read_bytes() == damaged[""]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data")
    yield harness
    harness.close()


@pytest.mark.slow
def test_the_service_starts_on_a_damaged_journal_says_so_and_check_fails_until_it_is_read(
    harness: Harness,
) -> None:
    program = harness.up()
    device = Device(harness.mqtt_port)
    device.publish([detection(n) for n in range(3_000)])
    eventually(lambda: harness.ledger_now()["stored"] == 3_000)
    harness.kill(program)
    journal = harness.data_dir / "journal.db"
    overwrite(journal, 0, b"nothing of a database" * 10)
    overwrite(wal_of(journal), wal_of(journal).stat().st_size // 2, Random(1).randbytes(20_000))
    program = harness.up()
    log = harness.log("up")
    assert "journal damaged" in log and "journal salvaged" in log
    ledger = harness.ledger()
    assert ledger["stored"] == ledger["received"] == 3_000
    assert ledger["lost"] < 100
    assert len(harness.records()) >= 3_000 - ledger["lost"]
    checked = harness.cli("check")
    assert checked.returncode == 1
    report = Path(f"{journal}.salvage.txt")
    assert str(report) in checked.stdout
    assert f"{ledger['lost']:,} records" in report.read_text()
    report.unlink()
    assert harness.cli("check").returncode == 0
    Device(harness.mqtt_port).publish([detection(n) for n in range(2_990, 3_010)])
    eventually(lambda: harness.ledger_now()["received"] == 3_020)
    harness.stop(program)
    harness.up()
    assert harness.log("up").count("journal salvaged") == 1


@pytest.mark.slow
def test_damage_met_while_running_ends_the_service_in_words_and_the_next_start_salvages(
    harness: Harness,
) -> None:
    api = Api()
    harness.settings["IOT_API_URL"] = api.url
    program = harness.up()
    total = 20_000
    Device(harness.mqtt_port).publish([detection(n) for n in range(total)])
    eventually(lambda: harness.ledger_now()["stored"] == total, seconds=60)
    assert harness.stop(program) == 0
    journal = harness.data_dir / "journal.db"
    for page in range(40, pages_of(journal), 200):
        overwrite(journal, page * PAGE, bytes(PAGE))
    try:
        api.start()
        program = harness.start("up")
        assert program.wait(timeout=60) == 1
        assert "is damaged" in harness.log("up") and "Traceback" not in harness.log("up")
        harness.up()
        eventually(lambda: harness.ledger_now()["sinks"]["echo_api"]["backlog"] == 0, seconds=120)
        ledger = harness.ledger()
        sink = ledger["sinks"]["echo_api"]
        assert 0 < ledger["lost"] < 500
        assert sink["delivered"] + sink["skipped"] + sink["parked"] == total
        numbers = api.numbers()
        assert set(numbers) <= {f"n{n}" for n in range(total)}, "nothing wrong is delivered"
        assert len(numbers) >= total - ledger["lost"]
    finally:
        harness.close()
        api.stop()


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        (apsw.CorruptError, apsw.SQLITE_CORRUPT_SEQUENCE, True),
        (apsw.NotADBError, apsw.SQLITE_NOTADB, True),
        (apsw.IOError, apsw.SQLITE_IOERR_READ, True),
        (apsw.IOError, apsw.SQLITE_IOERR_SHORT_READ, True),
        (apsw.IOError, apsw.SQLITE_IOERR_WRITE, False),
        (apsw.IOError, 0, False),
        (apsw.FullError, apsw.SQLITE_IOERR_READ, False),
        (ValueError, apsw.SQLITE_IOERR_READ, False),
    ],
)
def test_what_a_disk_cannot_read_is_damage_and_what_it_cannot_write_is_not(
    kind: type[Exception], code: int, expected: bool
) -> None:
    error = kind("as SQLite says it")
    error.extendedresult = code  # type: ignore[attr-defined]
    assert is_damage(error) is expected


@pytest.mark.parametrize("table", ["record", "dead_letter"])
def test_rows_are_read_as_sqlite_reads_them_text_as_text_and_bytes_as_bytes(
    lived: Path, table: str
) -> None:
    path = lived / "stopped" / "journal.db"
    with contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        root = db.execute(sql, (table,)).get
        rows = db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()  # noqa: S608
    with contextlib.closing(SqlitePages(path)) as pages:
        cells = [cell for cell in pages.tree(root) if cell is not None]
    # SQLite keeps the number of a row beside it, and nothing in its own column.
    assert [(rowid, *values[1:]) for rowid, values in sorted(cells)] == rows
    assert {values[0] for _, values in cells} == {None}


def test_integers_of_every_length_are_read_as_sqlite_reads_them(tmp_path: Path) -> None:
    numbers = sorted({sign * (1 << bits) for bits in range(63) for sign in (1, -1)})
    with contextlib.closing(apsw.Connection(str(tmp_path / "numbers.db"))) as db:
        db.execute("CREATE TABLE number (id INTEGER PRIMARY KEY, value)")
        db.executemany("INSERT INTO number VALUES (?, ?)", [(each, each) for each in numbers])
        root = db.execute("SELECT rootpage FROM sqlite_schema").get
    with contextlib.closing(SqlitePages(tmp_path / "numbers.db")) as pages:
        cells = [cell for cell in pages.tree(root) if cell is not None]
    assert cells == [(each, (None, each)) for each in numbers]


@pytest.mark.parametrize("at", [0, 8, 16, 20, 24, 28])
def test_a_word_of_the_wal_s_header_that_is_wrong_costs_no_page(
    lived: Path, tmp_path: Path, at: int
) -> None:
    path = tmp_path / "journal.db"
    for suffix in ("", "-wal"):
        shutil.copy(lived / "killed" / f"journal.db{suffix}", f"{path}{suffix}")
    with contextlib.closing(SqlitePages(path)) as pages:
        whole = [frame.is_current for frame in pages.frames]
    overwrite(wal_of(path), at, b"\x55\x55\x55\x55")
    with contextlib.closing(SqlitePages(path)) as pages:
        assert [frame.is_current for frame in pages.frames] == whole
    assert any(whole)


def zero_root(path: Path, table: str) -> None:
    """Leave nothing of the page that a table's tree begins with."""
    with contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).get
    overwrite(path, (root - 1) * PAGE, bytes(PAGE))


def test_without_the_root_of_its_tree_each_record_is_found_by_its_own_page(
    lived: Path, tmp_path: Path
) -> None:
    path = tmp_path / "journal.db"
    shutil.copy(lived / "stopped" / "journal.db", path)
    truth = truth_of(path)
    zero_root(path, "record")
    salvage(path, "a test")
    with contextlib.closing(JournalReader(path)) as reader:
        assert {entry.offset: entry.message for entry in entries(reader)} == truth.records
        assert reader.audit() == []


def test_so_is_the_first_where_nothing_was_ever_removed(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with contextlib.closing(Journal(path)) as journal:
        fill(journal, Random(1), range(400))
    truth = truth_of(path)
    assert 1 in truth.records
    zero_root(path, "record")
    salvage(path, "a test")
    with contextlib.closing(JournalReader(path)) as reader:
        assert {entry.offset: entry.message for entry in entries(reader)} == truth.records


def test_a_ledger_that_is_gone_is_the_sum_of_nodes_and_days(lived: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    shutil.copy(lived / "stopped" / "journal.db", path)
    with contextlib.closing(JournalReader(path)) as reader:
        before = reader.ledger()
    zero_root(path, "ledger")
    assert "computed anew from the ledger by node and day" in salvage(path, "a test").words()
    with contextlib.closing(JournalReader(path)) as reader:
        after = reader.ledger()
        assert reader.audit() == []
    for count in ("received", "stored", "duplicates", "dead_letters"):
        assert getattr(after, count) == getattr(before, count), count


def test_a_small_table_is_whole_only_if_each_of_its_rows_can_be_copied(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with contextlib.closing(Journal(path)):
        pass
    whole = (1, ("n1", 20_000, 3, 1, 1, 1, 9, 5, 6))
    for other, is_whole in (
        ((2, ("n2", 20_000, 3, 1, 1, 1, 9, 5, 6)), True),
        ((2, ("n2", 20_000, "three", 1, 1, 1, 9, 5, 6)), False),  # no number
        ((2, ("n2", 20_000)), False),
        (None, False),
    ):
        with contextlib.closing(apsw.Connection(str(path))) as db:
            db.execute("DELETE FROM node_day")
            assert _copy_small(db, "node_day", [whole, other]) is is_whole
            assert db.execute("SELECT count(*) FROM node_day").get == 1 + is_whole
