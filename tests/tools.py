"""Programs that only the tests need: `scripts/setup dev` installs them where it can."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

BIN = Path(__file__).parents[1] / ".venv" / "bin"


def tool(name: str) -> Path:
    """Return the program; without it the test is skipped on a laptop, and fails in CI."""
    path = shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}")
    if path is not None:
        return Path(path)
    without(f"{name} is not here; `scripts/setup dev` says what to type")


def without(reason: str) -> NoReturn:
    """Skip the test on a laptop because something is missing; fail it in CI."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    raise AssertionError("neither returns")
