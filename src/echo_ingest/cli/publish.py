"""`publish`: send files as a device would, and wait until the broker or the journal has them."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from echo_ingest.cli.connection import require_publisher
from echo_ingest.cli.options import log_from, settings_of
from echo_ingest.cli.output import fail, progress, say, say_error
from echo_ingest.decode.values import TEXT_CHARACTERS_MAX
from echo_ingest.mqtt import PublishRefused, Session, SessionOptions
from echo_ingest.mqtt.publishing import connected, publish_acknowledged
from echo_ingest.pipeline.confirmed_publish import ReceiptSession
from echo_ingest.settings import RECEIPTS_PREFIX, Settings

IN_FLIGHT_MAX = 200
WITH_RECEIPTS_IN_FLIGHT_MAX = 1_000  # a receipt comes one commit later than an acknowledgement
PATIENCE_SECONDS = 60.0
IN_FLIGHT_BYTES_MAX = 32 * 1024 * 1024
REASONS_SHOWN_MAX = 10
ACKNOWLEDGED, REJECTED, NOT_ACCEPTED = "acknowledged", "rejected", "not accepted"
NOT_UNDERSTOOD = "not understood"
"""Not sent, because the service would reject it."""
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga")


class OutgoingMessage(Struct, frozen=True, gc=False):
    """A payload, the topic it goes to, and the file it comes from."""

    topic: str
    payload: bytes
    file: Path
    line: int | None = None
    more_properties: tuple[tuple[str, str], ...] = ()

    @property
    def origin(self) -> str:
        """Return the file, and the line if the message is one, for people."""
        return str(self.file) if self.line is None else f"{self.file} line {self.line:,}"

    @property
    def properties(self) -> tuple[tuple[str, str], ...]:
        """Return the name of an audio file as a user property: it may say when it was recorded.

        A name that cannot be printed would have the message rejected, so it is not sent.
        """
        name = self.file.name
        if self.line is not None or not _is_audio(self.file) or not name.isprintable():
            return self.more_properties
        return (("file_name", name[-TEXT_CHARACTERS_MAX:]), *self.more_properties)


def publish(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, help="Files with JSON or audio."
        ),
    ],
    node: Annotated[
        str | None, typer.Option(metavar="NAME", help="The node to send as; part of the topic.")
    ] = None,
    topic: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="The whole topic, instead of --node.")
    ] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="Send each line of a file as one message.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="N", help="Send at most N messages per second."),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Ask for receipts: wait until the service confirms each message."
        ),
    ] = False,
) -> None:
    """Send files with JSON or audio to the broker, as a device would.

    JSON goes to [b]iotingestion/NODE[/], audio to [b]iotingestion/NODE/recording[/],
    at QoS 1, with the name of its file. A message counts as sent once the
    broker acknowledges it or, with [b]--wait[/], once the service confirms
    it. After a lost connection, unacknowledged messages are sent again.
    """
    settings = settings_of(context)
    for name in (node, topic):
        if name is not None and (not name or set(name) & set("+#\0")):
            fail(f"{name!r} cannot be part of a topic; use a name without + and #", 2)
    addressed = [(file, topic or _topic(file, node, settings)) for file in files]
    receiver = _receiver(addressed[0][1], settings) if wait else None
    messages = _lines(addressed) if lines else _files(addressed)
    total = sum(_count_lines(file) for file in files) if lines else len(files)
    sending = Sending(require_publisher(settings), receiver, settings.payload_bytes_max, rate)
    log_from(logging.CRITICAL)  # if it cannot begin, the error says so
    try:
        with progress(total, "publishing") as advance:
            asyncio.run(sending.run(messages, advance))
    finally:
        if sending.outcomes:
            say(summary(sending.outcomes))
    if sending.outcomes[REJECTED] or sending.outcomes[NOT_ACCEPTED]:
        raise typer.Exit(1)


def _receiver(topic: str, settings: Settings) -> str:
    """Return the node that gets the receipts, which is the one in the topic."""
    node = settings.node_of(topic)
    if node is None:
        fail(
            f"--wait needs a node, because receipts go to {RECEIPTS_PREFIX}/NODE, and the topic "
            f"{topic} has none. Add --node NAME, or a --topic such as "
            f"{settings.topic_prefixes[0]}/NAME",
            2,
        )
    return node


def summary(outcomes: Counter[str]) -> str:
    """Return how many messages had each outcome."""
    return ", ".join(
        f"{outcomes[name]:,} {name}{'s' * (name == 'duplicate' and outcomes[name] > 1)}"
        for name in (
            ACKNOWLEDGED,
            "stored",
            "duplicate",
            "ignored",
            REJECTED,
            NOT_ACCEPTED,
            NOT_UNDERSTOOD,
        )
        if outcomes[name]
    )


def _topic(file: Path, node: str | None, settings: Settings) -> str:
    audio = _is_audio(file)
    if audio and node is None:
        fail(f"{file} is audio, which does not say what node recorded it; add --node NAME", 2)
    parts = (settings.topic_prefixes[0], node, "recording" if audio else None)
    return "/".join(part for part in parts if part)


def _is_audio(file: Path) -> bool:
    return file.suffix.lower() in AUDIO_SUFFIXES


def _files(addressed: list[tuple[Path, str]]) -> Iterator[OutgoingMessage]:
    for file, topic in addressed:
        yield OutgoingMessage(topic, file.read_bytes(), file)


def _lines(addressed: list[tuple[Path, str]]) -> Iterator[OutgoingMessage]:
    for file, topic in addressed:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if payload := line.strip():
                    yield OutgoingMessage(topic, payload, file, number)


def _count_lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


class Sending:
    """One run of the command: the messages in flight, and the outcomes of the others."""

    def __init__(
        self,
        options: SessionOptions,
        receiver: str | None,
        payload_bytes_max: int,
        rate: float | None,
    ) -> None:
        """Wait for receipts if there is a `receiver` for them, otherwise for acknowledgements."""
        self.outcomes: Counter[str] = Counter()
        self._session = Session(options)
        self._receipts = ReceiptSession(options, receiver, PATIENCE_SECONDS) if receiver else None
        self._payload_bytes_max = payload_bytes_max
        self._interval_seconds = 1 / rate if rate else 0.0
        self._due_at = 0.0
        self._in_flight_bytes = 0
        self._one_is_done = asyncio.Event()
        self._problems = 0

    async def run(
        self, messages: Iterator[OutgoingMessage], advance: Callable[[int], None]
    ) -> None:
        """Publish all of `messages`, many at a time; call `advance` for each that is done."""
        if self._receipts is not None:
            session, in_flight_max = self._receipts.connected(), WITH_RECEIPTS_IN_FLIGHT_MAX
        else:
            session, in_flight_max = connected(self._session), IN_FLIGHT_MAX
        async with session:
            log_from(logging.WARNING)
            await asyncio.gather(*(self._publish(messages, advance) for _ in range(in_flight_max)))

    async def _publish(
        self, messages: Iterator[OutgoingMessage], advance: Callable[[int], None]
    ) -> None:
        """Publish one message after the other; many of these run at once and share `messages`."""
        while True:
            while self._in_flight_bytes > IN_FLIGHT_BYTES_MAX:
                self._one_is_done.clear()
                await self._one_is_done.wait()
            message = next(messages, None)
            if message is None:
                return
            self._in_flight_bytes += len(message.payload)
            if self._interval_seconds:
                self._due_at = max(self._due_at + self._interval_seconds, time.monotonic())
                await asyncio.sleep(self._due_at - time.monotonic())
            self.outcomes[await self._outcome(message)] += 1
            self._in_flight_bytes -= len(message.payload)
            self._one_is_done.set()
            advance(1)

    async def _outcome(self, message: OutgoingMessage) -> str:
        try:
            if len(message.payload) > self._payload_bytes_max:
                raise PublishRefused(
                    f"the message has {len(message.payload):,} bytes, more than the "
                    f"{self._payload_bytes_max:,} that IOT_PAYLOAD_BYTES_MAX allows"
                )
            if self._receipts is None:
                await publish_acknowledged(
                    self._session, message.topic, message.payload, properties=message.properties
                )
                return ACKNOWLEDGED
            receipt = await self._receipts.publish(
                message.topic, message.payload, properties=message.properties
            )
        except PublishRefused as error:
            self._say_why(message, str(error))
            return NOT_ACCEPTED
        if receipt.outcome == REJECTED:
            self._say_why(message, f"{REJECTED}: {receipt.reason}")
        return receipt.outcome

    def _say_why(self, message: OutgoingMessage, reason: str) -> None:
        """Print why a message failed, for the first few: a file often repeats one mistake."""
        self._problems += 1
        if self._problems <= REASONS_SHOWN_MAX:
            say_error(f"{message.origin}: {reason}")
