"""The rows in the pages of a SQLite file, as far as they can be read, whatever else is broken.

SQLite gives up a tree where a page above the rows is gone, and a file where its first page is.
This reads pages one by one (https://sqlite.org/fileformat2.html, the numbers below are its
sections), from the file and from its WAL, and gives what parses; it knows of no table what its
columns mean. Nothing it gives can be trusted without a proof of its own. Nothing is written.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF = 2, 5, 10, 13
TREE_PAGES = (INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF)
PAGE_BYTES = 4096  # what our SQLite makes; a file header that says otherwise is damaged
OVERFLOW_BYTES = PAGE_BYTES - 4
LOCAL_BYTES_MIN = (PAGE_BYTES - 12) * 32 // 255 - 23
TABLE_LOCAL_BYTES_MAX = PAGE_BYTES - 35
INDEX_LOCAL_BYTES_MAX = (PAGE_BYTES - 12) * 64 // 255 - 23
HEADER_BYTES = 100
WAL_HEADER = struct.Struct(">8I")
FRAME_HEADER = struct.Struct(">6I")
FRAME_BYTES = FRAME_HEADER.size + PAGE_BYTES
WAL_MAGIC = 0x377F0682
INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)
COLUMNS_MAX = 100

Row = tuple[Any, ...]
Cell = tuple[int, Row] | None
"""A row and its rowid, or None for a place that is unreadable."""


class CorruptPage(Exception):
    """A page or a row is not what it must be."""


class WalFrame(Struct, frozen=True):
    """A page in the WAL (4.1)."""

    page: int
    position: int
    """Of its content in the file, in bytes."""
    is_commit: bool
    is_current: bool
    """Its salt is that of the header: it is not left over from before the WAL began anew."""
    is_whole: bool
    """It is current and its checksum follows from what the frame before says its own is."""


class WalHeader(Struct, frozen=True):
    """How the WAL begins (4.1)."""

    is_whole: bool
    byte_order: str
    salt: tuple[int, ...]
    checksum: tuple[int, int]


class SqlitePages:
    """The pages of a file and of its WAL: the newest version of each, and all versions."""

    def __init__(self, path: Path) -> None:
        """Open the files that exist; a missing file has no pages."""
        self._file = _open(path)
        self._wal = _open(path.with_name(path.name + "-wal"))
        self.count = -(-_size(self._file) // PAGE_BYTES)
        self._wal_header = _wal_header(self._wal)
        self.frames = list(_frames(self._wal, self._wal_header))
        last = max((n for n, frame in enumerate(self.frames, 1) if frame.is_commit), default=0)
        self._newest = {f.page: f.position for f in self.frames[:last] if f.is_whole}
        self.count = max([self.count, *self._newest])

    def close(self) -> None:
        """Close the files."""
        for file in (self._file, self._wal):
            if file is not None:
                os.close(file)

    def wal_is_cut(self) -> bool:
        """Return whether the WAL holds commits that SQLite ignores because of damage before them.

        A commit that a power loss cut off looks the same, but it is the last one: nothing is
        written after a commit before the commit is on disk. The header is written anew only after
        all of the WAL has been written back into the file.
        """
        if not self._wal_header.is_whole:
            return any(
                _read(self._wal, position) != _read(self._file, (number - 1) * PAGE_BYTES)
                for number, position in self._newest.items()
            )
        whole, commits = True, 0
        for frame in self.frames:
            whole = whole and frame.is_whole
            if not whole and commits and frame.is_current:
                return True
            commits += not whole and frame.is_commit and frame.is_whole
        return False

    def tree(self, root: int) -> Iterator[Cell]:
        """Yield the rows of a table by rowid (0 without one), and None for an unreadable page.

        A table WITHOUT ROWID gives its columns in the order of the file: the key's come first.
        """
        seen: set[int] = set()
        below = [root]
        while below:
            number = below.pop()
            if number in seen:
                yield None
                continue
            seen.add(number)
            page = self._page(number)
            start = HEADER_BYTES if number == 1 else 0
            if not page or page[start] not in TREE_PAGES:
                yield None
                continue
            if page[start] in (INDEX_INTERIOR, TABLE_INTERIOR):
                below.append(int.from_bytes(page[start + 8 : start + 12]))
                cells = reversed(_cells(page, start))
                below += [int.from_bytes(page[at : at + 4]) for at in cells]
            if page[start] != TABLE_INTERIOR:
                yield from self._rows(page, start)

    def leaves(self) -> Iterator[tuple[int, Row]]:
        """Yield the rows of all tables with rowids, from every page, also from unused ones.

        The newest pages come first. So old rows come too, and some of them more than once.
        """
        for number in range(2, self.count + 1):
            yield from self._leaf(self._page(number))
        for frame in reversed(self.frames):
            yield from self._leaf(_read(self._wal, frame.position))
        for number in self._newest:
            yield from self._leaf(_read(self._file, (number - 1) * PAGE_BYTES))

    def _leaf(self, page: bytes) -> Iterator[tuple[int, Row]]:
        if page and page[0] == TABLE_LEAF:
            yield from (row for row in self._rows(page, 0) if row is not None)

    def _page(self, number: int) -> bytes:
        """Return the newest version of a page, as it is on disk; empty if there is none."""
        if (position := self._newest.get(number)) is not None:
            return _read(self._wal, position)
        return _read(self._file, (number - 1) * PAGE_BYTES) if number else b""

    def _rows(self, page: bytes, start: int) -> Iterator[Cell]:
        kind = page[start]
        local_max = TABLE_LOCAL_BYTES_MAX if kind == TABLE_LEAF else INDEX_LOCAL_BYTES_MAX
        for position in _cells(page, start):
            try:
                at, rowid = position + (4 if kind == INDEX_INTERIOR else 0), 0
                size, at = _varint(page, at)
                if kind == TABLE_LEAF:
                    rowid, at = _varint(page, at)
                yield rowid, _columns(self._content(page, at, size, local_max))
            except (CorruptPage, IndexError):
                yield None

    def _content(self, page: bytes, at: int, size: int, local_max: int) -> bytes:
        """Return a row's bytes: those in its page, and those in overflow pages (1.6, 1.7)."""
        local = size
        if size > local_max:
            local = LOCAL_BYTES_MIN + (size - LOCAL_BYTES_MIN) % OVERFLOW_BYTES
            if local > local_max:
                local = LOCAL_BYTES_MIN
        if not 0 <= size <= self.count * PAGE_BYTES or at + local > PAGE_BYTES:
            raise CorruptPage
        parts = [page[at : at + local]]
        following = int.from_bytes(page[at + local : at + local + 4])
        rest = size - local
        while rest:
            overflow = self._page(following)
            if not overflow:
                raise CorruptPage
            following = int.from_bytes(overflow[:4])
            parts.append(overflow[4 : 4 + min(rest, OVERFLOW_BYTES)])
            rest -= len(parts[-1])
        return b"".join(parts)


def _open(path: Path) -> int | None:
    return os.open(path, os.O_RDONLY) if path.exists() else None


def _size(file: int | None) -> int:
    return os.fstat(file).st_size if file is not None else 0


def _read(file: int | None, position: int, size: int = PAGE_BYTES) -> bytes:
    """Read a page; zeros behind the end of the file, nothing where the disk cannot read."""
    if file is None:
        return b""
    try:
        return os.pread(file, size, position).ljust(size, b"\0")
    except OSError:
        return b""


def _cells(page: bytes, start: int) -> list[int]:
    """Where the cells of a page begin (1.6); those that point nowhere are left out."""
    pointers = start + (12 if page[start] in (INDEX_INTERIOR, TABLE_INTERIOR) else 8)
    count = int.from_bytes(page[start + 3 : start + 5])
    count = min(count, (PAGE_BYTES - pointers) // 2)
    positions = struct.unpack_from(f">{count}H", page, pointers)
    within = (at % PAGE_BYTES for at in positions)  # as SQLite does
    return [at for at in within if pointers <= at < PAGE_BYTES - 4]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return an integer of one to nine bytes, and the position where it ends (1.6)."""
    value = 0
    for end in range(at, at + 8):
        byte = data[end]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, end + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64) if value >> 63 else value, at + 9


def _columns(content: bytes) -> Row:
    """Return the values of a row (2.1)."""
    end, at = _varint(content, 0)
    types: list[int] = []
    while at < end and len(types) < COLUMNS_MAX:
        serial, at = _varint(content, at)
        types.append(serial)
    if at != end:
        raise CorruptPage
    values: list[object] = []
    for serial in types:
        if serial == 0:
            values.append(None)
        elif serial < len(INTEGER_BYTES):
            size = INTEGER_BYTES[serial]
            values.append(int.from_bytes(content[at : at + size], signed=True))
            at += size
        elif serial in (8, 9):
            values.append(serial - 8)
        elif serial >= 12:
            size = (serial - 12) // 2
            text = content[at : at + size]
            values.append(_text(text) if serial % 2 else text)
            at += size
        else:
            raise CorruptPage  # a fraction, which no column of ours is, or nothing that is known
    if at > len(content):
        raise CorruptPage
    return tuple(values)


def _text(text: bytes) -> str | bytes:
    """Text, or its bytes where they are none."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


def _wal_header(wal: int | None) -> WalHeader:
    """Return the header of the WAL (4.1); if it is damaged, what the first frame says."""
    start = os.pread(wal, WAL_HEADER.size + FRAME_HEADER.size, 0) if wal is not None else b""
    start = start.ljust(WAL_HEADER.size + FRAME_HEADER.size, b"\0")
    magic, _, page_bytes, _, *salt, sum_1, sum_2 = WAL_HEADER.unpack_from(start)
    order = ">" if magic == WAL_MAGIC + 1 else "<"
    chained = _checksum(struct.unpack_from(f"{order}6I", start), (0, 0))
    if magic & ~1 == WAL_MAGIC and page_bytes == PAGE_BYTES and chained == (sum_1, sum_2):
        return WalHeader(True, order, tuple(salt), chained)
    salt = list(FRAME_HEADER.unpack_from(start, WAL_HEADER.size)[2:4])
    return WalHeader(False, order, tuple(salt), (sum_1, sum_2))


def _frames(wal: int | None, header: WalHeader) -> Iterator[WalFrame]:
    """Every frame that fits into the WAL, and whether it may be believed (4.1, 4.2)."""
    words = struct.Struct(f"{header.byte_order}{PAGE_BYTES // 4}I")
    sums = header.checksum
    for position in range(WAL_HEADER.size, _size(wal) - FRAME_BYTES + 1, FRAME_BYTES):
        frame = _read(wal, position, FRAME_BYTES) or bytes(FRAME_BYTES)
        page, commit_pages, *salt, sum_1, sum_2 = FRAME_HEADER.unpack_from(frame)
        is_current = tuple(salt) == header.salt
        is_whole = False
        if is_current:
            before = _checksum(struct.unpack_from(f"{header.byte_order}2I", frame), sums)
            after = _checksum(words.unpack_from(frame, FRAME_HEADER.size), before)
            is_whole = after == (sum_1, sum_2)
        sums = sum_1, sum_2
        content = position + FRAME_HEADER.size
        yield WalFrame(page, content, bool(commit_pages), is_current, is_whole)


def _checksum(words: tuple[int, ...], sums: tuple[int, int]) -> tuple[int, int]:
    one, two = sums
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return one, two
