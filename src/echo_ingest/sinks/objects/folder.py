"""Objects as files in a folder, on disk before they count.

`obstore`'s own folder does not flush: a power cut could undo what had been settled. So a file is
written under another name, flushed, and renamed; its folder is flushed before the batch counts.

That is not `process.files.atomic_write`: many threads may write the same name at a time, so each
neighbour has a random name, and a folder is flushed once for a batch and not once for each file.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from echo_ingest.process.files import sync, why_unwritable
from echo_ingest.sinks import Cause, Unavailable

UNFINISHED = ".part"
FOLDERS_REMEMBERED = 10_000
THREADS = 8

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Folder:
    """A folder; files in it get mode 0600, folders 0700. Satisfies `ObjectStore`.

    The folder must exist: if it were created where a disk is not mounted, the clips would fill
    another disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # It has threads of its own: a network disk that hangs must not block other work.
        self._threads = ThreadPoolExecutor(THREADS, "objects")
        self._made: set[Path] = set()
        """Folders that exist, and that were or will be flushed with all folders above them."""
        self._unsure: set[Path] = set()
        """Folders in which a name may not be on disk yet."""

    async def put(self, name: str, content: bytes, content_type: str) -> int | None:
        """Write a file unless it exists; see `ObjectStore.put`. Its extension is its type."""
        return await self._in_thread(self._write, name, content)

    async def flush(self) -> None:
        """Return once all that was put is on disk."""
        folders = list(self._unsure)
        self._unsure.difference_update(folders)  # before the flush: what a thread adds must stay
        try:
            await asyncio.gather(*(self._in_thread(sync, folder) for folder in folders))
        except BaseException:
            self._unsure.update(folders)
            raise

    def close(self) -> None:
        """Begin nothing new."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------------ in a thread

    async def _in_thread(self, call: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, call, *arguments)
        except OSError as error:
            raise self._unavailable(error) from None

    def _write(self, name: str, content: bytes) -> int | None:
        path = self._path / name
        self._make(path.parent)
        self._unsure.add(path.parent)
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_size
        part = path.with_name(f".{secrets.token_hex(8)}{UNFINISHED}")
        try:
            with open(part, "xb", opener=_private) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        return None

    def _make(self, folder: Path) -> None:
        """Make sure that `folder` exists; its name is on disk after the next flush."""
        if folder == self._path or (folder in self._made and folder.is_dir()):
            return
        self._make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        self._unsure.add(folder.parent)
        if len(self._made) >= FOLDERS_REMEMBERED:
            self._made.clear()
        self._made.add(folder)

    def _unavailable(self, error: OSError) -> Unavailable:
        if (why := why_unwritable(self._path, error.errno)) is not None:
            return Unavailable(f"{why}; the service goes on by itself", cause=Cause.DISK_FULL)
        if not self._path.is_dir():
            return Unavailable(
                f"there is no folder {self._path}: mount its disk, or create it",
                cause=Cause.UNREACHABLE,
            )
        return Unavailable(
            f"{error.filename or self._path} cannot be written ({error.strerror}): make "
            f"{self._path} and all in it belong to the user that runs this",
            cause=Cause.CREDENTIALS,
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
