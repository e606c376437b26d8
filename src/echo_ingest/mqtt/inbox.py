"""Messages between the socket and the journal, and the limit on how many there may be."""

import asyncio

from msgspec import Struct

from echo_ingest.record import Message

HELD_MESSAGES_MAX = 20_000
HELD_BYTES_MAX = 16 * 1024 * 1024


class Batch(Struct, frozen=True):
    """Messages in order of arrival, to be acknowledged together."""

    messages: list[Message]
    packet_ids: list[int]
    """Theirs, in the same order; QoS 0 messages have none."""
    connection: int
    size_bytes: int


class Inbox:
    """Holds what came until it is taken, and counts it until it is released.

    `is_full` says when to stop reading. The messages of one read of the socket may exceed it.
    """

    def __init__(self) -> None:
        self.is_full = False
        self._messages: list[Message] = []
        self._packet_ids: list[int] = []
        self._taken_messages = 0
        self._held_bytes = 0
        self._wanted = 1
        self._arrived = asyncio.Event()
        self._enough = asyncio.Event()

    def put(self, message: Message, packet_id: int) -> None:
        """Add a message (QoS 0: its packet id is 0); call `settle` after the last of them."""
        self._messages.append(message)
        self._packet_ids.append(packet_id)
        self._held_bytes += len(message.payload)

    def settle(self) -> None:
        """Wake whoever waits for messages, once for all that were put."""
        if not self._messages:
            return
        self._arrived.set()
        held_messages = self._taken_messages + len(self._messages)
        if held_messages >= HELD_MESSAGES_MAX or self._held_bytes >= HELD_BYTES_MAX:
            self.is_full = True
        if self.is_full or len(self._messages) >= self._wanted:
            self._enough.set()

    async def take(
        self, messages_max: int, linger_seconds: float
    ) -> tuple[list[Message], list[int]]:
        """Wait for a message, then `linger_seconds` or until `messages_max` are there."""
        while True:
            await self._arrived.wait()
            if len(self._messages) < messages_max and not self.is_full:
                self._wanted = messages_max
                self._enough.clear()
                timer = asyncio.get_running_loop().call_later(linger_seconds, self._enough.set)
                await self._enough.wait()
                timer.cancel()
            if self._messages:  # a connection lost meanwhile has taken its messages with it
                break
        messages, packet_ids = self._messages[:messages_max], self._packet_ids[:messages_max]
        del self._messages[:messages_max], self._packet_ids[:messages_max]
        self._taken_messages += len(messages)
        if not self._messages:
            self._arrived.clear()
        return messages, [packet_id for packet_id in packet_ids if packet_id]

    def release(self, messages: int, size_bytes: int) -> bool:
        """So many of those taken are settled; True if there is room again where there was none."""
        self._taken_messages -= messages
        self._held_bytes -= size_bytes
        if (
            self.is_full
            and self._taken_messages + len(self._messages) <= HELD_MESSAGES_MAX // 2
            and self._held_bytes <= HELD_BYTES_MAX // 2
        ):
            self.is_full = False
            return True
        return False

    def forget_connection(self) -> None:
        """Drop what the broker will send again. QoS 0 messages never come again: they stay."""
        waiting = list(zip(self._messages, self._packet_ids, strict=True))
        self._messages = [message for message, packet_id in waiting if not packet_id]
        self._packet_ids = [0] * len(self._messages)
        if not self._messages:
            self._arrived.clear()
        self.release(0, sum(len(message.payload) for message, packet_id in waiting if packet_id))
