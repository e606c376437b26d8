"""What a clip is called where audio is kept."""

import re
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from echo_ingest.record import Clip, Recording
from echo_ingest.sinks import clips

CLIP = Clip("wav", 364, "3f2a" * 16, 16_000, 1, 0.02)
WHEN = datetime(2026, 9, 14, 5, 45, 12, 345_678, UTC)
PART = re.compile(r"[A-Za-z0-9_-]([A-Za-z0-9._-]*[A-Za-z0-9_-])?")


def recording(**changed: object) -> Recording:
    record = Recording(
        form="audio-file", sensor_id="ridge-07", observed_at=WHEN, time_source="device", clip=CLIP
    )
    return msgspec.structs.replace(record, **changed)


def test_a_name_says_who_when_and_which() -> None:
    assert clips.clip_name(recording(), CLIP) == (
        "audio/ridge-07/2026/09/14/20260914T054512Z_3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a.wav"
    )
    assert clips.sidecar_name(recording(), CLIP, b"k" * 16) == (
        "audio/ridge-07/2026/09/14/20260914T054512Z_3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a_"
        f"{'6b' * 16}.json"
    )
    assert clips.reference("s3://reserve/otway", recording()) == (
        "s3://reserve/otway/audio/ridge-07/2026/09/14/"
        "20260914T054512Z_3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a.wav"
    )


def test_the_payloads_id_counts_before_the_topics() -> None:
    both = recording(node="creek-03")
    assert clips.clip_name(both, CLIP).startswith("audio/ridge-07/")
    assert "audio/creek-03/" in clips.clip_name(recording(node="creek-03", sensor_id=None), CLIP)
    assert "audio/unknown/" in clips.clip_name(recording(sensor_id=None), CLIP)


def test_days_and_times_are_in_utc_also_the_first_and_the_last() -> None:
    melbourne = timezone(timedelta(hours=10))
    local = recording(observed_at=datetime(2026, 9, 14, 6, 0, tzinfo=melbourne))
    assert "/2026/09/13/20260913T200000Z_" in clips.clip_name(local, CLIP)
    first = recording(observed_at=datetime(1, 1, 1, tzinfo=UTC))
    assert "/0001/01/01/00010101T000000Z_" in clips.clip_name(first, CLIP)
    last = recording(observed_at=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert "/9999/12/31/99991231T235959Z_" in clips.clip_name(last, CLIP)


HOSTILE = [
    *("/", "..", ".", "../../etc/passwd", "a/../b", "a//b", "/root", "C:\\x", "a\0b", "a\nb", "~"),
    *(
        ".hidden",
        "dot.",
        "dots..",
        " ",
        "Río 7",
        "尤文氏樹蛙",
        "e\u0301",
        "\u202e",
        "\udce9",
        "%2e",
    ),
    *("?a=1#b", "a:b", "*", "'; drop", "-", "a b", "a_b", "a__b", "con", "x" * 65_535),
]


def test_hostile_sensors_get_safe_names_and_names_of_their_own() -> None:
    folders = {}
    for sensor in HOSTILE:
        name = clips.clip_name(recording(sensor_id=sensor), CLIP)
        audio, folder, *rest = name.split("/")
        assert audio == "audio"
        assert len(rest) == 4
        assert all(PART.fullmatch(part) for part in (folder, *rest)), name
        assert len(folder) <= clips.SENSOR_CHARACTERS_MAX
        assert len(clips.sidecar_name(recording(sensor_id=sensor), CLIP, b"k" * 16)) <= 200
        folders[folder] = sensor
    assert len(folders) == len(HOSTILE)


@pytest.mark.parametrize(
    ("name", "in_audio_storage", "in_an_export"),
    [
        ("ridge-07", "ridge-07", "ridge-07"),
        ("ridge.07", "ridge.07", "ridge_07"),
        ("Río 7", "R_o_7_23f7dc6c", "R_o_7"),
        ("..", "___5ec1f7e7", "_"),
        ("x" * 64, "x" * 64, "x" * 64),
        ("x" * 65, "x" * 55 + "_9537c5fd", "x" * 64),
    ],
)
def test_names_of_clips_that_are_stored_already_stay(
    name: str, in_audio_storage: str, in_an_export: str
) -> None:
    assert clips.safe_name(name, distinct=True) == in_audio_storage
    assert clips.safe_name(name, distinct=False) == in_an_export


@pytest.mark.parametrize(
    "changed",
    [
        {"sensor_id": "ridge-08"},
        {"observed_at": WHEN + timedelta(seconds=1)},
        {"clip": msgspec.structs.replace(CLIP, sha256="3f2b" * 16)},
    ],
)
def test_another_sensor_time_or_content_is_another_clip(changed: dict[str, object]) -> None:
    other = recording(**changed)
    assert clips.clip_name(other, other.clip) != clips.clip_name(recording(), CLIP)


def test_what_is_said_of_it_does_not_make_it_another() -> None:
    other = recording(message_id="7", node="creek-03", mode="x", form="recording")
    assert clips.clip_name(other, CLIP) == clips.clip_name(recording(), CLIP)
    assert clips.sidecar_name(other, CLIP, b"a" * 16) != clips.sidecar_name(other, CLIP, b"b" * 16)
