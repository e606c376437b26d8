"""Open `almanac.db`, and begin it anew where it is missing, damaged or of another version."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

from echo_ingest.journal.journal_file import transaction
from echo_ingest.settings import JOURNAL_NAME

SCHEMA = Path(__file__).with_name("schema.sql")
SCHEMA_VERSION = 7
BUSY_TIMEOUT_MS = 5_000
CACHE_KIB = 8 * 1024
WAL_BYTES = 8 * 1024 * 1024
UNUSABLE = (apsw.CorruptError, apsw.NotADBError)

Row = tuple[Any, ...]
"""The schema is STRICT, so SQLite has checked the types."""


class AlmanacUnready(Exception):
    """There is no almanac to read yet; the message says why. This passes by itself."""


def open_to_write(path: Path) -> apsw.Connection:
    """Open or create the almanac; begin anew what is damaged or of another version.

    Raises `OSError` where its folder holds no journal.
    """
    try:
        return _open(path)
    except UNUSABLE:
        begin_anew(path)
        return _open(path)


def open_to_read(path: Path) -> apsw.Connection:
    """Open the almanac; raise `AlmanacUnready` if it is missing, damaged or of another version."""
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        db.set_busy_timeout(BUSY_TIMEOUT_MS)
        version = db.execute("PRAGMA user_version").get
    except (apsw.CantOpenError, apsw.IOError, *UNUSABLE) as error:
        raise AlmanacUnready(
            f"{path.name} is being built from the journal; try again in a few seconds"
        ) from error
    if version != SCHEMA_VERSION:
        db.close()
        raise AlmanacUnready(f"{path.name} is of another version; it is being built anew")
    return db


def rows_of(
    db: apsw.Connection, sql: str, bindings: Sequence[Any] | Mapping[str, Any] = ()
) -> list[Row]:
    """Return all rows of an answer."""
    return db.execute(sql, bindings).fetchall()


def begin_anew(path: Path) -> None:
    """Remove the almanac and the files of SQLite beside it; open readers keep the old one."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(name).unlink()


def _open(path: Path) -> apsw.Connection:
    # The almanac is beside its journal: a folder without one is where a volume was unmounted.
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        os.stat(JOURNAL_NAME, dir_fd=folder)
        os.close(os.open(path.name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=folder))
    finally:
        os.close(folder)
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    db.set_busy_timeout(BUSY_TIMEOUT_MS)
    db.execute("PRAGMA journal_mode = WAL")
    # A power cut may lose the last seconds, which are then read from the journal again.
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    with transaction(db):
        version = db.execute("PRAGMA user_version").get
        if version == 0:
            db.execute(SCHEMA.read_text())
    if version not in (0, SCHEMA_VERSION):
        db.close()
        raise apsw.NotADBError(f"{path.name} is of version {version}")
    return db
