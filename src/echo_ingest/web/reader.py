"""Reading journal and almanac for HTTP without holding up the event loop that ingests.

A request may hold a payload in memory from reading it until its last byte is sent, so at most
`REQUESTS_MAX` of them are under way; a further one waits `WAIT_SECONDS_MAX` for its turn.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from litestar.exceptions import ServiceUnavailableException
from litestar.response import Stream
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from echo_ingest.almanac import Almanac
from echo_ingest.decode import Decoder
from echo_ingest.journal.reader import JournalReader
from echo_ingest.web.ranges import NOWHERE, part_of

REQUESTS_MAX = 4
WAIT_SECONDS_MAX = 10.0
REQUEST_SECONDS_MAX = 300.0
CHUNK_BYTES = 64 * 1024

A = TypeVar("A", Almanac, JournalReader)
T = TypeVar("T")


class JournalThreads:
    """Asks the journal at `path`, in threads of its own."""

    def __init__(self, path: Path, decoder: Decoder) -> None:
        self.decoder = decoder
        self._path = path
        # Not asyncio's own threads: those look up host names for the session and the sinks.
        self._threads = ThreadPoolExecutor(REQUESTS_MAX, thread_name_prefix="read-api")

    async def ask(self, question: Callable[[JournalReader], T]) -> T:
        """Return the answer of an archive that is opened for this question."""
        return await _answer(self._threads, lambda: JournalReader(self._path), question)


class AlmanacThreads:
    """Asks the almanac at `path`, in threads of its own: it waits for no scan of the journal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(REQUESTS_MAX, thread_name_prefix="almanac")

    async def ask(self, question: Callable[[Almanac], T]) -> T:
        """Return the answer of an almanac that is opened for this question.

        Raises `AlmanacUnready` as long as there is none.
        """
        return await _answer(self._threads, lambda: Almanac(self._path), question)


async def _answer(
    threads: ThreadPoolExecutor, opened: Callable[[], A], question: Callable[[A], T]
) -> T:
    def answer() -> T:
        with closing(opened()) as book:
            return question(book)

    return await asyncio.get_running_loop().run_in_executor(threads, answer)


def in_turn() -> Callable[[ASGIApp], ASGIApp]:
    """Litestar middleware that keeps to the limits above, all its routes together."""
    turns = asyncio.Semaphore(REQUESTS_MAX)

    def middleware(app: ASGIApp) -> ASGIApp:
        async def wait_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                async with asyncio.timeout(WAIT_SECONDS_MAX):
                    await turns.acquire()
            except TimeoutError:
                raise ServiceUnavailableException(
                    f"{REQUESTS_MAX} requests are being answered already; try again in a while"
                ) from None
            has_begun = False

            async def note_and_send(message: Message) -> None:
                nonlocal has_begun
                has_begun = True
                await send(message)

            try:
                async with asyncio.timeout(REQUEST_SECONDS_MAX):
                    await app(scope, receive, note_and_send)
            except TimeoutError:
                if has_begun:  # a reader that is too slow; the server closes the connection
                    return
                raise ServiceUnavailableException(
                    f"no answer within {REQUEST_SECONDS_MAX:g} s; narrow it down with a smaller"
                    " limit, or with since and until"
                ) from None
            finally:
                turns.release()

        return wait_and_answer

    return middleware


def download(
    body: bytes, media_type: str, name: str, asked: Mapping[str, str] | None = None
) -> Stream:
    """Offer `body` as a file, sent no faster than it is read, so that its turn lasts as long.

    Of a file whose request headers are given as `asked`, a part may be had.
    """
    size = len(body)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    status_code = 200
    if asked is not None:
        headers["Accept-Ranges"] = "bytes"
        if (part := part_of(asked, size)) is not None:
            body = body[part.first : part.last + 1]
            status_code = 206 if part != NOWHERE else 416
            span = f"{part.first}-{part.last}" if part != NOWHERE else "*"
            headers["Content-Range"] = f"bytes {span}/{size}"

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), CHUNK_BYTES):
            yield body[start : start + CHUNK_BYTES]

    return Stream(
        chunks(),
        status_code=status_code,
        media_type=media_type,
        headers={"Content-Length": str(len(body)), **headers},
    )
