"""What the tests share: the mosquitto programs that the promises hold for."""

import os
from pathlib import Path

import pytest

from echo_ingest.broker import find_mosquitto


@pytest.fixture(scope="session", params=["installed", "2.1"])
def mosquitto(request: pytest.FixtureRequest) -> Path:
    """A mosquitto program; what uses it runs once with each."""
    if request.param == "installed":
        return find_mosquitto(None)
    program = os.environ.get("TEST_MOSQUITTO_21")
    if program is None:
        pytest.skip(
            "set TEST_MOSQUITTO_21 to a mosquitto 2.1 program: "
            "`tests/mosquitto21 FOLDER` fetches one and prints its path"
        )
    return find_mosquitto(Path(program))
