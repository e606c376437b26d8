"""One device: its connection to us, ours to mosquitto, and what goes from one to the other.

No coroutine and no queue: what was read from one side is written to the other at once. Where that
does not take it all, nothing more is read from the first side until it has.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from msgspec import Struct

from echo_ingest.broker import SERVICE
from echo_ingest.broker.node_accounts import node_password
from echo_ingest.broker.topic_rights import TopicRights
from echo_ingest.proxy.activity import Activity, Peer, shown
from echo_ingest.proxy.broker_memory import BrokerMemory
from echo_ingest.proxy.device_topics import Denials, DeviceTopics
from echo_ingest.proxy.gate import Gate
from echo_ingest.proxy.layers import CHUNK_BYTES, Layer, LayerRefused
from echo_ingest.proxy.packets import (
    DISCONNECT_BYTE,
    INVALID_CLIENT_ID,
    PUBLISH,
    QUOTA_EXCEEDED,
    SERVER_UNAVAILABLE,
    SHUTTING_DOWN,
    PacketRefused,
    PacketWalker,
    connack_code,
    connect_bytes,
    connect_level,
    parse_connect,
    refusal,
)
from echo_ingest.proxy.places import HeldBytes, KeptBytes, Places
from echo_ingest.settings import LocalEndpoint

LOGIN_SECONDS_MAX = 10.0
CHUNK_BYTES_BEFORE_LOGIN = 8_192
CHUNK_BYTES_IF_MUCH_WAITS = 4_096
WAITING_BYTES_MAX = 16 * 1024 * 1024
"""From here on, smaller chunks are read: 10,000 devices before a broker that stands still hold
this much and 40 MB more."""
ANSWER_BYTES_MAX = 262_144
"""How much may wait to be written to a device; only answers to what it asks in vain are more."""
ASKED_MAX = 500
"""How many answers a device may wait for. mosquitto keeps them where they cannot be sent on, and a
ping of two bytes costs it 85."""
BROKER_BUFFER_BYTES = 65_536
"""Of the kernel's buffer before mosquitto. The default is three times as much for each device."""
LINGER_SECONDS = 2.0
"""How long we wait for a device to take our last words and to close its side: if we closed first
while it still sends, it might never see them."""
FLUSH_SECONDS_MAX = 10.0
"""How long mosquitto may take to accept what a device sent before it left."""
BROKER_RETRY_SECONDS = 0.01

CONNACK_WORDS = {
    1: "the broker does not speak its protocol version",
    2: "the broker does not accept its client id",
    3: "the broker is not available",
    4: "wrong user name or password",
    5: "not authorized",
    0x84: "the broker does not speak its protocol version",
    0x85: "the broker does not accept its client id",
    0x86: "wrong user name or password",
    0x87: "not authorized",
    0x8C: "the broker does not know its way to log in",
}
FAREWELL_WORDS = {
    0x8B: "the broker shuts down",
    0x8D: "it was silent for longer than its keep-alive",
    0x8E: "its session was taken over by another connection",
    0x95: "a packet was too large for the broker",
    0x98: "an administrator disconnected it",
}


class Common(Struct):
    """What all connections share."""

    broker: LocalEndpoint
    payload_bytes_max: int
    reserved_client_ids: frozenset[bytes]
    certificate_secret: bytes
    held: HeldBytes
    kept: KeptBytes
    gate: Gate
    memory: BrokerMemory
    activity: Activity
    rights: TopicRights
    denials: Denials
    turn: asyncio.Lock
    """Held by the connection that mosquitto accepts next: it lets about a hundred wait, no more."""
    buffer: memoryview
    """Where each chunk is read to: it has been passed on, or copied, before the next is read."""
    waiting_bytes: int = 0
    """What was read and could not be written yet, of all connections."""


class BrokerConnection(asyncio.BufferedProtocol):
    """The side of mosquitto."""

    def __init__(self, device: "DeviceConnection", common: Common) -> None:
        self._device = device
        self._common = common
        self._waiting = 0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=0)
        self._device.side_made()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: D102
        if self._common.waiting_bytes > WAITING_BYTES_MAX:
            return self._common.buffer[:CHUNK_BYTES_IF_MUCH_WAITS]
        return self._common.buffer

    def buffer_updated(self, nbytes: int) -> None:  # noqa: D102
        self._device.from_broker(bytes(self._common.buffer[:nbytes]))

    def pause_writing(self) -> None:  # noqa: D102
        self._waiting = self.transport.get_write_buffer_size()
        self._common.waiting_bytes += self._waiting
        self._device.pause("broker")

    def resume_writing(self) -> None:  # noqa: D102
        self._common.waiting_bytes -= self._waiting
        self._waiting = 0
        self._device.resume("broker")

    def eof_received(self) -> bool:  # noqa: D102
        self._device.broker_gone("the broker closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self._common.waiting_bytes -= self._waiting
        self._waiting = 0
        self._device.broker_gone("the broker closed the connection")
        self._device.side_lost()


class DeviceConnection(asyncio.BufferedProtocol):
    """The side of the device, which decides about both."""

    def __init__(
        self, port: int, places: Places, common: Common, layers: list[Layer] | None = None
    ) -> None:
        self._places = places
        self._common = common
        self._layers = layers or []
        self._peer = Peer("", port)
        self._transport: asyncio.Transport
        self._broker: BrokerConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._sides = 1
        self._receive: Callable[[bytes], None] = self._gather
        self._chunk_bytes_max = self._chunk_bytes = CHUNK_BYTES_BEFORE_LOGIN
        self._begun = bytearray()
        """A CONNECT that is not complete; then what came behind it, until the log-in."""
        self._answer = b""
        """A CONNACK that is not complete."""
        self._level: int | None = None
        self._account: bytes | None = None
        self._kept_bytes = 0
        """What the broker may keep once it has accepted the log-in."""
        self._walker: PacketWalker | None = None
        self._topics: DeviceTopics
        self._will_topic: bytes | None = None
        self._logged_in = False
        self._ending = False
        self._paused_for: set[str] = set()
        """Why nothing is read from the device: `login`, `broker`, `gate`, `answers`."""
        self._rest = b""
        """What was read and not passed on: it waits for the gate, for answers to what was asked
        before, or for the rest of a length."""
        self._waiting = 0
        self._farewell: str | None = None
        """Why the broker ends the connection, if it said so."""

    # ------------------------------------------------------------------ the device

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)
        peer = transport.get_extra_info("peername")
        self._peer.address = peer[0] if peer else "?"
        if not self._places.enter(self, self._peer.address):
            self.evict("full", "all places at this port are taken by devices")
            return
        self._later(LOGIN_SECONDS_MAX, self._too_late)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: D102
        size = self._chunk_bytes
        if self._common.waiting_bytes > WAITING_BYTES_MAX:
            size = CHUNK_BYTES_IF_MUCH_WAITS
        return self._common.buffer[:size]

    def buffer_updated(self, nbytes: int) -> None:  # noqa: D102
        if self._ending:
            return  # it has not read our last words yet
        data = bytes(self._common.buffer[:nbytes])
        try:
            if self._layers:
                data = self._through_layers(data)
            if data:
                self._receive(data)
        except PacketRefused as refused:
            self._refuse(refused)
            return
        for layer in self._layers:
            if layer.ended is not None:
                self._device_gone(layer.ended)
                return

    def _through_layers(self, data: bytes) -> bytes:
        for index, layer in enumerate(self._layers):
            try:
                data, answer = layer.receive(data)
            except LayerRefused as refused:
                self._write(refused.answer, self._layers[:index])
                raise
            if answer:
                if self._transport.get_write_buffer_size() > ANSWER_BYTES_MAX:
                    raise PacketRefused("websocket", "it does not read what it asks for")
                self._write(answer, self._layers[:index])
            self._chunk_bytes = min(self._chunk_bytes_max, layer.chunk_bytes_max)
            if not data:
                break
        return data

    def eof_received(self) -> bool:  # noqa: D102
        self._device_gone("it closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self._common.waiting_bytes -= self._waiting
        self._waiting = 0
        self._device_gone("the connection broke" if exc else "it closed the connection")
        self.side_lost()

    def pause_writing(self) -> None:  # noqa: D102
        self._waiting = self._transport.get_write_buffer_size()
        self._common.waiting_bytes += self._waiting
        if self._broker is not None:
            self._broker.transport.pause_reading()

    def resume_writing(self) -> None:  # noqa: D102
        self._common.waiting_bytes -= self._waiting
        self._waiting = 0
        if self._broker is not None and not self._ending:
            self._broker.transport.resume_reading()

    def pause(self, why: str) -> None:
        """Read nothing more from the device."""
        if not self._ending:
            self._paused_for.add(why)
            self._transport.pause_reading()

    def resume(self, why: str) -> None:
        """Read again, if nothing else speaks against it."""
        self._paused_for.discard(why)
        if not self._paused_for and not self._ending:
            self._transport.resume_reading()

    def _write(self, data: bytes, layers: list[Layer]) -> None:
        for layer in reversed(layers):
            data = layer.send(data)
        self._transport.write(data)

    # ------------------------------------------------------------------ before the log-in

    def _gather(self, data: bytes) -> None:
        """Hold CONNECT until it is complete, and log in with it."""
        self._begun += data
        size = connect_bytes(self._begun)
        if size is None or len(self._begun) < size:
            self._common.held.hold(self, len(self._begun))
            return
        connect = parse_connect(bytes(self._begun[:size]))
        del self._begun[:size]
        self._level = connect.level
        user, login = connect.user, None
        for layer in self._layers:
            if layer.name is not None:  # its certificate counts, and not what it says
                user = layer.name.encode()
                password = node_password(self._common.certificate_secret, layer.name)
                login = user, password.encode()
        is_reserved = connect.client_id in self._common.reserved_client_ids
        is_ours = user == SERVICE.encode()  # if its password is right
        if not is_reserved and not is_ours:  # the name of our session is a secret
            self._peer.client_id = shown(connect.client_id)
        self._peer.user = None if user is None else shown(user)
        if is_reserved and not is_ours:
            raise PacketRefused(
                "reserved id", "its client id is the service's own", INVALID_CLIENT_ID
            )
        if connect.will_topic is not None and self._common.gate.is_shut:
            raise PacketRefused(
                "memory", "it has a will, and the broker's memory is short", SERVER_UNAVAILABLE
            )
        self._account, self._kept_bytes = user, connect.kept_bytes
        self._check_kept(connect.kept_bytes)
        self._topics = DeviceTopics(self._common.rights, self._common.denials, user)
        self._will_topic = connect.will_topic
        packet = connect.rewritten(
            client_id=self._topics.client_id(connect.client_id),
            will_topic=self._topics.will_topic(connect.will_topic),
            login=login,
        )
        self._walker = PacketWalker(
            connect.level, self._common.payload_bytes_max, self._topics.topic_at_broker
        )
        self._common.held.hold(self, len(packet) + len(self._begun))
        if self._ending:
            return
        self.pause("login")
        self._opening = asyncio.get_running_loop().create_task(self._log_in(packet))

    async def _log_in(self, connect: bytes) -> None:
        stream = None
        try:
            async with self._common.turn:
                while stream is None:
                    if self._ending:
                        return
                    stream = _connected(self._common.broker)
                    if stream is None:
                        await asyncio.sleep(BROKER_RETRY_SECONDS)
        except OSError as error:
            words = f"the broker does not listen ({error.strerror})"
            self._refuse(PacketRefused("broker away", words, SERVER_UNAVAILABLE))
            return
        broker = BrokerConnection(self, self._common)
        await asyncio.get_running_loop().create_unix_connection(lambda: broker, sock=stream)
        self._broker = broker
        if self._ending:
            broker.transport.abort()
            return
        broker.transport.write(connect)
        if self._waiting:
            broker.transport.pause_reading()

    def from_broker(self, data: bytes) -> None:
        """Pass on what mosquitto says."""
        if self._ending:
            return
        if self._logged_in:
            if data[0] == DISCONNECT_BYTE and 3 <= len(data) <= 4:
                self._farewell = FAREWELL_WORDS.get(data[2])
            self._write(data, self._layers)
            self._note_answers(len(data))
            return
        self._answer += data
        try:
            code = connack_code(self._answer)
            if code is not None:
                self._write(self._answer, self._layers)
                self._answered(code)
        except PacketRefused as refused:
            self._refuse(refused)

    def _answered(self, code: int) -> None:
        """Go on with what came behind CONNECT, if mosquitto accepts it. Raises `PacketRefused`."""
        if code:
            words = CONNACK_WORDS.get(code, f"the broker refuses it with code {code:#x}")
            raise PacketRefused("credentials", words)
        self._logged_in = True
        self._common.kept.add(self._account, self._kept_bytes)
        self._stop_timers()
        self._places.log_in(self)
        self._common.held.release(self)
        self._common.activity.connected(self._peer)
        self._topics.note_will(self._will_topic)
        self._receive = self._forward
        self._chunk_bytes_max = CHUNK_BYTES
        self._chunk_bytes = min([CHUNK_BYTES, *(each.chunk_bytes_max for each in self._layers)])
        for layer in self._layers:
            layer.trusted = True
        behind, self._begun, self._answer = bytes(self._begun), bytearray(), b""
        if behind:
            self._forward(behind)
        self.resume("login")

    def _too_late(self) -> None:
        words = f"it did not log in within {LOGIN_SECONDS_MAX:g} s"
        self._refuse(PacketRefused("too slow", words))

    # ------------------------------------------------------------------ after the log-in

    def _forward(self, data: bytes) -> None:
        """Pass on what the gate allows. Raises `PacketRefused`."""
        assert self._walker is not None
        assert self._broker is not None
        if self._rest:
            data, self._rest = self._rest + data, b""
        gate, passed = self._common.gate, 0
        in_publish = self._walker.unfinished > 0
        if not (in_publish and gate.is_shut):
            try:
                passed = self._walker.feed(data, may_publish=gate.is_open, asked_max=ASKED_MAX)
                if self._walker.kept_bytes:
                    self._check_kept(self._walker.kept_bytes)
                    self._common.kept.add(self._account, self._walker.kept_bytes)
                    self._walker.kept_bytes = 0
            except PacketRefused as refused:
                self._broker.transport.write(self._walker.passed_on(data, refused.good_bytes))
                raise
            self._broker.transport.write(self._walker.passed_on(data, passed))
        if passed < len(data):
            self._rest = data[passed:]
            if not gate.is_open and ((passed == 0 and in_publish) or data[passed] >> 4 == PUBLISH):
                self._wait_for("gate")
                gate.wait(self)
            elif self._walker.asked >= ASKED_MAX:
                self._wait_for("answers")
        self._common.memory.note(self, passed, self._walker)

    def _check_kept(self, size: int) -> None:
        if size and not self._common.kept.allows(self._account, size):
            words = "its account lets the broker keep too much for now"
            raise PacketRefused("memory", words, QUOTA_EXCEEDED)

    def _wait_for(self, why: str) -> None:
        self._common.waiting_bytes += len(self._rest)
        self.pause(why)

    def _note_answers(self, size: int) -> None:
        """Go on with what waited for answers, once half of them are here."""
        assert self._walker is not None
        self._walker.answered(size)
        if "answers" in self._paused_for and self._walker.asked <= ASKED_MAX // 2:
            self._go_on("answers")

    def pass_on(self) -> None:
        """Go on, as far as the gate allows it now."""
        if self._broker is not None and not self._ending:
            self._go_on("gate")

    def _go_on(self, waited_for: str) -> None:
        self._common.waiting_bytes -= len(self._rest)
        self._paused_for.discard(waited_for)
        try:
            self._forward(b"")
        except PacketRefused as refused:
            self._refuse(refused)
        else:
            if waited_for not in self._paused_for:
                self.resume(waited_for)

    # ------------------------------------------------------------------ the end

    def evict(self, label: str, words: str) -> None:
        """End at once, without another word."""
        if not self._ending:
            self._note_end(label, words)
            self._end(b"")
        self._transport.abort()
        if self._broker is not None:
            self._broker.transport.abort()

    def cut(self, words: str) -> None:
        """End it, because the broker's memory is short."""
        self._refuse(PacketRefused("memory", words, QUOTA_EXCEEDED))

    def shut_down(self) -> None:
        """End because the service ends."""
        code = SHUTTING_DOWN if self._logged_in else SERVER_UNAVAILABLE
        self._refuse(PacketRefused("broker away", "the service stops", code))

    def _refuse(self, refused: PacketRefused) -> None:
        if self._ending:
            return
        level = self._level if self._level is not None else connect_level(self._begun)
        self._note_end(refused.label, refused.words)
        self._end(refusal(level, refused.code, logged_in=self._logged_in))

    def broker_gone(self, words: str) -> None:
        """End, because mosquitto has ended the connection."""
        if not self._ending:
            if self._walker is not None and self._walker.said_goodbye:
                words = "it said goodbye"
            self._note_end("broker away", self._farewell or words)
            self._end(b"")

    def _device_gone(self, words: str) -> None:
        if self._ending:
            return
        if self._logged_in and self._walker is not None and self._walker.said_goodbye:
            words = "it said goodbye"
        self._note_end("left", words)
        self._end(b"")
        self._transport.close()

    def _note_end(self, label: str, words: str) -> None:
        if self._logged_in:
            self._common.activity.disconnected(self._peer, words)
        else:
            self._common.activity.refused(self._peer, label, words)

    def _end(self, last: bytes) -> None:
        """Say the last words to the device, give the rest to mosquitto, and close both sides."""
        self._ending = True
        self._stop_timers()
        self._common.held.release(self)
        self._common.gate.forget(self)
        self._common.memory.forget(self)
        if self._paused_for & {"gate", "answers"}:
            self._common.waiting_bytes -= len(self._rest)
        self._rest = b""
        self._begun = bytearray()
        if self._broker is not None:
            self._broker.transport.close()
            self._later(FLUSH_SECONDS_MAX, self._broker.transport.abort)
        if last:
            self._write(last, self._layers)
        for index in reversed(range(len(self._layers))):
            self._write(self._layers[index].close(), self._layers[:index])
        with contextlib.suppress(OSError):  # it has already gone
            self._transport.write_eof()
        self._transport.resume_reading()
        self._later(LINGER_SECONDS, self._transport.abort)

    def side_made(self) -> None:
        """Note that mosquitto's side is there."""
        self._sides += 1

    def side_lost(self) -> None:
        """Note that one of the two connections is gone."""
        self._sides -= 1
        if not self._sides:
            self._stop_timers()
            self._places.leave(self)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, call))

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


def _connected(endpoint: LocalEndpoint) -> socket.socket | None:
    """Return a connection to mosquitto; None if too many wait there. Raises `OSError`."""
    stream = socket.socket(socket.AF_UNIX)
    try:
        stream.setblocking(False)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BROKER_BUFFER_BYTES)
        with endpoint.name() as name:
            stream.connect(name)
    except BlockingIOError:
        stream.close()
        return None
    except BaseException:
        stream.close()
        raise
    return stream
