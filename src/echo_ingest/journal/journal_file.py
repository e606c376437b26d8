"""Opening the journal's file, its versions, its transactions, and a full disk as `JournalFull`."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import apsw

from echo_ingest.journal.schema import (
    SCHEMA_VERSION,
    SchemaFinding,
    SchemaState,
    inspect_schema,
    show_as_newest,
)
from echo_ingest.process.files import obstacle_in, why_unwritable

BUSY_TIMEOUT_MS = 10_000
UNREADABLE = (
    *(apsw.CantOpenError, apsw.NotADBError, apsw.CorruptError),
    *(apsw.ReadOnlyError, apsw.IOError),
)


class JournalFull(Exception):
    """The disk takes nothing now, mostly for want of room, and nothing was written.

    The caller waits and tries again.
    """


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
            schema = inspect_schema(connection)
    except UNREADABLE as error:
        raise _unreadable(path, str(error)) from error
    if (unusable := why_unusable(path, schema)) is not None:
        connection.close()
        raise unusable
    if read_only:
        show_as_newest(connection, schema.version)
    return connection


def why_unusable(path: Path, schema: SchemaFinding) -> JournalUnusable | None:
    """Return the error for a journal with such a schema; None if it can be used or migrated."""
    match schema.state:
        case SchemaState.NEWER:
            return JournalUnusable(
                f"{path} was written by a newer echo-ingest (schema {schema.version}, this one "
                f"knows {SCHEMA_VERSION}); install that version. Nothing was changed"
            )
        case SchemaState.OTHER_BUILD:
            return JournalUnusable(
                f"{path} was written by another build of echo-ingest: its schema has the number "
                f"{schema.version}, but {schema.detail}. It is not damaged, and nothing was "
                "changed. Start the build that has written it; or, to continue with this one, "
                f"create the empty file {path.name}.damage beside it and start: all records go "
                "into a new journal, and sinks may get some of them again"
            )
        case SchemaState.DAMAGED:
            return _unreadable(path, schema.detail)
    return None


def _unreadable(path: Path, reason: str) -> JournalUnusable:
    return JournalUnusable(
        f"{path} cannot be opened as a journal ({reason}); if it is damaged, start the service: "
        "it sets the file aside and saves all that can still be read of it"
    )


@contextlib.contextmanager
def needing_room(path: Path, db: apsw.Connection) -> Iterator[None]:
    """Turn the errors that SQLite raises on a disk that takes nothing into `JournalFull`."""
    try:
        yield
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError) as error:
        number = db.system_errno
        if isinstance(error, apsw.FullError):
            number = errno.ENOSPC
        elif isinstance(error, apsw.ReadOnlyError):  # SQLite does not say why
            number = obstacle_in(path.parent)
        if (why := why_unwritable(path, number)) is None:
            raise
        raise JournalFull(f"{why}, and the service continues by itself") from error


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
