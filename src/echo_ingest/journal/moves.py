"""Messages that become something else: a dead letter that is valid now, or what is claimed now."""

import apsw

from echo_ingest.journal.ignored_days import UPSERT_IGNORED_DAY, ignored_days
from echo_ingest.journal.node_days import REPLAY_NODE_DAY, replayed
from echo_ingest.journal.plan import Arrival
from echo_ingest.record import DeadLetter, Duplicate, Ignored, Outcome, Stored, Unclaimed

TERMS: dict[type[Outcome], str] = {DeadLetter: "dead_letters", Unclaimed: "unclaimed"}


def note_moved(db: apsw.Connection, arrival: Arrival, was: type[Outcome], outcome: Outcome) -> None:
    """Count a message as what it is now, in the ledger, by node and day, and by form."""
    term = TERMS[was]
    db.execute(f"UPDATE ledger SET {term} = {term} - 1")  # noqa: S608
    db.execute(
        "UPDATE ledger SET stored = stored + ?, duplicates = duplicates + ?,"
        " dead_letters = dead_letters + ?, ignored = ignored + ?",
        [isinstance(outcome, each) for each in (Stored, Duplicate, DeadLetter, Ignored)],
    )
    message, decoded = arrival
    db.executemany(UPSERT_IGNORED_DAY, ignored_days([arrival], [outcome]))
    db.executemany(REPLAY_NODE_DAY, replayed(message, decoded, outcome, was))
