"""FLAC, MP3 and Ogg built part by part: it is known how long each of them lasts."""

import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from random import Random

from tests.fuzz.true_files import (
    BROKEN,
    CUT_OFF,
    DISAGREES,
    EMPTY,
    EVERY_PROBLEM,
    NONE,
    NOT_ANNOUNCED,
    RATES_HZ,
    SEVERAL,
    File,
)
from tests.fuzz.true_wavs import wav
from tests.fuzz.truths import NOTHING, SoundTruth, one_of

# ------------------------------------------------------------------ FLAC


def _remainders(polynomial: int, bits: int) -> list[int]:
    """Return the remainder of each byte, for a CRC of so many bits."""
    table = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial * (value >> bits - 1)) & (1 << bits) - 1
        table.append(value)
    return table


_CRC8, _CRC16 = _remainders(0x07, 8), _remainders(0x8005, 16)


def _crc8(data: bytes) -> bytes:
    value = 0
    for byte in data:
        value = _CRC8[value ^ byte]
    return bytes([value])


def _crc16(data: bytes) -> bytes:
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ _CRC16[value >> 8 ^ byte]
    return value.to_bytes(2)


FLAC_BLOCK = 192


FLAC_SIZES = {192: 1, 576: 2, 256: 8, 512: 9, 1_000: 7, 100: 6}
"""Samples of a block, and the code that stands for them in the header of a frame; 6 and 7: any."""


@lru_cache(maxsize=20_000)
def _flac_frame(
    number: int,
    block: int,
    channels: int,
    samples: int,
    *,
    verbatim: bool = False,
    by_sample: bool = False,
) -> bytes:
    """Return a frame (RFC 9639, 9) of `samples` samples, in a file with blocks of `block`.

    The sound is constant, or written sample by sample, and then it looks like the start of frames.
    Frames are counted, or their samples are (`by_sample`).
    """
    code = FLAC_SIZES.get(samples, 7)
    head = b"\xff" + bytes([0xF8 | by_sample, code << 4, channels - 1 << 4 | 8])
    head += chr(number * block if by_sample else number).encode()
    head += (samples - 1).to_bytes(max(code - 5, 0)) if code in (6, 7) else b""
    frame = head + _crc8(head)
    for channel in range(channels):
        if verbatim:
            frame += b"\2" + ((head[:2] + head + b"\xff\xf9") * samples)[: 2 * samples]
        else:
            frame += b"\0" + struct.pack(">h", 100 * channel - number)
    return frame + _crc16(frame)


def _streaminfo(rate: int, channels: int, samples: int, block: int = FLAC_BLOCK) -> bytes:
    packed = rate << 44 | channels - 1 << 41 | 15 << 36 | samples
    return struct.pack(">HH", block, block) + bytes(6) + packed.to_bytes(8) + bytes(16)


def _flac_comments(comments: tuple[str, ...]) -> bytes:
    texts = [text.encode() for text in comments]
    body = struct.pack("<I", 4) + b"echo" + struct.pack("<I", len(texts))
    return body + b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _flac_blocks(info: bytes, comments: tuple[str, ...]) -> bytes:
    blocks = [(0, info)]
    if comments:  # beside what other programs write
        blocks += [
            (1, bytes(20)),
            (3, bytes(18)),
            (4, _flac_comments(comments)),
            (2, b"fLaC\xff\xf8"),
        ]
    last = len(blocks) - 1
    return b"fLaC" + b"".join(
        bytes([kind | 0x80 * (at == last)]) + len(body).to_bytes(3) + body
        for at, (kind, body) in enumerate(blocks)
    )


def id3(rng: Random) -> bytes:
    """Return an ID3v2 tag of some size."""
    body = b"TIT2" + struct.pack(">IH", 5, 0) + b"\0Tone" + bytes(rng.randrange(300))
    size = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3" + bytes([rng.choice((3, 4)), 0, 0]) + size + body


def flac(rng: Random, comments: tuple[str, ...] = ()) -> File:
    """Return a FLAC of constant sound."""
    rate, channels = rng.choice(RATES_HZ), rng.choice((1, 1, 2))
    block = rng.choice((FLAC_BLOCK, FLAC_BLOCK, *FLAC_SIZES))
    last = rng.choice((block, rng.randrange(20, block)))
    count = rng.randrange(3, 12)
    verbatim, by_sample = rng.random() < 0.3, rng.random() < 0.2
    frames = [
        _flac_frame(number, block, channels, size, verbatim=verbatim, by_sample=by_sample)
        for number, size in enumerate([*[block] * (count - 1), last])
    ]
    samples = (count - 1) * block + last
    sound = b"".join(frames)

    def file(
        label: str, data: bytes, *problems: str, refused: tuple[str, ...] = (), times: int = 1
    ) -> File:
        truth = SoundTruth(
            data, "flac", rate, channels, times * samples / rate, frozenset(problems)
        )
        return File(f"FLAC {label}", truth, frozenset(refused), bool(refused))

    whole = _flac_blocks(_streaminfo(rate, channels, samples, block), comments) + sound
    unknown = _flac_blocks(_streaminfo(rate, channels, 0, block), comments) + sound
    doubled = _flac_blocks(_streaminfo(rate, channels, 2 * samples, block), comments) + sound
    halved = _flac_blocks(_streaminfo(rate, channels, samples // 2, block), comments) + sound
    match rng.randrange(16):
        case 0 | 1:
            return file("of unknown length", unknown, NOT_ANNOUNCED)
        case 2:
            return file("that announces twice its samples", doubled, DISAGREES)
        case 3:
            return file("that announces half its samples", halved, DISAGREES)
        case 4 | 5:
            tags = b"".join(id3(rng) for _ in range(rng.choice((1, 1, 2, 3))))
            return file("behind ID3", tags + whole)
        case 6:
            rest = rng.choice((b"TAG" + bytes(125), b"\0" * 300, bytes(4)))
            return file("and rubbish", whole + rest, *EVERY_PROBLEM)
        case 7:
            return file("joined", whole + whole, SEVERAL, times=2)
        case 8:
            # The last two bytes are the checksum: without them no sound is missing.
            cut = len(whole) - rng.randrange(3, len(frames[-1]))
            return file("cut off", whole[:cut], refused=(CUT_OFF,))
        case 9:
            return file("without sound", whole[: -len(sound)], refused=(EMPTY, CUT_OFF))
    return file("plain", whole)


# ------------------------------------------------------------------ MP3

MP3_RATES_HZ = {(3, 0): 44_100, (3, 2): 32_000, (2, 0): 22_050, (2, 2): 16_000, (0, 2): 8_000}


def _mp3_frame(
    version: int, rate_index: int, *, mono: bool, wide: bool = False, padded: bool = False
) -> bytes:
    """Return a silent frame of layer III: 32 kbit/s (MPEG-1) or 16 (2, 2.5); `wide`: 64."""
    narrow_kbits, narrow_index, wide_index = (32, 1, 5) if version == 3 else (16, 2, 8)
    kbits, index = (64, wide_index) if wide else (narrow_kbits, narrow_index)
    samples = 1_152 if version == 3 else 576
    third = index << 4 | rate_index << 2 | padded << 1
    head = bytes([0xFF, 0xE3 | version << 3, third, 0xC0 * mono])
    size = samples // 8 * kbits * 1_000 // MP3_RATES_HZ[version, rate_index]
    return head.ljust(size + padded, b"\0")


def _vbri(frame: bytes, count: int, size: int) -> bytes:
    """Return the frame in which Fraunhofer's encoder counts the others."""
    tag = b"VBRI" + struct.pack(">HHHII", 1, 0, 75, size, count) + bytes(8)
    return (frame[:36].ljust(36, b"\0") + tag).ljust(len(frame), b"\0")


def _ape(rng: Random) -> bytes:
    """Return an APEv2 tag, with a header or without one."""
    item = struct.pack("<II", 4, 0) + b"Title\0Tone"

    def mark(flags: int) -> bytes:
        sizes = struct.pack("<III", 2_000, len(item) + 32, 1)
        return b"APETAGEX" + sizes + struct.pack("<I", flags) + bytes(8)

    if rng.random() < 0.5:
        return item + mark(0)
    return mark(0xA0000000) + item + mark(0x80000000)


def mp3(rng: Random) -> File:
    """Return an MP3 of silence."""
    version, rate_index = rng.choice(list(MP3_RATES_HZ))
    rate, mono = MP3_RATES_HZ[version, rate_index], rng.random() < 0.7
    narrow = _mp3_frame(version, rate_index, mono=mono)
    wide = _mp3_frame(version, rate_index, mono=mono, wide=True)
    count = rng.randrange(4, 12)
    frames = [narrow] * count
    if rng.random() < 0.5:
        longer = _mp3_frame(version, rate_index, mono=mono, padded=True)
        frames = rng.choices(rng.choice(((narrow, wide), (narrow, longer))), k=count)
    sound = b"".join(frames)
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    delay, padding = rng.choice(((0, 0), (576, 1_105), (576, 612), (1_105, 800)))

    def first(count: int, size: int | None) -> bytes:
        """Return the frame that counts the others, with the encoder's delay if it has a size."""
        tag = rng.choice((b"Xing", b"Info")) + struct.pack(">II", 1 if size is None else 15, count)
        if size is not None:
            tag += struct.pack(">I", size) + bytes(range(0, 200, 2)) + bytes(4)
            tag += b"LAME3.100" + bytes(12) + (delay << 12 | padding).to_bytes(3)
        return (wide[: 4 + side] + tag).ljust(len(wide), b"\0")

    def file(
        label: str, data: bytes, samples: float, *problems: str, refused: tuple[str, ...] = ()
    ) -> File:
        channels = 1 if mono else 2
        truth = SoundTruth(data, "mp3", rate, channels, samples / rate, frozenset(problems))
        return File(f"MP3 {label}", truth, frozenset(refused), bool(refused))

    size = len(wide) + len(sound)
    counted = first(count, size) + sound
    plain = count * (1_152 if version == 3 else 576)
    trimmed = plain - delay - padding
    match rng.randrange(20):
        case 16:
            return file("with VBRI", _vbri(wide, count, size) + sound, plain)
        case 17:
            return file("and APE", sound + _ape(rng), plain, NONE)
        case 18:
            lie = first(count, size * rng.choice((2, 3)) // 4) + sound
            return file("that announces fewer bytes", lie, trimmed, NONE, DISAGREES)
        case 0:
            tags = b"".join(id3(rng) for _ in range(rng.choice((1, 1, 2))))
            return file("behind ID3", tags + sound, plain)
        case 1:
            zeros = bytes(rng.randrange(1, 9_000))
            return file("behind ID3 and zeros", id3(rng) + zeros + sound, plain)
        case 2:
            rest = rng.choice((b"TAG" + bytes(125), bytes(50), b"TAG".ljust(128, b" ")))
            return file("and a tag", sound + rest, plain, NONE)
        case 3:
            cut = rng.randrange(1, len(frames[-1]) - 4)
            return file("cut off", sound[:-cut], plain, refused=(CUT_OFF,))
        case 4:
            return file("joined", (id3(rng) + sound) * 2, 2 * plain, NONE, SEVERAL)
        case 5 | 6 | 7:
            return file("counted", counted, trimmed)
        case 8:
            lie = first(count * rng.choice((2, 10)), size) + sound
            return file("that announces more frames", lie, trimmed, DISAGREES)
        case 9:
            return file("counted, without a size", first(count, None) + sound, plain)
        case 10:
            return file("counted, joined", counted * 2, 2 * trimmed, SEVERAL)
        case 11:
            data = counted[: -len(frames[-1])]
            return file("counted, cut off", data, trimmed, refused=(CUT_OFF,))
    return file("plain", sound, plain)


# ------------------------------------------------------------------ Ogg

_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_crc(data: bytes) -> bytes:
    """Return the CRC of a page (RFC 3533, 6): that of zlib, with its bits the other way round."""
    value = zlib.crc32(data.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return value.to_bytes(4).translate(_MIRRORED)


def _page(
    packets: list[bytes],
    granule: int,
    serial: int,
    number: int,
    flags: int,
    *,
    goes_on: bool = False,
) -> bytes:
    """Return a page (RFC 3533, 6); `goes_on`: its last packet does so on the next page."""
    lengths = b"".join(
        b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets
    )
    lengths = lengths[:-1] if goes_on else lengths
    head = b"OggS\0" + struct.pack("<BQII", flags, granule & 2**64 - 1, serial, number)
    rest = bytes([len(lengths)]) + lengths + b"".join(packets)
    crc = _ogg_crc(head + bytes(4) + rest)
    return head + crc + rest


def _stream(
    heads: list[bytes],
    packets: list[bytes],
    ends: list[int],
    serial: int,
    rng: Random,
) -> bytes:
    """Return pages of headers, each in one, and of sound; `ends`: the granule after each packet."""
    pages = [_page([heads[0]], 0, serial, 0, 2)]
    for head in heads[1:]:
        if len(head) > 510:  # over two pages
            pages.append(_page([head[:510]], -1, serial, len(pages), 0, goes_on=True))
            pages.append(_page([head[510:]], 0, serial, len(pages), 1))
        else:
            pages.append(_page([head], 0, serial, len(pages), 0))
    at = 0
    while at < len(packets):
        upto = min(at + rng.choice((1, 3, 5, 50)), len(packets))
        last = 4 if upto == len(packets) else 0
        pages.append(_page(packets[at:upto], ends[upto - 1], serial, len(pages), last))
        at = upto
    return b"".join(pages)


OPUS_FRAMES = {
    **{0: 480, 1: 960, 2: 1_920, 3: 2_880, 9: 960, 11: 2_880, 12: 480, 13: 960},
    **{16: 120, 17: 240, 18: 480, 19: 960, 31: 960},
}
"""Configurations of Opus (RFC 6716, 3.1): SILK, hybrid and CELT; samples of a frame at 48 kHz."""


def _opus_packet(rng: Random, config: int, channels: int) -> tuple[bytes, int]:
    """Return a packet of one frame or several (RFC 6716, 3.2), and how many they are."""
    toc = config << 3 | channels - 1 << 2
    size = rng.randrange(2, 9)
    limit = 5_760 // OPUS_FRAMES[config]  # 120 ms
    code = rng.choice((0, 0, 0, 1, 2, 3)) if limit > 1 else 0
    match code:
        case 1:
            return bytes([toc | 1]) + bytes(2 * size), 2
        case 2:
            return bytes([toc | 2, size]) + bytes(2 * size), 2
        case 3:
            count = rng.randrange(1, min(limit, 6) + 1)
            return bytes([toc | 3, count]) + bytes(count * size), count
    return bytes([toc]) + bytes(size), 1


def opus(rng: Random) -> File:
    """Return an Ogg Opus of packets that hold next to nothing."""
    config, each = rng.choice(list(OPUS_FRAMES.items()))
    count = max(rng.randrange(3, 12), 4_800 // each + 1)
    channels, skipped = (
        rng.choice((1, 2)),
        rng.choice((312, 0, 3_840 if count * each > 9_000 else 80)),
    )
    rate = rng.choice((48_000, 16_000, 8_000, 0))
    serial = rng.randrange(2**32)
    made = [_opus_packet(rng, config, channels) for _ in range(count)]
    packets = [packet for packet, _ in made]
    ends = list(accumulate(frames * each for _, frames in made))
    heads = [
        b"OpusHead\x01" + struct.pack("<BHIhB", channels, skipped, rate, 0, 0),
        b"OpusTags" + struct.pack("<I", 4) + b"echo" + struct.pack("<I", 0),
    ]
    if rng.random() < 0.2:
        heads[1] += bytes(rng.randrange(500, 900))

    total = ends[-1]

    def file(
        label: str,
        data: bytes,
        granules: int,
        *problems: str,
        refused: tuple[str, ...] = (),
    ) -> File:
        truth = SoundTruth(
            data, "ogg", rate or 48_000, channels, granules / 48_000, frozenset(problems)
        )
        return File(f"Opus {label}", truth, frozenset(refused), bool(refused))

    def stream(start: int, trim: int = 0) -> bytes:
        granules = [start + end for end in ends]
        granules[-1] -= trim
        return _stream(heads, packets, granules, serial, rng)

    plain = stream(0)
    match rng.randrange(14):
        case 0 | 1:
            start = rng.choice((48_000, 8_294_400_000, 960, 2**40))
            # How a stream that begins in the middle counts its first samples is told apart by none.
            return file(
                "from the middle of a stream", stream(start), total - skipped, *EVERY_PROBLEM
            )
        case 2:
            data = _stream(heads, packets, [0] * count, serial, rng)
            return file(
                "whose pages count nothing", data, total - skipped, NOT_ANNOUNCED, DISAGREES
            )
        case 3 | 4:
            trim = rng.randrange(each)
            return file("trimmed at its end", stream(0, trim), total - trim - skipped)
        case 5:
            other = _stream(heads, packets, ends, serial ^ 1, rng)
            return file("joined", plain + other, 2 * (total - skipped), SEVERAL)
        case 6:
            cut = rng.randrange(1, 20)
            return file("cut off", plain[:-cut], total, refused=(CUT_OFF,))
        case 7:
            bare = _page([heads[0]], 0, serial, 0, 2) + _page([heads[1]], 0, serial, 1, 4)
            return file("without sound", bare, total, refused=(EMPTY, CUT_OFF, BROKEN))
    return file("plain", plain, total - skipped)


def ogg_flac(rng: Random) -> File:
    """Return FLAC in Ogg (RFC 9639, 10.1)."""
    rate, channels = rng.choice(RATES_HZ), rng.choice((1, 2))
    count = rng.randrange(4, 12)
    samples = count * FLAC_BLOCK
    announced = rng.choice((samples, samples, 0))
    info = b"\0\0\0\x22" + _streaminfo(rate, channels, announced)
    comments = _flac_comments(())
    heads = [
        b"\x7fFLAC\x01\0\0\1fLaC" + info,
        b"\x84" + len(comments).to_bytes(3) + comments,
    ]
    frames = [_flac_frame(at, FLAC_BLOCK, channels, FLAC_BLOCK) for at in range(count)]
    ends = [FLAC_BLOCK * (at + 1) for at in range(count)]
    data = _stream(heads, frames, ends, rng.randrange(2**32), rng)
    problems = frozenset({NONE, NOT_ANNOUNCED}) if announced == 0 else NOTHING
    return File("FLAC in Ogg", SoundTruth(data, "ogg", rate, channels, samples / rate, problems))


@lru_cache(maxsize=1)
def _vorbis() -> tuple[list[bytes], list[bytes]]:
    """Return the packets of a tone of 0.1 s (clips/README.md): the headers, and the sound."""
    data = (Path(__file__).parents[1] / "decode" / "clips" / "tone.ogg").read_bytes()
    packets, at = [b""], 0
    while at < len(data):
        lengths = data[at + 27 : at + 27 + data[at + 26]]
        at += 27 + len(lengths)
        for length in lengths:
            packets[-1] += data[at : at + length]
            at += length
            if length < 255:
                packets.append(b"")
    return packets[:3], packets[3:-1]


def vorbis(rng: Random) -> File:
    """Return a tone in Ogg Vorbis."""
    heads, packets = _vorbis()
    serial, samples = rng.randrange(2**32), 1_600

    def stream(serial: int, start: int = 0, trim: int = 0) -> bytes:
        pages = [_page([heads[0]], 0, serial, 0, 2), _page(heads[1:], 0, serial, 1, 0)]
        return b"".join((*pages, _page(packets, start + samples - trim, serial, 2, 4)))

    def file(
        label: str, data: bytes, samples: int, *problems: str, refused: tuple[str, ...] = ()
    ) -> File:
        truth = SoundTruth(data, "ogg", 16_000, 1, samples / 16_000, frozenset(problems))
        return File(f"Vorbis {label}", truth, frozenset(refused), bool(refused))

    match rng.randrange(8):
        case 0:
            trim = rng.randrange(1_000)
            return file("trimmed at its end", stream(serial, 0, trim), samples - trim)
        case 1:
            return file("joined", stream(serial) + stream(serial ^ 1), 2 * samples, SEVERAL)
        case 3:
            data = stream(serial, rng.choice((16_000, 2**33)))
            # Its packets hold 1,792 samples: which of them the encoder added cannot be told here.
            return file("from the middle of a stream", data, (samples + 1_792) // 2, *EVERY_PROBLEM)
        case 2:
            data = stream(serial)[: -rng.randrange(1, 20)]
            return file("cut off", data, samples, refused=(CUT_OFF,))
    return file("plain", stream(serial), samples)


# ------------------------------------------------------------------ no audio at all


def no_audio(rng: Random) -> bytes:
    """Return bytes that are no audio in a known container."""
    return one_of(
        rng,
        *(b"", b"\x89PNG\r\n\x1a\n" + bytes(60), b"\0\0\0\x20ftypM4A " + bytes(60), bytes(2_000)),
        *(
            b"FORM\0\0\1\0AIFFCOMM" + bytes(60),
            b"hello, world",
            b"RIFF\x10\0\0\0AVI LIST" + bytes(60),
        ),
    )


def any_file(rng: Random) -> File:
    """Return an audio file of any container."""
    makers: dict[Callable[[Random], File], int] = {
        wav: 12,
        flac: 8,
        mp3: 5,
        opus: 4,
        ogg_flac: 3,
        vorbis: 2,
    }
    return rng.choices(list(makers), list(makers.values()))[0](rng)
