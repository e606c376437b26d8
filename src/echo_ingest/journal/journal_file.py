"""Opening the journal's file, its versions, its transactions, and a full disk as `JournalFull`."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import apsw

from echo_ingest.journal.receipt_days import NEVER, fill

SCHEMA_VERSION = 4
"""There is a file `schema_N.sql` for each version up to this one."""
VERSION_WITH_RECEIPT_DAYS = 3
BUSY_TIMEOUT_MS = 10_000
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class JournalFull(Exception):
    """There is no room, and nothing was written. The caller waits and tries again."""


class JournalBusy(JournalFull):
    """Another process has been writing for more than `BUSY_TIMEOUT_MS`; nothing was written."""


class JournalUnusable(Exception):
    """The file cannot be used as a journal; the text says why and what to do."""


def connect(path: Path, *, read_only: bool = False) -> apsw.Connection:
    """Open `path` as SQLite and wait for other writers as long as `BUSY_TIMEOUT_MS`.

    Raises `JournalUnusable` if it is not a journal, and `JournalFull`: opening takes a little room
    too, for the memory that readers and writers share.
    """
    flags = (
        apsw.SQLITE_OPEN_READONLY
        if read_only
        else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    )
    try:
        connection = apsw.Connection(str(path), flags=flags)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        with needing_room(path, connection):
            version: int = connection.execute("PRAGMA user_version").get
    except (apsw.CantOpenError, apsw.NotADBError, apsw.CorruptError, apsw.ReadOnlyError) as error:
        raise JournalUnusable(
            f"{path} cannot be opened as a journal ({error}); if it is damaged, start the service: "
            "it sets the file aside and saves all that can still be read of it"
        ) from error
    if version > SCHEMA_VERSION:
        raise JournalUnusable(
            f"{path} was written by a newer echo-ingest (schema {version}, this one knows "
            f"{SCHEMA_VERSION}); install that version"
        )
    if read_only:
        _show_as_newest(connection, version)
    return connection


@contextlib.contextmanager
def needing_room(path: Path, db: apsw.Connection) -> Iterator[None]:
    """Turn the errors that SQLite raises on a full disk into `JournalFull`."""
    try:
        yield
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError) as error:
        if not isinstance(error, apsw.FullError) and db.system_errno not in NO_ROOM:
            raise
        raise JournalFull(
            f"the disk that holds {path} is full: make room, and the service continues by itself"
        ) from error


@contextlib.contextmanager
def writing(path: Path, db: apsw.Connection) -> Iterator[None]:
    """Run one transaction: all of it is on disk when it ends, or nothing."""
    try:
        with needing_room(path, db), transaction(db):
            yield
    except apsw.BusyError as error:
        raise JournalBusy(
            f"another process has been writing to {path} for more than "
            f"{BUSY_TIMEOUT_MS // 1000} s: try again, or end that process if it hangs"
        ) from error


@contextlib.contextmanager
def transaction(db: apsw.Connection) -> Iterator[None]:
    """Run one transaction, and let other threads run while it waits for its turn to write.

    `with db` would hold the interpreter's lock while it waits: then the whole process stands
    still, and with it the thread that it waits for.
    """
    # IMMEDIATE takes the turn now: a read that turns into a write could not wait for it.
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # on a full disk SQLite may have ended it by itself
            db.execute("ROLLBACK")
        raise


def bring_up_to_date(db: apsw.Connection, version: int = SCHEMA_VERSION) -> None:
    """Make the tables, or alter those of an older journal; part of a transaction of its caller.

    One transaction for all steps: a journal is of the old version or of the new one.
    """
    known: int = db.execute("PRAGMA user_version").get
    for step in range(known + 1, version + 1):
        db.execute(Path(__file__).with_name(f"schema_{step}.sql").read_text())
        if step == VERSION_WITH_RECEIPT_DAYS:
            fill(db)


def _show_as_newest(db: apsw.Connection, version: int) -> None:
    """Let a reader see an older journal, which it must not alter, as one of the newest version."""
    if version < VERSION_WITH_RECEIPT_DAYS:
        # No day narrows a search down: the only one is at the end of all days, before every record.
        db.execute(f"CREATE TEMP VIEW receipt_day AS SELECT 1 AS id, {NEVER} AS day, 0 AS offset")
    if version == 1:
        for table in ("dead_letter", "parked"):
            db.execute(
                f"CREATE TEMP VIEW {table} AS"  # noqa: S608
                f" SELECT *, NULL AS code, NULL AS field FROM main.{table}"
            )
