"""Attackers: each kind is a function, bounded in count and time, that a process of its own runs.

`Attacker` is what it works with; it counts what the server answered. `kinds` lists them, and
`__main__` runs one.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from random import Random

from msgspec import Struct

from tests.siege.link import Link, connect

ANSWER_SECONDS_MAX = 20.0
ODDITY_SECONDS_MAX = 3.0
"""How long an attacker waits for the answer to what needs none."""
AGAIN_SECONDS = 1.0
"""When an attacker comes back that was thrown out."""


class Target(Struct, frozen=True):
    """What attackers know of the installation."""

    mqtt_port: int
    ws_port: int
    http_port: int
    node: str
    """A node whose password the attackers have."""
    node_password: str
    publisher_password: str
    """Of `echopub`."""
    reader_token: str
    """Of the read API: a reader may be slow, too."""
    herd: tuple[tuple[str, str], ...]
    """Many nodes of good will, with their passwords, that all come at the same time."""


class Answers(Struct):
    """How often an attacker has tried, and what it was answered."""

    attempts: int
    counts: dict[str, int]


class Refused(Exception):
    """The broker did not let us in; the text is its answer."""


class Attacker:
    """One bout of an attack."""

    def __init__(self, target: Target, rng: Random, address: str, seconds: float) -> None:
        self.target = target
        self.rng = rng
        self.answers = Answers(0, {})
        self.address = address
        self._ends_at = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._ends_at

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._ends_at - time.monotonic())

    def note(self, answer: str) -> None:
        counts = self.answers.counts
        counts[answer] = counts.get(answer, 0) + 1

    async def link(self, *, websocket: bool | None = None) -> Link:
        """Connect to a device port; to which, the seed decides unless told."""
        if websocket is None:
            websocket = self.rng.random() < 0.4
        port = self.target.ws_port if websocket else self.target.mqtt_port
        return await Link.open(port, self.address, websocket=websocket)

    async def login(self, *, node: bool = False, websocket: bool | None = None) -> Link:
        """Connect and log in, as our node or as `echopub`."""
        target = self.target
        user = target.node if node else "echopub"
        password = target.node_password if node else target.publisher_password
        link = await self.link(websocket=websocket)
        client_id = f"evil-{self.rng.getrandbits(40):x}"
        try:
            await link.send(connect(client_id, user, password))
            answer = await link.answer()
        except BaseException:
            link.close()
            raise
        if answer != "CONNACK 0":
            link.close()
            raise Refused(answer)
        return link

    async def each(
        self,
        count: int,
        at_once: int,
        try_one: Callable[[int], Awaitable[str | None]],
        patience_seconds: float = ANSWER_SECONDS_MAX,
    ) -> None:
        """Try `count` times, `at_once` at a time, until time is up; note each answer.

        Even one that has started late, because the machine is busy, tries once.
        """
        numbers = iter(range(count))

        async def some() -> None:
            for number in numbers:
                if self.is_over and number >= at_once:
                    return
                await self.once(try_one(number), patience_seconds)

        await asyncio.gather(*(some() for _ in range(at_once)))

    async def keep(self, count: int, hold_one: Callable[[int], Awaitable[str]]) -> None:
        """Hold `count` of something at once until time is up; begin anew what the server ends.

        Even one that has started late, because the machine is busy, begins once.
        """

        async def some(number: int) -> None:
            is_first = True
            while is_first or not self.is_over:
                is_first = False
                seconds = max(self.seconds_left, ODDITY_SECONDS_MAX)
                await self.once(hold_one(number), seconds, otherwise="held")
                await asyncio.sleep(AGAIN_SECONDS)

        await asyncio.gather(*map(some, range(count)))

    async def once(
        self,
        trying: Awaitable[str | None],
        patience_seconds: float,
        otherwise: str = "no answer",
    ) -> None:
        """Try once, and note the answer or how it failed; `otherwise` if it just goes on."""
        self.answers.attempts += 1
        try:
            async with asyncio.timeout(patience_seconds):
                answer = await trying
        except TimeoutError:
            answer = otherwise
        except ConnectionRefusedError:
            answer = "refused"
        except Refused as refused:
            answer = str(refused)
        except (OSError, EOFError):
            answer = "closed"
        if answer is not None:
            self.note(answer)

    async def never_mind(self, trying: Awaitable[None]) -> None:
        """Await something; note it if the server ends it."""
        try:
            await trying
        except (OSError, EOFError):
            self.note("closed")

    async def hold(self, links: Iterable[Link]) -> None:
        """Keep connections open until time is up; note which of them the server has closed."""
        ends = {asyncio.create_task(_end_of(link)): link for link in links}
        closed: set[asyncio.Task[None]] = set()
        if ends:
            closed, _ = await asyncio.wait(ends, timeout=self.seconds_left)
        for end, link in ends.items():
            self.note("closed in time" if end in closed else "held")
            end.cancel()
            link.close()

    async def until_over(self) -> None:
        await asyncio.sleep(self.seconds_left)

    async def begin(
        self, count: int, at_once: int, begin_one: Callable[[int], Awaitable[Link]]
    ) -> list[Link]:
        """Begin `count` connections; return those that the server has let us begin."""
        links: list[Link] = []

        async def add(number: int) -> None:
            links.append(await begin_one(number))

        await self.each(count, at_once, add)
        return links

    async def http(self, request: bytes, *, read_bytes_max: int = 1_000_000) -> tuple[str, bytes]:
        """Send bytes to the HTTP port; return the status, and what came."""
        reader, writer = await self.http_connection()
        try:
            writer.write(request)
            await writer.drain()
            received = await reader.read(65_536)
            while len(received) < read_bytes_max and (more := await reader.read(65_536)):
                received += more
        finally:
            writer.transport.abort()
        if not received.startswith(b"HTTP/1.1 "):
            return "closed", received
        return received[9:12].decode(), received

    async def http_connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.target.http_port, local_addr=(self.address, 0)
        )


async def _end_of(link: Link) -> None:
    with contextlib.suppress(OSError):
        while await link.reader.read(65_536):
            pass
