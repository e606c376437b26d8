"""`up`, `run`, `broker` and `demo`: start the `service`, and print its addresses.

What was generated just now is shown to a person at a terminal. Elsewhere the output ends in a log
that others may read and that is kept, so only the file is named.
"""

import asyncio
import contextlib
import logging
import sys
from pathlib import Path
from typing import Literal

from echo_ingest import service
from echo_ingest.broker import Broker, BrokerError
from echo_ingest.cli.demo import console_address, demonstrate
from echo_ingest.cli.output import fail, say
from echo_ingest.journal import JournalFull, JournalUnusable
from echo_ingest.process.files import why_unwritable
from echo_ingest.process.log import configure_log
from echo_ingest.settings import Settings
from echo_ingest.settings.secrets import secret_path

CONSOLE = {
    "open": "anyone can read; to make changes, log in with the token in secrets/operator",
    "token": "log in with the token in secrets/http to read, in secrets/operator to make changes",
}


def serve(command: Literal["up", "run", "broker", "demo"], settings: Settings) -> int:
    """Run until a signal stops it; return the exit code."""
    configure_log(logging.ERROR if command == "demo" else logging.INFO)

    def started(broker: Broker) -> None:
        with contextlib.suppress(OSError):  # a log that cannot be written ends nothing either
            _announce(settings, broker, ingests=command != "broker")

    def show_token(whose: str, file: str, token: str) -> None:
        with contextlib.suppress(OSError):
            say(f"Token       {_shown(settings, whose, file, token)}")

    try:
        match command:
            case "up":
                asyncio.run(service.run_up(settings, started, show_token))
            case "run":
                asyncio.run(service.run_ingest(settings, show_token))
            case "broker":
                asyncio.run(service.run_broker(settings, started))
            case "demo":
                asyncio.run(service.run_up(settings, started, show_token, demonstrate))
    except (service.ServiceStopped, BrokerError, JournalFull, JournalUnusable) as error:
        fail(str(error))
    except OSError as error:
        path = Path(error.filename or settings.data_dir)
        fail(why_unwritable(path, error.errno) or str(error))
    return 0


def _announce(settings: Settings, broker: Broker, *, ingests: bool) -> None:
    """Print the addresses of all servers, and new passwords or where they are."""
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
        shown = _shown(settings, account.user, account.user, account.password)
        say(f"Password    {shown}")


def _shown(settings: Settings, whose: str, file: str, secret: str) -> str:
    """Return a new secret for a terminal, or the path of its file for anything else."""
    path = secret_path(settings.data_dir, file)
    if sys.stderr.isatty():
        return f"{whose}  {secret}   (new; not shown again, but kept in {path})"
    return f"{whose}  {path}   (new; the file has it)"
