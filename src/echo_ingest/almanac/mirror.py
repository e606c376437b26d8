"""Copies of what the journal and the file of nodes hold now but may lose at any moment."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import structlog

from echo_ingest.almanac.aggregate import HEARD, Aggregate
from echo_ingest.almanac.almanac_file import rows_of
from echo_ingest.almanac.observation import CLOCK_TOLERANCE_MS, HOUR_MS
from echo_ingest.almanac.refusals import ReasonKey, reason_key
from echo_ingest.broker.node_accounts import NodesUnusable, read_nodes
from echo_ingest.journal.changes import DeadLetterChange, JournalChanges, JournalMarks, Row
from echo_ingest.journal.journal_file import transaction

STEP_ROWS = 200
STEP_PARKED = 2_000
END = 2**62
REASONS_MAX = 10_000
HEARD_BY_NAME = f"""
    INSERT INTO node (name, first_heard_at_ms, last_heard_at_ms) VALUES (?1, ?2, ?3)
    ON CONFLICT DO UPDATE SET {HEARD}"""  # noqa: S608

log = structlog.get_logger("almanac")


class Mirror:
    """Brings in what is new and removes what has gone, in steps of one transaction."""

    def __init__(self, db: apsw.Connection, journal: JournalChanges, tally: Aggregate) -> None:
        self._db = db
        self._journal = journal
        self._tally = tally
        self._reason_ids: dict[ReasonKey, int] = {}
        self._parked: tuple[Row, ...] | None = None
        self._nodes_stamp: tuple[int, ...] | None = None

    # ------------------------------------------------------------------ nodes

    def heard(self, now_ms: int) -> None:
        """Copy when each node was first and last heard, as the journal's own ledger has it."""
        soon_ms = now_ms + CLOCK_TOLERANCE_MS
        with transaction(self._db):
            self._db.executemany(
                HEARD_BY_NAME, ((*heard, soon_ms) for heard in self._journal.heard(soon_ms))
            )

    def last_heard(self, now_ms: int) -> Iterator[None]:
        """Copy when each node was last heard: a duplicate makes no record, but counts here."""
        soon_ms = now_ms + CLOCK_TOLERANCE_MS
        nodes = self._journal.last_heard(soon_ms)
        for start in range(0, len(nodes), STEP_ROWS):
            with transaction(self._db):
                self._db.executemany(
                    HEARD_BY_NAME,
                    ((name, at, at, soon_ms) for name, at in nodes[start : start + STEP_ROWS]),
                )
            yield

    def accounts(self, path: Path) -> None:
        """Copy who has an account, if the file has changed; an unreadable file changes nothing."""
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

    def letters(self, marks: JournalMarks, now_ms: int) -> Iterator[None]:
        """Copy new dead letters; where the journal has fewer than the copy, remove those gone."""
        after, first_hour = self._db.execute("SELECT dead_letter, first_hour FROM progress").get
        while after < marks.last_dead_letter and (
            dead_letters := self._journal.dead_letters_after(after, STEP_ROWS)
        ):
            with transaction(self._db):
                self._add_letters(dead_letters, first_hour, now_ms)
                after = dead_letters[-1].id
                self._db.execute("UPDATE progress SET dead_letter = ?", (after,))
            yield
        if self._count("") != marks.dead_letters:
            yield from self._drop_letters()

    def _add_letters(
        self, dead_letters: list[DeadLetterChange], first_hour: int, now_ms: int
    ) -> None:
        rows = [
            (
                each.id,
                self._reason_id(reason_key(each.reason, each.code, each.field)),
                self._tally.node_id(each.node),
                each.received_at_ms,
            )
            for each in dead_letters
        ]
        self._db.executemany(
            "INSERT INTO refusal VALUES ('', ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING", rows
        )
        self._db.executemany(
            "INSERT INTO node_hour VALUES (?, ?, 0, 1, 0, 0, 0, NULL, NULL)"
            " ON CONFLICT DO UPDATE SET dead_letters = dead_letters + 1",
            (
                (node_id, at_ms // HOUR_MS)
                for _, _, node_id, at_ms in rows
                if at_ms // HOUR_MS >= first_hour
            ),
        )
        soon_ms = now_ms + CLOCK_TOLERANCE_MS
        self._db.executemany(
            HEARD_BY_NAME,
            ((each.node, *[each.received_at_ms] * 2, soon_ms) for each in dead_letters),
        )

    def _drop_letters(self) -> Iterator[None]:
        after = 0
        while copied := rows_of(
            self._db,
            "SELECT number, node_id, at_ms FROM refusal WHERE sink = '' AND number > ?"
            " ORDER BY number LIMIT ?",
            (after, STEP_ROWS),
        ):
            remaining = set(self._journal.letter_ids(after, len(copied)))
            gone = [row for row in copied if row[0] not in remaining]
            with transaction(self._db):
                self._drop("", [number for number, _, _ in gone])
                node_hours = [(node_id, at_ms // HOUR_MS) for _, node_id, at_ms in gone]
                self._db.executemany(
                    "UPDATE node_hour SET dead_letters = dead_letters - 1"
                    " WHERE node_id = ? AND hour = ?",
                    node_hours,
                )
                self._db.executemany(
                    "DELETE FROM node_hour WHERE node_id = ? AND hour = ?"
                    " AND received + dead_letters + observed + calls = 0",
                    node_hours,
                )
            after = copied[-1][0]
            yield

    # ------------------------------------------------------------------ parked

    def parked(self, marks: JournalMarks) -> Iterator[None]:
        """Copy what sinks have parked, if it has changed."""
        if marks.parked == self._parked:
            return
        self._parked = None  # a copy that is cut short agrees with neither what was nor what is
        sinks = rows_of(self._db, "SELECT DISTINCT sink FROM refusal WHERE sink > ''")
        for sink in sorted({row[0] for row in (*marks.parked, *sinks)}):
            after = 0
            while True:
                parked = self._journal.parked(sink, after, STEP_PARKED)
                end = parked[-1][0] if len(parked) == STEP_PARKED else END
                copied = rows_of(
                    self._db,
                    "SELECT number, at_ms, replay_requested FROM refusal"
                    " WHERE sink = ? AND number > ? AND number <= ?",
                    (sink, after, end),
                )
                yield
                yield from self._copy_parked(sink, copied, parked)
                if end == END:
                    break
                after = end
        self._parked = marks.parked

    def _copy_parked(self, sink: str, copied: list[Row], parked: list[Row]) -> Iterator[None]:
        changed = sorted(set(parked).difference(copied))
        parked_at_ms = {offset: at_ms for offset, at_ms, _ in copied}
        requested = [row for row in changed if parked_at_ms.get(row[0]) == row[1]]
        new = [row for row in changed if parked_at_ms.get(row[0]) != row[1]]
        gone = parked_at_ms.keys() - {row[0] for row in parked}
        if gone or requested:
            with transaction(self._db):
                self._drop(sink, sorted(gone))
                self._db.executemany(
                    "UPDATE refusal SET replay_requested = ?3 WHERE sink = ?1 AND number = ?2",
                    ((sink, offset, replay) for offset, _, replay in requested),
                )
            yield
        for start in range(0, len(new), STEP_ROWS):
            with transaction(self._db):
                for row in new[start : start + STEP_ROWS]:
                    self._park(sink, *row)
            yield

    def _park(self, sink: str, offset: int, at_ms: int, replay: int) -> None:
        parked = self._journal.why_parked(sink, offset)
        if parked is None:  # a replay has taken it out since
            return
        reason_id = self._reason_id(reason_key(parked.reason, parked.code, parked.field))
        self._db.execute(
            "INSERT OR REPLACE INTO refusal VALUES (?, ?, ?, ?, ?, ?)",
            (sink, offset, reason_id, self._tally.node_id(parked.node), at_ms, replay),
        )

    # ------------------------------------------------------------------ both

    def tidy(self) -> None:
        """Remove reasons for which nothing is rejected or refused any more."""
        self._reason_ids.clear()
        self._db.execute("DELETE FROM reason WHERE id NOT IN (SELECT reason_id FROM refusal)")

    def _count(self, sink: str) -> int:
        return int(self._db.execute("SELECT count(*) FROM refusal WHERE sink = ?", (sink,)).get)

    def _drop(self, sink: str, numbers: list[int]) -> None:
        self._db.executemany(
            "DELETE FROM refusal WHERE sink = ? AND number = ?",
            ((sink, number) for number in numbers),
        )

    def _reason_id(self, key: ReasonKey) -> int:
        reason_id = self._reason_ids.get(key)
        if reason_id is None:
            if len(self._reason_ids) > REASONS_MAX:
                self._reason_ids.clear()
            columns = (key.code, key.field, key.text)
            self._db.execute(
                "INSERT INTO reason (code, field, text) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                columns,
            )
            reason_id = int(
                self._db.execute(
                    "SELECT id FROM reason WHERE code = ? AND field = ? AND text = ?", columns
                ).get
            )
            self._reason_ids[key] = reason_id
        return reason_id
