"""The second half with real programs: `echo-ingest up` and the Echo API's replica."""

import base64
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import Api
from tests.house import AUDIO, Device, House, eventually

pytestmark = pytest.mark.slow

SPECIES = ("Litoria ewingii", "Crinia signifera", "Dacelo novaeguineae")


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()
    yield api
    api.stop()


@pytest.fixture
def house(tmp_path: Path, api: Api) -> Iterator[House]:
    house = House(tmp_path / "data", IOT_API_URL=api.url)
    yield house
    house.close()


def detection(number: int) -> tuple[str, bytes]:
    return "iotingestion/ridge-01", json.dumps(
        {
            "type": "prediction",
            "timestamp": str(1_795_000_000 + number),
            "sensor_id": f"n{number}",
            "species": SPECIES[number % 3],
            "confidence": 63.64,
            "gps_data": {"lat": -38.7712, "lon": 143.5021},
        }
    ).encode()


def sink(house: House) -> dict[str, Any]:
    figures: dict[str, Any] = house.ledger_now()["sinks"]["echo_api"]
    return figures


@pytest.mark.parametrize("schema", ["objects", "arrays"])
@pytest.mark.parametrize("bulk", ["true", "false"])
def test_each_record_arrives_once_also_what_came_while_the_api_was_away(
    house: House, api: Api, schema: str, bulk: str
) -> None:
    house.settings |= {"IOT_API_SCHEMA": schema, "IOT_API_BULK": bulk}
    api.start(schema=schema)
    house.up()
    device = Device(house.mqtt_port)
    device.publish([detection(n) for n in range(30)])
    eventually(lambda: len(api.numbers()) == 30)
    first = api.numbers()
    api.stop()
    device.publish([detection(n) for n in range(30, 150)])
    eventually(lambda: sink(house)["backlog"] == 120)
    assert house.http("/healthz")[0] == 200  # that an API is away does not make us unwell
    api.start(schema=schema)
    eventually(lambda: len(api.numbers()) == 120, seconds=60)
    assert first + api.numbers() == Counter(f"n{n}" for n in range(150))
    eventually(lambda: sink(house)["delivered"] == 150)


def test_what_is_refused_is_parked_with_the_apis_words_and_a_replay_delivers_it(
    house: House, api: Api
) -> None:
    api.start(refuse_species=SPECIES[1])
    house.up()
    Device(house.mqtt_port).publish([detection(n) for n in range(9)])
    eventually(lambda: sink(house)["parked"] == 3)
    eventually(lambda: sink(house)["delivered"] == 6)
    listed = house.cli("parked", "list")
    assert "species" in listed.stdout
    api.change(refuse_species="")
    replayed = house.cli("parked", "replay", "--all")
    assert replayed.returncode == 0, replayed.stderr
    eventually(lambda: sink(house)["delivered"] == 9)
    assert api.numbers() == Counter(f"n{n}" for n in range(9))


def test_a_rate_limit_is_kept_to_and_everything_arrives(house: House, api: Api) -> None:
    house.settings["IOT_API_BULK"] = "false"
    api.start(trouble=429, trouble_times=2, retry_after="4")
    house.up()
    started = time.monotonic()
    Device(house.mqtt_port).publish([detection(n) for n in range(100)])
    eventually(lambda: sink(house)["delivered"] == 100, seconds=60)
    assert time.monotonic() - started >= 8  # twice as long as it said; backoff alone: 1.5 s at most
    assert api.numbers() == Counter(f"n{n}" for n in range(100))


def test_every_kind_of_record_goes_where_the_api_wants_it(house: House, api: Api) -> None:
    api.start(nodes=["node_3"])
    house.up()
    clip = b"RIFF" + (36 + 320).to_bytes(4, "little") + b"WAVEfmt " + bytes.fromhex(
        "10000000 0100 0100 803e0000 007d0000 0200 1000"
    ) + b"data" + (320).to_bytes(4, "little") + bytes(320)  # fmt: skip
    where = [-38.77, 143.5, 1.0]
    Device(house.mqtt_port).publish(
        [
            detection(1),
            ("iotingestion/node_3", b'{"sensorId": "node_3", "status": "Online", "cpu": 3}'),
            ("iotingestion/node_4", b'{"sensorId": "node_4", "status": "Online", "cpu": 3}'),
            ("iotingestion/c", json.dumps(
                {"timestamp": "2026-08-05T01:02:03", "animalId": "7", "species": "Sus scrofa",
                 "animalTrueLLA": where}).encode()),
            ("iotingestion/ridge-01/recording", clip),
        ]
    )  # fmt: skip
    eventually(lambda: sink(house)["backlog"] == 0)
    eventually(lambda: sink(house)["delivered"] + sink(house)["parked"] == 5)
    by_collection = Counter(each["collection"] for each in api.received())
    assert by_collection["events"] == 1
    assert by_collection["movements"] == 1
    assert by_collection["audio_uploads"] == 1
    assert sink(house)["parked"] == 1  # node_4 is not registered there
    assert "register" in house.cli("parked", "list").stdout.lower()


@pytest.mark.skipif(not AUDIO.exists(), reason="needs the real recordings")
def test_real_recordings_come_out_as_they_went_in(house: House) -> None:
    del house.settings["IOT_API_URL"]
    house.up()
    device = Device(house.mqtt_port)
    recordings = sorted(p for p in AUDIO.iterdir() if p.suffix in (".wav", ".mp3"))
    whole = {p.name: p.read_bytes() for p in recordings if p.name != "empty_2c.wav"}
    for content in whole.values():
        text = base64.b64encode(content).decode()
        device.publish(
            [
                ("iotingestion/ridge-01/recording", content),
                ("iotingestion/ridge-02", json.dumps({"audio_file": text}).encode()),
            ]
        )
    device.publish([("iotingestion/ridge-01/recording", (AUDIO / "empty_2c.wav").read_bytes())])
    eventually(lambda: house.ledger_now()["received"] == 2 * len(whole) + 1)
    assert house.ledger()["dead_letters"] == 1
    wanted = Counter(hashlib.sha256(content).hexdigest() for content in whole.values())
    records = house.records()
    assert Counter(r["clip"]["sha256"] for r in records) == wanted + wanted
    for record in records:
        clip = house.http_bytes(f"/api/records/{record['offset']}/clip")
        assert hashlib.sha256(clip).hexdigest() == record["clip"]["sha256"]


def test_a_session_that_the_broker_has_forgotten_is_reported_as_a_possible_loss(
    house: House,
) -> None:
    del house.settings["IOT_API_URL"]
    house.stop(house.up())
    for state in (house.data_dir / "broker").glob("queues.db*"):
        state.unlink()
    house.up()
    assert "session lost" in house.log("up")
    assert b"echo_ingest_sessions_lost_total 1.0" in house.http_bytes("/metrics")
