"""`check`: is everything as it must be, and if not, what to do about it."""

import asyncio
import logging
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPException

import msgspec
import typer
from msgspec import Struct
from rich.text import Text

from echo_ingest import broker
from echo_ingest.broker.node_accounts import read_nodes
from echo_ingest.cli.connection import (
    ask_service,
    connected,
    is_own,
    local_host,
    publisher_options,
    service_options,
)
from echo_ingest.cli.options import archive_of, log_from, settings_of
from echo_ingest.cli.output import out
from echo_ingest.journal import JournalUnusable
from echo_ingest.journal.recovery.detect import note_of, noted
from echo_ingest.journal.recovery.salvage import report_of
from echo_ingest.mqtt import ConnectionLost, Session
from echo_ingest.payload_view import printable, size
from echo_ingest.settings import Settings
from echo_ingest.sinks import Sink, Unavailable
from echo_ingest.sinks.registry import configured, sinks_of, title_of

NOT_RUNNING = "not running; `echo-ingest up` or `echo-ingest broker` starts it"
MARKS = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("–", "dim")}


class Finding(Struct, frozen=True):
    """One line of the report."""

    part: str
    well: bool | None
    """None: it is not running, or not there yet, which is no failure."""
    found: str
    """What was found, with its remedy where something is wrong."""


class _HealthReply(Struct):
    """What /healthz says when it is not well."""

    problems: dict[str, str]


def check(context: typer.Context) -> None:
    """Check settings, folder, journal, broker, HTTP and sinks; say what to mend.

    Ends with 0 if nothing is wrong. What is not running is not wrong.
    """
    settings = settings_of(context)
    log_from(logging.CRITICAL)  # a finding says it already
    failed = False
    for finding in _findings(settings):
        mark, style = MARKS[finding.well]
        out.print(
            Text.assemble(
                (mark, style), f" {finding.part:<11} ", printable(finding.found, keep="\n")
            ),
            soft_wrap=True,
        )
        failed = failed or finding.well is False
    raise typer.Exit(failed)


def _findings(settings: Settings) -> Iterator[Finding]:
    yield Finding("settings", True, "valid")
    yield _data_folder(settings)
    yield _journal(settings)
    if is_own(settings):
        yield _mosquitto(settings)
        yield _nodes(settings)
    yield (broker_found := _broker(settings))
    yield (service_found := _service(settings))
    for name, running in (("mqtt_port", broker_found), ("ws_port", broker_found),
                          ("http_port", service_found)):  # fmt: skip
        if running.well is None and (is_own(settings) or name == "http_port"):
            yield _port(settings, name)
    yield from _sinks(settings)


def _data_folder(settings: Settings) -> Finding:
    part, path = "data folder", settings.data_dir.absolute()
    if not path.exists():
        above = next(parent for parent in path.parents if parent.exists())
        if not os.access(above, os.W_OK):
            return Finding(
                part, False, f"{path} cannot be created: {above} belongs to another user; "
                "set IOT_DATA_DIR to a folder of yours"
            )  # fmt: skip
        return Finding(part, None, f"{path} is not there yet; `echo-ingest up` creates it")
    if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
        return Finding(
            part, False, f"{path} cannot be written; make it a folder of the user that runs this"
        )
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Finding(
            part, False, f"{path} can be read by others (mode {mode:04o}); type: chmod 700 {path}"
        )
    free = shutil.disk_usage(path).free
    if free < settings.disk_free_bytes_min:
        return Finding(
            part, False, f"{size(free)} are free on its disk, IOT_DISK_FREE_BYTES_MIN keeps "
            f"{size(settings.disk_free_bytes_min)}: nothing is taken until there is more room"
        )  # fmt: skip
    return Finding(part, True, f"{path}, {size(free)} free")


def _journal(settings: Settings) -> Finding:
    path = settings.journal_path
    if not path.exists():
        return Finding("journal", None, "not there yet; it begins with the first start")
    if (report := report_of(path)).exists():
        return Finding(
            "journal", False, f"it was damaged and what could be read was saved: read {report}, "
            "and remove it when its consequences are dealt with"
        )  # fmt: skip
    if note_of(path).exists():
        return Finding("journal", False, str(noted(path, note_of(path).read_text().strip())))
    try:
        with closing(archive_of(settings)) as archive:
            wrong = archive.audit()
            ledger = archive.ledger()
    except JournalUnusable as error:
        return Finding("journal", False, str(error))
    if wrong:
        said = f"the ledger does not close: {'; '.join(wrong)}"
        noted(path, said)
        return Finding(
            "journal", False, f"{said}; start the service again: it keeps this file beside a new "
            "one, with all that can be read; report it if the disk is well"
        )  # fmt: skip
    return Finding("journal", True, f"{ledger.stored:,} records; the ledger closes")


def _service(settings: Settings) -> Finding:
    host, port = local_host(settings), settings.http_port
    try:
        status, body = ask_service(settings, "/healthz")
    except ConnectionRefusedError:
        return Finding("service", None, f"not running: nothing answers at {host}:{port}")
    except (OSError, HTTPException) as error:
        return Finding("service", False, f"{host}:{port} does not answer ({error}); restart it")
    if status == 200:
        return Finding("service", True, f"healthy at http://{host}:{port}/healthz")
    try:
        problems = msgspec.json.decode(body, type=_HealthReply).problems
    except msgspec.DecodeError:
        return Finding(
            "service", False, f"another program answers at {host}:{port}; set IOT_HTTP_PORT"
        )
    said = "; ".join(f"{part}: {problem}" for part, problem in problems.items())
    return Finding("service", False, f"not healthy: {said}")


def _nodes(settings: Settings) -> Finding:
    try:
        nodes = read_nodes(settings.nodes_path)
    except broker.BrokerError as error:
        return Finding("nodes", False, str(error))
    disabled = sum(node.disabled for node in nodes)
    others = "others share echopub" if settings.echopub else "nobody else comes in"
    return Finding("nodes", True, f"{len(nodes):,}, of them {disabled:,} disabled; {others}")


def _mosquitto(settings: Settings) -> Finding:
    try:
        program = broker.find_mosquitto(settings.mosquitto)
        version = ".".join(map(str, broker.version(program)))
    except broker.BrokerError as error:
        return Finding("mosquitto", False, str(error))
    return Finding("mosquitto", True, f"{version} at {program}")


def _broker(settings: Settings) -> Finding:
    """Log in as a device does, with a client id of its own that leaves nothing behind.

    As the service itself, where only a hash of the devices' password is known.
    """
    options = publisher_options(settings) or service_options(settings)
    if options is None:
        return Finding("broker", None, NOT_RUNNING)

    async def log_in() -> None:
        async with connected(Session(options)):
            pass

    try:
        asyncio.run(log_in())
    except ConnectionLost as error:
        if is_own(settings) and _can_listen(settings, settings.mqtt_port):
            return Finding("broker", None, NOT_RUNNING)
        return Finding("broker", False, str(error))
    login = options.login()
    return Finding("broker", True, f"{options.endpoint} lets {login[0] if login else 'us'} in")


def _port(settings: Settings, name: str) -> Finding:
    port: int = getattr(settings, name)
    if _can_listen(settings, port):
        return Finding("port", True, f"{port} is free")
    return Finding(
        "port",
        False,
        f"{port} at {settings.bind} is taken by another program; stop that one, or set "
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
