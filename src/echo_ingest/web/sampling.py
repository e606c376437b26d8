"""A look at the ingest process each minute, for the almanac: what came, what waits, what room is.

That it did not answer is noted too.
"""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import NoReturn

import apsw
from prometheus_client.parser import text_string_to_metric_families

from echo_ingest.almanac import ServiceStatus, note_sample
from echo_ingest.ipc import NoAnswer
from echo_ingest.journal import Ledger
from echo_ingest.web.health import Service

MINUTE_SECONDS = 60
AGAIN_SECONDS = 2


async def sample_each_minute(service: Service, almanac_path: Path) -> NoReturn:
    """Note how `service` is, now and at each full minute, until cancelled."""
    while True:
        ledger: Ledger | None = None
        figures: ServiceStatus | None = None
        with contextlib.suppress(NoAnswer):
            ledger, figures = await service.ledger(), figures_in(await service.metrics())
        now_ms = time.time_ns() // 1_000_000
        try:
            await asyncio.to_thread(note_sample, almanac_path, now_ms, ledger, figures)
        except (apsw.BusyError, apsw.FullError, apsw.IOError, OSError):
            # A full disk leaves a gap in a curve; the almanac's follower says why.
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            await asyncio.sleep(MINUTE_SECONDS - time.time() % MINUTE_SECONDS)


def figures_in(metrics: str) -> ServiceStatus:
    """What the almanac notes of the metrics, in Prometheus' text format."""
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if not sample.labels
    }
    dropped = values.get("echo_ingest_broker_dropped_messages_total")
    return ServiceStatus(
        journal_bytes=int(values["echo_ingest_journal_bytes"]),
        disk_free_bytes=int(values["echo_ingest_disk_free_bytes"]),
        room_bytes=int(values["echo_ingest_journal_room_bytes"]),
        broker_dropped=None if dropped is None else int(dropped),
    )
