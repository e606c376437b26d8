"""Latency from publish to receipt, at steady rates, of the whole system on one machine."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from bench.contestants import start_service
from bench.rounds import broker_of
from echo_ingest.broker import PUBLISHER
from tests.harness import PUB_PASSWORD, eventually


class Latency(Struct, frozen=True):
    """The latency at one rate."""

    rate: int
    sent: int
    receipts: int
    p50_ms: float
    p99_ms: float
    p999_ms: float


def latencies(rates: Sequence[int], seconds: float, mosquitto: Path) -> list[Latency]:
    """Probe at each rate in turn, after a short warm-up."""
    with broker_of(mosquitto) as (harness, _):
        program = start_service(harness)
        try:
            eventually(lambda: harness.http("/healthz")[0] == 200, seconds=30)
            _probe(harness.mqtt_port, 1_000, 1.0, seed=0)
            return [_probe(harness.mqtt_port, rate, seconds, seed=rate) for rate in rates]
        finally:
            program.terminate()
            program.wait(timeout=60)


def _probe(port: int, rate: int, seconds: float, seed: int) -> Latency:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.prober", "--port", str(port)),
            *("--user", PUBLISHER, "--password", PUB_PASSWORD, "--seed", str(seed)),
            *("--rate", str(rate), "--seconds", str(seconds)),
        ],
        check=True,
        capture_output=True,
        timeout=seconds + 120,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return Latency(
        int(figures["rate"]),
        int(figures["sent"]),
        int(figures["receipts"]),
        *(figures[name] for name in ("p50_ms", "p99_ms", "p999_ms")),
    )
