"""Retention: what is older than it, and what every sink has, goes."""

import asyncio
import contextlib
import time

import structlog

from echo_ingest.journal import Journal, JournalFull

POLL_SECONDS = 10.0
PAUSE_SECONDS = 0.05
DAY_MS = 86_400_000

log = structlog.get_logger("retain")


async def retain(journal: Journal, days: int) -> None:
    """Trim until cancelled, a little at a time, between batches; never, where `days` is 0."""
    while days:
        trimmed = 0
        with contextlib.suppress(JournalFull):  # removing takes room too, until the next commit
            trimmed = journal.trim(cutoff_ms(time.time_ns() // 1_000_000, days))
        if trimmed:
            log.info("trimmed", records=trimmed)
        await asyncio.sleep(PAUSE_SECONDS if trimmed else POLL_SECONDS)


def cutoff_ms(now_ms: int, days: int) -> int:
    """The moment before which what was received is too old, in milliseconds since 1970."""
    return now_ms - days * DAY_MS
