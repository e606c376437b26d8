"""The files of an open journal: whether they are still where they were opened.

SQLite goes on writing to a file that was removed, replaced or moved away, and to one on a volume
that was unmounted. All of that is gone when the process ends. So what was written counts only if
the files are in their places afterwards. The journal's WAL belongs to it: without that file, what
was committed last is gone. Without the one with the locks (`-shm`), two processes would write at
the same time. A file that another program has overwritten keeps its place; it is recognised where
it has become shorter.
"""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

import apsw

from echo_ingest.journal.journal_file import JournalUnusable, needing_room
from echo_ingest.journal.recovery.detect import note_of
from echo_ingest.process.files import NEIGHBOUR_SUFFIX, sync

DELETED = " (deleted)"
RESCUE_STEP_PAGES = 256


class JournalGone(JournalUnusable):
    """The files that are open are not those of the journal any more; what is written is lost."""


class OpenFiles:
    """The files of the journal at `path`, as they are now that `db` has it open for writing."""

    def __init__(self, path: Path, db: apsw.Connection) -> None:
        self.gone: JournalGone | None = None
        """Why nothing may be written any more; it stays so even if the files come back."""
        self._path = path.absolute()
        self._db = db
        # Without access to its content: closing any other descriptor would end SQLite's locks.
        self._handle = os.open(path, os.O_PATH)
        self._folder = file_of(path.parent)
        self._files = {str(each): _inode(str(each)) for each in files_of(self._path)}
        self._bytes, self._pages = self._size()
        self._had_note = False
        self._is_whole = True
        """Whether the journal itself is in its place, whatever else is gone."""

    def close(self) -> None:
        """Let go of the file; once more does nothing, as with a connection of SQLite."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def require(self) -> None:
        """Raise `JournalGone`, with the remedy in its text, if a file is not in its place.

        It takes 5 µs, so it is asked for each batch.
        """
        if self.gone is None:
            for path, known in self._files.items():
                if _inode(path) != known:
                    self._is_whole = path != str(self._path)
                    self.gone = JournalGone(self._why(Path(path)))
                    break
        if self.gone is not None:
            raise self.gone

    def require_content(self) -> None:
        """Raise `apsw.CorruptError` if another program has made the journal shorter."""
        self._had_note = note_of(self._path).exists()
        size_bytes, pages = self._size()
        if size_bytes < self._bytes and pages >= self._pages:  # VACUUM takes pages away, too
            raise apsw.CorruptError(
                f"another program has overwritten it: it had {self._bytes:,} bytes, and has "
                f"{size_bytes:,}"
            )
        self._bytes, self._pages = size_bytes, pages

    def write_back(self) -> None:
        """Write all that is in the WAL to the journal itself, wherever that file is now.

        So a journal that was moved is complete without its WAL, and no WAL stays behind that
        SQLite would take for that of another journal at the same path.
        """
        with contextlib.suppress(apsw.Error):  # a disk that has failed altogether
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def forget_false_damage(self) -> None:
        """Remove the note on damage that a reader has left who missed the WAL.

        To be called when all is written back and closed: then the journal is whole.
        """
        if self.gone is not None and self._is_whole and not self._had_note:
            note_of(self._path).unlink(missing_ok=True)

    def rescue(self, copy: Path) -> Generator[None, None, None]:
        """Copy a journal that was removed, in steps of milliseconds; `copy` is there at the end.

        Nobody may write meanwhile, or it begins anew. Raises `JournalFull` or `OSError` if it
        cannot be written; then nothing is left behind.
        """
        unfinished = copy.with_name(copy.name + NEIGHBOUR_SUFFIX)
        unfinished.touch(mode=0o600)
        try:
            with contextlib.closing(apsw.Connection(str(unfinished))) as target:
                target.execute("PRAGMA synchronous = OFF")
                with target.backup("main", self._db, "main") as backup:
                    while not backup.done:
                        with needing_room(unfinished, target):
                            backup.step(RESCUE_STEP_PAGES)
                        yield
            sync(unfinished)
            unfinished.rename(copy)
            sync(copy.parent)
        finally:
            for each in files_of(unfinished):
                each.unlink(missing_ok=True)

    @property
    def may_be_rescued(self) -> bool:
        """Whether only the open file keeps what the journal holds, and its folder is still there.

        A folder that was removed with all that is in it is not made again.
        """
        return os.fstat(self._handle).st_nlink == 0 and self._has_folder()

    def _has_folder(self) -> bool:
        return file_of(self._path.parent) == self._folder

    def _size(self) -> tuple[int, int]:
        """Return how many bytes the file has, and how many pages the journal in it."""
        pages: int = self._db.execute("PRAGMA page_count").get
        return os.fstat(self._handle).st_size, pages

    def _why(self, missing: Path) -> str:
        if not self._has_folder():
            return (
                f"{self._path.parent} is not the folder any more in which the service started: it "
                "was moved, removed or replaced, or its volume was unmounted. Nothing more is "
                "acknowledged. Bring it back (mount the volume, or move the folder back) before "
                "you start again: without it, a start begins a new journal"
            )
        if missing != self._path:
            return (
                f"{missing} was removed or replaced while the service used it; it is a part of "
                f"the journal. Nothing more is acknowledged. What it held is in {self._path.name} "
                "now: start again, and leave the files of the journal alone while the service runs"
            )
        now_at = str(Path(f"/proc/self/fd/{self._handle}").readlink())
        what = "removed or replaced" if now_at.endswith(DELETED) else f"moved to {now_at}"
        return (
            f"{self._path} was {what} while the service used it. Nothing more is acknowledged. "
            "Bring the journal back before you start again: without it, a start begins a new one"
        )


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files of the SQLite database at `path`, while it is in use."""
    return path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def file_of(path: Path) -> str:
    """Return which file is at `path` now, by device and inode; empty if none can be reached."""
    inode = _inode(str(path))
    return "" if inode is None else "{}:{}".format(*inode)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)  # noqa: PTH116 - of a text it takes half the time
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
