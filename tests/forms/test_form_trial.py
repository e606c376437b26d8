"""Trying a form: what a message becomes, why it does not fit, what is odd, and a first draft."""

import json
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_ingest.decode.forms import SHIPPED, Form, Forms
from echo_ingest.decode.forms.examples import try_examples
from echo_ingest.decode.forms.misfit import misfit
from echo_ingest.decode.forms.reading import read
from echo_ingest.decode.forms.suggest import NoSuggestion, suggest
from echo_ingest.decode.forms.trial import expectation, topic_like, try_form, try_forms
from echo_ingest.decode.rules import Rules
from echo_ingest.record import Detection, Ignored, Measurement, Message, Rejected, Telemetry
from tests.forms.trying import DETECTION, HEAD, MELBOURNE, NO_ZONE, form, forms, message

CALLS = """name = "pond"
[match]
topic = ["pond/{node}/heard", "pool/#"]
has = ["calls", "at.time"]
[[record]]
kind = "detection"
each = "calls"
species = "name"
observed_at = { from = "parent.at.time", zone = "site" }
latitude = "parent.lat"
longitude = "parent.lon"
"""
SENT = {
    "calls": [{"name": "Crinia signifera", "loud": 3}],
    "at": {"time": "2026-10-05 07:30:00"},
    "lat": -37.4,
    "lon": 145.3,
}


# ---------------------------------------------------------------------- trying


def test_a_trial_shows_the_records_and_what_nobody_reads() -> None:
    trial = try_form(form(CALLS), message(SENT, "pond/north/heard"), MELBOURNE)
    (made,) = trial.records
    assert isinstance(made, Detection) and made.node == "north"
    assert trial.unread == ("calls[].loud",)
    assert trial.warnings == () and trial.misfit is None


def test_what_fits_no_form_is_said() -> None:
    trial = try_forms(forms(CALLS), message(SENT, "elsewhere"), MELBOURNE)
    assert (trial.form, trial.outcome, trial.became) == (None, None, None)


LINES = """name = "lines"
[match]
topic = "t/one"
payload = "lines"
separator = ";"
columns = ["at", "name"]
[[record]]
kind = "detection"
each = "rows"
species = "name"
observed_at = { from = "at", zone = "site" }
"""


def test_a_line_of_names_can_be_passed_over() -> None:
    skips = LINES.replace('species = "name"', "species = 'name'\nwhere = \"at != 'at'\"")
    arrived = message(b"at;name\n2026-10-05 07:30:00;Frog\n")
    assert not try_form(form(LINES), arrived, MELBOURNE).records
    (one,) = try_form(form(skips), arrived, MELBOURNE).records
    assert isinstance(one, Detection) and one.species == "Frog"


def test_what_a_form_that_rejects_may_lack_is_said() -> None:
    rows, written = 'each = "rows"', 'format = "%d.%m.%Y %H:%M:%S"'
    good = message(b"2026-10-05 07:30:00;Frog\n")
    assert try_form(form(LINES), good, MELBOURNE).warnings == (
        "no node is named: type node, or capture {node} in the topic",
    )
    (hint,) = try_form(form(LINES.replace(rows, "")), good, MELBOURNE).warnings
    assert rows in hint
    other = message(b"05.10.2026 07:30:00;Frog\n")
    (hint,) = try_form(form(LINES), other, MELBOURNE).warnings
    assert written in hint
    with_format = LINES.replace('zone = "site"', f'{written}, zone = "site"')
    assert try_form(form(with_format), good, MELBOURNE).warnings == ()
    assert try_form(form(with_format), other, MELBOURNE).records


def test_what_is_rejected_or_ignored_has_no_records() -> None:
    without_zone = CALLS.replace(', zone = "site"', "")
    trial = try_forms(forms(without_zone), message(SENT, "pool/a"), MELBOURNE)
    assert isinstance(trial.became, Rejected) and trial.records == ()
    silent = try_forms(forms(CALLS), message(SENT | {"calls": []}, "pool/a"), MELBOURNE)
    assert silent.became == Ignored("pond")


@pytest.mark.parametrize(
    ("arrived", "reason"),
    [
        (message(SENT, "pond/north"), 'its topic is "pond/north", and not like pond/{node}/heard'),
        (message({"calls": [], "on": 1}, "pool"), "it has no at.time; there are calls, on"),
        (message([SENT], "pool"), 'it is no object of JSON; is it payload = "list"?'),
        (message(b'{"calls": ', "pool"), "the JSON is cut off"),
        (message(SENT, "pool"), None),
    ],
)
def test_why_a_message_is_not_in_a_form(arrived: Message, reason: str | None) -> None:
    words = misfit(form(CALLS), arrived)
    assert words is None if reason is None else words is not None and reason in words, words


def test_why_another_payload_is_not_in_a_form() -> None:
    opening = form('name = "a"\nignore = true\n[match]\nopens = "LOG "\npayload = "text"\n')
    assert misfit(opening, message(b"x")) == "it does not begin with LOG "
    table = form('name = "a"\nignore = true\n[match]\nhas = ["a"]\npayload = "csv"\n')
    assert misfit(table, message(b"b,c\n1,2\n")) == "it has no a; there are b, c"
    assert 'two columns "a"' in (misfit(table, message(b"a,b,a\n1,2,3\n")) or "")
    listed = form('name = "a"\nignore = true\n[match]\nhas = ["a"]\npayload = "list"\n')
    assert misfit(listed, message({})) == 'it is no list of JSON; is it payload = "json"?'
    chosen = form('name = "a"\nignore = true\n[match]\nhas = ["a"]\nwhere = "b"\n')
    assert misfit(chosen, message({"a": 1})) == (
        "what `where` in [match] looks for is missing or empty"
    )


def test_a_topic_is_made_up_from_the_pattern() -> None:
    assert topic_like(form(CALLS)) == "pond/node/heard"
    assert topic_like(form(CALLS.replace("pond/{node}/heard", "a/+/{b}/#"))) == "a/any/b"


# ---------------------------------------------------------------------- warnings


def warned(text: str, sent: object, at: str = "2026-10-04T20:31:00Z") -> str:
    received_at_ms = int(datetime.fromisoformat(at).timestamp() * 1000)
    arrived = Message("pond/n/heard", json.dumps(sent).encode(), received_at_ms)
    return " ".join(try_form(form(text), arrived, MELBOURNE).warnings)


def test_times_that_are_whole_hours_off_are_warned_of() -> None:
    assert warned(CALLS, SENT, "2026-10-04T20:31:00Z") == ""
    in_utc = CALLS.replace('zone = "site"', 'zone = "+12:30"')
    assert "1.5 hours before the receipt: is the zone right?" in warned(in_utc, SENT)
    assert warned(CALLS, SENT, "2026-10-04T20:45:00Z") == ""
    assert warned(CALLS, SENT, "2026-10-06T07:31:00Z") == ""
    ahead = warned(CALLS.replace('zone = "site"', 'zone = "UTC"'), SENT)
    assert "is not believed" in ahead and "Is the zone right?" in ahead


def test_a_place_at_zero_is_warned_of() -> None:
    assert "the place 0, 0 means that none is known" in warned(CALLS, SENT | {"lat": 0, "lon": 0})
    assert "place" not in warned(CALLS, SENT | {"lat": 0})


def test_a_missing_node_is_warned_of() -> None:
    arrived = message({"x": "Frog"}, "t")
    assert "no node is named" in " ".join(try_form(form(DETECTION), arrived, NO_ZONE).warnings)


# ---------------------------------------------------------------------- examples


def written(folder: Path, text: str, sent: object, expected: object) -> Path:
    place = folder / "pond"
    place.mkdir()
    (place / "form.toml").write_text(text)
    (place / "example.json").write_text(json.dumps(sent))
    (place / "expected.json").write_text(json.dumps(expected))
    return folder


def expected(sent: object = SENT) -> dict[str, object]:
    arrived = message(sent, "pond/north/heard")
    trial = try_form(form(CALLS), arrived, MELBOURNE)
    return expectation(arrived, ZoneInfo("Australia/Melbourne"), trial.became)


def test_an_example_that_becomes_what_is_expected(tmp_path: Path) -> None:
    folder = written(tmp_path, CALLS, SENT, expected())
    for place in (folder, folder / "pond"):
        (tested,) = try_examples(place)
        assert (tested.form, tested.example) == ("pond", "example.json")
        assert tested.is_as_expected, tested


def test_what_differs_is_shown_line_by_line(tmp_path: Path) -> None:
    other = SENT | {"calls": [{"name": "Crinia parinsignifera"}]}
    (tested,) = try_examples(written(tmp_path, CALLS, other, expected()))
    assert not tested.is_as_expected
    changed = [line for line in tested.difference if line[0] in "+-"]
    assert changed == [
        '-      "species": "Crinia signifera",',
        '+      "species": "Crinia parinsignifera",',
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"form.toml": CALLS.replace("species", "specie")}, "did you mean species?"),
        ({"expected.json": None}, "there is no expected.json; `echo-ingest forms try"),
        ({"expected.json": "{}"}, "expected.json cannot be read"),
        ({"expected.json": '{"topic": "x", "received_at": "2026-10-05T00:00:00Z"}'}, "its topic"),
        ({"example.json": None}, "it has no example"),
        ({"form.toml": CALLS.replace('"calls", ', "")}, None),
    ],
)
def test_what_cannot_be_tried_is_said(
    tmp_path: Path, change: dict[str, str | None], problem: str | None
) -> None:
    place = written(tmp_path, CALLS, SENT, expected()) / "pond"
    for name, text in change.items():
        (place / name).unlink() if text is None else (place / name).write_text(text)
    (tested,) = try_examples(tmp_path)
    assert (tested.problem is None) == (problem is None), tested
    assert problem is None or problem in (tested.problem or "")


def test_a_form_that_another_one_goes_before_is_told(tmp_path: Path) -> None:
    written(tmp_path, CALLS, SENT, expected())
    (tmp_path / "all.toml").write_text(HEAD.replace('"x"', '"calls"') + "ignore = true\n")
    text = 'name = "all"\nignore = true\n[match]\nhas = ["calls"]\n'
    (tmp_path / "all.toml").write_text(text)
    tested = {each.form: each.problem for each in try_examples(tmp_path)}
    assert tested["pond"] == "it is in the form all, which is tried before"


def test_several_examples_stand_beside_one_form(tmp_path: Path) -> None:
    place = written(tmp_path, CALLS, SENT, expected()) / "pond"
    silent = SENT | {"calls": []}
    (place / "example-silent.json").write_text(json.dumps(silent))
    (place / "expected-silent.json").write_text(json.dumps(expected(silent)))
    tested = list(try_examples(tmp_path))
    assert [each.example for each in tested] == ["example-silent.json", "example.json"]
    assert all(each.is_as_expected for each in tested)


# ---------------------------------------------------------------------- a first draft


def drafted(sent: object, topic: str = "t/one", node: str | None = None) -> tuple[str, Form]:
    draft = suggest(message(sent, topic, node), MELBOURNE)
    made = read(draft.text.encode())
    assert isinstance(made, Form), (draft.text, made)
    return draft.text, made


def test_a_draft_maps_a_nested_list_with_local_times() -> None:
    sent = {
        "station": "north",
        "recorded": {"start": "05.10.2026 07:30:00"},
        "position": {"lat": -37.4, "lng": 145.3},
        "results": [
            {"sci-name": "Crinia signifera", "score": 0.91, "offset": 1.5, "end": 4.5},
            {"sci-name": "Litoria ewingii", "score": 0.4, "offset": 7.0, "end": 8.5},
        ],
        "firmware": "2.1",
    }
    text, made = drafted(sent, "pond/north/results")
    trial = try_form(made, message(sent, "pond/north/results"), MELBOURNE)
    one, _ = trial.records
    assert isinstance(one, Detection)
    assert (one.species, one.confidence, one.node) == ("Crinia signifera", 0.91, "north")
    assert one.observed_at == datetime(2026, 10, 4, 20, 30, 1, 500_000, UTC)
    assert one.place is not None and one.place.longitude == 145.3
    assert 'topic = "pond/{node}/results"' in text
    assert 'zone = "site" }  # it names no zone' in text
    assert "format = " in text and "#   firmware = " in text


@pytest.mark.parametrize(("most", "scale"), [(0.5, "fraction"), (64, "percent"), (200, "byte")])
def test_the_scale_is_guessed_from_the_largest_value(most: float, scale: str) -> None:
    text, _ = drafted({"species": "Frog", "confidence": most})
    assert f'scale = "{scale}" }}  # a guess: the largest was {most}' in text


def test_a_draft_of_the_state_of_a_device() -> None:
    sent = {"battery": 71, "temp": 12.5, "humidity": 80, "vbat": 3.9, "time": 1_791_145_800}
    _, made = drafted(sent, "iotingestion/n/x", "n")
    first, *others = try_form(made, message(sent, "iotingestion/n/x", "n"), MELBOURNE).records
    assert isinstance(first, Telemetry) and first.health.battery_percent == 71
    assert {each.name: each.value for each in others if isinstance(each, Measurement)} == {
        "battery_volts": 3.9,
        "humidity_percent": 80,
    }


def test_names_that_say_little_are_read_with_what_is_around_them_and_their_values() -> None:
    call = {"what it was": "Chalinolobus gouldii", "q": 212}
    sent = {
        "sent": [{"dev": "bat-07", "t": 1_791_145_800, "calls": [call]}],
        "bat": {"v": 3.9, "pct": 71},
        "label": "Powerful owl",
    }
    _, made = drafted(sent | {"label": 7})
    one, state, volts = try_form(made, message(sent | {"label": 7}), MELBOURNE).records
    assert isinstance(one, Detection)
    assert (one.species, one.node) == ("Chalinolobus gouldii", "bat-07")
    assert isinstance(state, Telemetry) and state.health.battery_percent == 71
    assert isinstance(volts, Measurement) and volts.name == "battery_volts"
    _, made = drafted({"comment": "Powerful owl", "flux": 3})
    assert not [each for each in made.records if each.kind == "detection"]


def test_a_draft_of_a_table() -> None:
    table = b"Start (s),Scientific name,Confidence\n0,Crinia signifera,0.9\n"
    text, made = drafted(table)
    assert 'payload = "csv"' in text and "species = '\"Scientific name\"'" in text
    (one,) = try_form(made, message(table), MELBOURNE).records
    assert isinstance(one, Detection) and one.confidence == 0.9


def test_a_day_and_a_time_that_stand_apart_are_joined() -> None:
    sent = {"species": "Frog", "date": "2026-10-05", "time": "07:30:00", "tz": "+11:00"}
    text, made = drafted(sent)
    (one,) = try_form(made, message(sent), NO_ZONE).records
    assert one.observed_at == datetime(2026, 10, 4, 20, 30, tzinfo=UTC)
    assert 'join = "T", zone_from = "tz"' in text


@pytest.mark.parametrize(
    ("day", "clock", "written"),
    [
        ("05.10.2026", "07:30:00", "%d.%m.%Y %H:%M:%S"),
        ("05/10/2026", "07:30", "%d/%m/%Y %H:%M"),
    ],
)
def test_a_day_and_a_time_of_another_format_are_joined(day: str, clock: str, written: str) -> None:
    sent = {"calls": [{"species": "Frog"}], "when": {"day": day, "clock": clock}}
    text, made = drafted(sent)
    (one,) = try_form(made, message(sent), MELBOURNE).records
    assert one.observed_at == datetime(2026, 10, 4, 20, 30, tzinfo=UTC)
    assert f'join = " ", format = "{written}", zone = "site"' in text
    assert ("a guess: the day first" in text) == ("/" in day)


@pytest.mark.parametrize(
    "lines", [b"28/11/2026,21:14,Frog,87,3.7\n", b"12,Frog,0.9\n13,Toad,0.8\n"]
)
def test_lines_without_names_of_columns_are_not_drafted_but_it_says_what_to_type(
    lines: bytes,
) -> None:
    with pytest.raises(NoSuggestion, match='separator = ","') as refusal:
        suggest(message(lines), MELBOURNE)
    assert 'payload = "lines"' in str(refusal.value) and 'each = "rows"' in str(refusal.value)


def test_numbers_whose_unit_is_not_known_are_measurements() -> None:
    text, made = drafted({"flux": 3})
    assert 'flux = { from = "flux", unit = "?" }  # in which unit?' in text
    trial = try_form(made, message({"flux": 3}), MELBOURNE)
    (one,) = trial.records
    assert isinstance(one, Measurement) and one.value == 3
    assert "the unit of flux is not known: type it instead of ?" in trial.warnings


def test_a_draft_leaves_out_what_would_make_it_no_form_or_reject_its_message() -> None:
    """An offset counts from a time, and no call ends before it begins."""
    text, _ = drafted({"species": "Frog", "offset": 3})
    assert "offset_seconds" not in text and "#   offset = 3" in text
    at = "2026-10-04T20:30:00Z"
    sent = {"species": "Frog", "time": at, "start offset": 9, "end offset": 3}
    text, made = drafted(sent)
    assert "offset_seconds = " in text and "end_offset" not in text
    assert len(try_form(made, message(sent), MELBOURNE).records) == 1


@pytest.mark.parametrize("payload", [b"\x00\x01", b"hello", b'{"a": "b"}', b"", b"[]", b"[1]"])
def test_where_nothing_can_be_drafted_it_says_so(payload: bytes) -> None:
    with pytest.raises(NoSuggestion, match=r"docs/form-files\.md"):
        suggest(message(payload), MELBOURNE)


NAMES = st.sampled_from(
    ["species", "time", "date", "Score (%)", 'a"b', "lat", "lon", "id", "battery", "x.y", "é", ""]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["Crinia signifera", "2026-10-05 07:30:00", "0.5", "07:30", "\u2028", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=6))
def test_every_draft_is_a_form_that_reads_its_message(sent: dict[str, object]) -> None:
    arrived = message(sent)
    try:
        text = suggest(arrived, MELBOURNE).text
    except NoSuggestion:
        return
    made = read(text.encode())
    assert isinstance(made, Form), (text, made)
    assert try_form(made, arrived, MELBOURNE).records, text


@pytest.mark.parametrize("folder", sorted(SHIPPED.iterdir()), ids=lambda folder: folder.name)
def test_a_draft_of_each_shipped_example_can_be_read(folder: Path) -> None:
    (file,) = folder.glob("example.*")
    arrived = Message("t/one", file.read_bytes(), 1_791_145_860_000)
    try:
        text = suggest(arrived, Rules(zone=ZoneInfo("Australia/Melbourne"))).text
    except NoSuggestion:
        return
    made = Forms.of_sources([("draft.toml", text.encode())])
    assert made.errors == {}
    assert try_forms(made, arrived, MELBOURNE).records
