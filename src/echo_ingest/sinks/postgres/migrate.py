"""The schema: numbered files of SQL, each applied once, in a transaction of its own.

An advisory lock lets one process at a time apply them. The table `echo.migration` lists what was
applied, with the hash of each file: a file that was edited afterwards, or that a newer version has
applied, is an error with its remedy. `postgis.sql` is for databases that have the extension.
"""

import hashlib
from pathlib import Path

import asyncpg
import structlog
from msgspec import Struct

from echo_ingest.sinks import Cause, Unavailable

LOCK = "SELECT pg_advisory_xact_lock(1701013615, 1)"  # "echo"; the partitions have 2
# Not to_regclass, which may answer from a cache: it misses a table that was made while we waited.
HAS_BEGUN = """
    SELECT EXISTS (SELECT FROM pg_tables WHERE (schemaname, tablename) = ('echo', 'migration'))
"""

log = structlog.get_logger("postgres")


class Migration(Struct, frozen=True):
    """One file of SQL."""

    file: str
    sql: str
    extension: str | None
    """The extension that a database must have for it; None: every database gets it."""

    @property
    def sha256(self) -> str:
        """The hash of the text, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def _read() -> tuple[Migration, ...]:
    """Read all files in the order in which they are applied: by number, then for extensions."""
    return tuple(
        Migration(path.name, path.read_text(), None if path.name[0].isdigit() else path.stem)
        for path in sorted((Path(__file__).parent / "migrations").glob("*.sql"))
    )


MIGRATIONS = _read()


async def is_current(connection: asyncpg.Connection) -> bool:
    """Return whether each file for all databases is applied; raise `Unavailable` if they differ."""
    applied = await _applied(connection)
    return all(each.file in applied for each in MIGRATIONS if each.extension is None)


async def migrate(connection: asyncpg.Connection) -> list[str]:
    """Apply what is missing; return the names of the files. Raises `Unavailable`.

    After an exception the caller drops the connection, and with it what was begun.
    """
    done = []
    for migration in MIGRATIONS:
        await connection.execute(f"BEGIN; {LOCK}")
        if await _is_wanted(connection, migration):
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO echo.migration (file, sha256) VALUES ($1, $2)",
                migration.file,
                migration.sha256,
            )
            done.append(migration.file)
        await connection.execute("COMMIT")
    if done:
        log.info("migrated", files=done)
    return done


async def _is_wanted(connection: asyncpg.Connection, migration: Migration) -> bool:
    if migration.file in await _applied(connection):
        return False
    return migration.extension is None or bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = $1)", migration.extension
        )
    )


async def _applied(connection: asyncpg.Connection) -> set[str]:
    """Return the files that were applied; raise `Unavailable` if we do not have the same ones."""
    if not await connection.fetchval(HAS_BEGUN):
        return set()
    known = {each.file: each.sha256 for each in MIGRATIONS}
    applied = dict(await connection.fetch("SELECT file, sha256 FROM echo.migration ORDER BY file"))
    for file, sha256 in applied.items():
        if file not in known:
            raise Unavailable(
                f"the schema echo was made by a newer echo-ingest, which has applied {file}: "
                "install that version",
                cause=Cause.MISCONFIGURED,
            )
        if sha256 != known[file]:
            raise Unavailable(
                f"{file} is not as it was when it was applied to the schema echo: install "
                "echo-ingest anew, and put changes of your own into a schema of your own",
                cause=Cause.MISCONFIGURED,
            )
    return set(applied)
