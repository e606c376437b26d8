"""Every node that was heard or has an account: its state, and since when it is silent."""

from typing import Literal

import apsw
from msgspec import Struct

from echo_ingest.almanac.aggregate import SPAN_MS
from echo_ingest.almanac.almanac_file import rows_of
from echo_ingest.almanac.calls import EACH_TENTH
from echo_ingest.almanac.observation import HOUR_MS

NODES_PAGE_MAX = 500
SILENT_MAX = 100
PLACES_MAX = 20_000
CLOCK_HOURS = 7 * 24
AHEAD_SECONDS = 2.0
LATE_SECONDS = 60.0

Order = Literal[
    "name", "last_heard", "battery", "temperature", "disk", "clock", "records_today", "dead_letters"
]
Which = Literal["all", "hour", "day", "silent", "never"]
"""All; heard within the last hour, or day; heard, but not within the last hour; never heard."""


class ReportedValue(Struct, frozen=True):
    """A value that a node reported, and when."""

    value: float
    at_ms: int
    """Milliseconds since 1970, UTC."""


class NodePlace(Struct, frozen=True):
    """The position that a node last reported (WGS 84)."""

    latitude: float
    longitude: float
    """Degrees."""
    uncertainty_metres: float | None
    at_ms: int
    """When it was reported: milliseconds since 1970, UTC."""


class Clock(Struct, frozen=True):
    """A node's clock, judged by the newest hour in which it gave its own time, within a week."""

    least_delay_seconds: float
    """The least time from a message's own time to its receipt."""
    verdict: Literal["ahead", "right", "late or behind"]
    """`ahead`: by at least the least delay, since no message is received before it is sent.
    `right`: ahead by less than 2 s, or behind by at most a minute. `late or behind`: messages
    waited or the clock is behind, which cannot be told apart; by no more than the least delay."""
    hour_ms: int
    """When that hour begins: milliseconds since 1970, UTC."""


class NodeSummary(Struct, frozen=True):
    """One node."""

    name: str
    account: Literal["enabled", "disabled"] | None
    """Its account in the file of nodes; None: it has none of its own."""
    first_heard_at_ms: int | None
    last_heard_at_ms: int | None
    """When any message of it was received, also dead letters and duplicates: milliseconds since
    1970, UTC. None: never."""
    place: NodePlace | None
    battery_percent: ReportedValue | None
    temperature_celsius: ReportedValue | None
    disk_percent: ReportedValue | None
    """Disk in use."""
    clock: Clock | None
    """None: it has not given its own time within a week."""
    firmware: str | None
    last_clip_offset: int | None
    """The journal offset of its newest record with a clip."""
    records_today: int
    """Records received since the hour in which the viewer's day began."""
    calls_today: int
    """Calls observed since then."""
    records_last_hour: int
    """Records received in the last 60 to 70 minutes."""
    calls_last_hour: int
    """Calls observed within the last 60 minutes."""
    dead_letters_last_day: int
    """Dead letters received within the last 24 hours, and not replayed since."""


class NodePage(Struct, frozen=True):
    """A page of nodes, and how many nodes there are on all pages."""

    nodes: list[NodeSummary]
    total: int


class SilentNode(Struct, frozen=True):
    """A node that was heard before, but not within the last hour."""

    name: str
    since_ms: int
    """When it was last heard: milliseconds since 1970, UTC."""


class NodeCounts(Struct, frozen=True):
    """How many nodes there are; silent ones whose account is disabled do not count."""

    known: int
    heard_last_hour: int
    heard_last_day: int
    never: int
    """Nodes that have an account and were never heard."""
    silent: list[SilentNode]
    """Those that fell silent last come first; at most 100."""


class MapPoint(Struct, frozen=True, array_like=True):
    """A node on the map."""

    name: str
    latitude: float
    longitude: float
    uncertainty_metres: float | None
    last_heard_at_ms: int | None


ORDERS: dict[Order, str] = {
    "name": "name",
    "last_heard": "last_heard_at_ms",
    "battery": "battery_percent",
    "temperature": "temperature_celsius",
    "disk": "disk_percent",
    "clock": "(SELECT abs(least_delay_ms) FROM node_hour WHERE node_id = id AND hour > :clock"
    " AND least_delay_ms IS NOT NULL ORDER BY hour DESC LIMIT 1)",
    "records_today": "(SELECT sum(received) FROM node_hour WHERE node_id = id AND hour >= :today)",
    "dead_letters": "(SELECT nullif(count(*), 0) FROM refusal INDEXED BY refusal_by_time"
    " WHERE node_id = id AND sink = '' AND at_ms > :day)",
}
WHICH: dict[Which, str] = {
    "all": "true",
    "hour": "last_heard_at_ms > :hour",
    "day": "last_heard_at_ms > :day",
    "silent": "last_heard_at_ms <= :hour AND account IS NOT 'disabled'",
    "never": "last_heard_at_ms IS NULL",
}
NODE = f"""
    SELECT name, account, first_heard_at_ms, last_heard_at_ms,
     latitude, longitude, uncertainty_metres, place_at_ms, battery_percent, battery_at_ms,
     temperature_celsius, temperature_at_ms, disk_percent, disk_at_ms, firmware,
     (SELECT max(offset) FROM clip WHERE node_id = node.id),
     (SELECT coalesce(sum(received), 0) FROM node_hour WHERE node_id = id AND hour >= :today),
     (SELECT coalesce(sum(calls), 0) FROM node_hour WHERE node_id = id AND hour >= :today),
     (SELECT coalesce(sum(records), 0) FROM lately WHERE node_id = id
       AND span IN (:span - 6, :span - 5, :span - 4, :span - 3, :span - 2, :span - 1, :span)),
     (SELECT count(*) FROM call WHERE node_id = id AND {EACH_TENTH}
       AND observed_at_ms > :hour AND observed_at_ms <= :now),
     (SELECT count(*) FROM refusal INDEXED BY refusal_by_time
       WHERE node_id = id AND sink = '' AND at_ms > :day)
    FROM node WHERE id = :id"""  # noqa: S608
CLOCK = """
    SELECT least_delay_ms, hour FROM node_hour WHERE node_id = :id AND hour > :clock
    AND least_delay_ms IS NOT NULL ORDER BY hour DESC LIMIT 1"""


def nodes(
    db: apsw.Connection,
    now_ms: int,
    today_ms: int,
    *,
    text: str,
    which: Which,
    order: Order,
    descending: bool,
    nodes_max: int,
    skip: int,
) -> NodePage:
    """Return a page of nodes; those without a value to order by come last."""
    times = _times(now_ms, today_ms)
    bindings = {**times, "text": text.lower()}
    where = f"name != '' AND instr(lower(name), :text) > 0 AND {WHICH[which]}"
    total = db.execute(f"SELECT count(*) FROM node WHERE {where}", bindings).get  # noqa: S608
    ids = rows_of(
        db,
        f"SELECT id FROM (SELECT id, name, {ORDERS[order]} AS rank FROM node WHERE {where})"  # noqa: S608
        f" ORDER BY rank IS NULL, rank {'DESC' if descending else 'ASC'}, name"
        " LIMIT :max OFFSET :skip",
        {**bindings, "max": min(nodes_max, NODES_PAGE_MAX), "skip": skip},
    )
    return NodePage([_node(db, number, times) for (number,) in ids], total)


def node(db: apsw.Connection, name: str, now_ms: int, today_ms: int) -> NodeSummary | None:
    """Return one node by its name; None if it is not known."""
    rows = rows_of(db, "SELECT id FROM node WHERE name = ? AND name != ''", (name,))
    return _node(db, rows[0][0], _times(now_ms, today_ms)) if rows else None


def names(db: apsw.Connection, names_max: int) -> list[str]:
    """Return the names of the nodes that were heard last, in alphabetical order."""
    rows = rows_of(
        db,
        "SELECT name FROM node WHERE name != '' ORDER BY last_heard_at_ms DESC LIMIT ?",
        (names_max,),
    )
    return sorted(name for (name,) in rows)


def count_nodes(db: apsw.Connection, now_ms: int) -> NodeCounts:
    """Count all nodes and those that were heard lately, and list those that are silent."""
    times = _times(now_ms, now_ms)
    known, hour, day, never = db.execute(
        "SELECT count(*), count(*) FILTER (WHERE last_heard_at_ms > :hour),"
        " count(*) FILTER (WHERE last_heard_at_ms > :day),"
        " count(*) FILTER (WHERE last_heard_at_ms IS NULL)"
        " FROM node WHERE name != ''"
        " AND NOT (account IS 'disabled' AND coalesce(last_heard_at_ms, 0) <= :hour)",
        times,
    ).get
    silent = rows_of(
        db,
        f"SELECT name, last_heard_at_ms FROM node WHERE name != '' AND {WHICH['silent']}"  # noqa: S608
        " ORDER BY last_heard_at_ms DESC, name LIMIT :max",
        {**times, "max": SILENT_MAX},
    )
    return NodeCounts(known, hour, day, never, [SilentNode(*row) for row in silent])


def points(db: apsw.Connection) -> list[MapPoint]:
    """Return every node that has reported its position, by name; at most 20,000."""
    rows = rows_of(
        db,
        "SELECT name, latitude, longitude, uncertainty_metres, last_heard_at_ms FROM node"
        " WHERE latitude IS NOT NULL AND name != '' ORDER BY name LIMIT ?",
        (PLACES_MAX,),
    )
    return [MapPoint(*row) for row in rows]


def _times(now_ms: int, today_ms: int) -> dict[str, int]:
    return {
        "now": now_ms,
        "hour": now_ms - HOUR_MS,
        "day": now_ms - 24 * HOUR_MS,
        "today": today_ms // HOUR_MS,
        "clock": now_ms // HOUR_MS - CLOCK_HOURS,
        "span": now_ms // SPAN_MS,
    }


def _node(db: apsw.Connection, number: int, times: dict[str, int]) -> NodeSummary:
    bindings = {**times, "id": number}
    (
        name,
        account,
        first_heard_at_ms,
        last_heard_at_ms,
        latitude,
        longitude,
        uncertainty_metres,
        place_at_ms,
        battery,
        battery_at_ms,
        temperature,
        temperature_at_ms,
        disk,
        disk_at_ms,
        firmware,
        last_clip_offset,
        records_today,
        calls_today,
        records_last_hour,
        calls_last_hour,
        dead_letters_last_day,
    ) = db.execute(NODE, bindings).get
    place = None
    if latitude is not None:
        place = NodePlace(latitude, longitude, uncertainty_metres, place_at_ms)
    clock = rows_of(db, CLOCK, bindings)
    return NodeSummary(
        name=name,
        account=account,
        first_heard_at_ms=first_heard_at_ms,
        last_heard_at_ms=last_heard_at_ms,
        place=place,
        battery_percent=_reported(battery, battery_at_ms),
        temperature_celsius=_reported(temperature, temperature_at_ms),
        disk_percent=_reported(disk, disk_at_ms),
        clock=_clock(*clock[0]) if clock else None,
        firmware=firmware,
        last_clip_offset=last_clip_offset,
        records_today=records_today,
        calls_today=calls_today,
        records_last_hour=records_last_hour,
        calls_last_hour=calls_last_hour,
        dead_letters_last_day=dead_letters_last_day,
    )


def _reported(value: float | None, at_ms: int) -> ReportedValue | None:
    return None if value is None else ReportedValue(value, at_ms)


def _clock(least_delay_ms: int, hour: int) -> Clock:
    seconds = least_delay_ms / 1000
    if seconds <= -AHEAD_SECONDS:
        return Clock(seconds, "ahead", hour * HOUR_MS)
    if seconds <= LATE_SECONDS:
        return Clock(seconds, "right", hour * HOUR_MS)
    return Clock(seconds, "late or behind", hour * HOUR_MS)
