"""Stored messages are read by the present version of their form when a person asks for it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from echo_ingest.admin.form_rereading import PARKED, FormRereading, Rereading
from echo_ingest.almanac import Almanac, CallFilter
from echo_ingest.almanac.follower import Follower
from echo_ingest.decode import Decoder
from echo_ingest.decode.forms import DecodedByForm, Form, Forms
from echo_ingest.journal import Journal
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.decoding import decode_entry
from echo_ingest.journal.entries import Entry
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.journal.rereading import Repinned, Reread
from echo_ingest.process.files import atomic_write
from echo_ingest.record import AnyRecord, Detection, Message
from echo_ingest.settings import Settings
from tests.harness import Device, Harness, eventually
from tests.test_pinned_forms import (
    AS_FRACTION,
    EDGE_PREDICTION,
    FRAME,
    FROG,
    POND,
    append,
    decoder,
    heard,
)

NAMED = FRAME.replace('topic = "gateways/{gateway}/up"', 'topic = "iotingestion/+"')
BY_BUOY = NAMED.replace('node = "device"', 'node = "buoy"')
TWO = """
name = "two"
[match]
topic = "pond/{node}/two"
[[record]]
kind = "detection"
each = "heard"
species = "name"
"""
ONE = TWO.replace('each = "heard"\n', "").replace('"name"', '"heard[0].name"')
BOTH = b'{"heard": [{"name": "Crinia signifera"}, {"name": "Litoria ewingii"}]}'


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with contextlib.closing(Journal(tmp_path / "journal.db")) as journal:
        yield journal


def form_of(by: Decoder, name: str) -> Form:
    form = None if by.forms is None else by.forms.named(name)
    assert form is not None
    return form


def reread(
    journal: Journal, by: Decoder, name: str = "pond", *, own: bool = False, dry_run: bool = False
) -> Rereading:
    form = form_of(by, name)
    settings = Settings.model_validate({"data_dir": journal.path.parent})
    rereading = FormRereading(settings, by, form, own=own)
    with contextlib.closing(JournalReader(journal.path)) as reader:
        last = reader.last_offset()
        assert sum(rereading.steps(reader, None if dry_run else journal)) == last
        assert reader.audit() == []
    return rereading.found


def entries(journal: Journal) -> list[Entry]:
    with contextlib.closing(JournalReader(journal.path)) as reader:
        found = reader.after(Selection(), 0)
    assert not any(entry.damaged for entry in found)
    return found


def records(journal: Journal, by: Decoder) -> list[tuple[AnyRecord, ...]]:
    decoded = [decode_entry(by, entry) for entry in entries(journal)]
    return [each for each in decoded if isinstance(each, tuple)]


def confidences(journal: Journal, by: Decoder) -> list[float | None]:
    firsts = [each[0] for each in records(journal, by)]
    return [each.confidence for each in firsts if isinstance(each, Detection)]


def frog(number: int, score: float = 1) -> Message:
    payload = FROG.replace(b'"number": 7', b'"number": %d' % number)
    return heard(payload.replace(b'"score": 1', b'"score": %g' % score))


def test_messages_are_read_by_the_present_version_and_keep_their_keys(journal: Journal) -> None:
    append(journal, decoder(journal, POND), *map(frog, range(3)))
    before, ledger = entries(journal), journal.ledger()
    now = decoder(journal, AS_FRACTION)
    assert confidences(journal, now) == [0.01] * 3
    outlook = reread(journal, now, dry_run=True)
    assert confidences(journal, now) == [0.01] * 3 and entries(journal) == before
    assert reread(journal, now) == outlook
    assert (outlook.read, outlook.kept.total(), outlook.first_offset) == (3, 0, 1)
    assert confidences(journal, decoder(journal)) == [1.0] * 3
    assert [each.key for each in entries(journal)] == [each.key for each in before]
    assert journal.ledger() == ledger
    assert reread(journal, now).read == 0, "nothing is left to do"


def test_what_the_present_version_cannot_read_keeps_its_own(journal: Journal) -> None:
    append(journal, decoder(journal, POND), frog(1), frog(2, 70))
    later = decoder(journal, AS_FRACTION, FRAME)
    found = reread(journal, later)
    assert found.read == 1 and found.kept.total() == 1
    assert "it would be rejected: score" in next(iter(found.kept))
    assert confidences(journal, later) == [1.0, 0.7]
    elsewhere = decoder(journal, POND.replace("pond/{node}", "lake/{node}"))
    assert next(iter(reread(journal, elsewhere).kept)).startswith("not in the form: its topic is")
    ignoring = decoder(journal, 'name = "pond"\nignore = true\n[match]\ntopic = "pond/#"\n')
    assert reread(journal, ignoring).kept == {"it would be ignored": 2}
    assert confidences(journal, later) == [1.0, 0.7]


def test_what_changed_meanwhile_is_left_alone(journal: Journal) -> None:
    append(journal, decoder(journal, POND), frog(1))
    (entry,) = entries(journal)
    by = decoder(journal, AS_FRACTION)
    form = form_of(by, "pond")
    decoded = Forms.decoded_as(form, entry.message, by.rules, hashed=False)
    assert isinstance(decoded, DecodedByForm)
    stale = Reread(entry, decoded.identity, "north", has_fewer_records=False)
    assert journal.reread([stale], form) == [Repinned.DONE]
    assert journal.reread([stale], form) == [Repinned.CHANGED]


def test_a_message_of_another_node_counts_there(journal: Journal) -> None:
    frame = b'{"device": "b3", "buoy": "buoy-3", "count": %d, "species": "Crinia signifera"}'
    sent = [
        structs.replace(heard(frame % count, "iotingestion/gate"), node="gate")
        for count in range(2)
    ]
    append(journal, decoder(journal, NAMED), *sent)
    assert [each.message.node for each in entries(journal)] == ["b3", "b3"]
    found = reread(journal, decoder(journal, BY_BUOY), "frame")
    assert (found.read, found.moved) == (2, 2)
    assert [each.message.node for each in entries(journal)] == ["buoy-3", "buoy-3"]
    with contextlib.closing(JournalReader(journal.path)) as reader:
        (day,) = reader.node_days()
    size = sum(len(each.payload) for each in sent)
    assert (day.node, day.received, day.stored, day.received_bytes) == ("buoy-3", 2, 2, size)
    unnamed = decoder(journal, NAMED.replace('node = "device"\n', ""))
    reread(journal, unnamed, "frame")
    assert [each.message.node for each in entries(journal)] == ["gate", "gate"]


def test_no_record_that_a_sink_has_parked_vanishes(journal: Journal) -> None:
    twice = [heard(BOTH + b" " * blanks, "pond/north/two") for blanks in range(2)]
    append(journal, decoder(journal, TWO), *twice)
    journal.add_sink("objects")
    journal.settle("objects", [1, 2], {1: Refused("no")})
    now = decoder(journal, ONE)
    for dry_run in (True, False):
        found = reread(journal, now, "two", dry_run=dry_run)
        assert (found.read, found.fewer, found.kept) == (1, 1, {PARKED: 1})
    assert [len(each) for each in records(journal, now)] == [2, 1]
    assert journal.is_parked("objects", 1)
    assert reread(journal, decoder(journal, TWO), "two").read == 1


def test_messages_of_our_own_dialects_are_read_only_if_asked_for(journal: Journal) -> None:
    ours = structs.replace(heard(EDGE_PREDICTION, "iotingestion/ridge-01"), node="ridge-01")
    other = structs.replace(heard(b'{"status": "online"}', "iotingestion/b"), node="b")
    append(journal, decoder(journal), ours, other)
    form = POND.replace('topic = "pond/{node}/heard"\nhas = ["heard"]', 'has = ["species"]')
    form = form.replace('= "heard"', '= "species"').replace('"score"', '"confidence"')
    now = decoder(journal, form)
    assert reread(journal, now).read == 0
    found = reread(journal, now, own=True)
    assert (found.read, found.kept) == (1, {})
    assert next(each[0].form for each in records(journal, now)) == "pond"
    assert entries(journal)[1].message.form == ""


def test_the_almanac_is_made_anew_once_it_is_done(journal: Journal, tmp_path: Path) -> None:
    now = decoder(journal, POND)
    append(journal, now, frog(1))
    follower = Follower(tmp_path / "almanac.db", journal.path, now)

    def shown() -> list[float | None]:
        for _ in range(2):
            for _ in follower.round():
                pass
        with contextlib.closing(Almanac(tmp_path / "almanac.db")) as almanac:
            return [each.confidence for each in almanac.calls(CallFilter())]

    with contextlib.closing(follower):
        assert shown() == [0.01]
        reread(journal, decoder(journal, AS_FRACTION))
        assert shown() == [1.0]


@pytest.mark.slow
def test_a_person_rereads_beside_a_running_service(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "data", IOT_OBJECTS_URL=(tmp_path / "clips").as_uri())
    with contextlib.closing(harness):
        folder = harness.data_dir / "forms.d"
        harness.data_dir.mkdir(mode=0o700)
        folder.mkdir()
        form = POND.replace('topic = "pond/{node}/heard"\n', "")
        atomic_write(folder / "pond.toml", form.encode())
        program = harness.up()
        device = Device(harness.mqtt_port)
        device.publish([("iotingestion/north", FROG)])
        eventually(lambda: [each["confidence"] for each in harness.records()] == [0.01])
        atomic_write(folder / "pond.toml", form.replace('"percent"', '"fraction"').encode())
        tried = harness.cli("forms", "reread", "pond", "--dry-run")
        assert "1 message would be read by pond" in tried.stderr and tried.returncode == 0
        eventually(lambda: harness.ledger()["sinks"]["objects"]["delivered"] == 1)
        done = harness.cli("forms", "reread", "pond")
        assert "1 message is read by pond, version" in done.stderr
        assert "sinks backfill objects --from" in done.stderr
        eventually(lambda: [each["confidence"] for each in harness.records()] == [1.0])
        eventually(lambda: "other forms now" in harness.log("up"))
        assert harness.cli("forms", "reread", "nothing").returncode == 1
        device.close()
        assert harness.stop(program) == 0
