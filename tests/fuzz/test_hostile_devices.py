"""Devices that send whatever they can, through a real broker: what it took is accounted for.

What the broker itself refuses is no message; it must not reach us, and must not end us either.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mqtt5
import pytest

from echo_ingest.record import Message
from tests.fuzz.inputs import own_input_of
from tests.fuzz.judge import is_plain
from tests.fuzz.vocabulary import PREFIXES
from tests.harness import Device, Harness, eventually, free_port
from tests.watched_api import WatchedApi

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("SEED", "1"))
INPUTS = 3_000
ACKNOWLEDGED = 0
"""The one reason code that says: the broker took the message and has a subscriber for it."""
STATUS = b'{"nodeId": "n", "status": "online"}'
EACH_SHOWN = 10


def packed(message: Message, packet_id: int) -> bytes:
    return mqtt5.PublishPacket(
        message.topic,
        message.payload,
        qos=mqtt5.QoS.AT_LEAST_ONCE,
        packet_id=packet_id,
        user_properties=list(message.properties),
        response_topic=message.response_topic,
        correlation_data=message.correlation_data,
    ).write()


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2) + value


def forged(
    topic: bytes = b"iotingestion/n", properties: bytes = b"", body: bytes = STATUS
) -> bytes:
    """Make a PUBLISH by hand, so that the codec cannot object: QoS 1, packet id 7."""
    rest = text(topic) + b"\0\7" + length(len(properties)) + properties + body
    return b"\x32" + length(len(rest)) + rest


def length(number: int) -> bytes:
    """Return a variable byte integer [MQTT-1.5.5]."""
    encoded = b""
    while True:
        number, low = divmod(number, 128)
        encoded += bytes([low | (128 if number else 0)])
        if not number:
            return encoded


FORGED = {
    "plain": forged(),
    "topic: no UTF-8": forged(b"iotingestion/\xff\xfe"),
    "topic: half of a pair": forged(b"iotingestion/\xed\xa0\x80"),
    "topic: overlong": forged(b"iotingestion/\xc0\xaf"),
    "topic: NUL": forged(b"iotingestion/\0"),
    "topic: control characters": forged(b"iotingestion/\x01\x1b[31m"),
    "topic: not a character": forged("iotingestion/\uffff".encode()),
    "topic: byte order mark": forged("iotingestion/\ufeff".encode()),
    "topic: wildcard": forged(b"iotingestion/#"),
    "topic: empty": forged(b""),
    "topic: of the broker": forged(b"$SYS/broker/uptime"),
    "topic: shared": forged(b"$share/g/iotingestion/n"),
    "topic: ours": forged(b"iotprobe/echo-ingest"),
    "topic: of receipts": forged(b"iotreceipts/n"),
    "topic: 300 levels": forged(b"iotingestion" + b"/x" * 300),
    "topic: 65,535 bytes": forged(b"a/" + b"x" * 65_533),
    "an id, and a topic too long to answer": forged(
        b"a/" + b"x" * 65_533, body=b'{"id": "m1", "status": "online"}'
    ),
    "response topic: wildcard": forged(properties=b"\x08" + text(b"iotreceipts/n/#")),
    "response topic: empty": forged(properties=b"\x08" + text(b"")),
    "response topic: no UTF-8": forged(properties=b"\x08" + text(b"iotreceipts/n/\xff")),
    "response topic: twice": forged(properties=b"\x08\0\1a\x08\0\1b"),
    "response topic: another node's": forged(properties=b"\x08" + text(b"iotreceipts/other")),
    "response topic: 65,535 bytes": forged(
        properties=b"\x08" + text(b"iotreceipts/n/".ljust(65_535, b"x"))
    ),
    "response topic: ingestion": forged(properties=b"\x08" + text(b"iotingestion/n")),
    "correlation data: 65,535 bytes": forged(
        properties=b"\x08" + text(b"iotreceipts/n/x") + b"\x09" + text(bytes(65_535))
    ),
    "correlation data: cut off": forged(properties=b"\x09\xff\xff"),
    "user property: no UTF-8": forged(properties=b"\x26" + text(b"\xff") + text(b"x")),
    "user property: NUL": forged(properties=b"\x26" + text(b"id") + text(b"\0")),
    "user properties: 5,000 of one name": forged(
        properties=(b"\x26" + text(b"id") + text(b"x")) * 5_000
    ),
    "user property: longest": forged(properties=b"\x26" + text(b"n" * 65_535) * 2),
    "payload format: text, and it is none": forged(properties=b"\x01\x01", body=b"\xff\xfe"),
    "payload format: 2": forged(properties=b"\x01\x02"),
    "payload format: twice": forged(properties=b"\x01\x00\x01\x00"),
    "a property that there is not": forged(properties=b"\x7f\0"),
    "a subscription id, which only brokers send": forged(properties=b"\x0b\x01"),
    "a topic alias that was not agreed": forged(properties=b"\x23\xff\xff"),
    "content type: no UTF-8": forged(properties=b"\x03" + text(b"\xc3")),
    "properties longer than the packet": b"\x32\x08" + text(b"a/") + b"\0\7\x7f\0",
    "packet id 0": b"\x32" + length(7) + text(b"a/") + b"\0\0\0",
    "QoS 3": b"\x36" + forged()[1:],
    "a length of five bytes": b"\x32\xff\xff\xff\xff\x7f",
}
NEVER_TAKEN = ("no UTF-8", "half of a pair", "overlong", "NUL", "QoS 3", "five bytes")


@pytest.fixture
def api() -> Iterator[WatchedApi]:
    api = WatchedApi(nodes=["n", "ridge-01"])
    yield api
    api.end()


@pytest.fixture
def harness(tmp_path: Path, mosquitto: Path, api: WatchedApi) -> Iterator[Harness]:
    port = free_port()
    api.listen(port)
    harness = Harness(
        tmp_path / "data",
        mosquitto=mosquitto,
        IOT_TOPIC=",".join(PREFIXES),
        IOT_API_URL=f"http://127.0.0.1:{port}",
    )
    yield harness
    harness.close()


def test_all_that_was_acknowledged_is_accounted_for_and_nothing_else(harness: Harness) -> None:
    program = harness.up()
    codes: Counter[int | None] = Counter()
    device = Device(harness.mqtt_port)
    for number in range(INPUTS):
        code = device.send(packed(own_input_of(SEED, number), number % 60_000 + 1))
        codes[code] += 1
        if code is None:
            device.close()
            device = Device(harness.mqtt_port)
    forged_codes = {}
    for name, packet in FORGED.items():
        device.close()
        device = Device(harness.mqtt_port)
        forged_codes[name] = device.send(packet)
        codes[forged_codes[name]] += 1
    assert forged_codes["plain"] == ACKNOWLEDGED
    for name, code in forged_codes.items():
        assert code is None or code >= 0x80 or not name.endswith(NEVER_TAKEN), (name, code)
    acknowledged = codes[ACKNOWLEDGED]
    assert acknowledged > 0.8 * INPUTS
    eventually(lambda: harness.ledger_now()["received"] == acknowledged)
    eventually(lambda: harness.ledger_now()["sinks"]["echo_api"]["backlog"] == 0)
    ledger = harness.ledger()
    print(f"\nhostile devices: reason codes {dict(codes)}, {ledger}\n{forged_codes}")
    assert ledger["received"] == acknowledged
    assert program.poll() is None
    assert harness.broker_connections() == 1  # not one of them has cost us our connection
    assert_all_can_be_read(harness, ledger)


def assert_all_can_be_read(harness: Harness, ledger: dict[str, Any]) -> None:
    """Check that the command line can read all records, and HTTP every tenth."""
    records = harness.records()
    assert len({record["offset"] for record in records}) == ledger["stored"]
    for record in records[::EACH_SHOWN]:
        assert harness.http(f"/api/records/{record['offset']}")[0] == 200
    for command in ("dead-letters", "parked"):
        done = harness.cli(command, "list", "--limit", "1000000")
        assert done.returncode == 0, done.stderr
    for number in range(1, ledger["dead_letters"] + 1, EACH_SHOWN):
        status, letter = harness.http(f"/api/dead-letters/{number}")
        assert status == 200
        assert is_plain(letter["reason"]), letter
