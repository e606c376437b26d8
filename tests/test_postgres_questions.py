"""Each documented question to the database is answered by an index, and near means near."""

import math
import re
from random import Random

import asyncpg
import pytest

from echo_ingest.sinks.postgres import Postgres
from tests.postgres import Cluster

pytestmark = pytest.mark.slow

ROWS = 15_000
FILL = f"""
    SELECT echo.make_months('{{2026-08-01, 2026-09-01}}');
    INSERT INTO echo.detections (key, journal_offset, observed_at, received_at, time_source, form,
        node, latitude, longitude, species)
    SELECT n::text::bytea, n, at, at, 'device', 'detection', 'node-' || n % 500,
        -39 + n % 500 * 0.01, 143 + n % 499 * 0.01, 'species ' || n % 300
    FROM generate_series(1, {ROWS}) AS n, LATERAL (SELECT timestamptz '2026-08-01 00:00+00'
        + n * interval '4 minutes') AS t (at);
    INSERT INTO echo.recordings (key, journal_offset, observed_at, received_at, time_source, form,
        node, latitude, longitude)
    SELECT key, journal_offset, observed_at, received_at, time_source, form,
        node, latitude, longitude FROM echo.detections;
    INSERT INTO echo.telemetry (key, journal_offset, observed_at, received_at, time_source, form,
        node)
    SELECT key, journal_offset, observed_at, received_at, time_source, form, node
    FROM echo.detections;
    INSERT INTO echo.movements (key, journal_offset, observed_at, received_at, time_source, form,
        node, species, animal_id, animal_latitude, animal_longitude)
    SELECT key, journal_offset, observed_at, received_at, time_source, form,
        node, species, 'a', latitude, longitude FROM echo.detections;
    ANALYZE;
"""  # noqa: S608
NIGHT = "observed_at >= '2026-08-20 08:00+00' AND observed_at < '2026-08-20 20:00+00'"
ANIMAL_NEAR = "echo.is_near(animal_latitude, animal_longitude, -36.5, 144.7, 3000)"
NEAR = "echo.is_near(latitude, longitude, -36.5, 144.7, 3000)"


@pytest.fixture(params=["plain", "postgis"])
async def database(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    """Make a database full of rows, once for each case."""
    name = str(request.param)
    had = await cluster.rows("postgres", "SELECT datname FROM pg_database")
    if (name,) not in had:
        available = await cluster.rows("postgres", "SELECT name FROM pg_available_extensions")
        if name == "postgis" and (name,) not in available:
            pytest.skip("PostGIS is not there: type apt-get install postgresql-15-postgis-3")
        await cluster.execute("postgres", f"CREATE DATABASE {name}")
        if name == "postgis":
            await cluster.execute(name, "CREATE EXTENSION postgis")
        await Postgres(cluster.url(name)).migrate()
        await cluster.execute(name, FILL)
    return name


async def plan(cluster: Cluster, database: str, query: str) -> str:
    return "\n".join(line for (line,) in await cluster.rows(database, f"EXPLAIN {query}"))


@pytest.mark.parametrize(
    ("table", "condition", "index"),
    [
        ("detections", NIGHT, "pkey"),
        ("recordings", NIGHT, "pkey"),
        ("telemetry", NIGHT, "pkey"),
        ("movements", NIGHT, "pkey"),
        ("detections", "species = 'species 7'", "species_observed_at"),
        ("movements", "species = 'species 7'", "species_observed_at"),
        ("detections", "node = 'node-7'", "node_observed_at"),
        ("recordings", "node = 'node-7'", "node_observed_at"),
        ("telemetry", "node = 'node-7'", "node_observed_at"),
        ("movements", "node = 'node-7'", "node_observed_at"),
        ("detections", NEAR, "latitude_longitude|st_makepoint"),
        ("recordings", NEAR, "latitude_longitude|st_makepoint"),
        ("movements", ANIMAL_NEAR, "latitude_animal_longitude|st_makepoint"),
    ],
)
async def test_each_question_has_its_index_in_every_month(
    cluster: Cluster, database: str, table: str, condition: str, index: str
) -> None:
    query = f"SELECT * FROM echo.{table} WHERE {condition}"  # noqa: S608
    shown = await plan(cluster, database, query)
    assert re.search(rf"{table}_2026_08_\w*({index})", shown), shown
    assert f"Seq Scan on {table}_2026" not in shown, shown  # an empty table is read, not looked up
    if condition == NIGHT:
        assert "2026_09" not in shown


async def test_near_a_point_and_last_night_go_together(cluster: Cluster, database: str) -> None:
    query = f"SELECT species, count(*) FROM echo.detections WHERE {NIGHT} AND {NEAR} GROUP BY 1"  # noqa: S608
    shown = await plan(cluster, database, query)
    assert "Seq Scan on detections_2026" not in shown
    assert "2026_09" not in shown


@pytest.mark.parametrize(
    "point",
    [(-38.77, 143.5), (0.0, 0.0), (-43.9, -179.99), (-43.9, 179.99), (89.9, 12.0), (-90.0, 0.0)],
)
async def test_near_is_near_also_at_the_date_line_and_at_the_poles(
    cluster: Cluster, database: str, point: tuple[float, float]
) -> None:
    """The expected answer is the angle between two vectors, which needs no bounding box."""
    rng, radius_metres = Random(1), 60_000.0
    places = [
        (
            max(-90.0, min(90.0, point[0] + rng.gauss(0, 0.6))),
            (point[1] + rng.choice((rng.gauss(0, 0.8), rng.uniform(-180, 180))) + 540) % 360 - 180,
        )
        for _ in range(2_000)
    ]
    connection = await asyncpg.connect(cluster.url(database))
    near = await connection.fetch(
        "SELECT echo.is_near(lat, lon, $3, $4, $5), echo.distance_metres(lat, lon, $3, $4)"
        " FROM unnest($1::float8[], $2::float8[]) AS places (lat, lon)",
        *zip(*places, strict=True),
        *point,
        radius_metres,
    )
    await connection.close()
    tolerance_metres = 0.006 * radius_metres if database == "postgis" else 0.01
    near_count = 0
    for place, (is_near, metres) in zip(places, near, strict=True):
        wanted = angle(place, point) * 6_371_008.8
        assert abs(metres - wanted) < 0.01
        if abs(wanted - radius_metres) > tolerance_metres:
            assert is_near == (wanted < radius_metres), (place, wanted)
            near_count += is_near
    assert near_count > 50


def angle(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the angle between two places as seen from the centre of the Earth, in radians."""
    a, b = vector(one), vector(other)
    cross = (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )
    return math.atan2(math.hypot(*cross), sum(x * y for x, y in zip(a, b, strict=True)))


def vector(place: tuple[float, float]) -> tuple[float, float, float]:
    latitude, longitude = map(math.radians, place)
    return (
        math.cos(latitude) * math.cos(longitude),
        math.cos(latitude) * math.sin(longitude),
        math.sin(latitude),
    )
