"""`up`, `run`, `broker` and `demo`: everything they do is in `service`; this is what they print."""

import asyncio
import contextlib
import logging
from typing import Literal

from echo_ingest import service
from echo_ingest.broker import Broker, BrokerError
from echo_ingest.cli.demo import console_address, demonstrate
from echo_ingest.cli.output import fail, say
from echo_ingest.journal import JournalFull, JournalUnusable
from echo_ingest.process.log import configure_log
from echo_ingest.settings import Settings

CONSOLE = {
    "open": "reading asks for nothing; acting for the token in secrets/operator",
    "token": "log in with a token in secrets: http to read, operator to act",
}


def serve(command: Literal["up", "run", "broker", "demo"], settings: Settings) -> int:
    """Run until told to stop; return the exit code."""
    configure_log(logging.ERROR if command == "demo" else logging.INFO)

    def started(broker: Broker) -> None:
        with contextlib.suppress(OSError):  # as of the log
            _announce(settings, broker, ingests=command != "broker")

    def tell_token(whose: str, token: str) -> None:
        with contextlib.suppress(OSError):
            say(f"Token       {whose}  {token}   (new; shown this once)")

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
    except (service.ServiceStopped, BrokerError, JournalFull, JournalUnusable, OSError) as error:
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
        if settings.console_access != "off":
            say(f"Console     {console_address(settings)}   ({CONSOLE[settings.console_access]})")
        say(f"Journal     {settings.journal_path}")
    for account in broker.new_accounts:
        say(f"Password    {account.user}  {account.password}   (new; shown this once)")
