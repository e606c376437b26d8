"""Outgoing publishes: those that wait for a PUBACK, and how many and how large they may be."""

import asyncio
from collections.abc import Callable

import mqtt5

from echo_ingest.mqtt.connection_errors import ConnectionLost, PublishRefused, PublishTooLarge

UNANSWERED_MAX = 1_000


class Outbox:
    """Assigns packet ids, and passes each PUBACK to the call of `publish` that waits for it."""

    def __init__(self, encode: Callable[[mqtt5.Packet], bytes]) -> None:
        """Take what makes bytes of a packet, in the version that the broker speaks."""
        self._encode = encode
        self._waiting: dict[int, asyncio.Future[mqtt5.PubAckPacket]] = {}
        self._waiting_max = UNANSWERED_MAX
        self.packet_bytes_max: int | None = None
        """The size of the largest packet that this broker takes; None: it sets no limit."""
        self._qos_max = mqtt5.QoS.EXACTLY_ONCE
        self._packet_id = 0
        self._answered = asyncio.Event()
        self.order = asyncio.Lock()
        """A call of `publish` holds it until its packet is written, to keep the order of calls."""

    def apply_limits(self, connack: mqtt5.ConnAckPacket) -> None:
        """Keep to the limits of this broker."""
        self._waiting_max = min(UNANSWERED_MAX, connack.receive_max)
        self.packet_bytes_max = connack.max_packet_size
        self._qos_max = connack.max_qos

    def takes(self, packet: bytes) -> bool:
        """Return whether the broker takes a packet of this size [MQTT-3.2.2-15]."""
        return self.packet_bytes_max is None or len(packet) <= self.packet_bytes_max

    @property
    def is_full(self) -> bool:
        """Whether as many are unanswered as the broker accepts at once [MQTT-3.3.4-9]."""
        return len(self._waiting) >= self._waiting_max

    async def wait_for_answer(self) -> None:
        """Wait for any answer."""
        self._answered.clear()
        await self._answered.wait()

    def next_packet_id(self) -> int:
        """Return a packet id that is not in use [MQTT-2.2.1-3]."""
        while True:
            self._packet_id = self._packet_id % 65_535 + 1
            if self._packet_id not in self._waiting:
                return self._packet_id

    def encode(self, packet: mqtt5.PublishPacket) -> bytes:
        """Encode the packet; raise `PublishRefused` if the broker would not take it."""
        if int(packet.qos) > int(self._qos_max):  # [MQTT-3.2.2-11]
            raise PublishRefused(
                f"{packet.topic}: the broker takes nothing at QoS {int(packet.qos)}, so it would "
                "not confirm the message: allow that at the broker (mosquitto: max_qos)"
            )
        data = self._encode(packet)
        if not self.takes(data):
            raise PublishTooLarge(
                f"{packet.topic}: {len(data):,} bytes; the broker accepts at most "
                f"{self.packet_bytes_max:,} in one message"
            )
        return data

    def expect_puback(self, packet_id: int) -> asyncio.Future[mqtt5.PubAckPacket]:
        """Return the PUBACK to come for a packet; `ConnectionLost` if none will come."""
        answer: asyncio.Future[mqtt5.PubAckPacket] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _answer: self._remove(packet_id))
        self._waiting[packet_id] = answer
        return answer

    def _remove(self, packet_id: int) -> None:
        del self._waiting[packet_id]
        self._answered.set()

    def on_puback(self, puback: mqtt5.PubAckPacket) -> None:
        """Pass an answer to the call that waits for it."""
        answer = self._waiting.get(puback.packet_id)
        if answer is not None and not answer.done():
            answer.set_result(puback)

    def fail(self, error: ConnectionLost) -> None:
        """Let every waiting call fail: no more answers come over this connection."""
        for answer in list(self._waiting.values()):
            if not answer.done():
                answer.set_exception(error)
