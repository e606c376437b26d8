"""Retention: remove records that are too old, once every sink has settled them, and dead letters.

The clock of a machine may leap, so a record is removed only if both agree: the clock, by the time
of receipt, and the order in which the journal has seen days pass (`journal/receipt_days.py`).
"""

import asyncio
import contextlib
import time

import structlog

from echo_ingest.formatting import utc
from echo_ingest.journal import Journal, JournalFull
from echo_ingest.journal.receipt_days import DAY_MS

POLL_SECONDS = 10.0
PAUSE_SECONDS = 0.05
LEAP_MS = 3_600_000
SILENCE_MS = 30 * DAY_MS
"""A service may have been off, so only a longer silence before its start is worth a word."""

YEAR_DAYS = 365.25

log = structlog.get_logger("retain")


class HostClock:
    """The clock of this machine, and for how long it has been on: that goes on whatever is set."""

    def now_ms(self) -> int:
        """Return the time: milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000

    def elapsed_ms(self) -> int:
        """Return a time that nobody sets, of which only differences mean something."""
        elapsed = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # it counts sleep, too
        return time.clock_gettime_ns(elapsed) // 1_000_000


class Retention:
    """What `retain` does, a round at a time."""

    def __init__(self, journal: Journal, days: int, clock: HostClock) -> None:
        self._journal = journal
        self._days = days
        self._clock = clock
        self._now_ms, self._elapsed_ms = clock.now_ms(), clock.elapsed_ms()
        self._compare_with_newest()

    def round(self) -> int:
        """Note the day and any leap of the clock, remove what is due, and return how much it was.

        Raises `JournalFull`: removing takes room too, until it is committed.
        """
        now_ms, elapsed_ms = self._clock.now_ms(), self._clock.elapsed_ms()
        expected_ms = self._now_ms + elapsed_ms - self._elapsed_ms
        leapt = abs(now_ms - expected_ms) > LEAP_MS
        self._journal.note_day(now_ms, leapt=leapt)
        self._now_ms, self._elapsed_ms = now_ms, elapsed_ms
        if leapt:
            log.warning(
                f"the clock of this machine leapt {'ahead' if now_ms > expected_ms else 'back'} by "
                f"{length(abs(now_ms - expected_ms))}; no record is removed because of it",
                was=str(utc(expected_ms)),
                now=str(utc(now_ms)),
            )
        if not self._days:
            return 0
        return self._journal.trim(cutoff_ms(now_ms, self._days), days=self._days, now_ms=now_ms)

    def discard_round(self) -> int:
        """Discard dead letters that are as old as the records that `round` removes.

        Return how many; it raises `JournalFull` too.
        """
        if not self._days:
            return 0
        now_ms = self._clock.now_ms()
        return self._journal.discard_old_dead_letters(
            cutoff_ms(now_ms, self._days), days=self._days, now_ms=now_ms
        )

    def _compare_with_newest(self) -> None:
        """Say so if the clock can hardly be right at the start, by the newest record."""
        newest_ms = self._journal.newest_received_at_ms()
        if newest_ms is None:
            return
        passed_ms = self._now_ms - newest_ms
        if passed_ms < -LEAP_MS:
            log.warning(
                f"by the clock of this machine it is {length(-passed_ms)} earlier than when the "
                "newest record was received: it is wrong now, or it was then; no record is removed "
                "because of it",
                newest=str(utc(newest_ms)),
                now=str(utc(self._now_ms)),
            )
        elif passed_ms > SILENCE_MS:
            log.warning(
                f"by the clock of this machine {length(passed_ms)} have passed since the newest "
                "record was received; if that is not so, its clock leapt, and no record is removed "
                "because of it",
                newest=str(utc(newest_ms)),
                now=str(utc(self._now_ms)),
            )


async def retain(journal: Journal, days: int) -> None:
    """Remove old records and dead letters until cancelled, a little at a time; none with 0 days.

    The days that pass are noted in any case, so that a retention that is set later knows them.
    """
    retention = Retention(journal, days, HostClock())
    while True:
        trimmed = discarded = 0
        with contextlib.suppress(JournalFull):
            trimmed = retention.round()
            discarded = retention.discard_round()
        if trimmed or discarded:
            log.info("trimmed", records=trimmed, dead_letters=discarded)
        await asyncio.sleep(PAUSE_SECONDS if trimmed or discarded else POLL_SECONDS)


def cutoff_ms(now_ms: int, days: int) -> int:
    """Return the time, in milliseconds since 1970, before which a receipt is too long ago."""
    return now_ms - days * DAY_MS


def length(milliseconds: int) -> str:
    """Return a length of time for people, roughly: `9.4 years`, `60 days` or `5.0 hours`."""
    days = milliseconds / DAY_MS
    if days >= YEAR_DAYS:
        return f"{days / YEAR_DAYS:.1f} years"
    return f"{days:.0f} days" if days >= 2 else f"{days * 24:.1f} hours"
