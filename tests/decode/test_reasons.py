"""Bad messages get a reason that their sender can act on."""

import base64

import pytest

from echo_ingest.decode import decode
from echo_ingest.record import Detection, Place, Recording, Rejected, Telemetry
from tests.decode.arrived import BYTES_MAX, message, reason, record, wav

PREDICTION: dict[str, object] = {
    "type": "prediction",
    "timestamp": "1795451157",
    "sensor_id": "rpi",
    "species": "Litoria ewingii",
    "confidence": 63.64,
}
DETECTION = PREDICTION | {"source_model": "m", "microphoneLLA": [-38.7, 143.5, 1.0]}
CLIP = base64.b64encode(wav()).decode()


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", "the message is empty"),
        (b" \n", "the message is empty"),
        (b"online", 'text "online"'),
        (b"5", 'text "5"'),
        (b"2026-09-14;15:45:12;Dacelo", 'text "2026-09-14;15:45:12;Dacelo"'),
        (b"[]", "one JSON object per message; this is a list"),
        (b'"x"', "one JSON object per message; this is text"),
        (b"{}", "none of the forms in docs/forms.md"),
        (b'{"message":"alive"}', 'a JSON object with "message"'),
        (b'{"species":"x"', "cut off: it stops in the middle, after 14 bytes"),
        (b'{"a":1}}', "broken JSON at byte 8"),
        (b"{'a':1}", "broken JSON at byte 1"),
        (b'{"confidence":NaN}', "send null"),
        (b'{"confidence":-Infinity}', "send null"),
        (b'{"confidence":1e999}', "confidence: the number is too large"),
        (b'{"confidence":"63"}', "confidence: a number was expected, found text"),
        (b'{"species":5}', "species: text was expected, found a whole number"),
        (b'{"timestamp":true}', "timestamp: a number or text was expected, found true or false"),
        (b'{"microphoneLLA":[1,null]}', "microphoneLLA[1]: a number was expected, found null"),
        (b'{"top5":[{"label":"x"}]}', 'top5[0]: "confidence" is missing'),
        (b'{"species":"\xff"}', "not UTF-8"),
        (b'{"other":"\xff"}', "not UTF-8"),
        (b'{"a":' * 3_000, "too deep"),
        (b'{"a":' + b"[" * 300 + b"]" * 300 + b"}", "too deep"),
        (b'{"a":[' + (b'"' + b"x" * 3_000 + b'",[[]],') * 150 + b"1]}", "parts: 302 objects"),
        (b'{"a":[' + b"1," * 20_000 + b"1]}", "too many values"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"\xff\xfe{\0}\0", "UTF-16 text; send UTF-8"),
        (b"\0\1\2\3\4", "binary data that starts with the bytes 00 01 02 03"),
    ],
)
def test_what_is_no_message_is_named(payload: bytes, expected: str) -> None:
    assert expected in reason(payload)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"confidence": 100.01}, "confidence: 100.01 is out of range; send a percentage"),
        ({"confidence": -0.5}, "confidence: -0.5 is out of range"),
        ({"species": ""}, "species: is empty"),
        ({"species": "  "}, "species: is empty"),
        ({"species": "x" * 257}, "species: 257 characters; 256 can be read"),
        ({"species": "a\0b"}, "species: holds characters that cannot be printed"),
        ({"sensor_id": ""}, "sensor_id: is empty"),
        ({"sensor_id": None}, "send source_model (form detection), or sensor_id"),
        ({"type": "guess"}, "send source_model (form detection), or sensor_id"),
        ({"gps_data": {"lat": 91, "lon": 0}}, "gps_data: latitude 91 is off the planet"),
        ({"gps_data": {"lat": 0, "lon": -180.5}}, "gps_data: longitude -180.5 is off the planet"),
        ({"gps_data": {"lat": 5}}, "gps_data: only one of latitude and longitude"),
        ({"microphoneLLA": [1.0]}, "microphoneLLA: [latitude, longitude, altitude]"),
        ({"microphoneLLA": [1, 2, 3, 4]}, "microphoneLLA: [latitude, longitude, altitude]"),
        ({"microphoneLLA": [999, 2, 3]}, "microphoneLLA: latitude 999"),
        ({"animalEstLLA": [1, 2, 3], "animalLLAUncertainty": -1}, "less than 0"),
        ({"sourceType": "cat"}, 'sourceType: "real" or "simulator" was expected, found "cat"'),
        ({"sampleRate": -1}, "sampleRate: -1 Hz is no sample rate"),
        ({"top5": [{"label": "x", "confidence": 500}]}, "confidence: 500 is out of range"),
        ({"top5": [{"label": "x", "confidence": 1}] * 101}, "top5: 101 entries"),
        ({"audioClip": "UklGRnot base64"}, "audioClip: broken base64"),
        ({"audioClip": "A" * 1_028}, "the clip is not WAV, FLAC, MP3 or Ogg audio"),
        ({"audioClip": "data:audio/wav;base64,UklG"}, "send the base64 alone"),
    ],
)
def test_a_wrong_value_is_named_with_what_to_send(change: dict[str, object], expected: str) -> None:
    assert expected in reason(PREDICTION | change)


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        ("", "the clip is empty"),
        ("UklGR", "audio_file: broken base64"),
        (CLIP[:-8], "cut off: its data chunk says 1,600 bytes of sound and 1,594 arrived"),
        (base64.b64encode(b"\x89PNG\r\n").decode(), "a PNG image"),
        (base64.b64encode(b"hello").decode(), 'text "hello"'),
        (base64.b64encode(b"\0\0\0\x20ftypM4A \0\0").decode(), "MP4"),
        ("µ", "broken base64"),
    ],
)
def test_a_clip_that_is_none_is_refused(clip: str, expected: str) -> None:
    assert expected in reason({"audio_file": clip})


@pytest.mark.parametrize(
    ("item", "count", "expected"),
    [
        (0, 9_999, "too many values in one message: 10,000 can be read"),
        ([0], 254, "too deep or in too many parts: 257 objects and lists"),
    ],
)
def test_as_many_values_and_parts_as_can_be_read_and_no_more(
    item: object, count: int, expected: str
) -> None:
    status = {"status": "online", "sensorId": "s"}
    most = message({**status, "firmware": [item] * count})
    assert not isinstance(decode(most, 100_000), Rejected)
    assert expected in reason({**status, "firmware": [item] * (count + 1)})


@pytest.mark.parametrize(
    ("payload", "near"),
    [
        (b'{"status": "online", "sensorId": s}', 'at byte 33, near "ensorId": s}"'),
        (b'{"status": online, "sensorId": "s"}', 'at byte 11, near ""status": online, "s"'),
    ],
)
def test_where_json_is_broken_is_said_with_what_is_around(payload: bytes, near: str) -> None:
    assert near in reason(payload)


def test_a_message_over_the_limit_is_refused_with_both_numbers() -> None:
    result = decode(message(b"{" + b" " * 1_000), 1_000)
    assert result == Rejected("too large: 1,001 bytes; the limit is 1,000")
    assert not isinstance(decode(message(PREDICTION), len(message(PREDICTION).payload)), Rejected)


@pytest.mark.parametrize("unknown", [[0, 0, 0], [0.0, 0.0], {"latitude": 0, "longitude": 0}])
def test_a_place_of_zeros_means_unknown(unknown: object) -> None:
    fields = DETECTION | {"microphoneLLA": unknown, "animalEstLLA": unknown}
    result = record(Detection, message(fields | {"animalLLAUncertainty": 0.0}))
    assert (result.place, result.animal_place) == (None, None)


def test_a_place_may_come_without_altitude() -> None:
    result = record(Detection, message(DETECTION | {"microphoneLLA": [-38.7, 143.5]}))
    assert result.place == Place(-38.7, 143.5)


@pytest.mark.parametrize(
    ("confidence", "fraction"), [(0, 0.0), (100, 1.0), (8.61, 0.0861), (0.87, 0.0087)]
)
def test_confidence_is_a_percentage_and_becomes_a_fraction(
    confidence: float, fraction: float
) -> None:
    result = record(Detection, message(PREDICTION | {"confidence": confidence}))
    assert result.confidence == fraction


def test_ids_may_be_numbers() -> None:
    result = record(Detection, message(PREDICTION | {"id": 42, "sensor_id": 7}))
    assert (result.message_id, result.sensor_id) == ("42", "7")


def test_fields_nobody_knows_are_left_alone() -> None:
    plain = decode(message(PREDICTION), BYTES_MAX)
    assert decode(message(PREDICTION | {"firmware": {"build": [1, 2]}}), BYTES_MAX) == plain


def test_a_byte_order_mark_and_padding_do_no_harm() -> None:
    plain = decode(message(PREDICTION), BYTES_MAX)
    for start in (b"\xef\xbb\xbf", b"\n   ", b"\xef\xbb\xbf \n"):
        padded = message(start + message(PREDICTION).payload + b"\n   ")
        assert decode(padded, BYTES_MAX) == plain


@pytest.mark.parametrize("reference", ["XC12345.mp3", "//files/night 3/x.wav", "https://e.org/x"])
def test_a_detection_keeps_a_reference_as_it_is(reference: str) -> None:
    result = record(Detection, message(DETECTION | {"audioClip": reference}))
    assert (result.clip, result.clip_reference) == (None, reference)


@pytest.mark.parametrize("fields", [DETECTION, PREDICTION])
def test_a_detection_may_carry_its_clip(fields: dict[str, object]) -> None:
    result = record(Detection, message(fields | {"audioClip": CLIP}))
    assert result.clip is not None
    assert (result.clip.duration_seconds, result.clip_reference) == (0.05, None)


def test_base64_may_be_broken_into_lines() -> None:
    lines = "\r\n".join(CLIP[at : at + 76] for at in range(0, len(CLIP), 76))
    assert record(Recording, message({"audio_file": lines})).clip.sample_rate_hz == 16_000


def test_a_place_as_an_object_is_where_it_says() -> None:
    place = {"latitude": -38.5, "longitude": 143.5, "altitude": 12.5}
    detected = record(Detection, message(PREDICTION | {"microphoneLLA": place}))
    assert detected.place == Place(-38.5, 143.5, 12.5)


def test_a_small_percentage_is_one() -> None:
    status = {"sensorId": "s", "batteryPct": 0.5, "cpu": 0}
    health = record(Telemetry, message(status)).health
    assert (health.battery_percent, health.cpu_percent) == (0.5, 0.0)


def test_an_object_place_makes_the_newer_form() -> None:
    older = record(Recording, message({"audioClip": CLIP, "microphoneLLA": [1, 2, 3]}))
    newer = record(
        Recording, message({"audioClip": CLIP, "microphoneLLA": {"latitude": 1, "longitude": 2}})
    )
    assert (older.form, newer.form) == ("engine-audio", "engine-audio-objects")


def test_a_bare_status_belongs_to_the_node_of_the_topic() -> None:
    result = record(Telemetry, message({"status": "online"}, node="node-1"))
    assert (result.form, result.node, result.health.status) == ("node-status", "node-1", "online")


def test_a_bare_status_of_nobody_is_refused_with_the_remedy() -> None:
    assert "publish it under <prefix>/<node>/" in reason({"status": "online"})


def test_other_programs_replies_are_no_status() -> None:
    reply = {"status": "success", "eventId": "66e5"}
    assert "none of the forms" in reason(reply, node="node-1")


@pytest.mark.parametrize("missing", ["species", "animalTrueLLA"])
def test_a_movement_says_what_it_lacks(missing: str) -> None:
    fields = {"animalId": "7", "species": "Sus Scrofa", "animalTrueLLA": [1, 2, 3]}
    del fields[missing]
    assert f"{missing} is missing" in reason(fields)
