"""Audio files built part by part: it is known how long each lasts, whatever its header says."""

import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.fuzz.truths import NOTHING, SoundTruth, one_of

NOT_ANNOUNCED, DISAGREES, SEVERAL = "length_not_announced", "header_disagrees", "several_files"
NONE = ""
"""Stands for no problem where several outcomes are right."""
CUT_OFF, EMPTY, BROKEN = "audio_cut_off", "audio_empty", "audio_broken"
UNKNOWN_FORMAT = "unknown_audio_format"
STREAMED_SIZES = (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0, 0x7FFFFFFE, 0xFFFFFFFE)
RATES_HZ = (8_000, 8_000, 16_000, 11_025)
EVERY_PROBLEM = frozenset({NONE, NOT_ANNOUNCED, DISAGREES, SEVERAL})


class File(NamedTuple):
    """A file, what is true of it, and how it may be rejected."""

    label: str
    sound: SoundTruth
    refused: frozenset[str] = NOTHING
    must: bool = False


class Chunk(NamedTuple):
    """A chunk of a WAV beside its sound."""

    name: bytes
    body: bytes


def riff(name: bytes, body: bytes, size: int | None = None, *, padded: bool = True) -> bytes:
    """Return a RIFF chunk, which claims another size than its own if `size` is given."""
    announced = len(body) if size is None else size
    return name + struct.pack("<I", announced) + body + b"\0" * (len(body) & 1 and padded)


# ------------------------------------------------------------------ WAV


class Layout(NamedTuple):
    """The layout of the samples in a WAV."""

    kind: int
    channels: int
    rate: int
    bits: int

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of one sample on all channels."""
        return self.channels * self.bits // 8

    def fmt(self, **lies: int) -> bytes:
        """Return the `fmt ` chunk, with some of its fields replaced."""
        rate_bytes = lies.get("rate_bytes", self.rate * self.frame_bytes)
        frame_bytes = lies.get("frame_bytes", self.frame_bytes)
        body = struct.pack(
            "<HHIIHH", self.kind, self.channels, self.rate, rate_bytes, frame_bytes, self.bits
        )
        if self.kind == 0xFFFE:
            body += struct.pack("<HHIH", 22, self.bits, 0, 1)
            body += bytes.fromhex("000000001000800000aa00389b71")
        elif lies.get("extra"):
            body += b"\0\0"
        return riff(b"fmt ", body)


def _layout(rng: Random) -> Layout:
    kind, bits = rng.choice(
        ((1, 16), (1, 16), (1, 16), (1, 8), (1, 24), (1, 32), (3, 32), (7, 8), (6, 8), (0xFFFE, 16))
    )
    return Layout(kind, rng.choice((1, 1, 1, 2, 4)), rng.choice(RATES_HZ), bits)


def wav(rng: Random, notes: tuple[Chunk, ...] = ()) -> File:
    """Return a WAV, mostly as its maker should have written it."""
    makers = (*((_wav_plain, 10),), *WAV_LIES.items())
    (make,) = rng.choices([maker for maker, _ in makers], [weight for _, weight in makers])
    layout = _layout(rng)
    frames = rng.randrange(400, 1_600)
    # Bytes that look like no chunk, however a reader gets lost in them.
    noise = bytes(rng.choices(b"\x01\x80\x7f\xfe\x10", k=64))
    sound = (noise * (frames * layout.frame_bytes // 64 + 1))[: frames * layout.frame_bytes]
    return make(rng, layout, sound, b"".join(riff(*each) for each in notes))


def _file(
    label: str,
    data: bytes,
    layout: Layout,
    sound: bytes,
    *problems: str,
    refused: tuple[str, ...] = (),
    must: bool = False,
) -> File:
    seconds = len(sound) // layout.frame_bytes / layout.rate
    truth = SoundTruth(data, "wav", layout.rate, layout.channels, seconds, frozenset(problems))
    return File(f"WAV {label}", truth, frozenset(refused), must)


def _whole(body: bytes, *, name: bytes = b"RIFF", size: int | None = None) -> bytes:
    return name + struct.pack("<I", 4 + len(body) if size is None else size) + b"WAVE" + body


def _wav_plain(rng: Random, layout: Layout, sound: bytes, notes: bytes) -> File:
    parts = layout.fmt(extra=rng.randrange(2))
    data = riff(b"data", sound)
    other = riff(*rng.choice(((b"JUNK", bytes(28)), (b"junk", b""), (b"iXML", b"<BWFXML/>\n"))))
    if rng.random() < 0.3:
        parts += other
    body = parts + notes + data if rng.random() < 0.5 else parts + data + notes
    return _file("plain", _whole(body), layout, sound)


def _wav_streamed(rng: Random, layout: Layout, sound: bytes, notes: bytes) -> File:
    size = rng.choice(STREAMED_SIZES)
    if len(sound) < 1_000:
        sound += sound[: len(sound) // layout.frame_bytes * layout.frame_bytes]
    total = rng.choice((size, 0xFFFFFFFF, 0, None, size + 36 & 0xFFFFFFFF))
    body = layout.fmt() + notes + riff(b"data", sound, size, padded=False)
    label = f"with a data size of {size:#x}"
    return _file(label, _whole(body, size=total), layout, sound, NOT_ANNOUNCED)


def _wav_streamed_with_notes(rng: Random, layout: Layout, sound: bytes, notes: bytes) -> File:
    """Write notes behind a sound whose length is not announced."""
    size = rng.choice(STREAMED_SIZES)
    sound = sound[: len(sound) // 2 // layout.frame_bytes * 2 * layout.frame_bytes]
    behind = notes or riff(b"LIST", b"INFO" + riff(b"ISFT", b"Lavf60.3.100\0"))
    body = layout.fmt() + riff(b"data", sound, size, padded=False) + behind
    total = rng.choice((0xFFFFFFFF, 0, None))
    label = "of no announced length before notes"
    return _file(label, _whole(body, size=total), layout, sound, NOT_ANNOUNCED)


def _wav_data_44(rng: Random, layout: Layout, sound: bytes, notes: bytes) -> File:
    del rng
    body = layout.fmt() + notes + riff(b"data", sound, 44, padded=False)
    problems = (NOT_ANNOUNCED, DISAGREES)
    return _file("whose size is that of the header", _whole(body), layout, sound, *problems)


def _wav_total_lies(rng: Random, layout: Layout, sound: bytes, notes: bytes) -> File:
    body = layout.fmt() + notes + riff(b"data", sound)
    size = rng.choice((0, 0xFFFFFFFF, 36, len(body) + 12, len(body), 0x7FFFFFFF))
    return _file("with another RIFF size", _whole(body, size=size), layout, sound, *EVERY_PROBLEM)


def _wav_frame_lies(rng: Random, layout: Layout, sound: bytes, notes: bytes) -> File:
    true = layout.frame_bytes
    wrong = rng.choice([each for each in (true * 2, true // 2, layout.bits, 0) if each != true])
    fmt = layout.fmt(frame_bytes=wrong)
    body = fmt + notes + riff(b"data", sound)
    return _file("with another block size", _whole(body), layout, sound, DISAGREES)


def _wav_rate_bytes_lie(rng: Random, layout: Layout, sound: bytes, notes: bytes) -> File:
    wrong = rng.choice((0, layout.rate, layout.rate * layout.frame_bytes * 2, 176_400, 1))
    body = layout.fmt(rate_bytes=wrong) + notes + riff(b"data", sound)
    return _file("with another byte rate", _whole(body), layout, sound, NONE, DISAGREES)


def _wav_unpadded(rng: Random, layout: Layout, sound: bytes, notes: bytes) -> File:
    text = b"odd".ljust(2 * rng.randrange(2, 30) + 1, b"x")
    body = layout.fmt() + notes
    body += riff(rng.choice((b"junk", b"JUNK", b"bext", b"iXML")), text, padded=False)
    body += riff(b"data", sound)
    return _file("without a pad byte", _whole(body), layout, sound, NONE, DISAGREES)


def _wav_trailing(rng: Random, layout: Layout, sound: bytes, notes: bytes) -> File:
    rest = rng.choice(
        (bytes(1), bytes(7), b"\xff" * 30, b"rubbish", b"\0" * 512, b"TAG" + bytes(125))
    )
    body = layout.fmt() + notes + riff(b"data", sound)
    return _file("and rubbish", _whole(body) + rest, layout, sound, *EVERY_PROBLEM)


def _wav_joined(rng: Random, layout: Layout, sound: bytes, notes: bytes) -> File:
    count = rng.choice((2, 2, 3))
    one = _whole(layout.fmt() + notes + riff(b"data", sound))
    return _file(f"{count} joined", one * count, layout, sound * count, SEVERAL)


def _wav_wide(rng: Random, layout: Layout, sound: bytes, notes: bytes) -> File:
    name = rng.choice((b"RF64", b"BW64"))
    frames = len(sound) // layout.frame_bytes
    label, problem, ds64 = one_of(
        rng,
        ("with ds64", NONE, struct.pack("<QQQI", 0, len(sound), frames, 0)),
        ("with ds64", NONE, struct.pack("<QQQI", 0, len(sound), frames, 0)),
        ("with ds64 of zeros", NOT_ANNOUNCED, bytes(28)),
        ("with ds64 of ones", NOT_ANNOUNCED, b"\xff" * 24 + bytes(4)),
    )
    sizes = riff(b"ds64", ds64)
    body = sizes + layout.fmt() + notes + riff(b"data", sound, 0xFFFFFFFF, padded=False)
    data = _whole(body, name=name, size=0xFFFFFFFF)
    return _file(f"as {name.decode()} {label}", data, layout, sound, problem or NONE)


def _wav_cut(rng: Random, layout: Layout, sound: bytes, notes: bytes) -> File:
    body = _whole(layout.fmt() + notes + riff(b"data", sound))
    cut = rng.randrange(len(body) - len(sound) * 3 // 4, len(body) - 2)
    return _file("cut off", body[:cut], layout, sound, refused=(CUT_OFF,), must=True)


def _wav_empty(rng: Random, layout: Layout, sound: bytes, notes: bytes) -> File:
    body = layout.fmt() + notes
    if rng.random() < 0.7:
        body += riff(b"data", b"", rng.choice((0, 0, 0xFFFFFFFF)))
    refused = (EMPTY, CUT_OFF, BROKEN)
    return _file("without sound", _whole(body), layout, sound, refused=refused, must=True)


def _wav_adpcm(rng: Random, layout: Layout, sound: bytes, notes: bytes) -> File:
    """Write IMA ADPCM: blocks of 256 bytes, 505 samples each."""
    rate, blocks = rng.choice(RATES_HZ), rng.randrange(1, 6)
    fmt = struct.pack("<HHIIHHHH", 0x11, 1, rate, rate * 256 // 505, 256, 4, 2, 505)
    samples = blocks * 505
    label, fact, problems = one_of(
        rng,
        ("ADPCM", samples, frozenset[str]()),
        ("ADPCM", samples, frozenset[str]()),
        ("ADPCM with a fact of 0", 0, frozenset({NONE, DISAGREES, NOT_ANNOUNCED})),
        ("ADPCM with ten times the fact", samples * 10, frozenset({DISAGREES})),
    )
    body = riff(b"fmt ", fmt) + riff(b"fact", struct.pack("<I", fact)) + notes
    body += riff(b"data", (sound * 4)[: blocks * 256])
    truth = SoundTruth(_whole(body), "wav", rate, 1, samples / rate, problems)
    return File(f"WAV {label}", truth)


WAV_LIES: dict[Callable[[Random, Layout, bytes, bytes], File], int] = {
    _wav_streamed: 3,
    _wav_streamed_with_notes: 1,
    _wav_data_44: 1,
    _wav_total_lies: 2,
    _wav_frame_lies: 2,
    _wav_rate_bytes_lie: 1,
    _wav_unpadded: 2,
    _wav_trailing: 2,
    _wav_joined: 2,
    _wav_wide: 3,
    _wav_cut: 1,
    _wav_empty: 1,
    _wav_adpcm: 2,
}


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


@lru_cache(maxsize=4_000)
def _flac_frame(number: int, channels: int, last: int, *, verbatim: bool = False) -> bytes:
    """Return a frame (RFC 9639, 9) of 192 samples, or `last` of them.

    The sound is constant, or written sample by sample, and then it looks like the start of frames.
    """
    size = (7, struct.pack(">H", last - 1)) if last != FLAC_BLOCK else (1, b"")
    head = b"\xff\xf8" + bytes([size[0] << 4, channels - 1 << 4 | 8]) + chr(number).encode()
    head += size[1]
    frame = head + _crc8(head)
    for channel in range(channels):
        if verbatim:
            frame += b"\2" + ((head[:2] + head + b"\xff\xf9") * last)[: 2 * last]
        else:
            frame += b"\0" + struct.pack(">h", 100 * channel - number)
    return frame + _crc16(frame)


def _streaminfo(rate: int, channels: int, samples: int) -> bytes:
    packed = rate << 44 | channels - 1 << 41 | 15 << 36 | samples
    return struct.pack(">HH", FLAC_BLOCK, FLAC_BLOCK) + bytes(6) + packed.to_bytes(8) + bytes(16)


def _flac_comments(comments: tuple[str, ...]) -> bytes:
    texts = [text.encode() for text in comments]
    body = struct.pack("<I", 4) + b"echo" + struct.pack("<I", len(texts))
    return body + b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _flac_blocks(info: bytes, comments: tuple[str, ...]) -> bytes:
    blocks = [(0, info)]
    if comments:
        blocks.append((4, _flac_comments(comments)))
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
    last = rng.choice((FLAC_BLOCK, rng.randrange(20, FLAC_BLOCK)))
    count = rng.randrange(3, 12)
    verbatim = rng.random() < 0.3
    frames = [
        _flac_frame(number, channels, FLAC_BLOCK, verbatim=verbatim) for number in range(count - 1)
    ]
    frames.append(_flac_frame(count - 1, channels, last, verbatim=verbatim))
    samples = (count - 1) * FLAC_BLOCK + last
    sound = b"".join(frames)

    def file(
        label: str, data: bytes, *problems: str, refused: tuple[str, ...] = (), times: int = 1
    ) -> File:
        truth = SoundTruth(
            data, "flac", rate, channels, times * samples / rate, frozenset(problems)
        )
        return File(f"FLAC {label}", truth, frozenset(refused), bool(refused))

    whole = _flac_blocks(_streaminfo(rate, channels, samples), comments) + sound
    unknown = _flac_blocks(_streaminfo(rate, channels, 0), comments) + sound
    doubled = _flac_blocks(_streaminfo(rate, channels, 2 * samples), comments) + sound
    halved = _flac_blocks(_streaminfo(rate, channels, samples // 2), comments) + sound
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
            cut = len(whole) - rng.randrange(1, len(frames[-1]))
            return file("cut off", whole[:cut], refused=(CUT_OFF,))
        case 9:
            return file("without sound", whole[: -len(sound)], refused=(EMPTY, CUT_OFF))
    return file("plain", whole)


# ------------------------------------------------------------------ MP3

MP3_RATES_HZ = {(3, 0): 44_100, (3, 2): 32_000, (2, 0): 22_050, (2, 2): 16_000, (0, 2): 8_000}


def _mp3_frame(version: int, rate_index: int, *, mono: bool, wide: bool = False) -> bytes:
    """Return a silent frame of layer III: 32 kbit/s (MPEG-1) or 16 (2, 2.5); `wide`: 64."""
    narrow_kbits, narrow_index, wide_index = (32, 1, 5) if version == 3 else (16, 2, 8)
    kbits, index = (64, wide_index) if wide else (narrow_kbits, narrow_index)
    samples = 1_152 if version == 3 else 576
    head = bytes([0xFF, 0xE3 | version << 3, index << 4 | rate_index << 2, 0xC0 * mono])
    return head.ljust(samples // 8 * kbits * 1_000 // MP3_RATES_HZ[version, rate_index], b"\0")


def _vbri(frame: bytes, count: int, size: int) -> bytes:
    """Return the frame in which Fraunhofer's encoder counts the others."""
    tag = b"VBRI" + struct.pack(">HHHII", 1, 0, 75, size, count) + bytes(8)
    return (frame[:36].ljust(36, b"\0") + tag).ljust(len(frame), b"\0")


def _ape(rng: Random) -> bytes:
    """Return an APEv2 tag, with a header or without one."""
    item = struct.pack("<II", 4, 0) + b"Title\0Tone"
    head = struct.pack("<III", 2_000, len(item) + 32, 1)
    footer = b"APETAGEX" + head + struct.pack("<I", 0) + bytes(8)
    if rng.random() < 0.5:
        return item + footer
    marks = struct.pack("<I", 0xA0000000) + bytes(8)
    return b"APETAGEX" + head + marks + item + footer


def mp3(rng: Random) -> File:
    """Return an MP3 of silence."""
    version, rate_index = rng.choice(list(MP3_RATES_HZ))
    rate, mono = MP3_RATES_HZ[version, rate_index], rng.random() < 0.7
    narrow = _mp3_frame(version, rate_index, mono=mono)
    wide = _mp3_frame(version, rate_index, mono=mono, wide=True)
    count = rng.randrange(4, 12)
    frames = [narrow] * count
    if rng.random() < 0.3:
        frames = rng.choices((narrow, wide), k=count)
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


def _page(packets: list[bytes], granule: int, serial: int, number: int, flags: int) -> bytes:
    lengths = b"".join(
        b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets
    )
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
    pages += [_page([head], 0, serial, at, 0) for at, head in enumerate(heads[1:], 1)]
    at = 0
    while at < len(packets):
        upto = min(at + rng.choice((1, 3, 5, 50)), len(packets))
        last = 4 if upto == len(packets) else 0
        pages.append(_page(packets[at:upto], ends[upto - 1], serial, len(pages), last))
        at = upto
    return b"".join(pages)


OPUS_FRAMES = {0x08: 960, 0x00: 480, 0x10: 1_920, 0x18: 2_880}
"""TOC bytes of one SILK frame, narrow band (RFC 6716, 3.1): samples at 48 kHz."""


def opus(rng: Random) -> File:
    """Return an Ogg Opus of packets that hold next to nothing."""
    toc, each = rng.choice(list(OPUS_FRAMES.items()))
    count = max(rng.randrange(3, 12), 4_800 // each + 1)
    channels, skipped = (
        rng.choice((1, 2)),
        rng.choice((312, 0, 3_840 if count * each > 9_000 else 80)),
    )
    rate = rng.choice((48_000, 16_000, 8_000, 0))
    serial = rng.randrange(2**32)
    packets = [bytes([toc | 4 * (channels - 1)]) + bytes(rng.randrange(2, 9)) for _ in range(count)]
    heads = [
        b"OpusHead\x01" + struct.pack("<BHIhB", channels, skipped, rate, 0, 0),
        b"OpusTags" + struct.pack("<I", 4) + b"echo" + struct.pack("<I", 0),
    ]
    total = count * each

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
        ends = [start + each * (at + 1) for at in range(count)]
        ends[-1] -= trim
        return _stream(heads, packets, ends, serial, rng)

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
            other = _stream(
                heads, packets, [each * (at + 1) for at in range(count)], serial ^ 1, rng
            )
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
    frames = [_flac_frame(number, channels, FLAC_BLOCK) for number in range(count)]
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
