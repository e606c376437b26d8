"""`docker compose up`, with the file that is in the repository."""

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import PUB_PASSWORD, Device, Harness, eventually
from tests.image.container import detections
from tests.image.engine import ROOT, docker

# Ports that are free here, and a name for the broker where an engine does not resolve them.
OVERRIDE = """
services:
  broker:
    ports: !override ["127.0.0.1:{mqtt}:1883", "127.0.0.1:{ws}:9001"]
    networks: {{default: {{ipv4_address: {network}.2}}}}
  ingestion:
    ports: !override ["127.0.0.1:{http}:80"]
    extra_hosts: ["broker:{network}.2"]
networks:
  default:
    ipam: {{config: [{{subnet: {network}.0/24}}]}}
"""


class Composed(Harness):
    """The services of compose.yaml, under a name of their own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for name in ("compose.yaml", "deploy", "Dockerfile"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "secrets").mkdir(mode=0o700)
        for name, word in (("echopub", PUB_PASSWORD), ("echosub", "s"), ("echo-ingest", "e")):
            (folder / "secrets" / name).write_text(f"{word}\n")
            (folder / "secrets" / name).chmod(0o444)
        (folder / "override.yaml").write_text(
            OVERRIDE.format(
                mqtt=self.mqtt_port,
                ws=self.ws_port,
                http=self.http_port,
                network=f"10.213.{secrets.randbelow(256)}",
            )
        )
        files = ("compose.yaml", "override.yaml")
        self._words = (
            *("compose", "--project-name", f"echo-ingest-{secrets.token_hex(4)}"),
            *("--project-directory", str(folder)),
            *(word for name in files for word in ("--file", str(folder / name))),
        )

    def compose(self, *words: str) -> subprocess.CompletedProcess[str]:
        return docker(*self._words, *words)

    def begin(self) -> None:
        self.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "90")

    def cli(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return self.compose("exec", "--no-TTY", "ingestion", "echo-ingest", *arguments)

    def close(self) -> None:
        print(self.compose("logs").stdout)
        self.compose("down", "--volumes")


@pytest.fixture
def composed(image: str, tmp_path: Path) -> Iterator[Composed]:
    harness = Composed(tmp_path)
    yield harness
    harness.close()


def test_it_runs_and_keeps_its_data_when_taken_down(composed: Composed) -> None:
    composed.begin()
    for websocket, run in ((False, "tcp"), (True, "ws")):
        port = composed.ws_port if websocket else composed.mqtt_port
        device = Device(port, websocket=websocket)
        device.publish(detections(run, 500))
        device.close()
    eventually(lambda: composed.ledger()["stored"] == 1_000)
    composed.compose("down")
    composed.begin()
    assert composed.ledger()["stored"] == 1_000


def test_ingestion_is_replaced_without_cutting_devices_off(composed: Composed) -> None:
    composed.begin()
    device = Device(composed.mqtt_port)
    device.publish(detections("before", 100))
    composed.compose("stop", "ingestion")
    device.publish(detections("meanwhile", 100))
    composed.compose("up", "--detach", "--no-build", "--no-deps", "--force-recreate", "ingestion")
    device.publish(detections("after", 100))
    eventually(lambda: composed.ledger()["stored"] == 300, seconds=40)
    device.close()


def test_with_monitoring_it_is_valid(composed: Composed) -> None:
    services = composed.compose("--profile", "monitoring", "config", "--services")
    assert set(services.stdout.split()) == {"broker", "ingestion", "prometheus"}
    assert "prometheus" not in composed.compose("config", "--services").stdout
