"""The memory limit that other tests rely on: it counts, and it kills."""

import signal
import subprocess
import sys

from tests import cgroup
from tests.harness import eventually
from tests.tools import without

LIMIT_BYTES = 64 * 2**20
TAKE = (
    "import sys; taken = b'x' * int(sys.argv[1]); print(len(taken), flush=True); sys.stdin.read()"
)


def test_what_is_over_the_limit_is_killed_and_what_is_below_is_counted() -> None:
    if (reason := cgroup.missing()) is not None:
        without(reason)
    with cgroup.MemoryGroup("test", LIMIT_BYTES) as group:
        small, large = (
            subprocess.Popen(
                [*group.enter, sys.executable, "-c", TAKE, str(size)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for size in (LIMIT_BYTES // 4, LIMIT_BYTES * 2)
        )
        with small, large:
            assert small.stdout is not None
            assert small.stdout.readline() == f"{LIMIT_BYTES // 4}\n"
            assert large.wait(20) == -signal.SIGKILL
            assert group.oom_kills == 1
            assert group.pids == [small.pid]
            assert LIMIT_BYTES // 4 < group.used_bytes < LIMIT_BYTES
            assert LIMIT_BYTES // 4 < group.peak_bytes <= LIMIT_BYTES
            small.kill()


def test_leaving_ends_what_still_runs() -> None:
    if (reason := cgroup.missing()) is not None:
        without(reason)
    with cgroup.MemoryGroup("test", LIMIT_BYTES) as group:
        left = subprocess.Popen([*group.enter, "tail", "-f", "/dev/null"])
        eventually(lambda: group.pids == [left.pid])
    assert left.wait(20) == -signal.SIGKILL
