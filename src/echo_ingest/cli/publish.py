"""`publish`: send files as a device would, and wait until the broker has each of them."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from echo_ingest.cli.options import log_from, settings_of
from echo_ingest.cli.reach import connected, publisher_options
from echo_ingest.cli.screen import fail, progress, say, say_error
from echo_ingest.mqtt import ConnectionLost, PublishRefused, Session, SessionOptions
from echo_ingest.settings import Settings

IN_FLIGHT_MAX = 200
ATTEMPTS_MAX = 5
IN_FLIGHT_BYTES_MAX = 32 * 1024 * 1024
REFUSALS_SHOWN_MAX = 10
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga")


class Addressed(Struct, frozen=True, gc=False):
    """A payload and where it goes."""

    topic: str
    payload: bytes


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
) -> None:
    """Send files to the broker as a device would: JSON, or audio as it is.

    JSON goes to [b]iotingestion/NODE[/], audio to [b]iotingestion/NODE/recording[/].
    Sent at QoS 1; a message counts when the broker has acknowledged it, and
    what a lost connection left unanswered is sent again.
    """
    settings = settings_of(context)
    for name in (node, topic):
        if name is not None and (not name or set(name) & set("+#\0")):
            fail(f"{name!r} cannot be published to: topics have no + and no #", 2)
    addressed = [(file, topic or _topic(file, node, settings)) for file in files]
    messages = _lines(addressed) if lines else _files(addressed)
    total = sum(_count_lines(file) for file in files) if lines else len(files)
    options = publisher_options(settings)
    if options is None:
        fail(
            "the broker here has no account for devices yet; start `echo-ingest up` once, or set "
            "IOT_PUB_PASSWORD, or IOT_ENDPOINT for a broker elsewhere"
        )
    log_from(logging.CRITICAL)  # that it cannot begin is an error, told as one
    sending = _Sending(options, settings.payload_bytes_max, rate)
    try:
        with progress(total, "publishing") as advance:
            asyncio.run(sending.run(messages, advance))
    finally:
        if sending.acknowledged:
            say(f"{sending.acknowledged:,} acknowledged")
    if sending.refused:
        fail(f"{sending.refused:,} not taken")


def _topic(file: Path, node: str | None, settings: Settings) -> str:
    audio = file.suffix.lower() in AUDIO_SUFFIXES
    if audio and node is None:
        fail(f"{file} is audio and does not say which node recorded it; add --node NAME", 2)
    parts = (settings.topic_prefixes[0], node, "recording" if audio else None)
    return "/".join(part for part in parts if part)


def _files(addressed: list[tuple[Path, str]]) -> Iterator[Addressed]:
    for file, topic in addressed:
        yield Addressed(topic, file.read_bytes())


def _lines(addressed: list[tuple[Path, str]]) -> Iterator[Addressed]:
    for file, topic in addressed:
        with file.open("rb") as lines:
            for line in lines:
                if payload := line.strip():
                    yield Addressed(topic, payload)


def _count_lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


class _Sending:
    """One run: what is under way, and what became of the rest."""

    def __init__(self, options: SessionOptions, payload_bytes_max: int, rate: float | None) -> None:
        self.acknowledged = 0
        self.refused = 0
        self._session = Session(options)
        self._payload_bytes_max = payload_bytes_max
        self._interval_seconds = 1 / rate if rate else 0.0
        self._due_at = 0.0
        self._in_flight_bytes = 0
        self._landed = asyncio.Event()

    async def run(self, messages: Iterator[Addressed], advance: Callable[[], None]) -> None:
        """Publish all of `messages`, up to `IN_FLIGHT_MAX` at once; `advance` for each one done."""
        async with connected(self._session):
            log_from(logging.WARNING)
            await asyncio.gather(*(self._take(messages, advance) for _ in range(IN_FLIGHT_MAX)))

    async def _take(self, messages: Iterator[Addressed], advance: Callable[[], None]) -> None:
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
            await self._publish(message)
            self._in_flight_bytes -= len(message.payload)
            self._landed.set()
            advance()

    async def _publish(self, message: Addressed) -> None:
        try:
            if len(message.payload) > self._payload_bytes_max:
                raise PublishRefused(
                    f"{message.topic}: {len(message.payload):,} bytes are more than "
                    f"IOT_PAYLOAD_BYTES_MAX allows ({self._payload_bytes_max:,})"
                )
            await self._until_answered(message)
        except PublishRefused as error:
            self.refused += 1
            if self.refused <= REFUSALS_SHOWN_MAX:
                say_error(str(error))
        else:
            self.acknowledged += 1

    async def _until_answered(self, message: Addressed) -> None:
        attempts = 0
        while True:
            try:
                return await self._session.publish(message.topic, message.payload)
            except ConnectionLost as error:
                # The broker may have it or not: a duplicate is recognised, a loss would not be.
                attempts += 1
                if attempts == ATTEMPTS_MAX:
                    raise ConnectionLost(
                        f"the connection was lost {attempts} times while {len(message.payload):,} "
                        f"bytes were sent to {message.topic} ({error}); if that is more than the "
                        "broker takes, raise its limit"
                    ) from error
