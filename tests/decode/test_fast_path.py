"""What is told at a glance is what decoding says: in the middle, at each edge, and beyond it."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_ingest.decode import fast_path
from echo_ingest.record import Identity, Ignored, Rejected
from tests.decode.messages import DECODER, message

PREDICTION: dict[str, Any] = {
    "type": "prediction",
    "timestamp": "1795451157",
    "sensor_id": "rpi_edge_node_1",
    "species": "Litoria ewingii",
    "confidence": 63.64,
    "top5": [{"label": "Litoria ewingii", "confidence": 63.64}],
    "gps_data": {"lat": -37.8136, "lon": 144.9631},
    "gps_uncertainty": 10.0,
}


def deep(parts: int) -> list[Any]:
    """Return `parts` lists, each but the last with the next one in it."""
    nested: list[Any] = []
    for _ in range(parts - 1):
        nested = [nested]
    return nested


EDGES: dict[str, list[Any]] = {
    "type": ["prediction", None, "other", 3],
    "timestamp": [
        *("1795451157", 1795451157, 1795451157.5, "31536000", "31535999", 31_536_000, 31_535_999),
        *("4294967295", "4294967296", 2**32, "1795451157000", 1795451157000, "0", -1, "", "٣"),
        *("20261127", 20261127, "202611270545", 1795451157123456, 99_991_231, "0031536000"),
        *("946684805", "2085978496", "1479470400", "+1795451157", "1795451157.0", "1795451157Z"),
        *(" 1795451157", "1_795_451_157", "2026-09-14T05:45:12Z", None, True, "9" * 400),
    ],
    "sensor_id": ["node 3", "", " ", "  x", "\t", "\x7f", "\N{SNOWMAN}", "x" * 257, 7, None],
    "species": ["Ninox", "", " ", " Ninox", "Ninox ", "a\nb", "x" * 256, "x" * 257, 5, None],
    "confidence": [0, 100, -0.0, 100.0000001, -0.1, 1e400, "63", None],
    "id": ["a", "", " ", 5, None, "\\", '"'],
    "top5": [
        *([], [{"label": "x", "confidence": 5}] * 9, [{"label": "x"}], [{"confidence": 5}]),
        *([{"label": " ", "confidence": 5}], [{"label": "x", "confidence": 101}], "x"),
        [{"label": "x", "confidence": 5, "more": 1}],
    ],
    "gps_data": [
        *({"lat": 0, "lon": 0}, {"lat": 90, "lon": 180}, {"lat": 90.1, "lon": 0}, {"lat": 1}),
        *({"lat": 0, "lon": -180.1}, {"lat": 1, "lon": 1, "alt": 3}, {}, None, 5),
    ],
    "gps_uncertainty": [0, -0.1, None, "10"],
    "audioClip": ["", None, "clip.wav"],
    "firmware": ["1.2", " ", "\x7f", {"a": [1, None]}, *(deep(50), deep(300))],
    "animalId": ["7", 7, None],
    "source_model": ["m", "", None],
    "sensorId": ["n", None, []],
    "mode": ["Animal_Mode", None, 1],
}


def same(fields: object) -> Identity | None:
    """Return what the fast path says of a payload; check that full decoding agrees."""
    arrived = message(json.dumps(fields, ensure_ascii=False).encode(errors="surrogatepass"))
    slowly = DECODER.identified(arrived, hashed=False)
    assert not isinstance(slowly, Ignored)
    assert DECODER.identify(arrived) == (
        slowly if isinstance(slowly, Rejected) else slowly.identity
    )
    return fast_path.identify(arrived.payload)


def test_an_ordinary_prediction_is_told_at_a_glance() -> None:
    expected = Identity("detection", 1_795_451_157, None, "rpi_edge_node_1")
    assert same(PREDICTION) == expected
    assert same({**PREDICTION, "id": "m1"}) == Identity(
        "detection", 1_795_451_157, "m1", "rpi_edge_node_1"
    )
    assert same({**PREDICTION, "firmware": {"version": [1, 2]}, "sensorId": None}) == expected
    assert same({**PREDICTION, "firmware": "x" * 500}) == expected


@pytest.mark.parametrize("field", EDGES)
def test_at_each_edge_a_glance_says_the_same_or_nothing(field: str) -> None:
    recognised = Counter(same({**PREDICTION, field: value}) is not None for value in EDGES[field])
    assert recognised[False] > 0
    without = {name: value for name, value in PREDICTION.items() if name != field}
    same(without)


@settings(max_examples=2_000, deadline=None)
@given(
    st.fixed_dictionaries({}, optional={f: st.sampled_from(EDGES[f]) for f in EDGES}),
    st.dictionaries(
        st.sampled_from(sorted(EDGES)), st.text() | st.floats(allow_nan=False) | st.integers()
    ),
)
def test_whatever_the_values_a_glance_says_the_same_or_nothing(
    fields: dict[str, Any], more: dict[str, Any]
) -> None:
    same(PREDICTION | fields | more)


def test_what_a_glance_takes_is_within_the_smallest_limit() -> None:
    long = {**PREDICTION, "species": "x" * 250, "id": "y" * 250, "sensor_id": "z" * 250}
    assert len(json.dumps(long)) > fast_path.PAYLOAD_BYTES_MAX - 200
    assert same({**long, "top5": [{"label": "w" * 250, "confidence": 1}]}) is None
