"""Where a sink has put what it took, for those that name it instead of carrying it.

A row says that a run of offsets is safe at one place. A sink may move to another place, and be
given again what it had: the newest row that holds an offset counts.
"""

from collections.abc import Sequence

import apsw


def note_place(db: apsw.Connection, sink: str, offsets: Sequence[int], place: str) -> None:
    """Say that `sink` has put these offsets at `place`."""
    for first, last in _runs(sorted(offsets)):
        db.execute(
            "UPDATE place SET last = ?1 WHERE place = ?2 AND last = ?3"
            " AND id = (SELECT max(id) FROM place WHERE sink = ?4)",
            (last, place, first - 1, sink),
        )
        if db.changes() == 0:
            db.execute("INSERT INTO place VALUES (NULL, ?, ?, ?, ?)", (sink, first, last, place))


def place_of(db: apsw.Connection, sink: str, offset: int) -> str | None:
    """Where `sink` has put it; None if it has not, or if that is not known any more."""
    row = db.execute(
        "SELECT place FROM place WHERE sink = ?1 AND first <= ?2 AND last >= ?2"
        " ORDER BY id DESC LIMIT 1",
        (sink, offset),
    ).fetchone()
    return str(row[0]) if row else None


def _runs(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run without a gap."""
    runs: list[tuple[int, int]] = []
    for offset in offsets:
        if runs and runs[-1][1] == offset - 1:
            runs[-1] = (runs[-1][0], offset)
        else:
            runs.append((offset, offset))
    return runs
