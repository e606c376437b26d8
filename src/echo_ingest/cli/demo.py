"""`demo`: the fleet publishes, and the terminal shows the ledger as it grows."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from random import Random

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from echo_ingest.almanac import ServiceStatus, almanac_path, note_sample
from echo_ingest.cli.output import cells, moment, out, progress, table
from echo_ingest.cli.records import what
from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal, Ledger
from echo_ingest.journal.decoding import Unreadable, decode_entry
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.record import kind
from echo_ingest.service import Runtime, ServiceStopped
from echo_ingest.settings import Settings
from echo_ingest.simulator import Device, fleet, history, publish_for_ever

REFRESH_SECONDS = 0.5
RATE_REFRESHES = 20
NEWEST = 10
LOOK_MS, STEP_MS, DAY_MS = 120_000, 600_000, 86_400_000


async def demonstrate(house: Runtime) -> None:
    """Run the fleet against `house`, as echopub, and show what comes of it, until cancelled.

    A journal that has had nothing yet gets some days to begin with.
    """
    publisher = house.publisher
    if publisher is None:
        raise ServiceStopped(
            "the password of echopub is not known here, only its hash: set IOT_PUB_PASSWORD"
        )
    session = Session(
        SessionOptions(
            endpoint=house.endpoint,
            client_id=f"{house.settings.client_id}-demo-fleet",
            login=lambda: (publisher.user, publisher.password),
        )
    )
    began_at = datetime.now(UTC)
    devices = fleet(house.settings.topic_prefixes[0], began_at)
    if house.journal.ledger().received == 0:
        await _remember(house, devices, began_at)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(session.run())
        for number, device in enumerate(devices):
            tasks.create_task(publish_for_ever(session, device, Random(number)))  # noqa: S311
        await _show(house)


def console_address(settings: Settings) -> str:
    """Where a browser on this machine finds the console."""
    host = "localhost" if settings.bind in ("0.0.0.0", "::") else settings.bind  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{settings.http_port}/console"


def remember(
    journal: Journal,
    almanac: Path,
    devices: Sequence[Device],
    began_at: datetime,
    decoder: Decoder,
) -> Iterator[tuple[int, int]]:
    """Put the days before into `journal`, ten minutes at a time; tell how many, and of how many.

    For the console's curves, its last day is looked at as the web process would have.
    """
    rng = Random(0)  # noqa: S311
    events = history.events(devices, began_at, rng)
    total = sum(len(device.payload_makers) * device.repeats for _, _, device in events)
    looked_at_from_ms = began_at.timestamp() * 1_000 - DAY_MS
    spans = groupby(history.messages(events, rng), lambda each: each.received_at_ms // STEP_MS)
    for span, messages in spans:
        arrivals = [(message, decoder.identify(message)) for message in messages]
        journal.append(arrivals)
        journal.acknowledged()
        yield len(arrivals), total
        if span * STEP_MS >= looked_at_from_ms:
            room = journal.used_bytes(), journal.disk_free_bytes(), journal.room_bytes()
            for at_ms in range(span * STEP_MS, (span + 1) * STEP_MS, LOOK_MS):
                note_sample(almanac, at_ms, journal.ledger(), ServiceStatus(*room))


async def _remember(house: Runtime, devices: Sequence[Device], began_at: datetime) -> None:
    """The same, while the house goes on beside it."""
    settings = house.settings
    past_of = remember(
        house.journal,
        almanac_path(settings.data_dir),
        devices,
        began_at,
        Decoder(settings.payload_bytes_max),
    )
    count, total = next(past_of)
    with progress(total, f"{history.DAYS} simulated days") as advance:
        advance(count)
        for count, _ in past_of:
            advance(count)
            house.delivery.wake()
            await asyncio.sleep(0)


async def _show(house: Runtime) -> None:
    archive = JournalReader(house.journal.path)
    received: deque[int] = deque(maxlen=RATE_REFRESHES + 1)
    where = Text.assemble(("console ", "dim"), console_address(house.settings))
    with contextlib.closing(archive), Live(console=out, auto_refresh=False) as live:
        while True:
            ledger = house.journal.ledger()
            received.append(ledger.received)
            seconds = max(len(received) - 1, 1) * REFRESH_SECONDS
            rate = (received[-1] - received[0]) / seconds
            live.update(Group(where, _ledger(ledger, rate), _newest(house, archive)), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)


def _ledger(ledger: Ledger, rate: float) -> RenderableType:
    closes = ledger.received == ledger.stored + ledger.duplicates + ledger.dead_letters
    line = Text.assemble(
        ("received ", "dim"), f"{ledger.received:,}",
        ("  =  stored ", "dim"), f"{ledger.stored:,}",
        ("  +  duplicates ", "dim"), f"{ledger.duplicates:,}",
        ("  +  dead letters ", "dim"), f"{ledger.dead_letters:,}",
        ("  ✓", "green") if closes else ("  does not close!", "bold red"),
        (f"   {rate:.1f} messages/s", "dim"),
    )  # fmt: skip
    for name, sink in ledger.sinks.items():
        line.append(
            f"\n{name}: {sink.delivered:,} delivered, {sink.parked:,} parked, "
            f"{sink.backlog:,} waiting for {sink.lag_seconds:.0f} s"
            f"{', paused' if sink.paused_at_ms is not None else ''}"
        )
    return line


def _newest(house: Runtime, archive: JournalReader) -> Table:
    decoder = Decoder(house.settings.payload_bytes_max)
    rows = table("observed", "node", "kind", "what+")
    for entry in archive.newest(Selection(), NEWEST):
        record = decode_entry(decoder, entry)
        if isinstance(record, Unreadable):
            continue
        node = record.node or record.sensor_id
        rows.add_row(*cells(moment(record.observed_at), node, kind(record), what(record)))
    return rows
