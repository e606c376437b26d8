"""Files to download, whole or in part: a browser plays a clip from its middle. [RFC 9110, 14]"""

import re
from collections.abc import AsyncIterator, Mapping

from litestar.response import Stream
from msgspec import Struct

CHUNK_BYTES = 64 * 1024
PLAYED_BYTES_MAX = 1024 * 1024
"""A player that asks for all the rest gets this much, and asks again: otherwise it would read
slowly for as long as it plays, and hold its turn all the while."""
ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
PLAYERS = ("audio", "video")


class ByteRange(Struct, frozen=True):
    """Bytes `first` to `last`, both included."""

    first: int
    last: int


NOWHERE = ByteRange(0, -1)
"""A range that begins behind the end."""


def part_of(headers: Mapping[str, str], size: int) -> ByteRange | None:
    """Return the range that is requested of a file of `size` bytes; None for the whole file.

    A range that cannot be read, or several at once, also mean the whole file, as in the RFC.
    """
    match = ONE_RANGE.fullmatch(headers.get("range", "").strip())
    if match is None or match[0] == "bytes=-":
        return None
    if not match[1]:
        return (
            ByteRange(max(0, size - int(match[2])), size - 1) if int(match[2]) and size else NOWHERE
        )
    first = int(match[1])
    if match[2] and int(match[2]) < first:
        return None
    if first >= size:
        return NOWHERE
    if match[2]:
        return ByteRange(first, min(int(match[2]), size - 1))
    if headers.get("sec-fetch-dest") in PLAYERS:
        return ByteRange(first, min(first + PLAYED_BYTES_MAX, size) - 1)
    return ByteRange(first, size - 1)


def download(
    body: bytes, media_type: str, name: str, request_headers: Mapping[str, str] | None = None
) -> Stream:
    """Offer `body` as a file; it is sent no faster than it is read, and its turn lasts as long.

    Where `request_headers` are given, they may ask for a part.
    """
    size = len(body)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    status_code = 200
    if request_headers is not None:
        headers["Accept-Ranges"] = "bytes"
        if (part := part_of(request_headers, size)) is not None:
            body = body[part.first : part.last + 1]
            status_code = 206 if part != NOWHERE else 416
            span = f"{part.first}-{part.last}" if part != NOWHERE else "*"
            headers["Content-Range"] = f"bytes {span}/{size}"

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), CHUNK_BYTES):
            yield body[start : start + CHUNK_BYTES]

    return Stream(
        chunks(),
        status_code=status_code,
        media_type=media_type,
        headers={"Content-Length": str(len(body)), **headers},
    )
