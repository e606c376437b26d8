"""`demo`: the fleet publishes, and the terminal shows the ledger as it grows."""

import asyncio
import contextlib
from collections import deque
from datetime import UTC, datetime
from itertools import islice
from random import Random

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from echo_ingest.cli.records import what
from echo_ingest.cli.screen import cells, moment, out, progress, table
from echo_ingest.decode import decode, identify
from echo_ingest.fleet import Device, fleet, past, publish_for_ever
from echo_ingest.journal import Ledger
from echo_ingest.journal.archive import Archive, Selection
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.record import Rejected, kind
from echo_ingest.service import House, Stopped
from echo_ingest.settings import Settings

REFRESH_SECONDS = 0.5
RATE_REFRESHES = 20
NEWEST = 10
PAST_BATCH = 100


async def demonstrate(house: House) -> None:
    """Run the fleet against `house`, as echopub, and show what comes of it, until cancelled.

    A journal that has had nothing yet gets some days to begin with.
    """
    publisher = house.publisher
    if publisher is None:
        raise Stopped(
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


async def _remember(house: House, devices: tuple[Device, ...], began_at: datetime) -> None:
    """Put the days before into the journal; the house goes on beside it."""
    rng = Random(0)  # noqa: S311
    events = past.events(devices, began_at, rng)
    messages = past.messages(events, rng)
    total = sum(device.repeats for _, _, device in events)
    with progress(total, f"{past.DAYS} simulated days") as advance:
        while batch := list(islice(messages, PAST_BATCH)):
            limit = house.settings.payload_bytes_max
            house.journal.append([(message, identify(message, limit)) for message in batch])
            house.wake_sinks()
            advance(len(batch))
            await asyncio.sleep(0)
    house.journal.acknowledged()


async def _show(house: House) -> None:
    archive = Archive(house.journal.path)
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


def _newest(house: House, archive: Archive) -> Table:
    rows = table("observed", "node", "kind", "what+")
    for entry in archive.newest(Selection(), NEWEST):
        record = decode(entry.message, house.settings.payload_bytes_max)
        if isinstance(record, Rejected):  # stored by a version that took it
            continue
        node = record.node or record.sensor_id
        rows.add_row(*cells(moment(record.observed_at), node, kind(record), what(record)))
    return rows
