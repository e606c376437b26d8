"""A message of several records: which they are, how they are read, and that nothing is divided.

What each sink makes of them is in tests/sinks/test_contract.py.
"""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import msgspec
import pytest
from typer.testing import CliRunner
from yarl import URL

from echo_ingest import web
from echo_ingest.almanac import Almanac, CallFilter, Follower, almanac_path
from echo_ingest.cli import app, export, parked, records
from echo_ingest.export.camtrap.project import read
from echo_ingest.journal import Entry, Journal
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.decoding import Unreadable, decode_entry
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.pipeline.deliver import Deliver
from echo_ingest.record import (
    RECORDS_MAX,
    Duplicate,
    Identity,
    Message,
    RecordId,
    Rejected,
    Stored,
    kind,
    record_key,
)
from echo_ingest.settings import Settings
from echo_ingest.simulator.sounds import CALLS, wav
from echo_ingest.sinks import Delivery, Written
from tests.export.exporting import export_package, export_tables, files, request_for
from tests.export.test_package import PROJECT
from tests.harness import HTTP_TOKEN, TOKENS, free_port
from tests.recount import HOUR_MS, check
from tests.several_records import DECODER_OF_SEVERAL, call, several, sound_level
from tests.test_web import Fine, serving

MORNING_MS = 1_795_000_000_000
SOUND = wav(CALLS[0], 1.0, 8_000, Random(1))
STATUS: dict[str, object] = {
    "nodeId": "ridge-01", "status": "online", "timestamp": 1_795_000_300, "batteryPct": 71,
}  # fmt: skip
OF_THREE = several(
    1,
    call(0, "Litoria ewingii"),
    call(60, "Crinia signifera", audioClip=base64.b64encode(SOUND).decode()),
    call(120, "Litoria ewingii", confidence=90.0),
)
MIXED = several(2, STATUS, call(180, "Ninox strenua"))
OF_ONE = several(3, call(240, "Ninox strenua"))
ECHO = Message(
    "iotingestion/ridge-01",
    json.dumps(call(300, "Vulpes vulpes")).encode(),
    MORNING_MS + 600_000,
    "ridge-01",
)
MESSAGES = (OF_THREE, MIXED, OF_ONE, ECHO)
IDS = ["1", "1-1", "1-2", "2", "2-1", "3", "4"]
"""All records, in order of arrival."""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    journal = Journal(folder / "journal.db")
    journal.append([(each, DECODER_OF_SEVERAL.identify(each)) for each in MESSAGES])
    yield journal
    journal.close()


# ---------------------------------------------------------------------- which record


def test_the_name_of_a_record_can_be_read_again() -> None:
    for text in ("1", "7-2", "9007199254740991-999"):
        record = RecordId.parse(text)
        assert record is not None and str(record) == text
    for wrong in (
        "",
        "0",
        "-1",
        "7-0",
        "7-02",
        "7-1000",
        "7-",
        "07",
        "7.2",
        "٧",
        "99999999999999999",
    ):
        assert RecordId.parse(wrong) is None, wrong
    assert RecordId(7, 3) < RecordId(8) < RecordId(8, 1)


def test_the_first_record_has_the_key_of_its_message_and_no_two_share_one() -> None:
    key = bytes(range(16))
    keys = [record_key(key, index) for index in range(RECORDS_MAX)]
    assert keys[0] == key
    assert len(set(keys)) == RECORDS_MAX and {len(each) for each in keys} == {16}
    assert {each[:4] for each in keys} == {key[:4]}
    assert record_key(bytes(16), 1) != record_key(key, 1)[:4] + record_key(bytes(16), 1)[4:]


def test_an_identity_names_every_kind_of_record_once() -> None:
    for message, kinds in ((OF_THREE, "detection"), (MIXED, "telemetry,detection")):
        identity = DECODER_OF_SEVERAL.identify(message)
        assert isinstance(identity, Identity)
        assert (identity.kind, identity.node) == (kinds, "ridge-01")


def test_a_message_is_rejected_as_a_whole() -> None:
    wrong = several(9, call(0), call(1, confidence=700.0))
    for verdict in (DECODER_OF_SEVERAL.decode(wrong), DECODER_OF_SEVERAL.identify(wrong)):
        assert isinstance(verdict, Rejected) and verdict.field == "parts[1].confidence"
    assert DECODER_OF_SEVERAL.records(wrong) == ()


def test_a_message_has_at_most_a_thousand_records() -> None:
    most = several(9, *map(call, range(RECORDS_MAX)))
    assert len(DECODER_OF_SEVERAL.records(most)) == RECORDS_MAX
    more = several(9, *map(call, range(RECORDS_MAX + 1)))
    for verdict in (DECODER_OF_SEVERAL.decode(more), DECODER_OF_SEVERAL.identify(more)):
        assert isinstance(verdict, Rejected) and "more than 1,000 records" in verdict.detail


def test_what_is_in_no_form_and_what_is_too_large_is_as_without_forms() -> None:
    without = msgspec.structs.replace(DECODER_OF_SEVERAL, forms=None)
    assert DECODER_OF_SEVERAL.decode(ECHO) == without.decode(ECHO)
    assert DECODER_OF_SEVERAL.identify(ECHO) == without.identify(ECHO)
    small = msgspec.structs.replace(DECODER_OF_SEVERAL, payload_bytes_max=100)
    cut = msgspec.structs.replace(OF_THREE, properties_cut=True)
    for decoder, message in ((small, OF_THREE), (DECODER_OF_SEVERAL, cut)):
        verdict = decoder.identify(message)
        assert isinstance(verdict, Rejected)
        no_forms = msgspec.structs.replace(decoder, forms=None)
        assert verdict == no_forms.identify(message) == decoder.decode(message)


def test_a_message_of_several_is_one_record_of_the_ledger_and_known_again(journal: Journal) -> None:
    later = msgspec.structs.replace(OF_THREE, received_at_ms=OF_THREE.received_at_ms + 5_000)
    outcomes = journal.append([(later, DECODER_OF_SEVERAL.identify(later))]).outcomes
    assert outcomes == [Duplicate(1)]
    assert journal.ledger().stored == len(MESSAGES)
    new = several(4, call(0), call(0))
    assert journal.append([(new, DECODER_OF_SEVERAL.identify(new))]).outcomes == [Stored(5)]


# ---------------------------------------------------------------------- in the journal


def ids(reader: JournalReader, selection: Selection) -> list[str]:
    """Return all selected records, in order of arrival."""
    found: list[str] = []
    after = 0
    while page := reader.after(selection, after, limit=2):
        after = page[-1].offset
        decoded = records.decoded_records(DECODER_OF_SEVERAL, selection, page)
        found += [str(RecordId(each.entry.offset, each.index)) for each in decoded]
    return found


def at(second: int) -> datetime:
    return datetime.fromtimestamp(1_795_000_000 + second, UTC)


def test_records_are_selected_and_not_their_messages(journal: Journal) -> None:
    with contextlib.closing(JournalReader(journal.path, DECODER_OF_SEVERAL)) as reader:
        assert ids(reader, Selection()) == IDS
        assert ids(reader, Selection(kind="telemetry")) == ["2"]
        assert ids(reader, Selection(kind="detection")) == [each for each in IDS if each != "2"]
        assert ids(reader, Selection(kind="movement")) == []
        assert ids(reader, Selection(since=at(60), until=at(181))) == ["1-1", "1-2", "2-1"]
        assert ids(reader, Selection(kind="telemetry", until=at(200))) == []
        assert ids(reader, Selection(kind="telemetry", since=at(200))) == ["2"]


def test_a_kind_is_not_found_in_the_name_of_another(journal: Journal) -> None:
    with contextlib.closing(JournalReader(journal.path, DECODER_OF_SEVERAL)) as reader:
        assert reader.after(Selection(kind="detect"), 0) == []
        assert reader.after(Selection(kind="telemetry,detection"), 0) != []


def test_a_damaged_message_gives_no_record(journal: Journal) -> None:
    first = entries(journal)[0]
    decoded = decode_entry(DECODER_OF_SEVERAL, first)
    assert not isinstance(decoded, Unreadable)
    assert [kind(each) for each in decoded] == ["detection"] * 3
    damaged = msgspec.structs.replace(first, damaged=True)
    assert isinstance(decode_entry(DECODER_OF_SEVERAL, damaged), Unreadable)


def entries(journal: Journal) -> list[Entry]:
    with contextlib.closing(JournalReader(journal.path)) as reader:
        return reader.after(Selection(), 0)


# ---------------------------------------------------------------------- delivery


class Counting:
    """A sink that takes everything, and remembers how many records it was offered at once."""

    name = "counting"
    address = "here"
    batch_records_max = 100
    is_idempotent = True

    def __init__(self) -> None:
        self.offered: list[list[int]] = []
        self.taken: list[int] = []

    async def write(self, batch: Sequence[Delivery]) -> Written:
        self.offered.append([len(each.records) for each in batch])
        self.taken += [each.offset for each in batch]
        await asyncio.sleep(0)
        return Written(len(batch))

    async def probe(self) -> None: ...

    async def close(self) -> None: ...


async def test_a_batch_ends_with_the_message_that_fills_it(tmp_path: Path) -> None:
    counts = [1, 60, 60, 1, RECORDS_MAX, 99, 1, 1, 3]
    journal = Journal(tmp_path / "journal.db")
    arrived = [several(n, *map(call, range(count))) for n, count in enumerate(counts)]
    journal.append([(each, DECODER_OF_SEVERAL.identify(each)) for each in arrived])
    sink, stopping = Counting(), asyncio.Event()
    deliver = Deliver(journal, sink, DECODER_OF_SEVERAL)
    task = asyncio.create_task(deliver.run(stopping))
    async with asyncio.timeout(10):
        while len(sink.taken) < len(counts):
            await asyncio.sleep(0.005)
        stopping.set()
        deliver.wake()
        await task
    assert sink.offered == [[1, 60, 60], [1, RECORDS_MAX], [99, 1], [1, 3]]
    assert sink.taken == list(range(1, len(counts) + 1))
    assert journal.ledger().sinks["counting"].delivered == len(counts)
    journal.close()


# ---------------------------------------------------------------------- the almanac


def follow(journal: Journal) -> Follower:
    follower = Follower(almanac_path(journal.path.parent), journal.path, DECODER_OF_SEVERAL)
    for _ in follower.round():
        pass
    return follower


def test_the_almanac_has_each_call_of_a_message(journal: Journal) -> None:
    path = almanac_path(journal.path.parent)
    follow(journal).close()
    check(path, journal.path)
    with contextlib.closing(Almanac(path)) as almanac:
        listed = [str(each.record) for each in almanac.calls(CallFilter())]
        assert listed == ["4", "3", "2-1", "1-2", "1-1", "1"]
        assert almanac.neighbours(RecordId(1, 1)) == (RecordId(1), RecordId(1, 2))
        page = almanac.calls(CallFilter(), 2, before=RecordId(1, 2))
        assert [str(each.record) for each in page] == ["1-1", "1"]
        clips = {str(each.record): each.clip_record for each in almanac.calls(CallFilter())}
        assert clips["1-1"] == RecordId(1, 1) and clips["1-2"] is None
        (night,) = almanac.nights(CallFilter(species="Litoria ewingii"), ZoneInfo("UTC"))
        assert night.species[0].best_record == RecordId(1, 2)
        node = almanac.node("ridge-01", MORNING_MS + 600_000, MORNING_MS)
        assert node is not None and node.last_clip == RecordId(1, 1)
        assert node.messages_today == len(MESSAGES), "messages are counted, as in the ledger"


def test_the_almanac_hears_each_node_that_a_message_names(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    parts = [call(second, speaksFor=f"pond-{second % 2}") for second in range(3)]
    of_gateway = msgspec.structs.replace(several(1, *parts), topic="lora/up", node=None)
    journal.append([(of_gateway, DECODER_OF_SEVERAL.identify(of_gateway))])
    follow(journal).close()
    with contextlib.closing(Almanac(almanac_path(tmp_path))) as almanac:
        for name, calls in (("pond-0", ["1-2", "1"]), ("pond-1", ["1-1"])):
            node = almanac.node(name, MORNING_MS + 700_000, MORNING_MS)
            assert node is not None and node.last_heard_at_ms == of_gateway.received_at_ms
            assert (node.messages_today, node.calls_today) == (1, len(calls))
            listed = almanac.calls(CallFilter(node=name))
            assert [str(each.record) for each in listed] == calls
    journal.close()


def test_the_bands_of_a_sound_level_are_one_message_of_the_calendar(tmp_path: Path) -> None:
    """Nor do they tell more of a clock than one message: ten make a constant."""
    journal = Journal(tmp_path / "journal.db")
    bands = [sound_level(0, 40 + number) for number in range(30)]
    for number, parts in enumerate(([sound_level(-3_600, 39), *bands], bands)):
        message = several(number, *parts, received_at_ms=MORNING_MS + HOUR_MS + number)
        journal.append([(message, DECODER_OF_SEVERAL.identify(message))])
    follow(journal).close()
    check(almanac_path(tmp_path), journal.path)
    with contextlib.closing(Almanac(almanac_path(tmp_path))) as almanac:
        hours = almanac.calendar("ridge-01", 0, 2**44)
        assert [(hour.received, hour.observed) for hour in hours] == [(0, 1), (0, 2), (2, 0)]
        node = almanac.node("ridge-01", MORNING_MS + 2 * HOUR_MS, MORNING_MS)
        assert node is not None and node.messages_today == 2
        assert node.clock is not None and node.clock.constant_over == 0
    journal.close()


def test_the_almanac_follows_messages_of_a_thousand_records(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    for number in range(6):
        parts = [call(3 * second, f"species {second % 7}") for second in range(RECORDS_MAX)]
        message = several(number, *parts, received_at_ms=MORNING_MS + 3_600_000)
        journal.append([(message, DECODER_OF_SEVERAL.identify(message))])
    follow(journal).close()
    with contextlib.closing(Almanac(almanac_path(tmp_path))) as almanac:
        assert sum(each.calls for each in almanac.species()) == 6 * RECORDS_MAX
        assert almanac.progress().offset == 6
    journal.close()


def test_what_retention_removes_leaves_the_almanac_with_all_its_records(journal: Journal) -> None:
    path = almanac_path(journal.path.parent)
    follower = follow(journal)
    journal.add_sink("api")
    journal.settle("api", [1, 2, 3, 4], {2: Refused("no")})
    journal.trim(MORNING_MS + 3_600_000, records_max=10)
    for _ in follower.round():
        pass
    follower.close()
    check(path, journal.path)
    with contextlib.closing(Almanac(path)) as almanac:
        assert [str(each.record) for each in almanac.calls(CallFilter())] == ["4", "2-1"]


# ---------------------------------------------------------------------- exports


def test_an_export_has_a_row_for_each_record(journal: Journal, tmp_path: Path) -> None:
    wanted = request_for("jsonl", audio=True)
    export_tables(journal.path, tmp_path / "out", wanted)
    rows = [
        json.loads(line)
        for line in (tmp_path / "out" / "detections.jsonl").read_text().splitlines()
    ]
    found = [str(RecordId(row["offset"], row["index"])) for row in rows]
    assert found == [each for each in IDS if each != "2"]
    assert len({row["key"] for row in rows}) == len(rows)
    assert rows[0]["key"] == entries(journal)[0].key.hex()
    (clip,) = [content for name, content in files(tmp_path / "out").items() if "audio/" in name]
    assert clip == SOUND
    assert [row["index"] for row in rows if "audio_path" in row] == [1]


def test_an_export_of_a_time_has_only_records_of_that_time(
    journal: Journal, tmp_path: Path
) -> None:
    selection = Selection(since=at(60), until=at(181))
    summary = export_tables(journal.path, tmp_path / "out", request_for("csv", selection))
    assert summary.rows == {"detection": 3}


def test_a_data_package_has_an_observation_for_each_record(
    journal: Journal, tmp_path: Path
) -> None:
    placed = several(7, call(400, microphoneLLA=[-38.7712, 143.5021, 112.0]), call(401))
    journal.append([(placed, DECODER_OF_SEVERAL.identify(placed))])
    (tmp_path / "otways.toml").write_text(PROJECT)
    project = read(tmp_path / "otways.toml")
    export_package(journal.path, tmp_path / "out", request_for("camtrap-dp"), project)
    lines = (tmp_path / "out" / "observations.csv").read_text().splitlines()[1:]
    assert len(lines) == 8
    assert len({line.partition(",")[0] for line in lines}) == 8


# ---------------------------------------------------------------------- read API and console


@pytest.fixture
async def site(journal: Journal) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve the journal, and ask as a reader."""
    follow(journal).close()
    port = free_port()
    settings = Settings.model_validate({"data_dir": journal.path.parent})
    served = web.create_app(Fine(journal), settings, TOKENS, decoder=DECODER_OF_SEVERAL)
    async with (
        serving(served, port),
        aiohttp.ClientSession(
            URL(f"http://127.0.0.1:{port}"),
            headers={"Authorization": f"Bearer {HTTP_TOKEN}"},
            cookie_jar=aiohttp.CookieJar(unsafe=True),
        ) as http,
    ):
        yield http


async def get(http: aiohttp.ClientSession, path: str, status: int = 200) -> Any:
    async with http.get(path) as reply:
        assert reply.status == status, await reply.text()
        return await reply.json()


async def log_in(http: aiohttp.ClientSession) -> None:
    here = str(http._base_url).rstrip("/")
    async with http.post("/console/login", data={"token": HTTP_TOKEN}, headers={"Origin": here}):
        pass


async def page(http: aiohttp.ClientSession, path: str, status: int = 200) -> str:
    async with http.get(path) as reply:
        assert reply.status == status
        return await reply.text()


def named(shown: dict[str, Any]) -> list[str]:
    return [str(RecordId(each["offset"], each["index"])) for each in shown["records"]]


async def test_the_read_api_has_an_item_for_each_record(site: aiohttp.ClientSession) -> None:
    shown = await get(site, "/api/records")
    assert named(shown) == ["4", "3", "2", "2-1", "1", "1-1", "1-2"]
    assert len({each["key"] for each in shown["records"]}) == 7
    assert shown["next"] == 1
    one = await get(site, "/api/records/1?index=2")
    assert one == shown["records"][-1] and one["record"]["confidence"] == 0.9
    assert await get(site, "/api/records/1") == shown["records"][4]
    await get(site, "/api/records/1?index=3", 404)


async def test_a_page_of_the_read_api_ends_between_messages(site: aiohttp.ClientSession) -> None:
    pages: list[list[str]] = []
    before = ""
    while (shown := await get(site, f"/api/records?limit=3{before}"))["records"]:
        pages.append(named(shown))
        before = f"&before={shown['next']}"
    assert pages == [["4", "3", "2", "2-1"], ["1", "1-1", "1-2"]]


async def test_the_read_api_selects_records_by_kind_and_time(site: aiohttp.ClientSession) -> None:
    assert named(await get(site, "/api/records?kind=telemetry")) == ["2"]
    span = "since=2026-11-18T11:07:40Z&until=2026-11-18T11:09:41Z"
    assert named(await get(site, f"/api/records?{span}")) == ["2-1", "1-1", "1-2"]


async def test_each_record_has_its_own_clip(site: aiohttp.ClientSession) -> None:
    await log_in(site)
    for path in ("/api/records/1/clip?index=1", "/console/calls/1-1/clip"):
        async with site.get(path) as reply:
            assert reply.status == 200
            assert await reply.read() == SOUND
            assert "record-1-1.wav" in reply.headers["Content-Disposition"]
    await get(site, "/api/records/1/clip?index=2", 404)
    await get(site, "/api/records/1/clip", 404)


async def test_the_console_has_a_page_for_each_call(site: aiohttp.ClientSession) -> None:
    await log_in(site)
    text = await page(site, "/console/calls")
    for record in ("4", "3", "2-1", "1-2", "1-1", "1"):
        assert f'href="/console/calls/{record}"' in text
    text = await page(site, "/console/calls/1-2")
    assert "Litoria ewingii" in text and "number 3 of the 3 in its message" in text
    assert '<a rel="prev" href="/console/calls/1-1">' in text
    assert '<a rel="next" href="/console/calls/2-1">' in text
    assert "of the" not in await page(site, "/console/calls/3")
    assert "and none with the index 3" in await page(site, "/console/calls/1-3", 404)
    assert "neither a call nor a recording" in await page(site, "/console/calls/2", 404)
    assert '/console/calls/1-1/clip"' in await page(site, "/console/calls/1-1")
    before = await page(site, "/console/calls?before=1-2")
    assert 'href="/console/calls/1-1"' in before and 'href="/console/calls/1-2"' not in before


# ---------------------------------------------------------------------- the command line


@pytest.fixture
def run(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command in this process, with the tests' form."""
    monkeypatch.setenv("IOT_DATA_DIR", str(journal.path.parent))
    for command in (records, parked, export):
        monkeypatch.setattr(command, "decoder_of", lambda _settings: DECODER_OF_SEVERAL)

    def invoke(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    return invoke


def test_the_command_line_lists_each_record(run: Callable[..., str]) -> None:
    lines = [json.loads(line) for line in run("records", "--json").splitlines()]
    found = [str(RecordId(line["offset"], line["index"])) for line in lines]
    assert found == ["4", "3", "2", "2-1", "1", "1-1", "1-2"]
    lines = [json.loads(line) for line in run("records", "--json", "--limit", "3").splitlines()]
    assert len(lines) == 3
    table = run("records", "--kind", "detection")
    assert " 1-2 " in table and " 2-1 " in table and "telemetry" not in table
    assert len(run("records", "--csv").splitlines()) == 8


def test_the_command_line_shows_all_records_of_a_message(run: Callable[..., str]) -> None:
    shown = run("records", "show", "1")
    for index in range(3):
        assert f"record {index}:" in shown
    assert shown.count("Litoria ewingii") == 4, "twice decoded, and twice in the message"
    assert "record 0" not in run("records", "show", "3")


def test_the_command_line_extracts_the_clip_of_a_record(
    run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("records", "clip", "1-1")
    assert (tmp_path / "1-1.wav").read_bytes() == SOUND
    with pytest.raises(AssertionError, match="record 1 has no clip"):
        run("records", "clip", "1")


def test_an_exported_parked_message_has_all_its_records(
    run: Callable[..., str], journal: Journal, tmp_path: Path
) -> None:
    journal.add_sink("api")
    journal.settle("api", [1, 2, 3], {1: Refused("record 2 of 3: no"), 3: Refused("no")})
    run("parked", "export", str(tmp_path / "parked.jsonl"))
    first, third = map(json.loads, (tmp_path / "parked.jsonl").read_text().splitlines())
    assert [each["species"] for each in first["records"]] == [
        "Litoria ewingii", "Crinia signifera", "Litoria ewingii",
    ]  # fmt: skip
    assert first["record"] == first["records"][0] and "records" not in third
    assert "record 2 of 3: no" in run("parked", "list")
