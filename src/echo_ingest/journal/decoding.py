"""From a stored message to its records: the one place where what is stored is decoded again."""

from collections.abc import Iterator

from msgspec import Struct

from echo_ingest.decode import Decoder
from echo_ingest.formatting import utc
from echo_ingest.journal.entries import Entry
from echo_ingest.journal.selection import Selection
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import AnyRecord, Ignored, Rejected


class Unreadable(Struct, frozen=True):
    """A stored message that gives no records, and why."""

    code: ReasonCode
    """`DAMAGED`, or `UNREADABLE_NOW`."""
    detail: str

    def render(self) -> str:
        """Return the reason, for people."""
        return self.detail


DAMAGED = Unreadable(ReasonCode.DAMAGED, "damaged: the disk returns other bytes than were stored")


def decode_entry(decoder: Decoder, entry: Entry) -> tuple[AnyRecord, ...] | Unreadable:
    """Return the records of a stored message, at least one, or why there is none.

    Decoding is pure, so the records are the same each time. A message that was valid when it was
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
    if isinstance(decoded, Ignored):
        return Unreadable(
            ReasonCode.UNREADABLE_NOW,
            f"it cannot be decoded any more: the form {decoded.form} ignores it now",
        )
    return decoded


def has_selected(decoder: Decoder, entry: Entry, selection: Selection) -> bool:
    """Return whether any record of a stored message belongs to a selection.

    Where none can be read, the time of receipt counts.
    """
    records = () if entry.damaged else decoder.records(entry.message)
    if not records:
        return selection.includes(utc(entry.message.received_at_ms))
    return any(map(selection.selects, records))


def selected(
    selection: Selection, records: tuple[AnyRecord, ...]
) -> Iterator[tuple[int, AnyRecord]]:
    """Yield the records of a message that belong to a selection, each with its index."""
    for index, record in enumerate(records):
        if selection.selects(record):
            yield index, record
