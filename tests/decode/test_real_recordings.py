"""Real recordings go in as bytes and as base64 JSON, and come out the same."""

import base64
import hashlib
import wave
from datetime import UTC, datetime

import pytest

from echo_ingest.decode import clip_bytes
from echo_ingest.record import Recording
from tests.decode.messages import AUDIO, message, reason, record, recording

pytestmark = pytest.mark.skipif(not AUDIO.exists(), reason="no real recordings here")

WAVS = {
    "LOCA_2021_09_24_652_3.wav": (22_050, 1.0),
    "aru_1.wav": (32_000, 3.0),
    "audiomoth_gps.wav": (48_000, 95_999 / 48_000),
    "birds_10s.wav": (32_000, 10.13321875),
    "rugr_drum.wav": (32_000, 10.0),
    "veryshort.wav": (44_100, 6_266 / 44_100),
}


@pytest.mark.parametrize("name", WAVS)
def test_a_wav_has_its_rate_and_duration(name: str) -> None:
    clip = recording((AUDIO / name).read_bytes()).clip
    assert (clip.sample_rate_hz, clip.duration_seconds) == WAVS[name]
    with wave.open(str(AUDIO / name)) as file:
        assert clip.channels == file.getnchannels()
        assert clip.sample_rate_hz == file.getframerate()
        assert clip.duration_seconds == file.getnframes() / file.getframerate()


def test_an_mp3_has_its_rate_and_duration() -> None:
    clip = recording((AUDIO / "silence_10s.mp3").read_bytes()).clip
    assert (clip.container, clip.sample_rate_hz, clip.channels) == ("mp3", 44_100, 1)
    assert clip.duration_seconds == 10.0


@pytest.mark.parametrize("name", [*WAVS, "silence_10s.mp3"])
def test_bytes_and_base64_make_the_same_clip(name: str) -> None:
    data = (AUDIO / name).read_bytes()
    as_json = message({"audio_file": base64.b64encode(data).decode(), "sensor_id": "s"})
    plain, wrapped = recording(data), record(Recording, as_json)
    assert plain.clip == wrapped.clip
    assert plain.clip.sha256 == hashlib.sha256(data).hexdigest()
    assert clip_bytes(as_json) == clip_bytes(message(data)) == data


def test_a_broken_recording_says_what_is_wrong_with_it() -> None:
    data = (AUDIO / "empty_2c.wav").read_bytes()
    expected = "cut off: its data chunk announces 116 bytes of sound, and 1 arrived"
    assert expected in reason(data)
    assert expected in reason({"audioClip": base64.b64encode(data).decode()})


def test_an_audiomoth_recording_tells_its_serial_and_start() -> None:
    result = recording((AUDIO / "audiomoth_gps.wav").read_bytes())
    assert result.sensor_id == "243B1F026488F56E"
    assert result.observed_at == datetime(2024, 5, 28, 10, 0, 0, tzinfo=UTC)
    assert result.time_source == "device"
    assert result.clip.metadata["IART"] == "AudioMoth 243B1F026488F56E"
    assert "battery was 3.8V" in result.clip.metadata["ICMT"]


def test_silence_that_was_cut_in_half_is_found() -> None:
    assert "cut off" in reason((AUDIO / "silence_10s.mp3").read_bytes()[:30_000])
