"""Which record ends the process that delivers: it is found, and parked after a few deaths.

A library may crash on a record, or need more memory for it than there is. Without this, the process
would read the same batch again at each start, and end in it for ever.

In normal operation nothing is written but a row for each sink at the start, which goes when the
process ends in order. If the row is there at a start, the process before has died, perhaps in a
batch. Then this one delivers with care until it is past a whole batch: `CHUNK_RECORDS` at a time,
noted before they are even read, until they have an outcome. If it dies meanwhile, each of these is
suspected and is offered alone. One in which the process dies `DEATHS_MAX` times in a row is parked.

A sink that is unavailable kills no process, but somebody may kill the service meanwhile, again and
again. That must park nothing. So a suspected record is offered only
  - some time after the start: a process that is killed as soon as it starts proves nothing;
  - if the sink answers a probe;
  - while no other sink is written to, whose record it might be.
Any outcome clears the suspicion, Unavailable included. So does a write that lasts for
`SURVIVED_SECONDS` in a process that responds: it waits for the sink, and nothing is concluded from
the end of a process that waits.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from random import Random

import structlog
from msgspec import structs

from echo_ingest.journal import Journal, JournalFull
from echo_ingest.journal.attempts import Attempt
from echo_ingest.journal.cursors import Refused
from echo_ingest.reasons import ReasonCode

CHUNK_RECORDS = 32
"""After a death by chance, 1,000 records thus need 32 writes instead of one."""
DEATHS_MAX = 3
SURVIVED_SECONDS = 3.0
AFTER_START_SECONDS = (1.0, 5.0)
QUIET_SECONDS_MAX = 5.0

NOTHING = Attempt()

log = structlog.get_logger("deliver")


class Attempts:
    """What is noted of the deliveries to one sink, and which records it is offered together."""

    def __init__(self, journal: Journal, sink: str, batch_records_max: int, rng: Random) -> None:
        self.chunk_records = min(CHUNK_RECORDS, batch_records_max)
        """How many records are offered at once with care."""
        self._journal = journal
        self._sink = sink
        self._batch_records_max = batch_records_max
        self._rng = rng
        self._suspicion = NOTHING
        self._careful_records = 0
        self._suspects_from = 0.0

    def begin(self) -> None:
        """Note that the process delivers, and whether the one before died. Raises `JournalFull`."""
        before = self._journal.attempt(self._sink)
        if before is None:
            self._note(NOTHING)
            return
        self._careful_records = self._batch_records_max
        self._suspects_from = time.monotonic() + self._rng.uniform(*AFTER_START_SECONDS)
        if before.is_offered:
            self._suspicion = structs.replace(before, deaths=before.deaths + 1, is_offered=False)
            self._note(self._suspicion)
        else:
            self._suspicion = before
        log.warning(
            "the process that delivered before has died; records go a few at a time",
            sink=self._sink,
            suspected=[before.first, before.last] if self._suspicion.deaths else [],
            deaths=self._suspicion.deaths,
        )

    def end(self) -> None:
        """Note that the process ends in order; what is suspected remains so."""
        with contextlib.suppress(JournalFull):  # else the next start is a careful one
            self._note(self._suspicion if self._suspicion.deaths else None)

    @property
    def is_careful(self) -> bool:
        """Whether records are noted, and a few offered at a time."""
        return self._careful_records > 0 or self._suspicion.deaths > 0

    def wait_seconds(self) -> float:
        """Return how long it is until a suspected record may be offered."""
        return max(0.0, self._suspects_from - time.monotonic())

    def chosen(self, offsets: list[int]) -> list[int]:
        """Return which of the next records to offer together: one that is suspected goes alone."""
        first, last = self._suspicion.first, self._suspicion.last
        if not self._suspicion.deaths:
            return offsets
        if offsets[0] > last:  # those that were suspected have been delivered, or are parked
            self._suspicion = NOTHING
            return offsets
        if offsets[0] >= first:
            return offsets[:1]
        return [offset for offset in offsets if offset < first]

    def is_suspected(self, offset: int) -> bool:
        """Return whether the process has died while this record was offered."""
        suspicion = self._suspicion
        return suspicion.deaths > 0 and suspicion.first <= offset <= suspicion.last

    def verdict(self, offset: int) -> Refused | None:
        """Return why this record is not offered any more; None if it is."""
        deaths = self._suspicion.deaths
        if deaths < DEATHS_MAX or not self.is_suspected(offset):
            return None
        return Refused(
            f"the process that delivers has ended {deaths} times in a row while it offered this "
            "record",
            ReasonCode.ENDS_DELIVERY,
        )

    @contextlib.contextmanager
    def noted(self, offsets: list[int], on_survived: Callable[[], None]) -> Iterator[None]:
        """Note that these are being offered; the caller then tells what came of it.

        An exception says nothing: it ends the process. Raises `JournalFull`.
        """
        deaths = self._suspicion.deaths if self.is_suspected(offsets[0]) else 0
        self._note(Attempt(offsets[0], offsets[-1], deaths, is_offered=True))

        def survive() -> None:
            with contextlib.suppress(JournalFull):
                self.acquit()
            on_survived()

        survived = asyncio.get_running_loop().call_later(SURVIVED_SECONDS, survive)
        try:
            yield
        finally:
            survived.cancel()

    def settle(self, last: int, count: int) -> None:
        """Count `count` records up to offset `last` that are past.

        After a whole batch of them no care is needed any more.
        """
        if self.is_suspected(last):  # those that were suspected with it still are
            rest = structs.replace(self._suspicion, first=last + 1)
            self._suspicion = rest if rest.first <= rest.last else NOTHING
        self._careful_records -= count
        self._note(self._suspicion)

    def relax(self) -> None:
        """Offer whole batches again: the one in which the process died is past."""
        self._careful_records = 0
        self.acquit()

    def acquit(self) -> None:
        """Suspect nothing any more, since what was offered had an outcome."""
        self._suspicion = NOTHING
        self._note(NOTHING)

    def withdraw(self) -> None:
        """Note that nothing is being offered, without having learnt anything."""
        self._note(self._suspicion)

    def _note(self, attempt: Attempt | None) -> None:
        self._journal.note_attempt(self._sink, attempt)


class Turns:
    """Lets sinks be written to beside each other, except while one is to be alone."""

    def __init__(self) -> None:
        self._beside = 0
        self._quiet, self._free = asyncio.Event(), asyncio.Event()
        self._quiet.set()
        self._free.set()
        self._in_turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """Wait while another one is alone."""
        while not self._free.is_set():
            await self._free.wait()
        self._beside += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._beside -= 1
            if not self._beside:
                self._quiet.set()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[Callable[[], None] | None]:
        """Wait until all others have finished; yield what lets them go on before the end.

        Yield None if they have not finished within `QUIET_SECONDS_MAX`: a sink that hangs must not
        hold up others.
        """
        async with self._in_turn:
            self._free.clear()
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(QUIET_SECONDS_MAX):
                        await self._quiet.wait()
                if self._beside:
                    self._free.set()
                yield None if self._beside else self._free.set
            finally:
                self._free.set()
