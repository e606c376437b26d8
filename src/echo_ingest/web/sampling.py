"""A sample of the ingest process each minute, for the almanac: what came, what waits, what room is.

A sample in which it did not answer is noted too.
"""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import NoReturn

import apsw

from echo_ingest.almanac import note_sample
from echo_ingest.gauges import ServiceGauges
from echo_ingest.ipc import NoAnswer
from echo_ingest.journal import Ledger
from echo_ingest.web.health import Service

MINUTE_SECONDS = 60
AGAIN_SECONDS = 2
DISK_ERRORS = (
    *(apsw.BusyError, apsw.FullError, apsw.IOError),
    *(apsw.ReadOnlyError, apsw.CantOpenError),
)


async def sample_each_minute(service: Service, almanac_path: Path) -> NoReturn:
    """Note how `service` is, now and at each full minute, until cancelled."""
    while True:
        ledger: Ledger | None = None
        gauges: ServiceGauges | None = None
        with contextlib.suppress(NoAnswer):
            ledger, gauges = await service.ledger(), await service.gauges()
        now_ms = time.time_ns() // 1_000_000
        try:
            await asyncio.to_thread(note_sample, almanac_path, now_ms, ledger, gauges)
        except (*DISK_ERRORS, OSError):
            # A full disk leaves a gap in a curve; the almanac's follower says why.
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            await asyncio.sleep(MINUTE_SECONDS - time.time() % MINUTE_SECONDS)
