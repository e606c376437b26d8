"""Whatever is refused, the page says what to do about it."""

import json
from typing import Any

import pytest

from echo_ingest.almanac.refusals import alike
from echo_ingest.decode import decode
from echo_ingest.record import Message, Rejected
from echo_ingest.web.console.refused.advice import LETTERS, OTHERWISE, SINKS, advice
from tests.decode.arrived import wav
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
    "reason",
    [
        "the Echo API answered 422: species: String should have at least 1 character",
        "the Echo API refused it: timestamp: too old",
        "the Echo API takes WAV, MP3 and FLAC; this clip is Ogg",
        "holds NaN or infinity, which the Echo API stores but cannot answer",
        "no node id: publish below <prefix>/<node>, or send nodeId or sensorId",
        "PostgreSQL refused it (23514): new row violates check constraint",
        "PostgreSQL cannot hold it: integer out of range",
        "MongoDB refused it (121): Document failed validation",
        "MongoDB cannot hold it: too large",
        "this version does not decode it any more: species: is empty",
        "damaged: what the disk gives back is not what was stored",
    ],
)
def test_each_reason_of_a_store_has_its_advice(reason: str) -> None:
    assert advice("a_store", alike(reason)) != OTHERWISE


def test_advice_is_plain_and_whole() -> None:
    for _, words in (*LETTERS, *SINKS):
        assert words[0].isupper() and words.endswith(".")
        assert len(words) < 330
