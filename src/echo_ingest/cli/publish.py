"""`publish`: send files as a device would, until the broker, or the journal, has each of them."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from echo_ingest.cli.confirmed_publish import ReceiptSession
from echo_ingest.cli.connection import connected, publish_acknowledged, require_publisher
from echo_ingest.cli.options import log_from, settings_of
from echo_ingest.cli.output import fail, progress, say, say_error
from echo_ingest.mqtt import PublishRefused, Session, SessionOptions
from echo_ingest.settings import RECEIPTS_PREFIX, Settings

IN_FLIGHT_MAX = 200
WITH_RECEIPTS_IN_FLIGHT_MAX = 1_000  # a receipt takes a commit longer than an acknowledgement
PATIENCE_SECONDS = 60.0
IN_FLIGHT_BYTES_MAX = 32 * 1024 * 1024
REASONS_SHOWN_MAX = 10
ACKNOWLEDGED, REJECTED, NOT_TAKEN = "acknowledged", "rejected", "not taken"
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga")


class Addressed(Struct, frozen=True, gc=False):
    """A payload, where it goes and where it was found."""

    topic: str
    payload: bytes
    file: Path
    line: int | None = None

    @property
    def origin(self) -> str:
        """Where a person finds it."""
        return str(self.file) if self.line is None else f"{self.file} line {self.line:,}"


def publish(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="JSON or audio."),
    ],
    node: Annotated[
        str | None, typer.Option(help="The node that sends it: a level of the topic.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="The whole topic, instead.")] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="Each line of a file is one message.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option(min=0.001, metavar="N", help="At most so many a second.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until each is on disk: ask for receipts.")
    ] = False,
) -> None:
    """Send files to the broker as a device would: JSON, or audio as it is.

    JSON goes to [b]iotingestion/NODE[/], audio to [b]iotingestion/NODE/recording[/].
    Sent at QoS 1; a message counts when the broker has acknowledged it, or,
    with [b]--wait[/], when the service says what became of it. What a lost
    connection left unanswered is sent again.
    """
    settings = settings_of(context)
    for name in (node, topic):
        if name is not None and (not name or set(name) & set("+#\0")):
            fail(f"{name!r} cannot be published to: topics have no + and no #", 2)
    addressed = [(file, topic or _topic(file, node, settings)) for file in files]
    receiver = _receiver(addressed[0][1], settings) if wait else None
    messages = _lines(addressed) if lines else _files(addressed)
    total = sum(_count_lines(file) for file in files) if lines else len(files)
    sending = _Sending(require_publisher(settings), receiver, settings.payload_bytes_max, rate)
    log_from(logging.CRITICAL)  # that it cannot begin is an error, told as one
    try:
        with progress(total, "publishing") as advance:
            asyncio.run(sending.run(messages, advance))
    finally:
        if sending.outcomes:
            say(_summary(sending.outcomes))
    if sending.outcomes[REJECTED] or sending.outcomes[NOT_TAKEN]:
        raise typer.Exit(1)


def _receiver(topic: str, settings: Settings) -> str:
    """The node that receipts go to: the one that a topic names."""
    node = settings.node_of(topic)
    if node is None:
        fail(
            f"--wait needs a node: receipts go to {RECEIPTS_PREFIX}/NODE, and {topic} names none. "
            f"Add --node NAME, or a --topic such as {settings.topic_prefixes[0]}/NAME",
            2,
        )
    return node


def _summary(outcomes: Counter[str]) -> str:
    return ", ".join(
        f"{outcomes[name]:,} {name}{'s' * (name == 'duplicate' and outcomes[name] > 1)}"
        for name in (ACKNOWLEDGED, "stored", "duplicate", REJECTED, NOT_TAKEN)
        if outcomes[name]
    )


def _topic(file: Path, node: str | None, settings: Settings) -> str:
    audio = file.suffix.lower() in AUDIO_SUFFIXES
    if audio and node is None:
        fail(f"{file} is audio and does not say which node recorded it; add --node NAME", 2)
    parts = (settings.topic_prefixes[0], node, "recording" if audio else None)
    return "/".join(part for part in parts if part)


def _files(addressed: list[tuple[Path, str]]) -> Iterator[Addressed]:
    for file, topic in addressed:
        yield Addressed(topic, file.read_bytes(), file)


def _lines(addressed: list[tuple[Path, str]]) -> Iterator[Addressed]:
    for file, topic in addressed:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if payload := line.strip():
                    yield Addressed(topic, payload, file, number)


def _count_lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


class _Sending:
    """One run: what is under way, and what became of the rest."""

    def __init__(
        self,
        options: SessionOptions,
        receiver: str | None,
        payload_bytes_max: int,
        rate: float | None,
    ) -> None:
        """`receiver` is the node that gets receipts; without one acknowledgements will do."""
        self.outcomes: Counter[str] = Counter()
        self._session = Session(options)
        self._receipted = ReceiptSession(options, receiver, PATIENCE_SECONDS) if receiver else None
        self._payload_bytes_max = payload_bytes_max
        self._interval_seconds = 1 / rate if rate else 0.0
        self._due_at = 0.0
        self._in_flight_bytes = 0
        self._landed = asyncio.Event()
        self._told = 0

    async def run(self, messages: Iterator[Addressed], advance: Callable[[int], None]) -> None:
        """Publish all of `messages`, many at once; `advance` for each one done."""
        if self._receipted is not None:
            session, in_flight_max = self._receipted.connected(), WITH_RECEIPTS_IN_FLIGHT_MAX
        else:
            session, in_flight_max = connected(self._session), IN_FLIGHT_MAX
        async with session:
            log_from(logging.WARNING)
            await asyncio.gather(*(self._take(messages, advance) for _ in range(in_flight_max)))

    async def _take(self, messages: Iterator[Addressed], advance: Callable[[int], None]) -> None:
        """Publish the next message whenever one has landed; many of these share `messages`."""
        while True:
            while self._in_flight_bytes > IN_FLIGHT_BYTES_MAX:
                self._landed.clear()
                await self._landed.wait()
            message = next(messages, None)
            if message is None:
                return
            self._in_flight_bytes += len(message.payload)
            if self._interval_seconds:
                self._due_at = max(self._due_at + self._interval_seconds, time.monotonic())
                await asyncio.sleep(self._due_at - time.monotonic())
            self.outcomes[await self._outcome(message)] += 1
            self._in_flight_bytes -= len(message.payload)
            self._landed.set()
            advance(1)

    async def _outcome(self, message: Addressed) -> str:
        try:
            if len(message.payload) > self._payload_bytes_max:
                raise PublishRefused(
                    f"{message.topic}: {len(message.payload):,} bytes are more than "
                    f"IOT_PAYLOAD_BYTES_MAX allows ({self._payload_bytes_max:,})"
                )
            if self._receipted is None:
                await publish_acknowledged(self._session, message.topic, message.payload)
                return ACKNOWLEDGED
            receipt = await self._receipted.publish(message.topic, message.payload)
        except PublishRefused as error:
            self._tell(message, str(error))
            return NOT_TAKEN
        if receipt.outcome == REJECTED:
            self._tell(message, f"{REJECTED}: {receipt.reason}")
        return receipt.outcome

    def _tell(self, message: Addressed, reason: str) -> None:
        """Say why, of the first few: a file of one mistake has it in each line."""
        self._told += 1
        if self._told <= REASONS_SHOWN_MAX:
            say_error(f"{message.origin}: {reason}")
