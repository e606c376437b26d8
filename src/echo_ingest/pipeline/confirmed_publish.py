"""Publishing with receipts: a message is done when the service says what became of it."""

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NoReturn

import msgspec

from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.mqtt.publishing import connected, publish_acknowledged
from echo_ingest.pipeline.receipts import Receipt
from echo_ingest.settings import RECEIPTS_PREFIX

RESEND_SECONDS = 5.0
"""A receipt that takes longer than this may be lost, because receipts are QoS 0."""
RECEIPTS_MAX = 1_000
LINGER_SECONDS = 0.001


class NoReceipt(Exception):
    """The service does not answer; the message says what to check."""


class ReceiptSession:
    """A session that gets a receipt below `iotreceipts/<node>` for each message it publishes."""

    def __init__(
        self,
        options: SessionOptions,
        node: str,
        patience_seconds: float,
        *,
        resend_seconds: float = RESEND_SECONDS,
        on_disconnected: Callable[[], None] = lambda: None,
        log: Any = None,
    ) -> None:
        """Give up when no receipt at all has arrived for `patience_seconds`.

        `node` is the one that gets the receipts; with `+`, each message names its own.
        """
        self._node, self._mailbox = node, secrets.token_hex(8)
        filters = (f"{RECEIPTS_PREFIX}/{node}/{self._mailbox}",)
        self._session = Session(
            msgspec.structs.replace(options, topic_filters=filters),
            on_disconnected=on_disconnected,
            log=log,
        )
        self._resend_seconds = min(resend_seconds, patience_seconds)
        self._patience_seconds = patience_seconds
        self._numbers = itertools.count(1)
        self._waiting: dict[bytes, asyncio.Future[Receipt]] = {}
        self._received_at = 0.0

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Stay connected and listen inside the block; raise `ConnectionLost` if it cannot begin."""
        async with connected(self._session):
            listening = asyncio.create_task(self._listen())
            try:
                yield
            finally:
                listening.cancel()

    @property
    def is_connected(self) -> bool:
        """Whether it is connected right now."""
        return self._session.is_connected

    async def publish(
        self,
        topic: str,
        payload: bytes,
        on_acknowledged: Callable[[], None] = lambda: None,
        properties: Sequence[tuple[str, str]] = (),
        node: str | None = None,
    ) -> Receipt:
        """Publish, wait for the receipt, and send again until one arrives.

        If the message was sent more than once, `duplicate` refers to our own earlier attempt and is
        returned as `stored`. `on_acknowledged` is called at the first PUBACK. Raises
        `PublishRefused`, `ConnectionLost` or `NoReceipt`.
        """
        correlation_data = next(self._numbers).to_bytes(8)
        answer = asyncio.get_running_loop().create_future()
        self._waiting[correlation_data] = answer
        began_at = time.monotonic()
        published, wait_seconds = 0, self._resend_seconds
        try:
            while not answer.done():
                if published:
                    self._require_receipts(began_at)
                attempts = await publish_acknowledged(
                    self._session,
                    topic,
                    payload,
                    properties=properties,
                    response_topic=f"{RECEIPTS_PREFIX}/{node or self._node}/{self._mailbox}",
                    correlation_data=correlation_data,
                )
                if published == 0:
                    on_acknowledged()
                published += attempts
                await asyncio.wait((answer,), timeout=wait_seconds)
                wait_seconds = min(2 * wait_seconds, self._patience_seconds)
        finally:
            del self._waiting[correlation_data]
        receipt: Receipt = answer.result()
        if receipt.outcome == "duplicate" and published > 1:
            return msgspec.structs.replace(receipt, outcome="stored")
        return receipt

    def _require_receipts(self, began_at: float) -> None:
        silent_seconds = time.monotonic() - max(self._received_at, began_at)
        if silent_seconds >= self._patience_seconds:
            raise NoReceipt(
                f"no receipt arrived for {silent_seconds:.0f} s, but the messages may be stored. "
                "Type `echo-ingest check` where the service runs: it says whether the service "
                "receives from this broker. The account used here must be allowed to read "
                f"{RECEIPTS_PREFIX}/#"
            )

    async def _listen(self) -> NoReturn:
        while True:
            batch = await self._session.receive(RECEIPTS_MAX, LINGER_SECONDS)
            self._session.ack(batch)
            self._received_at = time.monotonic()
            for message in batch.messages:
                answer = self._waiting.get(message.correlation_data or b"")
                if answer is None or answer.done():
                    continue  # the message was sent twice, and this is the second receipt
                with contextlib.suppress(msgspec.DecodeError):
                    answer.set_result(msgspec.json.decode(message.payload, type=Receipt))
