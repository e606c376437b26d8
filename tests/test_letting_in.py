"""Devices of other makers are let in: topics, retained messages, and one client id for all.

docs/access.md says what is tried here, with both brokers.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devices_311 import PUBLISH, Device311, packet
from tests.harness import PUB_PASSWORD, SUB_PASSWORD, Device, Harness, eventually
from tests.test_access import DENIED, TAKEN, make_node

pytestmark = pytest.mark.slow


@pytest.fixture
def harness(tmp_path: Path, mosquitto: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data", mosquitto=mosquitto)
    yield harness
    harness.close()


def status(number: int) -> bytes:
    return b'{"id": "m%d", "status": "online"}' % number


def metric(harness: Harness, start: str) -> float:
    lines = harness.http_bytes("/metrics").decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def test_two_nodes_with_one_client_id_do_not_throw_each_other_out(harness: Harness) -> None:
    passwords = {name: make_node(harness, name) for name in ("ridge-07", "creek-02")}
    harness.up()
    nodes = {
        name: Device311(harness.mqtt_port, name, password, client_id="BirdNET-Go", clean=False)
        for name, password in passwords.items()
    }
    newer = Device(harness.mqtt_port, client_id="BirdNET-Go", session_seconds=60)
    assert not newer.has_session
    for name, node in nodes.items():
        assert node.is_connected()
        assert node.put(f"iotingestion/{name}", status(1))
    # a session is the node's own: it comes back to it, and to nobody else
    nodes["ridge-07"].drop()
    again = Device311(
        harness.mqtt_port, "ridge-07", passwords["ridge-07"], client_id="BirdNET-Go", clean=False
    )
    assert again.has_session
    # the same client id of the same account is the same client, as the protocol says
    second = Device311(
        harness.mqtt_port, "creek-02", passwords["creek-02"], client_id="BirdNET-Go", clean=False
    )
    assert second.has_session
    assert not nodes["creek-02"].is_connected()
    assert again.is_connected()
    connected = [line for line in harness.log("up").splitlines() if "device connected" in line]
    assert connected
    assert all('"client_id": "BirdNET-Go"' in line for line in connected), "the log has its own id"
    eventually(lambda: harness.ledger_now()["stored"] == 2)


@pytest.mark.parametrize("echopub", ["true", "false"])
def test_retained_messages_and_wills_are_taken_in_and_never_retained(
    harness: Harness, echopub: str
) -> None:
    harness.settings["IOT_ECHOPUB"] = echopub
    password = make_node(harness, "ridge-07")
    harness.up()
    old = Device311(
        harness.mqtt_port,
        "ridge-07",
        password,
        retained_will=("iotingestion/ridge-07/LWT", status(1)),
    )
    assert old.put("iotingestion/ridge-07/a", status(2), retain=True)
    assert old.put("iotingestion/ridge-07/b", status(3), qos=0, retain=True)
    old.drop()
    eventually(lambda: harness.ledger_now()["stored"] == 3)
    new = Device(harness.mqtt_port, "ridge-07", password)
    assert new.put("iotingestion/ridge-07/c", status(4), retain=True) == TAKEN
    eventually(lambda: harness.ledger_now()["stored"] == 4)
    reader = Device(harness.mqtt_port, "echosub", SUB_PASSWORD)
    reader.subscribe("iotingestion/#", "iotaccounts/#")
    assert reader.received_topics(0.5) == []
    assert harness.ledger()["received"] == 4


def test_what_the_broker_denies_is_counted_by_account_and_topic(harness: Harness) -> None:
    password = make_node(harness, "ridge-07")
    harness.up()
    old = Device311(
        harness.mqtt_port,
        "ridge-07",
        password,
        retained_will=("iotingestion/creek-02/LWT", b"offline"),
    )
    for number in range(3):
        assert old.put("iotingestion/creek-02", status(number)), "3.1.1 cannot say that it is not"
    new = Device(harness.mqtt_port, "ridge-07", password)
    assert new.put("iotreceipts/creek-02", status(4)) == DENIED
    assert new.put("$SYS/broker/clients", status(5)) == DENIED
    reader = Device(harness.mqtt_port, "echosub", SUB_PASSWORD)
    assert reader.put("iotingestion/creek-02", status(6)) == DENIED
    assert reader.put("anywhere", status(7)) == DENIED

    def counted(account: str, topic: str) -> float:
        labels = f'{{account="{account}",topic="{topic}"}}'
        return metric(harness, f"echo_ingest_denied_messages_total{labels}")

    eventually(lambda: counted("ridge-07", "iotingestion/creek-02") == 3)
    for account, topic in (
        ("ridge-07", "iotingestion/creek-02/LWT"),
        ("ridge-07", "iotreceipts/creek-02"),
        ("ridge-07", "$SYS/broker/clients"),
        ("echosub", "iotingestion/creek-02"),
        ("echosub", "anywhere"),
    ):
        eventually(lambda: counted(account, topic) == 1)  # noqa: B023
    logged = [line for line in harness.log("up").splitlines() if "message denied" in line]
    assert len(logged) == 6, "one line for each account and topic"
    assert harness.ledger()["received"] == 0


def test_a_gateway_speaks_for_the_nodes_that_it_may_and_for_no_other(harness: Harness) -> None:
    password = make_node(harness, "gateway-1")
    done = harness.cli("nodes", "set", "gateway-1", "--speaks-for", "frog-*")
    assert done.returncode == 0, done.stderr
    harness.up()
    gateway = Device(harness.mqtt_port, "gateway-1", password)
    gateway.subscribe("iotreceipts/gateway-1/#")
    gateway.publish(
        [("iotingestion/frog-1", status(1)), ("iotingestion/frog-2/x", status(2))],
        response_topic="iotreceipts/gateway-1/x",
    )
    assert {each["outcome"] for each in gateway.receipts(2).values()} == {"stored"}
    assert gateway.put("iotingestion/bats-1", status(3)) == DENIED
    assert harness.cli("nodes", "set", "gateway-1", "--speaks-for", "bats-1").returncode == 0
    eventually(lambda: gateway.put("iotingestion/bats-1", status(4)) == TAKEN)
    assert gateway.put("iotingestion/frog-1", status(5)) == DENIED
    eventually(lambda: harness.ledger_now()["stored"] == 3)
    nodes = {record["node"] for record in harness.records()}
    assert nodes == {"frog-1", "frog-2", "bats-1"}


FORMS = b"""
name = "birds"
[match]
topic = "garden/{place}/birds"
[[record]]
kind = "detection"
species = "bird"
confidence = {from = "sure", scale = "fraction"}
"""


def test_nothing_of_any_topic_vanishes_without_a_count(harness: Harness) -> None:
    """Messages on 200 odd topics are stored, dead, ignored, unclaimed, or denied with a count."""
    password = make_node(harness, "ridge-07")
    forms = harness.data_dir / "forms.d"
    forms.mkdir(parents=True)
    (forms / "birds.toml").write_bytes(FORMS)
    harness.up()
    node, shared = (
        Device311(harness.mqtt_port, user, secret)
        for user, secret in (("ridge-07", password), ("echopub", PUB_PASSWORD))
    )
    odd = [f"odd/{number}" for number in range(60)]
    odd += ["/", "//", "/a", "a/", "a//b", " ", "ü", "iotingestionx", "IOTINGESTION/x", "a/$SYS"]
    odd += ["x" * 250, "/".join("x" * 100), "iotaccounts/ridge-07/x", "iotreceiptsx", "x/"]
    odd += [f"iotingestion/ridge-07/{name}" for name in ("", "x", "a/b/c/d", "ü", "$SYS")]
    odd += ["iotingestion", "iotingestion/", f"iotingestion/{'n' * 65}", "garden/north/birds"]
    denied = ["iotreceipts/x", "iotprobe/x", "$SYS/broker/x", "$other/x", "iotprobe", "iotreceipts"]
    sent = 0
    for device in (node, shared):
        for number, topic in enumerate(odd):
            payload = b'{"bird": "Crinia signifera", "sure": 0.5, "n": %d}' % number
            assert device.put(topic, payload, qos=number % 2, retain=number % 3 == 0)
            sent += 1
        for topic in denied:
            assert device.put(topic, b"x")
    assert node.put("iotingestion/other", b"x")

    def all_here() -> bool:
        return bool(harness.ledger_now()["received"] == sent)

    eventually(all_here, seconds=60)
    ledger = harness.ledger()
    assert ledger["unclaimed"] > 120
    assert ledger["dead_letters"] > 5
    assert ledger["stored"] == 2, "the form stands for both accounts"
    eventually(lambda: metric(harness, "echo_ingest_denied_messages_total") == 2 * len(denied) + 1)
    listed = json.loads(harness.cli("unclaimed", "list", "--json").stdout)
    assert sum(each["messages"] for each in listed) == ledger["unclaimed"]
    by_topic = {each["topic"]: each for each in listed}
    assert by_topic["odd/7"]["messages"] == 2
    assert by_topic["odd/7"]["accounts"] == ["echopub", "ridge-07"]

    # a person takes a topic in: what was kept goes through the line, and what comes later
    done = harness.cli("unclaimed", "take", "odd")
    assert (done.returncode, "odd/# is taken in" in done.stderr) == (0, True)
    eventually(lambda: harness.ledger_now()["unclaimed"] == ledger["unclaimed"] - 120)
    assert node.put("odd/7", b"x")
    eventually(lambda: harness.ledger_now()["dead_letters"] == ledger["dead_letters"] + 121)
    harness.ledger()
    assert "odd/7" not in harness.cli("unclaimed", "list").stdout
    done = harness.cli("unclaimed", "discard", "a//b")
    assert "2 messages discarded" in done.stderr
    harness.ledger()


def hostile_publish(topic: str, payload: bytes, *, alias: int | None = None) -> bytes:
    """Return a PUBLISH that no library would write."""
    name = topic.encode()
    properties = b"" if alias is None else b"\x23" + alias.to_bytes(2)
    body = len(name).to_bytes(2) + name + b"\0\1" + bytes((len(properties),)) + properties + payload
    return packet(PUBLISH | 0b10, body)


@pytest.mark.parametrize("echopub", ["true", "false"])
def test_no_node_speaks_in_the_name_of_another(harness: Harness, echopub: str) -> None:
    harness.settings["IOT_ECHOPUB"] = echopub
    password = make_node(harness, "ridge-07")
    make_node(harness, "creek-02")
    harness.up()
    other = "iotingestion/creek-02"
    topics = [
        *(other, f"{other}/x", f"{other}/", f"/{other}", "iotingestion//creek-02", f"{other}\0"),
        *(f"iotaccounts/{name}/{other}" for name in ("creek-02", "ridge-07", "", "+", "echopub")),
        *("iotaccounts/creek-02/birdnet", "iotaccounts/ridge-07/birdnet", "iotaccounts"),
        *("iotingestion/+", "iotingestion/#", "+/creek-02", "iotreceipts/creek-02", "", "/"),
        *("$SYS/broker/clients", f"$share/x/{other}", f"{other}{'/x' * 250}", f"{other}\ufdd0"),
        *("iotingestion/ridge-07/../creek-02", "x" * 65_000, f"birdnet/{'x' * 1_100}/{other}"),
        *(f"iotaccounts/ridge-07/{'x' * 1_100}", f"iotaccounts/ridge-07/{'x/' * 100}"),
    ]
    number = 0
    for topic in topics:
        for websocket in (False, True):
            port = harness.ws_port if websocket else harness.mqtt_port
            for alias in (None, 1):
                number += 1
                device = Device(port, "ridge-07", password, websocket=websocket)
                device.send(hostile_publish(topic, status(number), alias=alias))
        if topic:
            for retain in (False, True):
                number += 1
                with contextlib.suppress(ConnectionError):  # no broker takes every topic for one
                    old = Device311(
                        harness.mqtt_port,
                        "ridge-07",
                        password,
                        retained_will=(topic[:4_000], b"gone"),
                    )
                    old.put(topic, status(number), retain=retain)
                    old.drop()
    device = Device(harness.mqtt_port, "ridge-07", password)
    assert device.put("iotingestion/ridge-07", status(number + 1)) == TAKEN

    def heard() -> set[str | None]:
        return {day["node"] for day in harness.http("/api/nodes")[1]["nodes"]}

    eventually(lambda: harness.ledger_now()["stored"] >= 1)
    assert heard() == {"ridge-07"}
    assert {record["node"] for record in harness.records()} == {"ridge-07"}
    log = harness.log("up")
    assert "fault in the proxy" not in log
    assert "the broker disconnected us" not in log
