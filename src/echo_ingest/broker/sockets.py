"""The sockets that listen: those for devices, which we bind, and what is really there.

A program may listen elsewhere than it was told: mosquitto 2.0 listens with `protocol websockets` on
every interface, whatever its configuration says. So we look at the sockets themselves.
"""

import contextlib
import errno
import ipaddress
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Literal

import structlog
from msgspec import Struct

from echo_ingest.broker.program import BrokerError
from echo_ingest.settings import Settings

CONNECTIONS_WAITING_MAX = 256
"""How many connections wait at a port while the proxy is started again."""
PROC = Path("/proc")
LISTENING = "0A"
MISSING = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

log = structlog.get_logger("broker")


# ---------------------------------------------------------------------- what we bind


class DevicePort(Struct, frozen=True):
    """A port at which devices connect, bound to one address."""

    bound: socket.socket
    port: int
    setting: str
    protocol: Literal["mqtt", "websockets"] = "mqtt"
    has_tls: bool = False


@contextlib.contextmanager
def device_ports(settings: Settings) -> Iterator[tuple[DevicePort, ...]]:
    """Hold the ports for devices, on which nobody listens yet; raise `BrokerError` if one is taken.

    We hold them, and not the process that serves them: so connections wait while it is restarted.
    """
    wanted: list[tuple[int, str, Literal["mqtt", "websockets"], bool]] = [
        (settings.mqtt_port, "IOT_MQTT_PORT", "mqtt", False),
        (settings.ws_port, "IOT_WS_PORT", "websockets", False),
    ]
    if settings.tls_cert_file is not None:
        wanted.append((settings.tls_port, "IOT_TLS_PORT", "mqtt", True))
    with contextlib.ExitStack() as stack:
        yield tuple(
            DevicePort(stack.enter_context(bound), port, setting, protocol, has_tls)
            for port, setting, protocol, has_tls in wanted
            for bound in bind_port(settings.bind, port, setting)
        )


def bind_port(host: str, port: int, setting: str) -> tuple[socket.socket, ...]:
    """Return sockets that are bound to the port and do not listen yet.

    `localhost` may have an address of IPv4 and one of IPv6. Raises `BrokerError` with the remedy.
    """
    bound: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        try:
            missing: OSError | None = None
            for family, address in _addresses(host, port):
                try:
                    bound.append(stack.enter_context(_bind(family, address)))
                except OSError as error:
                    if error.errno not in MISSING:
                        raise
                    missing = error
            if missing is not None and not bound:
                raise missing
        except OSError as error:
            raise _unusable(host, port, setting, error) from None
        stack.pop_all()
    return tuple(bound)


def check_free(host: str, port: int, setting: str) -> None:
    """Raise `BrokerError` with the remedy if it is not possible to listen there."""
    with contextlib.ExitStack() as stack:
        for each in bind_port(host, port, setting):
            stack.enter_context(each)
            listen(each, setting)


def listen(bound: socket.socket, setting: str) -> None:
    """Begin to listen. Raises `BrokerError` if another program was faster."""
    try:
        bound.listen(CONNECTIONS_WAITING_MAX)
    except OSError as error:
        host, port = bound.getsockname()[:2]
        raise _unusable(host, port, setting, error) from None


def _addresses(host: str, port: int) -> Iterator[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    yield from dict.fromkeys((family, address) for family, _, _, _, address in found)


def _bind(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _unusable(host: str, port: int, setting: str, error: OSError) -> BrokerError:
    match error.errno:
        case errno.EADDRINUSE:
            remedy = (
                "another program listens there. If that is the mosquitto that the system "
                "starts, type `sudo systemctl disable --now mosquitto`; or choose another "
                f"port, such as {setting}={port + 10_000 if port < 50_000 else port - 10_000}"
            )
        case errno.EACCES:
            remedy = f"ports below 1024 are reserved for root: set {setting} to another port"
        case _:
            remedy = f"{error.strerror}: set IOT_BIND to an address of this machine"
    return BrokerError(f"port {port} on {host}: {remedy}")


# ---------------------------------------------------------------------- what is really there


class ListeningSocket(Struct, frozen=True, order=True):
    """Where a process takes connections from."""

    address: str
    port: int

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}"


def check_sockets(bind: str, processes: Mapping[str, int]) -> None:
    """Raise `BrokerError` if a process listens where `bind` (IOT_BIND) does not allow it.

    `processes` has their ids by their names for people. A process that has ended has no sockets.
    Sockets in the file system do not count: the folder's mode says who may use them.
    """
    for name, pid in processes.items():
        try:
            found = listening_sockets(pid)
        except PermissionError as error:  # root without its usual rights, in a container
            log.warning("sockets not checked", process=name, reason=error.strerror)
            continue
        for each in found:
            if not _is_allowed(ipaddress.ip_address(each.address), bind):
                raise BrokerError(
                    f"{name} listens at {each}, where more people may reach it than IOT_BIND="
                    f"{bind} lets in, so the service ends: set IOT_MOSQUITTO to another version "
                    "of mosquitto, and please report this"
                )


def listening_sockets(pid: int) -> list[ListeningSocket]:
    """Return the TCP sockets at which a process listens, sorted; none where there is no /proc.

    They are those of its own network, which may differ from ours.
    """
    process = PROC / str(pid)
    try:
        inodes = set(_socket_inodes(process / "fd"))
        tables = [(process / "net" / name).read_text() for name in ("tcp", "tcp6")]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return sorted(
        place for table in tables for inode, place in _listening(table) if inode in inodes
    )


def _socket_inodes(folder: Path) -> Iterator[str]:
    for descriptor in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            if found := re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink())):
                yield found[1]


def _listening(table: str) -> Iterator[tuple[str, ListeningSocket]]:
    """Yield the inode and the place of each listening socket in a table of /proc/net."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTENING:
            address, _, port = fields[1].partition(":")
            yield fields[9], ListeningSocket(str(_address(address)), int(port, 16))


def _address(text: str) -> IPv4Address | IPv6Address:
    """Read an address as the kernel writes it: words of 32 bits in the order of this machine."""
    words = [int(text[place : place + 8], 16) for place in range(0, len(text), 8)]
    return ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))


def _is_allowed(address: IPv4Address | IPv6Address, bind: str) -> bool:
    """Return whether no more people can reach `address` than `bind` lets in."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return True
    # an address of a link may end with the name of its interface
    places = [str(place[0]).partition("%")[0] for _, place in _addresses(bind, 0)]
    allowed = [ipaddress.ip_address(each) for each in places]
    return any(
        address == each or (each.is_unspecified and each.version == address.version)
        for each in allowed
    )
