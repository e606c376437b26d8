"""Messages between the socket and the journal, and the limit on their number and size."""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from echo_ingest.record import Message, memory_bytes

HELD_MESSAGES_MAX = 20_000
HELD_BYTES_MAX = 16 * 1024 * 1024
"""In memory, as `memory_bytes` counts it."""


class Batch(Struct, frozen=True):
    """Messages in order of arrival, to be acknowledged together."""

    messages: list[Message]
    packet_ids: list[int]
    """The messages' packet ids, in the same order; QoS 0 messages have none."""
    connection: int
    size_bytes: int
    """The size of the payloads."""
    memory_bytes: int
    """What the messages take in memory, which counts until the batch is acknowledged."""


class HeldMessages:
    """What all sessions of a process hold together until it is acknowledged, and its limit.

    `is_full` says when to stop reading. The messages of one read from the socket may exceed the
    limit.
    """

    def __init__(self) -> None:
        self.is_full = False
        self.messages = 0
        self.bytes = 0
        self.on_room: list[Callable[[], None]] = []
        """Called when there is room again: each session goes on reading."""

    def fill(self) -> None:
        """Note whether the limit is reached."""
        if self.messages >= HELD_MESSAGES_MAX or self.bytes >= HELD_BYTES_MAX:
            self.is_full = True

    def release(self, messages: int, memory_bytes: int) -> None:
        """Stop counting messages; at half the limit, let the sessions go on reading."""
        self.messages -= messages
        self.bytes -= memory_bytes
        if (
            self.is_full
            and self.messages <= HELD_MESSAGES_MAX // 2
            and self.bytes <= HELD_BYTES_MAX // 2
        ):
            self.is_full = False
            for go_on in self.on_room:
                go_on()


class Inbox:
    """Keeps the messages of a session until they are taken; `HeldMessages` counts them on."""

    def __init__(self, held: HeldMessages | None = None) -> None:
        """Take what counts for all sessions together; None: this is the only one."""
        self.held = held or HeldMessages()
        self._messages: list[Message] = []
        self._packet_ids: list[int] = []
        self._sizes: list[int] = []
        self._wanted = 1
        self._arrived = asyncio.Event()
        self._enough = asyncio.Event()

    def put(self, message: Message, packet_id: int) -> None:
        """Add a message (its packet id is 0 at QoS 0); call `wake` after the last of several."""
        self._messages.append(message)
        self._packet_ids.append(packet_id)
        size = memory_bytes(message)
        self._sizes.append(size)
        self.held.messages += 1
        self.held.bytes += size

    def wake(self) -> None:
        """Wake the call that waits for messages, once for all that were added."""
        if not self._messages:
            return
        self._arrived.set()
        self.held.fill()
        if self.held.is_full or len(self._messages) >= self._wanted:
            self._enough.set()

    async def take(
        self, messages_max: int, linger_seconds: float
    ) -> tuple[list[Message], list[int], int]:
        """Wait for a message, then for `linger_seconds` or until there are `messages_max`.

        Return them with their packet ids, and how much memory to release for them later.
        """
        while True:
            await self._arrived.wait()
            if len(self._messages) < messages_max and not self.held.is_full:
                self._wanted = messages_max
                self._enough.clear()
                timer = asyncio.get_running_loop().call_later(linger_seconds, self._enough.set)
                await self._enough.wait()
                timer.cancel()
            if self._messages:  # a connection that was lost meanwhile took its messages with it
                break
        messages, packet_ids = self._messages[:messages_max], self._packet_ids[:messages_max]
        taken_bytes = sum(self._sizes[:messages_max])
        del self._messages[:messages_max], self._packet_ids[:messages_max]
        del self._sizes[:messages_max]
        if not self._messages:
            self._arrived.clear()
        return messages, [packet_id for packet_id in packet_ids if packet_id], taken_bytes

    def drop_unacknowledged(self) -> None:
        """Drop what the broker will send again. It never sends QoS 0 messages again: they stay."""
        waiting = list(zip(self._messages, self._packet_ids, self._sizes, strict=True))
        self._messages = [message for message, packet_id, _ in waiting if not packet_id]
        self._packet_ids = [0] * len(self._messages)
        self._sizes = [size for _, packet_id, size in waiting if not packet_id]
        if not self._messages:
            self._arrived.clear()
        dropped = [size for _, packet_id, size in waiting if packet_id]
        self.held.release(len(dropped), sum(dropped))
