"""What tests share: the mosquitto programs that the promises hold for, a small disk, PostgreSQL."""

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from echo_ingest.broker import find_mosquitto
from tests import postgres
from tests.tools import without

DISK_BYTES = 24 * 1024 * 1024
FILES_MAX = 20_000


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """Undo what a command that ran within the test has set for the log of the process."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session", autouse=True)
def _open_files() -> None:
    """Let a test have thousands of connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, FILES_MAX), hard))


@pytest.fixture(scope="session", params=["installed", "2.1"])
def mosquitto(request: pytest.FixtureRequest) -> Path:
    """Return a mosquitto program; what uses it runs once with each version."""
    if request.param == "installed":
        return find_mosquitto(None)
    program = os.environ.get("TEST_MOSQUITTO_21")
    if program is None:
        pytest.skip(
            "set TEST_MOSQUITTO_21 to a mosquitto 2.1 program: "
            "`tests/mosquitto21 FOLDER` fetches one and prints its path"
        )
    return find_mosquitto(Path(program))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of `DISK_BYTES` for one test."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(path)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[postgres.Cluster]:
    """Start a PostgreSQL server; skip if there is none, unless `CI` is set."""
    reason = postgres.missing()
    if reason is not None:
        without(reason)
    cluster = postgres.Cluster()
    cluster.start()
    yield cluster
    cluster.close()
