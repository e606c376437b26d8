"""What starts, in which order, and how it ends; `house` is what runs meanwhile.

Start: data folder, journal, broker (`up`), HTTP, sinks, session. Stop: first nothing new comes in
(the batch at hand is stored and acknowledged), then the broker stops and saves what it holds,
then each sink finishes and settles the write it is in, then HTTP and the journal close.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import structlog

from echo_ingest import broker
from echo_ingest.census import count_nodes
from echo_ingest.journal import Journal
from echo_ingest.journal.damage import noting
from echo_ingest.journal.salvage import mend
from echo_ingest.retain import retain
from echo_ingest.service.door import STOP_SECONDS_MAX, Door, listen
from echo_ingest.service.house import House
from echo_ingest.settings import (
    Endpoint,
    LocalEndpoint,
    Settings,
    Tokens,
    kept_secret,
    parse_endpoint,
)
from echo_ingest.survivor import end_survivor, lock_file, try_lock
from echo_ingest.watch import Watch

__all__ = ["House", "Stopped", "run_broker", "run_ingest", "run_up"]

DRAIN_SECONDS = 20.0

TellToken = Callable[[str, str], None]

log = structlog.get_logger("service")


class Stopped(Exception):
    """The process cannot start or go on; the text says why and what to do, for people."""


# ---------------------------------------------------------------------- three ways to run


async def run_up(
    settings: Settings,
    started: Callable[[broker.Broker], None],
    tell_token: TellToken,
    beside: Callable[[House], Awaitable[None]] | None = None,
) -> None:
    """Broker, ingestion and HTTP, until told to stop. `beside` runs along with them.

    `started` is called once the broker listens, `tell_token` with each token of HTTP that was made
    just now, and whose it is. Raises `Stopped`, `BrokerError`, `JournalFull`, `JournalUnusable` or
    `OSError`, each with a remedy in its text.
    """
    if settings.endpoint is not None and not _is_this_machine(settings.endpoint):
        raise Stopped(
            f"IOT_ENDPOINT is {settings.endpoint}, but `up` runs a broker of its own and would not "
            "use that one: type `echo-ingest run`, or leave IOT_ENDPOINT unset"
        )
    with _sole_owner(settings.data_dir):
        async with broker.running(settings) as own, _journal(settings) as journal:
            house = House(
                settings,
                journal,
                own.endpoint,
                lambda: (own.service.user, own.service.password),
                own.publisher,
            )
            started(own)
            await _serve(house, own, beside, tell_token)


async def run_ingest(settings: Settings, tell_token: TellToken) -> None:
    """Ingestion and HTTP against a broker run elsewhere, until told to stop; as `run_up`."""
    endpoint: Endpoint | LocalEndpoint = broker.own_endpoint(settings.data_dir)
    if settings.endpoint is not None:
        endpoint = parse_endpoint(settings.endpoint)
    with _sole_owner(settings.data_dir):
        async with _journal(settings) as journal:
            house = House(settings, journal, endpoint, lambda: broker.login(settings))
            await _serve(house, None, None, tell_token)


async def run_broker(settings: Settings, started: Callable[[broker.Broker], None]) -> None:
    """The broker alone, until told to stop; as `run_up`."""
    stopping = _stop_signal()
    try:
        async with broker.running(settings) as own, asyncio.TaskGroup() as tasks:
            started(own)
            beside = []
            if settings.broker_http:
                service = (own.service.user, own.service.password)
                watch = Watch(settings.client_id, own.endpoint, service)
                # As the web process would; it takes a while to import, and only this needs it here.
                from echo_ingest import web

                listener = listen(settings.bind, settings.http_port)
                beside = [
                    tasks.create_task(web.serve(web.create_health_app(watch), listener)),
                    tasks.create_task(watch.run()),
                ]
            await _until_either(stopping, own)
            await _cancel(beside)
    except BaseExceptionGroup as group:
        raise _first(group) from group


# ---------------------------------------------------------------------- start, run, drain


async def _serve(
    house: House,
    own: broker.Broker | None,
    beside: Callable[[House], Awaitable[None]] | None,
    tell_token: TellToken,
) -> None:
    settings = house.settings
    stopping, drained = _stop_signal(), asyncio.Event()
    tokens = _tokens(settings, tell_token)
    try:
        async with _door(house, tokens) as door, asyncio.TaskGroup() as tasks:
            http = tasks.create_task(door.run())
            deliveries = [tasks.create_task(d.run(drained)) for d in house.deliveries]
            aside = [
                tasks.create_task(retain(house.journal, settings.retention_days)),
                tasks.create_task(count_nodes(house.journal.path)),
            ]
            session = tasks.create_task(house.session.run())
            intake = [
                tasks.create_task(house.ingest.run()),
                tasks.create_task(house.pulse.run(house.session)),
            ]
            if own is not None or settings.user == broker.SERVICE:  # a broker of ours, elsewhere
                intake.append(tasks.create_task(house.figures.run()))
            if beside is not None:
                intake.append(tasks.create_task(_beside(house, beside)))
            await _until_either(stopping, own)

            log.info("stopping")
            house.draining = True
            await _cancel(intake)
            await _cancel([session])
            if own is not None:
                await own.stop()
            drained.set()
            house.wake_sinks()
            await _finish(deliveries)
            await _cancel([*aside, http])
    except BaseExceptionGroup as group:
        raise _first(group) from group
    finally:
        for sink in house.sinks:
            await sink.close()
    log.info("stopped")


def _tokens(settings: Settings, tell_token: TellToken) -> Tokens:
    """Those that are given, else kept, else made now: then they are told, this once."""
    reader, is_new = kept_secret(settings.data_dir, "http", settings.http_token)
    if is_new:
        tell_token("reader", reader)
    operator, is_new = kept_secret(settings.data_dir, "operator", settings.operator_token)
    if is_new:
        tell_token("operator", operator)
    return Tokens(reader, operator)


@contextlib.asynccontextmanager
async def _door(house: House, tokens: Tokens) -> AsyncIterator[Door]:
    """The port is ours, and the web process of an earlier start, killed with it, has gone."""
    settings = house.settings
    with lock_file(settings.data_dir / "web.pid") as lock:
        if not await end_survivor(lock, "web process", STOP_SECONDS_MAX):
            raise Stopped(
                "the web process of an earlier start does not end and still holds web.pid in the "
                "data folder: end it, or restart the machine"
            )
        with listen(settings.bind, settings.http_port) as listener:
            yield Door(settings, tokens, listener, lock, house.answers)


async def _until_either(stopping: asyncio.Event, own: broker.Broker | None) -> None:
    """Wait for the signal to stop; raise `Stopped` with its last words if our broker ends."""
    waiting: list[asyncio.Task[Any]] = [asyncio.create_task(stopping.wait())]
    if own is not None:
        waiting += [asyncio.create_task(own.wait()), asyncio.create_task(own.follow())]
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.is_set():
            raise Stopped(done.pop().result())
    finally:
        await _cancel(waiting)


async def _beside(house: House, beside: Callable[[House], Awaitable[None]]) -> None:
    await beside(house)


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _finish(deliveries: list[asyncio.Task[None]]) -> None:
    """Let each sink end the write it is in: cut off, it would be repeated at the next start."""
    if deliveries:
        _, unfinished = await asyncio.wait(deliveries, timeout=DRAIN_SECONDS)
        await _cancel(list(unfinished))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The reason why a task group ended: one is enough to act on."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _stop_signal() -> asyncio.Event:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


@contextlib.asynccontextmanager
async def _journal(settings: Settings) -> AsyncIterator[Journal]:
    """The journal, salvaged first if it is damaged; what is met later is noted for the next start.

    The broker takes messages meanwhile.
    """
    path = settings.journal_path
    await asyncio.to_thread(mend, path)
    with (
        noting(path),
        contextlib.closing(
            Journal(
                path,
                bytes_max=settings.journal_bytes_max,
                disk_free_bytes_min=settings.disk_free_bytes_min,
            )
        ) as journal,
    ):
        yield journal


@contextlib.contextmanager
def _sole_owner(data_dir: Path) -> Iterator[None]:
    """Make the data folder (0700) and keep a second service out of it."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (data_dir / "lock").open("w")
    except PermissionError:
        raise Stopped(broker.not_ours(data_dir)) from None
    with file as lock:
        if not try_lock(lock.fileno()):
            raise Stopped(
                f"another echo-ingest runs on {data_dir}: stop it, or give this one its own "
                "IOT_DATA_DIR"
            )
        yield


def _is_this_machine(endpoint: str) -> bool:
    return parse_endpoint(endpoint).host in ("localhost", "127.0.0.1", "::1")
