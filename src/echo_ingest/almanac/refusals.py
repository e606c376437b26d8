"""Dead letters, and the records that sinks have parked, grouped by reason.

The almanac keeps a copy beside the journal because there they vanish when they are replayed, and
have no index. `follower.py` brings in what is new, `mirror.py` takes out what has gone.
"""

import re

import apsw
from msgspec import Struct

from echo_ingest.almanac.almanac_file import rows_of
from echo_ingest.almanac.uncoded_reasons import alike
from echo_ingest.reasons import code_of

GROUPS_MAX = 200
PAGE_MAX = 1_000
END = 2**62

_PLACE_IN_LIST = re.compile(r"\[\d+\]")


class ReasonKey(Struct, frozen=True, gc=False):
    """What the reasons of a group have in common: a code and a field, or a text."""

    code: str = ""
    """The `ReasonCode`; empty where the reasons have none."""
    field: str = ""
    """The path of the field, without places in lists; empty where there is none."""
    text: str = ""
    """Without a code: what `uncoded_reasons.alike` leaves of the reason."""


class RefusedGroup(Struct, frozen=True, kw_only=True):
    """All messages that were rejected, or records that one sink refused, for one reason."""

    sink: str | None
    """The sink that refused them; None where they are dead letters."""
    key: ReasonKey
    reason_id: int
    """The key's row, to ask for members; it changes when the almanac is built anew."""
    count: int
    replay_requested: int
    """How many of them are offered again as soon as the service gets to it."""
    nodes: int
    """How many different nodes they are from."""
    first_at_ms: int
    last_at_ms: int
    """When dead letters were received; when the sink refused the others."""
    example: int
    """The newest of them: the id of a dead letter, or the offset of a record."""

    @property
    def reason(self) -> str:
        """The reason that they share, for people."""
        code = code_of(self.key.code)
        summary = code.summary if code is not None else self.key.text or self.key.code
        return f"{self.key.field}: {summary}" if self.key.field else summary


def reason_key(reason: str, code: str | None, field: str | None) -> ReasonKey:
    """Return the key of the group to which a reason belongs."""
    if code is None:
        return ReasonKey(text=alike(reason))
    return ReasonKey(code=code, field=_PLACE_IN_LIST.sub("[…]", field or ""))


def refused(db: apsw.Connection, node: str | None, groups_max: int) -> list[RefusedGroup]:
    """Return all groups, the largest first; at most `GROUPS_MAX`, those of `node` alone if given.

    The query walks along an index, 120 ms for 1,000,000.
    """
    index, term = "refusal_by_reason", "true"
    if node is not None:
        index, term = "refusal_by_node", "node_id = (SELECT id FROM node WHERE name = ?1)"
    rows = rows_of(
        db,
        "SELECT sink, code, field, text, reason_id, ones, replays, nodes, first_at_ms, last_at_ms,"  # noqa: S608
        " example FROM"
        " (SELECT sink, reason_id, sum(ones) AS ones, sum(replays) AS replays, count(*) AS nodes,"
        "  min(first) AS first_at_ms, max(last) AS last_at_ms, max(newest) AS example FROM"
        "  (SELECT sink, reason_id, count(*) AS ones, sum(replay_requested) AS replays,"
        "   min(at_ms) AS first, max(at_ms) AS last, max(number) AS newest"
        f"   FROM refusal INDEXED BY {index} WHERE {term} GROUP BY sink, reason_id, node_id)"
        "  GROUP BY sink, reason_id)"
        " JOIN reason ON reason.id = reason_id ORDER BY ones DESC, sink, reason_id LIMIT ?2",
        (node, min(groups_max, GROUPS_MAX)),
    )
    return [
        RefusedGroup(
            sink=sink or None,
            key=ReasonKey(code, field, text),
            reason_id=reason_id,
            count=count,
            replay_requested=replays,
            nodes=nodes,
            first_at_ms=first_at_ms,
            last_at_ms=last_at_ms,
            example=example,
        )
        for (
            sink,
            code,
            field,
            text,
            reason_id,
            count,
            replays,
            nodes,
            first_at_ms,
            last_at_ms,
            example,
        ) in rows
    ]


def members(
    db: apsw.Connection,
    sink: str | None,
    reason_id: int,
    node: str | None,
    before: int | None,
    members_max: int,
) -> list[int]:
    """Return ids of dead letters, or offsets, of a group: the newest first, below `before`."""
    # Without a node, the key of the table gives them in order, and other reasons are skipped.
    index, term = "NOT INDEXED", "true"
    if node is not None:
        index = "INDEXED BY refusal_by_node"
        term = "node_id = (SELECT id FROM node WHERE name = ?4)"
    rows = rows_of(
        db,
        f"SELECT number FROM refusal {index} WHERE sink = ?1 AND reason_id = ?2 AND number < ?3"  # noqa: S608
        f" AND {term} ORDER BY number DESC LIMIT ?5",
        (
            sink or "",
            reason_id,
            END if before is None else before,
            node,
            min(members_max, PAGE_MAX),
        ),
    )
    return [number for (number,) in rows]
