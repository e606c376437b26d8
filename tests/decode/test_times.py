"""When it happened, in every way devices say it."""

from datetime import UTC, datetime

import pytest

from echo_ingest.record import Telemetry
from tests.decode.messages import message, reason, record

AT = datetime(2026, 9, 14, 5, 45, 12, tzinfo=UTC)
RECEIVED = datetime(2026, 9, 14, 5, 45, 12, 500_000, tzinfo=UTC)


def status(timestamp: object) -> dict[str, object]:
    return {"sensorId": "s", "status": "online", "timestamp": timestamp}


@pytest.mark.parametrize(
    ("timestamp", "meant"),
    [
        ("2026-09-14T05:45:12Z", AT),
        ("2026-09-14T05:45:12z", AT),
        ("2026-09-14t05:45:12", AT),
        ("2026-09-14 05:45:12", AT),
        (" 2026-09-14T05:45:12\n", AT),
        ("2026-09-14T15:45:12+10:00", AT),
        ("2026-09-14T15:45:12+1000", AT),
        ("20260914T054512Z", AT),
        ("2026-09-14T05:45:12.000001", AT.replace(microsecond=1)),
        ("2026-09-14T05:45:12.899243333Z", AT.replace(microsecond=899_243)),
        (1_789_364_712, AT),
        (1_789_364_712.25, AT.replace(microsecond=250_000)),
        (1_789_364_712_250, AT.replace(microsecond=250_000)),
        ("1789364712", AT),
        ("1971-01-01T00:00:00Z", datetime(1971, 1, 1, tzinfo=UTC)),
        ("1789364712.25", AT.replace(microsecond=250_000)),
        ("1789364712250", AT.replace(microsecond=250_000)),
    ],
)
def test_a_time_is_read_however_it_is_written(timestamp: object, meant: datetime) -> None:
    result = record(Telemetry, message(status(timestamp)))
    assert (result.observed_at, result.time_source) == (meant, "device")
    assert result.observed_at.tzinfo is UTC


@pytest.mark.parametrize(
    "timestamp",
    [
        None,
        0,
        17.5,
        "0",
        -5,
        "1970-01-01T00:03:20",
        "1970-01-01T00:00:00+10:00",
        "1969-12-31 23:59",
    ],
)
def test_a_clock_that_was_never_set_counts_as_no_time(timestamp: object) -> None:
    result = record(Telemetry, message(status(timestamp)))
    assert (result.observed_at, result.time_source) == (RECEIVED, "received")


@pytest.mark.parametrize(
    "timestamp",
    [
        "2026-09-14_05-45-12",
        "yesterday",
        "",
        "2026-09-14",
        "2026-02-30T00:00:00",
        "9" * 80,
        "²",
    ],
)
def test_what_is_no_time_is_refused_with_an_example(timestamp: str) -> None:
    assert "send one like 2026-09-14T05:45:12Z" in reason(status(timestamp))


@pytest.mark.parametrize(
    "timestamp",
    [
        10**15,
        -(10**15),
        "99999999999999999",
        "nan",
        10**30,
        10**400,
        -(10**400),
        "20260914054512",
        "2999-01-01T00:00:00",
        5e9,
    ],
)
def test_a_time_beyond_all_clocks_is_refused(timestamp: object) -> None:
    assert "not a time between the years" in reason(status(timestamp))
