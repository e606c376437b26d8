"""What PostgreSQL alone has: rows, repeats, partitions, migrations, roles, and its own words.

What every sink promises is in tests/sinks.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
import trustme

from echo_ingest import columns
from echo_ingest.columns import flat
from echo_ingest.decode.rules import NOT_ANIMALS
from echo_ingest.journal import Journal
from echo_ingest.record import Measurement, Message, Place, kind, record_key
from echo_ingest.sinks import Cause, Delivery, Unavailable, Written, clips
from echo_ingest.sinks import postgres as room
from echo_ingest.sinks.postgres import Postgres
from echo_ingest.sinks.postgres.migrate import MIGRATIONS
from echo_ingest.sinks.postgres.months import MonthPartitions
from echo_ingest.sinks.postgres.rows import COLUMNS
from tests.harness import Harness, eventually, free_port
from tests.postgres import PASSWORD, Cluster
from tests.several_records import delivery_of
from tests.sinks.delivering import settle
from tests.sinks.doubtful import EVERY_PROBLEM, deliveries, problems
from tests.sinks.messages import (
    MORNING,
    PLACE,
    arrivals,
    clip,
    detection,
    json_message,
    message,
    record_of,
)

pytestmark = pytest.mark.slow

PAPER = Path(__file__).parents[1] / "docs" / "postgresql.md"
APPLIED = "SELECT file FROM echo.migration ORDER BY file"
FILES = [
    "0001_tables.sql",
    "0002_months.sql",
    "0003_near.sql",
    "0004_quality.sql",
    "0005_records.sql",
    "0006_measurements.sql",
]


class Database:
    """An empty database, and a sink that writes to it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.url = cluster.url("echo")
        self.sink = Postgres(self.url, timeout_seconds=10.0)

    async def execute(self, *statements: str) -> None:
        await self.cluster.execute("echo", *statements)

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        return await self.cluster.rows("echo", query)

    async def row(self, query: str) -> dict[str, Any]:
        """Return the only row, without unknown values."""
        connection = await asyncpg.connect(self.url)
        (row,) = await connection.fetch(query)
        await connection.close()
        return {name: value for name, value in row.items() if value is not None}

    async def snapshot(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every table, and which transaction wrote it."""
        return {
            table: await self.rows(f"SELECT xmin, * FROM echo.{table} ORDER BY 2, 3")  # noqa: S608
            for table in ("nodes", *COLUMNS)
        }


@pytest.fixture
async def database(cluster: Cluster) -> AsyncIterator[Database]:
    cluster.start()
    await cluster.execute(
        "postgres", "DROP DATABASE IF EXISTS echo WITH (FORCE)", "CREATE DATABASE echo"
    )
    database = Database(cluster)
    yield database
    await database.sink.close()


def delivery(number: int, arrived: Message, clip_place: str | None = None) -> Delivery:
    key = number.to_bytes(16)
    return delivery_of(number, key, arrived, record_of(arrived), clip_place=clip_place)


def detection_at(number: int, at: str = "2026-11-18T11:00:00+00:00", **changed: object) -> Delivery:
    """Return a detection at that time; `changed` are fields of its record."""
    arrived = detection(number)
    observed_at = datetime.fromisoformat(at)
    record = msgspec.structs.replace(record_of(arrived), observed_at=observed_at, **changed)
    return delivery_of(number, number.to_bytes(16), arrived, record)


# ---------------------------------------------------------------------- rows

SOON = datetime(2026, 11, 18, 11, 6, 40, tzinfo=UTC)
HERE = {"latitude": -38.7712, "longitude": 143.5021, "altitude_metres": 112.0}
SAID = {
    "journal_offset": 7,
    "index": 0,
    "key": (7).to_bytes(16),
    "observed_at": SOON,
    "received_at": SOON,
    "time_source": "device",
    "node": "ridge-01",
    "sensor_id": "ridge-01",
}


async def test_each_record_of_a_message_is_a_row_or_none_is(database: Database) -> None:
    good = [record_of(message(number)) for number in (0, 2, 3, 5)]
    strange = msgspec.structs.replace(good[3], species="a\0b")
    several = delivery_of(7, (7).to_bytes(16), message(0), *good)
    refused = delivery_of(8, (8).to_bytes(16), message(0), *good, strange, *good)
    for _ in range(2):
        written = await database.sink.write([several, refused, delivery(9, message(6))])
        (refusal,) = written.refusals
        assert (written.count, refusal.index) == (3, 1)
        assert refusal.reason.startswith("record 5 of 9: PostgreSQL refused it (22021)")
    each = " UNION ALL ".join(
        f"SELECT journal_offset, index, key FROM echo.{table}"  # noqa: S608
        for table in COLUMNS
    )
    assert await database.rows(f"{each} ORDER BY 1, 2") == [
        *((7, index, record_key(several.key, index)) for index in range(4)),
        (9, 0, (9).to_bytes(16)),
    ]


async def test_a_detection_is_a_row_that_says_all_it_said(database: Database) -> None:
    sound = clip(1, guano="GUANO|Version: 1.0\nMake: Λ")
    fields = {
        "id": "r1-77",
        "sourceType": "simulator",
        "animalEstLLA": [-38.7719, 143.5034, 110.2],
        "animalLLAUncertainty": 2.5,
        "animalTrueLLA": [-38.7721, 143.5039, 109.0],
        "audioClip": base64.b64encode(sound).decode(),
        "sampleRate": 32_000,
        "top5": [{"label": "Crinia signifera", "confidence": 20.5}],
    }
    arrived = detection(0, **fields)
    await database.sink.write([delivery(7, arrived, clip_place="s3://sounds")])
    row = await database.row("SELECT * FROM echo.detections")
    assert json.loads(row.pop("alternatives")) == [
        {"species": "Crinia signifera", "confidence": 0.205}
    ]
    assert json.loads(row.pop("clip_metadata"))["Make"] == "Λ"
    assert row == SAID | HERE | {
        "form": "detection",
        "message_id": "r1-77",
        "source_type": "simulator",
        "species": "Litoria ewingii",
        "observation_type": "animal",
        "confidence": 0.6364,
        "model": "echo-engine 3",
        "sample_rate_hz": 32_000,
        "animal_latitude": -38.7719,
        "animal_longitude": 143.5034,
        "animal_altitude_metres": 110.2,
        "animal_uncertainty_metres": 2.5,
        "animal_true_latitude": -38.7721,
        "animal_true_longitude": 143.5039,
        "animal_true_altitude_metres": 109.0,
        "clip_container": "wav",
        "clip_size_bytes": len(sound),
        "clip_sha256": hashlib.sha256(sound).hexdigest(),
        "clip_sample_rate_hz": 16_000,
        "clip_channels": 1,
        "clip_duration_seconds": 0.02,
        "clip_reference": clips.reference("s3://sounds", record_of(arrived)),
    }


async def test_the_other_kinds_have_tables_of_their_own(database: Database) -> None:
    sound = clip(2)
    recording = {
        "timestamp": MORNING,
        "sensorId": "ridge-01",
        "audioClip": base64.b64encode(sound).decode(),
        "audioFile": "Recording_Mode",
        "microphoneLLA": [*HERE.values()],
        "cpu": 3.5,
    }
    telemetry = {
        "timestamp": MORNING,
        "sensorId": "ridge-01",
        "status": "Online",
        "batteryPct": 81,
        "uptime": 1_795_000_000,
    }
    movement = {
        "timestamp": MORNING,
        "species": "Sus scrofa",
        "animalId": "sow 3",
        "animalTrueLLA": [1.0, 2.0, 3.0],
    }
    for fields in (recording, telemetry, movement):
        await database.sink.write([delivery(7, json_message("ridge-01", fields))])
    measured = Measurement(
        form="sound-levels",
        node="ridge-01",
        sensor_id="ridge-01",
        observed_at=SOON,
        time_source="device",
        place=Place(*HERE.values()),
        name="leq_db",
        value=-41.25,
        unit="dB",
    )
    arrived = json_message("ridge-01", {"timestamp": MORNING})
    await database.sink.write([delivery_of(7, (7).to_bytes(16), arrived, measured)])
    row = await database.row("SELECT * FROM echo.recordings")
    described = {name: row.pop(name) for name in list(row) if name.startswith("clip_")}
    assert described["clip_sha256"] == hashlib.sha256(sound).hexdigest()
    assert row == SAID | HERE | {
        "form": "engine-audio",
        "mode": "Recording_Mode",
        "cpu_percent": 3.5,
    }
    assert await database.row("SELECT * FROM echo.telemetry") == SAID | {
        "form": "sensor-health",
        "status": "Online",
        "battery_percent": 81.0,
        "booted_at": SOON,
    }
    assert await database.row("SELECT * FROM echo.movements") == {
        name: value for name, value in SAID.items() if name != "sensor_id"
    } | {
        "form": "movement",
        "species": "Sus scrofa",
        "animal_id": "sow 3",
        "animal_latitude": 1.0,
        "animal_longitude": 2.0,
        "animal_altitude_metres": 3.0,
    }
    assert await database.row("SELECT * FROM echo.measurements") == SAID | HERE | {
        "form": "sound-levels",
        "name": "leq_db",
        "value": -41.25,
        "unit": "dB",
    }
    assert await database.rows("SELECT count(*) FROM echo_months.measurements_2026_11") == [(1,)]


async def test_a_call_has_its_end_its_frequencies_and_its_name_in_peoples_language(
    database: Database,
) -> None:
    said = {
        "common_name": "Southern Brown Tree Frog",
        "ends_at": datetime(2026, 11, 18, 11, 0, 3, 250_000, UTC),
        "low_hz": 1_900.5,
        "high_hz": 3_200.0,
    }
    await database.sink.write([detection_at(1, **said)])
    row = await database.row("SELECT * FROM echo.detections")
    assert {name: row[name] for name in said} == said


async def test_a_node_is_where_it_was_when_it_was_last_heard(database: Database) -> None:
    def said_at(second: int, latitude: float | None) -> Delivery:
        place = {} if latitude is None else {"microphoneLLA": [latitude, 143.5, 0]}
        arrived = json_message(
            "ridge-01", {"timestamp": 1, "nodeId": "ridge-01", "status": "up", **place}
        )
        arrived = msgspec.structs.replace(arrived, received_at_ms=(MORNING + second) * 1000)
        return delivery(second, arrived)

    wanted = ("ridge-01", SOON, SOON + timedelta(seconds=40), SOON + timedelta(seconds=30), -3.0)
    batches = ([said_at(20, -2.0), said_at(30, -3.0), said_at(40, None)], [said_at(0, -1.0)])
    for batch in (*batches, *batches):
        await database.sink.write(batch)
    query = "SELECT node, first_heard_at, last_heard_at, placed_at, latitude FROM echo.nodes"
    assert await database.rows(query) == [wanted]


async def test_what_was_not_believed_is_in_every_row(database: Database) -> None:
    batch = deliveries(400)
    assert problems(batch) == EVERY_PROBLEM
    assert await database.sink.write(batch) == Written(400)
    connection = await asyncpg.connect(database.url)
    stored = {
        row["key"]: dict(row)
        for table in COLUMNS
        for row in await connection.fetch(f"SELECT * FROM echo.{table}")  # noqa: S608
    }
    await connection.close()
    for each in batch:
        row = stored.pop(each.key)
        wanted = dict(
            zip(columns.COLUMNS[kind(each.records[0])], flat(each.records[0]), strict=True)
        )
        for name in ("alternatives", "clip_metadata"):
            if row.get(name) is not None:
                row[name] = json.loads(row[name])
        assert {name: row[name] for name in wanted} == wanted
    assert not stored


async def test_leaps_of_our_own_clock_hide_nothing_of_a_node(database: Database) -> None:
    """The clock is in 2036 for a while, then 60 days back, and each time it returns."""

    def heard(offset: int, at: datetime, latitude: float) -> Delivery:
        arrived = detection(offset * 3, microphoneLLA=[latitude, 143.5, 0])
        return delivery(
            offset, msgspec.structs.replace(arrived, received_at_ms=int(at.timestamp() * 1000))
        )

    def minutes(count: int) -> datetime:
        return SOON + timedelta(minutes=count)

    leap = datetime(2036, 2, 7, 6, 28, tzinfo=UTC)
    query = "SELECT node, first_heard_at, last_heard_at, placed_at, latitude FROM echo.nodes"
    for batch in (
        [heard(1, SOON, -1.0), heard(2, minutes(1), -2.0)],
        [heard(3, leap, -3.0), heard(4, leap, -4.0)],
        [heard(5, minutes(2), -5.0)],
        [heard(6, minutes(3) - timedelta(days=60), -6.0)],
        [heard(7, minutes(4), -7.0)],
    ):
        await database.sink.write(batch)
        last = batch[-1].message.received_at_ms / 1000
        latest = datetime.fromtimestamp(last, UTC)
        assert await database.rows(query) == [
            ("ridge-01", SOON, latest, latest, -float(batch[-1].offset))
        ]
    before = await database.snapshot()
    await database.sink.write([heard(7, minutes(4), -7.0)])
    assert await database.snapshot() == before


async def test_a_new_journal_goes_on_where_the_one_before_ended(database: Database) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    for offset, at in ((5_000, now - timedelta(days=1)), (1, now)):
        arrived = msgspec.structs.replace(detection(0), received_at_ms=int(at.timestamp()) * 1000)
        await database.sink.write([delivery(offset, arrived)])
    query = "SELECT first_heard_at, last_heard_at, last_offset FROM echo.nodes"
    assert await database.rows(query) == [(now - timedelta(days=1), now, 1)]


async def test_a_node_that_was_first_heard_in_2036_is_corrected(database: Database) -> None:
    leap = int(datetime(2036, 2, 7, tzinfo=UTC).timestamp() * 1000)
    early = msgspec.structs.replace(detection(0), received_at_ms=leap)
    await database.sink.write([delivery(1, early)])
    await database.sink.write([delivery(2, detection(3))])
    query = "SELECT first_heard_at, last_heard_at FROM echo.nodes"
    true = SOON + timedelta(seconds=3)
    assert await database.rows(query) == [(true, true)]


async def test_a_repeat_writes_nothing_at_all(database: Database) -> None:
    batch = [delivery(n, message(n)) for n in range(20)]
    await database.sink.write(batch[:15])
    before = await database.snapshot()
    await database.sink.write(batch[5:12])
    assert await database.snapshot() == before
    await database.sink.write(batch)
    after = await database.snapshot()
    assert all(set(before[table]) <= set(after[table]) for table in COLUMNS)
    assert sum(len(after[table]) for table in COLUMNS) == 20


async def test_what_it_has_taken_is_on_its_disk_whatever_the_server_does_by_default(
    database: Database,
) -> None:
    await database.execute("ALTER DATABASE echo SET synchronous_commit = off")
    await database.sink.write([delivery(1, message(1))])
    assert database.sink._connection is not None
    assert await database.sink._connection.fetchval("SHOW synchronous_commit") == "on"


# ---------------------------------------------------------------------- refusals


async def test_what_breaks_a_rule_of_the_sites_own_is_found_among_many(database: Database) -> None:
    await database.sink.migrate()
    await database.execute(
        "ALTER TABLE echo.detections ADD CONSTRAINT no_dingo CHECK (species <> 'Canis dingo')",
        "ALTER TABLE echo.detections ADD UNIQUE (observed_at, species)",
    )
    batch = [detection_at(n, species=f"species {n}") for n in range(200)]
    for n in (0, 77, 199):
        batch[n] = detection_at(n, species="Canis dingo")
    batch[100] = detection_at(100, species="species 99")
    refusals = await settle(database.sink, batch)
    assert list(refusals) == [0, 77, 100, 199]
    assert "PostgreSQL refused it (23514)" in refusals[77]
    assert "no_dingo" in refusals[77]
    assert "PostgreSQL refused it (23505)" in refusals[100]
    stored = await database.rows("SELECT journal_offset FROM echo.detections ORDER BY 1")
    assert [offset for (offset,) in stored] == [n for n in range(200) if n not in refusals]


async def test_a_search_that_takes_long_commits_what_it_has_settled(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "HALVING_SECONDS", 0.0)
    batch = [detection_at(n, species="\0" if n == 6 else "Sus scrofa") for n in range(8)]
    written = await database.sink.write(batch)
    assert written == Written(4)
    assert list(await settle(database.sink, batch[4:])) == [2]
    assert len(await database.rows("SELECT FROM echo.detections")) == 7


# ---------------------------------------------------------------------- partitions

PARTITIONS = """
    SELECT tableoid::regclass::text, journal_offset FROM echo.detections ORDER BY journal_offset
"""


async def test_each_month_has_its_partition_and_what_no_clock_says_right_another(
    database: Database,
) -> None:
    now = datetime.now(UTC)
    times = (
        *("0001-01-01T00:00:00+00:00", "1999-12-31T23:59:59+00:00", "2000-01-01T00:00:00+00:00"),
        *("2026-08-31T23:59:59.999999+00:00", "2026-09-01T00:00:00+00:00"),
        *((now + timedelta(days=70)).isoformat(), "9999-12-31T23:59:59.999999+00:00"),
    )
    await database.sink.write([detection_at(n, at) for n, at in enumerate(times)])
    assert [name for name, _ in await database.rows(PARTITIONS)] == [
        f"echo_months.detections_{part}"
        for part in ("other", "other", "2000_01", "2026_08", "2026_09", "other", "other")
    ]
    next_month = (now.replace(day=1) + timedelta(days=31)).strftime("%Y_%m")
    ahead = {
        f"echo_months.{table}_{at}" for table in COLUMNS for at in (f"{now:%Y_%m}", next_month)
    }
    partitions = await database.rows("SELECT inhrelid::regclass::text FROM pg_inherits")
    assert ahead <= {name for (name,) in partitions}


async def test_rows_move_into_the_partition_of_their_month_once_there_is_one(
    database: Database,
) -> None:
    await database.sink.migrate()
    reader = await asyncpg.connect(database.url)
    await reader.execute("BEGIN; SELECT * FROM echo.detections")
    await database.sink.write(
        [detection_at(1, "2003-05-01T00:00:00+00:00")]
    )  # it does not wait long
    assert await database.rows(PARTITIONS) == [("echo_months.detections_other", 1)]
    await reader.close()
    await database.sink.close()
    again = Postgres(database.url)
    await again.write([detection_at(2, "2003-05-31T23:00:00+00:00")])
    await again.close()
    assert await database.rows(PARTITIONS) == [
        ("echo_months.detections_2003_05", 1),
        ("echo_months.detections_2003_05", 2),
    ]


def test_months_are_asked_for_once_and_again_when_a_new_one_begins() -> None:
    months = MonthPartitions()
    may, december = datetime(2003, 5, 31, 23, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)
    asked = months.missing([may, may], december)
    assert asked == [date(2003, 5, 1), date(2026, 12, 1), date(2027, 1, 1)]
    months.note(asked)
    assert months.missing([may], december) == []
    assert months.missing([may], december + timedelta(days=1)) == [
        *(date(2003, 5, 1), date(2027, 1, 1), date(2027, 2, 1))
    ]
    months.postpone()
    assert months.missing([december], december) == []


# ---------------------------------------------------------------------- migrations and roles


async def test_a_database_of_an_earlier_version_is_migrated_at_the_next_write(
    database: Database,
) -> None:
    """Its rows stay, those in partitions too; labels that name no animal are known as such."""
    connection = await asyncpg.connect(database.url)
    for migration in MIGRATIONS[:3]:
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO echo.migration (file, sha256) VALUES ($1, $2)",
            *(migration.file, migration.sha256),
        )
    await connection.execute("SELECT echo.make_months('{2026-11-01}')")
    await connection.execute(
        "GRANT SELECT, INSERT ON echo.telemetry TO pg_monitor;"
        "GRANT SELECT ON echo.telemetry TO PUBLIC"
    )
    of_rules = ("nocall", "noise", "don't know", "unclassified", "human vocal", "engine", "siren")
    labels = [*of_rules, *map(str.title, of_rules), " Engine ", "Litoria ewingii"]
    for number, label in enumerate(labels):
        at = datetime(2026, 11, 1, tzinfo=UTC) if number % 2 else datetime(2003, 5, 1, tzinfo=UTC)
        await connection.execute(
            "INSERT INTO echo.detections (key, journal_offset, observed_at, received_at,"
            " time_source, form, node, species) VALUES ($1, $2, $3, $3, 'device', 'x', 'n', $4)",
            *(number.to_bytes(16), number, at, label),
        )
    await connection.execute(
        "INSERT INTO echo.nodes (node, first_heard_at, last_heard_at, placed_at, latitude)"
        " VALUES ('ridge-01', $1, $2, $2, 1)",
        *(SOON - timedelta(days=1), SOON - timedelta(hours=1)),
    )
    await connection.close()
    arrived = [delivery(900 + n, detection(3 * n)) for n in range(3)]
    old = detection_at(999, "2003-05-02T00:00:00+00:00", species="@", observation_type="blank")
    assert await database.sink.write([*arrived, old]) == Written(4)
    assert [file for (file,) in await database.rows(APPLIED)] == FILES
    types = dict(
        await database.rows("SELECT species, observation_type FROM echo.detections ORDER BY key")
    )
    assert {label: types[label] for label in labels} == {
        label: NOT_ANIMALS.get(label.strip().lower(), "animal") for label in labels
    }
    assert len(await database.rows("SELECT FROM echo_months.detections_2003_05")) == (
        len(labels[::2]) + 1
    )
    assert await database.rows(
        "SELECT first_heard_at, last_heard_at, last_offset, latitude FROM echo.nodes"
        " WHERE node = 'ridge-01'"
    ) == [(SOON - timedelta(days=1), SOON + timedelta(seconds=999), 999, PLACE[0])]
    granted = (
        "SELECT grantee, privilege_type FROM information_schema.role_table_grants"
        " WHERE table_name = 'measurements' AND grantee <> 'postgres' ORDER BY 1, 2"
    )
    assert await database.rows(granted) == [
        ("PUBLIC", "SELECT"), ("pg_monitor", "INSERT"), ("pg_monitor", "SELECT")
    ]  # fmt: skip
    commented = (
        "SELECT col_description('echo.{}'::regclass, attnum) FROM pg_attribute"
        " WHERE attrelid = 'echo.{}'::regclass AND attname = 'time_problem'"
    )
    of_both = [
        await database.rows(commented.format(name, name)) for name in ("telemetry", "measurements")
    ]
    assert of_both[0] == of_both[1] != [(None,)]


async def test_many_workers_at_once_migrate_once(database: Database) -> None:
    workers = [Postgres(database.url) for _ in range(6)]
    written = await asyncio.gather(*(w.write([detection_at(n)]) for n, w in enumerate(workers)))
    assert [each.count for each in written] == [1] * 6
    for worker in workers:
        await worker.close()
    assert [file for (file,) in await database.rows(APPLIED)] == FILES
    assert len(await database.rows("SELECT FROM echo.detections")) == 6
    assert await database.sink.migrate() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "UPDATE echo.migration SET sha256 = 'x' WHERE file LIKE '0002%'",
            "0002_months.sql is not",
        ),
        ("INSERT INTO echo.migration VALUES ('0099_frogs.sql', 'x')", "newer .* 0099_frogs.sql"),
    ],
)
async def test_a_schema_that_is_not_ours_is_left_alone(
    database: Database, change: str, words: str
) -> None:
    await database.sink.migrate()
    await database.execute(change)
    for attempt in (
        database.sink.write([detection_at(1)]),
        database.sink.probe(),
        database.sink.migrate(),
    ):
        with pytest.raises(Unavailable, match=f"{words}.*install"):
            await attempt


async def test_a_migration_that_fails_leaves_nothing(database: Database) -> None:
    await database.execute(
        "CREATE SCHEMA echo_months", "CREATE TABLE echo_months.telemetry_other ()"
    )
    with pytest.raises(Unavailable, match='schema "echo_months" already exists'):
        await database.sink.migrate()
    assert await database.rows("SELECT to_regnamespace('echo')") == [(None,)]


async def test_a_role_with_the_rights_of_the_paper_delivers_and_may_do_no_more(
    database: Database,
) -> None:
    """The owner of docs/postgresql.md migrates, the service writes, a reader reads."""
    roles, grants = (
        block.replace("…", "frog").split(";")[:-1]
        for block in re.findall(r"```sql\n(-- as .*?)```", PAPER.read_text(), re.DOTALL)
    )
    await database.cluster.execute("postgres", "DROP DATABASE echo", *roles)
    owner, service, reader = (
        database.cluster.url("echo", f"echo_{role}", "frog")
        for role in ("owner", "service", "reader")
    )
    sink = Postgres(service)
    with pytest.raises(Unavailable, match=r"lacks CREATE ON DATABASE.*echo-ingest migrate"):
        await sink.probe()
    with pytest.raises(Unavailable, match=r"permission denied.*echo-ingest migrate"):
        await sink.write([detection_at(1)])
    assert await Postgres(owner).migrate() == FILES
    with pytest.raises(Unavailable, match=r"permission denied for schema echo.*docs/postgresql.md"):
        await sink.probe()
    connection = await asyncpg.connect(owner)
    for grant in grants:
        await connection.execute(grant)
    await sink.probe()
    assert await sink.write([detection_at(1, "2003-05-01T00:00:00+00:00")]) == Written(1)
    assert await sink.write([delivery(n, message(n)) for n in range(9)]) == Written(9)
    assert await sink.write([delivery(n, message(n)) for n in range(9)]) == Written(9)
    await connection.execute("REVOKE INSERT ON echo.movements FROM echo_service")
    with pytest.raises(Unavailable, match="lacks INSERT ON movements: grant"):
        await sink.probe()
    with pytest.raises(Unavailable, match=r"permission denied for table movements.*grant it"):
        await sink.write([delivery(13, message(13))])
    await connection.close()
    await sink.close()
    assert ("echo_months.detections_2003_05", 1) in await database.rows(PARTITIONS)
    for url, forbidden in (
        (service, "DELETE FROM echo.detections"),
        (service, "CREATE TABLE echo.mine ()"),
        (reader, "INSERT INTO echo.nodes SELECT * FROM echo.nodes"),
        (reader, "SELECT echo.make_months('{2003-01-01}')"),
    ):
        connection = await asyncpg.connect(url)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(forbidden)
        await connection.close()


async def test_postgis_that_comes_later_is_used_from_the_next_migrate_on(
    database: Database,
) -> None:
    if ("postgis",) not in await database.rows("SELECT name FROM pg_available_extensions"):
        pytest.skip("PostGIS is not there: type apt-get install postgresql-15-postgis-3")
    await database.sink.write([delivery(0, message(0))])
    await database.execute("CREATE EXTENSION postgis")
    await database.sink.close()
    await database.sink.write([delivery(5, message(5))])
    assert [file for (file,) in await database.rows(APPLIED)] == FILES
    assert await database.sink.migrate() == ["postgis.sql"]
    await database.sink.write([delivery(9, message(9))])
    near = "SELECT FROM echo.detections WHERE echo.is_near(latitude, longitude, -38.77, 143.5, 500)"
    assert len(await database.rows(near)) == 3
    function = "SELECT prosrc ~ 'ST_DWithin' FROM pg_proc WHERE proname = 'is_near'"
    assert await database.rows(function) == [(True,)]


# ---------------------------------------------------------------------- its own words


@pytest.mark.parametrize(
    ("change", "words", "cause"),
    [
        (
            "",
            "password authentication failed .*: set IOT_POSTGRES_URL to a role",
            Cause.CREDENTIALS,
        ),
        (
            "ALTER ROLE frog NOLOGIN",
            "not permitted to log in: set IOT_POSTGRES_URL",
            Cause.CREDENTIALS,
        ),
        (
            "ALTER ROLE frog CONNECTION LIMIT 0",
            "too many connections .*: let it take more",
            Cause.OVERLOADED,
        ),
        (
            "ALTER ROLE frog SET default_transaction_read_only = on",
            "it only reads",
            Cause.NO_PRIMARY,
        ),
        (
            "DROP DATABASE echo WITH (FORCE)",
            '"echo" does not exist: create that database',
            Cause.MISCONFIGURED,
        ),
        (
            "DROP TABLE echo.movements CASCADE",
            "the schema echo is not as echo-ingest made it",
            Cause.MISCONFIGURED,
        ),
        (
            "DROP FUNCTION echo.make_months",
            "the schema echo is not as echo-ingest made it",
            Cause.MISCONFIGURED,
        ),
    ],
)
async def test_each_error_has_its_remedy_and_its_cause_and_hides_the_password(
    database: Database, change: str, words: str, cause: Cause
) -> None:
    await database.sink.migrate()
    await database.cluster.execute("postgres", "DROP ROLE IF EXISTS frog")
    await database.cluster.execute("postgres", f"CREATE ROLE frog LOGIN PASSWORD '{PASSWORD}'")
    rights = "pg_read_all_data, pg_write_all_data"
    months = "EXECUTE ON FUNCTION echo.make_months"
    await database.execute(f"GRANT {rights} TO frog", f"GRANT {months} TO frog")
    if change:
        where = "postgres" if "DATABASE" in change else "echo"
        await database.cluster.execute(where, change)
    sink = Postgres(database.cluster.url("echo", "frog", PASSWORD if change else "hunter2"))
    with pytest.raises(Unavailable, match=words) as raised:
        await sink.write([delivery(3, message(3))])
    await sink.close()
    assert raised.value.cause == cause
    assert "hunter2" not in str(raised.value)
    assert PASSWORD not in str(raised.value)


async def test_a_server_is_held_to_its_certificate(database: Database, tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    data = database.cluster.folder / "data"
    issued.cert_chain_pems[0].write_to_path(str(data / "server.crt"))
    issued.private_key_pem.write_to_path(str(data / "server.key"))
    (data / "server.key").chmod(0o600)
    for name in ("server.crt", "server.key"):
        shutil.chown(data / name, data.owner())
    for name, each in (("ours", authority), ("other", other)):
        each.cert_pem.write_to_path(str(tmp_path / name))
    on = ("ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
    await database.cluster.execute("postgres", *on)
    try:
        strict = f"{database.url}?sslmode=verify-full&sslrootcert={tmp_path}"
        sink = Postgres(f"{strict}/ours")
        await sink.write([detection_at(1)])
        used = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
        assert await database.rows(f"{used} WHERE application_name = 'echo-ingest'") == [(True,)]
        await sink.close()
        with pytest.raises(
            Unavailable, match=r"certificate verify failed.*sslrootcert= to IOT_POSTGRES_URL"
        ) as raised:
            await Postgres(f"{strict}/other").probe()
        assert raised.value.cause == Cause.MISCONFIGURED
    finally:
        off = ("ALTER SYSTEM RESET ssl", "SELECT pg_reload_conf()")
        await database.cluster.execute("postgres", *off)


async def test_a_disturbed_write_leaves_no_connection_behind(database: Database) -> None:
    """Cancelled, or waiting for a lock beyond its time: the next one goes on."""
    sink = Postgres(database.url, timeout_seconds=0.5)
    await sink.write([detection_at(1)])
    other = await asyncpg.connect(database.url)
    await other.execute("BEGIN; LOCK TABLE echo.detections")
    with pytest.raises(Unavailable, match=r"holds a lock|in time|took too long"):
        await sink.write([detection_at(2)])
    waiting = asyncio.create_task(sink.write([detection_at(2)]))
    while not await database.rows("SELECT FROM pg_locks WHERE NOT granted"):
        assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await other.close()
    await sink.write([detection_at(2)])
    await sink.close()
    ours = "SELECT FROM pg_stat_activity WHERE application_name = 'echo-ingest'"
    async with asyncio.timeout(10):
        while await database.rows(ours):
            pass
    assert len(await database.rows("SELECT FROM echo.detections")) == 2


# ---------------------------------------------------------------------- the paper, the commands


async def test_the_papers_questions_are_answered_as_it_shows(database: Database) -> None:
    _, _, night = (PAPER.parent / "stores.md").read_text().partition("## A night to try with")
    lines = re.findall(r"^\{.*\}$", night.partition("\n## ")[0], re.MULTILINE)
    batch = [
        delivery(
            n,
            msgspec.structs.replace(
                json_message("ridge-07", json.loads(line)), received_at_ms=(MORNING + 86_400) * 1000
            ),
        )
        for n, line in enumerate(lines)
    ]
    nobody = [
        detection_at(90, "2026-11-18T12:00:00+00:00", species="nocall", observation_type="blank"),
        detection_at(91, "2026-11-18T12:00:00+00:00", species="Crinia signifera",
                     time_source="received", place=None),
    ]  # fmt: skip
    assert await database.sink.write(batch) == Written(5)
    assert await database.sink.write(nobody) == Written(2)
    _, _, asked = PAPER.read_text().partition("## From nothing to last night's frogs")
    typed = re.findall(
        r"^```sql\n(.*?)^```(?:\n\n```\n(.*?)^```)?",
        asked.partition("\n## ")[0],
        re.DOTALL | re.MULTILINE,
    )
    assert [bool(shown) for _, shown in typed] == [False, True, True, True]
    for query, shown in typed:
        answer = database.cluster.psql("echo", query)
        assert [line.rstrip() for line in answer.splitlines() if line] == shown.splitlines()


async def test_the_first_host_that_is_up_is_taken(database: Database) -> None:
    port = database.cluster.port
    hosts = database.url.replace(f":{port}/", f":{free_port()},127.0.0.1:{port}/")
    sink = Postgres(f"{hosts}?target_session_attrs=read-write")
    assert await sink.write([detection_at(1)]) == Written(1)
    await sink.close()


async def test_check_and_migrate_say_what_to_do_and_never_the_password(
    database: Database, tmp_path: Path
) -> None:
    harness = Harness(tmp_path / "data", IOT_ENDPOINT=f"127.0.0.1:{free_port()}")
    harness.data_dir.mkdir(mode=0o700)
    where = f"postgres@127.0.0.1:{database.cluster.port}/echo"
    unset = harness.cli("migrate")
    assert (unset.returncode, "IOT_POSTGRES_URL is not set" in unset.stderr) == (2, True)
    harness.settings["IOT_POSTGRES_URL"] = database.url
    assert f"✓ PostgreSQL  {where} answers" in harness.cli("check").stdout
    assert await database.rows("SELECT to_regnamespace('echo')") == [(None,)]
    first, second = harness.cli("migrate"), harness.cli("migrate")
    assert first.stdout.splitlines() == [f"applied {file}" for file in FILES]
    assert (second.returncode, second.stdout) == (0, "")
    harness.settings["IOT_POSTGRES_URL"] = database.cluster.url("echo", password="hunter2")
    wrong = [harness.cli("check"), harness.cli("migrate")]
    with contextlib.closing(Journal(harness.data_dir / "journal.db")) as journal:
        journal.append(arrivals([message(0)]))
    harness.start("run")
    try:
        eventually(lambda: "password authentication failed" in harness.log("run"))
    finally:
        harness.close()
    outputs = [wrong[0].stdout, wrong[1].stderr, harness.log("run")]
    assert [done.returncode for done in wrong] == [1, 1]
    assert all("set IOT_POSTGRES_URL to a role" in text for text in outputs), outputs
    assert "hunter2" not in "".join(outputs)
