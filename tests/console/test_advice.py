"""Whatever is refused, the page says what to do about it."""

import json
from typing import Any

import pytest

from echo_ingest.almanac.refusals import alike
from echo_ingest.decode import decode
from echo_ingest.record import Message, Rejected
from echo_ingest.web.console.refused.advice import LETTERS, OTHERWISE, SINKS, advice
from tests.decode.messages import wav
from tests.decode.test_reasons import CLIP, DETECTION, PREDICTION

TOO_LARGE = 200_000
CHANGES: list[Any] = [
    *({"confidence": 200}, {"confidence": "63"}, {"species": " "}, {"species": "x" * 300}),
    *({"species": "a\0b"}, {"timestamp": "noon"}, {"timestamp": 1e15}, {"sampleRate": -1}),
    *({"gps_data": {"lat": 91, "lon": 0}}, {"gps_data": {"lat": 5}}, {"top5": [{}]}),
    *({"microphoneLLA": [1]}, {"sourceType": "cat"}, {"batteryPct": "full"}),
    *(
        {"top5": [{"label": "x", "confidence": 1}] * 101},
        {"audioClip": "data:a;base64,UklG"},
    ),
]
PAYLOADS: list[object] = [
    *(b"", b"online", b"[]", b"{}", b'{"species":"x"', b'{"a":1}}', b'{"a":NaN}', b"\xff\xfe{\0"),
    *(b'{"species":"\xff"}', b'{"confidence":1e999}', b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"),
    *(b'{"a":[' + b"1," * 20_000 + b"1]}", b"x" * TOO_LARGE, b"\x89PNG\r\n", b'{"status":"on"}'),
    *(
        wav()[:-50],
        wav()[:30],
        b"OggS" + b"x" * 99,
        b"fLaC" + b"x" * 99,
        b"\xff\xfb\x90\0" + b"x" * 99,
    ),
    *({"animalId": "7"}, {"species": "x"}, {"audio_file": ""}, {"audio_file": "UklGR"}),
    *({"audio_file": CLIP[:-8]}, {"audio_file": "aGVsbG8="}),
    *(PREDICTION | change for change in CHANGES),
    DETECTION | {"animalEstLLA": [1, 2, 3], "animalLLAUncertainty": -1},
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: repr(payload)[:40])
def test_each_reason_of_a_dead_letter_has_its_advice(payload: object) -> None:
    sent = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    verdict = decode(Message("t", sent, 0, None), TOO_LARGE - 1)
    assert isinstance(verdict, Rejected), verdict
    assert advice(None, alike(verdict.reason)) != OTHERWISE, verdict.reason


@pytest.mark.parametrize(
    ("sink", "reason", "words"),
    [
        ("echo_api", "the Echo API answered 422: species: String too short", "rules of its own"),
        ("echo_api", "the Echo API refused it: timestamp: too old", "rules of its own"),
        ("echo_api", "the Echo API takes WAV, MP3 and FLAC; this clip is Ogg", "has no place"),
        ("echo_api", "holds NaN or infinity, which the Echo API stores but", "has no place"),
        ("echo_api", "no node id: publish below <prefix>/<node>, or send", "Make it known"),
        ("postgres", "PostgreSQL refused it (23514): new row violates", "a constraint"),
        ("postgres", "PostgreSQL cannot hold it: integer out of range", "a value"),
        ("mongodb", "MongoDB refused it (121): Document failed validation", "a validator"),
        ("objects", "https://bucket answered 403: the object is locked", "retention"),
        ("postgres", "this version does not decode it any more: empty", "any more"),
        ("mongodb", "damaged: what the disk gives back is not what was stored", "any more"),
    ],
)
def test_each_reason_of_a_store_has_its_advice(sink: str, reason: str, words: str) -> None:
    assert words in advice(sink, alike(reason))


def test_advice_is_plain_and_whole() -> None:
    for _, words in (*LETTERS, *SINKS):
        assert words[0].isupper() and words.endswith(".")
        assert len(words) < 330
