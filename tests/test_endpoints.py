"""Several brokers at once: each has a session of its own, and none holds up the others."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echo_ingest.settings.endpoint import Scheme
from tests.harness import Device, Harness, eventually, free_port
from tests.plain_broker import PlainBroker


class Site:
    """Brokers that are not ours, by name, and a service that knows of them."""

    def __init__(self, mosquitto: Path, folder: Path) -> None:
        self.brokers: dict[str, PlainBroker] = {}
        self._mosquitto, self._folder = mosquitto, folder
        self._table = folder / "endpoints.toml"
        self._table.write_text("")
        self.harness = Harness(folder / "data", mosquitto=mosquitto, IOT_ENDPOINTS=str(self._table))

    def add(self, name: str, *lines: str, scheme: Scheme = "mqtt") -> PlainBroker:
        """Start a broker, and name it in the table with `lines`."""
        folder = self._folder / name
        folder.mkdir()
        broker = self.brokers[name] = PlainBroker(self._mosquitto, folder, "persistence false")
        broker.start()
        if scheme in ("mqtts", "wss"):
            lines = (*lines, f'tls_ca_file = "{name}/ca.pem"')
        self.name(name, f"{scheme}://127.0.0.1:{broker.ports[scheme]}", *lines)
        return broker

    def name(self, name: str, url: str, *lines: str) -> None:
        """Name a broker in the table."""
        keys = [f'name = "{name}"', f'url = "{url}"', 'topics = ["iotingestion"]', *lines]
        with self._table.open("a") as table:
            table.write("\n".join(["[[endpoint]]", *keys, "", ""]))

    def publish(self, name: str, first: int, last: int, node: str = "") -> None:
        """Publish messages with ids at QoS 1, each acknowledged by that broker."""
        device = Device(self.brokers[name].ports["mqtt"], None)
        topic = f"iotingestion/{node or name}"
        device.publish(
            [
                (topic, b'{"id": "%s-%d", "status": "on"}' % (name.encode(), n))
                for n in range(first, last)
            ]
        )
        device.close()

    def stored(self) -> int:
        return int(self.harness.ledger_now()["stored"])

    def health(self, page: str = "/readyz") -> tuple[int, Any]:
        return self.harness.http(page)

    def metric(self, line: str) -> float:
        lines = self.harness.http_bytes("/metrics").decode().splitlines()
        (found,) = [each for each in lines if each.startswith(f"{line} ")]
        return float(found.rpartition(" ")[2])

    def ids(self, name: str) -> list[str]:
        """Return the ids of all records from a broker, in order."""
        rows = [json.loads(line) for line in self._records().splitlines()]
        return sorted(row["message_id"] for row in rows if row["message_id"].startswith(f"{name}-"))

    def _records(self) -> str:
        done = self.harness.cli("records", "--json", "--limit", "100000")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        self.harness.close()
        for broker in self.brokers.values():
            broker.stop()


@pytest.fixture
def site(mosquitto: Path, tmp_path: Path) -> Iterator[Site]:
    site = Site(mosquitto, tmp_path)
    yield site
    site.close()


@pytest.mark.slow
def test_messages_arrive_from_brokers_of_each_kind_beside_our_own(site: Site) -> None:
    site.add("farm")
    old = site.add("old", 'version = "3.1.1"')
    site.add("city", 'version = "3.1.1"', "qos = 0", scheme="wss")
    site.harness.up()
    eventually(lambda: site.health() == (200, {"status": "ok"}))
    for name in site.brokers:
        site.publish(name, 0, 20)
    ours = Device(site.harness.mqtt_port)
    ours.publish(
        [("iotingestion/ridge-07", b'{"id": "o-%d", "status": "on"}' % n) for n in range(5)]
    )
    eventually(lambda: site.stored() == 65)
    for name in site.brokers:
        assert site.metric(f'echo_ingest_endpoint_connected{{endpoint="{name}"}}') == 1
        received = f'echo_ingest_endpoint_received_messages_total{{endpoint="{name}"}}'
        assert site.metric(received) == 20
    assert site.metric("echo_ingest_received_messages_total") == 65
    log = (old.folder / "plain.log").read_text()
    (line,) = [line for line in log.splitlines() if " as echo-ingest-old-" in line]
    assert re.search(r"\(p[24], c0,", line), "3.1.1, and the session is kept"
    log = (site.brokers["city"].folder / "plain.log").read_text()
    (line,) = [line for line in log.splitlines() if " as echo-ingest-city-" in line]
    assert re.search(r"\(p[24], c1,", line), "with QoS 0 there is nothing to keep"
    site.harness.ledger()


@pytest.mark.slow
def test_a_broker_that_is_away_is_named_and_holds_up_nobody(site: Site) -> None:
    site.add("farm")
    old = site.add("old", 'version = "3.1.1"')
    site.harness.up()
    old.stop()
    eventually(lambda: site.health()[1].get("endpoints"))
    for page in ("/readyz", "/healthz"):
        status, report = site.health(page)
        assert (status, report["status"]) == (200, "degraded")
        assert list(report["endpoints"]) == ["old"]
    eventually(lambda: "cannot be reached" in site.health()[1]["endpoints"]["old"])
    assert site.metric('echo_ingest_endpoint_connected{endpoint="old"}') == 0
    done = site.harness.cli("check")
    assert done.returncode == 1
    (finding,) = [line for line in done.stdout.splitlines() if "✗" in line]
    assert "old" in finding
    assert "cannot be reached" in finding
    site.publish("farm", 0, 10)
    eventually(lambda: site.stored() == 10)
    old.start()
    eventually(lambda: site.health() == (200, {"status": "ok"}))
    site.publish("old", 0, 10)
    eventually(lambda: site.stored() == 20)
    assert site.harness.cli("check").returncode == 0
    assert "session lost" in site.harness.log("up"), "the broker came back without our session"


@pytest.mark.slow
def test_a_killed_service_loses_nothing_of_qos_1_from_any_broker(site: Site) -> None:
    site.add("farm")
    site.add("old", 'version = "3.1.1"')
    site.add("city", "qos = 0")
    program = site.harness.up()
    eventually(lambda: site.health() == (200, {"status": "ok"}))
    site.publish("city", 0, 50)
    eventually(lambda: site.stored() == 50)
    for name in ("farm", "old"):
        site.publish(name, 0, 1_500)
    site.harness.kill(program)
    for name in ("farm", "old", "city"):
        site.publish(name, 1_500, 2_000)
    site.harness.up()
    eventually(lambda: site.stored() >= 4_050, seconds=60)
    for name in ("farm", "old"):
        assert site.ids(name) == sorted(f"{name}-{n}" for n in range(2_000))
    assert set(site.ids("city")) == {f"city-{n}" for n in range(50)}, "QoS 0 waits for nobody"
    site.harness.ledger()
    assert "session lost" not in site.harness.log("up")


@pytest.mark.slow
def test_run_needs_no_broker_of_its_own_and_is_ready_as_long_as_one_is_there(site: Site) -> None:
    farm = site.add("farm", 'client_id = "of the farm"')
    site.name("away", f"127.0.0.1:{free_port()}")
    site.harness.start("run")
    eventually(lambda: site.health()[0] == 200)
    for page in ("/readyz", "/healthz"):
        status, report = site.health(page)
        assert (status, report["status"], list(report["endpoints"])) == (200, "degraded", ["away"])
    site.publish("farm", 0, 3)
    eventually(lambda: site.stored() == 3)
    assert " as of the farm (p5, c0" in (farm.folder / "plain.log").read_text()
    farm.stop()
    eventually(lambda: site.health()[0] == 503)
    report = site.health()[1]
    assert report["problems"] == {"broker": "none of the endpoints of IOT_ENDPOINTS can be used"}
    assert sorted(report["endpoints"]) == ["away", "farm"]


@pytest.mark.slow
def test_a_broker_that_grants_qos_0_only_is_a_problem_unless_the_table_says_so(site: Site) -> None:
    farm, old = site.add("farm"), site.add("old", 'version = "3.1.1"')
    city = site.add("city", "qos = 0")
    for broker in (farm, old, city):
        broker.stop()
        broker.configure("max_qos 0")
        broker.start()
    site.harness.up()
    eventually(lambda: len(site.health()[1].get("endpoints", ())) == 2)
    eventually(lambda: all("QoS 0 only" in each for each in site.health()[1]["endpoints"].values()))
    assert sorted(site.health()[1]["endpoints"]) == ["farm", "old"]
    assert "too little granted" in site.harness.log("up")


@pytest.mark.slow
@pytest.mark.parametrize(("lines", "given"), [((), False), (("receipts = true",), True)])
def test_receipts_go_back_to_the_broker_a_message_came_from(
    site: Site, lines: tuple[str, ...], given: bool
) -> None:
    site.add("farm")
    old = site.add("old", 'version = "3.1.1"', *lines)
    site.harness.up()
    eventually(lambda: site.health() == (200, {"status": "ok"}))
    reader = Device(old.ports["mqtt"], None)
    reader.subscribe("#")
    elsewhere = Device(site.brokers["farm"].ports["mqtt"], None)
    elsewhere.subscribe("iotreceipts/#")
    site.publish("old", 0, 1, node="ridge-07")
    assert reader.next_message()[0] == "iotingestion/ridge-07"
    eventually(lambda: site.stored() == 1)
    if given:
        topic, payload = reader.next_message()
        assert topic == "iotreceipts/ridge-07"
        assert json.loads(payload) == {"outcome": "stored", "id": "old-0", "offset": 1}
    else:
        site.publish("old", 1, 2, node="last")
        assert reader.next_message()[0] == "iotingestion/last", "no receipt came before"
    device = Device(site.brokers["farm"].ports["mqtt"], None)
    device.put("iotreceipts/end")
    assert elsewhere.next_message()[0] == "iotreceipts/end", "none went to another broker"
