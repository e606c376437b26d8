"""The first half at its limits: what happens when there is no room."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import mqtt5
import pytest

from echo_ingest import metrics
from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal, JournalFull, connect
from echo_ingest.mqtt import Session, packets
from echo_ingest.pipeline.ingest import Ingest, pace
from echo_ingest.record import Message
from tests.harness import Device, Harness, eventually
from tests.test_mqtt import greet, poll, scripted


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data")
    yield harness
    harness.close()


def heartbeat(number: int) -> tuple[str, bytes]:
    fields = {"nodeId": f"n{number}", "status": "online " + "x" * 200, "timestamp": 1_795_000_000}
    return "iotingestion/n", json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("commit_seconds", "expected"),
    [
        (0.0002, (1_000, 0.005)),  # an SSD
        (0.005, (1_000, 0.005)),
        (0.02, (4_000, 0.02)),  # an SD card
        (5.0, (50_000, 0.25)),  # something is wrong with it; a quarter of a second is enough
    ],
)
def test_a_slow_disk_gets_larger_batches(
    commit_seconds: float, expected: tuple[int, float]
) -> None:
    assert pace(1_000, 0.005, commit_seconds) == expected


def test_a_long_linger_is_kept_to() -> None:
    assert pace(1_000, 1.0, 0.01) == (1_000, 1.0)


FIGURES = {
    "messages": ("received_messages_total", {}),
    "bytes": ("received_bytes_total", {}),
    "stored": ("outcomes_messages_total", {"outcome": "stored"}),
    "duplicates": ("outcomes_messages_total", {"outcome": "duplicate"}),
    "dead letters": ("outcomes_messages_total", {"outcome": "dead letter"}),
    "receipts sent": ("receipts_total", {"outcome": "sent"}),
    "receipts dropped": ("receipts_total", {"outcome": "dropped"}),
}
"""What is counted, and where `/metrics` says it."""


def counted(before: Mapping[str, float]) -> dict[str, float]:
    """Return what was counted since `before`, as `figures` had it."""
    return {what: count - before[what] for what, count in figures().items()}


async def _answer(answer: bool) -> bool:
    return answer


def figures() -> dict[str, float]:
    return {
        what: metrics.REGISTRY.get_sample_value(f"echo_ingest_{name}", labels) or 0.0
        for what, (name, labels) in FIGURES.items()
    }


async def test_each_outcome_is_counted_and_receipts_that_the_broker_does_not_take_are_dropped(
    tmp_path: Path,
) -> None:
    payloads = [heartbeat(number % 290)[1] for number in range(300)] + [b"rubbish"] * 5
    all_received, receipts = asyncio.Event(), bytearray()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        for packet_id, payload in enumerate(payloads, start=1):
            writer.write(
                mqtt5.PublishPacket(
                    "iotingestion/n",
                    payload,
                    qos=mqtt5.QoS.AT_LEAST_ONCE,
                    packet_id=packet_id,
                    response_topic="iotreceipts/n",
                    correlation_data=b"x" * 60_000,
                ).write()
            )
            await writer.drain()
        await all_received.wait()  # until then nothing that we send is read
        while data := await reader.read(1_000_000):
            receipts.extend(data)

    before = figures()
    with contextlib.closing(Journal(tmp_path / "journal.db")) as journal:
        async with scripted(play, node_of=lambda _topic: "n") as session:
            ingest = Ingest(
                session,
                journal,
                Decoder(1_000),
                batch_records_max=10,
                linger_seconds=0.001,
                on_stored=lambda: None,
            )
            running = asyncio.create_task(ingest.run())
            await poll(lambda: _answer(counted(before)["messages"] == len(payloads)))
            counts = counted(before)
            all_received.set()
            await poll(lambda: _answer(receipts.count(b'"outcome"') == counts["receipts sent"]))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    assert counts["receipts dropped"] > 0 < counts["receipts sent"]
    assert counts == counts | {
        "bytes": sum(map(len, payloads)),
        "stored": 290,
        "duplicates": 10,
        "dead letters": 5,
        "receipts dropped": len(payloads) - counts["receipts sent"],
    }


def test_the_part_of_the_disk_that_must_stay_free_is_left_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with contextlib.closing(Journal(path)) as journal:
        free_bytes = journal.disk_free_bytes()
    # Others write to the same disk, but hardly a twentieth of it within a moment.
    for must_stay_free, has_room in ((free_bytes * 20 // 21, True), (free_bytes * 20 // 19, False)):
        journal = Journal(path, disk_free_bytes_min=must_stay_free)
        with contextlib.closing(journal):
            decoded = [(m, Decoder(1_000).identify(m)) for m in [Message(*heartbeat(1), 0)]]
            refusing = pytest.raises(JournalFull, match="must stay free")
            with contextlib.nullcontext() if has_room else refusing:
                journal.append(decoded)
            assert (journal.room_bytes() > 0) == has_room


@contextlib.asynccontextmanager
async def ingesting(session: Session, journal: Journal) -> AsyncIterator[Ingest]:
    """Run the first half of the line."""
    ingest = Ingest(
        session,
        journal,
        Decoder(2_000_000),
        batch_records_max=10,
        linger_seconds=0.001,
        on_stored=lambda: None,
    )
    running = asyncio.create_task(ingest.run())
    yield ingest
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def published(payload: bytes, packet_id: int, *, redelivered: bool = False) -> bytes:
    return mqtt5.PublishPacket(
        "iotingestion/n",
        payload,
        qos=mqtt5.QoS.AT_LEAST_ONCE,
        packet_id=packet_id,
        duplicate=redelivered,
    ).write()


@pytest.mark.parametrize(("count", "size"), [(32, 1_000_000), (50_000, 20)])
async def test_what_cannot_be_stored_is_not_acknowledged_and_memory_for_it_is_bounded(
    tmp_path: Path, count: int, size: int
) -> None:
    acknowledgements = bytearray()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def send() -> None:
            for packet_id in range(1, count + 1):
                writer.write(published(packet_id.to_bytes(2) * (size // 2), packet_id))
                await writer.drain()

        await greet(reader, writer)
        sending = asyncio.create_task(send())
        while data := await reader.read(1_000):
            acknowledgements.extend(data.replace(packets.PINGREQ, b""))
        sending.cancel()

    with contextlib.closing(Journal(tmp_path / "journal.db", bytes_max=1)) as journal:
        async with scripted(play) as session, ingesting(session, journal) as ingest:
            await poll(lambda: _answer(ingest.blocked is not None))
            # What was taken and cannot be stored counts as well: it stops before all is here.
            await poll(lambda: _answer(session._inbox.held.is_full))
            assert acknowledgements == b""
        assert journal.ledger().received == 0


async def test_what_is_stored_when_its_connection_is_gone_is_known_when_it_comes_again(
    tmp_path: Path,
) -> None:
    payload, connections = b'{"status":"online","nodeId":"n"}', 0
    is_lost, acknowledgements = asyncio.Event(), bytearray()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        is_again = connections > 1
        await greet(reader, writer)
        writer.write(published(payload, 1, redelivered=is_again))
        if not is_again:
            await is_lost.wait()
            writer.close()
        while data := await reader.read(1_000):
            acknowledgements.extend(data.replace(packets.PINGREQ, b""))

    path = tmp_path / "journal.db"
    with contextlib.closing(Journal(path)) as journal, contextlib.closing(connect(path)) as other:
        journal._db.set_busy_timeout(10)
        other.execute("BEGIN IMMEDIATE")  # until the connection is gone, nothing can be stored
        async with scripted(play) as session, ingesting(session, journal) as ingest:
            await poll(lambda: _answer(ingest.blocked is not None))
            is_lost.set()
            await poll(lambda: _answer(not session.is_connected))
            other.execute("ROLLBACK")
            await poll(lambda: _answer(bool(acknowledgements)))
        ledger = journal.ledger()
    assert (ledger.received, ledger.stored, ledger.duplicates) == (2, 1, 1)


@pytest.mark.slow
def test_at_the_journals_cap_acknowledgements_stop_and_nothing_is_lost(harness: Harness) -> None:
    harness.settings["IOT_JOURNAL_BYTES_MAX"] = "500000"
    program = harness.up()
    total = 3_000
    # The broker acknowledges: what it holds for us is what we have not acknowledged.
    Device(harness.mqtt_port).publish([heartbeat(n) for n in range(total)])
    eventually(lambda: "journal" in harness.http("/readyz")[1].get("problems", {}))
    assert "IOT_JOURNAL_BYTES_MAX" in harness.http("/readyz")[1]["problems"]["journal"]
    stored = harness.ledger()["stored"]
    assert 0 < stored < total
    page = harness.http_bytes("/metrics").decode().splitlines()
    assert "echo_ingest_journal_blocked 1.0" in page
    assert "echo_ingest_journal_room_bytes 0.0" in page
    harness.stop(program)
    harness.settings["IOT_JOURNAL_BYTES_MAX"] = "0"
    harness.up()
    eventually(lambda: harness.ledger_now()["stored"] == total)
