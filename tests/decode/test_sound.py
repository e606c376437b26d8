"""A clip is measured by its own bytes, and broken ones are found."""

import struct

import pytest

from echo_ingest.record import Clip
from tests.decode.messages import CLIPS, chunk, reason, recording, wav


def clip(data: bytes) -> Clip:
    return recording(data).clip


@pytest.mark.parametrize(
    ("name", "container", "rate", "channels", "seconds"),
    [
        ("tone.flac", "flac", 16_000, 1, 0.1),
        ("tone.oga", "ogg", 16_000, 1, 0.1),
        ("tone.ogg", "ogg", 16_000, 1, 0.1),
        ("tone.opus", "ogg", 16_000, 1, 0.1),
        ("xing.mp3", "mp3", 16_000, 1, 0.1),  # LAME says what it padded
        ("id3.mp3", "mp3", 16_000, 1, 5 * 576 / 16_000),  # whole frames, padding and all
        ("plain.mp3", "mp3", 16_000, 1, 5 * 576 / 16_000),
        ("wide.wav", "wav", 8_000, 2, 0.1),
        ("adpcm.wav", "wav", 8_000, 2, 0.1),
    ],
)
def test_every_container_is_measured(
    name: str, container: str, rate: int, channels: int, seconds: float
) -> None:
    data = (CLIPS / name).read_bytes()
    measured = clip(data)
    assert (measured.container, measured.size_bytes) == (container, len(data))
    assert (measured.sample_rate_hz, measured.channels) == (rate, channels)
    assert measured.duration_seconds == pytest.approx(seconds)


@pytest.mark.parametrize("name", ["tone.flac", "tone.oga", "tone.ogg", "tone.opus", "wide.wav"])
def test_a_clip_cut_off_anywhere_is_found(name: str) -> None:
    data = (CLIPS / name).read_bytes()
    for size in [*range(12, len(data) - 1, 37), len(data) - 1]:
        if name.startswith("tone.o") and data[size : size + 4] == b"OggS":
            continue  # between two pages nothing is missing
        assert reason(data[:size])


@pytest.mark.parametrize("name", ["xing.mp3", "plain.mp3"])
def test_an_mp3_cut_off_within_a_frame_is_found(name: str) -> None:
    data = (CLIPS / name).read_bytes()
    for size in (30, 100, len(data) - 1):
        assert "cut off" in reason(data[:size])


def test_an_mp3_with_noise_in_the_middle_is_broken() -> None:
    data = (CLIPS / "plain.mp3").read_bytes()
    assert "broken after 2 frames" in reason(data[:288] + b"noise" + data[288:])


def test_tags_around_an_mp3_are_stepped_over() -> None:
    data = (CLIPS / "plain.mp3").read_bytes()
    tagged = b"ID3\x03\0\0\0\0\x01\x00" + bytes(128) + data + b"TAG" + bytes(125)
    assert clip(tagged).duration_seconds == clip(data).duration_seconds


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"RIFF", 'no whole "fmt " chunk in its 4 bytes'),
        (wav()[:36], "no data chunk"),
        (wav(samples=0), "empty: its data chunk holds 0 bytes"),
        (wav(rate=20_000_000), "20,000,000 samples a second"),
        (wav(rate=0), "0 samples a second"),
        (wav(rate=1, samples=700_000), "over a week"),
        (wav().replace(b"\x01\x00\x01\x00", b"\x01\x00\x00\x01"), "256 channels"),
        (wav(before=chunk(b"junk", b"") * 1_001), "more than 1,000 chunks"),
        (b"fLaC" + b"\x80\0\0\x22" + bytes(34), "a header and no sound"),
        (b"fLaC" + b"\x81\0\0\x02xx", "no whole STREAMINFO"),
        (b"OggS" + bytes(23), "neither Vorbis nor Opus nor FLAC"),
        (b"OggS\x01", "no page begins at byte 0"),
        (b"ID3\x03\0\0\0\0\0\0hello", "no whole frame"),
    ],
)
def test_a_hostile_or_empty_header_is_refused(data: bytes, expected: str) -> None:
    assert expected in reason(data)


def test_two_streams_in_one_ogg_are_refused() -> None:
    data = (CLIPS / "tone.opus").read_bytes() + (CLIPS / "tone.oga").read_bytes()
    assert "more than one stream" in reason(data)


def test_chunks_of_odd_size_are_padded() -> None:
    data = wav(before=chunk(b"bext", b"odd"))
    assert clip(data).duration_seconds == 0.05


def test_metadata_cut_off_after_whole_sound_does_no_harm() -> None:
    assert clip(wav(chunk(b"LIST", b"INFOICMT", 500))).duration_seconds == 0.05


def test_rf64_takes_its_size_from_ds64() -> None:
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, 1_600, 800, 0))
    data = wav(before=sizes).replace(b"RIFF", b"RF64")
    data = data.replace(chunk(b"data", b"")[:4] + struct.pack("<I", 1_600), b"data" + b"\xff" * 4)
    assert clip(data).duration_seconds == 0.05


def test_what_the_file_says_of_itself_is_kept() -> None:
    info = chunk(b"LIST", b"INFO" + chunk(b"IART", b"AudioMoth 24\0\0\0") + chunk(b"ICMT", b"dawn"))
    guano = chunk(b"guan", "GUANO|Version: 1.0\nSpecies Manual ID: Crinia\nNote: 5 °C\n".encode())
    assert clip(wav(info, guano)).metadata == {
        "IART": "AudioMoth 24",
        "ICMT": "dawn",
        "GUANO|Version": "1.0",
        "Species Manual ID": "Crinia",
        "Note": "5 °C",
    }


def test_metadata_has_limits() -> None:
    many = b"\n".join(b"field%d: %s" % (at, b"x" * 5_000) for at in range(200))
    metadata = clip(wav(chunk(b"guan", many))).metadata
    assert len(metadata) <= 100
    assert max(map(len, metadata.values())) == 2_000


def remainder(data: bytes, polynomial: int) -> bytes:
    """Return the CRC of a FLAC frame (RFC 9639, 9.1.8 and 9.3), by long division, bit by bit."""
    bits = polynomial.bit_length() - 1
    value = int.from_bytes(data) << bits
    for shift in range(8 * len(data) - 1, -1, -1):
        if value >> shift + bits & 1:
            value ^= polynomial << shift
    return value.to_bytes(bits // 8)


def flac(number: int = 0, code: int = 12, more: bytes = b"", rate_code: int = 0) -> bytes:
    """Return a header and the last frame of silence, 16 kHz, in blocks of 4,096 samples.

    `code` and `rate_code` say how the frame gives its size and its rate, and `more` are the bytes
    that these two may need.
    """
    layout = 16_000 << 44 | 15 << 36
    info = struct.pack(">HH", 4_096, 4_096) + bytes(6) + layout.to_bytes(8) + bytes(16)
    head = b"\xff\xf8" + bytes([code << 4 | rate_code, 0]) + chr(number).encode() + more
    frame = head + remainder(head, 0x107) + bytes(3)
    return b"fLaC\x80\0\0\x22" + info + frame + remainder(frame, 0x18005)


@pytest.mark.parametrize("number", [0, 127, 128, 2_047, 2_048, 65_535, 65_536, 1_000_000])
def test_a_flac_lasts_as_long_as_its_last_frame_says(number: int) -> None:
    measured = clip(flac(number))
    assert (measured.sample_rate_hz, measured.channels) == (16_000, 1)
    assert measured.duration_seconds == (number + 1) * 4_096 / 16_000


@pytest.mark.parametrize(
    ("code", "more", "samples"),
    [
        (1, b"", 192),
        *((code, b"", 144 * 2**code) for code in range(2, 6)),
        (6, b"\xfe", 255),
        (7, b"\x12\x33", 0x1234),
        *((code, b"", 2**code) for code in range(8, 16)),
    ],
)
@pytest.mark.parametrize(
    ("rate_code", "rate"), [(5, b""), (12, b"\x10"), (13, b"\x3e\x80"), (14, b"\x06\x40")]
)
def test_a_flac_frame_says_its_size_and_rate_in_many_ways(
    code: int, more: bytes, samples: int, rate_code: int, rate: bytes
) -> None:
    data = flac(3, code, more + rate, rate_code)
    assert clip(data).duration_seconds == (3 * 4_096 + samples) / 16_000


@pytest.mark.parametrize("at", [42, 43, 44, 46, 47, 49, 50])
def test_a_flac_frame_with_a_wrong_bit_is_none(at: int) -> None:
    data = bytearray(flac(3))
    data[at] ^= 1
    assert "cut off" in reason(bytes(data))


def mp3(*padded: bool) -> bytes:
    """Return frames of silence, 44.1 kHz on two channels; a padded frame is a byte longer."""
    return b"".join(
        bytes([0xFF, 0xFB, 0x92 if longer else 0x90, 0]) + bytes(414 if longer else 413)
        for longer in padded
    )


def test_frames_of_an_mp3_may_be_padded() -> None:
    assert clip(mp3(False, True, True, False)).duration_seconds == 4 * 1_152 / 44_100


@pytest.mark.parametrize(
    ("name", "at", "order"),
    [(b"VBRI", 36, "bytes"), (b"Xing", 36, "frames"), (b"Info", 36, "frames")],
)
def test_an_mp3_that_counts_itself_lasts_as_it_says_and_is_all_there(
    name: bytes, at: int, order: str
) -> None:
    def counted(frames: int, size_bytes: int) -> bytes:
        data = bytearray(mp3(False, False))
        if order == "bytes":
            data[at : at + 18] = name + bytes(6) + struct.pack(">II", size_bytes, frames)
        else:
            data[at : at + 16] = name + struct.pack(">III", 3, frames, size_bytes)
        return bytes(data)

    assert clip(counted(1_000, 834)).duration_seconds == 1_000 * 1_152 / 44_100
    for size_bytes in (835, 2**16, 2**24):
        assert f"its header announces {size_bytes:,} bytes" in reason(counted(1_000, size_bytes))


def page(granule: int, body: bytes) -> bytes:
    """Return a page of an Ogg file: up to 255 bytes of one stream."""
    head = struct.pack("<BBQIIIB", 0, 0, granule, 7, 0, 0, 1)
    return b"OggS" + head + bytes([len(body)]) + body


OPUS = b"OpusHead\x01\x02" + struct.pack("<HI", 312, 16_000)
VORBIS = b"\x01vorbis" + struct.pack("<IBI", 0, 2, 16_000)


@pytest.mark.parametrize(
    ("first", "granule"), [(OPUS, 48_312), (OPUS + b"\0\0\0", 48_312), (VORBIS, 16_000)]
)
def test_an_ogg_lasts_up_to_the_last_page_on_which_a_packet_ends(
    first: bytes, granule: int
) -> None:
    data = page(0, first) + page(granule, b"sound") + page(2**64 - 1, b"of a packet that goes on")
    measured = clip(data)
    assert (measured.sample_rate_hz, measured.channels, measured.duration_seconds) == (
        16_000,
        2,
        1.0,
    )
    assert "neither Vorbis nor Opus" in reason(page(0, first[:15]) + page(granule, b"sound"))


def test_a_compressed_wav_without_a_count_lasts_by_its_bytes_a_second() -> None:
    layout = chunk(b"fmt ", struct.pack("<HHIIHH", 0x270, 1, 8_000, 4_055, 256, 4))
    body = b"WAVE" + layout + chunk(b"data", bytes(4_055 * 3))
    assert clip(b"RIFF" + struct.pack("<I", len(body)) + body).duration_seconds == 3.0
