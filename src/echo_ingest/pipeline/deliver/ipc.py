"""What the process that delivers and the one that ingests say to each other.

Each holds one end of a pair of sockets. The one that ingests writes a byte when there is something
new in the journal, the other a line of JSON every half second; the end of one is the end of both.
"""

from msgspec import Struct

from echo_ingest.settings import Settings
from echo_ingest.sinks import SinkState

REPORT_SECONDS = 0.5
DRAIN_SECONDS = 20.0
"""How long each sink may take to end the write that it is in."""
WAKE = b"\n"
WAKES_BYTES_MAX = 4096


class DeliveryBootstrap(Struct, frozen=True):
    """What the process that delivers is given at its start."""

    settings: Settings
    line: int
    """The descriptor of its end of the line."""
    log_level: int


class DeliveryReport(Struct, frozen=True):
    """How it is."""

    states: dict[str, SinkState] = {}
    """Of each sink."""
    metrics: str = ""
    """`metrics.DELIVERY`, in Prometheus' text format."""
    unusable: str | None = None
    """Why it cannot go on, and nobody can before the journal has been mended; in words."""
