"""A server for one test, as a process: stopped, killed, frozen and started again at will."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.harness import eventually

STOP_SECONDS_MAX = 20.0


class Server:
    """One program with its children, a process group of its own.

    `is_ready` is asked until it returns something true; it may raise what `eventually` passes over.
    """

    def __init__(
        self,
        command: Sequence[str],
        is_ready: Callable[[], object],
        *,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        cwd: Path | None = None,
    ) -> None:
        self._command = command
        self._is_ready = is_ready
        self._log = log
        self._environment = {**os.environ, **(environment or {})}
        self._stop_signal = stop_signal
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped or killed since; it may be frozen."""
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until it is ready; it must not run."""
        assert self._process is None, "it runs already"
        with (self._log or Path(os.devnull)).open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if self._log else None,
                start_new_session=True,
            )
        eventually(self._ready)

    def stop(self) -> None:
        """Stop it in order; it may have ended already."""
        if self._process is not None:
            self._signal(signal.SIGCONT)
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(STOP_SECONDS_MAX)
            finally:
                self.kill()

    def kill(self) -> None:
        """SIGKILL it and its children; it may have ended already."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Freeze it: it answers nothing any more, and its connections stay as they are."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on where it was frozen."""
        self._signal(signal.SIGCONT)

    def _ready(self) -> object:
        assert self._process is not None
        if self._process.poll() is not None:
            output = self._log.read_text(errors="replace")[-2_000:] if self._log else ""
            raise RuntimeError(
                f"{self._command[0]} ended with {self._process.returncode}:\n{output}"
            )
        return self._is_ready()

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group, and to the groups that its children have made."""
        assert self._process is not None
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:  # it has ended, or this is no Linux
            children = []
        for group in (pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)  # ours alone, or it is no group
