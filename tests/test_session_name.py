"""The name of our session: nobody can guess it, and an upgrade loses nothing that waits."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from echo_ingest.broker.session_name import (
    SessionName,
    can_be_guessed,
    endpoint_session_name,
    session_name,
    without_session_names,
)
from echo_ingest.journal import Journal
from echo_ingest.settings import Endpoint, EndpointEntry, Settings
from tests.harness import Device, Harness, eventually
from tests.plain_broker import PlainBroker

ELSEWHERE = Endpoint("mqtts", "iot.example.org", 8883)


def settings(data_dir: Path, **more: object) -> Settings:
    data_dir.mkdir(exist_ok=True)
    return Settings.model_validate({"data_dir": data_dir, "endpoint": str(ELSEWHERE), **more})


def name_in(data_dir: Path, *remembered: str, **more: object) -> SessionName:
    return session_name(settings(data_dir, **more), ELSEWHERE, remembered)


def test_a_name_elsewhere_is_derived_from_the_password_and_does_not_change_with_it(
    tmp_path: Path,
) -> None:
    """The part is the HMAC-SHA256 of the client id, by the password: `openssl dgst` says the same.

    printf echo-ingest | openssl dgst -sha256 -hmac "of ours"
    """
    first = name_in(tmp_path / "one", password="of ours")
    assert first.client_id == "echo-ingest-585b006cf63eff812ffb5567"
    assert name_in(tmp_path / "two", password="of ours") == first
    assert name_in(tmp_path / "three", password="another").client_id != first.client_id
    assert name_in(tmp_path / "one", password="renewed") == first
    other = name_in(tmp_path / "one", password="of ours", client_id="second")
    assert other.client_id.startswith("second-")
    assert not {*other.client_id.split("-")} & {*first.client_id.split("-")}
    for name in (first, other):
        secret = name.client_id.rpartition("-")[2]
        assert secret not in name.remembered_as
        assert secret not in repr(name)


def test_a_name_elsewhere_without_a_password_is_random_and_kept(tmp_path: Path) -> None:
    first = name_in(tmp_path / "one")
    assert name_in(tmp_path / "one") == first
    assert name_in(tmp_path / "two").client_id != first.client_id
    assert len(first.client_id) > len("echo-ingest-") + 20


def test_only_a_session_of_before_at_the_same_host_keeps_its_name(tmp_path: Path) -> None:
    before = "echo-ingest@mqtt://iot.example.org:1883"
    name = name_in(tmp_path, "other@mqtts://iot.example.org:8883", before)
    assert (name.client_id, name.remembered_as) == ("echo-ingest", before)
    assert name.can_be_guessed
    for unrelated in (
        "echo-ingest@mqtts://elsewhere.example.org:8883",
        "other@mqtts://iot.example.org:8883",
        "echo-ingest@unix:/data/broker/socket",
        "echo-ingest-*@mqtts://iot.example.org:8883",
    ):
        name = name_in(tmp_path, unrelated)
        assert name.client_id.startswith("echo-ingest-")
        assert not name.can_be_guessed
    kept = name_in(
        tmp_path, "ours-0fd5c19a74@mqtt://iot.example.org:1883", client_id="ours-0fd5c19a74"
    )
    assert (kept.client_id, kept.can_be_guessed) == ("ours-0fd5c19a74", False)


def test_the_name_at_an_endpoint_cannot_be_guessed_or_is_the_one_that_is_given(
    tmp_path: Path,
) -> None:
    entry = EndpointEntry(name="farm", url=ELSEWHERE, topic_filters=("a/#",), password="of ours")
    first = endpoint_session_name(settings(tmp_path / "one"), entry)
    assert first.client_id.startswith("echo-ingest-farm-")
    assert len(first.client_id) > len("echo-ingest-farm-") + 20
    assert endpoint_session_name(settings(tmp_path / "two"), entry) == first
    other = replace(entry, name="city")
    assert endpoint_session_name(settings(tmp_path / "one"), other).client_id not in first.client_id
    given = endpoint_session_name(settings(tmp_path / "one"), replace(entry, client_id="ours"))
    assert (given.client_id, given.remembered_as) == ("ours", first.remembered_as)
    for name in (first, given):
        assert name.client_id not in name.remembered_as
        main = name_in(tmp_path / "one", name.remembered_as, client_id="endpoint")
        assert main.client_id.startswith("endpoint-"), "it is no session of an earlier version"


@pytest.mark.parametrize(
    ("client_id", "guessed"),
    [
        ("echo-ingest", True),
        ("echo-ingest-2", True),
        ("otway-ingestion-2026", True),
        ("transmission", True),
        ("2026010112", True),
        ("echo-ingest-0fd5c19a74", False),
        ("4c1b1e0d8a4b4f0fd5c19a74", False),
    ],
)
def test_what_can_be_guessed_has_no_part_that_looks_random(client_id: str, guessed: bool) -> None:
    assert can_be_guessed(client_id) is guessed


def test_no_line_of_mosquitto_s_log_shows_the_name_of_a_session_of_ours() -> None:
    for line, shown in (
        (
            "New client connected from ::1:41 as echo-ingest-h2_9-zA (p5, c0, u'echo-ingest').",
            "New client connected from ::1:41 as echo-ingest-… (p5, c0, u'echo-ingest').",
        ),
        (
            "Client echo-ingest-0f.1_ already connected, closing old connection.",
            "Client echo-ingest-… already connected, closing old connection.",
        ),
        (
            "Client site7-broker-0123 [127.0.0.1:4] disconnected: bad socket read/write",
            "Client site7-… [127.0.0.1:4] disconnected: bad socket read/write",
        ),
        (  # of a service that the broker knows nothing of
            "Too high QoS in PUBLISH from 4c1b1e0d8a4b4f0fd5c19a74, disconnecting.",
            "Too high QoS in PUBLISH from …, disconnecting.",
        ),
        ("Client ridge-07 disconnected, not authorised.", None),
        ("Client not-echo-ingest-1 disconnected.", None),
    ):
        assert without_session_names(line, "site7") == (shown or line)


# ---------------------------------------------------------------------- with a real broker


@pytest.fixture
def elsewhere(mosquitto: Path, tmp_path: Path) -> Iterator[PlainBroker]:
    broker = PlainBroker(mosquitto, tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def harness(elsewhere: PlainBroker, tmp_path: Path) -> Iterator[Harness]:
    """Return a service whose broker is elsewhere."""
    port = elsewhere.ports["mqtt"]
    harness = Harness(tmp_path / "data", IOT_ENDPOINT=f"127.0.0.1:{port}")
    yield harness
    harness.close()


def publish(broker: PlainBroker, numbers: range) -> None:
    device = Device(broker.ports["mqtt"], None)
    device.publish(
        [("iotingestion/ridge-07", b'{"id": "m%d", "status": "on"}' % n) for n in numbers]
    )
    device.close()


def of_before(harness: Harness, broker: PlainBroker) -> None:
    """Leave what an earlier version leaves that has run: a session, and its name in the journal."""
    session = Device(broker.ports["mqtt"], None, client_id="echo-ingest", session_seconds=600)
    session.subscribe("iotingestion/#", at_least_once=True)
    session.close()
    harness.data_dir.mkdir()
    with closing(Journal(harness.data_dir / "journal.db")) as journal:
        journal.remember_session(f"echo-ingest@mqtt://127.0.0.1:{broker.ports['mqtt']}")


def run_and_stop(harness: Harness, **changed: str) -> None:
    before = dict(harness.settings)
    harness.settings |= changed
    program = harness.start("run")
    harness.wait_healthy(program)
    assert harness.stop(program) == 0
    harness.settings = before


@pytest.mark.slow
def test_a_client_with_our_default_name_discards_nothing_that_waits_for_us(
    elsewhere: PlainBroker, harness: Harness
) -> None:
    run_and_stop(harness)
    publish(elsewhere, range(10))
    Device(elsewhere.ports["mqtt"], None, client_id="echo-ingest").close()
    harness.wait_healthy(harness.start("run"))
    eventually(lambda: harness.ledger_now()["stored"] == 10)
    log = harness.log("run")
    assert "session lost" not in log
    assert "can be guessed" not in log


@pytest.mark.slow
def test_an_upgrade_gets_what_waits_under_the_name_of_before_and_says_how_to_change_it(
    elsewhere: PlainBroker, harness: Harness
) -> None:
    of_before(harness, elsewhere)
    publish(elsewhere, range(10))
    harness.wait_healthy(harness.start("run"))
    eventually(lambda: harness.ledger_now()["stored"] == 10)
    assert "session lost" not in harness.log("run")
    (warning,) = [line for line in harness.log("run").splitlines() if "can be guessed" in line]
    assert "set IOT_CLIENT_ID to another name" in warning
    done = harness.cli("check")
    assert done.returncode == 1
    (finding,) = [line for line in done.stdout.splitlines() if "can be guessed" in line]
    assert "set IOT_CLIENT_ID to another name" in finding


@pytest.mark.slow
def test_the_change_to_another_name_loses_nothing(elsewhere: PlainBroker, harness: Harness) -> None:
    """The steps are those that the warning names; a device publishes all the time."""
    of_before(harness, elsewhere)
    done, acknowledged = threading.Event(), 0

    def send() -> None:
        nonlocal acknowledged
        while not done.wait(0.01):
            publish(elsewhere, range(acknowledged, acknowledged + 1))
            acknowledged += 1

    sending = threading.Thread(target=send)
    sending.start()
    try:
        run_and_stop(harness)
        run_and_stop(harness, IOT_CLIENT_ID="otway")
        run_and_stop(harness)
        harness.settings["IOT_CLIENT_ID"] = "otway"
        harness.wait_healthy(harness.start("run"))
    finally:
        done.set()
        sending.join(30)
    eventually(lambda: harness.ledger_now()["stored"] == acknowledged)
    assert "can be guessed" not in harness.cli("check").stdout
