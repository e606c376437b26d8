"""MongoDB as a sink, with the documents of Project Echo's own store: what it writes and promises.

One `write` is a bulk of unordered updates for each collection that the batch needs, confirmed by a
majority of the servers and on their disks (`w: majority`, `j: true`).

- A record's own document is only ever inserted (`$setOnInsert`), under an id made from its key. So
  a repeat changes nothing, not even what the HMI has changed meanwhile.
- Species and nodes that a record names are written before it; those that exist stay as they are.
- What a node reports about itself replaces its earlier reports, never later ones.
- Writes that the server refuses are refused one by one, in its words; any other error, such as no
  primary or no majority, means that MongoDB is unavailable.

`documents` has what is written, `errors` what errors mean, and docs/mongodb.md describes it all.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from bson import ObjectId
from pymongo import AsyncMongoClient, UpdateOne, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, PyMongoError

from echo_ingest import __version__
from echo_ingest.reasons import ReasonCode
from echo_ingest.settings.urls import mongodb_address
from echo_ingest.sinks import Delivery, Refusal, Written
from echo_ingest.sinks.mongodb import server_errors
from echo_ingest.sinks.mongodb.documents import COLLECTIONS, Fields, Write, plan
from echo_ingest.sinks.project_echo import Schema

CLOSE_SECONDS = 2.0
FOUND_SECONDS_MAX = 5.0
"""The longest wait for a connection and for a primary: an election takes longer, and is retried."""
BYTES_PER_SECOND_MIN = 50_000
"""The slowest uplink for which the time limit of a large batch is made."""
NOBODY = ObjectId(bytes(12))


class MongoDb:
    """The sink that takes records to one MongoDB database; satisfies `Sink`.

    `url` is a secret. `schema` is the form of places for the version of Project Echo that reads
    them. `timeout_seconds` is for a small batch; a large one gets longer.
    """

    name = "mongodb"
    batch_records_max = 1000
    is_idempotent = True

    def __init__(self, url: str, schema: Schema, timeout_seconds: float = 30.0) -> None:
        self._url = url
        self.address = mongodb_address(url)
        self._schema = schema
        self._timeout_seconds = timeout_seconds
        self._client: AsyncMongoClient[Fields] | None = None

    # ------------------------------------------------------------------ the Sink protocol

    async def write(self, batch: Sequence[Delivery]) -> Written:
        """Settle the batch: MongoDB has all of it that it does not refuse."""
        planned = plan(batch, self._schema)
        refused = {refusal.index: refusal for refusal in planned.refusals}
        size_bytes = sum(len(delivery.message.payload) for delivery in batch)
        async with self._database(size_bytes) as database:
            await _send(database, planned.joins, refused)
            await _send(database, planned.documents, refused)
        return Written(len(batch), tuple(refused[index] for index in sorted(refused)))

    async def probe(self) -> None:
        """Find out if there is a primary that lets us write; store nothing.

        Raises `Unavailable` with the remedy.
        """
        async with self._database() as database:
            for name in COLLECTIONS:
                await database[name].find_one({"_id": NOBODY}, {"_id": 1})
                await database[name].update_one({"_id": NOBODY}, {"$set": {"messageKey": ""}})

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(TimeoutError, PyMongoError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await client.close()

    # ------------------------------------------------------------------ connections

    @contextlib.asynccontextmanager
    async def _database(self, size_bytes: int = 0) -> AsyncIterator[AsyncDatabase[Fields]]:
        """Give the database; raise errors from inside the block as `Unavailable`."""
        soon_ms = int(min(self._timeout_seconds / 2, FOUND_SECONDS_MAX) * 1000)
        try:
            if self._client is None:
                self._client = AsyncMongoClient(
                    self._url,
                    appname=f"echo-ingest/{__version__}",
                    connectTimeoutMS=soon_ms,
                    serverSelectionTimeoutMS=soon_ms,
                    retryReads=False,  # `deliver` retries, visibly
                    retryWrites=False,
                )
            async with asyncio.timeout(self._timeout_seconds + size_bytes / BYTES_PER_SECOND_MIN):
                # Half of it, so that the answer that says so comes in time.
                patience_ms = int(self._timeout_seconds * 500)
                confirmed = WriteConcern(w="majority", j=True, wtimeout=patience_ms)
                yield self._client.get_default_database(write_concern=confirmed)
        except (PyMongoError, TimeoutError) as error:
            raise server_errors.unavailable(error, self.address) from None


async def _send(
    database: AsyncDatabase[Fields], writes: Sequence[Write], refused: dict[int, Refusal]
) -> None:
    """Send the writes except for messages in `refused`, and add those that are refused now."""
    collections: dict[str, list[Write]] = {}
    for each in writes:
        if not refused.keys() >= set(each.deliveries):
            collections.setdefault(each.collection, []).append(each)
    for name, group in collections.items():
        requests = [
            UpdateOne({"_id": each.id, **each.condition}, each.update, upsert=each.is_upsert)
            for each in group
        ]
        result: Mapping[str, Any]
        try:
            result = (await database[name].bulk_write(requests, ordered=False)).bulk_api_result
        except BulkWriteError as error:
            result = error.details
        refusals = server_errors.refusals(result)
        new = {upserted["index"] for upserted in result["upserted"]}
        old = [each for place, each in enumerate(group) if place not in new | refusals.keys()]
        for place, reason in refusals.items():
            write = group[place]
            for index in write.deliveries:
                refused.setdefault(index, Refusal(index, write.which + reason))
        for refusal in await _taken(database, name, [each for each in old if each.key]):
            refused.setdefault(refusal.index, refusal)


async def _taken(
    database: AsyncDatabase[Fields], name: str, writes: Sequence[Write]
) -> list[Refusal]:
    """Return a refusal for each write whose document is another record's, or somebody else's."""
    if not writes:
        return []
    others = database[name].find(
        {
            "_id": {"$in": [each.id for each in writes]},
            "messageKey": {"$nin": [each.key for each in writes]},
        },
        {"_id": 1},
    )
    ids = {str(other["_id"]) async for other in others}
    return [
        Refusal(
            each.deliveries[0],
            f"{each.which}{name} has another document with the _id {each.id}: give that one "
            "another _id, then replay",
            ReasonCode.NAME_TAKEN_AT_SINK,
        )
        for each in writes
        if str(each.id) in ids
    ]
