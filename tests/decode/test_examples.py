"""Each example payload of the wire contract becomes the record it should, or none at all."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from msgspec import structs

from echo_ingest.decode import FORMS, Decoder, Rules, clip_bytes
from echo_ingest.quality import TimeProblem
from echo_ingest.record import (
    Alternative,
    AnyRecord,
    Clip,
    Detection,
    Health,
    Message,
    Movement,
    Place,
    Recording,
    Rejected,
    Telemetry,
)
from tests.decode.messages import BYTES_MAX, DECODER, PAYLOADS
from tests.several_records import only

pytestmark = pytest.mark.skipif(not PAYLOADS.exists(), reason="no example payloads here")

RECEIVED = datetime(2026, 11, 24, 5, 45, 12, 500_000, tzinfo=UTC)
RECEIVED_AT_MS = int(RECEIVED.timestamp() * 1000)
IN_UTC = Decoder(BYTES_MAX, Rules(zone=ZoneInfo("UTC")))
WITHOUT_A_ZONE = {
    "01": "2023-04-02 10:15:42.731211",
    "02": "2025-05-14T03:21:07.118204",
    "15": "2026-08-01T09:58:09.523724",
    "19": "2026-08-05T01:02:03",
    "20": "2026-08-05T01:02:03",
    "21": "2026-08-05T01:02:03",
}
SENSOR = Place(-38.7712, 143.5021, 112.0)


def clip(size_bytes: int, sha256: str, sample_rate_hz: int) -> Clip:
    """Return the three shortened clips of the examples: WAV, one channel, 20 ms."""
    return Clip("wav", size_bytes, sha256, sample_rate_hz, 1, 0.02)


CLIP_16K = clip(684, "d0a28caf2688db0838dec23f1b81103b1a9e1955c0b4b0fff52ca87a7ba9526d", 16_000)
CLIP_44K = clip(1808, "326241be97afaaf049e6ec3fa9039b6479d926aa2f8497eb25f3cb69d09fb77e", 44_100)
CLIP_48K = clip(1964, "e001e057ecb7c762b4b351057ca4e5fc5723591df060109ffd68115397b7ed4c", 48_000)

EXPECTED: dict[str, AnyRecord] = {
    "01": Recording(
        form="engine-audio",
        observed_at=datetime(2023, 4, 2, 10, 15, 42, 731_211, tzinfo=UTC),
        time_source="device",
        clip=CLIP_16K,
        animal_place=Place(-38.7719, 143.5034, 110.2, 0.0),
        animal_true_place=Place(-38.7721, 143.5039, 109.0),
    ),
    "02": Recording(
        form="engine-audio",
        sensor_id="23",
        observed_at=datetime(2025, 5, 14, 3, 21, 7, 118_204, tzinfo=UTC),
        time_source="device",
        place=SENSOR,
        clip=CLIP_16K,
        mode="Animal_Mode",
        clip_reference="XC12345.mp3",
        animal_place=Place(-38.7719, 143.5034, 110.2, 37.25118),
        animal_true_place=Place(-38.7721, 143.5039, 109.0),
    ),
    "03": Recording(
        form="engine-audio",
        sensor_id="1",
        observed_at=datetime(2025, 5, 14, 3, 22, 0, tzinfo=UTC),
        time_source="device",
        place=SENSOR,
        clip=CLIP_48K,
        mode="Recording_Mode",
        animal_place=Place(-38.7719, 143.5034, 110.2, 50.0),
        animal_true_place=Place(-38.7719, 143.5034, 110.2),
    ),
    "05": Movement(
        form="movement",
        observed_at=datetime(2025, 5, 14, 3, 21, 7, 118_204, tzinfo=UTC),
        time_source="device",
        species="Sus scrofa",
        species_as_sent="Sus Scrofa",
        animal_id="0b0c3a52-5c0e-4b43-9a1f-0b1d0d1f6f7a",
        animal_place=Place(-38.7721, 143.5039, 109.0),
    ),
    "07": Recording(
        form="node-audio",
        observed_at=RECEIVED,
        time_source="received",
        clip=CLIP_44K,
        health=Health(
            cpu_percent=50.0,
            memory_percent=2.3,
            disk_percent=27.9,
            booted_at=datetime(2026, 11, 23, 16, 5, 22, tzinfo=UTC),
        ),
    ),
    "08": Recording(
        form="node-audio",
        observed_at=RECEIVED,
        time_source="received",
        place=Place(-38.7712345, 143.5021987),
        clip=CLIP_44K,
        health=Health(
            cpu_percent=50.0,
            memory_percent=2.3,
            disk_percent=27.9,
            uptime_seconds=1253.7049503326416,
        ),
    ),
    "09": Recording(
        form="node-audio",
        sensor_id="test_rpi_01",
        observed_at=RECEIVED,
        time_source="received",
        place=Place(-37.8136, 144.9631, None, 15.0),
        clip=CLIP_48K,
    ),
    "10": Detection(
        form="edge-prediction",
        sensor_id="rpi_edge_node_1",
        observed_at=datetime(2026, 11, 23, 16, 25, 57, tzinfo=UTC),
        time_source="device",
        place=Place(-37.8136, 144.9631, None, 10.0),
        species="Litoria ewingii",
        confidence=0.6364,
        alternatives=(
            Alternative("Litoria ewingii", 0.6364),
            Alternative("Crinia signifera", 0.2341),
            Alternative("Sus scrofa", 0.0861),
            Alternative("Dacelo novaeguineae", 0.0317),
            Alternative("Background", 0.0117),
        ),
    ),
    "15": Recording(
        form="engine-audio",
        sensor_id="esp32-node-01",
        observed_at=datetime(2026, 8, 1, 9, 58, 9, 523_724, tzinfo=UTC),
        time_source="device",
        place=Place(-38.7712, 143.5021, 0.0),
        clip=CLIP_16K,
        mode="Animal_Mode",
    ),
    "16": Recording(
        form="engine-audio-objects",
        sensor_id="esp32-node-01",
        observed_at=datetime(2026, 9, 10, 10, 0, 0, tzinfo=UTC),
        time_source="device",
        place=Place(-37.8136, 144.9631, 10.0),
        source_type="real",
        clip=CLIP_16K,
    ),
    "17": Detection(
        form="detection",
        sensor_id="node-7",
        observed_at=datetime(2026, 9, 17, 0, 15, 0, tzinfo=UTC),
        time_source="device",
        place=SENSOR,
        source_type="real",
        species="Uperoleia mimula",
        confidence=0.9936,
        model="efficientnetv2",
        animal_place=Place(-38.7719, 143.5034, 110.2, 2.5),
        animal_true_place=Place(-38.7721, 143.5039, 109.0),
        clip_reference="<base64 or reference>",
        sample_rate_hz=32_000,
    ),
    "19": Movement(
        form="movement",
        observed_at=datetime(2026, 8, 5, 1, 2, 3, tzinfo=UTC),
        time_source="device",
        species="Sus scrofa",
        species_as_sent="Sus Scrofa",
        animal_id="7",
        animal_place=Place(-38.7721, 143.5039, 109.0),
    ),
    "20": Telemetry(
        form="sensor-health",
        sensor_id="node_3",
        observed_at=datetime(2026, 8, 5, 1, 2, 3, tzinfo=UTC),
        time_source="device",
        health=Health(status="Online", battery_percent=81.5, cpu_percent=22.0, memory_percent=40.1),
    ),
    "21": Telemetry(
        form="node-status",
        sensor_id="node_3_1",
        observed_at=datetime(2026, 8, 5, 1, 2, 3, tzinfo=UTC),
        time_source="device",
        health=Health(status="online"),
    ),
}


def example(number: str) -> Message:
    (path,) = PAYLOADS.glob(f"{number}_*")
    return Message("iotingestion", path.read_bytes(), int(RECEIVED.timestamp() * 1000))


def all_numbers() -> list[str]:
    return sorted(path.name[:2] for path in PAYLOADS.glob("[0-9]*"))


@pytest.mark.parametrize("number", EXPECTED)
def test_an_example_becomes_its_record_field_by_field(number: str) -> None:
    assert only(IN_UTC.decode(example(number))) == EXPECTED[number]


@pytest.mark.parametrize("number", EXPECTED)
def test_an_example_without_a_zone_says_so_where_the_site_has_none(number: str) -> None:
    expected = EXPECTED[number]
    if number in WITHOUT_A_ZONE:
        expected = structs.replace(
            expected,
            observed_at=RECEIVED,
            time_source="received",
            time_problem=TimeProblem.ZONE_UNKNOWN,
            device_time=WITHOUT_A_ZONE[number],
        )
    assert only(DECODER.decode(example(number))) == expected
    assert DECODER.identify(example(number)) == IN_UTC.identify(example(number))


@pytest.mark.parametrize("number", sorted(set(all_numbers()) - set(EXPECTED)))
@pytest.mark.parametrize("node", [None, "node-1"])
def test_every_other_example_is_none_and_says_why(number: str, node: str | None) -> None:
    arrived = example(number)
    arrived = Message(arrived.topic, arrived.payload, arrived.received_at_ms, node=node)
    result = only(DECODER.decode(arrived))
    assert isinstance(result, Rejected)
    assert 0 < len(result.render()) <= 200


def test_the_table_of_forms_names_the_examples_that_are_accepted() -> None:
    named = [number for form in FORMS for number in form.examples]
    assert sorted(named) == sorted(EXPECTED)
    for form in FORMS:
        assert {EXPECTED[number].form for number in form.examples} <= {form.name}


@pytest.mark.parametrize("number", ["01", "02", "03", "07", "08", "09", "15", "16"])
def test_the_clip_comes_out_as_it_went_in(number: str) -> None:
    fields = json.loads(example(number).payload)
    sent = base64.b64decode(fields.get("audioClip") or fields["audio_file"])
    result = EXPECTED[number]
    assert isinstance(result, Recording)
    assert clip_bytes(example(number)) == sent
    assert hashlib.sha256(sent).hexdigest() == result.clip.sha256


def test_a_reference_to_a_clip_is_no_clip() -> None:
    assert clip_bytes(example("17")) is None
