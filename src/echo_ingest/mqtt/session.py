"""The session with the broker: messages arrive in batches and are acknowledged by the caller.

Its rules
  - It uses QoS 1 and never a clean start: while we are away, the broker keeps our messages
    [MQTT-3.1.2-4], [MQTT-3.1.2-23]. A person may ask for QoS 0, and for a session that ends with
    each connection.
  - PUBACKs are sent when `ack` is called, in the order in which the messages came [MQTT-4.6.0-2].
  - Packet ids belong to one connection: acknowledgements of a lost connection are void, and the
    messages that they were for come again, marked DUP. QoS 0 messages never come again, so they are
    kept.
  - Reading stops while `HELD_MESSAGES_MAX` messages or `HELD_BYTES_MAX` bytes of memory wait to
    be acknowledged, those of all sessions that share a `HeldMessages` together, even if the broker
    ignores Receive Maximum, as mosquitto 2.0.11 does.
  - Properties of more than `PROPERTIES_BYTES_MAX` are never made into objects. Such a message is
    kept without them and rejected, since it would come again for ever if it were not acknowledged.
  - After a lost connection it reconnects without limit, with backoff and jitter.
  - If the broker grants less than a durable session needs, `shortfall` says so. What arrives is
    taken nevertheless, and now and then the broker is asked again.
  - It speaks MQTT 5, or 3.1.1 where that is asked for: then the broker grants without a word.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import mqtt5
import structlog
from msgspec import Struct

from echo_ingest.backoff import delay_seconds
from echo_ingest.mqtt import granted, packets, version_3
from echo_ingest.mqtt.connection_errors import (
    FAILURE,
    ConnectionClosed,
    ConnectionLost,
    LoginRefused,
    OptionNames,
    PublishDenied,
    PublishRefused,
    SessionTakenOver,
    describe,
    why_disconnected,
)
from echo_ingest.mqtt.inbox import Batch, HeldMessages, Inbox
from echo_ingest.mqtt.link import Link, open_link
from echo_ingest.mqtt.outbox import Outbox
from echo_ingest.record import PROPERTIES_BYTES_MAX, Message
from echo_ingest.settings import Endpoint, LocalEndpoint, MqttVersion

KEEP_ALIVE_SECONDS = 20
ANSWER_TIMEOUT_SECONDS = 10.0
GOODBYE_TIMEOUT_SECONDS = 2.0
RECEIVE_MAXIMUM = 5_000
TAKEN_OVER_SECONDS = 300.0
SUSPECTED_SECONDS = 60.0  # a bad network may look the same
ASK_AGAIN_SECONDS, ASK_AGAIN_SECONDS_MAX = 5.0, 300.0
SHORT_CONNECTIONS_MAX = 3
SHORT_CONNECTION_SECONDS = 10.0

QOS_0 = mqtt5.QoS.AT_MOST_ONCE
QOS_1 = mqtt5.QoS.AT_LEAST_ONCE
WRONG_LOGIN = (
    mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD,
    mqtt5.ConnAckReasonCode.NOT_AUTHORIZED,
)

P = TypeVar("P", bound=mqtt5.ConnAckPacket | mqtt5.SubAckPacket | mqtt5.PingRespPacket)


class SessionOptions(Struct, frozen=True, kw_only=True):
    """Which broker to connect to, with which account, and what to subscribe to."""

    endpoint: Endpoint | LocalEndpoint
    client_id: str
    login: Callable[[], tuple[str, str] | None] = lambda: None
    """Returns user and password; called at each connection, as our own broker may change them."""
    tls_ca_file: Path | None = None
    version: MqttVersion = "5"
    """The version of MQTT that the broker speaks."""
    topic_filters: tuple[str, ...] = ()
    """Subscribed to at `qos`."""
    qos: mqtt5.QoS = QOS_1
    """Of what is subscribed to; with QoS 0 the broker keeps nothing for us."""
    loopback_topic: str | None = None
    """Subscribed to at QoS 0; its messages go to `on_loopback` and are not received as messages."""
    session_expiry_seconds: int = 0
    """How long the broker keeps our session while we are away; 0: not at all. A broker that speaks
    3.1.1 is only told whether to keep it."""
    payload_bytes_max: int | None = None
    """The size of messages that the broker has to take from devices; None: what it likes."""
    names: OptionNames = OptionNames()
    """What people call these options, for remedies."""


class Session:
    """One MQTT session. `run` keeps it connected; `receive`, `ack` and `publish` use it."""

    def __init__(
        self,
        options: SessionOptions,
        *,
        node_of: Callable[[str], str | None] = lambda _topic: None,
        on_connected: Callable[[bool], None] = lambda _session_present: None,
        on_disconnected: Callable[[], None] = lambda: None,
        on_loopback: Callable[[bytes], None] = lambda _payload: None,
        held: HeldMessages | None = None,
        rng: Random | None = None,
        log: Any = None,
    ) -> None:
        """`on_connected` is called with whether the broker still had our session.

        `held` counts for this session and others together.
        """
        self.options = options
        self.state = "not connected yet"
        """`connected`, or in words why it is not."""
        self.shortfall: str | None = None
        """What the broker grants too little of, in words with the remedy; None: nothing."""
        self.login_refused = False
        """Whether the last attempt failed because of our name or our password."""
        self.reconnects = 0
        self._node_of = node_of
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._on_loopback = on_loopback
        self._rng = rng or Random()  # noqa: S311 - jitter, not a secret
        self._log = log or structlog.get_logger("mqtt", topics=options.topic_filters)

        self._user: str | None = None
        self._subscribed = False
        self._connection = 0
        self._link: Link | None = None
        self._lost: asyncio.Future[None] | None = None
        self._connected = asyncio.Event()
        self._partial = bytearray()
        self._awaited_bytes = 0
        self._last_received_at = 0.0
        self._keep_alive_seconds: float = KEEP_ALIVE_SECONDS
        self._answers: dict[type, asyncio.Future[mqtt5.Packet]] = {}
        is_older = options.version == "3.1.1"
        self._read = version_3.read if is_older else mqtt5.read
        self._encode = version_3.encode if is_older else packets.encode
        self._outbox = Outbox(self._encode)
        self._inbox = Inbox(held)
        self._inbox.held.on_room.append(self._go_on_reading)

    async def receive(self, messages_max: int, linger_seconds: float) -> Batch:
        """Wait for a message, then for `linger_seconds` or until there are `messages_max`."""
        messages, packet_ids, memory_bytes = await self._inbox.take(messages_max, linger_seconds)
        return Batch(
            messages,
            packet_ids,
            self._connection,
            sum([len(message.payload) for message in messages]),
            memory_bytes,
        )

    def ack(self, batch: Batch) -> bool:
        """Send the PUBACKs of a batch. Batches are acknowledged in the order they were received.

        Return False if their connection was lost: then the broker sends the messages again.
        """
        self._inbox.held.release(len(batch.messages), batch.memory_bytes)
        if self._link is None or self._lost is None or self._lost.done():
            return False
        if batch.connection != self._connection:
            return False
        if batch.packet_ids:
            self._link.write(packets.pubacks(batch.packet_ids))
        return True

    def _go_on_reading(self) -> None:
        if self._link is not None and self._lost is not None and not self._lost.done():
            self._last_received_at = time.monotonic()
            self._link.resume()

    # ------------------------------------------------------------------ messages out

    def offer(self, packets: list[bytes]) -> int:
        """Send QoS 0 packets if that needs no waiting; return how many are not dropped.

        They are in the form of MQTT 5.
        """
        if not self._connected.is_set() or self._link is None or self._link.is_congested:
            return 0
        if self.options.version == "3.1.1":
            packets = [version_3.of_version_5(packet) for packet in packets]
        fitting = [packet for packet in packets if self._outbox.takes(packet)]
        self._link.write(b"".join(fitting))
        return len(fitting)

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: mqtt5.QoS = QOS_1,
        properties: Sequence[tuple[str, str]] = (),
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
    ) -> None:
        """Publish a message; at QoS 1, return once the broker has acknowledged it.

        Waits for a connection, and while as many messages are unanswered as the broker accepts at
        once. Raises `ConnectionLost` if the connection ends before the answer (the broker may have
        the message or not: publish it again), and `PublishRefused` if the broker rejects it.
        """
        async with self._outbox.order:  # in the order of the calls
            link = await self._writable_link()
            packet_id = self._outbox.next_packet_id() if qos != QOS_0 else None
            packet = mqtt5.PublishPacket(
                topic,
                payload,
                qos=qos,
                packet_id=packet_id,
                user_properties=list(properties),
                response_topic=response_topic,
                correlation_data=correlation_data,
            )
            link.write(self._outbox.encode(packet))
            if packet_id is None:
                return
            answer = self._outbox.expect_puback(packet_id)
        puback = await answer
        if int(puback.reason_code) >= FAILURE:
            is_denied = puback.reason_code == mqtt5.PubAckReasonCode.NOT_AUTHORIZED
            refused = PublishDenied if is_denied else PublishRefused
            raise refused(f"{topic}: {self._describe(puback)}")

    async def _writable_link(self) -> Link:
        while True:
            await self._connected.wait()
            if self._link is not None:
                await self._link.drained()
            if self._outbox.is_full:
                await self._outbox.wait_for_answer()
            elif self._link is not None and self._connected.is_set():
                return self._link

    # ------------------------------------------------------------------ the connection

    async def run(self) -> None:
        """Stay connected until cancelled; then disconnect properly, so that no timeout follows."""
        attempt = short_connections = asked_again = 0
        while True:
            opened_at = 0.0
            try:
                await self._open()
                attempt, opened_at = 0, time.monotonic()
                asked_again = asked_again + 1 if self.shortfall is not None else 0
                await self._until_lost(asked_again)
            except asyncio.CancelledError:
                await self._disconnect()
                raise
            except (ConnectionLost, OSError) as error:
                # mosquitto 2.0 gives no reason when a session is taken over: we only see that the
                # connection is closed right after it was opened, again and again.
                lasted_seconds = time.monotonic() - opened_at
                was_short = lasted_seconds < SHORT_CONNECTION_SECONDS
                was_cut_short = type(error) is ConnectionClosed and was_short
                short_connections = short_connections + 1 if was_cut_short else 0
                is_certain = isinstance(error, SessionTakenOver)
                if is_certain or short_connections == SHORT_CONNECTIONS_MAX:
                    short_connections = 0
                    taken_over = self.options.names.taken_over
                    self._discard_connection(taken_over)
                    self._log.error("taken over", reason=taken_over)
                    await asyncio.sleep(TAKEN_OVER_SECONDS if is_certain else SUSPECTED_SECONDS)
                    continue
                attempt += 1
                self.login_refused = isinstance(error, LoginRefused)
                self._discard_connection(
                    why_disconnected(error, self.options.endpoint, self.options.names)
                )
                if attempt == 1:
                    self._log.warning("disconnected", reason=self.state)
                await asyncio.sleep(delay_seconds(attempt, self._rng, most=5.0))

    async def _until_lost(self, asked_again: int) -> None:
        """Raise why the connection was lost; return to ask again for what was not granted."""
        assert self._lost is not None
        seconds = None
        if asked_again:
            seconds = delay_seconds(
                asked_again, self._rng, first=ASK_AGAIN_SECONDS, most=ASK_AGAIN_SECONDS_MAX
            )
        await asyncio.wait((self._lost,), timeout=seconds)
        if self._lost.done():
            await self._lost
        assert self.shortfall is not None
        await self._disconnect()
        self._fail_connection(ConnectionLost(self.shortfall))
        self._discard_connection(self.shortfall)

    async def wait_connected(self) -> None:
        """Wait until connected and subscribed."""
        await self._connected.wait()

    @property
    def is_connected(self) -> bool:
        """Whether it is connected and subscribed right now."""
        return self._connected.is_set()

    @property
    def packet_bytes_max(self) -> int | None:
        """The size of the largest packet that the broker takes; None: it sets no limit."""
        return self._outbox.packet_bytes_max

    async def _open(self) -> None:
        options = self.options
        user, password = options.login() or (None, None)
        self._user = user
        self._connection += 1
        self._partial = bytearray()
        self._awaited_bytes = 0
        self._last_received_at = time.monotonic()
        self._lost = asyncio.get_running_loop().create_future()
        self._lost.add_done_callback(lambda lost: lost.cancelled() or lost.exception())
        self._link = await open_link(
            options.endpoint,
            options.tls_ca_file,
            options.names.tls_ca_file,
            self._on_bytes,
            functools.partial(self._on_link_lost, self._connection),
        )
        connack = await self._request(
            mqtt5.ConnectPacket(
                options.client_id,
                username=user,
                password=password.encode() if password is not None else None,
                clean_start=options.session_expiry_seconds == 0,
                keep_alive=KEEP_ALIVE_SECONDS,
                session_expiry_interval=options.session_expiry_seconds,
                receive_max=RECEIVE_MAXIMUM,
            ),
            mqtt5.ConnAckPacket,
        )
        if connack.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            is_ours = connack.reason_code in WRONG_LOGIN
            refused = LoginRefused if is_ours else ConnectionLost
            raise refused(f"the broker refused us: {self._describe(connack)}")
        self._outbox.apply_limits(connack)
        self._keep_alive_seconds = granted.keep_alive_seconds(connack, KEEP_ALIVE_SECONDS)
        suback_shortfalls = await self._subscribe(connack)
        self._note_shortfall(connack, suback_shortfalls)
        self.state = "connected"
        self.reconnects += self._connection > 1
        self._log.info(
            "connected", broker=str(options.endpoint), session_present=connack.session_present
        )
        self._on_connected(connack.session_present)
        self._connected.set()
        self._ping(self._connection)

    async def _subscribe(self, connack: mqtt5.ConnAckPacket) -> list[str]:
        """Subscribe; return what is granted at a lower QoS, in words."""
        options = self.options
        filters = packets.subscriptions(options.topic_filters, options.qos, options.loopback_topic)
        if not filters:
            return []
        if self._is_subscribed(connack):
            return []
        granted.require_wildcards(connack, filters)
        suback = await self._request(
            mqtt5.SubscribePacket(self._outbox.next_packet_id(), filters), mqtt5.SubAckPacket
        )
        lower = granted.granted_qos_0(suback, filters, self._user)
        self._subscribed = not lower
        return lower

    def _is_subscribed(self, connack: mqtt5.ConnAckPacket) -> bool:
        """Return whether the session has our subscriptions, and asking again would do harm.

        Each SUBSCRIBE of 3.1.1 brings all retained messages once more [MQTT-3.1.1: 3.8.4-3].
        """
        return self.options.version == "3.1.1" and connack.session_present and self._subscribed

    def _note_shortfall(self, connack: mqtt5.ConnAckPacket, of_suback: list[str]) -> None:
        """Compare what is granted with what a session needs that outlasts its connection."""
        options, before = self.options, self.shortfall
        if options.session_expiry_seconds == 0:
            return
        found = granted.shortfalls(
            connack,
            client_id=options.client_id,
            expiry_seconds=options.session_expiry_seconds,
            payload_bytes_max=options.payload_bytes_max,
        )
        if connack.max_qos != QOS_0:  # which `found` has already, for all subscriptions
            found += of_suback
        self.shortfall = f"the broker grants too little: {'; '.join(found)}" if found else None
        if self.shortfall is not None and self.shortfall != before:
            self._log.error("too little granted", reason=self.shortfall)
        elif before is not None and self.shortfall is None:
            self._log.info("enough granted")

    async def _request(
        self,
        packet: mqtt5.Packet,
        answer_type: type[P],
        timeout_seconds: float = ANSWER_TIMEOUT_SECONDS,
    ) -> P:
        """Send `packet` and wait for its answer; there is one such request at a time."""
        assert self._link is not None
        answer: asyncio.Future[mqtt5.Packet] = asyncio.get_running_loop().create_future()
        self._answers[answer_type] = answer
        try:
            self._link.write(self._encode(packet))
            async with asyncio.timeout(timeout_seconds):
                packet = await answer
        except TimeoutError:
            raise ConnectionLost(
                f"the broker did not answer within {timeout_seconds:g} s"
            ) from None
        finally:
            del self._answers[answer_type]
        assert isinstance(packet, answer_type)
        return packet

    def _ping(self, connection: int) -> None:
        """Keep the connection alive [MQTT-3.1.2-20], and notice a broker that has disappeared."""
        if connection != self._connection or self._link is None:
            return
        silent_seconds = time.monotonic() - self._last_received_at
        if not self._inbox.held.is_full and silent_seconds > 1.5 * self._keep_alive_seconds:
            self._fail_connection(
                ConnectionLost(f"the broker sent nothing for {silent_seconds:.0f} s")
            )
            return
        self._link.write(packets.PINGREQ)
        asyncio.get_running_loop().call_later(self._keep_alive_seconds / 2, self._ping, connection)

    def _on_bytes(self, data: bytes | bytearray) -> None:
        self._last_received_at = time.monotonic()
        if self._partial:
            self._partial += data
            if len(self._partial) < self._awaited_bytes:
                return
            data, self._partial = self._partial, bytearray()
        received_at_ms = time.time_ns() // 1_000_000
        view, position, end = memoryview(data), 0, len(data)
        read, has_properties = self._read, self.options.version == "5"
        while position < end:
            # Only large packets need a look, and their length has at least three bytes.
            if (
                end - position > PROPERTIES_BYTES_MAX
                and data[position + 2] >= 0x80
                and has_properties
            ):
                size = packets.packet_bytes(view[position:])
                if position + size > end:
                    self._partial, self._awaited_bytes = bytearray(view[position:]), size
                    break
                bare = packets.without_large_properties(view[position : position + size])
                if bare is not None:
                    self._on_publish(bare, received_at_ms, properties_cut=True)
                    position += size
                    continue
            try:
                packet, size = read(view[position:])
            except BaseException as error:
                if not packets.is_unreadable(error):
                    raise
                size = packets.packet_bytes(view[position:])
                if size == 0 or position + size > end:
                    self._partial = bytearray(view[position:])
                    self._awaited_bytes = size or len(self._partial) + 1
                    break
                whole, salvaged = view[position : position + size], None
                if has_properties:
                    salvaged = packets.salvage_publish(whole)
                if salvaged is None:
                    reason = f"the broker sent a malformed packet ({error})"
                    if has_properties and packets.is_older_connack(whole):
                        reason = f"the broker does not speak MQTT 5: {self.options.names.older}"
                    self._fail_connection(ConnectionLost(reason))
                    return
                self._log.warning("malformed message kept", topic=salvaged.topic, reason=str(error))
                packet = salvaged
            position += size
            if type(packet) is mqtt5.PublishPacket:
                self._on_publish(packet, received_at_ms)
            else:
                self._on_answer(packet)
        self._inbox.wake()
        if self._inbox.held.is_full and self._link is not None:
            self._link.pause()

    def _on_publish(
        self, packet: mqtt5.PublishPacket, received_at_ms: int, properties_cut: bool = False
    ) -> None:
        topic, payload, packet_id = packet.topic, packet.payload, packet.packet_id
        if packet_id is None and topic == self.options.loopback_topic:
            self._on_loopback(payload)
            return
        self._inbox.put(
            Message(
                topic,
                payload,
                received_at_ms,
                self._node_of(topic),
                tuple(packet.user_properties),
                packet.duplicate,
                packet.response_topic,
                packet.correlation_data,
                properties_cut,
            ),
            packet_id or 0,
        )

    def _on_answer(self, packet: mqtt5.Packet) -> None:
        if isinstance(packet, mqtt5.PubAckPacket):
            self._outbox.on_puback(packet)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            if packet.reason_code == mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER:
                self._fail_connection(SessionTakenOver(self.options.names.taken_over))
            else:
                reason = f"the broker disconnected us: {self._describe(packet)}"
                self._fail_connection(ConnectionLost(reason))
        elif (answer := self._answers.get(type(packet))) is not None and not answer.done():
            answer.set_result(packet)

    def _describe(
        self, packet: mqtt5.ConnAckPacket | mqtt5.PubAckPacket | mqtt5.DisconnectPacket
    ) -> str:
        return describe(packet, self.options.client_id, self.options.names)

    def _on_link_lost(self, connection: int, exc: Exception | None) -> None:
        if connection == self._connection:  # a link that we left may end while the next one opens
            self._fail_connection(
                ConnectionClosed(str(exc) if exc else "the broker closed the connection")
            )

    def _fail_connection(self, error: ConnectionLost) -> None:
        self._connected.clear()
        if self._lost is not None and not self._lost.done():
            self._lost.set_exception(error)
        self._outbox.fail(error)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error)

    def _discard_connection(self, reason: str) -> None:
        """Discard the connection: its unacknowledged messages will come again."""
        self.state = reason
        self._connected.clear()
        if self._link is not None:
            self._link.abort()
            self._link = None
        self._inbox.drop_unacknowledged()
        self._on_disconnected()

    async def _disconnect(self) -> None:
        """Disconnect once the broker has read our last PUBACKs: it drops unread ones on a close."""
        if self._connected.is_set():
            self._connected.clear()
            with contextlib.suppress(ConnectionLost):
                await self._request(
                    mqtt5.PingReqPacket(), mqtt5.PingRespPacket, GOODBYE_TIMEOUT_SECONDS
                )
        self.state = "stopped"
        if self._link is not None:
            self._link.write(mqtt5.DisconnectPacket().write())
            self._link.close()
            self._link = None
