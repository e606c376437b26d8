"""Storage that forgets what was not synced: a tape of all that SQLite writes, and what cuts leave.

While `recording` is open, every connection that SQLite opens in this process writes through it. The
files, locks and shared memory are the real ones; beside that, each write, truncation, sync,
creation and deletion in the folder goes onto a `Tape`, in order. `Disk` plays a tape up to any
point, and `Disk.survivor` is what could be found there if the power failed at that moment.

What storage is taken to do, as SQLite takes it (sqlite.org/atomiccommit.html, section 2)
  - A sync makes all earlier writes to that file durable, and orders them before all later ones.
  - Until then each write and truncation is kept, lost or torn by itself, in any order; of a torn
    write each sector of 512 bytes is new, old, or rubbish.
  - Bytes that no write was meant for stay as they were ("powersafe overwrite").
  - A file's name is durable after a sync of its folder: SQLite does one with the first sync of each
    journal or WAL it opens (seen with strace). Until then each creation and deletion may be lost.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

import apsw

SECTOR_BYTES = 512
REAL_VFS = "unix"
NAMES_ITS_FOLDER = (
    apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
)


class Created(NamedTuple):
    name: str
    file: int


class Deleted(NamedTuple):
    name: str


class Wrote(NamedTuple):
    file: int
    offset: int
    data: bytes


class Truncated(NamedTuple):
    file: int
    size_bytes: int


class Synced(NamedTuple):
    file: int


class FolderSynced(NamedTuple):
    pass


class Noted(NamedTuple):
    """A note by the test; the storage does not know it."""

    text: str


Event = Created | Deleted | Wrote | Truncated | Synced | FolderSynced | Noted


class Tape:
    """All that happened to one folder since `start`, its files by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.start = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        self.events: list[Event] = []
        self._files = {name: number for number, name in enumerate(self.start)}
        self._next_file = len(self.start)

    def note(self, text: str) -> None:
        self.events.append(Noted(text))

    def opened(self, name: str) -> int:
        if name not in self._files:
            self._files[name] = self._next_file
            self._next_file += 1
            self.events.append(Created(name, self._files[name]))
        return self._files[name]

    def deleted(self, name: str) -> None:
        if self._files.pop(name, None) is not None:
            self.events.append(Deleted(name))


class _File(apsw.VFSFile):
    """A real file that tells the tape. It syncs nothing: the tape knows what would be durable."""

    def __init__(self, tape: Tape, name: str, filename: apsw.URIFilename | str, flags: list[int]):
        super().__init__(REAL_VFS, filename, flags)
        self._tape = tape
        self._file = tape.opened(name)
        self._syncs_folder = bool(
            flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & NAMES_ITS_FOLDER
        )

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._tape.events.append(Wrote(self._file, offset, bytes(data)))

    def xTruncate(self, size_bytes: int) -> None:
        super().xTruncate(size_bytes)
        self._tape.events.append(Truncated(self._file, size_bytes))

    def xSync(self, flags: int) -> None:
        self._tape.events.append(Synced(self._file))
        if self._syncs_folder:
            self._tape.events.append(FolderSynced())
            self._syncs_folder = False


class _Storage(apsw.VFS):
    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        super().__init__("lossy", REAL_VFS, makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        plain = Path((name.filename() if isinstance(name, apsw.URIFilename) else name) or "")
        if name is None or plain.parent != self._tape.folder:
            return apsw.VFSFile(REAL_VFS, name, flags)
        return _File(self._tape, plain.name, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, False)
        path = Path(filename)
        if path.parent == self._tape.folder:
            self._tape.deleted(path.name)
            if syncdir:
                self._tape.events.append(FolderSynced())


@contextlib.contextmanager
def recording(folder: Path) -> Iterator[Tape]:
    """Record what SQLite does to the files in `folder`; all connections must be closed inside."""
    tape = Tape(folder)
    storage = _Storage(tape)
    try:
        yield tape
    finally:
        storage.unregister()


@dataclass
class _Inode:
    durable: bytearray
    pending: list[Wrote | Truncated] = field(default_factory=list)


class Disk:
    """What is durable at one point of a tape, and what is not yet."""

    def __init__(self, start: Mapping[str, bytes]) -> None:
        self._inodes = {
            number: _Inode(bytearray(data)) for number, data in enumerate(start.values())
        }
        self._names = {name: number for number, name in enumerate(start)}
        self._pending_names: list[Created | Deleted] = []

    def play(self, event: Event) -> None:
        match event:
            case Wrote() | Truncated():
                self._inodes[event.file].pending.append(event)
            case Synced(file):
                inode = self._inodes[file]
                for change in inode.pending:
                    _apply(inode.durable, change)
                inode.pending.clear()
            case Created(_, file):
                self._inodes[file] = _Inode(bytearray())
                self._pending_names.append(event)
            case Deleted():
                self._pending_names.append(event)
            case FolderSynced():
                self._names = self._named(self._pending_names)
                self._pending_names.clear()
            case Noted():
                pass

    def survivor(self, rng: Random) -> dict[str, bytes]:
        """Return the files after a power cut at this moment; `rng` chooses one of many results."""
        kept_names = [change for change in self._pending_names if rng.random() < 0.5]
        return {
            name: _left_of(self._inodes[file], rng)
            for name, file in self._named(kept_names).items()
        }

    def _named(self, changes: list[Created | Deleted]) -> dict[str, int]:
        names = dict(self._names)
        for change in changes:
            if isinstance(change, Created):
                names[change.name] = change.file
            else:
                names.pop(change.name, None)
        return names


def _left_of(inode: _Inode, rng: Random) -> bytes:
    """Return what is durable, and of the rest all, nothing, a first part, or any in any order."""
    image = bytearray(inode.durable)
    fate = rng.choice(("all", "none", "first part", "any", "any"))
    if fate == "all":
        for change in inode.pending:
            _apply(image, change)
    elif fate == "first part" and inode.pending:
        end = rng.randrange(len(inode.pending))
        for change in inode.pending[:end]:
            _apply(image, change)
        _tear(image, inode.pending[end], rng)
    elif fate == "any":
        share = rng.random()
        kept = [change for change in inode.pending if rng.random() < share]
        if rng.random() < 0.5:
            rng.shuffle(kept)
        for change in kept:
            if rng.random() < 0.5:
                _apply(image, change)
            else:
                _tear(image, change, rng)
    return bytes(image)


def _apply(image: bytearray, change: Wrote | Truncated) -> None:
    if isinstance(change, Truncated):
        del image[change.size_bytes :]
        image.extend(bytes(change.size_bytes - len(image)))
        return
    end = change.offset + len(change.data)
    image.extend(bytes(max(0, change.offset - len(image))))
    image[change.offset : end] = change.data


def _tear(image: bytearray, change: Wrote | Truncated, rng: Random) -> None:
    """Apply some sectors of a write only; some of them come out as rubbish."""
    if isinstance(change, Truncated):
        return
    at, data = change.offset, change.data
    while data:
        size = min(SECTOR_BYTES - at % SECTOR_BYTES, len(data))
        fate = rng.random()
        if fate < 0.45:
            _apply(image, Wrote(change.file, at, data[:size]))
        elif fate < 0.55:
            _apply(image, Wrote(change.file, at, rng.randbytes(size)))
        at, data = at + size, data[size:]
