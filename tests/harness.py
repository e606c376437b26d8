"""Starts the real programs on free loopback ports, and ends exactly what it started."""

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import mqtt5
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from echo_ingest.settings import Tokens

T = TypeVar("T")

PUB_PASSWORD = "publisher-for-tests"
SUB_PASSWORD = "subscriber-for-tests"
HTTP_TOKEN = "token-of-the-read-api-for-tests"
OPERATOR_TOKEN = "token-of-the-operator-for-tests"
TOKENS = Tokens(HTTP_TOKEN, OPERATOR_TOKEN)
SHARED = Path(__file__).parents[2] / "shared"
PAYLOADS = SHARED / "contract" / "payloads"
AUDIO = SHARED / "audio"


PORTS = range(10_000, 32_000)
"""Below those that Linux gives to connections: none is taken between looking and listening."""
_ports = itertools.count(random.randrange(len(PORTS)))
"""Each process begins somewhere else, so that two of them hardly ever try the same one at once."""


def free_port() -> int:
    """Return a port on which nobody listens."""
    for number in itertools.islice(_ports, len(PORTS)):
        port = PORTS[number % len(PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no port from {PORTS[0]} to {PORTS[-1]} is free")


def eventually(look: Callable[[], T], *, seconds: float = 20.0) -> T:
    """Poll until `look` returns something true and raises nothing that may pass; return that."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        try:
            result = look()
            if result:
                return result
            problem: Exception | None = None
        except (AssertionError, OSError, ValueError) as error:
            problem = error
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true within {seconds:g} s") from problem
        pause.wait(0.05)


class Harness:
    """The settings of one installation, and the processes of it that a test has started."""

    def __init__(self, data_dir: Path, *, mosquitto: Path | None = None, **settings: str) -> None:
        self.data_dir = data_dir
        self.mqtt_port, self.ws_port, self.http_port = free_port(), free_port(), free_port()
        self.settings = {
            "IOT_DATA_DIR": str(data_dir),
            "IOT_MQTT_PORT": str(self.mqtt_port),
            "IOT_WS_PORT": str(self.ws_port),
            "IOT_HTTP_PORT": str(self.http_port),
            "IOT_PUB_PASSWORD": PUB_PASSWORD,
            "IOT_SUB_PASSWORD": SUB_PASSWORD,
            "IOT_HTTP_TOKEN": HTTP_TOKEN,
            "IOT_OPERATOR_TOKEN": OPERATOR_TOKEN,
            **({"IOT_MOSQUITTO": str(mosquitto)} if mosquitto else {}),
            **settings,
        }
        self.before_commands: list[str] = []
        """What stands before each command that is started, such as a memory limit's `enter`."""
        self._running: list[subprocess.Popen[str]] = []
        self._commands: list[subprocess.Popen[bytes]] = []

    def start(self, command: str, log: Path | None = None) -> subprocess.Popen[str]:
        """Start `echo-ingest COMMAND`; its output goes to `log`."""
        path = log or self.data_dir.with_suffix(f".{command}.log")
        with path.open("a") as output:
            program = subprocess.Popen(
                [*self.before_commands, sys.executable, "-m", "echo_ingest.cli", command],
                env=self.environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self._running.append(program)
        return program

    def up(self) -> subprocess.Popen[str]:
        """Start `up` and wait until it is healthy."""
        program = self.start("up")
        self.wait_healthy(program)
        return program

    def wait_healthy(self, program: subprocess.Popen[str]) -> None:
        def healthy() -> bool:
            if program.poll() is not None:
                raise RuntimeError(f"ended with {program.returncode}:\n{self.log('up')}")
            return self.http("/healthz")[0] == 200

        eventually(healthy, seconds=30)

    def log(self, command: str) -> str:
        return self.data_dir.with_suffix(f".{command}.log").read_text()

    def cli(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "echo_ingest.cli", *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            input=stdin,
            timeout=60,
            check=False,
        )

    def start_cli(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command and wait for nothing; what it says goes nowhere."""
        program = subprocess.Popen(
            [sys.executable, "-m", "echo_ingest.cli", *arguments],
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._commands.append(program)
        return program

    def environment(self) -> dict[str, str]:
        """Return the environment of this process, with our IOT_ settings in place of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("IOT_")}
        return {**kept, **self.settings}

    def http(self, path: str, token: str | None = HTTP_TOKEN) -> tuple[int, Any]:
        """Send a GET request; return the status and the JSON in the body."""
        try:
            return 200, json.loads(self.http_bytes(path, token))
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def http_bytes(self, path: str, token: str | None = HTTP_TOKEN) -> bytes:
        """Send a GET request; return the body as bytes."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - loopback
            return bytes(reply.read())

    def broker_connections(self) -> int:
        """Return how often the service has connected to the broker."""
        lines = self.http_bytes("/metrics").decode().splitlines()
        name = "echo_ingest_broker_connections_total"
        (line,) = [each for each in lines if each.startswith(name)]
        return int(float(line.rpartition(" ")[2]))

    def ledger(self) -> dict[str, Any]:
        """Return what `status --json` prints, after checking that it adds up."""
        done = self.cli("status", "--json")
        assert done.returncode == 0, done.stderr
        ledger: dict[str, Any] = json.loads(done.stdout)
        assert closes(ledger), ledger
        return ledger

    def ledger_now(self) -> dict[str, Any]:
        """Return what the running service says, checked to add up; no program starts for it."""
        status, ledger = self.http("/api/ledger")
        assert status == 200, ledger
        assert closes(ledger), ledger
        return dict(ledger)

    def records(self) -> list[dict[str, Any]]:
        """Return every record, oldest first."""
        done = self.cli("records", "--json", "--limit", "1000000")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in reversed(done.stdout.splitlines())]

    def broker_pid(self, program: subprocess.Popen[str]) -> int:
        """Return the mosquitto that `program` has started."""
        (pid,) = children(program.pid, "mosquitto")
        return pid

    def web_pid(self, program: subprocess.Popen[str]) -> int:
        """Return the web process that `program` has started."""
        (pid,) = children(program.pid, "echo_ingest.web")
        return pid

    def proxy_pid(self, program: subprocess.Popen[str]) -> int:
        """Return the proxy process that `program` has started."""
        (pid,) = children(program.pid, "echo_ingest.proxy")
        return pid

    def delivery_pid(self, program: subprocess.Popen[str]) -> int:
        """Return the delivery process that `program` has started; 0 while there is none."""
        return next(iter(children(program.pid, "echo_ingest.pipeline.deliver")), 0)

    def stop(self, program: subprocess.Popen[str]) -> int:
        """Send SIGTERM and wait for the orderly end; return the exit code."""
        program.send_signal(signal.SIGTERM)
        code = program.wait(timeout=40)
        self._running.remove(program)
        return code

    def kill_pid(self, pid: int) -> None:
        """Send SIGKILL to a process that one of ours has started."""
        os.kill(pid, signal.SIGKILL)

    def kill(self, program: subprocess.Popen[str]) -> None:
        """Send SIGKILL to the program alone, as the kernel does when memory runs out."""
        program.kill()
        program.wait(timeout=10)
        self._running.remove(program)

    def close(self) -> None:
        """End whatever still runs, newest first."""
        for command in self._commands:
            command.kill()
            command.wait()
        for program in reversed(list(self._running)):
            program.send_signal(signal.SIGCONT)
            program.terminate()
            try:
                program.wait(timeout=30)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
        self._running.clear()


def children(pid: int, name: str = "") -> list[int]:
    """Return the processes that one has started, zombies included unless a `name` is given."""
    numbers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in numbers if name in Path(f"/proc/{each}/cmdline").read_text()]


def is_gone(pid: int) -> bool:
    """Tell whether it has ended with all its threads, and holds no file any more.

    Its memory goes before, so that does not tell; and its first thread may end before the others.
    """
    process = Path(f"/proc/{pid}")
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        return state in "ZX" and len(list((process / "task").iterdir())) == 1
    except (FileNotFoundError, ProcessLookupError):
        return True


def closes(ledger: Mapping[str, Any]) -> bool:
    """Return whether each term adds up: what became of messages, and of records for each sink."""
    return ledger["received"] == sum(
        ledger[part]
        for part in (
            *("stored", "duplicates", "dead_letters"),
            *("ignored", "unclaimed", "discarded"),
        )
    ) and all(
        ledger["stored"] == sum(sink[p] for p in ("skipped", "delivered", "parked", "backlog"))
        for sink in ledger["sinks"].values()
    )


class _Stream(Protocol):
    """What `Device` needs of a socket."""

    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def close(self) -> None: ...


def _socket(port: int, tls: ssl.SSLContext | None) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", port), timeout=20)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream if tls is None else tls.wrap_socket(stream, server_hostname="localhost")


class _WebSocket:
    """MQTT in binary frames, as a socket."""

    def __init__(self, port: int) -> None:
        with contextlib.ExitStack() as stack:
            self._connection = stack.enter_context(
                connect(
                    f"ws://127.0.0.1:{port}/mqtt",
                    subprotocols=[Subprotocol("mqtt")],
                    compression=None,
                    close_timeout=1,  # mosquitto answers no closing handshake
                )
            )
            stack.pop_all()  # `close` ends it
        self._timeout_seconds: float | None = 20

    def sendall(self, data: bytes) -> None:
        try:
            self._connection.send(data)
        except ConnectionClosed as error:
            raise ConnectionResetError("the broker closed the connection") from error

    def recv(self, _size: int) -> bytes:
        try:
            data = self._connection.recv(self._timeout_seconds)
        except ConnectionClosed:
            return b""
        assert isinstance(data, bytes)
        return data

    def settimeout(self, seconds: float | None) -> None:
        self._timeout_seconds = seconds

    def close(self) -> None:
        self._connection.close()


class Device:
    """A device that publishes at QoS 1 with a window, and knows what was acknowledged.

    Made on the bare codec, so that what it says of acknowledgements is what came over the wire.
    """

    def __init__(
        self,
        port: int,
        user: str | None = "echopub",
        password: str = PUB_PASSWORD,
        *,
        websocket: bool = False,
        tls: ssl.SSLContext | None = None,
        client_id: str = "",
        session_seconds: int | None = None,
        will: mqtt5.Will | None = None,
    ) -> None:
        """With `session_seconds` the session is taken up again, and outlasts the connection."""
        self._buffer = b""
        self._stream: _Stream = _WebSocket(port) if websocket else _socket(port, tls)
        secret = password.encode() if user else None
        connect = mqtt5.ConnectPacket(
            client_id,
            username=user,
            password=secret,
            clean_start=session_seconds is None,
            keep_alive=60,
            session_expiry_interval=session_seconds or 0,
            will=will,
        )
        self._stream.sendall(connect.write())
        connack = self._read()
        assert isinstance(connack, mqtt5.ConnAckPacket)
        self.refused = connack.reason_code != mqtt5.ConnAckReasonCode.SUCCESS
        self.has_session = connack.session_present

    def publish(
        self,
        messages: Sequence[tuple[str, bytes]],
        *,
        window: int = 500,
        on_acknowledged: Callable[[int], None] = lambda _count: None,
        properties: Sequence[tuple[str, str]] = (),
        response_topic: str | None = None,
    ) -> None:
        """Publish in order; return when all are acknowledged. `on_acknowledged` gets the count."""
        sent = acknowledged = 0
        while acknowledged < len(messages):
            packets = b""
            while sent < len(messages) and sent - acknowledged < window:
                topic, payload = messages[sent]
                packets += mqtt5.PublishPacket(
                    topic,
                    payload,
                    qos=mqtt5.QoS.AT_LEAST_ONCE,
                    packet_id=sent % 60_000 + 1,
                    user_properties=list(properties),
                    response_topic=response_topic,
                    correlation_data=sent.to_bytes(4) if response_topic else None,
                ).write()
                sent += 1
            if packets:  # mosquitto 2.1.2 takes an empty WebSocket frame for a malformed packet
                self._stream.sendall(packets)
            puback = self._read()
            if isinstance(puback, mqtt5.DisconnectPacket):
                raise ConnectionResetError(f"the broker disconnects us: {puback.reason_code!r}")
            assert isinstance(puback, mqtt5.PubAckPacket), puback
            assert int(puback.reason_code) < 0x80, puback
            acknowledged += 1
            on_acknowledged(acknowledged)

    def put(self, topic: str, payload: bytes = b"{}", *, retain: bool = False) -> int | None:
        """Publish one message at QoS 1; return what `send` returns."""
        packet = mqtt5.PublishPacket(
            topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1, retain=retain
        )
        return self.send(packet.write())

    def send(self, packet: bytes) -> int | None:
        """Send a PUBLISH; return the reason code of its PUBACK, None if the broker disconnects."""
        try:
            self._stream.sendall(packet)
            while True:
                answer = self._read()
                if isinstance(answer, mqtt5.PubAckPacket):
                    return int(answer.reason_code)
                if isinstance(answer, mqtt5.DisconnectPacket):
                    return None
        except (ConnectionError, TimeoutError):
            return None

    def is_connected(self) -> bool:
        """Tell whether the broker answers."""
        try:
            self._stream.sendall(mqtt5.PingReqPacket().write())
            while True:
                match self._read():
                    case mqtt5.PingRespPacket():
                        return True
                    case mqtt5.DisconnectPacket():
                        return False
        except (ConnectionError, TimeoutError):
            return False

    def begin(self, packet: bytes) -> None:
        """Send something and wait for nothing."""
        self._stream.sendall(packet)

    def subscribe(self, *topic_filters: str, at_least_once: bool = False) -> None:
        """Subscribe, at QoS 0 unless told otherwise."""
        qos = mqtt5.QoS.AT_LEAST_ONCE if at_least_once else mqtt5.QoS.AT_MOST_ONCE
        wanted = [mqtt5.TopicFilter(each, max_qos=qos) for each in topic_filters]
        self._stream.sendall(mqtt5.SubscribePacket(1, wanted).write())
        assert isinstance(self._read(), mqtt5.SubAckPacket)

    def received_topics(self, seconds: float) -> list[str]:
        """Return the topics of what comes in until nothing has come for `seconds`."""
        self._stream.settimeout(seconds)
        topics = []
        try:
            while True:
                packet = self._read()
                if isinstance(packet, mqtt5.PublishPacket):
                    topics.append(packet.topic)
        except TimeoutError:
            return topics

    def next_message(self) -> tuple[str, bytes]:
        """Wait for a message; return its topic and payload."""
        while True:
            packet = self._read()
            if isinstance(packet, mqtt5.PublishPacket):
                return packet.topic, packet.payload

    def receipts(self, count: int) -> dict[int, dict[str, str]]:
        """Wait for receipts; return them by the place of their message among those published."""
        got: dict[int, dict[str, str]] = {}
        while len(got) < count:
            packet = self._read()
            if isinstance(packet, mqtt5.PublishPacket):
                assert packet.correlation_data is not None
                got[int.from_bytes(packet.correlation_data)] = json.loads(packet.payload)
        return got

    def close(self) -> None:
        self._stream.close()

    def _read(self) -> mqtt5.Packet:
        while True:
            try:
                packet, size = mqtt5.read(memoryview(self._buffer))
            except IndexError:
                data = self._stream.recv(65_536)
                if not data:
                    raise ConnectionResetError("the broker closed the connection") from None
                self._buffer += data
            else:
                self._buffer = self._buffer[size:]
                return packet
