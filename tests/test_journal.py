"""What the journal promises, on a real file."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import apsw
import msgspec
import pytest

from echo_ingest.journal import (
    Appended,
    Arrival,
    Journal,
    JournalFull,
    JournalUnusable,
    connect,
)
from echo_ingest.journal.capacity import Capacity
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.journal_file import transaction
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    DeadLetter,
    Duplicate,
    Identity,
    Message,
    Rejected,
    Stored,
)

START_SECONDS = int(datetime(2026, 9, 14, 5, 45, 12, tzinfo=UTC).timestamp())


class Arrive(Protocol):
    def __call__(self, *, redelivered: bool = False) -> Arrival: ...


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path)
    yield journal
    journal.close()


def detection(
    number: int, *, message_id: str | None = None, text: str = ""
) -> tuple[Message, Identity]:
    identity = Identity("detection", START_SECONDS + number, message_id)
    payload = json.dumps({"n": number, "text": text}).encode()
    return Message("iotingestion/ridge-07", payload, 1_000 + number, "ridge-07"), identity


def heartbeat(*, redelivered: bool = False) -> Arrival:
    """Return a message with neither an id nor a time of its own."""
    return Message("t", b'{"status":"online"}', 5, redelivered=redelivered), Identity("telemetry")


UNREADABLE = Rejected(ReasonCode.BROKEN_JSON, "not JSON")


def rubbish(*, redelivered: bool = False) -> Arrival:
    return Message("t", b"Animal_Mode", 5, redelivered=redelivered), UNREADABLE


def closes(journal: Journal) -> bool:
    ledger = journal.ledger()
    return ledger.received == ledger.stored + ledger.duplicates + ledger.dead_letters and all(
        ledger.stored == sink.skipped + sink.delivered + sink.parked + sink.backlog
        for sink in ledger.sinks.values()
    )


def test_a_batch_is_stored_in_order_with_its_dead_letters(journal: Journal) -> None:
    appended = journal.append([detection(1), rubbish(), detection(2)])
    assert appended == Appended([Stored(1), DeadLetter(UNREADABLE), Stored(2)], 2, 0, 1)
    journal.add_sink("api")
    assert [e.offset for e in journal.read("api", 10)] == [1, 2]
    assert closes(journal)


def test_the_message_comes_back_as_it_came(journal: Journal) -> None:
    message = Message("a/b", b"\0\xff", 7, "b", (("recorded_at", "x"), ("recorded_at", "y")))
    identity = detection(1)[1]
    journal.append([(message, identity)])
    journal.add_sink("api")
    (entry,) = journal.read("api", 1)
    assert entry.message == msgspec.structs.replace(message, form="")
    assert not entry.damaged


def test_the_same_message_is_stored_once_within_and_across_batches(journal: Journal) -> None:
    assert journal.append([detection(1), detection(1)]).outcomes == [Stored(1), Duplicate(1)]
    appended = journal.append([detection(0), detection(1), detection(2)])
    assert appended.outcomes == [Stored(2), Duplicate(1), Stored(3)]
    journal.add_sink("api")
    assert [e.offset for e in journal.read("api", 10)] == [1, 2, 3]
    assert closes(journal)


def test_a_heartbeat_is_not_a_duplicate_of_itself(journal: Journal) -> None:
    assert journal.append([heartbeat(), heartbeat()]).outcomes == [Stored(1), Stored(2)]
    assert journal.append([heartbeat()]).outcomes == [Stored(3)]


@pytest.mark.parametrize("arrival", [heartbeat, rubbish])
def test_a_redelivery_answers_once_for_what_was_not_acknowledged(
    journal: Journal, arrival: Arrive
) -> None:
    journal.append([arrival(), arrival()])
    again = journal.append([arrival(redelivered=True) for _ in range(3)])
    assert again.duplicates == 2
    journal.acknowledged()
    journal.append([arrival(), arrival()])
    each = [journal.append([arrival(redelivered=True)]).duplicates for _ in range(3)]
    assert each == [1, 1, 0], "each answers for one, in later batches too"
    journal.acknowledged()
    assert journal.append([arrival(redelivered=True)]).duplicates == 0
    assert closes(journal)


@pytest.mark.parametrize("arrival", [heartbeat, rubbish])
def test_a_redelivery_answers_for_what_came_from_the_same_endpoint(
    journal: Journal, arrival: Arrive
) -> None:
    journal.append([arrival()], "farm")
    assert journal.append([arrival(redelivered=True)], "city").duplicates == 0
    journal.acknowledged("city")
    assert journal.append([arrival(redelivered=True)], "farm").duplicates == 1
    assert journal.append([arrival(redelivered=True)], "farm").duplicates == 0
    assert closes(journal)


@pytest.mark.parametrize("arrival", [heartbeat, rubbish])
def test_a_redelivery_is_recognised_after_a_crash(path: Path, arrival: Arrive) -> None:
    before = Journal(path)
    before.append([arrival()])
    before.acknowledged()
    before.append([arrival()])  # notes what was acknowledged until then
    before.close()
    after = Journal(path)
    again = after.append([arrival(redelivered=True), arrival(redelivered=True)])
    assert again.duplicates == 1
    after.close()


def test_an_id_used_for_another_message_is_a_dead_letter(journal: Journal) -> None:
    first, other = detection(1, message_id="7"), detection(1, message_id="7", text="other")
    assert journal.append([first, first]).outcomes == [Stored(1), Duplicate(1)]
    for batch in ([other], [detection(2), other]):
        outcome = journal.append(batch).outcomes[-1]
        assert isinstance(outcome, DeadLetter)
        assert outcome.rejected.code is ReasonCode.ID_REUSED
        assert "'7' was used before" in outcome.rejected.render()
    assert closes(journal)


def test_such_a_dead_letter_that_is_redelivered_is_kept_once(journal: Journal) -> None:
    first, (message, identity) = (
        detection(1, message_id="7"),
        detection(1, message_id="7", text="x"),
    )
    journal.append([first, (message, identity)])
    again = Message(message.topic, message.payload, 9, message.node, redelivered=True)
    assert journal.append([(again, identity)]).outcomes == [Duplicate()]
    assert journal.ledger().dead_letters == 1
    assert closes(journal)


def test_neighbours_in_time_are_neighbours_on_disk(journal: Journal) -> None:
    journal.append([detection(n) for n in (3, 1, 2)])
    journal.add_sink("api")
    entries = sorted(journal.read("api", 10), key=lambda entry: entry.key)
    assert [json.loads(e.message.payload)["n"] for e in entries] == [1, 2, 3]


def test_each_sink_has_its_own_cursor_and_the_ledger_closes(journal: Journal) -> None:
    journal.append([detection(n) for n in range(5)])
    for sink in ("api", "store"):
        journal.add_sink(sink)
    journal.settle("api", [1, 2, 3], {2: Refused("species: too long")})
    assert [e.offset for e in journal.read("api", 10)] == [4, 5]
    assert [e.offset for e in journal.read("store", 10)] == [1, 2, 3, 4, 5]
    ledger = journal.ledger()
    assert (ledger.sinks["api"].delivered, ledger.sinks["api"].parked) == (2, 1)
    assert (ledger.sinks["api"].backlog, ledger.sinks["store"].backlog) == (2, 5)
    assert ledger.sinks["store"].lag_seconds > 0
    assert closes(journal)


def test_a_replayed_record_is_offered_first_and_parked_again_if_refused(journal: Journal) -> None:
    journal.append([detection(n) for n in range(4)])
    journal.add_sink("api")
    journal.settle("api", [1, 2, 3], {1: Refused("no"), 2: Refused("no")})
    assert journal.request_replay("api", [1, 2, 3]) == 2
    assert journal.ledger().sinks["api"].backlog == 3
    assert [e.offset for e in journal.read("api", 10)] == [1, 2]
    journal.settle("api", [1, 2], {2: Refused("still no")})
    assert [e.offset for e in journal.read("api", 10)] == [4]
    assert journal.ledger().sinks["api"].delivered == 2
    assert closes(journal)


def test_a_sink_is_offered_all_again_from_where_it_is_told(journal: Journal) -> None:
    journal.append([detection(n) for n in range(6)])
    journal.add_sink("store")
    journal.settle("store", [1, 2, 3, 4, 5], {1: Refused("no"), 3: Refused("no"), 5: Refused("no")})
    journal.request_replay("store", [5])
    assert journal.backfill("store", 3) == 2  # 3 and 4: 5 waited already
    figures = journal.ledger().sinks["store"]
    assert (figures.delivered, figures.parked, figures.backlog) == (1, 1, 4)
    assert closes(journal)
    assert [e.offset for e in journal.read("store", 10)] == [3, 4, 5, 6]
    assert journal.backfill("store", 4) == 0  # it waits already
    journal.settle("store", [3, 4, 5, 6], {3: Refused("still no")})
    figures = journal.ledger().sinks["store"]
    assert (figures.delivered, figures.parked, figures.backlog) == (4, 2, 0)
    assert closes(journal)


def test_a_sink_that_has_had_nothing_may_begin_later_than_the_journal(journal: Journal) -> None:
    journal.append([detection(n) for n in range(6)])
    journal.add_sink("store")
    in_flight = [e.offset for e in journal.read("store", 3)]
    assert journal.backfill("store", 4) == -3
    assert journal.settle("store", in_flight, {1: Refused("no")}) == 0
    figures = journal.ledger().sinks["store"]
    assert (figures.skipped, figures.backlog, figures.parked) == (3, 3, 0)
    assert closes(journal)
    assert journal.backfill("store", 1) == 3
    assert [e.offset for e in journal.read("store", 2)] == [1, 2]
    journal.settle("store", [1, 2], {})
    assert journal.backfill("store", 1, may_repeat=False) == 0
    assert journal.backfill("store", 4) == 0, "what it would pass over is nobody's to drop"
    assert closes(journal)


@pytest.mark.parametrize("in_flight", ["new", "replayed"])
def test_what_is_written_while_a_sink_is_told_to_begin_anew_is_offered_again(
    journal: Journal, in_flight: str
) -> None:
    journal.append([detection(n) for n in range(8)])
    journal.add_sink("store")
    journal.settle("store", [1, 2, 3, 4, 5], {1: Refused("no"), 5: Refused("no")})
    journal.request_replay("store", [1, 5] if in_flight == "replayed" else [])
    offsets = [e.offset for e in journal.read("store", 10)]
    assert offsets == ([1, 5] if in_flight == "replayed" else [6, 7, 8])
    journal.backfill("store", 2)
    # What was parked before that is still: only that is settled now.
    counted = journal.settle("store", offsets, {offsets[-1]: Refused("no")})
    assert counted == (1 if in_flight == "replayed" else 0)
    assert [e.offset for e in journal.read("store", 10)] == [2, 3, 4, 5, 6, 7, 8]
    assert closes(journal)


def test_what_retention_has_removed_is_not_offered_again(journal: Journal) -> None:
    journal.append([detection(n) for n in range(6)])
    journal.add_sink("store")
    journal.settle("store", [1, 2, 3, 4, 5], {2: Refused("no")})
    assert journal.trim(1_004) == 3
    assert journal.backfill("store", 1) == 1
    assert [e.offset for e in journal.read("store", 10)] == [5, 6]
    figures = journal.ledger().sinks["store"]
    assert (figures.delivered, figures.parked, figures.skipped) == (3, 1, 0)
    assert closes(journal)


def test_what_is_lost_is_skipped_again(journal: Journal, path: Path) -> None:
    journal.append([detection(n) for n in range(6)])
    with contextlib.closing(apsw.Connection(str(path))) as beside:
        beside.execute("DELETE FROM record WHERE offset IN (2, 3); INSERT INTO lost VALUES (2, 3)")
    journal.add_sink("store")
    for _ in range(2):
        assert [e.offset for e in journal.read("store", 10)] == [1, 4, 5, 6]
        assert journal.settle("store", [1, 4, 5, 6], {}) == 4
        figures = journal.ledger().sinks["store"]
        assert (figures.delivered, figures.skipped, figures.backlog) == (4, 2, 0)
        journal.backfill("store", 1)
        assert journal.ledger().sinks["store"].backlog == 6
        assert closes(journal)


@pytest.mark.parametrize("gone", [1, 3, 4])
def test_one_record_that_is_gone_without_a_word_is_not_passed_over(
    journal: Journal, path: Path, gone: int
) -> None:
    journal.append([detection(n) for n in range(6)])
    journal.add_sink("store")
    with contextlib.closing(apsw.Connection(str(path))) as beside:
        beside.execute("DELETE FROM record WHERE offset = ?", (gone,))
    with pytest.raises(apsw.CorruptError, match=f"after offset {gone - 1} comes {gone + 1}"):
        journal.read("store", 10)
    there = [offset for offset in range(1, 7) if offset != gone]
    assert journal.settle("store", there, {}) == gone - 1
    assert journal.ledger().sinks["store"].delivered == gone - 1


@pytest.mark.parametrize(("first", "skipped"), [(1, 0), (2, 0), (3, 1), (4, 2), (5, 2)])
def test_of_what_is_lost_only_what_comes_again_is_no_longer_skipped(
    journal: Journal, path: Path, first: int, skipped: int
) -> None:
    journal.append([detection(n) for n in range(6)])
    with contextlib.closing(apsw.Connection(str(path))) as beside:
        beside.execute("DELETE FROM record WHERE offset IN (2, 3); INSERT INTO lost VALUES (2, 3)")
    journal.add_sink("store")
    journal.settle("store", [1, 4, 5, 6], {})
    journal.backfill("store", first)
    figures = journal.ledger().sinks["store"]
    assert (figures.skipped, figures.delivered) == (skipped, first - 1 - skipped)
    assert figures.backlog == 7 - first
    assert closes(journal)


def test_a_pause_outlives_a_restart_and_holds_up_nobody_else(path: Path) -> None:
    journal = Journal(path)
    journal.append([detection(n) for n in range(3)])
    for sink in ("api", "store"):
        journal.add_sink(sink)
    journal.pause("store")
    since_ms = journal.ledger().sinks["store"].paused_at_ms
    assert since_ms is not None
    journal.pause("store")
    journal.close()
    journal = Journal(path)
    journal.add_sink("store")
    assert journal.is_paused("store")
    assert journal.ledger().sinks["store"].paused_at_ms == since_ms
    assert not journal.is_paused("api")
    journal.resume("store")
    assert not journal.is_paused("store")
    journal.close()


def test_a_sink_that_is_forgotten_holds_up_retention_no_longer(journal: Journal) -> None:
    journal.append([detection(n) for n in range(4)])
    for sink in ("api", "gone"):
        journal.add_sink(sink)
    journal.settle("api", [1, 2, 3, 4], {})
    journal.settle("gone", [1], {1: Refused("no")})
    assert journal.trim(10**13) == 0
    journal.forget("gone")
    assert journal.trim(10**13) == 3
    assert list(journal.ledger().sinks) == ["api"]
    assert closes(journal)


def test_a_read_is_bounded_in_bytes_but_never_empty(journal: Journal) -> None:
    big = "x" * 5_000_000
    journal.append([detection(n, text=big) for n in range(3)])
    journal.add_sink("api")
    assert [e.offset for e in journal.read("api", 10)] == [1, 2]


def test_a_replayed_dead_letter_moves_in_the_ledger(journal: Journal) -> None:
    journal.append([rubbish(), detection(1)])
    message, identity = detection(2)
    assert journal.replay_dead_letter(1, message, identity) == Stored(2)
    ledger = journal.ledger()
    assert (ledger.received, ledger.stored, ledger.dead_letters) == (2, 2, 0)
    journal.append([rubbish()])
    assert journal.replay_dead_letter(2, message, identity) == Duplicate(2)
    assert closes(journal)


def test_retention_keeps_what_a_sink_needs_what_is_parked_and_the_newest(journal: Journal) -> None:
    journal.append([detection(n) for n in range(6)])
    journal.add_sink("api")
    far = 10**13
    assert journal.trim(far) == 0
    journal.settle("api", [1, 2, 3, 4], {2: Refused("no")})
    assert journal.trim(1_002) == 1  # only the first was received before
    assert journal.trim(far) == 2
    assert journal.trim(far) == 0
    journal.settle("api", [5, 6], {})
    assert journal.trim(far) == 1
    journal.add_sink("late")
    assert journal.ledger().sinks["late"].skipped == 5
    assert [e.offset for e in journal.read("late", 10)] == [6]
    assert journal.append([detection(10)]).stored == 1
    assert [e.offset for e in journal.read("late", 10)] == [6, 7]
    journal.request_replay("api", [2])
    assert [e.offset for e in journal.read("api", 10)] == [2]
    assert closes(journal)


def test_at_its_cap_it_refuses_the_batch_and_changes_nothing(path: Path) -> None:
    journal = Journal(path, bytes_max=200_000)
    number = 0
    with pytest.raises(JournalFull, match="IOT_JOURNAL_BYTES_MAX"):
        for number in range(1_000):
            journal.append([detection(number, text="x" * 1_000)])
    assert journal.ledger().stored == number
    assert closes(journal)
    journal.close()


def test_it_keeps_free_disk_free(path: Path) -> None:
    journal = Journal(path, disk_free_bytes_min=2**60)
    with pytest.raises(JournalFull, match="IOT_DISK_FREE_BYTES_MIN"):
        journal.append([detection(1)])
    journal.close()


def test_what_room_is_left_is_below_both_limits_and_never_less_than_none(path: Path) -> None:
    capped = Capacity(path, 1_000, 0)
    assert [capped.left_bytes(used) for used in (0, 400, 1_000, 2_000)] == [1_000, 600, 0, 0]
    capped.require(999)
    with pytest.raises(JournalFull):
        capped.require(1_000)
    assert Capacity(path, 0, 2**60).left_bytes(0) == 0
    uncapped = Capacity(path, 0, 0)
    assert 0 < uncapped.left_bytes(2**60) <= shutil.disk_usage(path.parent).total
    uncapped.require(2**60)


def test_what_was_refused_among_what_was_put_somewhere_has_no_place(
    journal: Journal, path: Path
) -> None:
    journal.append([detection(n) for n in range(6)])
    journal.add_sink("objects")
    assert journal.settle("objects", [1, 2, 3, 4, 5], {3: Refused("no")}, "s3://clips") == 5
    assert journal.settle("objects", [6], {}, "s3://clips") == 1
    there = [offset for offset in range(1, 8) if journal.place_of("objects", offset)]
    assert there == [1, 2, 4, 5, 6]
    with contextlib.closing(connect(path)) as database:
        rows = database.execute("SELECT first, last FROM place ORDER BY id").fetchall()
    assert rows == [(1, 2), (4, 6)]


def test_where_another_process_writes_for_too_long_nothing_is_changed_and_it_passes(
    journal: Journal, path: Path
) -> None:
    journal._db.set_busy_timeout(10)
    with contextlib.closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            JournalFull, match=r"another process has been writing to .* end that process"
        ):
            journal.append([detection(1)])
        assert journal.ledger().received == 0
        other.execute("ROLLBACK")
    assert journal.append([detection(1)]).stored == 1


def test_a_flipped_bit_is_found_when_it_is_read(path: Path) -> None:
    journal = Journal(path)
    journal.append([detection(1), detection(2, message_id="a"), heartbeat()])
    journal.add_sink("api")
    assert not any(e.damaged for e in journal.read("api", 9))
    db = apsw.Connection(str(path))
    db.execute("UPDATE record SET payload = CAST(replace(payload, 'n', 'o') AS BLOB)")
    assert all(e.damaged for e in journal.read("api", 9))
    journal.close()


def test_a_newer_journal_and_a_file_that_is_none_are_refused_in_words(path: Path) -> None:
    Journal(path).close()
    apsw.Connection(str(path)).execute("PRAGMA user_version = 99")
    with pytest.raises(JournalUnusable, match="newer echo-ingest"):
        Journal(path)
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(JournalUnusable, match="sets the file aside"):
        Journal(path)


def test_a_session_is_remembered(path: Path) -> None:
    journal = Journal(path)
    assert not journal.remember_session("echo-ingest@localhost")
    journal.close()
    journal = Journal(path)
    assert journal.remember_session("echo-ingest@localhost")
    journal.close()


def _append_for_ever(path: Path, returned: "multiprocessing.Queue[int]") -> None:
    journal = Journal(path)
    number = 0
    while True:
        journal.append([detection(number + n, text="x" * 300) for n in range(50)])
        number += 50
        returned.put(number)


def test_what_append_returned_for_is_there_after_sigkill(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        path.unlink(missing_ok=True)
        returned: multiprocessing.Queue[int] = context.Queue()
        writer = context.Process(target=_append_for_ever, args=(path, returned), daemon=True)
        writer.start()
        promised = 0
        while promised < 2_000:
            promised = returned.get(timeout=30)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        while not returned.empty():
            promised = returned.get()
        journal = Journal(path)
        stored = journal.ledger().stored
        assert stored >= promised
        assert stored % 50 == 0
        assert closes(journal)
        journal.close()


def test_a_transaction_that_fails_leaves_nothing_and_the_next_one_may_begin(path: Path) -> None:
    with contextlib.closing(connect(path)) as database:
        with pytest.raises(ZeroDivisionError), transaction(database):
            database.execute("CREATE TABLE made (number)")
            raise ZeroDivisionError
        with transaction(database):
            assert database.execute("SELECT count(*) FROM sqlite_schema").get == 0
