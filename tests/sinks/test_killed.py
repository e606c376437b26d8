"""SIGKILL of the service in the middle of a batch: the next one goes on where it must."""

import asyncio
from pathlib import Path

import pytest

from tests.harness import Harness, free_port
from tests.proxy import Proxy
from tests.sinks.backend import Backend
from tests.sinks.delivering import Line, until
from tests.sinks.messages import messages

pytestmark = pytest.mark.slow


@pytest.mark.only(where=lambda backend: backend.has_server)
async def test_the_service_is_killed_in_the_middle(
    tmp_path: Path, backend: Backend, proxy: Proxy
) -> None:
    """At the first request, in the middle, and when only the last reply is missing."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    line = Line(data_dir, backend)
    line.append(messages(0, 60))
    line.close()
    harness = Harness(data_dir)
    harness.settings |= {
        "IOT_ENDPOINT": f"127.0.0.1:{free_port()}",  # no broker: what is stored is enough
        **backend.settings(proxy.port),
    }
    try:
        for upward, pieces in ((True, 2), (False, 4)):
            fell = proxy.strike(pieces, upward=upward, how="hold")
            service = harness.start("run")
            async with asyncio.timeout(20):
                await fell.wait()
            harness.kill(service)
            line.unsure += 1
            proxy.cut()
            proxy.release()
        service = harness.start("run")
        await until(lambda: line.figures.backlog == 0)
        assert await asyncio.to_thread(harness.stop, service) == 0
    finally:
        harness.close()
    await line.check()
    line.close()
