"""The statistics that our broker publishes below `$SYS`, for the metrics.

They are received over a session that the broker does not keep. In the durable session of the
service these messages would wait in the broker for as long as we are away, because mosquitto queues
them like any other.
"""

import asyncio
import contextlib
import math
from collections.abc import Iterable, Mapping

from msgspec import structs

from echo_ingest import metrics
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.record import Message

METRIC_OF_TOPIC = {
    "$SYS/broker/clients/connected": metrics.BROKER_CLIENTS,
    "$SYS/broker/store/messages/count": metrics.BROKER_HELD_MESSAGES,
    "$SYS/broker/store/messages/bytes": metrics.BROKER_HELD_BYTES,
    "$SYS/broker/heap/current": metrics.BROKER_HEAP_BYTES,
    "$SYS/broker/publish/messages/dropped": metrics.BROKER_DROPPED_MESSAGES,
}
LINGER_SECONDS = 0.01


class BrokerStats:
    """Receives the statistics of the broker that the service uses."""

    def __init__(self, service_options: SessionOptions) -> None:
        self._session = Session(
            structs.replace(
                service_options,
                client_id="",  # the broker assigns one [MQTT-3.1.3-6]
                topic_filters=tuple(METRIC_OF_TOPIC),
                loopback_topic=None,
                session_expiry_seconds=0,
            )
        )
        self._latest: dict[str, float] = {}

    @property
    def values(self) -> Mapping[str, float]:
        """Each value by the name of its metric; empty while the broker does not answer."""
        return self._latest if self._session.is_connected else {}

    async def run(self) -> None:
        """Receive statistics until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._session.run())
            tasks.create_task(self._receive())

    async def _receive(self) -> None:
        while True:
            batch = await self._session.receive(len(METRIC_OF_TOPIC), LINGER_SECONDS)
            self._latest |= parse_values(batch.messages)
            self._session.ack(batch)


def parse_values(messages: Iterable[Message]) -> dict[str, float]:
    """Return the newest value of each metric by its name; whatever is not a number is left out."""
    values = {}
    for message in messages:
        with contextlib.suppress(KeyError, ValueError):
            value = float(message.payload)
            if math.isfinite(value):
                values[METRIC_OF_TOPIC[message.topic]] = value
    return values
