"""Where connections wait until their first request is here.

Anybody can open connections by the thousand, so one that has asked nothing yet costs little: a
socket and what has come so far, without the server's own machinery. A complete request is handed to
that, health first: however many other requests come, a health check waits for none of them.
"""

import asyncio
import errno
import re
import socket
import time
from collections import deque
from collections.abc import Callable

from echo_ingest.web.connections import (
    HEADER_BYTES_MAX,
    REQUEST_SECONDS_MAX,
    Connection,
    Connections,
    network_of,
)
from echo_ingest.web.problems import peers_log

ACCEPTED_AT_ONCE = 64
"""How many connections are taken over before something else is done."""
LET_IN_AT_ONCE = 4
PAUSE_SECONDS = 0.5
END_OF_HEADERS = re.compile(rb"\n\r?\n")
END_BYTES = 3
HEALTH = re.compile(rb"(?:GET|HEAD) /(?:livez|readyz|healthz)? ")
NOT_TEXT = b"\x21"
"""A request begins with a letter: what begins with less is none."""


class Newcomer:
    """A connection whose first request is not here yet."""

    def __init__(self, doorway: "Doorway", accepted: socket.socket, address: str) -> None:
        self.address = address
        self.socket = accepted
        self.received = b""
        self._doorway = doorway
        self._began_at = time.monotonic()
        self._is_watched = False

    def read(self) -> None:
        """Take what has come of the request."""
        try:
            data = self.socket.recv(HEADER_BYTES_MAX)
        except (BlockingIOError, InterruptedError):
            data = None
        except OSError:
            return self.abort()
        if data == b"":
            return self.abort()
        searched = max(0, len(self.received) - END_BYTES)
        self.received += data or b""
        if (
            END_OF_HEADERS.search(self.received, searched)
            or len(self.received) > HEADER_BYTES_MAX
            or b"" < self.received[:1] < NOT_TEXT
        ):
            self.stop_watching()
            self._doorway.let_in(self)
        elif not self._is_watched:
            self._is_watched = True
            self._doorway.loop.add_reader(self.socket, self.read)

    def is_too_slow(self, now: float) -> bool:
        """Return whether its request should have been here by now."""
        return now - self._began_at >= REQUEST_SECONDS_MAX

    def unsent_bytes(self) -> int:
        """Return nothing: nothing has been answered yet."""
        return 0

    def abort(self) -> None:
        """Close the connection."""
        self.stop_watching()
        self._doorway.connections.forget(self)
        self.socket.close()

    def make_room(self) -> None:
        """Read once more, since its request may have come meanwhile; else close the connection."""
        self.read()
        if self._is_watched:
            self.abort()

    def stop_watching(self) -> None:
        """Read no more from it."""
        if self._is_watched:
            self._is_watched = False
            self._doorway.loop.remove_reader(self.socket)


class Doorway:
    """Takes connections over from a listening socket, and hands their first requests on."""

    def __init__(
        self,
        listener: socket.socket,
        connections: Connections,
        connection_for: Callable[[bytes], Connection],
    ) -> None:
        """Take `connection_for` to return a connection that has received this already."""
        self.connections = connections
        self.loop = asyncio.get_running_loop()
        self._listener = listener
        self._connection_for = connection_for
        self._ready: deque[Newcomer] = deque()
        self._handing_on: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        self._open()

    def _open(self) -> None:
        self._pause = None
        self.loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Take no more connections over, and close those that have asked nothing yet."""
        if self._pause is not None:
            self._pause.cancel()
        self.loop.remove_reader(self._listener)
        for newcomer in self._ready:
            newcomer.socket.close()
        self._ready.clear()
        for connection in self.connections.all():
            if isinstance(connection, Newcomer):
                connection.abort()

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                peers_log.error("no further connection can be taken over", reason=error.strerror)
                if self.connections.make_room():
                    continue
                self.loop.remove_reader(self._listener)
                self._pause = self.loop.call_later(PAUSE_SECONDS, self._open)
                return
            accepted.setblocking(False)
            newcomer = Newcomer(self, accepted, network_of(str(peer[0])))
            self.connections.admit(newcomer)
            newcomer.read()

    def let_in(self, newcomer: Newcomer) -> None:
        """Hand a request on: at once if it is about health, else in its turn."""
        self.connections.forget(newcomer)
        if HEALTH.match(newcomer.received):
            self._hand_on(newcomer)
        elif len(self._ready) < self.connections.limits.ready:
            self._ready.append(newcomer)
            if len(self._ready) == 1:
                self.loop.call_soon(self._hand_some_on)
        else:
            newcomer.socket.close()

    def _hand_some_on(self) -> None:
        for _ in range(min(LET_IN_AT_ONCE, len(self._ready))):
            self._hand_on(self._ready.popleft())
        if self._ready:
            self.loop.call_soon(self._hand_some_on)

    def _hand_on(self, newcomer: Newcomer) -> None:
        connecting = self.loop.connect_accepted_socket(
            lambda: self._connection_for(newcomer.received), newcomer.socket
        )
        task: asyncio.Task[object] = self.loop.create_task(connecting)
        self._handing_on.add(task)
        task.add_done_callback(self._handing_on.discard)
