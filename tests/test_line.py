"""The whole line with real programs: devices → mosquitto → journal → ack → sinks.

Every test ends with a ledger that closes (`Harness.ledger` checks it).
"""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from tests.harness import (
    PAYLOADS,
    SUB_PASSWORD,
    Device,
    Harness,
    eventually,
    free_port,
)

pytestmark = pytest.mark.slow

PREFIX = "iotingestion"
ACCEPTED = ("01", "02", "03", "05", "07", "08", "09", "10", "15", "16", "17", "19", "20", "21")


@pytest.fixture
def house(tmp_path: Path, mosquitto: Path) -> Iterator[Harness]:
    house = Harness(tmp_path / "data", mosquitto=mosquitto)
    yield house
    house.close()


def detection(number: int) -> tuple[str, bytes]:
    fields = {
        "type": "prediction",
        "timestamp": str(1_795_000_000 + number // 50),
        "sensor_id": f"node-{number % 7}",
        "species": "Litoria ewingii",
        "confidence": 63.64,
        "number": number,
    }
    return f"{PREFIX}/node-{number % 7}", json.dumps(fields).encode()


def stored_numbers(house: Harness) -> list[int]:
    """Return the `number` field of every stored payload, in journal order."""
    db = apsw.Connection(str(house.data_dir / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    rows = db.execute("SELECT payload ->> 'number' FROM record ORDER BY offset").fetchall()
    return [int(str(number)) for (number,) in rows]


@pytest.mark.skipif(not PAYLOADS.exists(), reason="needs the contract's example payloads")
@pytest.mark.parametrize("over", ["tcp", "ws"])
def test_every_example_payload_becomes_a_record_or_a_dead_letter_with_a_reason(
    house: Harness, over: str
) -> None:
    house.up()
    examples = sorted(p for p in PAYLOADS.iterdir() if p.name != "manifest.json")
    device = Device(house.ws_port if over == "ws" else house.mqtt_port, websocket=over == "ws")
    device.publish([(PREFIX, path.read_bytes()) for path in examples])
    eventually(lambda: house.ledger_now()["received"] == len(examples))
    stored = {record["form"] for record in house.records()}
    assert house.ledger()["stored"] == len(ACCEPTED)
    assert {"edge-prediction", "detection", "movement", "sensor-health", "node-status"} <= stored
    letters = house.cli("dead-letters", "list")
    assert letters.returncode == 0


def test_strangers_are_refused_and_each_account_may_only_do_its_own(house: Harness) -> None:
    house.up()
    assert Device(house.mqtt_port, None).refused
    assert Device(house.mqtt_port, "echopub", "wrong").refused
    publisher, listener = Device(house.mqtt_port), Device(house.mqtt_port)
    reader = Device(house.mqtt_port, "echosub", SUB_PASSWORD)
    writer = Device(house.mqtt_port, "echosub", SUB_PASSWORD)
    for device in (listener, reader):
        assert not device.refused
        device.subscribe("#")
    with pytest.raises((AssertionError, ConnectionError)):
        writer.publish([detection(1)])  # MQTT 5 is told: not authorized
    publisher.publish([detection(2)])
    assert reader.heard(1.0) == [detection(2)[0]]
    assert listener.heard(1.0) == []
    eventually(lambda: house.ledger_now()["stored"] == 1)


def test_sigkill_in_the_middle_three_times_loses_nothing(house: Harness) -> None:
    total = 100_000
    broker = house.start("broker")
    ingest = house.start("run")
    house.wait_healthy(ingest)
    reached = {share: threading.Event() for share in (15_000, 40_000, 70_000)}

    def on_acknowledged(count: int) -> None:
        if count in reached:
            reached[count].set()

    device = Device(house.mqtt_port)
    messages = [detection(n) for n in range(total)]
    sending = threading.Thread(
        target=device.publish, args=(messages,), kwargs={"on_acknowledged": on_acknowledged}
    )
    sending.start()
    for event in reached.values():
        assert event.wait(120)
        house.kill(ingest)
        ingest = house.start("run")
    sending.join(120)
    assert not sending.is_alive()
    eventually(lambda: house.ledger_now()["stored"] == total, seconds=60)
    numbers = stored_numbers(house)
    assert sorted(numbers) == list(range(total))
    house.stop(ingest)
    house.stop(broker)


def test_an_orderly_stop_under_load_loses_nothing(house: Harness) -> None:
    total = 20_000
    program = house.up()
    acknowledged = threading.Event()
    progress = [0]

    def on_acknowledged(count: int) -> None:
        progress[0] = count
        if count == 5_000:
            acknowledged.set()

    def send() -> None:
        try:
            Device(house.mqtt_port).publish(
                [detection(n) for n in range(total)], on_acknowledged=on_acknowledged
            )
        except ConnectionError:
            return  # the broker was stopped under it: what is not acknowledged does not count

    sending = threading.Thread(target=send)
    sending.start()
    assert acknowledged.wait(60)
    assert house.stop(program) == 0
    sending.join(30)
    house.up()
    eventually(lambda: set(range(progress[0])) <= set(stored_numbers(house)))
    numbers = stored_numbers(house)
    assert len(numbers) == len(set(numbers))
    house.ledger()


def test_health_follows_the_broker_that_stands_still(house: Harness) -> None:
    program = house.up()
    mosquitto = house.broker_pid(program)
    os.kill(mosquitto, signal.SIGSTOP)
    try:
        eventually(lambda: "echo" in house.http("/healthz")[1].get("problems", {}), seconds=15)
        assert house.http("/healthz")[0] == 503
    finally:
        os.kill(mosquitto, signal.SIGCONT)
    eventually(lambda: house.http("/healthz")[0] == 200, seconds=15)
    assert house.http("/livez")[0] == 200


def test_health_follows_a_broker_that_is_gone_and_comes_back(house: Harness) -> None:
    broker, ingest = house.start("broker"), house.start("run")
    house.wait_healthy(ingest)
    house.stop(broker)
    eventually(lambda: house.http("/healthz")[0] == 503, seconds=15)
    assert "broker" in house.http("/readyz")[1]["problems"]
    house.start("broker")
    eventually(lambda: house.http("/healthz")[0] == 200, seconds=15)


def test_when_mosquitto_dies_up_ends_with_its_last_words(house: Harness) -> None:
    program = house.up()
    os.kill(house.broker_pid(program), signal.SIGKILL)
    assert program.wait(timeout=30) == 1
    assert "mosquitto ended (" in house.log("up")


def test_a_second_service_with_the_same_name_takes_over_and_there_is_no_war(
    house: Harness, tmp_path: Path
) -> None:
    house.up()
    second = Harness(tmp_path / "second", IOT_ENDPOINT=f"127.0.0.1:{house.mqtt_port}")
    account = json.loads((house.data_dir / "broker" / "service.json").read_text())
    second.settings |= {"IOT_USER": account["user"], "IOT_PASSWORD": account["password"]}
    # which nobody else can know
    ours = (house.data_dir / "secrets" / "session").read_text().strip()
    second.settings["IOT_CLIENT_ID"] = f"echo-ingest-{ours}"
    try:
        other = second.start("run")
        second.wait_healthy(other)
        eventually(lambda: "taken over" in house.log("up"))
        _, body = house.http("/readyz")
        assert "client id" in body["problems"]["broker"]
        eventually(lambda: "echo" in house.http("/healthz")[1]["problems"])
        assert second.http("/healthz")[0] == 200  # it was not thrown out in turn
    finally:
        second.close()


def test_the_names_of_the_earlier_deployment_keep_working(house: Harness) -> None:
    house.settings |= {
        "IOT_ENDPOINT": "localhost",
        "IOT_TOPIC": PREFIX,
        "IOT_USER": "echosub",
        "IOT_PASSWORD": SUB_PASSWORD,
    }
    house.up()
    device = Device(house.mqtt_port)
    device.publish([(PREFIX, detection(1)[1]), detection(2)])
    eventually(lambda: house.ledger_now()["stored"] == 2)
    assert [record.get("node") for record in house.records()] == [None, "node-2"]


def test_a_port_that_is_taken_ends_it_with_a_remedy_and_leaves_nothing_behind(
    house: Harness,
) -> None:
    house.up()
    house.settings |= {
        "IOT_DATA_DIR": str(house.data_dir.with_name("other")),
        "IOT_MQTT_PORT": str(free_port()),
        "IOT_WS_PORT": str(free_port()),
    }
    done = house.cli("up")
    assert done.returncode == 1
    assert "IOT_HTTP_PORT" in done.stderr
    again = house.cli("check")
    assert "not running" in again.stdout


def test_a_second_service_on_the_same_data_folder_is_refused(house: Harness) -> None:
    house.up()
    house.settings["IOT_HTTP_PORT"] = str(free_port())
    done = house.cli("run")
    assert done.returncode == 1
    assert str(house.data_dir) in done.stderr
