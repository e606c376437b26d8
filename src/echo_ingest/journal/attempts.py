"""What is noted of a sink's deliveries while they are under way: `pipeline/deliver/attempts.py`."""

import apsw
from msgspec import Struct


class Attempt(Struct, frozen=True):
    """The records of which one may end the process that delivers."""

    first: int = 0
    last: int = 0
    """With `first`, the offsets between which it is; 0 and 0: none is suspected."""
    deaths: int = 0
    """How many times in a row the process has ended while they were offered."""
    is_offered: bool = False
    """Whether they are being offered, or were when the process ended."""


def read_attempt(db: apsw.Connection, sink: str) -> Attempt | None:
    """Return what was noted; None if the process that delivered before has ended in order."""
    sql = "SELECT first, last, deaths, offered FROM attempt WHERE sink = ?"
    row = db.execute(sql, (sink,)).fetchone()
    if row is None:
        return None
    first, last, deaths, offered = row
    return Attempt(first, last, deaths, bool(offered))


def note_attempt(db: apsw.Connection, sink: str, attempt: Attempt | None) -> None:
    """Note an attempt in place of the one before, or that there is none any more."""
    if attempt is None:
        db.execute("DELETE FROM attempt WHERE sink = ?", (sink,))
        return
    db.execute(
        "INSERT OR REPLACE INTO attempt VALUES (?, ?, ?, ?, ?)",
        (sink, attempt.first, attempt.last, attempt.deaths, attempt.is_offered),
    )
