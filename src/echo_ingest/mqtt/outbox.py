"""Publishes on their way: which wait for an answer, and how many and how large they may be."""

import asyncio

import mqtt5

from echo_ingest.mqtt.reasons import ConnectionLost, PublishRefused

PUBLISHES_MAX = 1_000


class Outbox:
    """Gives out packet ids, and brings each PUBACK to whoever waits for it."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[mqtt5.PubAckPacket]] = {}
        self._waiting_max = PUBLISHES_MAX
        self._packet_bytes_max: int | None = None
        self._packet_id = 0
        self._ended = asyncio.Event()
        self.turn = asyncio.Lock()
        """Whoever publishes holds it until the packet is written."""

    def limit(self, connack: mqtt5.ConnAckPacket) -> None:
        """Keep to what this broker takes."""
        self._waiting_max = min(PUBLISHES_MAX, connack.receive_max)
        self._packet_bytes_max = connack.max_packet_size

    @property
    def is_full(self) -> bool:
        """As many are unanswered as the broker takes at once [MQTT-3.3.4-9]."""
        return len(self._waiting) >= self._waiting_max

    async def one_ended(self) -> None:
        """Wait for any answer."""
        self._ended.clear()
        await self._ended.wait()

    def next_packet_id(self) -> int:
        """One that is not in use [MQTT-2.2.1-3]."""
        while True:
            self._packet_id = self._packet_id % 65_535 + 1
            if self._packet_id not in self._waiting:
                return self._packet_id

    def packed(self, packet: mqtt5.PublishPacket) -> bytes:
        """The packet's bytes; `PublishRefused` if the broker takes no such many."""
        data = packet.write()  # [MQTT-3.2.2-15] larger ones must not be sent
        if self._packet_bytes_max is not None and len(data) > self._packet_bytes_max:
            raise PublishRefused(
                f"{packet.topic}: {len(data):,} bytes; the broker takes at most "
                f"{self._packet_bytes_max:,} in one message"
            )
        return data

    def expect(self, packet_id: int) -> asyncio.Future[mqtt5.PubAckPacket]:
        """The PUBACK of a packet that was sent, to come; `ConnectionLost` if none will come."""
        answer: asyncio.Future[mqtt5.PubAckPacket] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _answer: self._end(packet_id))
        self._waiting[packet_id] = answer
        return answer

    def _end(self, packet_id: int) -> None:
        del self._waiting[packet_id]
        self._ended.set()

    def take(self, puback: mqtt5.PubAckPacket) -> None:
        """An answer has come."""
        answer = self._waiting.get(puback.packet_id)
        if answer is not None and not answer.done():
            answer.set_result(puback)

    def lose(self, error: ConnectionLost) -> None:
        """No more answers will come by this connection."""
        for answer in list(self._waiting.values()):
            if not answer.done():
                answer.set_exception(error)
