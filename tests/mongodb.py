"""A MongoDB server for one test on 127.0.0.1, or one that is given.

`nx-27017` unless TEST_SECANTUSDB names the program of another, which comes closer to MongoDB
(`tests/secantusdb FOLDER` fetches it), or TEST_MONGODB_URL a server that runs already; there, all
happens in a database of ours.
"""

import contextlib
import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tests.server import Server

DATABASE = "echo_ingest_test"
GIVEN_URL = os.environ.get("TEST_MONGODB_URL")
SECANTUSDB = os.environ.get("TEST_SECANTUSDB")


def url(port: int) -> str:
    """Return the URL of our database at this port, or at the server that was given."""
    if GIVEN_URL is not None:
        return urlsplit(GIVEN_URL)._replace(path=f"/{DATABASE}").geturl()
    # Directly: a member of a set would name its own port, and nothing pass through a proxy. The
    # driver looks twice a second for a primary, instead of each ten seconds.
    options = "directConnection=true&heartbeatFrequencyMS=500"
    return f"mongodb://127.0.0.1:{port}/{DATABASE}?{options}"


def server(folder: Path, port: int, *options: str) -> Server:
    """Return a server that keeps its data below `folder`, even when it is killed."""
    folder.mkdir(exist_ok=True)
    (folder / "settings").touch()
    if SECANTUSDB is not None:
        command = [SECANTUSDB, "--config", str(folder / "settings"), "--enable-test-commands"]
        command += ["--storage-path", str(folder), *options]
    else:
        command = [str(Path(sys.executable).with_name("nx-27017")), "--data-dir", str(folder)]
        command += ["--pid-file", str(folder / "pid"), "--log-file", str(folder / "log")]
    return Server(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        lambda: _listens(port),
        log=folder / "output",
        cwd=folder,
    )


def _listens(port: int) -> bool:
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=1)):
        return True
