"""Supervise a process beside the line: start it, talk to it, restart it, end it in order.

A fault in such a process does not break the line, and its work does not hold up the line.
"""

import asyncio
import pickle
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import NoReturn

import structlog
from msgspec import Struct

from echo_ingest import metrics
from echo_ingest.backoff import delay_seconds
from echo_ingest.ipc import SILENT_SECONDS_MAX
from echo_ingest.process.orphans import pid_writer

STEADY_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.2

log = structlog.get_logger("service")


class ChildProcess(Struct, frozen=True):
    """What to run, and how."""

    name: str
    """The name for people: `web` or `delivery`."""
    module: str
    """The module that `python -m` runs."""
    lock: int
    """The descriptor of a locked file; the process holds the lock too for as long as it lives."""
    hand: Callable[[int], object]
    """Makes what the process is given at its start, from the descriptor of its socket."""
    speak: Callable[[socket.socket], Awaitable[bool]]
    """Talks to the process at our end of the sockets until it has gone. Returns False if the
    process does not respond and must be killed; what it raises ends the process, and us."""
    stop_seconds_max: float
    """How many seconds it may take to end in order."""
    pause_seconds_max: float
    """The longest pause before a restart, if it dies again and again."""
    passed: tuple[int, ...] = ()
    """Other descriptors that it inherits."""


async def keep_running(process: ChildProcess) -> NoReturn:
    """Keep the process running until cancelled; then end it in order."""
    rng = Random()  # noqa: S311 - jitter, not a secret
    attempt = 0
    while True:
        started_at = time.monotonic()
        how = await _run_once(process)
        lived_seconds = time.monotonic() - started_at
        metrics.RESTARTS.labels(process.name).inc()
        attempt = 1 if lived_seconds > STEADY_SECONDS else attempt + 1
        pause_seconds = delay_seconds(
            attempt, rng, first=FIRST_PAUSE_SECONDS, most=process.pause_seconds_max
        )
        log.error(
            f"{process.name} process ended",
            how=how,
            lived_seconds=round(lived_seconds, 1),
            again_in_seconds=round(pause_seconds, 1),
        )
        await asyncio.sleep(pause_seconds)


async def _run_once(process: ChildProcess) -> str:
    """Run the process until it ends, and say how it ended."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            program = await _start(process, theirs.fileno())
        except OSError as error:  # no memory, or too many processes: the line continues
            ours.close()
            return f"could not be started ({error.strerror})"
    ended = asyncio.create_task(program.wait())
    speaking = asyncio.ensure_future(process.speak(ours))
    try:
        await asyncio.wait((ended, speaking), return_when=asyncio.FIRST_COMPLETED)
        if speaking.done() and not speaking.result():
            program.kill()
            await ended
            return f"it did not respond for {SILENT_SECONDS_MAX:.0f} s and was killed"
    except BaseException:
        if program.returncode is None:
            program.terminate()  # it finishes its current work first
        raise
    finally:
        await asyncio.wait((ended,), timeout=process.stop_seconds_max)
        if not ended.done():
            log.error(
                f"{process.name} process does not stop: killed",
                waited_seconds=process.stop_seconds_max,
            )
            program.kill()
            await ended
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
    code = ended.result()
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


async def _start(process: ChildProcess, line: int) -> asyncio.subprocess.Process:
    handed = process.hand(line)
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", process.module),
        stdin=asyncio.subprocess.PIPE,
        pass_fds=(line, process.lock, *process.passed),
        process_group=0,  # Ctrl-C in a terminal reaches only us, and we end it
        preexec_fn=pid_writer(process.lock),
    )
    assert program.stdin is not None
    # It stays open: when it closes, the process knows that we have ended.
    program.stdin.write(pickle.dumps(handed))
    return program
