"""Bad messages are rejected with a code, a field, and words that their sender can act on."""

import base64

import pytest

from echo_ingest.decode import Decoder
from echo_ingest.reasons import ReasonCode as Code
from echo_ingest.record import Detection, Place, Recording, Rejected, Telemetry
from tests.decode.messages import CLIPS, DECODER, message, reason, record, rejected, wav
from tests.several_records import only

PREDICTION: dict[str, object] = {
    "type": "prediction",
    "timestamp": "1795451157",
    "sensor_id": "rpi",
    "species": "Litoria ewingii",
    "confidence": 63.64,
}
DETECTION = PREDICTION | {"source_model": "m", "microphoneLLA": [-38.7, 143.5, 1.0]}
CLIP = base64.b64encode(wav()).decode()
NOT_BY_DECODE = {
    Code.DAMAGED,
    Code.ID_REUSED,
    Code.UNREADABLE_NOW,
    Code.CLIP_NOT_STORED,
    Code.CLIP_OLDER_THAN_STORAGE,
    Code.NODE_UNKNOWN_TO_SINK,
    Code.NOT_SUPPORTED_BY_SINK,
    Code.NODE_ID_MISSING,
    Code.NAME_TAKEN_AT_SINK,
    Code.TOO_LARGE_FOR_SINK,
    Code.FAILS_AT_SINK,
    Code.ENDS_DELIVERY,
    Code.NODE_NOT_CLAIMED,
}
"""What the journal, its readers, the sinks and forms in files say."""

NOT_A_MESSAGE: list[tuple[bytes, Code, str | None, str]] = [
    (b"", Code.EMPTY_MESSAGE, None, "the message is empty"),
    (b" \n", Code.EMPTY_MESSAGE, None, "the message is empty"),
    (b"\xef\xbb\xbf", Code.EMPTY_MESSAGE, None, "the message is empty"),
    (b"online", Code.NEITHER_JSON_NOR_AUDIO, None, 'text "online"'),
    (b"5", Code.NEITHER_JSON_NOR_AUDIO, None, 'text "5"'),
    (
        b"2026-09-14;15:45:12;Dacelo",
        Code.NEITHER_JSON_NOR_AUDIO,
        None,
        'text "2026-09-14;15:45:12;Dacelo"',
    ),
    (b"[]", Code.NOT_AN_OBJECT, None, "one JSON object per message; this is a list"),
    (b'"x"', Code.NOT_AN_OBJECT, None, "one JSON object per message; this is text"),
    (b"{}", Code.UNKNOWN_FORM, None, "with no fields is none of the forms in docs/forms.md"),
    (b'{"message":"alive"}', Code.UNKNOWN_FORM, None, 'a JSON object with "message"'),
    (b'{"species":"x"', Code.JSON_CUT_OFF, None, "it stops in the middle, after 14 bytes"),
    (b'{"a":1}}', Code.BROKEN_JSON, None, "the JSON is broken at byte 8"),
    (b"{'a':1}", Code.BROKEN_JSON, None, "the JSON is broken at byte 1"),
    (b'{"confidence":NaN}', Code.NOT_A_NUMBER, None, "send null"),
    (b'{"confidence":-Infinity}', Code.NOT_A_NUMBER, None, "send null"),
    (b'{"confidence":1e999}', Code.IMPOSSIBLE_VALUE, "confidence", "the number is too large"),
    (b'{"confidence":"63"}', Code.WRONG_TYPE, "confidence", "a number was expected, not text"),
    (b'{"species":5}', Code.WRONG_TYPE, "species", "text was expected, not a whole number"),
    (
        b'{"timestamp":true}',
        Code.WRONG_TYPE,
        "timestamp",
        "a number or text was expected, not true or false",
    ),
    (
        b'{"microphoneLLA":[1,"2"]}',
        Code.WRONG_TYPE,
        "microphoneLLA[1]",
        "a number was expected, not text",
    ),
    (
        b'{"health_data":{"cpu":"5"}}',
        Code.WRONG_TYPE,
        "health_data.cpu",
        "a number was expected, not text",
    ),
    (
        b'{"top5":[{"label":"x","confidence":1},{"label":"x"}]}',
        Code.MISSING_FIELD,
        "top5[1].confidence",
        "this field is missing",
    ),
    (b'{"species":"\xff"}', Code.NOT_UTF8, None, "not UTF-8 at byte 12"),
    (b'{"other":"\xff"}', Code.NOT_UTF8, None, "not UTF-8 at byte 10"),
    (b'{"a":' * 3_000, Code.TOO_COMPLEX, None, "3,000 objects and lists"),
    (
        b'{"a":' + b"[" * 300 + b"]" * 300 + b"}",
        Code.TOO_COMPLEX,
        None,
        "301 objects and lists",
    ),
    (
        b'{"a":[' + (b'"' + b"x" * 3_000 + b'",[[]],') * 150 + b"1]}",
        Code.TOO_COMPLEX,
        None,
        "302 objects and lists",
    ),
    (b'{"a":[' + b"1," * 20_000 + b"1]}", Code.TOO_COMPLEX, None, "too many values"),
    (b"\x89PNG\r\n\x1a\n", Code.NEITHER_JSON_NOR_AUDIO, None, "a PNG image"),
    (b"\0\0\0\x20ftypM4A ", Code.NEITHER_JSON_NOR_AUDIO, None, "an MP4 or M4A file"),
    (b"\xff\xfe{\0}\0", Code.NOT_UTF8, None, "the text is UTF-16; send UTF-8"),
    (
        b'{"sensorId":"s","status":"a","status":"b"}',
        Code.AMBIGUOUS_KEY,
        "status",
        "this key stands twice in its JSON object; it is not known which value is right",
    ),
    (
        b"\0\1\2\3\4",
        Code.NEITHER_JSON_NOR_AUDIO,
        None,
        "binary data that starts with the bytes 00 01 02 03",
    ),
    (b'{"status":"online"}', Code.STATUS_WITHOUT_NODE, None, "publish it under <prefix>/<node>/"),
    (
        b'{"sensorId":"s","disk":-1}',
        Code.IMPOSSIBLE_VALUE,
        "disk",
        "-1 is less than 0",
    ),
    (
        b'{"sensorId":"s","cpu":1,"health_data":{"cpu":-1}}',
        Code.IMPOSSIBLE_VALUE,
        "health_data.cpu",
        "-1 is less than 0",
    ),
    (wav()[:-50], Code.AUDIO_CUT_OFF, None, "announces 1,600 bytes of sound, and 1,550 arrived"),
    (wav(samples=0), Code.AUDIO_EMPTY, None, "its data chunk holds 0 bytes of sound"),
    (wav(rate=20_000_000), Code.AUDIO_BROKEN, None, "20,000,000 samples a second"),
    (
        wav() + wav(rate=44_100),
        Code.SEVERAL_RECORDINGS,
        None,
        "several recordings with different sample rates or channels",
    ),
    (b"OggS" + bytes(23), Code.UNKNOWN_AUDIO_FORMAT, None, "neither Vorbis nor Opus nor FLAC"),
]

WRONG_VALUES: list[tuple[dict[str, object], Code, str | None, str]] = [
    (
        {"confidence": 100.01},
        Code.CONFIDENCE_OUT_OF_RANGE,
        "confidence",
        "100.01 is out of range; send a percentage from 0 to 100",
    ),
    ({"confidence": -0.5}, Code.CONFIDENCE_OUT_OF_RANGE, "confidence", "-0.5 is out of range"),
    ({"species": ""}, Code.IMPOSSIBLE_VALUE, "species", "the text is empty"),
    ({"species": "  "}, Code.IMPOSSIBLE_VALUE, "species", "the text is empty"),
    (
        {"species": "x" * 257},
        Code.IMPOSSIBLE_VALUE,
        "species",
        "the text has 257 characters; at most 256 can be read",
    ),
    ({"species": "a\0b"}, Code.IMPOSSIBLE_VALUE, "species", "characters that cannot be printed"),
    ({"sensor_id": ""}, Code.IMPOSSIBLE_VALUE, "sensor_id", "the text is empty"),
    ({"sensor_id": None}, Code.SPECIES_WITHOUT_SOURCE, None, "send source_model"),
    ({"confidence": None}, Code.SPECIES_WITHOUT_SOURCE, None, "sensor_id and confidence"),
    ({"type": "guess"}, Code.SPECIES_WITHOUT_SOURCE, "type", '"guess" is not "prediction"'),
    (
        {"type": "guess", "confidence": None},
        Code.SPECIES_WITHOUT_SOURCE,
        None,
        "send source_model",
    ),
    ({"id": " "}, Code.IMPOSSIBLE_VALUE, "id", "the text is empty"),
    (
        {"timestamp": "noon"},
        Code.UNREADABLE_TIME,
        "timestamp",
        '"noon" cannot be read as a time; send one like 2026-09-14T05:45:12Z',
    ),
    ({"timestamp": 1e21}, Code.UNREADABLE_TIME, "timestamp", "is not a time between the years"),
    (
        {"gps_data": {"lat": 91, "lon": 0}},
        Code.IMPOSSIBLE_PLACE,
        "gps_data.lat",
        "the latitude 91 is off the planet",
    ),
    (
        {"gps_data": {"lat": 0, "lon": -180.5}},
        Code.IMPOSSIBLE_PLACE,
        "gps_data.lon",
        "the longitude -180.5 is off the planet",
    ),
    (
        {"gps_data": {"lat": 5}},
        Code.IMPOSSIBLE_PLACE,
        "gps_data",
        "only one of latitude and longitude is given",
    ),
    (
        {"gps_data": {"lat": 5, "lon": 5}, "gps_uncertainty": -2},
        Code.IMPOSSIBLE_VALUE,
        "gps_uncertainty",
        "an uncertainty of -2 m is less than 0",
    ),
    (
        {"microphoneLLA": [1.0]},
        Code.IMPOSSIBLE_PLACE,
        "microphoneLLA",
        "not a list of 1 values",
    ),
    (
        {"microphoneLLA": [1, 2, 3, 4]},
        Code.IMPOSSIBLE_PLACE,
        "microphoneLLA",
        "[latitude, longitude, altitude] was expected",
    ),
    ({"microphoneLLA": [999, 2, 3]}, Code.IMPOSSIBLE_PLACE, "microphoneLLA[0]", "latitude 999"),
    ({"microphoneLLA": [1, 999]}, Code.IMPOSSIBLE_PLACE, "microphoneLLA[1]", "longitude 999"),
    (
        {"animalEstLLA": {"latitude": 1, "longitude": 181}},
        Code.IMPOSSIBLE_PLACE,
        "animalEstLLA.longitude",
        "longitude 181",
    ),
    (
        {"animalTrueLLA": {"latitude": -91, "longitude": 1}},
        Code.IMPOSSIBLE_PLACE,
        "animalTrueLLA.latitude",
        "latitude -91",
    ),
    (
        {"animalEstLLA": [1, 2, 3], "animalLLAUncertainty": -1},
        Code.IMPOSSIBLE_VALUE,
        "animalLLAUncertainty",
        "-1 m is less than 0",
    ),
    (
        {"sourceType": "cat"},
        Code.IMPOSSIBLE_VALUE,
        "sourceType",
        '"real" or "simulator" was expected, not "cat"',
    ),
    ({"sampleRate": -1}, Code.IMPOSSIBLE_VALUE, "sampleRate", "-1 Hz is not a sample rate"),
    (
        {"top5": [{"label": "x", "confidence": 5}, {"label": "y", "confidence": 500}]},
        Code.CONFIDENCE_OUT_OF_RANGE,
        "top5[1].confidence",
        "500 is out of range",
    ),
    (
        {"top5": [{"label": " ", "confidence": 5}]},
        Code.IMPOSSIBLE_VALUE,
        "top5[0].label",
        "the text is empty",
    ),
    (
        {"top5": [{"label": "x", "confidence": 1}] * 101},
        Code.IMPOSSIBLE_VALUE,
        "top5",
        "101 entries",
    ),
    (
        {"audioClip": "UklGRnot base64"},
        Code.BROKEN_BASE64,
        "audioClip",
        "the clip is not valid base64",
    ),
    (
        {"audioClip": "A" * 1_028},
        Code.UNKNOWN_AUDIO_FORMAT,
        "audioClip",
        "the clip is not WAV, FLAC, MP3 or Ogg audio",
    ),
    (
        {"audioClip": "data:audio/wav;base64,UklG"},
        Code.BROKEN_BASE64,
        "audioClip",
        "send the base64 alone",
    ),
]

BAD_CLIPS: list[tuple[str, Code, str]] = [
    ("", Code.AUDIO_EMPTY, "the clip is empty"),
    ("UklGR", Code.BROKEN_BASE64, "the clip is not valid base64"),
    (CLIP[:-8], Code.AUDIO_CUT_OFF, "announces 1,600 bytes of sound, and 1,594 arrived"),
    (base64.b64encode(b"\x89PNG\r\n").decode(), Code.UNKNOWN_AUDIO_FORMAT, "a PNG image"),
    (base64.b64encode(b"hello").decode(), Code.UNKNOWN_AUDIO_FORMAT, 'text "hello"'),
    ("µ", Code.BROKEN_BASE64, "the clip is not valid base64"),
]


def expect(why: Rejected, code: Code, field: str | None, words: str) -> None:
    assert (why.code, why.field) == (code, field), why
    assert words in why.detail
    assert why.render() == (why.detail if field is None else f"{field}: {why.detail}")


@pytest.mark.parametrize(("payload", "code", "field", "words"), NOT_A_MESSAGE)
def test_what_is_no_message_is_named(
    payload: bytes, code: Code, field: str | None, words: str
) -> None:
    expect(rejected(payload), code, field, words)


def test_a_field_that_takes_any_number_is_said_to_take_a_number_and_nothing_twice() -> None:
    why = rejected(b'{"timestamp":true}')
    assert why.detail == "a number or text was expected, not true or false"


@pytest.mark.parametrize(("change", "code", "field", "words"), WRONG_VALUES)
def test_a_wrong_value_is_named_with_what_to_send(
    change: dict[str, object], code: Code, field: str | None, words: str
) -> None:
    expect(rejected(PREDICTION | change), code, field, words)


@pytest.mark.parametrize(("clip", "code", "words"), BAD_CLIPS)
def test_a_clip_that_is_none_is_rejected_under_its_field(clip: str, code: Code, words: str) -> None:
    expect(rejected({"audio_file": clip}), code, "audio_file", words)


def test_a_message_over_the_limit_is_rejected_with_both_numbers() -> None:
    result = only(Decoder(1_000).decode(message(b"{" + b" " * 1_000)))
    assert result == Rejected(Code.TOO_LARGE, "the message has 1,001 bytes; the limit is 1,000")
    exactly = Decoder(len(message(PREDICTION).payload))
    assert not isinstance(only(exactly.decode(message(PREDICTION))), Rejected)


def test_every_code_of_decode_has_an_example() -> None:
    shown = {code for _, code, *_ in (*NOT_A_MESSAGE, *WRONG_VALUES, *BAD_CLIPS)}
    shown |= {Code.TOO_LARGE, Code.INCOMPLETE_MOVEMENT, Code.PROPERTY_GIVEN_TWICE}
    shown |= {Code.CONFIDENCE_NOT_A_FRACTION, Code.TOPIC_TOO_LONG}
    shown |= {Code.PROPERTIES_TOO_LARGE}  # tests/test_memory.py
    shown |= {Code.NO_RECORD, Code.ZONE_MISSING, Code.CONFIDENCE_OFF_SCALE}  # tests/forms
    assert shown == set(Code) - NOT_BY_DECODE


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_summary_and_advice_in_whole_sentences(code: Code) -> None:
    for text in (code.summary, code.advice):
        assert text[0].isupper() and text.endswith("."), text
    assert len(code.summary) < 100 and len(code.advice) < 330
    assert code.value == code.name.lower()


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(
    ("payload", "position"),
    [
        (b'{"a":1}}', 8),
        (b"{'a':1}", 1),
        (b'{"a":1', 6),
        (b'{"a": NaN}', 6),
        (b'{"a": -Infinity}', 6),
        (b'{"a":"\xff"}', 6),
    ],
)
def test_the_position_is_the_byte_at_which_the_json_is_broken(
    before: bytes, payload: bytes, position: int
) -> None:
    assert rejected(before + payload).position == len(before) + position


def test_a_plain_clip_has_no_field_and_its_properties_have_names() -> None:
    flac = (CLIPS / "tone.flac").read_bytes()
    expect(rejected(flac[:-5]), Code.AUDIO_CUT_OFF, None, "the FLAC is cut off")
    twice = rejected(wav(), ("id", "a"), ("id", "b"))
    expect(twice, Code.PROPERTY_GIVEN_TWICE, "user property id", "it was given twice")
    north = rejected(wav(), ("latitude", "91"), ("longitude", "1"))
    expect(north, Code.IMPOSSIBLE_PLACE, "user property latitude", "latitude 91")


@pytest.mark.parametrize(
    ("item", "count", "code", "words"),
    [
        (0, 9_999, Code.TOO_COMPLEX, "too many values"),
        ([0], 254, Code.TOO_COMPLEX, "257 objects and lists"),
    ],
)
def test_as_many_values_and_parts_as_can_be_read_and_no_more(
    item: object, count: int, code: Code, words: str
) -> None:
    status = {"status": "online", "sensorId": "s"}
    most = message({**status, "firmware": [item] * count})
    assert not isinstance(only(Decoder(100_000).decode(most)), Rejected)
    expect(rejected({**status, "firmware": [item] * (count + 1)}), code, None, words)


@pytest.mark.parametrize(
    ("payload", "near"),
    [
        (b'{"status": "online", "sensorId": s}', 'at byte 33, near "ensorId": s}"'),
        (b'{"status": online, "sensorId": "s"}', 'at byte 11, near ""status": online, "s"'),
    ],
)
def test_where_json_is_broken_is_said_with_what_is_around(payload: bytes, near: str) -> None:
    assert near in rejected(payload).render()


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
    plain = only(DECODER.decode(message(PREDICTION)))
    assert only(DECODER.decode(message(PREDICTION | {"firmware": {"build": [1, 2]}}))) == plain


def test_a_byte_order_mark_and_padding_do_no_harm() -> None:
    plain = only(DECODER.decode(message(PREDICTION)))
    for start in (b"\xef\xbb\xbf", b"\n   ", b"\xef\xbb\xbf \n"):
        padded = message(start + message(PREDICTION).payload + b"\n   ")
        assert only(DECODER.decode(padded)) == plain


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


@pytest.mark.parametrize(
    ("fields", "mode", "reference"),
    [
        ({"audioFile": "Recording_Mode"}, "Recording_Mode", None),
        ({"audioFile": "Recording_Mode", "mode": "Animal_Mode"}, "Animal_Mode", None),
        ({"audioFile": "s3://a/b.wav", "mode": "Animal_Mode"}, "Animal_Mode", "s3://a/b.wav"),
    ],
)
def test_a_mode_in_the_place_of_a_reference_is_the_mode_unless_that_is_there_too(
    fields: dict[str, object], mode: str, reference: str | None
) -> None:
    result = record(Recording, message({"audioClip": CLIP, "microphoneLLA": [1, 2, 3], **fields}))
    assert (result.mode, result.clip_reference) == (mode, reference)


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
    expect(rejected(fields), Code.INCOMPLETE_MOVEMENT, missing, "it is missing or unknown")
