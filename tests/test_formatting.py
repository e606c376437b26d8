"""How values are shown to people: numbers with units, spans, times with zones, nights."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_ingest.web.console import formatting
from echo_ingest.web.console.rendering import data, query

MELBOURNE = ZoneInfo("Australia/Melbourne")
UTC_ZONE = ZoneInfo("UTC")
NOW = datetime(2026, 9, 14, 5, 45, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formatting.number(12_304), "12\u202f304"),
        (formatting.number(-4.5, 1), "−4.5"),
        (formatting.number(-0.04, 1), "0.0"),
        (formatting.number(float("nan")), "–"),
        (formatting.with_unit(4.1, "V", 1), "4.1\u00a0V"),
        (formatting.counted(1, "nodes"), "1 node"),
        (formatting.counted(0, "nodes"), "0 nodes"),
        (formatting.counted(1_204, "records"), "1\u202f204 records"),
        (formatting.size(999), "999\u00a0B"),
        (formatting.size(588_000), "588\u00a0kB"),
        (formatting.size(999_999), "1.0\u00a0MB"),
        (formatting.size(1.24e9), "1.2\u00a0GB"),
        (formatting.per_second(0), "0\u00a0/s"),
        (formatting.per_second(1_204), "1\u202f204\u00a0/s"),
        (formatting.per_second(3.24), "3.2\u00a0/s"),
        (formatting.per_second(0.05), "3.0\u00a0/min"),
        (formatting.per_second(0.01, beside=0.05), "0.6\u00a0/min"),
        (formatting.per_second(10 / 3600), "10\u00a0/h"),
        (formatting.span(0.4), "less than a second"),
        (formatting.span(1), "1 second"),
        (formatting.span(119), "1 minute"),
        (formatting.span(120), "2 minutes"),
        (formatting.span(3 * 3600 + 20 * 60), "3 hours 20 minutes"),
        (formatting.span(3 * 3600), "3 hours"),
        (formatting.span(26 * 3600), "1 day 2 hours"),
        (formatting.span(12 * 86_400 + 3600), "12 days"),
        (formatting.ago(NOW - timedelta(minutes=2), NOW), "2 minutes ago"),
        (formatting.ago(NOW + timedelta(days=1), NOW), "in 1 day"),
        (formatting.ago(NOW, NOW), "just now"),
    ],
)
def test_numbers_and_spans(text: str, expected: str) -> None:
    assert text == expected


@pytest.mark.parametrize(
    ("when", "short"),
    [
        (NOW, "15:45 AEST"),
        (NOW - timedelta(hours=24), "yesterday 15:45 AEST"),
        (NOW - timedelta(days=10), "4 Sep, 15:45 AEST"),
        (NOW - timedelta(days=300), "18 Nov 2025, 16:45 AEDT"),
        (int(NOW.timestamp() * 1000), "15:45 AEST"),
    ],
)
def test_a_time_says_its_zone_and_no_more_of_its_day_than_needed(
    when: formatting.Moment, short: str
) -> None:
    assert formatting.moment_short(when, NOW, MELBOURNE) == short


def test_a_zone_without_letters_says_how_far_it_is_from_utc() -> None:
    assert formatting.clock(NOW, ZoneInfo("America/Sao_Paulo")) == "02:45 UTC−3"
    assert formatting.clock(NOW, ZoneInfo("Asia/Kathmandu")) == "11:30 UTC+5:45"
    assert formatting.moment(NOW, UTC_ZONE) == "14 Sep 2026, 05:45:00 UTC"
    assert formatting.iso(NOW) == "2026-09-14T05:45:00Z"


@pytest.mark.parametrize(
    "name", ["", "../etc/passwd", "/etc/localtime", "Mars/Base", "a" * 65, "Australia", "x\0y", "é"]
)
def test_a_zone_that_is_none_is_utc(name: str) -> None:
    assert formatting.zone_called(name).key == "UTC"


def test_a_night_is_written_with_its_evening_and_its_morning() -> None:
    assert formatting.night_name(date(2026, 10, 3)) == "night of 3 to 4 Oct 2026"
    assert formatting.night_name(date(2026, 9, 30)) == "night of 30 Sep to 1 Oct 2026"
    assert formatting.night_name(date(2026, 12, 31)) == "night of 31 Dec 2026 to 1 Jan 2027"


@given(st.datetimes(timezones=st.timezones()), st.timezones())
def test_every_time_can_be_said(when: datetime, zone: ZoneInfo) -> None:
    assert re.fullmatch(r"\d\d:\d\d \S+", formatting.clock(when, zone))
    assert formatting.moment(when, zone)
    assert formatting.moment_short(when, NOW, zone)
    assert formatting.ago(when, NOW)


def test_data_of_a_page_cannot_end_its_element() -> None:
    text = str(data({"name": "</script><!-- & é \n"}))
    assert "<" not in text
    assert json.loads(text) == {"name": "</script><!-- & é \n"}


def test_what_cannot_be_seen_is_spelled_out_in_the_data_of_a_page() -> None:
    assert json.loads(str(data({"name": "a\u2028b\u202e"}))) == {"name": r"a\u2028b\u202e"}


def test_an_address_keeps_what_was_asked_and_changes_what_is_told() -> None:
    assert query("/console/calls", {"node": "a b", "species": ""}, page=2) == (
        "/console/calls?node=a+b&page=2"
    )
    assert query("/console/calls", {"node": "a"}, node=None) == "/console/calls"
