"""The web process: started, given the port, answered, started again when it dies, ended last.

It is a process of its own so that nothing that anybody asks over HTTP can hold up the line, and
nothing that breaks there breaks it. We listen and it answers: while it is started again, whoever
comes waits instead of being turned away.
"""

import asyncio
import errno
import pickle
import signal
import socket
import sys
import time
from random import Random
from typing import NoReturn

import structlog

from echo_ingest import metrics
from echo_ingest.backoff import delay_seconds
from echo_ingest.intercom import SILENT_SECONDS_MAX, Answers, Handed, answer
from echo_ingest.log import log_level
from echo_ingest.settings import Settings, Tokens
from echo_ingest.survivor import noting_number

COMMAND = (sys.executable, "-P", "-m", "echo_ingest.web")
STOP_SECONDS_MAX = 6.0
STEADY_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.2
PAUSE_SECONDS_MAX = 5.0  # whoever asks for health waits for so long at most

log = structlog.get_logger("service")


class Door:
    """The web process of `settings`, which answers at `listener` with `answers`."""

    def __init__(
        self,
        settings: Settings,
        tokens: Tokens,
        listener: socket.socket,
        lock: int,
        answers: Answers,
    ) -> None:
        """`lock` is held, and by the web process too for as long as it lives."""
        self._settings = settings
        self._tokens = tokens
        self._listener = listener
        self._lock = lock
        self._answers = answers

    async def run(self) -> NoReturn:
        """Keep it running until cancelled; then end it in order."""
        rng = Random()  # noqa: S311
        attempt = 0
        while True:
            started_at = time.monotonic()
            how = await self._run_once()
            lived_seconds = time.monotonic() - started_at
            metrics.WEB_RESTARTS.inc()
            attempt = 1 if lived_seconds > STEADY_SECONDS else attempt + 1
            pause_seconds = delay_seconds(
                attempt, rng, first=FIRST_PAUSE_SECONDS, most=PAUSE_SECONDS_MAX
            )
            log.error(
                "web process ended",
                how=how,
                lived_seconds=round(lived_seconds, 1),
                again_in_seconds=round(pause_seconds, 1),
            )
            await asyncio.sleep(pause_seconds)

    async def _run_once(self) -> str:
        """Until it ends: how it did."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await self._start(theirs.fileno())
            except OSError as error:  # no memory, or no process more: the line goes on
                ours.close()
                return f"could not be started ({error.strerror})"
        ended = asyncio.create_task(process.wait())
        answering = asyncio.create_task(answer(ours, self._answers))
        try:
            await asyncio.wait((ended, answering), return_when=asyncio.FIRST_COMPLETED)
            if answering.done() and not answering.result():
                process.kill()
                await ended
                return f"it stood still for {SILENT_SECONDS_MAX:.0f} s, and was killed"
        except BaseException:
            if process.returncode is None:
                process.terminate()  # in order: it finishes the replies that it has begun
            raise
        finally:
            await asyncio.wait((ended,), timeout=STOP_SECONDS_MAX)
            if not ended.done():
                log.error("web process does not stop: killed", waited_seconds=STOP_SECONDS_MAX)
                process.kill()
                await ended
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
        code = ended.result()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    async def _start(self, line: int) -> asyncio.subprocess.Process:
        handed = Handed(self._settings, self._tokens, self._listener.fileno(), line, log_level())
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(handed.listener, handed.line, self._lock),
            process_group=0,  # Ctrl-C in a terminal is for us: it ends when we say so
            preexec_fn=noting_number(self._lock),
        )
        assert process.stdin is not None
        # It stays open: that it closes is how the web process sees our end.
        process.stdin.write(pickle.dumps(handed))
        return process


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; raises `OSError` in words if none can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        remedy = "set IOT_HTTP_PORT to a free port, or stop what listens there"
        if error.errno != errno.EADDRINUSE:
            remedy = (
                "set IOT_BIND to an address of this machine and IOT_HTTP_PORT to a port we may use"
            )
        raise OSError(
            f"HTTP cannot listen on {host} port {port} ({error.strerror}); {remedy}"
        ) from error
    # A reply is two writes; without this the second waits for the client's delayed acknowledgement.
    # asyncio sets it by itself only on sockets it has made.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
