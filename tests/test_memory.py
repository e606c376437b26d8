"""What a message costs in memory, and that everything that holds messages counts it.

The limits of the file system, of the socket and of SQLite are in bytes on disk or on the wire, and
64 KiB of properties there are 1.5 MB of Python objects.
"""

import asyncio
import contextlib
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from sys import getsizeof
from typing import Any

import apsw
import mqtt5
import msgspec
import pytest
from msgspec import structs

from echo_ingest.admin.dead_letters import decode_again
from echo_ingest.cli.records import _following
from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal
from echo_ingest.journal.changes import JournalChanges
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.decoding import Unreadable, decode_entry
from echo_ingest.journal.entries import READ_BYTES_MAX, checksum, entry_bytes
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.journal.recovery.salvage import BATCH_BYTES, _batches
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.mqtt.inbox import Inbox
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import PROPERTIES_BYTES_MAX, Message, Rejected, memory_bytes, payload_hash
from echo_ingest.settings import Endpoint
from tests.plain_broker import PlainBroker
from tests.stored import as_stored
from tests.test_mqtt import batch_of, broker, options, running, variable
from tests.test_web import SINK, Site, site

__all__ = ["broker", "site"]  # fixtures

TOPIC = "iotingestion/ridge-01"
EMPTY = Message(TOPIC, b"", 0)
STATUS = b'{"sensorId": "ridge-01", "status": "online", "timestamp": 1795000000, "id": "%d"}'
EMPTY_PROPERTY = b"\x26\x00\x00\x00\x00"
PROPERTIES_MAX = PROPERTIES_BYTES_MAX // len(EMPTY_PROPERTY)
FULL_OF_PROPERTIES = structs.replace(EMPTY, properties=(("", ""),) * PROPERTIES_MAX)
OWL = "\N{OWL}"
"""One such character, and each of a text takes four bytes."""
FAR_AND_WIDE = Message("a" * 65_000 + OWL, b"", 0, response_topic="b" * 65_000 + OWL)


def publish_packet(properties: bytes, number: int = 1, payload: bytes | None = None) -> bytes:
    """Return a PUBLISH at QoS 1, as the codec would not write it."""
    body = len(TOPIC).to_bytes(2) + TOPIC.encode() + number.to_bytes(2)
    body += variable(len(properties)) + properties
    body += STATUS % number if payload is None else payload
    return b"\x32" + variable(len(body)) + body


def property_of(size: int) -> bytes:
    """Return a user property of this size, as it is sent."""
    assert 5 <= size <= 65_540
    return b"\x26\x00\x00" + (size - 5).to_bytes(2) + b"v" * (size - 5)


def session() -> Session:
    return Session(SessionOptions(endpoint=Endpoint("mqtt", "127.0.0.1", 1), client_id="me"))


def taken(session: Session) -> list[Message]:
    return session._inbox._messages


@contextlib.contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """Give a function that says how many bytes Python's objects took at most since the start."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield lambda: tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------------- what one costs


@pytest.mark.parametrize("characters", [1, 2, 8, 200])
async def test_a_message_is_estimated_at_about_what_it_takes(characters: int) -> None:
    size = PROPERTIES_BYTES_MAX // (5 + 2 * characters)
    name, value = "n" * characters, "v" * characters
    pair = b"\x26" + 2 * (characters.to_bytes(2) + name.encode())
    packet = publish_packet(pair * size, payload=bytes(100_000))
    receiving = session()
    receiving._on_bytes(packet)  # what is made once
    with traced():
        before = tracemalloc.get_traced_memory()[0]
        receiving._on_bytes(packet)
        took = tracemalloc.get_traced_memory()[0] - before
    message = taken(receiving)[-1]
    assert len(message.properties) == size
    # Texts of one character are the same object each time, and are counted all the same.
    assert took * 0.9 < memory_bytes(message) < took * (2.8 if characters == 1 else 1.25)
    assert value != name


@pytest.mark.parametrize(
    ("message", "count"),
    [
        (FULL_OF_PROPERTIES, 8),
        (FAR_AND_WIDE, 33),
        (structs.replace(EMPTY, correlation_data=bytes(65_535)), 256),
    ],
    ids=["properties", "topics", "correlation"],
)
def test_the_inbox_counts_all_that_a_message_brings(message: Message, count: int) -> None:
    inbox = Inbox()
    for number in range(1, count + 1):
        inbox.put(message, number)
        inbox.wake()
    assert inbox.held.is_full
    inbox.drop_unacknowledged()
    assert not inbox.held.is_full
    assert inbox.held.bytes == 0


async def test_what_is_released_is_what_was_counted() -> None:
    inbox = Inbox()
    for number in range(50):
        inbox.put(FULL_OF_PROPERTIES if number % 2 else EMPTY, number)
    inbox.wake()
    for _ in range(5):
        messages, _, taken_bytes = await inbox.take(10, 0.0)
        assert taken_bytes == sum(map(memory_bytes, messages))
        inbox.held.release(len(messages), taken_bytes)
    assert inbox.held.bytes == 0
    assert not inbox.held.is_full


def test_no_topic_of_64_kb_is_remembered() -> None:
    with traced() as peak:
        hashes = {
            payload_hash(structs.replace(EMPTY, topic=f"iotingestion/{n}/" + "a" * 65_000 + OWL))
            for n in range(200)
        }
        took = peak()
    assert len(hashes) == 200
    assert took < 4 * getsizeof(FAR_AND_WIDE.topic)


# ---------------------------------------------------------------------- properties that are cut


@pytest.mark.parametrize(
    ("size", "is_cut"), [(PROPERTIES_BYTES_MAX, False), (PROPERTIES_BYTES_MAX + 1, True)]
)
@pytest.mark.parametrize("chunk_bytes", [1_000_000, 262_144, 1_000, 65_536])
def test_properties_up_to_the_limit_are_kept_and_larger_ones_cut(
    size: int, is_cut: bool, chunk_bytes: int
) -> None:
    receiving = session()
    middle = publish_packet(property_of(40_000) + property_of(size - 40_000), 2)
    stream = publish_packet(b"", 1) + middle + publish_packet(property_of(9), 3)
    for start in range(0, len(stream), chunk_bytes):
        receiving._on_bytes(stream[start : start + chunk_bytes])
    assert [m.payload for m in taken(receiving)] == [STATUS % n for n in (1, 2, 3)]
    assert [m.properties_cut for m in taken(receiving)] == [False, is_cut, False]
    assert [len(m.properties) for m in taken(receiving)] == [0, 0 if is_cut else 2, 1]
    assert {m.topic for m in taken(receiving)} == {TOPIC}
    assert receiving._inbox._packet_ids == [1, 2, 3]
    assert all(message.received_at_ms > 0 for message in taken(receiving))


def test_a_large_payload_is_not_what_is_cut() -> None:
    receiving = session()
    payload = b"x" * 300_000
    for properties in (b"", property_of(1_000)):
        receiving._on_bytes(publish_packet(properties, payload=payload))
        assert taken(receiving)[-1].payload == payload
        assert not taken(receiving)[-1].properties_cut
    assert len(taken(receiving)[-1].properties) == 1


def test_millions_of_properties_never_become_objects() -> None:
    receiving = session()
    packet = publish_packet(EMPTY_PROPERTY * 4_000_000)
    with traced() as peak:
        for start in range(0, len(packet), 262_144):
            receiving._on_bytes(packet[start : start + 262_144])
        took = peak()
    assert taken(receiving)[0].payload == STATUS % 1
    assert taken(receiving)[0].properties_cut
    assert took < 1.5 * len(packet)


async def test_they_are_cut_whatever_the_broker_and_the_message_is_acknowledged(
    broker: PlainBroker,
) -> None:
    size = 1_500_000  # mosquitto 2.1 takes packets of 2 MB if it is not told otherwise
    packet = publish_packet(EMPTY_PROPERTY * (size // 5))
    async with running(Session(options(broker))) as receiving:
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.ports["mqtt"])
        connect = mqtt5.ConnectPacket("bomb", clean_start=True).write()
        writer.write(connect + packet + publish_packet(b"", 2))
        batch = await batch_of(receiving, 2)
        assert receiving.ack(batch)
        writer.close()
    assert [m.payload for m in batch.messages] == [STATUS % 1, STATUS % 2]
    assert [m.properties_cut for m in batch.messages] == [True, False]
    async with running(Session(options(broker))) as again:
        await again.publish("iotingestion/a", b"3")
        assert (await batch_of(again, 1)).messages[0].payload == b"3"
    assert not reader.at_eof()


READ_FAST = (
    b'{"type":"prediction","timestamp":"1795000001","sensor_id":"n1","species":"Litoria ewingii",'
    b'"confidence":63.64}'
)


@pytest.mark.parametrize("payload", [STATUS % 1, READ_FAST])
def test_such_a_message_becomes_a_dead_letter_with_its_payload_and_stays_one(
    tmp_path: Path, payload: bytes
) -> None:
    message = Message(TOPIC, payload, 1_000, "ridge-01", properties_cut=True)
    decoder = Decoder(1_000_000)
    decoded = decoder.identify(message)
    assert isinstance(decoded, Rejected)
    assert decoded.code == ReasonCode.PROPERTIES_TOO_LARGE
    assert decoder.decode(message) == decoded
    assert not isinstance(
        decoder.identify(structs.replace(message, properties_cut=False)), Rejected
    )
    path = tmp_path / "journal.db"
    with contextlib.closing(Journal(path)) as journal:
        assert journal.append([(message, decoded)]).dead_letters == 1
        reader = JournalReader(path)
        (letter,) = reader.dead_letters()
        reader.close()
        assert (letter.message.payload, letter.damaged) == (payload, False)
        assert letter.code == ReasonCode.PROPERTIES_TOO_LARGE
        # Its properties are gone: to store it now without them could be wrong.
        assert decode_again(letter, decoder) == decoded


# ---------------------------------------------------------------------- what is read at once


def arrival(number: int, message: Message) -> Message:
    return structs.replace(message, payload=STATUS % number, received_at_ms=number, node="ridge-01")


def journal_with(path: Path, messages: list[Message]) -> Journal:
    journal = Journal(path)
    journal.add_sink("scripted")
    decoder = Decoder(1_000_000)
    for message in messages:
        journal.append(as_stored([message], decoder.payload_bytes_max))
    return journal


HEAVY_MESSAGES = {"properties": FULL_OF_PROPERTIES, "topic": Message("t" * 65_000 + OWL, b"", 0)}


@pytest.mark.parametrize("heavy", list(HEAVY_MESSAGES))
def test_whoever_reads_the_journal_stops_at_what_fits_into_memory(
    tmp_path: Path, heavy: str
) -> None:
    path = tmp_path / "journal.db"
    messages = [arrival(number, HEAVY_MESSAGES[heavy]) for number in range(1, 81)]
    journal = journal_with(path, messages)
    reader, changes = JournalReader(path), JournalChanges(path)
    each = memory_bytes(messages[0])
    at_once = -(-READ_BYTES_MAX // each)
    assert at_once < 40
    with contextlib.closing(journal), contextlib.closing(reader), contextlib.closing(changes):
        pages: list[list[int]] = [
            [entry.offset for entry in entries]
            for entries in (
                journal.read("scripted", 1_000),
                reader.newest(Selection(), 500)[::-1],
                reader.after(Selection(), 0),
                reader.stretch(Selection(), 0, 80, 0).entries,
                changes.entries(0, 80, READ_BYTES_MAX),
            )
        ]
        assert [len(page) for page in pages] == [at_once] * 5
        assert len(changes.entries(0, 80, 512 * 1024)) == -(-512 * 1024 // each)
        stretch = reader.stretch(Selection(), 0, 80, 0)
        assert (stretch.up_to, stretch.gone) == (at_once, 0)
        with traced() as peak:
            offsets = []
            while page := journal.read("scripted", 1_000):
                offsets += [entry.offset for entry in page]
                journal.settle("scripted", [entry.offset for entry in page], {})
                del page
            took = peak()
        assert offsets == list(range(1, 81))
        assert took < 2 * READ_BYTES_MAX + 3 * each


def test_following_the_records_holds_a_page_and_not_all_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal_with(path, [arrival(number, FULL_OF_PROPERTIES) for number in range(1, 41)]).close()
    with contextlib.closing(JournalReader(path)) as reader:
        pages = _following(reader, Selection(), 30, Decoder(1_000_000))
        shown: list[int] = []
        while len(shown) < 30:
            page = [each.entry for each in next(pages)]
            assert sum(map(entry_bytes, page[:-1])) < READ_BYTES_MAX
            shown += [entry.offset for entry in page]
    assert shown == list(range(11, 41))


async def test_an_answer_of_the_read_api_holds_what_fits_into_memory(site: Site) -> None:
    no_record = structs.replace(FULL_OF_PROPERTIES, payload=b"{}")
    letters = [structs.replace(no_record, payload=b"{}" + b" " * n) for n in range(40)]
    site.store(*letters)
    records = [structs.replace(FAR_AND_WIDE, payload=STATUS % n) for n in range(60)]
    site.store(*records)
    refused = Refused("no")
    site.journal.settle(SINK, range(1, 61), dict.fromkeys(range(1, 61), refused))
    ids: list[int] = []
    answer: dict[str, Any] = {"next": 0}
    while answer["next"] is not None:
        _, answer = await site.get("/api/dead-letters", limit=500, after=answer["next"])
        assert len(answer["dead_letters"]) <= -(-READ_BYTES_MAX // memory_bytes(no_record))
        ids += [each["id"] for each in answer["dead_letters"]]
    assert ids == list(range(1, 41))
    offsets: list[int] = []
    while len(offsets) < 60:
        _, answer = await site.get("/api/parked", limit=500, after=max(offsets, default=0))
        assert 0 < len(answer["parked"]) <= -(-READ_BYTES_MAX // (4 * 65_000))
        offsets += [each["offset"] for each in answer["parked"]]
    assert offsets == list(range(1, 61))


def test_properties_of_earlier_versions_that_are_too_large_are_not_read(tmp_path: Path) -> None:
    """They were stored in any number; the journal keeps them, and the record is parked."""
    path = tmp_path / "journal.db"
    text = msgspec.json.encode([["", ""]] * 300_000).decode()
    with contextlib.closing(journal_with(path, [arrival(n, EMPTY) for n in (1, 2)])) as journal:
        beside = apsw.Connection(str(path))
        row = beside.execute(
            "SELECT offset, key, digest, received_at_ms, kind, node, topic FROM record"
            " WHERE offset = 1"
        ).get
        beside.execute(
            "UPDATE record SET properties = ?, checksum = ? WHERE offset = 1",
            (text, checksum((*row, text))),
        )
        with traced() as peak:
            entries = journal.read("scripted", 10)
            took = peak()
    assert took < 4 * len(text)
    assert [entry.damaged for entry in entries] == [False, False]
    assert [entry.message.properties_cut for entry in entries] == [True, False]
    unreadable = decode_entry(Decoder(1_000_000), entries[0])
    assert isinstance(unreadable, Unreadable)
    assert "MQTT properties" in unreadable.render()


def test_salvage_counts_texts_too() -> None:
    text = "x" * (BATCH_BYTES // 4)
    cells = [(number, (None, text)) for number in range(8)]
    assert [len(batch) for batch in _batches(iter(cells))] == [4, 4, 0]
