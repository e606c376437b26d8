"""A selection of records, and the SQL condition for it."""

from datetime import UTC, datetime

from msgspec import Struct

from echo_ingest.record import SECONDS_MAX

Bindings = tuple[str | bytes | int | None, ...]


class Selection(Struct, frozen=True):
    """A selection of records: every field that is given narrows it down."""

    node: str | None = None
    kind: str | None = None
    since: datetime | None = None
    """Observed at this second or later."""
    until: datetime | None = None
    """Observed before this second."""


def where_of(selection: Selection) -> tuple[str, Bindings]:
    """Return the SQL condition of a selection and its bindings.

    The key begins with the time, so the index of keys finds times.
    """
    terms: list[str] = ["true"]
    bindings: list[str | bytes | int | None] = []
    if selection.node is not None:
        terms.append("node = ?")
        bindings.append(selection.node)
    if selection.kind is not None:
        terms.append("kind = ?")
        bindings.append(selection.kind)
    if selection.since is not None or selection.until is not None:
        since = int((selection.since or datetime.fromtimestamp(1, UTC)).timestamp())
        until = int((selection.until or datetime.fromtimestamp(SECONDS_MAX, UTC)).timestamp())
        low, high = (min(max(t, 1), SECONDS_MAX).to_bytes(4) for t in (since, until))
        if selection.until is None:
            high += b"\xff" * 13  # behind every key
        terms.append(
            "((key >= ? AND key < ?) OR (key < x'00000001' AND received_at_ms >= ?"
            " AND received_at_ms < ?))"
        )
        bindings += [low, high, since * 1000, until * 1000]
    return " AND ".join(terms), tuple(bindings)
