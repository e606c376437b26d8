"""Removes from the almanac what retention has removed from the journal."""

from collections import Counter
from collections.abc import Iterator

import apsw

from echo_ingest.almanac.almanac_file import rows_of
from echo_ingest.almanac.measurements import drop_series
from echo_ingest.almanac.nights import recount
from echo_ingest.almanac.observation import HOUR_MS
from echo_ingest.almanac.record_numbers import number_of, offset_of
from echo_ingest.journal.changes import JournalChanges
from echo_ingest.journal.journal_file import transaction

STEP_RECORDS = 500


def drop_trimmed(
    db: apsw.Connection, journal: JournalChanges, trimmed_offset: int
) -> Iterator[None]:
    """Remove calls and clips whose messages are gone, in steps of one transaction each.

    Up to that offset, a message may still be there because a sink has parked it.
    """
    after, end = 0, number_of(trimmed_offset + 1)
    while True:
        numbers = [
            number
            for (number,) in rows_of(
                db,
                "SELECT record FROM (SELECT * FROM (SELECT record FROM call WHERE record > ?1"
                " AND record < ?2 ORDER BY record LIMIT ?3) UNION SELECT * FROM (SELECT record"
                " FROM clip WHERE record > ?1 AND record < ?2 ORDER BY record LIMIT ?3))"
                " ORDER BY record LIMIT ?3",
                (after, end, STEP_RECORDS),
            )
        ]
        if not numbers:
            return
        gone = set(journal.gone(list(dict.fromkeys(map(offset_of, numbers)))))
        with transaction(db):
            _drop(db, [number for number in numbers if offset_of(number) in gone])
        after = numbers[-1]
        yield


def _drop(db: apsw.Connection, gone: list[int]) -> None:
    of_species: Counter[int] = Counter()
    of_nodes: Counter[tuple[int, int]] = Counter()
    hours: set[tuple[int, int]] = set()
    for number in gone:
        for node_id, species_id, observed_at_ms in rows_of(
            db,
            "DELETE FROM call WHERE record = ? RETURNING node_id, species_id, observed_at_ms",
            (number,),
        ):
            hour = observed_at_ms // HOUR_MS
            of_species[species_id] += 1
            of_nodes[node_id, hour] += 1
            hours.add((hour, species_id))
    db.executemany("DELETE FROM clip WHERE record = ?", ((number,) for number in gone))
    db.executemany("UPDATE species SET calls = calls - ?2 WHERE id = ?1", of_species.items())
    db.executemany(
        "UPDATE node_hour SET calls = calls - ?3 WHERE node_id = ?1 AND hour = ?2",
        ((*key, calls) for key, calls in of_nodes.items()),
    )
    for hour, species_id in hours:
        recount(db, hour, species_id)


def drop_hours(db: apsw.Connection, first_hour: int) -> None:
    """Remove the hourly history from before `first_hour`; the tables are scanned once an hour."""
    with transaction(db):
        if first_hour > db.execute("SELECT first_hour FROM progress").get:
            for table in ("node_hour", "health_hour", "series_hour"):
                db.execute(f"DELETE FROM {table} WHERE hour < ?", (first_hour,))  # noqa: S608
            drop_series(db, first_hour)
            db.execute("UPDATE progress SET first_hour = ?", (first_hour,))
