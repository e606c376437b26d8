"""The summary that the overview begins with: how everything is, in whole sentences. Pure.

It consists of clauses, the most urgent first. *Stuck* is what a person has to mend now, or what is
lost; *look* is what a person should know today; *fine* is the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from echo_ingest.sinks import Cause
from echo_ingest.sinks.registry import title_of
from echo_ingest.web.console.formatting import counted, moment_short, number, span

Urgency = Literal["stuck", "look", "fine"]
URGENCIES: tuple[Urgency, ...] = ("stuck", "look", "fine")

NAMED_MAX = 3
BEHIND_SECONDS = 60
STUCK_AFTER = timedelta(minutes=10)
DISK_LOOK_DAYS = 14
DISK_STUCK_DAYS = 2
RISING_MIN = 10

INTAKE = {
    "journal": "No messages can be stored:",
    "broker": "No messages arrive from the broker:",
    "session": "Messages may be lost while the service is away:",
    "echo": "Messages do not pass through the broker:",
    "service": "No messages are accepted:",
}
"""How the sentence about a problem begins, by the part that has it."""
UNAVAILABLE: dict[Cause | None, str] = {
    None: "unavailable",
    Cause.UNREACHABLE: "unreachable",
    Cause.NO_ANSWER: "giving no answer",
    Cause.OVERLOADED: "overloaded",
    Cause.CREDENTIALS: "rejecting our credentials",
    Cause.MISCONFIGURED: "misconfigured",
    Cause.NO_PRIMARY: "unable to accept writes",
    Cause.DISK_FULL: "out of disk space",
    Cause.ANSWERS_ERRORS: "answering with errors",
    Cause.JOURNAL_BLOCKED: "held up by our journal",
    Cause.STARTING: "waiting for the delivery to start",
}


class Clause(Struct, frozen=True):
    """A part of the summary."""

    urgency: Urgency
    text: str
    """Begins with a capital and ends with a full stop."""
    href: str | None = None
    """The page that says more."""


class SilenceNotice(Struct, frozen=True):
    """A node from which no messages arrive any more."""

    node: str
    last_heard_at: datetime


class SinkStatus(Struct, frozen=True, kw_only=True):
    """A sink: what it does, and what waits for it."""

    name: str
    state: str
    """As `sinks.SinkState`."""
    waiting: int
    lag_seconds: float
    refused: int
    since: datetime | None = None
    """When it became `unavailable` or `paused`."""
    reason: str | None = None
    """Why it waits or is unavailable, for people."""
    cause: Cause | None = None
    """The kind of reason why it is unavailable."""
    http_status: int | None = None
    """The HTTP status with which it answers while it is unavailable."""


class LastNight(Struct, frozen=True):
    """What was heard from noon to noon."""

    calls: int
    species: int
    most: str
    """The species heard most."""


class SystemState(Struct, frozen=True, kw_only=True):
    """All that the summary is made from, as of one moment."""

    now: datetime
    away_since: datetime | None = None
    """Since when the ingest process has not answered; None: it does."""
    problems: Mapping[str, str] = {}
    """What keeps messages from coming in, for people, by part: `journal`, `broker`, `service`."""
    endpoints: Mapping[str, str] = {}
    """What is wrong with each broker of `IOT_ENDPOINTS`, for people, by its name."""
    missing: int = 0
    """By how many messages the ledger does not add up."""
    lost: int = 0
    """Messages that a damaged file did not give back."""
    disk_days: float | None = None
    """How long the disk space lasts at the rate of the last week; None: it is not known."""
    heard: int = 0
    """Nodes heard within the last hour."""
    silent: int = 0
    """Nodes that were heard, but not within the last hour."""
    never: int = 0
    """Nodes that have credentials and were never heard."""
    latest_silences: Sequence[SilenceNotice] = ()
    """The silences that began last, newest first; `NAMED_MAX` are enough."""
    refused_this_hour: int = 0
    """Messages of the last hour that were rejected."""
    refused_hour_before: int | None = None
    """None: no sample was taken then."""
    sinks: Sequence[SinkStatus] = ()
    last_night: LastNight | None = None


def clauses_of(state: SystemState, zone: ZoneInfo) -> list[Clause]:
    """Return every clause, the most urgent first; never empty. Times are those of `zone`."""
    clauses = [
        *_intake(state, zone),
        *_ledger(state),
        *_disk(state),
        _nodes(state, zone),
        *_refused(state),
        *_sinks(state, zone),
        *_night(state),
    ]
    return sorted(clauses, key=lambda clause: URGENCIES.index(clause.urgency))


def _intake(state: SystemState, zone: ZoneInfo) -> Iterator[Clause]:
    if state.away_since is not None:
        since = moment_short(state.away_since, state.now, zone)
        yield Clause(
            "stuck",
            f"No messages are accepted: the ingest process has not answered since {since}. "
            "This page shows what was known then.",
        )
    for part, problem in state.problems.items():
        yield Clause("stuck", _sentence(f"{INTAKE.get(part, f'{part}:')} {problem}"))
    for name, problem in state.endpoints.items():
        yield Clause("look", _sentence(f"The endpoint {name} has a problem: {problem}"))


def _sentence(text: str) -> str:
    return text if text[-1] in ".?!" else f"{text}."


def _ledger(state: SystemState) -> Iterator[Clause]:
    if state.missing:
        count = abs(state.missing)
        yield Clause(
            "stuck",
            f"The message ledger does not add up: {counted(count, 'messages')} {_are(count)} "
            f"{'missing' if state.missing > 0 else 'too many'}. "
            "Run echo-ingest verify to see where.",
            "#ledger",
        )
    if state.lost:
        yield Clause(
            "stuck",
            f"{counted(state.lost, 'messages')} {_were(state.lost)} lost with a damaged file; "
            "journal.db.salvage.txt lists what is missing.",
            "#ledger",
        )


def _disk(state: SystemState) -> Iterator[Clause]:
    days = state.disk_days
    if days is not None and days < DISK_LOOK_DAYS:
        urgency: Urgency = "stuck" if days < DISK_STUCK_DAYS else "look"
        text = f"The disk will be full in about {span(days * 86_400)} at this rate."
        yield Clause(urgency, text, "#disk")


def _nodes(state: SystemState, zone: ZoneInfo) -> Clause:
    heard, silent, page = state.heard, state.silent, "/console/nodes"
    known = heard + silent
    if not known:
        return Clause("look", "No node has sent a message yet.", page)
    ever, never = "", ""
    if state.never:
        ever = " that have ever sent a message" if known > 1 else " that has ever sent a message"
        never = f" {counted(state.never, 'nodes')} with credentials never sent a message."
    if not silent:
        some = f"The only node{ever} was" if known == 1 else f"All {number(known)} nodes{ever} were"
        return Clause("fine", f"{some} heard in the last hour.{never}", page)
    latest = [
        (each.node, moment_short(each.last_heard_at, state.now, zone))
        for each in state.latest_silences[:NAMED_MAX]
    ]
    node, since = latest[0]
    some = f"{number(heard)} of {number(known)} nodes{ever} {_were(heard)} heard in the last hour"
    if known == 1:
        text = f"The only node{ever}, {node}, has been silent since {since}."
    elif not heard:
        text = (
            f"None of the {number(known)} nodes{ever} was heard in the last hour; "
            f"the last one was {node}, {since}."
        )
    elif silent == 1:
        text = f"{some}; {node} has been silent since {since}."
    else:
        named = [f"{node} (since {since})" for node, since in latest]
        text = f"{some}; {_listed(named, silent - len(named))} are silent."
    return Clause("look" if heard else "stuck", f"{text}{never}", f"{page}?which=silent")


def _refused(state: SystemState) -> Iterator[Clause]:
    count, before = state.refused_this_hour, state.refused_hour_before
    if before is not None and count >= RISING_MIN and count > 2 * before:
        text = (
            f"Rejected messages are rising: there were {number(count)} in the last hour and "
            f"{number(before)} in the hour before."
        )
        yield Clause("look", text, "/console/refused")
    elif count:
        text = f"{counted(count, 'messages')} {_were(count)} rejected in the last hour."
        yield Clause("look", text, "/console/refused")


def _sinks(state: SystemState, zone: ZoneInfo) -> Iterator[Clause]:
    up_to_date = []
    for sink in state.sinks:
        held_up = _held_up(sink, state.now, zone)
        if held_up is not None:
            yield held_up
        elif sink.state == "delivering":
            up_to_date.append(title_of(sink.name))
        if sink.refused:
            text = f"{title_of(sink.name)} has refused {counted(sink.refused, 'records')}."
            yield Clause("look", text, "/console/refused")
    if up_to_date:
        text = f"{_listed(up_to_date)} {_are(len(up_to_date))} up to date."
        yield Clause("fine", text, "#delivery")


def _held_up(sink: SinkStatus, now: datetime, zone: ZoneInfo) -> Clause | None:
    title = title_of(sink.name)
    waiting = f"{counted(sink.waiting, 'records')} {_are(sink.waiting)} waiting"
    since = "" if sink.since is None else f" since {moment_short(sink.since, now, zone)}"
    has_been = "has been" if since else "is"
    match sink.state:
        case "unavailable":
            is_lasting = sink.since is not None and now - sink.since >= STUCK_AFTER
            text = f"{title} {has_been} {_unavailable(sink)}{since}; {waiting}."
            return Clause("stuck" if is_lasting else "look", text, "#delivery")
        case "paused":
            return Clause("look", f"{title} {has_been} paused{since}; {waiting}.", "#delivery")
        case "not configured":
            text = f"{title} is not configured any more; {waiting}."
            return Clause("look", text, "#delivery") if sink.waiting else None
        case "waiting" if sink.waiting:
            return Clause("look", f"{title} {sink.reason or 'waits'}; {waiting}.", "#delivery")
    if sink.waiting and sink.lag_seconds >= BEHIND_SECONDS:
        text = f"{title} is {span(sink.lag_seconds)} behind; {waiting}."
        return Clause("look", text, "#delivery")
    return None


def _unavailable(sink: SinkStatus) -> str:
    """Say what is wrong with an unavailable sink, after `is` or `has been`."""
    status = "" if sink.http_status is None else f" (HTTP {sink.http_status})"
    return UNAVAILABLE[sink.cause] + status


def _night(state: SystemState) -> Iterator[Clause]:
    night = state.last_night
    if night is None:
        return
    calls = counted(night.calls, "calls")
    text = f"{calls} of {night.most} {_were(night.calls)} heard last night."
    if night.species > 1:
        text = (
            f"{calls} of {number(night.species)} species were heard last night, "
            f"most often {night.most}."
        )
    yield Clause("fine", text, "/console/calls")


def _listed(names: Sequence[str], more: int = 0) -> str:
    """Return `a, b and c`, or `a, b, c and 12 more`."""
    *others, last = [*names, f"{number(more)} more"] if more else names
    return f"{', '.join(others)} and {last}" if others else last


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
