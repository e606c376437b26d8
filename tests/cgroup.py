"""A memory limit as Docker and Kubernetes set it: a cgroup for the processes of a test.

    with MemoryGroup("up", 1 << 30) as group:
        subprocess.Popen([*group.enter, "echo-ingest", "up"])
        ...
        assert group.oom_kills == 0

Versions 1 and 2 of cgroups are known. There is no swap inside, as in a pod: what does not fit is
killed.
"""

import contextlib
import os
import signal
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness import eventually

_ENTER = 'echo $$ >"$0" && exec "$@"'


class MemoryGroup:
    """A group of processes that share one memory limit; leaving it kills those that still run."""

    def __init__(self, name: str, limit_bytes: int) -> None:
        root = _root()
        if root is None:
            raise OSError("no memory cgroup can be made here")
        self.limit_bytes = limit_bytes
        self._is_v2 = (root / "cgroup.controllers").exists()
        self._folder = root / f"echo-ingest-{name}-{uuid.uuid4().hex[:8]}"

    def __enter__(self) -> Self:
        self._folder.mkdir()
        if self._is_v2:
            self._write("memory.max", self.limit_bytes)
            self._write_if_there("memory.swap.max", 0)
        else:
            self._write("memory.limit_in_bytes", self.limit_bytes)
            self._write_if_there("memory.memsw.limit_in_bytes", self.limit_bytes)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        eventually(self._is_empty)
        self._folder.rmdir()

    @property
    def enter(self) -> list[str]:
        """Return what stands before a command whose process shall be in the group."""
        return ["sh", "-c", _ENTER, str(self._folder / "cgroup.procs")]

    @property
    def pids(self) -> list[int]:
        """Return the processes that are in the group now."""
        return [int(line) for line in self._read("cgroup.procs").split()]

    @property
    def peak_bytes(self) -> int:
        """Return the most memory that was in use, with the page cache that the kernel may drop."""
        return int(self._read("memory.peak" if self._is_v2 else "memory.max_usage_in_bytes"))

    @property
    def used_bytes(self) -> int:
        """Return the memory in use now, without the files that the kernel may drop from it."""
        stat = dict(line.split() for line in self._read("memory.stat").splitlines())
        total = "" if self._is_v2 else "total_"
        files = sum(int(stat[f"{total}{name}_file"]) for name in ("active", "inactive"))
        used = int(self._read("memory.current" if self._is_v2 else "memory.usage_in_bytes"))
        return max(0, used - files)

    @property
    def oom_kills(self) -> int:
        """Return how many processes the kernel has killed because the limit was reached."""
        name = "memory.events" if self._is_v2 else "memory.oom_control"
        counts = dict(line.split() for line in self._read(name).splitlines())
        return int(counts["oom_kill"])

    def _is_empty(self) -> bool:
        """Kill what is left, also what that has started meanwhile."""
        left = self.pids
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    def _read(self, name: str) -> str:
        return (self._folder / name).read_text()

    def _write(self, name: str, value: int) -> None:
        (self._folder / name).write_text(str(value))

    def _write_if_there(self, name: str, value: int) -> None:
        if (self._folder / name).exists():
            self._write(name, value)


def missing() -> str | None:
    """Return why no memory limit can be set here; None if it can."""
    return None if _root() is not None else "limiting memory takes root and a memory cgroup"


def _root() -> Path | None:
    """Return the folder in which memory cgroups can be made."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, folder, kind, options, *_ = line.split()
        root = Path(folder)
        if not os.access(root, os.W_OK):
            continue
        if kind == "cgroup" and "memory" in options.split(","):
            return root
        if kind == "cgroup2" and "memory" in (root / "cgroup.controllers").read_text().split():
            with contextlib.suppress(OSError):  # EBUSY: processes are in it, as in a container
                (root / "cgroup.subtree_control").write_text("+memory")
                return root
    return None
