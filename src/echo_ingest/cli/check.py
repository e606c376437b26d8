"""`check`: find out what is wrong with an installation, and say what to do about it."""

import asyncio
import logging
import os
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPException
from typing import Literal

import msgspec
import typer
from msgspec import Struct
from rich.text import Text

from echo_ingest import broker
from echo_ingest.broker.node_accounts import read_nodes
from echo_ingest.broker.topic_rights import is_ours_elsewhere
from echo_ingest.cli.connection import (
    ask_service,
    is_own,
    publisher_options,
    service_options,
)
from echo_ingest.cli.options import log_from, open_reader, settings_of
from echo_ingest.cli.output import out
from echo_ingest.cli.status import suspect_confidences
from echo_ingest.formatting import counted
from echo_ingest.journal import JournalUnusable
from echo_ingest.journal.migration import copies_before
from echo_ingest.journal.recovery.detect import note_of, noted
from echo_ingest.journal.recovery.salvage import report_of
from echo_ingest.journal.schema import SCHEMA_VERSION
from echo_ingest.mqtt import ConnectionLost, Session, SessionOptions
from echo_ingest.mqtt.publishing import connected
from echo_ingest.payload_view import printable, size
from echo_ingest.process.files import obstacle_in, why_unwritable
from echo_ingest.service.intake import endpoint_option_names
from echo_ingest.service.missed import missed_note_of
from echo_ingest.settings import Settings, parse_endpoint
from echo_ingest.settings.endpoint import local_host
from echo_ingest.sinks import Sink, Unavailable
from echo_ingest.sinks.registry import configured, sinks_of, title_of
from echo_ingest.site_decoder import errors_of, forms_of

NOT_RUNNING = "not running; start it with `echo-ingest up` or `echo-ingest broker`"
MARKS = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("–", "dim")}


class Finding(Struct, frozen=True):
    """One line of the report."""

    part: str
    well: bool | None
    """None if the part is not running or does not exist yet, which is not an error."""
    text: str
    """What is the case, and if that is wrong, what to do."""


class _HealthReply(Struct):
    """The body of an answer of /healthz."""

    problems: dict[str, str] = {}
    endpoints: dict[str, str] = {}


def check(context: typer.Context) -> None:
    """Check settings, data folder, journal, broker, HTTP and sinks.

    Each problem is shown with its remedy. The exit code is 0 if nothing is
    wrong; a part that is not running is not an error.
    """
    settings = settings_of(context)
    log_from(logging.CRITICAL)  # the findings already say what went wrong
    failed = False
    for finding in _findings(settings):
        mark, style = MARKS[finding.well]
        out.print(
            Text.assemble(
                (mark, style), f" {finding.part:<11} ", printable(finding.text, keep="\n")
            ),
            soft_wrap=True,
        )
        failed = failed or finding.well is False
    raise typer.Exit(failed)


def _findings(settings: Settings) -> Iterator[Finding]:
    yield Finding("settings", True, "valid")
    yield _data_folder(settings)
    yield _journal(settings)
    yield from _journal_copies(settings)
    yield _forms(settings)
    yield from (Finding("confidence", False, words) for words in suspect_confidences(settings))
    yield from _clock(settings)
    if is_own(settings):
        yield _mosquitto(settings)
        yield _nodes(settings)
    elif is_ours_elsewhere(settings) and not settings.nodes_path.exists():
        yield Finding(
            "nodes", None, f"{settings.nodes_path} is not there: if nodes have accounts at that "
            "broker, set IOT_NODES_FILE to a copy of its file; without it they are believed "
            "whatever node a payload names"
        )  # fmt: skip
    yield (broker_finding := _broker(settings))
    yield from _endpoints(settings)
    yield from _session(settings)
    yield (service_finding := _service(settings))
    if broker_finding.well is None and is_own(settings):
        yield _port(settings, "mqtt_port")
        yield _port(settings, "ws_port")
    if service_finding.well is None:
        yield _port(settings, "http_port")
    yield from _sinks(settings)


def _data_folder(settings: Settings) -> Finding:
    part, path = "data folder", settings.data_dir.absolute()
    if not path.exists():
        above = next(parent for parent in path.parents if parent.exists())
        if not os.access(above, os.W_OK):
            return Finding(
                part, False, f"{path} cannot be created, because you may not write in {above}; "
                "set IOT_DATA_DIR to a folder of yours"
            )  # fmt: skip
        return Finding(part, None, f"{path} does not exist yet; `echo-ingest up` creates it")
    if (
        path.is_dir()
        and (why := why_unwritable(path / "journal.db", obstacle_in(path))) is not None
    ):
        return Finding(part, False, why)
    if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
        return Finding(
            part,
            False,
            f"{path} is not a folder that this user can write; change its owner, or "
            "set IOT_DATA_DIR to a folder of yours",
        )
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Finding(
            part, False, f"other users can read {path} (mode {mode:04o}); type: chmod 700 {path}"
        )
    free = shutil.disk_usage(path).free
    if free < settings.disk_free_bytes_min:
        return Finding(
            part, False, f"only {size(free)} are free on its disk, less than the "
            f"{size(settings.disk_free_bytes_min)} of IOT_DISK_FREE_BYTES_MIN: no message is "
            "accepted until you make room"
        )  # fmt: skip
    return Finding(part, True, f"{path}, {size(free)} free")


def _journal(settings: Settings) -> Finding:
    path = settings.journal_path
    if not path.exists():
        return Finding("journal", None, "does not exist yet; the first start creates it")
    if (report := report_of(path)).exists():
        return Finding(
            "journal", False, f"it was damaged, and everything that could be read was saved: read "
            f"{report}, do what it says, and then remove it"
        )  # fmt: skip
    if (missed := missed_note_of(path)).exists():
        return Finding(
            "journal", False, "it is a new one, and there was another one before in this folder, "
            f"which is gone: read {missed}, do what it says, and then remove it"
        )  # fmt: skip
    if note_of(path).exists():
        return Finding("journal", False, str(noted(path, note_of(path).read_text().strip())))
    try:
        with closing(open_reader(settings)) as reader:
            mismatches = reader.audit()
            ledger = reader.ledger()
            schema = reader.schema_version
    except JournalUnusable as error:
        return Finding("journal", False, str(error))
    if mismatches:
        damage = f"the ledger does not add up: {'; '.join(mismatches)}"
        noted(path, damage)
        return Finding(
            "journal", False, f"{damage}; restart the service: it moves everything that can be "
            "read to a new file and keeps this one. If the disk is healthy, please report this"
        )  # fmt: skip
    older = (
        ""
        if schema == SCHEMA_VERSION
        else (
            f"; it is of an earlier version (schema {schema}): the next start brings it up to date "
            f"({SCHEMA_VERSION}), and makes a copy before"
        )
    )
    text = f"{counted(ledger.stored, 'records')}; the ledger adds up{older}"
    return Finding("journal", True, text)


def _journal_copies(settings: Settings) -> Iterator[Finding]:
    """Yield the copies that were made before the journal was brought up to date."""
    for copy in copies_before(settings.journal_path):
        if copy.stat().st_size:
            yield Finding(
                "journal", None, f"{copy.name} is the journal from before it was brought up to "
                f"date ({size(copy.stat().st_size)}): remove it when you are sure that you will "
                "not go back to the version from before"
            )  # fmt: skip


def _forms(settings: Settings) -> Finding:
    forms = forms_of(settings)
    wrong = list(errors_of(forms))
    if wrong:
        return Finding(
            "forms", False, f"{'; '.join(wrong)}. Correct the file: a service that runs keeps the "
            "forms that it had, and one that starts goes without this one"
        )  # fmt: skip
    own = f"{counted(forms.own_count, 'forms')} in {settings.forms_path}"
    return Finding("forms", True, f"{own}, and {len(forms.forms) - forms.own_count} of ours")


def _clock(settings: Settings) -> Iterator[Finding]:
    """Yield what the journal tells about the clock of this machine, where that is wrong."""
    with suppress(JournalUnusable), closing(open_reader(settings)) as reader:
        if ahead := reader.received_ahead(time.time_ns() // 1_000_000):
            yield Finding("clock", False if ahead.is_newest else None, ahead.render())


def _service(settings: Settings) -> Finding:
    host, port = local_host(settings.bind), settings.http_port
    try:
        status, body = ask_service(settings, "/healthz")
    except ConnectionRefusedError:
        return Finding("service", None, f"not running: nothing answers at {host}:{port}")
    except (OSError, HTTPException) as error:
        return Finding(
            "service", False, f"{host}:{port} does not answer ({error}); restart the service"
        )
    if status == 200:
        return Finding("service", True, f"healthy at http://{host}:{port}/healthz")
    try:
        problems = msgspec.json.decode(body, type=_HealthReply).problems
    except msgspec.DecodeError:
        return Finding(
            "service", False, f"another program answers at {host}:{port}; set IOT_HTTP_PORT"
        )
    listed = "; ".join(f"{part}: {problem}" for part, problem in problems.items())
    return Finding("service", False, f"not healthy: {listed}")


def _nodes(settings: Settings) -> Finding:
    try:
        nodes = read_nodes(settings.nodes_path)
    except broker.BrokerError as error:
        return Finding("nodes", False, str(error))
    disabled = sum(node.disabled for node in nodes)
    others = "others may use echopub" if settings.echopub else "others may not connect"
    return Finding(
        "nodes",
        True,
        f"{len(nodes):,} with their own credentials ({disabled:,} disabled); {others}",
    )


def _mosquitto(settings: Settings) -> Finding:
    try:
        folder = broker.broker_folder(settings.data_dir)
        program = broker.find_mosquitto(settings.mosquitto, folder)
        version = broker.version(program)
    except broker.BrokerError as error:
        return Finding("mosquitto", False, str(error))
    text = f"{'.'.join(map(str, version))} at {program}"
    advice = broker.remark(version, folder)
    return Finding("mosquitto", True, f"{text}; {advice}" if advice else text)


def _broker(settings: Settings) -> Finding:
    """Log in as a device does, with a new client id, so that no session is left behind.

    If only a hash of the devices' password is kept here, log in as the service.
    """
    options = publisher_options(settings) or service_options(settings)
    if options is None:
        return Finding("broker", None, NOT_RUNNING)

    async def log_in() -> int | None:
        async with connected(session := Session(options)):
            return session.packet_bytes_max

    try:
        packet_bytes_max = asyncio.run(log_in())
    except ConnectionLost as error:
        if is_own(settings) and _can_listen(settings, settings.mqtt_port):
            return Finding("broker", None, NOT_RUNNING)
        return Finding("broker", False, str(error))
    login = options.login()
    user = f"{login[0]} can log in" if login else "we can connect without a user"
    text = f"{options.endpoint}: {user}"
    if packet_bytes_max is not None and packet_bytes_max < settings.payload_bytes_max:
        text += (
            f"; it disconnects devices that send more than {size(packet_bytes_max)}, and "
            f"IOT_PAYLOAD_BYTES_MAX would allow {size(settings.payload_bytes_max)}"
        )
    return Finding("broker", True, text)


def _endpoints(settings: Settings) -> Iterator[Finding]:
    """Yield how each broker of IOT_ENDPOINTS is: what the service says, or else a log-in of ours.

    The client id is a new one, so that no session of the service is taken over.
    """
    known = _endpoint_problems(settings) if settings.endpoint_entries else {}
    for entry in settings.endpoint_entries:
        where = f"{entry.name}, {entry.url}"
        options = SessionOptions(
            endpoint=entry.url,
            client_id=f"{settings.client_id}-check-{secrets.token_hex(4)}",
            login=lambda login=entry.login: login,  # type: ignore[misc]
            tls_ca_file=entry.tls_ca_file,
            version=entry.version,
            names=endpoint_option_names(entry),
        )

        async def log_in(options: SessionOptions = options) -> None:
            async with connected(Session(options)):
                pass

        problem = known.get(entry.name)
        if problem is None:
            try:
                asyncio.run(log_in())
            except ConnectionLost as error:
                problem = str(error)
        text = "we can log in" if problem is None else problem
        yield Finding("endpoint", problem is None, f"{where}: {text}")


def _endpoint_problems(settings: Settings) -> dict[str, str]:
    """Return what the running service says of its endpoints; nothing where none runs."""
    with suppress(OSError, HTTPException, msgspec.DecodeError):
        _, body = ask_service(settings, "/readyz")
        return msgspec.json.decode(body, type=_HealthReply).endpoints
    return {}


def _session(settings: Settings) -> Iterator[Finding]:
    """Say whether somebody else could guess the name of our session at a broker elsewhere."""
    if settings.endpoint is None:
        return
    with suppress(JournalUnusable), closing(open_reader(settings)) as reader:
        remembered = reader.sessions()
        name = broker.earlier_name(settings, parse_endpoint(settings.endpoint), remembered)
        if name is not None and name.can_be_guessed:
            yield Finding(
                "session", False, f"its name, {name.client_id}, can be guessed: a client with any "
                "account at this broker that uses it gets the messages that wait for us, or "
                f"discards them; {broker.CHANGE_OVER}"
            )  # fmt: skip


def _port(settings: Settings, name: Literal["mqtt_port", "ws_port", "http_port"]) -> Finding:
    port: int = getattr(settings, name)
    if _can_listen(settings, port):
        return Finding("port", True, f"{port} is free")
    return Finding(
        "port",
        False,
        f"another program uses {port} at {settings.bind}; stop that program, or set "
        f"IOT_{name.upper()}",
    )


def _can_listen(settings: Settings, port: int) -> bool:
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    try:
        socket.create_server((settings.bind, port), family=family).close()
    except OSError:
        return False
    return True


def _sinks(settings: Settings) -> Iterator[Finding]:
    async def probe(sink: Sink) -> None:
        try:
            await sink.probe()
        finally:
            await sink.close()

    for sink in sinks_of(settings):
        try:
            asyncio.run(probe(sink))
        except Unavailable as error:
            yield Finding(title_of(sink.name), False, f"{sink.address}: {error}")
        else:
            yield Finding(title_of(sink.name), True, f"{sink.address} answers")
    specs = {spec.name: spec for spec in configured(settings)}
    for spec in specs.values():
        if spec.twin in specs:
            other = f"IOT_{specs[spec.twin].setting.upper()}"
            yield Finding(
                spec.title, None, f"{other} is set too: if the {specs[spec.twin].title} keeps its "
                "data in this database, every record is there twice; leave one of the two out"
            )  # fmt: skip
