"""A PostgreSQL server for one test: a cluster in a folder that is removed with it."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import asyncpg

from tests.harness import eventually, free_port
from tests.server import Server

PASSWORD = "kept from every log"
ACCOUNT = "postgres"
"""The account that the server runs as if we are root, since it refuses to run as root."""
DATABASE = "postgres"
"""The database that every cluster has."""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # the kernel survives these tests
    "full_page_writes": "off",
    "max_connections": "40",
    "timezone": "Australia/Melbourne",  # what is stored must not depend on it
}


def program(name: str) -> str | None:
    """Return where a program of PostgreSQL is: the newest of Debian's, else the one on `PATH`."""
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    newest_first = sorted(folders, key=lambda folder: int(folder.parent.name), reverse=True)
    path = os.pathsep.join([*map(str, newest_first), os.environ.get("PATH", "")])
    return shutil.which(name, path=path)


def missing() -> str | None:
    """Return what must be installed, and how; None if everything is there."""
    if program("initdb") is None:
        return "the server programs of PostgreSQL are missing: type scripts/setup dev"
    return None


class Cluster:
    """One server, and a folder of its own: where pytest's are, another account cannot go."""

    def __init__(self, **settings: str) -> None:
        """Choose a port and a folder; `settings` replace those that we give a server."""
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="echo-ingest-postgres-"))
        self._data = self.folder / "data"
        (password := self.folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (self.folder, password):
                os.chown(path, pwd.getpwnam(ACCOUNT).pw_uid, -1)
        self._call(
            *("initdb", f"--pgdata={self._data}", "--no-sync", "--encoding=UTF8", "--no-locale"),
            *(f"--username={ACCOUNT}", "--auth=scram-sha-256", f"--pwfile={password}"),
        )
        self.command = _command(
            *("postgres", "-D", str(self._data), "-p", str(self.port)),
            *(f"-c{name}={value}" for name, value in {**SETTINGS, **settings}.items()),
        )
        self._server = Server(
            self.command,
            self._is_ready,
            log=self.folder / "log",
            stop_signal=signal.SIGINT,  # its clients need not leave first
            cwd=self.folder,
        )

    def start(self) -> None:
        """Start the server."""
        if not self._server.is_running:
            eventually(self._start)

    def _start(self) -> bool:
        try:
            self._server.start()
        except RuntimeError as error:
            self._server.kill()
            raise AssertionError("one that was killed may hold its memory yet") from error
        return True

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        self._server.kill()

    def freeze(self) -> None:
        self._server.freeze()

    def thaw(self) -> None:
        self._server.thaw()

    def close(self) -> None:
        """Stop it and remove its files."""
        self._server.stop()
        shutil.rmtree(self.folder)

    def url(
        self, database: str, user: str = ACCOUNT, password: str = PASSWORD, port: int | None = None
    ) -> str:
        secret = password.replace(" ", "%20")
        return f"postgresql://{user}:{secret}@127.0.0.1:{port or self.port}/{database}"

    async def execute(self, database: str, *statements: str) -> None:
        """Execute each statement in its own transaction, as the superuser."""
        connection = await asyncpg.connect(self.url(database))
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    async def rows(self, database: str, query: str) -> list[tuple[Any, ...]]:
        """Return what a query finds, as the superuser; its times are in UTC."""
        connection = await asyncpg.connect(self.url(database))
        rows = [tuple(row) for row in await connection.fetch(query)]
        await connection.close()
        return rows

    def psql(self, database: str, script: str) -> str:
        """Return what a person sees who types it, as the superuser."""
        psql = program("psql")
        assert psql is not None
        return subprocess.run(
            [psql, "--no-psqlrc", "--quiet", "--pset=pager=off", self.url(database)],
            input=script,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def _is_ready(self) -> bool:
        return self._call("pg_isready", "--host=127.0.0.1", f"--port={self.port}") == 0

    def _call(self, *command: str) -> int:
        with (self.folder / "log").open("ab") as log:
            return subprocess.run(
                _command(*command), cwd=self.folder, stdout=log, stderr=log, check=False
            ).returncode


def _command(name: str, *arguments: str) -> list[str]:
    """Return the command line, run as an account that PostgreSQL accepts."""
    executable = program(name)
    assert executable is not None, missing()
    as_account = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"]
    return [*(as_account if os.geteuid() == 0 else []), executable, *arguments]
