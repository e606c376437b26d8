"""Events of ChirpStack 4 in protobuf, by the names that they have in its JSON.

https://github.com/chirpstack/chirpstack/blob/master/api/proto/integration/integration.proto
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from echo_ingest.decode.payloads.protobuf import Plain, Schema

NANOSECONDS = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECONDS_MAX = 253_402_300_799
"""The last second of the year 9999."""
LEVELS = ("INFO", "WARNING", "ERROR")
CODES = (
    *("UNKNOWN", "DOWNLINK_PAYLOAD_SIZE", "UPLINK_CODEC", "DOWNLINK_CODEC", "OTAA"),
    *("UPLINK_F_CNT_RESET", "UPLINK_MIC", "UPLINK_F_CNT_RETRANSMISSION", "DOWNLINK_GATEWAY"),
    *("RELAY_NEW_END_DEVICE", "F_CNT_DOWN", "EXPIRED"),
)

_WHICH = ("1 deduplicationId string", "2 time Timestamp", "3 deviceInfo DeviceInfo")
_MESSAGES = {
    "UplinkEvent": (
        *_WHICH,
        "4 devAddr string",
        "5 adr bool",
        "6 dr uint32",
        "7 fCnt uint32",
        "8 fPort uint32",
        "9 confirmed bool",
        "10 data bytes",
        "11 object Struct",
        "12 rxInfo UplinkRxInfo*",
        "13 txInfo UplinkTxInfo",
        "16 regionConfigId string",
    ),
    "StatusEvent": (
        *_WHICH,
        "5 margin int32",
        "6 externalPowerSource bool",
        "7 batteryLevelUnavailable bool",
        "8 batteryLevel float",
    ),
    "JoinEvent": (*_WHICH, "4 devAddr string", "7 regionConfigId string"),
    "LogEvent": (
        "1 time Timestamp",
        "2 deviceInfo DeviceInfo",
        "3 level uint32",
        "4 code uint32",
        "5 description string",
        "6 context string{}",
    ),
    "DeviceInfo": (
        "1 tenantId string",
        "2 tenantName string",
        "3 applicationId string",
        "4 applicationName string",
        "5 deviceProfileId string",
        "6 deviceProfileName string",
        "7 deviceName string",
        "8 devEui string",
        "9 tags string{}",
    ),
    "UplinkRxInfo": (
        "1 gatewayId string",
        "2 uplinkId uint32",
        "3 gwTime Timestamp",
        "6 rssi int32",
        "7 snr float",
        "8 channel uint32",
        "12 location Location",
        "15 metadata string{}",
    ),
    "Location": ("1 latitude double", "2 longitude double", "3 altitude double"),
    "UplinkTxInfo": ("1 frequency uint32",),
    "Timestamp": ("1 seconds int64", "2 nanos int32"),
    "Struct": ("1 fields Value{}",),
    "Value": (
        "2 number double?",
        "3 text string?",
        "4 truth bool?",
        "5 struct Struct",
        "6 list ListValue",
    ),
    "ListValue": ("1 values Value*",),
}


def _time(timestamp: Plain) -> object:
    """Return a time as ChirpStack's JSON has it; its seconds where no calendar has it."""
    seconds, nanos = timestamp["seconds"], timestamp["nanos"]
    if not (abs(seconds) <= SECONDS_MAX and 0 <= nanos < NANOSECONDS):
        return seconds
    try:
        moment = EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return seconds
    return f"{moment.replace(tzinfo=None).isoformat()}.{nanos:09}+00:00"


_SCHEMA = Schema(
    _MESSAGES,
    {
        "Timestamp": _time,
        "Struct": lambda struct: struct["fields"],
        "ListValue": lambda listed: listed["values"],
        # One of them is there, or none for null.
        "Value": lambda value: next(iter(value.values()), None),
    },
)


def _reader(kind: str) -> Callable[[bytes, Mapping[str, bytes]], Plain | None]:
    def read(payload: bytes, keys: Mapping[str, bytes]) -> Plain | None:
        event = _SCHEMA.read(kind, payload)
        if event is None or "deviceInfo" not in event:
            return None
        return event

    return read


read_uplink = _reader("UplinkEvent")
read_status = _reader("StatusEvent")
read_join = _reader("JoinEvent")


def read_log(payload: bytes, keys: Mapping[str, bytes]) -> Plain | None:
    """Read what the network says about a device, with its words for levels and codes."""
    event = _reader("LogEvent")(payload, keys)
    if event is not None:
        for field, words in (("level", LEVELS), ("code", CODES)):
            number = event[field]
            event[field] = words[number] if number < len(words) else str(number)
    return event
