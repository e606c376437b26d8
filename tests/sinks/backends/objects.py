"""Object storage: a folder, and S3."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from obstore.store import LocalStore

from echo_ingest.record import AnyRecord, Message
from echo_ingest.sinks import Sink, clips
from echo_ingest.sinks.objects import Objects
from tests.s3 import BUCKET, S3, clear, objects

PATIENCE_SECONDS = 1.0


class FolderBackend:
    name: ClassVar[str] = "objects"
    has_server: ClassVar[bool] = False
    is_idempotent: ClassVar[bool] = True
    refused: ClassVar[Message | None] = None
    cannot_hold: ClassVar[frozenset[str]] = frozenset()
    port = 0

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def missing(self) -> str | None:
        return None

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def kill(self) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    async def clear(self) -> None:
        clear(LocalStore(self._folder))

    def close(self) -> None: ...

    def sink(self, port: int) -> Sink:
        return Objects(self._folder.as_uri(), PATIENCE_SECONDS)

    def settings(self, port: int) -> dict[str, str]:
        return {"IOT_OBJECTS_URL": self._folder.as_uri()}

    def keeps(self, record: AnyRecord) -> bool:
        return clips.clip_of(record) is not None

    async def stored(self) -> list[bytes]:
        return list(_keys(objects(LocalStore(self._folder))))


class S3Backend:
    name: ClassVar[str] = "objects"
    has_server: ClassVar[bool] = True
    is_idempotent: ClassVar[bool] = True
    refused: ClassVar[Message | None] = None
    cannot_hold: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, folder: Path) -> None:
        self._s3 = S3(folder / "s3.log")
        self.port = self._s3.port

    def missing(self) -> str | None:
        return None

    async def start(self) -> None:
        self._s3.start()

    async def stop(self) -> None:
        self._s3.front.stop()

    async def kill(self) -> None:
        self._s3.front.kill()

    def freeze(self) -> None:
        self._s3.front.freeze()

    def thaw(self) -> None:
        self._s3.front.thaw()

    async def clear(self) -> None:
        clear(self._s3.store())

    def close(self) -> None:
        self._s3.close()

    def sink(self, port: int) -> Sink:
        os.environ.update(self._s3.environment(port))  # where the sink finds it when it begins
        return Objects(f"s3://{BUCKET}", PATIENCE_SECONDS)

    def settings(self, port: int) -> dict[str, str]:
        return {"IOT_OBJECTS_URL": f"s3://{BUCKET}", **self._s3.environment(port)}

    def keeps(self, record: AnyRecord) -> bool:
        return clips.clip_of(record) is not None

    async def stored(self) -> list[bytes]:
        return list(_keys(objects(self._s3.store())))


def _keys(stored: Mapping[str, bytes]) -> Iterator[bytes]:
    """Return the keys of records whose clip is there, by each `.json` and its clip."""
    for name, content in stored.items():
        folder, _, file = name.rpartition("/")
        if file.endswith(".json"):
            facts: dict[str, Any] = msgspec.json.decode(content)
            clip = stored.get(f"{folder}/{facts['audio']}")
            if clip is not None:  # else it was begun and cut off
                assert hashlib.sha256(clip).hexdigest() == facts["record"]["clip"]["sha256"]
                yield bytes.fromhex(facts["key"])
