"""What the web process asks the ingest process: how it is, and how much it has done.

Each holds one end of a pair of sockets, so that nobody else can ask, and the end of one process is
the end of the line. A question is its name on a line, an answer is a line of JSON. Each question is
under way once at most, and everybody who asks it meanwhile gets the same answer: however many
requests come over HTTP, the ingest process writes a few lines at a time.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

import apsw
import msgspec
from msgspec import Raw, Struct

from echo_ingest.gauges import ServiceGauges
from echo_ingest.journal import Ledger
from echo_ingest.settings import Settings, Tokens
from echo_ingest.sinks import SinkState

Question = Literal[
    "live", "ready", "healthy", "endpoints", "ledger", "sink_states", "gauges", "metrics"
]
Answers = Mapping[Question, Callable[[], object]]
"""The functions that answer. Every call is cheap: it runs on the event loop that ingests."""

ANSWER_SECONDS_MAX = 3.0
ASK_EVERY_SECONDS = 5.0
SILENT_SECONDS_MAX = 30.0
LINE_BYTES_MAX = 4 * 1024 * 1024

T = TypeVar("T")


class NoAnswer(Exception):
    """The ingest process does not answer, or cannot; the text tells people why."""


class WebBootstrap(Struct, frozen=True):
    """What the web process gets at its start, by its standard input, which ends with us."""

    settings: Settings
    tokens: Tokens
    """The tokens that HTTP asks for."""
    listener: int
    """The descriptor of the socket that listens."""
    line: int
    """The descriptor of its end of the line."""
    log_level: int


class _Answer(Struct, frozen=True):
    question: Question
    answer: Raw = Raw(b"null")
    problem: str | None = None


async def answer(end: socket.socket, answers: Answers) -> bool:
    """Answer questions at `end` until the other end is closed.

    Return False if nothing was asked for `SILENT_SECONDS_MAX`: the other process stands still.
    """
    reader, writer = await asyncio.open_connection(sock=end)
    known = {f"{question}\n".encode(): question for question in answers}
    try:
        while question := known.get(await next_line(reader)):
            writer.write(msgspec.json.encode(_answer(question, answers[question])) + b"\n")
            await writer.drain()
    except TimeoutError:
        return False
    except (ConnectionError, ValueError):
        pass  # the other process is gone, or does not speak as we do
    finally:
        writer.close()
    return True


async def next_line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line; raise `TimeoutError` if none comes for `SILENT_SECONDS_MAX`.

    It tries twice: after a long commit of ours a line may just not have been read yet.
    """
    with contextlib.suppress(TimeoutError):
        return await asyncio.wait_for(reader.readline(), SILENT_SECONDS_MAX / 2)
    return await asyncio.wait_for(reader.readline(), SILENT_SECONDS_MAX / 2)


def _answer(question: Question, make: Callable[[], object]) -> _Answer:
    try:
        return _Answer(question, Raw(msgspec.json.encode(make())))
    except apsw.Error as error:  # ingestion meets it by itself, if it is in the way
        return _Answer(question, problem=f"the journal cannot be read: {error}")


class IngestClient:
    """The end that asks, which implements `web.health.Service`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._asked: dict[str, asyncio.Future[_Answer]] = {}

    @classmethod
    async def at(cls, end: socket.socket) -> "IngestClient":
        """Return the client at this end of the pair."""
        return cls(*await asyncio.open_connection(sock=end, limit=LINE_BYTES_MAX))

    async def run(self) -> None:
        """Take answers, and show every few seconds that we are alive, until the line ends."""
        asking = asyncio.create_task(self._ask_now_and_then())
        try:
            while line := await self._reader.readline():
                answer = msgspec.json.decode(line, type=_Answer)
                self._asked.pop(answer.question).set_result(answer)
        finally:
            asking.cancel()

    async def live(self) -> dict[str, str]:
        """Return the problems that only a restart of the ingest process would mend."""
        return await self._ask("live", dict[str, str])

    async def ready(self) -> dict[str, str]:
        """Return what keeps messages from being stored durably."""
        return await self._ask("ready", dict[str, str])

    async def healthy(self) -> dict[str, str]:
        """Return what else keeps a message from reaching us through the broker."""
        return await self._ask("healthy", dict[str, str])

    async def endpoints(self) -> dict[str, str]:
        """Return what is wrong with each broker of `IOT_ENDPOINTS`, by its name."""
        return await self._ask("endpoints", dict[str, str])

    async def ledger(self) -> Ledger:
        """Return the journal's figures."""
        return await self._ask("ledger", Ledger)

    async def sink_states(self) -> dict[str, SinkState]:
        """Return what each sink does just now."""
        return await self._ask("sink_states", dict[str, SinkState])

    async def gauges(self) -> ServiceGauges:
        """Return the figures of journal, disk and broker."""
        return await self._ask("gauges", ServiceGauges)

    async def metrics(self) -> str:
        """Return all metrics in the text format of Prometheus."""
        return await self._ask("metrics", str)

    async def _ask_now_and_then(self) -> None:
        while True:
            with contextlib.suppress(NoAnswer):
                await self.live()
            await asyncio.sleep(ASK_EVERY_SECONDS)

    async def _ask(self, question: Question, answer_type: type[T]) -> T:
        if question not in self._asked:
            self._asked[question] = asyncio.get_running_loop().create_future()
            self._writer.write(f"{question}\n".encode())
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                answer = await asyncio.shield(self._asked[question])
        except TimeoutError:
            raise NoAnswer(
                f"the ingest process has not answered for {ANSWER_SECONDS_MAX:g} s: the disk may "
                "hang, or the machine may be overloaded"
            ) from None
        if answer.problem is not None:
            raise NoAnswer(answer.problem)
        return msgspec.json.decode(answer.answer, type=answer_type)
