"""What MongoDB's errors mean: that it refuses a record, or that it is unavailable, and the remedy.

Codes are those of MongoDB's `error_codes.yml`. An error of one write among many refuses its record;
all others, and those few codes that would come for any write, mean that MongoDB is unavailable.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)

from echo_ingest.settings.certificates import why_untrusted
from echo_ingest.sinks import Cause, Remedy, Unavailable
from echo_ingest.sinks.plain_text import one_line

SET_URL = "set IOT_MONGODB_URL"
TRUST = (
    "add tlsCAFile= to IOT_MONGODB_URL, with the path of a PEM file that has the certificate of "
    "the authority that signed it"
)
GRANT = "let the account find, insert and update in this database, as docs/mongodb.md says"
LOG_IN = (
    f"{SET_URL} to an account that this server lets in, with its password; if the account was made "
    "in another database, add ?authSource= and that database's name"
)
BY_ITSELF = "the service goes on by itself"
MAJORITY = (
    "a majority has not confirmed the write with its journal: check the other members of the set"
)


ELECTION = Remedy(
    Cause.NO_PRIMARY, "its primary is changing: the service goes on once there is one"
)
TRANSIENT = Remedy(Cause.UNREACHABLE, BY_ITSELF)
UNCONFIRMED = Remedy(Cause.NO_PRIMARY, MAJORITY)
REMEDIES = {
    6: TRANSIENT,
    7: TRANSIENT,
    13: Remedy(Cause.CREDENTIALS, GRANT),
    18: Remedy(Cause.CREDENTIALS, LOG_IN),
    50: Remedy(Cause.OVERLOADED, "the server took too long: look what else it does"),
    64: UNCONFIRMED,
    73: Remedy(Cause.MISCONFIGURED, f"{SET_URL} to a database whose name it takes"),
    79: Remedy(Cause.MISCONFIGURED, f"{SET_URL} to a server that knows w: majority"),
    89: TRANSIENT,
    91: ELECTION,
    100: UNCONFIRMED,
    112: Remedy(Cause.OVERLOADED, BY_ITSELF),
    189: ELECTION,
    262: Remedy(Cause.OVERLOADED, BY_ITSELF),
    8000: Remedy(Cause.CREDENTIALS, "the cluster's plan or account forbids it: change that there"),
    9001: TRANSIENT,
    10058: ELECTION,
    10107: ELECTION,
    11600: ELECTION,
    11602: ELECTION,
    13297: Remedy(
        Cause.MISCONFIGURED, f"{SET_URL} to the database in the case in which it was created"
    ),
    13435: ELECTION,
    13436: ELECTION,
    14031: Remedy(Cause.DISK_FULL, f"its disk is full: make room; {BY_ITSELF}"),
}
"""Codes that say nothing about a record."""
LOOK = "look into the server's log"
UNKNOWN = Remedy(Cause.ANSWERS_ERRORS, LOOK)
DETAILS = re.compile(r", full error: |, Timeout: | \(configured timeouts: ")
"""After these the driver describes its own state."""


def refusals(details: Mapping[str, Any]) -> dict[int, str]:
    """Return the reasons for which the server refused writes of a bulk, by their places in it.

    Raises `Unavailable` if one of its errors says nothing about a record.
    """
    errors = details["writeErrors"]
    not_of_records = [each for each in errors if each.get("code") in REMEDIES]
    for error in [*details["writeConcernErrors"], *not_of_records]:
        raise _answered(error)
    return {error["index"]: _refused(error) for error in errors}


def unavailable(error: PyMongoError | TimeoutError, address: str) -> Unavailable:
    """Return what to raise for an error that says nothing about a record."""
    match error:
        case ServerSelectionTimeoutError() | AutoReconnect() if untrusted := why_untrusted(
            error, TRUST
        ):
            return Unavailable(
                f"MongoDB at {address} cannot be trusted ({untrusted})", cause=Cause.MISCONFIGURED
            )
        case ServerSelectionTimeoutError():
            reason = one_line(DETAILS.split(str(error))[0])
            return Unavailable(
                f"no MongoDB at {address} ({reason}): is it running, with a primary, and "
                "IOT_MONGODB_URL its address?",
                cause=Cause.UNREACHABLE,
            )
        case NotPrimaryError():
            return Unavailable(
                f"MongoDB at {address} takes no writes: {ELECTION.text}", cause=ELECTION.cause
            )
        case NetworkTimeout() | TimeoutError():
            return Unavailable(
                f"MongoDB at {address} does not answer in time: {LOOK}", cause=Cause.NO_ANSWER
            )
        case AutoReconnect():
            return Unavailable(
                f"MongoDB at {address} closed the connection: {BY_ITSELF}", cause=Cause.UNREACHABLE
            )
        case WriteConcernError():
            return Unavailable(f"MongoDB at {address}: {MAJORITY}", cause=UNCONFIRMED.cause)
        case OperationFailure():
            message = (error.details or {}).get("errmsg") or str(error)
            return _answered({"code": error.code, "errmsg": message})
        case ConfigurationError():
            return Unavailable(
                f"{address} cannot be reached ({one_line(str(error))}): {SET_URL}",
                cause=Cause.MISCONFIGURED,
            )
        case _:
            return Unavailable(
                f"MongoDB at {address}: {one_line(str(error))}: {LOOK}",
                cause=Cause.ANSWERS_ERRORS,
            )


def _answered(error: Mapping[str, Any]) -> Unavailable:
    remedy = REMEDIES.get(error.get("code", 0), UNKNOWN)
    message = one_line(str(error.get("errmsg")))
    return Unavailable(
        f"MongoDB says: {message} ({error.get('code')}): {remedy.text}", cause=remedy.cause
    )


def _refused(error: Mapping[str, Any]) -> str:
    reason = f"MongoDB refused it ({error.get('code')}): {error.get('errmsg')}"
    rules = error.get("errInfo", {}).get("details")
    return one_line(
        f"{reason} {msgspec.json.encode(rules, enc_hook=str).decode()}" if rules else reason
    )
