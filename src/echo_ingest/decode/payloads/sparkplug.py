"""Sparkplug B: metrics of an edge node, as the Eclipse Foundation's version 3 specifies them.

Decoding has no memory, and Sparkplug relies on one in two places. A metric may have its name in the
message of its birth alone and a number, its alias, afterwards: then it is called `alias 7`. And it
may have its type there alone: then a whole number is taken as it is written, or as a negative one
where it has its highest bit.
"""

from collections.abc import Mapping
from typing import Any

from echo_ingest.decode.errors import DecodeError
from echo_ingest.decode.payloads.protobuf import Plain, Schema
from echo_ingest.reasons import ReasonCode

COMPRESSED = "SPBV1.0_COMPRESSED"
TYPES = (
    *("Unknown", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"),
    *("Float", "Double", "Boolean", "String", "DateTime", "Text", "UUID", "DataSet", "Bytes"),
    *("File", "Template"),
)
BITS = {"Int8": 8, "Int16": 16, "Int32": 32, "Int64": 64}
"""Signed types: they are written as the two's complement without a sign."""
UNSIGNED = frozenset(("UInt8", "UInt16", "UInt32", "UInt64", "DateTime"))
NO_NUMBERS = frozenset(("DateTime",))
"""Types whose values are whole numbers that measure nothing."""

_VALUES = (
    "10 int uint32?",
    "11 long uint64?",
    "12 float float?",
    "13 double double?",
    "14 boolean bool?",
    "15 string string?",
)
_SCHEMA = Schema(
    {
        "Payload": (
            "1 timestamp uint64?",
            "2 metrics Metric*",
            "3 seq uint64?",
            "4 uuid string?",
        ),
        "Metric": (
            "1 name string?",
            "2 alias uint64?",
            "3 timestamp uint64?",
            "4 datatype uint32",
            "5 is_historical bool",
            "6 is_transient bool",
            "7 is_null bool",
            "9 properties PropertySet",
            *_VALUES,
            "16 bytes bytes?",
        ),
        "PropertySet": ("1 keys string*", "2 values PropertyValue*"),
        "PropertyValue": (
            "1 datatype uint32",
            "2 is_null bool",
            "3 int uint32?",
            "4 long uint64?",
            "5 float float?",
            "6 double double?",
            "7 boolean bool?",
            "8 string string?",
        ),
    }
)


def read(payload: bytes, keys: Mapping[str, bytes]) -> Plain | None:
    """Read what an edge node says: its metrics in a list, and their values by name."""
    sent = _SCHEMA.read("Payload", payload)
    if sent is None:
        return None
    if sent.get("uuid") == COMPRESSED:
        raise DecodeError(
            ReasonCode.WRONG_TYPE,
            "the Sparkplug payload is compressed; have the edge node send it as it is",
        )
    metrics = [_metric(each, sent.get("timestamp")) for each in sent["metrics"]]
    return {
        "timestamp": sent.get("timestamp"),
        "seq": sent.get("seq"),
        "metrics": metrics,
        "values": {metric["name"]: metric["value"] for metric in metrics},
    }


def _metric(sent: Plain, timestamp: int | None) -> Plain:
    value, datatype = _value(sent), _datatype(sent)
    number = value
    if isinstance(value, str | bytes) or datatype in NO_NUMBERS:
        number = None
    elif isinstance(value, bool):
        number = int(value)
    properties = sent.get("properties", {"keys": [], "values": []})
    return {
        "name": sent.get("name") or (f"alias {sent['alias']}" if "alias" in sent else ""),
        "alias": sent.get("alias"),
        "timestamp": sent.get("timestamp", timestamp),
        "type": datatype,
        "value": value,
        "number": number,
        "historical": sent["is_historical"],
        "properties": dict(
            zip(properties["keys"], map(_value, properties["values"]), strict=False)
        ),
    }


def _datatype(sent: Plain) -> str:
    number: int = sent["datatype"]
    return TYPES[number] if number < len(TYPES) else str(number)


def _value(sent: Plain) -> Any:
    """Return the value of a metric or a property; None where it is null or no plain value."""
    if sent["is_null"]:
        return None
    datatype = _datatype(sent)
    for name, bits in (("int", 32), ("long", 64)):
        whole: int | None = sent.get(name)
        if whole is not None:
            return whole if datatype in UNSIGNED else _signed(whole, BITS.get(datatype, bits))
    return next(
        (sent[name] for name in ("float", "double", "boolean", "string", "bytes") if name in sent),
        None,
    )


def _signed(whole: int, bits: int) -> int:
    """Return the number of which the last `bits` bits are the two's complement."""
    whole &= (1 << bits) - 1
    return whole - (1 << bits) if whole >> (bits - 1) else whole
