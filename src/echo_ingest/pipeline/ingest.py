"""The first half of the line: session → decode → journal → ack."""

import asyncio
import time
from collections.abc import Callable
from typing import NoReturn

import structlog

from echo_ingest import metrics
from echo_ingest.decode import Decoder
from echo_ingest.journal import Appended, Arrival, Journal, JournalFull, JournalGone
from echo_ingest.mqtt import Session
from echo_ingest.pipeline.claims import Claims
from echo_ingest.pipeline.receipts import receipt
from echo_ingest.record import ACCOUNTS_PREFIX, Message

ROOM_POLL_SECONDS = 1.0
COMMIT_SHARE = 1 / 8  # the weight of one commit's time in the running average
PACE_SECONDS_MAX = 0.25

log = structlog.get_logger("ingest")


class Ingest:
    """Reads batches of one session, makes them durable and acknowledges them."""

    def __init__(
        self,
        session: Session,
        journal: Journal,
        decoder: Decoder | Claims,
        *,
        batch_records_max: int,
        linger_seconds: float,
        on_stored: Callable[[], None],
        arrived: Callable[[Message], Message] = lambda message: message,
        endpoint: str = "",
        gives_receipts: bool = True,
        on_received: Callable[[int], None] = lambda _messages: None,
    ) -> None:
        """Take the parts, which other sessions may share, but for the session.

        `arrived` returns a message as it was published, which came with the account before its
        topic (`broker.TopicRights`); `endpoint` is the name of its broker in the journal;
        `on_received` gets the number of messages of each batch.
        """
        self.blocked: str | None = None
        """Why acknowledgements have stopped, in words; None while they continue."""
        self._session = session
        self._journal = journal
        self._decoder = decoder
        self._batch_records_max = batch_records_max
        self._linger_seconds = linger_seconds
        self._on_stored = on_stored
        self._arrived = arrived
        self._endpoint = endpoint
        self._gives_receipts = gives_receipts
        self._on_received = on_received

    async def run(self) -> NoReturn:
        """Run until cancelled; a batch is then either acknowledged or not stored."""
        commit_seconds = 0.0
        while True:
            took_seconds = await self._take_batch(commit_seconds)
            commit_seconds += (took_seconds - commit_seconds) * COMMIT_SHARE
            await asyncio.sleep(0)  # a long backlog must not keep other tasks waiting

    async def _take_batch(self, commit_seconds: float) -> float:
        """Take one batch to its end, and return how long its commit took.

        It is a call of its own, so that nothing holds the messages while the next ones come in.
        """
        messages_max, wait_seconds = pace(
            self._batch_records_max, self._linger_seconds, commit_seconds
        )
        batch = await self._session.receive(messages_max, wait_seconds)
        messages = [
            self._arrived(message) if message.topic.startswith(ACCOUNTS_PREFIX) else message
            for message in batch.messages
        ]
        arrivals = [(message, self._decoder.identify(message)) for message in messages]
        appended, took_seconds = await self._append(arrivals)
        if self._session.ack(batch):
            self._journal.acknowledged(self._endpoint)
            self._give_receipts(arrivals, appended)
        if appended.stored:
            self._on_stored()
        self._on_received(len(batch.messages))
        _count(appended, batch.size_bytes, took_seconds)
        return took_seconds

    def _give_receipts(self, arrivals: list[Arrival], appended: Appended) -> None:
        """Answer the devices that asked, as far as the broker takes the answers at once."""
        if not self._gives_receipts:
            return
        packets = [
            packet
            for (message, decoded), outcome in zip(arrivals, appended.outcomes, strict=True)
            if (packet := receipt(message, decoded, outcome)) is not None
        ]
        if packets:
            sent = self._session.offer(packets)
            metrics.RECEIPTS.labels("sent").inc(sent)
            metrics.RECEIPTS.labels("dropped").inc(len(packets) - sent)

    async def _append(self, arrivals: list[Arrival]) -> tuple[Appended, float]:
        """Append, and wait for room as long as it takes.

        It waits for ever where the journal is gone: then the service ends (`StorageWatch`).
        Return what became of the batch, and how many seconds its commit took.
        """
        while True:
            started = time.perf_counter()
            try:
                appended = self._journal.append(arrivals, self._endpoint)
            except (JournalFull, JournalGone) as error:
                if self.blocked is None:
                    log.error("acknowledgements stopped", reason=str(error))
                self.blocked = str(error)
                await asyncio.sleep(ROOM_POLL_SECONDS)
            else:
                if self.blocked is not None:
                    log.info("acknowledgements continue")
                self.blocked = None
                return appended, time.perf_counter() - started


def pace(batch_records_max: int, linger_seconds: float, commit_seconds: float) -> tuple[int, float]:
    """Return how many messages to take at most, and how many seconds to wait for more.

    The wait lasts as long as a commit usually takes. So a slow disk (an SD card takes 20 ms and
    more) works half of the time, and gets batches that are larger in proportion.
    """
    wait_seconds = max(linger_seconds, min(commit_seconds, PACE_SECONDS_MAX))
    return round(batch_records_max * wait_seconds / linger_seconds), wait_seconds


def _count(appended: Appended, size_bytes: int, took_seconds: float) -> None:
    metrics.RECEIVED_MESSAGES.inc(len(appended.outcomes))
    metrics.RECEIVED_BYTES.inc(size_bytes)
    metrics.OUTCOMES.labels("stored").inc(appended.stored)
    metrics.OUTCOMES.labels("duplicate").inc(appended.duplicates)
    metrics.OUTCOMES.labels("dead letter").inc(appended.dead_letters)
    metrics.OUTCOMES.labels("ignored").inc(appended.ignored)
    metrics.OUTCOMES.labels("unclaimed").inc(appended.unclaimed)
    metrics.COMMIT_SECONDS.observe(took_seconds)
    metrics.BATCH_MESSAGES.observe(len(appended.outcomes))
