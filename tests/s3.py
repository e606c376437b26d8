"""S3 as moto speaks it, in processes on fixed ports.

moto keeps all it has in memory. So what is stopped, killed and frozen is a front of it: what was
confirmed stays, as with S3.
"""

import asyncio
import contextlib
import sys
from http.client import HTTPConnection
from pathlib import Path

import obstore
from obstore.store import ObjectStore, S3Store

from tests.harness import free_port
from tests.proxy import Proxy
from tests.server import Server

BUCKET = "reserve"
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "tests",
    "AWS_REGION": "us-east-1",
}


def objects(store: ObjectStore) -> dict[str, bytes]:
    """Return all objects of a store, by name."""
    names = [each["path"] for page in obstore.list(store) for each in page]
    return {name: bytes(obstore.get(store, name).bytes()) for name in names}


def clear(store: ObjectStore) -> None:
    for page in obstore.list(store):
        obstore.delete(store, [each["path"] for each in page])


class S3:
    """One bucket, reached with the settings in `environment`."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        self.behind = behind = free_port()
        """The port of the store itself, past the front."""
        self._moto = Server(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(behind)],
            lambda: _ask("GET", behind),
            log=log,
        )
        self.front = Server(
            [sys.executable, "-m", "tests.s3", str(self.port), str(behind)],
            lambda: _ask("GET", self.port),
            log=log,
            cwd=Path(__file__).parents[1],
        )

    def start(self) -> None:
        """Start it with what it had."""
        if not self._moto.is_running:
            self._moto.start()
            assert _ask("PUT", self.behind, f"/{BUCKET}") == 200
        if not self.front.is_running:
            self.front.start()

    def close(self) -> None:
        self.front.stop()
        self._moto.stop()

    def environment(self, port: int | None = None) -> dict[str, str]:
        """Return the URL that leads to it, or to a network in front of it."""
        return {**ACCOUNT, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}"}

    def store(self) -> S3Store:
        return S3Store(
            BUCKET,
            endpoint=f"http://127.0.0.1:{self.behind}",
            access_key_id="tests",
            secret_access_key="tests",
            client_options={"allow_http": True},
        )


def _ask(method: str, port: int, path: str = "/") -> int:
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request(method, path)
        return connection.getresponse().status


async def _front(port: int, upstream_port: int) -> None:
    proxy = Proxy(upstream_port)
    proxy.port = port
    await proxy.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_front(*map(int, sys.argv[1:])))
