"""Whatever a broker could hand us gets an answer, at bounded cost. `make fuzz` is the long run."""

import os
from collections.abc import Callable

import pytest

from echo_ingest.record import KINDS, Message
from tests.decode.messages import RECEIVED_AT_MS, chunk, wav
from tests.fuzz.campaign import judge_range, weigh
from tests.fuzz.judge import IGNORED, PAYLOAD_BYTES_MAX, REJECTED, is_plain, judge

SEED = int(os.environ.get("SEED", "1"))
INPUTS = 10_000
STREAMINFO = b"fLaC\x80\0\0\x22\x10\0\x10\0\0\0\0\0\0\0\x0a\xc4\x42\xf0" + bytes(20)
OGG_HEAD = b"OggS\0\2" + bytes(20)
OPUS = OGG_HEAD + b"\x01\x13OpusHead\1\1\x38\1\x80\xbb\0\0\0\0\0"
LIMIT = PAYLOAD_BYTES_MAX

GIANTS: dict[str, Callable[[], bytes]] = {
    "an id of digits": lambda: b'{"id":' + b"9" * (LIMIT - 6),
    "a fraction of digits": lambda: b'{"cpu":0.' + b"9" * (LIMIT - 40) + b',"sensorId":"s"}',
    "a long text": lambda: b'{"status":"' + b"a" * (LIMIT - 20) + b'"}',
    "escapes": lambda: b'{"status":"' + rb"\u0041" * (LIMIT // 6 - 3) + b'"}',
    "letters of two bytes": lambda: b'{"status":"' + "é".encode() * (LIMIT // 2 - 10) + b'"}',
    "white space": lambda: b" " * (LIMIT - 2) + b"{}",
    "brackets": lambda: b"[" * LIMIT,
    "objects": lambda: b'{"a":' * (LIMIT // 5),
    "commas in text": lambda: b'{"status":"' + b"," * (LIMIT - 20) + b'"}',
    "base64": lambda: b'{"audio_file":"' + b"AAAA" * (LIMIT // 4 - 10) + b'"}',
    "base64 in short lines": lambda: b'{"audio_file":"' + rb"AA\n" * (LIMIT // 4 - 10) + b'"}',
    "base64 and a frog": lambda: (
        b'{"audio_file":"' + b"A" * (LIMIT - 40) + "\U0001f438".encode() + b'"}'
    ),
    "an Ogg of empty pages": lambda: (OGG_HEAD + b"\0") * (LIMIT // 27),
    "an Ogg of long tables": lambda: (OGG_HEAD + b"\xff" + bytes(255)) * (LIMIT // 282),
    "an Opus of shortest packets": lambda: (
        OPUS + (b"OggS\0\0" + bytes(20) + b"\xff" + b"\1" * 255 + b"\x08" * 255) * (LIMIT // 540)
    ),
    "a FLAC of frame marks": lambda: STREAMINFO + b"\xff\xf8" * (LIMIT // 2 - 100),
    "a FLAC of ones": lambda: STREAMINFO + b"\xff" * (LIMIT - 100),
    "a FLAC of one comment": lambda: (
        b"fLaC\x04\xff\xff\xff" + bytes(4) + b"\1\0\0\0\xf0\xff\xff\0" + b"n" * LIMIT
    )[:LIMIT],
    "an MP3 of shortest frames": lambda: b"\xff\xf3\x14\0".ljust(24, b"\0") * (LIMIT // 24),
    "an MP3 of nearly frames": lambda: b"ID3" + bytes(7) + b"\xff\xfb\x14" * (LIMIT // 3 - 4),
    "an MP3 of tags": lambda: (
        (b"\xff\xfb\x90\0".ljust(417, b"\0") * 2 + b"ID3" + bytes(7)) * (LIMIT // 850)
    ),
    "a WAV of names from a pipe": lambda: (
        wav(samples=0)[:-4] + b"\xff" * 4 + b"RIFFdataWAVE" * (LIMIT // 12 - 9)
    ),
    "a WAV of empty chunks": lambda: wav(before=chunk(b"junk", b"") * 6_000_000)[:LIMIT],
    "a WAV of one note": lambda: wav(before=chunk(b"guan", b"a:b\n" * (LIMIT // 4 - 1_000))),
    "a WAV of sound": lambda: wav(samples=(LIMIT - 100) // 2),
}
MEMORY_PER_BYTE_MAX = 8
CPU_SECONDS_MAX = 5.0


@pytest.mark.proof
def test_thousands_of_hostile_inputs_get_an_answer_in_plain_words_at_bounded_cost() -> None:
    tally = judge_range(SEED, range(INPUTS))
    assert tally.failures == []
    assert tally.outcomes.keys() == {*KINDS, REJECTED, IGNORED}
    assert tally.outcomes.total() == INPUTS


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.parametrize("giant", GIANTS)
def test_the_worst_of_the_largest_messages_costs_a_bounded_time_and_memory(giant: str) -> None:
    message = Message("iotingestion/n", GIANTS[giant](), RECEIVED_AT_MS, "n")
    assert LIMIT * 0.9 < len(message.payload) <= LIMIT
    cost = weigh(message)
    print(f"\n{giant}: {cost.outcome} {cost.cpu_seconds:.2f} s {cost.peak_bytes / 1e6:.0f} MB")
    assert cost.cpu_seconds < CPU_SECONDS_MAX
    assert cost.peak_bytes < MEMORY_PER_BYTE_MAX * LIMIT


def test_a_message_over_the_limit_is_answered_without_a_look_inside() -> None:
    message = Message("iotingestion/n", b'{"status":"online"}', RECEIVED_AT_MS, "n")
    assert judge(message) == "telemetry"
    assert judge(message, payload_bytes_max=18) == REJECTED


@pytest.mark.parametrize(
    "reason",
    [
        "Expected `str | null`, got `int` - at `$.species`",
        "float division by zero",
        "ValueError: could not convert string",
        "'NoneType' has no length",
        "<class 'dict'> is no place",
    ],
)
def test_a_programmers_words_are_found(reason: str) -> None:
    assert not is_plain(reason)


def test_what_a_device_wrote_may_be_quoted() -> None:
    assert is_plain('timestamp: "ValueError: `str`" cannot be read as a time')
