"""PostgreSQL from Debian's packages, in a cluster of its own."""

from pathlib import Path
from random import Random
from typing import ClassVar

from echo_ingest.record import AnyRecord, Message
from echo_ingest.sinks import Sink
from echo_ingest.sinks.postgres import Postgres
from echo_ingest.sinks.postgres.rows import COLUMNS
from tests import postgres
from tests.postgres import DATABASE
from tests.sinks.messages import detection

TIMEOUT_SECONDS = 1.5
LONG_NAME = "".join(map(chr, Random(1).choices(range(0x4E00, 0x9FA6), k=2_000)))
"""The name of a node that is longer than an index of PostgreSQL can hold, even compressed."""


class PostgresBackend:
    name: ClassVar[str] = "postgres"
    has_server: ClassVar[bool] = True
    is_idempotent: ClassVar[bool] = True
    refused: ClassVar[Message | None] = Message(
        f"iotingestion/{LONG_NAME}", detection(999).payload, 1_795_000_000_000, LONG_NAME
    )
    cannot_hold: ClassVar[frozenset[str]] = frozenset(
        {"nul", "nul-in-movement", "nul-in-health", "nul-in-measurement"}
    )

    def __init__(self, folder: Path) -> None:
        self._cluster: postgres.Cluster | None = None
        self.port = 0

    def missing(self) -> str | None:
        return postgres.missing()

    async def start(self) -> None:
        if self._cluster is None:
            self._cluster = postgres.Cluster()
            self.port = self._cluster.port
        self._cluster.start()

    async def stop(self) -> None:
        self._server.stop()

    async def kill(self) -> None:
        self._server.kill()

    def freeze(self) -> None:
        self._server.freeze()

    def thaw(self) -> None:
        self._server.thaw()

    async def clear(self) -> None:
        await Postgres(self._server.url(DATABASE)).migrate()
        await self._server.execute(
            DATABASE, *(f"TRUNCATE echo.{table}" for table in ("nodes", *COLUMNS))
        )

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()

    def sink(self, port: int) -> Sink:
        return Postgres(self._server.url(DATABASE, port=port), TIMEOUT_SECONDS)

    def settings(self, port: int) -> dict[str, str]:
        return {"IOT_POSTGRES_URL": self._server.url(DATABASE, port=port)}

    def keeps(self, record: AnyRecord) -> bool:
        return True

    async def stored(self) -> list[bytes]:
        each = " UNION ALL ".join(
            f"SELECT journal_offset, key FROM echo.{table}"  # noqa: S608
            for table in COLUMNS
        )
        return [key for _, key in await self._server.rows(DATABASE, f"{each} ORDER BY 1")]

    @property
    def _server(self) -> postgres.Cluster:
        assert self._cluster is not None, "it was never started"
        return self._cluster
