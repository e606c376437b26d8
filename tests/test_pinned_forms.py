"""A stored message is decoded by the form of then, whatever becomes of the forms since."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import apsw
import pytest
from msgspec import structs

from echo_ingest.admin.dead_letters import preview, replay
from echo_ingest.decode import Decoder
from echo_ingest.decode.forms import Forms
from echo_ingest.decode.payloads import Payloads
from echo_ingest.journal import Appended, Journal
from echo_ingest.journal.decoding import Unreadable, decode_entry
from echo_ingest.journal.entries import Entry
from echo_ingest.journal.ignored_days import IgnoredDay
from echo_ingest.journal.pinned_forms import loader_of
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.journal.recovery.salvage import salvage
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    AnyRecord,
    DeadLetter,
    Detection,
    Duplicate,
    Ignored,
    Message,
    Outcome,
    Stored,
    Telemetry,
)
from tests.forms.binary_examples import encrypted
from tests.test_salvage import zero_root

PAYLOAD_BYTES_MAX = 1_000_000
AT_MS = 1_795_000_600_000
POND = """
name = "pond"
[match]
topic = "pond/{node}/heard"
has = ["heard"]
[identity]
message_id = "number"
[[record]]
kind = "detection"
species = "heard"
observed_at = "at"
confidence = { from = "score", scale = "percent" }
"""
AS_FRACTION = POND.replace('"percent"', '"fraction"')
FROG = b'{"number": 7, "heard": "Crinia signifera", "score": 1, "at": 1795000000}'
EDGE_PREDICTION = (
    b'{"type": "prediction", "id": "n1", "timestamp": 1795000000, "sensor_id": "ridge-01",'
    b' "species": "Ninox strenua", "confidence": 87.5}'
)
FRAME = """
name = "frame"
[match]
topic = "gateways/{gateway}/up"
has = ["device", "count"]
[identity]
message_id = { from = ["device", "count"], join = "-" }
scope = "form"
[[record]]
kind = "detection"
node = "device"
species = "species"
"""
PACKET = """
name = "packet"
[match]
topic = "msh/#"
payload = "meshtastic"
[identity]
message_id = { from = ["from", "id"], join = "-" }
scope = "form"
[[record]]
kind = "telemetry"
node = "sender"
status = "payload.text"
"""
CHANNEL_KEY = bytes(range(16))
LOG = 'name = "log"\nignore = true\n[match]\ntopic = "+/log"\npayload = "any"\n'


def heard(payload: bytes = FROG, topic: str = "pond/north/heard") -> Message:
    return Message(topic, payload, AT_MS)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with contextlib.closing(Journal(tmp_path / "journal.db")) as journal:
        yield journal


def decoder(journal: Journal, *sources: str, keys: Mapping[str, bytes] | None = None) -> Decoder:
    forms = Forms.of_sources(
        [(f"{number}.toml", text.encode()) for number, text in enumerate(sources)],
        loader=loader_of(journal.path),
        payloads=Payloads(keys),
    )
    assert not forms.errors
    return Decoder(PAYLOAD_BYTES_MAX, forms=forms)


def append(journal: Journal, by: Decoder, *messages: Message) -> Appended:
    return journal.append([(message, by.identify(message)) for message in messages])


def entries(journal: Journal) -> list[Entry]:
    with contextlib.closing(JournalReader(journal.path)) as reader:
        assert reader.audit() == []
        return reader.after(Selection(), 0)


def stored(journal: Journal, by: Decoder) -> list[tuple[AnyRecord, ...] | Unreadable]:
    return [decode_entry(by, entry) for entry in entries(journal)]


def confidence(journal: Journal, by: Decoder) -> float | None:
    (records,) = stored(journal, by)
    assert isinstance(records, tuple), records
    assert isinstance(records[0], Detection)
    return records[0].confidence


def test_a_form_that_changes_or_goes_changes_nothing_that_was_stored(journal: Journal) -> None:
    now = decoder(journal, POND)
    assert append(journal, now, heard()).outcomes == [Stored(1)]
    assert confidence(journal, now) == 0.01
    for later in (decoder(journal, AS_FRACTION), decoder(journal), decoder(journal, FRAME)):
        assert confidence(journal, later) == 0.01
    fresh = decoder(journal, AS_FRACTION).decode(heard())
    assert isinstance(fresh, tuple) and isinstance(fresh[0], Detection)
    assert fresh[0].confidence == 1.0


def test_what_was_encrypted_is_read_by_the_form_of_then_and_the_key_of_now(
    journal: Journal,
) -> None:
    keys = {"Frogs": CHANNEL_KEY}
    by = decoder(journal, PACKET, keys=keys)
    heard = encrypted(10, b"door open", channel="Frogs", key=CHANNEL_KEY)
    topic = "msh/ANZ/2/e/Frogs/!00000001"
    assert append(journal, by, Message(topic, heard, AT_MS)).outcomes == [Stored(1)]
    for later in (by, decoder(journal, keys=keys)):
        (records,) = stored(journal, later)
        assert isinstance(records, tuple) and isinstance(records[0], Telemetry)
        assert records[0].health.status == "door open"
    (unreadable,) = stored(journal, decoder(journal, PACKET))
    assert isinstance(unreadable, Unreadable)
    assert '"Frogs", and it has no key here' in unreadable.detail


def test_an_encrypted_packet_that_another_gateway_hears_is_the_same(journal: Journal) -> None:
    by = decoder(journal, PACKET.replace('"sender"', '"channel_name"'), keys={"Frogs": CHANNEL_KEY})
    one, same, other = (
        Message(
            f"msh/ANZ/2/e/Frogs/!{gateway}",
            encrypted(10, text, channel="Frogs", key=CHANNEL_KEY).replace(
                b"a1b2c3d4", gateway.encode()
            ),
            AT_MS,
        )
        for gateway, text in (
            ("00000001", b"open"),
            ("00000002", b"open"),
            ("00000002", b"shut"),
        )
    )
    assert append(journal, by, one).outcomes == [Stored(1)]
    assert append(journal, by, same).outcomes == [Duplicate(1)]
    (outcome,) = append(journal, by, other).outcomes
    assert isinstance(outcome, DeadLetter) and outcome.rejected.code == ReasonCode.ID_REUSED


def test_forms_that_change_in_place_find_what_was_pinned_before(journal: Journal) -> None:
    by = decoder(journal, POND)
    append(journal, by, heard())
    assert by.forms is not None
    by.forms.become(Forms.of_sources([("0.toml", AS_FRACTION.encode())]))
    assert confidence(journal, by) == 0.01
    append(journal, by, heard(FROG.replace(b"7", b"8", 1)))
    (_, after) = stored(journal, by)
    assert isinstance(after, tuple) and isinstance(after[0], Detection)
    assert after[0].confidence == 1.0


def test_each_version_of_a_form_is_kept_once(journal: Journal) -> None:
    for number, text in enumerate((POND, POND, AS_FRACTION)):
        message = heard(FROG.replace(b"7", b"%d" % number, 1))
        append(journal, decoder(journal, text), message, message)
    with contextlib.closing(apsw.Connection(str(journal.path))) as db:
        kept = db.execute("SELECT name, source FROM form ORDER BY id").fetchall()
    assert kept == [("pond", POND.encode()), ("pond", AS_FRACTION.encode())]


def test_what_was_stored_by_our_own_dialect_stays_with_it(journal: Journal) -> None:
    ours = structs.replace(heard(EDGE_PREDICTION, "iotingestion/ridge-01"), node="ridge-01")
    append(journal, decoder(journal), ours)
    (before,) = stored(journal, decoder(journal))
    takes_all = POND.replace('topic = "pond/{node}/heard"\nhas = ["heard"]', 'has = ["species"]')
    takes_all = takes_all.replace('"heard"', '"species"').replace('"score"', '"confidence"')
    later = decoder(journal, takes_all)
    fresh = later.decode(ours)
    assert isinstance(fresh, tuple) and fresh[0].form == "pond", "the site's form goes first"
    assert stored(journal, later) == [before]


def test_the_node_of_a_stored_message_is_the_one_that_its_form_knows(journal: Journal) -> None:
    by = decoder(journal, POND, FRAME)
    frame = b'{"device": "buoy-3", "count": 1, "species": "Crinia signifera"}'
    append(journal, by, heard(), heard(frame, "gateways/a/up"))
    assert [entry.message.node for entry in entries(journal)] == ["north", "buoy-3"]
    with contextlib.closing(JournalReader(journal.path)) as reader:
        assert {(day.node, day.received, day.stored) for day in reader.node_days()} == {
            ("north", 1, 1),
            ("buoy-3", 1, 1),
        }


def test_a_frame_through_two_gateways_is_one_and_another_frame_is_none(journal: Journal) -> None:
    by = decoder(journal, FRAME)
    frame = b'{"device": "buoy-3", "count": 1, "species": "Crinia signifera", "rssi": -91}'
    through_b = heard(frame.replace(b"91", b"104"), "gateways/b/up")
    other = heard(frame.replace(b"Crinia", b"Litoria"), "gateways/b/up")
    outcomes = append(journal, by, heard(frame, "gateways/a/up"), through_b, other).outcomes
    assert outcomes[:2] == [Stored(1), Duplicate(1)] and isinstance(outcomes[2], DeadLetter)
    edited = decoder(journal, FRAME + 'common_name = "rssi"\n')
    again = append(journal, decoder(journal, FRAME + "# edited\n"), through_b, other).outcomes
    assert again[0] == Duplicate(1) and isinstance(again[1], DeadLetter)
    assert append(journal, edited, through_b).outcomes != [Duplicate(1)], "it reads more now"


def test_a_dead_letter_counts_for_the_node_that_it_is_kept_with(journal: Journal) -> None:
    """Not for the one that its form knows: what becomes of it later is counted by what is kept."""
    by = decoder(journal, FRAME)
    frame = b'{"device": "buoy-3", "count": 1, "species": "Crinia signifera"}'
    other = structs.replace(heard(frame.replace(b"Crinia", b"Litoria"), "gateways/b/up"), node="b")
    outcomes = append(journal, by, heard(frame, "gateways/a/up"), other).outcomes
    assert isinstance(outcomes[1], DeadLetter)
    assert journal.discard_dead_letters([1], AT_MS) == 1
    with contextlib.closing(JournalReader(journal.path)) as reader:
        days = [(day.node, day.dead_letters, day.discarded) for day in reader.node_days()]
    assert days == [("b", 0, 1), ("buoy-3", 0, 0)]


def test_a_frame_is_one_where_the_gateways_are_the_nodes(journal: Journal) -> None:
    by = decoder(journal, FRAME.replace('node = "device"\n', ""))
    frame = b'{"device": "buoy-3", "count": 1, "species": "Crinia signifera", "rssi": -91}'
    through_a = structs.replace(heard(frame, "gateways/a/up"), node="a")
    through_b = structs.replace(heard(frame.replace(b"91", b"104"), "gateways/b/up"), node="b")
    assert append(journal, by, through_a, through_b).outcomes == [Stored(1), Duplicate(1)]
    assert append(journal, by, through_b).outcomes == [Duplicate(1)]


def test_a_time_that_each_attempt_gives_anew_makes_no_other_message(journal: Journal) -> None:
    by = decoder(journal, POND)
    later = heard(FROG.replace(b"1795000000", b"1795000060"))
    assert append(journal, by, heard(), later).outcomes == [Stored(1), Duplicate(1)]


def test_ignored_messages_are_counted_and_not_kept(journal: Journal) -> None:
    by = decoder(journal, LOG)
    log = heard(b"[I] wifi connected", "pond/log")
    for _ in range(2):
        appended = append(journal, by, log, heard(b"what?", "pond/else"))
        assert appended.ignored == appended.dead_letters == 1
        assert appended.outcomes[0] == Ignored("log")
    ledger = journal.ledger()
    assert (ledger.received, ledger.ignored, ledger.dead_letters) == (4, 2, 2)
    assert ledger.accounted == 4
    with contextlib.closing(JournalReader(journal.path)) as reader:
        assert reader.audit() == []
        (day,) = reader.node_days()
        assert (day.received, day.ignored) == (4, 2)
        assert reader.ignored_days() == [IgnoredDay("log", day.day, 2)]


def test_a_dead_letter_becomes_what_a_new_form_makes_of_it(journal: Journal) -> None:
    log = heard(b"[I] wifi connected", "pond/log")
    append(journal, decoder(journal), heard(), log, heard(b"what?", "pond/else"))
    by = decoder(journal, POND, LOG)
    with contextlib.closing(JournalReader(journal.path)) as reader:
        letters = list(reader.dead_letters())
        now = preview(letters, by)
        assert (now.valid, now.ignored, now.rejected.total()) == (1, 1, 1)
        outcomes: list[Outcome | object] = list(replay(journal, letters, by))
        assert outcomes[:2] == [Stored(1), Ignored("log")]
        assert reader.audit() == []
        days = {day.node: day for day in reader.node_days()}
    assert (days["north"].received, days["north"].stored) == (1, 1)
    assert (days[""].received, days[""].ignored, days[""].dead_letters) == (2, 1, 1)
    assert sum(day.received_bytes for day in days.values()) == len(FROG) + 18 + 5
    assert entries(journal)[0].message.form


def test_a_form_that_is_lost_leaves_the_message_and_says_so(journal: Journal) -> None:
    append(journal, decoder(journal, POND), heard())
    with contextlib.closing(apsw.Connection(str(journal.path))) as db:
        db.execute("DELETE FROM form")
    (entry,) = entries(journal)
    assert not entry.damaged and entry.message.payload == FROG
    (lost,) = stored(journal, decoder(journal, POND))
    assert isinstance(lost, Unreadable) and "is not there any more" in lost.render()


def test_a_source_with_another_digest_is_not_believed(journal: Journal) -> None:
    append(journal, decoder(journal, POND), heard())
    with contextlib.closing(apsw.Connection(str(journal.path))) as db:
        db.execute("UPDATE form SET source = ?", (AS_FRACTION.encode(),))
    (wrong,) = stored(journal, decoder(journal))
    assert isinstance(wrong, Unreadable)


def test_another_form_under_a_record_is_damage(journal: Journal) -> None:
    append(journal, decoder(journal, POND), heard())
    append(journal, decoder(journal, AS_FRACTION), heard(FROG.replace(b"7", b"8", 1)))
    with contextlib.closing(apsw.Connection(str(journal.path))) as db:
        db.execute("UPDATE record SET form = 2 WHERE offset = 1")
    assert [entry.damaged for entry in entries(journal)] == [True, False]


def test_a_salvaged_journal_has_its_forms_and_what_was_ignored(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with contextlib.closing(Journal(path)) as journal:
        append(journal, decoder(journal, POND, LOG), heard(), heard(b"[I]", "pond/log"))
        before = entries(journal)
    with contextlib.closing(apsw.Connection(str(path))) as db:
        db.execute("UPDATE ledger SET received = 99")
    salvage(path, "a test says so")
    with contextlib.closing(Journal(path)) as journal:
        assert entries(journal) == before
        ledger = journal.ledger()
        assert (ledger.received, ledger.stored, ledger.ignored) == (2, 1, 1)
        assert confidence(journal, decoder(journal)) == 0.01


def test_no_other_form_takes_the_number_of_one_that_a_salvage_did_not_find(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.db"
    with contextlib.closing(Journal(path)) as journal:
        append(journal, decoder(journal, POND), heard())
    zero_root(path, "form")
    assert "1 form could not be read" in salvage(path, "a test says so").words()
    with contextlib.closing(Journal(path)) as journal:
        later = decoder(journal, AS_FRACTION)
        append(journal, later, heard(FROG.replace(b"7", b"8", 1)))
        lost, found = stored(journal, later)
        assert isinstance(lost, Unreadable) and isinstance(found, tuple)
