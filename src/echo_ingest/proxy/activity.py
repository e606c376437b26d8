"""What happened at the ports, for the log and for the metrics.

Each attempt of a stranger may write a line, so their number is limited: they must not fill a disk.
"""

import logging
from typing import Any

import structlog
from msgspec import Struct

from echo_ingest import metrics
from echo_ingest.process.log import LineLimit

LINES_PER_SECOND_MAX = 100
NAME_CHARACTERS_MAX = 64

log = structlog.get_logger("proxy")


class Peer(Struct):
    """Who is at the other end of a connection, as far as that is known."""

    address: str
    port: int
    user: str | None = None
    client_id: str | None = None

    def fields(self) -> dict[str, Any]:
        """Return what the log shows."""
        known = {"user": self.user, "client_id": self.client_id}
        return {
            "address": self.address,
            "port": self.port,
            **{name: value for name, value in known.items() if value is not None},
        }


class Activity:
    """Logs and counts. Strangers have a limit of their own, and do not hide what devices do."""

    def __init__(self) -> None:
        self._strangers, self._devices = line_limit(), line_limit()

    def connected(self, peer: Peer) -> None:
        """Note that a device has logged in."""
        metrics.DEVICES_ACCEPTED.labels(str(peer.port)).inc()
        if self._devices.allows_one():
            log.info("device connected", **peer.fields())

    def disconnected(self, peer: Peer, why: str) -> None:
        """Note that a device that had logged in is gone."""
        if self._devices.allows_one():
            log.info("device disconnected", **peer.fields(), reason=why)

    def refused(self, peer: Peer, label: str, why: str) -> None:
        """Note that a connection ended before its log-in; `label` is the kind of reason."""
        metrics.DEVICES_REFUSED.labels(label).inc()
        # What probes whether a port is open leaves without a word: that is worth no line.
        level = logging.DEBUG if label == "left" else logging.INFO
        if log.is_enabled_for(level) and self._strangers.allows_one():
            log.log(level, "device refused", **peer.fields(), reason=why)

    def report(self) -> None:
        """Log how many lines were left out, also if no further line follows."""
        self._strangers.report()
        self._devices.report()


def line_limit() -> LineLimit:
    """Return a limit for lines of one kind."""
    return LineLimit(
        LINES_PER_SECOND_MAX,
        1.0,
        lambda lines: log.warning("proxy log lines left out", lines=lines),
    )


def shown(name: bytes) -> str:
    """Return a name from outside as it may stand in a log: short, and with nothing invisible."""
    text = name[: 4 * NAME_CHARACTERS_MAX].decode(errors="replace")[:NAME_CHARACTERS_MAX]
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
