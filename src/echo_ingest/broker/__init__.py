"""Our own broker: mosquitto as our child process, with a configuration that fits its version.

It outlives us if we are killed; the next start ends it in order and takes over its queues. Two
locks in its folder show which processes exist: we hold one, and mosquitto inherited the other,
which is free once mosquitto has ended.

Devices do not reach it by themselves. We hold the ports to which they connect, and a process that
is started once mosquitto runs passes on to its socket `devices` what keeps within the limits.
"""

import asyncio
import contextlib
import os
import resource
import signal
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import structlog

from echo_ingest.broker.configuration import (
    CONFIGURATION_FILE,
    PUBLISHER,
    SERVICE,
    SUBSCRIBER,
    Credentials,
    copied_bytes_max,
    is_noise,
    severity,
)
from echo_ingest.broker.files import (
    Accounts,
    keep_private,
    make_folder,
    prepare,
    unwritable_remedy,
)
from echo_ingest.broker.local_login import (
    broker_folder,
    devices_endpoint,
    login,
    own_endpoint,
    own_login,
    service_credentials,
)
from echo_ingest.broker.node_accounts import NodeAccount, read_nodes
from echo_ingest.broker.program import (
    BrokerError,
    MosquittoMissing,
    Version,
    find_mosquitto,
    remark,
    version,
)
from echo_ingest.broker.reload import follow
from echo_ingest.broker.session_name import (
    CHANGE_OVER,
    earlier_name,
    session_name,
    without_session_names,
)
from echo_ingest.broker.sockets import DevicePort, check_free, check_sockets, device_ports
from echo_ingest.process.log import LineLimit
from echo_ingest.process.orphans import end_orphan, lock_file, pid_writer, try_lock
from echo_ingest.settings import Settings

__all__ = [
    "CHANGE_OVER",
    "PUBLISHER",
    "SERVICE",
    "SUBSCRIBER",
    "Broker",
    "BrokerError",
    "Credentials",
    "DevicePort",
    "MosquittoMissing",
    "broker_folder",
    "check_sockets",
    "devices_endpoint",
    "earlier_name",
    "find_mosquitto",
    "keep_private",
    "login",
    "own_endpoint",
    "own_login",
    "remark",
    "running",
    "service_credentials",
    "session_name",
    "unwritable_remedy",
    "version",
]

LAST_LINES = 8
LINE_BYTES_MAX = 256 * 1024  # holds a client id and a user name of 65,535 bytes each
LINE_CHARACTERS_MAX = 500
LINES_PER_SECOND_MAX = 100  # each attempt of a stranger writes three: they must not fill a disk
START_SECONDS_MAX = 300.0  # loading millions of waiting messages takes that long
STOP_SECONDS_MAX = 60.0  # 2.0 needs as long to save them, and loses them if killed
PROXY_STOP_SECONDS_MAX = 6.0
POLL_SECONDS = 0.05
FILES_BESIDE_CONNECTIONS = 200  # the database of its queues, plugins, logs, and our own connections

MEMORY_GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072"}
"""For the C library of GNU: by default, it soon keeps what packets of up to 32 MB have taken."""

log = structlog.get_logger("broker")


class Broker:
    """A running mosquitto: its accounts, its address and its process."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        program_version: Version,
        settings: Settings,
        accounts: Accounts,
        nodes: tuple[NodeAccount, ...],
        ports: tuple[DevicePort, ...],
        proxy_lock: int,
    ) -> None:
        self.version = program_version
        self.copied_bytes_max = copied_bytes_max(program_version, settings)
        """How much of what waits for a reader it copies at once when that returns."""
        self.pid = process.pid
        self.endpoint = own_endpoint(settings.data_dir)
        """The socket where programs on this machine connect."""
        self.service = accounts.service
        self.publisher = accounts.publisher if settings.echopub else accounts.service
        """The account that may publish for any node; None where its password is not known here."""
        self.subscriber = accounts.subscriber
        self.new_accounts = accounts.generated
        """Accounts whose passwords were generated just now: to be shown once."""
        self.certificate_secret = accounts.certificate_secret
        self.ports = ports
        """The ports for devices. Nobody listens there yet."""
        self.proxy_lock = proxy_lock
        """The descriptor of a locked file, whose lock the proxy holds too while it lives."""
        self._settings = settings
        self._accounts = accounts
        self._nodes = nodes
        self._process = process
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._ended = asyncio.create_task(self._log_output())

    async def wait(self) -> str:
        """Wait until mosquitto has ended; return how it ended, with the last lines of its log."""
        return await asyncio.shield(self._ended)

    async def follow(self) -> None:
        """Apply changes of nodes, until cancelled."""
        await follow(self._settings, self._accounts, self._nodes, self._reload)

    def _reload(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # `wait` reports that it has ended
            self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """End it in order, so that it saves its queues; kill it if it does not end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self._ended), STOP_SECONDS_MAX)
        except TimeoutError:
            log.error("mosquitto did not stop and was killed", waited_seconds=STOP_SECONDS_MAX)
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._ended

    async def _log_output(self) -> str:
        assert self._process.stderr is not None
        limit = LineLimit(LINES_PER_SECOND_MAX, 1.0, _left_out)
        async for raw in self._process.stderr:
            text = without_session_names(raw.decode(errors="replace"), self._settings.client_id)
            line = text.rstrip()[:LINE_CHARACTERS_MAX]
            if is_noise(line):
                continue
            self._last_lines.append(line)
            if limit.allows_one():
                getattr(log, severity(line))("mosquitto", line=line)
        code = await self._process.wait()
        cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return "\n  ".join((f"mosquitto ended ({cause}); the end of its log:", *self._last_lines))


def _left_out(lines: int) -> None:
    log.warning("mosquitto log lines left out", lines=lines)


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Broker]:
    """Prepare and start a broker, and wait until it listens; stop it at the end of the block.

    Raises `BrokerError` if it cannot run.
    """
    folder = make_folder(settings.data_dir)
    program = find_mosquitto(settings.mosquitto, folder)
    program_version = version(program)
    if (advice := remark(program_version, folder)) is not None:
        shown = ".".join(map(str, program_version))
        log.warning("about this mosquitto", version=shown, program=str(program), advice=advice)
    with _lock(folder), lock_file(settings.data_dir / "proxy.pid") as proxy_lock:
        if not await end_orphan(proxy_lock, "proxy process", PROXY_STOP_SECONDS_MAX):
            raise BrokerError(
                "the proxy process of an earlier start does not end and still holds proxy.pid in "
                "the data folder: end it, or restart the machine"
            )
        with device_ports(settings) as ports:
            with lock_file(folder / "mosquitto.pid") as lock:
                if not await end_orphan(lock, "mosquitto", STOP_SECONDS_MAX):
                    raise BrokerError(
                        "the mosquitto of an earlier start does not end and still holds "
                        "broker/mosquitto.pid in the data folder: end it, or restart the machine"
                    )
                if settings.service_port is not None:
                    check_free(settings.bind, settings.service_port, "IOT_SERVICE_PORT")
                nodes = read_nodes(settings.nodes_path)
                accounts = prepare(settings, program, program_version, nodes)
                process = await _start(program, folder, lock, _files_max(settings))
            broker = Broker(
                process,
                program_version,
                settings,
                accounts,
                nodes,
                ports,
                proxy_lock,
            )
            try:
                await _wait_until_it_listens(broker)
                check_sockets(settings.bind, {"mosquitto": broker.pid, "echo-ingest": os.getpid()})
                yield broker
            finally:
                await broker.stop()


def _files_max(settings: Settings) -> int:
    """Return how many files mosquitto may open: as many as connections fit, or all that we may.

    Without a limit of its own, it would inherit ours, which is often 1,024. The proxy, which needs
    twice as many, says so if they are too few.
    """
    ports = 2 if settings.tls_cert_file is None else 3
    wanted = ports * settings.connections_max + FILES_BESIDE_CONNECTIONS
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


async def _start(
    program: Path, folder: Path, lock: int, files_max: int
) -> asyncio.subprocess.Process:
    write_pid = pid_writer(lock)

    def in_the_child() -> None:
        write_pid()
        resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))

    return await asyncio.create_subprocess_exec(
        program,
        "-c",
        CONFIGURATION_FILE,
        cwd=folder,
        env={**os.environ, **MEMORY_GIVEN_BACK},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
        pass_fds=(lock,),
        umask=0o077,
        start_new_session=True,  # Ctrl-C in a terminal is for us: we stop mosquitto in order
        preexec_fn=in_the_child,
    )


async def _wait_until_it_listens(broker: Broker) -> None:
    """Wait until it has loaded its queues and listens; our own socket is the last to listen."""
    ended = asyncio.ensure_future(broker.wait())
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            while not ended.done():
                with contextlib.suppress(OSError):
                    with broker.endpoint.name() as name:
                        _, writer = await asyncio.open_unix_connection(name)
                    writer.close()
                    return
                await asyncio.wait((ended,), timeout=POLL_SECONDS)
    except TimeoutError:
        raise BrokerError(f"mosquitto does not listen after {START_SECONDS_MAX:.0f} s") from None
    finally:
        ended.cancel()
    raise BrokerError(await broker.wait())


# ---------------------------------------------------------------------- one broker for a folder


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold our own lock; raise `BrokerError` if another echo-ingest holds it."""
    with lock_file(folder / "lock") as lock:
        if not try_lock(lock):
            raise BrokerError(
                f"another echo-ingest already runs the broker of {folder.parent}: stop that one, "
                "or set IOT_DATA_DIR to another folder"
            )
        yield
