"""The pages of calls, over HTTP, in front of a real journal."""

import base64
import html
import json
import re
import shlex
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest
from yarl import URL

from echo_ingest.almanac import Night, SpeciesNight
from echo_ingest.decode import Decoder
from echo_ingest.quality import ClipProblem, TimeProblem
from echo_ingest.record import Message, RecordId
from echo_ingest.simulator.sounds import CALLS, wav
from echo_ingest.web.console.calls.nights import SHADES, night_name, shade, table
from echo_ingest.web.console.calls.query import CallsQuery
from tests.console.browsing import Browser, browsing
from tests.harness import Harness

MELBOURNE = ZoneInfo("Australia/Melbourne")
HEARD = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=30)
CLIP = wav(CALLS[0], 2.0, 16_000, Random(1))
EWINGII, SIGNIFERA = "Litoria ewingii", "Crinia signifera"
GUANO = f"GUANO|Version: 1.0\nTimestamp: {HEARD.isoformat()}\nTemperature Int: 8.5"


def call(species: str, after: float, node: str = "ridge-07", **more: object) -> Message:
    """Return an edge prediction, observed `after` seconds from `HEARD`."""
    at = HEARD + timedelta(seconds=after)
    fields = {
        "sensor_id": "node-7",
        "timestamp": str(int(at.timestamp())),
        "species": species,
        "confidence": 63.64,
        **more,
    }
    return sent(node, json.dumps(fields).encode(), at)


def sent(node: str, payload: bytes, at: datetime = HEARD, rest: str = "") -> Message:
    received_at_ms = int(at.timestamp() * 1000) + 400
    return Message(f"iotingestion/{node}{rest}", payload, received_at_ms, node)


def named_clip() -> Message:
    """Return a call with a clip, of a species without a common name."""
    fields = {
        "timestamp": HEARD.isoformat(),
        "sensorId": "node-9",
        "species": "Draco <b>dormiens",
        "source_model": "efficientnetv2",
        "audioClip": base64.b64encode(CLIP).decode(),
        "microphoneLLA": [-38.7712, 143.5021, 112.0],
    }
    return sent("creek-02", json.dumps(fields).encode())


TOP = [
    {"label": EWINGII, "confidence": 63.64},
    {"label": SIGNIFERA, "confidence": 23.41},
    {"label": "Background", "confidence": 1.17},
]
STORED = (
    sent("ridge-07", wav(CALLS[0], 20.0, 8_000, Random(2), GUANO), rest="/recording"),
    call(EWINGII, 5, top5=TOP),
    call(SIGNIFERA, 12, confidence=91.0),
    call(EWINGII, -3_600, node="creek-02"),
    named_clip(),
    sent("swamp-01", b'{"status": "online"}'),
    sent("swamp-01", json.dumps({"audio_file": base64.b64encode(CLIP).decode()}).encode()),
)


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browsing(tmp_path) as browser:
        address = URL(f"http://127.0.0.1:{browser.port}")
        browser.http.cookie_jar.update_cookies({"zone": MELBOURNE.key}, address)
        browser.journal.append([(m, Decoder(1_000_000).identify(m)) for m in STORED])
        browser.catch_up()
        yield browser


def listed(text: str) -> list[str]:
    """Return where the lines of the list lead."""
    return list(
        dict.fromkeys(re.findall(r'href="/console/calls/(\d+)"', text.split('id="list"')[-1]))
    )


LISTS = [
    ("", ["3", "2", "5", "4"]),
    ("?species=Litoria+ewingii", ["2", "4"]),
    ("?species=brown+tree+FROG", ["2", "4"]),
    ("?node=creek-02", ["5", "4"]),
    ("?confidence=70", ["3"]),
    ("?species=Litoria+ewingii&confidence=70", []),
    ("?before=2", ["5", "4"]),
    ("?node=nobody", []),
    ("?show=recordings", ["7", "1"]),
    ("?show=recordings&node=ridge-07", ["1"]),
    ("?show=recordings&before=7", ["1"]),
    (f"?to={HEARD:%Y-%m-%dT%H:%M:%S}&zone=UTC", ["4"]),
    (f"?from={HEARD + timedelta(seconds=6):%Y-%m-%dT%H:%M:%S}%2B00:00", ["3"]),
]


async def test_calls_are_chosen_by_the_address(browser: Browser) -> None:
    for query, offsets in LISTS:
        assert await browser.get(f"/console/calls{query}") == 200, query
        assert listed(browser.text) == offsets, query


async def test_a_wrong_filter_is_explained_and_nothing_shown(browser: Browser) -> None:
    assert await browser.get("/console/calls?confidence=0.7&from=%3Cb%3E&node=a&node=b") == 400
    assert "steps of ten" in browser.text and "filter is not valid" in browser.text
    assert "is not a time" in browser.text
    assert "given twice" in browser.text and "(you gave &lt;b&gt;)" in browser.text
    assert EWINGII not in browser.text.split("</datalist>")[-1]


async def test_a_filter_that_matches_nothing_says_so(browser: Browser) -> None:
    for query, words in (
        ("node=nobody", "No calls match your filter."),
        ("show=recordings&node=nobody", "No recordings match your filter."),
        ("before=4", "There are no earlier calls."),
    ):
        assert await browser.get(f"/console/calls?{query}") == 200
        assert words in browser.text, query
    assert await browser.get("/console/calls") == 200
    assert "match your filter" not in browser.text


async def test_each_number_of_the_nights_leads_to_as_many_calls(browser: Browser) -> None:
    assert await browser.get("/console/calls") == 200
    cells = re.findall(r'<td class="heat heat-\d"><a href="([^"]+)">(\d+)<', browser.text)
    assert sorted(int(count) for _, count in cells) in ([1, 1, 1, 1], [1, 1, 2])
    for address, count in cells:
        assert await browser.get(html.unescape(address)) == 200
        assert len(listed(browser.text)) == int(count)


async def test_calls_of_a_host_clock_that_was_ahead_do_not_lead(
    browser: Browser,
) -> None:
    ahead = call("Ninox strenua", 30 * 3_600 + 86_400)
    browser.journal.append([(ahead, Decoder(1_000_000).identify(ahead))])
    browser.catch_up()
    assert await browser.get("/console/calls") == 200
    assert listed(browser.text)[0] == "3"
    (address,) = re.findall(r'was wrong. <a href="([^"]+)"', browser.text)
    assert await browser.get(html.unescape(address)) == 200
    assert listed(browser.text) == ["8"]


async def test_a_species_that_was_published_is_not_looked_up_by_common_name(
    browser: Browser,
) -> None:
    other = call("Brown tree frog", 20)
    browser.journal.append([(other, Decoder(1_000_000).identify(other))])
    browser.catch_up()
    assert await browser.get("/console/calls?species=Brown+tree+frog") == 200
    assert listed(browser.text) == ["8"]


async def test_an_empty_page_teaches(tmp_path: Path) -> None:
    async with browsing(tmp_path) as browser:
        assert await browser.get("/console/calls") == 200
        assert "echo-ingest publish --wait --node ridge-07 frog.json" in browser.text
        assert await browser.get("/console/calls?show=recordings") == 200
        assert "recording.wav" in browser.text


async def test_a_call_shows_species_time_place_and_confidence(browser: Browser) -> None:
    assert await browser.get("/console/calls/2") == 200
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", browser.text)).split())
    assert "Litoria ewingii Brown tree frog" in text
    assert "64 %" in text and "23 %" in text and "Background not an animal" in text
    local = (HEARD + timedelta(seconds=5)).astimezone(MELBOURNE)
    assert f"{local.day} {local:%b %Y, %H:%M:%S %Z} , at ridge-07" in text
    assert "its sensor id is node-7" in text
    assert 'rel="prev" href="/console/calls' not in browser.text
    assert '<a rel="next" href="/console/calls/3">' in browser.text


async def test_a_call_is_marked_in_the_recording_that_was_under_way(browser: Browser) -> None:
    for offset, this in ((2, [True, False]), (3, [False, True]), (1, [False, False])):
        assert await browser.get(f"/console/calls/{offset}") == 200
        (marks,) = re.findall(r'id="clip-marks">(.*?)</script>', browser.text)
        shown = sorted(json.loads(marks), key=lambda mark: float(mark["from_seconds"]))
        assert [mark["from_seconds"] for mark in shown] == [5.0, 12.0]
        assert [mark["species"] for mark in shown] == [EWINGII, SIGNIFERA]
        assert [mark["is_this"] for mark in shown] == this
        assert 'data-clip="/console/calls/1/clip"' in browser.text
        assert f'data-starts-at-ms="{int(HEARD.timestamp() * 1000)}"' in browser.text
        assert 'data-sample-rate-hz="8000"' in browser.text
    assert "Temperature Int" in browser.text


async def test_a_clip_comes_byte_for_byte_whole_and_in_parts(browser: Browser) -> None:
    assert await browser.get("/console/calls/5") == 200
    assert "Draco &lt;b&gt;dormiens" in browser.text and "<b>dormiens" not in browser.text
    assert "38.77120°" in browser.text and "characters of base64" in browser.text
    async with browser.http.get("/console/calls/5/clip") as reply:
        assert (reply.status, reply.content_type) == (200, "audio/wav")
        assert await reply.read() == CLIP
    async with browser.http.get("/console/calls/5/clip", headers={"Range": "bytes=44-"}) as reply:
        assert (reply.status, await reply.read()) == (206, CLIP[44:])
    async with browser.http.get("/console/calls/5/message") as reply:
        assert await reply.read() == STORED[4].payload


ABSENT = [
    ("/console/calls/6", "record 6 is neither a call nor a recording"),
    ("/console/calls/99", "there is no record 99; the newest one is 7"),
    ("/console/calls/0", "there is no record 0"),
    ("/console/calls/99999999999999999999", "there is no record 99999999999999999999"),
    ("/console/calls/4/clip", "record 4 has no clip"),
    ("/console/calls/99/message", "there is no record 99"),
]


async def test_a_missing_record_is_explained(browser: Browser) -> None:
    for path, words in ABSENT:
        assert await browser.get(path) == 404, path
        assert words.casefold() in html.unescape(browser.text).casefold(), path


async def test_a_record_that_retention_removed_is_explained(browser: Browser) -> None:
    browser.journal.trim(int(datetime.now(UTC).timestamp() * 1000))
    assert await browser.get("/console/calls/2") == 404
    assert "Record 2 is gone" in browser.text


async def test_the_command_that_is_shown_exports_what_is_shown(
    browser: Browser, tmp_path: Path
) -> None:
    since = HEARD - timedelta(minutes=1)
    query = f"species=litoria+EWINGII&from={since:%Y-%m-%dT%H:%M}&zone=UTC"
    assert await browser.get(f"/console/calls?{query}") == 200
    (shown,) = re.findall(r"<code>(echo-ingest export .*?)</code>", browser.text)
    program, command, folder, *options = shlex.split(html.unescape(shown))
    assert (program, folder) == ("echo-ingest", "calls")
    done = Harness(browser.settings.data_dir).cli(command, str(tmp_path / folder), *options)
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / folder / "detections.csv").read_text().splitlines()
    assert len(rows) == 1 + len(listed(browser.text)) == 2


# ---------------------------------------------------------------------- what is not believed

WRONG_TIMES = [
    ("2036-02-07T06:28:16Z", TimeProblem.AFTER_RECEIPT),
    ("2000-01-01T00:01:00Z", TimeProblem.CLOCK_NOT_SET),
    ("1980-01-06T00:01:00Z", TimeProblem.CLOCK_NOT_SET),
    ("2011-03-01T00:00:00Z", TimeProblem.BEFORE_FIRST_DAY),
    (f"{HEARD - timedelta(weeks=1024):%Y-%m-%dT%H:%M:%SZ}", TimeProblem.GPS_WEEK_ROLLOVER),
    (f"{HEARD:%Y-%m-%dT%H:%M:%S}", TimeProblem.ZONE_UNKNOWN),
]


@pytest.mark.parametrize(("written", "problem"), WRONG_TIMES, ids=range(len(WRONG_TIMES)))
async def test_a_page_says_why_a_time_is_not_believed_and_what_the_device_wrote(
    browser: Browser, written: str, problem: TimeProblem
) -> None:
    fields = {"id": "w", "sensor_id": "s", "species": EWINGII, "confidence": 60}
    body = json.dumps({**fields, "timestamp": written}).encode()
    browser.journal.append([(m := sent("ridge-07", body), Decoder(1_000_000).identify(m))])
    browser.catch_up()
    assert await browser.get("/console/calls/8") == 200
    text = html.unescape(browser.text)
    assert problem.summary in text and problem.advice in text
    assert f"<code>{written}</code>" in text and "The time shown is that of receipt." in text
    assert "the message gives no time" not in text
    assert await browser.get("/console/calls?node=ridge-07") == 200
    rows = browser.text.split("<tr>")
    (row,) = [row for row in rows if "/console/calls/8" in row]
    (other,) = [row for row in rows if "/console/calls/2" in row and "<time" in row]
    assert ">received</span>" in row and ">received</span>" not in other
    assert await browser.get("/console/nodes/ridge-07") == 200
    assert problem.summary in html.unescape(browser.text)


async def test_what_is_no_animal_has_a_page_and_is_in_no_list(browser: Browser) -> None:
    top = [{"label": "Engine", "confidence": 90.0}, {"label": EWINGII, "confidence": 5.0}]
    engine = call("Engine", 100, confidence=90, top5=top)
    browser.journal.append([(engine, Decoder(1_000_000).identify(engine))])
    browser.catch_up()
    assert await browser.get("/console/calls") == 200
    assert "Engine" not in browser.text and "8" not in listed(browser.text)
    assert await browser.get("/console/calls/8") == 200
    assert browser.text.count("not an animal") == 2  # in the heading, and in the list of labels
    assert await browser.get("/console") == 200
    assert "Engine" not in browser.text


async def test_a_page_says_how_a_time_was_corrected(tmp_path: Path) -> None:
    line = {"name": "ridge-07", "made_at": "2026-01-01T00:00:00Z", "hash": None, "login": False}
    nodes = json.dumps({**line, "clock_ahead_seconds": 39_600})
    (tmp_path / "nodes.jsonl").write_text(nodes + "\n")
    async with browsing(tmp_path, nodes_file=tmp_path / "nodes.jsonl") as browser:
        ahead = HEARD + timedelta(hours=11)
        body = {"id": "w", "sensor_id": "s", "species": EWINGII, "confidence": 60}
        body["timestamp"] = f"{ahead:%Y-%m-%dT%H:%M:%SZ}"
        message = sent("ridge-07", json.dumps(body).encode())
        browser.journal.append([(message, Decoder(1_000_000).identify(message))])
        assert await browser.get("/console/calls/1") == 200
        text = html.unescape(browser.text)
        assert TimeProblem.CORRECTED.summary in text
        assert f"<code>{body['timestamp']}</code>" in text
        assert "The time shown is that of receipt." not in text


async def test_a_page_says_how_the_header_of_a_clip_differs_from_its_sound(
    browser: Browser,
) -> None:
    header = bytearray(CLIP)
    header[40:44] = b"\xff\xff\xff\xff"  # as a program writes that writes to a pipe
    browser.journal.append([(m := sent("pipe-01", bytes(header)), Decoder(1_000_000).identify(m))])
    browser.catch_up()
    assert await browser.get("/console/calls/8") == 200
    problem = ClipProblem.LENGTH_NOT_ANNOUNCED
    text = html.unescape(browser.text)
    assert problem.summary in text and problem.advice in text
    assert await browser.get("/console/calls/7") == 200
    assert "clip-problem" not in browser.text


# ---------------------------------------------------------------------- nights

NOW = datetime(2026, 9, 14, 8, tzinfo=MELBOURNE)


def night_of(evening: int, **calls: int) -> Night:
    noon = datetime(2026, 9, evening, 12, tzinfo=MELBOURNE)
    since_ms = int(noon.timestamp() * 1000)
    species = [
        SpeciesNight(s, None, n, 1, 0.9, RecordId(7), since_ms, since_ms) for s, n in calls.items()
    ]
    return Night(noon.date(), since_ms, since_ms + 86_400_000, tuple(species))


def test_nights_without_a_call_have_their_column_too() -> None:
    laid = table(
        [night_of(13, frog=4, owl=1), night_of(11, frog=100)], CallsQuery(), NOW, MELBOURNE
    )
    assert [(column.name, column.calls) for column in laid.columns] == [
        ("last night", 5),
        ("Sat 12 Sep", 0),
        ("Fri 11 Sep", 100),
    ]
    cells = {row.species: [c.calls if c else None for c in row.cells] for row in laid.rows}
    assert cells == {"frog": [4, None, 100], "owl": [1, None, None]}
    assert laid.rows[0].species == "frog"
    night = laid.called("last night")
    assert night is not None and night[1] is not None and night[1].species == "frog"
    assert laid.called("tonight") is None


def test_where_all_is_long_silent_the_last_nights_with_a_call_are_shown() -> None:
    long_ago = [night_of(2, owl=1)]
    later = NOW + timedelta(days=40)
    laid = table(long_ago, CallsQuery(), later, MELBOURNE)
    assert [column.name for column in laid.columns] == ["Wed 2 Sep"]
    assert table([], CallsQuery(), later, MELBOURNE).rows == []


@pytest.mark.parametrize(
    ("hour", "names"),
    [
        (8, ["last night", "Sat 12 Sep"]),
        (11, ["last night", "Sat 12 Sep"]),
        (0, ["last night", "Sat 12 Sep"]),
        (2, ["last night", "Sat 12 Sep"]),
    ],
)
def test_a_night_is_called_as_people_call_it_then(hour: int, names: list[str]) -> None:
    now = NOW.replace(hour=hour)
    evenings = [NOW.date() - timedelta(days=back) for back in (1, 2)]
    assert [night_name(evening, now, MELBOURNE) for evening in evenings] == names
    afternoon = NOW.replace(hour=15)
    assert night_name(NOW.date(), afternoon, MELBOURNE) == "tonight"
    assert night_name(evenings[0], afternoon, MELBOURNE) == "last night"


def test_one_call_is_seen_beside_a_chorus() -> None:
    assert shade(1, 1_000_000) == 1
    assert shade(1_000_000, 1_000_000) == shade(1, 1) == SHADES
    shades = [shade(calls, 500) for calls in range(1, 501)]
    assert shades == sorted(shades) and set(shades) == set(range(1, SHADES + 1))
