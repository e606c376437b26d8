"""A program that we start may outlive us if we are killed: the next start must find such an orphan.

The program holds a lock on a file that contains its process id; the lock is free once the program
has ended. Every process that inherited the open file from us, and we ourselves, share that lock.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

KILLED_SECONDS_MAX = 5.0
POLL_SECONDS = 0.05
PID_DIGITS_MAX = 20

log = structlog.get_logger("orphans")


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[int]:
    """Open the file, and yield its descriptor, not locked yet, to be handed to the program.

    Only its owner can open it, so nobody else can hold the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:  # of an earlier version
            os.fchmod(descriptor, 0o600)
        yield descriptor
    finally:
        os.close(descriptor)


def pid_writer(lock: int) -> Callable[[], None]:
    """Return what the child calls before it becomes the program: it writes down its process id.

    If we wrote it ourselves and were killed before we could, the next start would not know which
    process to end.
    """
    # An id that stayed from an earlier start could by now be that of an unrelated process. It is
    # overwritten rather than cut off, because that needs no space on a disk that has become full.
    os.pwrite(lock, b" " * PID_DIGITS_MAX, 0)

    def in_the_child() -> None:
        os.ftruncate(lock, os.pwrite(lock, str(os.getpid()).encode(), 0))

    return in_the_child


async def end_orphan(lock: int, program: str, stop_seconds_max: float) -> bool:
    """Take the lock; if a `program` whose parent was killed still holds it, end that first.

    The orphan gets `stop_seconds_max` to end in order, and is killed after that. Return False if it
    is still there even then.
    """
    if try_lock(lock):
        return True
    pid = _written_pid(lock)
    for number, seconds_max in (
        (signal.SIGTERM, stop_seconds_max),
        (signal.SIGKILL, KILLED_SECONDS_MAX),
    ):
        if pid is not None:
            log.warning(f"ending the {program} of a service that was killed", pid=pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + seconds_max
        while time.monotonic() < deadline:
            if try_lock(lock):
                return True
            await asyncio.sleep(POLL_SECONDS)
    return False


def running_child(lock: int) -> int | None:
    """Return the process id in the file, if that is a process which we started and which runs.

    An id by itself may be that of another program by now. Where there is no /proc, return None.
    """
    pid = _written_pid(lock)
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    parent = int(state.rpartition(")")[2].split()[1])
    return pid if parent == os.getpid() else None


def _written_pid(lock: int) -> int | None:
    text = os.pread(lock, PID_DIGITS_MAX, 0).strip()
    return int(text) if text.isdigit() else None


def try_lock(descriptor: int) -> bool:
    """Lock the file; return False if another process holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
