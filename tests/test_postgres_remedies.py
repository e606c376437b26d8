"""What a person is told to do about PostgreSQL's errors, by their codes."""

import asyncpg
import pytest

from echo_ingest.sinks.postgres import sqlstates


class Unwritable(asyncpg.InterfaceError, ValueError):  # type: ignore[misc]  # it has no types
    """As asyncpg's own, which it does not export, for a value that it cannot write down."""


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        (asyncpg.ConnectionFailureError, "goes on by itself once the server is reached"),
        (asyncpg.ReadOnlySQLTransactionError, "set IOT_POSTGRES_URL to the primary"),
        (asyncpg.InvalidPasswordError, "to a role that this server lets in"),
        (asyncpg.InvalidCatalogNameError, "create that database"),
        (asyncpg.SerializationError, ": the service goes on by itself"),
        (asyncpg.InsufficientPrivilegeError, "grant it as docs/postgresql.md says"),
        (asyncpg.UndefinedTableError, "rename the schema"),
        (asyncpg.DiskFullError, "its disk is full"),
        (asyncpg.TooManyConnectionsError, "let it take more connections"),
        (asyncpg.OutOfMemoryError, "give the server more resources"),
        (asyncpg.LockNotAvailableError, "let them finish"),
        (asyncpg.QueryCanceledError, "the server took too long"),
        (asyncpg.AdminShutdownError, "goes on by itself once the server is up"),
        (asyncpg.InternalServerError, "look into the server's log"),
    ],
)
def test_an_error_that_is_not_the_records_has_a_remedy(
    kind: type[asyncpg.PostgresError], remedy: str
) -> None:
    error = sqlstates.unavailable(kind("its own words"), "postgresql://here/echo")
    assert error is not None
    assert str(error).startswith("PostgreSQL says: its own words: ")
    assert remedy in str(error)
    assert sqlstates.refusal(kind("its own words")) is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (asyncpg.NumericValueOutOfRangeError("too large"), "refused it (22003)"),
        (asyncpg.CheckViolationError("no"), "refused it (23514)"),
        (asyncpg.RaiseError("a trigger says no"), "refused it (P0001)"),
        (Unwritable("not a date"), "cannot hold it: not a date"),
    ],
)
def test_what_the_server_will_never_take_is_the_records_own(error: Exception, words: str) -> None:
    assert words in str(sqlstates.refusal(error))


@pytest.mark.parametrize("error", [asyncpg.InterfaceError("closed"), ValueError("ours")])
def test_a_closed_connection_or_a_mistake_of_ours_is_no_refusal(error: Exception) -> None:
    assert sqlstates.refusal(error) is None
