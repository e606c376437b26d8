"""Payloads of bytes become documents; what cannot be read is rejected, and keys stay secret."""

import json
import struct
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import invalidate_caches
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_ingest.decode.errors import DecodeError
from echo_ingest.decode.forms import SHIPPED, Form, Forms
from echo_ingest.decode.forms.reading import read as read_form
from echo_ingest.decode.payloads import GROUP, OURS, Payloads
from echo_ingest.decode.payloads.protobuf import MESSAGE_BYTES_MAX, VALUES_MAX, Schema
from echo_ingest.reasons import ReasonCode as Code
from echo_ingest.record import Detection, Ignored, Measurement, Message, Rejected, Telemetry
from tests.forms.binary_examples import (
    EXAMPLES,
    NODE,
    PUBLIC_KEY,
    SPECIES,
    decoded,
    encrypted,
    envelope,
    event,
    metric,
    packet,
    sparkplug,
    struct_of,
)
from tests.forms.test_forms_never_raise import check, steps
from tests.forms.trying import HEAD, NO_ZONE, RECEIVED_AT_MS
from tests.forms.wire_format import data, double, fixed, single, varint, whole

MESH = "msh/ANZ/2/e/Frogs/!a1b2c3d4"
KEY = bytes(range(32))
WITH_KEY = Forms.of_folder(SHIPPED, payloads=Payloads({"Frogs": KEY}))
WITHOUT = Forms.of_folder(SHIPPED)


def sent(payload: bytes, topic: str = MESH) -> Message:
    return Message(topic, payload, RECEIVED_AT_MS)


def document(name: str, payload: bytes) -> dict[str, object] | None:
    return Payloads({"Frogs": KEY}).reader(name)(payload)


def metrics(made: dict[str, object]) -> list[dict[str, object]]:
    found = made["metrics"]
    assert isinstance(found, list)
    return found


def refused(name: str, payload: bytes) -> Rejected:
    with pytest.raises(DecodeError) as error:
        document(name, payload)
    assert len(error.value.rejected.render()) <= 200
    return error.value.rejected


def test_the_examples_are_those_that_the_script_makes() -> None:
    for name, payload in EXAMPLES.items():
        assert (SHIPPED / name / "example.pb").read_bytes() == payload


# ---------------------------------------------------------------------- Meshtastic


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (KEY, KEY),
        (KEY[:16], KEY[:16]),
        (b"\1", PUBLIC_KEY),
        (b"\3", PUBLIC_KEY[:-1] + b"\3"),
        (b"\0", b""),
        (b"", b""),
        (b"frog", b"frog".ljust(16, b"\0")),
        (KEY[:20], KEY[:20].ljust(32, b"\0")),
    ],
)
def test_a_packet_is_decrypted_with_the_key_that_a_shorter_one_stands_for(
    given: bytes, used: bytes
) -> None:
    forms = Forms.of_folder(SHIPPED, payloads=Payloads({"Frogs": given}))
    made = forms.decode(sent(encrypted(1, SPECIES, channel="Frogs", key=used)), NO_ZONE)
    assert isinstance(made, tuple), made
    assert isinstance(made[0], Detection)
    assert (made[0].species, made[0].confidence) == ("Limnodynastes dumerilii", 0.74)


def test_a_packet_whose_key_is_not_known_is_rejected_and_can_be_read_later() -> None:
    message = sent(encrypted(1, SPECIES, channel="Frogs", key=KEY))
    rejected = WITHOUT.decode(message, NO_ZONE)
    assert rejected == WITHOUT.identify(message, NO_ZONE)
    assert isinstance(rejected, Rejected) and rejected.code == Code.NO_KEY
    assert '"Frogs", and it has no key here' in rejected.detail
    assert isinstance(WITH_KEY.decode(message, NO_ZONE), tuple)
    other = Forms.of_folder(SHIPPED, payloads=Payloads({"Frogs": KEY[::-1][:-1] + b"\1"}))
    rejected = other.decode(message, NO_ZONE)
    assert isinstance(rejected, Rejected) and "the key given for it is another" in rejected.detail


def test_a_key_with_the_same_sum_is_noticed_too() -> None:
    message = sent(encrypted(1, SPECIES, channel="Frogs", key=KEY))
    forms = Forms.of_folder(SHIPPED, payloads=Payloads({"Frogs": KEY[::-1]}))
    rejected = forms.decode(message, NO_ZONE)
    assert isinstance(rejected, Rejected) and rejected.code == Code.NO_KEY
    assert "cannot be decrypted" in rejected.detail
    forms = Forms.of_folder(SHIPPED, payloads=Payloads({"Frogs": KEY * 2}))
    rejected = forms.decode(message, NO_ZONE)
    assert isinstance(rejected, Rejected) and "has 64 bytes" in rejected.detail


def test_no_key_can_be_seen() -> None:
    fit = WITH_KEY.fit(sent(encrypted(1, SPECIES, channel="Frogs", key=KEY)))
    assert fit is not None and fit.form.match.reader is not None
    shown = f"{fit!r} {fit.form!r} {fit.form.match.reader!r} {WITH_KEY!r}"
    assert "meshtastic" in shown
    assert repr(KEY)[2:20] not in shown and KEY.hex() not in shown


def test_a_packet_that_two_gateways_publish_is_one_message() -> None:
    on_air = encrypted(1, SPECIES, channel="Frogs", key=KEY)
    one = WITH_KEY.identify(sent(on_air), NO_ZONE)
    other = WITH_KEY.identify(sent(decoded(1, SPECIES), "msh/ANZ/2/e/Frogs/!00000001"), NO_ZONE)
    assert one == other and getattr(one, "message_id", None) == f"{NODE}-771203345"


@pytest.mark.parametrize(
    "payload",
    [
        decoded(1, b"Is anybody at the pond?"),
        decoded(4, data(1, "!aabbccdd")),
        decoded(5, b"\x18\x05"),
        decoded(71, b"\x08\x05"),
        decoded(67, fixed(1, 1_791_145_810)),
        decoded(3, b""),
        envelope(data(5, b"\x00\x99\xff"), channel="PKI"),
        envelope(data(5, b"\x00\x99\xff") + whole(17, 1)),
    ],
)
def test_what_is_not_for_us_is_passed_over(payload: bytes) -> None:
    assert WITHOUT.decode(sent(payload), NO_ZONE) == Ignored("meshtastic-protobuf-talk")


def test_an_object_that_a_node_writes_is_not_passed_over() -> None:
    assert WITHOUT.decode(sent(decoded(1, b'{"label": "frog", "score": 0.5}')), NO_ZONE) is None


def test_the_gateway_that_hears_a_call_is_not_its_sensor() -> None:
    call = decoded(1, b'{"species": "Crinia signifera", "confidence": 0.7}')
    made = WITHOUT.decode(sent(call), NO_ZONE)
    assert isinstance(made, tuple) and len(made) == 1, made
    assert made[0].node == made[0].sensor_id == f"!{NODE:08x}"


def test_the_voltages_of_a_node_are_told_apart() -> None:
    for metrics, expected in (
        (data(2, single(2, 3.871)), {"battery_volts": 3.871}),
        (data(3, single(1, 11.4) + single(5, 17.9)), {}),
        (data(5, single(1, 12.6) + single(2, 80.5)), {"supply_1_volts": 12.6}),
    ):
        made = WITHOUT.decode(sent(decoded(67, metrics)), NO_ZONE)
        assert isinstance(made, tuple), made
        measured = {each.name: each.value for each in made if isinstance(each, Measurement)}
        assert measured == expected


def test_what_the_sensors_of_a_node_measure() -> None:
    environment = single(1, 11.4) + single(2, 87.5) + single(3, 981.2) + single(9, float("nan"))
    made = WITHOUT.decode(sent(decoded(67, data(3, environment))), NO_ZONE)
    assert isinstance(made, tuple)
    assert isinstance(made[0], Telemetry) and made[0].health.temperature_celsius == 11.4
    measured = {each.name: each.value for each in made if isinstance(each, Measurement)}
    assert measured == {"humidity_percent": 87.5, "pressure_hpa": 981.2}


def test_what_is_broken_within_a_packet_is_told() -> None:
    assert refused("meshtastic", decoded(67, b"\x0d\1")).code == Code.WRONG_TYPE
    assert refused("meshtastic", decoded(4, data(1, b"\xff"))).code == Code.WRONG_TYPE
    twice = b'{"species": "a", "species": "b"}'
    assert refused("meshtastic", decoded(1, twice)).code == Code.AMBIGUOUS_KEY
    assert refused("meshtastic", decoded(1, b'{"a":' * 32 + b"1" + b"}" * 32)).code == (
        Code.TOO_COMPLEX
    )


@pytest.mark.parametrize(
    "payload",
    [
        *(b"{}", b"online", b"\xff", data(2, "LongFast"), data(1, b"")),
        data(1, fixed(1, NODE)),
        data(1, fixed(1, NODE) + data(4, packet(1, b"x"))) + data(2, b"\xff\xfe"),
    ],
)
def test_what_is_no_packet_is_left_to_other_forms(payload: bytes) -> None:
    assert document("meshtastic", payload) is None
    assert WITHOUT.decode(sent(payload), NO_ZONE) is None


def test_what_has_no_form_of_ours_can_have_one_of_the_site() -> None:
    form = (
        'name = "try"\n[match]\ntopic = "msh/#"\npayload = "meshtastic"\n'
        'where = "port == `256`"\n[layout]\nfrom = "payload.bytes"\nitems = ["b:u8", "_:u8"]\n'
        '[[record]]\nkind = "telemetry"\nbattery_percent = "$bytes.b"\n'
    )
    forms = Forms.of_sources([("try.toml", form.encode())])
    assert not forms.errors, forms.errors
    made = forms.decode(sent(decoded(256, b"\x51\x00")), NO_ZONE)
    assert isinstance(made, tuple) and isinstance(made[0], Telemetry)
    assert made[0].health.battery_percent == 81


# ---------------------------------------------------------------------- ChirpStack


def test_an_object_of_a_codec_keeps_its_values() -> None:
    # An object in an object, null, a truth, and a list of a number and a text.
    inner = data(5, data(1, data(1, "n") + data(2, whole(1, 0))))
    several = data(6, data(1, double(2, 1.5)) + data(1, data(3, "x")))
    entries = [("inner", inner), ("truth", whole(4, 1)), ("list", several)]
    sent_object = b"".join(data(1, data(1, key) + data(2, value)) for key, value in entries)
    uplink = document("chirpstack-uplink", event(40, 0, data(10, b"\xaa") + data(11, sent_object)))
    assert uplink is not None
    assert uplink["object"] == {"inner": {"n": None}, "truth": True, "list": [1.5, "x"]}
    assert (uplink["data"], uplink["fCnt"]) == ("qg==", 0)
    assert uplink["time"] == "2026-10-04T20:30:12.000000000+00:00"
    device = uplink["deviceInfo"]
    assert isinstance(device, dict) and device["tags"] == {"slope": "north"}


@pytest.mark.parametrize(("seconds", "shown"), [(-(2**62), -(2**62)), (253_402_300_800, None)])
def test_a_time_that_no_calendar_has_stays_a_number(seconds: int, shown: int | None) -> None:
    status = document("chirpstack-status", data(2, whole(1, seconds)) + data(3, b""))
    assert status is not None and status["time"] == (shown or seconds)
    (year_one,) = [document("chirpstack-status", data(2, whole(1, -62_135_596_801)) + data(3, b""))]
    assert year_one is not None and year_one["time"] == -62_135_596_801


def test_a_battery_that_a_device_does_not_know_is_not_empty() -> None:
    topic = "application/1/device/a84041ffff180b21/event/status"
    made = WITHOUT.decode(sent(event(41, 0, whole(5, 9) + whole(7, 1)), topic), NO_ZONE)
    assert isinstance(made, tuple)
    healths = [each.health for each in made if isinstance(each, Telemetry)]
    assert [each.battery_percent for each in healths] == [None]


def test_both_encodings_of_an_event_say_the_same() -> None:
    for kind in ("uplink", "status", "join", "log"):
        of_bytes, of_json = (
            json.loads((SHIPPED / f"chirpstack-{infix}{kind}" / "expected.json").read_text())
            for infix in ("protobuf-", "")
        )
        for record in (*of_bytes["records"], *of_json["records"]):
            del record["form"]
            record.pop("message_id", None)
        assert of_bytes == of_json


def test_json_on_the_same_topic_has_its_own_form() -> None:
    for kind in ("uplink", "status", "join", "log"):
        folder = SHIPPED / f"chirpstack-{kind}"
        payload = (folder / "example.json").read_bytes()
        assert document(f"chirpstack-{kind}", payload) is None
        topic = json.loads((folder / "expected.json").read_text())["topic"]
        fit = WITHOUT.fit(sent(payload, topic))
        assert fit is not None and fit.form.name == f"chirpstack-{kind}"


def test_a_deep_object_is_rejected() -> None:
    value = double(2, 1)
    for _ in range(25):
        value = data(5, data(1, data(1, "a") + data(2, value)))
    deep = event(42, 0, data(11, data(1, data(1, "a") + data(2, value))))
    assert document("chirpstack-uplink", deep) is not None
    for _ in range(6):
        value = data(5, data(1, data(1, "a") + data(2, value)))
    deep = event(42, 0, data(11, data(1, data(1, "a") + data(2, value))))
    assert refused("chirpstack-uplink", deep).code == Code.TOO_COMPLEX


# ---------------------------------------------------------------------- Sparkplug B


@pytest.mark.parametrize(
    ("datatype", "field", "value"),
    [
        (1, whole(10, 251), -5),
        (1, whole(10, 4_294_967_291), -5),
        (2, whole(10, 65_531), -5),
        (3, whole(10, 4_294_967_291), -5),
        (4, whole(11, 2**64 - 5), -5),
        (5, whole(10, 251), 251),
        (7, whole(10, 4_294_967_291), 4_294_967_291),
        (8, whole(11, 2**64 - 5), 2**64 - 5),
        (0, whole(10, 251), 251),
        (0, whole(10, 4_294_967_291), -5),
        (9, single(12, 0.1), 0.1),
        (9, single(12, float("inf")), None),
        (10, double(13, 1 / 3), 1 / 3),
        (11, whole(14, 1), True),
        (13, whole(11, 1_791_145_812_000), 1_791_145_812_000),
        (17, data(16, b"\1\2"), "AQI="),
        (9, whole(7, 1) + single(12, 0.1), None),
        (16, data(17, b"\x08\1"), None),
        (99, data(15, "new"), "new"),
    ],
)
def test_the_value_of_a_metric_is_that_of_its_type(
    datatype: int, field: bytes, value: object
) -> None:
    made = document("sparkplug", sparkplug(metric("m", datatype, field), number=1))
    assert made is not None
    assert made["values"] == {"m": value}
    only = metrics(made)[0]
    is_number = isinstance(value, int | float) and datatype != 13
    assert only["number"] == (value if is_number else None)


def test_properties_of_a_metric_are_read() -> None:
    properties = data(1, "engUnit") + data(1, "low") + data(2, whole(1, 12) + data(8, "°C"))
    properties += data(2, whole(1, 3) + whole(3, 4_294_967_291))
    made = document("sparkplug", sparkplug(metric("m", 9, data(9, properties)), number=1))
    assert made is not None
    only = metrics(made)[0]
    assert only["properties"] == {"engUnit": "°C", "low": -5}


def test_a_compressed_payload_is_rejected() -> None:
    rejected = refused("sparkplug", data(4, "SPBV1.0_COMPRESSED") + data(5, b"\x1f\x8b"))
    assert (rejected.code, "compressed" in rejected.detail) == (Code.WRONG_TYPE, True)


def test_an_edge_node_that_measures_nothing_is_passed_over() -> None:
    message = sent(sparkplug(number=1), "spBv1.0/Reserve/NDATA/pond-box")
    assert WITHOUT.decode(message, NO_ZONE) == Ignored("sparkplug-node")


# ---------------------------------------------------------------------- readers of packages


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder whose packages are installed while the test runs."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    invalidate_caches()
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def install(packages: Path, name: str, source: str, *, payload: str) -> None:
    """Write a package of one module that reads `payload` by its function `read`."""
    (packages / f"{name}.py").write_text(dedent(source))
    about = packages / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\n{payload} = {name}:read\n")


RADIO_FORM = b"""name = "radio"
[match]
topic = "radio/{node}"
payload = "pond-radio"
has = ["battery"]
[[record]]
kind = "telemetry"
battery_percent = "battery"
status = "key"
"""
RADIO = """
    def read(payload, keys):
        if payload[:1] != b"R":
            return None
        if len(payload) == 1:
            raise ValueError("the battery\\nis missing")
        return {"battery": payload[1], "key": keys["pond"], "all": (1.5, True, [payload])}
"""


def test_a_package_reads_a_payload_of_its_own(packages: Path) -> None:
    install(packages, "pond_radio", RADIO, payload="pond-radio")
    forms = Forms.of_sources([("radio.toml", RADIO_FORM)], payloads=Payloads({"pond": b"\1\2"}))
    assert not forms.errors, forms.errors
    made = forms.decode(sent(b"R\x51", "radio/north"), NO_ZONE)
    assert isinstance(made, tuple) and isinstance(made[0], Telemetry)
    assert (made[0].node, made[0].health.battery_percent) == ("north", 81)
    assert made[0].health.status == "AQI="
    assert forms.decode(sent(b"Q", "radio/north"), NO_ZONE) is None
    rejected = forms.decode(sent(b"R", "radio/north"), NO_ZONE)
    assert rejected == Rejected(Code.WRONG_TYPE, "the battery is missing")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return 5", "it returned no dict"),
        ("return {1: 2}", "a key is no text"),
        ("return {'a': object()}", "a value of the type object is none of JSON"),
        ("return {'a': 10 ** 5000}", "a value of the type int is none of JSON"),
        ("return payload[99]", "IndexError: index out of range"),
        ("raise RuntimeError('\\x07' * 500)", "RuntimeError: ····"),
    ],
)
def test_a_reader_with_a_fault_ends_nothing(packages: Path, body: str, words: str) -> None:
    install(packages, "pond_radio", f"def read(payload, keys):\n    {body}\n", payload="pond-radio")
    forms = Forms.of_sources([("radio.toml", RADIO_FORM)], payloads=Payloads())
    rejected = forms.decode(sent(b"R", "radio/north"), NO_ZONE)
    assert isinstance(rejected, Rejected) and rejected.code == Code.PAYLOAD_READER_FAILED
    assert f"the reader pond-radio failed: {words}" in f"{rejected.detail}".replace(
        "TypeError: ", ""
    )
    assert len(rejected.render()) <= 200


def test_a_reader_may_not_return_without_end(packages: Path) -> None:
    for name, body in (
        ("wide", "return {'a': [0] * 100_000}"),
        ("deep", "a = {}; b = a\n    while 1:\n        a['a'] = a; return b"),
    ):
        install(packages, name, f"def read(payload, keys):\n    {body}\n", payload=name)
        with pytest.raises(DecodeError) as error:
            Payloads().reader(name)(b"x")
        assert error.value.rejected.code == Code.TOO_COMPLEX


def test_a_form_tells_why_its_payload_cannot_be_read(packages: Path) -> None:
    install(packages, "broken", "import no_such_module\n", payload="pond-radio")
    (error,) = errors_of(RADIO_FORM)
    assert error == (
        "match.payload: the package that reads pond-radio cannot be loaded: ModuleNotFoundError:"
        " No module named 'no_such_module'"
    )
    install(packages, "second", RADIO, payload="pond-radio")
    (error,) = errors_of(RADIO_FORM)
    assert error.startswith("match.payload: more than one package reads pond-radio: ")
    assert "broken" in error and "second" in error
    install(packages, "third", "read = 5\n", payload="third")
    (error,) = errors_of(RADIO_FORM.replace(b"pond-radio", b"third"))
    assert error.endswith("what the package offers for third is no function")
    install(packages, "fourth", RADIO, payload="meshtastic")
    (error,) = errors_of(RADIO_FORM.replace(b"pond-radio", b"meshtastic"))
    assert "more than one package reads meshtastic: fourth" in error


def test_a_form_with_such_a_payload_needs_a_topic() -> None:
    text = HEAD.replace("[match]", '[match]\npayload = "meshtastic"') + '[[record]]\nkind = "'
    (error,) = errors_of((text + 'telemetry"\nstatus = "x"\n').encode())
    assert error == "match: a payload of meshtastic needs topic: no other message is tried"
    (error, *_) = errors_of(RADIO_FORM)
    assert "'pond-radio' was found; type one of json, " in error and "sparkplug" in error


def errors_of(source: bytes) -> tuple[str, ...]:
    result = read_form(source, Payloads())
    assert not isinstance(result, Form)
    return tuple(error.words for error in result)


# ---------------------------------------------------------------------- hostile payloads

FIELD_NUMBERS = st.integers(1, 18)
LEAVES = st.one_of(
    st.builds(whole, FIELD_NUMBERS, st.integers(-(2**63), 2**64 - 1)),
    st.builds(fixed, FIELD_NUMBERS, st.integers(0, 2**32 - 1)),
    st.builds(single, FIELD_NUMBERS, st.floats(width=32)),
    st.builds(double, FIELD_NUMBERS, st.floats()),
    st.builds(data, FIELD_NUMBERS, st.binary(max_size=12) | st.text(max_size=8)),
)
MESSAGES = st.recursive(
    st.lists(LEAVES, max_size=5).map(b"".join),
    lambda inner: st.lists(st.builds(data, FIELD_NUMBERS, inner) | LEAVES, max_size=5).map(
        b"".join
    ),
    max_leaves=20,
)
TOPICS = [
    json.loads((SHIPPED / name / "expected.json").read_text())["topic"] for name in sorted(EXAMPLES)
]


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(TOPICS), MESSAGES | st.binary(max_size=60))
def test_every_payload_has_an_answer(topic: str, payload: bytes) -> None:
    check(WITHOUT, sent(payload, topic))
    if topic.startswith("msh"):
        content = data(4, payload[:1] and whole(1, payload[0] % 80) + data(2, payload[1:]))
        check(WITH_KEY, sent(envelope(content), topic))
        check(WITH_KEY, sent(encrypted(67, payload, channel="Frogs", key=KEY), topic))
    else:
        check(WITHOUT, sent(data(3, b"") + payload, topic))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(EXAMPLES)),
    st.lists(st.tuples(st.integers(0, 600), st.binary(max_size=4)), min_size=1, max_size=4),
)
def test_damaged_examples_have_an_answer(name: str, changes: list[tuple[int, bytes]]) -> None:
    payload = EXAMPLES[name]
    for number, added in changes:
        at = number % (len(payload) + 1)
        payload = payload[:at] + added + payload[at + max(len(added), 1) :]
    check(WITHOUT, sent(payload, TOPICS[sorted(EXAMPLES).index(name)]))


FILLINGS: dict[str, Callable[[int], bytes]] = {
    "meshtastic": lambda count: data(1, fixed(1, NODE) + data(4, packet(256, b"x" * count))),
    "chirpstack-uplink": lambda count: event(
        43, 0, data(11, struct_of({f"k{number}": number for number in range(count)}))
    ),
    "chirpstack-log": lambda count: event(44, 0, data(6, data(1, "k")) * count),
    "sparkplug": lambda count: sparkplug(
        *(metric(f"m{number}", 9, single(12, number)) for number in range(count)), number=1
    ),
}


@pytest.mark.parametrize("name", sorted(FILLINGS))
def test_the_steps_grow_as_the_payload_does(name: str) -> None:
    fill, reader = FILLINGS[name], Payloads().reader(name)
    reader(fill(1))
    few, many = (steps(partial(reader, fill(count))) for count in (100, 800))
    assert many <= 8.2 * few


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("chirpstack-uplink", data(12, b"")),
        (
            "chirpstack-uplink",
            data(11, data(1, data(1, "a") + data(2, data(6, data(1, b"") * 9)))),
        ),
        ("sparkplug", data(2, b"")),
        ("sparkplug", data(2, data(9, data(1, "") * 50))),
    ],
)
def test_a_payload_of_many_empty_messages_is_not_taken_apart(name: str, unit: bytes) -> None:
    head = b"" if name == "sparkplug" else data(3, b"")
    many = unit * ((MESSAGE_BYTES_MAX - len(head)) // len(unit))
    rejected = refused(name, head + many)
    assert rejected.code == Code.TOO_COMPLEX and "values" in rejected.detail
    rejected = refused(name, head + many + unit)
    assert rejected.code == Code.TOO_COMPLEX and "bytes" in rejected.detail


def test_texts_that_are_not_utf_8_are_none() -> None:
    schema = Schema({"A": ("1 t string?", "2 m string{}")})
    assert schema.read("A", data(1, "é") + data(2, data(1, "k") + data(2, "v"))) == {
        "t": "é",
        "m": {"k": "v"},
    }
    for broken in (
        data(1, b"\xff"),
        data(2, data(1, b"\xff")),
        data(2, data(1, "k") + data(2, b"\xff")),
    ):
        assert schema.read("A", broken) is None


def test_a_schema_knows_its_limits() -> None:
    schema = Schema({"A": ("1 a A*", "2 f float?")})
    nested = b""
    for _ in range(99):
        nested = data(1, nested)
    assert schema.read("A", nested) is not None
    assert schema.read("A", data(1, data(1, data(1, nested)))) is None
    with pytest.raises(DecodeError):
        schema.read("A", data(1, b"") * VALUES_MAX)
    assert schema.read("A", data(1, b"")) == {"a": [{"a": []}]}
    assert schema.read("A", varint(7 << 3 | 7)) is None
    for number in (3.871, 1e-45, 3.4028234663852886e38, -0.0, 16_777_217.0):
        written = struct.unpack("<f", struct.pack("<f", number))[0]
        read = schema.read("A", single(2, number))
        assert read is not None
        assert struct.pack("<f", read["f"]) == struct.pack("<f", written)
    assert str(schema.read("A", single(2, 3.871))) == "{'a': [], 'f': 3.871}"


def test_every_kind_of_ours_has_a_form() -> None:
    assert {form.match.payload for form in WITHOUT.forms} >= set(OURS)
