"""`python -m bench.sinks [NAME …]`: what a sink delivers, beside its store's own bare write.

Both write the same detections with the same promise of the store, in turn and batch by batch, so
that both meet the same machine. What is made ready before (decoded records here, finished
statements there) is not measured. Prints a line of figures for each sink.
"""

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import bson
from pymongo import AsyncMongoClient, UpdateOne, WriteConcern

from bench.payloads import messages
from echo_ingest.decode import decode
from echo_ingest.record import Message, Rejected, identity, message_key, payload_hash
from echo_ingest.sinks import Delivery, Sink
from echo_ingest.sinks.mongodb import MongoDb
from echo_ingest.sinks.mongodb.documents import plan
from tests import mongodb
from tests.house import free_port

PAYLOAD_BYTES_MAX = 1_048_576
WARM_UP_BATCHES = 2

Bare = Callable[[list[Delivery]], Callable[[], Awaitable[object]]]
"""Make a batch ready; what that returns writes it."""
Contest = Callable[[Path], contextlib.AbstractAsyncContextManager[tuple[Sink, Bare]]]


@contextlib.asynccontextmanager
async def against_mongodb(folder: Path) -> AsyncIterator[tuple[Sink, Bare]]:
    """Beside a bulk write of the same updates, into a collection of its own."""
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


CONTESTS: dict[str, Contest] = {"mongodb": against_mongodb}


def batches(records: int, size: int, seed: int) -> Iterator[list[Delivery]]:
    """Detections, ready to be written."""
    batch: list[Delivery] = []
    for offset, (topic, payload) in enumerate(messages("detections", records, seed), 1):
        arrived = Message(topic, payload, 1_795_451_157_000, topic.rpartition("/")[2])
        record = decode(arrived, PAYLOAD_BYTES_MAX)
        assert not isinstance(record, Rejected), record.reason
        key = message_key(arrived, identity(record), payload_hash(arrived), offset)
        batch.append(Delivery(offset, key, arrived, record))
        if len(batch) == size:
            yield batch
            batch = []


async def figures(contest: Contest, records: int) -> str:
    """The line of one sink."""
    with tempfile.TemporaryDirectory() as folder:
        async with contest(Path(folder)) as (sink, bare):
            size = min(sink.batch_records_max, records // (2 * WARM_UP_BATCHES))
            sink_seconds = bare_seconds = 0.0
            for number, batch in enumerate(batches(records, size, seed=1)):
                if number == WARM_UP_BATCHES:
                    sink_seconds = bare_seconds = 0.0
                ready = bare(batch)
                began = time.perf_counter()
                written = await sink.write(batch)
                between = time.perf_counter()
                await ready()
                bare_seconds += time.perf_counter() - between
                sink_seconds += between - began
                assert written.count == size, "a sink takes a batch of detections whole"
                assert not written.refusals, written.refusals[0].reason
            counted = (number + 1 - WARM_UP_BATCHES) * size
            return (
                f"sink={sink.name} sink_per_second={counted / sink_seconds:.0f} "
                f"bare_per_second={counted / bare_seconds:.0f} "
                f"ratio={bare_seconds / sink_seconds:.2f}"
            )


def main() -> None:
    """Measure those that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CONTESTS)}")
    parser.add_argument("--records", type=int, default=20_000)
    arguments = parser.parse_args()
    for name in arguments.names or CONTESTS:
        print(asyncio.run(figures(CONTESTS[name], arguments.records)), flush=True)


if __name__ == "__main__":
    main()
