"""What our broker says of itself below `$SYS`, for the metrics.

It is heard over a session that leaves nothing behind. In the durable one of the line these messages
would wait in the broker for as long as we are away: mosquitto queues them like any other.
"""

import asyncio
import contextlib
import math
from collections.abc import Iterable, Mapping

from msgspec import structs

from echo_ingest import metrics
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.record import Message

FIGURES = {
    "$SYS/broker/clients/connected": metrics.BROKER_CLIENTS,
    "$SYS/broker/store/messages/count": metrics.BROKER_HELD_MESSAGES,
    "$SYS/broker/store/messages/bytes": metrics.BROKER_HELD_BYTES,
    "$SYS/broker/heap/current": metrics.BROKER_HEAP_BYTES,
    "$SYS/broker/publish/messages/dropped": metrics.BROKER_DROPPED_MESSAGES,
}
LINGER_SECONDS = 0.01


class BrokerStats:
    """Listens to the broker of the line."""

    def __init__(self, line: SessionOptions) -> None:
        self._session = Session(
            structs.replace(
                line,
                client_id="",  # the broker makes one up [MQTT-3.1.3-6]
                topic_filters=tuple(FIGURES),
                echo_topic=None,
                session_expiry_seconds=0,
            )
        )
        self._heard: dict[str, float] = {}

    @property
    def known(self) -> Mapping[str, float]:
        """Each figure under the name of its metric; none while the broker does not answer."""
        return self._heard if self._session.is_connected else {}

    async def run(self) -> None:
        """Listen until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._session.run())
            tasks.create_task(self._listen())

    async def _listen(self) -> None:
        while True:
            batch = await self._session.receive(len(FIGURES), LINGER_SECONDS)
            self._heard |= figures(batch.messages)
            self._session.ack(batch)


def figures(messages: Iterable[Message]) -> dict[str, float]:
    """The newest of each figure, under the name of its metric; what is none is left out."""
    found = {}
    for message in messages:
        with contextlib.suppress(KeyError, ValueError):
            value = float(message.payload)
            if math.isfinite(value):
                found[FIGURES[message.topic]] = value
    return found
