"""Our own broker: mosquitto, with a configuration right for its version, as a process of ours.

It outlives us if we are killed, and devices go on publishing; the next start ends it in order and
takes over what it holds. Two locks in its folder tell who is there: one is held by us, one was
handed to mosquitto and is free when it has gone.
"""

import asyncio
import contextlib
import errno
import resource
import signal
import socket
import time
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
    severity,
)
from echo_ingest.broker.files import (
    Accounts,
    make_folder,
    not_ours,
    prepare,
)
from echo_ingest.broker.local_login import (
    login,
    own_endpoint,
    own_login,
    service_credentials,
    session_name,
)
from echo_ingest.broker.nodes import NodeAccount, read_nodes
from echo_ingest.broker.program import (
    BrokerError,
    MosquittoMissing,
    Version,
    find_mosquitto,
    version,
)
from echo_ingest.broker.reload import follow
from echo_ingest.process.orphans import end_survivor, lock_file, noting_number, try_lock
from echo_ingest.settings import Settings

__all__ = [
    "PUBLISHER",
    "SERVICE",
    "SUBSCRIBER",
    "Broker",
    "BrokerError",
    "Credentials",
    "MosquittoMissing",
    "find_mosquitto",
    "login",
    "not_ours",
    "own_endpoint",
    "own_login",
    "running",
    "service_credentials",
    "session_name",
    "version",
]

LAST_WORDS_LINES = 8
LINE_BYTES_MAX = 256 * 1024  # holds a client id and a user name of 65,535 bytes each
LINE_CHARACTERS_MAX = 500
LINES_PER_SECOND_MAX = 100  # a stranger's every try is three of them: he must not fill a disk
START_SECONDS_MAX = 300.0  # millions of waiting messages take that long to load
STOP_SECONDS_MAX = 60.0  # and 2.0 to save: killed meanwhile, it loses them
POLL_SECONDS = 0.05
FILES_BESIDE_CONNECTIONS = 200  # the journal of its queues, plugins, logs, and our own ways in

log = structlog.get_logger("broker")


class Broker:
    """A mosquitto that runs. Accounts, address and process are what callers need of it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        program_version: Version,
        settings: Settings,
        accounts: Accounts,
        nodes: tuple[NodeAccount, ...],
    ) -> None:
        self.version = program_version
        self.pid = process.pid
        self.endpoint = own_endpoint(settings.data_dir)
        """Where programs on this machine connect."""
        self.service = accounts.service
        self.publisher = accounts.publisher if settings.echopub else accounts.service
        """Who may publish for any node; None where that password is not known here."""
        self.subscriber = accounts.subscriber
        self.new = accounts.new
        """Accounts whose passwords were generated just now: to be shown once."""
        self._settings = settings
        self._accounts = accounts
        self._nodes = nodes
        self._process = process
        self._last_lines: deque[str] = deque(maxlen=LAST_WORDS_LINES)
        self._ended = asyncio.create_task(self._read_to_the_end())

    async def wait(self) -> str:
        """Return when mosquitto has ended: how, and its last words."""
        return await asyncio.shield(self._ended)

    async def follow(self) -> None:
        """Take over changes of nodes and certificates, until cancelled."""
        await follow(self._settings, self._accounts, self._nodes, self._reload)

    def _reload(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # that it has ended is told by `wait`
            self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """End it in order, so that it saves what it holds; kill it if it does not end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self._ended), STOP_SECONDS_MAX)
        except TimeoutError:
            log.error("mosquitto does not stop: killed", waited_seconds=STOP_SECONDS_MAX)
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._ended

    async def _read_to_the_end(self) -> str:
        assert self._process.stderr is not None
        second, lines = 0, 0
        async for raw in self._process.stderr:
            line = raw.decode(errors="replace").rstrip()[:LINE_CHARACTERS_MAX]
            self._last_lines.append(line)
            if (now := int(time.monotonic())) != second:
                if lines > LINES_PER_SECOND_MAX:
                    log.warning("mosquitto said more", lines=lines - LINES_PER_SECOND_MAX)
                second, lines = now, 0
            lines += 1
            if lines <= LINES_PER_SECOND_MAX:
                getattr(log, severity(line))("mosquitto", said=line)
        code = await self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return "\n  ".join((f"mosquitto ended ({how}); its last words:", *self._last_lines))


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Broker]:
    """A broker that is prepared, started and listens; stopped at the end of the block.

    Raises `BrokerError` if it cannot be had.
    """
    program = find_mosquitto(settings.mosquitto)
    program_version = version(program)
    folder = make_folder(settings.data_dir)
    with _sole(folder):
        with lock_file(folder / "mosquitto.pid") as lock:
            if not await end_survivor(lock, "mosquitto", STOP_SECONDS_MAX):
                raise BrokerError(
                    "the mosquitto of an earlier start does not end and still holds "
                    "broker/mosquitto.pid in the data folder: end it, or restart the machine"
                )
            _check_free(settings.bind, settings.mqtt_port, "IOT_MQTT_PORT")
            _check_free(settings.bind, settings.ws_port, "IOT_WS_PORT")
            if settings.tls_cert_file is not None:
                _check_free(settings.bind, settings.tls_port, "IOT_TLS_PORT")
            if settings.service_port is not None:
                _check_free(settings.bind, settings.service_port, "IOT_SERVICE_PORT")
            nodes = read_nodes(settings.nodes_path)
            files_max, connections_max = _limits(settings)
            accounts = prepare(settings, program, program_version, connections_max, nodes)
            process = await _start(program, folder, lock, files_max)
        broker = Broker(process, program_version, settings, accounts, nodes)
        try:
            await _listening(broker)
            yield broker
        finally:
            await broker.stop()


def _limits(settings: Settings) -> tuple[int, int]:
    """How many files mosquitto may open, and connections that leaves for each port.

    Without the first it would take what we have, often 1,024.
    """
    ports = 2 if settings.tls_cert_file is None else 3
    wanted = ports * settings.connections_max + FILES_BESIDE_CONNECTIONS
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or wanted <= hard:
        return wanted, settings.connections_max
    connections_max = max((hard - FILES_BESIDE_CONNECTIONS) // ports, 1)
    log.warning(
        "fewer connections than set",
        each_port=connections_max,
        reason=f"this process may open {hard:,} files: raise that (LimitNOFILE= in systemd), or "
        "lower IOT_CONNECTIONS_MAX",
    )
    return hard, connections_max


async def _start(
    program: Path, folder: Path, lock: int, files_max: int
) -> asyncio.subprocess.Process:
    note_number = noting_number(lock)

    def in_the_child() -> None:
        note_number()
        resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))

    return await asyncio.create_subprocess_exec(
        program,
        "-c",
        CONFIGURATION_FILE,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
        pass_fds=(lock,),
        umask=0o077,
        start_new_session=True,  # Ctrl-C in a terminal is for us: mosquitto stops when we say so
        preexec_fn=in_the_child,
    )


async def _listening(broker: Broker) -> None:
    """Wait until it listens: after it has loaded what it holds, at our own way in last of all."""
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


def _check_free(host: str, port: int, setting: str) -> None:
    """Raise `BrokerError` with the remedy if nobody can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                remedy = (
                    "another program listens there. If it is the mosquitto that the system "
                    "starts, type `sudo systemctl disable --now mosquitto`; else choose another "
                    f"port, such as {setting}={port + 10_000 if port < 50_000 else port - 10_000}"
                )
            case errno.EACCES:
                remedy = f"ports below 1024 are for root: choose another with {setting}"
            case _:
                remedy = f"{error.strerror}: set IOT_BIND to an address of this machine"
        raise BrokerError(f"port {port} on {host}: {remedy}") from None


# ---------------------------------------------------------------------- who is there


@contextlib.contextmanager
def _sole(folder: Path) -> Iterator[None]:
    """Hold our own lock; raise `BrokerError` if another one of us has it."""
    with (folder / "lock").open("w") as file:
        if not try_lock(file.fileno()):
            raise BrokerError(
                f"another echo-ingest runs the broker of {folder.parent} already: stop that one, "
                "or set IOT_DATA_DIR to a folder of its own"
            )
        yield
