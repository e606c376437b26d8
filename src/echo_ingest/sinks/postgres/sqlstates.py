"""What PostgreSQL's errors mean: that it refuses a record, or is unavailable, and the remedy.

Classes and codes of SQLSTATE are those of the PostgreSQL manual, appendix A.
"""

import ssl

import asyncpg

from echo_ingest.reasons import ReasonCode
from echo_ingest.settings.certificates import why_untrusted
from echo_ingest.sinks import Cause, Refusal, Remedy, Unavailable

RECORDS_OWN = ("22", "23", "44", "54", "P0")
"""Classes that are about values: data, constraints, views, sizes, and triggers that object."""
REASON_CHARACTERS_MAX = 500

SET_URL = "set IOT_POSTGRES_URL"
TRUST = (
    "add sslrootcert= to IOT_POSTGRES_URL, with the path of a PEM file that has the certificate of "
    "the authority that signed it"
)
PRIMARY = f"it only reads, as a standby does: {SET_URL} to the primary"
GRANT = (
    "grant it as docs/postgresql.md says, or run `echo-ingest migrate` as a role that may create "
    "tables"
)
BY_ITSELF = "the service goes on by itself"
REMEDIES = {
    "08": Remedy(Cause.UNREACHABLE, f"{BY_ITSELF} once the server is reached again"),
    "25006": Remedy(Cause.NO_PRIMARY, PRIMARY),
    "28": Remedy(
        Cause.CREDENTIALS, f"{SET_URL} to a role that this server lets in, with its password"
    ),
    "3D": Remedy(
        Cause.MISCONFIGURED, f"create that database (createdb), or {SET_URL} to one that exists"
    ),
    "40": Remedy(Cause.OVERLOADED, BY_ITSELF),
    "42501": Remedy(Cause.CREDENTIALS, GRANT),
    "42": Remedy(
        Cause.MISCONFIGURED,
        "the schema echo is not as echo-ingest made it: undo changes, or rename the schema (ALTER "
        "SCHEMA … RENAME) and let `echo-ingest migrate` make it anew",
    ),
    "53100": Remedy(Cause.DISK_FULL, f"its disk is full: make room; {BY_ITSELF}"),
    "53300": Remedy(
        Cause.OVERLOADED, "let it take more connections (max_connections), or close some"
    ),
    "53": Remedy(Cause.OVERLOADED, f"give the server more resources; {BY_ITSELF}"),
    "55P03": Remedy(
        Cause.OVERLOADED, "somebody holds a lock on these tables (see pg_locks): let them finish"
    ),
    "57014": Remedy(
        Cause.OVERLOADED, "the server took too long: see what else it does (pg_stat_activity)"
    ),
    "57": Remedy(Cause.UNREACHABLE, f"{BY_ITSELF} once the server is up"),
}
"""SQLSTATE, or the class it begins with → what to do."""
LOOK = "look into the server's log"
UNKNOWN = Remedy(Cause.ANSWERS_ERRORS, LOOK)


def refusal(error: Exception, index: int = 0, which: str = "") -> Refusal | None:
    """Return why the server never takes the message at `index`; None if that is not the reason.

    `which` names the record that it does not take, where there are several.
    """
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        if not code.startswith(RECORDS_OWN):
            return None
        message = f"{error.message} ({error.detail})" if error.detail else str(error.message)
        reason = f"{which}PostgreSQL refused it ({code}): {message}"[:REASON_CHARACTERS_MAX]
        return Refusal(index, reason, field=error.column_name)
    # asyncpg's own error for a value that it cannot even encode for the server.
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        reason = f"{which}PostgreSQL cannot hold it: {error}"[:REASON_CHARACTERS_MAX]
        return Refusal(index, reason, ReasonCode.NOT_SUPPORTED_BY_SINK)
    return None


def unavailable(error: BaseException, address: str) -> Unavailable | None:
    """Return what to raise for an error that says nothing about a record; None for one of ours."""
    match error:
        case Unavailable():
            return error
        case asyncpg.PostgresError():
            code = error.sqlstate or ""
            remedy = REMEDIES.get(code) or REMEDIES.get(code[:2]) or UNKNOWN
            return Unavailable(
                f"PostgreSQL says: {error.message or error}: {remedy.text}", cause=remedy.cause
            )
        case TimeoutError():
            return Unavailable(f"PostgreSQL does not answer in time: {LOOK}", cause=Cause.NO_ANSWER)
        case asyncpg.InternalClientError():
            # asyncpg raises this where a connection breaks between two of its steps.
            return Unavailable(
                f"the connection to PostgreSQL broke ({error}): {REMEDIES['08'].text}",
                cause=Cause.UNREACHABLE,
            )
        case OSError() | asyncpg.InterfaceError():
            if untrusted := why_untrusted(error, TRUST):
                return Unavailable(
                    f"PostgreSQL at {address} cannot be trusted ({untrusted})",
                    cause=Cause.MISCONFIGURED,
                )
            is_refused_by_tls = isinstance(error, ssl.SSLError)
            return Unavailable(
                f"no PostgreSQL at {address} ({error}): is it running, and IOT_POSTGRES_URL its "
                "address?",
                cause=Cause.MISCONFIGURED if is_refused_by_tls else Cause.UNREACHABLE,
            )
        case _:
            return None
