"""What PostgreSQL's errors mean: this record's own trouble, or the world's, and what to do then.

Classes and codes of SQLSTATE are those of the PostgreSQL manual, appendix A.
"""

import asyncpg

from echo_ingest.sinks import Unavailable

RECORDS_OWN = ("22", "23", "44", "54", "P0")
"""Classes that speak of values: data, constraints, views, sizes, and triggers that object."""
REASON_CHARACTERS_MAX = 500

SET_URL = "set IOT_POSTGRES_URL"
PRIMARY = f"it only reads, as a standby does: {SET_URL} to the primary"
GRANT = (
    "grant it as docs/postgresql.md says, or run `echo-ingest migrate` as a role that may create "
    "tables"
)
REMEDIES = {
    "08": "it goes on by itself once the server is reached again",
    "25006": PRIMARY,
    "28": f"{SET_URL} to a role that this server lets in, with its password",
    "3D": f"create that database (createdb), or {SET_URL} to one that is there",
    "40": "it goes on by itself",
    "42501": GRANT,
    "42": "the schema echo is not as echo-ingest made it: take changes back, or put the schema "
    "aside (ALTER SCHEMA … RENAME) and let `echo-ingest migrate` make it anew",
    "53100": "its disk is full: make room; it goes on by itself",
    "53300": "let it take more connections (max_connections), or close some",
    "53": "give the server more room; it goes on by itself",
    "55P03": "somebody holds a lock on these tables (see pg_locks): let them finish",
    "57014": "the server took too long: see what else it does (pg_stat_activity)",
    "57": "it goes on by itself once the server is up",
}
"""SQLSTATE, or the class it begins with → what to do."""
LOOK = "look into the server's log"


def refusal(error: Exception) -> str | None:
    """Why the server will never take a record, in its own words; None if it is not the record."""
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        if not code.startswith(RECORDS_OWN):
            return None
        said = f"{error.message} ({error.detail})" if error.detail else str(error.message)
        return f"PostgreSQL refused it ({code}): {said}"[:REASON_CHARACTERS_MAX]
    # What cannot even be written down for the server: asyncpg's own word for it.
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return f"PostgreSQL cannot hold it: {error}"[:REASON_CHARACTERS_MAX]
    return None


def unavailable(error: BaseException, address: str) -> Unavailable | None:
    """The world's trouble, with its remedy; None if it is none of the world's."""
    match error:
        case Unavailable():
            return error
        case asyncpg.PostgresError():
            code = error.sqlstate or ""
            remedy = REMEDIES.get(code) or REMEDIES.get(code[:2]) or LOOK
            return Unavailable(f"PostgreSQL says: {error.message or error}: {remedy}")
        case TimeoutError():
            return Unavailable(f"PostgreSQL does not answer in time: {LOOK}")
        case asyncpg.InternalClientError():
            # How asyncpg takes it where a connection breaks while it is between two words.
            return Unavailable(f"the connection to PostgreSQL broke ({error}): {REMEDIES['08']}")
        case OSError() | asyncpg.InterfaceError():
            return Unavailable(
                f"no PostgreSQL at {address} ({error}): is it running, and IOT_POSTGRES_URL its "
                "address?"
            )
        case _:
            return None
