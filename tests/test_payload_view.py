"""A payload is shown so that a person can read it, and what the reason speaks of is marked."""

import base64
import json

import pytest

from echo_ingest.decode import decode
from echo_ingest.payload_view import LINES_MAX, lines_of, readable
from echo_ingest.record import Message, Rejected

CLIP = base64.b64encode(bytes(range(256)) * 100).decode()
PREDICTION = {
    "timestamp": "1795451157",
    "sensor_id": "rpi",
    "species": "Litoria ewingii",
    "confidence": 63.64,
}


def marked(payload: bytes, reason: str) -> list[str]:
    return [line.text.strip() for line in lines_of(payload, reason) if line.is_marked]


def refused(fields: object) -> list[str]:
    """What is marked of a message for the reason that decoding it gives."""
    payload = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    verdict = decode(Message("t", payload, 0, None), 1_000_000)
    assert isinstance(verdict, Rejected)
    return marked(payload, verdict.reason)


def test_json_is_indented_and_numbers_stand_as_they_came() -> None:
    payload = b'{"a":[1.50,{"b":null,"c":[]}],"d":12345678901234567890123,"e":NaN,"f":"\\u202ex"}'
    assert readable(payload).splitlines() == [
        *(
            "{",
            '  "a": [',
            "    1.50,",
            "    {",
            '      "b": null,',
            '      "c": []',
            "    }",
            "  ],",
        ),
        *('  "d": 12345678901234567890123,', '  "e": NaN,', '  "f": "\\x202ex"', "}"),
    ]


def test_a_long_base64_is_folded_with_its_size() -> None:
    shown = readable(json.dumps({"audioClip": CLIP, "note": "so " * 200}).encode())
    assert f"… ({len(CLIP):,} characters of base64: 25.6 kB)" in shown
    assert "… (600 characters)" in shown
    assert max(map(len, shown.splitlines())) < 150


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"confidence": 100.01}, '"confidence": 100.01'),
        ({"confidence": "63"}, '"confidence": "63"'),
        ({"top5": [{"label": "x", "confidence": 500}]}, '"confidence": 500'),
        ({"top5": [{"label": "x"}]}, "{"),
        ({"gps_data": {"lat": 91, "lon": 0}}, '"gps_data": {'),
        ({"microphoneLLA": [1, None]}, "null"),
        ({"timestamp": "noon"}, '"timestamp": "noon",'),
        (
            {"audioClip": "A" * 1_028},
            f'"audioClip": "{"A" * 52}… (1,028 characters of base64: 771 B)"',
        ),
        ({"audioClip": "UklGRnot base64"}, '"audioClip": "UklGRnot base64"'),
    ],
)
def test_the_field_that_a_reason_names_is_marked(change: dict[str, object], line: str) -> None:
    assert refused(PREDICTION | change) == [line]


def test_a_place_that_a_reason_names_is_marked_however_far_it_is() -> None:
    broken = b'{"note": "' + b"x" * 5_000 + b'", "a": 1}}  and more'
    (piece,) = refused(broken)
    assert "}}" in piece and len(piece) <= 40
    (end,) = refused(b'{"species": "Litoria ew')
    assert end.endswith("Litoria ew")
    assert refused(b'{"confidence": -Infinity}') == ['"confidence": -Infinity']


def test_what_a_sink_says_of_a_field_marks_it_under_the_devices_own_name() -> None:
    payload = json.dumps(PREDICTION).encode()
    said = "the Echo API answered 422: sensorId: Field required; confidence: too large"
    assert marked(payload, said) == ['"sensor_id": "rpi",']
    assert marked(payload, "the Echo API answered 422") == []


def test_what_is_no_text_is_shown_as_bytes_and_nothing_without_end() -> None:
    assert readable(b"RIFF\0\xff").startswith("00000000  52 49 46 46 00 ff ")
    assert readable(b"") == "(empty)"
    for payload in (
        json.dumps(list(range(150_000))).encode(),
        b"[" * 100_000,
        b"\n" * 100_000,
        b"[" + b"1," * 1_000_000 + b"1]",
        bytes(1_000_000),
        b'{"a":' + b"9" * 100_000 + b"}",
        b'{"\xff":' + b"x" * 100_000,
    ):
        shown = readable(payload)
        assert shown.count("\n") <= LINES_MAX + 1
        assert len(shown) < 30_000
