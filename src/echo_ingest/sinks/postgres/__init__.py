"""PostgreSQL as a sink: how it writes, and what it promises.

One `write` is one transaction: COPY into the tables; where a record exists already, which is rare,
COPY into a temporary table and INSERT … ON CONFLICT DO NOTHING, by time and message key. So a
repeat changes nothing, whatever happened to the first attempt, and what is delivered is committed
and on disk (`synchronous_commit`).

- A message of which the server refuses a record is found by halving, within savepoints; the others
  are taken, and of it nothing.
- After any other error, and if the write is cancelled, the connection is dropped, and with it
  what was begun: nothing waits for a server that may never answer.
- Partitions are made ahead of time, and for each month that a batch has; where that cannot be done
  at once, rows go to the default partition, so that no row ever waits for a partition.

`rows` has what is written, `migrate` makes the tables, `errors` has what errors mean, and
docs/postgresql.md describes it all to people.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

import asyncpg
import structlog

from echo_ingest.columns import Row
from echo_ingest.settings.urls import postgres_address
from echo_ingest.sinks import Cause, Delivery, Refusal, Unavailable, Written, which_record
from echo_ingest.sinks.postgres import sqlstates, statements
from echo_ingest.sinks.postgres.migrate import is_current, migrate
from echo_ingest.sinks.postgres.months import MonthPartitions
from echo_ingest.sinks.postgres.rows import COLUMNS, node_rows, record_row, table_rows

CLOSE_SECONDS = 2.0
MIGRATE_SECONDS = 3600.0
MONTHS_AT_ONCE = 12
"""Each month takes a few dozen locks, of which the server has few."""
HALVING_SECONDS = 10.0
"""How long a batch is searched for refused records, before what is settled so far is committed."""

log = structlog.get_logger("postgres")


class Postgres:
    """The sink that takes records to one PostgreSQL database; satisfies `Sink`.

    `url` is a secret. A call that takes longer than `timeout_seconds` is given up, except a
    migration.
    """

    name = "postgres"
    batch_records_max = 1000
    is_idempotent = True

    def __init__(self, url: str, timeout_seconds: float = 30.0) -> None:
        self._url = url
        self.address = postgres_address(url)
        self._timeout_seconds = timeout_seconds
        self._connection: asyncpg.Connection | None = None
        self._months = MonthPartitions()

    # ------------------------------------------------------------------ the Sink protocol

    async def write(self, batch: Sequence[Delivery]) -> Written:
        """Settle the batch, or the part of it that can be searched for refused records in time."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._prepared()
        async with self._watching(self._connection, self._timeout_seconds):
            await self._make_months(self._connection, batch)
            await self._connection.execute(f"BEGIN; {statements.SAVE}")
            written = await _halve(self._connection, batch)
            await self._connection.execute("COMMIT")
            return written

    async def probe(self) -> None:
        """Find out if the database lets us in and has all that we need; change nothing.

        Raises `Unavailable` with the remedy.
        """
        async with self._for_once(self._timeout_seconds) as connection:
            if await is_current(connection):
                tables = ["nodes", *COLUMNS]
                lacking = [row[0] for row in await connection.fetch(statements.LACKING, tables)]
            else:
                may_create = await connection.fetchval(statements.MAY_CREATE)
                lacking = [] if may_create else ["CREATE ON DATABASE"]
        if lacking:
            raise Unavailable(
                f"the role lacks {', '.join(lacking)}: {sqlstates.GRANT}", cause=Cause.CREDENTIALS
            )

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with contextlib.suppress(TimeoutError, OSError, asyncpg.PostgresError):
                await self._connection.close(timeout=CLOSE_SECONDS)
            self._connection = None

    # ------------------------------------------------------------------ the schema

    async def migrate(self) -> list[str]:
        """Bring the schema up to date; return the files that were applied.

        Raises `Unavailable` with the remedy.
        """
        async with self._for_once(MIGRATE_SECONDS) as connection:
            return await migrate(connection)

    # ------------------------------------------------------------------ a batch

    async def _make_months(self, connection: asyncpg.Connection, batch: Sequence[Delivery]) -> None:
        observed = (record.observed_at for delivery in batch for record in delivery.records)
        missing = self._months.missing(observed, datetime.now(UTC))
        for first in range(0, len(missing), MONTHS_AT_ONCE):
            months = missing[first : first + MONTHS_AT_ONCE]
            try:
                await connection.execute(statements.MAKE_MONTHS, months)
            except asyncpg.LockNotAvailableError:
                log.info("partitions wait", reason="somebody reads …_other, so they are made later")
                self._months.postpone()
                break
            self._months.note(months)

    # ------------------------------------------------------------------ connections

    async def _prepared(self) -> asyncpg.Connection:
        """Connect, bring the schema up to date, and set the session up for writing."""
        connection = await self._connected()
        async with self._watching(connection, self._timeout_seconds):
            current = await is_current(connection)
        if not current:
            async with self._watching(connection, MIGRATE_SECONDS):
                await migrate(connection)
        async with self._watching(connection, self._timeout_seconds):
            await connection.execute(statements.SESSION.format(seconds=self._timeout_seconds))
        self._months = MonthPartitions()  # it may be another database than before
        return connection

    @contextlib.asynccontextmanager
    async def _for_once(self, seconds: float) -> AsyncIterator[asyncpg.Connection]:
        """Give a connection for the block alone."""
        connection = await self._connected()
        async with self._watching(connection, seconds):
            yield connection
            await connection.close()

    async def _connected(self) -> asyncpg.Connection:
        try:
            connection = await asyncpg.connect(
                self._url,
                timeout=self._timeout_seconds,
                server_settings={"application_name": "echo-ingest"},
            )
        except Exception as error:
            raise sqlstates.unavailable(error, self.address) or error from None
        async with self._watching(connection, self._timeout_seconds):
            if await connection.fetchval("SELECT pg_is_in_recovery()"):
                raise Unavailable(sqlstates.PRIMARY, cause=Cause.NO_PRIMARY)
        return connection

    @contextlib.asynccontextmanager
    async def _watching(
        self, connection: asyncpg.Connection, seconds: float
    ) -> AsyncIterator[None]:
        """Drop the connection if anything fails or takes too long; raise `Unavailable` for it."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except BaseException as error:
            connection.terminate()
            known = sqlstates.unavailable(error, self.address)
            if known is None:
                raise
            raise known from None


async def _halve(connection: asyncpg.Connection, batch: Sequence[Delivery]) -> Written:
    """Take the batch, or its halves where the server refuses it, down to what it refuses."""
    until = time.monotonic() + HALVING_SECONDS
    parts, count, refusals = [batch], 0, list[Refusal]()
    while parts and (count == 0 or time.monotonic() < until):
        part = parts.pop()
        refusal = await _take(connection, part, count)
        if refusal is not None and len(part) > 1:
            half = len(part) // 2
            parts += [part[half:], part[:half]]
            continue
        if refusal is not None:
            refusals.append(refusal)
        elif parts:
            await connection.execute(statements.SAVE)
        count += len(part)
    return Written(count, tuple(refusals))


async def _take(
    connection: asyncpg.Connection, part: Sequence[Delivery], index: int
) -> Refusal | None:
    """Take all of `part` and return None, or take none of it and return why the server refuses.

    `index` is the place of its first message in the batch.
    """
    tables, nodes = table_rows(part), node_rows(part)
    error = await _attempt(connection, _copy, tables, nodes)
    if isinstance(error, asyncpg.UniqueViolationError):
        error = await _attempt(connection, _copy_new, tables, nodes)
    if error is None:
        return None
    if len(part) == 1 and len(part[0].records) > 1:
        return await _refusal_of_several(connection, part[0], error, index)
    return sqlstates.refusal(error, index)


async def _refusal_of_several(
    connection: asyncpg.Connection, delivery: Delivery, error: Exception, index: int
) -> Refusal | None:
    """Return why the server refuses a message of several records, and which it is; write nothing.

    The first record that is refused is found by halving too.
    """
    first, end, count = 0, len(delivery.records), len(delivery.records)
    while end - first > 1:
        middle = (first + end) // 2
        if await _refused(connection, delivery, first, middle) is None:
            first = middle
        else:
            end = middle
    of_record = await _refused(connection, delivery, first, end)
    if of_record is None:  # it was refused for what it says about a node
        return sqlstates.refusal(error, index)
    return sqlstates.refusal(of_record, index, which_record(first, count))


async def _refused(
    connection: asyncpg.Connection, delivery: Delivery, first: int, end: int
) -> Exception | None:
    """Return the error that refuses the records from `first` to before `end`; write nothing."""
    tables: dict[str, list[Row]] = {}
    for index in range(first, end):
        table, row = record_row(delivery, index, delivery.records[index])
        tables.setdefault(table, []).append(row)
    error = await _attempt(connection, _copy_new, tables, ())
    if error is None:
        await connection.execute(statements.UNDO)
    return error


async def _attempt(
    connection: asyncpg.Connection,
    copy: Callable[[asyncpg.Connection, str, Sequence[Row]], Awaitable[None]],
    tables: Mapping[str, Sequence[Row]],
    nodes: Sequence[Row],
) -> Exception | None:
    """Write all rows and return None, or write none and return the error that refuses them."""
    try:
        for table, rows in tables.items():
            await copy(connection, table, rows)
        if nodes:
            await connection.fetch(statements.HEAR, *zip(*nodes, strict=True))
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        refused: Exception = error
        if sqlstates.refusal(refused) is None:
            raise
        await connection.execute(statements.UNDO)
        return refused
    return None


async def _copy(connection: asyncpg.Connection, table: str, rows: Sequence[Row]) -> None:
    """Copy into the table itself; an error if any row exists already."""
    await connection.copy_records_to_table(
        table, schema_name="echo", columns=COLUMNS[table], records=rows
    )


async def _copy_new(connection: asyncpg.Connection, table: str, rows: Sequence[Row]) -> None:
    """Copy by way of a temporary table the rows that do not exist yet."""
    await connection.execute(statements.STAGE[table])
    await connection.copy_records_to_table(
        statements.STAGED, schema_name="pg_temp", columns=COLUMNS[table], records=rows
    )
    await connection.execute(statements.UNSTAGE[table])
