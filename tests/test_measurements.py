"""A measurement, and what is new of a call, in every place where people and programs find records.

What each sink makes of them is in tests/sinks and in the tests of each sink.
"""

import contextlib
import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import apsw
import msgspec
import pytest
from typer.testing import CliRunner
from yarl import URL

from echo_ingest import web
from echo_ingest.almanac import Almanac, CallFilter, Follower, MeasuredSeries, almanac_path
from echo_ingest.almanac.measurements import SERIES_MAX
from echo_ingest.cli import app, export, records
from echo_ingest.cli.records import summary_of
from echo_ingest.journal import Journal
from echo_ingest.record import KINDS, Message
from echo_ingest.settings import Settings
from tests.export.test_package import PROJECT
from tests.harness import HTTP_TOKEN, TOKENS, free_port
from tests.measuring import DECODER, MORNING, levels, measured
from tests.sinks.messages import measurement
from tests.test_web import Fine, serving

HOUR = 3_600
MORNING_MS = MORNING * 1000
HOUR_MS = HOUR * 1000
FIRST_HOUR_MS = MORNING_MS // HOUR_MS * HOUR_MS
CALL = {
    "name": "Litoria ewingii", "called": "Southern Brown Tree Frog", "share": 0.75, "lasts": 3.5,
    "low": 1_900.5, "high": 3_200,
}  # fmt: skip
MESSAGES = (
    measured(0, levels=levels(low=-40.5, high=-60.25), mic="left", frames=480),
    measured(60, levels=levels(low=-42.5, high=-60.25), mic="left"),
    measured(120, levels=levels(low=-30), lat=-38.7712, lon=143.5021, calls=[CALL]),
    measured(2 * HOUR, levels=levels(low=-44.5), mic="left", frames=960),
)
LEFT_LOW = ("left", "level_low", "dB")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    journal = Journal(folder / "journal.db")
    hear(journal, *MESSAGES)
    yield journal
    journal.close()


def hear(journal: Journal, *messages: Message) -> None:
    arrivals = [(each, DECODER.identify(each)) for each in messages]
    assert journal.append(arrivals).stored == len(messages)


# ---------------------------------------------------------------------- the command line


@pytest.fixture
def run(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command in this process, with the tests' form."""
    monkeypatch.setenv("IOT_DATA_DIR", str(journal.path.parent))
    for command in (records, export):
        monkeypatch.setattr(command, "decoder_of", lambda _settings: DECODER)

    def invoke(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    return invoke


def test_the_command_line_lists_measurements(run: Callable[..., str]) -> None:
    table = run("records", "--kind", "measurement")
    assert "level_low -40.5 dB" in table and "frames_count 480 " in table
    assert "Litoria" not in table
    lines = [json.loads(line) for line in run("records", "--json").splitlines()]
    assert {line["kind"] for line in lines} == {"measurement", "detection"}
    rows = list(csv.DictReader(io.StringIO(run("records", "--csv"))))
    of_left = [row for row in rows if (row["sensor_id"], row["name"]) == ("left", "level_low")]
    assert [(row["value"], row["unit"]) for row in of_left] == [
        ("-44.5", "dB"), ("-42.5", "dB"), ("-40.5", "dB"),
    ]  # fmt: skip
    assert '"leq_db"' not in run("records", "show", "1")
    assert "level_high" in run("records", "show", "1")


def test_a_count_has_no_unit_and_a_long_name_is_cut() -> None:
    assert summary_of(measurement(0, name="frames_count", value=480.0, unit=None)) == (
        "frames_count 480"
    )
    assert summary_of(measurement(0, name="n" * 64)) == "n" * 59 + "… -41.25 dB"


def test_an_export_has_a_table_of_measurements_and_what_a_call_says(
    run: Callable[..., str], tmp_path: Path
) -> None:
    said = run("export", str(tmp_path / "out"))
    assert "1 detection, 0 recordings, 0 telemetry, 0 movements, 8 measurements in 5 files" in said
    with (tmp_path / "out" / "measurements.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["offset"], row["index"], row["name"], row["value"]) for row in rows[:4]] == [
        ("1", "0", "level_low", "-40.5"),
        ("1", "1", "level_high", "-60.25"),
        ("1", "2", "frames_count", "480.0"),
        ("2", "0", "level_low", "-42.5"),
    ]
    with (tmp_path / "out" / "detections.csv").open(newline="") as file:
        (call,) = csv.DictReader(file)
    assert [call[name] for name in ("common_name", "low_hz", "high_hz", "ends_at")] == [
        "Southern Brown Tree Frog", "1900.5", "3200.0", "2026-11-18T11:08:43.500000Z",
    ]  # fmt: skip
    frogs = run("export", str(tmp_path / "frogs"), "--species", "Litoria ewingii")
    assert "1 detection, 0 movements in 2 files" in frogs


def test_a_data_package_takes_a_measurement_as_a_sign_of_life(
    run: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "otways.toml").write_text(PROJECT)
    target = tmp_path / "package"
    run("export", str(target), "--format", "camtrap-dp", "--project", str(tmp_path / "otways.toml"))
    with (target / "deployments.csv").open(newline="") as file:
        spans = {row["cameraID"]: row["deploymentEnd"] for row in csv.DictReader(file)}
    last = datetime.fromtimestamp(MORNING + 2 * HOUR, UTC)
    assert spans["ridge-01"] == f"{last:%FT%TZ}", "the count of frames has no sensor"
    with (target / "observations.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["eventStart"], row["eventEnd"]) == ("2026-11-18T11:08:40Z", "2026-11-18T11:08:44Z")
    assert row["observationTags"] == "lowHz:1900.5 | highHz:3200.0"
    assert row["observationComments"] == "common name: Southern Brown Tree Frog"


# ---------------------------------------------------------------------- the almanac


def followed(journal: Journal) -> Follower:
    follower = Follower(almanac_path(journal.path.parent), journal.path, DECODER)
    for _ in follower.round():
        pass
    return follower


@contextlib.contextmanager
def almanac_of(journal: Journal) -> Iterator[Almanac]:
    followed(journal).close()
    with contextlib.closing(Almanac(almanac_path(journal.path.parent))) as almanac:
        yield almanac


def named(series: list[MeasuredSeries]) -> dict[tuple[str | None, str, str | None], MeasuredSeries]:
    return {(each.sensor, each.name, each.unit): each for each in series}


def test_the_almanac_has_the_latest_and_the_hours_of_what_each_sensor_measures(
    journal: Journal,
) -> None:
    late = measured(-HOUR, levels=levels(low=-10), mic="left")
    hear(journal, msgspec.structs.replace(late, received_at_ms=MORNING_MS + 3 * HOUR_MS))
    hear(journal, measured(5, node="creek-03", levels=levels(low=-1)))
    with almanac_of(journal) as almanac:
        series = named(almanac.series("ridge-01"))
        assert list(series) == [
            (None, "frames_count", None),
            (None, "level_low", "dB"),
            ("left", "level_high", "dB"),
            LEFT_LOW,
        ]
        latest = series[LEFT_LOW]
        assert (latest.latest, latest.latest_at_ms) == (-44.5, MORNING_MS + 2 * HOUR_MS)
        hours = almanac.measured(latest, 0, 2**44)
        assert [
            (each.hour_ms, each.least, each.mean, each.most, each.readings) for each in hours
        ] == [
            (FIRST_HOUR_MS - HOUR_MS, -10, -10, -10, 1),
            (FIRST_HOUR_MS, -42.5, -41.5, -40.5, 2),
            (FIRST_HOUR_MS + 2 * HOUR_MS, -44.5, -44.5, -44.5, 1),
        ]
        assert almanac.measured(latest, FIRST_HOUR_MS, FIRST_HOUR_MS + 1) == hours[1:2]
        (call,) = almanac.calls(CallFilter())
        assert call.common_name == "Southern Brown Tree Frog"
        assert almanac.series("nobody") == []


def test_a_node_that_names_more_and_more_has_only_so_many_series(tmp_path: Path) -> None:
    with contextlib.closing(Journal(tmp_path / "journal.db")) as journal:
        bands = {f"b{number:03}": float(number) for number in range(SERIES_MAX + 50)}
        hear(journal, *(measured(n, levels=levels(**bands)) for n in range(2)))
        with almanac_of(journal) as almanac:
            series = almanac.series("ridge-01")
            assert len(series) == SERIES_MAX
        with contextlib.closing(apsw.Connection(str(almanac_path(tmp_path)))) as db:
            assert db.execute("SELECT count(*) FROM series").get == SERIES_MAX
        with almanac_of(journal) as almanac:
            assert sum(each.readings for each in almanac.measured(series[0], 0, 2**44)) == 2
        hear(journal, measured(9, node="creek-03", levels=levels(low=1)))
        with almanac_of(journal) as almanac:
            assert len(almanac.series("creek-03")) == 1, "it has series of its own"


def test_values_beyond_all_measure_are_in_no_series(tmp_path: Path) -> None:
    with contextlib.closing(Journal(tmp_path / "journal.db")) as journal:
        hear(journal, measured(0, levels=levels(huge=1e300, low=-1, high=-1e15)))
        with almanac_of(journal) as almanac:
            assert [each.name for each in almanac.series("ridge-01")] == ["level_high", "level_low"]


def test_retention_ends_a_series_of_which_nothing_is_left(journal: Journal) -> None:
    follower = followed(journal)
    hear(journal, measured(30 * HOUR, levels=levels(low=-2), mic="left"))
    journal.add_sink("api")
    journal.settle("api", [1, 2, 3, 4, 5], {})
    journal.trim(MORNING_MS + 20 * HOUR_MS, records_max=10)
    for _ in follower.round():
        pass
    hear(journal, measured(31 * HOUR, levels=levels(low=-3, high=-4), mic="left"))
    for _ in follower.round():
        pass
    follower.close()
    with contextlib.closing(Almanac(almanac_path(journal.path.parent))) as almanac:
        series = named(almanac.series("ridge-01"))
        assert list(series) == [("left", "level_high", "dB"), LEFT_LOW]
        hours = almanac.measured(series[LEFT_LOW], 0, 2**44)
        assert [each.mean for each in hours] == [-2, -3]


# ---------------------------------------------------------------------- read API and console


@pytest.fixture
async def site(journal: Journal) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve the journal, and ask as a reader who has logged in."""
    followed(journal).close()
    port = free_port()
    settings = Settings.model_validate({"data_dir": journal.path.parent})
    served = web.create_app(Fine(journal), settings, TOKENS, decoder=DECODER)
    async with (
        serving(served, port),
        aiohttp.ClientSession(
            URL(f"http://127.0.0.1:{port}"),
            headers={"Authorization": f"Bearer {HTTP_TOKEN}"},
            cookie_jar=aiohttp.CookieJar(unsafe=True),
        ) as http,
    ):
        here = str(http._base_url).rstrip("/")
        async with http.post(
            "/console/login", data={"token": HTTP_TOKEN}, headers={"Origin": here}
        ):
            pass
        yield http


async def page(http: aiohttp.ClientSession, path: str) -> str:
    async with http.get(path) as reply:
        assert reply.status == 200, await reply.text()
        return await reply.text()


async def test_the_read_api_selects_every_kind(site: aiohttp.ClientSession) -> None:
    for kind in KINDS:
        shown = json.loads(await page(site, f"/api/records?kind={kind}"))["records"]
        assert {each["record"]["kind"] for each in shown} <= {kind}
        assert len(shown) == {"measurement": 8, "detection": 1}.get(kind, 0)
    (first,) = [
        each["record"]
        for each in json.loads(await page(site, "/api/records?kind=measurement"))["records"]
        if (each["offset"], each["index"]) == (1, 0)
    ]
    assert (first["name"], first["value"], first["unit"]) == ("level_low", -40.5, "dB")


def graphs_in(text: str) -> dict[str, dict[str, Any]]:
    """Return the data of each graph of measurements on a page, by its heading."""
    found = {}
    for part in text.split("<figcaption>")[1:]:
        heading, data = part.partition("<")[0].strip(), part.partition('id="series-measured-')[2]
        if data:
            found[heading] = json.loads(data.partition(">")[2].partition("</script>")[0])
    return found


async def test_the_page_of_a_node_shows_what_it_measures(site: aiohttp.ClientSession) -> None:
    text = await page(site, "/console/nodes/ridge-01")
    assert text.count(">level_low</a>") == 2 and ">frames_count</a>" in text
    assert '−44.5<span class="unit">&nbsp;dB</span>' in text
    graphs = graphs_in(text)
    assert set(graphs) == {"frames_count", "level_low", "level_high"}
    assert graphs["frames_count"]["lines"][0]["values"] == [480, 960]
    chosen = await page(site, "/console/nodes/ridge-01?measure=level_high")
    (high,) = graphs_in(chosen).values()
    assert high["lines"] == [{"label": "mean", "unit": "dB", "decimals": 1, "values": [-60.25]}]
    assert ">frames_count</a>" in chosen, "all are listed"
    assert graphs_in(await page(site, "/console/nodes/ridge-01?measure=nothing")) == {}


async def test_the_page_of_a_call_says_how_long_and_how_high_it_was(
    site: aiohttp.ClientSession,
) -> None:
    text = await page(site, "/console/calls/3-1")
    assert "Southern Brown Tree Frog" in text
    assert '3.5<span class="unit">&nbsp;s</span>' in text
    assert "frequencies" in text and "1\u202f900" in text and "3\u202f200" in text
