"""When a journal counts as damaged, and how the next start of the service learns of it.

The service, a reader or `check` that meets damage leaves a note beside the journal; a start that
finds a note salvages the journal. A start by itself does not read what only a delivery or a person
reads, so it would not notice.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

import apsw

from echo_ingest.journal.journal_file import BUSY_TIMEOUT_MS, JournalUnusable, why_unusable
from echo_ingest.journal.ledger import contradictions
from echo_ingest.journal.recovery.sqlite_pages import SqlitePages
from echo_ingest.journal.schema import SchemaState, inspect_schema

LOOK_SECONDS_MAX = 10.0
PROGRESS_STEPS = 1_000
UNREADABLE = {
    apsw.SQLITE_IOERR_READ,
    apsw.SQLITE_IOERR_SHORT_READ,
    apsw.SQLITE_IOERR_CORRUPTFS,
    apsw.SQLITE_IOERR_DATA,
}


def is_damage(error: BaseException) -> bool:
    """Return whether an error says that the file changed, or that the disk cannot read it."""
    return isinstance(error, (apsw.CorruptError, apsw.NotADBError)) or (
        isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) in UNREADABLE
    )


def note_of(path: Path) -> Path:
    """Return the path of the note on damage to the journal at `path`."""
    return path.with_name(path.name + ".damage")


def noted(path: Path, error: object) -> JournalUnusable:
    """Write the note and return an error that says what happens next.

    Where the note cannot be written, the text of the error has to do.
    """
    with contextlib.suppress(OSError):
        note_of(path).write_text(f"{error}\n")
    return JournalUnusable(
        f"{path} is damaged ({error}): start the service again; it sets the file aside and "
        "saves what can still be read"
    )


@contextlib.contextmanager
def noting(path: Path) -> Iterator[None]:
    """Turn damage that is met inside the block into a note and `JournalUnusable`."""
    try:
        yield
    except apsw.Error as error:
        if not is_damage(error):
            raise
        raise noted(path, error) from error


def find_damage(path: Path) -> str | None:
    """Return why the journal at `path` must be salvaged before it is used; None if it need not.

    A journal of another version is not damaged. If it is newer, it is not salvaged even if there is
    a note: that would lose what only its own version knows; then this raises `JournalUnusable`.

    After an orderly stop this takes no time: it only looks at the schema and the ledger. After any
    other stop it checks the WAL too, and as much of the file as `LOOK_SECONDS_MAX` allows.
    """
    if note_of(path).exists():
        if (newer := _if_newer(path)) is not None:
            raise newer
        return note_of(path).read_text(errors="replace").strip() or "a note says so"
    wal = path.with_name(path.name + "-wal")
    stopped_in_order = not wal.exists() or wal.stat().st_size == 0
    if not path.exists() or path.stat().st_size == 0:
        return None if stopped_in_order else f"{path.name} is empty, and {wal.name} is not"
    if not stopped_in_order and (reason := _damage_of_wal(path)):
        return reason
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        with contextlib.closing(db):
            db.set_busy_timeout(BUSY_TIMEOUT_MS)
            return _look(db, 0.0 if stopped_in_order else LOOK_SECONDS_MAX)
    except apsw.Error as error:
        return str(error) if is_damage(error) else None  # `Journal` explains other errors better
    except (TypeError, UnicodeDecodeError) as error:
        return f"its ledger cannot be read: {error}"


def check_schema(db: apsw.Connection) -> str | None:
    """Say which table is not what it must be: a bit in the text of the schema is enough."""
    schema = inspect_schema(db)
    return schema.detail if schema.state is SchemaState.DAMAGED else None


def check_pages(db: apsw.Connection, seconds_max: float = math.inf) -> str | None:
    """Return what is wrong with the file's structure; None if nothing is found in `seconds_max`.

    It takes about a second for each GB, more on a slow disk.
    """
    ends = time.monotonic() + seconds_max
    db.set_progress_handler(lambda: time.monotonic() > ends, PROGRESS_STEPS)
    try:
        answer = str(db.execute("PRAGMA quick_check(1)").get)
    except apsw.InterruptError:
        return None
    finally:
        db.set_progress_handler(None)
    return None if answer == "ok" else answer


def _if_newer(path: Path) -> JournalUnusable | None:
    """Return the error for a journal of a newer version; None for any other, and for no journal."""
    with contextlib.suppress(apsw.Error):
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        with contextlib.closing(db):
            db.set_busy_timeout(BUSY_TIMEOUT_MS)
            schema = inspect_schema(db)
            return why_unusable(path, schema) if schema.state is SchemaState.NEWER else None
    return None


def _look(db: apsw.Connection, seconds_max: float) -> str | None:
    schema = inspect_schema(db)
    match schema.state:
        case SchemaState.NEW | SchemaState.NEWER:
            return None
        case SchemaState.DAMAGED:
            return schema.detail
        case SchemaState.OTHER_BUILD:  # a table may be missing because a page is broken
            return check_pages(db, LOOK_SECONDS_MAX)
    wrong = contradictions(db, count_rows=False)
    if wrong:
        return f"the ledger does not close: {'; '.join(wrong)}"
    return check_pages(db, seconds_max) if seconds_max else None


def _damage_of_wal(path: Path) -> str | None:
    pages = SqlitePages(path)
    try:
        if pages.wal_is_cut():
            return f"{path.name}-wal is damaged: SQLite would not read all that was committed"
    finally:
        pages.close()
    return None
