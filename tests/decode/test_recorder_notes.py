"""What recorders write into their files is read, of hundreds of files whose truth is known."""

import base64
import struct
from datetime import UTC, datetime, timedelta
from itertools import combinations
from random import Random
from zoneinfo import ZoneInfo

import pytest

from echo_ingest.decode import Decoder, Rules
from echo_ingest.decode.recorder_notes import recorder_notes
from echo_ingest.quality import TimeProblem
from echo_ingest.record import Detection, Place, Recording
from tests.decode.messages import (
    BYTES_MAX,
    chunk,
    message,
    record,
    recording,
    wav,
)
from tests.decode.recorders import (
    AUDIOMOTH_FIRMWARE,
    OFFSETS,
    any_local_time,
    audiomoth_comment,
    audiomoth_offsets,
    bext,
    guano,
    in_utc,
    info,
    signed,
    wamd,
    with_notes,
)
from tests.several_records import only

SERIAL = "243B1F026488F56E"
FILES = 200
"""As many of each kind are tried."""
MELBOURNE = ZoneInfo("Australia/Melbourne")
DECODER_THERE = Decoder(BYTES_MAX, Rules(zone=MELBOURNE))


def there(data: bytes, *properties: tuple[str, str]) -> Recording:
    """Return the record of an audio file at a site whose zone is known."""
    decoded = only(DECODER_THERE.decode(message(data, properties)))
    assert isinstance(decoded, Recording), decoded
    return decoded


def any_serial(rng: Random) -> str:
    return f"{rng.randrange(16**16):016X}"


@pytest.mark.parametrize("firmware", AUDIOMOTH_FIRMWARE)
def test_an_audiomoth_comment_of_any_firmware_says_when_and_who(firmware: str) -> None:
    rng = Random(firmware)
    offsets = audiomoth_offsets(firmware)
    for number in range(max(FILES, len(offsets))):
        local, offset, serial = any_local_time(rng), offsets[number % len(offsets)], any_serial(rng)
        if number % 3 == 0:
            local += timedelta(milliseconds=rng.randrange(1, 1_000))
        comment = audiomoth_comment(firmware, local, offset, serial, rng)
        tags = [(b"ICMT", comment.encode().ljust(384, b"\0"))]
        if firmware not in ("1.0", "1.0.1", "1.2.0"):
            tags.append((b"IART", f"AudioMoth {serial}".encode().ljust(32, b"\0")))
        result = recording(with_notes(rng, info(*tags)))
        assert result.observed_at == in_utc(local, offset), comment
        assert (result.time_source, result.sensor_id) == ("device", serial), comment
        assert result.clip.metadata["ICMT"] == comment


@pytest.mark.parametrize(
    "comment",
    [
        "Recorded at 05:45:12 31/02/2026 (UTC) by AudioMoth",
        "Recorded at 25:45:12 14/09/2026 (UTC) by AudioMoth",
        "Recorded at 05:45:12 14/09/2026 (UTC+17) by AudioMoth",
        "Recorded at 05:45:12 14/09/2026 (UTC-3:71) by AudioMoth",
        "Recorded at 05:45:12 14/09/2026 (UTC:30) by AudioMoth",
        "Recorded at 05:45:12 14/09/2026",
        "Recorded at 05:45 14/09/2026 (UTC) by AudioMoth",
        "Then recorded at 05:45:12 14/09/2026 (UTC) by AudioMoth",
    ],
)
def test_a_comment_that_names_no_moment_gives_none(comment: str) -> None:
    result = recording(wav(info((b"ICMT", comment.encode()))))
    assert (result.time_source, result.time_problem) == ("received", None)


def test_the_number_that_every_old_audiomoth_wrote_is_nobodys() -> None:
    comment = b"Recorded at 05:45:12 14/09/2026 by AudioMoth 0FE081F80FE081F0 at gain setting 2"
    assert recording(wav(info((b"ICMT", comment)))).sensor_id is None
    assert recording(wav(info((b"ICMT", comment), (b"IART", b"AudioMoth " + b"A" * 16))))


def guano_time(local: datetime, number: int, offset: timedelta) -> tuple[str, datetime | None]:
    """Return a time in one of the ways of GUANO 1.0 and its writers, and the moment it means."""
    text = local.isoformat(sep=" " if number % 7 == 0 else "T", timespec="auto")
    match number % 4:
        case 0:
            return f"{text}Z", local.replace(tzinfo=UTC)
        case 1:
            return text + signed(offset), in_utc(local, offset)
        case 2:  # Echo Meter Touch
            return text + signed(offset, colon=""), in_utc(local, offset)
        case _:
            return text, None


def test_guano_says_when() -> None:
    rng = Random(1)
    for number in range(FILES * 3):
        local, offset = any_local_time(rng), rng.choice(OFFSETS)
        local += rng.choice((timedelta(0), timedelta(milliseconds=250), timedelta(microseconds=7)))
        text, moment = guano_time(local, number, offset)
        data = with_notes(
            rng,
            guano(f"Make: X, Y: {number}", f"Timestamp:{text}", newline=("\n", "\r\n")[number % 2]),
        )
        result = recording(data)
        if moment is None:
            assert (result.time_source, result.device_time) == ("received", text)
            assert result.time_problem is TimeProblem.ZONE_UNKNOWN
            assert there(data).observed_at == local.replace(tzinfo=MELBOURNE).astimezone(UTC), text
        else:
            assert (result.observed_at, result.time_source) == (moment, "device"), text
            assert there(data).observed_at == moment


def degrees(rng: Random, most: int, digits: int) -> str:
    return f"{rng.uniform(-most, most):.{digits}f}"


def test_guano_says_where_how_high_and_how_sure() -> None:
    rng = Random(2)
    patterns = ("{} {}", "{},{}", "{}, {}", "({}, {})", "{};{}", "  {}   {} ", "[{} {}]")
    for number in range(FILES * 3):
        digits = rng.randrange(1, 8)
        latitude, longitude = degrees(rng, 89, digits), degrees(rng, 179, digits)
        if abs(float(latitude)) < 0.02:
            continue
        altitude, uncertainty = f"{rng.uniform(-400, 8_000):.1f}", f"{rng.uniform(1, 500):.0f}"
        position = patterns[number % len(patterns)].format(latitude, longitude)
        lines = [f"Loc Position: {position}"]
        if number % 2:
            lines += [f"Loc Elevation: {altitude}{' m' * (number % 3 == 0)}"]
        if number % 5:
            lines += [f"Loc Accuracy: {uncertainty}"]
        assert recording(with_notes(rng, guano(*lines))).place == Place(
            float(latitude),
            float(longitude),
            float(altitude) if number % 2 else None,
            float(uncertainty) if number % 5 else None,
        ), lines


def test_decimals_with_a_comma_are_read_where_they_have_one_meaning() -> None:
    rng = Random(3)
    patterns = ("{} {}", "{};{}", "{}; {}", "{}, {}", "{},{}", "({} {})")
    for number in range(FILES):
        digits = rng.randrange(1, 8)
        latitude, longitude = degrees(rng, 89, digits), degrees(rng, 179, digits)
        if abs(float(latitude)) < 0.02:
            continue
        position = patterns[number % len(patterns)].format(
            latitude.replace(".", ","), longitude.replace(".", ",")
        )
        place = recording(wav(guano(f"Loc Position: {position}", "Loc Elevation: 12,5"))).place
        assert place == Place(float(latitude), float(longitude), 12.5), position


@pytest.mark.parametrize(
    "position",
    [
        "-38,7712",
        "-38,77,143",
        "-38,143",
        "-38.7712",
        "-38.7712 143.5021 112",
        "38.7712 E 143.5021 N",
        "-38.7712 S 143.5021 E",
        "north",
        "",
        "91 143",
        "-38.7 181",
        "nan 1",
        "1e1 2",
        "0 0",
        "0.000000 0.000000",
    ],
)
def test_a_position_that_has_no_or_two_meanings_is_none(position: str) -> None:
    assert recording(wav(guano(f"Loc Position: {position}"))).place is None


@pytest.mark.parametrize("elevation", ["1e300", "high", "", "nan"])
@pytest.mark.parametrize("accuracy", ["-5", "good", ""])
def test_an_impossible_length_costs_only_itself(elevation: str, accuracy: str) -> None:
    lines = (f"Loc Elevation: {elevation}", f"Loc Accuracy: {accuracy}")
    result = recording(wav(guano("Loc Position: -38.7 143.5", *lines)))
    assert result.place == Place(-38.7, 143.5)


@pytest.mark.parametrize(
    ("expansion", "factor"),
    [
        *((str(factor), factor) for factor in (*range(1, 65), 100, 500)),
        ("10.0", 10),
        ("0010", 10),
        *((text, 1) for text in ("0", "-10", "0.5", "1.5", "x10", "10x", "ten", "", "nan", "1e1")),
        ("9999", 1),  # 160 MHz
    ],
)
def test_time_expansion_is_undone(expansion: str, factor: int) -> None:
    clip = recording(wav(guano(f"TE: {expansion}"), samples=32_000)).clip
    assert clip.sample_rate_hz == 16_000 * factor
    assert clip.duration_seconds == 2.0 / factor


@pytest.mark.parametrize("factor", [0, 1, 10, 65_535])
def test_time_expansion_in_wamd_is_undone(factor: int) -> None:
    clip = recording(wav(wamd((0x0F, struct.pack("<H", factor))), samples=32_000)).clip
    undone = factor if factor == 10 else 1
    assert (clip.sample_rate_hz, clip.duration_seconds) == (16_000 * undone, 2.0 / undone)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize(
    "value", ["Río Bañado, 18 °C", "Cliché", "Perú", "é", "a: b: c", "two\\nlines", "ÄÖÜß, «x»"]
)
def test_text_is_read_in_both_encodings(value: str, encoding: str) -> None:
    notes = guano(f"Note: {value}", "Site: x", encoding=encoding)
    tag = info((b"INAM", value.encode(encoding) + b"\0"), (b"ICMT", b"y"))
    metadata = recording(wav(notes, tag)).clip.metadata
    assert (metadata["Note"], metadata["INAM"]) == (value, value)
    assert (metadata["Site"], metadata["ICMT"]) == ("x", "y")


def test_long_text_is_cut_between_characters() -> None:
    metadata = recording(wav(guano("Note: " + "蛙" * 5_000))).clip.metadata
    assert metadata["Note"] == "蛙" * 2_000


def test_wamd_says_when_where_and_who() -> None:
    rng = Random(4)
    for number in range(FILES * 2):
        local, offset = any_local_time(rng), rng.choice(OFFSETS)
        latitude, longitude = rng.uniform(1, 89), rng.uniform(1, 179)
        south, west, altitude = rng.random() < 0.5, rng.random() < 0.5, rng.randrange(-400, 8_000)
        north_east = (-latitude if south else latitude, -longitude if west else longitude)
        if number % 2:
            position = f"{latitude:.5f},{'NS'[south]},{longitude:.5f},{'EW'[west]}"
        else:
            position = f"{north_east[0]:.5f},{north_east[1]:.5f}"
        position = f"WGS84,{position}" + ("", f",{altitude}", ",(null)")[number % 3]
        clock = f"{local:%Y-%m-%d %H:%M:%S}{('', '.000')[number % 2]}"
        zone = signed(offset, colon=(":", "")[number % 5 == 0])
        serial = f"S4U{number:05d}"
        fields = [
            (1, b"SM4BAT-FS"),
            (2, serial.encode() + b"\0" * (number % 2)),
            (3, b"2.2.1"),
            (5, f"{clock}{zone}".encode()),
            (0x14 if number % 7 == 0 else 6, position.encode()),
            (0x15, b"23.5C"),
            (0xFFFF, bytes(number % 4)),
        ]
        result = recording(with_notes(rng, wamd(*fields)))
        assert (result.observed_at, result.time_source) == (in_utc(local, offset), "device")
        assert result.sensor_id == serial
        assert result.place == Place(
            round(north_east[0], 5),
            round(north_east[1], 5),
            float(altitude) if number % 3 == 1 else None,
        ), position
        assert result.clip.metadata["Temperature Int"] == "23.5"
        naive = recording(wav(wamd((5, clock.encode()))))
        assert naive.time_problem is TimeProblem.ZONE_UNKNOWN


def test_what_wamd_says_beside_that_is_kept() -> None:
    fields = (
        (4, b"OTWAY"),
        (8, b"Kaleidoscope 5.4"),
        (0x0A, "am Bach, hörbar".encode()),
        (0x0B, b"MYOTIS"),
        (0x0D, wav()),
        (0x12, b"SMM-U2"),
        (0x17, b"80.2%RH"),
        (0x42, b"of next year"),
        (0x43, b"\1\2\3"),
    )
    assert recording(wav(wamd(*fields))).clip.metadata == {
        "WA|Prefix": "OTWAY",
        "WA|Software": "Kaleidoscope 5.4",
        "Note": "am Bach, hörbar",
        "Species Auto ID": "MYOTIS",
        "WA|Voice Note": "1,644 bytes",
        "WA|Microphone": "SMM-U2",
        "Humidity": "80.2",
        "WA|0x0042": "of next year",
        "WA|0x0043": "3 bytes",
    }


@pytest.mark.parametrize("cut", range(90))
def test_a_chunk_that_was_cut_gives_what_is_left_of_it(cut: int) -> None:
    fields = ((1, b"SM4"), (2, b"S4U01234"), (5, b"2026-09-12 15:45:12+10:00"), (6, b"WGS84,1,2"))
    result = recording(wav(chunk(b"wamd", wamd(*fields)[8:][:cut])))
    metadata = result.clip.metadata
    assert set(metadata) <= {"Model", "Serial", "Timestamp", "Loc Position", "WA|Version"}
    assert (result.time_source == "device") == (cut >= 62), metadata


@pytest.mark.parametrize("cut", range(1, 60))
def test_the_last_line_of_a_guano_chunk_that_was_cut_is_not_read(cut: int) -> None:
    line = b"Serial: 0042\nTimestamp: 2026-09-12T15:45:12+10:00"
    result = recording(wav(chunk(b"guan", line[:cut], len(line))))
    assert result.time_source == "received" or cut >= len(line)
    assert result.sensor_id == ("0042" if cut > 12 else None)
    assert result.time_problem is None


def test_another_version_of_wamd_is_not_interpreted() -> None:
    result = recording(wav(wamd((2, b"S4U01234"), version=2)))
    assert (result.sensor_id, result.clip.metadata) == (None, {"WA|Version": "0200"})


def test_bext_says_when_in_the_time_of_its_site() -> None:
    rng = Random(5)
    for _ in range(FILES):
        local = any_local_time(rng)
        dash, colon = rng.choice("-_:. /"), rng.choice("-_:. ")
        day, clock = f"{local:%Y{dash}%m{dash}%d}", f"{local:%H{colon}%M{colon}%S}"
        data = with_notes(rng, bext(day, clock, 921_600_000))
        assert there(data).observed_at == local.replace(tzinfo=MELBOURNE).astimezone(UTC)
        result = recording(data)
        assert (result.time_problem, result.device_time) == (
            TimeProblem.ZONE_UNKNOWN,
            f"{day} {clock}",
        )
        assert result.clip.metadata["TimeReference"] == "921600000"
        assert result.clip.metadata["OriginatorReference"] == "AUXYZ0042"


@pytest.mark.parametrize(
    ("day", "clock"),
    [
        ("", ""),
        ("0000-00-00", "00:00:00"),
        ("2026-09-14", ""),
        ("", "05:45:12"),
        ("2026-13-01", "05:45:12"),
        ("14-09-2026", "05:45:12"),
    ],
)
def test_bext_of_zeros_says_nothing(day: str, clock: str) -> None:
    result = there(wav(bext(day, clock)))
    assert (result.time_source, result.time_problem) == ("received", None)
    assert "TimeReference" not in result.clip.metadata


def test_tags_say_when_if_they_have_a_time_of_day() -> None:
    rng = Random(6)
    for number in range(FILES):
        local, offset = any_local_time(rng), rng.choice(OFFSETS)
        tag = (b"ICRD", b"IDIT")[number % 2]
        text = f"{local.isoformat()}{signed(offset)}"
        assert recording(wav(info((tag, text.encode())))).observed_at == in_utc(local, offset)
        dated = recording(wav(info((tag, text[:10].encode()))))
        assert (dated.time_source, dated.time_problem) == ("received", None)


@pytest.mark.parametrize("padding", [b"", b"\0"])
@pytest.mark.parametrize("padded", [True, False])
def test_tags_are_found_with_and_without_padding(padded: bool, padding: bytes) -> None:
    rng = Random(7)
    for _ in range(FILES):
        serial, software = any_serial(rng), b"x" * rng.randrange(1, 40)
        tags = [
            (b"ISFT", software),
            (b"IART", f"AudioMoth {serial}".encode() + b"\0" * rng.randrange(3)),
            (b"ICRD", b"2026-09-12T05:45:12Z"),
        ]
        rng.shuffle(tags)
        result = recording(wav(info(*tags, padded=padded, behind=padding)))
        assert result.sensor_id == serial, tags
        assert result.time_source == "device", tags
        assert result.clip.metadata["ISFT"] == software.decode()


def one_of_each(zoned: frozenset[str]) -> list[tuple[str, bytes]]:
    """Return one note of each kind, in the order of trust, of which some name their zone.

    The day of the month tells which is which.
    """

    def when(name: str, day: str) -> str:
        return f"{day}T05:45:12" + ("Z" if name in zoned else "")

    cut = f'opso_metadata{{"recording_start_time":"{when("opso", "2026-08-04")}"}}'
    return [
        ("guano", guano(f"Timestamp: {when('guano', '2026-08-01')}")),
        ("wamd", wamd((5, when("wamd", "2026-08-02").replace("T", " ").encode()))),
        ("audiomoth", info((b"ICMT", b"Recorded at 05:45:12 03/08/2026 (UTC) by AudioMoth X"))),
        ("opso", info((b"ICMT", cut.encode()))),
        ("bext", bext("2026-08-05", "05:45:12")),
        ("tags", info((b"ICRD", when("tags", "2026-08-06").encode()))),
    ]


ALWAYS, NEVER = frozenset({"audiomoth"}), frozenset({"bext"})


@pytest.mark.parametrize("seed", range(64))
def test_of_two_notes_the_one_with_a_zone_counts_and_then_the_more_trusted(seed: int) -> None:
    rng = Random(seed)
    sources = ("guano", "wamd", "audiomoth", "opso", "bext", "tags")
    zoned = ALWAYS | {name for name in sources if rng.random() < 0.5} - NEVER
    notes = one_of_each(zoned)
    for (first, first_chunk), (second, second_chunk) in combinations(notes, 2):
        if {first, second} == {"audiomoth", "opso"}:
            continue  # both are in the comment, of which there is one
        chunks = [first_chunk, second_chunk]
        rng.shuffle(chunks)
        better = second if second in zoned and first not in zoned else first
        result = there(with_notes(rng, *chunks))
        local = result.observed_at.astimezone(UTC if better in zoned else MELBOURNE)
        assert local.day == sources.index(better) + 1, (first, second, zoned)
        assert (local.hour, local.minute, local.second) == (5, 45, 12)


def test_a_clock_that_was_never_set_leaves_it_to_another_note() -> None:
    notes = (guano("Timestamp: 1970-01-01T00:00:12Z"), info((b"ICRD", b"2026-09-12T05:45:12Z")))
    assert recording(wav(*notes)).observed_at == datetime(2026, 9, 12, 5, 45, 12, tzinfo=UTC)


def test_what_two_chunks_say_is_both_kept() -> None:
    notes = (wamd((1, b"SM4"), (2, b"1")), guano("Serial: 2", "Model: SM4"))
    result = recording(wav(*notes))
    assert result.sensor_id == "2"
    assert result.clip.metadata == {
        "GUANO|Version": "1.0",
        "Serial": "2",
        "Model": "SM4",
        "WA|Serial": "1",
    }


def test_comments_of_frontier_labs_say_when_where_and_who() -> None:
    rng = Random(8)
    for _ in range(FILES):
        local, offset = any_local_time(rng), rng.choice(OFFSETS)
        latitude, longitude = f"{rng.uniform(-89, -1):.4f}", f"{rng.uniform(1, 179):.4f}"
        notes = recorder_notes(
            {
                "RECORDINGSTART": f"{local.isoformat()}{signed(offset)}",
                "SENSORUID": "00008570",
                "SENSORLOCATION": f"{latitude}+{longitude}",
            }
        )
        assert [reading.moment for reading in notes.times] == [in_utc(local, offset)]
        assert (notes.serial, notes.place) == (
            "00008570",
            Place(float(latitude), float(longitude)),
        )


NOTES = guano("Timestamp: 2026-09-12T15:45:12+10:00", "Serial: 0042", "Loc Position: -38.7 143.5")
AT = datetime(2026, 9, 12, 5, 45, 12, tzinfo=UTC)
JSON_FORMS: dict[str, dict[str, object]] = {
    "audioClip": {},
    "audio_file": {"health_data": {"cpu": 3.5}},
}


@pytest.mark.parametrize("field", JSON_FORMS)
def test_json_leaves_to_its_clip_what_it_does_not_say(field: str) -> None:
    clip = base64.b64encode(wav(NOTES)).decode()
    result = record(Recording, message({field: clip, **JSON_FORMS[field]}))
    assert (result.observed_at, result.time_source, result.sensor_id) == (AT, "device", "0042")
    assert result.place == Place(-38.7, 143.5)
    said = {"timestamp": "2026-09-13T00:00:00Z", "sensor_id": "s", "microphoneLLA": [1, 2]}
    result = record(Recording, message({field: clip, **said}))
    assert (result.observed_at, result.sensor_id) == (datetime(2026, 9, 13, tzinfo=UTC), "s")
    assert result.place == Place(1.0, 2.0)
    result = record(Recording, message({field: clip, "timestamp": 17}))
    assert (result.observed_at, result.time_source) == (AT, "device")


@pytest.mark.parametrize("written", ["SM4  0042", "SM4\u00a00042", "SM4 \u2009 0042"])
def test_a_serial_is_the_same_sensor_as_a_file_and_in_json(written: str) -> None:
    clip = wav(guano(f"Serial: {written}"))
    in_json = record(Recording, message({"audioClip": base64.b64encode(clip).decode()}))
    assert (recording(clip).sensor_id, in_json.sensor_id) == ("SM4 0042", "SM4 0042")


def test_a_detection_leaves_to_its_clip_what_it_does_not_say() -> None:
    clip = base64.b64encode(wav(NOTES)).decode()
    bare = {"species": "Litoria ewingii", "source_model": "m", "audioClip": clip}
    result = record(Detection, message(bare))
    assert (result.observed_at, result.time_source, result.sensor_id) == (AT, "device", "0042")
    assert result.place == Place(-38.7, 143.5)
    said = {"timestamp": "2026-09-13T00:00:00Z", "nodeId": "s", "gps_data": {"lat": 1, "lon": 2}}
    result = record(Detection, message({**bare, **said}))
    assert (result.observed_at, result.sensor_id) == (datetime(2026, 9, 13, tzinfo=UTC), "s")
    assert result.place == Place(1.0, 2.0)
    result = record(Detection, message({**bare, "audioClip": "20260912_054512.wav"}))
    assert (result.time_source, result.sensor_id) == ("received", None)


def test_the_time_in_a_clip_is_part_of_which_message_it_is() -> None:
    clips = [wav(guano(f"Timestamp: 2026-09-12T05:45:1{second}Z")) for second in (1, 2, 2)]
    arrived = [message({"audio_file": base64.b64encode(clip).decode()}) for clip in clips]
    first, second, third = (DECODER_THERE.identify(each) for each in arrived)
    assert first != second
    assert second == third
