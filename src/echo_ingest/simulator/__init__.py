"""A small forest of simulated devices, for `make demo`: several payload forms, real MQTT.

`forest` has the nodes and their days and nights, `payloads` the messages that they send, `history`
the days before the demonstration began.
"""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

from msgspec import Struct

from echo_ingest.mqtt import ConnectionLost, Session
from echo_ingest.simulator import payloads
from echo_ingest.simulator.forest import HOURS, SimulatedNode, is_silent
from echo_ingest.simulator.payloads import Outgoing

PayloadMaker = Callable[[str, SimulatedNode, datetime, Random], Outgoing]

FROGS = ("Litoria ewingii", "Crinia signifera", "Limnodynastes dumerilii", "Geocrinia victoriana")
OWLS = ("Ninox boobook", "Ninox strenua")
BIRDS = ("Dacelo novaeguineae", "Eopsaltria australis", "Strepera graculina")
EMPTY_SINCE = timedelta(hours=5, minutes=12)
EMPTY_IN = timedelta(minutes=20)


class Device(Struct, frozen=True):
    """One simulated device: what it sends, and how often."""

    topic: str
    node: SimulatedNode
    payload_makers: tuple[PayloadMaker, ...]
    """Each makes one message, about the same moment and the same animal."""
    interval_seconds: float
    """How often it sends during the demonstration; nobody watches a forest for hours."""
    past_minutes: float
    """How often it sent in the days before."""
    repeats: int = 1
    """How often it publishes each message: some devices never trust an acknowledgement."""

    def messages(self, when: datetime, rng: Random) -> list[Outgoing]:
        """Return the messages that it sends at that moment."""
        seed = rng.random()
        return [make(self.topic, self.node, when, Random(seed)) for make in self.payload_makers]  # noqa: S311


def nodes(began_at: datetime) -> dict[str, SimulatedNode]:
    """Return fifteen nodes, kilometres apart; the stories of some depend on the beginning."""
    offline = (began_at - timedelta(days=2, hours=9), began_at - timedelta(days=1, hours=22))
    return {
        node.name: node
        for node in (
            SimulatedNode("ridge-01", (-38.7431, 143.4262, 402.0), OWLS + BIRDS),
            SimulatedNode(
                "ridge-02", (-38.7018, 143.4897, 455.0), (*OWLS, *BIRDS, "Litoria ewingii")
            ),
            SimulatedNode(
                "ridge-03", (-38.6442, 143.6013, 511.0), OWLS + BIRDS, clock_error_seconds=2_832
            ),
            SimulatedNode(
                "ridge-07", (-38.5899, 143.7246, 487.0), OWLS, empty_at=began_at - EMPTY_SINCE
            ),
            SimulatedNode("creek-01", (-38.7712, 143.5021, 112.0), FROGS + BIRDS),
            SimulatedNode("creek-02", (-38.6701, 143.5673, 231.0), FROGS),
            SimulatedNode("creek-03", (-38.6355, 143.8310, 74.0), FROGS + OWLS, offline=offline),
            SimulatedNode("gully-01", (-38.6928, 143.3725, 188.0), (*FROGS, "Ninox strenua")),
            SimulatedNode(
                "gully-02", (-38.5542, 143.7511, 203.0), BIRDS, empty_at=began_at + EMPTY_IN
            ),
            SimulatedNode("swamp-01", (-38.7836, 143.4679, 8.0), (*FROGS, "Uperoleia mimula")),
            SimulatedNode("swamp-02", (-38.7603, 143.3768, 11.0), FROGS),
            SimulatedNode("coast-01", (-38.8540, 143.5187, 63.0), BIRDS),
            SimulatedNode("coast-02", (-38.7304, 143.6790, 39.0), ("Crinia signifera", *BIRDS)),
            SimulatedNode("collar-7", (-38.7155, 143.5420, 290.0), ("Sus scrofa",)),
            SimulatedNode("broken-9", (-38.6120, 143.6620, 330.0), tuple(HOURS)),
        )
    }


def fleet(prefix: str, began_at: datetime) -> tuple[Device, ...]:
    """Return the devices that publish below `prefix`; several devices may form one node."""
    forest = nodes(began_at)

    def device(
        name: str,
        payload_makers: PayloadMaker | tuple[PayloadMaker, ...],
        interval_seconds: float,
        past_minutes: float,
        repeats: int = 1,
    ) -> Device:
        makers = payload_makers if isinstance(payload_makers, tuple) else (payload_makers,)
        return Device(
            f"{prefix}/{name}", forest[name], makers, interval_seconds, past_minutes, repeats
        )

    return (
        device("ridge-01", payloads.edge_prediction, 3.0, 9),
        device("ridge-02", payloads.edge_prediction, 4.0, 7),
        device("ridge-03", payloads.edge_prediction, 6.0, 13),
        device("ridge-07", payloads.edge_prediction, 6.0, 11),
        device("creek-01", payloads.edge_prediction, 6.0, 6, repeats=2),
        device("coast-02", payloads.edge_prediction, 8.0, 15),
        device("gully-02", payloads.edge_prediction, 9.0, 17),
        device("creek-03", payloads.detection, 9.0, 18),
        device("gully-01", payloads.detection, 12.0, 21),
        device("creek-02", payloads.esp32_audio, 14.0, 45),
        device("coast-01", payloads.esp32_audio, 18.0, 45),
        device("swamp-01", (payloads.recorder, payloads.identified_in_recording), 20.0, 60),
        device("swamp-02", payloads.raspberry_pi, 16.0, 36),
        *(
            device(name, payloads.sensor_health, 15.0, 30)
            for name in forest
            if name not in ("swamp-01", "swamp-02", "collar-7", "broken-9")
        ),
        device("swamp-01", payloads.heartbeat, 5.0, 30),
        device("collar-7", payloads.movement, 4.0, 20),
        device("broken-9", payloads.invalid, 13.0, 38),
    )


async def publish_for_ever(session: Session, device: Device, rng: Random) -> None:
    """Publish as `device` until cancelled; publish again what was not acknowledged."""
    while True:
        await asyncio.sleep(device.interval_seconds * rng.uniform(0.5, 1.5))
        now = datetime.now(UTC)
        if is_silent(device.node, now):
            return
        for outgoing in device.messages(now, rng):
            acknowledged = 0
            while acknowledged < device.repeats:
                with contextlib.suppress(ConnectionLost):  # `publish` waits for the next connection
                    await session.publish(
                        outgoing.topic, outgoing.payload, properties=outgoing.properties
                    )
                    acknowledged += 1
