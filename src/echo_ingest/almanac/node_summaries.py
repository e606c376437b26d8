"""Every node that was heard or has an account: its state, and since when it is silent."""

from collections.abc import Sequence
from typing import Literal

import apsw
from msgspec import Struct

from echo_ingest.almanac.aggregate import SPAN_MS
from echo_ingest.almanac.almanac_file import rows_of
from echo_ingest.almanac.calls import EACH_TENTH
from echo_ingest.almanac.observation import CLOCK_TOLERANCE_MS, HOUR_MS
from echo_ingest.almanac.record_numbers import id_of
from echo_ingest.quality import TimeProblem
from echo_ingest.record import RecordId

NODES_PAGE_MAX = 500
SILENT_MAX = 100
SENDERS_MAX = 100
PLACES_MAX = 20_000
CLOCK_HOURS = 7 * 24
AHEAD_SECONDS = 2.0
LATE_SECONDS = 60.0
CONSTANT_WITHIN_MS = 120_000
CONSTANT_MESSAGES_MIN = 10
FRACTIONS_MIN = 10
TIME_PROBLEMS: dict[str | None, TimeProblem] = {each.value: each for each in TimeProblem}
FRACTION_MOST = 0.0101
"""A little more than 1 %: devices that send fractions as 32-bit numbers may exceed 1."""

Order = Literal[
    "name",
    "last_heard",
    "battery",
    "temperature",
    "disk",
    "clock",
    "messages_today",
    "dead_letters",
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
    """A node's clock, judged by the newest hour in which it gave its own time, within a week.

    It is judged by what the node writes, whether that is believed, corrected, or neither.
    """

    least_delay_seconds: float
    """The least time from when a message or its recording was made, by the node's clock, to its
    receipt; of all messages of the constant, if there is one."""
    verdict: Literal["ahead", "right", "late or behind"]
    """`ahead`: by at least the least delay, since no message is received before it is sent.
    `right`: ahead by less than 2 s, or behind by at most a minute. `late or behind`: messages
    waited or the clock is behind, which cannot be told apart; by no more than the least delay."""
    hour_ms: int
    """When that hour begins: milliseconds since 1970, UTC."""
    constant_over: int
    """How many messages, up to the newest, show the same offset within two minutes; messages that
    waited on the node do not count. 0: the offset is not constant, or fewer than ten show it."""

    @property
    def ahead_seconds(self) -> float:
        """Return how far the clock is ahead; negative where it is behind."""
        return -self.least_delay_seconds


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
    time_problem: TimeProblem | None
    """Why the newest time that it gave is not simply believed, if it is not."""
    sends_fractions: bool
    """Each confidence that it has ever sent was 1 % or less, in at least ten detections: it sends
    fractions where the form means percent."""
    firmware: str | None
    last_clip: RecordId | None
    """Its newest record with a clip."""
    messages_today: int
    """Messages with records that were received since the hour in which the viewer's day began."""
    calls_today: int
    """Calls observed since then."""
    messages_last_hour: int
    """Messages with records that were received in the last 60 to 70 minutes."""
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


class FractionSender(Struct, frozen=True):
    """A node that sends fractions where the form means percent."""

    name: str
    detections: int
    """How many detections of it have a confidence, none of them more than 1 %."""


class MapPoint(Struct, frozen=True, array_like=True):
    """A node on the map."""

    name: str
    latitude: float
    longitude: float
    uncertainty_metres: float | None
    last_heard_at_ms: int | None


# What is dated later than soon was received while the clock of the host was wrong.
ORDERS: dict[Order, str] = {
    "name": "name",
    "last_heard": "last_heard_at_ms",
    "battery": "battery_percent",
    "temperature": "temperature_celsius",
    "disk": "disk_percent",
    "clock": "(SELECT abs(least_delay_ms) FROM node_hour WHERE node_id = id AND hour > :clock"
    " AND hour <= :soon / 3600000 AND timed > 0 ORDER BY hour DESC LIMIT 1)",
    "messages_today": "(SELECT sum(received) FROM node_hour WHERE node_id = id"
    " AND hour BETWEEN :today AND :soon / 3600000)",
    "dead_letters": "(SELECT nullif(count(*), 0) FROM refusal INDEXED BY refusal_by_time"
    " WHERE node_id = id AND sink = '' AND at_ms > :day AND at_ms <= :soon)",
}
WHICH: dict[Which, str] = {
    "all": "true",
    "hour": "last_heard_at_ms > :hour AND last_heard_at_ms <= :soon",
    "day": "last_heard_at_ms > :day AND last_heard_at_ms <= :soon",
    "silent": "NOT last_heard_at_ms BETWEEN :hour + 1 AND :soon AND account IS NOT 'disabled'",
    "never": "last_heard_at_ms IS NULL",
}
NODE = f"""
    SELECT name, account, first_heard_at_ms, last_heard_at_ms,
     latitude, longitude, uncertainty_metres, place_at_ms, battery_percent, battery_at_ms,
     temperature_celsius, temperature_at_ms, disk_percent, disk_at_ms, firmware,
     time_problem, confidences >= {FRACTIONS_MIN} AND most_confidence <= {FRACTION_MOST},
     (SELECT max(record) FROM clip WHERE node_id = node.id),
     (SELECT coalesce(sum(received), 0) FROM node_hour
       WHERE node_id = id AND hour BETWEEN :today AND :soon / 3600000),
     (SELECT coalesce(sum(calls), 0) FROM node_hour
       WHERE node_id = id AND hour BETWEEN :today AND :soon / 3600000),
     (SELECT coalesce(sum(records), 0) FROM lately WHERE node_id = id
       AND span IN (:span - 6, :span - 5, :span - 4, :span - 3, :span - 2, :span - 1, :span)),
     (SELECT count(*) FROM call WHERE node_id = id AND {EACH_TENTH}
       AND observed_at_ms > :hour AND observed_at_ms <= :now),
     (SELECT count(*) FROM refusal INDEXED BY refusal_by_time
       WHERE node_id = id AND sink = '' AND at_ms > :day AND at_ms <= :soon)
    FROM node WHERE id = :id"""  # noqa: S608
CLOCK = """
    SELECT hour, timed, least_delay_ms, most_delay_ms FROM node_hour
    WHERE node_id = :id AND hour > :clock AND hour <= :soon / 3600000 AND timed > 0
    ORDER BY hour DESC"""


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
        f"SELECT count(*), count(*) FILTER (WHERE {WHICH['hour']}),"  # noqa: S608
        f" count(*) FILTER (WHERE {WHICH['day']}),"
        " count(*) FILTER (WHERE last_heard_at_ms IS NULL)"
        " FROM node WHERE name != ''"
        " AND NOT (account IS 'disabled'"
        "  AND NOT coalesce(last_heard_at_ms, 0) BETWEEN :hour + 1 AND :soon)",
        times,
    ).get
    silent = rows_of(
        db,
        f"SELECT name, last_heard_at_ms FROM node WHERE name != '' AND {WHICH['silent']}"  # noqa: S608
        " ORDER BY last_heard_at_ms DESC, name LIMIT :max",
        {**times, "max": SILENT_MAX},
    )
    return NodeCounts(known, hour, day, never, [SilentNode(*row) for row in silent])


def fraction_senders(db: apsw.Connection) -> list[FractionSender]:
    """Return the nodes whose confidences were all 1 % or less, by name; at most 100."""
    rows = rows_of(
        db,
        "SELECT name, confidences FROM node WHERE name != '' AND confidences >= ?"
        " AND most_confidence <= ? ORDER BY name LIMIT ?",
        (FRACTIONS_MIN, FRACTION_MOST, SENDERS_MAX),
    )
    return [FractionSender(*row) for row in rows]


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
        "soon": now_ms + CLOCK_TOLERANCE_MS,
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
        time_problem,
        sends_fractions,
        last_clip,
        messages_today,
        calls_today,
        messages_last_hour,
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
        clock=judged(clock) if clock else None,
        time_problem=TIME_PROBLEMS.get(time_problem),
        sends_fractions=bool(sends_fractions),
        firmware=firmware,
        last_clip=None if last_clip is None else id_of(last_clip),
        messages_today=messages_today,
        calls_today=calls_today,
        messages_last_hour=messages_last_hour,
        calls_last_hour=calls_last_hour,
        dead_letters_last_day=dead_letters_last_day,
    )


def _reported(value: float | None, at_ms: int) -> ReportedValue | None:
    return None if value is None else ReportedValue(value, at_ms)


def judged(hours: Sequence[tuple[int, int, int, int]]) -> Clock:
    """Judge a clock by its hours, newest first: the hour, and how many messages tell of the clock.

    The last two numbers are the least and the most delay of these. An hour whose messages waited
    does not tell whether the offset is constant.
    """
    newest_hour, _, least_ms, _ = hours[0]
    messages, low_ms, high_ms = 0, least_ms, least_ms
    for _, timed, hour_least_ms, hour_most_ms in hours:
        if hour_most_ms - hour_least_ms > CONSTANT_WITHIN_MS:
            continue
        if max(high_ms, hour_most_ms) - min(low_ms, hour_least_ms) > CONSTANT_WITHIN_MS:
            break
        low_ms, high_ms = min(low_ms, hour_least_ms), max(high_ms, hour_most_ms)
        messages += timed
    if messages < CONSTANT_MESSAGES_MIN:
        messages, low_ms = 0, least_ms
    seconds = low_ms / 1000
    verdict: Literal["ahead", "right", "late or behind"] = "late or behind"
    if seconds <= -AHEAD_SECONDS:
        verdict = "ahead"
    elif seconds <= LATE_SECONDS:
        verdict = "right"
    return Clock(seconds, verdict, newest_hour * HOUR_MS, messages)
