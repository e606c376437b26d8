"""A faulty piece of network: a TCP proxy that cuts, stalls and leaves connections half open."""

import asyncio
import contextlib
from collections.abc import Callable

from tests.house import free_port

CHUNK_BYTES = 65_536


class Proxy:
    """Listens on `port` and passes everything on to `upstream_port`, until told otherwise."""

    def __init__(self, upstream_port: int) -> None:
        self.port = free_port()
        self._upstream_port = upstream_port
        self._server: asyncio.Server | None = None
        self._pairs: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        """Each connection's near side, who connected to us, and its far side."""
        self._deaf: set[asyncio.StreamWriter] = set()
        """Near sides whose connection has one open end: nothing is passed on."""
        self._stalls = 0
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)

    async def stop(self) -> None:
        self.cut()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def cut(self) -> None:
        """Break every connection at both ends; what is under way in us is gone."""
        for near, far in self._pairs.items():
            _abort(near)
            _abort(far)

    async def stall(self, seconds: float) -> None:
        """Pass nothing on for so long, then go on as if nothing had been."""
        self._stalls += 1
        self._flowing.clear()
        await asyncio.sleep(seconds)
        self._stalls -= 1
        if self._stalls == 0:
            self._flowing.set()

    async def half_open(self, seconds: float, *, far_first: bool) -> None:
        """Break one end of every connection; the other end hears nothing of it for so long."""
        pairs = dict(self._pairs)
        self._deaf |= pairs.keys()
        for near, far in pairs.items():
            _abort(far if far_first else near)
        await asyncio.sleep(seconds)
        for near, far in pairs.items():
            _abort(near if far_first else far)
        self._deaf -= pairs.keys()

    async def _pass_on(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            _abort(near)
            return
        self._pairs[near] = far
        both = [
            asyncio.create_task(self._pump(reader, far, lambda: near in self._deaf)),
            asyncio.create_task(self._pump(far_reader, near, lambda: near in self._deaf)),
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
        is_deaf: Callable[[], bool],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing.wait()
                if not is_deaf() and not writer.is_closing():
                    writer.write(data)
                    await writer.drain()


def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
