"""A program that we start may outlive us, when we are killed: the next start has to know of it.

It holds a lock on a file with its number in it, so that the lock is free once it has gone. Whoever
else has the file open from us, ourselves included, holds the same lock.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

KILLED_SECONDS_MAX = 5.0
POLL_SECONDS = 0.05
NUMBER_BYTES = 20

log = structlog.get_logger("survivor")


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[int]:
    """The descriptor of the file, open and not locked yet; to be handed to the program."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def noting_number(lock: int) -> Callable[[], None]:
    """What the child does before it is the program: it notes its number, for the next start.

    Were that for us to do, and we were killed before we could, nobody would know whom to end.
    """
    # A number that stays from before would be that of a stranger. Written over rather than cut off:
    # that takes no room on a disk that has become full.
    os.pwrite(lock, b" " * NUMBER_BYTES, 0)

    def in_the_child() -> None:
        os.ftruncate(lock, os.pwrite(lock, str(os.getpid()).encode(), 0))

    return in_the_child


async def end_survivor(lock: int, program: str, stop_seconds_max: float) -> bool:
    """Take the lock; end the `program` of a parent that was killed, if it still has it.

    It gets so long to end in order and is killed then; False if it is there nevertheless.
    """
    if try_lock(lock):
        return True
    number = os.pread(lock, NUMBER_BYTES, 0).strip()
    for how, seconds_max in (
        (signal.SIGTERM, stop_seconds_max),
        (signal.SIGKILL, KILLED_SECONDS_MAX),
    ):
        if number.isdigit():
            log.warning(f"ending the {program} of a service that was killed", pid=int(number))
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(number), how)
        deadline = time.monotonic() + seconds_max
        while time.monotonic() < deadline:
            if try_lock(lock):
                return True
            await asyncio.sleep(POLL_SECONDS)
    return False


def try_lock(descriptor: int) -> bool:
    """Lock the file if nobody else has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
