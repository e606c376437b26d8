"""Changes for open tabs: each tab gets one stream of events, with parts of its page.

A topic is a page; its parts are pieces of HTML, by name. While a tab shows a topic in some zone,
the parts are rendered again when something has changed, once a second at most, and those that
differ go to all such tabs, as the same bytes. A tab holds only the newest of each part, so that a
slow tab skips some. A topic without tabs costs nothing.

Parts are rendered one after the other and for half of the time at most, however many topics and
zones there are. Every other time it is the turn of what most addresses watch, of several that what
was watched first, and in between of what has waited longest: so one person who watches many zones
slows down the others only a little, and everybody gets something. There are limits for the
topics and zones that are watched at a time, for tabs, and for what one address has of both.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import msgspec
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
from echo_ingest.web.connections import network_of
from echo_ingest.web.console.auth import Viewer, viewer_of
from echo_ingest.web.console.formatting import zone_called
from echo_ingest.web.console.rendering import AnyRequest
from echo_ingest.web.problems import peers_log

Parts = Callable[[ZoneInfo, Viewer], Awaitable[dict[str, str]]]
"""Renders all parts of a topic as they are now, for an operator or for another viewer."""

TABS_MAX = 1_000
TABS_OF_ADDRESS_MAX = 600
WATCHED_MAX = 100
"""Topics and zones that are rendered, and for operators and others apart."""
WATCHED_OF_ADDRESS_MAX = 60
EVENT_NUMBER_DIGITS_MAX = 18
LOOK_SECONDS = 0.2
AGAIN_SECONDS = 1.0
STALE_SECONDS = 5.0
"""Parts also show how long ago something was, so they are rendered again after this long."""
RENDER_SECONDS_MAX = 10.0
HEARTBEAT_SECONDS = 15.0
RETRY_MS = (2_000, 6_000)

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy that buffers would hold changes back
]
HEARTBEAT = b"event: beat\ndata: {}\n\n"
TOO_MANY = "too many tabs receive changes already: close some, or reload this page now and then"
NOT_NOW = (HTTPException, NoAnswer, JournalUnusable, AlmanacUnready, TimeoutError)


class Tab:
    """An open tab: what has not been sent to it yet."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._waiting: dict[str, bytes] = {}
        self._news = asyncio.Event()
        self.has_ended = False

    def put(self, parts: Iterable[tuple[str, bytes]]) -> None:
        """Note that these parts are to be sent, in place of older ones."""
        self._waiting.update(parts)
        self._news.set()

    def end(self) -> None:
        """End the stream: nothing more is sent."""
        self.has_ended = True
        self._news.set()

    async def next(self) -> bytes:
        """Return all that waits, once something does; a heartbeat if nothing does for a while."""
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return HEARTBEAT
        self._news.clear()
        sent = b"".join(self._waiting.values())
        self._waiting.clear()
        return sent


class WatchedTopic:
    """A topic in a zone, while tabs show it."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.tabs: set[Tab] = set()
        self.html: dict[str, str] = {}
        self.events: dict[str, tuple[int, bytes]] = {}
        """For each part, the event's number and its bytes."""
        self.opened_at = time.monotonic()
        self.rendered_at = -1e9
        self.seen: object = None
        """What had changed last when they were rendered."""

    @property
    def addresses(self) -> set[str]:
        """Return where its tabs are."""
        return {tab.address for tab in self.tabs}

    @property
    def priority(self) -> tuple[int, float]:
        """Return what goes first where several are due: what more people watch, or have longer."""
        return len(self.addresses), -self.opened_at

    @property
    def waits_since(self) -> float:
        """Return since when it has not been rendered."""
        return max(self.opened_at, self.rendered_at)

    def is_due(self, changed: object) -> bool:
        """Return whether the parts have to be rendered again."""
        age_seconds = time.monotonic() - self.rendered_at
        return age_seconds >= STALE_SECONDS or (
            age_seconds >= AGAIN_SECONDS and changed != self.seen
        )


class LiveUpdates:
    """The open tabs of this process, and what they show."""

    def __init__(self, *files: Path) -> None:
        """Take it as a change when one of `files` is written."""
        self._files = files
        self._topics: dict[str, Parts] = {}
        self._watched: dict[tuple[str, str, bool], WatchedTopic] = {}
        self._epoch = secrets.token_hex(4)
        self._number = 0
        self._rng = Random()  # noqa: S311
        self._has_ended = False

    def offer(self, topic: str, parts: Parts) -> None:
        """Allow tabs to watch `topic`."""
        self._topics[topic] = parts

    @property
    def tabs(self) -> int:
        """Return how many tabs are open."""
        return sum(len(watched.tabs) for watched in self._watched.values())

    async def run(self) -> None:
        """Send changes until cancelled; then end every stream."""
        by_priority = True
        try:
            while True:
                changed = tuple(map(_written_at, self._files))
                due = [key for key, each in self._watched.items() if each.is_due(changed)]
                if not due:
                    await asyncio.sleep(LOOK_SECONDS)
                    continue
                if by_priority:
                    key = max(due, key=lambda key: self._watched[key].priority)
                else:
                    key = min(due, key=lambda key: self._watched[key].waits_since)
                by_priority = not by_priority
                began = time.monotonic()
                self._watched[key].seen = changed
                await self._render(key[0], ZoneInfo(key[1]), self._watched[key])
                await asyncio.sleep(time.monotonic() - began)
        finally:
            self._has_ended = True
            for watched in self._watched.values():
                _end(watched)

    async def _render(self, topic: str, zone: ZoneInfo, watched: WatchedTopic) -> None:
        rendering = asyncio.ensure_future(self._topics[topic](zone, watched.viewer))
        done, _ = await asyncio.wait((rendering,), timeout=RENDER_SECONDS_MAX)
        watched.rendered_at = time.monotonic()
        if not done:
            rendering.cancel()
            await asyncio.wait((rendering,))
        if rendering.cancelled() or (error := rendering.exception()) is not None:
            # The tabs show that they are not live, and connect again after a while.
            if not rendering.cancelled() and not isinstance(error, NOT_NOW):
                peers_log.error("part of a page failed", topic=topic, exc_info=error)
            _end(watched)
            return
        fresh = []
        for name, html in rendering.result().items():
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
        """Serve one tab until it is closed, its log-in ends, or we stop.

        Its query names the topic (`of`) and the `zone`.
        """
        request: AnyRequest = Request(scope)
        topic, zone = request.query_params.get("of", ""), request.query_params.get("zone", "")
        if request.method != "GET":
            raise MethodNotAllowedException
        if topic not in self._topics:
            raise NotFoundException(f"There is no topic {topic!r:.40} to watch.")
        viewer = viewer_of(request)
        key = topic, zone_called(zone).key, viewer.may_act
        client = scope.get("client")
        tab = Tab(network_of(client[0]) if client else "")
        self._refuse_too_many(key, tab.address)
        watched = self._watched.setdefault(key, WatchedTopic(viewer))
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

    def _refuse_too_many(self, key: tuple[str, str, bool], address: str) -> None:
        tabs_of_address = [
            sum(tab.address == address for tab in each.tabs) for each in self._watched.values()
        ]
        is_watched_here = key in self._watched and address in self._watched[key].addresses
        if (
            self._has_ended
            or sum(tabs_of_address) >= TABS_OF_ADDRESS_MAX
            or self.tabs >= TABS_MAX
            or (not is_watched_here and sum(map(bool, tabs_of_address)) >= WATCHED_OF_ADDRESS_MAX)
            or (key not in self._watched and len(self._watched) >= WATCHED_MAX)
        ):
            raise ServiceUnavailableException(TOO_MANY, headers={"Retry-After": "60"})

    def _missed(self, watched: WatchedTopic, last_id: str) -> list[tuple[str, bytes]]:
        """Return what a tab has not had yet: everything, unless it was connected before."""
        epoch, _, number = last_id.partition("-")
        is_ours = epoch == self._epoch and number.isdecimal()
        last = int(number) if is_ours and len(number) <= EVENT_NUMBER_DIGITS_MAX else 0
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
    """Return the route of the stream."""

    @asgi("/live", copy_scope=True)
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await live.answer(scope, receive, send)

    return stream


def _end(watched: WatchedTopic) -> None:
    for tab in watched.tabs:
        tab.end()


def _event(number: str, name: str, html: str) -> bytes:
    data = msgspec.json.encode({"name": name, "html": html})  # JSON has no line break
    return b"id: %b\nevent: part\ndata: %b\n\n" % (number.encode(), data)


async def _closed(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _written_at(file: Path) -> int:
    """Return when `file` was written last; 0 if it does not exist."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
