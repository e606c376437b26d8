"""Where records go after the journal. A sink is three functions; `deliver` decides the rest."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

from msgspec import Struct

from echo_ingest.reasons import ReasonCode
from echo_ingest.record import AnyRecord, Message


class Delivery(Struct, frozen=True, gc=False):
    """One record on its way to one sink."""

    offset: int
    key: bytes
    """16 bytes; the same at every attempt, so that a sink can tell a repeat."""
    message: Message
    record: AnyRecord
    audio_reference: str | None = None
    """Where the record's clip is safe, such as `s3://bucket/audio/…`: say this in place of its
    bytes. None: the record has no clip, or its bytes are to be delivered with it."""


class Refusal(Struct, frozen=True):
    """The sink will never take this record as it is; `deliver` parks it."""

    index: int
    """Place in the batch that was written."""
    reason: str
    """The sink's own words."""
    code: ReasonCode | None = None
    """The kind of reason, where the rule is ours and not that of the system behind the sink."""
    field: str | None = None
    """The field of the record that the reason is about, if it is about one."""


class Written(Struct, frozen=True):
    """What one `write` settled: the first `count` deliveries, all taken but the refused."""

    count: int
    refusals: tuple[Refusal, ...] = ()
    place: str | None = None
    """Where the clips of what was taken are now, by which `clips.reference` names each."""


class Unavailable(Exception):
    """The sink cannot answer now: the same batch is offered again, after a while, without end."""

    def __init__(
        self,
        reason: str,
        retry_after_seconds: float | None = None,
        http_status: int | None = None,
        cause: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds
        self.http_status = http_status
        self.cause = cause


class SinkState(Struct, frozen=True, omit_defaults=True):
    """What a sink does just now, as the service that runs it knows."""

    state: Literal["delivering", "waiting", "unavailable", "paused", "not configured"]
    since: datetime | None = None
    """UTC; of `unavailable` and `paused`."""
    reason: str | None = None
    """Why it waits or is unavailable, in words."""
    http_status: int | None = None
    """The HTTP status with which the other side refused to take records, if it answered."""
    cause: str | None = None
    """The kind of reason why it is unavailable, for programs."""


class Sink(Protocol):
    """A place that takes records in journal order.

    Like write(2), `write` may settle fewer than it was offered, and at least one: where the other
    side cannot tell a repeat, one call of it is one `write`, so that a crash repeats at most that.
    """

    name: str
    address: str
    """Where it is, to be shown: no secret is in it."""
    batch_records_max: int
    is_idempotent: bool
    """A record that is written again changes nothing there; if not, nothing is offered again that
    was taken, unless a person asks for it in words."""

    async def write(self, batch: Sequence[Delivery]) -> Written:
        """Settle a leading part of `batch` (never empty), or raise `Unavailable`."""

    async def probe(self) -> None:
        """Return if the sink can be reached and lets us in; raise `Unavailable` with a remedy."""

    async def close(self) -> None:
        """Let go of connections."""
