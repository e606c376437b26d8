"""The registry: a sink is a package, a setting and an entry, and everything else follows."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from echo_ingest import settings as settings_module
from echo_ingest.almanac.refusals import ReasonKey
from echo_ingest.cli import app
from echo_ingest.journal import Journal
from echo_ingest.pipeline.deliver.__main__ import wired
from echo_ingest.settings import Settings
from echo_ingest.settings.loader import Expected
from echo_ingest.sinks import Cause, Delivery, Sink, Unavailable, Written, registry
from echo_ingest.sinks.registry import SPECS, SinkSpec, sink_names, sinks_of, spec_of, title_of
from echo_ingest.site_decoder import decoder_of
from echo_ingest.web.console.overview.sink_table import sink_rows
from echo_ingest.web.console.overview.summary import SinkStatus, SystemState, clauses_of
from echo_ingest.web.console.refused.advice import advice
from tests.harness import free_port
from tests.sinks.messages import arrivals, messages

LIBRARIES = ("aiohttp", "asyncpg", "bson", "obstore", "pymongo")
LOOK = f"import sys; print(*(name for name in {LIBRARIES} if name in sys.modules))"
TITLE = "Lines in a file"


class SettingsWithLines(Settings):
    """The settings, with the one that a further sink has."""

    lines_file: Annotated[Path | None, Expected("the path of a file")] = None
    """The file that gets a line for each record."""


class Lines:
    """A sink that appends a line of JSON for each record to a file."""

    name = "lines"
    batch_records_max = 3
    is_idempotent = False

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._path = path

    async def write(self, batch: Sequence[Delivery]) -> Written:
        with self._path.open("a") as file:
            file.writelines(json.dumps({"key": each.key.hex()}) + "\n" for each in batch)
        return Written(len(batch))

    async def probe(self) -> None:
        if not self._path.parent.is_dir():
            raise Unavailable(
                f"there is no folder {self._path.parent}: create it", cause=Cause.MISCONFIGURED
            )

    async def close(self) -> None: ...


def lines_of(settings: Settings) -> Sink:
    assert isinstance(settings, SettingsWithLines)
    assert settings.lines_file is not None
    return Lines(settings.lines_file)


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Register and configure a further sink; return its file."""
    spec = SinkSpec(
        name="lines", title=TITLE, setting="lines_file", factory=lines_of, advice="Free the file."
    )
    monkeypatch.setattr(registry, "SPECS", (*SPECS, spec))
    monkeypatch.setattr(settings_module, "Settings", SettingsWithLines)
    path = tmp_path / "lines.jsonl"
    for name, value in {
        "IOT_DATA_DIR": tmp_path,
        "IOT_LINES_FILE": path,
        "IOT_HTTP_PORT": free_port(),
        "IOT_MQTT_PORT": free_port(),
        "IOT_WS_PORT": free_port(),
    }.items():
        monkeypatch.setenv(name, str(value))
    return path


async def deliver_all(settings: Settings) -> list[bytes]:
    """Store ten messages and deliver them to each sink; return the keys of their records."""
    with contextlib.closing(Journal(settings.journal_path)) as journal:
        journal.append(arrivals(messages(0, 10)))
        deliveries = wired(journal, sinks_of(settings), decoder_of(settings), settings)
        keys = [entry.key for entry in journal.read("lines", 10)]
        stopping = asyncio.Event()
        tasks = [asyncio.create_task(deliver.run(stopping)) for deliver in deliveries]
        async with asyncio.timeout(10):
            while any(sink.backlog for sink in journal.ledger().sinks.values()):
                await asyncio.sleep(0.005)
        stopping.set()
        for deliver in deliveries:
            deliver.wake()
        await asyncio.gather(*tasks)
    return keys


def test_a_sink_that_is_registered_gets_records_and_its_title_is_shown(lines: Path) -> None:
    settings = settings_module.load(
        {"IOT_DATA_DIR": str(lines.parent), "IOT_LINES_FILE": str(lines)}
    )
    assert sink_names(settings) == ["lines"]
    keys = asyncio.run(deliver_all(settings))
    assert [json.loads(line)["key"] for line in lines.read_text().splitlines()] == [
        key.hex() for key in keys
    ]
    listed = CliRunner().invoke(app, ["sinks", "list"])
    assert listed.exit_code == 0, listed.output
    (row,) = [line for line in listed.output.splitlines() if line.startswith("lines")]
    assert TITLE in row
    assert "10" in row
    checked = CliRunner().invoke(app, ["check"]).output
    assert f"✓ {TITLE} {lines} answers" in checked


def test_the_console_shows_the_title_of_a_sink_that_is_registered(lines: Path) -> None:
    now, zone = datetime(2026, 9, 14, 6, tzinfo=UTC), ZoneInfo("UTC")
    away = SinkStatus(
        name="lines", state="unavailable", waiting=3, lag_seconds=9.0, refused=1, since=now
    )
    (row,) = sink_rows([away], [], now, zone, 0)
    assert row.title == TITLE
    texts = [clause.text for clause in clauses_of(SystemState(now=now, sinks=[away]), zone)]
    assert len([text for text in texts if text.startswith(TITLE)]) == 2
    assert advice("lines", ReasonKey(text="the file says no")) == "Free the file."


def test_a_title_is_what_the_registry_says_and_of_an_unknown_sink_its_name() -> None:
    assert title_of("postgres") == "PostgreSQL"
    assert title_of("kafka") == "kafka"
    assert spec_of("kafka") is None


def test_the_one_that_keeps_clips_is_the_first_and_each_has_a_setting_of_its_own() -> None:
    settings = Settings(
        objects_url="file:///srv/audio",
        api_url="http://127.0.0.1:9",
        postgres_url=SecretStr("postgresql://echo:secret@127.0.0.1/echo"),
        mongodb_url=SecretStr("mongodb://127.0.0.1/echo"),
    )
    assert sink_names(settings) == ["objects", "echo_api", "postgres", "mongodb"]
    assert [sink.name for sink in sinks_of(settings)] == sink_names(settings)
    for spec in SPECS:
        without = settings.model_copy(update={spec.setting: None})
        assert spec.name not in sink_names(without)
        assert spec.title and spec.advice.endswith(".")
    assert sink_names(Settings()) == []


@pytest.mark.parametrize(
    ("environment", "loaded"),
    [
        ({}, set()),
        ({"IOT_OBJECTS_URL": "file:///srv/audio"}, set()),
        ({"IOT_OBJECTS_URL": "s3://audio"}, {"obstore"}),
        ({"IOT_API_URL": "http://127.0.0.1:9"}, {"aiohttp"}),
        ({"IOT_POSTGRES_URL": "postgresql://echo@127.0.0.1/echo"}, {"asyncpg"}),
        ({"IOT_MONGODB_URL": "mongodb://127.0.0.1/echo"}, {"bson", "pymongo"}),
    ],
    ids=lambda value: next(iter(value), "none") if isinstance(value, dict) else "",
)
def test_the_library_of_a_sink_that_is_not_configured_is_never_loaded(
    environment: dict[str, str], loaded: set[str]
) -> None:
    code = (
        "from echo_ingest.settings import load\n"
        "from echo_ingest.sinks import registry\n"
        "[registry.title_of(spec.name) for spec in registry.SPECS]\n"
        f"registry.sinks_of(load({environment!r}))\n{LOOK}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == loaded
