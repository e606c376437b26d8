"""An export under way: `TARGET.partial`, beside the folder that it becomes.

It holds `progress.db`, in which all that was read of the journal is gathered, and `files`, which
becomes TARGET by one rename when everything in it is written and on disk. So TARGET is either not
there or complete, whatever happens. What a transaction of `progress.db` holds is there after
SIGKILL and after loss of power: reading goes on behind it, and the rows are the same as without the
interruption, also those whose records retention has removed since. The files are written from the
beginning each time, which takes a fraction of the reading; clips that are there stay.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import apsw
import msgspec
from msgspec import Struct, structs

import echo_ingest
from echo_ingest.columns import Row
from echo_ingest.decode import clip_bytes
from echo_ingest.export import clips
from echo_ingest.export.camtrap.deployments import device_of
from echo_ingest.export.reading import Cause, JournalPage, Request, Walk, is_wanted
from echo_ingest.export.record_rows import row
from echo_ingest.journal import Entry
from echo_ingest.journal.database import needing_room
from echo_ingest.process.files import sync
from echo_ingest.record import AnyRecord, Clip, kind

SUFFIX = ".partial"
PROGRESS = "progress.db"
SCHEMA = """
CREATE TABLE asked (
    request  TEXT NOT NULL,    -- JSON
    version  TEXT NOT NULL,    -- of echo-ingest: another may decode otherwise
    last     INTEGER NOT NULL, -- as of reading.Walk, with the two that follow
    trimmed  INTEGER NOT NULL,
    position INTEGER NOT NULL,
    gone     INTEGER NOT NULL
) STRICT;
CREATE TABLE row (
    offset  INTEGER PRIMARY KEY,
    kind    TEXT NOT NULL,
    device  TEXT NOT NULL,
    at_us   INTEGER NOT NULL, -- observed, in microseconds since 1970
    placed  INTEGER NOT NULL, -- 1: it says where the sensor is
    content BLOB NOT NULL     -- rows.row in MessagePack
) STRICT;
CREATE TABLE left_out (
    offset INTEGER PRIMARY KEY,
    cause  TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE TABLE clip (
    path       TEXT PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    kept       INTEGER NOT NULL DEFAULT 1 -- 0: no row names it
) STRICT, WITHOUT ROWID;
"""
REASONS_MAX = 20
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

_decode = msgspec.msgpack.Decoder(tuple[Any, ...]).decode
_encode = msgspec.msgpack.Encoder().encode


Progress = Callable[[int, str], AbstractContextManager[Callable[[int], None]]]
"""Shows how far it is: so many in all, doing what; gives what to call for each that are done."""


class ExportRefused(Exception):
    """An export that must not be made; the message says why and what to type."""


class ExportSummary(Struct, frozen=True):
    """What an export holds, and what it had to leave out."""

    rows: dict[str, int]
    """By kind of record."""
    clips: int
    clip_bytes: int
    gone: int
    """As of `reading.Page`."""
    left_out: dict[str, int]
    """Records that cannot be given, by the first word or words of the reason."""
    reasons: list[tuple[Cause, str, int]]
    """Causes and whole reasons, and how many of each; the `REASONS_MAX` most frequent."""


class PartialExport:
    """What is gathered so far; see the module's docstring."""

    def __init__(self, target: Path, db: apsw.Connection) -> None:
        self.target = target
        self.files = _files(target)
        self._db = db
        request, self.version, *walk = self._all(
            "SELECT request, version, last, trimmed, position FROM asked"
        )[0]
        self.request = msgspec.json.decode(request, type=Request)
        self.walk = Walk(*walk)
        """Where it was when it was opened."""

    def close(self) -> None:
        """Let go of it; it can be gone on with."""
        self._db.close()

    # ------------------------------------------------------------------ gathering

    def add(self, page: JournalPage) -> None:
        """Gather a page: all of it or nothing."""
        taken = [(entry, record, *self._audio(entry, record)) for entry, record in page.records]
        with needing_room(folder_of(self.target), self._db), self._db:
            self._db.executemany(
                "INSERT INTO row VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (
                        *(entry.offset, kind(record), device_of(record.node, record.sensor_id)),
                        (record.observed_at - EPOCH) // MICROSECOND,
                        record.place is not None,
                        _encode(row(entry, record, path)),
                    )
                    for entry, record, path, _ in taken
                ),
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO clip (path, size_bytes) VALUES (?, ?)",
                ((path, size_bytes) for _, _, path, size_bytes in taken if path is not None),
            )
            self._db.executemany(
                "INSERT INTO left_out VALUES (?, ?, ?)", map(structs.astuple, page.left_out)
            )
            self._db.execute(
                "UPDATE asked SET position = ?, gone = gone + ?", (page.up_to, page.gone)
            )

    def _audio(self, entry: Entry, record: AnyRecord) -> tuple[str | None, int]:
        """Write the record's clip, if it has one that is wanted; return its path and size."""
        clip: Clip | None = getattr(record, "clip", None)
        wanted = self.request.audio and is_wanted(self.request, getattr(record, "species", None))
        audio = clip_bytes(entry.message) if clip is not None and wanted else None
        if clip is None or audio is None:
            return None, 0
        return clips.write(self.files, record, clip, audio), len(audio)

    # ------------------------------------------------------------------ what was gathered

    def gathered(self) -> ExportSummary:
        """How much there is."""
        ((gone,),) = self._all("SELECT gone FROM asked")
        left_out = self._all("SELECT cause, count(*) FROM left_out GROUP BY cause ORDER BY cause")
        ((count, size_bytes),) = self._all(
            "SELECT count(*), coalesce(sum(size_bytes), 0) FROM clip WHERE kept"
        )
        return ExportSummary(
            rows=dict(self._all("SELECT kind, count(*) FROM row GROUP BY kind")),
            clips=count,
            clip_bytes=size_bytes,
            gone=gone,
            left_out=dict(left_out),
            reasons=self._all(
                "SELECT cause, reason, count(*) FROM left_out GROUP BY 1, 2"
                " ORDER BY 3 DESC, 1, 2 LIMIT ?",
                REASONS_MAX,
            ),
        )

    def rows(self, of_kind: str) -> Iterator[Row]:
        """All rows of one kind, in order of arrival."""
        select = "SELECT content FROM row WHERE kind = ? ORDER BY offset"
        return (_decode(content) for (content,) in self._db.execute(select, (of_kind,)))

    def by_device(self) -> Iterator[tuple[str, Row]]:
        """All rows with their device, ordered by device and time."""
        self._db.execute("CREATE INDEX IF NOT EXISTS by_device ON row (device, at_us, offset)")
        select = "SELECT device, content FROM row ORDER BY device, at_us, offset"
        return ((device, _decode(content)) for device, content in self._db.execute(select))

    def first_placed(self, device: str) -> Row | None:
        """The first row of a device that says where it is."""
        rows = self._all(
            "SELECT content FROM row WHERE device = ? AND placed ORDER BY at_us, offset LIMIT 1",
            device,
        )
        return _decode(rows[0][0]) if rows else None

    def keep_no_clips(self) -> None:
        """None but those that `keep` names from now on."""
        self._db.execute("UPDATE clip SET kept = 0")

    def keep(self, path: str) -> None:
        """A row names this clip."""
        self._db.execute("UPDATE clip SET kept = 1 WHERE path = ?", (path,))

    def _all(self, sql: str, *bindings: str | int) -> list[Any]:
        return self._db.execute(sql, bindings).fetchall()

    # ------------------------------------------------------------------ files

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[IO[bytes]]:
        """A file of the export, written from its beginning; on disk at the end."""
        with (self.files / name).open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Make it the folder that was asked for, without clips that nothing in it names.

        Such are of records that a package has no place for, or were written just before a kill.
        """
        for folder, _, names in os.walk(self.files / clips.FOLDER, topdown=False):
            for name in names:
                path = Path(folder, name)
                kept = "SELECT 1 FROM clip WHERE path = ? AND kept"
                if not self._all(kept, path.relative_to(self.files).as_posix()):
                    path.unlink()
            sync(Path(folder))
        sync(self.files)
        self.close()
        try:
            self.files.rename(self.target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise _exists(self.target) from None
        sync(self.target.absolute().parent)
        shutil.rmtree(folder_of(self.target))


def begin(target: Path, request: Request, walk: Walk) -> PartialExport:
    """Begin an export; raise `ExportRefused` if there is one, or the beginnings of one."""
    if os.path.lexists(target):
        raise _exists(target)
    folder = folder_of(target)
    if _is_under_way(target):
        raise ExportRefused(
            f"{folder} holds an export that was cut short: `echo-ingest export {target} --resume` "
            "goes on with it; to begin anew, remove that folder"
        )
    try:
        for left in folder.glob(f"{PROGRESS}*"):  # it never came to hold anything, or became one
            left.unlink()
        if folder.exists():
            folder.rmdir()
        folder.mkdir()
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise ExportRefused(
                f"{folder} is in the way; remove it, or name another folder"
            ) from None
        if error.errno != errno.ENOENT:
            raise
        raise ExportRefused(
            f"there is no folder {target.absolute().parent}; make it, or name another"
        ) from None
    db = _open(target)
    with needing_room(folder, db), db:
        db.execute(SCHEMA)
        db.execute(
            "INSERT INTO asked VALUES (?, ?, ?, ?, ?, 0)",
            (
                msgspec.json.encode(request).decode(),
                echo_ingest.__version__,
                *(walk.last, walk.trimmed, walk.position),
            ),
        )
    _files(target).mkdir()
    return PartialExport(target, db)


def go_on(target: Path, journal: str) -> PartialExport:
    """Open an export that was cut short; raise `ExportRefused` if there is none."""
    if os.path.lexists(target):
        raise _exists(target)
    folder = folder_of(target)
    if not _is_under_way(target):
        raise ExportRefused(f"there is no {folder} to go on with; leave --resume out to begin")
    partial = PartialExport(target, _open(target))
    if partial.request.journal != journal:
        raise ExportRefused(
            f"{folder} was begun with the journal at {partial.request.journal}, and this is "
            f"{journal}: set IOT_DATA_DIR, or remove that folder and begin anew"
        )
    if partial.version != echo_ingest.__version__:
        raise ExportRefused(
            f"{folder} was begun by echo-ingest {partial.version}, and this is "
            f"{echo_ingest.__version__}: rows may differ; remove that folder and begin anew"
        )
    return partial


def folder_of(target: Path) -> Path:
    """Where an export is while it is under way."""
    return target.with_name(target.name + SUFFIX)


def _files(target: Path) -> Path:
    return folder_of(target) / "files"


def _is_under_way(target: Path) -> bool:
    return _files(target).is_dir() and (folder_of(target) / PROGRESS).exists()


def _open(target: Path) -> apsw.Connection:
    """Open what is gathered, for this process alone."""
    db = apsw.Connection(str(folder_of(target) / PROGRESS))
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL; BEGIN EXCLUSIVE; COMMIT")
    except apsw.BusyError:
        raise ExportRefused(
            f"another export is writing {folder_of(target)}; wait for its end"
        ) from None
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise ExportRefused(
            f"{folder_of(target)} is damaged ({error}); remove that folder and begin anew"
        ) from None
    return db


def _exists(target: Path) -> ExportRefused:
    return ExportRefused(f"{target} exists already; name another folder, or remove it")
