"""Opening the journal's file, and telling want of room from all else that SQLite may say."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import apsw

SCHEMA = Path(__file__).with_name("schema.sql")
SCHEMA_VERSION = 1
BUSY_TIMEOUT_MS = 10_000
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class JournalFull(Exception):
    """There is no room; nothing was written. It passes when there is room."""


class JournalBusy(JournalFull):
    """Not room is wanting but a turn: another process writes for more than `BUSY_TIMEOUT_MS`."""


class JournalUnusable(Exception):
    """The file cannot be opened as a journal; the message says why and what to do."""


def connect(path: Path, *, read_only: bool = False) -> apsw.Connection:
    """Open `path` as SQLite, with our waiting time.

    Raises `JournalUnusable` if it is not ours, and `JournalFull`: to open it takes a little room
    too, for what its readers and writers share.
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
    return connection


@contextlib.contextmanager
def needing_room(path: Path, db: apsw.Connection) -> Iterator[None]:
    """Turn want of room into `JournalFull`; SQLite has several words for it."""
    try:
        yield
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError) as error:
        if not isinstance(error, apsw.FullError) and db.system_errno not in NO_ROOM:
            raise
        raise JournalFull(
            f"the disk that holds {path} is full: make room; it goes on by itself"
        ) from error


@contextlib.contextmanager
def writing(path: Path, db: apsw.Connection) -> Iterator[None]:
    """One transaction: all of it or nothing, on disk when it ends."""
    try:
        with needing_room(path, db), transaction(db):
            yield
    except apsw.BusyError as error:
        raise JournalBusy(
            f"someone else has been writing to {path} for more than {BUSY_TIMEOUT_MS // 1000} s:"
            " try again, or end it if it hangs"
        ) from error


@contextlib.contextmanager
def transaction(db: apsw.Connection) -> Iterator[None]:
    """All of it or nothing; it waits for its turn to write, while other threads go on.

    `with db` would wait holding the interpreter's lock: everything in this process stands still
    then, also the thread that it waits for.
    """
    # The turn is taken now: a read that turns into a write could not wait for it.
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # for want of room SQLite ends some by itself
            db.execute("ROLLBACK")
        raise
