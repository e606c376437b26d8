"""What people can read from a journal, beside the service that writes it."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import msgspec
import pytest

from echo_ingest.decode import Decoder
from echo_ingest.journal import Arrival, Journal, JournalUnusable
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.decoding import Unreadable, decode_entry
from echo_ingest.journal.entries import READ_BYTES_MAX, Entry
from echo_ingest.journal.reader import PAGE_ROWS, JournalReader, ReceivedAhead, Selection
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    Identity,
    Message,
    Rejected,
)

NOON = datetime(2026, 9, 14, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def telemetry(number: int, node: str = "n1", *, at: datetime | None = None) -> Arrival:
    """Return a status report; its time is the device's if `at` is given."""
    received_at_ms = NOON_MS + number * 1000
    fields: dict[str, object] = {"nodeId": node, "status": "online", "n": number}
    if at is not None:
        fields["timestamp"] = at.isoformat()
    message = Message(f"t/{node}", msgspec.json.encode(fields), received_at_ms, node)
    return message, Identity("telemetry", int(at.timestamp()) if at else 0)


def movement(number: int) -> Arrival:
    message = Message("t/n9", b'{"m":%d}' % number, NOON_MS, "n9")
    return message, Identity("movement", NOON_MS // 1000)


def rejected(number: int, reason: str, payload: bytes = b"x", node: str = "n1") -> Arrival:
    return Message(f"t/{node}", b"%d %s" % (number, payload), NOON_MS, node), Rejected(
        ReasonCode.UNKNOWN_FORM, reason
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path)
    yield journal
    journal.close()


@pytest.fixture
def reader(journal: Journal, path: Path) -> Iterator[JournalReader]:
    reader = JournalReader(path, Decoder(1_000_000))
    yield reader
    reader.close()


def test_the_newest_come_first_and_pages_join(journal: Journal, reader: JournalReader) -> None:
    journal.append([telemetry(n) for n in range(10)])
    first = reader.newest(Selection(), 4)
    second = reader.newest(Selection(), 100, before=first[-1].offset)
    assert [e.offset for e in first + second] == list(range(10, 0, -1))
    assert [e.offset for e in reader.after(Selection(), 7)] == [8, 9, 10]


def test_a_selection_narrows_by_node_and_kind(journal: Journal, reader: JournalReader) -> None:
    journal.append([telemetry(0, "n1"), telemetry(1, "n2"), movement(2)])
    assert [e.message.node for e in reader.newest(Selection(node="n2"), 9)] == ["n2"]
    assert [e.offset for e in reader.newest(Selection(kind="movement"), 9)] == [3]
    assert reader.newest(Selection(node="n2", kind="movement"), 9) == []


def test_times_select_by_the_devices_clock_or_else_by_receipt(
    journal: Journal, reader: JournalReader
) -> None:
    long_ago = datetime(2024, 1, 1, tzinfo=UTC)
    journal.append([telemetry(0, at=long_ago), telemetry(1), telemetry(2, at=NOON)])

    def offsets(since: datetime | None, until: datetime | None) -> list[int]:
        selection = Selection(since=since, until=until)
        found = [e.offset for e in reader.after(selection, 0)]
        assert [e.offset for e in reader.newest(selection, 9)] == found[::-1]
        assert [e.offset for e in reader.stretch(selection, 0, 3, 0).entries] == found
        return found

    assert offsets(NOON, None) == [2, 3]
    assert offsets(None, NOON) == [1]
    assert offsets(long_ago, long_ago + timedelta(seconds=1)) == [1]
    assert offsets(NOON, NOON + timedelta(seconds=1)) == [3]
    assert offsets(NOON + timedelta(seconds=2), None) == []


def test_a_page_of_a_time_is_full_however_many_others_lie_between(
    journal: Journal, reader: JournalReader
) -> None:
    hour = timedelta(hours=1)
    at = [NOON if number % 150 == 0 else NOON - hour for number in range(PAGE_ROWS * 3)]
    journal.append([telemetry(number, at=each) for number, each in enumerate(at)])
    selection = Selection(since=NOON)
    assert [e.offset for e in reader.after(selection, 0)] == [1, 151, 301, 451]
    assert [e.offset for e in reader.newest(selection, 3)] == [451, 301, 151]
    assert [e.offset for e in reader.newest(selection, 3, before=151)] == [1]


@pytest.mark.parametrize("leaps_days", [(3_650,), (-60,), (3_650, 0, -60, 0), (-60, 3_650, 0)])
def test_times_are_found_in_whichever_order_the_days_were_seen(
    journal: Journal, reader: JournalReader, leaps_days: tuple[int, ...]
) -> None:
    """A journal whose clock leapt: each record is found by its own time of receipt."""
    received: list[datetime] = []
    for passed_days, leap_days in enumerate((0, *leaps_days)):
        for hour in range(0, 48, 7):
            received.append(NOON + timedelta(days=passed_days * 2 + leap_days, hours=hour))
            message = telemetry(len(received))[0]
            at_ms = int(received[-1].timestamp() * 1000)
            message = msgspec.structs.replace(message, received_at_ms=at_ms)
            journal.append([(message, Identity("telemetry"))])
    for since in received:
        for until in (since + timedelta(hours=1), since + timedelta(days=30), None):
            selection = Selection(since=since, until=until)
            assert [e.offset for e in reader.after(selection, 0)] == [
                offset
                for offset, at in enumerate(received, 1)
                if since <= at and (until is None or at < until)
            ]


def test_the_span_of_a_time_begins_with_the_day_before_and_ends_with_the_newest(
    journal: Journal, reader: JournalReader
) -> None:
    assert reader.span(Selection()) == (0, 0)
    journal.append([telemetry(0), telemetry(1)])
    journal.append([telemetry(3 * 86_400), telemetry(3 * 86_400 + 1)])
    assert reader.span(Selection()) == (1, 4)
    assert reader.span(Selection(since=NOON)) == (1, 4)
    assert reader.span(Selection(until=NOON)) == (1, 4)
    assert reader.span(Selection(since=NOON + timedelta(days=3))) == (3, 4)
    assert reader.span(Selection(since=NOON + timedelta(days=5))) == (0, 0)


def test_a_stretch_tells_what_is_gone(journal: Journal, reader: JournalReader) -> None:
    journal.append([telemetry(number, f"n{number % 2}") for number in range(10)])
    journal.trim(NOON_MS + 2_000)
    journal.add_sink("api")
    journal.settle("api", range(3, 8), {5: Refused("parked")})
    trimmed = reader.trimmed_offset()
    assert trimmed == 2
    journal.trim(NOON_MS + 7_000)
    stretch = reader.stretch(Selection(node="n0"), 0, 8, trimmed)
    assert [entry.offset for entry in stretch.entries] == [5]
    assert (stretch.up_to, stretch.gone) == (8, 4)
    assert reader.stretch(Selection(), 8, 10, trimmed).gone == 0


def test_a_page_holds_about_8_mib_however_many_rows_are_asked_for(
    journal: Journal, reader: JournalReader
) -> None:
    payload = b"x" * (READ_BYTES_MAX // 3)
    for number in range(8):
        journal.append([rejected(number, "large", payload)])
        message, identity = telemetry(number)
        large = Message(message.topic, payload + b"%d" % number, message.received_at_ms, "n1")
        journal.append([(large, identity)])
    assert len(reader.newest(Selection(), 100)) == 3
    assert len(reader.after(Selection(), 0)) == 3
    assert [letter.id for letter in reader.dead_letters()] == list(range(1, 9))


def test_dead_letters_are_found_by_node_reason_and_id(
    journal: Journal, reader: JournalReader
) -> None:
    journal.append([rejected(n, f"reason {n % 2}", node=f"n{n % 3}") for n in range(PAGE_ROWS * 2)])
    assert sum(1 for _ in reader.dead_letters(reason="reason 1")) == PAGE_ROWS
    assert reader.count_dead_letters("n0", "reason 0") == len(
        list(reader.dead_letters(0, "n0", "reason 0"))
    )
    newest = [letter.id for letter in reader.dead_letters(newest_first=True)]
    assert newest == list(range(PAGE_ROWS * 2, 0, -1))
    letter = reader.dead_letter(7)
    assert letter is not None
    assert letter.message.payload == b"6 x"
    assert reader.dead_letter(PAGE_ROWS * 2 + 1) is None


def test_dead_letters_may_be_replayed_while_they_are_read(
    journal: Journal, reader: JournalReader
) -> None:
    journal.append([rejected(n, "unknown") for n in range(PAGE_ROWS + 5)])
    for letter in reader.dead_letters():
        _, identity = telemetry(letter.id)
        assert isinstance(identity, Identity)
        journal.replay_dead_letter(letter.id, letter.message, identity)
    assert reader.ledger().dead_letters == 0
    assert reader.last_offset() == PAGE_ROWS + 5
    assert reader.audit() == []


def test_parked_records_are_found_by_sink_node_and_reason(
    journal: Journal, reader: JournalReader
) -> None:
    rows = PAGE_ROWS + 10
    journal.append([telemetry(n, f"n{n % 2}") for n in range(rows)])
    for sink in ("api", "other"):
        journal.add_sink(sink)
    offsets = range(1, rows + 1)
    journal.settle("api", offsets, {o: Refused(f"HTTP {400 + o % 3}") for o in offsets})
    journal.settle("other", offsets, {3: Refused("no room")})
    assert [p.offset for p in reader.parked("api")] == list(offsets)
    assert [p.offset for p in reader.parked(newest_first=True)][:2] == [3, rows]
    assert reader.count_parked(reason="HTTP 400") == rows // 3
    assert {p.node for p in reader.parked(node="n1")} == {"n1"}
    assert [(p.sink, p.reason, p.size_bytes) for p in reader.parked_at(3)] == [
        ("api", "HTTP 400", 39),
        ("other", "no room", 39),
    ]
    journal.request_replay("other", [3])
    assert [p.replay_requested for p in reader.parked("other")] == [True]
    assert reader.audit() == []


def test_what_is_stored_gives_its_record_or_says_why_there_is_none() -> None:
    decoder = Decoder(1_000_000)
    status = Message("iotingestion/n1", b'{"status":"online"}', NOON_MS, "n1")
    whole = Entry(1, b"k" * 16, status, damaged=False)
    assert decode_entry(decoder, whole) == decoder.decode(status)

    damaged = decode_entry(decoder, msgspec.structs.replace(whole, damaged=True))
    assert isinstance(damaged, Unreadable)
    assert (damaged.code, damaged.render()) == (
        ReasonCode.DAMAGED,
        "damaged: the disk returns other bytes than were stored",
    )

    cut_off = msgspec.structs.replace(status, payload=b'{"status":')
    unreadable = decode_entry(decoder, msgspec.structs.replace(whole, message=cut_off))
    assert isinstance(unreadable, Unreadable)
    assert unreadable.code == ReasonCode.UNREADABLE_NOW
    assert unreadable.render().startswith("it cannot be decoded any more: the JSON")


def test_the_audit_names_the_sum_that_does_not_close(
    journal: Journal, reader: JournalReader, path: Path
) -> None:
    journal.add_sink("api")
    journal.append([telemetry(n) for n in range(10)] + [rejected(0, "unknown")])
    journal.settle("api", [1, 2, 3], {2: Refused("no")})
    assert reader.audit() == []
    tampering = apsw.Connection(str(path))
    tampering.execute("DELETE FROM record WHERE offset = 4; DELETE FROM dead_letter")
    tampering.execute("UPDATE sink SET delivered = 7")
    tampering.close()
    assert reader.audit() == [
        "stored less what retention removed: 10, but the records after it: 9",
        "dead letters: 1, but rows of dead letters: 0",
        "what api has settled: 3, but skipped, delivered and parked together: 8",
    ]


def test_the_audit_closes_after_retention_too(journal: Journal, reader: JournalReader) -> None:
    journal.append([telemetry(n) for n in range(10)])
    journal.trim(NOON_MS + 5_000)
    journal.add_sink("late")
    assert [e.offset for e in reader.after(Selection(), 0)] == [6, 7, 8, 9, 10]
    assert reader.audit() == []


def test_it_reads_while_the_service_writes_and_after_it_has_gone(path: Path) -> None:
    journal = Journal(path)
    reader = JournalReader(path)
    for number in range(3):
        journal.append([telemetry(number)])
        assert reader.last_offset() == number + 1
    reader.close()
    journal.close()
    late = JournalReader(path)
    assert late.ledger().stored == 3
    late.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no journal"),
        (b"", "holds no journal yet"),
        (b"x" * 4096, "cannot be opened"),
    ],
)
def test_what_is_no_journal_is_said_with_a_remedy(
    path: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JournalUnusable, match=words):
        JournalReader(path)


@pytest.mark.parametrize(
    ("table", "read"),
    [
        ("record", lambda reader: reader.newest(Selection(), 10)),
        ("dead_letter", lambda reader: list(reader.dead_letters())),
    ],
)
def test_rows_that_a_disk_has_put_out_of_order_end_the_reading(
    path: Path, table: str, read: Callable[[JournalReader], object]
) -> None:
    with contextlib.closing(Journal(path)) as journal:
        journal.append([telemetry(n) for n in range(3)] + [rejected(n, "no") for n in range(3)])
    with contextlib.closing(apsw.Connection(str(path))) as database:
        sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        page_bytes = database.execute("PRAGMA page_size").get
        at = (database.execute(sql, (table,)).get - 1) * page_bytes
    data = bytearray(path.read_bytes())
    assert data[at] == 0x0D  # a leaf of a table: where its cells are begins at its byte 8
    data[at + 8 : at + 12] = data[at + 10 : at + 12] + data[at + 8 : at + 10]
    path.write_bytes(data)
    with (
        contextlib.closing(JournalReader(path, Decoder(1_000_000))) as reader,
        pytest.raises(JournalUnusable, match="out of order"),
    ):
        read(reader)


def test_nodes_are_counted_by_when_they_were_last_heard(
    journal: Journal, reader: JournalReader
) -> None:
    minute_ms, hour_ms, day_ms = 60_000, 3_600_000, 86_400_000
    assert reader.nodes_heard(NOON_MS) == {"hour": 0, "day": 0, "week": 0}
    ages_ms = {
        "now": [9 * day_ms, 0],
        "lately": [59 * minute_ms],
        "today": [hour_ms, 3 * day_ms],
        "on sunday": [day_ms, 8 * day_ms],
        "gone": [7 * day_ms],
        None: [0],  # nobody
    }
    journal.append(
        [
            (Message("t", b"%d" % number, NOON_MS - age_ms, node), Identity("telemetry", number))
            for node, ages in ages_ms.items()
            for number, age_ms in enumerate(ages, 1)
        ]
    )
    assert reader.nodes_heard(NOON_MS) == {"hour": 2, "day": 3, "week": 4}


def heard(journal: Journal, node: str, *at_ms: int) -> None:
    for number, each_ms in enumerate(at_ms):
        message = Message("t", b"%s %d %d" % (node.encode(), number, each_ms), each_ms, node)
        journal.append([(message, Identity("telemetry", 1 + number))])


@pytest.mark.parametrize("leap_ms", [9 * 365 * DAY_MS, 60 * DAY_MS, 2 * DAY_MS, 5 * HOUR_MS])
@pytest.mark.parametrize("forth", [True, False])
def test_when_a_node_was_heard_survives_a_wrong_clock_once_a_true_message_came(
    journal: Journal, reader: JournalReader, leap_ms: int, forth: bool
) -> None:
    wrong_ms = NOON_MS + leap_ms * (1 if forth else -1)
    heard(journal, "n1", NOON_MS - HOUR_MS, wrong_ms, wrong_ms + 1, NOON_MS + 1_000)
    heard(journal, "n2", NOON_MS - 8 * DAY_MS, wrong_ms)
    now_ms = NOON_MS + 2_000
    contact = reader.last_heard(now_ms)["n1"]
    assert contact.last_heard_at_ms == NOON_MS + 1_000
    same_day = leap_ms == 5 * HOUR_MS
    assert contact.received_today == (4 if same_day else 2)
    of_n2 = 1 if same_day else 0  # nothing came since that could tell more
    in_days = 1 if leap_ms <= 2 * DAY_MS and not forth and not same_day else 0
    assert reader.nodes_heard(now_ms) == {
        "hour": 1 + (of_n2 if forth else 0),
        "day": 1 + of_n2,
        "week": 1 + of_n2 + in_days,
    }
    if not same_day and forth:
        assert reader.last_heard(now_ms)["n2"].last_heard_at_ms == NOON_MS - 8 * DAY_MS


def test_a_node_that_was_heard_by_a_wrong_clock_alone_was_heard_all_the_same(
    journal: Journal, reader: JournalReader
) -> None:
    heard(journal, "n1", NOON_MS + 60 * DAY_MS, NOON_MS + 61 * DAY_MS)
    assert reader.last_heard(NOON_MS)["n1"].last_heard_at_ms == NOON_MS + 60 * DAY_MS
    assert reader.nodes_heard(NOON_MS) == {"hour": 0, "day": 0, "week": 0}


def test_a_time_of_receipt_that_is_still_to_come_is_told(
    journal: Journal, reader: JournalReader
) -> None:
    assert reader.received_ahead(NOON_MS) is None
    heard(journal, "n1", NOON_MS, NOON_MS + HOUR_MS)
    assert reader.received_ahead(NOON_MS) is None
    heard(journal, "n1", NOON_MS + HOUR_MS + 1)
    assert reader.received_ahead(NOON_MS) == ReceivedAhead(NOON_MS + HOUR_MS + 1, True)
    heard(journal, "n1", NOON_MS + 60 * DAY_MS, NOON_MS + 1_000)
    assert reader.received_ahead(NOON_MS) == ReceivedAhead(NOON_MS + 60 * DAY_MS, False)
    assert reader.received_ahead(NOON_MS + 60 * DAY_MS) is None
