"""A broker that runs alone says how it is: whether a message really passes through it.

Its own process asks, with the account that ingestion uses and a client id of its own; who takes the
devices' messages from it, and whether anyone does, is not looked at.
"""

import asyncio
import secrets

from echo_ingest.monitoring.loopback import LoopbackCheck
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.settings import LocalEndpoint


class BrokerHealth:
    """What the health pages may ask about a broker: as `web.health.Conditions`."""

    def __init__(self, client_id: str, endpoint: LocalEndpoint, login: tuple[str, str]) -> None:
        # Another name than that of an ingestion at this broker, which no device can guess either:
        # by taking our session over it could make a broker look unwell that is not.
        name = f"{client_id}-broker-{secrets.token_hex(8)}"
        self.pulse = LoopbackCheck(name)
        self.session = Session(
            SessionOptions(
                endpoint=endpoint,
                client_id=name,
                login=lambda: login,
                echo_topic=self.pulse.topic,
            ),
            on_echo=self.pulse.on_echo,
        )

    async def run(self) -> None:
        """Stay connected and send messages to ourselves, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.session.run())
            tasks.create_task(self.pulse.run(self.session))

    async def live(self) -> dict[str, str]:
        """That this is answered says so."""
        return {}

    async def ready(self) -> dict[str, str]:
        """The broker lets us in."""
        return {} if self.session.is_connected else {"broker": self.session.state}

    async def healthy(self) -> dict[str, str]:
        """Messages pass through it."""
        return await self.ready() | self.pulse.problems()
