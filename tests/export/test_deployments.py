"""Deployments are derived from places and times alone, and from nothing that is not known."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from echo_ingest.export.camtrap.deployments import (
    MOVED_METRES,
    Deployment,
    PlacedRecord,
    Presence,
    UnplacedDevice,
    deploy,
    device_of,
    metres,
)
from echo_ingest.record import Place

DAWN = datetime(2026, 9, 14, 6, tzinfo=UTC)
RIDGE, CREEK = Place(-38.7712, 143.5021), Place(-38.7812, 143.5021)
METRES_PER_DEGREE = 111_195.0  # of latitude, on the sphere


def presence(
    minute: int, place: Place | None, device: str = "n1", seconds: float = 0
) -> Presence[int]:
    at = DAWN + timedelta(minutes=minute)
    return Presence(device, at, at + timedelta(seconds=seconds), place, minute)


def north_of(place: Place, distance_metres: float) -> Place:
    return Place(place.latitude + distance_metres / METRES_PER_DEGREE, place.longitude)


def deployed(
    records: Iterable[Presence[int]], known_places: dict[str, Place] | None = None
) -> tuple[list[Deployment], dict[int, str], list[UnplacedDevice]]:
    """Return deployments, the deployment of each record, and the devices without any."""
    ordered = sorted(records, key=lambda each: (each.device, each.at))

    def first_place(device: str) -> Place | None:
        places = (each.place for each in ordered if each.device == device)
        return next((place for place in places if place is not None), None)

    deployments, belongs, unplaced = [], {}, []
    for each in deploy(ordered, first_place, known_places or {}):
        match each:
            case Deployment():
                deployments.append(each)
            case PlacedRecord():
                belongs[each.presence.content] = each.deployment
            case UnplacedDevice():
                unplaced.append(each)
    return deployments, belongs, unplaced


def test_distances_are_those_on_the_globe() -> None:
    assert metres(Place(0, 0), Place(1, 0)) == pytest.approx(METRES_PER_DEGREE, rel=1e-4)
    assert metres(Place(60, 179.5), Place(60, -179.5)) == pytest.approx(55_597, rel=1e-3)
    assert metres(Place(-37.8136, 144.9631), Place(-33.8688, 151.2093)) == pytest.approx(
        713_400,
        rel=1e-3,  # Melbourne to Sydney
    )
    assert metres(Place(90, 0), Place(-90, 180)) == pytest.approx(20_015_114, rel=1e-4)
    assert metres(RIDGE, RIDGE) == 0


def test_a_device_that_stays_is_one_deployment_however_its_gps_wanders() -> None:
    wander = [north_of(RIDGE, distance) for distance in (0, 60, -95, 30, MOVED_METRES - 1)]
    (only,), belongs, _ = deployed(presence(minute, place) for minute, place in enumerate(wander))
    assert (only.id, only.place) == ("n1/1", RIDGE)
    assert (only.start, only.end) == (DAWN, DAWN + timedelta(minutes=4))
    assert set(belongs.values()) == {"n1/1"}


def test_one_that_moves_further_begins_another_and_coming_back_a_third() -> None:
    places = [RIDGE, RIDGE, CREEK, CREEK, north_of(RIDGE, 20)]
    deployments, belongs, _ = deployed(
        presence(minute, place) for minute, place in enumerate(places)
    )
    assert [each.id for each in deployments] == ["n1/1", "n1/2", "n1/3"]
    assert [each.place for each in deployments] == [RIDGE, CREEK, north_of(RIDGE, 20)]
    assert belongs == {0: "n1/1", 1: "n1/1", 2: "n1/2", 3: "n1/2", 4: "n1/3"}
    assert deployments[0].end == DAWN + timedelta(minutes=1)
    just_further = [RIDGE, north_of(RIDGE, MOVED_METRES + 1)]
    assert len(deployed(presence(m, place) for m, place in enumerate(just_further))[0]) == 2


def test_a_record_that_names_no_place_belongs_where_the_device_was() -> None:
    places = [None, RIDGE, None, CREEK, None]
    deployments, belongs, _ = deployed(
        presence(minute, place) for minute, place in enumerate(places)
    )
    assert belongs == {0: "n1/1", 1: "n1/1", 2: "n1/1", 3: "n1/2", 4: "n1/2"}
    assert deployments[0].start == DAWN


def test_a_clip_lasts_until_its_end() -> None:
    (only,), _, _ = deployed([presence(0, RIDGE, seconds=600), presence(1, RIDGE, seconds=1)])
    assert only.end == DAWN + timedelta(minutes=10)


def test_who_never_said_where_has_no_deployment_unless_a_person_knows() -> None:
    records = [
        presence(0, None),
        presence(1, None),
        presence(2, CREEK, "n2"),
        presence(3, None, "n2"),
    ]
    deployments, belongs, unplaced = deployed(records)
    assert [each.id for each in deployments] == ["n2/1"]
    assert unplaced == [UnplacedDevice("n1", 2)]
    deployments, belongs, unplaced = deployed(records, {"n1": RIDGE})
    assert [(each.id, each.place) for each in deployments] == [("n1/1", RIDGE), ("n2/1", CREEK)]
    assert len(belongs) == 4
    assert not unplaced


def test_a_place_that_a_person_gives_holds_against_what_the_device_says() -> None:
    (only,), _, _ = deployed([presence(0, RIDGE), presence(1, CREEK)], {"n1": RIDGE})
    assert (only.place, only.end) == (RIDGE, DAWN + timedelta(minutes=1))


def test_a_sensor_of_another_name_is_a_device_of_its_own() -> None:
    assert device_of("ridge-07", None) == device_of("ridge-07", "ridge-07") == "ridge-07"
    assert device_of("ridge-07", "mic-3") == "ridge-07/mic-3"
    assert device_of(None, "mic-3") == "/mic-3"
