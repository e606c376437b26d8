"""A faulty piece of network: a TCP proxy that cuts, stalls and leaves connections half open."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from tests.harness import free_port

CHUNK_BYTES = 65_536


class Strike(Struct):
    """What happens to one piece of what is passed on."""

    upward: bool
    """True towards the server, False from it."""
    pieces_before: int
    how: Literal["cut", "hold"]
    fell: asyncio.Event


class Proxy:
    """Listens on `port` and passes everything on to `upstream_port`, until told otherwise."""

    def __init__(self, upstream_port: int) -> None:
        self.port = free_port()
        self.latency_seconds = 0.0
        """How long each piece takes."""
        self._strike: Strike | None = None
        self._upstream_port = upstream_port
        self._server: asyncio.Server | None = None
        self._pairs: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        """Each connection's near side, who connected to us, and its far side."""
        self._deaf: set[asyncio.StreamWriter] = set()
        """Near sides whose connection has one open end: nothing is passed on."""
        self._connections: set[asyncio.Task[None]] = set()
        self._stalls = 0
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def stop(self) -> None:
        self.release()
        if self._server is not None:
            self._server.close()
        self.cut()
        if self._connections:
            await asyncio.wait(self._connections)

    def cut(self) -> None:
        """Break every connection at both ends; what is under way in us is gone."""
        for near, far in self._pairs.items():
            _abort(near)
            _abort(far)

    def strike(
        self, pieces_before: int, *, upward: bool, how: Literal["cut", "hold"]
    ) -> asyncio.Event:
        """Let some pieces of that direction pass, strike the next one, and set the event.

        `cut` breaks every connection, `hold` passes nothing on until `release`.
        """
        self._strike = Strike(upward, pieces_before, how, asyncio.Event())
        return self._strike.fell

    def release(self) -> None:
        """Go on, whatever `strike` has done or would still do."""
        self._strike = None
        self._flowing.set()

    async def stall(self, seconds: float) -> None:
        """Pass nothing on for `seconds`, then go on as if nothing had happened."""
        self._stalls += 1
        self._flowing.clear()
        await asyncio.sleep(seconds)
        self._stalls -= 1
        if self._stalls == 0:
            self._flowing.set()

    async def half_open(self, seconds: float, *, far_first: bool) -> None:
        """Break one end of every connection; the other end does not notice for `seconds`."""
        pairs = dict(self._pairs)
        self._deaf |= pairs.keys()
        for near, far in pairs.items():
            _abort(far if far_first else near)
        await asyncio.sleep(seconds)
        for near, far in pairs.items():
            _abort(near if far_first else far)
        self._deaf -= pairs.keys()

    def _accept(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass_on(reader, near))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            _abort(near)
            return
        self._pairs[near] = far
        both = [
            asyncio.create_task(self._pump(reader, far, True, lambda: near in self._deaf)),
            asyncio.create_task(self._pump(far_reader, near, False, lambda: near in self._deaf)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            while near in self._deaf:
                await asyncio.sleep(0.05)
            # What one side said before it closed is still to reach the other.
            await asyncio.wait(both, timeout=0.1)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            del self._pairs[near]
            near.close()
            far.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upward: bool,
        is_deaf: Callable[[], bool],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if self.latency_seconds:
                    await asyncio.sleep(self.latency_seconds)
                self._fall(upward)
                await self._flowing.wait()
                if not is_deaf() and not writer.is_closing():
                    writer.write(data)
                    await writer.drain()

    def _fall(self, upward: bool) -> None:
        strike = self._strike
        if strike is None or strike.upward != upward:
            return
        if strike.pieces_before:
            strike.pieces_before -= 1
            return
        self._strike = None
        if strike.how == "cut":
            self.cut()
        else:
            self._flowing.clear()
        strike.fell.set()


def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
