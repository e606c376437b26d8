"""The first half at its limits: what happens where there is no room."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from echo_ingest.ingest import pace
from tests.house import Device, House, eventually


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "data")
    yield house
    house.close()


def heartbeat(number: int) -> tuple[str, bytes]:
    fields = {"nodeId": f"n{number}", "status": "online " + "x" * 200, "timestamp": 1_795_000_000}
    return "iotingestion/n", json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("commit_seconds", "expected"),
    [
        (0.0002, (1_000, 0.005)),  # an SSD
        (0.005, (1_000, 0.005)),
        (0.02, (4_000, 0.02)),  # an SD card
        (5.0, (50_000, 0.25)),  # something is wrong with it; a quarter of a second is enough
    ],
)
def test_a_slow_disk_gets_larger_batches(
    commit_seconds: float, expected: tuple[int, float]
) -> None:
    assert pace(1_000, 0.005, commit_seconds) == expected


def test_a_long_linger_is_kept_to() -> None:
    assert pace(1_000, 1.0, 0.01) == (1_000, 1.0)


@pytest.mark.slow
def test_at_the_journals_cap_acknowledgements_stop_and_nothing_is_lost(house: House) -> None:
    house.settings["IOT_JOURNAL_BYTES_MAX"] = "500000"
    program = house.up()
    total = 3_000
    # The broker acknowledges: what it holds for us is what we have not acknowledged.
    Device(house.mqtt_port).publish([heartbeat(n) for n in range(total)])
    eventually(lambda: "journal" in house.http("/readyz")[1].get("problems", {}))
    assert "IOT_JOURNAL_BYTES_MAX" in house.http("/readyz")[1]["problems"]["journal"]
    stored = house.ledger()["stored"]
    assert 0 < stored < total
    page = house.http_bytes("/metrics").decode().splitlines()
    assert "echo_ingest_journal_blocked 1.0" in page
    assert "echo_ingest_journal_room_bytes 0.0" in page
    house.stop(program)
    house.settings["IOT_JOURNAL_BYTES_MAX"] = "0"
    house.up()
    eventually(lambda: house.ledger_now()["stored"] == total)
