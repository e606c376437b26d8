"""A journal that has grown: made once, then drained into, started on and delivered from."""

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random

from bench.contestants import start_service
from bench.payloads import detections
from bench.rounds import broker_of
from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal
from echo_ingest.journal.reader import JournalReader
from echo_ingest.record import Message
from echo_ingest.settings import Settings
from tests.harness import Harness, eventually

BATCH = 1_000
SEED = 77
OLD_DAYS = 2
START_SECONDS_MAX = 600.0


def make_journal(path: Path, records: int, on_progress: Callable[[int], None]) -> None:
    """Append `records` detections, received two days ago, as ingestion would."""
    settings = Settings()
    decoder = Decoder(settings.payload_bytes_max)
    journal = Journal(path)
    received_at_ms = (time.time_ns() - OLD_DAYS * 86_400 * 10**9) // 10**6
    outgoing = islice(detections(Random(SEED), SEED, -records), records)
    while batch := list(islice(outgoing, BATCH)):
        arrived = [
            Message(topic, payload, received_at_ms, settings.node_of(topic))
            for topic, payload in batch
        ]
        journal.append([(m, decoder.identify(m)) for m in arrived])
        journal.acknowledged()
        on_progress(len(batch))
    for days in range(OLD_DAYS):
        journal.note_day(received_at_ms + (days + 1) * 86_400_000)
    journal.close()


def start_seconds(mosquitto: Path, journal: Path | None = None, **settings: str) -> float:
    """Return the seconds from the start of the service to its first healthy answer."""
    with broker_of(mosquitto, journal, **settings) as (harness, _):
        began = time.perf_counter()
        program = start_service(harness)
        try:
            eventually(lambda: harness.http("/healthz")[0] == 200, seconds=START_SECONDS_MAX)
            return time.perf_counter() - began
        finally:
            program.terminate()
            program.wait(timeout=120)


def delivered_per_second(mosquitto: Path, journal: Path, records: int, **settings: str) -> float:
    """Return the records a second to a sink that is no bottleneck: audio storage without audio.

    Detections without a clip need nothing there: what is left is reading, decoding and settling.
    """
    objects = journal.parent / "objects"
    objects.mkdir(mode=0o700)
    settings |= {"IOT_OBJECTS_URL": objects.as_uri()}
    with broker_of(mosquitto, journal, **settings) as (harness, _):
        program = start_service(harness)
        try:
            first = eventually(lambda: _settled(harness), seconds=START_SECONDS_MAX)
            began = time.perf_counter()
            eventually(lambda: _settled(harness) >= records, seconds=START_SECONDS_MAX)
            return (records - first) / (time.perf_counter() - began)
        finally:
            program.terminate()
            program.wait(timeout=120)
            objects.rmdir()


def _settled(harness: Harness) -> int:
    reader = JournalReader(harness.data_dir / "journal.db")
    try:
        sink = reader.ledger().sinks.get("objects")
    finally:
        reader.close()
    return sink.delivered if sink is not None else 0
