"""Audio files made to hurt: sizes that lie, rates of zero, chunks in chunks, pages without end."""

import struct
from collections.abc import Callable
from random import Random

from tests.decode.messages import CLIPS, chunk, wav

GOOD = [path.read_bytes() for path in sorted(CLIPS.glob("*.*")) if path.suffix != ".md"]
GOOD += [wav(samples=20), wav(samples=1, rate=384_000)]
SIZES = (0, 1, 2, 3, 4, 15, 16, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF7, 0xFFFFFFFE, 0xFFFFFFFF)
RATES = (0, 1, 7, 8_000, 16_000, 44_100, 384_000, 10_000_001, 2**31, 2**32 - 1)
GUANO = (
    "GUANO|Version: 1.0",
    "Timestamp: 2026-09-14T05:45:12+10:00",
    "Timestamp: 9999-12-31T23:59:59-23:59",
    "Timestamp: 0001-01-01T00:00:00+23:59",
    "Loc Position: -38.77 143.5",
    "Loc Position: nan inf",
    "Loc Position: 1e308 -1e308",
    "Loc Position: -38,77 143,5",
    "Loc Elevation: 1e9",
    "Loc Accuracy: -1",
    "TE: 10",
    "TE: " + "9" * 400,
    "Serial: " + "9" * 3_000,
    "Serial: \0\x1b[31m",
    ": : :",
    "\udcff",
)
WAMD = (
    (0, b"\1\0"),
    (0, b"\2\0"),
    (2, b"S4U01234\0"),
    (5, b"2026-09-14 15:45:12.000+10:00"),
    (5, b"9999-12-31 23:59:59-23:59"),
    (6, b"WGS84,38.77120,S,143.50210,E,112"),
    (6, b"WGS84,1,2,(null)"),
    (0x0F, b"\x0a\0"),
    (0x0F, b"\xff"),
    (0x0D, b"RIFF\xff\xff\xff\xff"),
    (0xFFFF, b"\0"),
)
BEXT = (
    bytes(320) + b"2026-09-1405:45:12" + bytes(300),
    bytes(320) + b"0000-00-0099:99:99" + b"\xff" * 300,
    b"\xff" * 602,
)
COMMENTS = (
    "Recorded at 05:45:12 14/09/2026 (UTC+10) by AudioMoth 24F3190361CC6E3D at gain setting 2",
    "Recorded at 25:61:61 99/99/0000 (UTC+99:99) by AudioMoth 0000000000000000",
    'opso_metadata{"recording_start_time": "2026-09-14T05:45:12+00:00", "comment": "x"}',
    'opso_metadata{"recording_start_time": ' + "[" * 500,
    "opso_metadata",
)


def hostile(rng: Random) -> bytes:
    """Return a file that begins like audio."""
    makers: tuple[Callable[[Random], bytes], ...] = (_wav, _flac, _mp3, _ogg, _good, _good)
    data = rng.choice(makers)(rng)
    if rng.random() < 0.2:
        data = data[: rng.randrange(len(data) + 1)]
    return data


def _good(rng: Random) -> bytes:
    return rng.choice(GOOD)


def _size(rng: Random, true: int) -> int:
    """Return mostly the true size, else a size that is nearly true or impossible."""
    odd = rng.random()
    if odd < 0.6:
        return true
    return max(true + rng.choice((-2, -1, 1, 2)), 0) if odd < 0.8 else rng.choice(SIZES)


def _wav(rng: Random) -> bytes:
    parts = [_chunk(rng) for _ in range(rng.choice((1, 2, 3, 4, 6)))]
    if rng.random() < 0.05:
        parts.append(chunk(rng.choice((b"junk", b"LIST", b"guan")), b"") * rng.randint(900, 1100))
    rng.shuffle(parts)
    body = b"WAVE" + b"".join(parts)
    return rng.choice((b"RIFF", b"RIFF", b"RF64")) + struct.pack("<I", _size(rng, 4)) + body


def _chunk(rng: Random) -> bytes:
    name = rng.choice(
        (b"fmt ", b"fmt ", b"data", b"data", b"LIST", b"guan", b"fact", b"ds64", b"wamd", b"bext")
    )
    match name:
        case b"fmt ":
            kind = rng.choice((1, 1, 1, 3, 2, 6, 17, 0x55, 0xFFFE, 0))
            channels, frame = rng.choice((1, 1, 2, 0, 64, 65_535)), rng.choice((2, 2, 4, 0, 65_535))
            rate = rng.choice(RATES)
            body = struct.pack("<HHIIHH", kind, channels, rate, rng.choice(RATES), frame, 16)
            body += rng.randbytes(rng.choice((0, 0, 2, 24)))
        case b"ds64":
            body = struct.pack("<QQQ", *(rng.choice((0, 40, 2**63, 2**64 - 1)) for _ in range(3)))
        case b"LIST":
            body = b"INFO" + b"".join(_tag(rng) for _ in range(rng.randrange(4)))
        case b"guan":
            lines = rng.choices(GUANO, k=rng.randrange(5))
            body = "\n".join(lines).encode("utf-8", "surrogateescape")
        case b"wamd":
            fields = rng.choices(WAMD, k=rng.randrange(6))
            body = b"".join(
                struct.pack("<HI", number, _size(rng, len(value))) + value
                for number, value in fields
            )
        case b"bext":
            body = rng.choice(BEXT)
        case _:
            body = rng.randbytes(rng.choice((0, 1, 4, 40, 800)))
    return chunk(name, body, _size(rng, len(body)))


def _tag(rng: Random) -> bytes:
    text = rng.choice(COMMENTS).encode() if rng.random() < 0.7 else rng.randbytes(9)
    if rng.random() < 0.1:
        text = chunk(b"LIST", b"INFO" + chunk(b"LIST", b"INFO" + text))
    return chunk(rng.choice((b"ICMT", b"IART", b"\0\xff\n\x7f")), text, _size(rng, len(text)))


def _flac(rng: Random) -> bytes:
    rate, channels, samples = rng.randrange(2**20), rng.randrange(8), rng.choice((0, 1, 2**36 - 1))
    packed = rate << 44 | channels << 41 | 15 << 36 | samples
    info = rng.randbytes(10) + packed.to_bytes(8) + bytes(16)
    blocks = _block(rng, 0, info)
    for _ in range(rng.choice((0, 1, 2, 130))):
        vendor = rng.choice(SIZES)
        comments = b"".join(
            struct.pack("<I", _size(rng, len(text))) + text
            for text in (rng.choice(COMMENTS).encode(), b"COMMENT=" + rng.randbytes(5))
        )
        body = struct.pack("<II", vendor, rng.choice(SIZES)) + comments
        blocks += _block(rng, rng.choice((4, 4, 1, 127)), body)
    sound = rng.choice((b"\xff\xf8", b"\xff\xf9", b"\xff")) * rng.randrange(300)
    return b"fLaC" + blocks + _block(rng, 0x80 | 1, b"") + sound + rng.randbytes(20)


def _block(rng: Random, kind: int, body: bytes) -> bytes:
    return bytes([kind]) + (_size(rng, len(body)) & 0xFFFFFF).to_bytes(3) + body


def _mp3(rng: Random) -> bytes:
    tag = b""
    if rng.random() < 0.5:
        size = rng.choice((0, 10, 127, 2**28 - 1))
        length = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
        tag = b"ID3\x04\0" + rng.choice((b"\0", b"\x10")) + length + bytes(min(size, 127))
    head = bytes([0xFF, rng.choice((0xFB, 0xF3, 0xE3, 0xFA)), rng.randrange(256), rng.randrange(4)])
    frame = bytearray(head + bytes(rng.choice((20, 100, 413, 414, 1_000))))
    if rng.random() < 0.6:
        at = rng.choice((13, 21, 36))
        name = rng.choice((b"Xing", b"Info", b"VBRI"))
        counts = struct.pack(
            ">III", rng.choice((0, 1, 3, 0xFFFFFFFF)), rng.choice(SIZES), rng.choice(SIZES)
        )
        frame[at : at + 16] = name + counts
    return tag + bytes(frame) * rng.choice((1, 2, 30))


def _ogg(rng: Random) -> bytes:
    rate = rng.choice(RATES)
    first = rng.choice(
        (
            b"\x01vorbis" + struct.pack("<IBI", 0, rng.randrange(256), rate) + bytes(14),
            b"OpusHead\x01" + bytes([rng.randrange(256)]) + struct.pack("<HI", 65_535, rate),
            b"\x7fFLAC\x01\0\0\1fLaC\0\0\0\x22" + rng.randbytes(34),
            rng.randbytes(30),
        )
    )
    pages = _page(rng, first)
    for _ in range(rng.choice((0, 1, 3, 40))):
        pages += _page(rng, rng.randbytes(rng.randrange(300)))
    return pages * rng.choice((1, 1, 1, 2, 20))


def _page(rng: Random, body: bytes) -> bytes:
    granule = rng.choice((0, 1, 48_000, 2**63, 2**64 - 1))
    stream = rng.choice((7, 7, 7, 7, 8))
    lengths = bytes([255] * (len(body) // 255) + [len(body) % 255])
    if rng.random() < 0.1:
        lengths = rng.randbytes(rng.choice((0, 1, 255)))
    head = struct.pack("<BBQIII", 0, 2, granule, stream, 0, 0)
    return b"OggS" + head + bytes([len(lengths)]) + lengths + body
