"""What the page says to do about a refused message, by its code or by its words."""

import pytest

from echo_ingest.almanac.refusals import ReasonKey, reason_key
from echo_ingest.almanac.uncoded_reasons import alike, code_of_text
from echo_ingest.reasons import ReasonCode
from echo_ingest.sinks.registry import SPECS
from echo_ingest.web.console.refused.advice import OTHERWISE, advice

OLDER_DEAD_LETTERS = [
    ("too large: 1,001 bytes; the limit is 1,000", ReasonCode.TOO_LARGE),
    ("damaged: what the disk gives back is not what was stored", ReasonCode.DAMAGED),
    ("the message is empty", ReasonCode.EMPTY_MESSAGE),
    (
        'neither a JSON object nor WAV, FLAC, MP3 or Ogg audio but text "online"',
        ReasonCode.NEITHER_JSON_NOR_AUDIO,
    ),
    ("the JSON is not UTF-8; send UTF-8", ReasonCode.NOT_UTF8),
    ("the JSON is cut off: it stops in the middle, after 12 bytes", ReasonCode.JSON_CUT_OFF),
    (
        "NaN and infinity are no numbers in JSON; send null where a value is not known",
        ReasonCode.NOT_A_NUMBER,
    ),
    ('broken JSON at byte 1,204, near "x": y"', ReasonCode.BROKEN_JSON),
    ("too deep: objects and lists nest without end", ReasonCode.TOO_COMPLEX),
    ("too many values in one message: 10,000 can be read", ReasonCode.TOO_COMPLEX),
    ("a device sends one JSON object per message; this is a list", ReasonCode.NOT_AN_OBJECT),
    ('none of the forms in docs/forms.md: a JSON object with "a"', ReasonCode.UNKNOWN_FORM),
    (
        "a species that no model and no node answers for: send source_model (form detection),"
        " or sensor_id and confidence (form edge-prediction)",
        ReasonCode.SPECIES_WITHOUT_SOURCE,
    ),
    (
        "a status that does not say whose: publish it under <prefix>/<node>/…,"
        " or send nodeId or sensorId",
        ReasonCode.STATUS_WITHOUT_NODE,
    ),
    (
        "a movement needs species, animalId and animalTrueLLA; species is missing or not known",
        ReasonCode.INCOMPLETE_MOVEMENT,
    ),
    (
        'timestamp: "noon" cannot be read as a time; send one like 2026-09-14T05:45:12Z',
        ReasonCode.UNREADABLE_TIME,
    ),
    ('timestamp: "1e15" is no time between the years 1 and 2105', ReasonCode.UNREADABLE_TIME),
    ("gps_data: latitude 91 is off the planet (−90 to 90)", ReasonCode.IMPOSSIBLE_PLACE),
    ("gps_data: only one of latitude and longitude is there", ReasonCode.IMPOSSIBLE_PLACE),
    ("animalEstLLA: its uncertainty of -1 m is less than 0", ReasonCode.IMPOSSIBLE_VALUE),
    (
        "confidence: 120 is out of range; send a percentage from 0 to 100",
        ReasonCode.CONFIDENCE_OUT_OF_RANGE,
    ),
    ("audioClip: broken base64 (incorrect padding)", ReasonCode.BROKEN_BASE64),
    (
        'audioClip: send the base64 alone, without the "data:…;base64," before it',
        ReasonCode.BROKEN_BASE64,
    ),
    ('the clip is not WAV, FLAC, MP3 or Ogg audio but text "x"', ReasonCode.UNKNOWN_AUDIO_FORMAT),
    (
        "the clip is cut off: its data chunk says 1,600 bytes of sound and 1,594 arrived",
        ReasonCode.AUDIO_CUT_OFF,
    ),
    ("the clip is empty: its data chunk holds 0 bytes of sound", ReasonCode.AUDIO_EMPTY),
    ("the WAV has more than 1,000 chunks", ReasonCode.AUDIO_BROKEN),
    (
        "the Ogg holds more than one stream; send one recording per message",
        ReasonCode.SEVERAL_RECORDINGS,
    ),
    (
        "the header says 20,000,000 samples a second; no recorder does that",
        ReasonCode.AUDIO_BROKEN,
    ),
    ("sampleRate: -1 Hz is no sample rate", ReasonCode.IMPOSSIBLE_VALUE),
    (
        'sourceType: "real" or "simulator" was expected, found "cat"',
        ReasonCode.IMPOSSIBLE_VALUE,
    ),
    (
        "user property id was given twice, with different values",
        ReasonCode.PROPERTY_GIVEN_TWICE,
    ),
    ("the id 'a-1' was used before, for another message", ReasonCode.ID_REUSED),
    ('top5[0]: "confidence" is missing', ReasonCode.MISSING_FIELD),
    ("confidence: a number was expected, found text", ReasonCode.WRONG_TYPE),
    ("species: 257 characters; 256 can be read", ReasonCode.IMPOSSIBLE_VALUE),
    ("species: is empty", ReasonCode.IMPOSSIBLE_VALUE),
    ("top5: 101 entries; 100 can be read", ReasonCode.IMPOSSIBLE_VALUE),
    ("confidence: the number is too large", ReasonCode.IMPOSSIBLE_VALUE),
]
"""The reasons that versions before the codes wrote."""


@pytest.mark.parametrize("code", ReasonCode)
def test_a_code_has_the_advice_whatever_the_words(code: ReasonCode) -> None:
    assert advice(None, reason_key("the message is empty", code, "x")) == code.advice
    assert advice("postgres", ReasonKey(code=code)) == code.advice


@pytest.mark.parametrize(("reason", "code"), OLDER_DEAD_LETTERS)
def test_the_words_of_an_older_version_have_the_advice_of_their_code(
    reason: str, code: ReasonCode
) -> None:
    assert code_of_text(None, alike(reason)) == code
    assert advice(None, reason_key(reason, None, None)) == code.advice


@pytest.mark.parametrize(
    ("sink", "reason", "words"),
    [
        ("echo_api", "the Echo API answered 422: species: String too short", "rules of its own"),
        ("echo_api", "the Echo API refused it: timestamp: too old", "rules of its own"),
        ("echo_api", "the Echo API takes WAV, MP3 and FLAC; this clip is Ogg", "has no place"),
        ("echo_api", "holds NaN or infinity, which the Echo API stores but", "has no place"),
        ("echo_api", "no node id: publish below <prefix>/<node>, or send", "sensor_id"),
        ("echo_api", "the Echo API answered 404: no such node", "Register the node"),
        ("postgres", "PostgreSQL refused it (23514): new row violates", "a constraint"),
        ("postgres", "PostgreSQL cannot hold it: integer out of range", "a value"),
        ("mongodb", "MongoDB refused it (121): Document failed validation", "a validator"),
        ("objects", "https://bucket answered 403: the object is locked", "retention"),
        ("postgres", "this version does not decode it any more: empty", "differently"),
        ("mongodb", "damaged: what the disk gives back is not what was stored", "Check the disk"),
        ("elsewhere", "no", OTHERWISE),
    ],
)
def test_the_words_of_a_sink_have_its_advice(sink: str, reason: str, words: str) -> None:
    key = reason_key(reason, None, None)
    text = advice(sink, key)
    if words == "has no place":
        assert text == ReasonCode.NOT_SUPPORTED_BY_SINK.advice
    else:
        assert words in text


def test_an_unknown_code_or_text_has_some_advice() -> None:
    assert advice(None, ReasonKey(code="of_a_later_version")) == OTHERWISE
    assert advice(None, reason_key("something else", None, None)) == OTHERWISE


def test_the_advice_of_sinks_is_plain_and_whole() -> None:
    for text in (OTHERWISE, *(spec.advice for spec in SPECS)):
        assert text[0].isupper() and text.endswith(".")
        assert len(text) < 330
