"""The simulated nodes: their places, their batteries, and which animals call at what hour. Pure.

Everything follows from the time alone, so what a node sent yesterday fits what it sends now.
"""

import math
from datetime import UTC, datetime, timedelta
from random import Random

from msgspec import Struct

from echo_ingest.simulator.sounds import CALLS, SpeciesSound

DAWN_HOUR, WARMEST_HOUR = 6.0, 15.0
DISCHARGE_PERCENT_PER_HOUR = 0.9

NIGHT = ((18.0, 30.0),)
HOURS = {
    "Litoria ewingii": NIGHT,
    "Crinia signifera": ((0.0, 24.0),),
    "Dacelo novaeguineae": ((5.0, 7.5), (17.5, 19.5)),
    "Uperoleia mimula": NIGHT,
    "Sus scrofa": ((20.0, 29.0),),
    "Limnodynastes dumerilii": ((18.5, 28.0),),
    "Geocrinia victoriana": ((17.0, 29.0),),
    "Ninox boobook": ((19.0, 29.0),),
    "Ninox strenua": ((20.0, 28.0),),
    "Eopsaltria australis": ((4.5, 9.0),),
    "Strepera graculina": ((6.0, 18.5),),
}
"""When a species calls, in hours of solar time; above 24 it is the next day."""


class SimulatedNode(Struct, frozen=True):
    """One simulated node: where it stands, and which species live there."""

    name: str
    place: tuple[float, float, float]
    """Latitude and longitude in degrees, altitude in metres; the hills exist, the node does not."""
    species: tuple[str, ...]
    """The species that it can hear, by their scientific names."""
    clock_error_seconds: float = 0.0
    """How far its clock is ahead of the true time."""
    empty_at: datetime | None = None
    """When the battery is empty and the node goes silent, if its solar panel is broken."""
    offline: tuple[datetime, datetime] | None = None
    """The time in which it could not reach the broker; it sent its stored messages afterwards."""


def sun_hour(node: SimulatedNode, when: datetime) -> float:
    """Return the hour of solar time where the node stands, 0 to 24; no time zone is needed."""
    utc = when.astimezone(UTC)
    return (utc.hour + utc.minute / 60 + utc.second / 3600 + node.place[1] / 15) % 24


def is_silent(node: SimulatedNode, when: datetime) -> bool:
    """Return whether its battery is empty."""
    return node.empty_at is not None and when >= node.empty_at


def battery_percent(node: SimulatedNode, when: datetime) -> float:
    """Return the charge: it rises from dawn on, more on a clear day, and falls at night."""
    if node.empty_at is not None:
        left = (node.empty_at - when) / timedelta(hours=1) * DISCHARGE_PERCENT_PER_HOUR
        return round(min(max(left, 0.0), 97.0), 1)
    hour = sun_hour(node, when)
    clearness = _daily_random(node, when, "sun").uniform(0.4, 1.0)
    lowest = Random(node.name).uniform(48, 66)  # noqa: S311
    return round(lowest + (98 - lowest) * clearness * _charge(hour), 1)


def _charge(hour: float) -> float:
    """Return the share of the day's charge: 0 at dawn, 1 in the afternoon, then evenly down."""
    since_dawn = (hour - DAWN_HOUR) % 24
    day_hours = WARMEST_HOUR - DAWN_HOUR
    if since_dawn < day_hours:
        return math.sin(math.pi / 2 * since_dawn / day_hours)
    return 1 - (since_dawn - day_hours) / (24 - day_hours)


def temperature_celsius(node: SimulatedNode, when: datetime) -> float:
    """Return the temperature: lower at altitude, highest in the afternoon."""
    anomaly = _daily_random(node, when, "air").uniform(-2, 2)
    swing = 5 * math.cos(2 * math.pi * (sun_hour(node, when) - WARMEST_HOUR) / 24)
    return round(14.5 - node.place[2] / 120 + anomaly + swing, 1)


def disk_percent(node: SimulatedNode, when: datetime) -> float:
    """Return how full the disk is: someone comes by every fortnight and empties it."""
    days = when.timestamp() / 86_400 + Random(node.name).uniform(0, 14)  # noqa: S311
    return round(18 + days % 14 * 3.1, 1)


def _daily_random(node: SimulatedNode, when: datetime, purpose: str) -> Random:
    """Return a generator that stays the same from dawn to dawn."""
    day = int((when.timestamp() / 3600 + node.place[1] / 15 - DAWN_HOUR) // 24)
    return Random(f"{node.name} {purpose} {day}")  # noqa: S311


def calling(node: SimulatedNode, when: datetime) -> list[SpeciesSound]:
    """Return the species near the node that call at this hour."""
    hour = sun_hour(node, when)
    return [
        call
        for call in CALLS
        if call.species in node.species
        and any(
            begin <= hour + turn < end for begin, end in HOURS[call.species] for turn in (0, 24)
        )
    ]
