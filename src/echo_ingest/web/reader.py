"""Reading journal and almanac for HTTP, without holding up the event loop.

A question has its turn until it is answered: what its client then does not take waits with the
connection (`connections.py`). A download holds a whole payload in memory until its last byte is
sent, so its turn lasts as long; downloads have turns of their own, so that slow ones hold up no
question, and one address cannot have all. A request waits `WAIT_SECONDS_MAX` for its turn.
"""

import asyncio
from collections import Counter
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
from echo_ingest.web.connections import address_of

QUESTIONS_MAX = 4
DOWNLOADS_MAX = 4
DOWNLOADS_OF_ADDRESS_MAX = 3
TRIALS_MAX = 1
WAIT_SECONDS_MAX = 10.0
REQUEST_SECONDS_MAX = 300.0

Middleware = Callable[[ASGIApp], ASGIApp]
"""Litestar's: it wraps the routes that name it."""

A = TypeVar("A", Almanac, JournalReader)
T = TypeVar("T")


class JournalThreads:
    """Asks the journal at `path`, in its own threads."""

    def __init__(self, path: Path, decoder: Decoder) -> None:
        self.decoder = decoder
        self._path = path
        # Not asyncio's own threads: those look up host names for the session and the sinks.
        self._threads = ThreadPoolExecutor(QUESTIONS_MAX, thread_name_prefix="read-api")

    async def ask(self, question: Callable[[JournalReader], T]) -> T:
        """Return the answer of a reader that is opened for this question."""
        return await _answer(
            self._threads, lambda: JournalReader(self._path, self.decoder), question
        )


class AlmanacThreads:
    """Asks the almanac at `path`, in its own threads: it waits for no scan of the journal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(QUESTIONS_MAX, thread_name_prefix="almanac")

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


class RequestTurns:
    """How many requests are under way, in all and of each address."""

    def __init__(self, turns_max: int, of_address_max: int) -> None:
        self.turns_max = turns_max
        self._of_address_max = of_address_max
        self._taken: Counter[str] = Counter()
        self._given_back = asyncio.Condition()

    async def take(self, address: str) -> None:
        """Wait until a further request of `address` may begin."""
        async with self._given_back:
            await self._given_back.wait_for(
                lambda: (
                    self._taken.total() < self.turns_max
                    and self._taken[address] < self._of_address_max
                )
            )
            self._taken[address] += 1

    async def give_back(self, address: str) -> None:
        """Let the next request begin."""
        async with self._given_back:
            self._taken[address] -= 1
            self._taken += Counter()  # forgets addresses without any
            self._given_back.notify_all()


def questions_in_turn() -> Middleware:
    """Return middleware that holds all its routes together to so many questions at a time."""
    return _in_turn(RequestTurns(QUESTIONS_MAX, QUESTIONS_MAX), until_sent=False)


def downloads_in_turn() -> Middleware:
    """Return middleware that holds all its routes together to so many downloads at a time."""
    return _in_turn(RequestTurns(DOWNLOADS_MAX, DOWNLOADS_OF_ADDRESS_MAX), until_sent=True)


def trials_in_turn() -> Middleware:
    """Return middleware that holds all its routes together to one attempt with a form at a time."""
    return _in_turn(RequestTurns(TRIALS_MAX, TRIALS_MAX), until_sent=False)


def _in_turn(turns: RequestTurns, *, until_sent: bool) -> Middleware:
    def middleware(app: ASGIApp) -> ASGIApp:
        async def wait_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
            address = address_of(scope)
            try:
                async with asyncio.timeout(WAIT_SECONDS_MAX):
                    await turns.take(address)
            except TimeoutError:
                raise ServiceUnavailableException(
                    f"{turns.turns_max} requests are being answered already; try again in a moment",
                    headers={"Retry-After": "5"},
                ) from None
            has_begun, has_turn = False, True

            async def note_and_send(message: Message) -> None:
                nonlocal has_begun, has_turn
                has_begun = True
                if has_turn and not until_sent:
                    has_turn = False
                    await turns.give_back(address)
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
                if has_turn:
                    await turns.give_back(address)

        return wait_and_answer

    return middleware
