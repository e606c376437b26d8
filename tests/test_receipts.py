"""Receipts: who gets one, what it says, and that it never comes before the commit."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import mqtt5
import pytest

from echo_ingest.decode import Decoder
from echo_ingest.pipeline.receipts import receipt
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import DeadLetter, Duplicate, Ignored, Message, Outcome, Rejected, Stored
from tests.harness import Device, Harness, eventually
from tests.test_access import make_node

NODE = "ridge-07"
STORED = Stored(41)
STATUS = b'{"status": "online", "id": "m1"}'


def answer(message: Message, outcome: Outcome = STORED) -> mqtt5.PublishPacket | None:
    packet = receipt(message, Decoder(10_000).identify(message), outcome)
    if packet is None:
        return None
    read, _ = mqtt5.read(memoryview(packet))
    assert isinstance(read, mqtt5.PublishPacket)
    return read


def asking(response_topic: str | None, payload: bytes = STATUS) -> Message:
    return Message(f"iotingestion/{NODE}", payload, 0, NODE, (), False, response_topic, b"\x00\x07")


@pytest.mark.parametrize("topic", [f"iotreceipts/{NODE}", f"iotreceipts/{NODE}/a/b"])
def test_a_device_gets_its_receipt_where_it_asked_with_its_correlation_data(topic: str) -> None:
    packet = answer(asking(topic))
    assert packet is not None
    assert packet.topic == topic
    assert packet.correlation_data == b"\x00\x07"
    assert json.loads(packet.payload) == {"outcome": "stored", "id": "m1", "offset": 41}


@pytest.mark.parametrize(
    "topic",
    [
        "iotreceipts/other",
        f"iotreceipts/{NODE}2",
        "iotreceipts",
        f"iotingestion/{NODE}",
        "$SYS/x",
        f"iotreceipts/{NODE}/#",
        f"iotreceipts/{NODE}/+",
        f"iotreceipts/{NODE}{'/a' * 200}",
        "",
    ],
)
def test_nothing_is_published_where_the_device_has_no_business(topic: str) -> None:
    assert answer(asking(topic)) is None


@pytest.mark.parametrize(("size_bytes", "is_answered"), [(65_535, True), (65_536, False)])
def test_the_longest_topic_of_mqtt_still_gets_its_receipt(
    size_bytes: int, is_answered: bool
) -> None:
    topic = f"iotreceipts/{NODE}/".ljust(size_bytes, "x")
    assert (answer(asking(topic)) is not None) == is_answered


def test_a_device_on_mqtt_3_asks_by_an_id_in_its_json() -> None:
    packet = answer(asking(None), Duplicate(7))
    assert packet is not None
    assert packet.topic == f"iotreceipts/{NODE}"
    assert json.loads(packet.payload) == {"outcome": "duplicate", "id": "m1", "offset": 7}


def test_what_is_ignored_is_acknowledged_so_that_a_device_need_not_send_it_again() -> None:
    message = asking(f"iotreceipts/{NODE}", b"[I] wifi connected")
    packet = receipt(message, Ignored("log"), Ignored("log"))
    assert packet is not None
    read, _ = mqtt5.read(memoryview(packet))
    assert isinstance(read, mqtt5.PublishPacket)
    assert json.loads(read.payload) == {"outcome": "ignored"}


def test_what_is_rejected_says_why_and_which() -> None:
    message = asking(None, b'{"id": "m2", "species": 5}')
    verdict = Decoder(10_000).identify(message)
    assert isinstance(verdict, Rejected)
    packet = answer(message, DeadLetter(verdict))
    assert packet is not None
    receipt = json.loads(packet.payload)
    assert (receipt["outcome"], receipt["id"]) == ("rejected", "m2")
    assert "species" in receipt["reason"]


def test_an_audio_file_that_is_rejected_is_named_by_the_id_of_its_user_properties() -> None:
    message = Message(
        f"iotingestion/{NODE}", b"RIFF\0\0\0\0WAVE", 0, NODE, (("id", "m3"),), False, None, b""
    )
    packet = answer(message, DeadLetter(Rejected(ReasonCode.AUDIO_BROKEN, "the WAV is broken")))
    assert packet is not None
    assert json.loads(packet.payload)["id"] == "m3"


@pytest.mark.parametrize("payload", [b'{"status": "online"}', b"rubbish", b'{"id": NaN}', b""])
def test_who_does_not_ask_gets_none(payload: bytes) -> None:
    assert answer(asking(None, payload)) is None


def test_without_a_node_there_is_nobody_to_answer() -> None:
    message = Message("iotingestion", STATUS, 0, None, (), False, "iotreceipts/x", b"")
    assert answer(message) is None


# ---------------------------------------------------------------------- with real programs


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data")
    yield harness
    harness.close()


def detection(number: int) -> bytes:
    fields = {
        "type": "prediction",
        "timestamp": str(1_795_000_000 + number),
        "sensor_id": NODE,
        "species": "Litoria ewingii",
        "confidence": 63.64,
    }
    return json.dumps(fields).encode()


@pytest.mark.slow
def test_receipts_come_for_all_and_again_for_what_is_sent_again(harness: Harness) -> None:
    harness.up()
    listener = Device(harness.mqtt_port)
    listener.subscribe(f"iotreceipts/{NODE}/#")
    messages = [(f"iotingestion/{NODE}", detection(n)) for n in range(200)]
    messages.append((f"iotingestion/{NODE}", b"rubbish"))
    for outcome in ("stored", "duplicate"):
        asking_device = Device(harness.mqtt_port)
        asking_device.publish(messages, response_topic=f"iotreceipts/{NODE}/me")
        got = listener.receipts(len(messages))
        assert sorted(got) == list(range(len(messages)))
        assert {got[n]["outcome"] for n in range(200)} == {outcome}
        assert got[200]["outcome"] == "rejected"
        assert got[200]["reason"]
    assert harness.ledger()["stored"] == 200


@pytest.mark.slow
def test_what_was_receipted_survives_sigkill_of_everything(harness: Harness) -> None:
    program = harness.up()
    listener = Device(harness.mqtt_port)
    listener.subscribe(f"iotreceipts/{NODE}/#")
    Device(harness.mqtt_port).publish(
        [(f"iotingestion/{NODE}", detection(n)) for n in range(500)],
        response_topic=f"iotreceipts/{NODE}/me",
    )
    receipted = len(listener.receipts(500))
    mosquitto = harness.broker_pid(program)
    harness.kill(program)
    harness.kill_pid(mosquitto)
    harness.up()
    eventually(lambda: harness.ledger_now()["stored"] >= receipted)
    assert harness.ledger()["stored"] == 500


@pytest.mark.slow
def test_no_receipt_that_a_node_asks_for_ends_our_session(tmp_path: Path, mosquitto: Path) -> None:
    """A broker looks at the topic of a PUBLISH, and not at a Response Topic, which becomes one."""
    harness = Harness(tmp_path / "data", mosquitto=mosquitto)
    try:
        password = make_node(harness, NODE)
        harness.up()
        for number, name in enumerate(("a/" * 250, "/")):
            device = Device(harness.mqtt_port, NODE, password)
            payload = b'{"id": "m%d", "status": "online"}' % number
            with contextlib.suppress(ConnectionError):  # the broker may see what is wrong with it
                device.publish(
                    [(f"iotingestion/{NODE}", payload)],
                    response_topic=f"iotreceipts/{NODE}/{name}",
                )
        device = Device(harness.mqtt_port, NODE, password)
        device.subscribe(f"iotreceipts/{NODE}/#")
        device.publish([(f"iotingestion/{NODE}", STATUS)], response_topic=f"iotreceipts/{NODE}/x")
        assert len(device.receipts(1)) == 1
        assert "the broker disconnected us" not in harness.log("up")
    finally:
        harness.close()
