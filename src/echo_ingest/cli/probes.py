"""Numbered probes through the real broker, and what the service said of each.

A probe is a status report (form `node-status`) with an id and a time: valid, harmless in anybody's
data, and marked by its status.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from echo_ingest.cli.confirmed_publish import NoReceipt, ReceiptSession
from echo_ingest.mqtt import ConnectionLost, PublishRefused, SessionOptions
from echo_ingest.pipeline.receipts import Receipt

STATUS = "verify"
IN_FLIGHT_MAX = 1_000


class Probe(Struct):
    """One message of a run, and how far it is known to have come."""

    id: str
    acknowledged: bool = False
    receipt: Receipt | None = None
    receipt_ms: float = 0.0
    """From the call to publish it until its receipt."""
    trouble: str = ""
    """Why it has neither."""


class Run(Struct):
    """What to send, and what came of it."""

    topic: str
    node: str
    probes: list[Probe]
    rate: float
    during: str | None
    """A command for the shell, run once when half of the probes are sent."""
    began_at: datetime
    during_said: str = ""
    during_failed: bool = False


def new_run(topic_filter: str, node: str, count: int, rate: float, during: str | None) -> Run:
    """A run of its own ids, to a topic that `topic_filter` lets through."""
    levels = [node if level in ("+", "#") else level for level in topic_filter.split("/")]
    name = f"verify-{secrets.token_hex(4)}"
    probes = [Probe(f"{name}-{number}") for number in range(1, count + 1)]
    return Run("/".join(levels), node, probes, rate, during, datetime.now(UTC))


async def send(run: Run, options: SessionOptions, timeout_seconds: float) -> None:
    """Send the probes at the run's rate and wait for receipts, and for the command.

    Returns `timeout_seconds` after the last probe was due at the latest, with what is known then.
    Raises `ConnectionLost` if it cannot begin.
    """
    receipted = ReceiptSession(options, run.node, timeout_seconds)
    commands: list[asyncio.Task[None]] = []
    waiting = iter(enumerate(run.probes))
    turn = asyncio.Lock()
    began_at = time.monotonic()

    async def take() -> None:
        """Send the next probe when it is due; many of these share them."""
        while True:
            async with turn:
                number, probe = next(waiting, (0, None))
                if probe is None:
                    return
                await asyncio.sleep(began_at + number / run.rate - time.monotonic())
                if number == len(run.probes) // 2 and run.during is not None:
                    commands.append(asyncio.create_task(_command(run, run.during)))
            await _send(run, probe, receipted)

    async with receipted.connected():
        began_at = time.monotonic()
        try:
            async with asyncio.timeout(len(run.probes) / run.rate + timeout_seconds):
                await asyncio.gather(*(take() for _ in range(min(len(run.probes), IN_FLIGHT_MAX))))
                await asyncio.gather(*commands)
        except TimeoutError:
            for command in commands:
                command.cancel()
            await asyncio.gather(*commands, return_exceptions=True)


async def _send(run: Run, probe: Probe, receipted: ReceiptSession) -> None:
    def acknowledged() -> None:
        probe.acknowledged = True

    said = {
        "nodeId": run.node,
        "id": probe.id,
        "timestamp": datetime.now(UTC),
        "status": STATUS,
    }
    started = time.perf_counter()
    try:
        receipt = await receipted.publish(run.topic, msgspec.json.encode(said), acknowledged)
    except (PublishRefused, ConnectionLost, NoReceipt) as error:
        probe.trouble = str(error)
    else:
        probe.receipt = receipt
        probe.receipt_ms = (time.perf_counter() - started) * 1000


async def _command(run: Run, text: str) -> None:
    """Run the operator's command; what it prints goes to standard error."""
    started = time.monotonic()
    process = await asyncio.create_subprocess_shell(
        text, stdin=asyncio.subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True
    )
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        run.during_said, run.during_failed = "did not end in time, and was stopped", True
        raise
    run.during_said = f"ended with {code} after {time.monotonic() - started:.1f} s"
    run.during_failed = code != 0
