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
    found = clip(data)
    assert (found.container, found.size_bytes) == (container, len(data))
    assert (found.sample_rate_hz, found.channels) == (rate, channels)
    assert found.duration_seconds == pytest.approx(seconds)


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
