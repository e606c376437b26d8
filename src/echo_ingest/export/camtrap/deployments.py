"""Deriving deployments from records: a device at a place, from its first to its last record.

A device is a node, or a sensor of a node if it has another name. Its records are taken in the order
in which things happened, not in which they arrived. The first known place counts from the start. A
place more than `MOVED_METRES` from that of the deployment begins the next deployment. A record
without a place belongs to the place where the device was last known to be. A place that a person
gave for the device is valid for all of its records.

A deployment starts and ends with the times that can be trusted most: one record of a device without
a clock, or one receipt while our own clock was wrong, does not stretch it. Everything here is pure.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from enum import IntEnum
from itertools import groupby
from operator import attrgetter
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from echo_ingest.record import Place

MOVED_METRES = 100.0
EARTH_RADIUS_METRES = 6_371_008.8  # mean, IUGG

T = TypeVar("T")


class Trust(IntEnum):
    """What the time of a record rests on; the more, the better."""

    RECEIPT_CONTRADICTED = 0
    """A receipt that the order of the journal contradicts."""
    RECEIPT = 1
    DEVICE = 2


class Presence(Struct, Generic[T], frozen=True):
    """A record as evidence that a device was at a place."""

    device: str
    at: datetime
    until: datetime
    """When its clip ends; `at` where it has none."""
    place: Place | None
    content: T
    """The record itself."""
    trust: Trust = Trust.DEVICE


class Deployment(Struct, frozen=True):
    """A device at a place."""

    id: str
    """`<device>/<number>`, numbered in order of time."""
    device: str
    place: Place
    start: datetime
    end: datetime
    trust: Trust
    """What its start and its end rest on."""


class PlacedRecord(Struct, Generic[T], frozen=True):
    """A record and the id of its deployment; the `Deployment` itself follows when it is over."""

    presence: Presence[T]
    deployment: str


class UnplacedDevice(Struct, frozen=True):
    """A device without a deployment, because its place is unknown."""

    device: str
    records: int


def device_of(node: str | None, sensor_id: str | None) -> str:
    """Return `node`, or `node/sensor` if the sensor has another name."""
    if sensor_id is None or sensor_id == node:
        return node or ""
    return f"{node or ''}/{sensor_id}"


def deploy(
    presences: Iterable[Presence[T]],
    first_place: Callable[[str], Place | None],
    known_places: dict[str, Place],
) -> Iterator[PlacedRecord[T] | Deployment | UnplacedDevice]:
    """Derive deployments from presences that are sorted by device and by when things happened.

    `first_place` returns the first place in a device's records; `known_places` has the places that
    a person gave.
    """
    for device, records in groupby(presences, key=attrgetter("device")):
        place = known_places.get(device) or first_place(device)
        if place is None:
            yield UnplacedDevice(device, sum(1 for _ in records))
        else:
            yield from _of_device(device, records, place, device in known_places)


def _of_device(
    device: str, presences: Iterable[Presence[T]], place: Place, stays: bool
) -> Iterator[PlacedRecord[T] | Deployment]:
    number = 0
    current: Deployment | None = None
    for presence in presences:
        moved = False
        if presence.place is not None and not stays:
            moved = metres(place, presence.place) > MOVED_METRES
            place = presence.place if moved else place
        if current is None or moved:
            if current is not None:
                yield current
            number += 1
            current = Deployment(
                f"{device}/{number}", device, place, presence.at, presence.until, presence.trust
            )
        else:
            current = _extended(current, presence)
        yield PlacedRecord(presence, current.id)
    if current is not None:
        yield current


def _extended(deployment: Deployment, presence: Presence[T]) -> Deployment:
    """Return the deployment with the time of one more record, which counts if it is trusted."""
    if presence.trust < deployment.trust:
        return deployment
    start, end = presence.at, presence.until
    if presence.trust == deployment.trust:
        start, end = min(start, deployment.start), max(end, deployment.end)
        if (start, end) == (deployment.start, deployment.end):
            return deployment
    return msgspec.structs.replace(deployment, start=start, end=end, trust=presence.trust)


def metres(one: Place, other: Place) -> float:
    """Return the great-circle distance by the haversine formula; its error is below 0.6 %."""
    latitudes = math.radians(one.latitude), math.radians(other.latitude)
    half_north = (latitudes[1] - latitudes[0]) / 2
    half_east = math.radians(other.longitude - one.longitude) / 2
    share = (
        math.sin(half_north) ** 2
        + math.cos(latitudes[0]) * math.cos(latitudes[1]) * math.sin(half_east) ** 2
    )
    return 2 * EARTH_RADIUS_METRES * math.asin(math.sqrt(min(share, 1.0)))
