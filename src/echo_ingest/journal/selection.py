"""A selection of records, and the SQL condition for the messages that have them."""

from datetime import datetime

from msgspec import Struct

from echo_ingest.journal.receipt_days import DAY_MS, day_of
from echo_ingest.record import AnyRecord, kind

Bindings = tuple[str | bytes | int | None, ...]

LATEST = 2**63 - 1
AHEAD_MS_MAX = DAY_MS
"""Nothing is observed longer than this after its receipt: such a time is not believed."""


class Selection(Struct, frozen=True):
    """A selection of records: every field that is given narrows it down."""

    node: str | None = None
    kind: str | None = None
    since: datetime | None = None
    """Observed at this second or later."""
    until: datetime | None = None
    """Observed before this second."""

    def selects(self, record: AnyRecord) -> bool:
        """Return whether a record of a message of the node belongs to it."""
        return (self.kind is None or kind(record) == self.kind) and (
            not self.has_time or self.includes(record.observed_at)
        )

    @property
    def has_time(self) -> bool:
        """Return whether it depends on when a record was observed."""
        return self.since is not None or self.until is not None

    def includes(self, observed_at: datetime) -> bool:
        """Return whether a record with this time belongs to it, as far as its time goes."""
        seconds = observed_at.timestamp() // 1
        return (self.since is None or seconds >= self.since.timestamp() // 1) and (
            self.until is None or seconds < self.until.timestamp() // 1
        )


def where_of(selection: Selection) -> tuple[str, Bindings]:
    """Return the SQL condition of a selection and its bindings, for messages.

    When a record was observed is known only once it is decoded, so some that it lets pass do not
    belong to the selection. Since nothing is observed after it is received, what was received
    before `since` can be left out; `receipt_day` says where that ends.
    """
    terms: list[str] = ["true"]
    bindings: list[str | bytes | int | None] = []
    if selection.node is not None:
        terms.append("node = ?")
        bindings.append(selection.node)
    if selection.kind is not None:
        # The message may have records of several kinds, as `record.kinds` writes them.
        terms.append("instr(',' || kind || ',', ',' || ? || ',') > 0")
        bindings.append(selection.kind)
    if selection.since is not None:
        received_ms = int(selection.since.timestamp()) * 1000 - AHEAD_MS_MAX
        terms.append(
            "offset > coalesce((SELECT min(offset) FROM receipt_day WHERE day >= ?), ?)"
            " AND received_at_ms >= ?"
        )
        bindings += [day_of(received_ms), LATEST, received_ms]
    return " AND ".join(terms), tuple(bindings)
