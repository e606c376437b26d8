"""Values as real devices write them are read as what they mean, or refused in words that hold.

Each kind is tried with hundreds of generated inputs whose truth is known before they are written.
"""

import base64
import json
import random
import re
import struct
import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest

from echo_ingest.decode import Decoder, NodeRules, Rules
from echo_ingest.decode.rules import NOT_ANIMALS
from echo_ingest.reasons import ReasonCode as Code
from echo_ingest.record import (
    AnyRecord,
    Detection,
    Health,
    Ignored,
    Movement,
    Place,
    Recording,
    Rejected,
    Telemetry,
)
from tests.decode.messages import (
    BYTES_MAX,
    DECODER,
    RECEIVED_AT_MS,
    chunk,
    message,
    record,
    recording,
    rejected,
    wav,
)
from tests.several_records import only

TIMES = 300
"""How many inputs of each kind are generated."""
STAMP = "2026-09-14T05:45:12Z"
PREDICTION: dict[str, Any] = {
    "timestamp": STAMP,
    "sensor_id": "ridge-01",
    "species": "Litoria ewingii",
    "confidence": 63.64,
}
MOVEMENT: dict[str, Any] = {
    "timestamp": STAMP,
    "animalId": "7",
    "species": "Sus scrofa",
    "animalTrueLLA": [-38.7, 143.5],
}
RECEIVED = RECEIVED_AT_MS / 1000
NODE = "bats-03"
FRACTIONS = Decoder(BYTES_MAX, Rules(nodes={NODE: NodeRules(confidence_is_fraction=True)}))
WHITE_SPACES = " \t\n\r\x0b\x0c\x85\xa0\u1680\u2003\u2007\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
NOT_PRINTABLE = "\0\x07\x1b\x1c\x1f\x7f\xad\u200b\u200d\u2060\u202e\ufeff\ue000"
SHOWN_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


@pytest.fixture
def chance() -> random.Random:
    return random.Random(13)


def detection(**fields: Any) -> Detection:
    return record(Detection, message(PREDICTION | fields))


def float32(number: float) -> float:
    """Return a number as a model that computes in 32 bits gives it."""
    (rounded,) = struct.unpack("f", struct.pack("f", number))
    assert isinstance(rounded, float)
    return rounded


def agrees(decoder: Decoder, payload: Any, node: str | None = None) -> AnyRecord | Rejected:
    """Decode a message; check that identifying it alone says the same."""
    arrived = message(payload, node=node)
    decoded = decoder.identified(arrived, hashed=True)
    assert not isinstance(decoded, Ignored)
    if isinstance(decoded, Rejected):
        assert decoder.identify(arrived) == decoded
        return decoded
    assert decoder.identify(arrived) == decoded.identity
    return decoded.records[0]


def shown_number(why: Rejected) -> float:
    """Return the value that a reason shows."""
    found = SHOWN_NUMBER.search(why.detail)
    assert found is not None, why
    return float(found[0])


# ---------------------------------------------------------------------- confidence


def test_a_confidence_off_by_rounding_is_the_one_that_was_meant(chance: random.Random) -> None:
    for _ in range(TIMES):
        meant = chance.choice((0.0, 100.0, round(chance.uniform(0, 100), 2)))
        sent = chance.choice((meant, float32(meant), float32(float32(meant / 100) * 100)))
        confidence = detection(confidence=sent).confidence
        assert confidence is not None
        assert 0 <= confidence <= 1
        assert confidence == pytest.approx(meant / 100, abs=1e-6)
    for sent in (100.00000762939453, 100.0001, 100.00000000000001):
        assert detection(confidence=sent).confidence == 1.0
    for sent in (-0.0, -1e-30, -0.0001, -7.62939453e-06):
        assert str(detection(confidence=sent).confidence) == "0.0"


def test_a_confidence_out_of_range_is_shown_as_one_out_of_range(chance: random.Random) -> None:
    limits = [100.00010001, 100.0002, -0.00010001, 1e300, -1e-3, 100.004, 100.0001000001]
    wild = [chance.choice((-1, 1)) * 10 ** chance.uniform(2.0001, 20) for _ in range(TIMES)]
    for sent in limits + wild + [100 + 10 ** chance.uniform(-3.9, 3) for _ in range(TIMES)]:
        why = rejected(PREDICTION | {"confidence": sent})
        assert (why.code, why.field) == (Code.CONFIDENCE_OUT_OF_RANGE, "confidence")
        assert shown_number(why) == sent
        assert not 0 <= shown_number(why) <= 100


def test_the_confidence_of_an_alternative_is_named_by_its_path(chance: random.Random) -> None:
    for _ in range(TIMES):
        top5 = [{"label": "x", "confidence": chance.uniform(0, 100)} for _ in range(5)]
        at = chance.randrange(5)
        top5[at]["confidence"] = sent = chance.choice((-1, 1)) * chance.uniform(101, 200)
        why = rejected(PREDICTION | {"top5": top5})
        assert (why.code, why.field) == (Code.CONFIDENCE_OUT_OF_RANGE, f"top5[{at}].confidence")
        assert shown_number(why) == sent


def test_a_node_of_fractions_is_read_as_that_in_top5_too(chance: random.Random) -> None:
    for _ in range(TIMES):
        first, second = (chance.choice((0.0, 1.0, chance.random())) for _ in range(2))
        top5 = [{"label": "Ninox boobook", "confidence": float32(second)}]
        sent = PREDICTION | {"confidence": float32(first), "top5": top5}
        sent["timestamp"] = chance.choice((STAMP, "1789364712"))
        found = agrees(FRACTIONS, sent, NODE)
        assert isinstance(found, Detection)
        assert found.confidence == pytest.approx(first, abs=1e-6)
        assert found.alternatives[0].confidence == pytest.approx(second, abs=1e-6)
        other = agrees(FRACTIONS, sent, "frogs-01")
        assert isinstance(other, Detection)
        assert other.confidence == pytest.approx(first / 100, abs=1e-8)
    for sent_value in (1.000001, 1.0000001192, -0.0000001):
        found = agrees(FRACTIONS, PREDICTION | {"confidence": sent_value}, NODE)
        assert isinstance(found, Detection)
        assert found.confidence in (0.0, 1.0)


def test_a_percentage_from_a_node_of_fractions_is_refused_with_the_setting(
    chance: random.Random,
) -> None:
    for _ in range(TIMES):
        value = chance.choice((1.0000011, 63.64, 100, chance.uniform(1.00001, 100)))
        in_top5 = chance.random() < 0.5
        top5 = [{"label": "x", "confidence": value if in_top5 else 0.5}]
        sent = {"timestamp": "1789364712", "confidence": 0.5 if in_top5 else value, "top5": top5}
        why = agrees(FRACTIONS, PREDICTION | sent, NODE)
        assert isinstance(why, Rejected)
        assert why.code == Code.CONFIDENCE_NOT_A_FRACTION
        assert why.field == ("top5[0].confidence" if in_top5 else "confidence")
        assert '"confidence": "fraction"' in why.detail
        assert shown_number(why) == value
        assert len(why.render()) <= 200


# ---------------------------------------------------------------------- places


def as_sent(latitude: object, longitude: object, altitude: object) -> list[dict[str, Any]]:
    """Return the ways in which a message can give the place of its sensor."""
    return [
        {"microphoneLLA": [latitude, longitude, altitude]},
        {"microphoneLLA": [latitude, longitude]},
        {
            "microphoneLLA": {
                "latitude": latitude,
                "longitude": longitude,
                "altitude": altitude,
            }
        },
        {"gps_data": {"lat": latitude, "lon": longitude}},
    ]


def test_what_a_receiver_without_a_fix_writes_is_no_place(chance: random.Random) -> None:
    for _ in range(TIMES):
        latitude, longitude = chance.choice(
            (
                (0, 0),
                (-0.0, 0.0),
                (-1, -1),
                (0.01, -0.01),
                (chance.uniform(-0.01, 0.01), chance.uniform(-0.01, 0.01)),
            )
        )
        altitude = chance.choice((0, 112, -1, 1e300, None, chance.uniform(-500, 9_000)))
        for sent in as_sent(latitude, longitude, altitude):
            uncertainty = chance.choice((None, 5, 1e300, -1))
            assert detection(**sent, gps_uncertainty=uncertainty).place is None, sent


@pytest.mark.parametrize(
    "sent",
    [[None, None, None], [None, None], [None, 143.5, 2], [-38.7, None], [0, None, 5], [None, 0]],
)
def test_a_list_with_a_null_is_no_place(sent: list[object]) -> None:
    found = detection(microphoneLLA=sent, animalEstLLA=sent, animalTrueLLA=sent)
    assert (found.place, found.animal_place, found.animal_true_place) == (None, None, None)
    why = rejected(MOVEMENT | {"animalTrueLLA": sent})
    assert (why.code, why.field) == (Code.INCOMPLETE_MOVEMENT, "animalTrueLLA")


def test_a_place_is_as_it_was_sent_up_to_each_limit(chance: random.Random) -> None:
    for _ in range(TIMES):
        latitude = chance.choice((90, -90, -38.7712, 0.0101, chance.uniform(-90, 90)))
        longitude = chance.choice((180, -180, 143.5021, chance.uniform(0.02, 180)))
        altitude = chance.choice((-500, 9_000, 0, None, chance.uniform(-500, 9_000)))
        uncertainty = chance.choice((0, 100_000, None, chance.uniform(0, 100_000)))
        as_list, without, as_object, gps = as_sent(latitude, longitude, altitude)
        for sent, has_altitude in ((as_list, 1), (without, 0), (as_object, 1), (gps, 0)):
            expected = Place(latitude, longitude, altitude if has_altitude else None, uncertainty)
            assert detection(**sent, gps_uncertainty=uncertainty).place == expected
        moved = record(Movement, message(MOVEMENT | {"animalTrueLLA": [latitude, longitude]}))
        assert moved.animal_place == Place(latitude, longitude)
    assert detection(microphoneLLA=[-1, -1.5]).place == Place(-1, -1.5)
    assert detection(microphoneLLA=[0, 0.0100001]).place == Place(0, 0.0100001)


def test_what_is_off_the_planet_is_shown_as_that(chance: random.Random) -> None:
    for _ in range(TIMES):
        excess = 10 ** chance.uniform(-12, 6)
        sign = chance.choice((-1, 1))
        for at, limit, name in ((0, 90, "latitude"), (1, 180, "longitude")):
            place: list[Any] = [-38.7, 143.5, 0]
            place[at] = sign * (limit + excess)
            assert abs(place[at]) > limit
            why = rejected(PREDICTION | {"microphoneLLA": place})
            assert (why.code, why.field) == (Code.IMPOSSIBLE_PLACE, f"microphoneLLA[{at}]")
            assert why.detail.startswith(f"the {name} ")
            assert shown_number(why) == place[at]


def test_metres_beyond_what_is_possible_are_refused_by_their_path(chance: random.Random) -> None:
    for _ in range(TIMES):
        excess = 10 ** chance.uniform(-9, 300)
        altitude = chance.choice((9_000 + excess, -500 - excess))
        for sent, path in (
            ({"microphoneLLA": [-38.7, 143.5, altitude]}, "microphoneLLA[2]"),
            (
                {"animalEstLLA": {"latitude": 1, "longitude": 2, "altitude": altitude}},
                "animalEstLLA.altitude",
            ),
            ({"animalTrueLLA": [1, 2, altitude]}, "animalTrueLLA[2]"),
        ):
            why = rejected(PREDICTION | sent)
            assert (why.code, why.field) == (Code.IMPOSSIBLE_VALUE, path)
            assert shown_number(why) == altitude
        uncertainty = chance.choice((100_000 + excess, -excess))
        here = {"gps_data": {"lat": -38.7, "lon": 143.5}, "gps_uncertainty": uncertainty}
        why = rejected(PREDICTION | {"timestamp": "1789364712"} | here)
        assert (why.code, why.field) == (Code.IMPOSSIBLE_VALUE, "gps_uncertainty")
        assert shown_number(why) == uncertainty
        there = {"animalEstLLA": [1, 2, 3], "animalLLAUncertainty": uncertainty}
        why = rejected(PREDICTION | there)
        assert (why.code, why.field) == (Code.IMPOSSIBLE_VALUE, "animalLLAUncertainty")


def test_a_decimal_comma_is_read_where_it_can_be_nothing_else(chance: random.Random) -> None:
    for _ in range(TIMES):
        latitude = round(chance.uniform(-89, 89), chance.randrange(1, 7))
        longitude = round(chance.uniform(10, 179), chance.choice((1, 2, 3, 4, 5)))
        altitude = round(chance.uniform(1_000, 9_000), chance.choice((1, 2, 3)))
        properties = {"latitude": latitude, "longitude": longitude, "altitude": altitude}
        words = {name: f"{number!r}".replace(".", ",") for name, number in properties.items()}
        minus = chance.choice(("-", "\N{MINUS SIGN}"))
        sent = [(name, f" {word.replace('-', minus)}") for name, word in words.items()]
        assert recording(wav(), *sent).place == Place(latitude, longitude, altitude)


@pytest.mark.parametrize(
    "altitude",
    [
        *("1,234", "12,345", "-1,234", "1,234.5", "1.234,5", "1,234,567", "1.234.567", "1 234"),
        *("1_000", "", "-", ",", ".", "0x10", "nan", "inf", "1e999", "12m", "٣", "1,5e"),
    ],
)
def test_a_number_that_could_be_two_or_none_is_refused(altitude: str) -> None:
    where = (("latitude", "-38.77"), ("longitude", "143.5"))
    why = rejected(wav(), *where, ("altitude", altitude))
    assert why.field == "user property altitude"
    assert why.code == (Code.WRONG_TYPE if altitude else Code.IMPOSSIBLE_VALUE)


@pytest.mark.parametrize(
    ("altitude", "metres"),
    [("0,234", 0.234), ("112,5", 112.5), ("1234,567", 1234.567), ("+1e2", 100), ("5.", 5)],
)
def test_a_number_that_can_be_one_alone_is_read(altitude: str, metres: float) -> None:
    where = (("latitude", "-38,771"), ("longitude", "143,502"))
    found = recording(wav(), *where, ("altitude", altitude))
    assert found.place == Place(-38.771, 143.502, metres)


# ---------------------------------------------------------------------- text

NAMES = (
    *("Litoria ewingii", "Crinia signifera", "Ninox boobook", "Sus scrofa", "Litoria"),
    *("Sarcophilus harrisii", "Anas platyrhynchos domesticus", "Río café", "Łoś-élan", "Ťava"),
    *("Steller's jay", "Black-tailed godwit", "Ødegårdia ångström"),
)


def disturbed(text: str, chance: random.Random) -> str:
    """Return text that looks the same: other white space, around and within, and other forms."""

    def white_space(least: int) -> str:
        return "".join(chance.choices(WHITE_SPACES, k=chance.randrange(least, 4)))

    form = chance.choice(("NFC", "NFD"))
    within = " ".join(text.split()).replace(" ", white_space(1))
    return white_space(0) + unicodedata.normalize(form, within) + white_space(0)  # type: ignore[arg-type]


def test_a_species_is_one_however_it_is_written(chance: random.Random) -> None:
    for _ in range(TIMES):
        name = unicodedata.normalize("NFC", chance.choice(NAMES))
        cased = chance.choice((str.upper, str.lower, str.title, str.swapcase, str))(name)
        sent = PREDICTION | {"species": disturbed(cased, chance)}
        sent["top5"] = [{"label": disturbed(cased, chance), "confidence": 5}]
        sent["timestamp"] = chance.choice((STAMP, "1789364712"))
        found = agrees(DECODER, sent)
        assert isinstance(found, Detection), found
        assert (found.species, found.alternatives[0].species) == (name, name)
        as_sent = unicodedata.normalize("NFC", cased)
        assert found.species_as_sent == (None if as_sent == name else as_sent)
        moved = record(Movement, message(MOVEMENT | {"species": disturbed(cased, chance)}))
        assert moved.species == name


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("Turdus merula_Eurasian Blackbird", "Turdus merula_Eurasian Blackbird"),
        ("turdus merula_Eurasian Blackbird", "Turdus merula_Eurasian Blackbird"),
        ("LITEWI2", "LITEWI2"),
        ("eurBla1", "EurBla1"),
        ("Southern Brown Tree Frog", "Southern Brown Tree Frog"),
        ("Litoria sp. ABC", "Litoria sp. ABC"),
        ("4 Frogs", "4 Frogs"),
        ("ßa1", "ßa1"),
        ("d'Arcy's WREN", "D'arcy's wren"),
        ("x-", "X-"),
    ],
)
def test_what_may_be_more_than_a_name_keeps_its_capitals(sent: str, name: str) -> None:
    assert detection(species=sent).species == name
    assert detection(species=name).species == name


def test_names_of_devices_lose_only_what_cannot_be_seen(chance: random.Random) -> None:
    for _ in range(TIMES):
        name = chance.choice(("k03", "Otway 7", "ridge-01", "Café Creek", "RPi Edge  Node"))
        name = " ".join(name.split())
        for field in ("sensor_id", "sensorId", "nodeId", "node_id"):
            sent = {"timestamp": chance.choice((STAMP, "1789364712")), "status": "online"}
            found = agrees(DECODER, sent | {field: disturbed(name, chance)})
            assert isinstance(found, Telemetry)
            assert found.sensor_id == name
        seen = agrees(
            DECODER,
            PREDICTION
            | {
                "timestamp": "1789364712",
                "sensor_id": disturbed(name, chance),
                "source_model": disturbed("BirdNET 2.4", chance),
            },
        )
        assert isinstance(seen, Detection)
        assert (seen.sensor_id, seen.model) == (name, "BirdNET 2.4")
        moved = record(Movement, message(MOVEMENT | {"animalId": disturbed(name, chance)}))
        assert moved.animal_id == name
        heard = recording(wav(), ("sensor_id", disturbed(name, chance)))
        assert heard.sensor_id == name
        serial = name.replace(" ", chance.choice(("  ", " \xa0")))
        notes = f"GUANO|Version: 1.0\nSerial: {serial}"
        assert recording(wav(chunk(b"guan", notes.encode()))).sensor_id == name


def test_the_id_of_a_message_stays_as_it_came(chance: random.Random) -> None:
    for _ in range(TIMES):
        # White space that a text may hold: any other makes it one that cannot be printed.
        sent = chance.choice((" a", "a ", "a  b", "e\u0301", "A", "a", "É b"))
        for stamp in (STAMP, "1789364712"):
            found = agrees(DECODER, PREDICTION | {"id": sent, "timestamp": stamp})
            assert isinstance(found, Detection)
            assert found.message_id == sent
        assert recording(wav(), ("id", sent)).message_id == sent


def test_references_stay_as_they_came_and_a_mode_is_a_word() -> None:
    found = detection(audioClip="night  3/ x.wav", source_model="m")
    assert found.clip_reference == "night  3/ x.wav"
    clip = "UklGR" + "A" * 3
    assert rejected({"audioClip": clip, "audioFile": "Animal_Mode"}).field == "audioClip"


def test_what_cannot_be_printed_is_a_reason_wherever_it_stands(chance: random.Random) -> None:
    for _ in range(TIMES):
        letters = list(chance.choice(NAMES))
        letters.insert(chance.randrange(len(letters) + 1), chance.choice(NOT_PRINTABLE))
        sent = "".join(letters)
        field = chance.choice(("species", "sensor_id", "source_model"))
        why = rejected(PREDICTION | {field: sent})
        assert (why.code, why.field) == (Code.IMPOSSIBLE_VALUE, field)
        assert "cannot be printed" in why.detail


def test_text_may_be_as_long_as_it_looks() -> None:
    assert detection(species="x1" * 128 + " " * 999).species == "X1" + "x1" * 127
    assert rejected(PREDICTION | {"species": " " * 999}).detail == "the text is empty"
    assert "257 characters" in rejected(PREDICTION | {"species": f" {'x' * 257} "}).detail


# ---------------------------------------------------------------------- what is no animal


def test_labels_that_name_no_animal_are_kept_and_told(chance: random.Random) -> None:
    for _ in range(TIMES):
        label, kind = chance.choice(sorted(NOT_ANIMALS.items()))
        cased = chance.choice((str.upper, str.lower, str.title, str.capitalize))(label)
        written = chance.choice((cased, f"{cased}_{cased}", cased.replace(" ", "_"), f" {cased}"))
        found = detection(species=written)
        assert found.observation_type == kind, written
        assert found.species.casefold() == written.strip().casefold()


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("nocall", "blank"),
        ("Noise", "blank"),
        ("Human vocal_Human vocal", "human"),
        ("Human vocal_Menschliche Stimme", "human"),
        ("Homo sapiens_Human", "human"),
        ("Homo sapiens_Menneske", "human"),
        ("Engine_Motor", "vehicle"),
        ("human-vocal", "human"),
        ("No-Detection", "blank"),
        ("Engine noise", "vehicle"),
        ("Gang-gang cockatoo", "animal"),
        ("Rain-frog", "animal"),
        ("Gun_Gun", "human"),
        ("Dog_Dog", "animal"),
        ("Dog", "animal"),
        ("Canis familiaris", "animal"),
        ("Turdus merula_Eurasian Blackbird", "animal"),
        ("Rain frog", "animal"),
        ("Noisy miner", "animal"),
        ("rain_frog", "animal"),
    ],
)
def test_labels_of_classifiers_as_they_ship_them(label: str, kind: str) -> None:
    assert detection(species=label).observation_type == kind


def test_the_list_can_be_another_one() -> None:
    decoder = Decoder(BYTES_MAX, Rules(not_animals={"gate": "human"}))
    for label, kind in (("Gate", "human"), ("noise", "animal")):
        found = only(decoder.decode(message(PREDICTION | {"species": label})))
        assert isinstance(found, Detection)
        assert found.observation_type == kind


# ---------------------------------------------------------------------- keys that stand twice

OBJECTS: tuple[dict[str, Any], ...] = (
    PREDICTION,
    PREDICTION
    | {
        "timestamp": "1789364712",
        "type": "prediction",
        "id": "a:1",
        "top5": [{"label": "Ninox boobook", "confidence": 3.1}, {"label": "x", "confidence": 1}],
        "gps_data": {"lat": -38.7, "lon": 143.5},
        "gps_uncertainty": 10,
    },
    PREDICTION | {"timestamp": "1789364712", "firmware": {"version": "1:2", "a": [{"b": 1}]}},
    MOVEMENT | {"animalEstLLA": None, "note": 'a "b": c'},
    {
        "sensorId": "s",
        "microphoneLLA": {"latitude": -38.7, "longitude": 143.5, "altitude": None},
        "animalEstLLA": {"latitude": 1, "longitude": 2},
        "audio_file": "",
        "health_data": {"cpu": 3, "ram": 4},
        "status": "on: line",
        "unknown": None,
    },
)


def written(value: Any, twice: tuple[Any, ...] | None, chance: random.Random) -> str:
    """Write JSON in one of many ways; the key at the path `twice` stands in its object twice."""

    def space() -> str:
        return chance.choice(("", "", " ", "\n", "\t ", "\r\n"))

    def key_of(name: str) -> str:
        if chance.random() < 0.8:
            return json.dumps(name)
        at = chance.randrange(len(name))
        return f'"{name[:at]}\\u{ord(name[at]):04x}{name[at + 1 :]}"'

    def below(step: Any) -> tuple[Any, ...] | None:
        return twice[1:] if twice and len(twice) > 1 and twice[0] == step else None

    if isinstance(value, dict):
        pairs = [
            f"{key_of(name)}{space()}:{space()}{written(inner, below(name), chance)}"
            for name, inner in value.items()
        ]
        if twice is not None and len(twice) == 1:
            name = twice[0]
            again = chance.choice((value[name], None, value[name]))
            pair = f"{key_of(name)}{space()}:{space()}{json.dumps(again)}"
            pairs.insert(chance.randrange(len(pairs) + 1), pair)
        inside = f"{space()},{space()}".join(pairs)
        return f"{{{space()}{inside}{space()}}}"
    if isinstance(value, list):
        items = [written(inner, below(at), chance) for at, inner in enumerate(value)]
        return f"[{space()}{','.join(items)}{space()}]"
    if isinstance(value, str) and value and chance.random() < 0.2:
        return '"' + "".join(f"\\u{ord(letter):04x}" for letter in value) + '"'
    return json.dumps(value)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        inside = [((*path, name), inner) for name, inner in value.items()]
        return [at for at, _ in inside] + [
            deeper for at, inner in inside for deeper in paths_of(inner, at)
        ]
    if isinstance(value, list):
        return [deeper for at, inner in enumerate(value) for deeper in paths_of(inner, (*path, at))]
    return []


def field_at(path: tuple[Any, ...]) -> str:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return steps.removeprefix(".")


def test_a_key_that_stands_twice_at_any_level_is_refused_by_its_path(
    chance: random.Random,
) -> None:
    for _ in range(5):
        for value in OBJECTS:
            for path in paths_of(value):
                payload = written(value, path, chance).encode()
                why = agrees(DECODER, payload)
                assert isinstance(why, Rejected), payload
                if why.code == Code.WRONG_TYPE:  # null where there must be something
                    continue
                assert (why.code, why.field) == (Code.AMBIGUOUS_KEY, field_at(path)), payload
                assert why.render().startswith(f"{why.field}: this key stands twice")


def test_keys_that_each_stand_once_are_not_refused_for_it(chance: random.Random) -> None:
    for _ in range(TIMES):
        value = chance.choice(OBJECTS)
        once = agrees(DECODER, written(value, None, chance).encode())
        plain = agrees(DECODER, json.dumps(value).encode())
        assert once == plain
        assert not (isinstance(plain, Rejected) and plain.code == Code.AMBIGUOUS_KEY)


def test_a_key_beside_a_long_clip_is_seen_too() -> None:
    clip = "UklGR" + "A" * 200_000
    for before, after in (('"id":"a"', '"id":"b"'), ('"x":null', '"x":null')):
        for text in (clip, clip + r"\n", clip + ":"):
            why = agrees(DECODER, f'{{{before},"audio_file":"{text}",{after}}}'.encode())
            assert isinstance(why, Rejected)
            assert (why.code, why.field) == (Code.AMBIGUOUS_KEY, before[1:].split('"')[0])
            alone = agrees(DECODER, f'{{{before},"audio_file":"{text}","y":null}}'.encode())
            assert isinstance(alone, Rejected)
            assert alone.code == Code.BROKEN_BASE64


def test_an_escaped_quote_before_a_long_list_is_no_end_of_text() -> None:
    middle = ",".join("1" * 2_000)
    payload = f'{{"sensorId":"s","status":"a","q":"\\"","l":["x",{middle},"y"],"z":null}}'
    assert isinstance(agrees(DECODER, payload.encode()), Telemetry)
    twice = agrees(DECODER, payload.replace('"z"', '"q":1,"z"').encode())
    assert isinstance(twice, Rejected)
    assert (twice.code, twice.field) == (Code.AMBIGUOUS_KEY, "q")


def test_an_escaped_colon_hides_no_key() -> None:
    stamp = STAMP.replace(":", "\\u003a", 1)
    twice = f'{{"timestamp":"{stamp}","sensorId":"s","status":"a","status":"b"}}'
    assert rejected(twice.encode()).code == Code.AMBIGUOUS_KEY
    assert record(Telemetry, message(twice.replace('"status":"a",', "").encode()))


@pytest.mark.parametrize("number", ["1e309", "9" * 5_000, "-1e999"])
def test_a_number_that_nothing_can_hold_hides_no_key(number: str) -> None:
    once = f'{{"sensorId":"s","status":"a","x":{number}}}'
    assert isinstance(agrees(DECODER, once.encode()), Telemetry)
    twice = agrees(DECODER, once.replace("}", ',"x":null}').encode())
    assert isinstance(twice, Rejected)
    assert (twice.code, twice.field) == (Code.AMBIGUOUS_KEY, "x")


@pytest.mark.parametrize("key", ["\n", "a b", "x" * 100, "é", '"', "`int`", "", "a:b"])
def test_an_odd_key_that_stands_twice_is_quoted(key: str) -> None:
    name = json.dumps(key)
    why = agrees(DECODER, f'{{"sensorId":"s","status":"a",{name}:1,{name}:2}}'.encode())
    assert isinstance(why, Rejected)
    assert (why.code, why.field) == (Code.AMBIGUOUS_KEY, None)
    assert why.render().isprintable() and len(why.render()) <= 200


# ---------------------------------------------------------------------- encodings


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_wide_text_is_told_by_its_name(encoding: str, mark: str, chance: random.Random) -> None:
    name = "UTF-16" if "16" in encoding else "UTF-32"
    shapes = [json.dumps(each, indent=chance.choice((None, 1, 4))) for each in OBJECTS]
    shapes += ["{", "{}", "[1, 2]", '[{"a": 1}]', '"online"', '\r\n {\r\n  "a": 1}', '{"é": 1}']
    for text in shapes:
        payload = (mark + text).encode(encoding)
        for cut in (len(payload), len(payload) - 1) if len(payload) > 8 else (len(payload),):
            why = agrees(DECODER, payload[:cut])
            assert isinstance(why, Rejected)
            assert why.code == Code.NOT_UTF8, payload
            assert why.detail == f"the text is {name}; send UTF-8"


@pytest.mark.parametrize(
    "payload",
    [
        b"\0\1\2\3\4",
        bytes(40),
        b"\0\x22\x13\x37" * 9,
        b'{"a\0b": 1}',
        b"\x20\0\x21\0\x22\0\x21\0\x20\0",
        b"{\0\1\2\3",
    ],
)
def test_other_bytes_are_not_taken_for_wide_text(payload: bytes) -> None:
    assert rejected(payload).code != Code.NOT_UTF8


# ---------------------------------------------------------------------- health


def health(decoder: Decoder = DECODER, node: str | None = None, **fields: Any) -> Health:
    found = agrees(decoder, {"sensorId": "s", "status": "online"} | fields, node)
    assert isinstance(found, Telemetry), found
    return found.health


def test_percentages_of_health_are_within_their_bounds(chance: random.Random) -> None:
    for _ in range(TIMES):
        value = chance.choice((0, 100, round(chance.uniform(0, 100), 1)))
        off = chance.choice((0, chance.uniform(-0.5, 0.5)))
        sent = value + off
        expected = min(max(sent, 0), 100)
        found = health(batteryPct=sent, ram=sent, disk=sent, cpu=value * 128)
        assert found.battery_percent == found.memory_percent == found.disk_percent == expected
        assert found.cpu_percent == value * 128
        assert found.external_power is None


def test_a_battery_says_external_power_or_that_it_is_not_known() -> None:
    for value in (101, 101.0):
        found = health(batteryPct=value)
        assert (found.battery_percent, found.external_power) == (None, True)
    for unknown in (255, 255.0, None):
        found = health(batteryPct=unknown)
        assert (found.battery_percent, found.external_power) == (None, None)
    alone = record(Telemetry, message({"sensorId": "s", "batteryPct": 255}))
    assert alone.health == Health()
    powered = record(Telemetry, message({"sensorId": "s", "batteryPct": 101}))
    assert powered.health == Health(external_power=True)


def test_percentages_out_of_bounds_are_refused_as_shown(chance: random.Random) -> None:
    for _ in range(TIMES):
        excess = 0.5 + 10 ** chance.uniform(-9, 5)
        field, most = chance.choice(
            (("batteryPct", 100), ("ram", 100), ("disk", 100), ("cpu", 12_800))
        )
        sent = chance.choice((most + excess, -excess))
        if sent in (101, 255):
            continue
        nested = field != "batteryPct" and chance.random() < 0.5
        inside: dict[str, Any] = {"health_data": {field: sent}} if nested else {field: sent}
        why = agrees(DECODER, {"sensorId": "s"} | inside)
        assert isinstance(why, Rejected)
        path = f"health_data.{field}" if nested else field
        assert (why.code, why.field) == (Code.IMPOSSIBLE_VALUE, path)
        assert shown_number(why) == sent
        assert ("less than 0" if sent < 0 else f"more than {most:,} %") in why.detail


def test_an_uptime_is_a_duration_or_the_time_of_the_start(chance: random.Random) -> None:
    first = datetime(2015, 1, 1, tzinfo=UTC).timestamp()
    for _ in range(TIMES):
        seconds = chance.choice((0, 315_576_000, round(chance.uniform(0, 315_576_000), 2)))
        assert health(uptime=seconds) == Health(status="online", uptime_seconds=seconds)
        started = chance.choice((first, RECEIVED, RECEIVED + 600, chance.uniform(first, RECEIVED)))
        started = int(started)
        expected = datetime.fromtimestamp(started, UTC)
        for sent in (started, started * 1000):
            found = health(uptime=sent)
            assert (found.uptime_seconds, found.booted_at) == (None, expected)
        nested = health(health_data={"uptime": started})
        assert nested.booted_at == expected


def test_an_uptime_that_is_neither_is_refused_with_what_it_may_be(chance: random.Random) -> None:
    for _ in range(TIMES):
        days = chance.uniform(3.7, 16.4)
        sent = int(days * 86_400_000)  # as milliseconds since the start
        why = rejected({"sensorId": "s", "uptime": sent})
        assert (why.code, why.field) == (Code.IMPOSSIBLE_VALUE, "uptime")
        assert why.detail.startswith(f"{sent} is neither")
        assert "milliseconds" in why.detail
        ahead = int(RECEIVED) + 601 + int(10 ** chance.uniform(0, 8))
        why = rejected({"sensorId": "s", "uptime": ahead})
        assert (why.field, shown_number(why)) == ("uptime", ahead)
        assert "the clock of the node is ahead" in why.detail
        wild = chance.choice((-1, 1)) * 10 ** chance.uniform(13, 300)
        assert rejected({"sensorId": "s", "uptime": wild}).field == "uptime"


def test_a_start_is_read_by_the_clock_of_the_node() -> None:
    hours = Decoder(BYTES_MAX, Rules(nodes={NODE: NodeRules(clock_ahead_seconds=39_600)}))
    started = int(RECEIVED) - 60
    found = health(hours, NODE, uptime=started + 39_600)
    assert found.booted_at == datetime.fromtimestamp(started, UTC)
    other = only(hours.decode(message({"sensorId": "s", "uptime": started + 39_600}, node="x")))
    assert isinstance(other, Rejected)


def test_a_recording_may_say_that_its_battery_is_not_known() -> None:
    clip = base64.b64encode(wav()).decode()
    found = record(Recording, message({"audio_file": clip, "batteryPct": 255}))
    assert found.health is None


def test_an_empty_message_is_a_dead_letter_that_says_what_else_it_may_be() -> None:
    why = rejected(b"")
    assert why.code == Code.EMPTY_MESSAGE
    assert "retained" in Code.EMPTY_MESSAGE.summary
    assert "nothing needs to be done" in Code.EMPTY_MESSAGE.advice


@pytest.mark.parametrize("unknown", [None, [0, 0, 0], [None, None, None], [-1, -1], [0, 0, 112]])
def test_an_unknown_place_does_not_hide_the_one_beside_it(unknown: list[float] | None) -> None:
    gps = {"lat": -38.7712, "lon": 143.5021}
    sent = PREDICTION | {"microphoneLLA": unknown, "gps_data": gps}
    found = agrees(DECODER, sent)
    assert isinstance(found, Detection), found
    assert found.place is not None
    assert (found.place.latitude, found.place.longitude) == (-38.7712, 143.5021)
