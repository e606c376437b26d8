"""A node as people see it: its state, what is wrong with it, and what mends that. Pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from echo_ingest.admin.node_remedies import clock_command, confidence_command
from echo_ingest.almanac import CLOCK_TOLERANCE_MS, Clock, MapPoint, NodeSummary
from echo_ingest.decode import NodeRules
from echo_ingest.formatting import milliseconds
from echo_ingest.quality import TimeProblem
from echo_ingest.web.console.formatting import ago, counted, duration

Badge = Literal["good", "look", "bad", "off", "unknown"]
Mark = tuple[str, float, float, Badge, str]
"""A node on the map: name, latitude, longitude, state, and the state in words."""

HEARD_WITHIN = timedelta(hours=1)
BATTERY_LOW_PERCENT = 20.0
AS_CORRECTED_SECONDS = 120.0
AHEAD_TO_CORRECT_SECONDS = 60.0
BEHIND_TO_CORRECT_SECONDS = 900.0
"""Less than this may also be what a device takes to analyse what it hears, and to send it."""
MINUTES_FROM_SECONDS = 600.0
"""From here on, the offset of a clock is shown in whole minutes: messages take seconds."""


class NodeRemedy(Struct, frozen=True):
    """Something that seems to be wrong with what a node sends, and what to do."""

    words: str
    command: str | None = None
    """What mends it on this side, if a person asks for it."""


class NodeRow(Struct, frozen=True):
    """A row of the table."""

    node: NodeSummary
    badge: Badge
    word: str
    clock: str | None
    """What is wrong with its clock, in words; None where nothing is."""
    corrected: str | None
    """By how much its times are corrected, in words; None where they are not."""
    battery_low: bool
    remedies: tuple[NodeRemedy, ...]


def node_row(node: NodeSummary, now: datetime, rules: NodeRules) -> NodeRow:
    """Return the row of a node, whose messages are read by these rules."""
    badge, word = state(node.last_heard_at_ms, now, disabled=node.account == "disabled")
    battery = node.battery_percent
    ahead = rules.clock_ahead_seconds
    return NodeRow(
        node=node,
        badge=badge,
        word=word,
        clock=clock_error(node.clock, ahead),
        corrected=f"{offset_words(ahead)} {direction(ahead)}" if ahead else None,
        battery_low=battery is not None and battery.value < BATTERY_LOW_PERCENT,
        remedies=tuple(remedies(node, rules)),
    )


def state(last_heard_at_ms: int | None, now: datetime, *, disabled: bool) -> tuple[Badge, str]:
    """Return a shape and a word; a node that was heard within the last hour is well."""
    if disabled:
        return "off", "blocked"
    if last_heard_at_ms is None:
        return "unknown", "never heard"
    soon_ms = milliseconds(now) + CLOCK_TOLERANCE_MS
    if milliseconds(now - HEARD_WITHIN) < last_heard_at_ms <= soon_ms:
        return "good", "heard"
    return "look", "silent"


def clock_error(clock: Clock | None, corrected_seconds: float = 0) -> str | None:
    """Return what its messages show to be wrong with its clock; None where nothing is.

    `corrected_seconds` is how far ahead the nodes file says that it is.
    """
    if clock is None or (clock.verdict == "right" and not corrected_seconds):
        return None
    if corrected_seconds and is_as_corrected(clock, corrected_seconds):
        return None
    offset = offset_words(clock.ahead_seconds)
    words = f"clock {offset} {direction(clock.ahead_seconds)}"
    if clock.constant_over and not -BEHIND_TO_CORRECT_SECONDS < clock.ahead_seconds < 0:
        words += f", constant over {counted(clock.constant_over, 'messages')}"
    elif clock.verdict == "late or behind":
        words = f"clock behind, or messages late, by {offset}"
    if corrected_seconds:
        corrected = f"{offset_words(corrected_seconds)} {direction(corrected_seconds)}"
        words += f", and not {corrected} as the nodes file says"
    return words


def is_as_corrected(clock: Clock, corrected_seconds: float) -> bool:
    """Return whether a clock is off as the nodes file says, as far as its messages tell."""
    return abs(clock.ahead_seconds - corrected_seconds) <= AS_CORRECTED_SECONDS


def remedies(node: NodeSummary, rules: NodeRules) -> Iterator[NodeRemedy]:
    """Yield what seems to be wrong with what a node sends, and the commands that mend it."""
    clock, problem = node.clock, node.time_problem
    ahead = rounded(clock.ahead_seconds) if clock is not None and clock.constant_over else 0.0
    corrected = rules.clock_ahead_seconds
    if corrected:
        is_off = clock is not None and bool(clock.constant_over)
        is_off = is_off and abs(ahead - corrected) > AS_CORRECTED_SECONDS
    else:
        is_off = not -BEHIND_TO_CORRECT_SECONDS < ahead < AHEAD_TO_CORRECT_SECONDS
    if is_off:
        yield NodeRemedy(
            f"Its clock is {offset_words(ahead)} {direction(ahead)} in every message, so the best"
            " remedy is to set it. Where that is not possible, this command has all times of this"
            " node corrected:",
            clock_command(node.name, ahead),
        )
    elif problem not in (None, TimeProblem.CORRECTED):
        yield NodeRemedy(f"{problem.summary} {problem.advice}")
    if node.sends_fractions and not rules.confidence_is_fraction:
        yield NodeRemedy(
            "No confidence that it has ever sent is more than 1 %, so it seems to send fractions"
            " where percent are meant. If that is so, this command has them read as fractions:",
            confidence_command(node.name),
        )


def direction(ahead_seconds: float) -> str:
    """Return on which side of the true time a clock is."""
    return "ahead" if ahead_seconds >= 0 else "behind"


def offset_words(seconds: float) -> str:
    """Write by how much a clock is off, such as `11 h 0 min`."""
    return duration(abs(rounded(seconds)))


def rounded(seconds: float) -> float:
    """Return the offset of a clock as exactly as messages tell it."""
    if abs(seconds) < MINUTES_FROM_SECONDS:
        return float(round(seconds))
    return round(seconds / 60) * 60.0


def map_mark(point: MapPoint, now: datetime) -> Mark:
    """Return the mark of a node on the map."""
    badge, word = state(point.last_heard_at_ms, now, disabled=False)
    if point.last_heard_at_ms is not None:
        word = f"{word}, last {ago(point.last_heard_at_ms, now)}"
    return point.name, round(point.latitude, 5), round(point.longitude, 5), badge, word
