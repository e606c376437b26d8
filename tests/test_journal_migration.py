"""A journal of an earlier version opens, keeps all it holds, and takes more.

`journals/version_1.db` was written by the last commit before version 2: twelve detections and two
other records, one duplicate, four dead letters, two sinks, one of them paused, two parked records.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from echo_ingest.decode import Decoder
from echo_ingest.journal import Appended, Journal, Ledger
from echo_ingest.journal.changes import JournalChanges
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.entries import DeadLetterEntry
from echo_ingest.journal.journal_file import SCHEMA_VERSION, bring_up_to_date, transaction
from echo_ingest.journal.reader import JournalReader, Parked, Selection
from echo_ingest.journal.recovery.detect import check_schema, find_damage
from echo_ingest.journal.recovery.salvage import salvage
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Message

VERSION_1 = Path(__file__).parent / "journals" / "version_1.db"
EMPTY = Message("iotingestion/ridge-07", b"", 1_790_000_100_000, "ridge-07")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(shutil.copy(VERSION_1, tmp_path / "journal.db"))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[JournalReader]:
    with contextlib.closing(JournalReader(path)) as reader:
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
