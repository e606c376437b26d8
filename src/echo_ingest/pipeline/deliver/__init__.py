"""The second half of the line: journal → one sink → cursor.

All decisions about retrying are here. A sink returns a `Refusal` (the record is parked, delivery
continues) or raises `Unavailable` (the same batch is offered again, later, without end). Any other
exception is a fault of ours and ends the process, which the journal makes safe. A record that ends
the process each time is parked too (`attempts.py`).

A sink that is to name clips instead of carrying them has a `clip_store`, the delivery to the sink
that keeps them: it reads only what that one has settled, so that what it names is there.
"""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random

import structlog

from echo_ingest import metrics
from echo_ingest.backoff import delay_seconds
from echo_ingest.decode import Decoder
from echo_ingest.journal import Entry, Journal, JournalFull
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.decoding import Unreadable, decode_entry
from echo_ingest.pipeline.deliver.attempts import Attempts, Turns
from echo_ingest.reasons import ReasonCode
from echo_ingest.sinks import Cause, Delivery, Sink, SinkState, Unavailable, clips
from echo_ingest.sinks.registry import title_of

ROOM_POLL_SECONDS = 1.0
IDLE_POLL_SECONDS = 1.0  # `echo-ingest parked replay` writes from another process
PAUSE_POLL_SECONDS = 1.0  # and so does `echo-ingest sinks resume`

log = structlog.get_logger("deliver")


class Deliver:
    """Brings one sink up to date with the journal, and keeps it so."""

    def __init__(
        self,
        journal: Journal,
        sink: Sink,
        decoder: Decoder,
        *,
        clip_store: "Deliver | None" = None,
        on_settled: Callable[[], None] = lambda: None,
        rng: Random | None = None,
        turns: Turns | None = None,
    ) -> None:
        """Prepare to deliver; call `run` to begin.

        `clip_store` delivers the clips that this sink is to name. `on_settled` is called whenever
        something was settled, so that those that wait for it look again. `turns` are shared by all
        that one process delivers to.
        """
        self.name = sink.name
        self._failure: Unavailable | None = None
        """Why the sink takes nothing, as of the last attempt; None while it takes records."""
        self.paused = False
        """Whether a person has paused the sink, as of the last look."""
        self._unavailable_since: datetime | None = None
        self._journal = journal
        self._sink = sink
        self._decoder = decoder
        self._clip_store = clip_store
        self._on_settled = on_settled
        self._rng = rng or Random()  # noqa: S311 - jitter, not a secret
        self._turns = turns or Turns()
        self._attempts = Attempts(journal, sink.name, sink.batch_records_max, self._rng)
        self._wake = asyncio.Event()
        self._attempt = 0
        journal.add_sink(sink.name)
        self._attempts.begin()
        metrics.SINK_DELIVERED.labels(sink.name)  # a series that starts at 0 can be alerted on
        metrics.SINK_REFUSED.labels(sink.name)

    def wake(self) -> None:
        """Look for new records at once instead of after a poll."""
        self._wake.set()

    @property
    def unavailable(self) -> str | None:
        """Why the sink takes nothing, in words; None while it takes records."""
        return None if self._failure is None else str(self._failure)

    @property
    def held_up(self) -> str | None:
        """What keeps records from going on, in words: the sink itself, or its clip store."""
        if self.unavailable is None and self._clip_store is not None:
            why = "it is paused" if self._clip_store.paused else self._clip_store.unavailable
            return why and f"waits until {title_of(self._clip_store.name)} has the clips: {why}"
        return self.unavailable

    @property
    def state(self) -> SinkState:
        """What the sink does now; whether it is paused is in the journal."""
        if self._failure is not None:
            return SinkState(
                "unavailable",
                since=self._unavailable_since,
                reason=str(self._failure),
                cause=self._failure.cause,
                http_status=self._failure.http_status,
            )
        if self.held_up is not None:
            return SinkState("waiting", reason=self.held_up)
        return SinkState("delivering")

    async def run(self, stopping: asyncio.Event) -> None:
        """Deliver until `stopping`; a write that has begun is finished and settled first."""
        try:
            while not stopping.is_set():
                await self._step(stopping)
        except (asyncio.CancelledError, JournalFull):
            self._attempts.end()
            raise
        self._attempts.end()

    async def _step(self, stopping: asyncio.Event) -> None:
        self._wake.clear()
        if self._look_for_pause():
            await self._wait(PAUSE_POLL_SECONDS, stopping)
            return
        if self._attempts.is_careful:
            wait_seconds = await self._offer_with_care(stopping)
        else:
            async with self._turns.beside():
                entries = self._journal.read(self.name, self._sink.batch_records_max, self._behind)
                wait_seconds = IDLE_POLL_SECONDS
                if entries:
                    wait_seconds = await self._offer(entries, stopping)
        if wait_seconds:
            await self._wait(wait_seconds, stopping)
        else:
            await asyncio.sleep(0)

    @property
    def _behind(self) -> str | None:
        return self._clip_store.name if self._clip_store else None

    async def _offer_with_care(self, stopping: asyncio.Event) -> float:
        """Offer a few records, or one that is suspected to end the process; as `_offer`."""
        attempts = self._attempts
        offsets = self._journal.next_offsets(self.name, attempts.chunk_records, self._behind)
        if not offsets:
            attempts.relax()
            return 0.0
        chosen = attempts.chosen(offsets)
        if not attempts.is_suspected(chosen[0]):
            async with self._turns.beside():
                return await self._offer_noted(chosen, stopping, lambda: None)
        if (refused := attempts.verdict(chosen[0])) is not None:
            await self._settle(chosen, {chosen[0]: refused})
            attempts.settle(chosen[0], 1)
            return 0.0
        if wait_seconds := attempts.wait_seconds():
            return wait_seconds
        try:
            await self._sink.probe()
        except Unavailable as error:
            return self._postpone(error)
        async with self._turns.alone() as let_others_go_on:
            if let_others_go_on is None:
                return IDLE_POLL_SECONDS
            return await self._offer_noted(chosen, stopping, let_others_go_on)

    async def _offer_noted(
        self, offsets: list[int], stopping: asyncio.Event, on_survived: Callable[[], None]
    ) -> float:
        attempts = self._attempts
        with attempts.noted(offsets, on_survived):
            entries = self._journal.read(self.name, len(offsets), self._behind)
            read = [entry.offset for entry in entries]
            is_noted = bool(read) and read == offsets[: len(read)]
            wait_seconds = await self._offer(entries, stopping) if is_noted else 0.0
        if wait_seconds:
            attempts.acquit()
        elif is_noted and self._journal.next_offsets(self.name, 1, self._behind) != offsets[:1]:
            attempts.settle(read[-1], len(read))
        else:  # it was paused meanwhile, or somebody has requested a replay
            attempts.withdraw()
        return wait_seconds

    async def _offer(self, entries: list[Entry], stopping: asyncio.Event) -> float:
        """Offer entries and settle the result; return how many seconds to wait before the next."""
        while entries:
            batch, unfit = self._fit(entries)
            entries = entries[len(batch) :]
            while batch:
                if stopping.is_set() or self._journal.is_paused(self.name):
                    return 0.0
                try:
                    written = await self._sink.write(batch)
                except Unavailable as error:
                    return self._postpone(error)
                assert 1 <= written.count <= len(batch), "a sink settles at least one, at most all"
                refusals = {
                    batch[refusal.index].offset: Refused(
                        refusal.reason, refusal.code, refusal.field
                    )
                    for refusal in written.refusals
                }
                counted = await self._settle(
                    [d.offset for d in batch[: written.count]], refusals, written.place
                )
                self._recover()
                if counted < written.count:  # somebody has moved the cursor: read again
                    return 0.0
                batch = batch[written.count :]
            if unfit is not None:
                parked = entries[0].offset
                await self._settle([parked], {parked: unfit})
                return 0.0
        return 0.0

    async def _settle(
        self, offsets: list[int], refusals: dict[int, Refused], place: str | None = None
    ) -> int:
        """Note what the sink took.

        On a full disk it waits here: to continue would repeat the write.
        """
        waited = False
        while True:
            try:
                counted = self._journal.settle(self.name, offsets, refusals, place)
                break
            except JournalFull as error:
                if not waited:
                    log.error("settling stopped", sink=self.name, reason=str(error))
                waited = True
                self._be_unavailable(Unavailable(str(error), cause=Cause.JOURNAL_BLOCKED))
                await asyncio.sleep(ROOM_POLL_SECONDS)
        if waited:
            log.info("settling continues", sink=self.name)
        metrics.SINK_DELIVERED.labels(self.name).inc(len(offsets) - len(refusals))
        metrics.SINK_REFUSED.labels(self.name).inc(len(refusals))
        for offset, refused in refusals.items():
            log.warning("parked", sink=self.name, offset=offset, reason=refused.reason)
        self._on_settled()
        return counted

    def _fit(self, entries: list[Entry]) -> tuple[list[Delivery], Refused | None]:
        """Return the leading entries to offer together, and why the next one cannot be offered.

        There are more of them where a batch has as many records as the sink is to be offered.
        """
        batch: list[Delivery] = []
        left = self._sink.batch_records_max
        for entry in entries:
            records = decode_entry(self._decoder, entry)
            if isinstance(records, Unreadable):
                return batch, Refused(records.detail, records.code)
            place = None
            if self._clip_store is not None and any(map(clips.clip_of, records)):
                place = self._journal.place_of(self._clip_store.name, entry.offset)
                if place is None:
                    return batch, self._why_no_place(self._clip_store.name, entry.offset)
            batch.append(
                Delivery(entry.offset, entry.key, entry.message, records, self._decoder, place)
            )
            left -= len(records)
            if left <= 0:
                break
        return batch, None

    def _why_no_place(self, clip_store: str, offset: int) -> Refused:
        title = title_of(clip_store)
        if self._journal.is_parked(clip_store, offset):
            reason = f"its clip is parked at {title}: replay it there first, then here"
            return Refused(reason, ReasonCode.CLIP_NOT_STORED)
        return Refused(
            f"{title} does not have its clip, since it began after this record: set IOT_AUDIO "
            "to embedded for as long as it takes to replay it here",
            ReasonCode.CLIP_OLDER_THAN_STORAGE,
        )

    def _postpone(self, error: Unavailable) -> float:
        self._attempt += 1
        if self._attempt == 1:
            log.warning("unavailable", sink=self.name, reason=str(error))
        self._be_unavailable(error)
        metrics.SINK_UNAVAILABLE.labels(self.name).set(self._attempt)
        return max(error.retry_after_seconds or 0.0, delay_seconds(self._attempt, self._rng))

    def _recover(self) -> None:
        if self._attempt:
            backlog = self._journal.ledger().sinks[self.name].backlog
            log.info("recovered", sink=self.name, attempts=self._attempt, backlog=backlog)
        self._be_well()

    def _be_well(self) -> None:
        self._attempt = 0
        self._failure = self._unavailable_since = None
        metrics.SINK_UNAVAILABLE.labels(self.name).set(0)

    def _be_unavailable(self, failure: Unavailable) -> None:
        self._failure = failure
        self._unavailable_since = self._unavailable_since or datetime.now(UTC)

    def _look_for_pause(self) -> bool:
        """Return whether the sink is paused; while it is, its being unavailable does not count."""
        paused = self._journal.is_paused(self.name)
        if paused != self.paused:
            log.info("paused" if paused else "resumed", sink=self.name)
            self._be_well()
        self.paused = paused
        return paused

    async def _wait(self, seconds: float, stopping: asyncio.Event) -> None:
        """Sleep until `stopping` at most; while the sink is available, new records end it too."""
        signal = stopping if self._attempt or self.paused else self._wake
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await signal.wait()
