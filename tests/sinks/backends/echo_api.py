"""The Echo API, as its replica: it cannot tell a repeat."""

from pathlib import Path
from typing import ClassVar

from echo_ingest.record import AnyRecord, Measurement, Message
from echo_ingest.sinks import Sink
from echo_ingest.sinks.echo_api import EchoApi
from tests.api import Api
from tests.sinks.messages import NODES, detection

TIMEOUT_SECONDS = 0.5
REFUSED_SPECIES = "Canis lupus dingo"


class EchoApiBackend:
    name: ClassVar[str] = "echo_api"
    has_server: ClassVar[bool] = True
    is_idempotent: ClassVar[bool] = False
    refused: ClassVar[Message | None] = detection(999, species=REFUSED_SPECIES)
    cannot_hold: ClassVar[frozenset[str]] = frozenset({"no-confidence", "nan", "infinity"})

    def __init__(self, folder: Path) -> None:
        self._log = folder / "stored"
        self._api = Api(self._log)
        self.port = self._api.port

    def missing(self) -> str | None:
        return None

    async def start(self) -> None:
        if not self._api.is_running:
            self._api.start(nodes=list(NODES), refuse_species=REFUSED_SPECIES)

    async def stop(self) -> None:
        self._api.stop()

    async def kill(self) -> None:
        self._api.kill()

    def freeze(self) -> None:
        self._api.freeze()

    def thaw(self) -> None:
        self._api.thaw()

    async def clear(self) -> None:
        self._log.write_bytes(b"")  # the replica appends

    def close(self) -> None:
        self._api.stop()

    def sink(self, port: int) -> Sink:
        # One by one: a bulk call has a key of its own, and not those of its records.
        return EchoApi(f"http://127.0.0.1:{port}", None, "objects", False, TIMEOUT_SECONDS)

    def settings(self, port: int) -> dict[str, str]:
        return {"IOT_API_URL": f"http://127.0.0.1:{port}", "IOT_API_BULK": "false"}

    def keeps(self, record: AnyRecord) -> bool:
        return not isinstance(record, Measurement)  # the API has no place for it

    async def stored(self) -> list[bytes]:
        heartbeats, stored = set[bytes](), []
        for each in self._api.received():
            key, collection = bytes.fromhex(each["idempotency_key"]), each["collection"]
            if collection == "nodes":
                # A PUT says what was heard last: repeated, as aiohttp may by itself, it changes
                # nothing.
                if key in heartbeats:
                    continue
                heartbeats.add(key)
            stored.append((collection, key))
        events = {key for collection, key in stored if collection == "events"}
        # A large clip goes before its event, under the same key.
        return [key for c, key in stored if c != "audio_uploads" or key not in events]
