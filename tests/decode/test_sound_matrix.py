"""Thousands of generated files: each lasts as long as the sound that was put in, or is refused.

The sound is written by libsndfile, and by hand where it writes no such file. Then the bytes are
changed: legally, so that libsndfile and mutagen must agree with us; or so that a field of the
header lies, while the sound stays what it was; or so that sound is missing, which must be found.
"""

import io
import itertools
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import mutagen
import numpy as np
import pytest
import soundfile

from echo_ingest.decode.audio.flac_frame import HEAD_BYTES_MAX, frame
from echo_ingest.quality import ClipProblem
from echo_ingest.record import Recording
from tests.decode.messages import DECODER, chunk, message
from tests.several_records import only

TOLERANCE_SECONDS = 0.010
LIBSNDFILE, MUTAGEN = BOTH = "libsndfile", "mutagen"
PIPE = ClipProblem.LENGTH_NOT_ANNOUNCED
LIES = ClipProblem.HEADER_DISAGREES
SEVERAL = ClipProblem.SEVERAL_FILES


class Case(NamedTuple):
    """A file, and the truth about it."""

    name: str
    data: bytes
    seconds: float | None
    """None: it must be refused."""
    problem: ClipProblem | None = None
    judges: tuple[str, ...] = ()
    """Who has to agree with us, where they can read it."""
    tolerance: float = TOLERANCE_SECONDS


def faults(cases: list[Case]) -> list[str]:
    """Return what is not as it should be."""
    found = []
    for case in cases:
        result = only(DECODER.decode(message(case.data)))
        if not isinstance(result, Recording):
            if case.seconds is not None:
                found.append(f"{case.name}: {case.seconds:.3f} s, refused: {result}")
            continue
        clip = result.clip
        if case.seconds is None:
            found.append(f"{case.name}: not refused: {clip.duration_seconds:.3f} s")
        elif abs(clip.duration_seconds - case.seconds) > case.tolerance:
            found.append(f"{case.name}: {case.seconds:.3f} s, read {clip.duration_seconds:.3f} s")
        elif clip.problem is not case.problem:
            found.append(f"{case.name}: {case.problem}, read {clip.problem}")
        for judge, seconds in judgements(case):
            if abs(clip.duration_seconds - seconds) > TOLERANCE_SECONDS:
                found.append(f"{case.name}: {judge} {seconds:.3f}, we {clip.duration_seconds:.3f}")
    return found


def judgements(case: Case) -> Iterator[tuple[str, float]]:
    """Yield how long a file lasts by those who can read it."""
    if LIBSNDFILE in case.judges:
        with suppress(soundfile.LibsndfileError):
            info = soundfile.info(io.BytesIO(case.data))
            yield LIBSNDFILE, info.frames / info.samplerate
    if MUTAGEN in case.judges:
        with suppress(mutagen.MutagenError):
            read = mutagen.File(io.BytesIO(case.data))
            if read is not None:
                yield MUTAGEN, read.info.length


@cache
def encoded(
    container: str,
    subtype: str,
    rate: int,
    channels: int,
    samples: int,
    seed: int = 1,
    bitrate_mode: str | None = None,
) -> bytes:
    """Return noise with a tone in it, as libsndfile writes it."""
    noise = np.random.default_rng(seed).normal(0, 0.05, (samples, channels))
    tone = 0.3 * np.sin(np.arange(samples) * 0.05)[:, None]
    file = io.BytesIO()
    soundfile.write(
        file, noise + tone, rate, format=container, subtype=subtype, bitrate_mode=bitrate_mode
    )
    return file.getvalue()


# ---------------------------------------------------------------------------------- WAV

WAV_KINDS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAV", "PCM_U8"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAV", "ULAW"),
    ("WAV", "ALAW"),
    ("WAV", "IMA_ADPCM"),
    ("WAV", "MS_ADPCM"),
    ("WAV", "GSM610"),
    ("WAV", "G721_32"),
    ("WAVEX", "PCM_16"),
    ("WAVEX", "PCM_24"),
    ("WAVEX", "FLOAT"),
    ("WAVEX", "ULAW"),
    ("RF64", "PCM_16"),
    ("RF64", "PCM_24"),
]
MONO_ONLY = {"GSM610", "G721_32"}
IN_BLOCKS = {"IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32"}
JUDGES_OF_BLOCKS: dict[str, tuple[str, ...]] = {
    "IMA_ADPCM": (LIBSNDFILE,),
    "G721_32": (LIBSNDFILE,),
    # Libsndfile counts what fills the last block, too.
    "GSM610": (),
    "MS_ADPCM": (),
}
"""Mutagen cannot count blocks."""
PLACEHOLDERS = [
    *(0, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF - 36, 0xFFFFFFDB, 0xFFFFF000, 0xFFFFFF00),
    *(0x7FFFFFFF, 0x7FFFFFFF - 36, 0x7FFFF000, 0x7FFFEFFF, 0x7FFF0000, 0x7FFFFFFE),
    *(0x80000000, 0x80000000 - 44, 0x80000024, 0x7FFFFFDB),
]
TINY = [1, 2, 4, 12, 36, 44, 100]


class Wav(NamedTuple):
    """The parts of a WAV file."""

    layout: bytes
    sound: bytes
    fact: bytes = b""

    def file(
        self,
        *after: bytes,
        before: bytes = b"",
        first: bytes = b"",
        size: int | None = None,
        riff_size: int | None = None,
        name: bytes = b"RIFF",
        rest: bytes = b"",
    ) -> bytes:
        """Return the file; sizes are what it claims, if they are not the true ones."""
        body = b"WAVE" + first + chunk(b"fmt ", self.layout)
        if self.fact:
            body += chunk(b"fact", self.fact)
        body += before + chunk(b"data", self.sound, size) + b"".join(after)
        claimed = len(body) if riff_size is None else riff_size
        return name + struct.pack("<I", claimed) + body + rest

    def with_field(self, at: int, layout: str, value: int) -> "Wav":
        """Return it with another value in its layout."""
        changed = bytearray(self.layout)
        struct.pack_into(layout, changed, at, value)
        return self._replace(layout=bytes(changed))


def parsed(data: bytes) -> Wav:
    """Return the parts of a file that libsndfile wrote, whose chunks are in order."""
    bodies: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(data):
        size = struct.unpack_from("<I", data, at + 4)[0]
        if data[at : at + 4] == b"data" and size == 0xFFFFFFFF:
            size = struct.unpack_from("<Q", bodies[b"ds64"], 8)[0]
        bodies.setdefault(data[at : at + 4], data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    return Wav(bodies[b"fmt "], bodies[b"data"], bodies.get(b"fact", b""))


def ds64(riff: int, size: int, samples: int) -> bytes:
    return chunk(b"ds64", struct.pack("<QQQI", riff, size, samples, 0))


def odd(name: bytes, body: bytes) -> bytes:
    """Return a chunk of odd size without its pad byte."""
    return (chunk(name, body[: len(body) - 1 + len(body) % 2]))[:-1]


INFO = chunk(b"LIST", b"INFO" + chunk(b"ICMT", b"a comment") + chunk(b"IART", b"AudioMoth"))
GUANO = chunk(b"guan", b"GUANO|Version: 1.0\nMake: X\n")
BEXT = chunk(b"bext", bytes(602))


def wav_cases(index: int, kind: tuple[str, str], rng: random.Random) -> Iterator[Case]:
    container, subtype = kind
    rate = rng.choice((8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 250_000))
    channels = 1 if subtype in MONO_ONLY else rng.choice((1, 1, 2, 3))
    if subtype in IN_BLOCKS:
        channels = min(channels, 2)
    # At least a few blocks, and never so much that a tiny size could be right.
    samples = rng.randrange(2_400, 30_000)
    data = encoded(container, subtype, rate, channels, samples, index)
    wav = parsed(data)
    seconds = samples / rate
    lasting = in_blocks = seconds
    if subtype == "GSM610":
        in_blocks = len(wav.sound) // 65 * 320 / rate
        lasting = int.from_bytes(wav.fact, "little") / rate
    elif subtype in IN_BLOCKS:
        in_blocks = soundfile.info(io.BytesIO(wav._replace(fact=b"").file())).frames / rate
        lasting = int.from_bytes(wav.fact, "little") / rate or in_blocks
    label = f"{index} {container} {subtype} {rate} Hz {channels} ch {samples}"
    if subtype == "IMA_ADPCM" and channels == 2:
        # Libsndfile counts half of the samples there.
        yield Case(f"{label}: as it is", data, in_blocks, LIES)
        wav = wav._replace(fact=struct.pack("<I", round(in_blocks * rate)))
        lasting, data = in_blocks, wav.file()

    def case(
        name: str, changed: bytes, problem: ClipProblem | None = None, judges: tuple[str, ...] = ()
    ) -> Case:
        if subtype in IN_BLOCKS:
            judges = judges and JUDGES_OF_BLOCKS[subtype]
        return Case(f"{label}: {name}", changed, lasting, problem, judges)

    def refused(name: str, changed: bytes) -> Case:
        return Case(f"{label}: {name}", changed, None)

    size = len(wav.sound)
    yield case("as it is", data, None, BOTH)
    yield case("plain", wav.file(), None, BOTH)
    for name, before in {
        "LIST": INFO,
        "JUNK": chunk(b"JUNK", bytes(28)),
        "PAD ": chunk(b"PAD ", bytes(4_000)),
        "FLLR": chunk(b"FLLR", bytes(rng.randrange(1, 4_060))),
        "bext": BEXT,
        "odd LIST": chunk(b"LIST", b"INFOICMT\x05\0\0\0hello"),
        "unknown": chunk(b"xyz1", rng.randbytes(rng.randrange(50))),
        "PEAK, cue ": chunk(b"PEAK", bytes(16)) + chunk(b"cue ", bytes(28)),
    }.items():
        yield case(f"{name} before the sound", wav.file(before=before), None, BOTH)
        yield case(f"{name} before the layout", wav.file(first=before), None, BOTH)
        yield case(f"{name} behind the sound", wav.file(before), None, BOTH)
        yield case(f"{name} before it, no pad", wav.file(before=odd(b"LIST", before)), None)
    yield case("odd LIST and more, no pad", wav.file(before=odd(b"LIST", INFO) + INFO))
    yield case("notes behind the sound", wav.file(INFO, GUANO), None, BOTH)
    yield case("notes cut off", wav.file(INFO)[:-9])
    yield case("zeros behind it", wav.file(rest=bytes(rng.randrange(1, 40_000))), None, BOTH)
    rubbish = b"\xfe\xed" + rng.randbytes(rng.randrange(min(size, 500)))
    yield case("rubbish behind it", wav.file(rest=rubbish), None, BOTH)
    yield case("ID3v1 behind it", wav.file(rest=b"TAG" + bytes(125)), None, BOTH)
    yield case("ID3 before it", id3(rng.randrange(500)) + wav.file())
    yield case("ID3 twice before it", id3(9) + id3(70) + wav.file())
    yield case("ID3 in it", wav.file(before=chunk(b"id3 ", id3(20))), None, BOTH)
    yield case("RF64", wav.file(first=ds64(0, size, 0), size=2**32 - 1, name=b"RF64"))
    yield case("BW64", wav.file(first=ds64(0, size, 0), size=2**32 - 1, name=b"BW64"))
    for name, wide in {"0": 0, "-1": 2**64 - 1, "2^63": 2**63 - 1, "2^32": 2**32}.items():
        head = ds64(wide, wide, wide)
        file = wav.file(first=head, size=2**32 - 1, riff_size=2**32 - 1, name=b"RF64")
        yield case(f"ds64 of {name}", file, PIPE)
    for placeholder in rng.sample(PLACEHOLDERS, 8):
        riff_size = rng.choice((None, 0, 0xFFFFFFFF, placeholder + 36 & 0xFFFFFFFF))
        file = wav.file(size=placeholder, riff_size=riff_size)
        yield case(f"size {placeholder:x}, RIFF {riff_size}", file, PIPE)
        yield case(f"size {placeholder:x} and notes", wav.file(INFO, GUANO, size=placeholder), PIPE)
    for tiny in rng.sample(TINY, 3):
        for riff_size in (None, 0, tiny + 36):
            yield case(
                f"size {tiny}, RIFF {riff_size}", wav.file(size=tiny, riff_size=riff_size), LIES
            )
    for part in (0.3, 0.9):
        yield case(f"{part} of the size", wav.file(size=int(size * part)), LIES)
    for more in (36, 44, size, 2**30):
        yield case(f"{more} more than the size", wav.file(size=size + more), LIES)
    for riff_size in (0, 1, 36, 0xFFFFFFFF, 0x7FFFFFFF, size, size + 44):
        yield case(f"RIFF {riff_size}", wav.file(riff_size=riff_size))
    for kept in (0.02, 0.5, 0.99):
        whole = wav.file()
        cut = whole[: len(whole) - size + int(size * kept)]
        yield refused(f"cut off at {kept}", cut)
        yield refused(f"cut off at {kept}, RIFF 0", cut[:4] + bytes(4) + cut[8:])
    yield refused("no sound", wav._replace(sound=b"").file())
    yield refused("no sound but notes", wav._replace(sound=b"").file(INFO))
    for count in (2, 3):
        yield Case(f"{label}: {count} files", wav.file(INFO) * count, count * lasting, SEVERAL)
    pipe = wav.file(size=0xFFFFFFFF)
    yield Case(f"{label}: two from a pipe", pipe * 2, 2 * lasting, SEVERAL)
    other = Wav(struct.pack("<HHIIHH", 1, 1, 11_025, 22_050, 2, 16), bytes(2_000)).file()
    yield refused("another one behind it", wav.file() + other)
    yield case("a chunk without a name", wav.file(before=chunk(bytes(4), bytes(8))))
    if subtype not in IN_BLOCKS:
        yield from layout_cases(wav, rate, channels, case)
    else:
        for count in (0, 0xFFFFFFFF):
            unknown = wav._replace(fact=struct.pack("<I", count)).file()
            yield Case(f"{label}: fact {count}", unknown, in_blocks)


def layout_cases(wav: Wav, rate: int, channels: int, case: Callable[..., Case]) -> Iterator[Case]:
    """Yield files whose samples have a fixed size, and whose layout lies."""
    block = struct.unpack_from("<H", wav.layout, 12)[0]
    samples = len(wav.sound) // block
    for name, lie in {"half": block // 2, "twice": 2 * block, "0": 0, "16": 16, "1": 1}.items():
        if lie == block:
            continue
        wrong = wav.with_field(12, "<H", lie)
        yield case(f"block {name}", wrong.file(), LIES)
        yield case(f"block {name} and rate", wrong.with_field(8, "<I", lie * rate).file(), LIES)
        yield case(f"block {name}, rate 1000", wrong.with_field(8, "<I", 1_000).file(), LIES)
    for name, lie in {"0": 0, "half": rate * block // 2, "bits": 8 * rate * block, "1": 1}.items():
        yield case(f"byte rate {name}", wav.with_field(8, "<I", lie).file(), LIES)
    for name, count in {"right": samples, "all": samples * channels, "0": 0}.items():
        yield case(f"fact {name}", wav._replace(fact=struct.pack("<I", count)).file(), None)
    for name, count in {"twice": samples * 2 + 7, "1": 1}.items():
        yield case(f"fact {name}", wav._replace(fact=struct.pack("<I", count)).file(), LIES)
    if wav.layout[:1] in (b"\x06", b"\x07"):
        for bits in (0, 16, 12):
            yield case(f"{bits} bits of A-law or µ-law", wav.with_field(14, "<H", bits).file())


# ---------------------------------------------------------------------------------- tags


def id3(size: int) -> bytes:
    """Return an ID3v2.4 tag with so many bytes of frames."""
    length = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\0\0" + length + b"TXXX"[:size].ljust(size, b"\0")


def ape(size: int) -> bytes:
    fields = struct.pack("<III", 2_000, size + 32, 1)
    header = b"APETAGEX" + fields + struct.pack("<I", 0xA0000000) + bytes(8)
    footer = b"APETAGEX" + fields + struct.pack("<I", 0x80000000) + bytes(8)
    return header + b"x" * size + footer


ID3V1 = b"TAG" + b"a title".ljust(125, b"\0")
LYRICS = b"LYRICSBEGIN" + b"IND0000200" + b"000021LYRICS200"
ID3_AT_THE_END = id3(300)[:5] + b"\x10" + id3(300)[6:] + b"3DI\x04\0\x10" + id3(300)[6:10]
BEHIND = {
    "ID3v1": ID3V1,
    "APE": ape(100),
    "APE and ID3v1": ape(2_000) + ID3V1,
    "Lyrics3 and ID3v1": LYRICS + ID3V1,
    "enhanced ID3v1": b"TAG+" + b"x" * 223 + ID3V1,
    "ID3v2.4 at the end": ID3_AT_THE_END,
    "zeros": bytes(100),
    "many zeros": bytes(150_000),
    "ID3v1 and zeros": ID3V1 + bytes(999),
    "zeros and ID3v1": bytes(999) + ID3V1,
}
BEFORE = {
    "ID3": id3(300),
    "ID3 with zeros in it": id3(70_000),
    "three ID3": id3(10) + id3(0) + id3(200),
    "ID3 and zeros": id3(100) + bytes(8_192),
    "ID3 with a footer": ID3_AT_THE_END,
}

# ---------------------------------------------------------------------------------- FLAC


def flac_frames(data: bytes) -> list[int]:
    """Return where the frames of a FLAC begin, and where the last one ends."""
    starts: list[int] = []
    at = 42
    while (at := data.find(b"\xff\xf8", at)) >= 0:
        found = frame(data[at : at + HEAD_BYTES_MAX])
        if found is not None and found.number == len(starts):
            starts.append(at)
        at += 1
    return [*starts, len(data)]


def with_total(data: bytes, samples: int) -> bytes:
    """Return a FLAC whose header announces so many samples."""
    packed = int.from_bytes(data[18:26]) >> 36 << 36 | samples & (1 << 36) - 1
    return data[:18] + packed.to_bytes(8) + data[26:]


def flac_cases(index: int, rng: random.Random) -> Iterator[Case]:
    subtype = rng.choice(("PCM_16", "PCM_24", "PCM_S8"))
    rate = rng.choice((8_000, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000))
    channels = rng.choice((1, 1, 2, 4))
    samples = rng.choice((rng.randrange(5_000, 40_000), 4_096 * rng.randrange(2, 9), 100))
    data = encoded("FLAC", subtype, rate, channels, samples, index)
    label = f"{index} FLAC {subtype} {rate} Hz {channels} ch {samples}"
    seconds = samples / rate
    yield Case(f"{label}: as it is", data, seconds, None, BOTH)
    for name, tag in BEHIND.items():
        yield Case(f"{label}: {name} behind", data + tag, seconds, None, BOTH)
    for name, tag in BEFORE.items():
        yield Case(
            f"{label}: {name} before", tag + data, seconds, None, BOTH if name == "ID3" else ()
        )
    starts = flac_frames(data)
    yield Case(f"{label}: from a pipe", with_total(data, 0), seconds, PIPE)
    for total in (2 * samples, 1, samples - 1):
        yield Case(f"{label}: {total} announced", with_total(data, total), seconds, LIES)
    if channels > 1:
        yield Case(f"{label}: all channels", with_total(data, channels * samples), seconds, LIES)
    if samples % 4_096:
        for total in (samples + 1, 3 * samples, 10**9):
            yield Case(f"{label}: {total} announced", with_total(data, total), seconds, LIES)
    for kept in sorted({*rng.sample(range(45, len(data) - 1), 5), len(data) - 1}):
        if not any(data[kept:]):
            continue  # without its last zeros, a CRC is the same
        yield Case(f"{label}: cut off at {kept}", data[:kept], None)
        yield Case(f"{label}: cut off at {kept}, zeros", data[:kept] + bytes(99), None)
        if kept not in starts:
            yield Case(f"{label}: pipe cut off at {kept}", with_total(data[:kept], 0), None)
    for at in starts[1:-1]:
        # That it were twice as long as it is, nobody could tell from a wrong header.
        frames_before = starts.index(at)
        if samples not in (2 * frames_before * 4_096, channels * frames_before * 4_096):
            yield Case(f"{label}: cut off between frames", data[:at], None)
        rest = data[: starts[0]] + data[at:]
        seconds_left = (samples - frames_before * 4_096) / rate
        yield Case(f"{label}: cut out", with_total(rest, 0), seconds_left, PIPE)
    for count in (2, 3):
        yield Case(f"{label}: {count} files", data * count, count * seconds, SEVERAL)
        tagged = (id3(50) + data + ID3V1) * count
        yield Case(f"{label}: {count} files with tags", tagged, count * seconds, SEVERAL)
    other = encoded("FLAC", "PCM_16", 11_025, 1, 3_000)
    yield Case(f"{label}: another one behind it", data + other, None)


# ---------------------------------------------------------------------------------- MP3


def mp3_starts(data: bytes) -> list[int]:
    """Return where the frames begin, all of the same rate, and where the last one ends."""
    kbits_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    kbits_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    starts = [0]
    while (at := starts[-1]) < len(data):
        is_1 = data[at + 1] >> 3 & 3 == 3
        shift = {3: 0, 2: 1, 0: 2}[data[at + 1] >> 3 & 3]
        rate = (44_100, 48_000, 32_000)[data[at + 2] >> 2 & 3] >> shift
        kbits = (kbits_1 if is_1 else kbits_2)[data[at + 2] >> 4]
        size = (144 if is_1 else 72) * 1_000 * kbits // rate + (data[at + 2] >> 1 & 1)
        starts.append(at + size)
    return starts


def mp3_cases(index: int, rng: random.Random) -> Iterator[Case]:
    rate = rng.choice((8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000))
    channels = rng.choice((1, 2))
    samples = rng.randrange(rate // 2, rate * 2)
    mode = rng.choice(("CONSTANT", "VARIABLE"))
    data = encoded("MP3", "MPEG_LAYER_III", rate, channels, samples, index, mode)
    label = f"{index} MP3 {rate} Hz {channels} ch {samples}"
    starts = mp3_starts(data)
    frame_samples = 1_152 if rate >= 32_000 else 576
    at = max(data.find(b"Info", 0, 60), data.find(b"Xing", 0, 60))
    assert at > 0 and starts[-1] == len(data)
    frames = len(starts) - 2
    seconds = samples / rate
    yield Case(f"{label}: as it is", data, seconds, None, BOTH)
    plain, plain_seconds = data[starts[1] :], frames * frame_samples / rate
    yield Case(f"{label}: without a count", plain, plain_seconds)
    for name, tag in BEHIND.items():
        yield Case(f"{label}: {name} behind", data + tag, seconds)
        yield Case(f"{label}: no count, {name} behind", plain + tag, plain_seconds)
    for name, tag in {**BEFORE, "zeros": bytes(8_192), "many zeros": bytes(300_000)}.items():
        yield Case(f"{label}: {name} before", tag + data, seconds)
        yield Case(f"{label}: no count, {name} before", tag + plain, plain_seconds)

    def counting(count: int | None, size: int | None = None) -> bytes:
        changed = bytearray(data)
        if count is not None:
            changed[at + 8 : at + 12] = struct.pack(">I", count)
        if size is not None:
            changed[at + 12 : at + 16] = struct.pack(">I", size)
        return bytes(changed)

    for count in (10 * frames, frames + 5, frames // 3, 1):
        yield Case(f"{label}: {count} frames announced", counting(count), seconds, LIES)
    yield Case(f"{label}: frames and header counted", counting(frames + 1), seconds)
    yield Case(f"{label}: no frames announced", counting(0, 0), seconds, PIPE)
    for size in (2 * len(data) + 5_000, 2**32 - 1, *([1] if len(data) > 6_000 else [])):
        yield Case(f"{label}: {size} bytes announced", counting(None, size), seconds, LIES)
    rubbish = b"\xfe" + rng.randbytes(rng.randrange(1_000)).replace(b"\xff", b"\xfe")
    yield Case(f"{label}: rubbish behind", data + rubbish, seconds)
    yield Case(f"{label}: rubbish before", id3(5) + rubbish + data, seconds)
    for _ in range(4):
        number = rng.randrange(1, frames - 1)
        cut = starts[number] + rng.randrange(1, starts[number + 1] - starts[number])
        yield Case(f"{label}: cut off in frame {number}", data[:cut], None)
        filled = data[:cut].ljust(len(data), b"\0")
        yield Case(f"{label}: cut off in frame {number}, zeros", filled, None)
        yield Case(f"{label}: cut off between frames", data[: starts[number]], None)
        if cut - starts[number] > 1:
            yield Case(f"{label}: no count, cut off", data[starts[1] : cut], None)
        hole = data[: starts[number + 1]] + b"noise" + data[starts[number + 1] :]
        yield Case(f"{label}: noise in the middle", hole, None)
    for count in (2, 3):
        yield Case(f"{label}: {count} files", data * count, count * seconds, SEVERAL)
        tagged = (id3(200) + data + ape(50) + BEHIND["enhanced ID3v1"]) * count
        yield Case(f"{label}: {count} files with tags", tagged, count * seconds, SEVERAL)
        untold = (id3(20) + plain) * count
        yield Case(f"{label}: {count} without a count", untold, count * plain_seconds, SEVERAL)
    free = b"".join(
        data[a : a + 2] + bytes([data[a + 2] & 0x0D]) + data[a + 3 : b] for a, b in pairwise(starts)
    )
    yield Case(f"{label}: free format", free, None)
    yield Case(f"{label}: free format with ID3", id3(30) + free, None)


def even_mp3_cases() -> Iterator[Case]:
    """Yield MP3 of silence without any count, all of whose frames have the same bit rate."""
    for version, rates, samples in (
        (0xFB, (44_100, 48_000, 32_000), 1_152),
        (0xF3, (22_050, 24_000, 16_000), 576),
        (0xE3, (11_025, 12_000, 8_000), 576),
    ):
        for (code, rate), kbits_code, mode in itertools.product(
            enumerate(rates), (4, 8, 9, 14), (0x00, 0xC0)
        ):
            head = bytes((0xFF, version, kbits_code << 4 | code << 2, mode))
            size = mp3_starts(head)[1]
            for frames in (10, 199, 200, 201, 613):
                data = head.ljust(size, b"\0") * frames
                seconds = frames * samples / rate
                yield Case(f"{frames} of {head.hex()}", data, seconds, None, (LIBSNDFILE,))
                yield Case(f"{frames} of {head.hex()}, cut off", data[:-9], None)


# ---------------------------------------------------------------------------------- Ogg


def ogg_pages(data: bytes) -> list[bytearray]:
    pages = []
    at = 0
    while at < len(data):
        table = data[at + 27 : at + 27 + data[at + 26]]
        size = 27 + len(table) + sum(table)
        pages.append(bytearray(data[at : at + size]))
        at += size
    return pages


def granule(page: bytearray) -> int:
    return int(struct.unpack_from("<q", page, 6)[0])


def moved(pages: list[bytearray], by: int, first: int = 2) -> bytes:
    """Return the pages with all positions moved, as in what is cut out of a live stream."""
    changed = [bytearray(page) for page in pages]
    for page in changed[first:]:
        if granule(page) > 0:
            struct.pack_into("<q", page, 6, granule(page) + by)
    return b"".join(changed)


def set_granules(pages: list[bytearray], value: int, which: range) -> bytes:
    changed = [bytearray(page) for page in pages]
    for number in which:
        struct.pack_into("<q", changed[number], 6, value)
    return b"".join(changed)


def ogg_flac(data: bytes) -> bytes:
    """Return a FLAC as a stream of Ogg (RFC 9639, 10.1), each frame on a page of its own."""
    starts = flac_frames(data)
    packets = [data[a:b] for a, b in pairwise(starts)]
    block = 4_096
    total = int.from_bytes(data[18:26]) & (1 << 36) - 1
    first = b"\x7fFLAC\x01\0\0\x01" + data[:42]
    pages = [(0, 2, first), (0, 0, b"\x84\0\0\x08" + bytes(8))]
    for number, packet in enumerate(packets, 1):
        flags = 4 if number == len(packets) else 0
        pages.append((min(number * block, total), flags, packet))
    out = b""
    for position, flags, packet in pages:
        table = b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
        parts = [table[at : at + 255] for at in range(0, len(table), 255)]
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            head = struct.pack(
                "<BBqIIIB",
                0,
                (flags & 2 if number == 0 else 1) | (flags & 4 if last else 0),
                position if last else -1,
                5,
                0,
                0,
                len(part),
            )
            size = sum(part)
            out += b"OggS" + head + part + packet[:size]
            packet = packet[size:]
    return out


def ogg_cases(index: int, kind: str, rng: random.Random) -> Iterator[Case]:
    rate = rng.choice((8_000, 16_000, 24_000, 48_000))
    if kind != "OPUS":
        rate = rng.choice((8_000, 16_000, 22_050, 44_100, 96_000))
    channels = rng.choice((1, 2))
    samples = rng.randrange(2 * rate, 4 * rate)
    if kind == "FLAC in Ogg":
        samples = rng.randrange(20_000, 60_000)
        data = ogg_flac(encoded("FLAC", "PCM_16", rate, channels, samples, index))
    else:
        data = encoded("OGG", kind, rate, channels, samples, index)
    label = f"{index} Ogg {kind} {rate} Hz {channels} ch {samples}"
    seconds = samples / rate
    pages = ogg_pages(data)
    block = {"OPUS": rate // 50, "VORBIS": 1 << (data[28 + 28] >> 4)}.get(kind, 0)
    sound = next(number for number, page in enumerate(pages) if granule(page) > 0)
    yield Case(
        f"{label}: as it is", data, seconds, None, BOTH if kind != "FLAC in Ogg" else (MUTAGEN,)
    )
    for by in (1, 960, 48_000, 2**33, 2**40 + 7):
        if len(pages) - sound > 1:
            yield Case(f"{label}: from {by}", moved(pages, by), seconds)
    for value in (0, -1):
        # Where the encoder cut its last block is not known then.
        every = set_granules(pages, value, range(sound, len(pages)))
        last = set_granules(pages, value, range(len(pages) - 1, len(pages)))
        for name, changed in {"all": every, "the last": last}.items():
            yield Case(f"{label}: {value} in {name}", changed, seconds, LIES, (), block / rate)
    for kept in rng.sample(range(30, len(data) - 1), 4):
        if not data.startswith(b"OggS", kept):
            yield Case(f"{label}: cut off at {kept}", data[:kept], None)
    yield Case(f"{label}: cut off by a byte", data[:-1], None)
    if kind == "FLAC in Ogg":
        yield Case(f"{label}: cut off between pages", b"".join(pages[:-1]), None)
    open_end = bytearray(data)
    open_end[len(data) - len(pages[-1]) + 5] &= 0xFB
    yield Case(f"{label}: without an end", bytes(open_end), seconds, PIPE)
    for name, tag in {"zeros": bytes(5_000), "ID3v1": ID3V1, "rubbish": b"x" * 99}.items():
        yield Case(f"{label}: {name} behind", data + tag, seconds)
    for name, tag in BEFORE.items():
        yield Case(f"{label}: {name} before", tag + data, seconds)
    for count in (2, 3, 5):
        yield Case(f"{label}: {count} files", data * count, count * seconds, SEVERAL)
    other = encoded("OGG", "VORBIS", 11_025, 1, 3_000)
    yield Case(f"{label}: another one behind it", data + other, None)
    if kind == "OPUS" and len(pages) > 4:
        left = data[: sum(map(len, pages[:sound]))] + b"".join(pages[sound + 1 :])
        skip = struct.unpack_from("<H", data, 28 + 10)[0]
        yield Case(
            f"{label}: cut out",
            left,
            (granule(pages[-1]) - granule(pages[sound]) - skip) / 48_000,
        )


# ---------------------------------------------------------------------------------- all


@cache
def cases(kind: str) -> list[Case]:
    rng = random.Random(kind)
    match kind:
        case "WAV":
            return [
                case
                for index, each in enumerate(WAV_KINDS * 2)
                for case in wav_cases(index, each, rng)
            ]
        case "FLAC":
            return [case for index in range(16) for case in flac_cases(index, rng)]
        case "MP3":
            made = [case for index in range(12) for case in mp3_cases(index, rng)]
            return [*made, *even_mp3_cases()]
    return [case for index in range(8) for case in ogg_cases(index, kind, rng)]


KINDS = ("WAV", "FLAC", "MP3", "OPUS", "VORBIS", "FLAC in Ogg")


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_lasts_as_long_as_its_sound_or_is_refused(kind: str) -> None:
    found = faults(cases(kind))
    assert not found, f"{len(found)} of {len(cases(kind))}:\n" + "\n".join(found[:40])


def test_there_are_thousands_of_files_and_the_judges_read_hundreds() -> None:
    made = [case for kind in KINDS for case in cases(kind)]
    assert len({case.data for case in made}) > 4_000
    assert sum(case.seconds is None for case in made) > 1_000
    for judge in BOTH:
        read = sum(judge in dict(judgements(case)) for case in made)
        assert read > 300, f"{judge} read {read}"
    for problem in ClipProblem:
        assert sum(case.problem is problem for case in made) > 200
