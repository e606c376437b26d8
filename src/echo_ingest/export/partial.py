"""An unfinished export: the folder `TARGET.partial`, beside the folder that it becomes.

It has `progress.db`, which collects everything that was read from the journal, and the folder
`files`, which is renamed to TARGET when everything in it is written and on disk. So TARGET is
either absent or complete at any time. A committed transaction of `progress.db` survives SIGKILL and
a power cut: reading continues after it, and the rows are the same as without the interruption, even
if retention has removed their records since. The tables are written from the beginning each time,
which takes a fraction of the time of reading; clips that were written are kept.
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
from echo_ingest.decode import Decoder, Rules
from echo_ingest.export import clips
from echo_ingest.export.camtrap.deployments import device_of
from echo_ingest.export.camtrap.host_clock import ReceiveTime, contradicted
from echo_ingest.export.reading import Cause, JournalPage, ReadRecord, Request, Walk, is_wanted
from echo_ingest.export.writers import row
from echo_ingest.journal.journal_file import needing_room
from echo_ingest.process.files import sync
from echo_ingest.record import Clip, kind

SUFFIX = ".partial"
PROGRESS = "progress.db"
SCHEMA = """
CREATE TABLE asked (
    request  TEXT NOT NULL,    -- JSON
    version  TEXT NOT NULL,    -- of echo-ingest: another version may decode differently
    last     INTEGER NOT NULL, -- this and the next two are the fields of reading.Walk
    trimmed  INTEGER NOT NULL,
    position INTEGER NOT NULL,
    gone     INTEGER NOT NULL
) STRICT;
CREATE TABLE row (
    offset  INTEGER NOT NULL,
    "index" INTEGER NOT NULL, -- the place of the record in its message
    kind    TEXT NOT NULL,
    device  TEXT NOT NULL,
    at_us   INTEGER NOT NULL, -- the time observed, in microseconds since 1970
    placed  INTEGER NOT NULL, -- 1 if the record says where the sensor is
    own_time     INTEGER NOT NULL,           -- 1 if the time observed is the device's own
    received_us  INTEGER NOT NULL,
    contradicted INTEGER NOT NULL DEFAULT 0, -- 1 if the time of receipt cannot be true
    content BLOB NOT NULL,    -- writers.row as MessagePack
    PRIMARY KEY (offset, "index")
) STRICT;
CREATE TABLE left_out (
    offset  INTEGER NOT NULL,
    "index" INTEGER NOT NULL,
    cause   TEXT NOT NULL,
    reason  TEXT NOT NULL,
    PRIMARY KEY (offset, "index")
) STRICT;
CREATE TABLE clip (
    path       TEXT PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    kept       INTEGER NOT NULL DEFAULT 1 -- 0 if no row has it
) STRICT, WITHOUT ROWID;
"""
REASONS_MAX = 20
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY_US = timedelta(days=1) // MICROSECOND
FIRST_RECEIPT = Rules().first_moment
"""Nothing was received before: the clock of a host that says so was not set."""
ORDER = 'device, at_us, received_us, offset, "index"'

_decode = msgspec.msgpack.Decoder(tuple[Any, ...]).decode
_encode = msgspec.msgpack.Encoder().encode


Progress = Callable[[int, str], AbstractContextManager[Callable[[int], None]]]
"""Shows progress, given the total and a word for the activity; yields a function to advance it."""


class ExportRefused(Exception):
    """An export that cannot be made; the message says why, and what to type."""


class ExportSummary(Struct, frozen=True):
    """What an export contains, and what it had to leave out."""

    rows: dict[str, int]
    """Kind of record → number of rows."""
    clips: int
    clip_bytes: int
    gone: int
    """As in `reading.JournalPage`."""
    left_out: dict[str, int]
    """Cause → number of records that cannot be exported."""
    reasons: list[tuple[Cause, str, int]]
    """Cause, reason and number of records, for the `REASONS_MAX` most frequent reasons."""


class OrderedRow(Struct, frozen=True, gc=False):
    """A row with what its order says."""

    device: str
    receipt_is_contradicted: bool
    row: Row


class PartialExport:
    """What was read so far; see the module's docstring."""

    def __init__(self, target: Path, db: apsw.Connection) -> None:
        self.target = target
        self.files = _files(target)
        self._db = db
        ((request, version, last, trimmed, position),) = self._all(
            "SELECT request, version, last, trimmed, position FROM asked"
        )
        self.request = msgspec.json.decode(request, type=Request)
        self.version: str = version
        self.walk = Walk(last, trimmed, position)
        """The walk as it was when the export was opened."""

    def close(self) -> None:
        """Close the export, so that it can be resumed."""
        self._db.close()

    # ------------------------------------------------------------------ adding records

    def add(self, page: JournalPage, decoder: Decoder) -> None:
        """Add a page, all of it or nothing."""
        rows: list[tuple[str | int | bytes, ...]] = []
        clip_sizes: list[tuple[str, int]] = []
        for each in page.records:
            entry, record = each.entry, each.record
            path, size_bytes = self._audio(each, decoder)
            if path is not None:
                clip_sizes.append((path, size_bytes))
            rows.append(
                (
                    entry.offset,
                    each.index,
                    kind(record),
                    device_of(record.node, record.sensor_id),
                    (record.observed_at - EPOCH) // MICROSECOND,
                    record.place is not None,
                    record.time_source == "device",
                    entry.message.received_at_ms * 1000,
                    _encode(row(entry, each.index, record, path)),
                )
            )
        with needing_room(folder_of(self.target), self._db), self._db:
            self._db.executemany(
                'INSERT INTO row (offset, "index", kind, device, at_us, placed, own_time,'
                " received_us, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO clip (path, size_bytes) VALUES (?, ?)", clip_sizes
            )
            self._db.executemany(
                "INSERT INTO left_out VALUES (?, ?, ?, ?)", map(structs.astuple, page.left_out)
            )
            self._db.execute(
                "UPDATE asked SET position = ?, gone = gone + ?", (page.up_to, page.gone)
            )

    def _audio(self, read: ReadRecord, decoder: Decoder) -> tuple[str | None, int]:
        """Write the record's clip if it is part of the request; return its path and size."""
        record = read.record
        clip: Clip | None = getattr(record, "clip", None)
        wanted = self.request.audio and is_wanted(self.request, getattr(record, "species", None))
        if clip is None or not wanted:
            return None, 0
        audio = decoder.clip_bytes(read.entry.message, read.index)
        if audio is None:
            return None, 0
        return clips.write(self.files, record, clip, audio), len(audio)

    # ------------------------------------------------------------------ what was read

    def summary(self) -> ExportSummary:
        """Return what the export contains so far, and what was left out."""
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
        """Return all rows of one kind, in order of arrival."""
        select = 'SELECT content FROM row WHERE kind = ? ORDER BY offset, "index"'
        return (_decode(content) for (content,) in self._db.execute(select, (of_kind,)))

    def row_bytes_max(self, of_kind: str) -> int:
        """Return the size of the largest row of one kind, as it is kept here."""
        select = "SELECT coalesce(max(length(content)), 1) FROM row WHERE kind = ?"
        ((size_bytes,),) = self._all(select, of_kind)
        return int(size_bytes)

    def mark_contradicted(self) -> None:
        """Mark receipts that cannot be true, and put what has no other time beside what came then.

        It gives the same each time.
        """
        select = (
            "SELECT offset, received_us, max(own_time AND abs(received_us - at_us) <= ?)"
            " FROM row GROUP BY offset ORDER BY offset"
        )
        receipts = (
            ReceiveTime(offset, at_us, bool(agrees))
            for offset, at_us, agrees in self._db.execute(select, (DAY_US,))
        )
        contradictions = contradicted(receipts, (FIRST_RECEIPT - EPOCH) // MICROSECOND)
        with needing_room(folder_of(self.target), self._db), self._db:
            self._db.executemany(
                "UPDATE row SET contradicted = 1, at_us = iif(own_time, at_us, ?)"
                " WHERE offset BETWEEN ? AND ?",
                ((each.order_us, each.first_offset, each.last_offset) for each in contradictions),
            )

    def in_order(self) -> Iterator[OrderedRow]:
        """Return all rows, ordered by device and by when things happened."""
        self._db.execute(f"CREATE INDEX IF NOT EXISTS by_order ON row ({ORDER})")
        select = f"SELECT device, contradicted, content FROM row ORDER BY {ORDER}"  # noqa: S608
        return (
            OrderedRow(device, bool(contradicted), _decode(content))
            for device, contradicted, content in self._db.execute(select)
        )

    def first_placed(self, device: str) -> Row | None:
        """Return the first row of a device that says where it is."""
        rows = self._all(
            f"SELECT content FROM row WHERE device = ? AND placed ORDER BY {ORDER} LIMIT 1",  # noqa: S608
            device,
        )
        return _decode(rows[0][0]) if rows else None

    def keep_no_clips(self) -> None:
        """Keep no clips, except those that are passed to `keep` from now on."""
        self._db.execute("UPDATE clip SET kept = 0")

    def keep(self, path: str) -> None:
        """Keep a clip, because a row has it."""
        self._db.execute("UPDATE clip SET kept = 1 WHERE path = ?", (path,))

    def _all(self, sql: str, *bindings: str | int) -> list[Any]:
        return self._db.execute(sql, bindings).fetchall()

    # ------------------------------------------------------------------ files

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file of the export to write it from the beginning; at the end it is on disk."""
        with (self.files / name).open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Turn it into the folder that was asked for, without clips that no row has.

        These belong to records that a package has no table for, or were written just before a kill.
        """
        select_kept = "SELECT 1 FROM clip WHERE path = ? AND kept"
        for folder, _, names in os.walk(self.files / clips.FOLDER, topdown=False):
            for name in names:
                path = Path(folder, name)
                if not self._all(select_kept, path.relative_to(self.files).as_posix()):
                    path.unlink()
            sync(Path(folder))
        sync(self.files)
        self.close()
        try:
            self.files.rename(self.target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise _target_exists(self.target) from None
        sync(self.target.absolute().parent)
        shutil.rmtree(folder_of(self.target))


def begin(target: Path, request: Request, walk: Walk) -> PartialExport:
    """Begin an export; raise `ExportRefused` if `target` or an unfinished export of it exists."""
    if os.path.lexists(target):
        raise _target_exists(target)
    folder = folder_of(target)
    if _is_resumable(target):
        raise ExportRefused(
            f"{folder} is an export that was interrupted: `echo-ingest export {target} --resume` "
            "continues it; to start over, remove that folder"
        )
    try:
        # What was interrupted before it had anything, or after it was renamed, is removed.
        for leftover in folder.glob(f"{PROGRESS}*"):
            leftover.unlink()
        if folder.exists():
            folder.rmdir()
        folder.mkdir()
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise ExportRefused(
                f"{folder} already exists and is not an export; remove it, or name another folder"
            ) from None
        if error.errno != errno.ENOENT:
            raise
        raise ExportRefused(
            f"there is no folder {target.absolute().parent}; create it, or name another folder"
        ) from None
    db = _open(target)
    with needing_room(folder, db), db:
        db.execute(SCHEMA)
        db.execute(
            "INSERT INTO asked VALUES (?, ?, ?, ?, ?, 0)",
            (
                msgspec.json.encode(request).decode(),
                echo_ingest.__version__,
                walk.last,
                walk.trimmed,
                walk.position,
            ),
        )
    _files(target).mkdir()
    return PartialExport(target, db)


def resume_export(target: Path, journal: str) -> PartialExport:
    """Open an export that was interrupted; raise `ExportRefused` if there is none."""
    if os.path.lexists(target):
        raise _target_exists(target)
    folder = folder_of(target)
    if not _is_resumable(target):
        raise ExportRefused(
            f"there is no {folder} to continue; to begin a new export, leave out --resume"
        )
    partial = PartialExport(target, _open(target))
    if partial.request.journal != journal:
        raise ExportRefused(
            f"{folder} was begun with the journal {partial.request.journal}, but IOT_DATA_DIR now "
            f"leads to {journal}: change IOT_DATA_DIR, or remove that folder and start over"
        )
    if partial.version != echo_ingest.__version__:
        raise ExportRefused(
            f"{folder} was begun by echo-ingest {partial.version}, but this is version "
            f"{echo_ingest.__version__}, which may give other rows: remove that folder and start "
            "over"
        )
    return partial


def folder_of(target: Path) -> Path:
    """Return the folder of an unfinished export."""
    return target.with_name(target.name + SUFFIX)


def _files(target: Path) -> Path:
    return folder_of(target) / "files"


def _is_resumable(target: Path) -> bool:
    return _files(target).is_dir() and (folder_of(target) / PROGRESS).exists()


def _open(target: Path) -> apsw.Connection:
    """Open `progress.db` for this process only."""
    db = apsw.Connection(str(folder_of(target) / PROGRESS))
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL; BEGIN EXCLUSIVE; COMMIT")
    except apsw.BusyError:
        raise ExportRefused(
            f"another export is writing to {folder_of(target)}; wait until it ends"
        ) from None
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise ExportRefused(
            f"{folder_of(target)} is damaged ({error}); remove that folder and start over"
        ) from None
    return db


def _target_exists(target: Path) -> ExportRefused:
    return ExportRefused(f"{target} already exists; name another folder, or remove it")
