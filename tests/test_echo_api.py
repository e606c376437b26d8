"""What the Echo API sink promises, against a real HTTP server with the API's traps.

`settle` offers what `deliver` would: the rest of the batch, again after each `Unavailable`.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import math
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from echo_ingest import __version__
from echo_ingest.decode import Decoder
from echo_ingest.quality import TimeProblem
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    RECORDS_MAX,
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
    record_key,
)
from echo_ingest.simulator.sounds import CALLS, wav
from echo_ingest.sinks import Cause, Delivery, Refusal, Unavailable, Written
from echo_ingest.sinks.echo_api import FAILURES_MAX, EchoApi, replies
from echo_ingest.sinks.plain_text import one_line
from echo_ingest.sinks.project_echo import Schema
from tests.decode.messages import CLIPS
from tests.replica import Replica
from tests.several_records import delivery_of, only
from tests.sinks.messages import measurement

PAYLOADS = Path(__file__).parents[2] / "shared" / "contract" / "payloads"
NOON = datetime(2026, 9, 14, 5, 45, 12, tzinfo=UTC)
RIDGE = Place(-38.7712, 143.5021, 112.0, 9.2)
FROG = Place(-38.7719, 143.5034, None, 15.7)
UNSUPPORTED = ReasonCode.NOT_SUPPORTED_BY_SINK
SCHEMAS: tuple[Schema, ...] = ("objects", "arrays")
WAV = wav(CALLS[0], 0.05, 16_000, Random(1))

Start = Callable[..., Awaitable[Replica]]
Connect = Callable[..., EchoApi]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a replica with the options given."""
    async with contextlib.AsyncExitStack() as stack:

        async def start_one(**options: Any) -> Replica:
            replica = Replica(**options)
            await replica.start()
            stack.push_async_callback(replica.stop)
            return replica

        yield start_one


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Make a sink for a replica, in its schema and with its key unless told otherwise."""
    async with contextlib.AsyncExitStack() as stack:

        def connect_one(replica: Replica, *, bulk: bool = False, **changed: Any) -> EchoApi:
            options = replica.options
            given = {"url": replica.url, "key": options.key, "schema": options.schema, **changed}
            api = EchoApi(bulk=bulk, **given)
            stack.push_async_callback(api.close)
            return api

        yield connect_one


def delivery(record: AnyRecord, payload: bytes = b"", offset: int = 1) -> Delivery:
    key = hashlib.blake2b(b"%d" % offset, digest_size=16).digest()
    return delivery_of(offset, key, Message("iotingestion", payload, 0), record)


def detection(**changed: Any) -> Detection:
    plain = Detection(
        form="edge-prediction",
        sensor_id="ridge-07",
        observed_at=NOON,
        time_source="device",
        place=RIDGE,
        species="Litoria ewingii",
        confidence=0.6364,
    )
    return msgspec.structs.replace(plain, **changed)


def numbered(count: int, **changed: Any) -> list[Delivery]:
    return [
        delivery(detection(observed_at=NOON + timedelta(seconds=number), **changed), offset=number)
        for number in range(1, count + 1)
    ]


def named(*species: str) -> list[Delivery]:
    """Return a delivery for each species, in this order."""
    return [
        delivery(detection(species=name), offset=number) for number, name in enumerate(species, 1)
    ]


def telemetry(**health: Any) -> Telemetry:
    return Telemetry(
        form="node-status",
        node="ridge-07",
        observed_at=NOON,
        time_source="device",
        health=Health(**health),
    )


def clip(data: bytes, **changed: Any) -> Clip:
    plain = Clip("wav", len(data), hashlib.sha256(data).hexdigest(), 16_000, 1, 0.1)
    return msgspec.structs.replace(plain, **changed)


def recording(data: bytes = WAV, **changed: Any) -> Recording:
    plain = Recording(
        form="audio-file", node="ridge-07", observed_at=NOON, time_source="device", clip=clip(data)
    )
    return msgspec.structs.replace(plain, **changed)


MOVEMENT = Movement(
    form="movement",
    observed_at=datetime.fromtimestamp(1747192867.118204, UTC),
    time_source="device",
    species="Sus Scrofa",
    animal_id="0b0c3a52",
    animal_place=Place(-38.7721, 143.5039, 109.0),
)


async def settle(
    api: EchoApi, batch: Sequence[Delivery], *, attempts_max: int = 400
) -> dict[int, str]:
    """Offer until all is settled; return the reasons of refusals by their places in `batch`."""
    refused = await settle_refusals(api, batch, attempts_max=attempts_max)
    return {place: refusal.reason for place, refusal in refused.items()}


async def settle_refusals(
    api: EchoApi, batch: Sequence[Delivery], *, attempts_max: int = 400
) -> dict[int, Refusal]:
    """Offer until all is settled; return the refusals by their places in `batch`."""
    refusals: dict[int, Refusal] = {}
    done = 0
    for _ in range(attempts_max):
        with contextlib.suppress(Unavailable):
            written = await api.write(batch[done:])
            assert 1 <= written.count <= len(batch) - done
            refusals |= {done + refusal.index: refusal for refusal in written.refusals}
            done += written.count
        if done == len(batch):
            return refusals
    raise AssertionError(f"{len(batch) - done} are not settled after {attempts_max} attempts")


async def unavailable(api: EchoApi, batch: Sequence[Delivery]) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        await api.write(batch)
    return caught.value


def example(name: str) -> Any:
    if not PAYLOADS.exists():
        pytest.skip("needs the wire contract's example payloads")
    return json.loads((PAYLOADS / name).read_text())


# ---------------------------------------------------------------------- what goes where


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ("arrays", "60_api_engine_event_arrays.json"),
        ("objects", "61_api_engine_event_objects.json"),
    ],
)
async def test_an_event_has_the_fields_of_the_contract_s_example(
    start: Start, connect: Connect, schema: Schema, name: str
) -> None:
    expected = example(name)
    replica = await start(schema=schema)
    place = Place(-38.7712, 143.5021, 112.0, 10.0)
    sent = detection(sensor_id=expected["sensorId"], place=place)
    assert await settle(connect(replica), [delivery(sent)]) == {}
    (document,) = replica.documents("events")
    expected |= {"timestamp": "2026-09-14T05:45:12+00:00", "audioClip": "", "sampleRate": 0}
    assert document == expected


async def test_a_clip_goes_inside_its_event(start: Start, connect: Connect) -> None:
    replica = await start()
    sent = detection(clip=clip(WAV))
    assert await settle(connect(replica), [delivery(sent, WAV)]) == {}
    (document,) = replica.documents("events")
    assert base64.b64decode(document["audioClip"]) == WAV
    assert document["sampleRate"] == 16_000
    assert replica.documents("audio_uploads") == []


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_a_clip_too_large_for_an_event_is_uploaded_once_and_the_event_names_it(
    start: Start, connect: Connect, schema: Schema
) -> None:
    replica = await start(schema=schema)
    large = wav(CALLS[0], 25.0, 16_000, Random(1))
    assert len(large) < 1_048_576 < len(large) * 4 / 3
    api = connect(replica)
    replica.options.fail_species = "Litoria ewingii"
    await unavailable(api, [delivery(detection(clip=clip(large)), large)])
    replica.options.fail_species = ""
    assert await settle(api, [delivery(detection(clip=clip(large)), large)]) == {}
    (upload,) = replica.documents("audio_uploads")
    assert upload["sha256"] == hashlib.sha256(large).hexdigest()
    (event,) = replica.documents("events")
    assert re.fullmatch("[0-9a-f]{24}" if schema == "objects" else "", event["audioClip"])


async def test_a_name_of_audio_kept_elsewhere_is_sent_as_it_is(
    start: Start, connect: Connect
) -> None:
    replica = await start()
    sent = detection(clip_reference="XC12345.mp3", sample_rate_hz=32_000, model="efficientnetv2")
    assert await settle(connect(replica), [delivery(sent)]) == {}
    (document,) = replica.documents("events")
    assert (document["audioClip"], document["sampleRate"]) == ("XC12345.mp3", 32_000)


async def test_a_species_goes_out_with_the_capital_letters_that_the_device_wrote(
    start: Start, connect: Connect
) -> None:
    replica = await start()
    sent = detection(species="Sus scrofa", species_as_sent="Sus Scrofa")
    assert await settle(connect(replica), [delivery(sent)]) == {}
    assert [each["species"] for each in replica.documents("events")] == ["Sus Scrofa"]


async def test_a_movement_goes_with_epoch_seconds(start: Start, connect: Connect) -> None:
    replica = await start()
    assert await settle(connect(replica), [delivery(MOVEMENT)]) == {}
    (document,) = replica.documents("movements")
    assert document == {
        "timestamp": "2025-05-14T03:21:07.118204+00:00",
        "species": "Sus Scrofa",
        "animalId": "0b0c3a52",
        "animalTrueLLA": [-38.7721, 143.5039, 109.0],
    }


async def test_health_becomes_one_line_that_says_when_it_was(
    start: Start, connect: Connect
) -> None:
    replica = await start(nodes=["ridge-07"])
    sent = telemetry(status="online", battery_percent=81.5, uptime_seconds=60.0)
    assert await settle(connect(replica), [delivery(sent)]) == {}
    (node,) = replica.documents("nodes")
    assert node["lastMessage"] == "2026-09-14T05:45:12Z online, battery 81.5 %, uptime 60 s"


async def test_a_heartbeat_says_whether_the_clock_was_believed(
    start: Start, connect: Connect
) -> None:
    replica = await start(nodes=["ridge-07"])
    report = msgspec.structs.replace(
        telemetry(status="online", external_power=False),
        time_source="received",
        time_problem=TimeProblem.ZONE_UNKNOWN,
        device_time="2026-09-14 15:45:12",
    )
    assert await settle(connect(replica), [delivery(report)]) == {}
    (node,) = replica.documents("nodes")
    assert node["lastMessage"] == (
        "2026-09-14T05:45:12Z online, no external power,"
        " its clock says 2026-09-14 15:45:12 (zone_unknown)"
    )


@pytest.mark.parametrize("node", ["a/b", "a b", "100%", "ü?x=1#y", "../up"])
async def test_a_node_id_is_one_segment_of_the_address_whatever_is_in_it(
    start: Start, connect: Connect, node: str
) -> None:
    replica = await start(nodes=[node])
    sent = msgspec.structs.replace(telemetry(), sensor_id=node)
    assert await settle(connect(replica), [delivery(sent)]) == {}
    assert [each["_id"] for each in replica.documents("nodes")] == [node]


async def test_a_recording_is_uploaded_under_a_name_that_says_who_and_when(
    start: Start, connect: Connect
) -> None:
    replica = await start()
    sent = recording(sensor_id="../Höhe 7")
    assert await settle(connect(replica), [delivery(sent, WAV)]) == {}
    (upload,) = replica.documents("audio_uploads")
    digest = hashlib.sha256(WAV).hexdigest()
    name = f"_H_he_7_20260914T054512Z_{digest[:12]}.wav"
    assert upload == {
        "original_filename": name,
        "content_type": "audio/wav",
        "size_bytes": len(WAV),
        "sha256": digest,
    }
    assert replica.documents("events") == []


@pytest.mark.parametrize(
    ("name", "content_type"), [("tone.flac", "audio/flac"), ("plain.mp3", "audio/mpeg")]
)
async def test_a_recording_is_uploaded_as_what_it_is(
    start: Start, connect: Connect, name: str, content_type: str
) -> None:
    replica = await start()
    data = (CLIPS / name).read_bytes()
    message = Message("iotingestion/ridge-07", data, 1_000, "ridge-07")
    sent = only(Decoder(1_000_000).decode(message))
    assert isinstance(sent, Recording)
    assert await settle(connect(replica), [delivery(sent, data)]) == {}
    (upload,) = replica.documents("audio_uploads")
    assert upload["content_type"] == content_type
    assert upload["original_filename"].endswith(name[-4:])


@pytest.mark.parametrize(
    ("text", "line"),
    [("x" * 300, "x" * 300), ("x" * 301, "x" * 299 + "…"), (" a\n\0 b\t", "a b")],
)
def test_what_an_api_says_is_one_line_of_at_most_300_characters(text: str, line: str) -> None:
    assert one_line(text) == line


async def test_the_health_in_a_recording_goes_as_a_heartbeat_before_it(
    start: Start, connect: Connect
) -> None:
    replica = await start(nodes=["ridge-07"])
    sent = recording(health=Health(cpu_percent=12.0))
    assert await settle(connect(replica), [delivery(sent, WAV)]) == {}
    assert [each.collection for each in replica.received] == ["nodes", "audio_uploads"]


async def test_audio_does_not_wait_for_a_heartbeat_that_is_refused(
    start: Start, connect: Connect
) -> None:
    replica = await start(nodes=[])
    sent = recording(health=Health(cpu_percent=12.0))
    assert await settle(connect(replica), [delivery(sent, WAV)]) == {}
    assert [each.collection for each in replica.received] == ["audio_uploads"]


async def test_while_the_audio_waits_its_heartbeat_is_not_repeated(
    start: Start, connect: Connect
) -> None:
    replica = await start(nodes=["ridge-07"], key="right", locked=["/api"])
    api = connect(replica, key="wrong")
    batch = [delivery(recording(health=Health(cpu_percent=12.0)), WAV)]
    for _ in range(3):
        await unavailable(api, batch)
    assert [each.collection for each in replica.received] == ["nodes"]


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_every_example_payload_that_is_a_record_reaches_the_api(
    start: Start, connect: Connect, schema: Schema
) -> None:
    if not PAYLOADS.exists():
        pytest.skip("needs the wire contract's example payloads")
    batch: list[Delivery] = []
    for path in sorted(PAYLOADS.glob("*.json")):
        message = Message("iotingestion/ridge-07", path.read_bytes(), 1_790_000_000_000, "ridge-07")
        record = only(Decoder(50_000_000).decode(message))
        if not isinstance(record, Rejected) and path.name < "60":
            batch.append(delivery_of(len(batch) + 1, path.name.encode(), message, record))
    assert len(batch) > 10
    nodes = [str(d.records[0].sensor_id or d.records[0].node) for d in batch]
    replica = await start(schema=schema, nodes=nodes)
    assert await settle(connect(replica), batch) == {}
    keys = {each.idempotency_key for each in replica.received}
    assert keys == {d.key.hex() for d in batch}
    assert {each.user_agent for each in replica.received} == {f"echo-ingest/{__version__}"}


# ---------------------------------------------------------------------- what is not known


async def test_arrays_say_unknown_places_as_the_devices_do(start: Start, connect: Connect) -> None:
    replica = await start(schema="arrays")
    batch = [
        delivery(detection(), offset=1),
        delivery(detection(place=None), offset=2),
        delivery(detection(animal_place=FROG), offset=3),
    ]
    assert await settle(connect(replica), batch) == {}
    ridge, nowhere, frog = [-38.7712, 143.5021, 112.0], [0.0, 0.0, 0.0], [-38.7719, 143.5034, 0.0]
    places = [
        (d["microphoneLLA"], d["animalEstLLA"], d["animalTrueLLA"])
        for d in replica.documents("events")
    ]
    assert places == [(ridge, ridge, ridge), (nowhere, nowhere, nowhere), (ridge, frog, frog)]


async def test_objects_say_null_for_an_unknown_animal(start: Start, connect: Connect) -> None:
    replica = await start(schema="objects")
    batch = [delivery(detection(), offset=1), delivery(detection(animal_place=FROG), offset=2)]
    assert await settle(connect(replica), batch) == {}
    unknown, known = replica.documents("events")
    for field in ("animalEstLLA", "animalTrueLLA", "animalLLAUncertainty"):
        assert unknown[field] is None
    assert known["animalEstLLA"] == {"latitude": -38.7719, "longitude": 143.5034, "altitude": 0.0}
    assert known["animalLLAUncertainty"] == 15.7


async def test_a_sensor_without_a_place_is_not_refused_by_the_objects_form(
    start: Start, connect: Connect
) -> None:
    replica = await start(schema="objects")
    assert await settle(connect(replica), [delivery(detection(place=None))]) == {}
    (document,) = replica.documents("events")
    assert document["microphoneLLA"] == {"latitude": 0.0, "longitude": 0.0, "altitude": 0.0}


async def test_an_uncertainty_never_shrinks(start: Start, connect: Connect) -> None:
    replica = await start(schema="arrays")
    assert await settle(connect(replica), [delivery(detection(animal_place=FROG))]) == {}
    assert replica.documents("events")[0]["animalLLAUncertainty"] == 16


@pytest.mark.parametrize(
    ("schema", "fraction", "percent"),
    [
        ("arrays", 0.6364, 63.64),
        ("objects", 0.6364, 63.64),
        ("arrays", 0.0, 0.01),
        ("arrays", 1.0, 99.99),
        ("arrays", 0.99995, 99.995),
        ("objects", 0.0, 0.0),
        ("objects", 1.0, 100.0),
        ("objects", 0.0087, 0.87),
    ],
)
async def test_confidence_is_in_percent_and_never_exactly_0_or_100_in_arrays(
    start: Start, connect: Connect, schema: Schema, fraction: float, percent: float
) -> None:
    replica = await start(schema=schema)
    assert await settle(connect(replica), [delivery(detection(confidence=fraction))]) == {}
    assert replica.documents("events")[0]["confidence"] == percent


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_a_confidence_that_is_not_known_is_not_made_up(
    start: Start, connect: Connect, schema: Schema
) -> None:
    replica = await start(schema=schema)
    refusals = await settle_refusals(connect(replica), [delivery(detection(confidence=None))])
    assert "confidence" in refusals[0].reason
    # The arrays form refuses it before it is sent, the API in the objects form by its own rule.
    expected = (None, "confidence") if schema == "objects" else (UNSUPPORTED, None)
    assert (refusals[0].code, refusals[0].field) == expected
    assert replica.received == []


# ---------------------------------------------------------------------- refused before sending


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize(
    "record",
    [
        detection(place=Place(math.nan, 143.5)),
        detection(animal_place=Place(-38.7, 143.5, math.inf)),
        detection(confidence=math.nan),
        msgspec.structs.replace(MOVEMENT, animal_place=Place(math.nan, 0.0)),
        telemetry(cpu_percent=math.nan),
    ],
    ids=["place", "altitude", "confidence", "movement", "health"],
)
async def test_nan_never_leaves_because_the_api_stores_it_and_answers_500(
    start: Start, connect: Connect, schema: Schema, record: AnyRecord
) -> None:
    replica = await start(schema=schema, nodes=["ridge-07"])
    refusals = await settle_refusals(connect(replica), [delivery(record)])
    assert "NaN" in refusals[0].reason
    assert refusals[0].code == UNSUPPORTED
    assert replica.requests == []


async def test_the_replica_stores_nan_and_answers_500(start: Start) -> None:
    import aiohttp

    replica = await start(schema="arrays")
    event = {
        "timestamp": 0,
        "sensorId": "x",
        "species": "x",
        "microphoneLLA": [math.nan, 0, 0],
        "animalEstLLA": [0, 0, 0],
        "animalTrueLLA": [0, 0, 0],
        "animalLLAUncertainty": 15.7,
        "audioClip": "",
        "confidence": "0.87",
        "sampleRate": 0,
    }
    async with aiohttp.ClientSession() as session:
        reply = await session.post(f"{replica.url}/engine/event", data=json.dumps(event))
    assert reply.status == 500
    (document,) = replica.documents("events")
    assert (document["animalLLAUncertainty"], document["confidence"]) == (15, 0.87)


@pytest.mark.parametrize(
    ("record", "reason", "code"),
    [
        (recording(clip=clip(WAV, container="ogg")), "Ogg", UNSUPPORTED),
        (
            recording(clip=clip(WAV, size_bytes=31_457_281)),
            "31,457,281",
            ReasonCode.TOO_LARGE_FOR_SINK,
        ),
        (detection(sensor_id=None), "no event without a sensor id", ReasonCode.NODE_ID_MISSING),
        (
            msgspec.structs.replace(telemetry(), node=None),
            "has no node id",
            ReasonCode.NODE_ID_MISSING,
        ),
        (
            msgspec.structs.replace(telemetry(), node=".."),
            "has no node id",
            ReasonCode.NODE_ID_MISSING,
        ),
    ],
)
async def test_what_the_api_cannot_take_does_not_travel(
    start: Start, connect: Connect, record: AnyRecord, reason: str, code: ReasonCode
) -> None:
    replica = await start()
    refusals = await settle_refusals(connect(replica), [delivery(record, WAV)])
    assert reason in refusals[0].reason
    assert refusals[0].code == code
    assert replica.requests == []


# ---------------------------------------------------------------------- refused by the API


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("errors", ["detail", "envelope"])
async def test_a_refusal_parks_one_record_with_the_api_s_own_words(
    start: Start, connect: Connect, schema: Schema, errors: str
) -> None:
    replica = await start(schema=schema, errors=errors, refuse_species="Unicorn")
    batch = named("Litoria ewingii", "Unicorn", "Crinia signifera")
    refusals = await settle_refusals(connect(replica), batch)
    assert list(refusals) == [1]
    assert "422" in refusals[1].reason
    assert "species: Unicorn is not a known species" in refusals[1].reason
    assert (refusals[1].code, refusals[1].field) == (None, "species")
    assert len(replica.documents("events")) == 2


async def test_a_parked_record_is_taken_once_the_api_has_changed_its_mind(
    start: Start, connect: Connect
) -> None:
    replica = await start(refuse_species="Unicorn")
    api = connect(replica)
    batch = [delivery(detection(species="Unicorn"))]
    assert list(await settle(api, batch)) == [0]
    replica.options.refuse_species = ""
    assert await settle(api, batch) == {}


@pytest.mark.parametrize("errors", ["detail", "envelope"])
async def test_the_404_hidden_in_a_500_parks_the_heartbeat_of_an_unknown_node(
    start: Start, connect: Connect, errors: str
) -> None:
    replica = await start(errors=errors)
    refusals = await settle_refusals(connect(replica), [delivery(telemetry())], attempts_max=1)
    assert "Node not found" in refusals[0].reason
    assert "register the node 'ridge-07'" in refusals[0].reason
    assert refusals[0].code == ReasonCode.NODE_UNKNOWN_TO_SINK


@pytest.mark.parametrize("record", [telemetry(), recording(), MOVEMENT])
@pytest.mark.parametrize("how", ["locked", "missing"])
async def test_a_call_that_the_api_does_not_offer_does_not_hold_up_the_others(
    start: Start, connect: Connect, how: str, record: AnyRecord
) -> None:
    path = {
        "telemetry": "/iot/nodes/ridge-07/heartbeat",
        "recording": "/api/audio/upload",
        "movement": "/sim/movement",
    }[record.__struct_config__.tag]  # type: ignore[index]
    replica = await start(**{how: [path]})
    batch = [delivery(record, WAV, offset=1), delivery(detection(), offset=2)]
    refusals = await settle_refusals(connect(replica), batch)
    assert list(refusals) == [0]
    is_unknown_node = how == "missing" and isinstance(record, Telemetry)
    assert refusals[0].code == (ReasonCode.NODE_UNKNOWN_TO_SINK if is_unknown_node else UNSUPPORTED)
    assert len(replica.documents("events")) == 1


async def test_a_call_that_is_refused_waits_while_the_api_answers_errors_to_everything_else(
    start: Start, connect: Connect
) -> None:
    replica = await start(locked=["/iot/nodes/ridge-07/heartbeat"], trouble=500, trouble_times=1)
    api = connect(replica)
    heartbeat = [delivery(telemetry())]
    error = await unavailable(api, heartbeat)
    assert (error.http_status, error.cause) == (500, Cause.ANSWERS_ERRORS)
    assert list(await settle_refusals(api, heartbeat, attempts_max=1)) == [0]


async def test_one_record_that_breaks_the_api_is_parked_and_the_others_go_on(
    start: Start, connect: Connect
) -> None:
    replica = await start(fail_species="Bunyip")
    batch = named("Bunyip", "Litoria ewingii")
    refusals = await settle_refusals(connect(replica), batch)
    assert f"{FAILURES_MAX} times in a row" in refusals[0].reason
    assert refusals[0].code == ReasonCode.FAILS_AT_SINK
    assert len(replica.documents("events")) == 1
    assert replica.requests.count("POST /engine/event") == FAILURES_MAX + 2  # and one {} to ask


async def test_a_long_outage_that_looks_like_bad_records_parks_few_of_them(
    start: Start, connect: Connect
) -> None:
    replica = await start(fail_species="Litoria ewingii")
    api = connect(replica)
    with pytest.raises(AssertionError, match="97 are not settled"):
        await settle(api, numbered(100), attempts_max=8 + 16 + 32 + 60)
    replica.options.fail_species = ""
    assert await settle(api, numbered(100)[3:]) == {}
    replica.options.fail_species = "Litoria ewingii"
    assert list(await settle(api, numbered(1), attempts_max=FAILURES_MAX + 1)) == [0]


async def test_nothing_is_parked_while_the_api_has_lost_its_database(
    start: Start, connect: Connect
) -> None:
    replica = await start(fail_species="Litoria ewingii", db_connected=False)
    api = connect(replica)
    for _ in range(3 * FAILURES_MAX):
        assert (await unavailable(api, numbered(2))).cause == Cause.ANSWERS_ERRORS
    replica.options.db_connected = True
    replica.options.fail_species = ""
    assert await settle(api, numbered(2)) == {}


# ---------------------------------------------------------------------- the world's failures


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
async def test_a_failure_of_the_api_parks_nothing(
    start: Start, connect: Connect, status: int
) -> None:
    replica = await start(trouble=status, trouble_times=3, nodes=["ridge-07"])
    batch = [delivery(telemetry(), offset=1), *numbered(3)]
    api = connect(replica)
    error = await unavailable(api, batch)
    assert error.http_status == status
    assert error.cause == (Cause.OVERLOADED if status in (425, 429) else Cause.ANSWERS_ERRORS)
    assert await settle(api, batch) == {}
    assert len(replica.received) == 4


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("7", 7.0), ("86400", 3600.0), ("-3", None), ("soon", None), ("", None), ("9" * 400, 3600.0)],
)
async def test_retry_after_is_honoured_up_to_an_hour(
    start: Start, connect: Connect, retry_after: str, seconds: float | None
) -> None:
    replica = await start(trouble=429, retry_after=retry_after)
    error = await unavailable(connect(replica), numbered(1))
    assert error.retry_after_seconds == seconds


@pytest.mark.parametrize(("ahead_seconds", "expected"), [(90, 90.0), (-90, 0.0), (90_000, 3600.0)])
def test_retry_after_may_be_a_date(ahead_seconds: int, expected: float) -> None:
    date = format_datetime(NOON + timedelta(seconds=ahead_seconds), usegmt=True)
    assert replies.retry_after_seconds({"Retry-After": date}, NOON) == expected


async def test_the_rate_limit_says_how_long_to_wait(start: Start, connect: Connect) -> None:
    replica = await start(requests_per_minute=3)
    api = connect(replica)
    assert await settle(api, numbered(3)) == {}
    error = await unavailable(api, numbered(4)[3:])
    assert "429" in str(error)
    assert error.retry_after_seconds is not None
    assert 50 < error.retry_after_seconds <= 60


@pytest.mark.parametrize("key", ["wrong", None])
@pytest.mark.parametrize("record", [detection(), telemetry(), recording()])
async def test_a_wrong_key_parks_nothing_and_names_the_setting(
    start: Start, connect: Connect, key: str | None, record: AnyRecord
) -> None:
    replica = await start(key="right", locked=["/iot", "/api"])
    error = await unavailable(connect(replica, key=key), [delivery(record, WAV)])
    assert "IOT_API_KEY" in str(error)
    assert (error.cause, error.http_status) == (Cause.CREDENTIALS, 401)
    assert replica.received == []


@pytest.mark.parametrize("header", ["x-api-key", "x-engine-api-key"])
async def test_the_key_is_found_by_either_version(
    start: Start, connect: Connect, header: str
) -> None:
    replica = await start(key="right", key_header=header)
    assert await settle(connect(replica), numbered(1)) == {}


@pytest.mark.parametrize("record", [detection(), telemetry(), recording(), MOVEMENT])
async def test_a_wrong_address_parks_nothing_and_names_the_setting(
    start: Start, connect: Connect, record: AnyRecord
) -> None:
    replica = await start()
    error = await unavailable(connect(replica, url=f"{replica.url}/v1"), [delivery(record, WAV)])
    assert "IOT_API_URL" in str(error)
    assert (error.cause, error.http_status) == (Cause.MISCONFIGURED, 404)


async def test_a_redirect_is_not_followed(start: Start, connect: Connect) -> None:
    replica = await start(trouble="move")
    error = await unavailable(connect(replica), numbered(1))
    assert "https://elsewhere.example/" in str(error)
    assert "IOT_API_URL" in str(error)
    assert error.cause == Cause.MISCONFIGURED


@pytest.mark.parametrize("bulk", [False, True])
async def test_a_log_in_page_is_no_success(start: Start, connect: Connect, bulk: bool) -> None:
    replica = await start(trouble="page")
    error = await unavailable(connect(replica, bulk=bulk), numbered(2))
    assert "IOT_API_URL" in str(error)
    assert error.cause == Cause.MISCONFIGURED


async def test_an_answer_without_end_is_read_only_to_its_beginning(
    start: Start, connect: Connect
) -> None:
    replica = await start(trouble="flood")
    assert "422" in (await settle(connect(replica), numbered(1), attempts_max=1))[0]


async def test_refused_connections_park_nothing_and_all_arrives_afterwards(
    start: Start, connect: Connect
) -> None:
    replica = await start()
    api = connect(replica)
    assert await settle(api, numbered(2)) == {}
    await replica.stop()
    error = await unavailable(api, numbered(4)[2:])
    assert "IOT_API_URL" in str(error)
    assert (error.cause, error.http_status) == (Cause.UNREACHABLE, None)
    await replica.start()
    assert await settle(api, numbered(4)[2:]) == {}
    assert [each["timestamp"][17:19] for each in replica.documents("events")] == [
        "13", "14", "15", "16",
    ]  # fmt: skip


@pytest.mark.parametrize("trouble", ["hang", "reset", "truncate"])
@pytest.mark.parametrize("record", [detection(), recording(), MOVEMENT])
async def test_a_lost_answer_repeats_the_call_under_the_same_key(
    start: Start, connect: Connect, trouble: str, record: AnyRecord
) -> None:
    replica = await start(trouble=trouble, trouble_times=1)
    api = connect(replica, timeout_seconds=0.3)
    assert await settle(api, [delivery(record, WAV)], attempts_max=2) == {}
    keys = [each.idempotency_key for each in replica.received]
    assert keys == [delivery(record).key.hex()] * 2


async def test_a_lost_answer_repeats_no_more_than_one_record(
    start: Start, connect: Connect
) -> None:
    replica = await start(trouble="reset", trouble_times=1)
    assert await settle(connect(replica), numbered(5)) == {}
    assert len(replica.received) == 6


async def test_a_message_that_another_form_reads_meanwhile_is_begun_anew(
    start: Start, connect: Connect
) -> None:
    replica = await start(trouble=503, trouble_times=1)
    api = connect(replica)
    message = Message("pond/up", b"{}", 0, form="first")
    level = measurement(1)
    await unavailable(api, [delivery_of(1, bytes(16), message, level, level, MOVEMENT)])
    reread = msgspec.structs.replace(message, form="second")
    assert await api.write([delivery_of(1, bytes(16), reread, MOVEMENT, MOVEMENT)]) == Written(1)
    assert len(replica.documents("movements")) == 2


# ---------------------------------------------------------------------- many at once


async def test_waiting_detections_go_in_one_call_in_arrays(start: Start, connect: Connect) -> None:
    replica = await start(schema="objects")
    api = connect(replica, bulk=True)
    assert await api.write(numbered(100)) == Written(100)
    assert replica.requests == ["POST /detections/bulk"]
    documents = replica.documents("detections")
    assert len({document["timestamp"] for document in documents}) == 100
    assert documents[0]["microphoneLLA"] == [-38.7712, 143.5021, 112.0]


NO_ANIMALS = {
    "nocall": "blank",
    "Engine": "vehicle",
    "Human vocal": "human",
    "unidentified": "unknown",
    "?": "unclassified",
}


def heard(*labels: str, first: int = 1) -> list[Delivery]:
    """Return a delivery for each label, with its clip; what is not in `NO_ANIMALS` is an animal."""
    return [
        delivery(
            detection(
                species=label, observation_type=NO_ANIMALS.get(label, "animal"), clip=clip(WAV)
            ),
            WAV,
            offset=offset,
        )
        for offset, label in enumerate(labels, first)
    ]


@pytest.mark.parametrize("bulk", [False, True])
async def test_a_sound_of_no_animal_makes_no_event_and_is_not_parked(
    start: Start, connect: Connect, bulk: bool
) -> None:
    """It is settled without any call, also while the API is away."""
    replica = await start()
    api = connect(replica, bulk=bulk)
    assert await api.write(heard(*NO_ANIMALS)) == Written(5)
    assert replica.requests == []
    away = connect(replica, bulk=bulk, url="http://127.0.0.1:9")
    assert await away.write(heard(*NO_ANIMALS)) == Written(5)


@pytest.mark.parametrize("bulk", [False, True])
async def test_hundreds_of_labels_and_species_are_told_apart(
    start: Start, connect: Connect, bulk: bool
) -> None:
    replica = await start(refuse_species="Unicorn")
    rng = Random(13)
    labels = rng.choices([*NO_ANIMALS, "a", "b", "Unicorn"], k=400)
    refused = await settle(connect(replica, bulk=bulk), heard(*labels), attempts_max=900)
    assert list(refused) == [n for n, label in enumerate(labels) if label == "Unicorn"]
    stored = [each["species"] for each in [received.document for received in replica.received]]
    assert stored == [label for label in labels if label in ("a", "b")]


async def test_detections_go_in_one_call_past_the_sounds_between_them(
    start: Start, connect: Connect
) -> None:
    replica = await start(refuse_species="Unicorn")
    batch = heard("a", "nocall", "Unicorn", "Engine", "b", "nocall")
    written = await connect(replica, bulk=True).write(batch)
    assert (written.count, [each.index for each in written.refusals]) == (5, [2])
    assert replica.requests == ["POST /detections/bulk"]
    assert [each["species"] for each in replica.documents("detections")] == ["a", "b"]


@pytest.mark.parametrize("bulk", [False, True])
async def test_a_measurement_needs_no_call_and_is_not_parked(
    start: Start, connect: Connect, bulk: bool
) -> None:
    """It is settled without any call, alone and among the detections of a message."""
    replica = await start()
    before, after = heard("a", "b")
    alone = msgspec.structs.replace(before, records=(measurement(1), measurement(2)))
    among = msgspec.structs.replace(
        after, records=(measurement(1), *before.records, measurement(2), *after.records)
    )
    api = connect(replica, bulk=bulk)
    assert await api.write([alone, alone]) == Written(2)
    assert replica.requests == []
    assert await settle(api, [alone, among, alone]) == {}
    stored = [each["species"] for each in [received.document for received in replica.received]]
    assert stored == ["a", "b"]


async def test_only_the_leading_detections_go_in_one_call(start: Start, connect: Connect) -> None:
    replica = await start()
    batch = [*numbered(2), delivery(MOVEMENT, offset=3), delivery(detection(), offset=4)]
    api = connect(replica, bulk=True)
    assert [(await api.write(batch[n:])).count for n in (0, 2, 3)] == [2, 1, 1]
    assert [each.collection for each in replica.received] == [
        "detections", "detections", "movements", "events",
    ]  # fmt: skip


async def test_a_bulk_that_was_taken_in_part_parks_the_rest(start: Start, connect: Connect) -> None:
    replica = await start(refuse_species="Unicorn")
    batch = named("a", "Unicorn", "b", "Unicorn")
    written = await connect(replica, bulk=True).write(batch)
    assert written.count == 4
    assert [refusal.index for refusal in written.refusals] == [1, 3]
    assert "species: Unicorn is not a known species" in written.refusals[0].reason
    assert [refusal.field for refusal in written.refusals] == ["species", "species"]
    assert [each["species"] for each in replica.documents("detections")] == ["a", "b"]


async def test_a_bulk_of_which_nothing_was_taken_is_tried_one_by_one(
    start: Start, connect: Connect
) -> None:
    replica = await start(refuse_species="Unicorn")
    refusals = await settle(connect(replica, bulk=True), numbered(3, species="Unicorn"))
    assert list(refusals) == [0, 1, 2]
    assert replica.requests == ["POST /detections/bulk", *["POST /engine/event"] * 3]


@pytest.mark.parametrize("how", ["locked", "missing"])
async def test_an_api_without_the_bulk_call_is_asked_for_it_once(
    start: Start, connect: Connect, how: str
) -> None:
    replica = await start(**{how: ["/detections/bulk"]})
    assert await settle(connect(replica, bulk=True), numbered(5)) == {}
    assert replica.requests == ["POST /detections/bulk", *["POST /engine/event"] * 5]


@pytest.mark.parametrize("status", [401, 403, 404, 405])
async def test_an_api_that_says_the_bulk_call_is_not_for_us_is_asked_for_it_once(
    start: Start, connect: Connect, status: int
) -> None:
    replica = await start(trouble=status, trouble_times=1)
    api = connect(replica, bulk=True)
    for numbers in (range(3), range(3, 6)):
        assert await settle(api, [numbered(6)[number] for number in numbers]) == {}
    assert replica.requests == ["POST /detections/bulk", *["POST /engine/event"] * 6]


@pytest.mark.parametrize("status", [400, 413, 422, 500])
async def test_a_bulk_refused_as_a_whole_goes_one_by_one_and_the_next_in_one_call_again(
    start: Start, connect: Connect, status: int
) -> None:
    replica = await start(trouble=status, trouble_times=1)
    api = connect(replica, bulk=True)
    assert await settle(api, numbered(3)) == {}
    assert len(replica.documents("events")) == 3
    assert await settle(api, numbered(6)[3:]) == {}
    assert len(replica.documents("detections")) == 3


async def test_a_bulk_with_one_record_that_breaks_the_api_parks_only_that(
    start: Start, connect: Connect
) -> None:
    replica = await start(fail_species="Bunyip")
    assert list(await settle(connect(replica, bulk=True), named("a", "Bunyip", "b"))) == [1]
    assert [each["species"] for each in replica.documents("events")] == ["a", "b"]


async def test_a_bulk_answer_that_does_not_add_up_is_no_success_and_is_not_asked_for_again(
    start: Start, connect: Connect
) -> None:
    replica = await start(trouble="lie")
    api = connect(replica, bulk=True)
    error = await unavailable(api, numbered(4))
    assert "not for each" in str(error)
    assert error.cause == Cause.ANSWERS_ERRORS
    assert await settle(api, numbered(4)) == {}
    assert len(replica.documents("events")) == 4
    assert replica.requests.count("POST /detections/bulk") == 1


@pytest.mark.parametrize("trouble", ["hang", "reset", "truncate"])
async def test_a_lost_bulk_answer_repeats_the_same_call_under_the_same_key(
    start: Start, connect: Connect, trouble: str
) -> None:
    replica = await start(trouble=trouble, trouble_times=1)
    api = connect(replica, bulk=True, timeout_seconds=0.3)
    assert await settle(api, numbered(3), attempts_max=2) == {}
    assert len(replica.received) == 6
    assert len({each.idempotency_key for each in replica.received}) == 1


async def test_a_bulk_stays_within_the_api_s_limit_of_a_mebibyte(
    start: Start, connect: Connect
) -> None:
    replica = await start()
    large = wav(CALLS[0], 10.0, 16_000, Random(1))
    batch = [delivery(detection(clip=clip(large)), large, offset=n) for n in range(1, 6)]
    api = connect(replica, bulk=True)
    assert (await api.write(batch)).count == 2
    assert await settle(api, batch[2:]) == {}
    assert len(replica.received) == 5


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"[]",
        b'{"inserted":2,"rejected":0}',
        b'{"inserted":1,"rejected":0,"errors":[]}',
        b'{"inserted":3,"rejected":-1,"errors":[]}',
        b'{"inserted":1,"rejected":1,"errors":[]}',
        b'{"inserted":1,"rejected":1,"errors":[{"index":2}]}',
        b'{"inserted":0,"rejected":2,"errors":[{"index":1},{"index":1}]}',
        b'{"inserted":"2","rejected":0,"errors":[]}',
        b"[" * 100_000,
    ],
)
def test_a_bulk_answer_must_account_for_every_event(reply: bytes) -> None:
    assert replies.bulk_refusals(reply, 2) is None


def test_the_first_and_the_last_event_of_many_may_be_refused() -> None:
    reply = b'{"inserted":1,"rejected":2,"errors":[{"index":0},{"index":2}]}'
    refused = replies.bulk_refusals(reply, 3)
    assert refused is not None
    assert [each.index for each in refused] == [0, 2]


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(408, "timed out"), (429, "too many requests"), (502, "bad gateway"), (503, "out of service")],
)
def test_a_status_is_said_in_words_where_it_has_any(status: int, meaning: str) -> None:
    assert replies.Reply(status, b"").text() == f"the Echo API answered {status} ({meaning})"
    assert replies.Reply(418, b"").text() == "the Echo API answered 418"


def test_the_contract_s_bulk_answer_is_understood() -> None:
    reply = json.dumps(example("67_api_detections_bulk_reply.json")).encode()
    reason = "the Echo API refused it: species: ensure this value has at least 1 characters"
    assert replies.bulk_refusals(reply, 2) == [Refusal(1, reason, field="species")]


# ---------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("body", "words", "field"),
    [
        (b'{"detail":"File too large (max 30MB)"}', "File too large (max 30MB)", None),
        (
            b'{"detail":[{"loc":["body","species"],"msg":"required"}]}',
            "species: required",
            "species",
        ),
        (
            b'{"detail":[{"loc":["body","microphoneLLA",2],"msg":"x"}]}',
            "microphoneLLA.2: x",
            "microphoneLLA.2",
        ),
        (
            b'{"status":"failed","error":{"code":"X","message":"Failed.","details":null}}',
            "Failed.",
            None,
        ),
        (
            b'{"error":{"type":"x","message":"M","details":[{"loc":["body"],"msg":"y"}]}}',
            "M y",
            None,
        ),
        (
            b'{"error":{"message":"M","details":[{"loc":["body","species"],"msg":"y"}]}}',
            "M species: y",
            "species",
        ),
        (b'{"detail":[{"loc":"body","msg":"y"},7]}', "y;", None),
        (b'{"error":"Payload Too Large","message":"Too much."}', "Too much.", None),
        (b'{"error":"only this"}', "only this", None),
        (b"<html>nginx</html>", "", None),
        (b"\xff\xfe", "", None),
        (b'{"detail":{"a":1}}', "", None),
        (b"[" * 100_000, "", None),
        (b'{"detail":"two\\nlines\\u0007 \\u202e"}', "two lines", None),
    ],
)
def test_errors_in_every_form_become_one_plain_line_and_a_field(
    body: bytes, words: str, field: str | None
) -> None:
    assert replies.plain_words(body) == words
    assert replies.problem_field(body) == field


def test_a_reason_has_at_most_300_characters() -> None:
    body = json.dumps({"detail": "x" * 10_000}).encode()
    assert len(replies.Reply(422, body).text()) == 300


# ---------------------------------------------------------------------- probe


@pytest.mark.parametrize("missing", [[], ["/health"]])
async def test_the_probe_finds_an_api_that_lets_us_in_and_stores_nothing(
    start: Start, connect: Connect, missing: list[str]
) -> None:
    replica = await start(key="right", missing=missing)
    await connect(replica).probe()
    assert replica.received == []


@pytest.mark.parametrize(
    ("options", "changed", "remedy", "cause"),
    [
        ({"key": "right"}, {"key": "wrong"}, "IOT_API_KEY", Cause.CREDENTIALS),
        ({"missing": ["/engine/event"]}, {}, "IOT_API_URL", Cause.MISCONFIGURED),
        ({"db_connected": False}, {}, "MongoDB", Cause.ANSWERS_ERRORS),
        ({"trouble": 503}, {}, "503", Cause.ANSWERS_ERRORS),
        ({"trouble": "hang"}, {"timeout_seconds": 0.2}, "within 0 s", Cause.NO_ANSWER),
        ({}, {"url": "http://127.0.0.1:9"}, "IOT_API_URL", Cause.UNREACHABLE),
    ],
)
async def test_the_probe_names_the_remedy(
    start: Start, connect: Connect, options: Any, changed: Any, remedy: str, cause: Cause
) -> None:
    replica = await start(**options)
    with pytest.raises(Unavailable, match=remedy) as raised:
        await connect(replica, **changed).probe()
    assert raised.value.cause == cause


async def test_an_api_without_tls_at_an_https_address_is_configured_wrong(
    start: Start, connect: Connect
) -> None:
    replica = await start()
    api = connect(replica, url=replica.url.replace("http://", "https://"))
    error = await unavailable(api, numbered(1))
    assert "IOT_API_URL" in str(error)
    assert error.cause == Cause.MISCONFIGURED


async def test_a_sink_can_be_closed_before_it_was_used(start: Start, connect: Connect) -> None:
    api = connect(await start())
    await api.close()


async def test_the_replica_runs_as_a_program_of_its_own() -> None:
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.replica", "--set", '{"schema": "arrays"}'),
        cwd=Path(__file__).parents[1],
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert program.stdout is not None
        url = (await program.stdout.readline()).decode().strip()
        api = EchoApi(url, None, "arrays", bulk=False)
        assert await settle(api, numbered(2)) == {}
        await api.close()
    finally:
        program.terminate()
        await program.wait()


# ---------------------------------------------------------------------- messages of several records


def of_several(*species: str, offset: int = 1) -> Delivery:
    """Return a message with a detection for each species."""
    records = [detection(species=name, observation_type=NO_ANIMALS.get(name, "animal"))
               for name in species]  # fmt: skip
    key = hashlib.blake2b(b"%d" % offset, digest_size=16).digest()
    return delivery_of(offset, key, Message("iotingestion", b"", 0), *records)


def species_in(replica: Replica, collection: str) -> list[str]:
    return [each["species"] for each in replica.documents(collection)]


async def test_each_record_of_a_message_is_a_call_with_a_key_of_its_own(
    start: Start, connect: Connect
) -> None:
    replica = await start()
    batch = [of_several("a", "nocall", "b"), of_several("c", offset=2)]
    api = connect(replica)
    assert [(await api.write(batch[n:])).count for n in (0, 1)] == [1, 1]
    assert species_in(replica, "events") == ["a", "b", "c"]
    keys = [record_key(batch[0].key, 0), record_key(batch[0].key, 2), batch[1].key]
    assert [each.idempotency_key for each in replica.received] == [key.hex() for key in keys]


async def test_a_message_is_not_divided_between_two_bulk_calls(
    start: Start, connect: Connect
) -> None:
    replica = await start()
    batch = [
        of_several(*["a"] * 60),
        of_several(*["b"] * 60, offset=2),
        of_several("nocall", "c", offset=3),
    ]
    api = connect(replica, bulk=True)
    assert [(await api.write(batch[n:])).count for n in (0, 1)] == [1, 2]
    assert replica.requests == ["POST /detections/bulk"] * 2
    keys = [each.idempotency_key for each in replica.received]
    assert [keys.count(key) for key in dict.fromkeys(keys)] == [60, 61]


async def test_a_message_larger_than_a_bulk_call_takes_several(
    start: Start, connect: Connect
) -> None:
    replica = await start()
    names = [f"s{number}" for number in range(RECORDS_MAX)]
    written = await connect(replica, bulk=True).write([of_several(*names), *numbered(1)])
    assert (written.count, written.refusals) == (1, ())
    assert replica.requests == ["POST /detections/bulk"] * 10
    assert species_in(replica, "detections") == names


@pytest.mark.parametrize("bulk", [False, True])
async def test_a_refused_record_is_named_and_the_others_of_its_message_are_taken(
    start: Start, connect: Connect, bulk: bool
) -> None:
    replica = await start(refuse_species="Unicorn")
    batch = [
        of_several("a", "Unicorn", "b"),
        of_several("Unicorn", "c", "Unicorn", "d", offset=2),
        of_several("e", offset=3),
    ]
    refusals = await settle(connect(replica, bulk=bulk), batch)
    first, second = refusals[0], refusals[1]
    assert list(refusals) == [0, 1]
    assert first.startswith("record 2 of 3: the Echo API ") and "Unicorn" in first
    assert first.endswith("; it took 2 of the message, and a replay sends these again")
    assert second.startswith("record 1 of 4: ") and "; it refused 1 more of the message" in second
    assert species_in(replica, "detections" if bulk else "events") == ["a", "b", "c", "d", "e"]


async def test_what_was_refused_in_a_part_of_a_large_message_is_not_forgotten(
    start: Start, connect: Connect
) -> None:
    replica = await start(refuse_species="Unicorn")
    names = ["Unicorn" if number in (7, 150) else "a" for number in range(201)]
    (reason,) = (await settle(connect(replica, bulk=True), [of_several(*names)])).values()
    assert reason.startswith("record 8 of 201: ") and "it refused 1 more" in reason
    assert len(replica.received) == 199


@pytest.mark.parametrize("bulk", [False, True])
async def test_after_an_error_a_message_goes_on_where_it_was(
    start: Start, connect: Connect, bulk: bool
) -> None:
    replica = await start(fail_species="Bunyip")
    names = [*(f"s{number}" for number in range(120)), "Bunyip", "t"]
    api = connect(replica, bulk=bulk)
    await unavailable(api, [of_several(*names)])
    await unavailable(api, [of_several(*names)])
    replica.options.fail_species = ""
    assert await settle(api, [of_several(*names)]) == {}
    assert sorted(species_in(replica, "events") + species_in(replica, "detections")) == sorted(
        names
    )
    assert await settle(api, [of_several(*names)]) == {}, "it is a replay, and goes all again"
    assert len(replica.received) == 2 * len(names)


async def test_sounds_of_no_animal_alone_need_no_call(start: Start, connect: Connect) -> None:
    replica = await start()
    written = await connect(replica).write([of_several("nocall", "Engine"), of_several("nocall")])
    assert (written.count, replica.requests) == (2, [])
