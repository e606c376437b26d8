"""Devices that publish at QoS 1 and remember, message by message, what they were told.

Made on the bare codec: an acknowledgement counts when its bytes have come over the wire.
"""

import asyncio
import contextlib
import time
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from random import Random
from typing import Literal

import mqtt5

from echo_ingest.settings import RECEIPTS_PREFIX
from tests.crash.messages import is_published_twice, message_of
from tests.harness import PUB_PASSWORD

WINDOW = 100
"""How many messages a device has under way at once."""
AGAIN_SECONDS = 3.0
"""When a message without its receipt is sent again."""
SILENCE_SECONDS = 4.0
"""When a device that waits for an answer gives a connection up."""
CHUNK_BYTES = 65_536

WaitsFor = Literal["puback", "receipt"]


class Answers:
    """What devices were told of each message of a run, by its number."""

    def __init__(self, messages: int) -> None:
        self.published = array("H", bytes(2 * messages))
        """How often it was sent."""
        self.acknowledged_at = array("d", bytes(8 * messages))
        """When its first PUBACK came, in epoch seconds; 0 for never."""
        self.receipted_at = array("d", bytes(8 * messages))
        self.done = 0
        """Messages that their devices need not send any more."""
        self.released = messages
        """Below this number messages may be sent: they must not all be gone before the faults."""

    @property
    def acknowledged(self) -> int:
        return sum(map(bool, self.acknowledged_at))

    @property
    def receipted(self) -> int:
        return sum(map(bool, self.receipted_at))


class Device:
    """One node; it sends each of `numbers` until it has the answer that it waits for."""

    def __init__(
        self,
        seed: int,
        node: str,
        waits_for: WaitsFor,
        numbers: Iterator[int],
        answers: Answers,
        port: int,
    ) -> None:
        self.node = node
        self.waits_for = waits_for
        self.reconnects = 0
        self._seed = seed
        self._numbers = numbers
        self._next = next(numbers, None)
        self._answers = answers
        self._port = port
        self._rng = Random(f"{seed} {node}")
        self._waiting: OrderedDict[int, float] = OrderedDict()
        """Numbers without their answer, and when they were last sent; the oldest first."""
        self._sent_by_packet_id: dict[int, int] = {}
        self._packet_id = 0
        self._buffer = b""
        self._heard_at = 0.0

    async def run(self) -> None:
        """Publish until every message has its answer."""
        while self._waiting or self._next is not None:
            try:
                await self._connected()
            except OSError:  # TimeoutError is one
                self.reconnects += 1
                await asyncio.sleep(self._rng.uniform(0.05, 0.4))

    async def _connected(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await self._greet(reader, writer)
            self._resend(writer, unanswered_since=time.monotonic())
            await self._converse(reader, writer)
        finally:
            writer.transport.abort()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._buffer = b""
        self._sent_by_packet_id.clear()
        password = PUB_PASSWORD.encode()
        writer.write(
            mqtt5.ConnectPacket(
                "", username="echopub", password=password, clean_start=True, keep_alive=60
            ).write()
        )
        async with asyncio.timeout(SILENCE_SECONDS):
            connack = await self._one(reader)
        if not isinstance(connack, mqtt5.ConnAckPacket) or int(connack.reason_code) != 0:
            raise ConnectionRefusedError(str(connack))
        if self.waits_for == "receipt":
            topic = mqtt5.TopicFilter(f"{RECEIPTS_PREFIX}/{self.node}/#")
            writer.write(mqtt5.SubscribePacket(1, [topic]).write())
            self._packet_id = 1

    async def _one(self, reader: asyncio.StreamReader) -> mqtt5.Packet:
        while not (packets := self._packets()):
            self._buffer += await self._read(reader)
        return packets[0]

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        data = await reader.read(CHUNK_BYTES)
        if not data:
            raise ConnectionResetError("closed")
        self._heard_at = time.monotonic()
        return data

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._heard_at = time.monotonic()
        while True:
            self._fill(writer)
            if not self._waiting and self._next is None:
                return
            if self.waits_for == "receipt":
                self._resend(writer, unanswered_since=time.monotonic() - AGAIN_SECONDS)
            async with asyncio.timeout(SILENCE_SECONDS):
                await writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.25):
                    self._buffer += await self._read(reader)
            for packet in self._packets():
                self._take(packet)
            if not self._waiting:
                self._heard_at = time.monotonic()
            if time.monotonic() - self._heard_at > SILENCE_SECONDS:
                raise TimeoutError("nothing was heard")

    def _fill(self, writer: asyncio.StreamWriter) -> None:
        while len(self._waiting) < WINDOW:
            number = self._next
            if number is None or number >= self._answers.released:
                return
            self._publish(writer, number)
            self._next = next(self._numbers, None)
            if is_published_twice(self._seed, number):
                self._publish(writer, number)

    def _resend(self, writer: asyncio.StreamWriter, unanswered_since: float) -> None:
        while self._waiting:
            number, sent_at = next(iter(self._waiting.items()))
            if sent_at > unanswered_since:
                return
            self._publish(writer, number)

    def _publish(self, writer: asyncio.StreamWriter, number: int) -> None:
        if writer.is_closing():
            raise ConnectionResetError("closed")
        message = message_of(self._seed, number, self.node)
        self._packet_id = self._packet_id % 65_535 + 1
        self._sent_by_packet_id[self._packet_id] = number
        asks = self.waits_for == "receipt"
        writer.write(
            mqtt5.PublishPacket(
                message.topic,
                message.payload,
                qos=mqtt5.QoS.AT_LEAST_ONCE,
                packet_id=self._packet_id,
                user_properties=list(message.properties),
                response_topic=f"{RECEIPTS_PREFIX}/{self.node}/crash" if asks else None,
                correlation_data=number.to_bytes(4) if asks else None,
            ).write()
        )
        self._answers.published[number] += 1
        self._waiting[number] = time.monotonic()
        self._waiting.move_to_end(number)

    def _packets(self) -> list[mqtt5.Packet]:
        """Return the packets that are complete."""
        packets: list[mqtt5.Packet] = []
        view, position = memoryview(self._buffer), 0
        while position < len(view):
            try:
                packet, size = mqtt5.read(view[position:])
            except IndexError:
                break
            packets.append(packet)
            position += size
        self._buffer = self._buffer[position:]
        return packets

    def _take(self, packet: mqtt5.Packet) -> None:
        answers = self._answers
        if isinstance(packet, mqtt5.PubAckPacket):
            number = self._sent_by_packet_id.pop(packet.packet_id)
            assert int(packet.reason_code) < 0x80, packet
            answers.acknowledged_at[number] = answers.acknowledged_at[number] or time.time()
        elif isinstance(packet, mqtt5.PublishPacket) and packet.correlation_data is not None:
            number = int.from_bytes(packet.correlation_data)
            answers.receipted_at[number] = answers.receipted_at[number] or time.time()
        elif isinstance(packet, mqtt5.DisconnectPacket):
            raise ConnectionResetError("the broker disconnected us")
        else:
            return
        wanted = answers.receipted_at if self.waits_for == "receipt" else answers.acknowledged_at
        if answers.acknowledged_at[number] and wanted[number]:
            answers.done += self._waiting.pop(number, None) is not None
