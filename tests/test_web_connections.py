"""Connections that are held open keep nobody out, health least of all."""

import asyncio
import contextlib
import json
import resource
import selectors
import socket
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from litestar import Litestar, asgi, get, post
from litestar.types import Receive, Scope, Send

from echo_ingest import web
from echo_ingest.process.log import LINES_MAX
from echo_ingest.web import connections, doorway
from echo_ingest.web.connections import Limits, network_of
from echo_ingest.web.form_body import form_of
from echo_ingest.web.problems import AnyRequest
from tests.harness import Harness, eventually, free_port
from tests.test_web import serving

HEALTHY = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
HALF_SENT = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "
BIG_BYTES = 1_500_000
PROBE_SECONDS = 5.0
"""How long Kubernetes waits for an answer, with the manifests of `deploy/kubernetes`."""
STREAMED_BYTES = 400_000
FEW = Limits(waiting=8, waiting_of_address=5, busy=4, busy_of_address=3, health=2, ready=20)


class Pond:
    """A service whose answers a test holds back."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.release = asyncio.Event()
        self.held = 0
        self.streams = 0
        self.forms: list[str] = []

    def app(self) -> Litestar:
        @get("/healthz", sync_to_thread=False)
        def healthy() -> dict[str, str]:
            return {"status": "ok"}

        @get(["/held", "/console/held"])
        async def held() -> str:
            self.held += 1
            try:
                await self.release.wait()
            finally:
                self.held -= 1
            return "released"

        @get("/big", sync_to_thread=False)
        def big() -> bytes:
            return bytes(BIG_BYTES)

        @asgi("/stream", copy_scope=True)
        async def stream(scope: Scope, receive: Receive, send: Send) -> None:
            self.streams += 1
            sending = asyncio.create_task(self.send_on(send))
            while (await receive())["type"] != "http.disconnect":
                pass
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            self.streams -= 1

        @post("/form")
        async def form(request: AnyRequest) -> str:
            self.forms.append((await form_of(request))["name"])
            return "thank you"

        return Litestar([healthy, held, big, stream, form], logging_config=None)

    async def send_on(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while True:
            body = bytes(STREAMED_BYTES)
            await send({"type": "http.response.body", "body": body, "more_body": True})


class Client:
    """One connection."""

    def __init__(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        self.source = source
        self.sink = sink

    async def ask(self, path: str) -> int:
        self.sink.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return await self.status()

    async def status(self) -> int:
        async with asyncio.timeout(10):
            head = await self.source.readuntil(b"\r\n\r\n")
        return int(head.split()[1])

    async def is_closed(self) -> bool:
        """Wait until the server has closed it; return False if it has not within five seconds."""
        try:
            async with asyncio.timeout(5):
                while await self.source.read(65_536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    async def is_open(self) -> bool:
        """Return whether a request that it has begun is answered."""
        self.sink.write(b"1\r\n\r\n")
        return await self.status() == 200


@pytest.fixture
async def pond() -> AsyncIterator[Pond]:
    pond = Pond(free_port())
    async with serving(pond.app(), pond.port, FEW):
        yield pond
        pond.release.set()


@contextlib.asynccontextmanager
async def client(
    pond: Pond, begins: bytes = b"", address: str = "127.0.0.1", buffer_bytes: int = 0
) -> AsyncIterator[Client]:
    raw = socket.socket()
    if buffer_bytes:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    raw.bind((address, 0))
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", pond.port))
    source, sink = await asyncio.open_connection(sock=raw, limit=1_000)
    sink.write(begins)
    yield Client(source, sink)
    sink.transport.abort()


async def become(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not look():
            await asyncio.sleep(0.01)


# ---------------------------------------------------------------------- half-sent requests


async def test_the_oldest_half_sent_request_of_an_address_makes_room_for_its_next(
    pond: Pond,
) -> None:
    async with contextlib.AsyncExitStack() as open_ones:
        enter = open_ones.enter_async_context
        other = await enter(client(pond, HALF_SENT, "127.0.0.2"))
        half_sent = []
        for _ in range(3 * FEW.waiting):
            half_sent.append(await enter(client(pond, HALF_SENT)))
            async with client(pond) as one:
                assert await one.ask("/healthz") == 200
        for each in half_sent[: -FEW.waiting_of_address]:
            assert await each.is_closed()
        assert await half_sent[-1].is_open()
        assert await other.is_open(), "that of another address is left alone"


async def test_a_request_that_has_come_is_read_before_its_connection_makes_room(pond: Pond) -> None:
    async with client(pond) as early, client(pond) as one:
        assert await one.ask("/healthz") == 200, "so the one before it has been taken over"
        with contextlib.ExitStack() as newer:
            for _ in range(2 * FEW.waiting_of_address):
                newer.enter_context(socket.create_connection(("127.0.0.1", pond.port)))
            assert await early.ask("/healthz") == 200


async def test_where_many_addresses_wait_the_one_with_most_makes_room(pond: Pond) -> None:
    async with contextlib.AsyncExitStack() as open_ones:
        enter = open_ones.enter_async_context
        few = [await enter(client(pond, HALF_SENT, f"127.0.0.{n}")) for n in (2, 3, 4, 5)]
        many = [await enter(client(pond, HALF_SENT)) for _ in range(FEW.waiting_of_address)]
        assert await many[0].is_closed()
        for each in (*few, *many[1:]):
            assert await each.is_open()


@pytest.mark.parametrize(
    ("beginning", "drop"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", b"x"),
        (HEALTHY + HEALTHY + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", b"x"),
        (
            b"POST /form HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\nname=",
            b"x",
        ),
        (b"", b""),
        (HEALTHY, b""),
    ],
)
async def test_a_request_that_trickles_in_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, beginning: bytes, drop: bytes
) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(connections, "REQUEST_SECONDS_MAX", 0.5)
    monkeypatch.setattr(doorway, "REQUEST_SECONDS_MAX", 0.5)
    monkeypatch.setattr(web, "KEEP_ALIVE_SECONDS", 0.5)
    pond = Pond(free_port())
    async with serving(pond.app(), pond.port), client(pond, beginning) as slow:
        closed = asyncio.create_task(slow.is_closed())
        while not closed.done():
            slow.sink.write(drop)
            await asyncio.sleep(0.05)
        assert closed.result()
    assert not pond.forms


async def test_a_request_in_time_is_answered_and_so_is_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(connections, "REQUEST_SECONDS_MAX", 0.5)
    monkeypatch.setattr(doorway, "REQUEST_SECONDS_MAX", 0.5)
    pond = Pond(free_port())
    async with serving(pond.app(), pond.port), client(pond) as one:
        for _ in range(3):  # together they take longer than one may
            for drop in HEALTHY[:30], HEALTHY[30:]:
                one.sink.write(drop)
                await asyncio.sleep(0.15)
            assert await one.status() == 200
            await one.source.readexactly(len(b'{"status":"ok"}'))


# ---------------------------------------------------------------------- requests under way


async def test_health_has_places_of_its_own_where_too_many_requests_are_under_way(
    pond: Pond,
) -> None:
    async with contextlib.AsyncExitStack() as open_ones:
        enter = open_ones.enter_async_context
        for address in ("127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"):
            one = await enter(client(pond, address=address))
            one.sink.write(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await become(lambda: pond.held == FEW.busy)
        async with client(pond) as one:
            assert await one.ask("/healthz") == 200
        async with client(pond) as one:
            assert await one.ask("/held") == 503
            assert "try again" in json.loads((await one.source.read()).decode())["error"]
        async with client(pond) as one:
            assert await one.ask("/console/held") == 503
            assert b"<p>Too many requests" in await one.source.read()
        pond.release.set()
        await become(lambda: pond.held == 0)
        async with client(pond) as one:
            assert await one.ask("/held") == 200


async def test_one_address_cannot_have_all_places(pond: Pond) -> None:
    async with contextlib.AsyncExitStack() as open_ones:
        enter = open_ones.enter_async_context
        for _ in range(FEW.busy_of_address):
            one = await enter(client(pond))
            one.sink.write(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await become(lambda: pond.held == FEW.busy_of_address)
        async with client(pond) as one:
            assert await one.ask("/held") == 503
        async with client(pond, address="127.0.0.2") as other:
            assert await other.ask("/big") == 200
        async with client(pond) as one:
            assert await one.ask("/healthz") == 200


async def test_what_is_sent_ahead_of_an_answer_is_not_kept(pond: Pond) -> None:
    async with client(pond, b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n") as one:
        await become(lambda: pond.held == 1)
        one.sink.write(bytes(2 * connections.HEADER_BYTES_MAX))
        assert await one.is_closed()


async def test_nonsense_behind_an_answer_ends_the_connection_and_is_no_line_in_the_log(
    pond: Pond, caplog: pytest.LogCaptureFixture
) -> None:
    beginning = HEALTHY.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    async with client(pond, beginning) as one:
        assert await one.status() == 200
        one.sink.write(b"zz\r\n")
        assert await one.is_closed()
    assert caplog.records == []


# ---------------------------------------------------------------------- slow answers


@pytest.mark.parametrize("path", ["/big", "/stream"])
async def test_who_takes_nothing_of_an_answer_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(connections, "PACE_SECONDS", 0.5)
    monkeypatch.setattr(connections, "STREAM_SECONDS", 0.5)
    pond = Pond(free_port())
    async with serving(pond.app(), pond.port), client(pond, buffer_bytes=4096) as slow:
        assert await slow.ask(path) == 200
        await asyncio.sleep(1.5)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(5):
                assert len(await slow.source.read(2 * BIG_BYTES)) < BIG_BYTES
        assert await slow.is_closed()


async def test_who_takes_an_answer_slowly_but_steadily_gets_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(connections, "PACE_SECONDS", 0.5)
    pond = Pond(free_port())
    async with serving(pond.app(), pond.port), client(pond, buffer_bytes=32_768) as slow:
        assert await slow.ask("/big") == 200
        taken = 0
        while taken < BIG_BYTES:
            taken += len(await slow.source.read(40_000))
            await asyncio.sleep(0.01)
        assert taken == BIG_BYTES


async def test_answers_that_wait_to_be_taken_are_bounded_and_the_oldest_of_most_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "UNSENT_BYTES_MAX", 3 * BIG_BYTES)
    pond = Pond(free_port())
    async with serving(pond.app(), pond.port), contextlib.AsyncExitStack() as open_ones:
        enter = open_ones.enter_async_context
        addresses = ("127.0.0.2", "127.0.0.1", "127.0.0.1", "127.0.0.1")
        slow = [await enter(client(pond, address=each, buffer_bytes=4096)) for each in addresses]
        for each in slow:
            assert await each.ask("/big") == 200
        taken = [len(await each.source.read(65_536)) for each in slow]
        assert await slow[1].is_closed()
        for number in (0, 2, 3):
            while taken[number] < BIG_BYTES:
                taken[number] += len(await slow[number].source.read(65_536))


async def test_what_tabs_do_not_take_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(connections, "UNSENT_BYTES_MAX", 3 * STREAMED_BYTES)
    pond = Pond(free_port())
    async with serving(pond.app(), pond.port), contextlib.AsyncExitStack() as open_ones:
        tabs = [
            await open_ones.enter_async_context(client(pond, buffer_bytes=4096)) for _ in range(6)
        ]
        for tab in tabs:
            assert await tab.ask("/stream") == 200
        await become(lambda: pond.streams <= 4)
        assert pond.streams >= 2


# ---------------------------------------------------------------------- limits


def test_limits_fit_the_files_that_a_process_may_open() -> None:
    assert Limits().within(1_000_000) == Limits()
    few = Limits().within(824)
    assert few.files <= 824
    assert few.waiting_of_address < few.waiting < few.busy_of_address < few.busy
    assert Limits().within(10).files > 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_customer_with_many_addresses_counts_as_one(address: str, network: str) -> None:
    assert network_of(address) == network


# ---------------------------------------------------------------------- the running system


class Crowd:
    """Half-sent requests that are renewed while the block runs."""

    def __init__(self, port: int, count: int, beginning: bytes = HALF_SENT) -> None:
        self.opened = 0
        self._address = "127.0.0.1", port
        self._count = count
        self._beginning = beginning
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Crowd":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for _ in range(self._count):
                self._open(selector)
            while not self._stop.is_set():
                for key, _ in selector.select(0.1):
                    assert isinstance(key.fileobj, socket.socket)
                    with contextlib.suppress(OSError):
                        if key.fileobj.recv(1_000):
                            continue
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    self._open(selector)
            for key in list(selector.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()

    def _open(self, selector: selectors.BaseSelector) -> None:
        if self._stop.is_set():
            return
        one = socket.socket()
        try:
            one.settimeout(5)
            one.connect(self._address)
            one.sendall(self._beginning)
            one.setblocking(False)
        except OSError:
            one.close()
            return
        self.opened += 1
        selector.register(one, selectors.EVENT_READ)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data")
    yield harness
    harness.close()


def health_seconds(harness: Harness, seconds: float) -> list[float]:
    """Ask for health for a while; return how long each answer took. All must be 200."""
    took, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        for path in ("/livez", "/healthz"):
            began = time.monotonic()
            assert harness.http(path, token=None) == (200, {"status": "ok"})
            took.append(time.monotonic() - began)
    return took


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["up", "broker"])
def test_five_thousand_half_sent_requests_keep_no_health_check_waiting(
    harness: Harness, command: str
) -> None:
    if command == "broker":
        harness.settings["IOT_BROKER_HTTP"] = "true"
    program = harness.start(command)
    harness.wait_healthy(program)
    pid = harness.web_pid(program) if command == "up" else program.pid
    before_bytes = resident_bytes(pid)
    with Crowd(harness.http_port, 5_000) as crowd:
        eventually(lambda: crowd.opened >= 2_000)
        took = health_seconds(harness, 8.0)
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        grown_bytes = resident_bytes(pid) - before_bytes
        assert crowd.opened > 5_000, "they are renewed"
    print(
        f"opened={crowd.opened} files={files} grown_bytes={grown_bytes:,} "
        f"median_seconds={statistics.median(took):.3f} slowest_seconds={max(took):.3f}"
    )
    assert max(took) < PROBE_SECONDS
    assert files < 600
    assert grown_bytes < 30_000_000


@pytest.mark.slow
def test_where_no_file_is_left_those_who_ask_nothing_make_room(harness: Harness) -> None:
    pid = harness.web_pid(harness.up())
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (files + 30, files + 30))
    with Crowd(harness.http_port, 200) as crowd:
        eventually(lambda: crowd.opened >= 200)
        assert max(health_seconds(harness, 2.0)) < PROBE_SECONDS
    lines = [line for line in harness.log("up").splitlines() if "no further connection" in line]
    assert 1 <= len(lines) <= LINES_MAX


@pytest.mark.slow
def test_a_stranger_who_sends_nonsense_does_not_fill_the_log(harness: Harness) -> None:
    harness.up()
    before = harness.log("up")
    for host in ("x:y", "[x", "localhost:99999"):
        for path in ("/console", "/console/calls", "/nope", "/api/records"):
            for _ in range(10):
                with socket.create_connection(("127.0.0.1", harness.http_port), 10) as one:
                    one.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    assert one.recv(12) == b"HTTP/1.1 400"
    assert harness.log("up") == before
