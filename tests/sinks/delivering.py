"""The line from a real journal to a real sink, watched: what was settled, what may be repeated."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from random import Random

from echo_ingest.journal import Entry, Journal, Ledger, SinkLedger
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.pipeline.deliver import Deliver
from echo_ingest.record import Message, record_key
from echo_ingest.sinks import Delivery, Sink, Unavailable, Written
from tests.several_records import DECODER_OF_SEVERAL
from tests.sinks.backend import Backend
from tests.sinks.messages import arrivals, records_of

SETTLED_SECONDS_MAX = 30.0


class Watched:
    """A sink, and how its writes ended; offered at most `batch_records_max` at once."""

    def __init__(self, sink: Sink, batch_records_max: int = 1_000) -> None:
        self.name = sink.name
        self.address = sink.address
        self.is_idempotent = sink.is_idempotent
        self.batch_records_max = min(batch_records_max, sink.batch_records_max)
        self.unsure = 0
        """Writes that ended without saying what was taken: each may be repeated."""
        self.after_write: Callable[[Sequence[Delivery]], Awaitable[None]] | None = None
        """Awaited after each write, with what the sink took."""
        self._sink = sink

    async def write(self, batch: Sequence[Delivery]) -> Written:
        try:
            written = await self._sink.write(batch)
        except (Unavailable, asyncio.CancelledError):
            self.unsure += 1
            raise
        if self.after_write is not None:
            refused = {refusal.index for refusal in written.refusals}
            taken = [d for i, d in enumerate(batch[: written.count]) if i not in refused]
            await self.after_write(taken)
        return written

    async def probe(self) -> None:
        await self._sink.probe()

    async def close(self) -> None:
        await self._sink.close()


class Line:
    """A journal on disk and one store."""

    def __init__(self, folder: Path, backend: Backend, beside: "Line | None" = None) -> None:
        """Share the journal of the line `beside` it, if there is one."""
        self.path = folder / "journal.db"
        self.backend = backend
        self.unsure = 0
        """How many writes so far have an unknown result, kills included."""
        self._journal = beside.journal if beside is not None else None

    @property
    def journal(self) -> Journal:
        if self._journal is None:
            self._journal = Journal(self.path)
        return self._journal

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def append(self, arrived: list[Message]) -> None:
        before = self.journal.ledger().stored
        self.journal.append(arrivals(arrived))
        assert self.journal.ledger().stored == before + len(arrived)

    @contextlib.asynccontextmanager
    async def delivering(
        self, port: int | None = None, batch_records_max: int = 1_000
    ) -> AsyncIterator[tuple[Deliver, Watched]]:
        """Deliver through a new sink; at the end it is cancelled, wherever it is."""
        sink = Watched(self.backend.sink(port or self.backend.port), batch_records_max)
        deliver = Deliver(self.journal, sink, decoder=DECODER_OF_SEVERAL, rng=Random(1))
        task = asyncio.create_task(deliver.run(asyncio.Event()))
        try:
            yield deliver, sink
            if task.done():
                await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await sink.close()
            self.unsure += sink.unsure
            if not task.cancelled():
                await task  # it ended by itself: say why

    @property
    def figures(self) -> SinkLedger:
        return self.journal.ledger().sinks[self.backend.name]

    async def until_settled(self) -> None:
        await until(lambda: self.figures.backlog == 0)

    async def check(self, refused: Sequence[Message] = ()) -> None:
        """All is settled: what was refused is parked with a reason, all else is stored, once.

        Where the sink cannot tell a repeat, each repeat has a write that explains it.
        """
        with contextlib.closing(JournalReader(self.path)) as reader:
            ledger, entries = reader.ledger(), list(every_entry(reader))
            parked = {each.offset: each.reason for each in reader.parked(self.backend.name)}
        assert_closes(ledger)
        assert ledger.sinks[self.backend.name].backlog == 0
        of_parked = [entry.message.payload for entry in entries if entry.offset in parked]
        assert of_parked == [message.payload for message in refused], parked
        assert all(reason.strip() for reason in parked.values()), parked
        wanted = {
            record_key(entry.key, index)
            for entry in entries
            if entry.offset not in parked
            for index, record in enumerate(records_of(entry.message))
            if self.backend.keeps(record)
        }
        stored = Counter(await self.backend.stored())
        lost, strange = wanted - stored.keys(), stored.keys() - wanted
        assert not lost, f"{len(lost)} of {len(wanted)} lost"
        assert not strange, f"{len(strange)} stored that should not be"
        repeats = stored.total() - len(stored)
        allowed = 0 if self.backend.is_idempotent else self.unsure
        assert repeats <= allowed, f"{repeats} repeats, {allowed} writes may explain one"


def every_entry(reader: JournalReader) -> Iterator[Entry]:
    offset = 0
    while page := reader.after(Selection(), offset):
        yield from page
        offset = page[-1].offset


def assert_closes(ledger: Ledger) -> None:
    assert ledger.received == ledger.stored + ledger.duplicates + ledger.dead_letters
    for sink in ledger.sinks.values():
        assert ledger.stored == sink.skipped + sink.delivered + sink.parked + sink.backlog


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(SETTLED_SECONDS_MAX):
        while not look():
            await asyncio.sleep(0.005)


async def settle(sink: Sink, batch: Sequence[Delivery]) -> dict[int, str]:
    """Offer a batch until all of it is settled; return what was refused, by its place."""
    refusals: dict[int, str] = {}
    done = 0
    while done < len(batch):
        written = await sink.write(batch[done:])
        assert 1 <= written.count <= len(batch) - done
        refusals |= {done + refusal.index: refusal.reason for refusal in written.refusals}
        done += written.count
    return refusals
