"""Many tabs of the console as bare sockets in one thread, which read and count what comes."""

import contextlib
import resource
import selectors
import socket
import threading

FILES_BESIDE = 200
TABS_OF_ADDRESS = 500
TAIL_BYTES = 64


class Tabs:
    """Tabs that are open while the block runs."""

    def __init__(self, port: int, count: int, topic: str = "calls") -> None:
        self.open = 0
        """How many tabs are open and get updates now."""
        self.refused = 0
        self.parts = 0
        """How many updates all tabs have received."""
        self.received_bytes = 0
        self._request = (
            f"GET /console/live?of={topic}&zone=UTC HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"
        ).encode()
        self._address = "127.0.0.1", port
        self._count = count
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> "Tabs":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self._count + FILES_BESIDE
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as sockets:
            for number in range(self._count):
                ours = f"127.0.0.{1 + number // TABS_OF_ADDRESS}", 0
                tab = sockets.enter_context(
                    socket.create_connection(self._address, timeout=30, source_address=ours)
                )
                tab.sendall(self._request)
                tab.setblocking(False)
                selector.register(tab, selectors.EVENT_READ, b"")
            while not self._stop.is_set():
                for key, _ in selector.select(0.1):
                    assert isinstance(key.fileobj, socket.socket)
                    self._take(selector, key.fileobj, key.data)

    def _take(self, selector: selectors.BaseSelector, tab: socket.socket, before: bytes) -> None:
        try:
            data = tab.recv(262_144)
        except ConnectionError:
            data = b""
        if not before and not data.startswith(b"HTTP/1.1 200"):
            selector.unregister(tab)
            self.refused += 1
            return
        if not data:
            selector.unregister(tab)
            self.open -= 1
            return
        self.open += not before
        seen = before + data
        self.received_bytes += len(data)
        self.parts += seen.count(b"event: part") - before.count(b"event: part")
        selector.modify(tab, selectors.EVENT_READ, seen[-TAIL_BYTES:])
