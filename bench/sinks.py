"""`python -m bench.sinks [NAME …]`: what a sink delivers, beside its store's own bare write.

Both write the same records with the same promise of the store, in turn and batch by batch, so
that both meet the same machine. What is made ready before (decoded records here, finished
statements there) is not measured. Prints a line of figures for each sink.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import bson
import msgspec
import obstore
from msgspec import Struct
from pymongo import AsyncMongoClient, UpdateOne, WriteConcern

from bench.payloads import CLIP_BYTES, RECEIVED_AT_MS, Form, messages
from echo_ingest.cli.options import log_from
from echo_ingest.decode import Decoder
from echo_ingest.journal.entries import READ_BYTES_MAX
from echo_ingest.record import Ignored, Message, Rejected, message_key, payload_hash
from echo_ingest.sinks import Delivery, Sink, clips
from echo_ingest.sinks.mongodb import MongoDb
from echo_ingest.sinks.mongodb.documents import plan
from echo_ingest.sinks.objects import PUTS_AT_ONCE, Objects, sidecar_of
from echo_ingest.sinks.postgres import Postgres
from echo_ingest.sinks.postgres.rows import COLUMNS, table_rows
from tests import mongodb, postgres, s3
from tests.harness import free_port
from tests.machine import machine

PAYLOAD_BYTES_MAX = 1_048_576
WARM_UP_BATCHES = 2

Bare = Callable[[list[Delivery]], Callable[[], Awaitable[object]]]
"""Make a batch ready; what that returns writes it."""
Against = Callable[[Path], contextlib.AbstractAsyncContextManager[tuple[Sink, Bare]]]


@contextlib.asynccontextmanager
async def against_mongodb(folder: Path) -> AsyncIterator[tuple[Sink, Bare]]:
    """Compare with a bulk write of the same updates into another collection."""
    port = free_port()
    server = mongodb.server(folder, port)
    if mongodb.GIVEN_URL is None:
        server.start()
    sink = MongoDb(mongodb.url(port), "objects")
    try:
        async with AsyncMongoClient[dict[str, Any]](mongodb.url(port)) as client:
            bare = client.get_default_database().get_collection(
                "bare", write_concern=WriteConcern(w="majority", j=True)
            )

            def ready(batch: list[Delivery]) -> Callable[[], Awaitable[object]]:
                own = [write for write in plan(batch, "objects").documents if write.key]
                updates = [
                    UpdateOne({"_id": each.id}, bson.decode(bson.encode(each.update)), upsert=True)
                    for each in own
                ]
                return lambda: bare.bulk_write(updates, ordered=False)

            yield sink, ready
            await client.drop_database(mongodb.DATABASE)
    finally:
        await sink.close()
        server.kill()


@contextlib.asynccontextmanager
async def against_objects(folder: Path) -> AsyncIterator[tuple[Sink, Bare]]:
    """Compare with as many concurrent puts of the same objects: each clip and its sidecar."""
    server = s3.S3(folder / "s3.log")
    server.start()
    os.environ.update(server.environment(server.behind))
    sink, store = Objects(f"s3://{s3.BUCKET}"), server.store()
    slots = asyncio.Semaphore(PUTS_AT_ONCE)

    async def put(name: str, content: bytes) -> None:
        async with slots:
            await obstore.put_async(store, name, content, mode="create")

    def ready(batch: list[Delivery]) -> Callable[[], Awaitable[object]]:
        own = [
            (f"bare/{each.offset}.{kind}", content)
            for each in batch
            for kind, content in (
                ("wav", clips.audio_of(each.decoder, each.message, 0)),
                ("json", sidecar_of(each, 0, f"{each.offset}.wav")),
            )
        ]
        return lambda: asyncio.gather(*(put(name, content) for name, content in own))

    try:
        yield sink, ready
    finally:
        await sink.close()
        server.close()


@contextlib.asynccontextmanager
async def against_postgres(_folder: Path) -> AsyncIterator[tuple[Sink, Bare]]:
    """Compare with a COPY of the same rows into a table with the same columns and indexes."""
    cluster = postgres.Cluster(fsync="on", full_page_writes="on")
    sink = Postgres(cluster.url(postgres.DATABASE))
    try:
        cluster.start()
        await sink.migrate()
        twin = "CREATE TABLE bare (LIKE echo.detections INCLUDING INDEXES)"
        await cluster.execute(postgres.DATABASE, twin)
        connection = await asyncpg.connect(cluster.url(postgres.DATABASE))

        def ready(batch: list[Delivery]) -> Callable[[], Awaitable[object]]:
            rows = table_rows(batch)["detections"]
            return lambda: connection.copy_records_to_table(
                "bare", columns=COLUMNS["detections"], records=rows
            )

        yield sink, ready
        await connection.close()
    finally:
        await sink.close()
        cluster.close()


class Contest(Struct, frozen=True):
    """A sink, and what it is compared with."""

    against: Against
    form: Form = "detections"
    records: int = 20_000
    batch_records_max: int = 10_000


CONTESTS: dict[str, Contest] = {
    "postgres": Contest(against_postgres),
    "mongodb": Contest(against_mongodb),
    "objects": Contest(against_objects, "raw clips", 320, READ_BYTES_MAX // CLIP_BYTES),
}


def batches(form: Form, records: int, size: int, seed: int) -> Iterator[list[Delivery]]:
    """Yield batches of records, ready to be written."""
    decoder = Decoder(PAYLOAD_BYTES_MAX)
    batch: list[Delivery] = []
    for offset, (topic, payload) in enumerate(messages(form, records, seed), 1):
        arrived = Message(topic, payload, RECEIVED_AT_MS, topic.rpartition("/")[2])
        identified = decoder.identified(arrived, hashed=True)
        assert not isinstance(identified, Rejected | Ignored), identified
        key = message_key(arrived, identified.identity, payload_hash(arrived), offset)
        batch.append(Delivery(offset, key, arrived, identified.records, decoder))
        if len(batch) == size:
            yield batch
            batch = []


class Speed(Struct, frozen=True):
    """The speed of one sink and of the bare write beside it, in records a second."""

    sink: str
    sink_per_second: int
    bare_per_second: int
    ratio: float

    def __str__(self) -> str:
        parts = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return " ".join(f"{name}={value}" for name, value in parts)


async def speed(contest: Contest, records: int) -> Speed:
    """Measure one sink."""
    with tempfile.TemporaryDirectory() as folder:
        async with contest.against(Path(folder)) as (sink, bare):
            sizes = (sink.batch_records_max, contest.batch_records_max)
            size = min(*sizes, records // (2 * WARM_UP_BATCHES))
            sink_seconds = bare_seconds = 0.0
            for number, batch in enumerate(batches(contest.form, records, size, seed=1)):
                if number == WARM_UP_BATCHES:
                    sink_seconds = bare_seconds = 0.0
                ready = bare(batch)
                began = time.perf_counter()
                written = await sink.write(batch)
                between = time.perf_counter()
                await ready()
                bare_seconds += time.perf_counter() - between
                sink_seconds += between - began
                assert written.count == size, "a sink takes such a batch whole"
                assert not written.refusals, written.refusals[0].reason
            counted = (number + 1 - WARM_UP_BATCHES) * size
            return Speed(
                sink.name,
                round(counted / sink_seconds),
                round(counted / bare_seconds),
                round(bare_seconds / sink_seconds, 2),
            )


def main() -> None:
    """Measure the sinks that are named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CONTESTS)}")
    parser.add_argument("--records", type=int, help="how many, if not as many as usual")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    log_from(logging.WARNING)
    speeds = []
    for name in arguments.names or CONTESTS:
        contest = CONTESTS[name]
        records = arguments.records or contest.records
        speeds.append(asyncio.run(speed(contest, records)))
        print(speeds[-1], flush=True)
    if arguments.json is not None:
        date = datetime.now(UTC).date().isoformat()
        results = {"date": date, "machine": machine(), "speeds": speeds}
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")


if __name__ == "__main__":
    main()
