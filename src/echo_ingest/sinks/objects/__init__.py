"""Object storage as a sink: each clip once, with its original bytes, and a description beside it.

The name of a clip is made of its sensor, time and content (`clips`), so that a repeat finds the
same name: an object is created only if none has that name, and one that exists is the same. A clip
that several records of one sensor and time share is kept once, with a `.json` for each record. The
same sound from another sensor, or at another time, is another clip: so the name follows from the
record alone, and nothing has to be looked up to know where a clip is.

Records without a clip need nothing. Docs: docs/audio.md.
"""

import asyncio
import functools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from echo_ingest.reasons import ReasonCode
from echo_ingest.record import AnyRecord, record_key
from echo_ingest.settings.urls import parse_objects_url
from echo_ingest.sinks import (
    Cause,
    Delivery,
    Refusal,
    Unavailable,
    Written,
    clips,
    which_record,
)
from echo_ingest.sinks.objects.folder import Folder
from echo_ingest.sinks.objects.responses import TooLarge

BATCH_RECORDS_MAX = 1_000
PUTS_AT_ONCE = 32
PATIENCE_SECONDS = 30.0
BYTES_PER_SECOND_MIN = 50_000
"""The slowest uplink for which the time limit of the clips of a batch is made."""

SECONDS_PER_PUT = 0.05
"""How much longer a message with more clips than are put at once may take, for each put."""

PROBE_NAME = "audio/README.txt"
PROBE = b"""Audio that Echo Ingest has kept, each clip once:

  audio/<sensor>/<yyyy>/<mm>/<dd>/<time>_<SHA-256>.<wav, flac, mp3, ogg>   as it was recorded
  audio/<sensor>/<yyyy>/<mm>/<dd>/<time>_<SHA-256>_<record key>.json       what a record says of it

Days and times are in UTC. Databases of records name clips by these addresses.
"""


class ObjectStore(Protocol):
    """A folder or a bucket with objects. Each of its functions may raise `Unavailable`."""

    async def put(self, name: str, content: bytes, content_type: str) -> int | None:
        """Write an object unless one has that name; return the size of that one, else None.

        It appears whole or not at all. Raises `TooLarge` if objects of this size are never taken.
        """

    async def flush(self) -> None:
        """Return once nothing that was put can be lost any more."""

    def close(self) -> None:
        """Begin nothing new."""


class ClipSidecar(Struct, frozen=True, omit_defaults=True):
    """The description beside a clip: which sensor heard it when and where, and what it heard."""

    audio: str
    """The name of the clip's file, in the same folder."""
    key: str
    """The key of the record in hex: the same record of the same message always has the same."""
    received_at: datetime
    topic: str
    properties: tuple[tuple[str, str], ...]
    record: AnyRecord
    index: int = 0
    """The place of the record in its message, where it is not the first one."""


class Objects:
    """The sink that takes the clips of records to one place; satisfies `Sink`.

    `url` is one that `parse_objects_url` takes; credentials come from the environment.
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
        """Settle the leading messages whose clips are safe; or raise `Unavailable`."""
        puts = _Puts(self._store)
        needed = [puts.begin(delivery) for delivery in batch]
        # All clips of the first message must be there before anything is settled.
        more = max(0, len(needed[0]) - PUTS_AT_ONCE) * SECONDS_PER_PUT
        seconds = self._patience_seconds + puts.size_bytes / BYTES_PER_SECOND_MIN + more
        late = self._late(f"did not take {puts.size_bytes:,} bytes of audio", seconds)
        await puts.end(seconds)
        refusals: list[Refusal] = []
        count = 0
        for of_message in needed:
            if any(put.task.cancelled() or put.task.exception() for put in of_message):
                break
            refused = (
                Refusal(count, put.which + why.reason, why.code)
                for put in of_message
                if (why := put.task.result()) is not None
            )
            refusals += islice(refused, 1)
            count += 1
        if count == 0:
            raise puts.failed or late
        await self._flush(late)
        return Written(count, tuple(refusals), self.address)

    async def probe(self) -> None:
        """Put a note there that says what is kept; raise `Unavailable` with the remedy."""
        late = self._late("did not answer", self._patience_seconds)
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._store.put(PROBE_NAME, PROBE, "text/plain")
        except TimeoutError:
            raise late from None
        except TooLarge as error:
            raise Unavailable(
                f"{error}, even to a short text: look at the limits of {self.address}",
                cause=Cause.MISCONFIGURED,
                http_status=error.http_status,
            ) from None
        await self._flush(late)

    async def close(self) -> None:
        """Begin nothing new."""
        self._store.close()

    def _late(self, what: str, seconds: float) -> Unavailable:
        return Unavailable(
            f"{self.address} {what} in {seconds:.0f} s: is its network or its disk slow?",
            cause=Cause.NO_ANSWER,
        )

    async def _flush(self, late: Unavailable) -> None:
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._store.flush()
        except TimeoutError:
            raise late from None


class _PutRefused(Struct, frozen=True):
    """Why an object is never taken."""

    reason: str
    code: ReasonCode


class _NeededPut(Struct, frozen=True):
    """A put that a message needs; messages may share one."""

    task: asyncio.Task[_PutRefused | None]
    """Results in why its object is refused, or None."""
    which: str
    """The words that name the record, where its message has several."""


class _Puts:
    """The objects of one batch, each put once, a few at a time and in order."""

    def __init__(self, store: ObjectStore) -> None:
        self.failed: Unavailable | None = None
        """The first failure, after which no further put is begun."""
        self.size_bytes = 0
        """The size of the clips, which is about what has to be sent."""
        self._store = store
        self._slots = asyncio.Semaphore(PUTS_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[_PutRefused | None]] = {}

    def begin(self, delivery: Delivery) -> list[_NeededPut]:
        """Begin the puts for the clips of one message."""
        needed: list[_NeededPut] = []
        for index, record in enumerate(delivery.records):
            clip = clips.clip_of(record)
            if clip is None:
                continue
            name = clips.clip_name(record, clip)
            sidecar = clips.sidecar_name(record, clip, record_key(delivery.key, index))
            audio = functools.partial(clips.audio_of, delivery.decoder, delivery.message, index)
            content = functools.partial(sidecar_of, delivery, index, name)
            which = which_record(index, len(delivery.records))
            content_type = clips.CONTENT_TYPES[clip.container]
            needed += [
                _NeededPut(self._put(name, clip.size_bytes, audio, content_type), which),
                _NeededPut(self._put(sidecar, 0, content, "application/json"), which),
            ]
        return needed

    async def end(self, seconds: float) -> None:
        """Wait for all of them, at most `seconds`; raise errors that are our own mistakes."""
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
    ) -> asyncio.Task[_PutRefused | None]:
        if name not in self._tasks:
            self.size_bytes += size_bytes
            self._tasks[name] = asyncio.create_task(
                self._take(name, size_bytes, content, content_type)
            )
        return self._tasks[name]

    async def _take(
        self, name: str, size_bytes: int, content: Callable[[], bytes], content_type: str
    ) -> _PutRefused | None:
        async with self._slots:
            if self.failed is not None:
                raise self.failed
            try:
                present_bytes = await self._store.put(name, content(), content_type)
            except TooLarge as error:
                return _PutRefused(
                    f"{error}: let it take objects of {size_bytes:,} bytes, then replay",
                    ReasonCode.TOO_LARGE_FOR_SINK,
                )
            except Unavailable as error:
                self.failed = self.failed or error
                raise
        if size_bytes and present_bytes not in (None, size_bytes):
            return _PutRefused(
                f"{name} exists with {present_bytes:,} bytes, and this clip has {size_bytes:,}: "
                "find out who wrote over it, move it away, then replay",
                ReasonCode.NAME_TAKEN_AT_SINK,
            )
        return None


def sidecar_of(delivery: Delivery, index: int, clip_name: str) -> bytes:
    """Return the content of the `.json` beside a clip: a `ClipSidecar`."""
    message = delivery.message
    sidecar = ClipSidecar(
        audio=clip_name.rpartition("/")[2],
        key=record_key(delivery.key, index).hex(),
        received_at=datetime.fromtimestamp(message.received_at_ms / 1000, UTC),
        topic=message.topic,
        properties=message.properties,
        record=delivery.records[index],
        index=index,
    )
    return msgspec.json.format(msgspec.json.encode(sidecar), indent=2) + b"\n"


def _store(url: str) -> ObjectStore:
    place = parse_objects_url(url)
    if place.scheme == "file":
        return Folder(Path(place.path))
    from echo_ingest.sinks.objects.bucket import Bucket  # heavy, and not needed for a folder

    return Bucket(place)
