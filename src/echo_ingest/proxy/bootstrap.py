"""What the proxy process and the process that started it tell each other.

Each holds one end of a pair of sockets. The proxy writes a line of JSON every half second; the end
of one process is the end of the other.
"""

from pathlib import Path
from typing import Literal

from msgspec import Struct

from echo_ingest.gauges import DeniedMessages

REPORT_SECONDS = 0.5


class TlsFiles(Struct, frozen=True):
    """The certificate of a port; it is read again when the files change."""

    certificate: Path
    key: Path
    client_authority: Path | None = None
    """If set, devices log in with certificates of this authority."""


class DeviceListener(Struct, frozen=True):
    """A port at which devices connect."""

    descriptor: int
    """Of a socket that is bound; the proxy begins to listen."""
    port: int
    protocol: Literal["mqtt", "websockets"]
    tls: TlsFiles | None = None


class ProxyBootstrap(Struct, frozen=True):
    """What the proxy process is given at its start."""

    listeners: tuple[DeviceListener, ...]
    broker: Path
    """mosquitto's socket for devices."""
    broker_pid: int
    broker_bytes_max: int
    """How much memory mosquitto may take."""
    copied_bytes_max: int
    """How much of what waits for a reader mosquitto copies at once when that returns."""
    own_socket: Path
    """mosquitto's socket for us."""
    own_login: tuple[str, str]
    connections_max: int
    """At each port."""
    payload_bytes_max: int
    reserved_client_ids: tuple[str, ...]
    """Client ids of our own sessions, which a device may not use."""
    topic_filters: tuple[str, ...]
    """Of `IOT_TOPIC`: what they leave out belongs to no node by its topic."""
    nodes: Path
    """The nodes file, which says for whom gateways may speak."""
    certificate_secret: bytes
    """From which the broker's passwords of nodes with certificates are derived."""
    line: int
    """The descriptor of its end of the line."""
    log_level: int


class ProxyReport(Struct, frozen=True):
    """How the proxy is."""

    metrics: str = ""
    """`metrics.PROXY`, in Prometheus' text format."""
    denied: tuple[DeniedMessages, ...] = ()
    """What was denied since it started."""
