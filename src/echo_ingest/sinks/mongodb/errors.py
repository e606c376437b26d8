"""What MongoDB's errors mean: one record's own trouble, or the world's, and what to do then.

Codes are those of MongoDB's `error_codes.yml`. An error of one write among many is that record's
own; all others, and those few codes that say the same of any write, are the world's.
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

from echo_ingest.sinks import Unavailable
from echo_ingest.sinks.echo_api.replies import one_line

SET_URL = "set IOT_MONGODB_URL"
GRANT = "let the account find, insert and update in this database, as docs/mongodb.md says"
LOG_IN = (
    f"{SET_URL} to an account that this server lets in, with its password; if the account was made "
    "in another database, add ?authSource= and that database's name"
)
PRIMARY = "its primary is changing: it goes on by itself once there is one"
BY_ITSELF = "it goes on by itself"
MAJORITY = "not confirmed by a majority with its journal: see to the other members of the set"

REMEDIES = {
    6: BY_ITSELF,
    7: BY_ITSELF,
    13: GRANT,
    18: LOG_IN,
    50: "the server took too long: see what else it does",
    64: MAJORITY,
    73: f"{SET_URL} to a database whose name it takes",
    79: f"{SET_URL} to a server that knows w: majority",
    89: BY_ITSELF,
    91: PRIMARY,
    100: MAJORITY,
    112: BY_ITSELF,
    189: PRIMARY,
    262: BY_ITSELF,
    8000: "the cluster's plan or account says no: see to it there",
    9001: BY_ITSELF,
    10058: PRIMARY,
    10107: PRIMARY,
    11600: PRIMARY,
    11602: PRIMARY,
    13297: f"{SET_URL} to the database in the case in which it was created",
    13435: PRIMARY,
    13436: PRIMARY,
    14031: f"its disk is full: make room; {BY_ITSELF}",
}
"""Codes that say nothing of a record → what to do."""
LOOK = "look into the server's log"
DETAILS = re.compile(r", full error: |, Timeout: | \(configured timeouts: ")
"""Behind these the driver speaks of its own state."""


def refusals(details: Mapping[str, Any]) -> dict[int, str]:
    """Which writes of a bulk the server refused, by their place, in its own words.

    Raises `Unavailable` if it says of any of them what is true of the world.
    """
    errors = details["writeErrors"]
    worldly = [each for each in errors if each.get("code") in REMEDIES]
    for error in [*details["writeConcernErrors"], *worldly]:
        raise Unavailable(_said(error))
    return {error["index"]: _refused(error) for error in errors}


def unavailable(error: PyMongoError | TimeoutError, address: str) -> Unavailable:
    """The world's trouble, with its remedy."""
    match error:
        case ServerSelectionTimeoutError():
            reason = one_line(DETAILS.split(str(error))[0])
            return Unavailable(
                f"no MongoDB at {address} ({reason}): is it running, with a primary, and "
                "IOT_MONGODB_URL its address?"
            )
        case NotPrimaryError():
            return Unavailable(f"MongoDB at {address} takes no writes: {PRIMARY}")
        case NetworkTimeout() | TimeoutError():
            return Unavailable(f"MongoDB at {address} does not answer in time: {LOOK}")
        case AutoReconnect():
            return Unavailable(f"MongoDB at {address} broke off: {BY_ITSELF}")
        case WriteConcernError():
            return Unavailable(f"MongoDB at {address}: {MAJORITY}")
        case OperationFailure():
            words = (error.details or {}).get("errmsg") or str(error)
            return Unavailable(_said({"code": error.code, "errmsg": words}))
        case ConfigurationError():
            return Unavailable(f"{address} cannot be reached ({one_line(str(error))}): {SET_URL}")
        case _:
            return Unavailable(f"MongoDB at {address}: {one_line(str(error))}: {LOOK}")


def _said(error: Mapping[str, Any]) -> str:
    remedy = REMEDIES.get(error.get("code", 0), LOOK)
    return f"MongoDB says: {one_line(str(error.get('errmsg')))} ({error.get('code')}): {remedy}"


def _refused(error: Mapping[str, Any]) -> str:
    said = f"MongoDB refused it ({error.get('code')}): {error.get('errmsg')}"
    rules = error.get("errInfo", {}).get("details")
    return one_line(
        f"{said} {msgspec.json.encode(rules, enc_hook=str).decode()}" if rules else said
    )
