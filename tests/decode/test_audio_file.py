"""A clip sent as plain bytes: who, when and where come from beside it or from within."""

import json
from datetime import UTC, datetime

import pytest

from echo_ingest.decode import clip_bytes
from echo_ingest.record import Place, Recording
from tests.decode.messages import CLIPS, chunk, message, reason, record, recording, wav

AT = datetime(2026, 9, 14, 5, 45, 12, tzinfo=UTC)
RECEIVED = datetime(2026, 9, 14, 5, 45, 12, 500_000, tzinfo=UTC)
SERIAL = "243B1F026488F56E"
GUANO = b"Timestamp: 2026-09-14T15:45:12+10:00\nLoc Position: -38.7712 143.5021\nSerial: 0042\n"


def audiomoth(zone: str, hour: str = "05") -> bytes:
    comment = f"Recorded at {hour}:45:12 14/09/2026 ({zone}) by AudioMoth {SERIAL} at medium gain."
    return wav(before=chunk(b"LIST", b"INFO" + chunk(b"ICMT", comment.encode() + b"\0" * 60)))


def test_user_properties_say_who_when_and_where() -> None:
    result = recording(
        wav(),
        ("id", "clip-1"),
        ("sensor_id", "moth-7"),
        ("recorded_at", "2026-09-14T05:45:12Z"),
        ("latitude", "-38.7712"),
        ("longitude", "143.5021"),
        ("altitude", "112"),
        ("colour", "green"),
    )
    assert (result.form, result.message_id, result.sensor_id) == ("audio-file", "clip-1", "moth-7")
    assert (result.observed_at, result.time_source) == (AT, "device")
    assert result.place == Place(-38.7712, 143.5021, 112.0)


def test_without_a_word_the_receive_time_counts() -> None:
    result = record(Recording, message(wav(), node="node-1"))
    assert (result.observed_at, result.time_source) == (RECEIVED, "received")
    assert (result.node, result.sensor_id, result.place) == ("node-1", None, None)


@pytest.mark.parametrize(
    ("zone", "hour"),
    [("UTC", "05"), ("UTC+10", "15"), ("UTC-3", "02"), ("UTC+5:00", "10")],
)
def test_an_audiomoth_comment_says_when_and_who(zone: str, hour: str) -> None:
    result = recording(audiomoth(zone, hour))
    assert (result.observed_at, result.time_source) == (AT, "device")
    assert result.sensor_id == SERIAL


def test_an_audiomoth_comment_survives_flac() -> None:
    result = recording((CLIPS / "tone.flac").read_bytes())
    assert result.observed_at == datetime(2026, 9, 13, 19, 45, 12, tzinfo=UTC)
    assert result.sensor_id == SERIAL


def test_a_cut_of_a_longer_recording_says_when_it_begins_itself() -> None:
    whole = f"Recorded at 04:00:00 14/09/2026 (UTC) by AudioMoth {SERIAL} at medium gain."
    metadata = {"recording_start_time": "2026-09-14T15:45:12+10:00", "comment": whole}
    comment = b"opso_metadata" + json.dumps(metadata).encode()
    result = recording(wav(before=chunk(b"LIST", b"INFO" + chunk(b"ICMT", comment))))
    assert (result.observed_at, result.time_source, result.sensor_id) == (AT, "device", SERIAL)


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"comment":5}', b'{"a":' * 3_000])
def test_a_note_of_opensoundscape_that_is_broken_costs_only_what_it_says(note: bytes) -> None:
    comment = b"opso_metadata" + note
    result = recording(wav(before=chunk(b"LIST", b"INFO" + chunk(b"ICMT", comment))))
    assert (result.time_source, result.sensor_id) == ("received", None)


def test_guano_says_who_when_and_where() -> None:
    result = recording(wav(chunk(b"guan", GUANO)))
    assert (result.observed_at, result.time_source, result.sensor_id) == (AT, "device", "0042")
    assert result.place == Place(-38.7712, 143.5021)


def test_what_the_sender_says_goes_before_what_the_file_says() -> None:
    properties = (("timestamp", "1789364713"), ("latitude", "1"), ("longitude", "2"))
    result = recording(wav(chunk(b"guan", GUANO)), *properties, ("sensor_id", "x"))
    assert (result.observed_at, result.sensor_id) == (AT.replace(second=13), "x")
    assert result.place == Place(1.0, 2.0)


def test_a_sender_without_a_clock_leaves_it_to_the_file() -> None:
    result = recording(wav(chunk(b"guan", GUANO)), ("timestamp", "1970-01-01T00:00:09Z"))
    assert (result.observed_at, result.time_source) == (AT, "device")


@pytest.mark.parametrize(
    "guano",
    [
        b"Timestamp: 2026-09-14T05:45:12",  # local time of nobody knows where
        b"Timestamp: soon\nLoc Position: here",
        b"Loc Position: 99 200",
        b"Loc Position: 0 0",
        b"Loc Position: nan nan",
    ],
)
def test_a_note_that_cannot_be_read_is_passed_over(guano: bytes) -> None:
    result = recording(wav(chunk(b"guan", guano)))
    assert (result.time_source, result.place) == ("received", None)
    assert result.clip.metadata


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ([("recorded_at", "yesterday")], "user property recorded_at"),
        ([("latitude", "north"), ("longitude", "1")], "user property latitude: a number"),
        (
            [("latitude", "91"), ("longitude", "1")],
            "user property latitude: the latitude 91 is off the planet",
        ),
        ([("latitude", "1"), ("longitude", "inf")], "user property longitude: a number"),
        ([("latitude", "1")], "only one of latitude and longitude"),
        ([("latitude", "1"), ("longitude", "1"), ("altitude", "nan")], "user property altitude"),
        ([("id", " ")], "user property id: the text is empty"),
        ([("sensor_id", "x" * 257)], "user property sensor_id: the text has 257 characters"),
        ([("id", "a"), ("id", "b")], "user property id: it was given twice"),
    ],
)
def test_a_malformed_property_is_named(properties: list[tuple[str, str]], expected: str) -> None:
    assert expected in reason(wav(), *properties)


def test_a_plain_clip_is_its_own_bytes() -> None:
    assert clip_bytes(message(wav())) == wav()
