"""A recording is dated by the name of its file, as recorders write them, and never by a guess."""

import base64
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest

from echo_ingest.decode import Decoder, Rules
from echo_ingest.decode.file_names import started_at
from echo_ingest.quality import TimeProblem
from echo_ingest.record import Recording
from tests.decode.messages import BYTES_MAX, message, reason, record, recording, wav
from tests.decode.recorders import OFFSETS, any_local_time, guano, in_utc, short, signed
from tests.several_records import only

NAMES = 300
"""As many of each pattern are tried."""
LOCAL = (
    "{0:%Y%m%d_%H%M%S}.WAV",
    "{0:%Y%m%d_%H%M%S}T.WAV",
    "24F3190361DD6AC3_{0:%Y%m%d_%H%M%S}.WAV",
    "2MU02438_{0:%Y%m%d_%H%M%S}.wav",
    "OTWAY-7_0+1_{0:%Y%m%d_%H%M%S}.wav",
    "PARIS_-0-_{0:%Y%m%d$%H%M%S}.wav",
    "{0:%Y%m%d-%H%M%S}.flac",
    "{0:%Y%m%dT%H%M%S}_REC [-38.7712 143.5021].flac",
    "{0:%Y%m%d%H%M%S}.mp3",
    "{0:%Y-%m-%d_%H-%M-%S}.wav",
    "{0:%Y-%m-%d %H-%M-%S}.wav",
    "{0:%Y-%m-%dT%H:%M:%S}.wav",
    "{0:%Y_%m_%d_%H_%M_%S}.wav",
    "{0:%Y-%m-%d %H.%M.%S}.ogg",
    "{0:%Y-%m-%d_%Hh%Mm%Ss}.wav",
    "{0:%Y-%m-%d}-birdnet-{0:%H:%M:%S}.wav",
    "{0:%Y-%m-%d}-birdnet-RTSP_1-{0:%H:%M:%S}.wav",
    "Litoria_ewingii-87-{0:%Y-%m-%d}-birdnet-{0:%H:%M:%S}.mp3",
    "REC{0:%Y%m%d_%H%M%S}_0001.wav",
    "{0:%Y%m%d}/{0:%Y%m%d_%H%M%S}.WAV",
    "C:\\DATA\\20250101\\{0:%Y%m%d_%H%M%S}.WAV",
    "{0:%Y%m%d}_swamp_{0:%Y%m%d_%H%M%S}.wav",
    "{0:%Y%m%d_%H%M%S}",
    "{0:%Y%m%d_%H%M%S}-0001.wav",
)
ZONED = (
    "{0:%Y%m%dT%H%M%S}{1}_SITE.flac",
    "{0:%Y%m%dT%H%M%S}{1}_REC [19.2144152.8811].flac",
    "SITE_{0:%Y%m%d_%H%M%S}{1}.mp3",
    "S1_{0:%Y%m%d_%H%M%S}({1})_x.wav",
    "S1_{0:%Y%m%d_%H%M%S}_({1}).wav",
    "S1_{0:%Y%m%d_%H%M%S}[{1}].wav",
    "S1_{0:%Y%m%d_%H%M%S}_{1}.wav",
    "{0:%Y-%m-%dT%H:%M:%S}{2}.wav",
    "{0:%Y-%m-%d %H-%M-%S}{2}.wav",
    "S1_{0:%Y%m%d_%H%M%S}(UTC{3}).wav",
    "S1_{0:%Y%m%d_%H%M%S}_(GMT{3}).wav",
    "S1_{0:%Y%m%d_%H%M%S}_UTC{3}.wav",
)
IN_UTC = (
    "{0:%Y%m%dT%H%M%S}Z.wav",
    "Litoria_ewingii_87p_{0:%Y%m%dT%H%M%S}Z.wav",
    "{0:%Y%m%d_%H%M%S}Z.wav",
    "{0:%Y-%m-%dT%H:%M:%S}Z.wav",
    "{0:%Y%m%d_%H%M%S}_UTC.wav",
    "{0:%Y%m%d_%H%M%S}(UTC).wav",
    "{0:%Y%m%d_%H%M%S} UTC.wav",
)
MELBOURNE = ZoneInfo("Australia/Melbourne")


def read(name: str) -> datetime | None:
    reading = started_at(name)
    return None if reading is None else reading.moment


@pytest.mark.parametrize("pattern", LOCAL)
def test_a_name_with_date_and_time_gives_the_time_on_the_clock_there(pattern: str) -> None:
    rng = Random(pattern)
    for _ in range(NAMES):
        local = any_local_time(rng)
        name = pattern.format(local)
        assert read(name) == local, name


@pytest.mark.parametrize("separator", ["_", "."])
def test_a_name_may_give_milliseconds(separator: str) -> None:
    rng = Random(1)
    for number in range(NAMES):
        local = any_local_time(rng) + timedelta(milliseconds=rng.randrange(1_000))
        name = f"{local:%Y%m%d_%H%M%S}{separator}{local.microsecond // 1000:03d}"
        name, zone = (f"{name}.wav", None) if number % 2 else (f"{name}+1000_x.wav", 10)
        moment = local if zone is None else in_utc(local, timedelta(hours=zone))
        assert read(name) == moment, name


@pytest.mark.parametrize("pattern", ZONED)
def test_a_name_with_a_zone_gives_the_moment(pattern: str) -> None:
    rng = Random(pattern)
    for offset in OFFSETS * 3:
        local = any_local_time(rng)
        name = pattern.format(local, signed(offset, colon=""), signed(offset), short(offset))
        assert read(name) == in_utc(local, offset), name


@pytest.mark.parametrize("pattern", IN_UTC)
def test_a_name_may_say_that_it_is_in_utc(pattern: str) -> None:
    rng = Random(pattern)
    for _ in range(NAMES):
        local = any_local_time(rng)
        assert read(pattern.format(local)) == local.replace(tzinfo=UTC), pattern.format(local)


def test_a_name_may_count_from_1970() -> None:
    rng = Random(2)
    for _ in range(NAMES):
        moment = any_local_time(rng).replace(tzinfo=UTC)
        seconds = int(moment.timestamp())
        assert read(f"{seconds}.wav") == moment
        assert read(f"{seconds}250.wav") == moment + timedelta(milliseconds=250)
        hexadecimal = f"{seconds:08X}"
        assert read(f"{hexadecimal}.WAV") == (None if hexadecimal.isdigit() else moment)


def names_of_two_days(rng: Random) -> str:
    first, second = any_local_time(rng), any_local_time(rng) + timedelta(days=4_500)
    return rng.choice(
        (
            f"{first:%Y%m%d_%H%M%S}_{second:%Y%m%d_%H%M%S}.wav",
            f"{first:%Y%m%d}_{second:%Y%m%d_%H%M%S}.wav",
            f"{second:%Y-%m-%d}_x_{first:%Y%m%dT%H%M%S}Z.wav",
        )
    )


def names_of_two_times(rng: Random) -> str:
    start = any_local_time(rng)
    end = start.replace(hour=(start.hour + 1) % 24)
    return f"{start:%Y%m%d_%H%M%S}_{end:%Y%m%d_%H%M%S}.wav"


def impossible_names(rng: Random) -> str:
    local = any_local_time(rng)
    return rng.choice(
        (
            f"{local:%Y}02{rng.randrange(30, 100)}_{local:%H%M%S}.wav",
            f"{local:%Y}{rng.randrange(13, 100)}{local:%d_%H%M%S}.wav",
            f"{local:%Y%m%d}_{rng.randrange(24, 100)}{local:%M%S}.wav",
            f"{local:%Y%m%d_%H}{rng.randrange(60, 100)}{local:%S}.wav",
            f"{local:%Y%m%d_%H%M}{rng.randrange(60, 100)}.wav",
            f"{rng.randrange(1_000, 1_970)}{local:%m%d_%H%M%S}.wav",
            f"{rng.randrange(2_106, 10_000)}{local:%m%d_%H%M%S}.wav",
            f"{local:%Y%m%dT%H%M%S}+{rng.randrange(15, 100)}00.wav",
        )
    )


def ambiguous_names(rng: Random) -> str:
    local = any_local_time(rng)
    return rng.choice(
        (
            f"{local:%Y%m%d_%H%M%S}-{rng.randrange(1, 12):02d}.wav",
            f"{local:%d%m%Y_%H%M%S}.wav",
            f"{local:%d-%m-%Y_%H-%M-%S}.wav",
            f"{local:%y%m%d_%H%M%S}.wav",
            f"{local:%Y%m%d_%H%M}.wav",
            f"{local:%Y%m%d%H%M}.wav",
            f"{local:%Y%m%d}.wav",
            f"{local:%Y-%m-%d}.wav",
            f"{local:%H%M%S}.wav",
            f"{rng.randrange(10**8):08d}.WAV",
            f"{rng.randrange(10**9):09d}.wav",
            f"{rng.randrange(0x5A000000, 0x60000000):08x}.wav".replace("5", "a"),
            f"{rng.randrange(10**17, 10**18)}.wav",
            f"rec{rng.randrange(1_000)}.wav",
            f"{local:%Y-%m-%d%H-%M-%S}.wav",
            f"{local:%Y%m%d%H:%M:%S}.wav",
            f"{rng.randrange(1_420_070_400):010d}.wav",
            f"{rng.randrange(2**31, 10**10)}.wav",
            f"{rng.randrange(2**31, 2**32):08X}.WAV",
        )
    )


@pytest.mark.parametrize(
    "kind", [names_of_two_days, names_of_two_times, impossible_names, ambiguous_names]
)
def test_nothing_is_guessed(kind: object) -> None:
    assert callable(kind)
    rng = Random(3)
    for _ in range(NAMES * 2):
        name = kind(rng)
        assert read(name) is None, name


@pytest.mark.parametrize(
    "name", ["", ".", ".wav", "/", "a\0b", "２０２６0914_054512.wav", "x" * 256]
)
def test_other_names_give_nothing(name: str) -> None:
    assert read(name) is None


AT = datetime(2026, 9, 13, 19, 45, 12, tzinfo=UTC)
NAMED = ("file_name", "20260914_054512.WAV")


def test_the_name_counts_where_nothing_else_says_when() -> None:
    result = recording(wav(), NAMED)
    assert (result.time_source, result.time_problem) == ("received", TimeProblem.ZONE_UNKNOWN)
    assert (result.device_time, result.clip_reference) == (NAMED[1], NAMED[1])
    there = only(Decoder(BYTES_MAX, Rules(zone=MELBOURNE)).decode(message(wav(), (NAMED,))))
    assert isinstance(there, Recording)
    assert (there.observed_at, there.time_source) == (AT, "device")
    assert recording(wav(), ("file_name", "20260914T054512+1000.wav")).observed_at == AT


def test_the_name_of_a_clip_in_json_counts_too() -> None:
    clip = base64.b64encode(wav()).decode()
    sent = {"audioClip": clip, "audioFile": "20260914T054512+1000.wav"}
    assert record(Recording, message(sent)).observed_at == AT
    sent["audioFile"] = "Animal_Mode"
    assert record(Recording, message(sent)).time_source == "received"


def test_the_sender_and_the_notes_go_before_the_name() -> None:
    named = ("file_name", "20260901T054512Z.wav")
    noted = wav(guano("Timestamp: 2026-09-14T05:45:12+10:00"))
    assert recording(noted, named).observed_at == AT
    sent = ("recorded_at", "2026-09-02T00:00:00Z")
    assert recording(noted, named, sent).observed_at == datetime(2026, 9, 2, tzinfo=UTC)
    without_zone = wav(guano("Timestamp: 2026-09-01T15:45:12"))
    assert recording(without_zone, named).observed_at == datetime(2026, 9, 1, 5, 45, 12, tzinfo=UTC)


@pytest.mark.parametrize("name", ["x" * 257, " ", "a\nb"])
def test_a_name_that_is_no_text_is_refused(name: str) -> None:
    assert reason(wav(), ("file_name", name)).startswith("user property file_name: ")
