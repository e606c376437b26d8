"""What was refused: dead letters, and what sinks have parked, grouped by reason.

Kept beside the journal because there it vanishes when it is replayed, and has no index. A copy of
what is there now: `follower.py` brings in what is new, `drop_gone` takes out what has gone.
"""

import re

import apsw
from msgspec import Struct

from echo_ingest.almanac.database import rows_of

GROUPS_MAX = 200
PAGE_MAX = 1_000
END = 2**62
ALIKE_CHARACTERS_MAX = 200

_STATUS = re.compile(r"[1-5]\d\d\b")
_SAID = re.compile(r'\b(near|found|text) ".*"$')
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_BYTES = re.compile(r"\b[0-9a-f]{2}(?: [0-9a-f]{2}){2,}\b")
_NUMBER = re.compile(r"(?<![\w.])(?<!UTF-)-?\d+(?:[.,]\d+)*(?!\w)")
_HEX = re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{2,}(?:-[0-9a-f]{2,})*\b", re.IGNORECASE)
_SEVERAL = re.compile(r"…(?:[ ,-]+…)+")


class RefusedGroup(Struct, frozen=True):
    """All that was refused for one reason, by devices' own fault or by one sink."""

    sink: str | None
    """Who refused it; None: nobody could read it, it is a dead letter."""
    reason: str
    """What its reasons have in common: numbers, ids and quoted words are left out as `…`."""
    reason_id: int
    """To ask for its members; another number after the almanac was made anew."""
    count: int
    replay_requested: int
    """Of them, those that are offered again as soon as the service gets to it."""
    nodes: int
    """How many different nodes they are from."""
    first_at_ms: int
    last_at_ms: int
    """Of dead letters, when they were received; of the others, when the sink refused them."""
    example: int
    """The newest of them: the id of a dead letter, or the offset of a record."""


def alike(reason: str) -> str:
    """What is left of a reason without what differs from message to message.

    A status of HTTP at its beginning stays.
    """
    status = _STATUS.match(reason)
    begin = status.end() if status is not None else 0
    text = _SAID.sub(r"\1 …", reason[begin:])
    for differing in (_QUOTED, _BYTES, _NUMBER, _HEX, _SEVERAL):
        text = differing.sub("…", text)
    return (reason[:begin] + text)[:ALIKE_CHARACTERS_MAX]


def refused(db: apsw.Connection, node: str | None, groups_max: int) -> list[RefusedGroup]:
    """All groups, the largest first; at most `GROUPS_MAX`, those of `node` alone if given.

    A walk along an index, 120 ms for 1,000,000.
    """
    index, term = "refusal_by_reason", "true"
    if node is not None:
        index, term = "refusal_by_node", "node_id = (SELECT id FROM node WHERE name = ?1)"
    rows = rows_of(
        db,
        "SELECT sink, text, reason_id, ones, replays, nodes, first_at_ms, last_at_ms, example FROM"  # noqa: S608
        " (SELECT sink, reason_id, sum(ones) AS ones, sum(replays) AS replays, count(*) AS nodes,"
        "  min(first) AS first_at_ms, max(last) AS last_at_ms, max(newest) AS example FROM"
        "  (SELECT sink, reason_id, count(*) AS ones, sum(replay_requested) AS replays,"
        "   min(at_ms) AS first, max(at_ms) AS last, max(number) AS newest"
        f"   FROM refusal INDEXED BY {index} WHERE {term} GROUP BY sink, reason_id, node_id)"
        "  GROUP BY sink, reason_id)"
        " JOIN reason ON reason.id = reason_id ORDER BY ones DESC, sink, reason_id LIMIT ?2",
        (node, min(groups_max, GROUPS_MAX)),
    )
    return [RefusedGroup(sink or None, *row) for sink, *row in rows]


def members(
    db: apsw.Connection,
    sink: str | None,
    reason_id: int,
    node: str | None,
    before: int | None,
    members_max: int,
) -> list[int]:
    """Ids of dead letters, or offsets, of a group: the newest first, those below `before`."""
    index, term = "NOT INDEXED", "true"  # by its key: all in order, those of other reasons skipped
    if node is not None:
        index = "INDEXED BY refusal_by_node"
        term = "node_id = (SELECT id FROM node WHERE name = ?4)"
    rows = rows_of(
        db,
        f"SELECT number FROM refusal {index} WHERE sink = ?1 AND reason_id = ?2 AND number < ?3"  # noqa: S608
        f" AND {term} ORDER BY number DESC LIMIT ?5",
        (
            *(sink or "", reason_id, END if before is None else before),
            *(node, min(members_max, PAGE_MAX)),
        ),
    )
    return [number for (number,) in rows]
