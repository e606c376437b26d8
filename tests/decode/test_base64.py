"""Base64 is read as the standard library reads it, strictly, but for line breaks."""

import base64
import itertools
import random
from binascii import a2b_base64

import pytest

from echo_ingest.decode.base64_clip import from_base64
from echo_ingest.decode.errors import DecodeError
from echo_ingest.reasons import ReasonCode
from tests.decode.messages import rejected, wav

RANDOM = random.Random(1)
LONG = base64.b64encode(RANDOM.randbytes(250)).decode()
"""More letters than any processor reads at once, and padding at the end."""
LETTERS = [chr(code) for code in (*range(128), 0xFF, 0x2028, 0x1F438)]
NO_LINE_BREAKS = str.maketrans("", "", "\r\n")
NOISE = base64.b64encode(wav() + RANDOM.randbytes(3_001)).decode()
"""It has plus signs, slashes, and padding at the end."""


def standard(text: str) -> bytes | None:
    try:
        return a2b_base64(text.translate(NO_LINE_BREAKS), strict_mode=True)
    except ValueError:
        return None


def ours(text: str) -> bytes | None:
    try:
        return from_base64(text, "audioClip")
    except DecodeError:
        return None


def test_every_short_text_is_read_as_the_standard_reads_it() -> None:
    texts = [
        "".join(each) for size in range(7) for each in itertools.product("Az/=\n ", repeat=size)
    ]
    assert [ours(text) for text in texts] == [standard(text) for text in texts]


@pytest.mark.parametrize("text", [LONG, LONG.rstrip("=")[:-2], LONG[:64]])
def test_every_letter_anywhere_is_read_as_the_standard_reads_it(text: str) -> None:
    for at, letter in itertools.product(range(len(text) + 1), LETTERS):
        for changed in (text[:at] + letter + text[at + 1 :], text[:at] + letter + text[at:]):
            assert ours(changed) == standard(changed), changed


def lines(text: str, width: int, between: str) -> str:
    return between.join(text[at : at + width] for at in range(0, len(text), width))


@pytest.mark.parametrize("between", ["\n", "\r\n", "\r", "\n\n"])
@pytest.mark.parametrize("width", [1, 64, 76, 77])
def test_line_breaks_change_nothing(width: int, between: str) -> None:
    assert ours(lines(NOISE, width, between) + between) == base64.b64decode(NOISE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NOISE.replace("+", " "), "spaces and no plus sign; it was read as form data"),
        (lines(NOISE, 76, " "), "spaces or tabs; only line breaks may stand in it"),
        (lines(NOISE, 76, "\t"), "spaces or tabs; only line breaks may stand in it"),
        (lines(NOISE, 76, " \n"), "spaces or tabs; only line breaks may stand in it"),
        (NOISE.replace("+", "-").replace("/", "_"), "the URL-safe alphabet"),
        (NOISE.replace("/", "_"), "the URL-safe alphabet"),
        (NOISE.rstrip("="), "its length is no multiple of 4; it was cut off, or sent without"),
        (NOISE[:-5], "its length is no multiple of 4"),
        (NOISE[:999] + "µ" + NOISE[1_000:], "letters that are not ASCII"),
    ],
)
def test_what_happened_to_the_text_is_said_and_it_is_never_other_sound(
    text: str, words: str
) -> None:
    result = rejected({"audioClip": text, "microphoneLLA": [1, 2, 3]})
    assert (result.code, result.field) == (ReasonCode.BROKEN_BASE64, "audioClip")
    assert words in result.detail


@pytest.mark.parametrize("seed", range(40))
def test_a_clip_that_went_through_a_form_is_refused(seed: int) -> None:
    """Each + is a space then; whether any was there depends on the sound."""
    data = wav() + random.Random(seed).randbytes(30 + 7 * seed)
    text = base64.b64encode(data).decode()
    assert ours(text.replace("+", " ")) == (None if "+" in text else data)
