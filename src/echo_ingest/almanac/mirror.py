"""Copies of what the journal and the file of nodes hold now, and may not hold a moment later."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import structlog

from echo_ingest.almanac.aggregate import Aggregate
from echo_ingest.almanac.database import rows_of
from echo_ingest.almanac.observation import HOUR_MS
from echo_ingest.almanac.refusals import alike
from echo_ingest.broker.nodes import NodesUnusable, read_nodes
from echo_ingest.journal.changes import DeadLetterChange, JournalChanges, JournalMarks, Row
from echo_ingest.journal.database import transaction

STEP_ROWS = 200
STEP_PARKED = 2_000
END = 2**62
REASONS_MAX = 10_000
HEARD = """
    INSERT INTO node (name, first_heard_at_ms, last_heard_at_ms) VALUES (?1, ?2, ?3)
    ON CONFLICT DO UPDATE SET
    first_heard_at_ms = min(coalesce(first_heard_at_ms, ?2), ?2),
    last_heard_at_ms = max(coalesce(last_heard_at_ms, ?3), ?3)"""

log = structlog.get_logger("almanac")


class Mirror:
    """Brings in what is new and takes out what is gone, in steps of one transaction."""

    def __init__(self, db: apsw.Connection, journal: JournalChanges, tally: Aggregate) -> None:
        self._db = db
        self._journal = journal
        self._tally = tally
        self._reasons: dict[str, int] = {}
        self._parked: tuple[Row, ...] | None = None
        self._nodes_stamp: tuple[int, ...] | None = None

    # ------------------------------------------------------------------ nodes

    def heard(self) -> None:
        """When each node was first and last heard, as the journal's own ledger has it."""
        with transaction(self._db):
            self._db.executemany(HEARD, self._journal.heard())

    def last_heard(self) -> Iterator[None]:
        """The same again: what came twice is in no record, but its node was heard."""
        heard = self._journal.last_heard()
        for start in range(0, len(heard), STEP_ROWS):
            with transaction(self._db):
                self._db.executemany(
                    HEARD, ((name, at, at) for name, at in heard[start : start + STEP_ROWS])
                )
            yield

    def accounts(self, path: Path) -> None:
        """Who has an account, if the file has changed; one that cannot be read changes nothing."""
        try:
            stat = path.stat()
            stamp: tuple[int, ...] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            stamp = ()
        if stamp == self._nodes_stamp:
            return
        self._nodes_stamp = stamp
        try:
            nodes = read_nodes(path)
        except NodesUnusable as error:
            log.warning("accounts not taken over", reason=str(error))
            return
        with transaction(self._db):
            self._db.execute("UPDATE node SET account = NULL WHERE account IS NOT NULL")
            self._db.executemany(
                "INSERT INTO node (name, account) VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET account = excluded.account",
                ((node.name, "disabled" if node.disabled else "enabled") for node in nodes),
            )
            self._db.execute(
                "DELETE FROM node WHERE account IS NULL AND last_heard_at_ms IS NULL"
                " AND id NOT IN (SELECT node_id FROM refusal)"
            )
        self._tally.forget_ids()

    # ------------------------------------------------------------------ dead letters

    def letters(self, marks: JournalMarks) -> Iterator[None]:
        """Dead letters: the new ones, and if it is not as many as the journal has, those gone."""
        after, first_hour = self._db.execute("SELECT dead_letter, first_hour FROM progress").get
        while after < marks.last_dead_letter and (
            letters := self._journal.dead_letters_after(after, STEP_ROWS)
        ):
            with transaction(self._db):
                self._add_letters(letters, first_hour)
                after = letters[-1].id
                self._db.execute("UPDATE progress SET dead_letter = ?", (after,))
            yield
        if self._count("") != marks.dead_letters:
            yield from self._drop_letters()

    def _add_letters(self, letters: list[DeadLetterChange], first_hour: int) -> None:
        rows = [
            (letter.id, self._reason_id(letter.reason), self._tally.node_id(letter.node), at_ms)
            for letter in letters
            for at_ms in (letter.received_at_ms,)
        ]
        self._db.executemany(
            "INSERT INTO refusal VALUES ('', ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING", rows
        )
        self._db.executemany(
            "INSERT INTO node_hour VALUES (?, ?, 0, 1, 0, 0, NULL, NULL)"
            " ON CONFLICT DO UPDATE SET dead_letters = dead_letters + 1",
            (
                (node_id, at_ms // HOUR_MS)
                for _, _, node_id, at_ms in rows
                if at_ms // HOUR_MS >= first_hour
            ),
        )
        self._db.executemany(HEARD, ((each.node, *[each.received_at_ms] * 2) for each in letters))

    def _drop_letters(self) -> Iterator[None]:
        after = 0
        while ours := rows_of(
            self._db,
            "SELECT number, node_id, at_ms FROM refusal WHERE sink = '' AND number > ?"
            " ORDER BY number LIMIT ?",
            (after, STEP_ROWS),
        ):
            there = set(self._journal.letter_ids(after, len(ours)))
            gone = [row for row in ours if row[0] not in there]
            with transaction(self._db):
                self._drop("", [number for number, _, _ in gone])
                of = [(node_id, at_ms // HOUR_MS) for _, node_id, at_ms in gone]
                self._db.executemany(
                    "UPDATE node_hour SET dead_letters = dead_letters - 1"
                    " WHERE node_id = ? AND hour = ?",
                    of,
                )
                self._db.executemany(
                    "DELETE FROM node_hour WHERE node_id = ? AND hour = ?"
                    " AND received + dead_letters + observed + calls = 0",
                    of,
                )
            after = ours[-1][0]
            yield

    # ------------------------------------------------------------------ parked

    def parked(self, marks: JournalMarks) -> Iterator[None]:
        """What sinks have parked, if that is not what it was."""
        if marks.parked == self._parked:
            return
        ours = rows_of(self._db, "SELECT DISTINCT sink FROM refusal WHERE sink > ''")
        for sink in sorted({row[0] for row in (*marks.parked, *ours)}):
            after = 0
            while True:
                theirs = self._journal.parked(sink, after, STEP_PARKED)
                end = theirs[-1][0] if len(theirs) == STEP_PARKED else END
                ours = rows_of(
                    self._db,
                    "SELECT number, at_ms, replay_requested FROM refusal"
                    " WHERE sink = ? AND number > ? AND number <= ?",
                    (sink, after, end),
                )
                yield
                yield from self._copy_parked(sink, ours, theirs)
                if end == END:
                    break
                after = end
        self._parked = marks.parked

    def _copy_parked(self, sink: str, ours: list[Row], theirs: list[Row]) -> Iterator[None]:
        changed = sorted(set(theirs).difference(ours))
        parked_at_ms = {offset: at_ms for offset, at_ms, _ in ours}
        asked = [row for row in changed if parked_at_ms.get(row[0]) == row[1]]
        new = [row for row in changed if parked_at_ms.get(row[0]) != row[1]]
        gone = parked_at_ms.keys() - {row[0] for row in theirs}
        if gone or asked:
            with transaction(self._db):
                self._drop(sink, sorted(gone))
                self._db.executemany(
                    "UPDATE refusal SET replay_requested = ?3 WHERE sink = ?1 AND number = ?2",
                    ((sink, offset, replay) for offset, _, replay in asked),
                )
            yield
        for start in range(0, len(new), STEP_ROWS):
            with transaction(self._db):
                for row in new[start : start + STEP_ROWS]:
                    self._park(sink, *row)
            yield

    def _park(self, sink: str, offset: int, at_ms: int, replay: int) -> None:
        reason, node = self._journal.why_parked(sink, offset)
        if reason:  # else it is parked no more
            ids = self._reason_id(reason), self._tally.node_id(node)
            self._db.execute(
                "INSERT OR REPLACE INTO refusal VALUES (?, ?, ?, ?, ?, ?)",
                (sink, offset, *ids, at_ms, replay),
            )

    # ------------------------------------------------------------------ both

    def tidy(self) -> None:
        """Forget reasons that nothing was refused for any more."""
        self._reasons.clear()
        self._db.execute("DELETE FROM reason WHERE id NOT IN (SELECT reason_id FROM refusal)")

    def _count(self, sink: str) -> int:
        return int(self._db.execute("SELECT count(*) FROM refusal WHERE sink = ?", (sink,)).get)

    def _drop(self, sink: str, numbers: list[int]) -> None:
        self._db.executemany(
            "DELETE FROM refusal WHERE sink = ? AND number = ?",
            ((sink, number) for number in numbers),
        )

    def _reason_id(self, reason: str) -> int:
        found = self._reasons.get(reason)
        if found is None:
            if len(self._reasons) > REASONS_MAX:
                self._reasons.clear()
            text = alike(reason)
            self._db.execute("INSERT INTO reason (text) VALUES (?) ON CONFLICT DO NOTHING", (text,))
            found = int(self._db.execute("SELECT id FROM reason WHERE text = ?", (text,)).get)
            self._reasons[reason] = found
        return found
