"""The halves start with the very environment that the manifests give them, and work together."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.manifests import build
from tests.harness import Device, Harness, eventually, free_port
from tests.test_broker_stats import metrics

pytestmark = pytest.mark.slow


def environment(workload: str, folder: Path, moved: dict[str, str]) -> dict[str, str]:
    """Return what a pod of `split` is given, with files and ports where a test may have them."""
    manifests = build("split")
    (settings,) = (each["data"] for each in manifests if each["kind"] == "ConfigMap")
    (pod,) = (
        each["spec"]["template"]["spec"]
        for each in manifests
        if each["kind"] == "StatefulSet" and each["metadata"]["name"] == workload
    )
    given = dict(settings)
    for variable in pod["containers"][0]["env"]:
        given[variable["name"]] = variable.get("value", "a-name-that-nobody-guesses")
    for name, path in given.items():
        if path.startswith(("/run/", "/etc/")):
            given[name] = str(folder / Path(path).name)
    return {**given, "IOT_PUB_PASSWORD": "", "IOT_SUB_PASSWORD": "", **moved}


def test_the_halves_of_split_work_together_and_without_echopub(tmp_path: Path) -> None:
    for key in ("echopub", "echosub", "http-token", "operator-token", "service"):
        (tmp_path / key).write_text(f"what-the-secret-says-of-{key}")
    credentials = tmp_path / "ridge-07.env"
    words = f"nodes add ridge-07 --env-file {credentials}".split()
    subprocess.run(
        [sys.executable, "-m", "echo_ingest.cli", *words],
        env={"IOT_NODES_FILE": str(tmp_path / "nodes.jsonl")},
        check=True,
        timeout=30,
    )
    password = re.search(r"IOT_PASSWORD=(\S+)", credentials.read_text())
    assert password is not None
    port = str(free_port())
    here = {"IOT_BIND": "127.0.0.1", "IOT_ECHOPUB": "false"}
    broker = Harness(tmp_path / "broker")
    ingest = Harness(tmp_path / "ingest")
    for harness, workload, moved in (
        (broker, "echo-ingest-broker", {"IOT_SERVICE_PORT": port}),
        (ingest, "echo-ingest", {"IOT_ENDPOINT": f"mqtt://127.0.0.1:{port}"}),
    ):
        own = {
            name: harness.settings[name]
            for name in ("IOT_DATA_DIR", "IOT_MQTT_PORT", "IOT_WS_PORT", "IOT_HTTP_PORT")
        }
        harness.settings = environment(workload, tmp_path, here | own | moved)
    try:
        broker.start("broker")
        eventually(lambda: broker.http("/healthz")[0] == 200)
        ingest.start("run")
        eventually(lambda: ingest.http("/healthz")[0] == 200)
        device = Device(broker.mqtt_port, "ridge-07", password[1])
        device.publish([("iotingestion/ridge-07", b'{"status":"online"}')])
        device.close()
        eventually(lambda: ingest.ledger()["stored"] == 1)
        eventually(lambda: metrics(ingest).get("echo_ingest_broker_clients") is not None)
        assert metrics(ingest)["echo_ingest_broker_connected"] == 1
    finally:
        ingest.close()
        broker.close()
