"""MongoDB: what a record looks like there, what is never written over, and how the server fails.

What every sink promises is in tests/sinks. Here some needs a server that comes closer to MongoDB
than `nx-27017` does; see tests/mongodb.py.
"""

import asyncio
import io
import json
import math
import random
import re
import wave
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bson
import msgspec
import pytest
from bson import ObjectId, json_util
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient, MongoClient, monitoring
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WTimeoutError,
)

from echo_ingest.quality import TimeProblem
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    Detection,
    Health,
    Message,
    Movement,
    Place,
    Telemetry,
    record_key,
)
from echo_ingest.sinks import Cause, Delivery, Unavailable, Written, clips
from echo_ingest.sinks.mongodb import MongoDb, server_errors
from echo_ingest.sinks.mongodb.documents import COLLECTIONS, document_id, plan
from echo_ingest.sinks.project_echo import Schema
from tests import mongodb
from tests.harness import Harness, free_port
from tests.several_records import delivery_of
from tests.sinks.doubtful import EVERY_PROBLEM, deliveries, problems
from tests.sinks.messages import (
    MORNING,
    PLACE,
    clip,
    detection,
    json_message,
    measurement,
    message,
    record_of,
)

PAPER = Path(__file__).parents[1] / "docs" / "mongodb.md"
PATIENCE_SECONDS = 1.5
Database = AsyncDatabase[dict[str, Any]]

needs_mongodb = pytest.mark.skipif(
    mongodb.SECANTUSDB is None and mongodb.GIVEN_URL is None,
    reason="nx-27017 cannot do this: set TEST_SECANTUSDB or TEST_MONGODB_URL",
)
needs_faults = pytest.mark.skipif(
    mongodb.SECANTUSDB is None, reason="needs a server that ails when told to: set TEST_SECANTUSDB"
)


def delivery(arrived: Message, number: int = 0, clip_place: str | None = None) -> Delivery:
    key = (MORNING + number).to_bytes(4) + number.to_bytes(8) + b"\xee" * 4
    return delivery_of(number, key, arrived, record_of(arrived), clip_place=clip_place)


def report(node: str, minute: int, status: str) -> Message:
    at = datetime.fromtimestamp(MORNING, UTC) + timedelta(minutes=minute)
    return json_message(
        node, {"nodeId": node, "status": status, "timestamp": at.isoformat(), "cpu": 3}
    )


# ---------------------------------------------------------------------- documents


def own_document(arrived: Message, schema: Schema = "objects", **how: Any) -> dict[str, Any]:
    """Return the document of a record itself, without the update around it."""
    planned = plan([delivery(arrived, **how)], schema)
    assert planned.refusals == []
    (write,) = [each for each in planned.documents if each.key]
    fields = write.update["$setOnInsert"]
    assert isinstance(fields, RawBSONDocument)
    return {"collection": write.collection, "_id": write.id, **bson.decode(fields.raw)}


def test_an_event_is_what_the_api_would_have_stored() -> None:
    event = own_document(detection(0), number=7)
    assert event == {
        "collection": "events",
        "_id": ObjectId((MORNING + 7).to_bytes(4) + (7).to_bytes(8)),
        "messageKey": ((MORNING + 7).to_bytes(4) + (7).to_bytes(8) + b"\xee" * 4).hex(),
        "timestamp": datetime.fromtimestamp(MORNING, UTC).replace(tzinfo=None),
        "sensorId": "ridge-01",
        "species": "Litoria ewingii",
        "sourceType": "real",
        "microphoneLLA": dict(zip(("latitude", "longitude", "altitude"), PLACE, strict=True)),
        "animalEstLLA": None,
        "animalTrueLLA": None,
        "animalLLAUncertainty": None,
        "audioClip": "",
        "confidence": 63.64,
        "sampleRate": 0,
        "source_model": "echo-engine 3",
    }
    assert own_document(detection(0), "arrays")["microphoneLLA"] == PLACE
    assert own_document(detection(0), "arrays")["animalLLAUncertainty"] == 0


def test_each_record_of_a_message_is_a_document_or_none_is() -> None:
    records = [record_of(message(number)) for number in (0, 3, 5)]
    nobody = record_of(detection(6, sensorId=None))
    nobody = msgspec.structs.replace(nobody, node=None)
    several = delivery_of(7, bytes(16), message(0), *records)
    refused = delivery_of(8, b"8" * 16, message(0), *records, nobody)
    planned = plan([several, refused], "objects")
    own = [each for each in planned.documents if each.key]
    assert [each.deliveries for each in own] == [(0,)] * 3
    keys = [record_key(several.key, index) for index in range(3)]
    assert [each.id for each in own] == [ObjectId(key[:12]) for key in keys]
    fields = [bson.decode(each.update["$setOnInsert"].raw) for each in own]  # type: ignore[attr-defined]
    assert [each["recordIndex"] for each in fields] == [0, 1, 2]
    assert [each["messageKey"] for each in fields] == [key.hex() for key in keys]
    assert {each.deliveries for each in planned.joins} == {(0,)}
    (refusal,) = planned.refusals
    assert refusal.index == 1 and refusal.reason.startswith("record 4 of 4: ")


def test_an_id_is_as_old_as_its_record() -> None:
    assert document_id(delivery(message(0), 9).key).generation_time.timestamp() == MORNING + 9


def test_a_clip_is_embedded_or_named() -> None:
    message_with_clip = message(4)
    embedded = own_document(message_with_clip)["audioClip"]
    assert embedded == json.loads(message_with_clip.payload)["audioClip"]
    named = clips.reference("s3://a", record_of(message_with_clip))
    assert own_document(message_with_clip, clip_place="s3://a")["audioClip"] == named
    recorded = own_document(message(1), clip_place="s3://a")
    named = clips.reference("s3://a", record_of(message(1)))
    assert (recorded["collection"], recorded["audioClip"]) == ("audio_uploads", named)
    assert recorded["size_bytes"] == len(clip(1))
    assert own_document(message(3))["animalId"] == "sow 3"


def test_a_clip_that_no_document_can_hold_is_refused_by_itself() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as quarter_of_an_hour:
        quarter_of_an_hour.setparams((1, 2, 8_000, 0, "NONE", ""))
        quarter_of_an_hour.writeframes(bytes(900 * 16_000))
    long = Message("iotingestion/ridge-01/recording", file.getvalue(), MORNING * 1000, "ridge-01")
    planned = plan(
        [delivery(detection(0)), delivery(long, 1), delivery(detection(2), 2)], "objects"
    )
    (refusal,) = planned.refusals
    assert (refusal.index, refusal.code) == (1, ReasonCode.TOO_LARGE_FOR_SINK)
    assert "IOT_AUDIO=reference" in refusal.reason
    assert [each.deliveries for each in planned.documents if each.key] == [(0,), (2,)]
    named = clips.reference("s3://a", record_of(long))
    assert own_document(long, clip_place="s3://a")["audioClip"] == named


def test_species_and_nodes_are_made_as_the_hmi_makes_them_where_they_are_not_there() -> None:
    unknown = "Unknown"
    joins = plan([delivery(detection(0)), delivery(detection(0), 1)], "objects").joins
    by_collection = {write.collection: write for write in joins}
    assert len(joins) == len(by_collection) == 2
    species, node = by_collection["species"], by_collection["nodes"]
    assert (species.id, species.deliveries) == ("Litoria ewingii", (0, 1))
    assert species.update == {
        "$setOnInsert": {
            "commonName": "Litoria ewingii",
            "type": unknown,
            "status": unknown,
            "diet": unknown,
        }
    }
    assert (node.id, node.deliveries) == ("ridge-01", (0, 1))
    assert node.update == {
        "$setOnInsert": {
            "name": "ridge-01",
            "type": unknown,
            "model": unknown,
            "customProperties": {},
            "connectedNodes": [],
            "components": [],
        }
    }


def test_a_report_says_how_a_node_is_and_when_it_was_seen() -> None:
    (*_, never, older) = plan([delivery(report("a", 3, "well"))], "objects").documents
    at = datetime.fromtimestamp(MORNING, UTC) + timedelta(minutes=3)
    for write in (never, older):
        assert (write.collection, write.id) == ("nodes", "a")
        assert write.update == {
            "$set": {
                "health": {
                    "observedAt": at,
                    "journalOffset": 0,
                    "status": "well",
                    "cpuPercent": 3.0,
                },
                "lastSeen": at.isoformat(),
                "lastMessage": f"{at:%Y-%m-%dT%H:%M:%SZ} well, cpu 3 %",
            }
        }
    assert never.condition == {"health.observedAt": {"$exists": False}}
    assert older.condition["$or"][0] == {"health.observedAt": {"$lt": at}}  # type: ignore[index]


def test_what_was_not_believed_is_in_each_document() -> None:
    batch = deliveries(500)
    assert problems(batch) == EVERY_PROBLEM
    for each in batch:
        record = each.records[0]
        own = [write for write in plan([each], "objects").documents if write.key]
        clip_of = clips.clip_of(record)
        no_animal = isinstance(record, Detection) and record.observation_type != "animal"
        if isinstance(record, Telemetry) or (no_animal and clip_of is None):
            assert not own
            continue
        (write,) = own
        fields = bson.decode(write.update["$setOnInsert"].raw)  # type: ignore[attr-defined]
        problem = record.time_problem
        assert fields.get("timeSource", "device") == record.time_source
        assert fields.get("timeProblem") == (None if problem is None else problem.value)
        assert fields.get("deviceTime") == record.device_time
        assert fields.get("clipProblem") == (clip_of and clip_of.problem and clip_of.problem.value)
        if isinstance(record, Detection):
            assert write.collection == ("audio_uploads" if no_animal else "events")
            assert fields.get("observationType", "animal") == record.observation_type
            assert fields["label" if no_animal else "species"] == record.species
            assert ("endTimestamp" in fields) is (record.ends_at is not None)
            if record.ends_at is not None:
                ends_at = fields["endTimestamp"].replace(tzinfo=UTC)
                assert abs(ends_at - record.ends_at) < timedelta(milliseconds=1)
            said = [fields.get(name) for name in ("commonName", "lowHz", "highHz")]
            assert said == [record.common_name, record.low_hz, record.high_hz]


def test_a_measurement_is_a_document_of_its_own_and_its_node_is_known() -> None:
    nowhere = measurement(0, place=None, name="frames_count", unit=None)
    several = delivery_of(7, bytes(16), message(0), measurement(0), nowhere)
    planned = plan([several], "objects")
    assert [(each.collection, each.id) for each in planned.joins] == [("nodes", "ridge-01")]
    assert [each.collection for each in planned.documents] == ["measurements"] * 2 + ["nodes"]
    first, second = (
        bson.decode(each.update["$setOnInsert"].raw)  # type: ignore[attr-defined]
        for each in planned.documents[:2]
    )
    assert first == {
        "timestamp": datetime.fromtimestamp(MORNING, UTC).replace(tzinfo=None),
        "sensorId": "ridge-01",
        "name": "leq_db",
        "value": -41.25,
        "unit": "dB",
        "microphoneLLA": dict(zip(("latitude", "longitude", "altitude"), PLACE, strict=True)),
        "recordIndex": 0,
        "messageKey": bytes(16).hex(),
    }
    assert (second["name"], second["unit"]) == ("frames_count", None)
    assert "microphoneLLA" not in second
    arrays = plan([several], "arrays").documents[0].update["$setOnInsert"]
    assert bson.decode(arrays.raw)["microphoneLLA"] == PLACE  # type: ignore[attr-defined]


def test_no_label_that_names_no_animal_becomes_an_event_or_a_species() -> None:
    batch = deliveries(500)
    animals = {
        each.records[0].species
        for each in batch
        if isinstance(each.records[0], Movement)
        or (isinstance(each.records[0], Detection) and each.records[0].observation_type == "animal")
    }
    planned = plan(batch, "arrays")
    assert planned.refusals == []
    assert {write.id for write in planned.joins if write.collection == "species"} == animals
    named = {
        bson.decode(write.update["$setOnInsert"].raw)["species"]  # type: ignore[attr-defined]
        for write in planned.documents
        if write.collection == "events"
    }
    assert named < animals


def test_health_says_whether_it_is_on_mains_and_whether_its_clock_is_believed() -> None:
    plain = delivery(report("a", 3, "well"))
    assert isinstance(plain.records[0], Telemetry)
    record = msgspec.structs.replace(
        plain.records[0],
        health=Health(battery_percent=100.0, external_power=True),
        time_source="received",
        time_problem=TimeProblem.CLOCK_NOT_SET,
        device_time="2000-01-01T00:00:05Z",
    )
    (*_, write) = plan([msgspec.structs.replace(plain, records=(record,))], "objects").documents
    fields = dict(write.update)["$set"]
    assert isinstance(fields, dict)
    assert fields["health"]["externalPower"] is True
    assert fields["health"]["timeProblem"] == "clock_not_set"
    assert fields["health"]["deviceTime"] == "2000-01-01T00:00:05Z"
    assert fields["lastMessage"].endswith(
        " alive, battery 100 %, external power, its clock says 2000-01-01T00:00:05Z (clock_not_set)"
    )


def test_of_reports_in_one_batch_the_newest_counts() -> None:
    batch = [delivery(report("a", minute, f"{minute}"), n) for n, minute in enumerate((3, 9, 6))]
    for write in plan(batch, "objects").documents:
        assert write.deliveries == (0, 1, 2)
        assert dict(write.update)["$set"]["health"]["status"] == "9"  # type: ignore[index]


def test_what_bson_cannot_hold_is_refused() -> None:
    """No form of message can contain it today."""
    plain = delivery(detection(0))
    wide = msgspec.structs.replace(plain.records[0], sample_rate_hz=2**63)
    (refusal,) = plan([msgspec.structs.replace(plain, records=(wide,)), plain], "objects").refusals
    assert (refusal.index, refusal.code) == (0, ReasonCode.NOT_SUPPORTED_BY_SINK)
    assert "8-byte ints" in refusal.reason


def test_a_movement_with_nan_is_refused_as_the_api_would_store_and_not_answer_it() -> None:
    moved = Movement(
        form="movement",
        observed_at=datetime.fromtimestamp(MORNING, UTC),
        time_source="device",
        species="Sus scrofa",
        species_as_sent="Sus Scrofa",
        animal_id="0b0c3a52",
        animal_place=Place(-38.7712, 143.5021),
    )
    nowhere = msgspec.structs.replace(moved, animal_place=Place(-38.7712, 143.5021, math.nan))
    plain = delivery(detection(0))
    batch = [msgspec.structs.replace(plain, records=(each,)) for each in (moved, nowhere)]
    planned = plan(batch, "objects")
    (refusal,) = planned.refusals
    assert {each.id for each in planned.joins if each.collection == "species"} == {"Sus Scrofa"}
    assert (refusal.index, refusal.code) == (1, ReasonCode.NOT_SUPPORTED_BY_SINK)
    assert "NaN" in refusal.reason


# ---------------------------------------------------------------------- in which words it fails


def bulk(*errors: dict[str, Any], majority: bool = True) -> dict[str, Any]:
    missing = [] if majority else [{"code": 64, "errmsg": "waiting for replication timed out"}]
    return {"writeErrors": list(errors), "writeConcernErrors": missing}


def test_errors_of_single_writes_are_those_records_own() -> None:
    invalid = {"index": 3, "code": 121, "errmsg": "Document failed validation",
               "errInfo": {"details": {"operatorName": "$jsonSchema"}}}  # fmt: skip
    assert server_errors.refusals(bulk(invalid)) == {
        3: 'MongoDB refused it (121): Document failed validation {"operatorName":"$jsonSchema"}'
    }


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (10107, Cause.NO_PRIMARY),
        (189, Cause.NO_PRIMARY),
        (91, Cause.NO_PRIMARY),
        (11602, Cause.NO_PRIMARY),
        (14031, Cause.DISK_FULL),
        (13, Cause.CREDENTIALS),
        (112, Cause.OVERLOADED),
        (89, Cause.UNREACHABLE),
        (73, Cause.MISCONFIGURED),
    ],
)
def test_what_is_true_of_the_world_parks_nothing(code: int, cause: Cause) -> None:
    own = {"index": 0, "code": 121, "errmsg": "Document failed validation"}
    with pytest.raises(Unavailable) as raised:
        server_errors.refusals(bulk(own, {"index": 1, "code": code, "errmsg": "no"}))
    assert raised.value.cause == cause


def test_what_no_majority_has_is_not_delivered() -> None:
    with pytest.raises(Unavailable, match="majority"):
        server_errors.refusals(bulk(majority=False))


@pytest.mark.parametrize(
    ("error", "remedy", "cause"),
    [
        (
            ServerSelectionTimeoutError("db:27017: refused, Timeout: 30s"),
            "IOT_MONGODB_URL",
            Cause.UNREACHABLE,
        ),
        (
            NotPrimaryError("not primary", {"code": 10107}),
            "goes on once there is one",
            Cause.NO_PRIMARY,
        ),
        (NetworkTimeout("db:27017: timed out"), "does not answer in time", Cause.NO_ANSWER),
        (TimeoutError(), "does not answer in time", Cause.NO_ANSWER),
        (AutoReconnect("connection closed"), "by itself", Cause.UNREACHABLE),
        (WTimeoutError("waiting", 64), "majority", Cause.NO_PRIMARY),
        (OperationFailure("Authentication failed.", 18), "authSource", Cause.CREDENTIALS),
        (
            OperationFailure("not authorized on EchoNet", 13),
            "let the account find, insert",
            Cause.CREDENTIALS,
        ),
        (
            OperationFailure("you are over your space quota", 8000),
            "forbids it: change that there",
            Cause.CREDENTIALS,
        ),
        (OperationFailure("something", 4711), "look into the server's log", Cause.ANSWERS_ERRORS),
        (ConfigurationError("the DNS has no such name"), "IOT_MONGODB_URL", Cause.MISCONFIGURED),
        (PyMongoError("something else"), "look into the server's log", Cause.ANSWERS_ERRORS),
        *(
            (OperationFailure("x", code), "): the service goes on by itself", Cause.UNREACHABLE)
            for code in (6, 7, 89, 9001)
        ),
        *(
            (OperationFailure("x", code), "): the service goes on by itself", Cause.OVERLOADED)
            for code in (112, 262)
        ),
        *(
            (OperationFailure("x", code), "once there is one", Cause.NO_PRIMARY)
            for code in (91, 189, 10058, 11600, 11602, 13435, 13436)
        ),
        *(
            (OperationFailure("x", code), "a majority has not confirmed", Cause.NO_PRIMARY)
            for code in (64, 100)
        ),
        (OperationFailure("x", 50), "look what else it does", Cause.OVERLOADED),
        (OperationFailure("x", 73), "to a database whose name it takes", Cause.MISCONFIGURED),
        (OperationFailure("x", 79), "to a server that knows w: majority", Cause.MISCONFIGURED),
        (OperationFailure("x", 13297), "in the case in which it was created", Cause.MISCONFIGURED),
        (OperationFailure("x", 14031), "its disk is full: make room", Cause.DISK_FULL),
    ],
)
def test_each_error_has_its_remedy_and_its_cause(
    error: PyMongoError | TimeoutError, remedy: str, cause: Cause
) -> None:
    unavailable = server_errors.unavailable(error, "echo@db.example.org/EchoNet")
    assert remedy in str(unavailable)
    assert "\n" not in str(unavailable)
    assert unavailable.cause == cause


# ---------------------------------------------------------------------- a real server


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    number = free_port()
    server = mongodb.server(tmp_path_factory.mktemp("mongodb"), number)
    if mongodb.GIVEN_URL is None:
        server.start()
    yield number
    server.kill()


@pytest.fixture
async def database(port: int) -> AsyncIterator[Database]:
    """Return an empty database without validation rules."""
    async with AsyncMongoClient[dict[str, Any]](mongodb.url(port)) as client:
        database = client.get_default_database()
        yield database
        for name in COLLECTIONS:
            await database.drop_collection(name)


@pytest.fixture
async def sink(port: int, database: Database) -> AsyncIterator[MongoDb]:
    sink = MongoDb(mongodb.url(port), "objects", PATIENCE_SECONDS)
    yield sink
    await sink.close()


async def documents(database: Database, collection: str) -> list[dict[str, Any]]:
    return [each async for each in database[collection].find().sort("_id", 1)]


class Commands(monitoring.CommandListener):
    """What clients have sent since this was made, as the server gets it."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        monitoring.register(self)

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.sent.append(event.command)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


@pytest.mark.slow
async def test_each_write_asks_for_the_disks_of_a_majority(database: Database, port: int) -> None:
    commands = Commands()
    sink = MongoDb(mongodb.url(port), "objects", PATIENCE_SECONDS)
    await sink.write([delivery(message(number), number) for number in range(10)])
    await sink.close()
    writes = [each for each in commands.sent if "update" in each]
    assert {each["update"] for each in writes} >= {"events", "species", "nodes"}
    for each in writes:
        assert (each["writeConcern"]["w"], each["writeConcern"]["j"]) == ("majority", True)


@pytest.mark.slow
async def test_what_the_hmi_changed_stays_changed(sink: MongoDb, database: Database) -> None:
    batch = [delivery(message(number), number) for number in range(10)]
    batch.append(delivery_of(10, (10).to_bytes(16), message(10), measurement(10)))
    assert await sink.write(batch) == Written(11)
    await database["events"].update_one({"sensorId": "ridge-01"}, {"$set": {"species": "Crinia"}})
    await database["species"].update_one({}, {"$set": {"commonName": "Brown tree frog"}})
    await database["nodes"].update_one({"_id": "ridge-01"}, {"$set": {"name": "Ridge, north"}})
    before = {name: await documents(database, name) for name in COLLECTIONS}
    assert all(before.values())
    assert await sink.write(batch) == Written(11)
    assert {name: await documents(database, name) for name in COLLECTIONS} == before


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_health_never_goes_back(sink: MongoDb, database: Database, seed: int) -> None:
    """Whatever comes late, twice, or cut into batches anywhere: the newest of each is there."""
    rng = random.Random(seed)
    await database["nodes"].insert_one({"_id": "a", "name": "Node Alpha", "registered": True})
    minutes = [*range(8), *range(8)]
    rng.shuffle(minutes)
    reports = [
        delivery(report(node, minute, f"{node} {minute}"), number)
        for number, (node, minute) in enumerate((n, m) for m in minutes for n in "abc")
    ]
    while reports:
        size = rng.randint(1, 7)
        assert (await sink.write(reports[:size])).refusals == ()
        del reports[:size]
    nodes = await documents(database, "nodes")
    assert [node["health"]["status"] for node in nodes] == ["a 7", "b 7", "c 7"]
    last = datetime.fromtimestamp(MORNING, UTC) + timedelta(minutes=7)
    assert {node["lastSeen"] for node in nodes} == {last.isoformat()}
    assert all(node["lastMessage"].endswith("7, cpu 3 %") for node in nodes)
    assert [nodes[0]["name"], nodes[0]["registered"]] == ["Node Alpha", True]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 7])
async def test_a_leap_of_our_own_clock_does_not_keep_old_health(
    sink: MongoDb, database: Database, size: int
) -> None:
    """While it is in 2036, a report without a time says 2036; the next true one replaces it."""
    start = datetime.fromtimestamp(MORNING, UTC)
    leap = datetime(2036, 2, 7, 6, 28, tzinfo=UTC)
    times = [start, start + timedelta(minutes=1), leap, leap + timedelta(minutes=1)]
    times += [start + timedelta(minutes=minute) for minute in (2, 3)]
    batch = []
    for number, at in enumerate(times):
        arrived = json_message("a", {"nodeId": "a", "status": f"{number}"})
        arrived = msgspec.structs.replace(arrived, received_at_ms=int(at.timestamp() * 1000))
        batch.append(delivery(arrived, number))
    for first in range(0, len(batch), size):
        assert (await sink.write(batch[first : first + size])).refusals == ()
    for repeated in (batch, batch[:2], batch[4:5]):
        (node,) = await documents(database, "nodes")
        assert (node["health"]["status"], node["lastSeen"]) == ("5", times[5].isoformat())
        assert (await sink.write(repeated)).refusals == ()


@pytest.mark.slow
async def test_a_node_is_where_it_was_first_said_to_be(sink: MongoDb, database: Database) -> None:
    """Also if it was made by a message without a place; but not if somebody said so himself."""
    await database["nodes"].insert_one({"_id": "ridge-02", "location": {"latitude": 1.0}})
    await sink.write([delivery(report("ridge-01", 0, "online"))])
    batch = [detection(0), detection(3, microphoneLLA=[1, 2, 3]), detection(1)]
    for number, arrived in enumerate(batch, 1):
        assert (await sink.write([delivery(arrived, number)])).refusals == ()
    assert {node["_id"]: node["location"] for node in await documents(database, "nodes")} == {
        "ridge-01": {"latitude": PLACE[0], "longitude": PLACE[1]},
        "ridge-02": {"latitude": 1.0},
    }


@pytest.mark.slow
async def test_an_id_that_somebody_else_has_is_refused_in_words(
    sink: MongoDb, database: Database
) -> None:
    batch = [delivery(detection(number), number) for number in range(3)]
    await database["events"].insert_one({"_id": document_id(batch[1].key), "species": "Mine"})
    (refusal,) = (await sink.write(batch)).refusals
    assert (refusal.index, refusal.code) == (1, ReasonCode.NAME_TAKEN_AT_SINK)
    assert "another document" in refusal.reason
    assert {each["species"] for each in await documents(database, "events")} == {
        "Mine",
        "Litoria ewingii",
    }


def query() -> list[dict[str, Any]]:
    """Return the pipeline that docs/mongodb.md shows."""
    typed = re.search(r"db\.events\.aggregate\((\[.*?\n\])\)", PAPER.read_text(), re.DOTALL)
    assert typed is not None
    dates = re.sub(r'ISODate\(("[^"]+")\)', r'{"$date": \1}', typed[1])
    pipeline: list[dict[str, Any]] = json_util.loads(
        re.sub(r"([{,]\s*)([\w$]+):", r'\1"\2":', dates)
    )
    return pipeline


@pytest.mark.slow
def test_check_says_if_it_is_there_and_that_it_may_be_the_apis_own(
    tmp_path: Path, port: int
) -> None:
    harness = Harness(tmp_path / "data", IOT_MONGODB_URL=mongodb.url(port))
    harness.settings["IOT_API_URL"] = f"http://127.0.0.1:{free_port()}"
    shown = harness.cli("check").stdout
    assert re.search(r"✓ MongoDB +\S+/echo_ingest_test answers", shown), shown
    assert re.search(r"– MongoDB +IOT_API_URL is set too: .*twice; leave one", shown), shown


@pytest.mark.slow
@needs_mongodb
async def test_the_papers_question_is_answered(sink: MongoDb, database: Database) -> None:
    night = [
        ("2026-11-18T10:05:00Z", "ridge-01", "Litoria ewingii", 91.2),
        ("2026-11-18T12:40:00Z", "ridge-01", "Litoria ewingii", 63.64),
        ("2026-11-18T13:10:00Z", "creek-03", "Crinia signifera", 88.0),
        ("2026-11-18T13:11:00Z", "creek-03", "Dacelo novaeguineae", 97.0),
        ("2026-11-19T02:00:00Z", "creek-03", "Crinia signifera", 99.0),
    ]
    await database["species"].insert_many(
        [
            {"_id": "Litoria ewingii", "commonName": "Brown tree frog", "type": "Frog"},
            {"_id": "Crinia signifera", "commonName": "Common froglet", "type": "Amphibian"},
            {"_id": "Dacelo novaeguineae", "commonName": "Kookaburra", "type": "Bird"},
        ]
    )
    batch = []
    for number, (at, node, name, percent) in enumerate(night):
        arrived = detection(number, timestamp=at, sensorId=node, species=name, confidence=percent)
        next_day_ms = (MORNING + 86_400) * 1000
        batch.append(delivery(msgspec.structs.replace(arrived, received_at_ms=next_day_ms), number))
    clockless = detection(90, timestamp=None, sensorId="creek-03", species="Crinia signifera")
    batch.append(delivery(clockless, 90))
    assert (await sink.write(batch)).refusals == ()
    answer = [each async for each in await database["events"].aggregate(query())]
    assert [(a["species"], a["node"], a["calls"], a["surest"], a["typical"]) for a in answer] == [
        ("Brown tree frog", "ridge-01", 2, 91.2, 77.4),
        ("Common froglet", "creek-03", 1, 88.0, 88.0),
    ]


@pytest.mark.slow
@needs_mongodb
async def test_dates_are_dates_and_ids_are_what_the_hmi_looks_up(
    sink: MongoDb, database: Database
) -> None:
    await sink.write([delivery(message(number), number) for number in range(5)])
    for name in ("events", "movements", "audio_uploads"):
        for each in await documents(database, name):
            assert isinstance(each["timestamp"], datetime)
            assert await database[name].count_documents({"_id": ObjectId(str(each["_id"]))}) == 1
    (node,) = [each for each in await documents(database, "nodes") if "health" in each]
    assert isinstance(node["health"]["observedAt"], datetime)
    assert isinstance(node["lastSeen"], str)  # as the API writes it and reads it again


@pytest.mark.slow
@needs_mongodb
async def test_what_the_stores_own_rules_refuse_is_parked_one_by_one(
    sink: MongoDb, database: Database
) -> None:
    rule = {"$jsonSchema": {"properties": {"confidence": {"maximum": 99}}}}
    await database.create_collection("events", validator=rule)
    batch = [delivery(detection(n, confidence=99.5 if n % 5 == 2 else 50), n) for n in range(10)]
    written = await sink.write(batch)
    assert [refusal.index for refusal in written.refusals] == [2, 7]
    assert all("121" in r.reason and "validation" in r.reason for r in written.refusals)
    assert len(await documents(database, "events")) == 8


@pytest.mark.slow
@needs_faults
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"errorCode": 10107}, "primary"),
        ({"errorCode": 91}, "primary"),
        ({"errorCode": 262}, "by itself"),
        ({"errorCode": 13}, "let the account find, insert and update"),
        ({"errorCode": 8000}, "forbids it"),
        ({"closeConnection": True}, "closed the connection"),
        ({"writeConcernError": {"code": 64, "errmsg": "no majority"}}, "majority"),
        ({"writeConcernError": {"code": 91, "errmsg": "shutting down"}}, "primary"),
    ],
    ids=lambda value: re.sub(r"\W+", "-", str(value)) if isinstance(value, dict) else None,
)
async def test_while_the_server_ails_nothing_is_parked_and_afterwards_all_is_there_once(
    sink: MongoDb, database: Database, fault: dict[str, Any], words: str
) -> None:
    batch = [delivery(message(number), number) for number in range(10)]
    await ail(database, {"failCommands": ["update"], **fault})
    try:
        with pytest.raises(Unavailable, match=words):
            await sink.write(batch)
    finally:
        await ail(database, None)
    assert await sink.write(batch) == Written(10)
    assert len(await documents(database, "events")) == 4


@pytest.mark.slow
@needs_faults
async def test_a_primary_that_steps_down_in_the_middle(
    sink: MongoDb, database: Database, port: int
) -> None:
    batch = [delivery(detection(number), number) for number in range(10)]
    assert await sink.write(batch[:5]) == Written(5)
    await database.client.admin.command("replSetStepDown", 2, force=True)
    with pytest.raises(Unavailable, match="primary"):
        await sink.write(batch)
    async with asyncio.timeout(15):
        while True:
            try:
                assert await sink.write(batch) == Written(10)
                break
            except Unavailable:
                await asyncio.sleep(0.05)
    assert len(await documents(database, "events")) == 10


@pytest.mark.slow
@needs_faults
async def test_the_least_account_is_enough_and_a_wrong_one_is_said_in_words(tmp_path: Path) -> None:
    """The least account of docs/mongodb.md is enough; the error names what a lesser one lacks."""
    number = free_port()
    open_to_all, server = (
        mongodb.server(tmp_path, number),
        mongodb.server(tmp_path, number, "--auth"),
    )
    try:
        open_to_all.start()
        with MongoClient[dict[str, Any]](mongodb.url(number)) as client:
            admin = client[mongodb.DATABASE]
            admin.command("createRole", "echoIngest", privileges=least(), roles=[])
            for user, roles in (("echo", ["echoIngest"]), ("reader", ["read"])):
                admin.command("createUser", user, pwd="hunter2", roles=roles)
        open_to_all.stop()
        server.start()
        for login, words in (
            ("echo:wrong", "account that this server lets in"),
            ("reader:hunter2", "let the account find, insert and update"),
        ):
            sink = MongoDb(mongodb.url(number).replace("//", f"//{login}@"), "objects", 2)
            for call in (sink.probe(), sink.write([delivery(detection(0))])):
                with pytest.raises(Unavailable, match=words) as error:
                    await call
                assert "hunter2" not in str(error.value)
                assert "wrong" not in str(error.value)
            await sink.close()
        sink = MongoDb(mongodb.url(number).replace("//", "//echo:hunter2@"), "objects", 2)
        await sink.probe()
        assert await sink.write([delivery(message(n), n) for n in range(10)]) == Written(10)
        await sink.close()
    finally:
        open_to_all.kill()
        server.kill()


def least() -> list[dict[str, Any]]:
    """Return the privileges that docs/mongodb.md tells people to grant."""
    typed = re.search(r"privileges: (\[.*?\]),\n  roles", PAPER.read_text(), re.DOTALL)
    assert typed is not None
    text = re.sub(r"([{,]\s*)(\w+):", r'\1"\2":', typed[1]).replace("EchoNet", mongodb.DATABASE)
    privileges: list[dict[str, Any]] = json.loads(text)
    return privileges


async def ail(database: Database, data: dict[str, Any] | None) -> None:
    """Have the server fail every command named in `data`, until told otherwise."""
    on = {"mode": "alwaysOn", "data": data} if data else {"mode": "off"}
    await database.client.admin.command({"configureFailPoint": "failCommand", **on})
