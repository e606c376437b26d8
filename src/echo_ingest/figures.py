"""What our broker says of itself below `$SYS`, for the metrics.

It is heard over a session that leaves nothing behind. In the durable one of the line these messages
would wait in the broker for as long as we are away: mosquitto queues them like any other.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable, Mapping

from echo_ingest import metrics
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.record import Message
from echo_ingest.settings import Endpoint, LocalEndpoint

FIGURES = {
    "$SYS/broker/clients/connected": metrics.BROKER_CLIENTS,
    "$SYS/broker/store/messages/count": metrics.BROKER_HELD_MESSAGES,
    "$SYS/broker/store/messages/bytes": metrics.BROKER_HELD_BYTES,
    "$SYS/broker/heap/current": metrics.BROKER_HEAP_BYTES,
    "$SYS/broker/publish/messages/dropped": metrics.BROKER_DROPPED_MESSAGES,
}
LINGER_SECONDS = 0.01


class Figures:
    """Listens to the broker at `endpoint`, under a client id beside that of the line."""

    def __init__(
        self,
        client_id: str,
        endpoint: Endpoint | LocalEndpoint,
        login: Callable[[], tuple[str, str] | None],
    ) -> None:
        self._session = Session(
            SessionOptions(
                endpoint=endpoint,
                client_id=f"{client_id}-figures",
                login=login,
                topic_filters=tuple(FIGURES),
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
