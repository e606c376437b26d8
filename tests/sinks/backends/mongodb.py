"""MongoDB, as a server that speaks its protocol; see `tests/mongodb.py`."""

from pathlib import Path
from typing import Any, ClassVar

from pymongo import AsyncMongoClient

from echo_ingest.record import AnyRecord, Message, Telemetry
from echo_ingest.sinks import Sink
from echo_ingest.sinks.mongodb import MongoDb
from echo_ingest.sinks.mongodb.documents import (
    AUDIO_UPLOADS,
    COLLECTIONS,
    EVENTS,
    MEASUREMENTS,
    MOVEMENTS,
)
from tests import mongodb
from tests.harness import free_port
from tests.server import Server
from tests.sinks.messages import MORNING, detection

TIMEOUT_SECONDS = 1.0


class MongoDbBackend:
    name: ClassVar[str] = "mongodb"
    has_server: ClassVar[bool] = mongodb.GIVEN_URL is None
    is_idempotent: ClassVar[bool] = True
    refused: ClassVar[Message | None] = Message(
        "iotingestion", detection(999, sensorId=None).payload, MORNING * 1000
    )
    cannot_hold: ClassVar[frozenset[str]] = frozenset({"nan", "infinity", "infinite-measurement"})

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Server | None = None
        self.port = 0

    def missing(self) -> str | None:
        return None

    async def start(self) -> None:
        if not self.has_server:
            return
        if self._server is None:
            self.port = free_port()
            self._server = mongodb.server(self._folder, self.port)
        if not self._server.is_running:
            self._server.start()

    async def stop(self) -> None:
        self._running.stop()

    async def kill(self) -> None:
        self._running.kill()

    def freeze(self) -> None:
        self._running.freeze()

    def thaw(self) -> None:
        self._running.thaw()

    async def clear(self) -> None:
        async with self._client() as client:
            for name in COLLECTIONS:
                await client.get_default_database()[name].delete_many({})

    def close(self) -> None:
        if self._server is not None:
            self._server.kill()

    def sink(self, port: int) -> Sink:
        return MongoDb(mongodb.url(port), "objects", TIMEOUT_SECONDS)

    def settings(self, port: int) -> dict[str, str]:
        return {"IOT_MONGODB_URL": mongodb.url(port)}

    def keeps(self, record: AnyRecord) -> bool:
        return not isinstance(record, Telemetry)  # of those, its node has the newest

    async def stored(self) -> list[bytes]:
        async with self._client() as client:
            return [
                bytes.fromhex(document["messageKey"])
                for name in (EVENTS, MOVEMENTS, AUDIO_UPLOADS, MEASUREMENTS)
                async for document in client.get_default_database()[name].find(
                    {}, {"messageKey": 1}
                )
            ]

    def _client(self) -> AsyncMongoClient[dict[str, Any]]:
        return AsyncMongoClient(mongodb.url(self.port))

    @property
    def _running(self) -> Server:
        assert self._server is not None, "it was never started"
        return self._server
