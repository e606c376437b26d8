"""The days before a demonstration began: what the fleet would have sent, as it would have come in.

It is simulated like the fleet itself, so it goes into the journal with the times of then. A ledger
that has it closes as any other.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from random import Random

from echo_ingest.record import Message
from echo_ingest.simulator import Device
from echo_ingest.simulator.forest import calling, is_silent
from echo_ingest.simulator.payloads import detection, edge_prediction

DAYS = 5
NAMING = (edge_prediction, detection)
"""What is said when an animal calls; all else comes by the clock."""
QUIET = 0.15
"""How much is named in an hour in which nothing calls, rightly or not."""
CATCHING_UP = timedelta(seconds=0.2)

Event = tuple[datetime, datetime, Device]
"""When it came in, when it was said, and by whom."""


def events(devices: Sequence[Device], ends_at: datetime, rng: Random) -> list[Event]:
    """Everything that was said in `DAYS` before `ends_at`, in the order in which it came in."""
    found = [
        (_received(device, when), when, device)
        for device in devices
        for when in _moments(device, ends_at, rng)
    ]
    return sorted(found, key=lambda event: event[:2])


def messages(found: Sequence[Event], rng: Random) -> Iterator[Message]:
    """The message of each event, as often as its device repeats it."""
    for received_at, when, device in found:
        for said in device.messages(when, rng):
            for repeat in range(device.repeats):
                yield Message(
                    said.topic,
                    said.payload,
                    int(received_at.timestamp() * 1000) + repeat,
                    device.node.name,
                    said.properties,
                )


def _moments(device: Device, ends_at: datetime, rng: Random) -> Iterator[datetime]:
    when = ends_at - timedelta(days=DAYS)
    while True:
        when += timedelta(minutes=device.past_minutes * rng.uniform(0.5, 1.5))
        if when >= ends_at or is_silent(device.node, when):
            return
        share = max(len(calling(device.node, when)) / len(device.node.hears), QUIET)
        if device.says[0] not in NAMING or rng.random() < share:
            yield when


def _received(device: Device, when: datetime) -> datetime:
    """At once, unless its node could not reach the broker: then one after the other, later."""
    away = device.node.away
    if away is None or not away[0] <= when < away[1]:
        return when + timedelta(seconds=0.4)
    return away[1] + (when - away[0]) / timedelta(minutes=1) * CATCHING_UP
