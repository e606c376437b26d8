"""What each modifier makes of a value, and what is wrong with values that none can make right."""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from echo_ingest.quality import TimeProblem
from echo_ingest.reasons import ReasonCode as Code
from echo_ingest.record import (
    AnyRecord,
    Detection,
    Measurement,
    Movement,
    Recording,
    Rejected,
    Telemetry,
)
from tests.decode.messages import wav
from tests.forms.trying import (
    DETECTION,
    HEAD,
    MELBOURNE,
    NO_ZONE,
    form,
    forms,
    message,
    outcome,
    records,
    rejected,
)


def detection(added: str, payload: dict[str, object], rules: object = NO_ZONE) -> Detection:
    (made,) = records(DETECTION + added, message({"x": "Frog", **payload}), rules)  # type: ignore[arg-type]
    assert isinstance(made, Detection)
    return made


def why(added: str, payload: dict[str, object]) -> Rejected:
    return rejected(DETECTION + added, message({"x": "Frog", **payload}))


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("modifiers", "given", "expected"),
    [
        ('"m"', "v", "v"),
        ('"m"', 5, "5"),
        ('"m"', 2.5, "2.5"),
        ('"m"', None, None),
        ('"m"', "", None),
        ('["none", "m"]', "v", "v"),
        ('{from = ["m", "x"], join = "/"}', "v", "v/Frog"),
        ('{from = ["m", "none"], join = "/"}', "v", None),
        ('{from = ["m", "none"], join = "/", default = "d"}', "v", "d"),
        ('{value = "always"}', None, "always"),
        ('{from = "m", default = "d"}', None, "d"),
        ('{from = "m", unknown = ["n/a", 0]}', "n/a", None),
        ('{from = "m", unknown = ["n/a", 0]}', 0, None),
        ('{from = "m", unknown = ["n/a", 0]}', "0", None),
        ('{from = "m", unknown = ["n/a", 0]}', 0.0, None),
        ('{from = "m", unknown = ["n/a", 0]}', False, "false"),
        ("{from = \"m\", pattern = 'v(\\d+)'}", "model v24", "24"),
        ("{from = \"m\", pattern = 'v\\d+'}", "model v24", "v24"),
        ("{from = \"m\", pattern = 'w'}", "model v24", None),
        ("{from = \"m\", pattern = 'w', default = 'd'}", "model v24", "d"),
        ("{from = \"m\", pattern = 'v', unknown = 'v'}", "model v24", None),
        ('{from = "m", split = "_"}', "a_b_c", "a"),
        ('{from = "m", split = "_", take = -1}', "a_b_c", "c"),
        ('{from = "m", split = "_", take = 3}', "a_b_c", None),
        ('{from = "m", words = {a = "one", b = "two"}}', "b", "two"),
        ('{from = "m", words = {1 = "one"}}', 1, "one"),
        ('{from = "m", words = {true = "yes"}}', True, "yes"),
        ('{from = "m", words = {a = "one"}, default = "other"}', "c", "other"),
        ('{from = "m", format = "!%08x"}', 255, "!000000ff"),
        ('{from = "m", format = "no. %s, 100 %%"}', "v", "no. v, 100 %"),
        ('{from = "m", format = "%d birds"}', 3, "3 birds"),
        ('{from = "m", format = "%%s %d"}', "3", "%s 3"),
        ('{from = "m", format = "%1s-x"}', "ab", "ab-x"),
        ('{from = "m", format = "%d"}', 3_281_355_014_145_123_457, "3281355014145123457"),
        ('{from = "m", format = "%d"}', -7.0, "-7"),
        ('"$topic.name"', None, "one"),
        ('"$node"', None, "n"),
        ('"$received"', None, "1791145860000"),
        ('"list[1].a"', None, "second"),
        ('"list[-1].a"', None, "second"),
        ('"list[7].a"', None, None),
        ("\"list[?a=='first'] | [0].b\"", None, "5"),
        ('\'"a key"."and é"\'', None, "found"),
        ("'contains(none, `1`)'", None, None),
        ("'list[?a > b]'", None, None),
    ],
)
def test_a_value_is_found_and_read(modifiers: str, given: object, expected: str | None) -> None:
    text = DETECTION.replace("has", 'topic = "t/{name}"\nhas') + f"model = {modifiers}\n"
    payload = {
        "x": "Frog",
        "m": given,
        "list": [{"a": "first", "b": 5}, {"a": "second"}],
        "a key": {"and é": "found"},
    }
    (made,) = records(text, message(payload, node="n"))
    assert isinstance(made, Detection) and made.model == expected


@pytest.mark.parametrize(
    ("added", "payload", "code", "field", "words"),
    [
        ('model = "m"', {"m": {}}, Code.WRONG_TYPE, "m", "not an object"),
        ('model = "m.n"', {"m": {"n": [1]}}, Code.WRONG_TYPE, "m.n", "not a list"),
        ('model = "m"', {"m": "a" * 300}, Code.IMPOSSIBLE_VALUE, "m", "300 characters"),
        ('model = "m"', {"m": "a" * 5000}, Code.IMPOSSIBLE_VALUE, "m", "5,000 characters"),
        ('model = "m"', {"m": "a\0b"}, Code.IMPOSSIBLE_VALUE, "m", "cannot be printed"),
        (
            'model = {from = "m", words = {a = "b"}}',
            {"m": "c"},
            Code.IMPOSSIBLE_VALUE,
            "m",
            "none of the words",
        ),
        ('model = {from = "m", format = "%d"}', {"m": "x"}, Code.WRONG_TYPE, "m", "a number"),
        ('model = {from = "m", format = "%d"}', {"m": 1.9}, Code.WRONG_TYPE, "m", "a whole number"),
        ('low_hz = "m"', {"m": "many"}, Code.WRONG_TYPE, "m", 'not "many"'),
        ('low_hz = "to_number(m)"', {"m": "1e999"}, Code.IMPOSSIBLE_VALUE, "low_hz", "too large"),
        (
            'observed_at = "t"\noffset_seconds = "to_number(m)"',
            {"t": "2026-10-04T20:30:00Z", "m": "nan"},
            Code.IMPOSSIBLE_VALUE,
            "offset_seconds",
            "not a number",
        ),
        ('low_hz = "m"', {"m": True}, Code.WRONG_TYPE, "m", "not true or false"),
        ('low_hz = "m"', {"m": "1" * 70}, Code.WRONG_TYPE, "m", "a number"),
        ('low_hz = "m"', {"m": -1}, Code.IMPOSSIBLE_VALUE, "m", "-1 is not from 0"),
        ('low_hz = "m"\nhigh_hz = "n"', {"m": 2, "n": 1}, Code.IMPOSSIBLE_VALUE, "n", "below"),
        (
            'confidence = {from = "m", scale = "fraction"}',
            {"m": 93.1},
            Code.CONFIDENCE_OFF_SCALE,
            "m",
            'scale = "fraction"',
        ),
        (
            'observed_at = "m"',
            {"m": "2026-10-05T07:30:00"},
            Code.ZONE_MISSING,
            "m",
            "neither does the form",
        ),
        (
            'observed_at = {from = "m", zone_from = "z"}',
            {"m": "2026-10-05T07:30:00", "z": "Nowhere"},
            Code.IMPOSSIBLE_VALUE,
            "m",
            '"Nowhere" is no zone',
        ),
        (
            'observed_at = {from = "m", zone_from = "z"}',
            {"m": "2026-10-05T07:30:00", "z": "right/UTC"},
            Code.IMPOSSIBLE_VALUE,
            "m",
            '"right/UTC" is no zone',
        ),
        ('observed_at = "m"', {"m": "yesterday"}, Code.UNREADABLE_TIME, "m", "yesterday"),
        ('observed_at = "m"', {"m": [1]}, Code.WRONG_TYPE, "m", "not a list"),
        (
            'observed_at = {from = "m", unit = "s"}',
            {"m": 1e17},
            Code.UNREADABLE_TIME,
            "m",
            "the years 1 and 9999",
        ),
        (
            'observed_at = {from = "m", format = "%Y%m%d", zone = "UTC"}',
            {"m": "2026-10-05"},
            Code.UNREADABLE_TIME,
            "m",
            "is not of the form %Y%m%d",
        ),
        (
            'latitude = "a"\nlongitude = "b"',
            {"a": 91, "b": 0},
            Code.IMPOSSIBLE_PLACE,
            "a",
            "off the planet",
        ),
        ('latitude = "a"\nlongitude = "b"', {"a": 9}, Code.IMPOSSIBLE_PLACE, "a", "only one"),
        (
            'observed_at = "t"\nduration_seconds = "m"',
            {"t": "2026-10-04T20:30:00Z", "m": -1},
            Code.IMPOSSIBLE_VALUE,
            "m",
            "the call would last -1 seconds",
        ),
        ('sample_rate_hz = "m"', {"m": -4}, Code.IMPOSSIBLE_VALUE, "m", "is not a sample rate"),
        ('clip = "m"', {"m": 5}, Code.WRONG_TYPE, "m", "audio as base64"),
        ('clip = "m"', {"m": "AAAA"}, Code.UNKNOWN_AUDIO_FORMAT, "m", "the clip is not"),
        ('node = "m"', {"m": "a" * 65}, Code.IMPOSSIBLE_VALUE, "m", "at most 64 characters"),
        ('source_type = "m"', {"m": "fake"}, Code.IMPOSSIBLE_VALUE, "m", "simulator"),
    ],
)
def test_a_value_that_cannot_be_right_is_rejected_at_its_place(
    added: str, payload: dict[str, object], code: Code, field: str, words: str
) -> None:
    reason = why(added, payload)
    assert (reason.code, reason.field) == (code, field), reason
    assert words in reason.detail


@pytest.mark.parametrize(
    ("scale", "given", "expected"),
    [
        ("fraction", 0.9312, 0.9312),
        ("fraction", "0,5", 0.5),
        ("fraction", 1.0000005, 1),
        ("percent", 87, 0.87),
        ("percent", 100.00005, 1),
        ("byte", 255, 1),
        ("byte", 51, 0.2),
        ("byte", None, None),
    ],
)
def test_a_confidence_is_read_on_its_scale(
    scale: str, given: object, expected: float | None
) -> None:
    made = detection(f'confidence = {{from = "c", scale = "{scale}"}}', {"c": given})
    assert made.confidence == expected


@pytest.mark.parametrize(
    ("modifiers", "given", "expected"),
    [
        ('"t"', "2026-10-05T07:30:00+11:00", at(2026, 10, 4, 20, 30)),
        ('"t"', 1791145800, at(2026, 10, 4, 20, 30)),
        ('"t"', "1791145800000", at(2026, 10, 4, 20, 30)),
        ('{from = "t", unit = "ms"}', 1791145800500, at(2026, 10, 4, 20, 30, 0, 500_000)),
        ('{from = "t", unit = "us"}', "1791145800000001", at(2026, 10, 4, 20, 30, 0, 1)),
        ('{from = "t", unit = "ns"}', 1791145800000001999, at(2026, 10, 4, 20, 30, 0, 1)),
        ('{from = "t", unit = "s"}', 1791145800.5, at(2026, 10, 4, 20, 30, 0, 500_000)),
        ('{from = "t", unit = "s"}', "2026-10-04T20:30:00Z", at(2026, 10, 4, 20, 30)),
        ('{from = "t", zone = "UTC"}', "2026-10-04 20:30:00", at(2026, 10, 4, 20, 30)),
        ('{from = "t", zone = "site"}', "2026-10-05 07:30:00", at(2026, 10, 4, 20, 30)),
        ('{from = "t", zone = "Asia/Tokyo"}', "2026-10-05 05:30:00", at(2026, 10, 4, 20, 30)),
        ('{from = "t", zone = "+09:30"}', "2026-10-05 06:00:00", at(2026, 10, 4, 20, 30)),
        ('{from = "t", zone = "-3"}', "2026-10-04 17:30:00", at(2026, 10, 4, 20, 30)),
        # The hour that a clock shows twice counts as the first; what names its zone keeps it.
        ('{from = "t", zone = "Europe/Paris"}', "2025-10-26 02:30:00", at(2025, 10, 26, 0, 30)),
        ('{from = "t", zone = "Asia/Tokyo"}', "2026-10-04T20:30:00Z", at(2026, 10, 4, 20, 30)),
        (
            '{from = "t", zone_from = "z", zone = "UTC"}',
            "2026-10-05 07:30",
            at(2026, 10, 4, 20, 30),
        ),
        (
            '{from = "t", zone_from = "no", zone = "UTC"}',
            "2026-10-04 20:30",
            at(2026, 10, 4, 20, 30),
        ),
        (
            '{from = "t", format = "%d.%m.%Y %H:%M", zone = "UTC"}',
            "04.10.2026 20:30",
            at(2026, 10, 4, 20, 30),
        ),
        (
            "{from = \"t\", pattern = '(\\d{8}_\\d{6})', zone = 'UTC'}",
            "S4_20261004_203000.wav",
            at(2026, 10, 4, 20, 30),
        ),
        ('{from = "t", split = "|", zone = "UTC"}', "2026-10-04 20:30|x", at(2026, 10, 4, 20, 30)),
    ],
)
def test_a_time_is_placed(modifiers: str, given: object, expected: datetime) -> None:
    made = detection(f"observed_at = {modifiers}", {"t": given, "z": "+11:00"}, MELBOURNE)
    assert (made.observed_at, made.time_source) == (expected, "device")


def test_a_time_that_is_not_believed_gives_way_to_the_next_and_then_to_the_receipt() -> None:
    added = 'observed_at = ["a", "b"]\nends_at = "c"'
    good = "2026-10-04T20:30:00Z"
    made = detection(added, {"a": 17, "b": good, "c": "2026-10-04T20:30:02Z"})
    assert made.observed_at == at(2026, 10, 4, 20, 30) and made.time_problem is None
    made = detection(added, {"a": 17, "c": good})
    assert made.time_problem == TimeProblem.CLOCK_NOT_SET and made.device_time == "17"
    assert made.time_source == "received" and made.ends_at is None
    made = detection('observed_at = {from = "a", zone = "site"}', {"a": "2026-10-04T20:30:00"})
    assert made.time_problem == TimeProblem.ZONE_UNKNOWN


def test_a_call_begins_and_ends_where_the_form_counts() -> None:
    payload: dict[str, object] = {"t": "2026-10-04T20:30:00Z", "from": 9, "to": "12.5"}
    start = 'observed_at = "t"\noffset_seconds = "from"\n'
    for end in (
        'end_offset_seconds = "to"',
        "duration_seconds = {value = 3.5}",
        'duration_seconds = {from = "to", plus = -9}',
    ):
        made = detection(start + end, payload)
        assert made.observed_at == at(2026, 10, 4, 20, 30, 9)
        assert made.ends_at == at(2026, 10, 4, 20, 30, 12, 500_000)


@pytest.mark.parametrize(
    ("written", "offset", "expected"),
    [
        # Summer time begins at 16:00 UTC, when the clock goes from 2:00 to 3:00.
        ("2026-10-04T01:59:50", 20, at(2026, 10, 3, 16, 0, 10)),
        # It ends at 16:00 UTC, when the clock goes from 3:00 back to 2:00.
        ("2026-04-05T02:59:50", 20, at(2026, 4, 4, 16, 0, 10)),
        ("2026-04-05T01:59:50", 3_600, at(2026, 4, 4, 15, 59, 50)),
    ],
)
def test_an_offset_is_counted_across_a_change_of_summer_time(
    written: str, offset: float, expected: datetime
) -> None:
    start = 'observed_at = {from = "t", zone = "site"}\noffset_seconds = "from"\n'
    payload: dict[str, object] = {"t": written, "from": offset}
    made = detection(f"{start}duration_seconds = {{value = 3}}", payload, MELBOURNE)
    assert made.observed_at == expected
    assert made.ends_at == expected + timedelta(seconds=3)


def test_a_local_time_with_an_offset_beyond_all_calendars_is_not_believed() -> None:
    start = 'observed_at = {from = "t", zone = "site"}\noffset_seconds = "from"\n'
    for offset in (1e11, 1e300):
        made = detection(start, {"t": "2026-10-04T01:59:50", "from": offset}, MELBOURNE)
        assert made.time_problem == TimeProblem.AFTER_RECEIPT


def test_a_number_is_scaled_without_the_noise_of_binary_fractions() -> None:
    text = 'latitude = {from = "a", times = 1e-7}\nlongitude = {from = "o", times = 1e-7}'
    made = detection(text, {"a": -387712000, "o": 1435021000})
    assert made.place is not None
    assert (made.place.latitude, made.place.longitude) == (-38.7712, 143.5021)
    assert detection(text, {"a": 0, "o": 0}).place is None
    assert detection(text, {"a": -10_000_000, "o": -10_000_000}).place is None


def test_names_are_tidied_as_everywhere() -> None:
    made = detection('common_name = "c"', {"x": " RANA  aurora ", "c": "Red-legged\tFrog"})
    assert (made.species, made.species_as_sent) == ("Rana aurora", "RANA aurora")
    assert made.common_name == "Red-legged Frog"
    assert detection("", {"x": "Noise"}).observation_type == "blank"


def test_a_form_can_give_audio() -> None:
    sound = wav()
    text = HEAD + '[[record]]\nkind = "recording"\neach = "x"\nclip = "a"\nclip_reference = "f"\n'
    payload = {"x": [{"a": base64.b64encode(sound).decode(), "f": "20261004_203000Z.wav"}]}
    made = forms(text)
    (record,) = records(text, message(payload))
    assert isinstance(record, Recording) and record.clip.size_bytes == len(sound)
    assert record.clip_reference == "20261004_203000Z.wav"
    assert made.clip_bytes(message(payload), NO_ZONE, 0) == sound
    assert made.clip_bytes(message(payload), NO_ZONE, 1) is None
    identity = made.identify(message(payload), NO_ZONE)
    assert getattr(identity, "has_audio", False)
    assert rejected(text, message({"x": [{}]})).code == Code.MISSING_FIELD


def test_telemetry_has_the_rules_of_all_telemetry() -> None:
    text = HEAD + (
        '[[record]]\nkind = "telemetry"\nbattery_percent = "b"\nexternal_power = "e"\n'
        'status = "x"\ntemperature_celsius = "t"\nuptime_seconds = "u"\ncpu_percent = "c"\n'
    )

    def made(payload: dict[str, object]) -> Telemetry:
        (record,) = records(text, message({"x": "on", **payload}))
        assert isinstance(record, Telemetry)
        return record

    assert made({"b": 101}).health.external_power is True
    assert made({"b": 255}).health.battery_percent is None
    assert made({"b": 100.2}).health.battery_percent == 100
    assert made({"e": False}).health.external_power is False
    assert made({"e": "true"}).health.external_power is True
    assert made({"u": 3600}).health.uptime_seconds == 3600
    assert made({"u": 1791140000}).health.booted_at is not None
    for payload in ({"b": 300}, {"e": 5}, {"t": 999}, {"u": -1}, {"c": -9}):
        rejected(text, message({"x": "on", **payload}))
    assert rejected(text, message({"x": None})).code == Code.NO_RECORD


def test_a_movement_needs_its_place() -> None:
    text = HEAD + (
        '[[record]]\nkind = "movement"\nspecies = "x"\nanimal_id = "id"\n'
        'animal_latitude = "la"\nanimal_longitude = "lo"\n'
    )
    (made,) = records(text, message({"x": "Sus scrofa", "id": 7, "la": -38, "lo": 143}))
    assert isinstance(made, Movement) and made.animal_id == "7"
    assert rejected(text, message({"x": "Sus scrofa", "id": 7})).code == Code.INCOMPLETE_MOVEMENT


def measurements(text: str, payload: object) -> list[tuple[str, float, str | None]]:
    made: tuple[AnyRecord, ...] = records(text, message(payload))
    assert all(isinstance(each, Measurement) for each in made)
    return [(each.name, each.value, each.unit) for each in made]  # type: ignore[union-attr]


def test_measurements_have_the_unit_that_their_name_ends_in() -> None:
    text = HEAD + (
        '[[record]]\nkind = "measurement"\n[record.values]\nbattery_volts = "x"\n'
        'wind_metres_per_second = "w"\nvisitor_count = "n"\nmissing_percent = "none"\n'
        'turbidity = {from = "t", unit = "NTU"}\n'
    )
    assert measurements(text, {"x": "3,6", "w": 2, "n": 4, "t": 0.5}) == [
        ("battery_volts", 3.6, "V"),
        ("wind_metres_per_second", 2.0, "m/s"),
        ("visitor_count", 4.0, None),
        ("turbidity", 0.5, "NTU"),
    ]


def test_measurements_can_be_named_by_the_message() -> None:
    text = HEAD + (
        '[[record]]\nkind = "measurement"\neach = ["x", "bands"]\n'
        'name = {from = ["parent.id", "$key"], join = "_"}\nvalue = {from = "@", unit = "dB"}\n'
    )
    payload = {
        "x": [{"id": "a", "bands": {"1k": -60, "2k": None}}, {"id": "b", "bands": {"1k": 0}}]
    }
    assert measurements(text, payload) == [("a_1k", -60.0, "dB"), ("b_1k", 0.0, "dB")]
    payload["x"][1]["bands"] = {"a" * 70: 1}
    assert rejected(text, message(payload)).code == Code.IMPOSSIBLE_VALUE


def test_bytes_have_their_layout() -> None:
    text = """name = "try"
[match]
topic = "t/one"
payload = "json"
[layout]
from = "up.data"
encoding = "ENC"
order = "ORD"
items = ["species:u8", "share:u8", "_:u16", "millivolts:u16", "heat:i16", "far:i24", "f:f32"]
[[record]]
kind = "detection"
species = {from = "$bytes.species", words = {1 = "Crinia signifera", 2 = "Litoria ewingii"}}
confidence = {from = "$bytes.share", scale = "byte"}
[[record]]
kind = "measurement"
[record.values]
battery_volts = {from = "$bytes.millivolts", times = 0.001}
temperature_celsius = {from = "$bytes.heat", times = 0.1}
depth_metres = "$bytes.far"
turbidity = {from = "$bytes.f", unit = "NTU"}
"""
    data = bytes.fromhex("02cc00000e10ff85ffffff3f000000")
    little = bytes.fromhex("02cc0000100e85ffffffff0000003f")
    for encoding, order, written in (
        ("base64", "big", base64.b64encode(data).decode()),
        ("hex", "big", data.hex()),
        ("hex", "little", little.hex()),
    ):
        this = text.replace("ENC", encoding).replace("ORD", order)
        first, *others = records(this, message({"up": {"data": written}}))
        assert isinstance(first, Detection)
        assert (first.species, first.confidence) == ("Litoria ewingii", 0.8)
        values = [each.value for each in others if isinstance(each, Measurement)]
        assert values == [3.6, -12.3, -1.0, 0.5]
    this = text.replace("ENC", "base64").replace("ORD", "big")
    for wrong, words in (
        (None, "missing"),
        ("AAAA", "3 bytes"),
        ("?", "base64"),
        ("é", "base64"),
    ):
        reason = rejected(this, message({"up": {"data": wrong}}))
        assert words in reason.detail and reason.field == "up.data"
    whole = this.replace('payload = "json"', 'payload = "bytes"').replace('from = "up.data"\n', "")
    assert len(records(whole, message(data))) == 5
    for none in ("7fc00000", "7f800000", "ff800000"):
        made = records(whole, message(data[:-4] + bytes.fromhex(none)))
        assert [each.name for each in made if isinstance(each, Measurement)][2:] == ["depth_metres"]


def test_an_error_in_a_list_names_the_item() -> None:
    text = (
        DETECTION.replace('"x"\n', '"name"\n')
        + 'each = "x"\nlow_hz = "low"\nmodel = "parent.m.n"\n'
    )
    payload = {"x": [{"name": "Frog"}, {"name": "Frog", "low": "?"}], "m": {"n": []}}
    assert rejected(text, message(payload)).field == "m.n"
    del payload["m"]
    assert rejected(text, message(payload)).field == "x[1].low"
    assert rejected(text, message({"x": [{}]})).field == "x[0].name"
    assert rejected(text, message({"x": {"key": {}}})).field == "x.key.name"


def test_nothing_found_is_no_silence() -> None:
    text = DETECTION + 'where = "really"\n'
    assert rejected(text, message({"x": "Frog"})).code == Code.NO_RECORD
    listed = DETECTION.replace('species = "x"', 'species = "name"') + 'each = "x"\n'
    assert getattr(outcome(listed, message({"x": []})), "form", None) == "try"
    measured = HEAD + (
        '[[record]]\nkind = "measurement"\neach = "x"\nname = "$key"\nvalue = "v"\nwhere = "w"\n'
    )
    assert rejected(measured, message({"x": [{"w": 1, "other": 5}]})).code == Code.NO_RECORD
    assert getattr(outcome(measured, message({"x": [{"v": 5}]})), "form", None) == "try"
    assert rejected(listed, message({"x": None})).code == Code.NO_RECORD
    assert rejected(listed, message({"x": "text"})).code == Code.WRONG_TYPE


def test_the_node_is_that_of_the_form_or_of_the_topic() -> None:
    captured = DETECTION.replace("has", 'topic = "t/{node}"\nhas')
    (made,) = records(captured, message({"x": "Frog"}, node="account"))
    assert made.node == "one"
    (made,) = records(DETECTION, message({"x": "Frog"}, node="account"))
    assert made.node == "account"
    (made,) = records(captured + 'node = "n"', message({"x": "Frog", "n": " n  9 "}))
    assert made.node == "n 9"


def test_the_form_of_a_field_is_that_of_its_path() -> None:
    assert form(DETECTION + 'model = "a.b"').records[0].fields["model"].label == "a.b"
    long = "a." * 30 + "b"
    assert form(DETECTION + f'model = "{long}"').records[0].fields["model"].label == "model"
