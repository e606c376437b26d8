"""What a form tells at a glance is what it decodes to: in the middle, at the edges, and beyond."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_ingest.decode import Decoder
from echo_ingest.decode.forms import Forms
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
    assert decoder.identify(message) == identity
    fit = forms.fit(message)
    return None if fit is None else forms.identify_at_a_glance(fit, message)


def written(fields: object) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode(errors="surrogatepass")


def test_an_ordinary_detection_is_told_at_a_glance() -> None:
    for fields in (
        DETECTION,
        {**DETECTION, "detectionId": None},
        {**DETECTION, "EndTime": "0001-01-01T00:00:00Z", "CommonName": "", "more": {"a": [1]}},
        {key: value for key, value in DETECTION.items() if key not in ("Latitude", "Longitude")},
    ):
        assert same(written(fields)) is not None


def test_a_key_that_stands_twice_is_seen() -> None:
    plain = written(DETECTION)
    for key in (b'"Latitude"', b'"Time"', b'"URL"'):
        start = plain.index(key)
        pair = plain[start : plain.index(b",", start)]
        assert same(plain[:start] + pair + b", " + plain[start:]) is None
        assert same(plain[:start] + pair.replace(b":", b" :") + b"," + plain[start:]) is None


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
