"""The delivery process: `python -m echo_ingest.pipeline.deliver`.

`service/delivery_process.py` starts it; nobody types it. When it is told to stop, or its parent
has gone, each sink finishes and settles its current write, which would otherwise be repeated.
"""

import asyncio
import contextlib
import functools
import socket
import sys

import msgspec
import structlog
from prometheus_client import generate_latest

from echo_ingest import metrics
from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal, JournalFull, JournalUnusable
from echo_ingest.journal.recovery.detect import noting
from echo_ingest.pipeline.deliver import Deliver
from echo_ingest.pipeline.deliver.attempts import Turns
from echo_ingest.pipeline.deliver.ipc import (
    DRAIN_SECONDS,
    REPORT_SECONDS,
    WAKES_BYTES_MAX,
    DeliveryBootstrap,
    DeliveryReport,
)
from echo_ingest.process.child import begin
from echo_ingest.process.log import configure_log
from echo_ingest.process.shutdown import cancel, first_error, stop_signal
from echo_ingest.settings import Settings
from echo_ingest.sinks import Sink
from echo_ingest.sinks.registry import sinks_of
from echo_ingest.site_decoder import decoder_of, follow_site

NICENESS = 5
"""Between the line, which comes first, and the web process, which comes last."""
OOM_SCORE = 250
"""Likewise."""

log = structlog.get_logger("deliver")


def main() -> int:
    """Deliver until told to stop, or until the parent is gone."""
    handed: DeliveryBootstrap = begin(NICENESS, OOM_SCORE)
    configure_log(handed.log_level)
    return asyncio.run(_run(handed))


async def _run(handed: DeliveryBootstrap) -> int:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=handed.line))
    try:
        await _deliver(handed.settings, reader, writer)
    except JournalFull as error:  # we are started again, and there may be room then
        log.error("delivery waits", reason=str(error))
        return 1
    except JournalUnusable as error:
        await _tell(writer, DeliveryReport(unusable=str(error)))
        return 1
    return 0


async def _deliver(
    settings: Settings, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    path = settings.journal_path
    stopping = stop_signal()
    with noting(path), contextlib.closing(Journal(path)) as journal:
        sinks = sinks_of(settings)
        decoder = decoder_of(settings)
        deliveries = wired(journal, sinks, decoder, settings)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(deliver.run(stopping)) for deliver in deliveries]
                beside = [
                    tasks.create_task(_wake(reader, deliveries, stopping)),
                    tasks.create_task(_report(writer, deliveries)),
                    tasks.create_task(follow_site(settings, decoder)),
                ]
                await stopping.wait()
                wake(deliveries)
                _, unfinished = await asyncio.wait(running, timeout=DRAIN_SECONDS)
                await cancel([*unfinished, *beside])
        except BaseExceptionGroup as group:
            raise first_error(group) from group
        finally:
            for sink in sinks:
                await sink.close()


def wired(
    journal: Journal, sinks: list[Sink], decoder: Decoder, settings: Settings
) -> list[Deliver]:
    """One for each sink. Those that are to name clips stay behind the one that keeps them."""
    deliver = functools.partial(Deliver, journal, decoder=decoder, turns=Turns())
    if settings.audio == "embedded":
        return [deliver(sink) for sink in sinks]
    first, *others = sinks  # the settings ask for a clip store, and the registry has it first
    behind: list[Deliver] = []
    clip_store = deliver(first, on_settled=lambda: wake(behind))
    behind += [deliver(sink, clip_store=clip_store) for sink in others]
    return [clip_store, *behind]


def wake(deliveries: list[Deliver]) -> None:
    """There is something new for them, or it is time to stop."""
    for deliver in deliveries:
        deliver.wake()


async def _wake(
    reader: asyncio.StreamReader, deliveries: list[Deliver], stopping: asyncio.Event
) -> None:
    """Pass on that there is something new; when the parent is gone, that it is time to stop."""
    with contextlib.suppress(ConnectionError):  # it was killed with reports of ours unread
        while await reader.read(WAKES_BYTES_MAX):
            wake(deliveries)
    stopping.set()


async def _report(writer: asyncio.StreamWriter, deliveries: list[Deliver]) -> None:
    while True:
        states = {deliver.name: deliver.state for deliver in deliveries}
        await _tell(writer, DeliveryReport(states, generate_latest(metrics.DELIVERY).decode()))
        await asyncio.sleep(REPORT_SECONDS)


async def _tell(writer: asyncio.StreamWriter, report: DeliveryReport) -> None:
    with contextlib.suppress(ConnectionError):  # the parent is gone
        writer.write(msgspec.json.encode(report) + b"\n")
        await writer.drain()


if __name__ == "__main__":
    sys.exit(main())
