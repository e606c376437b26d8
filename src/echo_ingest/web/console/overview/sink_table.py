"""The sinks in their table: how each one is, and what waited over the last day. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from echo_ingest.almanac import Sample
from echo_ingest.sinks import Cause
from echo_ingest.sinks.registry import title_of
from echo_ingest.web.console.overview import facts
from echo_ingest.web.console.overview.sparkline import Sparkline, curve
from echo_ingest.web.console.overview.summary import BEHIND_SECONDS, SinkStatus

Badge = Literal["good", "look", "bad", "off", "unknown"]

WORDS: dict[Cause | None, str] = {
    None: "unavailable",
    Cause.UNREACHABLE: "unreachable",
    Cause.NO_ANSWER: "no answer",
    Cause.OVERLOADED: "overloaded",
    Cause.CREDENTIALS: "wrong credentials",
    Cause.MISCONFIGURED: "misconfigured",
    Cause.NO_PRIMARY: "not writable",
    Cause.DISK_FULL: "disk full",
    Cause.ANSWERS_ERRORS: "answers with errors",
    Cause.JOURNAL_BLOCKED: "journal blocked",
    Cause.STARTING: "starting",
}
"""The state of an unavailable sink, in the width of the table."""
PASSING = (Cause.OVERLOADED, Cause.STARTING)
"""Causes that end by themselves."""


class SinkRow(Struct, frozen=True, kw_only=True):
    """A row of the table."""

    name: str
    title: str
    badge: Badge
    word: str
    """The state, for people."""
    since: datetime | None
    reason: str | None
    waiting: int
    lag_seconds: float
    refused: int
    can_pause: bool
    can_resume: bool
    curve: Sparkline


def sink_rows(
    sinks: Sequence[SinkStatus],
    samples: Sequence[Sample],
    now: datetime,
    zone: ZoneInfo,
    first: int,
) -> list[SinkRow]:
    """Return a row for each sink; curves begin with step `first` of the last day."""
    return [_row(sink, samples, now, zone, first) for sink in sinks]


def _row(
    sink: SinkStatus, samples: Sequence[Sample], now: datetime, zone: ZoneInfo, first: int
) -> SinkRow:
    badge, word = _badge(sink)
    waiting = facts.waiting(samples, now, sink.name)[first:]
    return SinkRow(
        name=sink.name,
        title=title_of(sink.name),
        badge=badge,
        word=word,
        since=sink.since,
        reason=sink.reason,
        waiting=sink.waiting,
        lag_seconds=sink.lag_seconds,
        refused=sink.refused,
        can_pause=sink.state in ("delivering", "waiting", "unavailable"),
        can_resume=sink.state == "paused",
        curve=curve(waiting, facts.step_at(now, first), facts.STEP, zone),
    )


def _badge(sink: SinkStatus) -> tuple[Badge, str]:
    match sink.state:
        case "delivering" if sink.waiting and sink.lag_seconds >= BEHIND_SECONDS:
            return "look", "behind"
        case "delivering":
            return "good", "up to date"
        case "unavailable":
            return "look" if sink.cause in PASSING else "bad", WORDS[sink.cause]
        case "paused":
            return "off", "paused"
        case "waiting":
            return "look", "waiting"
        case "not configured":
            return "off", "not configured"
    return "unknown", "unknown"
