"""A schema that was released does not change: journals and databases have it already.

Each file has its hash here. Where a test fails because a file has changed, undo the change, and
write the next number instead: `schema_N.sql`, with `SCHEMA_VERSION`, for the journal; the next file
of `migrations/` for PostgreSQL. Only the newest file may change together with its hash, and only
as long as no release has it; `git log` says which ones have. The almanac is made again where its
number has changed, so its one file needs a new number with each change.
"""

import hashlib
from pathlib import Path

import pytest

from echo_ingest.almanac import almanac_file
from echo_ingest.journal.schema import SCHEMA_VERSION
from tests.test_tidy import SOURCE

JOURNAL = SOURCE / "journal"
MIGRATIONS = SOURCE / "sinks" / "postgres" / "migrations"
FIXTURES = Path(__file__).parent / "journals"
HASHES = {
    "journal/schema_1.sql": "6c420e6b623ac6b0",
    "journal/schema_2.sql": "5f106f08df72f047",
    "journal/schema_3.sql": "d13100ff53cf6b06",
    "journal/schema_4.sql": "420925951e785ec0",
    "journal/schema_5.sql": "ba1264c6630b7e19",
    "sinks/postgres/migrations/0001_tables.sql": "2977a34531ade45f",
    "sinks/postgres/migrations/0002_months.sql": "bf26ffd6681b9be2",
    "sinks/postgres/migrations/0003_near.sql": "7edee7bc5d085c90",
    "sinks/postgres/migrations/0004_quality.sql": "f22d5f36b58fb86d",
    "sinks/postgres/migrations/0005_records.sql": "035e4cee2b74f937",
    "sinks/postgres/migrations/0006_measurements.sql": "d7c7ee0d704a9b83",
    "sinks/postgres/migrations/postgis.sql": "c08241d4489b7af8",
}
ALMANAC = (7, "c66e34637435fa58")
"""Its number, and the hash of its file."""


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


@pytest.mark.parametrize("path", sorted(HASHES))
def test_a_released_schema_has_not_changed(path: str) -> None:
    assert hash_of(SOURCE / path) == HASHES[path], f"{path} has changed: see the top of this file"


def test_each_schema_has_its_hash_here() -> None:
    files = [*JOURNAL.glob("*.sql"), *MIGRATIONS.glob("*.sql")]
    assert {str(path.relative_to(SOURCE)) for path in files} == HASHES.keys()


def test_the_almanac_has_a_new_number_whenever_its_schema_changes() -> None:
    assert (almanac_file.SCHEMA_VERSION, hash_of(almanac_file.SCHEMA)) == ALMANAC, (
        "give almanac/schema.sql and almanac_file.py the next number, and write both down here"
    )


def test_there_is_a_journal_of_each_version_before_this_one() -> None:
    """`journals/write.py` writes that of the version that was the newest until now."""
    names = {f"version_{number}.db" for number in range(1, SCHEMA_VERSION)}
    assert {path.name for path in FIXTURES.glob("*.db")} == names
