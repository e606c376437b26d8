"""A part of a file, as a browser asks for it that plays a clip from the middle. [RFC 9110, 14]"""

import re
from collections.abc import Mapping

from msgspec import Struct

PLAYED_BYTES_MAX = 1024 * 1024
"""A player that asks for all the rest gets so much of it, and asks again: it would read slowly, for
as long as it plays, and hold its turn all the while."""
ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
PLAYERS = ("audio", "video")


class ByteRange(Struct, frozen=True):
    """Bytes `first` to `last`, both included; of a part that cannot be, neither."""

    first: int
    last: int


NOWHERE = ByteRange(0, -1)
"""It begins behind the end."""


def part_of(headers: Mapping[str, str], size: int) -> ByteRange | None:
    """What is asked for of a file of `size` bytes: None is all of it.

    So is a range that cannot be read, or several at once, as the RFC has it.
    """
    found = ONE_RANGE.fullmatch(headers.get("range", "").strip())
    if found is None or found[0] == "bytes=-":
        return None
    if not found[1]:
        return (
            ByteRange(max(0, size - int(found[2])), size - 1) if int(found[2]) and size else NOWHERE
        )
    first = int(found[1])
    if found[2] and int(found[2]) < first:
        return None
    if first >= size:
        return NOWHERE
    if found[2]:
        return ByteRange(first, min(int(found[2]), size - 1))
    if headers.get("sec-fetch-dest") in PLAYERS:
        return ByteRange(first, min(first + PLAYED_BYTES_MAX, size) - 1)
    return ByteRange(first, size - 1)
