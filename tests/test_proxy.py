"""The proxy before a real mosquitto: who gets through, and what nobody can do to the others."""

import asyncio
import contextlib
import random
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from echo_ingest.broker import Credentials
from echo_ingest.broker.node_accounts import node_password
from echo_ingest.broker.topic_rights import TopicRights
from echo_ingest.proxy.activity import Activity
from echo_ingest.proxy.bootstrap import TlsFiles
from echo_ingest.proxy.broker_memory import BrokerMemory
from echo_ingest.proxy.device import Common, DeviceConnection
from echo_ingest.proxy.device_topics import Denials
from echo_ingest.proxy.gate import Gate
from echo_ingest.proxy.layers import CHUNK_BYTES
from echo_ingest.proxy.places import HeldBytes, KeptBytes, Places
from echo_ingest.settings import LocalEndpoint
from tests.harness import Device, eventually
from tests.proxy_site import (
    ACCOUNT,
    CERTIFICATE_SECRET,
    PAYLOAD_BYTES_MAX,
    ProxySite,
    memory_mb,
    most_memory_mb,
)
from tests.test_access import Authority

pytestmark = pytest.mark.slow

USER_PROPERTY = b"\x26\0\0\0\0"
TAKEN = (0x00, 0x10)
"""Reason codes of a PUBACK: 0x10 means that nobody has subscribed."""
WRONG = Credentials("nobody", "wrong")


@pytest.fixture(params=["tcp", "websocket"])
def websocket(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "websocket")


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory, mosquitto: Path) -> Iterator[ProxySite]:
    with contextlib.closing(ProxySite(tmp_path_factory.mktemp("site"), mosquitto)) as site:
        yield site
        assert not site.events("fault in the proxy")


@pytest.fixture
def site(shared_site: ProxySite) -> ProxySite:
    """Return a site that tests leave as it was."""
    shared_site.begin()
    return shared_site


@pytest.fixture
def own_site(tmp_path: Path, mosquitto: Path) -> Iterator[ProxySite]:
    with contextlib.closing(ProxySite(tmp_path, mosquitto)) as site:
        yield site
        assert not site.events("fault in the proxy")


def packet(first: int, body: bytes) -> bytes:
    length, written = len(body), bytearray()
    while length >= 0x80:
        written.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes((first, *written, length)) + body


def field(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def connect_packet(
    level: int = 5,
    *,
    client_id: bytes = b"",
    account: Credentials = ACCOUNT,
    properties: bytes = b"",
    will: bytes | None = None,
) -> bytes:
    """Return a CONNECT with a clean start and a keep-alive of 60 s."""
    body = field(b"MQTT") + bytes((level, 0xC2 if will is None else 0xC6, 0, 60))
    if level == 5:
        length, written = len(properties), bytearray()
        while length >= 0x80:
            written.append(length & 0x7F | 0x80)
            length >>= 7
        body += bytes((*written, length)) + properties
    body += field(client_id)
    if will is not None:
        body += (b"\0" if level == 5 else b"") + field(b"a/b") + field(will)
    body += field(account.user.encode()) + field(account.password.encode())
    return packet(0x10, body)


def publish(payload: bytes, *, properties: bytes = b"", topic: str = "a/b") -> bytes:
    length, written = len(properties), bytearray()
    while length >= 0x80:
        written.append(length & 0x7F | 0x80)
        length >>= 7
    head = field(topic.encode()) + b"\0\1" + bytes((*written, length)) + properties
    return packet(0x32, head + payload)


class Wire:
    """Bytes to a port and back, by TCP or in WebSocket frames."""

    def __init__(self, site: ProxySite, *, websocket: bool, timeout_seconds: float = 20) -> None:
        self._timeout_seconds = timeout_seconds
        self._websocket: ClientConnection | None = None
        if websocket:
            self._websocket = open_websocket(site.ws_port)
        else:
            self._stream = socket.create_connection(("127.0.0.1", site.mqtt_port), timeout_seconds)
            self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Send; the other side may have closed already."""
        with contextlib.suppress(OSError, ConnectionClosed):
            if self._websocket is not None:
                self._websocket.send(data)
            else:
                self._stream.sendall(data)

    def answer(self) -> bytes:
        """Return the next bytes that come; none if the connection ends."""
        try:
            if self._websocket is not None:
                data = self._websocket.recv(self._timeout_seconds)
                assert isinstance(data, bytes)
                return data
            return self._stream.recv(65_536)
        except (ConnectionError, ConnectionClosed):
            return b""

    def rest(self) -> bytes:
        """Return all that comes until the connection ends."""
        data = b""
        while piece := self.answer():
            data += piece
        return data

    def close(self) -> None:
        if self._websocket is not None:
            self._websocket.close()
        else:
            self._stream.close()


def open_websocket(port: int, *subprotocols: str, path: str = "/mqtt") -> ClientConnection:
    offered = [Subprotocol(each) for each in subprotocols or ("mqtt",)]
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(
            connect(
                f"ws://127.0.0.1:{port}{path}",
                subprotocols=offered,
                compression=None,
                close_timeout=1,
                max_size=None,
            )
        )
        stack.pop_all()  # `close` ends it
    return opened


# ---------------------------------------------------------------------- what gets through


@pytest.mark.parametrize("level", [4, 5])
def test_devices_of_both_versions_publish_and_subscribe(
    site: ProxySite, websocket: bool, level: int
) -> None:
    reader = site.device(websocket=websocket)
    reader.subscribe("a/#")
    wire = Wire(site, websocket=websocket)
    wire.send(connect_packet(level, client_id=b"ridge-07"))
    assert wire.answer()[0] == 0x20
    body = field(b"a/b") + b"\0\1" + (b"\0" if level == 5 else b"") + b"hello"
    wire.send(packet(0x32, body))
    assert wire.answer()[:4] in (b"\x40\x02\0\1", b"\x40\x03\0\1")
    assert reader.received_topics(0.5) == ["a/b"]
    wire.send(b"\xe0\0")
    assert wire.rest() == b""
    eventually(lambda: "it said goodbye" in site.log())
    (connected,) = [each for each in site.events("device connected") if each["client_id"]]
    shown = [connected[name] for name in ("client_id", "user", "address")]
    assert shown == ["ridge-07", "echopub", "127.0.0.1"]


def test_a_clip_of_the_largest_size_passes_and_one_byte_more_does_not(
    site: ProxySite, websocket: bool
) -> None:
    device = site.device(websocket=websocket)
    before = memory_mb(site.proxy.pid)
    assert device.put("a/b", bytes(PAYLOAD_BYTES_MAX)) in TAKEN
    assert memory_mb(site.proxy.pid) < before + 8
    assert device.put("a/b", bytes(PAYLOAD_BYTES_MAX + 65_536)) is None
    eventually(lambda: "PUBLISH has 50,397,192 bytes" in site.log())


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
def test_messages_arrive_whole_however_they_are_cut(
    site: ProxySite, websocket: bool, size: int
) -> None:
    reader = site.device()
    reader.subscribe("a/#")
    stream = connect_packet() + b"".join(
        publish(bytes(200 * number), topic=f"a/{number}") for number in range(5)
    )
    wire = Wire(site, websocket=websocket)
    if websocket:  # mosquitto accepts no more than the log-in in small frames, and neither do we
        wire.send(connect_packet())
        assert wire.answer()
        stream = stream[len(connect_packet()) :]
    for start in range(0, len(stream), size):
        wire.send(stream[start : start + size])
    assert reader.received_topics(1) == [f"a/{number}" for number in range(5)]


def test_what_is_sent_right_behind_connect_waits_for_the_log_in(
    site: ProxySite, websocket: bool
) -> None:
    wire = Wire(site, websocket=websocket)
    wire.send(connect_packet() + publish(b"{}") + b"\xc0\0")
    answers = b""
    while not answers.endswith(b"\xd0\0"):
        answers += wire.answer()
    assert answers[0] == 0x20
    assert b"\x40" in answers


# ---------------------------------------------------------------------- what does not


def test_a_wrong_password_is_answered_by_mosquitto(site: ProxySite, websocket: bool) -> None:
    wire = Wire(site, websocket=websocket)
    wire.send(connect_packet(account=WRONG))
    assert wire.rest()[3] in (0x86, 0x87)
    (refused,) = eventually(lambda: site.events("device refused"))
    assert (refused["user"], refused["reason"]) == ("nobody", "not authorized")


@pytest.mark.parametrize(("level", "answer"), [(4, b"\x20\x02\0\x02"), (5, b"\x20\x03\0\x85\0")])
def test_the_names_of_our_own_sessions_are_refused(
    site: ProxySite, websocket: bool, level: int, answer: bytes
) -> None:
    wire = Wire(site, websocket=websocket)
    wire.send(connect_packet(level, client_id=b"echo-ingest-secret"))
    assert wire.rest() == answer
    assert not site.device(client_id="echo-ingest-secre").refused


@pytest.mark.parametrize(
    ("what", "answer"),
    [
        (connect_packet(properties=USER_PROPERTY * 14_000), b"\x20\x03\0\x95\0"),
        (packet(0x10, field(b"MQTT") + b"\4\xc2\0\0" + bytes(70_000)), b""),
        (b"\x10\xff\xff\xff\xff\x01", b""),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        (packet(0x10, field(b"MQTT") + b"\x05\xc2\0\0\0\xff\xff"), b"\x20\x03\0\x81\0"),
        (packet(0x10, field(b"MQTT") + b"\x06\xc2\0\0\0\0\0"), b"\x20\x02\0\x01"),
    ],
    ids=["large", "large 3.1.1", "long length", "http", "short", "version"],
)
def test_a_connect_that_breaks_a_limit_reaches_nobody(
    site: ProxySite, websocket: bool, what: bytes, answer: bytes
) -> None:
    wire = Wire(site, websocket=websocket)
    wire.send(what)
    assert wire.rest() == answer


@pytest.mark.parametrize(
    ("what", "code"),
    [
        (publish(b"{}", properties=USER_PROPERTY * 14_000), 0x95),
        (packet(0x82, bytes(70_000)), 0x95),
        (b"\x00\0", 0x81),
        (b"\x20\x02\0\0", 0x81),
        (connect_packet(), 0x81),
        (b"\xc0\xff\xff\xff\xff\x01", 0x81),
    ],
    ids=["properties", "subscribe", "type 0", "connack", "second connect", "long length"],
)
def test_a_packet_that_breaks_a_limit_ends_the_connection(
    site: ProxySite, websocket: bool, what: bytes, code: int
) -> None:
    reader = site.device()
    reader.subscribe("a/#")
    wire = Wire(site, websocket=websocket)
    wire.send(connect_packet(client_id=b"attacker"))
    assert wire.answer()[0] == 0x20
    wire.send(publish(b"{}") + what)  # what came before is still passed on
    assert wire.rest().endswith(bytes((0xE0, 1, code)))
    assert reader.received_topics(0.5) == ["a/b"]
    reader.close()
    gone = [each["reason"] for each in site.events("device disconnected")
            if each["client_id"] == "attacker"]  # fmt: skip
    assert any(words in gone[0] for words in ("allowed", "may not", "more than four"))


@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"\x16\x03\x01"])
def test_the_websocket_port_answers_what_is_no_websocket(
    site: ProxySite, request_line: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", site.ws_port), 5) as stream:
        stream.sendall(request_line + b"\r\nHost: x\r\n\r\n")
        assert stream.recv(9) == b"HTTP/1.1 "
        assert stream.recv(1) == b"4"


def test_a_request_has_a_limit(site: ProxySite) -> None:
    with socket.create_connection(("127.0.0.1", site.ws_port), 5) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000)
        assert stream.recv(12) == b"HTTP/1.1 431"


def test_subprotocols_and_paths_are_those_of_mosquitto(site: ProxySite) -> None:
    for offered, chosen in ((("mqtt",), "mqtt"), (("x", "mqttv3.1", "mqtt"), "mqttv3.1")):
        opened = open_websocket(site.ws_port, *offered, path="/any/path?x")
        assert opened.subprotocol == chosen
        opened.close()
    with pytest.raises(InvalidStatus):
        open_websocket(site.ws_port, "chat")


def test_pings_are_answered_and_text_is_not_taken(site: ProxySite) -> None:
    opened = open_websocket(site.ws_port)
    assert opened.ping(b"there?").wait(5)
    opened.send(connect_packet())
    assert opened.recv(5)
    opened.send([publish(b"one")[:3], publish(b"one")[3:]])  # a message in two frames
    assert opened.recv(5)
    opened.send("text")
    with pytest.raises(ConnectionClosed) as caught:
        opened.recv(5)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1003


# ---------------------------------------------------------------------- the two ends


def test_devices_are_closed_when_the_broker_ends_and_come_back_with_it(
    own_site: ProxySite, websocket: bool
) -> None:
    device = own_site.device(websocket=websocket)
    assert device.is_connected()
    own_site.stop_broker()
    assert not device.is_connected()
    wire = Wire(own_site, websocket=websocket)
    wire.send(connect_packet())
    assert wire.rest() == b"\x20\x03\0\x88\0"
    own_site.start_broker()
    assert not own_site.device(websocket=websocket).refused


def test_it_ends_with_its_parent(own_site: ProxySite) -> None:
    device = own_site.device()
    own_site.leave_alone()
    assert own_site.proxy.wait(10) == 0
    assert not device.is_connected()


def test_it_tells_devices_that_the_service_stops(own_site: ProxySite, websocket: bool) -> None:
    wire = Wire(own_site, websocket=websocket)
    wire.send(connect_packet())
    assert wire.answer()
    own_site.proxy.terminate()
    assert wire.rest() == b"\xe0\x01\x8b"
    wire.close()
    assert own_site.proxy.wait(5) == 0


def test_connections_are_counted_by_port(own_site: ProxySite) -> None:
    devices = [own_site.device(websocket=True) for _ in range(3)]
    port = own_site.ws_port
    eventually(lambda: own_site.metric(f'echo_ingest_device_connections{{port="{port}"}}') == 3)
    assert own_site.metric(f'echo_ingest_devices_accepted_total{{port="{port}"}}') == 3
    for device in devices:
        device.close()
    eventually(lambda: own_site.metric(f'echo_ingest_device_connections{{port="{port}"}}') == 0)
    wire = Wire(own_site, websocket=True)
    wire.send(connect_packet(account=WRONG))
    assert wire.rest()
    refused = 'echo_ingest_devices_refused_total{reason="credentials"}'
    eventually(lambda: own_site.metric(refused) == 1)


def test_no_connection_leaks(own_site: ProxySite, websocket: bool) -> None:
    """However a connection ends, nothing of it stays open in the proxy."""
    eventually(lambda: own_site.events("connected"))  # the proxy's own connection counts
    before = open_files(own_site.proxy.pid)
    for last in (b"", b"\xe0\0", b"\0\0", publish(bytes(100_000))[:50_000]):
        wire = Wire(own_site, websocket=websocket)
        wire.send(connect_packet())
        assert wire.answer()
        wire.send(last)
        wire.close()
    half_open = socket.create_connection(("127.0.0.1", own_site.mqtt_port), 5)
    half_open.sendall(connect_packet())
    half_open.shutdown(socket.SHUT_WR)
    refused = Wire(own_site, websocket=websocket)  # it never closes its side
    refused.send(b"\0\0")
    eventually(lambda: open_files(own_site.proxy.pid) == before, seconds=8)
    half_open.close()
    refused.close()


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


# ---------------------------------------------------------------------- places


def test_strangers_give_their_places_to_devices(tmp_path: Path, mosquitto: Path) -> None:
    with contextlib.closing(ProxySite(tmp_path, mosquitto, connections_max=10)) as site:
        devices = [site.device() for _ in range(9)]
        strangers = [socket.create_connection(("127.0.0.1", site.mqtt_port), 5) for _ in range(50)]
        devices.append(site.device())
        assert all(device.is_connected() for device in devices)
        full = Wire(site, websocket=False)
        full.send(connect_packet())
        assert full.rest() == b""
        assert not site.device(websocket=True).refused  # each port has places of its own
        devices.pop().close()
        devices.append(eventually(site.device))
        for stranger in strangers:
            stranger.close()


def test_many_devices_come_at_once_to_a_broker_that_stands_still(site: ProxySite) -> None:
    """Mosquitto lets about a hundred wait; the others wait with us."""
    site.broker.send_signal(signal.SIGSTOP)
    wires = [Wire(site, websocket=False) for _ in range(300)]
    for wire in wires:
        wire.send(connect_packet())
    site.broker.send_signal(signal.SIGCONT)
    assert {wire.answer()[3] for wire in wires} == {0}
    for wire in wires:
        wire.close()


def test_there_are_no_more_places_than_files(tmp_path: Path, mosquitto: Path) -> None:
    with contextlib.closing(ProxySite(tmp_path, mosquitto, files_max=240)) as site:
        (warned,) = site.events("fewer connections than configured")
        assert warned["each_port"] == 10
        devices = [site.device() for _ in range(10)]
        wire = Wire(site, websocket=False)
        assert wire.rest() == b""
        for device in devices:
            device.close()


@pytest.mark.slow
def test_who_does_not_log_in_in_time_is_closed(site: ProxySite) -> None:
    began = time.monotonic()
    wires = [Wire(site, websocket=websocket) for websocket in (False, True)]
    for wire in wires:
        wire.send(connect_packet()[:-1])
    for wire in wires:
        assert wire.rest() == b""
        assert 9 < time.monotonic() - began < 13
    reasons = [event["reason"] for event in site.events("device refused")[-len(wires) :]]
    assert reasons == ["it did not log in within 10 s"] * len(wires)


# ---------------------------------------------------------------------- the gate


async def test_a_closed_gate_holds_back_what_is_published_and_nothing_else(
    tmp_path: Path, mosquitto: Path
) -> None:
    """The connection in this process, where the test closes the gate."""
    gate = Gate()
    with contextlib.closing(ProxySite(tmp_path, mosquitto)) as site:
        common = Common(
            broker=LocalEndpoint(site.socket),
            payload_bytes_max=PAYLOAD_BYTES_MAX,
            reserved_client_ids=frozenset(),
            certificate_secret=b"",
            held=HeldBytes(1_000),
            kept=KeptBytes(),
            gate=gate,
            memory=BrokerMemory(gate, 1 << 40, sys.maxsize, site.broker.pid, dict),
            activity=Activity(),
            rights=TopicRights(("iotingestion/#",)),
            denials=Denials(),
            turn=asyncio.Lock(),
            buffer=memoryview(bytearray(CHUNK_BYTES)),
        )
        server = await asyncio.get_running_loop().create_server(
            lambda: DeviceConnection(1, Places(10), common), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        reader, other = await asyncio.open_connection("127.0.0.1", port)
        other.write(connect_packet())
        assert (await reader.read(100))[0] == 0x20
        other.write(b"\xc0\0")
        assert await reader.read(100) == b"\xd0\0"
        gate.shut()
        for will, code in ((None, 0), (b"it would wait in memory", 0x88)):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(connect_packet(will=will))
            assert (await reader.read(100))[3] == code
            writer.close()
        gate.close()  # what watches the memory has looked by now, and will not soon again
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(connect_packet())
        assert (await reader.read(100))[0] == 0x20
        writer.write(b"\xc0\0")
        assert await reader.read(100) == b"\xd0\0"
        writer.write(b"\xc0\0" + publish(b"{}") + b"\xc0\0")
        assert await reader.readexactly(2) == b"\xd0\0"  # what stands before it passes
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        assert gate.waiting == 1
        gate.open()
        answers = await reader.readuntil(b"\xd0\0")
        assert answers[0] == 0x40
        clip = publish(bytes(300_000))
        writer.write(clip[:200_000])
        await asyncio.to_thread(eventually, lambda: common.memory._unfinished_bytes() == 200_000)
        gate.shut()
        writer.write(clip[200_000:])
        await asyncio.to_thread(eventually, lambda: gate.waiting == 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        gate.close()  # what has begun goes on
        assert (await reader.read(100))[0] == 0x40
        assert gate.waiting == 0
        gate.close()
        writer.write(publish(b"{}"))
        await asyncio.to_thread(eventually, lambda: gate.waiting == 1)
        writer.close()
        other.close()
        site.stop_broker()  # a connection that waits ends with the broker's side
        await asyncio.to_thread(eventually, lambda: gate.waiting == 0)
        server.close()


# ---------------------------------------------------------------------- TLS


class TlsSite:
    """A site with a TLS port, and an authority for its certificate and for those of nodes."""

    def __init__(self, folder: Path, mosquitto: Path, *, certificates_only: bool = False) -> None:
        self.authority = Authority(folder)
        ca = self.authority.ca if certificates_only else None
        names = ("swamp-01", "echopub")
        accounts = [Credentials(name, node_password(CERTIFICATE_SECRET, name)) for name in names]
        self.site = ProxySite(
            folder,
            mosquitto,
            tls=TlsFiles(self.authority.certificate, self.authority.key, ca),
            accounts=(accounts[0], ACCOUNT) if certificates_only else (ACCOUNT,),
        )
        self.port = self.site.tls_port

    def device(self, name: str | None = None, account: Credentials = ACCOUNT) -> Device:
        tls = self.authority.context(name)
        return Device(self.port, account.user, account.password, tls=tls)

    def close(self) -> None:
        self.site.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_devices_publish_by_tls(tmp_path: Path, mosquitto: Path, version: ssl.TLSVersion) -> None:
    with contextlib.closing(TlsSite(tmp_path, mosquitto)) as tls:
        context = tls.authority.context(None)
        context.minimum_version = context.maximum_version = version
        device = Device(tls.port, ACCOUNT.user, ACCOUNT.password, tls=context)
        reader = tls.device()
        reader.subscribe("a/#")
        device.publish([("a/b", bytes(3_000))] * 200)
        assert reader.received_topics(1) == ["a/b"] * 200
        assert device.put("b/c", bytes(PAYLOAD_BYTES_MAX)) in TAKEN
        assert device.put("b/c", bytes(PAYLOAD_BYTES_MAX + 65_536)) is None
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):
            Device(tls.port, tls=context)
        with socket.create_connection(("127.0.0.1", tls.port), 5) as stream:
            stream.sendall(connect_packet())
            assert stream.recv(100)[:1] in (b"\x15", b"")  # an alert
        eventually(lambda: len(tls.site.events("device refused")) == 2)
        assert {each["reason"][:4] for each in tls.site.events("device refused")} == {"TLS:"}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_that_a_device_ends_in_order_ends_its_connection_and_nothing_else(
    tmp_path: Path, mosquitto: Path, version: ssl.TLSVersion
) -> None:
    with contextlib.closing(TlsSite(tmp_path, mosquitto)) as tls:
        context = tls.authority.context(None)
        context.minimum_version = context.maximum_version = version
        for logs_in in (True, False):
            stream = socket.create_connection(("127.0.0.1", tls.port), 5)
            with context.wrap_socket(stream, server_hostname="localhost") as secured:
                if logs_in:
                    secured.sendall(connect_packet())
                    assert secured.recv(100)[:1] == b"\x20"
                with secured.unwrap() as plain:  # it waits until the proxy has said it too
                    assert plain.recv(1) == b""
        eventually(lambda: tls.site.events("device disconnected"))
        assert tls.site.events("device disconnected")[0]["reason"] == "it closed the connection"
        assert not tls.device().refused


def test_devices_publish_by_websockets_in_tls(tmp_path: Path, mosquitto: Path) -> None:
    with contextlib.closing(TlsSite(tmp_path, mosquitto)) as tls:
        url = f"wss://localhost:{tls.site.wss_port}/mqtt"
        context = tls.authority.context(None)
        with connect(url, ssl=context, subprotocols=[Subprotocol("mqtt")]) as opened:
            opened.send(connect_packet())
            assert opened.recv(5, decode=False)[:1] == b"\x20"
            opened.send(publish(bytes(2_000_000)))
            assert opened.recv(5, decode=False)[:1] == b"\x40"
            opened.send(b"\0\0")
            assert opened.recv(5) == b"\xe0\x01\x81"
            with pytest.raises(ConnectionClosedOK):
                opened.recv(5)
        assert not tls.site.events("fault in the proxy")


def test_a_certificate_logs_in_as_its_name_whatever_is_said(
    tmp_path: Path, mosquitto: Path
) -> None:
    with contextlib.closing(TlsSite(tmp_path, mosquitto, certificates_only=True)) as tls:
        for account in (ACCOUNT, WRONG, Credentials("echosub", "")):
            assert not tls.device("swamp-01", account).refused
        eventually(lambda: len(tls.site.events("device connected")) == 3)
        assert {each["user"] for each in tls.site.events("device connected")} == {"swamp-01"}
        assert tls.device("unknown").refused
        assert tls.device("echopub").refused  # an account of ours has another password
        stranger = tls.authority.context(None)
        trustme.CA().issue_cert(common_name="swamp-01").configure_cert(stranger)
        for context in (tls.authority.context(None), stranger):
            with pytest.raises((OSError, AssertionError)):
                Device(tls.port, tls=context)


def test_a_new_certificate_is_served_and_one_that_does_not_fit_is_not(
    tmp_path: Path, mosquitto: Path
) -> None:
    with contextlib.closing(TlsSite(tmp_path, mosquitto)) as tls:
        device = tls.device()
        presented = ssl.get_server_certificate(("127.0.0.1", tls.port))
        tls.authority.renew()
        eventually(lambda: ssl.get_server_certificate(("127.0.0.1", tls.port)) != presented)
        presented = ssl.get_server_certificate(("127.0.0.1", tls.port))
        tls.authority.certificate.write_bytes(tls.authority.ca.read_bytes())
        eventually(lambda: "certificate not changed" in tls.site.log())
        assert ssl.get_server_certificate(("127.0.0.1", tls.port)) == presented
        assert device.is_connected()
        tls.authority.renew()
        eventually(lambda: ssl.get_server_certificate(("127.0.0.1", tls.port)) != presented)


# ---------------------------------------------------------------------- attacks

MANY_PROPERTIES = USER_PROPERTY * 8_000_000
"""40 MB; mosquitto and a codec in Python would make an object of each."""


class GoodDevice:
    """A device that publishes all the time, and knows how long each answer took."""

    def __init__(self, site: ProxySite) -> None:
        self._device = site.device()
        self._stopping = threading.Event()
        self.seconds: list[float] = []
        self.problem: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(0.01):
                began = time.monotonic()
                assert self._device.put("good/device", bytes(300)) in TAKEN
                self.seconds.append(time.monotonic() - began)
        except (OSError, AssertionError) as error:
            self.problem = error

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._device.close()


@contextlib.contextmanager
def nobody_suffers(
    site: ProxySite, *, broker_mb: float = 8, proxy_mb: float = 40, seconds: float = 2
) -> Iterator[None]:
    """Watch memory, and a good device, while the block attacks."""
    pids = {site.broker.pid: broker_mb, site.proxy.pid: proxy_mb}
    before = {pid: memory_mb(pid) for pid in pids}
    most = dict(before)
    good, stopping = GoodDevice(site), threading.Event()

    def watch() -> None:
        while not stopping.wait(0.02):
            for pid in pids:
                most[pid] = max(most[pid], memory_mb(pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
        eventually(lambda: len(good.seconds) >= 20)
    finally:
        stopping.set()
        watching.join()
        good.stop()
    assert good.problem is None
    assert max(good.seconds) < seconds
    for pid, grows_mb in pids.items():
        assert most[pid] < before[pid] + grows_mb, (pid == site.proxy.pid, before, most)


@pytest.mark.slow
def test_a_connect_of_millions_of_properties_makes_nobody_suffer(
    own_site: ProxySite, websocket: bool
) -> None:
    attack = connect_packet(account=WRONG, properties=USER_PROPERTY * 10_000_000)
    with nobody_suffers(own_site):
        for _ in range(3):
            wire = Wire(own_site, websocket=websocket)
            sending = threading.Thread(target=wire.send, args=(attack,))
            sending.start()
            assert wire.rest() == b"\x20\x03\0\x95\0"
            sending.join()


@pytest.mark.slow
def test_thousands_of_half_sent_connects_make_nobody_suffer(
    own_site: ProxySite, websocket: bool
) -> None:
    """Each is as large as is allowed, and its last byte is missing."""
    connect = connect_packet(account=WRONG, properties=USER_PROPERTY * 13_000)[:-1]
    wires = []
    with nobody_suffers(own_site):
        for _ in range(1_500):
            wire = Wire(own_site, websocket=websocket)
            wire.send(connect)
            wires.append(wire)
        assert not own_site.device(websocket=websocket).refused
    reasons = {each["reason"] for each in own_site.events("device refused")}
    assert any("most memory" in reason for reason in reasons), reasons
    for wire in wires:
        wire.close()


@pytest.mark.slow
def test_a_connect_that_comes_slowly_is_over_after_ten_seconds(own_site: ProxySite) -> None:
    wires = [Wire(own_site, websocket=websocket) for websocket in (False, True)]
    began, pause = time.monotonic(), threading.Event()
    with nobody_suffers(own_site):
        for byte in connect_packet(properties=USER_PROPERTY * 10_000):
            for wire in wires:
                wire.send(bytes((byte,)))
            if pause.wait(0.2) or len(own_site.events("device refused")) == len(wires):
                break
    assert time.monotonic() - began < 15


@pytest.mark.slow
def test_a_publish_of_millions_of_properties_is_cut_off(
    own_site: ProxySite, websocket: bool
) -> None:
    attack = publish(b"{}", properties=MANY_PROPERTIES)
    with nobody_suffers(own_site):
        wire = Wire(own_site, websocket=websocket)
        wire.send(connect_packet())
        assert wire.answer()
        sending = threading.Thread(target=wire.send, args=(attack,))
        sending.start()
        assert wire.rest() == b"\xe0\x01\x95"
        sending.join()


@pytest.mark.slow
def test_a_flood_of_empty_frames_makes_nobody_suffer(own_site: ProxySite) -> None:
    frames = (b"\x80\x80" + bytes(4), b"\x82\x80" + bytes(4), b"\x89\x80" + bytes(4))
    with nobody_suffers(own_site):
        for number in range(300):
            with bare_websocket(own_site) as stream, contextlib.suppress(OSError):
                stream.sendall(frames[number % 3] * 20_000)


@pytest.mark.slow
def test_who_asks_and_does_not_read_the_answers_is_closed(own_site: ProxySite) -> None:
    connect = connect_packet()
    pings = (b"\x89\xfd" + bytes(4 + 125)) * 1_000
    with bare_websocket(own_site) as stream:
        stream.sendall(b"\x82" + bytes((0x80 | len(connect),)) + bytes(4) + connect)
        assert b"\x20" in stream.recv(100)
        with nobody_suffers(own_site, proxy_mb=8), contextlib.suppress(ConnectionError):
            for _ in range(300):
                stream.sendall(pings)
    reasons = [each["reason"] for each in own_site.events("device disconnected")]
    assert "it does not read what it asks for" in reasons


@pytest.mark.slow
def test_answers_that_a_device_does_not_read_are_few(own_site: ProxySite, websocket: bool) -> None:
    """It is not read either until it reads, and then it goes on where it was."""
    wire = Wire(own_site, websocket=websocket, timeout_seconds=60)
    wire.send(connect_packet())
    assert wire.answer()
    before = memory_mb(own_site.broker.pid)
    pings = 1_000_000
    sending = threading.Thread(target=wire.send, args=(b"\xc0\0" * pings,))
    sending.start()
    assert most_memory_mb(own_site.broker.pid, 4) < before + 20
    answers = 0
    while answers < 2 * pings:
        piece = wire.answer()
        assert piece
        answers += len(piece)
    sending.join()
    wire.close()


@pytest.mark.slow
def test_what_an_account_lets_the_broker_keep_is_bounded(tmp_path: Path, mosquitto: Path) -> None:
    """Each level of a topic takes 700 bytes there, and a topic of 200 bytes may have 190."""
    other = Credentials("other", "another password")
    with contextlib.closing(ProxySite(tmp_path, mosquitto, accounts=(ACCOUNT, other))) as site:
        before = memory_mb(site.broker.pid)
        wires = [Wire(site, websocket=False) for _ in range(5)]
        answers = []
        for first, wire in enumerate(wires):
            wire.send(connect_packet())
            assert wire.answer()[0] == 0x20
            filters = [field(b"%d-%03d" % (first, n) + b"/" * 190) + b"\0" for n in range(320)]
            wire.send(packet(0x82, b"\0\1\0" + b"".join(filters)))
            answers.append(wire.answer()[0])
        assert memory_mb(site.broker.pid) < before + 80
        assert answers == [0x90] + [0xE0] * 4
        good = Wire(site, websocket=False)
        good.send(connect_packet(account=other))
        assert good.answer()[0] == 0x20
        good.send(packet(0x82, b"\0\1\0" + field(b"iotreceipts/good/#") + b"\1"))
        assert good.answer()[0] == 0x90
        for wire in (good, *wires):
            wire.close()
        reasons = {each["reason"] for each in site.events("device disconnected")}
        assert "its account lets the broker keep too much for now" in reasons


@contextlib.contextmanager
def bare_websocket(site: ProxySite) -> Iterator[socket.socket]:
    """Yield a connection that has become a WebSocket; nobody reads it but the test."""
    with socket.create_connection(("127.0.0.1", site.ws_port), 20) as stream:
        stream.sendall(
            b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        )
        assert stream.recv(1_000).startswith(b"HTTP/1.1 101")
        yield stream


@pytest.mark.slow
def test_a_flood_before_a_broker_that_stands_still_is_bounded(
    own_site: ProxySite, websocket: bool
) -> None:
    """Each device sends as long as it can; nothing is lost when the broker goes on."""
    wires = [Wire(own_site, websocket=websocket, timeout_seconds=60) for _ in range(600)]
    messages = publish(bytes(2_000)) * 200
    for wire in wires:
        wire.send(connect_packet())
        assert wire.answer()
    before = memory_mb(own_site.proxy.pid)
    own_site.broker.send_signal(signal.SIGSTOP)
    sending = [threading.Thread(target=wire.send, args=(messages,)) for wire in wires]
    for each in sending:
        each.start()
    assert most_memory_mb(own_site.proxy.pid, 5) < before + 30
    own_site.broker.send_signal(signal.SIGCONT)
    for each, wire in zip(sending, wires, strict=True):
        each.join()
        answers = b""
        while answers.count(b"\x40") < 200:
            piece = wire.answer()
            assert piece
            answers += piece
        wire.close()


@pytest.mark.slow
def test_a_reader_that_does_not_read_holds_little(own_site: ProxySite) -> None:
    reader, publisher = Wire(own_site, websocket=False), own_site.device()
    reader.send(connect_packet() + packet(0x82, b"\0\1\0" + field(b"a/#") + b"\0"))
    before = memory_mb(own_site.proxy.pid)
    publisher.publish([("a/b", bytes(20_000))] * 2_000, window=20)
    assert memory_mb(own_site.proxy.pid) < before + 4
    reader.close()


@pytest.mark.slow
def test_rubbish_of_every_kind_leaves_the_proxy_as_it_was(
    own_site: ProxySite, websocket: bool
) -> None:
    rng = random.Random(14)
    good = connect_packet() + publish(bytes(70_000), properties=USER_PROPERTY * 10) + b"\xc0\0"
    with nobody_suffers(own_site):
        for _ in range(300):
            damaged = bytearray(good if rng.random() < 0.8 else rng.randbytes(300))
            for _ in range(rng.randrange(4)):
                damaged[rng.randrange(60)] = rng.randrange(256)
            wire = Wire(own_site, websocket=websocket)
            wire.send(bytes(damaged[: rng.randrange(len(damaged)) + 1]))
            wire.close()
    eventually(lambda: own_site.metric(connections(own_site.mqtt_port)) == 0)
    eventually(lambda: own_site.metric(connections(own_site.ws_port)) == 0)


def connections(port: int) -> str:
    return f'echo_ingest_device_connections{{port="{port}"}}'
