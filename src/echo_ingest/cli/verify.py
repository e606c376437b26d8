"""`verify`: find out whether a live deployment loses anything.

It sends numbered probes through the broker, and then looks for each of them in the journal and at
every sink (`verify_lookup.py`). A probe is a status report (form `node-status`) with an id and a
time: it is valid, harmless among other data, and recognisable by its status.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import msgspec
import typer
from msgspec import Struct

from echo_ingest.cli.confirmed_publish import NoReceipt, ReceiptSession
from echo_ingest.cli.connection import http_token, require_publisher
from echo_ingest.cli.options import log_from, open_reader, settings_of
from echo_ingest.cli.output import cells, fail, out, print_table, say, say_error, table
from echo_ingest.cli.verify_lookup import (
    NotAnswered,
    ReadApi,
    RunResults,
    SinkProgress,
    in_journal,
    over_http,
)
from echo_ingest.formatting import counted
from echo_ingest.journal import JournalUnusable
from echo_ingest.mqtt import ConnectionLost, PublishRefused, SessionOptions
from echo_ingest.pipeline.receipts import Receipt
from echo_ingest.settings import Settings
from echo_ingest.settings.endpoint import check_http_url

COUNT_MAX = 100_000
IN_FLIGHT_MAX = 1_000
MISSING_SHOWN_MAX = 20
POLL_SECONDS = 0.5
STATUS = "verify"

Look = Callable[[], RunResults]


class Probe(Struct):
    """One message of a run, and how far it got as far as we know."""

    id: str
    acknowledged: bool = False
    receipt: Receipt | None = None
    receipt_ms: float = 0.0
    """The time from the call to publish it until its receipt."""
    trouble: str = ""
    """Why there is neither an acknowledgement nor a receipt."""


class VerifyRun(Struct, kw_only=True):
    """What to send, and what became of it."""

    topic: str
    node: str
    probes: list[Probe]
    rate: float
    during: str | None
    """A shell command that is run once, when half of the probes are sent."""
    began_at: datetime
    during_result: str = ""
    during_failed: bool = False


def verify(
    context: typer.Context,
    count: Annotated[
        int, typer.Option(min=1, max=COUNT_MAX, metavar="N", help="The number of probes.")
    ] = 1_000,
    rate: Annotated[
        float, typer.Option(min=0.001, metavar="N", help="Probes sent per second.")
    ] = 200.0,
    node: Annotated[
        str, typer.Option(metavar="NAME", help="The node that the probes are sent as.")
    ] = "verify",
    during: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="A shell command to run halfway, such as a restart."),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Look in the read API at this address, not the journal."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="The longest wait for each stage.")
    ] = 120.0,
) -> None:
    """Send numbered probes through the broker, and look for each of them.

    The probes ask for receipts; then they are looked for in the journal and
    at every sink. They are kept as status reports of the node [b]verify[/] with
    the status [b]verify[/]. The exit code is 1 if a probe is missing anywhere.
    """
    settings = settings_of(context)
    if not node or set(node) & set("+#/\0"):
        fail(f"--node {node!r} cannot be part of a topic; use a name without + # and /", 2)
    look_since = _lookup(settings, node, http)
    options = require_publisher(settings)
    run = new_run(settings.topic_filters[0], node, count, rate, during)
    look = look_since(run.began_at)
    log_from(logging.ERROR)  # `--during` is meant to break connections
    say(f"sending {counted(count, 'probes')} to {run.topic}, {rate:g} per second")
    asyncio.run(send(run, options, timeout))
    results = _await_results(look, run, timeout)
    missing = list(missing_probes(run, results))
    _report(run, results)
    for line in missing[:MISSING_SHOWN_MAX]:
        out.print(*cells(line))
    if len(missing) > MISSING_SHOWN_MAX:
        out.print(f"and {len(missing) - MISSING_SHOWN_MAX:,} more")
    if run.during_failed:
        say_error(f"the command {run.during_result}, so this run proves less than you asked for")
    if missing:
        fail(f"{len(missing):,} of {counted(count, 'probes')} did not get everywhere")
    out.print("nothing lost")
    raise typer.Exit(run.during_failed)


# ---------------------------------------------------------------------- sending probes


def new_run(topic_filter: str, node: str, count: int, rate: float, during: str | None) -> VerifyRun:
    """Prepare a run with new ids, to a topic that `topic_filter` matches."""
    levels = [node if level in ("+", "#") else level for level in topic_filter.split("/")]
    name = f"verify-{secrets.token_hex(4)}"
    return VerifyRun(
        topic="/".join(levels),
        node=node,
        probes=[Probe(f"{name}-{number}") for number in range(1, count + 1)],
        rate=rate,
        during=during,
        began_at=datetime.now(UTC),
    )


async def send(run: VerifyRun, options: SessionOptions, timeout_seconds: float) -> None:
    """Send the probes at the run's rate; wait for the receipts and for the command.

    Returns at the latest `timeout_seconds` after the last probe was due, with the results so far.
    Raises `ConnectionLost` if it cannot begin.
    """
    session = ReceiptSession(options, run.node, timeout_seconds)
    commands: list[asyncio.Task[None]] = []
    unsent = iter(enumerate(run.probes))
    turn = asyncio.Lock()
    began_at = time.monotonic()

    async def send_when_due() -> None:
        """Send the next probe when it is due, until none is left; many of these run at once."""
        while True:
            async with turn:
                number, probe = next(unsent, (0, None))
                if probe is None:
                    return
                await asyncio.sleep(began_at + number / run.rate - time.monotonic())
                if number == len(run.probes) // 2 and run.during is not None:
                    commands.append(asyncio.create_task(_run_command(run, run.during)))
            await _send_probe(run, probe, session)

    async with session.connected():
        began_at = time.monotonic()
        in_flight_max = min(len(run.probes), IN_FLIGHT_MAX)
        try:
            async with asyncio.timeout(len(run.probes) / run.rate + timeout_seconds):
                await asyncio.gather(*(send_when_due() for _ in range(in_flight_max)))
                await asyncio.gather(*commands)
        except TimeoutError:
            for command in commands:
                command.cancel()
            await asyncio.gather(*commands, return_exceptions=True)


async def _send_probe(run: VerifyRun, probe: Probe, session: ReceiptSession) -> None:
    def acknowledged() -> None:
        probe.acknowledged = True

    report = {
        "nodeId": run.node,
        "id": probe.id,
        "timestamp": datetime.now(UTC),
        "status": STATUS,
    }
    started = time.perf_counter()
    try:
        receipt = await session.publish(run.topic, msgspec.json.encode(report), acknowledged)
    except (PublishRefused, ConnectionLost, NoReceipt) as error:
        probe.trouble = str(error)
    else:
        probe.receipt = receipt
        probe.receipt_ms = (time.perf_counter() - started) * 1000


async def _run_command(run: VerifyRun, command: str) -> None:
    """Run the command of `--during`; its output goes to standard error."""
    started = time.monotonic()
    process = await asyncio.create_subprocess_shell(
        command, stdin=asyncio.subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True
    )
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        run.during_result, run.during_failed = "did not end in time and was stopped", True
        raise
    run.during_result = f"ended with {code} after {time.monotonic() - started:.1f} s"
    run.during_failed = code != 0


# ---------------------------------------------------------------------- looking for them


def _lookup(settings: Settings, node: str, http: str | None) -> Callable[[datetime], Look]:
    """Return how to look for probes that are sent from now on, after one attempt to look."""
    if http is None:
        try:
            after = open_reader(settings).last_offset()
        except JournalUnusable as error:
            fail(
                f"{error}. If the service runs on another machine, name its read API: "
                "--http http://HOST:8080"
            )
        return lambda _began_at: partial(in_journal, settings.journal_path, node, after)
    try:
        url = check_http_url(http)
    except ValueError as error:
        fail(f"--http {http}: {error}", 2)
    api = ReadApi(url, http_token(settings))
    try:
        over_http(api, node, datetime.now().astimezone())
    except NotAnswered as error:
        fail(str(error))
    return lambda began_at: partial(over_http, api, node, began_at)


def _await_results(look: Look, run: VerifyRun, timeout_seconds: float) -> RunResults:
    """Look until nothing more can arrive, or until the timeout."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            results = look()
        except NotAnswered as error:
            if time.monotonic() > deadline:
                fail(str(error))
        else:
            if not may_still_arrive(run, results) or time.monotonic() > deadline:
                return results
        time.sleep(POLL_SECONDS)


def may_still_arrive(run: VerifyRun, results: RunResults) -> bool:
    """Return whether a probe is still on its way.

    A probe that has a receipt and is not in the journal will never arrive.
    """
    offsets = [each for probe in run.probes for each in results.offsets.get(probe.id, ())]
    newest = max(offsets, default=0)
    return any(
        probe.receipt is None and probe.id not in results.offsets for probe in run.probes
    ) or any(sink.cursor < newest for sink in results.sinks.values())


# ---------------------------------------------------------------------- reporting


def missing_probes(run: VerifyRun, results: RunResults) -> Iterator[str]:
    """Yield a line for each probe that is not everywhere where it should be."""
    for probe in run.probes:
        offsets = results.offsets.get(probe.id, [])
        problems = [*_journal_problems(probe, offsets), *_sink_problems(offsets, results)]
        if problems:
            yield f"{probe.id}: {'; '.join(problems)}"


def _journal_problems(probe: Probe, offsets: list[int]) -> Iterator[str]:
    receipt = probe.receipt
    if receipt is not None and receipt.outcome == "rejected":
        yield f"rejected: {receipt.reason}"
    elif receipt is not None and receipt.outcome == "ignored":
        yield "ignored: a form of this site takes the probe for a message that nobody wants"
    elif receipt is not None and not offsets:
        where = "" if receipt.offset is None else f" at offset {receipt.offset:,}"
        yield (
            f"LOST: the receipt says {receipt.outcome}{where}, but the probe is not in the "
            "journal, or is damaged there"
        )
    elif not offsets:
        how = "acknowledged, but" if probe.acknowledged else "not acknowledged and"
        yield f"{how} not in the journal{': ' * bool(probe.trouble)}{probe.trouble}"
    elif receipt is None:
        yield "in the journal, but there was no receipt"
    if len(offsets) > 1:
        listed = ", ".join(f"{each:,}" for each in offsets)
        yield f"stored {len(offsets)} times, at the offsets {listed}"


def _sink_problems(offsets: list[int], results: RunResults) -> Iterator[str]:
    for name, sink in results.sinks.items():
        for offset in offsets:
            if offset in sink.parked:
                yield f"refused by {name} (record {offset:,}): {sink.parked[offset]}"
            elif offset > sink.cursor:
                yield f"waiting for {name} (record {offset:,})"


def _report(run: VerifyRun, results: RunResults) -> None:
    stored = [offsets for probe in run.probes if (offsets := results.offsets.get(probe.id))]
    receipt_times_ms = sorted(probe.receipt_ms for probe in run.probes if probe.receipt is not None)
    lines = {
        "sent": f"{len(run.probes):,}",
        "acknowledged": f"{sum(probe.acknowledged for probe in run.probes):,}",
        "with a receipt": f"{len(receipt_times_ms):,}",
        "stored": f"{len(stored):,}",
    }
    for name, sink in results.sinks.items():
        lines[f"in {name}"] = f"{sum(_is_in(offsets, sink) for offsets in stored):,}"
    if receipt_times_ms:
        lines["publish to receipt"] = percentiles(receipt_times_ms)
    if run.during is not None:
        lines["during"] = f"{run.during} {run.during_result}"
    report = table("", "+", header=False)
    for name, value in lines.items():
        report.add_row(*cells(name, value))
    print_table(report)


def _is_in(offsets: list[int], sink: SinkProgress) -> bool:
    return offsets[0] <= sink.cursor and offsets[0] not in sink.parked


def percentiles(sorted_ms: list[float]) -> str:
    """Return the median, the 99th percentile (both by nearest rank) and the maximum as text."""
    p50, p99 = (sorted_ms[-(-len(sorted_ms) * share // 100) - 1] for share in (50, 99))
    return f"p50 {p50:,.1f} ms, p99 {p99:,.1f} ms, max {sorted_ms[-1]:,.1f} ms"
