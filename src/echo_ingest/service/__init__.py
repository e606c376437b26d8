"""What starts, in which order, and how it ends; `Runtime` is what runs in between.

Start: data folder, broker and proxy (`up`), journal, HTTP, delivery, session. Stop: first nothing
new comes in (the current batch is stored and acknowledged), then the proxy ends the connections of
devices, and the broker stops and saves what it holds, then each sink finishes and settles its
current write, then HTTP and the journal close.
"""

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import structlog
from msgspec import Struct

from echo_ingest import broker
from echo_ingest.broker.taken_topics import taken_topics_path
from echo_ingest.journal import Journal
from echo_ingest.journal.migration import migrate
from echo_ingest.journal.recovery.detect import noting
from echo_ingest.journal.recovery.salvage import mend
from echo_ingest.monitoring.broker_health import BrokerHealth
from echo_ingest.monitoring.node_counts import count_nodes
from echo_ingest.pipeline.claims import follow_claims
from echo_ingest.pipeline.retention import retain
from echo_ingest.process.orphans import end_orphan, lock_file, running_child, try_lock
from echo_ingest.process.shutdown import cancel, first_error, stop_signal
from echo_ingest.service.missed import log_if_secrets_missed, note_if_missed
from echo_ingest.service.proxy_process import ProxyProcess, check_certificates, open_to_devices
from echo_ingest.service.runtime import Runtime
from echo_ingest.service.storage_watch import StorageWatch
from echo_ingest.service.supervisor import keep_running
from echo_ingest.service.web_process import listen, web_child
from echo_ingest.settings import (
    Endpoint,
    LocalEndpoint,
    Settings,
    Tokens,
    load_or_create_secret,
    parse_endpoint,
)
from echo_ingest.site_decoder import follow_site

__all__ = ["Runtime", "ServiceStopped", "run_broker", "run_ingest", "run_up"]

ORPHAN_SECONDS_MAX = 6.0
"""The line waits for so long, so it is less than a write to a slow sink may take."""
SOCKETS_CHECKED_SECONDS = 60.0
BROKER_SHARE_BESIDE_INGESTION, BROKER_SHARE_ALONE = 0.45, 0.5
"""Of the memory that we may use, how much mosquitto may take."""

TellToken = Callable[[str, str, str], None]
"""Gets the role, the name of the file in `secrets`, and the token."""

log = structlog.get_logger("service")


class ServiceStopped(Exception):
    """The service cannot start or continue; the text tells people why and what to do."""


# ---------------------------------------------------------------------- three ways to run


async def run_up(
    settings: Settings,
    started: Callable[[broker.Broker], None],
    tell_token: TellToken,
    beside: Callable[[Runtime], Awaitable[None]] | None = None,
) -> None:
    """Run broker, ingestion and HTTP until told to stop, and `beside` along with them.

    `started` is called once devices can connect, `tell_token` with each HTTP token that was made
    just now. Raises `ServiceStopped`, `BrokerError`, `JournalFull`,
    `JournalUnusable` or `OSError`, each with a remedy in its text.
    """
    if settings.endpoint is not None and not _is_this_machine(settings.endpoint):
        raise ServiceStopped(
            f"IOT_ENDPOINT is {settings.endpoint}, but `up` runs a broker of its own and would not "
            "use that one: type `echo-ingest run`, or leave IOT_ENDPOINT unset"
        )
    check_certificates(settings)
    with _sole_owner(settings.data_dir):
        log_if_secrets_missed(settings.journal_path)
        async with (
            broker.running(settings) as own,
            open_to_devices(settings, own, BROKER_SHARE_BESIDE_INGESTION) as proxy,
            _orphans_ended(settings.data_dir) as locks,
            _journal(settings) as journal,
        ):
            runtime = Runtime(
                settings,
                journal,
                own.endpoint,
                lambda: (own.service.user, own.service.password),
                own.publisher,
                proxy,
            )
            started(own)
            await _serve(runtime, locks, beside, tell_token)


async def run_ingest(settings: Settings, tell_token: TellToken) -> None:
    """Run ingestion and HTTP with brokers that run elsewhere; otherwise as `run_up`.

    With `IOT_ENDPOINTS`, the broker beside us counts only where there is one.
    """
    endpoint: Endpoint | LocalEndpoint | None = None
    if settings.endpoint is not None:
        endpoint = parse_endpoint(settings.endpoint)
    elif not settings.endpoint_entries or broker.own_login(settings.data_dir) is not None:
        endpoint = broker.own_endpoint(settings.data_dir)
    with _sole_owner(settings.data_dir):
        async with (
            _orphans_ended(settings.data_dir) as locks,
            _journal(settings) as journal,
        ):
            runtime = Runtime(settings, journal, endpoint, lambda: broker.login(settings))
            await _serve(runtime, locks, None, tell_token)


async def run_broker(settings: Settings, started: Callable[[broker.Broker], None]) -> None:
    """Run the broker alone until told to stop; otherwise as `run_up`."""
    stopping = stop_signal()
    check_certificates(settings)
    try:
        async with (
            broker.running(settings) as own,
            open_to_devices(settings, own, BROKER_SHARE_ALONE) as proxy,
            asyncio.TaskGroup() as tasks,
        ):
            started(own)
            beside: list[asyncio.Task[Any]] = [
                tasks.create_task(_check_sockets(settings.bind, proxy.processes))
            ]
            if settings.broker_http:
                service = (own.service.user, own.service.password)
                watch = BrokerHealth(settings.client_id, own.endpoint, service, proxy.problems)
                # The import takes a while, and only this case needs it in this process.
                from echo_ingest import web

                listener = listen(settings.bind, settings.http_port)
                app = web.create_health_app(watch)
                beside += [
                    tasks.create_task(web.serve(app, listener, limits=web.HEALTH_LIMITS)),
                    tasks.create_task(watch.run()),
                ]
            failure = await _until_either(stopping, proxy)
            await cancel(beside)
            if failure is not None:
                raise ServiceStopped(failure)
    except BaseExceptionGroup as group:
        raise first_error(group) from group


# ---------------------------------------------------------------------- start, run, drain


async def _serve(
    runtime: Runtime,
    locks: "_Locks",
    beside: Callable[[Runtime], Awaitable[None]] | None,
    tell_token: TellToken,
) -> None:
    settings, proxy = runtime.settings, runtime.proxy
    stopping = stop_signal()
    tokens = _tokens(settings, tell_token)

    def processes() -> dict[str, int]:
        pid = running_child(locks.web)
        web = {} if pid is None else {"the web process": pid}
        return web if proxy is None else {**proxy.processes(), **web}

    # What is here now stays, such as the forms: to look through it again and again takes a seventh
    # of the time of a message.
    gc.freeze()
    try:
        with listen(settings.bind, settings.http_port) as listener:
            web = web_child(settings, tokens, listener, locks.web, runtime.answers)
            async with asyncio.TaskGroup() as tasks:
                http = tasks.create_task(keep_running(web))
                delivery = []
                if runtime.delivery.names:
                    delivery.append(tasks.create_task(runtime.delivery.run(locks.delivery)))
                aside = [
                    tasks.create_task(retain(runtime.journal, settings.retention_days)),
                    tasks.create_task(count_nodes(runtime.journal.path)),
                    tasks.create_task(follow_site(settings, runtime.decoder)),
                    tasks.create_task(_check_sockets(settings.bind, processes)),
                ]
                sessions = [tasks.create_task(each.session.run()) for each in runtime.intakes]
                intake: list[asyncio.Task[Any]]
                intake = [tasks.create_task(each.ingest.run()) for each in runtime.intakes]
                if (ours := runtime.broker) is not None:
                    taken = taken_topics_path(settings)
                    aside.append(
                        tasks.create_task(follow_claims(taken, ours.claims, runtime.journal))
                    )
                    intake.append(tasks.create_task(ours.loopback.run(ours.session)))
                    if proxy is not None or settings.user == broker.SERVICE:  # a broker of ours
                        intake.append(tasks.create_task(ours.stats.run()))
                if beside is not None:
                    intake.append(tasks.create_task(_beside(runtime, beside)))
                failure = await _until_either(stopping, proxy, runtime.storage)

                log.info("stopping")
                runtime.draining = True
                await cancel(intake)
                await cancel(sessions)
                if proxy is not None:
                    await proxy.stop()
                    await proxy.broker.stop()
                await cancel(delivery)
                await cancel(aside)
                if failure is not None:
                    failure += await runtime.storage.rescued(stopping)
                await cancel([http])
                if failure is not None:
                    raise ServiceStopped(failure)
    except BaseExceptionGroup as group:
        raise first_error(group) from group
    log.info("stopped")


def _tokens(settings: Settings, tell_token: TellToken) -> Tokens:
    """Return the tokens that are given, else kept, else made now, and then told this once."""
    reader, is_new = load_or_create_secret(settings.data_dir, "http", settings.http_token)
    if is_new:
        tell_token("reader", "http", reader)
    operator, is_new = load_or_create_secret(settings.data_dir, "operator", settings.operator_token)
    if is_new:
        tell_token("operator", "operator", operator)
    return Tokens(reader, operator)


class _Locks(Struct, frozen=True):
    """Descriptors of locked files; each process beside ours holds its lock as long as it lives."""

    web: int
    delivery: int


@contextlib.asynccontextmanager
async def _orphans_ended(data_dir: Path) -> AsyncIterator[_Locks]:
    """End the processes of an earlier service that was killed: they have the journal open."""
    with lock_file(data_dir / "web.pid") as web, lock_file(data_dir / "delivery.pid") as delivery:
        for name, lock in (("web", web), ("delivery", delivery)):
            if not await end_orphan(lock, f"{name} process", ORPHAN_SECONDS_MAX):
                raise ServiceStopped(
                    f"the {name} process of an earlier start does not end and still holds "
                    f"{name}.pid in the data folder: end it, or restart the machine"
                )
        yield _Locks(web, delivery)


async def _check_sockets(bind: str, processes: Callable[[], dict[str, int]]) -> NoReturn:
    """Check where we and `processes` listen, now and then: they may have been started again."""
    while True:
        named = {"echo-ingest": os.getpid(), **processes()}
        await asyncio.to_thread(broker.check_sockets, bind, named)
        await asyncio.sleep(SOCKETS_CHECKED_SECONDS)


async def _until_either(
    stopping: asyncio.Event, proxy: ProxyProcess | None, storage: StorageWatch | None = None
) -> str | None:
    """Wait for the signal to stop, and return None.

    If our broker ends, return its last words, and if a part of the storage is gone, which one.
    """
    waiting: list[asyncio.Task[Any]] = [asyncio.create_task(stopping.wait())]
    if proxy is not None:
        parts = (proxy.broker.wait(), proxy.broker.follow(), proxy.wait())
        waiting += [asyncio.create_task(each) for each in parts]
    if storage is not None:
        waiting.append(asyncio.create_task(storage.run()))
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if stopping.is_set():
            return None
        return str(done.pop().result())
    finally:
        await cancel(waiting)


async def _beside(runtime: Runtime, beside: Callable[[Runtime], Awaitable[None]]) -> None:
    await beside(runtime)


@contextlib.asynccontextmanager
async def _journal(settings: Settings) -> AsyncIterator[Journal]:
    """Open the journal, first salvaged or brought up to date; note damage that is met later.

    The broker accepts messages meanwhile.
    """
    path = settings.journal_path
    await asyncio.to_thread(mend, path)
    await asyncio.to_thread(migrate, path, settings.disk_free_bytes_min)
    note_if_missed(path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(noting(path))
        journal = Journal(
            path,
            bytes_max=settings.journal_bytes_max,
            disk_free_bytes_min=settings.disk_free_bytes_min,
        )
        stack.callback(journal.files.forget_false_damage)
        stack.enter_context(contextlib.closing(journal))
        yield journal


@contextlib.contextmanager
def _sole_owner(data_dir: Path) -> Iterator[None]:
    """Make the data folder (0700), and keep other users and a second service out of it."""
    with contextlib.ExitStack() as stack:
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            broker.keep_private(data_dir)
            lock = stack.enter_context(lock_file(data_dir / "lock"))
        except PermissionError:
            raise ServiceStopped(broker.unwritable_remedy(data_dir)) from None
        if not try_lock(lock):
            raise ServiceStopped(
                f"another echo-ingest runs on {data_dir}: stop it, or give this one its own "
                "IOT_DATA_DIR"
            )
        yield


def _is_this_machine(endpoint: str) -> bool:
    return parse_endpoint(endpoint).host in ("localhost", "127.0.0.1", "::1")
