"""What arrived on topics that nothing has claimed: all of it counted, the newest of it kept.

It is kept so that a person can look at it and take its topic in. Nobody has promised to keep it for
ever: the oldest of the topic that takes most of the space goes first, and where many topics share
it, the oldest of all.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import apsw
from msgspec import Struct

from echo_ingest.journal.entries import checksum, properties_of, properties_text, up_to_bytes
from echo_ingest.journal.receipt_days import DAY_MS
from echo_ingest.record import TOPIC_CHARACTERS_MAX, Message, memory_bytes

BYTES_MAX = 64 * 1024 * 1024
"""Of what is kept: payloads, topics and properties."""
MESSAGES_MAX = 100_000
DAYS_MAX = 30
TOPICS_MAX = 1_000
"""How many topics are counted apart; those that are very long are not."""
SHARE_MIN = 1 / 16
"""A topic pays for itself from this share of the space on."""
OTHER_TOPICS = ""
"""In the place of a topic, for those beyond."""

INSERT_UNCLAIMED = """
    INSERT INTO unclaimed_message VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)"""
UPSERT_TOPIC = """
    INSERT INTO unclaimed_topic VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    messages = messages + excluded.messages, bytes = bytes + excluded.bytes,
    first_at_ms = min(first_at_ms, excluded.first_at_ms),
    last_at_ms = max(last_at_ms, excluded.last_at_ms)"""
KEPT_BYTES = (
    "coalesce(sum(octet_length(payload) + octet_length(topic)"
    " + coalesce(octet_length(properties), 0)), 0)"
)
LARGEST = f"""
    SELECT topic, count(*) AS messages, {KEPT_BYTES} AS bytes FROM unclaimed_message
    GROUP BY topic ORDER BY messages / ? + bytes / ? DESC LIMIT 1"""  # noqa: S608

Row = tuple[Any, ...]


class UnclaimedTopic(Struct, frozen=True, kw_only=True):
    """A topic that nothing has claimed."""

    topic: str
    """Empty for all that are not counted apart."""
    messages: int
    bytes: int
    first_at_ms: int
    last_at_ms: int
    kept: int
    """How many of its messages are still here."""
    accounts: tuple[str, ...]
    """Those that published what is kept, a few of them."""


class UnclaimedEntry(Struct, frozen=True):
    """A message that is kept."""

    id: int
    message: Message
    damaged: bool


class UnclaimedSpace:
    """Keeps what is kept within its limits."""

    def __init__(self) -> None:
        self._kept: tuple[int, int] | None = None
        """How many messages and bytes there are at most; None: it is not known yet."""

    def insert(self, db: apsw.Connection, messages: Sequence[Message]) -> None:
        """Keep and count messages, in the transaction of their batch."""
        rows = list(map(_row, messages))
        db.executemany(INSERT_UNCLAIMED, rows, can_cache=False)
        count: Counter[str] = Counter()
        size: Counter[str] = Counter()
        times: dict[str, list[int]] = {}
        for message in messages:
            topic = message.topic
            count[topic] += 1
            size[topic] += len(message.payload)
            times.setdefault(topic, []).append(message.received_at_ms)
        known = db.execute("SELECT count(*) FROM unclaimed_topic").get
        for topic, at_ms in times.items():
            is_known = db.execute("SELECT 1 FROM unclaimed_topic WHERE topic = ?", (topic,)).get
            may_count = known < TOPICS_MAX and len(topic) <= TOPIC_CHARACTERS_MAX
            counted = topic if is_known or may_count else OTHER_TOPICS
            known += not is_known and may_count
            values = (counted, count[topic], size[topic], min(at_ms), max(at_ms))
            db.execute(UPSERT_TOPIC, values)
        if self._kept is not None:
            self._kept = (self._kept[0] + len(messages), self._kept[1] + sum(map(_row_bytes, rows)))
        self._make_room(db)

    def _make_room(self, db: apsw.Connection) -> None:
        if self._kept is not None and _fits(*self._kept):
            return
        self._kept = _kept(db)  # others remove some of it, too
        while not _fits(*self._kept):
            kept, kept_bytes = self._kept
            topic, messages, size_bytes = db.execute(
                LARGEST, (float(MESSAGES_MAX), float(BYTES_MAX))
            ).get
            if max(messages / kept, size_bytes / kept_bytes) >= SHARE_MIN:
                db.execute(
                    "DELETE FROM unclaimed_message WHERE id IN (SELECT id FROM unclaimed_message"
                    " WHERE topic = ? ORDER BY id LIMIT ?)",
                    (topic, messages // 2 + 1),
                )
            else:  # to go through thousands of topics one by one would hold up the line
                db.execute(
                    "DELETE FROM unclaimed_message WHERE id IN"
                    " (SELECT id FROM unclaimed_message ORDER BY id LIMIT ?)",
                    (kept // 8 + 1,),
                )
            self._kept = _kept(db)


def _fits(messages: int, size_bytes: int) -> bool:
    return messages <= MESSAGES_MAX and size_bytes <= BYTES_MAX


def _kept(db: apsw.Connection) -> tuple[int, int]:
    messages, size_bytes = db.execute(
        f"SELECT count(*), {KEPT_BYTES} FROM unclaimed_message"  # noqa: S608
    ).get
    return messages, size_bytes


def _row(message: Message) -> Row:
    columns = (
        message.received_at_ms,
        message.account,
        message.node,
        message.topic,
        properties_text(message),
        message.payload,
    )
    return (*columns, checksum(columns))


def _row_bytes(row: Row) -> int:
    *_, topic, properties, payload, _checksum = row
    return len(payload) + len(topic.encode()) + len((properties or "").encode())


def _remove_old(db: apsw.Connection, now_ms: int) -> int:
    """Remove what has been kept for too long, and topics that are silent since."""
    before_ms, removed = now_ms - DAYS_MAX * DAY_MS, 0
    # The oldest come first, unless a clock was set back: so there is no need to look at all.
    while (
        oldest := db.execute(
            "SELECT id, received_at_ms FROM unclaimed_message ORDER BY id LIMIT 1"
        ).fetchone()
    ) and oldest[1] < before_ms:
        db.execute("DELETE FROM unclaimed_message WHERE id = ?", (oldest[0],))
        removed += 1
    db.execute("DELETE FROM unclaimed_topic WHERE last_at_ms < ?", (before_ms,))
    return removed


def entries_after(db: apsw.Connection, after: int, messages_max: int) -> list[UnclaimedEntry]:
    """Return messages that are kept, by id, as many as make about a megabyte."""
    entries, size_bytes = [], 0
    rows = db.execute(
        "SELECT * FROM unclaimed_message WHERE id > ? ORDER BY id LIMIT ?", (after, messages_max)
    )
    for row in rows:
        entries.append(_entry(row))
        size_bytes += len(entries[-1].message.payload)
        if size_bytes > 1_000_000:
            break
    return entries


def newest_of(db: apsw.Connection, topic: str, messages_max: int) -> list[UnclaimedEntry]:
    """Return the newest messages of a topic that are kept, as many as may be read at once."""
    rows = db.execute(
        "SELECT * FROM unclaimed_message WHERE topic = ? ORDER BY id DESC LIMIT ?",
        (topic, messages_max),
    )
    return list(up_to_bytes(map(_entry, rows), lambda entry: memory_bytes(entry.message)))


def count_of(db: apsw.Connection, topic: str) -> int:
    """Return how many messages of a topic are kept."""
    sql = "SELECT count(*) FROM unclaimed_message WHERE topic = ?"
    return int(db.execute(sql, (topic,)).get)


def _entry(row: Row) -> UnclaimedEntry:
    number, received_at_ms, account, node, topic, properties, payload, expected = row
    damaged = checksum((received_at_ms, account, node, topic, properties, payload)) != expected
    known = () if damaged else properties_of(properties)
    message = Message(topic, payload, received_at_ms, node, known, account=account)
    return UnclaimedEntry(number, message, damaged)


def topics(db: apsw.Connection) -> list[UnclaimedTopic]:
    """Return all topics that are counted, those with the most messages first."""
    kept: dict[str, tuple[int, str | None]] = {
        topic: (count, accounts)
        for topic, count, accounts in db.execute(
            "SELECT topic, count(*), group_concat(DISTINCT account) FROM unclaimed_message"
            " GROUP BY topic"
        )
    }
    rows: list[Any] = db.execute(
        "SELECT topic, messages, bytes, first_at_ms, last_at_ms FROM unclaimed_topic"
        " ORDER BY messages DESC, topic"
    ).fetchall()
    of_others = kept.keys() - {row[0] for row in rows}
    kept[OTHER_TOPICS] = sum(kept[topic][0] for topic in of_others), None
    listed = []
    for topic, messages, size_bytes, first_at_ms, last_at_ms in rows:
        count, accounts = kept.get(topic, (0, None))
        names = tuple(sorted(accounts.split(",")))[:5] if accounts else ()
        listed.append(
            UnclaimedTopic(
                topic=topic,
                messages=messages,
                bytes=size_bytes,
                first_at_ms=first_at_ms,
                last_at_ms=last_at_ms,
                kept=count,
                accounts=names,
            )
        )
    return listed


def forget(db: apsw.Connection, chosen: Iterable[str], now_ms: int) -> int:
    """Remove topics with what is kept of them, and what is too old; return how many messages."""
    removed = _remove_old(db, now_ms)
    for topic in chosen:
        db.execute(
            "DELETE FROM unclaimed_message WHERE topic NOT IN (SELECT topic FROM unclaimed_topic)"
            if topic == OTHER_TOPICS
            else "DELETE FROM unclaimed_message WHERE topic = ?",
            () if topic == OTHER_TOPICS else (topic,),
        )
        removed += db.changes()
        db.execute("DELETE FROM unclaimed_topic WHERE topic = ?", (topic,))
    return removed


def remove(db: apsw.Connection, entry: UnclaimedEntry) -> None:
    """Remove a message that is claimed now; its topic goes with the last one.

    Raises `KeyError` if it is not there.
    """
    db.execute("DELETE FROM unclaimed_message WHERE id = ?", (entry.id,))
    if db.changes() == 0:
        raise KeyError(entry.id)
    db.execute(
        "DELETE FROM unclaimed_topic WHERE topic = ?1"
        " AND NOT EXISTS (SELECT 1 FROM unclaimed_message WHERE topic = ?1)",
        (entry.message.topic,),
    )
