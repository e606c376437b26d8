"""When a journal counts as damaged, and how the next start of the service gets to know of it.

Whoever meets damage (the service, a reader, `check`) leaves a note beside the journal; a start that
finds one salvages. Without it, a start would not look at what only a delivery or a person reads.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

import apsw

from echo_ingest.journal.database import (
    BUSY_TIMEOUT_MS,
    SCHEMA_VERSION,
    JournalUnusable,
    bring_up_to_date,
)
from echo_ingest.journal.ledger import contradictions
from echo_ingest.journal.recovery.sqlite_pages import SqlitePages

LOOK_SECONDS_MAX = 10.0
PROGRESS_STEPS = 1_000
UNREADABLE = {
    apsw.SQLITE_IOERR_READ,
    apsw.SQLITE_IOERR_SHORT_READ,
    apsw.SQLITE_IOERR_CORRUPTFS,
    apsw.SQLITE_IOERR_DATA,
}


def is_damage(error: BaseException) -> bool:
    """The file is not what was written, or the disk cannot read it any more."""
    return isinstance(error, (apsw.CorruptError, apsw.NotADBError)) or (
        isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) in UNREADABLE
    )


def note_of(path: Path) -> Path:
    """Where the note on damage to the journal at `path` is left."""
    return path.with_name(path.name + ".damage")


def noted(path: Path, error: object) -> JournalUnusable:
    """Leave the note, and say what happens next; where it cannot be written, the words must do."""
    with contextlib.suppress(OSError):
        note_of(path).write_text(f"{error}\n")
    return JournalUnusable(
        f"{path} is damaged ({error}): start the service again, and it sets the file aside and "
        "saves all that can still be read of it"
    )


@contextlib.contextmanager
def noting(path: Path) -> Iterator[None]:
    """Turn damage that is met into a note and `JournalUnusable`."""
    try:
        yield
    except apsw.Error as error:
        if not is_damage(error):
            raise
        raise noted(path, error) from error


def find_damage(path: Path) -> str | None:
    """Why the journal at `path` must be salvaged before it is used; None if nothing is found.

    After an orderly stop this takes no time: only what a look at the ledger can tell. After any
    other, the WAL is checked, and the file for `LOOK_SECONDS_MAX`, or as far as that goes.
    """
    if note_of(path).exists():
        return note_of(path).read_text(errors="replace").strip() or "it is said to be"
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
        return str(error) if is_damage(error) else None  # Journal says the rest better
    except (TypeError, UnicodeDecodeError) as error:
        return f"its ledger cannot be read: {error}"


def check_schema(db: apsw.Connection) -> str | None:
    """Say which table is not what it must be: a bit in the text of the schema is enough."""
    select = "SELECT tbl_name, type, name, sql FROM sqlite_schema"
    with contextlib.closing(apsw.Connection(":memory:")) as new:
        bring_up_to_date(new, db.execute("PRAGMA user_version").get)
        missing = set(new.execute(select).fetchall()) - set(db.execute(select).fetchall())
    return f"the schema of {min(missing)[0]} is not what it was" if missing else None


def check_pages(db: apsw.Connection, seconds_max: float = math.inf) -> str | None:
    """What is wrong with the file's structure, as far as can be told in so many seconds.

    About a second for each GB, where the disk is not slower.
    """
    ends = time.monotonic() + seconds_max
    db.set_progress_handler(lambda: time.monotonic() > ends, PROGRESS_STEPS)
    try:
        said = str(db.execute("PRAGMA quick_check(1)").get)
    except apsw.InterruptError:
        return None
    finally:
        db.set_progress_handler(None)
    return None if said == "ok" else said


def _look(db: apsw.Connection, seconds_max: float) -> str | None:
    version = db.execute("PRAGMA user_version").get
    tables = db.execute("SELECT count(*) FROM sqlite_schema").get
    if version == 0 and tables:
        return "its version is gone"
    if version == 0 or version > SCHEMA_VERSION:
        return None
    if changed := check_schema(db):
        return changed
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
