"""A journal of an earlier version opens, keeps all it holds, and takes more.

`journals/version_1.db` was written by the last commit before version 2: twelve detections and two
other records, one duplicate, four dead letters, two sinks, one of them paused, two parked records.

`journals/version_2.db` was written by the last commit before version 3: on each of four days three
detections with an id and one without, the last four not acknowledged; a duplicate, a dead letter,
and a sink that has five records, one of them parked.
"""

import contextlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import msgspec
import pytest

from echo_ingest.decode import Decoder
from echo_ingest.journal import Appended, Journal, Ledger
from echo_ingest.journal.changes import JournalChanges
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.entries import DeadLetterEntry
from echo_ingest.journal.journal_file import transaction
from echo_ingest.journal.reader import JournalReader, Parked, Selection
from echo_ingest.journal.recovery.detect import check_schema, find_damage
from echo_ingest.journal.recovery.salvage import salvage
from echo_ingest.journal.schema import SCHEMA_VERSION, bring_up_to_date
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import DeadLetter, Duplicate, Message, Outcome, Stored

VERSION_1 = Path(__file__).parent / "journals" / "version_1.db"
VERSION_2 = VERSION_1.with_name("version_2.db")
VERSIONS = pytest.mark.parametrize("fixture", [VERSION_1, VERSION_2], ids=["1", "2"])
DAY = timedelta(days=1)
DAY_MS = 86_400_000
EMPTY = Message("iotingestion/ridge-07", b"", 1_790_000_100_000, "ridge-07")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(shutil.copy(VERSION_1, tmp_path / "journal.db"))


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


def test_what_a_journal_of_version_1_holds_is_there_after_it_was_opened(path: Path) -> None:
    before = contents(path)
    assert (len(before[0]), len(before[1]), len(before[2])) == (14, 4, 2)
    with reading(path) as reader:
        ledger = counts(reader.ledger())
    Journal(path).close()
    assert version(path) == SCHEMA_VERSION
    assert contents(path) == before
    with reading(path) as reader:
        assert counts(reader.ledger()) == ledger
    assert not any(letter.damaged or letter.code or letter.field for letter in before[1])


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
    assert len(records) >= 10
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
        times = [decoder.observed_at(entry.message) for entry in entries]
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
