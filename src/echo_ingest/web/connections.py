"""The connections of a server: how many there may be, for how long, and how slow.

A connection *waits* until it has sent a complete request, and again after each answer; otherwise it
is *busy*. A new connection is always let in. Where too many wait, of one address or in all, the
one that has waited longest makes room. Where too many are busy, further requests are answered with
503, except for those about health, which have places of their own. So nobody can keep health from
being answered by holding connections, also if a proxy makes all of them come from one address.

A request has to be complete `REQUEST_SECONDS_MAX` after its first byte, however it trickles; only
who has shown who it is may take longer for the body, at a minimum pace, and is busy meanwhile. An
answer has to be taken at a minimum pace, and all answers that wait to be taken may have
`UNSENT_BYTES_MAX` together.
"""

import asyncio
import ipaddress
import time
from functools import lru_cache
from typing import Any, NoReturn, Protocol

import h11
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from msgspec import Struct, structs
from uvicorn.protocols.http.h11_impl import H11Protocol

from echo_ingest.web.problems import peers_log

KEEP_ALIVE_SECONDS = 15
REQUEST_SECONDS_MAX = 15
GRACE_SECONDS = 3
HEADER_BYTES_MAX = 16 * 1024

PIECE_BYTES = 64 * 1024
UNSENT_BYTES_MAX = 64 * 1024 * 1024
PACE_BYTES_PER_SECOND = 16 * 1024
PACE_SECONDS = 15
BODY_PACE_BYTES_PER_SECOND = 4 * 1024
"""Of bodies that may take time; devices have slow networks."""
STREAM_SECONDS = 30
"""A stream of changes is ended if nothing at all is taken for so long."""
LOOK_SECONDS = 1.0

HEALTH_PATHS = ("/livez", "/readyz", "/healthz", "/")
STREAM_TYPE = b"text/event-stream"
CONNECTION = "connection"


class Limits(Struct, frozen=True, kw_only=True):
    """How many connections there may be."""

    waiting: int = 500
    waiting_of_address: int = 300
    busy: int = 1_500
    busy_of_address: int = 1_200
    health: int = 100
    """Requests about health that are answered beyond `busy`."""
    ready: int = 1_000
    """Complete first requests that are yet to be handed to the server; further ones are dropped."""

    @property
    def files(self) -> int:
        """Return how many connections are open at most."""
        return self.waiting + self.busy + self.health + self.ready

    def within(self, files: int) -> "Limits":
        """Return limits in the same proportion that need no more than `files` open files."""
        share = files / self.files
        if share >= 1:
            return self
        fields = structs.asdict(self).items()
        return Limits(**{name: max(1, int(share * limit)) for name, limit in fields})


@lru_cache(1024)
def network_of(address: str) -> str:
    """Return what counts as one address: of IPv6, the network that a single customer gets."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))


def address_of(scope: Scope) -> str:
    """Return what counts as the address of a request."""
    client = scope.get("client")
    return network_of(client[0]) if client else ""


def let_body_take_time(scope: Scope) -> None:
    """Let the body of a request take as long as it needs at the minimum pace, from now on."""
    scope["state"][CONNECTION].let_body_take_time()


class Admitted(Protocol):
    """An open connection, whether it has asked something yet or not."""

    @property
    def address(self) -> str:
        """Return where it comes from."""
        ...

    def is_too_slow(self, now: float) -> bool:
        """Return whether it has kept us waiting for too long."""
        ...

    def unsent_bytes(self) -> int:
        """Return how much waits here to be taken by it."""
        ...

    def abort(self) -> None:
        """Close it at once; what is not sent yet is dropped."""
        ...

    def make_room(self) -> None:
        """Close it, unless the request that it waits for is here by now."""
        ...


class ByAddress:
    """Connections with a weight each, by address, and for each address in the order they came."""

    def __init__(self) -> None:
        self.total = 0
        self._connections: dict[str, dict[Admitted, int]] = {}
        self._totals: dict[str, int] = {}

    def add(self, connection: Admitted, weight: int = 1) -> None:
        """Add a connection that is not among them, as the newest."""
        address = connection.address
        self._connections.setdefault(address, {})[connection] = weight
        self._totals[address] = self._totals.get(address, 0) + weight
        self.total += weight

    def discard(self, connection: Admitted) -> None:
        """Remove a connection, if it is among them."""
        address = connection.address
        of_address = self._connections.get(address, {})
        if (weight := of_address.pop(connection, None)) is None:
            return
        self.total -= weight
        self._totals[address] -= weight
        if not of_address:
            del self._connections[address], self._totals[address]

    def of(self, address: str) -> int:
        """Return the total of one address."""
        return self._totals.get(address, 0)

    def oldest_of(self, address: str) -> Admitted:
        """Return the oldest connection of an address that has some."""
        return next(iter(self._connections[address]))

    def heaviest(self) -> str:
        """Return the address with the largest total; of several, the one that came first."""
        return max(self._totals, key=self._totals.__getitem__)


class Connections:
    """All connections of one server."""

    def __init__(self, limits: Limits, turned_away: ASGIApp) -> None:
        """Take `turned_away` to answer the requests that are too many."""
        self.turned_away = turned_away
        self.limits = limits
        self.waiting = ByAddress()
        self.busy = ByAddress()
        self._unsent = ByAddress()
        self._all: set[Admitted] = set()

    def all(self) -> list[Admitted]:
        """Return all that are open now."""
        return list(self._all)

    def admit(self, connection: Admitted) -> None:
        """Take a new connection in."""
        self._all.add(connection)
        self.begin_waiting(connection)

    def begin_waiting(self, connection: Admitted) -> None:
        """Note that it has no complete request; end those that have waited longest for that."""
        self.busy.discard(connection)
        self.waiting.add(connection)
        while self.waiting.of(connection.address) > self.limits.waiting_of_address:
            self._end_waiting(connection.address)
        while self.waiting.total > self.limits.waiting:
            self._end_waiting(self.waiting.heaviest())

    def make_room(self) -> bool:
        """End one that waits; return False if none does."""
        if not self.waiting.total:
            return False
        self._end_waiting(self.waiting.heaviest())
        return True

    def _end_waiting(self, address: str) -> None:
        oldest = self.waiting.oldest_of(address)
        self.waiting.discard(oldest)
        oldest.make_room()

    def begin_answer(self, connection: Admitted) -> None:
        """Note that it has sent a complete request."""
        self.waiting.discard(connection)
        self.busy.add(connection)

    def may_answer(self, connection: Admitted, path: str) -> bool:
        """Return whether its request is answered, or turned away."""
        limits = self.limits
        if path in HEALTH_PATHS:
            return self.busy.total <= limits.busy + limits.health
        of_address = self.busy.of(connection.address)
        return self.busy.total <= limits.busy and of_address <= limits.busy_of_address

    def begin_sending(self, connection: Admitted, size: int) -> None:
        """Note that an answer waits to be taken; end those that take longest if it is too much."""
        self._unsent.add(connection, size)
        while self._unsent.total > UNSENT_BYTES_MAX:
            oldest = self._unsent.oldest_of(self._unsent.heaviest())
            if oldest is connection:
                return
            self._unsent.discard(oldest)
            oldest.abort()

    def end_sending(self, connection: Admitted) -> None:
        """Note that its answer has been taken."""
        self._unsent.discard(connection)

    def forget(self, connection: Admitted) -> None:
        """Note that it is closed."""
        self._all.discard(connection)
        self.waiting.discard(connection)
        self.busy.discard(connection)
        self._unsent.discard(connection)

    async def watch(self) -> NoReturn:
        """End connections that send or take too slowly, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.monotonic()
            for connection in self.all():
                if connection.is_too_slow(now):
                    connection.abort()
            self._bound_buffers()
            peers_log.report()

    def _bound_buffers(self) -> None:
        """If it is too much, end those that have most to take, such as tabs that take nothing."""
        sizes = {each: each.unsent_bytes() for each in self._all}
        total = sum(sizes.values())
        while total > UNSENT_BYTES_MAX:
            largest = max(sizes, key=sizes.__getitem__)
            total -= sizes.pop(largest)
            largest.abort()


class Pace(Struct, frozen=True):
    """How much a client had taken of its answers, or sent of its body, at some moment."""

    at: float
    taken_bytes: int


class Connection(H11Protocol):
    """A connection, which keeps to the limits above."""

    def __init__(self, connections: Connections, received: bytes, **kwargs: Any) -> None:
        """Take what it has `received` before its transport was there."""
        super().__init__(**kwargs)
        self.address = ""
        self._received = received
        self._connections = connections
        self._app = self.app
        self.app = self._answer
        self._request_timer: asyncio.TimerHandle | None = None
        self._is_busy = False
        self._given_bytes = 0
        """How much of all answers the transport has been given."""
        self._pace: Pace | None = None
        """None while all that was given is also sent."""
        self._is_stream = False
        self._received_bytes = 0
        self._body_pace: Pace | None = None
        """None unless a body may take time."""

    # ------------------------------------------------------------------ what comes in

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with what came before."""
        super().connection_made(transport)
        self.address = network_of(self.client[0]) if self.client else ""
        self._connections.admit(self)
        self.data_received(self._received)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Take what has come of a request."""
        self._received_bytes += len(data)
        super().data_received(data)
        self._look_at_request()
        if len(self.conn.trailing_data[0]) > HEADER_BYTES_MAX and self._is_busy:
            self.abort()  # it has sent much more before its answer than a further request is

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, or go on with it if it is here already."""
        self._body_pace = None
        if self._is_busy:
            self._is_busy = False
            self._connections.begin_waiting(self)
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self.loop.call_later(GRACE_SECONDS, self._close_unless_sent)
        self._look_at_request()

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP, unless an answer has begun: then nothing else can be said."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_request_timer()
        self._unset_keepalive_if_required()
        self._connections.forget(self)
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close the connection at once; what is not sent yet is dropped."""
        self.transport.abort()

    def make_room(self) -> None:
        """Close the connection, which has had an answer; a client asks again on another."""
        self.abort()

    def _look_at_request(self) -> None:
        """Start the time for a request once it has begun, and stop it once it is complete."""
        if self.transport.is_closing():
            return
        match self.conn.their_state:
            case h11.IDLE:
                if self.timeout_keep_alive_task is None or self.conn.trailing_data[0]:
                    self._start_request_timer()
            case h11.SEND_BODY:
                if self._body_pace is None:
                    self._start_request_timer()
            case _:
                self._body_pace = None
                self._stop_request_timer()
                self._begin_answer()

    def let_body_take_time(self) -> None:
        """Measure the pace of the body from now on, and not the time of the request."""
        if self.conn.their_state is h11.SEND_BODY:
            self._body_pace = Pace(time.monotonic(), self._received_bytes)
            self._stop_request_timer()
            self._begin_answer()

    def _begin_answer(self) -> None:
        if not self._is_busy:
            self._is_busy = True
            self._connections.begin_answer(self)

    def _start_request_timer(self) -> None:
        if self._request_timer is None:
            self._request_timer = self.loop.call_later(REQUEST_SECONDS_MAX, self.abort)

    def _stop_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _close_unless_sent(self) -> None:
        if self.conn.their_state is h11.SEND_BODY:
            self.transport.close()

    # ------------------------------------------------------------------ what goes out

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun, ended = False, False

        async def send_in_pieces(message: Message) -> None:
            nonlocal begun, ended
            if message["type"] == "http.response.start":
                begun = True
                media_type = dict(message["headers"]).get(b"content-type", b"")
                self._is_stream = media_type.startswith(STREAM_TYPE)
                await send(message)
            elif message["type"] == "http.response.body":
                more = message.get("more_body", False)
                await self._send_body(message.get("body", b""), send, more=more)
                ended = not more

        scope["state"][CONNECTION] = self
        may_answer = self._connections.may_answer(self, scope["path"])
        app = self._app if may_answer else self._connections.turned_away
        await app(scope, receive, send_in_pieces)
        if begun and not ended:  # it took too long: the client must not take it for complete
            self.abort()
            while (await receive())["type"] != "http.disconnect":
                pass

    async def _send_body(self, body: bytes, send: Send, *, more: bool) -> None:
        """Send a body no faster than it is taken."""
        if len(body) <= PIECE_BYTES or self._is_stream:
            return await self._send_piece(body, send, more=more)
        self._connections.begin_sending(self, len(body))
        try:
            for start in range(0, len(body), PIECE_BYTES):
                end = start + PIECE_BYTES
                await self._send_piece(body[start:end], send, more=more or end < len(body))
        finally:
            self._connections.end_sending(self)

    async def _send_piece(self, piece: bytes, send: Send, *, more: bool) -> None:
        await send({"type": "http.response.body", "body": piece, "more_body": more})
        self._given_bytes += len(piece)
        if self.transport.is_closing():
            await asyncio.sleep(0)  # else nobody else would run until the last piece is dropped

    def is_too_slow(self, now: float) -> bool:
        """Return whether the client takes its answer too slowly, or sends its body so."""
        if self._body_pace is not None and self._sends_too_slowly(self._body_pace, now):
            return True
        unsent_bytes = self.unsent_bytes()
        taken = Pace(now, self._given_bytes - unsent_bytes)
        before = self._pace
        if not unsent_bytes:
            self._pace = None
        elif before is None:
            self._pace = taken
        elif now - before.at >= (STREAM_SECONDS if self._is_stream else PACE_SECONDS):
            self._pace = taken
            least = 1 if self._is_stream else PACE_SECONDS * PACE_BYTES_PER_SECOND
            return taken.taken_bytes - before.taken_bytes < least
        return False

    def _sends_too_slowly(self, before: Pace, now: float) -> bool:
        if self.flow.read_paused:  # we do not read; that is no fault of the client
            self._body_pace = Pace(now, self._received_bytes)
        elif now - before.at >= PACE_SECONDS:
            self._body_pace = Pace(now, self._received_bytes)
            return self._received_bytes - before.taken_bytes < (
                PACE_SECONDS * BODY_PACE_BYTES_PER_SECOND
            )
        return False

    def unsent_bytes(self) -> int:
        """Return how much the transport holds because the client does not take it."""
        return self.transport.get_write_buffer_size()
