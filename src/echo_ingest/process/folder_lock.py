"""A lock on a folder: one process at a time changes what is in it."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from echo_ingest.process.orphans import try_lock

LOCK_SECONDS_MAX = 10.0
LOCK_POLL_SECONDS = 0.05


class FolderLocked(OSError):
    """Another program holds the lock on a folder for too long: which folder, and what to do."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep out all other changes in `folder` that take this lock. Raises `FolderLocked`.

    Where other users can read the folder, they can hold the lock: nobody waits for ever.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + LOCK_SECONDS_MAX
        while not try_lock(descriptor):
            if time.monotonic() > deadline:
                raise FolderLocked(
                    f"another program has held the lock on {folder} for {LOCK_SECONDS_MAX:.0f} s: "
                    "end it; if it is not yours, close the folder to other users (chmod 700)"
                )
            time.sleep(LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)
