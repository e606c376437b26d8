"""What is new, for the tabs that are open: one stream of events for each, of parts of its page.

A topic is a page; its parts are pieces of HTML, by name. While anybody looks at a topic in some
zone, its parts are made again when something has changed, once a second at most, and what differs
from before goes to all those tabs, as the same bytes. A tab holds the newest of each part and no
more, so that a slow one skips. Parts are made one after the other and for half of the time at
most, however many topics and zones there are; nobody looking costs nothing.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import msgspec
import structlog
from litestar import Request
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ServiceUnavailableException,
)
from litestar.handlers import ASGIRouteHandler, asgi
from litestar.types import Receive, Scope, Send

from echo_ingest.almanac import AlmanacUnready
from echo_ingest.ipc import NoAnswer
from echo_ingest.journal import JournalUnusable
from echo_ingest.web.console.auth import Viewer, viewer_of
from echo_ingest.web.console.formatting import zone_called
from echo_ingest.web.console.rendering import AnyRequest

Parts = Callable[[ZoneInfo, Viewer], Awaitable[dict[str, str]]]
"""Makes all parts of a topic as they are now, for those who may act or those who may not."""

TABS_MAX = 1_000
LOOK_SECONDS = 0.2
AGAIN_SECONDS = 1.0
STALE_SECONDS = 5.0
"""Parts also tell how long ago something was, and how the house is: made again after so long."""
MAKE_SECONDS_MAX = 10.0
BEAT_SECONDS = 15.0
RETRY_MS = (2_000, 6_000)

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy that gathers would hold news back
]
BEAT = b"event: beat\ndata: {}\n\n"
NOT_NOW = (HTTPException, NoAnswer, JournalUnusable, AlmanacUnready, TimeoutError)

log = structlog.get_logger("web")


class Tab:
    """One that is open: what it has not been sent yet."""

    def __init__(self) -> None:
        self._waiting: dict[str, bytes] = {}
        self._news = asyncio.Event()
        self.has_ended = False

    def put(self, parts: Iterable[tuple[str, bytes]]) -> None:
        """The newest of each part is to be sent."""
        self._waiting.update(parts)
        self._news.set()

    def end(self) -> None:
        """Nothing more comes."""
        self.has_ended = True
        self._news.set()

    async def next(self) -> bytes:
        """All that waits, once something does; a beat if nothing does for a while."""
        try:
            async with asyncio.timeout(BEAT_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return BEAT
        self._news.clear()
        sent = b"".join(self._waiting.values())
        self._waiting.clear()
        return sent


class WatchedTopic:
    """A topic in a zone, while there are tabs that show it."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.tabs: set[Tab] = set()
        self.html: dict[str, str] = {}
        self.events: dict[str, tuple[int, bytes]] = {}
        """Of each part, its number and what is sent of it."""
        self.made_at = -1e9
        self.seen: object = None
        """What had changed last when they were made."""

    def is_due(self, changed: object) -> bool:
        """Are its parts to be made again?"""
        age_seconds = time.monotonic() - self.made_at
        return age_seconds >= STALE_SECONDS or (
            age_seconds >= AGAIN_SECONDS and changed != self.seen
        )


class LiveUpdates:
    """All tabs of this process."""

    def __init__(self, *files: Path) -> None:
        """Something has changed when one of `files` was written."""
        self._files = files
        self._topics: dict[str, Parts] = {}
        self._watched: dict[tuple[str, str, bool], WatchedTopic] = {}
        self._epoch = secrets.token_hex(4)
        self._number = 0
        self._rng = Random()  # noqa: S311
        self._has_ended = False

    def offer(self, topic: str, parts: Parts) -> None:
        """Tabs may look at `topic`."""
        self._topics[topic] = parts

    @property
    def tabs(self) -> int:
        """How many are open."""
        return sum(len(watched.tabs) for watched in self._watched.values())

    async def run(self) -> None:
        """Send what is new until cancelled; then end every stream."""
        try:
            while True:
                began = time.monotonic()
                changed = tuple(map(_written_at, self._files))
                for (topic, zone, _), watched in list(self._watched.items()):
                    if watched.is_due(changed):
                        watched.seen = changed
                        await self._make(topic, ZoneInfo(zone), watched)
                await asyncio.sleep(max(LOOK_SECONDS, time.monotonic() - began))
        finally:
            self._has_ended = True
            for watched in self._watched.values():
                _end(watched)

    async def _make(self, topic: str, zone: ZoneInfo, watched: WatchedTopic) -> None:
        making = asyncio.ensure_future(self._topics[topic](zone, watched.viewer))
        done, _ = await asyncio.wait((making,), timeout=MAKE_SECONDS_MAX)
        watched.made_at = time.monotonic()
        if not done:
            making.cancel()
            await asyncio.wait((making,))
        if making.cancelled() or (error := making.exception()) is not None:
            # Their tabs say that they are not live, and ask again after a while.
            if not making.cancelled() and not isinstance(error, NOT_NOW):
                log.error("part of a page failed", topic=topic, exc_info=error)
            _end(watched)
            return
        fresh = []
        for name, html in making.result().items():
            if watched.html.get(name) != html:
                self._number += 1
                watched.html[name] = html
                watched.events[name] = self._number, _event(self._id(self._number), name, html)
                fresh.append((name, watched.events[name][1]))
        if fresh:
            for tab in watched.tabs:
                tab.put(fresh)

    def _id(self, number: int) -> str:
        return f"{self._epoch}-{number}"

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One tab, until it is closed, its log-in ends, or we stop.

        Its query names the topic (`of`) and the `zone`.
        """
        request: AnyRequest = Request(scope)
        topic, zone = request.query_params.get("of", ""), request.query_params.get("zone", "")
        if request.method != "GET":
            raise MethodNotAllowedException
        if topic not in self._topics:
            raise NotFoundException(f"There are no changes of {topic!r:.40} to be told.")
        if self._has_ended or self.tabs >= TABS_MAX:
            raise ServiceUnavailableException(
                f"{TABS_MAX:,} tabs are being told of changes already: load the page again now and "
                "then instead, or close some of them.",
                headers={"Retry-After": "60"},
            )
        viewer = viewer_of(request)
        key = topic, zone_called(zone).key, viewer.may_act
        watched = self._watched.setdefault(key, WatchedTopic(viewer))
        tab = Tab()
        watched.tabs.add(tab)
        tab.put(self._missed(watched, request.headers.get("last-event-id", "")))
        tasks = [
            asyncio.create_task(self._send(tab, send)),
            asyncio.create_task(_closed(receive)),
        ]
        try:
            await asyncio.wait(
                tasks, timeout=viewer.seconds_left, return_when=asyncio.FIRST_COMPLETED
            )
            tab.end()
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            watched.tabs.discard(tab)
            if not watched.tabs and self._watched.get(key) is watched:
                del self._watched[key]

    def _missed(self, watched: WatchedTopic, last_id: str) -> list[tuple[str, bytes]]:
        """What a tab has not had yet: all, unless it was here before."""
        epoch, _, number = last_id.partition("-")
        last = int(number) if epoch == self._epoch and number.isdecimal() else 0
        return [(name, event) for name, (n, event) in watched.events.items() if n > last]

    async def _send(self, tab: Tab, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        first = f"retry: {self._rng.randint(*RETRY_MS)}\n\n".encode()  # not all at the same time
        await send({"type": "http.response.body", "body": first, "more_body": True})
        while not tab.has_ended:
            body = await tab.next()
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def live_stream(live: LiveUpdates) -> ASGIRouteHandler:
    """Its route."""

    @asgi("/live", copy_scope=True)
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await live.answer(scope, receive, send)

    return stream


def _end(watched: WatchedTopic) -> None:
    for tab in watched.tabs:
        tab.end()


def _event(number: str, name: str, html: str) -> bytes:
    data = msgspec.json.encode({"name": name, "html": html})  # no line of it ends within
    return b"id: %b\nevent: part\ndata: %b\n\n" % (number.encode(), data)


async def _closed(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _written_at(file: Path) -> int:
    """When it was written last; 0 if it is not there."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
