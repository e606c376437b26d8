"""Reading journal and almanac for HTTP, without holding up the event loop.

A request may hold a payload in memory from reading it until its last byte is sent, so at most
`REQUESTS_MAX` are under way; a further one waits `WAIT_SECONDS_MAX` for its turn.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from litestar.exceptions import ServiceUnavailableException
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from echo_ingest.almanac import Almanac
from echo_ingest.decode import Decoder
from echo_ingest.journal.reader import JournalReader

REQUESTS_MAX = 4
WAIT_SECONDS_MAX = 10.0
REQUEST_SECONDS_MAX = 300.0

A = TypeVar("A", Almanac, JournalReader)
T = TypeVar("T")


class JournalThreads:
    """Asks the journal at `path`, in its own threads."""

    def __init__(self, path: Path, decoder: Decoder) -> None:
        self.decoder = decoder
        self._path = path
        # Not asyncio's own threads: those look up host names for the session and the sinks.
        self._threads = ThreadPoolExecutor(REQUESTS_MAX, thread_name_prefix="read-api")

    async def ask(self, question: Callable[[JournalReader], T]) -> T:
        """Return the answer of a reader that is opened for this question."""
        return await _answer(
            self._threads, lambda: JournalReader(self._path, self.decoder), question
        )


class AlmanacThreads:
    """Asks the almanac at `path`, in its own threads: it waits for no scan of the journal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(REQUESTS_MAX, thread_name_prefix="almanac")

    async def ask(self, question: Callable[[Almanac], T]) -> T:
        """Return the answer of an almanac that is opened for this question.

        Raise `AlmanacUnready` as long as there is none.
        """
        return await _answer(self._threads, lambda: Almanac(self._path), question)


async def _answer(
    threads: ThreadPoolExecutor, open_source: Callable[[], A], question: Callable[[A], T]
) -> T:
    def answer() -> T:
        with closing(open_source()) as source:
            return question(source)

    return await asyncio.get_running_loop().run_in_executor(threads, answer)


def in_turn() -> Callable[[ASGIApp], ASGIApp]:
    """Return Litestar middleware that holds all its routes together to the limits above."""
    turns = asyncio.Semaphore(REQUESTS_MAX)

    def middleware(app: ASGIApp) -> ASGIApp:
        async def wait_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                async with asyncio.timeout(WAIT_SECONDS_MAX):
                    await turns.acquire()
            except TimeoutError:
                raise ServiceUnavailableException(
                    f"{REQUESTS_MAX} requests are being answered already; try again in a moment"
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
                if has_begun:  # the client is too slow; the server closes the connection
                    return
                raise ServiceUnavailableException(
                    f"there was no answer within {REQUEST_SECONDS_MAX:g} s; ask for less, with a"
                    " smaller limit or with since and until"
                ) from None
            finally:
                turns.release()

        return wait_and_answer

    return middleware
