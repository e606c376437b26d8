"""Discarding dead letters: by hand, by the command line, and what the ledger keeps of them."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest
from typer.testing import CliRunner

from echo_ingest.admin import dead_letters
from echo_ingest.cli import app
from echo_ingest.journal import Journal
from echo_ingest.journal.discarding import DiscardedDay
from echo_ingest.journal.reader import JournalReader
from echo_ingest.journal.recovery.salvage import salvage
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import DeadLetter, Duplicate, Message, Rejected

AT_MS = 1_795_000_000_000
DAY_MS = 86_400_000
NOW_MS = AT_MS + 2 * DAY_MS
EMPTY = Rejected(ReasonCode.EMPTY_MESSAGE, "the message is empty")
CUT = Rejected(ReasonCode.JSON_CUT_OFF, "the JSON is cut off")


def letter(number: int, node: str = "ridge-01", at_ms: int = AT_MS) -> Message:
    return Message(f"iotingestion/{node}", b"%d" % number, at_ms, node)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    with contextlib.closing(Journal(folder / "journal.db")) as journal:
        arrivals = [(letter(number), EMPTY) for number in range(3)]
        journal.append([*arrivals, (letter(3, "creek-02", AT_MS + DAY_MS), CUT)])
        journal.acknowledged()
        yield journal


@contextlib.contextmanager
def reading(journal: Journal) -> Iterator[JournalReader]:
    with contextlib.closing(JournalReader(journal.path)) as reader:
        assert reader.audit() == []
        yield reader


def ids(journal: Journal) -> list[int]:
    with reading(journal) as reader:
        return [each.id for each in reader.dead_letters()]


def test_what_is_discarded_is_counted_by_reason_day_and_node(journal: Journal) -> None:
    assert journal.discard_dead_letters([1, 2, 4, 4, 99], NOW_MS) == 3
    assert ids(journal) == [3]
    ledger = journal.ledger()
    assert (ledger.received, ledger.dead_letters, ledger.discarded) == (4, 1, 3)
    with reading(journal) as reader:
        day = datetime.fromtimestamp(NOW_MS / 1000, UTC).date()
        assert reader.discarded_days() == [
            DiscardedDay("empty_message", day, 2),
            DiscardedDay("json_cut_off", day, 1),
        ]
        of_node = {each.node: (each.dead_letters, each.discarded) for each in reader.node_days()}
    assert of_node == {"ridge-01": (1, 2), "creek-02": (0, 1)}
    assert journal.discard_dead_letters([1, 2], NOW_MS) == 0


def test_an_id_is_not_used_again_and_a_redelivery_is_still_recognised(journal: Journal) -> None:
    journal.append([(letter(9), EMPTY)])  # not acknowledged
    assert journal.discard_dead_letters([5], NOW_MS) == 1
    again = Message("iotingestion/ridge-01", b"9", AT_MS, "ridge-01", redelivered=True)
    assert journal.append([(again, EMPTY), (letter(10), EMPTY)]).outcomes == [
        Duplicate(),
        DeadLetter(EMPTY),
    ]
    assert ids(journal) == [1, 2, 3, 4, 6]


def test_many_are_discarded_in_several_transactions(journal: Journal) -> None:
    journal.append([(letter(number), CUT) for number in range(2_500)])
    with reading(journal) as reader:
        steps = list(dead_letters.discard(journal, reader.dead_letter_ids()))
    assert steps == [1_000, 1_000, 504]
    assert journal.ledger().discarded == 2_504


def test_a_salvaged_journal_knows_what_was_discarded(journal: Journal) -> None:
    journal.discard_dead_letters([1, 4], NOW_MS)
    path = journal.path
    journal.close()
    with contextlib.closing(apsw.Connection(str(path))) as db:
        db.execute("UPDATE ledger SET received = 99")
    salvage(path, "a test says so")
    with contextlib.closing(Journal(path)) as salvaged:
        assert ids(salvaged) == [2, 3]
        ledger = salvaged.ledger()
        assert (ledger.received, ledger.dead_letters, ledger.discarded) == (4, 2, 2)
        with reading(salvaged) as reader:
            assert sum(each.messages for each in reader.discarded_days()) == 2


@pytest.fixture
def run(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("IOT_DATA_DIR", str(journal.path.parent))
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, ["dead-letters", "discard", *arguments])


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (("2",), [1, 3, 4]),
        (("2", "3", "2"), [1, 4]),
        (("--node", "creek-02"), [1, 2, 3]),
        (("--reason", "empty"), [4]),
        (("--before", "2026-11-19"), [4]),
        (("--before", "2026-11-01", "--all"), [1, 2, 3, 4]),
        (("--all",), []),
    ],
)
def test_the_command_line_discards_one_a_group_or_old_ones(
    run: Callable[..., Any], journal: Journal, arguments: tuple[str, ...], left: list[int]
) -> None:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    noun = "dead letter" if len(left) == 3 else "dead letters"
    assert f"{4 - len(left)} {noun} discarded" in done.output
    assert ids(journal) == left


@pytest.mark.parametrize("arguments", [(), ("1", "--all"), ("9",)])
def test_nothing_is_discarded_where_it_is_not_clear_what(
    run: Callable[..., Any], journal: Journal, arguments: tuple[str, ...]
) -> None:
    assert run(*arguments).exit_code != 0
    assert ids(journal) == [1, 2, 3, 4]
