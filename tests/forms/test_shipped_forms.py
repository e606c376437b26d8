"""Each shipped form makes of its example what stands beside it."""

import json
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from echo_ingest.decode.forms import SHIPPED, Forms
from echo_ingest.decode.forms.interpret import DecodedByForm, differ_only_in_time
from echo_ingest.decode.forms.tracing import unread
from echo_ingest.decode.forms.trial import try_forms
from echo_ingest.decode.rules import Rules
from echo_ingest.record import Detection, Ignored, Measurement, Message, Telemetry

FORMS = Forms.of_folder(SHIPPED)
FOLDERS = sorted(SHIPPED.iterdir())


def example(folder: Path) -> tuple[Message, Rules, dict[str, object]]:
    expected = json.loads((folder / "expected.json").read_text())
    (file,) = folder.glob("example.*")
    received_at = datetime.fromisoformat(expected.pop("received_at"))
    zone = expected.pop("zone", None)
    message = Message(expected.pop("topic"), file.read_bytes(), int(received_at.timestamp() * 1000))
    return message, Rules(zone=ZoneInfo(zone) if zone else None), expected


def test_all_forms_can_be_read_and_are_called_as_their_folders() -> None:
    assert FORMS.errors == {}
    assert sorted(form.name for form in FORMS.forms) == [folder.name for folder in FOLDERS]
    for folder in FOLDERS:
        assert len(list(folder.iterdir())) == 3, folder
    for form in FORMS.forms:
        assert form.about, form.name


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_example_becomes_what_stands_beside_it(folder: Path) -> None:
    message, rules, expected = example(folder)
    made = FORMS.decode(message, rules)
    if isinstance(made, Ignored):
        assert expected == {"ignored": made.form}
    else:
        assert isinstance(made, tuple), made
        assert expected == {"records": msgspec.to_builtins(list(made))}
        assert {record.form for record in made} == {folder.name}
        assert all(record.time_problem is None for record in made)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_identity_does_not_depend_on_the_site(folder: Path) -> None:
    message, rules, _ = example(folder)
    elsewhere = Rules(zone=ZoneInfo("America/Lima"))
    assert FORMS.identify(message, rules) == FORMS.identify(message, elsewhere)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_no_example_gives_cause_for_a_warning(folder: Path) -> None:
    message, rules, _ = example(folder)
    words = " ".join(try_forms(FORMS, message, rules).warnings)
    assert "scale" not in words and "not believed" not in words


def test_what_nobody_reads_is_listed() -> None:
    message, rules, _ = example(SHIPPED / "birdnet-go-sound-level")
    fit = FORMS.fit(message)
    assert fit is not None
    assert unread(fit, message, rules) == ("nm", "dur", "b.*.f", "b.*.n", "b.*.x")
    message, rules, _ = example(SHIPPED / "birdnet-analyzer-selections")
    fit = FORMS.fit(message)
    assert fit is not None
    left = ("Selection", "View", "Channel", '"Begin Time (s)"', '"End Time (s)"', '"Species Code"')
    assert unread(fit, message, rules) == tuple(f"rows[].{name}" for name in left)


def test_a_frame_heard_by_two_gateways_is_one_message() -> None:
    message, rules, _ = example(SHIPPED / "meshtastic-telemetry")
    payload = json.loads(message.payload)
    payload |= {"rssi": -40, "sender": "!00000001"}
    elsewhere = Message(
        "msh/ANZ/2/json/LongFast/!00000001", json.dumps(payload).encode(), message.received_at_ms
    )
    one, other = FORMS.identify(message, rules), FORMS.identify(elsewhere, rules)
    assert one == other
    assert getattr(one, "scope", None) == "meshtastic-telemetry"


def test_two_gateways_that_hear_one_frame_say_the_same() -> None:
    message, rules, _ = example(SHIPPED / "things-stack-uplink")
    payload = json.loads(message.payload)
    reception = payload["uplink_message"]["rx_metadata"][0]
    reception |= {"rssi": -50, "time": "2026-10-04T20:30:12.650Z"}

    def decoded(payload: object) -> DecodedByForm:
        sent = Message(message.topic, json.dumps(payload).encode(), message.received_at_ms)
        made = FORMS.decoded(sent, rules, hashed=True)
        assert isinstance(made, DecodedByForm)
        return made

    one, other = decoded(json.loads(message.payload)), decoded(payload)
    assert one.records != other.records and differ_only_in_time(one, other)
    payload["uplink_message"]["decoded_payload"]["confidence"] = 0.5
    assert not differ_only_in_time(one, decoded(payload))


def test_stations_that_nobody_named_are_told_apart() -> None:
    message, rules, _ = example(SHIPPED / "birdnet-go-detection")
    payload = json.loads(message.payload) | {"BeginTime": "2026-10-05T07:29:09.5+11:00"}
    other = Message(message.topic, json.dumps(payload).encode(), message.received_at_ms)
    ids = {getattr(FORMS.identify(each, rules), "message_id", None) for each in (message, other)}
    assert len(ids) == 2


def test_an_older_version_of_birdnet_go_is_understood_too() -> None:
    message, rules, _ = example(SHIPPED / "birdnet-go-detection")
    payload = json.loads(message.payload) | {"EndTime": "0001-01-01T00:00:00Z"}
    del payload["detectionId"]
    sent = Message(message.topic, json.dumps(payload).encode(), message.received_at_ms)
    made = FORMS.decode(sent, rules)
    assert isinstance(made, tuple) and isinstance(made[0], Detection), made
    assert (made[0].form, made[0].ends_at) == ("birdnet-go-detection", None)
    assert made[0].time_source == "device"


def changed(folder: str, **values: object) -> object:
    """Return what becomes of an example whose fields, or those of its payload, are others."""
    message, rules, _ = example(SHIPPED / folder)
    payload = json.loads(message.payload) | values
    sent = Message(message.topic, json.dumps(payload).encode(), message.received_at_ms)
    return FORMS.decode(sent, rules)


def measured(made: object) -> dict[str, float]:
    assert isinstance(made, tuple), made
    return {each.name: each.value for each in made if isinstance(each, Measurement)}


def test_what_a_message_of_chirpstack_leaves_out_is_the_first_of_its_words_or_0() -> None:
    message, rules, _ = example(SHIPPED / "chirpstack-log")
    payload = json.loads(message.payload)
    del payload["level"], payload["code"]
    sent = Message(message.topic, json.dumps(payload).encode(), message.received_at_ms)
    made = FORMS.decode(sent, rules)
    assert isinstance(made, tuple) and isinstance(made[0], Telemetry), made
    assert (made[0].form, made[0].health.status) == ("chirpstack-log", "UNKNOWN")
    message, rules, _ = example(SHIPPED / "chirpstack-status")
    payload = json.loads(message.payload)
    del payload["margin"]
    sent = Message(message.topic, json.dumps(payload).encode(), message.received_at_ms)
    assert measured(FORMS.decode(sent, rules)) == {"link_margin_db": 0}


def test_the_voltage_of_the_mains_is_not_that_of_a_battery() -> None:
    assert measured(changed("zigbee2mqtt-device", voltage=2950))["battery_millivolts"] == 2950
    assert "battery_millivolts" not in measured(changed("zigbee2mqtt-device", voltage=231))


def test_the_voltage_that_a_sensor_measures_is_not_that_of_the_battery() -> None:
    sent = {"temperature": 11.4, "voltage": 17.9, "current": 120}
    made = changed("meshtastic-telemetry", payload=sent)
    assert measured(made) == {}
    assert isinstance(made, tuple) and made[0].health.temperature_celsius == 11.4
    powers = {"voltage_ch1": 12.6, "current_ch1": 80.5}
    assert measured(changed("meshtastic-telemetry", payload=powers)) == {"supply_1_volts": 12.6}


def test_a_node_that_sends_no_name_is_called_by_its_number() -> None:
    heard = {"species": "Crinia signifera", "confidence": 0.7}
    made = changed("meshtastic-detection", payload=heard)
    assert isinstance(made, tuple) and len(made) == 1
    assert made[0].sensor_id == made[0].node is not None


@pytest.mark.parametrize(("bits", "metres"), [(13, 2918), (19, 46), (32, None), (0, None)])
def test_a_place_that_a_channel_blurs_is_so_uncertain(bits: int, metres: float | None) -> None:
    place = {"latitude_i": -387_712_000, "longitude_i": 1_435_021_000, "precision_bits": bits}
    made = changed("meshtastic-position", payload=place)
    assert isinstance(made, tuple) and made[0].place is not None, made
    assert made[0].place.uncertainty_metres == metres


def test_what_people_write_is_passed_over_and_what_nodes_write_is_not() -> None:
    chat = {"text": "Is anybody at the pond?"}
    made = changed("meshtastic-detection", payload=chat)
    assert made == Ignored("meshtastic-talk")
    assert changed("meshtastic-detection", payload={"temp": 3}) is None
    assert changed("meshtastic-detection", payload={"text": "frog", "score": 0.5}) is None
