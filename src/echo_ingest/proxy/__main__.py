"""The proxy process: `python -m echo_ingest.proxy`. The process that starts it is its parent.

It ends with its parent: their line closes then.
"""

import asyncio
import contextlib
import resource
import socket
import sys
from collections.abc import Collection
from typing import Any

import msgspec
import structlog
from prometheus_client import generate_latest

from echo_ingest import metrics
from echo_ingest.broker.topic_rights import TopicRights
from echo_ingest.monitoring.broker_stats import BrokerStats
from echo_ingest.mqtt import SessionOptions
from echo_ingest.process.child import begin
from echo_ingest.process.log import configure_log
from echo_ingest.process.shutdown import cancel, stop_signal
from echo_ingest.proxy.activity import Activity, line_limit
from echo_ingest.proxy.bootstrap import (
    REPORT_SECONDS,
    DeviceListener,
    ProxyBootstrap,
    ProxyReport,
)
from echo_ingest.proxy.broker_memory import BrokerMemory
from echo_ingest.proxy.device import Common, DeviceConnection
from echo_ingest.proxy.device_topics import Denials, apply_rights, follow_rights
from echo_ingest.proxy.gate import Gate
from echo_ingest.proxy.layers import CHUNK_BYTES, Layer
from echo_ingest.proxy.places import HeldBytes, KeptBytes, Places
from echo_ingest.proxy.tls import TlsPort, follow_certificates
from echo_ingest.proxy.websocket import WebSocketLayer
from echo_ingest.settings import LocalEndpoint

NICENESS = 0
"""Each message goes through it."""
OOM_SCORE = 100
"""Where memory is short, it goes before the broker and ingestion: devices only connect again."""
BACKLOG = 256
HELD_BYTES_MAX = 16 * 1024 * 1024
"""What all that have not logged in may hold."""
FILES_BESIDE_CONNECTIONS = 200
FILES_PER_CONNECTION = 2
DEVICE_BUFFER_BYTES = 131_072
"""Of the kernel's buffers for each device, in each direction; Linux would let them grow to 6 MB."""
SILENCE_SECONDS = 600
"""After this time without a byte, we ask whether the device is still there, as TCP can."""
UNANSWERED_SECONDS_MAX = 120
"""A device that takes nothing of what was sent to it for this long is gone."""
STOP_SECONDS_MAX = 1.0
POLL_SECONDS = 0.02

log = structlog.get_logger("proxy")


def main() -> int:
    """Pass on until asked to stop, or until the parent is gone."""
    bootstrap: ProxyBootstrap = begin(NICENESS, OOM_SCORE)
    configure_log(bootstrap.log_level)
    asyncio.run(_run(bootstrap))
    return 0


async def _run(bootstrap: ProxyBootstrap) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_fault)
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=bootstrap.line))
    stopping = stop_signal()
    statistics = BrokerStats(
        SessionOptions(
            endpoint=LocalEndpoint(bootstrap.own_socket),
            client_id="",
            login=lambda: bootstrap.own_login,
        )
    )
    gate = Gate()
    memory = BrokerMemory(
        gate,
        bootstrap.broker_bytes_max,
        bootstrap.copied_bytes_max,
        bootstrap.broker_pid,
        lambda: statistics.values,
    )
    common = Common(
        broker=LocalEndpoint(bootstrap.broker),
        payload_bytes_max=bootstrap.payload_bytes_max,
        reserved_client_ids=frozenset(each.encode() for each in bootstrap.reserved_client_ids),
        certificate_secret=bootstrap.certificate_secret,
        held=HeldBytes(HELD_BYTES_MAX),
        kept=KeptBytes(),
        gate=gate,
        memory=memory,
        activity=Activity(),
        rights=TopicRights(bootstrap.topic_filters),
        denials=Denials(),
        turn=asyncio.Lock(),
        buffer=memoryview(bytearray(CHUNK_BYTES)),
    )
    rights_read = apply_rights(bootstrap.nodes, common.rights)  # before any device is here
    places_max = _places_max(bootstrap)
    # A port may be bound to several addresses.
    ports = {each.port: Places(places_max) for each in bootstrap.listeners}
    certificates = [None if each.tls is None else TlsPort(each.tls) for each in bootstrap.listeners]
    servers = [
        await _serve(listener, tls, ports[listener.port], common)
        for listener, tls in zip(bootstrap.listeners, certificates, strict=True)
    ]
    beside = [
        asyncio.create_task(_end_with_parent(reader, stopping)),
        asyncio.create_task(_report(writer, common)),
        asyncio.create_task(statistics.run()),
        asyncio.create_task(memory.run()),
        asyncio.create_task(follow_rights(bootstrap.nodes, common.rights, rights_read)),
        asyncio.create_task(follow_certificates(each for each in certificates if each)),
    ]
    log.info("proxy listens", ports=[each.port for each in bootstrap.listeners])
    await stopping.wait()
    for server in servers:
        server.close()
    await _close_all(ports.values())
    await cancel(beside)


async def _serve(
    listener: DeviceListener, tls: TlsPort | None, places: Places, common: Common
) -> asyncio.Server:
    metrics.DEVICE_CONNECTIONS.labels(str(listener.port)).set_function(lambda: len(places))
    metrics.DEVICES_ACCEPTED.labels(str(listener.port))
    stream = socket.socket(fileno=listener.descriptor)
    # The connections that it accepts inherit all this.
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DEVICE_BUFFER_BYTES)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, DEVICE_BUFFER_BYTES)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_SECONDS)
        stream.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_SECONDS_MAX * 1000
        )

    def connection() -> DeviceConnection:
        layers: list[Layer] = [] if tls is None else [tls.layer()]
        if listener.protocol == "websockets":
            layers.append(WebSocketLayer())
        return DeviceConnection(listener.port, places, common, layers)

    loop = asyncio.get_running_loop()
    return await loop.create_server(connection, sock=stream, backlog=BACKLOG)


def _places_max(bootstrap: ProxyBootstrap) -> int:
    """Raise the limit of open files, and return how many connections fit at each port."""
    ports = len({each.port for each in bootstrap.listeners})
    wanted = FILES_PER_CONNECTION * ports * bootstrap.connections_max + FILES_BESIDE_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or wanted <= hard:
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return bootstrap.connections_max
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    places_max = max((hard - FILES_BESIDE_CONNECTIONS) // (FILES_PER_CONNECTION * ports), 1)
    log.warning(
        "fewer connections than configured",
        each_port=places_max,
        reason=f"the proxy may open only {hard:,} files, and a connection takes two: raise that "
        "limit (LimitNOFILE= in systemd), or lower IOT_CONNECTIONS_MAX",
    )
    return places_max


async def _close_all(ports: Collection[Places]) -> None:
    """Tell each device that the service stops, and wait a moment until all have gone."""
    for places in ports:
        for occupant in places.occupants:
            occupant.shut_down()
    for _ in range(int(STOP_SECONDS_MAX / POLL_SECONDS)):
        if not any(len(places) for places in ports):
            break
        await asyncio.sleep(POLL_SECONDS)


async def _end_with_parent(reader: asyncio.StreamReader, stopping: asyncio.Event) -> None:
    with contextlib.suppress(ConnectionError):  # it was killed with reports of ours unread
        await reader.read()
    stopping.set()


async def _report(writer: asyncio.StreamWriter, common: Common) -> None:
    while True:
        report = ProxyReport(generate_latest(metrics.PROXY).decode(), common.denials.all)
        with contextlib.suppress(ConnectionError):  # the parent is gone
            writer.write(msgspec.json.encode(report) + b"\n")
            await writer.drain()
        common.activity.report()
        await asyncio.sleep(REPORT_SECONDS)


_faults = line_limit()


def _log_fault(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what a connection was not prepared for: it ends alone, and the others go on."""
    error = context.get("exception")
    if isinstance(error, OSError) and "transport" in context:  # such as no route to a device
        log.debug("connection broke", reason=str(error))
    elif _faults.allows_one():
        log.error("fault in the proxy", what=context.get("message"), exc_info=error)


if __name__ == "__main__":
    sys.exit(main())
