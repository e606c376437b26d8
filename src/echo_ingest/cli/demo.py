"""`demo`: simulated devices publish, and the terminal shows the message ledger live."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from random import Random

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from echo_ingest.almanac import almanac_path, note_sample
from echo_ingest.cli.output import cells, fitted, moment, out, progress, table
from echo_ingest.cli.records import decoded_records, summary_of
from echo_ingest.decode import Decoder
from echo_ingest.gauges import ServiceGauges
from echo_ingest.journal import Journal, Ledger
from echo_ingest.journal.decoding import Unreadable
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.record import kind
from echo_ingest.service import Runtime, ServiceStopped
from echo_ingest.settings import Settings
from echo_ingest.simulator import Device, fleet, history, publish_for_ever
from echo_ingest.site_decoder import decoder_of

REFRESH_SECONDS = 0.5
RATE_REFRESHES = 20
NEWEST = 10
SAMPLE_MS, STEP_MS, DAY_MS = 120_000, 600_000, 86_400_000


async def demonstrate(runtime: Runtime) -> None:
    """Publish as a fleet of devices to `runtime`'s broker and show the results, until cancelled.

    The fleet logs in as echopub. An empty journal first gets some simulated days.
    """
    publisher = runtime.publisher
    if publisher is None:
        raise ServiceStopped("only a hash of echopub's password is kept here: set IOT_PUB_PASSWORD")
    assert runtime.endpoint is not None  # it is our own broker
    session = Session(
        SessionOptions(
            endpoint=runtime.endpoint,
            client_id=f"{runtime.settings.client_id}-demo-fleet",
            login=lambda: (publisher.user, publisher.password),
        )
    )
    began_at = datetime.now(UTC)
    devices = fleet(runtime.settings.topic_prefixes[0], began_at)
    if runtime.journal.ledger().received == 0:
        await _add_history(runtime, devices, began_at)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(session.run())
        for number, device in enumerate(devices):
            tasks.create_task(publish_for_ever(session, device, Random(number)))  # noqa: S311
        await _show(runtime)


def console_address(settings: Settings) -> str:
    """Return the console's address for a browser on this machine."""
    host = "localhost" if settings.bind in ("0.0.0.0", "::") else settings.bind  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{settings.http_port}/console"


def write_history(
    journal: Journal,
    almanac: Path,
    devices: Sequence[Device],
    began_at: datetime,
    decoder: Decoder,
) -> Iterator[tuple[int, int]]:
    """Write simulated days before `began_at` into `journal`, ten minutes at a time.

    Yields for each step how many messages it added, and how many there are in all. For the last day
    it also notes the samples that the web process would have taken for the console's curves.
    """
    rng = Random(0)  # noqa: S311
    events = history.events(devices, began_at, rng)
    total = sum(len(device.payload_makers) * device.repeats for _, _, device in events)
    sampled_from_ms = began_at.timestamp() * 1_000 - DAY_MS
    spans = groupby(history.messages(events, rng), lambda each: each.received_at_ms // STEP_MS)
    for span, messages in spans:
        arrivals = [(message, decoder.identify(message)) for message in messages]
        journal.append(arrivals)
        journal.acknowledged()
        yield len(arrivals), total
        if span * STEP_MS >= sampled_from_ms:
            gauges = ServiceGauges(
                journal_bytes=journal.used_bytes(),
                disk_free_bytes=journal.disk_free_bytes(),
                room_bytes=journal.room_bytes(),
            )
            for at_ms in range(span * STEP_MS, (span + 1) * STEP_MS, SAMPLE_MS):
                note_sample(almanac, at_ms, journal.ledger(), gauges)


async def _add_history(runtime: Runtime, devices: Sequence[Device], began_at: datetime) -> None:
    """Add the days before to the running service's journal, and show the progress."""
    settings = runtime.settings
    steps = write_history(
        runtime.journal,
        almanac_path(settings.data_dir),
        devices,
        began_at,
        decoder_of(settings),
    )
    count, total = next(steps)
    with progress(total, f"{history.DAYS} simulated days") as advance:
        advance(count)
        for count, _ in steps:
            advance(count)
            runtime.delivery.wake()
            await asyncio.sleep(0)


async def _show(runtime: Runtime) -> None:
    reader = JournalReader(runtime.journal.path)
    received: deque[int] = deque(maxlen=RATE_REFRESHES + 1)
    address = Text.assemble(("console ", "dim"), console_address(runtime.settings))
    with contextlib.closing(reader), Live(console=out, auto_refresh=False) as live:
        while True:
            ledger = runtime.journal.ledger()
            received.append(ledger.received)
            seconds = max(len(received) - 1, 1) * REFRESH_SECONDS
            rate = (received[-1] - received[0]) / seconds
            live.update(
                Group(address, _ledger(ledger, rate), _newest(runtime, reader)), refresh=True
            )
            await asyncio.sleep(REFRESH_SECONDS)


def _ledger(ledger: Ledger, rate: float) -> RenderableType:
    adds_up = ledger.received == ledger.accounted
    line = Text.assemble(
        ("received ", "dim"), f"{ledger.received:,}",
        ("  =  stored ", "dim"), f"{ledger.stored:,}",
        ("  +  duplicates ", "dim"), f"{ledger.duplicates:,}",
        ("  +  dead letters ", "dim"), f"{ledger.dead_letters:,}",
        ("  ✓", "green") if adds_up else ("  does not add up!", "bold red"),
        (f"   {rate:.1f} messages/s", "dim"),
    )  # fmt: skip
    for name, sink in ledger.sinks.items():
        line.append(
            f"\n{name}: {sink.delivered:,} delivered, {sink.parked:,} parked, "
            f"{sink.backlog:,} waiting, the oldest for {sink.lag_seconds:.0f} s"
            f"{', paused' if sink.paused_at_ms is not None else ''}"
        )
    return line


def _newest(runtime: Runtime, reader: JournalReader) -> Table:
    decoder = runtime.decoder
    rows = table("observed", "node~", "kind", "summary+")
    newest = decoded_records(decoder, Selection(), reader.newest(Selection(), NEWEST))
    for each in islice(newest, NEWEST):
        record = each.record
        if isinstance(record, Unreadable):
            continue
        node = record.node or record.sensor_id
        rows.add_row(*cells(moment(record.observed_at), node, kind(record), summary_of(record)))
    return fitted(rows)
