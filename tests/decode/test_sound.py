"""A clip is measured by its own bytes, and broken ones are found."""

import struct

import pytest

from echo_ingest.quality import ClipProblem
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Clip
from tests.decode.messages import CLIPS, chunk, reason, recording, rejected, wav


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


def test_two_streams_at_a_time_in_one_ogg_are_refused() -> None:
    opus, oga = (CLIPS / "tone.opus").read_bytes(), (CLIPS / "tone.oga").read_bytes()
    header = oga.index(b"OggS", 4)
    why = rejected(opus[:47] + oga[:header] + opus[47:] + oga[header:])
    assert "more than one stream" in why.detail
    assert why.code == ReasonCode.SEVERAL_RECORDINGS


@pytest.mark.parametrize("name", ["tone.flac", "id3.mp3", "tone.opus", "wide.wav"])
def test_a_hundred_recordings_in_one_clip_are_too_many(name: str) -> None:
    one = (CLIPS / name).read_bytes()
    assert clip(one * 100).problem == ClipProblem.SEVERAL_FILES
    assert rejected(one * 101).code == ReasonCode.SEVERAL_RECORDINGS


def test_chunks_of_odd_size_are_padded() -> None:
    data = wav(before=chunk(b"bext", b"odd"))
    assert clip(data).duration_seconds == 0.05


def test_metadata_cut_off_after_whole_sound_does_no_harm() -> None:
    assert clip(wav(chunk(b"LIST", b"INFOICMT", 500))).duration_seconds == 0.05


@pytest.mark.parametrize("number", [1, 999, 8_192, 65_536, 300_001])
def test_zeros_of_any_number_behind_a_wav_are_no_sound(number: int) -> None:
    assert clip(wav() + bytes(number)).problem is None
    joined = clip(wav() + bytes(number) + wav())
    assert joined.duration_seconds == 2 * clip(wav()).duration_seconds


def test_an_empty_wav_beside_a_whole_one_does_no_harm() -> None:
    empty = wav(samples=0)
    assert "empty" in reason(empty + empty)
    for data in (wav() + empty, empty + wav(), wav() + empty + wav()):
        assert clip(data).duration_seconds % clip(wav()).duration_seconds == 0


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


def flac_frame(number: int = 0, code: int = 12, more: bytes = b"", rate_code: int = 0) -> bytes:
    """Return a frame of silence. `code` and `rate_code` say how it gives its size and its rate.

    `more` are the bytes that these two may need.
    """
    head = b"\xff\xf8" + bytes([code << 4 | rate_code, 0]) + chr(number).encode() + more
    frame = head + remainder(head, 0x107) + bytes(3)
    return frame + remainder(frame, 0x18005)


def flac(*frames: bytes, samples: int = 0) -> bytes:
    """Return a header and some frames, at 16 kHz, in blocks of 4,096 samples."""
    layout = 16_000 << 44 | 15 << 36 | samples
    info = struct.pack(">HH", 4_096, 4_096) + bytes(6) + layout.to_bytes(8) + bytes(16)
    return b"fLaC\x80\0\0\x22" + info + b"".join(frames)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 2_047, 2_048, 65_535, 65_536, 1_000_000])
def test_a_flac_lasts_up_to_the_end_of_its_last_frame(number: int) -> None:
    measured = clip(flac(flac_frame(0), flac_frame(number)))
    assert (measured.sample_rate_hz, measured.channels) == (16_000, 1)
    assert measured.duration_seconds == (number + 1) * 4_096 / 16_000


@pytest.mark.parametrize("first", [1, 2_047, 1_000_000])
def test_a_flac_cut_out_of_a_longer_one_lasts_from_its_first_frame(first: int) -> None:
    measured = clip(flac(flac_frame(first), flac_frame(first + 2)))
    assert measured.duration_seconds == 3 * 4_096 / 16_000


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
    data = flac(flac_frame(0), flac_frame(3, code, more + rate, rate_code))
    assert clip(data).duration_seconds == (3 * 4_096 + samples) / 16_000


@pytest.mark.parametrize("at", [42, 43, 44, 46, 47, 49, 50])
def test_a_flac_frame_with_a_wrong_bit_is_none(at: int) -> None:
    data = bytearray(flac(flac_frame(3)))
    data[at] ^= 1
    assert reason(bytes(data)) == "the FLAC is cut off: its last frame is not whole"


@pytest.mark.parametrize(
    ("announced", "last", "problem"),
    [
        (3 * 4_096, flac_frame(2), None),
        (0, flac_frame(2), ClipProblem.LENGTH_NOT_ANNOUNCED),
        (1, flac_frame(2), ClipProblem.HEADER_DISAGREES),
        (6 * 4_096, flac_frame(2), ClipProblem.HEADER_DISAGREES),
        # A block shorter than the others is the last one.
        (5 * 4_096, flac_frame(2, 6, b"\x00"), ClipProblem.HEADER_DISAGREES),
    ],
)
def test_where_a_flac_header_is_wrong_the_frames_count(
    announced: int, last: bytes, problem: ClipProblem | None
) -> None:
    measured = clip(flac(flac_frame(0), flac_frame(1), last, samples=announced))
    samples = 3 * 4_096 if len(last) == 11 else 2 * 4_096 + 1
    assert (measured.duration_seconds, measured.problem) == (samples / 16_000, problem)


def test_a_flac_cut_off_between_two_frames_is_found() -> None:
    data = flac(flac_frame(0), flac_frame(1), samples=3 * 4_096)
    assert "announces 12,288 samples, and its frames hold 8,192" in reason(data)


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

    measured = clip(counted(1, 834))
    assert (measured.duration_seconds, measured.problem) == (1_152 / 44_100, None)
    # The bytes are all there, so the count of the frames is wrong.
    lying = clip(counted(1_000, 834))
    assert lying.duration_seconds == 1_152 / 44_100
    assert lying.problem is ClipProblem.HEADER_DISAGREES
    for size_bytes in (835, 2**16, 2**24):
        assert f"its header announces {size_bytes:,} bytes" in reason(counted(1_000, size_bytes))
    assert "announces 1,000 frames of sound, and 1 arrived" in reason(counted(1_000, 0))


def page(granule: int, *packets: bytes, flags: int = 0) -> bytes:
    """Return a page of an Ogg file: a few short packets of one stream."""
    head = struct.pack("<BBQIIIB", 0, flags, granule & 2**64 - 1, 7, 0, 0, len(packets))
    return b"OggS" + head + bytes(map(len, packets)) + b"".join(packets)


OPUS = b"OpusHead\x01\x02" + struct.pack("<HI", 312, 16_000)
PACKET = b"\x08sound"
"""20 ms of Opus."""
HEADERS = page(0, OPUS, flags=2) + page(0, b"OpusTags")


def opus(*granules: int) -> bytes:
    """Return an Opus file with a page of 50 packets, one second, for each granule position."""
    pages = [page(each, *[PACKET] * 50) for each in granules[:-1]]
    return HEADERS + b"".join(pages) + page(granules[-1], *[PACKET] * 50, flags=4)


@pytest.mark.parametrize("start", [0, 1, 48_000, 2**40])
@pytest.mark.parametrize("trimmed", [0, 1, 900, 47_000])
def test_an_opus_file_lasts_from_its_first_sound_to_its_last(start: int, trimmed: int) -> None:
    measured = clip(opus(start + 48_000, start + 96_000, start + 144_000 - trimmed))
    assert (measured.sample_rate_hz, measured.channels) == (16_000, 2)
    assert measured.duration_seconds == (144_000 - trimmed - 312) / 48_000
    assert measured.problem is None


@pytest.mark.parametrize(
    "granules",
    [
        (48_000, 96_000, 0),
        (48_000, 96_000, -1),
        (48_000, -1, -1),
        (0, 0, 0),
        (-1, -1, -1),
        (48_000, 96_000, 48_000),
        (48_000, 96_000, 2**40),
        (48_000, 2**40, 2**40 + 48_000),
    ],
)
def test_where_granule_positions_are_wrong_the_packets_count(granules: tuple[int, ...]) -> None:
    measured = clip(opus(*granules))
    assert measured.duration_seconds == (144_000 - 312) / 48_000
    assert measured.problem is ClipProblem.HEADER_DISAGREES


def test_an_ogg_that_nobody_ended_may_be_cut_off() -> None:
    assert clip(HEADERS + page(960, PACKET)).problem is ClipProblem.LENGTH_NOT_ANNOUNCED


def test_an_ogg_with_an_unknown_stream_is_refused() -> None:
    assert "neither Vorbis nor Opus" in reason(page(0, OPUS[:15]) + page(960, PACKET))


@pytest.mark.parametrize(
    ("packet", "samples"),
    [
        *((bytes([config << 3]), 480 << (config & 3)) for config in (0, 1, 4, 5, 8, 9)),
        *((bytes([config << 3]), 960 * (config & 3)) for config in (2, 3, 6, 7, 10, 11)),
        *((bytes([config << 3]), 480 << (config & 1)) for config in (12, 13, 14, 15)),
        *((bytes([config << 3]), 120 << (config & 3)) for config in range(16, 32)),
        (b"\x09", 1_920),
        (b"\x0a", 1_920),
        (b"\x0b\x03", 2_880),
        (b"\x0b\xc6", 5_760),
    ],
)
def test_an_opus_packet_says_how_long_it_is(packet: bytes, samples: int) -> None:
    measured = clip(HEADERS + page(0, *[packet] * 8, flags=4))
    assert measured.duration_seconds == (8 * samples - 312) / 48_000


def test_a_compressed_wav_without_a_count_lasts_by_its_bytes_a_second() -> None:
    layout = chunk(b"fmt ", struct.pack("<HHIIHH", 0x270, 1, 8_000, 4_055, 256, 4))
    body = b"WAVE" + layout + chunk(b"data", bytes(4_055 * 3))
    assert clip(b"RIFF" + struct.pack("<I", len(body)) + body).duration_seconds == 3.0


def layout(
    kind: int = 1, channels: int = 1, rate: int = 16_000, block: int = 2, bits: int = 16
) -> bytes:
    """Return the body of a `fmt ` chunk whose byte rate fits its block size."""
    return struct.pack("<HHIIHH", kind, channels, rate, rate * block, block, bits)


def wav_of(fmt: bytes, sound: bytes, *others: bytes) -> bytes:
    body = b"WAVE" + fmt + b"".join(others) + chunk(b"data", sound)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("fmt", "frame_bytes", "problem"),
    [
        (layout(block=3, bits=24), 3, None),
        (layout(block=3, bits=20), 3, None),
        (layout(block=2, bits=12), 2, None),
        (layout(block=1, bits=8), 1, None),
        (layout(kind=3, block=4, bits=32), 4, None),
        (layout(kind=3, block=8, bits=64), 8, None),
        (layout(kind=6, block=1, bits=8), 1, None),
        (layout(kind=0xFFFE, block=3, bits=24) + struct.pack("<HHIH", 22, 20, 4, 1), 3, None),
        (layout(kind=0xFFFE, block=4, bits=32) + struct.pack("<HHIH", 22, 32, 4, 3), 4, None),
        (layout(kind=0xFFFE), 2, None),
        # 24 bits in 4 bytes: both sizes in the header agree.
        (layout(block=4, bits=24), 4, ClipProblem.HEADER_DISAGREES),
        (layout(channels=2, block=8, bits=24), 8, ClipProblem.HEADER_DISAGREES),
        # Without bits, or with impossible ones, the others have to agree.
        (layout(block=2, bits=0), 2, ClipProblem.HEADER_DISAGREES),
        (layout(kind=3, block=4, bits=24), 4, ClipProblem.HEADER_DISAGREES),
    ],
)
def test_a_sample_is_as_long_as_its_layout_says(
    fmt: bytes, frame_bytes: int, problem: ClipProblem | None
) -> None:
    measured = clip(wav_of(chunk(b"fmt ", fmt), bytes(1_600 * frame_bytes)))
    assert (measured.duration_seconds, measured.problem) == (0.1, problem)


@pytest.mark.parametrize(
    "fmt",
    [
        struct.pack("<HHIIHH", 1, 1, 16_000, 5, 7, 0),
        struct.pack("<HHIIHH", 1, 1, 16_000, 0, 0, 65_535),
        struct.pack("<HHIIHH", 3, 1, 16_000, 0, 4, 9),
    ],
)
def test_where_nobody_can_tell_the_length_the_contradiction_is_named(fmt: bytes) -> None:
    assert "the WAV header contradicts itself" in reason(wav_of(chunk(b"fmt ", fmt), bytes(999)))


@pytest.mark.parametrize(("announced", "real"), [(18, 16), (16, 18), (16, 20), (40, 40)])
def test_a_layout_of_another_size_than_it_says_does_not_hide_the_sound(
    announced: int, real: int
) -> None:
    fmt = b"fmt " + struct.pack("<I", announced) + layout().ljust(real, b"\0")
    assert clip(wav_of(fmt, bytes(3_200))).duration_seconds == 0.1


@pytest.mark.parametrize(
    ("count", "seconds", "problem"),
    [
        (0, 10.0, None),
        (160_000, 10.0, None),
        (159_000, 159_000 / 16_000, None),  # the last block is not full
        (320_000, 10.0, ClipProblem.HEADER_DISAGREES),  # of both channels
    ],
)
def test_the_count_of_a_compressed_wav_is_held_against_its_byte_rate(
    count: int, seconds: float, problem: ClipProblem | None
) -> None:
    fmt = chunk(b"fmt ", struct.pack("<HHIIHH", 0x270, 2, 16_000, 8_000, 64, 4))
    measured = clip(wav_of(fmt, bytes(80_000), chunk(b"fact", struct.pack("<I", count))))
    assert (measured.duration_seconds, measured.problem) == (seconds, problem)
    wrong = wav_of(fmt, bytes(80_000), chunk(b"fact", struct.pack("<I", 900_000)))
    assert "56.25 s by its count and 10.00 s by its byte rate" in reason(wrong)


def test_an_mp3_in_a_wav_is_measured_as_an_mp3() -> None:
    inner = (CLIPS / "xing.mp3").read_bytes()
    fmt = struct.pack("<HHIIHH", 0x55, 1, 16_000, 4_000, 1, 0)
    measured = clip(wav_of(chunk(b"fmt ", fmt), inner, chunk(b"fact", struct.pack("<I", 1))))
    assert measured.container == "wav"
    assert measured.duration_seconds == pytest.approx(0.1)


def test_two_sounds_in_one_wav_are_refused_and_an_empty_one_is_none() -> None:
    sound = chunk(b"data", bytes(1_600))
    why = rejected(wav(sound))
    assert "more than one data chunk" in why.detail
    assert why.code == ReasonCode.SEVERAL_RECORDINGS
    assert clip(wav(before=chunk(b"data", b""))).duration_seconds == 0.05


@pytest.mark.parametrize("seconds", [1.0, 2.0])
def test_a_header_that_was_last_written_earlier_is_not_believed(seconds: float) -> None:
    """As of a recorder that lost power: both sizes are of the last time it wrote them."""
    data = bytearray(wav(samples=80_000))
    data[44:] = b"\x01\x02" * 80_000
    data[4:8] = struct.pack("<I", 36 + int(seconds * 32_000))
    data[40:44] = struct.pack("<I", int(seconds * 32_000))
    measured = clip(bytes(data))
    assert (measured.duration_seconds, measured.problem) == (5.0, ClipProblem.HEADER_DISAGREES)


@pytest.mark.parametrize("size", [0, 1, 44, 2**31 - 1, 2**31, 2**32 - 1])
def test_notes_behind_sound_from_a_pipe_are_read_and_are_no_sound(size: int) -> None:
    data = wav(chunk(b"LIST", b"INFO" + chunk(b"ICMT", b"dawn")), samples=8_000)
    data = data[:40] + struct.pack("<I", size) + data[44:]
    assert clip(data).duration_seconds == 0.5
    assert clip(data).metadata == {"ICMT": "dawn"}


def test_notes_without_pad_bytes_are_all_read() -> None:
    body = b"INFO" + chunk(b"ICMT", b"odd")[:-1] + chunk(b"IART", b"AudioMoth")
    assert clip(wav(chunk(b"LIST", body))).metadata == {"ICMT": "odd", "IART": "AudioMoth"}


def test_an_ogg_of_more_packets_than_are_counted_lasts_by_its_positions() -> None:
    pages = b"".join(page(48_000 * each, *[PACKET] * 50) for each in range(1, 3_600))
    measured = clip(HEADERS + pages + page(48_000 * 3_600, *[PACKET] * 50, flags=4))
    assert measured.duration_seconds == 3_600 - 312 / 48_000


def test_silence_from_a_pipe_is_no_padding() -> None:
    data = wav()
    data = data[:4] + struct.pack("<I", 80) + data[8:40] + struct.pack("<I", 44) + data[44:]
    measured = clip(data)
    assert (measured.duration_seconds, measured.problem) == (0.05, ClipProblem.HEADER_DISAGREES)


def test_notes_behind_the_sound_are_found_without_a_pad_byte() -> None:
    guano = chunk(b"guan", b"Note: dawn")
    assert clip(wav(chunk(b"LIST", b"INFOodd")[:-1], guano)).metadata == {"Note": "dawn"}


def test_the_first_layout_of_a_wav_counts() -> None:
    other = chunk(b"fmt ", layout(rate=48_000))
    assert clip(wav(other)).duration_seconds == clip(wav(before=other)).duration_seconds == 0.05


@pytest.mark.parametrize(
    ("count", "problem"),
    [(500, None), (1_000, ClipProblem.HEADER_DISAGREES), (9_000, ClipProblem.HEADER_DISAGREES)],
)
def test_a_count_in_blocks_may_be_of_all_channels(count: int, problem: ClipProblem | None) -> None:
    fmt = struct.pack("<HHIIHHHH", 0x11, 2, 8_000, 8_110, 512, 4, 2, 505)
    fact = chunk(b"fact", struct.pack("<I", count))
    measured = clip(wav_of(chunk(b"fmt ", fmt), bytes(512), fact))
    samples = 505 if count == 9_000 else 500
    assert (measured.duration_seconds, measured.problem) == (samples / 8_000, problem)


def test_the_frames_of_a_flac_know_its_rate_and_the_size_of_its_blocks() -> None:
    faster = clip(flac(flac_frame(0, rate_code=8), flac_frame(1, rate_code=8), samples=8_192))
    assert (faster.sample_rate_hz, faster.duration_seconds) == (32_000, 8_192 / 32_000)
    assert faster.problem is ClipProblem.HEADER_DISAGREES
    larger = clip(flac(flac_frame(0, 5), flac_frame(1, 5), samples=2 * 4_608))
    assert (larger.duration_seconds, larger.problem) == (2 * 4_608 / 16_000, None)


def test_a_flac_whose_last_block_is_not_marked_has_sound() -> None:
    data = flac(flac_frame(0), samples=4_096)
    assert clip(data[:4] + b"\0" + data[5:]).duration_seconds == 4_096 / 16_000


def info_mp3(frames: int, size_bytes: int, added: int = 0) -> bytes:
    """Return an MP3 that counts itself, with one frame of sound; LAME added so much at each end."""
    data = bytearray(mp3(False, False))
    data[36:52] = b"Info" + struct.pack(">III", 15, frames, size_bytes)
    data[156:160] = b"LAME"
    data[177:180] = (added << 12 | added).to_bytes(3)
    return bytes(data)


def test_an_mp3_may_count_the_frame_with_the_count_if_its_bytes_are_all_there() -> None:
    assert clip(info_mp3(2, 834)).problem is None
    assert "announces 835 bytes of sound, and 834 arrived" in reason(info_mp3(2, 835))


def test_silence_longer_than_an_mp3_was_not_added_to_it() -> None:
    assert clip(info_mp3(1, 834, 500)).duration_seconds == 152 / 44_100
    measured = clip(info_mp3(1, 834, 600))
    assert measured.duration_seconds == 1_152 / 44_100
    assert measured.problem is ClipProblem.HEADER_DISAGREES


def test_erased_memory_behind_an_mp3_is_no_sound() -> None:
    assert clip(mp3(False, True) + b"\xff" * 9_000).duration_seconds == 2 * 1_152 / 44_100


@pytest.mark.parametrize("broken", [b"", b"\x0b", b"\x0b\x07", b"\x0b\x3f"])
def test_a_broken_opus_packet_holds_no_sound(broken: bytes) -> None:
    data = HEADERS + page(0, *[broken, b"\x03\x02"] * 10, flags=4)
    assert clip(data).duration_seconds == (10 * 960 - 312) / 48_000


def test_the_end_of_a_packet_that_began_before_the_cut_is_no_sound() -> None:
    data = HEADERS + page(0, *[PACKET] * 50, flags=1) + page(0, *[PACKET] * 50, flags=4)
    assert clip(data).duration_seconds == (99 * 960 - 312) / 48_000


def test_a_stream_without_sound_beside_it_does_no_harm() -> None:
    skeleton = page(0, b"fishead\0", flags=2)
    beside = skeleton[:14] + b"\x09" + skeleton[15:]
    more = beside[:5] + b"\0" + beside[6:]
    data = opus(48_000, 96_000)
    assert clip(HEADERS + beside + more + data[len(HEADERS) :]).duration_seconds == (
        (96_000 - 312) / 48_000
    )


def test_zeros_of_any_number_behind_a_flac_are_no_sound() -> None:
    assert clip(flac(flac_frame(0), samples=4_096) + bytes(900_000)).problem is None


def test_a_header_of_any_size_is_stepped_over() -> None:
    table = b"\xff" * 255
    tags = page(0, b"OpusTags")[:26] + b"\xff" + table + b"OpusTags".ljust(255 * 255, b"x")
    more = tags[:5] + b"\1" + tags[6:]
    ended = more[:26] + b"\1\0"
    data = page(0, OPUS, flags=2) + tags + more * 20 + ended + page(960, PACKET, flags=4)
    assert clip(data).duration_seconds == (960 - 312) / 48_000
