"""A journal of an earlier version opens, keeps all it holds, and takes more.

`journals/version_1.db` was written by the last commit before version 2: twelve detections and two
other records, one duplicate, four dead letters, two sinks, one of them paused, two parked records.

`journals/version_2.db` was written by the last commit before version 3: on each of four days three
detections with an id and one without, the last four not acknowledged; a duplicate, a dead letter,
and a sink that has five records, one of them parked.

`journals/version_3.db` was written by de7efab, the last commit before version 4, with
`journals/write.py`: on each of four days two detections with an id and one without, a duplicate and
a dead letter, the last day not acknowledged; two sinks, one of them paused, with a record parked
each; a broker's session, and five days.

`journals/version_4.db` has the same, and was written by 58eade8, the last commit before version 5.

A journal that the service may not use as it is, because of its version, is left alone: it is newer,
or another build has written it. That is not damage.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import msgspec
import pytest

from echo_ingest.decode import Decoder
from echo_ingest.journal import Appended, Journal, JournalUnusable, Ledger
from echo_ingest.journal.changes import JournalChanges
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.entries import DeadLetterEntry
from echo_ingest.journal.journal_file import transaction
from echo_ingest.journal.migration import copies_before, migrate
from echo_ingest.journal.reader import JournalReader, Parked, Selection
from echo_ingest.journal.recovery.detect import check_schema, find_damage, note_of
from echo_ingest.journal.recovery.salvage import mend, salvage
from echo_ingest.journal.schema import SCHEMA_VERSION, bring_up_to_date
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import DeadLetter, Duplicate, Message, Outcome, Stored
from tests.harness import Harness
from tests.test_full_disk import fill

VERSION_1 = Path(__file__).parent / "journals" / "version_1.db"
VERSION_2 = VERSION_1.with_name("version_2.db")
VERSION_3 = VERSION_1.with_name("version_3.db")
VERSION_4 = VERSION_1.with_name("version_4.db")
VERSIONS = pytest.mark.parametrize(
    "fixture", [VERSION_1, VERSION_2, VERSION_3, VERSION_4], ids=["1", "2", "3", "4"]
)
DAY = timedelta(days=1)
DAY_MS = 86_400_000
EMPTY = Message("iotingestion/ridge-07", b"", 1_790_000_100_000, "ridge-07")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(shutil.copy(VERSION_1, tmp_path / "journal.db"))


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data")
    harness.data_dir.mkdir(mode=0o700)
    yield harness
    harness.close()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[JournalReader]:
    with contextlib.closing(JournalReader(path, Decoder(1_000_000))) as reader:
        yield reader


def version(path: Path) -> int:
    with contextlib.closing(apsw.Connection(str(path))) as db:
        user_version: int = db.execute("PRAGMA user_version").get
        return user_version


def contents(path: Path) -> tuple[list[object], list[DeadLetterEntry], list[Parked], list[object]]:
    with reading(path) as reader:
        assert reader.audit() == []
        records: list[object] = [
            (entry.offset, entry.key, entry.message, entry.damaged)
            for entry in reader.after(Selection(), 0)
        ]
        return records, [*reader.dead_letters()], [*reader.parked()], [*reader.node_days()]


def counts(ledger: Ledger) -> object:
    """Return all of a ledger but the age of what waits."""
    sinks = {
        name: (sink.skipped, sink.delivered, sink.parked, sink.backlog, sink.paused_at_ms)
        for name, sink in ledger.sinks.items()
    }
    return ledger.received, ledger.stored, ledger.duplicates, ledger.dead_letters, sinks


def append_empty(journal: Journal) -> Appended:
    return journal.append([(EMPTY, Decoder(1_000_000).identify(EMPTY))])


@VERSIONS
def test_what_a_journal_of_an_earlier_version_holds_is_there_after_it_was_opened(
    tmp_path: Path, fixture: Path
) -> None:
    path = Path(shutil.copy(fixture, tmp_path / "journal.db"))
    before = contents(path)
    assert (len(before[0]), len(before[1]), len(before[2])) == {
        VERSION_1: (14, 4, 2),
        VERSION_2: (16, 1, 1),
        VERSION_3: (12, 4, 2),
        VERSION_4: (12, 4, 2),
    }[fixture]
    with reading(path) as reader:
        ledger = counts(reader.ledger())
    Journal(path).close()
    assert version(path) == SCHEMA_VERSION
    assert contents(path) == before
    with reading(path) as reader:
        assert counts(reader.ledger()) == ledger
    if fixture is VERSION_1:
        assert not any(letter.damaged or letter.code or letter.field for letter in before[1])


def test_the_sessions_and_days_of_version_3_are_known_after_it_was_opened(tmp_path: Path) -> None:
    path = Path(shutil.copy(VERSION_3, tmp_path / "journal.db"))
    with contextlib.closing(Journal(path)) as journal:
        assert journal.remember_session("echo-ingest@127.0.0.1:1883")
        assert (journal.is_paused("echo_api"), journal.is_paused("postgres")) == (False, True)
        journal.settle("echo_api", range(10, 13), {})
        journal.backfill("postgres", 1)
    with contextlib.closing(apsw.Connection(str(path))) as db:
        days = db.execute("SELECT offset FROM receipt_day ORDER BY id").fetchall()
    assert days == [(0,), (3,), (6,), (9,), (12,)]


def test_reading_a_journal_of_version_1_does_not_change_it(path: Path) -> None:
    contents(path)
    with contextlib.closing(JournalChanges(path)) as changes:
        letters = changes.dead_letters_after(0, 10)
        assert [letter.code for letter in letters] == [None] * 4
        assert letters[2].reason == "the message is empty"
        why = changes.why_parked("echo_api", 2)
    assert why is not None
    assert (why.reason, why.code) == ("422: species: Unicorn is not a known species", None)
    assert path.read_bytes() == VERSION_1.read_bytes()


def test_a_migrated_journal_has_the_schema_of_a_new_one(path: Path, tmp_path: Path) -> None:
    for each in (path, tmp_path / "new.db"):
        Journal(each).close()
        with contextlib.closing(apsw.Connection(str(each))) as db:
            assert check_schema(db) is None
        assert find_damage(each) is None


def test_a_migrated_journal_takes_reasons_with_code_and_field(path: Path) -> None:
    with contextlib.closing(Journal(path)) as journal:
        assert append_empty(journal).dead_letters == 1
        offsets = [entry.offset for entry in journal.read("echo_api", 5)]
        refused = Refused("no node id", ReasonCode.STATUS_WITHOUT_NODE, "sensorId")
        journal.settle("echo_api", offsets, {offsets[0]: refused})
    with reading(path) as reader:
        *_, newest = reader.dead_letters()
        parked = reader.parked_at(offsets[0])
    assert (newest.code, newest.field, newest.damaged) == ("empty_message", None, False)
    assert [(each.code, each.field) for each in parked] == [("status_without_node", "sensorId")]


def test_a_migration_that_is_cut_off_changes_nothing(path: Path) -> None:
    before = contents(path)
    with (
        contextlib.closing(apsw.Connection(str(path))) as db,
        pytest.raises(ZeroDivisionError),
        transaction(db),
    ):
        bring_up_to_date(db)
        raise ZeroDivisionError
    assert version(path) == 1
    assert contents(path) == before


def test_a_migration_that_fails_in_its_last_step_leaves_the_version_of_before(path: Path) -> None:
    """What is in its way here is a table that somebody else made under the name of the newest."""
    before = contents(path)
    with contextlib.closing(apsw.Connection(str(path))) as db:
        db.execute("CREATE TABLE unclaimed_topic (mine)")
    with pytest.raises(apsw.SQLError, match="unclaimed_topic already exists"):
        migrate(path)
    assert version(path) == 1
    assert contents(path) == before


@pytest.mark.parametrize("migrated", [False, True])
def test_salvage_saves_what_either_version_wrote(path: Path, migrated: bool) -> None:
    if migrated:
        with contextlib.closing(Journal(path)) as journal:
            append_empty(journal)
    before = contents(path)
    saved = salvage(path, "a test says so")
    assert (saved.records, saved.dead_letters) == (14, 5 if migrated else 4)
    assert contents(path) == before
    assert version(path) == SCHEMA_VERSION


# ---------------------------------------------------------------------- version 3: keys, days


def stored(path: Path) -> list[tuple[int, Message]]:
    """Return the records that are told apart by more than their place."""
    with reading(path) as reader:
        return [
            (entry.offset, entry.message)
            for entry in reader.after(Selection(), 0)
            if getattr(Decoder(1_000_000).identify(entry.message), "is_certain", False)
        ]


def changed(message: Message, **fields: object) -> Message:
    payload = msgspec.json.encode(msgspec.json.decode(message.payload) | fields)
    return msgspec.structs.replace(message, payload=payload)


def outcome(journal: Journal, message: Message) -> Outcome:
    return journal.append([(message, Decoder(1_000_000).identify(message))]).outcomes[0]


@VERSIONS
def test_what_was_stored_before_the_upgrade_and_comes_after_it_is_a_duplicate(
    tmp_path: Path, fixture: Path
) -> None:
    path = Path(shutil.copy(fixture, tmp_path / "journal.db"))
    records = stored(path)
    assert len(records) >= 8
    for _ in range(2):
        with contextlib.closing(Journal(path)) as journal:
            for offset, message in records:
                redelivered = msgspec.structs.replace(message, redelivered=True)
                assert outcome(journal, message) == Duplicate(offset)
                assert outcome(journal, redelivered) == Duplicate(offset)
            batch = [(each, Decoder(1_000_000).identify(each)) for _, each in records]
            assert journal.append(batch).duplicates == len(records)


def test_the_same_id_in_another_second_is_new_to_a_record_of_before_and_then_the_same(
    tmp_path: Path,
) -> None:
    path = Path(shutil.copy(VERSION_2, tmp_path / "journal.db"))
    offset, message = stored(path)[0]
    with contextlib.closing(Journal(path)) as journal:
        assert outcome(journal, changed(message, timestamp="1790500000")) == Stored(17)
        assert outcome(journal, changed(message, timestamp="1790600000")) == Duplicate(17)
        assert outcome(journal, message) == Duplicate(offset)
        reused = outcome(journal, changed(message, species="Crinia signifera"))
        assert isinstance(reused, DeadLetter)
        assert reused.rejected.code is ReasonCode.ID_REUSED


def test_earlier_keys_are_looked_up_as_long_as_there_are_records_with_them(tmp_path: Path) -> None:
    path = Path(shutil.copy(VERSION_2, tmp_path / "journal.db"))
    offset, message = stored(path)[-1]
    new = changed(message, id="new", timestamp="1790500000")

    def lookups(journal: Journal, number: int) -> int:
        looked_up: list[str] = []

        def trace(_cursor: object, sql: str, _bindings: object) -> bool:
            looked_up.append(sql)
            return True

        journal._db.exec_trace = trace
        assert isinstance(outcome(journal, changed(new, id=f"new {number}")), Stored)
        journal._db.exec_trace = None
        return sum("WHERE key = ?" in sql for sql in looked_up)

    with contextlib.closing(Journal(path)) as journal:
        assert lookups(journal, 1) == 1
        journal.settle("echo_api", range(6, 18), {offset: Refused("no")})
        assert journal.trim(2**53) == 14, "all but two that are parked, and the newest"
        assert lookups(journal, 2) == 1
        for parked in (2, offset):
            journal.request_replay("echo_api", [parked])
            journal.settle("echo_api", [parked], {})
        journal.settle("echo_api", [18], {})
        assert journal.trim(2**53) == 3
        assert lookups(journal, 3) == 0
    with contextlib.closing(Journal(path)) as journal:
        assert lookups(journal, 4) == 0
    with contextlib.closing(Journal(tmp_path / "new.db")) as journal:
        assert lookups(journal, 5) == 0


def test_the_days_of_an_earlier_journal_are_those_of_its_records(tmp_path: Path) -> None:
    path = Path(shutil.copy(VERSION_2, tmp_path / "journal.db"))
    first_ms = stored(path)[0][1].received_at_ms
    with contextlib.closing(Journal(path)) as journal:
        journal.settle("echo_api", range(6, 17), {})
        now_ms = first_ms + 4 * DAY_MS
        journal.note_day(now_ms)
        assert journal.trim(now_ms, days=4, now_ms=now_ms) == 0
        assert journal.trim(now_ms, days=3, now_ms=now_ms) == 3, "one is parked"
        with contextlib.closing(apsw.Connection(str(path))) as db:
            assert db.execute("SELECT offset FROM receipt_day ORDER BY id").fetchall() == [
                (0,), (4,), (8,), (12,), (16,),
            ]  # fmt: skip


@VERSIONS
@pytest.mark.parametrize("migrated", [False, True])
def test_a_time_is_found_in_a_journal_of_any_version(
    tmp_path: Path, fixture: Path, migrated: bool
) -> None:
    path = Path(shutil.copy(fixture, tmp_path / "journal.db"))
    if migrated:
        Journal(path).close()
    decoder = Decoder(1_000_000)
    with reading(path) as reader:
        entries = reader.after(Selection(), 0)
        records = [decoder.records(entry.message) for entry in entries]
        times = [each[0].observed_at if each else None for each in records]
        for since in {at for at in times if at is not None}:
            found = reader.after(Selection(since=since, until=since + DAY), 0)
            assert [entry.offset for entry in found] == [
                entry.offset
                for entry, at in zip(entries, times, strict=True)
                if at is not None and since <= at < since + DAY
            ]
        assert reader.after(Selection(since=datetime(2100, 1, 1, tzinfo=UTC)), 0) == []


@pytest.mark.parametrize("damaged", ["ledger", "receipt_day"])
def test_a_salvaged_journal_knows_earlier_keys_and_days(tmp_path: Path, damaged: str) -> None:
    path = Path(shutil.copy(VERSION_2, tmp_path / "journal.db"))
    if damaged == "receipt_day":
        Journal(path).close()
        with contextlib.closing(apsw.Connection(str(path))) as db:
            db.execute("DELETE FROM receipt_day WHERE id > 2")
    else:
        with contextlib.closing(apsw.Connection(str(path))) as db:
            db.execute("DELETE FROM ledger")
    records = stored(path)
    salvage(path, "a test says so")
    with contextlib.closing(Journal(path)) as journal:
        for offset, message in records:
            assert outcome(journal, message) == Duplicate(offset)
    with contextlib.closing(apsw.Connection(str(path))) as db:
        days = db.execute("SELECT offset FROM receipt_day ORDER BY id").fetchall()
    assert days[:4] == [(0,), (4,), (8,), (12,)]


# ---------------------------------------------------------------------- the copy before a migration


def copies(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.glob("*.before-*"))


@VERSIONS
def test_a_migration_leaves_a_copy_of_the_journal_as_it_was(tmp_path: Path, fixture: Path) -> None:
    path = Path(shutil.copy(fixture, tmp_path / "journal.db"))
    Journal(path).close()
    assert copies(path) == [f"journal.db.before-{SCHEMA_VERSION}"]
    (copy,) = copies_before(path)
    assert copy.read_bytes() == fixture.read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o600
    Journal(path).close()
    assert len(copies(path)) == 1, "a journal of this version is not copied"


def test_the_copy_is_on_disk_before_anything_is_altered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it holds is flushed before it gets its name, and its name with the folder."""
    copy = path.with_name(f"{path.name}.before-{SCHEMA_VERSION}")
    flushed: list[tuple[Path, bool, int]] = []
    flush = os.fsync

    def record(descriptor: int) -> None:
        flush(descriptor)
        at = Path(f"/proc/self/fd/{descriptor}").resolve()
        flushed.append((at, copy.exists(), version(path)))

    monkeypatch.setattr(os, "fsync", record)
    migrate(path)
    assert flushed == [(Path(f"{copy}.new"), False, 1), (path.parent, True, 1)]
    assert version(path) == SCHEMA_VERSION


def test_what_a_kill_left_in_the_wal_is_in_the_copy(tmp_path: Path) -> None:
    lived = Path(shutil.copy(VERSION_3, tmp_path / "lived.db"))
    with contextlib.closing(apsw.Connection(str(lived))) as db:
        db.execute("PRAGMA journal_mode = WAL").fetchall()
        db.execute("UPDATE sink SET paused_at_ms = 7 WHERE name = 'echo_api'")
        (tmp_path / "data").mkdir()
        path = Path(shutil.copy(lived, tmp_path / "data" / "journal.db"))
        shutil.copy(f"{lived}-wal", f"{path}-wal")
    Journal(path).close()
    (copy,) = copies_before(path)
    with contextlib.closing(apsw.Connection(str(copy))) as db:
        assert db.execute("SELECT paused_at_ms FROM sink WHERE name = 'echo_api'").get == 7
        assert db.execute("PRAGMA user_version").get == 3


def test_a_copy_that_is_there_already_is_not_made_again(path: Path) -> None:
    copy = Path(shutil.copy(path, f"{path}.before-{SCHEMA_VERSION}"))  # killed before the change
    Path(f"{copy}.new").write_bytes(b"killed while it was copied")
    inode = copy.stat().st_ino
    Journal(path).close()
    assert copies_before(path) == [copy]
    assert copy.stat().st_ino == inode


@pytest.mark.parametrize("other", [VERSION_3.read_bytes(), b"no journal"], ids=["other", "none"])
def test_a_copy_of_another_journal_stays_as_it_is(path: Path, other: bytes) -> None:
    copy = Path(f"{path}.before-{SCHEMA_VERSION}")
    copy.write_bytes(other)
    Journal(path).close()
    _, new = copies_before(path)
    assert copy.read_bytes() == other
    assert new.read_bytes() == VERSION_1.read_bytes()


def test_without_room_for_a_copy_nothing_is_changed_until_a_person_has_one(disk: Path) -> None:
    path = Path(shutil.copy(VERSION_3, disk / "journal.db"))
    before = contents(path)
    fill(disk, leave_bytes=56_000)
    with pytest.raises(JournalUnusable, match="make room, and start again") as raised:
        Journal(path)
    assert f"create the empty file {path}.before-{SCHEMA_VERSION}" in str(raised.value)
    assert version(path) == 3
    assert contents(path) == before
    assert copies(path) == []
    Path(f"{path}.before-{SCHEMA_VERSION}").touch()
    Journal(path).close()
    assert version(path) == SCHEMA_VERSION
    assert contents(path) == before


def test_a_copy_leaves_free_what_must_stay_free(path: Path) -> None:
    free_bytes = shutil.disk_usage(path).free
    with pytest.raises(JournalUnusable, match="may be used on its disk"):
        Journal(path, disk_free_bytes_min=2 * free_bytes)
    assert version(path) == 1
    assert copies(path) == []


@pytest.mark.slow
def test_the_service_brings_an_earlier_journal_up_to_date_and_says_where_the_copy_is(
    harness: Harness,
) -> None:
    path = harness.data_dir / "journal.db"
    shutil.copy(VERSION_3, path)
    checked = harness.cli("check").stdout
    assert "schema 3" in checked and "the next start brings it up to date" in checked
    program = harness.up()
    ledger = harness.ledger()
    assert (ledger["stored"], ledger["dead_letters"]) == (12, 4)
    assert "journal brought up to date" in harness.log("up")
    (copy,) = copies_before(path)
    assert f"{copy.name} is the journal from before" in harness.cli("check").stdout
    assert harness.stop(program) == 0


# ---------------------------------------------------------------------- newer, and of another build

EARLIER_REVISION = (
    "ALTER TABLE sink DROP COLUMN paused_at_ms",
    "DROP TABLE receipt_day",
    "ALTER TABLE node_day RENAME COLUMN received_bytes TO bytes",
    "ALTER TABLE parked RENAME COLUMN attempts TO offered_",
)
"""What a build of the same number may have made otherwise."""


def altered(path: Path, sql: str) -> bytes:
    with contextlib.closing(apsw.Connection(str(path))) as db:
        db.execute(sql)
    return path.read_bytes()


@pytest.mark.parametrize("fixture", [VERSION_3, None], ids=["3", "this"])
@pytest.mark.parametrize("sql", EARLIER_REVISION)
def test_another_form_of_the_tables_under_the_same_number_is_not_damage(
    tmp_path: Path, fixture: Path | None, sql: str
) -> None:
    path = tmp_path / "journal.db"
    if fixture is None:
        Journal(path).close()
    else:
        shutil.copy(fixture, path)
    before = altered(path, sql)
    mend(path)
    for use in (Journal, JournalReader):
        with pytest.raises(JournalUnusable, match="another build of echo-ingest") as raised:
            use(path)
        assert "It is not damaged" in str(raised.value)
    assert path.read_bytes() == before
    assert copies(path) == []


def test_a_person_may_have_the_journal_of_another_build_salvaged(tmp_path: Path) -> None:
    path = Path(shutil.copy(VERSION_3, tmp_path / "journal.db"))
    before = altered(path, EARLIER_REVISION[0])
    note_of(path).touch()
    mend(path)
    with reading(path) as reader:
        assert len(reader.after(Selection(), 0)) == 12
    (kept,) = tmp_path.glob("journal.db.damaged-*Z")
    assert kept.read_bytes() == before


@pytest.mark.parametrize("flips", [1, 2])
def test_a_bit_in_the_text_of_a_table_is_damage(tmp_path: Path, flips: int) -> None:
    path = tmp_path / "journal.db"
    Journal(path).close()
    data = path.read_bytes()
    for text in (b"paused_at_ms", b"skipped  ")[:flips]:  # SQLite leaves old copies of its rows
        data = data.replace(text, bytes([text[0] ^ 1]) + text[1:])
    path.write_bytes(data)
    assert "the schema of sink is not what it was" in (find_damage(path) or "")
    with pytest.raises(JournalUnusable, match="if it is damaged, start the service"):
        JournalReader(path)
    mend(path)
    assert find_damage(path) is None


@pytest.mark.parametrize("noted", [False, True])
def test_a_newer_journal_is_left_alone_even_if_there_is_a_note(path: Path, noted: bool) -> None:
    before = altered(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    if noted:
        note_of(path).touch()
    with pytest.raises(JournalUnusable, match="written by a newer echo-ingest"):
        mend(path)
        Journal(path)
    assert path.read_bytes() == before
    assert not [*path.parent.glob("*.salv*"), *path.parent.glob("*.damaged*")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sql", "words"),
    [
        (f"PRAGMA user_version = {SCHEMA_VERSION + 1}", "was written by a newer echo-ingest"),
        (EARLIER_REVISION[0], "was written by another build of echo-ingest"),
    ],
)
def test_the_service_check_and_status_say_which_build_a_journal_needs(
    harness: Harness, sql: str, words: str
) -> None:
    path = harness.data_dir / "journal.db"
    shutil.copy(VERSION_3, path)
    before = altered(path, sql)
    for command in ("up", "check", "status"):
        done = harness.cli(command)
        assert done.returncode == 1
        assert words in done.stdout + done.stderr
        assert "Traceback" not in done.stderr and "is damaged" not in done.stdout + done.stderr
    assert path.read_bytes() == before
    assert not [*path.parent.glob("journal.db.*")]
