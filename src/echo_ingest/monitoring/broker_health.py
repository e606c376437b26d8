"""The health of a broker that runs alone: whether a message really passes through it.

The broker's own process checks it, with the account that ingestion uses and a client id of its own.
It does not check whether a service takes the devices' messages from the broker.
"""

import asyncio
import secrets
from collections.abc import Callable

from echo_ingest.monitoring.loopback import LoopbackCheck
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.settings import LocalEndpoint


class BrokerHealth:
    """The answers of the health pages about a broker: satisfies `web.health.Conditions`."""

    def __init__(
        self,
        client_id: str,
        endpoint: LocalEndpoint,
        login: tuple[str, str],
        problems: Callable[[], dict[str, str]],
    ) -> None:
        """`problems` tells what keeps devices from connecting."""
        self._problems = problems
        # It differs from the client id of an ingestion at this broker, and no device can guess it:
        # a device that took over this session could make a healthy broker look unhealthy.
        name = f"{client_id}-broker-{secrets.token_hex(8)}"
        self.loopback = LoopbackCheck(name)
        self.session = Session(
            SessionOptions(
                endpoint=endpoint,
                client_id=name,
                login=lambda: login,
                loopback_topic=self.loopback.topic,
            ),
            on_loopback=self.loopback.on_message,
        )

    async def run(self) -> None:
        """Stay connected and run the loopback check, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.session.run())
            tasks.create_task(self.loopback.run(self.session))

    async def live(self) -> dict[str, str]:
        """Return no problems: an answer at all shows that the process works."""
        return {}

    async def ready(self) -> dict[str, str]:
        """Return why the broker does not let us or devices connect; empty if it does."""
        ours = {} if self.session.is_connected else {"broker": self.session.state}
        return ours | self._problems()

    async def healthy(self) -> dict[str, str]:
        """Return why messages do not pass through the broker; empty if they do."""
        return await self.ready() | self.loopback.problems()

    async def endpoints(self) -> dict[str, str]:
        """Return no problems: who connects to other brokers is the ingestion."""
        return {}
