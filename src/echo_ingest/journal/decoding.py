"""From a stored message to its record: the one place where what is stored is decoded again."""

from datetime import datetime

from msgspec import Struct

from echo_ingest.decode import Decoder
from echo_ingest.formatting import utc
from echo_ingest.journal.entries import Entry
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import AnyRecord, Rejected


class Unreadable(Struct, frozen=True):
    """A stored message that gives no record, and why."""

    code: ReasonCode
    """`DAMAGED`, or `UNREADABLE_NOW`."""
    detail: str

    def render(self) -> str:
        """Return the reason, for people."""
        return self.detail


DAMAGED = Unreadable(ReasonCode.DAMAGED, "damaged: the disk returns other bytes than were stored")


def decode_entry(decoder: Decoder, entry: Entry) -> AnyRecord | Unreadable:
    """Return the record of a stored message, or why there is none.

    Decoding is pure, so the record is the same each time. A message that was valid when it was
    stored gives none only if the disk has changed it, or if another version of the decoder, or
    the same with other rules or a lower limit, rejects it.
    """
    if entry.damaged:
        return DAMAGED
    decoded = decoder.decode(entry.message)
    if isinstance(decoded, Rejected):
        return Unreadable(
            ReasonCode.UNREADABLE_NOW,
            f"it cannot be decoded any more: {decoded.render()}",
        )
    return decoded


def observed_at(decoder: Decoder, entry: Entry) -> datetime:
    """Return when a record was observed; when it was received, where that cannot be read."""
    observed = None if entry.damaged else decoder.observed_at(entry.message)
    return observed or utc(entry.message.received_at_ms)
