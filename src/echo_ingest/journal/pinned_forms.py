"""The forms in files that stored messages were decoded by, each version with its own bytes."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import apsw

from echo_ingest.journal.journal_file import JournalUnusable, connect
from echo_ingest.record import PinnedForm


def row_of(db: apsw.Connection, form: PinnedForm) -> int:
    """Return the row of a version of a form, which is written if it is the first of its messages.

    Part of a transaction of its caller.
    """
    sql = "SELECT id FROM form WHERE digest = ?"
    row: int | None = db.execute(sql, (form.digest,)).get
    if row is None:
        db.execute(
            "INSERT INTO form (name, digest, source) VALUES (?, ?, ?)",
            (form.name, form.digest, form.source),
        )
        row = db.last_insert_rowid()
    return row


def loader_of(path: Path) -> Callable[[str], bytes | None]:
    """Return what looks up the bytes of a form in the journal at `path`, by its digest."""

    def load(digest: str) -> bytes | None:
        if not path.exists():
            return None
        try:
            with contextlib.closing(connect(path, read_only=True)) as db:
                row = db.execute("SELECT source FROM form WHERE digest = ?", (digest,)).fetchone()
        except (JournalUnusable, apsw.Error):  # the reader of the record says what is wrong
            return None
        return None if row is None else bytes(row[0])

    return load
