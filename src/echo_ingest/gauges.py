"""The gauges of the ingest process, as values: what it reports, and what the almanac samples."""

from msgspec import Struct


class DeniedMessages(Struct):
    """Messages of an account on a topic where it may not publish."""

    account: str
    topic: str
    messages: int = 0
    last_at_ms: int = 0


class ServiceGauges(Struct, frozen=True, kw_only=True):
    """The figures that the ingest process reports besides its ledger."""

    journal_bytes: int
    """Bytes of the journal's file that are in use."""
    disk_free_bytes: int
    room_bytes: int
    """How much more can be written before acknowledgements stop."""
    broker_clients: int | None = None
    """Clients connected to the broker, ours among them; None: the broker does not tell."""
    broker_dropped: int | None = None
    """Messages that the broker has dropped since it started; None: it does not tell."""
    denied: tuple[DeniedMessages, ...] = ()
    """What our own broker has denied since the proxy started."""
