"""The days before a demonstration began: what the fleet would have sent, with the times of then.

The messages are simulated like those of the fleet itself, and go into the journal as if they had
been received then. The ledger adds up with them as with any others.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from random import Random

from echo_ingest.record import Message
from echo_ingest.simulator import Device
from echo_ingest.simulator.forest import calling, is_silent
from echo_ingest.simulator.payloads import detection, edge_prediction

DAYS = 5
SENT_AT_CALLS = (edge_prediction, detection)
"""Messages that are sent when an animal calls; all others are sent at intervals."""
QUIET_SHARE = 0.15
"""The share of such messages in an hour in which nothing calls, correct or not."""
CATCH_UP_INTERVAL = timedelta(seconds=0.2)

Event = tuple[datetime, datetime, Device]
"""When it was received, when it was sent, and the device that sent it."""


def events(devices: Sequence[Device], ends_at: datetime, rng: Random) -> list[Event]:
    """Return everything that was sent in `DAYS` before `ends_at`, in order of arrival."""
    unsorted = [
        (_received(device, when), when, device)
        for device in devices
        for when in _moments(device, ends_at, rng)
    ]
    return sorted(unsorted, key=lambda event: event[:2])


def messages(history: Sequence[Event], rng: Random) -> Iterator[Message]:
    """Yield the messages of each event, as often as the device repeats them."""
    for received_at, when, device in history:
        for outgoing in device.messages(when, rng):
            for repeat in range(device.repeats):
                yield Message(
                    outgoing.topic,
                    outgoing.payload,
                    int(received_at.timestamp() * 1000) + repeat,
                    device.node.name,
                    outgoing.properties,
                )


def _moments(device: Device, ends_at: datetime, rng: Random) -> Iterator[datetime]:
    when = ends_at - timedelta(days=DAYS)
    while True:
        when += timedelta(minutes=device.past_minutes * rng.uniform(0.5, 1.5))
        if when >= ends_at or is_silent(device.node, when):
            return
        share = max(len(calling(device.node, when)) / len(device.node.species), QUIET_SHARE)
        if device.payload_makers[0] not in SENT_AT_CALLS or rng.random() < share:
            yield when


def _received(device: Device, when: datetime) -> datetime:
    """Return when it was received: at once, or later in turn if the node was offline then."""
    offline = device.node.offline
    if offline is None or not offline[0] <= when < offline[1]:
        return when + timedelta(seconds=0.4)
    return offline[1] + (when - offline[0]) / timedelta(minutes=1) * CATCH_UP_INTERVAL
