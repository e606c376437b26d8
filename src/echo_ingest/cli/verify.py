"""`verify`: does a live deployment lose anything? Probes go in, and are looked for everywhere."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Annotated

import typer

from echo_ingest.cli.connection import http_token, require_publisher
from echo_ingest.cli.options import archive_of, log_from, settings_of
from echo_ingest.cli.output import cells, fail, out, say, say_error, table
from echo_ingest.cli.probes import Probe, Run, new_run, send
from echo_ingest.cli.verify_lookup import (
    NotAnswered,
    ReadApi,
    RunResults,
    SinkFound,
    in_journal,
    over_http,
)
from echo_ingest.journal import JournalUnusable
from echo_ingest.settings import Settings
from echo_ingest.settings.endpoint import check_http_url

POLL_SECONDS = 0.5
MISSING_SHOWN_MAX = 20
COUNT_MAX = 100_000

Look = Callable[[], RunResults]


def verify(
    context: typer.Context,
    count: Annotated[int, typer.Option(min=1, max=COUNT_MAX, help="How many probes.")] = 1_000,
    rate: Annotated[float, typer.Option(min=0.001, help="How many a second.")] = 200.0,
    node: Annotated[
        str, typer.Option(metavar="NAME", help="The node that they come from.")
    ] = "verify",
    during: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="Run this in the middle: restart something."),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask the read API there, not the journal here."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="The longest wait for each stage.")
    ] = 120.0,
) -> None:
    """Send numbered probes through the broker, and find each one again.

    They ask for receipts, and are looked for in the journal and at every sink.
    They stay: as status reports of the node [b]verify[/], with the status
    [b]verify[/]. Ends with 1 if anything is missing.
    """
    settings = settings_of(context)
    if not node or set(node) & set("+#/\0"):
        fail(f"--node {node!r} is no level of a topic: leave out + # and /", 2)
    look_since = _place(settings, node, http)
    options = require_publisher(settings)
    run = new_run(settings.topic_filters[0], node, count, rate, during)
    look = look_since(run.began_at)
    log_from(logging.ERROR)  # that connections are lost is what `--during` is for
    say(f"{count:,} probes go to {run.topic}, at {rate:g} a second")
    asyncio.run(send(run, options, timeout))
    found = _follow(look, run, timeout)
    missing = list(_missing(run, found))
    _report(run, found)
    for line in missing[:MISSING_SHOWN_MAX]:
        out.print(*cells(line))
    if len(missing) > MISSING_SHOWN_MAX:
        out.print(f"and {len(missing) - MISSING_SHOWN_MAX:,} more")
    if run.during_failed:
        say_error(f"the command {run.during_said}: this shows less than was asked for")
    if missing:
        fail(f"{len(missing):,} of {count:,} are missing somewhere")
    out.print("nothing lost")
    raise typer.Exit(run.during_failed)


def _place(settings: Settings, node: str, http: str | None) -> Callable[[datetime], Look]:
    """Where to look, tried once: for probes sent from now on."""
    if http is None:
        try:
            after = archive_of(settings).last_offset()
        except JournalUnusable as error:
            fail(f"{error}. From another machine, name the read API: --http http://HOST:8080")
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


def _follow(look: Look, run: Run, timeout_seconds: float) -> RunResults:
    """Look until all that can still come is there, or time is up."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            found = look()
        except NotAnswered as error:
            if time.monotonic() > deadline:
                fail(str(error))
        else:
            if not _may_come(run, found) or time.monotonic() > deadline:
                return found
        time.sleep(POLL_SECONDS)


def _may_come(run: Run, found: RunResults) -> bool:
    """Is anything under way? What has a receipt and is not in the journal will never come."""
    offsets = [each for probe in run.probes for each in found.offsets.get(probe.id, ())]
    on_the_way = any(p.receipt is None and p.id not in found.offsets for p in run.probes)
    return on_the_way or any(sink.cursor < max(offsets, default=0) for sink in found.sinks.values())


def _missing(run: Run, found: RunResults) -> Iterator[str]:
    """A line for each probe that is not everywhere where it must be."""
    for probe in run.probes:
        where = found.offsets.get(probe.id, [])
        wrong = [*_on_the_way_in(probe, where), *_on_the_way_out(where, found)]
        if wrong:
            yield f"{probe.id}: {'; '.join(wrong)}"


def _on_the_way_in(probe: Probe, where: list[int]) -> Iterator[str]:
    receipt = probe.receipt
    if receipt is not None and receipt.outcome == "rejected":
        yield f"rejected: {receipt.reason}"
    elif receipt is not None and not where:
        yield f"LOST: its receipt says {receipt.outcome}, and it is not in the journal, or damaged"
    elif not where:
        how = "acknowledged, but" if probe.acknowledged else "not acknowledged, and"
        yield f"{how} not in the journal{': ' * bool(probe.trouble)}{probe.trouble}"
    elif receipt is None:
        yield "in the journal, but no receipt came"
    if len(where) > 1:
        yield f"stored {len(where)} times, at offsets {', '.join(f'{each:,}' for each in where)}"


def _on_the_way_out(where: list[int], found: RunResults) -> Iterator[str]:
    for name, sink in found.sinks.items():
        for offset in where:
            if offset in sink.parked:
                yield f"parked by {name} (record {offset:,}): {sink.parked[offset]}"
            elif offset > sink.cursor:
                yield f"waits for {name} (record {offset:,})"


def _report(run: Run, found: RunResults) -> None:
    stored = [where for probe in run.probes if (where := found.offsets.get(probe.id))]
    receipted = [probe for probe in run.probes if probe.receipt is not None]
    lines = {
        "sent": f"{len(run.probes):,}",
        "acknowledged": f"{sum(probe.acknowledged for probe in run.probes):,}",
        "receipted": f"{len(receipted):,}",
        "stored": f"{len(stored):,}",
    }
    for name, sink in found.sinks.items():
        lines[f"in {name}"] = f"{sum(_is_in(where, sink) for where in stored):,}"
    if receipted:
        lines["publish to receipt"] = _percentiles(sorted(probe.receipt_ms for probe in receipted))
    if run.during is not None:
        lines["during"] = f"{run.during} {run.during_said}"
    report = table("", "+", header=False)
    for name, value in lines.items():
        report.add_row(*cells(name, value))
    out.print(report)


def _is_in(where: list[int], sink: SinkFound) -> bool:
    return where[0] <= sink.cursor and where[0] not in sink.parked


def _percentiles(sorted_ms: list[float]) -> str:
    """By nearest rank."""
    p50, p99 = (sorted_ms[-(-len(sorted_ms) * share // 100) - 1] for share in (50, 99))
    return f"p50 {p50:,.1f} ms, p99 {p99:,.1f} ms, max {sorted_ms[-1]:,.1f} ms"
