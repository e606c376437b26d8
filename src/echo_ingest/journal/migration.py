"""Bringing a journal of an earlier version up to date, with a copy of it made before.

The copy, `journal.db.before-N`, is the file as it was, byte for byte: with the version of the
service before, it can take the place of the journal. It is on disk before anything is altered, and
only people remove it. Where the file system can share blocks between files (Btrfs, XFS), it takes
neither time nor space; elsewhere it takes as much space as the journal. Without that space nothing
is altered, unless a person says with an empty file of that name that there is a copy elsewhere.

The tables are altered in one transaction, during which nobody else can write. A migration that is
interrupted begins anew at the next start, and finds its copy if that was complete.
"""

import contextlib
import fcntl
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import apsw
import structlog

from echo_ingest.journal.capacity import Capacity
from echo_ingest.journal.journal_file import (
    JournalBusy,
    JournalUnusable,
    connect,
    needing_room,
    writing,
)
from echo_ingest.journal.schema import SCHEMA_VERSION, SchemaState, bring_up_to_date, inspect_schema
from echo_ingest.process.files import NEIGHBOUR_SUFFIX, NO_ROOM, sync

FICLONE = 0x40049409
"""Share the blocks of another file (ioctl_ficlone(2)); Python has no name for it."""
COPY_STEP_BYTES = 1024 * 1024

log = structlog.get_logger("journal")


def copies_before(path: Path, version: int = SCHEMA_VERSION) -> list[Path]:
    """Return the copies of the journal at `path` that were made before it became `version`."""
    return sorted(
        copy
        for copy in path.parent.glob(f"{path.name}.before-{version}*")
        if copy.suffix != NEIGHBOUR_SUFFIX
    )


def migrate(path: Path, disk_free_bytes_min: int = 0) -> None:
    """Bring the journal at `path` up to date if it is of an earlier version; else do nothing.

    Raises `JournalUnusable` if there is no room for a copy, `JournalFull` if there is none for the
    change itself, and `JournalBusy` if other processes do not let go of it.
    """
    if not _is_older(path):
        return
    with contextlib.ExitStack() as stack:
        # Closed after the connection: the locks of SQLite end when its file is closed anywhere.
        source = stack.enter_context(path.open("rb"))
        db = stack.enter_context(contextlib.closing(connect(path)))
        with needing_room(path, db):
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with writing(path, db):
            version = db.execute("PRAGMA user_version").get
            if version == SCHEMA_VERSION:  # another process was faster
                return
            if _wal_bytes(path):
                raise JournalBusy(
                    f"another process is reading or writing {path}, which has to be brought up to "
                    "date: end that process, and start again"
                )
            copy = _copied(path, source, db, disk_free_bytes_min)
            bring_up_to_date(db)
    log.warning(
        "journal brought up to date",
        was_schema=version,
        schema=SCHEMA_VERSION,
        copy=str(copy),
        meaning="the copy is the journal from before, for the version from before; remove it when "
        "you are sure that you will not go back",
    )


def _is_older(path: Path) -> bool:
    if not path.exists():
        return False
    with contextlib.closing(connect(path)) as db:
        return inspect_schema(db).state is SchemaState.OLDER


def _wal_bytes(path: Path) -> int:
    wal = path.with_name(f"{path.name}-wal")
    return wal.stat().st_size if wal.exists() else 0


def _copied(path: Path, source: BinaryIO, db: apsw.Connection, disk_free_bytes_min: int) -> Path:
    """Return a copy of the journal as it is: one that is there already, else a new one."""
    for copy in copies_before(path):
        if copy.stat().st_size == 0 or _figures_of(copy) == _figures(db):
            return copy
    copy = path.with_name(f"{path.name}.before-{SCHEMA_VERSION}")
    if copy.exists():  # of another journal
        copy = copy.with_name(f"{copy.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    unfinished = copy.with_name(copy.name + NEIGHBOUR_SUFFIX)
    unfinished.unlink(missing_ok=True)
    size_bytes = os.fstat(source.fileno()).st_size
    log.warning("journal is copied before it is brought up to date", copy=str(copy))
    try:
        unfinished.touch(mode=0o600, exist_ok=False)
        with unfinished.open("wb") as target:
            if not _cloned(source, target):
                free_bytes = Capacity(path, 0, disk_free_bytes_min).left_bytes(0)
                if free_bytes < size_bytes:
                    raise _no_room(path, copy, size_bytes, free_bytes)
                source.seek(0)
                shutil.copyfileobj(source, target, COPY_STEP_BYTES)
            target.flush()
            os.fsync(target.fileno())
        unfinished.rename(copy)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        if error.errno not in NO_ROOM:
            raise
        raise _no_room(path, copy, size_bytes, 0) from error
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync(path.parent)
    return copy


def _cloned(source: BinaryIO, target: BinaryIO) -> bool:
    """Let `target` share the blocks of `source`; return False if the file system cannot do that."""
    try:
        fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
    except OSError:
        return False
    return True


def _no_room(path: Path, copy: Path, size_bytes: int, free_bytes: int) -> JournalUnusable:
    return JournalUnusable(
        f"{path} is of an earlier version and has to be brought up to date. Before that it is "
        f"copied, which takes {size_bytes:,} bytes, and {free_bytes:,} may be used on its disk: "
        "make room, and start again. Or copy it to another disk, and create the empty file "
        f"{copy} to say so. Nothing was changed"
    )


def _figures_of(copy: Path) -> list[Any] | None:
    """Return the figures of a copy; None if it is none."""
    # Immutable: SQLite makes no files beside it.
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    try:
        db = apsw.Connection(f"{copy.absolute().as_uri()}?immutable=1", flags=flags)
        with contextlib.closing(db):
            return _figures(db)
    except apsw.Error:
        return None


def _figures(db: apsw.Connection) -> list[Any]:
    """Return what tells two journals apart: version, ledger, and the newest record."""
    return [
        db.execute(sql).fetchall()
        for sql in (
            "PRAGMA user_version",
            "SELECT * FROM ledger",
            "SELECT * FROM sink ORDER BY name",
            "SELECT offset, key, checksum FROM record ORDER BY offset DESC LIMIT 1",
        )
    ]
