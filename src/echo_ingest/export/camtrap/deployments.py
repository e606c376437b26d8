"""Deployments, as the journal can know them: a device at a place, from first to last heard. Pure.

A device is a node, or a sensor of it that goes by a name of its own. Its records are taken in the
order in which things happened, not in which they arrived. The first place that is known counts from
the beginning; one further than `MOVED_METRES` from the place of the deployment begins the next one;
a record that names no place belongs where the device was last known to be. A place that a person
has given for the device holds for all of its time.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Generic, TypeVar

from msgspec import Struct

from echo_ingest.record import Place

MOVED_METRES = 100.0
EARTH_RADIUS_METRES = 6_371_008.8  # mean, IUGG

T = TypeVar("T")


class Presence(Struct, Generic[T], frozen=True):
    """A record that tells that a device was there."""

    device: str
    at: datetime
    until: datetime
    """When its clip ends; `at` where it has none."""
    place: Place | None
    of: T
    """What it is."""


class Deployment(Struct, frozen=True):
    """A device at a place."""

    id: str
    """`<device>/<number>`, numbered in order of time."""
    device: str
    place: Place
    start: datetime
    end: datetime


class PlacedRecord(Struct, Generic[T], frozen=True):
    """A record, and the deployment that it belongs to, which comes when it is over."""

    heard: Presence[T]
    deployment: str


class UnplacedDevice(Struct, frozen=True):
    """A device that nobody knows the place of, and so no deployment."""

    device: str
    records: int


def device_of(node: str | None, sensor_id: str | None) -> str:
    """`node`, or `node/sensor` where the sensor has another name."""
    if sensor_id is None or sensor_id == node:
        return node or ""
    return f"{node or ''}/{sensor_id}"


def deploy(
    heard: Iterable[Presence[T]],
    first_place: Callable[[str], Place | None],
    given: dict[str, Place],
) -> Iterator[PlacedRecord[T] | Deployment | UnplacedDevice]:
    """Tell deployments from what was heard, sorted by device and time.

    `first_place` is the first that a device names, `given` has those that a person has.
    """
    for device, records in groupby(heard, key=attrgetter("device")):
        place = given.get(device) or first_place(device)
        if place is None:
            yield UnplacedDevice(device, sum(1 for _ in records))
        else:
            yield from _of_device(device, records, place, device in given)


def _of_device(
    device: str, records: Iterable[Presence[T]], place: Place, stays: bool
) -> Iterator[PlacedRecord[T] | Deployment]:
    number = 0
    current: Deployment | None = None
    for heard in records:
        moved = not stays and heard.place is not None and metres(place, heard.place) > MOVED_METRES
        if moved and heard.place is not None:
            place = heard.place
        if current is None or moved:
            if current is not None:
                yield current
            number += 1
            current = Deployment(f"{device}/{number}", device, place, heard.at, heard.until)
        elif heard.until > current.end:
            current = Deployment(current.id, device, place, current.start, heard.until)
        yield PlacedRecord(heard, current.id)
    if current is not None:
        yield current


def metres(one: Place, other: Place) -> float:
    """Great-circle distance by the haversine formula: within 0.6 % of the ellipsoid's."""
    latitudes = math.radians(one.latitude), math.radians(other.latitude)
    half_north = (latitudes[1] - latitudes[0]) / 2
    half_east = math.radians(other.longitude - one.longitude) / 2
    share = (
        math.sin(half_north) ** 2
        + math.cos(latitudes[0]) * math.cos(latitudes[1]) * math.sin(half_east) ** 2
    )
    return 2 * EARTH_RADIUS_METRES * math.asin(math.sqrt(min(share, 1.0)))
