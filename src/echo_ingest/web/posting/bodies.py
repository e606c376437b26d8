"""Bodies of posted messages: how many there are at once, how large, and how slow.

Only those who have logged in get here. Small bodies need no turn; of large ones as many bytes are
held as `HELD_BYTES_MAX` says, or one of them.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator

from litestar.exceptions import (
    ClientException,
    HTTPException,
    ServiceUnavailableException,
    TooManyRequestsException,
)

from echo_ingest.web.connections import let_body_take_time
from echo_ingest.web.posting.incoming import announced_bytes, too_large
from echo_ingest.web.problems import AnyRequest

SMALL_BYTES_MAX = 64 * 1024
HELD_BYTES_MAX = 32 * 1024 * 1024
TURN_SECONDS_MAX = 10.0
BODY_SECONDS_MAX = 600.0
UNDER_WAY_MAX = 400
UNDER_WAY_OF_NODE_MAX = 40
RETRY = {"Retry-After": "5"}


class MessagesUnderWay:
    """The messages that are being received: how many, of each node too, and how many bytes."""

    def __init__(self, payload_bytes_max: int) -> None:
        self._payload_bytes_max = payload_bytes_max
        self._bytes_max = max(HELD_BYTES_MAX, payload_bytes_max)
        self._held_bytes = 0
        self._given_back = asyncio.Event()
        self._first_in_line = asyncio.Lock()
        self._of_node: Counter[str] = Counter()

    @contextlib.contextmanager
    def counted(self, node: str) -> Iterator[None]:
        """Count a message of `node` inside the block, unless there are too many already."""
        if self._of_node[node] >= UNDER_WAY_OF_NODE_MAX:
            raise TooManyRequestsException(
                f"{UNDER_WAY_OF_NODE_MAX} messages of this node are under way already: wait for "
                "an answer before the next",
                headers={"Retry-After": "1"},
            )
        if self._of_node.total() >= UNDER_WAY_MAX:
            raise ServiceUnavailableException(
                f"{UNDER_WAY_MAX} messages are under way already; try again in a moment",
                headers=RETRY,
            )
        self._of_node[node] += 1
        try:
            yield
        finally:
            self._of_node[node] -= 1
            self._of_node += Counter()  # forgets nodes without any

    @contextlib.asynccontextmanager
    async def body(self, request: AnyRequest) -> AsyncIterator[bytes]:
        """Read the body, and hold it inside the block."""
        size = announced_bytes(request.headers, self._payload_bytes_max)
        async with self.room(size if size > SMALL_BYTES_MAX else 0):
            let_body_take_time(request.scope)  # now that somebody reads it
            try:
                async with asyncio.timeout(BODY_SECONDS_MAX):
                    body = await self._read(request)
            except TimeoutError:
                raise HTTPException(
                    f"the body did not arrive within {BODY_SECONDS_MAX:g} s", status_code=408
                ) from None
            yield body

    async def _read(self, request: AnyRequest) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await request.receive()
            if message["type"] != "http.request":
                raise ClientException("the client left before its message was complete")
            size += len(message["body"])
            if size > self._payload_bytes_max:
                raise too_large(self._payload_bytes_max)
            pieces.append(message["body"])
            if not message["more_body"]:
                return b"".join(pieces)

    @contextlib.asynccontextmanager
    async def room(self, size: int) -> AsyncIterator[None]:
        """Hold so many bytes inside the block; wait until there is room for them."""
        if not size:  # it does not wait behind a large one either
            yield
            return
        try:
            async with asyncio.timeout(TURN_SECONDS_MAX), self._first_in_line:
                while self._held_bytes and self._held_bytes + size > self._bytes_max:
                    self._given_back.clear()
                    await self._given_back.wait()
                self._held_bytes += size
        except TimeoutError:
            raise ServiceUnavailableException(
                "too much is being received already; try again in a moment", headers=RETRY
            ) from None
        try:
            yield
        finally:
            self._held_bytes -= size
            self._given_back.set()
