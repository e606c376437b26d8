"""A bare HTTP server that answers as a test says, for what no real server can be made to answer."""

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from msgspec import Struct


class Request(Struct, frozen=True):
    """One request, read to its end."""

    method: str
    path: str
    headers: dict[str, str]
    """The headers, by their names in lower case."""
    body: bytes


class Answer(Struct, frozen=True):
    """What to say to it."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}


Answering = Callable[[Request], Answer | Literal["hang", "close"]]


class Wire:
    """Listens on `port` of 127.0.0.1 inside `async with`, and keeps what was asked."""

    def __init__(self, answering: Answering) -> None:
        self.port = 0
        self.requests: list[Request] = []
        self._answering = answering
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._converse(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                request = await _read(reader)
                self.requests.append(request)
                answer = self._answering(request)
                if answer == "hang":
                    await asyncio.Event().wait()
                if isinstance(answer, str):
                    return
                length = {"Content-Length": str(len(answer.body))}
                lines = [f"{k}: {v}" for k, v in {**length, **answer.headers}.items()]
                head = "\r\n".join([f"HTTP/1.1 {answer.status} So", *lines, "", ""])
                writer.write(head.encode() + (b"" if request.method == "HEAD" else answer.body))
                await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Request:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)
