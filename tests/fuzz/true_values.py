"""Places, names, confidence and health in the many ways in which devices write them."""

import struct
import unicodedata
from random import Random
from typing import NamedTuple

from tests.fuzz.truths import Draft, PlaceTruth, Raw, milliseconds, one_of

IMPOSSIBLE, IMPOSSIBLE_PLACE, WRONG_TYPE = "impossible_value", "impossible_place", "wrong_type"
OUT_OF_RANGE, NOT_A_NUMBER = "confidence_out_of_range", "not_a_number"
NOT_FRACTION = "confidence_not_a_fraction"
UNCERTAINTY_METRES_MAX = 100_000

ANIMALS = (
    *("Litoria ewingii", "Crinia signifera", "Dacelo novaeguineae", "Petaurus breviceps"),
    *("Limnodynastes dumerilii", "Strix aluco", "Rana", "Sus scrofa domesticus", "Ninox boobook"),
    *("Åsa längs", "Crotalus éxul", "Eastern banjo frog", "Tytonidae", "Ñandú común"),
    *("Turdus novae-seelandiae", "Émile's frog"),
)
"""Names of one to three words, all letters: sentence case is their one way of writing."""
OTHER_NAMES = (
    *(
        "Litoria cf. ewingii",
        "Crinia sp. 2",
        "Turdus novae-seelandiae",
        "Litoria ewingii × L. fallax",
    ),
    *(
        "Frog of the Otway Ranges",
        "Parus major/minor",
        "Bubo bubo (juvenile)",
        "Gen. et sp. nov. B",
    ),
    *("Litoria ewingii_Southern Brown Tree Frog", "BOOBOOK owl no. 7"),
)
"""Names whose capitals inside may mean something: only the first letter has one way of writing."""
NO_ANIMALS = {
    **{"Nocall": "blank", "Noise": "blank", "Rain": "blank", "Wind": "blank", "Silence": "blank"},
    **{"Human": "human", "Human vocal": "human", "Speech": "human", "Power tools": "human"},
    **{"Engine": "vehicle", "Siren": "vehicle", "Unknown": "unknown", "Human whistle": "human"},
    **{"Gun": "human", "Fireworks": "human", "Environmental": "blank", "Human non-vocal": "human"},
}
SPACES = (" ", "  ", "\u00a0", " \u00a0", "\u2009", "\u3000", "\u202f")
MODELS = ("birdnet-2.4", "frog-net v3", "echo")


# ------------------------------------------------------------------ names


def respelled(draft: Draft, name: str, *, case: bool) -> str:
    """Return a name as some device writes it: spaces, accents and, if `case`, letters differ."""
    rng = draft.rng
    text = name
    if draft.chance(0.5):
        return text
    if case:
        text = rng.choice((text.lower(), text.upper(), text.title(), text.swapcase(), text))
    if draft.chance(0.4):
        text = rng.choice(SPACES).join(text.split(" "))
    if draft.chance(0.3):
        text = rng.choice(("", *SPACES)) + text + rng.choice(SPACES)
    if draft.chance(0.5):
        text = unicodedata.normalize("NFD", text)
    return text


class Name(NamedTuple):
    """A species as its one spelling, what the name stands for, and a spelling of a device."""

    name: str
    observation_type: str
    written: str


def species(draft: Draft) -> Name:
    """Return a species, or another label of a classifier."""
    rng = draft.rng
    match draft.pick({"animal": 60, "other": 15, "no animal": 20, "as it is": 5}):
        case "animal":
            name = rng.choice(ANIMALS)
            return Name(name, "animal", respelled(draft, name, case=True))
        case "other":
            name = rng.choice(OTHER_NAMES)
            written = respelled(draft, name, case=False)
            if draft.chance(0.3):
                written = written.replace(name[0], name[0].lower(), 1)
            return Name(name, "animal", written)
        case "no animal":
            more = {label.capitalize(): kind for label, kind in draft.site.more_labels}
            labels = {**NO_ANIMALS, **more}
            name = rng.choice([*labels, *more, *more])
            return Name(name, labels[name], respelled(draft, name, case=True))
    name = rng.choice(("蛙", "Лягушка", "Frog 🐸 no. 7", "A" * 256, "X"))
    return Name(name[:1] + name[1:].lower() if name.isalpha() else name, "animal", name)


def put_species(draft: Draft) -> None:
    """Write the field `species`."""
    if draft.takes_fault("species"):
        value = one_of(draft.rng, "", " ", "\u00a0", "x" * 257, "Litoria\x1b[31m", 7, ["Litoria"])
        draft.put("species", value)
        draft.label("species that is no name")
        draft.refuse(IMPOSSIBLE, WRONG_TYPE, field="species")
        return
    name = species(draft)
    draft.put("species", name.written)
    draft.label("species" if name.written == name.name else "species, respelled")
    draft.truth["species"] = name.name
    draft.truth["observation_type"] = name.observation_type


def sensor_name(draft: Draft) -> tuple[str, str | int]:
    """Return an id as it is kept, and as a device writes it."""
    rng = draft.rng
    if draft.chance(0.1):
        number = rng.randrange(10 ** rng.randrange(1, 19))
        return str(number), number
    name = rng.choice(
        ("ridge-01", "k03/k03", "Río 7", "creek 2", "NODE a", "24F3190361CC6E3D", "Ö")
    )
    return name, respelled(draft, name, case=False)


def put_sensor(draft: Draft, *names: str) -> None:
    """Write who the device claims to be, in one of the fields `names`."""
    field = draft.rng.choice(names)
    if draft.takes_fault("sensor"):
        draft.put(field, one_of(draft.rng, "", " ", "a\u0000b", "x" * 257, 1.5, True, {}))
        draft.label("sensor that is no name")
        draft.refuse(IMPOSSIBLE, WRONG_TYPE, field=field)
        return
    name, written = sensor_name(draft)
    draft.put(field, written)
    draft.label("sensor" if written == name else "sensor, respelled")
    draft.truth["sensor_id"] = name


# ------------------------------------------------------------------ confidence


def float32(value: float) -> float:
    """Return what a device has that calculates with 32 bits."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def confidence(draft: Draft) -> tuple[float, float]:
    """Return a confidence as a fraction, and as the device writes it."""
    rng = draft.rng
    percent = rng.choice((0.0, 100.0, round(rng.random() * 100, rng.choice((0, 2, 6, 12)))))
    if draft.site.confidence_is_fraction:
        written = percent / 100
        if draft.chance(0.3):
            written = float32(written)
        if percent == 100 and draft.chance(0.5):
            written = 1.00000011920929
        return min(written, 1), written
    written = percent
    if draft.chance(0.3):
        written = float32(percent)
    if percent == 100 and draft.chance(0.5):
        written = one_of(rng, 100.0000076, 100.00000763, 100.00005)
    if percent == 0 and draft.chance(0.3):
        written = one_of(rng, -0.0, 5e-324, 0)
    if written == int(written) and draft.chance(0.5):
        return min(max(written / 100, 0), 1), int(written)
    return min(max(written / 100, 0), 1), written


def wrong_confidence(draft: Draft) -> tuple[object, str]:
    """Return what is no confidence, and the reason."""
    rng = draft.rng
    if draft.chance(0.3):
        return one_of(rng, "63.64", [63.64], True, {"value": 63.64}), WRONG_TYPE
    if draft.site.confidence_is_fraction:
        return one_of(rng, 1.01, 63.64, 100, -0.01, 1e300), NOT_FRACTION
    return one_of(rng, 100.01, 187, -1, -0.01, 255, 1e300, 10_000), OUT_OF_RANGE


def put_confidence(draft: Draft) -> None:
    """Write the field `confidence`."""
    if draft.takes_fault("confidence"):
        value, code = wrong_confidence(draft)
        draft.put("confidence", value)
        draft.label("confidence that is none")
        draft.refuse(code, field="confidence")
        return
    truth, written = confidence(draft)
    draft.put("confidence", written)
    draft.label("fraction" if draft.site.confidence_is_fraction else "percent")
    draft.truth["confidence"] = truth


def put_alternatives(draft: Draft) -> None:
    """Write the field `top5`."""
    rng = draft.rng
    entries: list[object] = []
    truths = []
    for _ in range(rng.choice((0, 1, 2, 5, 5, 7))):
        name = species(draft)
        truth, written = confidence(draft)
        entry = [("label", name.written), ("confidence", written)]
        entries.append(dict(entry if draft.chance(0.8) else entry[::-1]))
        truths.append((name.name, truth))
    draft.label("alternatives")
    if draft.takes_fault("alternatives") and entries:
        at = rng.randrange(len(entries))
        if draft.chance(0.2):
            entries[at] = {"label": ""} | {"confidence": 5e-9}
            draft.refuse(IMPOSSIBLE, field=f"top5[{at}].label")
        else:
            value, code = wrong_confidence(draft)
            entries[at] = {"label": "Rana", "confidence": value}
            # The parser names a path of its own for a wrong type.
            path = None if code == WRONG_TYPE else f"top5[{at}].confidence"
            draft.refuse(code, field=path)
    draft.put("top5", entries)
    draft.truth["alternatives"] = tuple(truths)


# ------------------------------------------------------------------ places


def coordinates(draft: Draft) -> tuple[float, float]:
    """Return a latitude and a longitude that are a place, near the edges too."""
    rng = draft.rng
    places = rng.choice((2, 4, 6, 12))
    match rng.randrange(8):
        case 0:
            near = round(rng.choice((0.0101, -0.0101, 0.011, 0.5)), 4)
            return (near, 0.0) if draft.chance(0.5) else (0.005, near)
        case 1:
            return rng.choice((90.0, -90.0, 0.02)), rng.choice((180.0, -180.0, 0.02))
        case 2:
            return rng.choice((-1, 1, 0, 45)), rng.choice((1, 2, 145, -120))
    return round(rng.uniform(-90, 90), places), round(rng.uniform(-180, 180), places) or 1.0


def altitude(draft: Draft) -> float:
    """Return metres above the sea."""
    return draft.rng.choice((0, 112, 112.5, -499.9, -500, 9000, 8_848.86, 1e-3))


def wrong_altitude(draft: Draft) -> float:
    """Return metres at which nobody records."""
    return draft.rng.choice((-501, 9_001, -9_999, 1e300, 32_767, 65_535, 112_000))


def put_lla(draft: Draft, field: str, truth: str, *, uncertainty: str | None = None) -> None:
    """Write a place as list or object, as known or unknown."""
    rng = draft.rng
    as_list = draft.chance(0.6)
    fault = draft.takes_fault("place")
    if not fault and draft.chance(0.35):
        value = _unknown_list(rng) if as_list else _as_object(_unknown_list(rng))
        draft.put(field, value)
        draft.label("place unknown, list" if as_list else "place unknown, object")
        if uncertainty is not None and draft.chance(0.5):
            draft.put(uncertainty, rng.choice((0, 10, 99.5)))
        return
    latitude, longitude = coordinates(draft)
    high: float | None = altitude(draft) if draft.chance(0.6) else None
    metres: float | None = None
    if uncertainty is not None and draft.chance(0.5):
        metres = rng.choice((0, 10.0, 2.5, 99_999, UNCERTAINTY_METRES_MAX))
    parts: list[object] = [latitude, longitude]
    if high is not None or draft.chance(0.2):
        parts.append(high)
    if fault:
        parts, metres = _wrong_place(draft, field, parts, metres, has_uncertainty=bool(uncertainty))
    draft.put(field, parts if as_list or len(parts) not in (2, 3) else _as_object(parts))
    if metres is not None and uncertainty is not None:
        draft.put(uncertainty, metres)
    draft.label("place as list" if as_list else "place as object")
    if fault and not draft.must_be_refused:
        return  # half a place: it is no place
    draft.truth[truth] = PlaceTruth(latitude, longitude, high, metres)


def _as_object(parts: list[object] | None) -> dict[str, object] | None:
    if parts is None:
        return None
    return dict(zip(("latitude", "longitude", "altitude"), parts, strict=False))


def _unknown_list(rng: Random) -> list[object] | None:
    near = round(rng.uniform(-0.007, 0.007), 6), round(rng.uniform(-0.007, 0.007), 6)
    high = rng.choice((112, 0, 0.0, None, -17.3))
    unknown: list[list[object] | None] = [
        None,
        [None, None],
        [None, None, None],
        [0, 0],
        [0, 0, 0],
        [0.0, -0.0, high],
        [0, 0, 112],
        [*near],
        [*near, high],
        [-1, -1],
        [-1.0, -1.0, rng.choice((-1, 0, None, 112))],
    ]
    return rng.choice(unknown)


def _wrong_place(
    draft: Draft,
    field: str,
    parts: list[object],
    metres: float | None,
    *,
    has_uncertainty: bool,
) -> tuple[list[object], float | None]:
    """Make a place impossible."""
    rng = draft.rng
    draft.label("place that is impossible")
    latitude, longitude, *rest = parts
    match rng.randrange(7 if has_uncertainty else 6):
        case 0:
            parts = [rng.choice((90.001, -91, 143.5, -38_771_200, 1e300)), longitude, *rest]
        case 1:
            parts = [latitude, rng.choice((180.001, -181, 360, 1_435_021_000)), *rest]
        case 2:
            parts = [latitude, longitude, wrong_altitude(draft)]
        case 3:
            parts = rng.choice(([latitude], [latitude, longitude, 5, 5], []))
        case 4:
            draft.may_refuse(IMPOSSIBLE_PLACE)
            return rng.choice(([None, longitude], [latitude, None, *rest])), metres
        case 5:
            parts = [str(latitude), str(longitude), *rest]
        case _:
            metres = rng.choice((-1, 100_001, 1e300, 1_000_000))
    draft.refuse(IMPOSSIBLE_PLACE, IMPOSSIBLE, WRONG_TYPE)
    return parts, metres


def put_gps(draft: Draft) -> None:
    """Write a place as Raspberry Pi nodes do: `gps_data` and `gps_uncertainty`."""
    rng = draft.rng
    draft.label("place as gps_data")
    if not draft.takes_fault("place") and draft.chance(0.35):
        unknown = _unknown_list(rng)
        draft.put("gps_data", None if unknown is None else {"lat": unknown[0], "lon": unknown[1]})
        if draft.chance(0.5):
            draft.put("gps_uncertainty", rng.choice((0, 10.0, None)))
        return
    latitude, longitude = coordinates(draft)
    metres = rng.choice((None, 10.0, 0, 99_999.5))
    gps: dict[str, object] = {"lat": latitude, "lon": longitude}
    if draft.takes_fault("place"):
        gps |= rng.choice(
            (
                {"lat": 91},
                {"lon": -180.5},
                {"lon": None},
                {"lat": str(latitude)},
                {"lat": 143.5021, "lon": -38.7712},
            )
        )
        draft.refuse(IMPOSSIBLE_PLACE, WRONG_TYPE)
    draft.put("gps_data", gps)
    if metres is not None or draft.chance(0.3):
        draft.put("gps_uncertainty", metres)
    draft.truth["place"] = PlaceTruth(latitude, longitude, None, metres)


def put_animal_place(draft: Draft) -> None:
    """Write where the animal probably is."""
    put_lla(draft, "animalEstLLA", "animal_place", uncertainty="animalLLAUncertainty")


def known_place(draft: Draft) -> PlaceTruth:
    """Return a place with an altitude or without one."""
    latitude, longitude = coordinates(draft)
    return PlaceTruth(latitude, longitude, altitude(draft) if draft.chance(0.5) else None)


def place_properties(draft: Draft) -> list[tuple[str, str]]:
    """Return a place as MQTT user properties, with points or commas, or as unknown."""
    rng = draft.rng
    if not draft.takes_fault("place") and draft.chance(0.25):
        draft.label("place unknown, properties")
        latitude, longitude = one_of(
            rng, ("0", "0"), ("0.0", "0.000"), ("-1", "-1"), ("0,0050", "0,0")
        )
        parts = [("latitude", latitude), ("longitude", longitude)]
        if draft.chance(0.4):
            parts.append(("altitude", rng.choice(("0", "112"))))
        return parts
    place = known_place(draft)
    comma = draft.chance(0.3)
    draft.label("place as properties, comma" if comma else "place as properties")
    parts = [("latitude", _digits(place.latitude)), ("longitude", _digits(place.longitude))]
    high = place.altitude_metres
    if high is not None:
        parts.append(("altitude", _digits(high)))
    if comma:
        # Three digits behind a comma may be thousands.
        if any(len(value.partition(".")[2]) == 3 for _, value in parts):
            draft.may_refuse(WRONG_TYPE, IMPOSSIBLE, IMPOSSIBLE_PLACE)
        parts = [(name, value.replace(".", ",")) for name, value in parts]
    if draft.takes_fault("place"):
        faulty = one_of(
            rng,
            parts[:1],
            parts[1:2],
            [("latitude", "38.77S"), *parts[1:]],
            [("latitude", "90.5"), *parts[1:]],
            [("latitude", "nan"), *parts[1:]],
            [parts[0], ("longitude", "1.435,021")],
            [parts[0], ("longitude", "143,50,21")],
            [parts[0], ("longitude", "181")],
            [*parts[:2], ("altitude", "9001")],
            [*parts[:2], ("altitude", "-501")],
            [*parts[:2], ("altitude", "high")],
        )
        draft.refuse(IMPOSSIBLE_PLACE, IMPOSSIBLE, WRONG_TYPE)
        return faulty
    draft.truth["place"] = place
    return parts


def _digits(value: float) -> str:
    return f"{value:.12f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


# ------------------------------------------------------------------ health


def put_health(draft: Draft, *, nested: bool, must: bool) -> None:
    """Write how a node is; `must`: at least its status."""
    rng = draft.rng
    health: dict[str, object] = {}
    inner: dict[str, object] = {}
    if must or draft.chance(0.3):
        health["status"] = rng.choice(("online", "Offline", "low battery", "läuft"))
        draft.put("status", health["status"])
    if draft.chance(0.4):
        _put_battery(draft, health)
    for field, name in (
        ("cpu", "cpu_percent"),
        ("ram", "memory_percent"),
        ("disk", "disk_percent"),
    ):
        if draft.chance(0.4):
            value = rng.choice((0, 3.5, 100, 99.99, round(rng.random() * 100, 2)))
            inner[field] = health[name] = value
    if draft.chance(0.5):
        _uptime(draft, inner, health)
    if draft.takes_fault("health"):
        _wrong_health(draft, inner, nested=nested)
    if nested and (inner or draft.chance(0.2)):
        draft.put("health_data", inner)
    elif not nested:
        for field, given in inner.items():
            draft.put(field, given)
    draft.label("health, nested" if nested else "health")
    draft.truth["health"] = health


def _put_battery(draft: Draft, health: dict[str, object]) -> None:
    value = draft.rng.choice((0, 1, 50, 98.5, 100, 100, 100.4, -0.4, 101, 101, 255))
    draft.put("batteryPct", value)
    if value == 101:
        health["external_power"] = True
    elif value != 255:
        health["battery_percent"] = min(max(value, 0), 100)  # an error of calibration


def _uptime(draft: Draft, inner: dict[str, object], health: dict[str, object]) -> None:
    rng = draft.rng
    match draft.pick({"seconds": 5, "boot": 4, "milliseconds": 2}):
        case "seconds":
            value: float = rng.choice((0, 12.5, rng.randrange(60_000_000)))
            health["uptime_seconds"] = value
        case "boot":
            first = draft.site.first_day.toordinal() - 719_163
            newest = milliseconds(draft.received_at) / 1000
            booted = rng.uniform(max(newest - 10_000_000, first * 86_400 + 86_400), newest)
            true = rng.choice((int(booted), round(booted, 3)))
            health["booted_at"] = true
            value = true + draft.site.clock_ahead_seconds
        case _:
            # As seconds these would be 31 years or more, as a time of start the years 2001 to 2014.
            value = rng.randrange(1_000_000_000, 1_400_000_000)
            if draft.site.first_day.year < 2000:
                value = 12
                health["uptime_seconds"] = value
            else:
                health["uptime_seconds"] = (value / 1000, None)
                draft.may_refuse(IMPOSSIBLE)
                draft.label("uptime in milliseconds")
    inner["uptime"] = value


def _wrong_health(draft: Draft, inner: dict[str, object], *, nested: bool) -> None:
    rng = draft.rng
    draft.label("health that is impossible")
    field = rng.choice(("cpu", "ram", "disk", "uptime", "batteryPct"))
    value = rng.choice((-1, -0.75, "98", [1], 1e300))
    if field == "batteryPct":
        draft.fields = [each for each in draft.fields if each[0] != "batteryPct"]
        draft.put(field, rng.choice((-1, 102, 254, 256, 1000, "98")))
    else:
        inner[field] = value
    prefix = "health_data." if nested and field != "batteryPct" else ""
    draft.refuse(IMPOSSIBLE, WRONG_TYPE, "unreadable_time", field=f"{prefix}{field}")


def not_a_number(draft: Draft, name: str) -> None:
    """Write a number as some programs write one that they do not have."""
    draft.put(name, Raw(draft.rng.choice(("NaN", "nan", "Infinity", "-Infinity"))))
    draft.label("NaN in JSON")
    draft.refuse(NOT_A_NUMBER, "broken_json")
