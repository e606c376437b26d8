"""Attacks on each version of the real broker in its real configuration: the others are served.

Each attack is bounded in count and time. What it costs the other clients is printed, and
docs/access.md quotes it. One installation for each version serves all attacks, with limits that can
be reached: 300 connections at each port and messages of 100 kB. After each attack a good node's
message still becomes a record, and our own connection was never lost.
"""

import asyncio
import contextlib
import itertools
import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mqtt5
import pytest

from echo_ingest.broker.local_login import devices_endpoint
from echo_ingest.broker.node_accounts import NodeAccount, change_nodes, new_password, now
from tests.harness import PUB_PASSWORD, Device, Harness, eventually
from tests.test_mqtt import variable

pytestmark = pytest.mark.slow

TAKEN, NOBODY_LISTENS, DENIED = 0x00, 0x10, 0x87
CONNECTIONS_MAX = 300
FAILED_LOGINS = 10_000
LOGINS_AT_ONCE = 50
FLOOD_SECONDS = 3.0
PAUSE_SECONDS = 0.02
MEASURED_MIN = 30


class Site(Harness):
    """An installation with two nodes: one good, and one whose password a stranger has."""

    def __init__(self, folder: Path, mosquitto: Path) -> None:
        super().__init__(
            folder / "data",
            mosquitto=mosquitto,
            IOT_CONNECTIONS_MAX=str(CONNECTIONS_MAX),
            IOT_PAYLOAD_BYTES_MAX="100000",
        )
        self.passwords: dict[str, str] = {}
        accounts = {}
        for name in ("good", "bad"):
            self.passwords[name], hashed = new_password()
            accounts[name] = NodeAccount(name, now(), hashed)
        change_nodes(self.data_dir / "nodes.jsonl", lambda nodes: nodes.update(accounts))
        self.program = self.up()
        self.mosquitto = self.broker_pid(self.program)
        self._numbers = itertools.count(1)

    def login(self, name: str, **more: object) -> Device:
        device = Device(self.mqtt_port, name, self.passwords[name], **more)  # type: ignore[arg-type]
        assert not device.refused
        return device

    def status(self) -> bytes:
        """Return a message that differs from every other."""
        return json.dumps({"status": "online", "id": f"m{next(self._numbers)}"}).encode()

    def stored(self) -> int:
        return int(self.ledger_now()["stored"])


@pytest.fixture(scope="module")
def running(mosquitto: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"), mosquitto)
    yield site
    assert site.stop(site.program) == 0
    site.ledger()  # it must add up


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    before = running.stored()
    yield running
    good = running.login("good")
    assert good.put("iotingestion/good", running.status()) == TAKEN
    eventually(lambda: running.stored() > before)
    assert running.http("/healthz") == (200, {"status": "ok"})
    assert running.broker_connections() == 1


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"{pid} has no memory")


class Measured:
    """A good node that publishes throughout, at QoS 1, and how long each message took."""

    def __init__(self, site: Site) -> None:
        self.seconds: list[float] = []
        self.codes: set[int | None] = set()
        self._site = site
        self._device = site.login("good")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._publish)

    def _publish(self) -> None:
        while not self._over.wait(PAUSE_SECONDS) or len(self.seconds) < MEASURED_MIN:
            began_at = time.perf_counter()
            self.codes.add(self._device.put("iotingestion/good", self._site.status()))
            self.seconds.append(time.perf_counter() - began_at)

    def __enter__(self) -> "Measured":
        self._before = self._site.stored()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    def report(self, attack: str) -> float:
        """Print how long the messages took; return the 99th percentile in seconds."""
        assert self.codes == {TAKEN}
        p99 = statistics.quantiles(self.seconds, n=100)[98]
        eventually(lambda: self._site.stored() >= self._before + len(self.seconds))
        print(
            f"\n{attack}: {len(self.seconds)} messages of a good node meanwhile, p50 "
            f"{statistics.median(self.seconds) * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, max "
            f"{max(self.seconds) * 1e3:.1f} ms"
        )
        return p99


# ---------------------------------------------------------------------- who gets in, and where


def test_strangers_are_refused_at_each_port(site: Site) -> None:
    strangers = [
        (None, ""), ("good", "guess"), ("good", ""), ("good", site.passwords["bad"]), ("GOOD", "x"),
        ("nobody", "x"), ("echo-ingest", ""), ("echopub", "echopub"), ("", ""),
        ("good\nbad", "x"), ("x" * 65_535, "x"),
    ]  # fmt: skip
    for user, password in strangers:
        for port, websocket in ((site.mqtt_port, False), (site.ws_port, True)):
            with contextlib.suppress(
                ConnectionError
            ):  # it may close the connection without an answer
                device = Device(port, user, password, websocket=websocket)
                assert device.refused, user
                device.close()


def test_a_node_writes_below_its_own_topic_and_for_no_other_node(site: Site) -> None:
    bad, before = site.login("bad"), site.stored()
    elsewhere = ("iotingestion/good", "iotingestion/bad2", "iotingestion/badly/x",
                 "iotingestion/Bad", "iotreceipts/bad", "iotreceipts/good",
                 "iotprobe/echo-ingest", "$SYS/broker/uptime", "$CONTROL/broker/v1",
                 "$CONTROL/dynamic-security/v1")  # fmt: skip
    for topic in elsewhere:
        assert bad.put(topic, site.status()) == DENIED, topic
    for topic in ("iotingestion/bad", "iotingestion/bad/deep/down", "iotingestion"):
        assert bad.put(topic, site.status()) == TAKEN
    for topic in ("/iotingestion/good", "good", "iotaccounts/good/iotingestion/good"):
        assert bad.put(topic, b"of its own choice") == TAKEN
    eventually(lambda: site.stored() == before + 3)
    records = site.http("/api/records?limit=3")[1]["records"]
    assert {each["record"]["node"] for each in records} == {"bad"}


def test_a_node_reads_its_own_receipts_and_nothing_else(site: Site) -> None:
    bad, good = site.login("bad"), site.login("good")
    for topic_filter in ("#", "+/#", "+/+", "$SYS/#", "$CONTROL/#", "iotreceipts/#", "iotprobe/#",
                         "iotreceipts/good/#", "$share/x/iotreceipts/#", "iotingestion/#",
                         "$share/y/iotingestion/#"):  # fmt: skip
        bad.subscribe(topic_filter)
    good.subscribe("iotreceipts/good/#")
    assert good.put("iotingestion/good", site.status()) == TAKEN
    assert good.received_topics(1.0) == ["iotreceipts/good"]
    assert bad.put("iotingestion/bad", site.status()) == TAKEN
    topics = bad.received_topics(3.0)  # longer than the service waits between its loopback checks
    assert topics
    assert set(topics) == {"iotreceipts/bad"}


def test_a_last_will_may_go_where_its_node_may(site: Site) -> None:
    before = site.stored()
    for topic in ("iotingestion/good", "iotreceipts/good", "iotingestion/bad"):
        will = mqtt5.Will(topic, payload=site.status(), qos=mqtt5.QoS.AT_LEAST_ONCE)
        site.login("bad", will=will).close()
    eventually(lambda: site.stored() > before)
    newest = site.http("/api/records?limit=1")[1]["records"][0]
    assert newest["topic"] == "iotingestion/bad"
    assert site.stored() == before + 1


# ---------------------------------------------------------------------- too much at once


def test_a_packet_that_is_too_large_costs_its_sender_the_connection(site: Site) -> None:
    before = resident_mb(site.mosquitto)
    assert site.login("bad").put("iotingestion/bad", bytes(170_000)) is None
    announced = b"\x32\xff\xff\xff\x7f" + b"\x00\x10iotingestion/bad"  # 256 MB, says its header
    devices = [site.login("bad") for _ in range(50)]
    with Measured(site) as measured:
        for device in devices:
            assert device.send(announced) is None
    measured.report("50 packets of 256 MB announced")
    assert resident_mb(site.mosquitto) - before < 20


def test_mosquitto_itself_takes_no_larger_packet_where_the_proxy_is_passed_by(site: Site) -> None:
    """As at the port of the service, which leads to mosquitto past the proxy."""
    login = mqtt5.ConnectPacket("", username="bad", password=site.passwords["bad"].encode())
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(10)
        stream.connect(str(devices_endpoint(site.data_dir).path))
        stream.sendall(login.write())
        assert stream.recv(100)[3] == TAKEN
        stream.sendall(b"\x32" + variable(170_000) + b"\x00\x10iotingestion/bad")
        assert stream.recv(100)[:1] in (b"", b"\xe0")  # a DISCONNECT, or the end


def test_a_topic_has_no_alias_that_would_stay_in_memory(site: Site) -> None:
    topic = b"iotingestion/bad/" + b"x" * 60_000
    alias = b"\x23\0\1"
    head = len(topic).to_bytes(2) + topic + b"\0\1" + bytes([len(alias)]) + alias
    assert site.login("bad").send(b"\x32" + variable(len(head) + 2) + head + b"{}") is None


@pytest.mark.proof
def test_ten_thousand_failed_logins_delay_nobody_for_long(site: Site) -> None:
    connect = mqtt5.ConnectPacket("", username="echopub", password=b"guess", clean_start=True)
    guesses = itertools.repeat(connect.write(), FAILED_LOGINS)
    refused = 0

    async def guess() -> None:
        nonlocal refused
        for packet in guesses:
            reader, writer = await asyncio.open_connection("127.0.0.1", site.mqtt_port)
            writer.write(packet)
            connack = await reader.read(100)
            refused += connack[3:4] == bytes([DENIED])
            writer.close()

    async def attack() -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(*(guess() for _ in range(LOGINS_AT_ONCE)))

    before, began_at = resident_mb(site.program.pid), time.monotonic()
    lines = site.log("up").count("\n")
    with Measured(site) as measured:
        asyncio.run(attack())
    assert refused == FAILED_LOGINS
    assert site.log("up").count("\n") - lines < 110 * (time.monotonic() - began_at + 1)
    eventually(lambda: "proxy log lines left out" in site.log("up"))
    seconds = time.monotonic() - began_at
    p99 = measured.report(
        f"{FAILED_LOGINS} failed logins in {seconds:.1f} s, {LOGINS_AT_ONCE} at once"
    )
    assert p99 < 2.0
    assert resident_mb(site.program.pid) - before < 30


HALF_AN_UPGRADE = b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
HALF_A_CONNECT = b"\x10\x20\x00\x04MQTT"


def test_connections_that_never_finish_leave_those_that_have_alone(site: Site) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(5):
            device = site.login("bad")
            held.callback(device.close)
            device.begin(b"\x32\xff\x7f\x00")  # the beginning of a PUBLISH
        with Measured(site) as measured:
            for number in range(CONNECTIONS_MAX + 50):
                for port, sent in ((site.mqtt_port, HALF_A_CONNECT * (number % 2)),
                                   (site.ws_port, HALF_AN_UPGRADE)):  # fmt: skip
                    half = held.enter_context(socket.create_connection(("127.0.0.1", port), 20))
                    half.sendall(sent)
            own_connection(site).close()
        measured.report(f"{2 * (CONNECTIONS_MAX + 50)} connections that never finish")
        assert site.http("/healthz") == (200, {"status": "ok"})
    # once they have gone, new connections are possible again
    eventually(lambda: not Device(site.mqtt_port, "echopub", PUB_PASSWORD).refused)


def own_connection(site: Site) -> socket.socket:
    """Connect as our own service does, with its password."""
    account = json.loads((site.data_dir / "broker" / "service.json").read_text())
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(20)
    stream.connect(str(site.data_dir / "broker" / "socket"))
    connect = mqtt5.ConnectPacket(
        "another", username=account["user"], password=account["password"].encode(), clean_start=True
    )
    stream.sendall(connect.write())
    assert stream.recv(100)[3] == TAKEN
    return stream


def test_a_flood_by_one_node_delays_the_others_and_stops_nothing(site: Site) -> None:
    until = time.monotonic() + FLOOD_SECONDS
    before_mb, before = resident_mb(site.program.pid), site.stored()
    sent = [0, 0]

    def flood(which: int) -> None:
        device = site.login("bad")
        while time.monotonic() < until:
            messages = [("iotingestion/bad", site.status()) for _ in range(1_000)]
            device.publish(messages)
            sent[which] += len(messages)

    with Measured(site) as measured:
        together(lambda: flood(0), lambda: flood(1))
    p99 = measured.report(
        f"a flood of {sum(sent) / FLOOD_SECONDS:,.0f} messages a second by one node"
    )
    assert p99 < 5.0
    eventually(lambda: site.stored() == before + sum(sent) + len(measured.seconds), seconds=60)
    assert resident_mb(site.program.pid) - before_mb < 60
    listed = json.loads(site.cli("nodes", "list", "--json").stdout)
    assert max(listed, key=lambda node: int(node["received_today"]))["node"] == "bad"


def test_a_flood_of_subscriptions_ends_when_its_node_is_blocked(site: Site) -> None:
    """These are shared subscriptions, which the broker looks at for each message of any client."""
    bad = site.login("bad")
    for first in range(0, 4_000, 100):
        bad.subscribe(*(f"$share/{first + number}/iotingestion/#" for number in range(100)))
    with Measured(site) as measured:
        assert bad.received_topics(1.0) == []
    measured.report("4,000 shared subscriptions of one node")
    assert site.cli("nodes", "disable", "bad").returncode == 0
    eventually(lambda: not bad.is_connected(), seconds=5)
    assert site.cli("nodes", "enable", "bad").returncode == 0
    eventually(lambda: not Device(site.mqtt_port, "bad", site.passwords["bad"]).refused, seconds=5)


def together(*work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
