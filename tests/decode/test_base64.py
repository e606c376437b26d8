"""Base64 is read as the standard library reads it, strictly, but for line breaks."""

import base64
import itertools
import random
from binascii import a2b_base64

import pytest

from echo_ingest.decode.base64_clip import from_base64
from echo_ingest.decode.errors import DecodeError

LONG = base64.b64encode(random.Random(1).randbytes(250)).decode()
"""More letters than any processor reads at once, and padding at the end."""
LETTERS = [chr(code) for code in (*range(128), 0xFF, 0x2028, 0x1F438)]
NO_WHITE_SPACE = str.maketrans("", "", " \t\n\r\v\f")


def standard(text: str) -> bytes | None:
    try:
        return a2b_base64(text.translate(NO_WHITE_SPACE), strict_mode=True)
    except ValueError:
        return None


def ours(text: str) -> bytes | None:
    try:
        return from_base64(text, "audioClip")
    except DecodeError:
        return None


def test_every_short_text_is_read_as_the_standard_reads_it() -> None:
    texts = [
        "".join(each) for size in range(7) for each in itertools.product("Az/=\n", repeat=size)
    ]
    assert [ours(text) for text in texts] == [standard(text) for text in texts]


@pytest.mark.parametrize("text", [LONG, LONG.rstrip("=")[:-2], LONG[:64]])
def test_every_letter_anywhere_is_read_as_the_standard_reads_it(text: str) -> None:
    for at, letter in itertools.product(range(len(text) + 1), LETTERS):
        for changed in (text[:at] + letter + text[at + 1 :], text[:at] + letter + text[at:]):
            assert ours(changed) == standard(changed), changed
