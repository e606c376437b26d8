"""The proxy process, as the process that runs the broker sees it: it serves the ports for devices.

It is a process of its own, so that reading what strangers send neither holds up the line nor breaks
it. Because we hold the sockets, devices that connect while it restarts wait and are not refused.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from typing import NoReturn

import msgspec

from echo_ingest.broker import (
    SERVICE,
    Broker,
    BrokerError,
    DevicePort,
    check_sockets,
    devices_endpoint,
    own_endpoint,
    session_name,
)
from echo_ingest.broker.sockets import listen
from echo_ingest.gauges import DeniedMessages
from echo_ingest.ipc import LINE_BYTES_MAX, next_line
from echo_ingest.process.log import log_level
from echo_ingest.process.memory import memory_bytes
from echo_ingest.process.orphans import running_child
from echo_ingest.process.shutdown import cancel
from echo_ingest.proxy.bootstrap import (
    DeviceListener,
    ProxyBootstrap,
    ProxyReport,
    TlsFiles,
)
from echo_ingest.proxy.tls import tls_context
from echo_ingest.service.supervisor import ChildProcess, keep_running
from echo_ingest.settings import Settings

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 6.0
PAUSE_SECONDS_MAX = 5.0  # devices wait for so long at most


class ProxyProcess:
    """The process by which devices reach `own`, our broker."""

    def __init__(self, settings: Settings, own: Broker, broker_share: float) -> None:
        """`broker_share` is how much of our memory mosquitto may take."""
        self.metrics = ""
        """Its metrics, in Prometheus' text format, as the process reported them."""
        self.denied: tuple[DeniedMessages, ...] = ()
        """What was denied to devices since the process started."""
        self._settings = settings
        self._broker_share = broker_share
        self.broker = own
        self._accepts = asyncio.Event()
        self._running = asyncio.create_task(self._run())

    def problems(self) -> dict[str, str]:
        """Return why devices cannot connect; empty if they can."""
        if self._accepts.is_set():
            return {}
        return {"proxy": "devices cannot connect: the process that they connect to is starting"}

    async def wait_until_it_accepts(self) -> None:
        """Return once devices can connect. Raises `BrokerError` if they never can."""
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                await self._accepts.wait()
        except TimeoutError:
            raise BrokerError(
                f"devices cannot connect: the proxy process has not started for "
                f"{START_SECONDS_MAX:.0f} s; its last words are in the log above"
            ) from None

    def processes(self) -> dict[str, int]:
        """Return the ids of the processes that serve devices, by their names for people."""
        pid = running_child(self.broker.proxy_lock)
        proxy = {} if pid is None else {"the proxy process": pid}
        return {"mosquitto": self.broker.pid, **proxy}

    async def wait(self) -> NoReturn:
        """Wait, and raise what ends the process for good, if that ever happens."""
        await asyncio.shield(self._running)
        raise AssertionError("it is restarted without end")

    async def stop(self) -> None:
        """End the connections of devices, and let no device connect any more."""
        await cancel([self._running])
        for each in self.broker.ports:
            each.bound.close()

    async def _run(self) -> NoReturn:
        descriptors = tuple(each.bound.fileno() for each in self.broker.ports)
        await keep_running(
            ChildProcess(
                name="proxy",
                module="echo_ingest.proxy",
                lock=self.broker.proxy_lock,
                hand=self._bootstrap,
                speak=self._listen,
                stop_seconds_max=STOP_SECONDS_MAX,
                pause_seconds_max=PAUSE_SECONDS_MAX,
                passed=descriptors,
            )
        )

    def _bootstrap(self, line: int) -> ProxyBootstrap:
        settings, own = self._settings, self.broker
        ours = session_name(settings, own_endpoint(settings.data_dir), ())
        return ProxyBootstrap(
            tuple(_listener(settings, each) for each in own.ports),
            devices_endpoint(settings.data_dir).path,
            own.pid,
            int(self._broker_share * memory_bytes()),
            own.copied_bytes_max,
            own.endpoint.path,
            (own.service.user, own.service.password),
            settings.connections_max,
            settings.payload_bytes_max,
            (SERVICE, settings.client_id, ours.client_id),
            settings.topic_filters,
            settings.nodes_path,
            own.certificate_secret,
            line,
            log_level(),
        )

    async def _listen(self, end: socket.socket) -> bool:
        reader, writer = await asyncio.open_connection(sock=end, limit=LINE_BYTES_MAX)
        try:
            while line := await next_line(reader):
                report = msgspec.json.decode(line, type=ProxyReport)
                self.metrics, self.denied = report.metrics, report.denied
                self._accepts.set()
        except TimeoutError:
            return False
        except ConnectionError:
            pass  # the process has ended
        finally:
            writer.close()
            self._accepts.clear()
        return True


def _listener(settings: Settings, port: DevicePort) -> DeviceListener:
    tls = _tls_files(settings) if port.has_tls else None
    return DeviceListener(port.bound.fileno(), port.port, port.protocol, tls)


def _tls_files(settings: Settings) -> TlsFiles | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return TlsFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)


def check_certificates(settings: Settings) -> None:
    """Raise `BrokerError` if the certificates that are set cannot be used."""
    files = _tls_files(settings)
    if files is None:
        return
    try:
        tls_context(files)
    except OSError as error:  # ssl.SSLError is an OSError
        why = getattr(error, "reason", None) or error.strerror or error
        raise BrokerError(
            "the certificates of IOT_TLS_CERT_FILE, IOT_TLS_KEY_FILE and IOT_TLS_CLIENT_CA_FILE "
            f"cannot be used ({why}): each must be a PEM file, and the key must belong to the "
            "certificate and have no passphrase"
        ) from error


@contextlib.asynccontextmanager
async def open_to_devices(
    settings: Settings, own: Broker, broker_share: float
) -> AsyncIterator[ProxyProcess]:
    """Let devices reach our broker inside the block; raise `BrokerError` if that cannot be."""
    for each in own.ports:
        listen(each.bound, each.setting)
    proxy = ProxyProcess(settings, own, broker_share)
    try:
        await proxy.wait_until_it_accepts()
        check_sockets(settings.bind, {"echo-ingest": os.getpid(), **proxy.processes()})
        yield proxy
    finally:
        await proxy.stop()
