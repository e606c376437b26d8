"""Where records go after the journal. A sink is three functions; `deliver` decides the rest."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol

from msgspec import Struct

from echo_ingest.decode import Decoder
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import AnyRecord, Message


class Delivery(Struct, frozen=True, gc=False):
    """One message on its way to one sink, with its records."""

    offset: int
    key: bytes
    """16 bytes; the same at every attempt, so that a sink can tell a repeat. `record_key` makes the
    key of each record of it."""
    message: Message
    records: tuple[AnyRecord, ...]
    """At least one. The sink takes all of them, or refuses the message."""
    decoder: Decoder
    """What decoded it, for the bytes of its clips."""
    clip_place: str | None = None
    """Where its clips are kept, such as `s3://bucket`: the sink names them by `clips.reference_of`
    instead of sending the bytes. None: it has no clips, or their bytes go with it."""


class Refusal(Struct, frozen=True):
    """A message that the sink will never take as it is; `deliver` parks it."""

    index: int
    """Place in the batch that was written."""
    reason: str
    """One sentence for people, with the other side's own words where it gave any."""
    code: ReasonCode | None = None
    """Which rule of ours says no; None: the other side said no, by a rule that only it knows."""
    field: str | None = None
    """The field that the other side names in its answer, by the name that it has there."""


def which_record(index: int, records: int) -> str:
    """Return the words with which a refusal names one of several records of a message."""
    return f"record {index + 1:,} of {records:,}: " if records > 1 else ""


class Written(Struct, frozen=True):
    """What one `write` settled: the first `count` deliveries, all taken but the refused."""

    count: int
    refusals: tuple[Refusal, ...] = ()
    place: str | None = None
    """Where the clips of what was taken are now, by which `clips.reference` names each."""


class Cause(StrEnum):
    """Why a sink takes nothing just now. A person has to act, or not, by this and not by words."""

    UNREACHABLE = "unreachable"
    """It is not there: refused, no such host, the connection broke, or it is starting or ending."""
    NO_ANSWER = "no_answer"
    """It was reached, and gave no answer within the time for one."""
    OVERLOADED = "overloaded"
    """It asks us to come later: too many requests or connections, a lock, a slow statement."""
    CREDENTIALS = "credentials"
    """It does not let us in, or does not let us write what we must."""
    MISCONFIGURED = "misconfigured"
    """The setting leads to something else than the sink, or to one that is not set up for us."""
    NO_PRIMARY = "no_primary"
    """None of its servers takes writes now, or not enough of them confirm those."""
    DISK_FULL = "disk_full"
    """Its disk is full."""
    ANSWERS_ERRORS = "answers_errors"
    """It answers, with an error of its own that says nothing about a record."""
    JOURNAL_BLOCKED = "journal_blocked"
    """Our own journal cannot note what the sink took: it has no room, or another program writes."""
    STARTING = "starting"
    """Our own process that delivers is starting."""


class Remedy(Struct, frozen=True):
    """What an error code of a sink means for it, and what a person can do."""

    cause: Cause
    text: str


class Unavailable(Exception):
    """The sink cannot answer now: the same batch is offered again, after a while, without end."""

    def __init__(
        self,
        reason: str,
        *,
        cause: Cause,
        http_status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        """Keep the `reason` for people, and as data what programs decide by.

        `http_status` is that of an answer over HTTP, `retry_after_seconds` how long the other side
        asks us to wait.
        """
        super().__init__(reason)
        self.cause = cause
        self.http_status = http_status
        self.retry_after_seconds = retry_after_seconds


class SinkState(Struct, frozen=True, omit_defaults=True):
    """What a sink does just now, as the service that runs it knows."""

    state: Literal["delivering", "waiting", "unavailable", "paused", "not configured"]
    since: datetime | None = None
    """UTC; of `unavailable` and `paused`."""
    reason: str | None = None
    """Why it waits or is unavailable, in words."""
    cause: Cause | None = None
    """Why it is unavailable, as data."""
    http_status: int | None = None
    """The status with which it answered, where it is unavailable and answered over HTTP."""


class Sink(Protocol):
    """A place that takes messages in journal order, each with all of its records.

    Like write(2), `write` may settle fewer than it was offered, and at least one: where the other
    side cannot tell a repeat, one call to it is one `write`, so that a crash repeats at most that.
    """

    name: str
    address: str
    """Where it is, to be shown: no secret is in it."""
    batch_records_max: int
    """How many messages it is offered at once, and about how many records: a message that goes
    beyond that is the last one of a batch."""
    is_idempotent: bool
    """A record that is written again changes nothing there; if not, nothing is offered again that
    was taken, unless a person asks for it in words."""

    async def write(self, batch: Sequence[Delivery]) -> Written:
        """Settle a leading part of `batch` (never empty), or raise `Unavailable`."""

    async def probe(self) -> None:
        """Return if the sink can be reached and lets us in; raise `Unavailable` with a remedy."""

    async def close(self) -> None:
        """Close its connections."""
