"""Where the simulated nodes stand, and what the sun does to them: places, batteries, voices. Pure.

All of it follows from the time alone, so what a node said yesterday fits what it says now.
"""

import math
from datetime import UTC, datetime, timedelta
from random import Random

from msgspec import Struct

from echo_ingest.simulator.sounds import CALLS, SpeciesSound

DAWN_HOUR, WARMEST_HOUR = 6.0, 15.0
SINKS_PERCENT_PER_HOUR = 0.9

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
"""When a species calls, in hours of the sun's day, beyond 24 into the next."""


class SimulatedNode(Struct, frozen=True):
    """One simulated node: where it stands, and what it hears there."""

    name: str
    place: tuple[float, float, float]
    """Degrees, degrees, metres; as real as the hills there, but nothing stands in them."""
    hears: tuple[str, ...]
    """Species, by their scientific names."""
    clock_error_seconds: float = 0.0
    """How far ahead of the true time its own clock is."""
    empty_at: datetime | None = None
    """Its solar panel is broken: then the battery will be empty, and the node silent."""
    away: tuple[datetime, datetime] | None = None
    """From when until when it could not reach the broker; it sent what it had kept afterwards."""


def sun_hour(node: SimulatedNode, when: datetime) -> float:
    """The hour by the sun where the node stands, 0 to 24; needs no time zone."""
    utc = when.astimezone(UTC)
    return (utc.hour + utc.minute / 60 + utc.second / 3600 + node.place[1] / 15) % 24


def is_silent(node: SimulatedNode, when: datetime) -> bool:
    """Its battery is empty."""
    return node.empty_at is not None and when >= node.empty_at


def battery_percent(node: SimulatedNode, when: datetime) -> float:
    """Charged from dawn on, more on a clear day, and used up through the night."""
    if node.empty_at is not None:
        left = (node.empty_at - when) / timedelta(hours=1) * SINKS_PERCENT_PER_HOUR
        return round(min(max(left, 0.0), 97.0), 1)
    hour = sun_hour(node, when)
    clear = _of_the_day(node, when, "sun").uniform(0.4, 1.0)
    least = Random(node.name).uniform(48, 66)  # noqa: S311
    return round(least + (98 - least) * clear * _charge(hour), 1)


def _charge(hour: float) -> float:
    """0 at dawn, 1 in the afternoon, and evenly down again."""
    since_dawn = (hour - DAWN_HOUR) % 24
    day_hours = WARMEST_HOUR - DAWN_HOUR
    if since_dawn < day_hours:
        return math.sin(math.pi / 2 * since_dawn / day_hours)
    return 1 - (since_dawn - day_hours) / (24 - day_hours)


def temperature_celsius(node: SimulatedNode, when: datetime) -> float:
    """Cooler higher up; warmest in the afternoon."""
    mild = _of_the_day(node, when, "air").uniform(-2, 2)
    swing = 5 * math.cos(2 * math.pi * (sun_hour(node, when) - WARMEST_HOUR) / 24)
    return round(14.5 - node.place[2] / 120 + mild + swing, 1)


def disk_percent(node: SimulatedNode, when: datetime) -> float:
    """It fills, and is emptied when someone comes by, each fortnight."""
    days = when.timestamp() / 86_400 + Random(node.name).uniform(0, 14)  # noqa: S311
    return round(18 + days % 14 * 3.1, 1)


def _of_the_day(node: SimulatedNode, when: datetime, what: str) -> Random:
    """Luck that holds from dawn to dawn."""
    day = int((when.timestamp() / 3600 + node.place[1] / 15 - DAWN_HOUR) // 24)
    return Random(f"{node.name} {what} {day}")  # noqa: S311


def calling(node: SimulatedNode, when: datetime) -> list[SpeciesSound]:
    """What of all that the node may hear is to be heard at this hour."""
    hour = sun_hour(node, when)
    return [
        call
        for call in CALLS
        if call.species in node.hears
        and any(
            begin <= hour + turn < end for begin, end in HOURS[call.species] for turn in (0, 24)
        )
    ]
