"""WAV files built chunk by chunk, as recorders write them and as they should not."""

import struct
from collections.abc import Callable
from random import Random
from typing import NamedTuple

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
from tests.fuzz.truths import SoundTruth, one_of

STREAMED_SIZES = (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0, 0x7FFFFFFE, 0xFFFFFFFE)


class Chunk(NamedTuple):
    """A chunk of a WAV beside its sound."""

    name: bytes
    body: bytes


def riff(name: bytes, body: bytes, size: int | None = None, *, padded: bool = True) -> bytes:
    """Return a RIFF chunk, which claims another size than its own if `size` is given."""
    announced = len(body) if size is None else size
    return name + struct.pack("<I", announced) + body + b"\0" * (len(body) & 1 and padded)


class Layout(NamedTuple):
    """The layout of the samples in a WAV."""

    kind: int
    channels: int
    rate: int
    bits: int
    valid_bits: int = 0
    """Of each sample, if fewer than the header's `bits` (only in the extensible form)."""

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of one sample on all channels."""
        return self.channels * -(-self.bits // 8)

    def fmt(self, **lies: int) -> bytes:
        """Return the `fmt ` chunk, with some of its fields replaced."""
        rate_bytes = lies.get("rate_bytes", self.rate * self.frame_bytes)
        frame_bytes = lies.get("frame_bytes", self.frame_bytes)
        body = struct.pack(
            "<HHIIHH", self.kind, self.channels, self.rate, rate_bytes, frame_bytes, self.bits
        )
        if self.kind == 0xFFFE:
            body += struct.pack("<HHIH", 22, self.valid_bits or self.bits, 0, 1)
            body += bytes.fromhex("000000001000800000aa00389b71")
        elif lies.get("extra"):
            body += b"\0\0"
        return riff(b"fmt ", body)


def _layout(rng: Random) -> Layout:
    kind, bits, valid_bits = rng.choice(
        (
            *((1, 16, 0), (1, 16, 0), (1, 16, 0), (1, 8, 0), (1, 24, 0), (1, 32, 0), (3, 32, 0)),
            *((3, 64, 0), (7, 8, 0), (6, 8, 0), (0xFFFE, 16, 0), (0xFFFE, 32, 24), (0xFFFE, 24, 0)),
            *((1, 12, 0), (1, 20, 0)),
        )
    )
    return Layout(kind, rng.choice((1, 1, 1, 2, 4)), rng.choice(RATES_HZ), bits, valid_bits)


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


def _wav_blocks(rng: Random, layout: Layout, sound: bytes, notes: bytes) -> File:
    """Write sound in blocks, each of which has the same number of samples: ADPCM or GSM."""
    rate, blocks = rng.choice(RATES_HZ), rng.randrange(2, 6)
    name, kind, block, bits, each, extra = one_of(
        rng,
        ("IMA ADPCM", 0x11, 256, 4, 505, b""),
        ("IMA ADPCM", 0x11, 256, 4, 505, b""),
        ("MS ADPCM", 2, 256, 4, 500, struct.pack("<H14h", 7, *MS_COEFFICIENTS)),
        ("GSM", 0x31, 65, 0, 320, b""),
    )
    fmt = struct.pack("<HHIIHH", kind, 1, rate, rate * block // each, block, bits)
    fmt += struct.pack("<HH", 2 + len(extra), each) + extra
    samples = blocks * each
    # A fact of fewer samples may leave out the padding of the last block.
    label, fact, problems = one_of(
        rng,
        ("", samples, frozenset[str]()),
        ("", samples, frozenset[str]()),
        (" with no fact", None, frozenset[str]({NONE, NOT_ANNOUNCED})),
        (" with a fact of 0", 0, frozenset({NONE, DISAGREES, NOT_ANNOUNCED})),
        (" with ten times the fact", samples * 10, frozenset({DISAGREES})),
    )
    body = riff(b"fmt ", fmt) + notes
    body += b"" if fact is None else riff(b"fact", struct.pack("<I", fact))
    body += riff(b"data", (sound * 4)[: blocks * block])
    truth = SoundTruth(_whole(body), "wav", rate, 1, samples / rate, problems)
    return File(f"WAV {name}{label}", truth)


MS_COEFFICIENTS = (256, 0, 512, -256, 0, 0, 192, 64, 240, 0, 460, -208, 392, -232)
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
    _wav_blocks: 2,
}
