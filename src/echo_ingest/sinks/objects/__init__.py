"""Object storage as a sink: each clip once, its original bytes, and what is known of it beside it.

A clip is called by its sensor, its time and its content (`clips`), so that a repeat meets itself:
an object is created only if there is none of that name, and one that is there is the same. A clip
that several records of one sensor and time have in common is kept once, with a `.json` for each
record. The same sound from another sensor, or at another time, is another clip: each has its place
by who heard it when, and no record needs to be asked where its clip is.

Records without a clip need nothing. Docs: docs/audio.md.
"""

import asyncio
import functools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from echo_ingest.record import AnyRecord
from echo_ingest.settings.urls import parse_objects_url
from echo_ingest.sinks import Delivery, Refusal, Unavailable, Written, clips
from echo_ingest.sinks.objects.errors import TooLarge
from echo_ingest.sinks.objects.folder import Folder

BATCH_RECORDS_MAX = 1_000
PUTS_AT_ONCE = 32
PATIENCE_SECONDS = 30.0
BYTES_PER_SECOND_MIN = 50_000
"""The slowest uplink on which the clips of a batch may take their time."""

PROBE_NAME = "audio/README.txt"
PROBE = b"""Audio that Echo Ingest has kept, each clip once:

  audio/<sensor>/<yyyy>/<mm>/<dd>/<time>_<SHA-256>.<wav, flac, mp3, ogg>   as it was recorded
  audio/<sensor>/<yyyy>/<mm>/<dd>/<time>_<SHA-256>_<record key>.json       what is known of it

Days and times are in UTC. The store of records names clips by these addresses.
"""


class ObjectStore(Protocol):
    """Where objects are: a folder or a bucket. All of it may raise `Unavailable`."""

    async def put(self, name: str, content: bytes, content_type: str) -> int | None:
        """Write an object unless there is one of that name; return the size of the one there was.

        It appears whole or not at all. Raises `TooLarge` if the store never takes this size.
        """

    async def flush(self) -> None:
        """Return once nothing that was put can be lost."""

    def close(self) -> None:
        """Begin nothing more."""


class ClipSidecar(Struct, frozen=True):
    """What lies beside a clip: who heard it when and where, and what was said of it."""

    audio: str
    """The name of the clip's file, in the same folder."""
    key: str
    """The record's, in hex: the same message always gets the same."""
    received_at: datetime
    topic: str
    properties: tuple[tuple[str, str], ...]
    record: AnyRecord


class Objects:
    """Takes the clips of records to one place; satisfies `Sink`.

    `url` is one that `parse_objects_url` takes; credentials are those of the environment.
    """

    name = clips.CLIP_STORE
    batch_records_max = BATCH_RECORDS_MAX
    is_idempotent = True

    def __init__(self, url: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.address = url
        self._patience_seconds = patience_seconds
        self._store = _store(url)

    # ------------------------------------------------------------------ the Sink protocol

    async def write(self, batch: Sequence[Delivery]) -> Written:
        """Settle the leading records whose clips are safe; or raise `Unavailable`."""
        puts = _Puts(self._store)
        needed = [puts.begin(delivery) for delivery in batch]
        seconds = self._patience_seconds + puts.size_bytes / BYTES_PER_SECOND_MIN
        late = Unavailable(
            f"{self.address} did not take {puts.size_bytes:,} bytes of audio in {seconds:.0f} s"
        )
        await puts.end(seconds)
        refusals: list[Refusal] = []
        count = 0
        for tasks in needed:
            if any(task.cancelled() or task.exception() for task in tasks):
                break
            reasons = [reason for task in tasks if (reason := task.result()) is not None]
            refusals += [Refusal(count, reason) for reason in reasons[:1]]
            count += 1
        if count == 0:
            raise puts.failed or late
        await self._flush(late)
        return Written(count, tuple(refusals), self.address)

    async def probe(self) -> None:
        """Put a note there that says what is kept; raise `Unavailable` with the remedy."""
        late = Unavailable(f"{self.address} did not answer in {self._patience_seconds:.0f} s")
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._store.put(PROBE_NAME, PROBE, "text/plain")
        except TimeoutError:
            raise late from None
        except TooLarge as error:
            raise Unavailable(f"{error}, even to a short text") from None
        await self._flush(late)

    async def close(self) -> None:
        """Let go of it."""
        self._store.close()

    async def _flush(self, late: Unavailable) -> None:
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._store.flush()
        except TimeoutError:
            raise late from None


class _Puts:
    """The objects of one batch, each put once, a few at a time and in order."""

    def __init__(self, store: ObjectStore) -> None:
        self.failed: Unavailable | None = None
        """The first that was met; nothing more is begun then."""
        self.size_bytes = 0
        """Of the clips, about what has to travel."""
        self._store = store
        self._slots = asyncio.Semaphore(PUTS_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[str | None]] = {}

    def begin(self, delivery: Delivery) -> list[asyncio.Task[str | None]]:
        """What must be done for one record; each ends with why its object is refused, or None."""
        clip = clips.clip_of(delivery.record)
        if clip is None:
            return []
        name = clips.clip_name(delivery.record, clip)
        beside = clips.facts_name(delivery.record, clip, delivery.key)
        return [
            self._put(name, clip.size_bytes, functools.partial(clips.audio_of, delivery.message),
                      clips.CONTENT_TYPES[clip.container]),
            self._put(beside, 0, functools.partial(facts, delivery, name), "application/json"),
        ]  # fmt: skip

    async def end(self, seconds: float) -> None:
        """Wait for all, so long at most; raise what is our own mistake."""
        tasks = list(self._tasks.values())
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=seconds)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, Unavailable):
                raise outcome

    def _put(
        self, name: str, size_bytes: int, content: Callable[[], bytes], content_type: str
    ) -> asyncio.Task[str | None]:
        if name not in self._tasks:
            self.size_bytes += size_bytes
            self._tasks[name] = asyncio.create_task(
                self._take(name, size_bytes, content, content_type)
            )
        return self._tasks[name]

    async def _take(
        self, name: str, size_bytes: int, content: Callable[[], bytes], content_type: str
    ) -> str | None:
        async with self._slots:
            if self.failed is not None:
                raise self.failed
            try:
                present_bytes = await self._store.put(name, content(), content_type)
            except TooLarge as error:
                return f"{error}: have the store take {size_bytes:,} bytes, then replay"
            except Unavailable as error:
                self.failed = self.failed or error
                raise
        if size_bytes and present_bytes not in (None, size_bytes):
            return (
                f"{name} is there with {present_bytes:,} bytes, this clip has {size_bytes:,}: "
                "find out who wrote over it, move it away, then replay"
            )
        return None


def facts(delivery: Delivery, clip_name: str) -> bytes:
    """The content of the `.json` beside a clip: `ClipSidecar`."""
    message = delivery.message
    said = ClipSidecar(
        audio=clip_name.rpartition("/")[2],
        key=delivery.key.hex(),
        received_at=datetime.fromtimestamp(message.received_at_ms / 1000, UTC),
        topic=message.topic,
        properties=message.properties,
        record=delivery.record,
    )
    return msgspec.json.format(msgspec.json.encode(said), indent=2) + b"\n"


def _store(url: str) -> ObjectStore:
    place = parse_objects_url(url)
    if place.scheme == "file":
        return Folder(Path(place.path))
    from echo_ingest.sinks.objects.bucket import Bucket  # heavy, and not needed for a folder

    return Bucket(place)
