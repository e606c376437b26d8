"""The Echo API's replica in a thread of the test, watched: what it stored, when, by which call.

A plan of troubles can be given to it; each call takes the next one. Beside the replica's own there
are `slow`, `cut` (the connection breaks before anything is stored) and `hang` (stored, and no
answer until the other side gives up).
"""

import asyncio
import secrets
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any

from aiohttp import web
from msgspec import Struct

from tests.replica import Answer, Json, Replica

SLOW_SECONDS = 0.5
POLL_SECONDS = 0.02
BULK = "/detections/bulk"
STORED_BUT_NOT_SAID = frozenset({"hang", "reset", "truncate", "lie"})
"""Troubles after which the other side cannot know that all of it was stored."""

Trouble = str | int


class Call(Struct):
    """One call that could store something."""

    at_seconds: float
    trouble: Trouble


class Stored(Struct, frozen=True):
    """One thing that was stored."""

    name: str
    """By which the test knows it: an event's sensor id, else the last word of a heartbeat."""
    key: str | None
    """The call's Idempotency-Key."""
    call: int
    """The place of the call among all calls."""


class WatchedApi(Replica):
    """A replica that runs in its own thread from `listen` to `vanish`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: list[Call] = []
        self.stored: list[Stored] = []
        self.at_once = 0
        """The most calls that were under way at the same time."""
        self.latency_seconds = 0.0
        self._troubles: Iterator[Trouble] = iter(())
        self._lies = 0
        self._under_way = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ what tests call

    def listen(self, port: int) -> None:
        """Answer on `port` from now on."""
        self._do(self.start(port))

    def vanish(self) -> None:
        """Refuse connections from now on."""
        self._do(self.stop())

    def end(self) -> None:
        """Stop for good."""
        self.vanish()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def plan(self, troubles: Iterable[Trouble]) -> None:
        """Set the faults of the next calls, one by one ("" for none); after them all is well."""
        self._troubles = iter(troubles)

    def trouble_of(self, stored: Stored) -> Trouble:
        """Return the fault of the call that stored this."""
        return self.calls[stored.call].trouble

    def _do(self, task: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(task, self._loop).result(20)

    # ------------------------------------------------------------------ around the replica

    @web.middleware
    async def _surround(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        if request.method == "GET":
            return await super()._surround(request, handler)
        call = Call(time.monotonic(), self._next_trouble(request.path))
        self.calls.append(call)
        self._under_way += 1
        self.at_once = max(self.at_once, self._under_way)
        try:
            if self.latency_seconds:
                await asyncio.sleep(self.latency_seconds)
            match call.trouble:
                case "slow":
                    await asyncio.sleep(SLOW_SECONDS)
                case "cut":
                    assert request.transport is not None
                    request.transport.abort()
                    return web.Response()
                case "hang":
                    response = await super()._surround(request, handler)
                    while request.transport is not None and not request.transport.is_closing():
                        await asyncio.sleep(POLL_SECONDS)
                    return response
                case trouble:
                    self.options.trouble, self.options.trouble_times = trouble, 1  # type: ignore[assignment]
            return await super()._surround(request, handler)
        finally:
            self.options.trouble = ""
            self._under_way -= 1

    def _next_trouble(self, path: str) -> Trouble:
        trouble = next(self._troubles, "")
        if trouble == "lie":  # only the bulk call can: the next one will
            self._lies += 1
            trouble = ""
        if self._lies and path == BULK:
            self._lies -= 1
            return "lie"
        return trouble

    def _store(self, request: web.Request, collection: str, document: Json) -> str:
        name = document.get("sensorId") or document.get("lastMessage", "").rpartition(" ")[2]
        key = request.headers.get("Idempotency-Key")
        self.stored.append(Stored(name, key, len(self.calls) - 1))
        return secrets.token_hex(12)
