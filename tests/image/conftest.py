"""The image under test, and containers of it: `make image` builds the one and runs these tests."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.image.container import PASSWORDS, Container
from tests.image.engine import docker

Start = Callable[..., Container]


def _built(variable: str) -> str:
    if variable not in os.environ:
        pytest.skip("needs a built image: type `make image`")
    return os.environ[variable]


@pytest.fixture(scope="session")
def image() -> str:
    """Return the image as `docker build .` makes it: no password was given."""
    return _built("TEST_IMAGE")


@pytest.fixture(scope="session")
def previous_image() -> str:
    """Return the image that is to be replaced by it."""
    return _built("TEST_IMAGE_PREVIOUS")


@pytest.fixture(scope="session")
def network(image: str) -> Iterator[str]:
    """Make a network for all containers: Docker's own default one is not everywhere."""
    name = f"echo-ingest-{secrets.token_hex(4)}"
    docker("network", "create", name)
    yield name
    docker("network", "rm", name)


@pytest.fixture
def volume(image: str) -> Iterator[str]:
    """Make a volume for data that outlives containers."""
    name = f"echo-ingest-{secrets.token_hex(4)}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", name)


@pytest.fixture
def container(volume: str, image: str, network: str) -> Iterator[Start]:
    """Make containers, with the tests' passwords unless told otherwise, and remove them."""
    with ExitStack() as containers:

        def make(*command: str, **more: object) -> Container:
            of = str(more.pop("of", image))
            one = Container(of, network, *command, **(PASSWORDS | more))  # type: ignore[arg-type]
            containers.callback(one.close)
            return one

        yield make
