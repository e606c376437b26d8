"""A service with the fleet's past in its journal, two sinks and a broker: what pages show."""

import contextlib
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from echo_ingest.almanac import Follower, almanac_path
from echo_ingest.cli.demo import write_history
from echo_ingest.decode import Decoder
from echo_ingest.decode.forms import SHIPPED, Forms
from echo_ingest.journal import Arrival, Entry, Journal
from echo_ingest.journal.cursors import Refused
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Detection, Message, Rejected
from echo_ingest.simulator import fleet, nodes
from echo_ingest.simulator.payloads import edge_prediction
from tests.api import Api
from tests.harness import Device, Harness, eventually

PREFIX = "iotingestion"
BATCH = 500
PAYLOAD_BYTES_MAX = 1_000_000
REFUSED_SPECIES = "Ninox strenua"
REASON = f"422: species: {REFUSED_SPECIES} is not a species that this API knows"
AWAY = timedelta(minutes=50)
"""How long the Echo API has been out of reach when the service starts."""


DECODER = Decoder(PAYLOAD_BYTES_MAX, forms=Forms.of_folder(SHIPPED))
MEASURING = "ridge-07"
BANDS = ("63.0_Hz", "125_Hz", "250_Hz", "500_Hz", "1.0_kHz", "2.0_kHz", "4.0_kHz", "8.0_kHz")


OUTDATED = f"gps_uncertainty: {ReasonCode.WRONG_TYPE.summary}"
OUTDATED_COUNT = 40
"""The number of messages that were rejected and would be stored today."""


class Forest:
    """The service, what it stores into, and a device."""

    def __init__(self, folder: Path, *, bulk: bool = True) -> None:
        self.began_at = datetime.now(UTC)
        data_dir = folder / "data"
        data_dir.mkdir(mode=0o700)
        live_through(data_dir, self.began_at)
        follow(data_dir)
        (folder / "audio").mkdir()
        self.api = Api()
        self.harness = Harness(
            data_dir,
            IOT_API_URL=self.api.url,
            IOT_API_BULK=str(bulk).lower(),
            IOT_OBJECTS_URL=(folder / "audio").as_uri(),
        )
        self.origin = f"http://127.0.0.1:{self.harness.http_port}"

    def start(self, **api: object) -> None:
        """Run it; its pages know all of the past. `api` are options of the Echo API's replica."""
        self.api.start(nodes=list(nodes(self.began_at)), **api)
        self.program = self.harness.up()

    def device(self) -> Device:
        return Device(self.harness.mqtt_port)

    def publish(self, node: str, **fields: object) -> None:
        """Publish one message in JSON and wait for its acknowledgement."""
        self.device().publish([(f"{PREFIX}/{node}", json.dumps(fields).encode())])

    def hear(self, node: str, species: str, **more: object) -> None:
        """Publish a detection by `node`, of this moment."""
        fields = {
            "sensor_id": node,
            "species": species,
            "confidence": 91.5,
            "timestamp": time.time(),
        }
        self.publish(node, **{**fields, **more})

    def close(self) -> None:
        self.harness.close()
        self.api.stop()


def live_through(data_dir: Path, began_at: datetime) -> None:
    """Write the fleet's past, as `demo` does; the Echo API refused some and was away at the end."""
    devices = fleet(PREFIX, began_at)
    with contextlib.closing(Journal(data_dir / "journal.db")) as journal:
        outdate(journal, began_at)
        measure(journal, began_at)
        journal.add_sink("echo_api")
        went_ms = (began_at - AWAY).timestamp() * 1_000
        for _ in write_history(
            journal, almanac_path(data_dir), devices, began_at, Decoder(PAYLOAD_BYTES_MAX)
        ):
            entries = journal.read("echo_api", BATCH)
            while entries and entries[-1].message.received_at_ms < went_ms:
                journal.settle("echo_api", [entry.offset for entry in entries], refused(entries))
                entries = journal.read("echo_api", BATCH)


def outdate(journal: Journal, began_at: datetime) -> None:
    """Add what an earlier version could not read, and this one can."""
    rng = Random(2)
    node = nodes(began_at)["creek-01"]
    arrivals: list[Arrival] = []
    for number in range(OUTDATED_COUNT):
        when = began_at - timedelta(days=4, minutes=3 * number)
        outgoing = edge_prediction(f"{PREFIX}/{node.name}", node, when, rng)
        received_at_ms = int(when.timestamp() * 1_000)
        message = Message(outgoing.topic, outgoing.payload, received_at_ms, node.name)
        why = "an earlier version did not know this field"
        arrivals.append((message, Rejected(ReasonCode.WRONG_TYPE, why, "gps_uncertainty")))
    journal.append(arrivals)
    journal.acknowledged()


def measure(journal: Journal, began_at: datetime) -> None:
    """Add the sound levels of two days, as BirdNET-Go sends them."""
    rng = Random(3)
    arrivals: list[Arrival] = []
    for number in range(99, 3, -1):  # it has been silent since
        at = began_at - timedelta(minutes=30 * number)
        levels = {band: {"m": round(rng.uniform(-75, -45), 1)} for band in BANDS}
        fields = {"ts": at.isoformat(), "node": MEASURING, "src": "mic", "dur": 10, "b": levels}
        received_at_ms = int(at.timestamp() * 1_000) + 900
        message = Message(
            f"{PREFIX}/{MEASURING}", json.dumps(fields).encode(), received_at_ms, MEASURING
        )
        arrivals.append((message, DECODER.identify(message)))
    assert journal.append(arrivals).stored == len(arrivals)
    journal.acknowledged()


def refused(entries: Sequence[Entry]) -> dict[int, Refused]:
    """Return which of these the Echo API refuses, and why."""
    refusals = {}
    for entry in entries:
        for record in DECODER.records(entry.message):
            if isinstance(record, Detection) and record.species == REFUSED_SPECIES:
                refusals[entry.offset] = Refused(REASON)
    return refusals


def follow(data_dir: Path) -> None:
    """Make the almanac; the service would take its time, so as not to hold up what comes in."""
    journal_path = data_dir / "journal.db"
    follower = Follower(almanac_path(data_dir), journal_path, DECODER)
    with contextlib.closing(follower):
        while sum(1 for _ in follower.round()) > 1:
            pass


def ledger_when(harness: Harness, sink: str, **wanted: int) -> None:
    """Wait until the figures of `sink` are these."""

    def as_wanted() -> bool:
        figures = harness.ledger_now()["sinks"][sink]
        return all(figures[name] == count for name, count in wanted.items())

    eventually(as_wanted)
