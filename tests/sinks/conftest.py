"""Each backend in turn, its server started once; a store that is not installed is skipped,
but never where CI is set.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from echo_ingest.pipeline import deliver as deliver_room
from tests.proxy import Proxy
from tests.sinks.backend import Backend
from tests.sinks.backends import BACKENDS
from tests.sinks.delivering import Line
from tests.tools import without


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only(where): a promise of those backends alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        only = item.get_closest_marker("only")
        assert isinstance(item, pytest.Function)
        is_for = only is None or only.kwargs["where"](item.callspec.params["installed"])
        (kept if is_for else others).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = kept


@pytest.fixture(
    scope="session", params=BACKENDS, ids=lambda backend: f"{backend.name}.{backend.__name__}"
)
def installed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    backend: Backend = request.param(tmp_path_factory.mktemp(request.param.name))
    missing = backend.missing()
    if missing is not None:
        without(missing)
    yield backend
    backend.close()


@pytest.fixture
async def backend(installed: Backend) -> Backend:
    """Start the backend and empty it."""
    await installed.start()
    await installed.clear()
    return installed


@pytest.fixture
async def line(tmp_path: Path, backend: Backend) -> AsyncIterator[Line]:
    line = Line(tmp_path, backend)
    yield line
    line.close()


@pytest.fixture
async def proxy(backend: Backend) -> AsyncIterator[Proxy]:
    """Put a faulty network in front of the server."""
    proxy = Proxy(backend.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver_room, "delay_seconds", lambda attempt, rng: 0.02)
