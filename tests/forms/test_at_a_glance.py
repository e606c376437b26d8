"""What a form tells at a glance is what it decodes to: in the middle, at the edges, and beyond."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_ingest.decode import Decoder
from echo_ingest.decode.forms import SHIPPED, Forms, at_a_glance, sources
from echo_ingest.decode.forms.at_a_glance import (
    SHAPES_REMEMBERED,
    TOPICS_REMEMBERED,
    TRIES_MAX,
)
from echo_ingest.record import Identity, Ignored, Message, Rejected
from tests.fuzz.shipped_examples import EXAMPLES, FORMS

RECEIVED_AT_MS = 1_795_451_157_000
TEXTS = ["x", "", " ", " x", "x ", "a  b", "a\nb", "\x7f", "é", "e\u0301", "x" * 256, "x" * 257]
ODD: list[Any] = [None, 5, True, 1.5, [], {}, "12", "0", "\\", '"']
TIMES = [
    *("2026-10-05T07:30:09Z", "2026-10-05T07:30:09.501234567+11:00", "2026-10-05T07:30:09+09:30"),
    *("2026-10-05T07:30:09+11:75", "2026-10-05T07:30:09+11:45", "2026-10-05T07:30:09 +11:00"),
    *("2026-10-05T07:30:09", "2026-10-05 07:30:09+11:00", "2026-10-05T07:30", "2026-10-05"),
    *("2026-10-05T07:30:60Z", "2026-10-05T24:00:00Z", "2026-10-05T07:30:09z", " 2026-10-05T07:30Z"),
    *("1970-01-01T00:00:00Z", "1970-12-31T23:00:00-08:00", "1971-01-01T00:00:00+11:00", "0"),
    *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+11:00", "9999-12-31T23:59:59-11:00", "١"),
    *("2036-02-07T06:28:16Z", "2106-02-07T06:28:15Z", "2106-02-07T06:28:16Z", "1795451157"),
    *("2026-10-05T07:30:08.999Z", "2026-10-05T08:30:09.6+11:00", "2026-10-13T07:30:09+11:00"),
]
NUMBERS = [0.0, 1.0, 0.5, -0.0, 1.0000001, -0.1, 90.0, 90.1, -180.0, -180.1, 1e400, "0.5", "0,5", 1]
EDGES: dict[str, list[Any]] = {
    **dict.fromkeys(
        ("ScientificName", "CommonName", "ClipName", "SourceNode", "sourceId"), TEXTS + ODD
    ),
    **dict.fromkeys(("BeginTime", "EndTime"), TIMES + ODD),
    **dict.fromkeys(("Confidence", "Latitude", "Longitude"), NUMBERS + ODD),
    "detectionId": [1, 0, -1, 10**30, "7", *ODD, *TEXTS],
    "Model": [
        *({"Name": "BirdNET"}, {"Name": "a", "Version": 2}, {"Name": "a", "Version": 2.5}, "x"),
        *({"Name": " a", "Version": "b"}, {"Name": "a" * 200, "Version": "b" * 100}, None, [], 5),
    ],
    "Results": [None, [{"a": 1}, {"a": 1}], {"a:b": ":"}, "a:b", "\\u003a"],
}
(EXAMPLE,) = [each for each in EXAMPLES if each.form == "birdnet-go-detection"]
DETECTION: dict[str, Any] = dict(EXAMPLE.document) if isinstance(EXAMPLE.document, dict) else {}


def same(payload: bytes, forms: Forms = FORMS) -> Identity | None:
    """Return what a glance says of a payload; check that full decoding agrees."""
    message = Message("birdnet", payload, RECEIVED_AT_MS, "station-7")
    decoder = Decoder(10_000_000, forms=forms)
    slowly = decoder.identified(message, hashed=False)
    identity = slowly if isinstance(slowly, Rejected | Ignored) else slowly.identity
    assert decoder.identify(message) == identity  # a new shape is learned here
    assert decoder.identify(message) == identity
    return forms.identify_at_a_glance(message)


def written(fields: object) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode(errors="surrogatepass")


def test_an_ordinary_detection_is_told_at_a_glance() -> None:
    for fields in (
        DETECTION,
        {**DETECTION, "detectionId": None},
        {
            **DETECTION,
            "EndTime": "0001-01-01T00:00:00Z",
            "CommonName": "",
            "more": {"a": [], "b": 1},
        },
        {key: value for key, value in DETECTION.items() if key not in ("Latitude", "Longitude")},
    ):
        assert same(written(fields)) is not None


def test_a_key_that_stands_twice_is_seen() -> None:
    plain = written(DETECTION)
    assert same(plain) is not None
    for key in (b'"Latitude"', b'"Time"', b'"URL"'):
        start = plain.index(key)
        pair = plain[start : plain.index(b",", start)]
        assert same(plain[:start] + pair + b", " + plain[start:]) is None
        assert same(plain[:start] + pair.replace(b":", b" :") + b"," + plain[start:]) is None


@pytest.mark.parametrize("key", ["\x1b[31m", '"', "\\", "é", "\x7f", "", "value_0", "a" * 5_000])
def test_whatever_a_key_is_called_nothing_breaks(key: str) -> None:
    for fields in ({**DETECTION, key: 1}, {**DETECTION, "more": {key: "x"}}):
        same(written(fields))
        same(json.dumps(fields).encode())


@pytest.mark.parametrize("field", EDGES)
def test_at_each_edge_of_a_field_a_glance_says_the_same_or_nothing(field: str) -> None:
    told = Counter(same(written({**DETECTION, field: each})) is not None for each in EDGES[field])
    assert told[False] > 0
    same(written({name: value for name, value in DETECTION.items() if name != field}))


@settings(max_examples=1_000, deadline=None)
@given(st.fixed_dictionaries({}, optional={f: st.sampled_from(EDGES[f]) for f in EDGES}))
def test_whatever_a_station_writes_a_glance_says_the_same_or_nothing(
    fields: dict[str, Any],
) -> None:
    same(written(DETECTION | fields))


@pytest.mark.parametrize(
    "field",
    [
        '{ from = "ScientificName", pattern = "^M" }',
        '{ from = "ScientificName", words = { "Menura novaehollandiae" = "Ninox" } }',
        '{ from = "ScientificName", split = " " }',
        '{ from = "ScientificName", default = "Ninox" }',
        '{ from = "ScientificName", format = "%s x" }',
        '{ from = ["CommonName", "ScientificName"] }',
        '{ from = "ScientificName", unknown = "Menura novaehollandiae" }',
        '"BirdImage.ScientificName"',
        "'not_null(CommonName)'",
    ],
)
def test_a_field_that_is_more_than_a_key_takes_a_closer_look(field: str) -> None:
    match = '[match]\nhas = ["ScientificName"]'
    source = f'name = "x"\n{match}\n[[record]]\nkind = "detection"\nspecies = {field}\n'
    forms = Forms.of_sources([("x.toml", source.encode())])
    assert not forms.errors
    assert same(written(DETECTION), forms) is None


SPECIES_FORM = '[[record]]\nkind = "detection"\nspecies = "ScientificName"\n'


def told(forms: Forms, fields: dict[str, Any]) -> str | None:
    """Return the form in which a message is identified, at a glance or not."""
    message = Message("birdnet", written(fields), RECEIVED_AT_MS, "station-7")
    identity = Decoder(10_000_000, forms=forms).identify(message)
    assert isinstance(identity, Identity)
    return None if identity.form is None else identity.form.name


def of_site(name: str, match: str) -> tuple[str, bytes]:
    return f"{name}.toml", f'name = "{name}"\n[match]\n{match}\n{SPECIES_FORM}'.encode()


def test_what_was_learned_is_forgotten_when_the_forms_change() -> None:
    forms = Forms.of_sources((), sources(SHIPPED))
    assert [told(forms, DETECTION) for _ in range(2)] == ["birdnet-go-detection"] * 2
    forms.become(Forms.of_sources([of_site("mine", 'has = ["CommonName"]')], sources(SHIPPED)))
    assert [told(forms, DETECTION) for _ in range(2)] == ["mine"] * 2


def test_nothing_is_learned_where_a_value_tells_the_form() -> None:
    own = [of_site("nocturnal", 'has = ["CommonName"]\nwhere = "CommonName == \'Boobook\'"')]
    forms = Forms.of_sources(own, sources(SHIPPED))
    for _ in range(2):
        assert told(forms, DETECTION) == "birdnet-go-detection"
        assert told(forms, {**DETECTION, "CommonName": "Boobook"}) == "nocturnal"


def test_nothing_is_learned_where_the_fast_path_may_know_some_of_the_messages() -> None:
    forms = Forms.of_sources((), [of_site("mine", 'has = ["ScientificName"]')])
    fields = {"sensor_id": "a", "species": "b", "timestamp": 1_795_451_157, **DETECTION}
    for confidence, form in ((150.0, "mine"), (50.0, None), (150.0, "mine"), (50.0, None)):
        assert told(forms, {**fields, "confidence": confidence}) == form


def plain(forms: Forms, fields: dict[str, Any], topic: str = "birdnet") -> bool:
    """Identify a message, and return whether the next one like it is told at a glance."""
    message = Message(topic, written(fields), RECEIVED_AT_MS, "station-7")
    Decoder(10_000_000, forms=forms).identify(message)
    return forms.identify_at_a_glance(message) is not None


def test_topics_without_end_are_forgotten_and_the_next_is_learned() -> None:
    forms = Forms.of_sources((), sources(SHIPPED))
    assert plain(forms, DETECTION)
    for number in range(TOPICS_REMEMBERED):
        assert plain(forms, DETECTION, f"birdnet/{number}")
    assert len(forms.shapes.by_topic) < 10
    assert plain(forms, DETECTION)


def test_shapes_without_end_are_forgotten() -> None:
    forms = Forms.of_sources((), sources(SHIPPED))
    for number in range(2 * SHAPES_REMEMBERED):
        assert plain(forms, {**DETECTION, f"more {number}": 1}, f"birdnet/{number}")
        assert len(forms.shapes._made) <= SHAPES_REMEMBERED


def test_what_is_never_plain_is_learned_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = Forms.of_sources((), sources(SHIPPED))
    made = Counter[str]()
    real = at_a_glance.outline_of

    def counting(*given: Any) -> at_a_glance.Outline:
        made["outlines"] += 1
        return real(*given)

    monkeypatch.setattr(at_a_glance, "outline_of", counting)
    for _ in range(100):
        assert not plain(forms, {**DETECTION, "Confidence": 1})
    assert len(forms.shapes._made) == 1 and not forms.shapes.by_topic
    assert made["outlines"] <= 3 * TRIES_MAX  # an object within has an outline too


def test_topics_of_one_kind_of_device_share_a_shape_and_long_ones_have_none() -> None:
    forms = Forms.of_sources((), sources(SHIPPED))
    assert all(plain(forms, DETECTION, f"birdnet/{number}") for number in range(50))
    assert len(forms.shapes._made) == 1
    assert not plain(forms, DETECTION, "b/" + "x" * 2_000)
