"""The programs of a run: each a process of its own, started again at once when it ends."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_SECONDS_MAX = 90.0
RESTART_PAUSE_SECONDS = 0.05


class Program:
    """One process that is kept running: however it ends, it is started again, until `stop`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.starts = 0
        self.ends: list[tuple[float, int]] = []
        """Each end that we did not cause: when, in epoch seconds, and the exit code."""
        self._command = command
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._killed = False
        self._stopping = False
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._stopping = False
        await self._spawn()
        self._keeping = asyncio.create_task(self._keep())

    async def _spawn(self) -> None:
        self._killed = False
        self.starts += 1
        with self._log.open("a") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdout=output, stderr=output
            )

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            code = await self._process.wait()
            if self._stopping:
                return
            if not self._killed:
                self.ends.append((time.time(), code))
                await asyncio.sleep(RESTART_PAUSE_SECONDS)
            await self._spawn()

    @property
    def pid(self) -> int | None:
        """Return the id of the process that runs now."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def kill(self) -> bool:
        """Send SIGKILL; return False if there was nothing to kill."""
        if self._process is None or self._process.returncode is not None:
            return False
        self._killed = True
        return send(self._process.pid, signal.SIGKILL)

    async def stop(self) -> int:
        """Stop it for good and in order; return its exit code."""
        self._stopping = True
        assert self._process is not None
        assert self._keeping is not None
        if self._process.returncode is None:
            send(self._process.pid, signal.SIGCONT)
            send(self._process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await self._keeping
        except TimeoutError:
            send(self._process.pid, signal.SIGKILL)
        return await self._process.wait()


def mosquitto_of(data_dir: Path) -> int | None:
    """Return the mosquitto that runs in a data folder, whatever its parent is now."""
    folder = data_dir / "broker"
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / "mosquitto.pid").read_text())
        if Path(f"/proc/{pid}/cwd").resolve() == folder.resolve():
            return pid
    return None


def delivery_of(data_dir: Path) -> int | None:
    """Return the delivery process of a data folder, whatever its parent is now."""
    return _running(data_dir / "delivery.pid", b"echo_ingest.pipeline.deliver")


def proxy_of(data_dir: Path) -> int | None:
    """Return the proxy process of a data folder, whatever its parent is now."""
    return _running(data_dir / "proxy.pid", b"echo_ingest.proxy")


def _running(path: Path, module: bytes) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        pid = int(path.read_text())
        if module in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal; return False if the process does not exist any more."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
