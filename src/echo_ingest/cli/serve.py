"""`up`, `run`, `broker` and `demo`: everything they do is in `service`; this is what they print."""

import asyncio
import contextlib
import logging
import sys
from typing import Literal, TextIO, cast

import structlog

from echo_ingest import service
from echo_ingest.broker import Broker, BrokerError
from echo_ingest.cli.demo import demonstrate
from echo_ingest.cli.screen import fail, say
from echo_ingest.journal import JournalFull, JournalUnusable
from echo_ingest.settings import Settings


def serve(command: Literal["up", "run", "broker", "demo"], settings: Settings) -> int:
    """Run until told to stop; return the exit code."""
    _configure_log(quiet=command == "demo")

    def started(broker: Broker) -> None:
        with contextlib.suppress(OSError):  # as of the log
            _announce(settings, broker, ingests=command != "broker")

    def tell_token(token: str) -> None:
        with contextlib.suppress(OSError):
            say(f"Token       read API  {token}   (new; shown this once)")

    try:
        match command:
            case "up":
                asyncio.run(service.run_up(settings, started, tell_token))
            case "run":
                asyncio.run(service.run_ingest(settings, tell_token))
            case "broker":
                asyncio.run(service.run_broker(settings, started))
            case "demo":
                asyncio.run(service.run_up(settings, started, tell_token, demonstrate))
    except (service.Stopped, BrokerError, JournalFull, JournalUnusable, OSError) as error:
        fail(str(error))
    return 0


def _announce(settings: Settings, broker: Broker, *, ingests: bool) -> None:
    """Where everything is, and new passwords this one time."""
    version = ".".join(map(str, broker.version))
    say(f"MQTT        mqtt://{settings.bind}:{settings.mqtt_port}   (mosquitto {version})")
    say(f"WebSockets  ws://{settings.bind}:{settings.ws_port}/mqtt")
    if settings.tls_cert_file is not None:
        say(f"MQTT, TLS   mqtts://{settings.bind}:{settings.tls_port}")
    if ingests or settings.broker_http:
        say(f"HTTP        http://{settings.bind}:{settings.http_port}/healthz")
    if ingests:
        say(f"Journal     {settings.data_dir / service.JOURNAL_FILE}")
    for account in broker.new:
        say(f"Password    {account.user}  {account.password}   (new; shown this once)")


def _configure_log(*, quiet: bool) -> None:
    """One line a transition: for people on a terminal, JSON elsewhere, UTC in both."""
    on_terminal = sys.stdout.isatty()
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper("iso", utc=True),
            structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.ERROR if quiet else logging.INFO
        ),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Output())),
    )


class _Output:
    """Standard output, for the log: on a full disk a line may be lost, but nothing ends for it."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
