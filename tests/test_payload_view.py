"""A payload is shown in a readable form, and the place that the reason is about is marked."""

import base64
import json

import pytest

from echo_ingest.decode import Decoder
from echo_ingest.payload_view import LINES_MAX, Subject, lines_of, readable
from echo_ingest.record import Message, Rejected

CLIP = base64.b64encode(bytes(range(256)) * 100).decode()
PREDICTION = {
    "timestamp": "1795451157",
    "sensor_id": "rpi",
    "species": "Litoria ewingii",
    "confidence": 63.64,
}


def marked(payload: bytes, subject: Subject) -> list[str]:
    return [line.text.strip() for line in lines_of(payload, subject) if line.is_marked]


def rejected(fields: object) -> list[str]:
    """Return what is marked of a message for the reason that decoding it gives."""
    payload = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    decoded = Decoder(1_000_000).decode(Message("t", payload, 0, None))
    assert isinstance(decoded, Rejected)
    return marked(payload, decoded)


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
        *('  "d": 12345678901234567890123,', '  "e": NaN,', '  "f": "\\u202ex"', "}"),
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
        ({"gps_data": {"lat": 91, "lon": 0}}, '"lat": 91,'),
        ({"gps_data": {"lat": 9}}, '"gps_data": {'),
        ({"microphoneLLA": [1, 181]}, "181"),
        ({"microphoneLLA": {"latitude": 1, "longitude": 181}}, '"longitude": 181'),
        ({"microphoneLLA": [1, "x"]}, '"x"'),
        ({"timestamp": "noon"}, '"timestamp": "noon",'),
        (
            {"audioClip": "A" * 1_028},
            f'"audioClip": "{"A" * 52}… (1,028 characters of base64: 771 B)"',
        ),
        ({"audioClip": "UklGRnot base64"}, '"audioClip": "UklGRnot base64"'),
    ],
)
def test_the_field_that_a_reason_names_is_marked(change: dict[str, object], line: str) -> None:
    assert rejected(PREDICTION | change) == [line]


def test_a_place_that_a_reason_names_is_marked_however_far_it_is() -> None:
    broken = b'{"note": "' + b"x" * 5_000 + b'", "a": 1}}  and more'
    (piece,) = rejected(broken)
    assert "}}" in piece and len(piece) <= 40
    (end,) = rejected(b'{"species": "Litoria ew')
    assert end.endswith("Litoria ew")
    assert rejected(b'{"confidence": -Infinity}') == ['"confidence": -Infinity']


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {
                "confidence": 50,
                "top5": [
                    {"label": "x", "confidence": 50},
                    {"label": "y", "confidence": 150},
                    {"label": "z", "confidence": 150},
                ],
            },
            '"confidence": 150',
        ),
        ({"gps_data": {"lat": 1, "lon": 500}, "lon": 500}, '"lon": 500'),
        ({"cpu": -1, "health_data": {"cpu": -1}, "species": None, "sensorId": "s"}, '"cpu": -1'),
    ],
)
def test_fields_of_the_same_name_and_value_are_not_mixed_up(
    change: dict[str, object], line: str
) -> None:
    fields = PREDICTION | change
    payload = json.dumps(fields).encode()
    decoded = Decoder(1_000_000).decode(Message("t", payload, 0, None))
    assert isinstance(decoded, Rejected)
    lines = lines_of(payload, decoded)
    (number,) = [number for number, each in enumerate(lines) if each.is_marked]
    assert lines[number].text.strip() == line
    # The first of them that is inside another value, two steps in.
    same = [number for number, each in enumerate(lines) if each.text.strip() == line]
    deep = [number for number in same if lines[number].text.startswith("    ")]
    assert number == deep[0]


def test_where_a_field_is_missing_the_object_that_lacks_it_is_marked() -> None:
    lines = rejected({"top5": [{"label": "x", "confidence": 1}, {"label": "x"}]})
    assert lines == ["{"]


def test_broken_json_is_marked_where_another_parser_reads_it() -> None:
    payload = b'{"note": "' + b"x" * 600 + b'\xff", "b": 1}'
    (piece,) = rejected(payload)
    assert "\ufffd" in piece and len(piece) <= 40


def test_a_field_that_a_sink_names_is_marked_under_the_devices_own_name() -> None:
    payload = json.dumps(PREDICTION).encode()
    assert marked(payload, "sensorId") == ['"sensor_id": "rpi",']
    assert marked(payload, None) == []
    assert marked(payload, "recordedAt") == []
    both = json.dumps({"sensorId": "a", "sensor_id": "b", "gps_data": {"lat": 1}}).encode()
    assert marked(both, "sensor_id") == ['"sensor_id": "b",']
    assert marked(both, "lat") == ['"lat": 1']
    several = json.dumps({"top5": [{"confidence": 1}, {"confidence": 2}]}).encode()
    assert marked(several, "confidence") == []
    assert marked(several, "top5[1].confidence") == ['"confidence": 2']


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
