"""A journal of 1,000,000 records of 10,000 nodes, and its almanac: what a page must not mind.

`python -m tests.browser.huge FOLDER` makes it, beside the tests that need it last.
"""

import base64
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from echo_ingest.decode import Decoder
from echo_ingest.journal import Arrival, Journal
from echo_ingest.journal.cursors import Refused
from echo_ingest.record import Message
from echo_ingest.simulator.sounds import CALLS, wav
from tests.browser.forest import PAYLOAD_BYTES_MAX, PREFIX, follow

NODES = 10_000
RECORDS = 1_000_000
DEAD_LETTERS_IN_A_THOUSAND = 2
PARKED_IN_A_THOUSAND = 3
DAYS = 30
BATCH = 5_000
SINK = "echo_api"


def make(data_dir: Path) -> None:
    """Make the data folder of a service that has had very many messages."""
    data_dir.mkdir(mode=0o700)
    journal_path = data_dir / "journal.db"
    fill(journal_path)
    follow(data_dir)


def fill(path: Path) -> None:
    """Append all records, spread over the last `DAYS`, and dead letters; leave a sink behind."""
    with contextlib.closing(Journal(path)) as journal:
        journal.add_sink(SINK)
        arrivals = _arrivals()
        last = 0
        while batch := list(itertools.islice(arrivals, BATCH)):
            stored = journal.append(batch).stored
            journal.acknowledged()
            offsets = range(last + 1, last + 1 + stored)
            last += stored
            if last < RECORDS * 0.98:
                refused = {
                    offset: Refused(_reason(offset)) for offset in offsets if _is_parked(offset)
                }
                journal.settle(SINK, offsets, refused)


def _arrivals() -> Iterator[Arrival]:
    rng = Random(7)
    now_ms = time.time_ns() // 1_000_000
    step_ms = DAYS * 86_400_000 / RECORDS
    clip = json.dumps(_clip())[1:-1]
    for number in range(RECORDS):
        node = f"node-{rng.randrange(NODES):05}"
        received_at_ms = int(now_ms - (RECORDS - number) * step_ms)
        payload = _payload(number, node, received_at_ms / 1000, rng, clip)
        message = Message(f"{PREFIX}/{node}", payload, received_at_ms, node)
        yield message, Decoder(PAYLOAD_BYTES_MAX).identify(message)


def _payload(number: int, node: str, seconds: float, rng: Random, clip: str) -> bytes:
    kind = rng.randrange(1_000)
    place = f'"lat": {-38.9 + number % 997 / 1_000:.4f}, "lon": {143.2 + number % 991 / 1_000:.4f}'
    if kind < DEAD_LETTERS_IN_A_THOUSAND:
        return f'{{"sensorId": "{node}", "number": {number}, "temp": NaN}}'.encode()
    if kind < 300:
        return (
            f'{{"timestamp": {seconds:.3f}, "sensorId": "{node}", "status": "online",'
            f' "batteryPct": {rng.randrange(1_000) / 10}, "disk": {number % 100}}}'
        ).encode()
    species = CALLS[rng.randrange(len(CALLS))].species
    audio = f", {clip}" if kind == 999 else ""
    return (
        f'{{"type": "prediction", "id": "n-{number}", "timestamp": "{seconds:.0f}",'
        f' "sensor_id": "{node}",'
        f' "species": "{species}", "confidence": {rng.randrange(10_000) / 100},'
        f' "gps_data": {{{place}}}, "gps_uncertainty": 10{audio}}}'
    ).encode()


def _clip() -> dict[str, str]:
    return {"audioClip": base64.b64encode(wav(CALLS[0], 0.1, 8_000, Random(1))).decode()}


def _is_parked(offset: int) -> bool:
    return offset % 1_000 < PARKED_IN_A_THOUSAND


def _reason(offset: int) -> str:
    return f"422: species: {offset % 7} is not known to this API"


if __name__ == "__main__":
    make(Path(sys.argv[1]))
