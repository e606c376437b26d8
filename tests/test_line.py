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
ACCEPTED = (
    *("01", "02", "03", "05", "07", "08", "09", "10", "13", "15", "16", "17", "19", "20", "21"),
    *("30", "31", "32", "33", "34", "35", "40", "41", "43", "44", "45"),
)


@pytest.fixture
def harness(tmp_path: Path, mosquitto: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data", mosquitto=mosquitto)
    yield harness
    harness.close()


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


def stored_numbers(harness: Harness) -> list[int]:
    """Return the `number` field of every stored payload, in journal order."""
    db = apsw.Connection(str(harness.data_dir / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    rows = db.execute("SELECT payload ->> 'number' FROM record ORDER BY offset").fetchall()
    return [int(str(number)) for (number,) in rows]


@pytest.mark.skipif(not PAYLOADS.exists(), reason="needs the contract's example payloads")
@pytest.mark.parametrize("over", ["tcp", "ws"])
def test_every_example_payload_becomes_a_record_or_a_dead_letter_with_a_reason(
    harness: Harness, over: str
) -> None:
    harness.up()
    examples = sorted(p for p in PAYLOADS.iterdir() if p.name != "manifest.json")
    device = Device(harness.ws_port if over == "ws" else harness.mqtt_port, websocket=over == "ws")
    device.publish([(PREFIX, path.read_bytes()) for path in examples])
    eventually(lambda: harness.ledger_now()["received"] == len(examples))
    stored = {record["form"] for record in harness.records()}
    ledger = harness.ledger()
    assert ledger["stored"] + ledger["duplicates"] == len(ACCEPTED)
    assert {"edge-prediction", "detection", "movement", "sensor-health", "node-status"} <= stored
    assert {"acoupi-detection", "birdnet-go-detection", "birdnet-pi-line"} <= stored
    listing = harness.cli("dead-letters", "list")
    assert listing.returncode == 0


def test_strangers_are_refused_and_each_account_may_only_do_its_own(harness: Harness) -> None:
    harness.up()
    assert Device(harness.mqtt_port, None).refused
    assert Device(harness.mqtt_port, "echopub", "wrong").refused
    publisher, listener = Device(harness.mqtt_port), Device(harness.mqtt_port)
    reader = Device(harness.mqtt_port, "echosub", SUB_PASSWORD)
    writer = Device(harness.mqtt_port, "echosub", SUB_PASSWORD)
    for device in (listener, reader):
        assert not device.refused
        device.subscribe("#")
    with pytest.raises((AssertionError, ConnectionError)):
        writer.publish([detection(1)])  # MQTT 5 is told: not authorized
    publisher.publish([detection(2)])
    assert reader.received_topics(1.0) == [detection(2)[0]]
    assert listener.received_topics(1.0) == []
    eventually(lambda: harness.ledger_now()["stored"] == 1)


def test_sigkill_in_the_middle_three_times_loses_nothing(harness: Harness) -> None:
    total = 100_000
    broker = harness.start("broker")
    ingest = harness.start("run")
    harness.wait_healthy(ingest)
    reached = {share: threading.Event() for share in (15_000, 40_000, 70_000)}

    def on_acknowledged(count: int) -> None:
        if count in reached:
            reached[count].set()

    device = Device(harness.mqtt_port)
    messages = [detection(n) for n in range(total)]
    sending = threading.Thread(
        target=device.publish, args=(messages,), kwargs={"on_acknowledged": on_acknowledged}
    )
    sending.start()
    for event in reached.values():
        assert event.wait(120)
        harness.kill(ingest)
        ingest = harness.start("run")
    sending.join(120)
    assert not sending.is_alive()
    eventually(lambda: harness.ledger_now()["stored"] == total, seconds=60)
    numbers = stored_numbers(harness)
    assert sorted(numbers) == list(range(total))
    harness.stop(ingest)
    harness.stop(broker)


def test_an_orderly_stop_under_load_loses_nothing(harness: Harness) -> None:
    total = 20_000
    program = harness.up()
    acknowledged = threading.Event()
    progress = [0]

    def on_acknowledged(count: int) -> None:
        progress[0] = count
        if count == 5_000:
            acknowledged.set()

    def send() -> None:
        try:
            Device(harness.mqtt_port).publish(
                [detection(n) for n in range(total)], on_acknowledged=on_acknowledged
            )
        except ConnectionError:
            return  # the broker was stopped under it: what is not acknowledged does not count

    sending = threading.Thread(target=send)
    sending.start()
    assert acknowledged.wait(60)
    assert harness.stop(program) == 0
    sending.join(30)
    harness.up()
    eventually(lambda: set(range(progress[0])) <= set(stored_numbers(harness)))
    numbers = stored_numbers(harness)
    assert len(numbers) == len(set(numbers))
    harness.ledger()


def test_health_follows_the_broker_that_stands_still(harness: Harness) -> None:
    program = harness.up()
    mosquitto = harness.broker_pid(program)
    os.kill(mosquitto, signal.SIGSTOP)
    try:
        eventually(lambda: "echo" in harness.http("/healthz")[1].get("problems", {}), seconds=15)
        assert harness.http("/healthz")[0] == 503
    finally:
        os.kill(mosquitto, signal.SIGCONT)
    eventually(lambda: harness.http("/healthz")[0] == 200, seconds=15)
    assert harness.http("/livez")[0] == 200


def test_health_follows_a_broker_that_is_gone_and_comes_back(harness: Harness) -> None:
    broker, ingest = harness.start("broker"), harness.start("run")
    harness.wait_healthy(ingest)
    harness.stop(broker)
    eventually(lambda: harness.http("/healthz")[0] == 503, seconds=15)
    assert "broker" in harness.http("/readyz")[1]["problems"]
    harness.start("broker")
    eventually(lambda: harness.http("/healthz")[0] == 200, seconds=15)


def test_when_mosquitto_dies_up_ends_with_its_last_words(harness: Harness) -> None:
    program = harness.up()
    os.kill(harness.broker_pid(program), signal.SIGKILL)
    assert program.wait(timeout=30) == 1
    assert "mosquitto ended (" in harness.log("up")


def test_a_second_service_with_the_same_name_takes_over_and_there_is_no_war(
    harness: Harness, tmp_path: Path
) -> None:
    harness.up()
    second = Harness(tmp_path / "second", IOT_ENDPOINT=f"127.0.0.1:{harness.mqtt_port}")
    account = json.loads((harness.data_dir / "broker" / "service.json").read_text())
    second.settings |= {"IOT_USER": account["user"], "IOT_PASSWORD": account["password"]}
    # which nobody else can know
    ours = (harness.data_dir / "secrets" / "session").read_text()
    folder = second.data_dir / "secrets"
    folder.mkdir(parents=True)
    (folder / "session-echo-ingest").write_text(ours)
    try:
        other = second.start("run")
        second.wait_healthy(other)
        eventually(lambda: "taken over" in harness.log("up"))
        _, body = harness.http("/readyz")
        assert "client id" in body["problems"]["broker"]
        eventually(lambda: "echo" in harness.http("/healthz")[1]["problems"])
        assert second.http("/healthz")[0] == 200  # it was not thrown out in turn
    finally:
        second.close()


def test_the_names_of_the_earlier_deployment_keep_working(harness: Harness) -> None:
    harness.settings |= {
        "IOT_ENDPOINT": "localhost",
        "IOT_TOPIC": PREFIX,
        "IOT_USER": "echosub",
        "IOT_PASSWORD": SUB_PASSWORD,
    }
    harness.up()
    device = Device(harness.mqtt_port)
    device.publish([(PREFIX, detection(1)[1]), detection(2)])
    eventually(lambda: harness.ledger_now()["stored"] == 2)
    assert [record.get("node") for record in harness.records()] == [None, "node-2"]


def test_a_port_that_is_taken_ends_it_with_a_remedy_and_leaves_nothing_behind(
    harness: Harness,
) -> None:
    harness.up()
    harness.settings |= {
        "IOT_DATA_DIR": str(harness.data_dir.with_name("other")),
        "IOT_MQTT_PORT": str(free_port()),
        "IOT_WS_PORT": str(free_port()),
    }
    done = harness.cli("up")
    assert done.returncode == 1
    assert "IOT_HTTP_PORT" in done.stderr
    again = harness.cli("check")
    assert "not running" in again.stdout


def test_a_second_service_on_the_same_data_folder_is_refused(harness: Harness) -> None:
    harness.up()
    harness.settings["IOT_HTTP_PORT"] = str(free_port())
    done = harness.cli("run")
    assert done.returncode == 1
    assert str(harness.data_dir) in done.stderr
