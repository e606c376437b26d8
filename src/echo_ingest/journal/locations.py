"""Where a sink has put the clips of records, for other sinks that refer to them.

A row says that a run of offsets is stored at one place. A sink may move to another place and
receive old records again: the newest row that covers an offset counts.
"""

from collections.abc import Sequence

import apsw


def note_place(db: apsw.Connection, sink: str, offsets: Sequence[int], place: str) -> None:
    """Note that `sink` has put these offsets at `place`."""
    for first, last in _runs(sorted(offsets)):
        db.execute(
            "UPDATE place SET last = ?1 WHERE place = ?2 AND last = ?3"
            " AND id = (SELECT max(id) FROM place WHERE sink = ?4)",
            (last, place, first - 1, sink),
        )
        if db.changes() == 0:
            db.execute("INSERT INTO place VALUES (NULL, ?, ?, ?, ?)", (sink, first, last, place))


def place_of(db: apsw.Connection, sink: str, offset: int) -> str | None:
    """Return where `sink` has put a record; None if it has not, or that is no longer known."""
    row = db.execute(
        "SELECT place FROM place WHERE sink = ?1 AND first <= ?2 AND last >= ?2"
        " ORDER BY id DESC LIMIT 1",
        (sink, offset),
    ).fetchone()
    return str(row[0]) if row else None


def _runs(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and the last offset of each run without a gap."""
    runs: list[tuple[int, int]] = []
    for offset in offsets:
        if runs and runs[-1][1] == offset - 1:
            runs[-1] = (runs[-1][0], offset)
        else:
            runs.append((offset, offset))
    return runs
