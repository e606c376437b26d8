"""The sentence that the overview begins with: how everything is, in plain words. Pure.

It is made of clauses, the most urgent first. *Stuck* is what a person has to mend now, or what is
lost; *look* what a person should know today; *fine* the rest.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

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
    "journal": "No message can be stored:",
    "broker": "No message can come in:",
    "echo": "No message passes through the broker:",
    "service": "No message is taken in: the service is",
}
STORES = {
    "echo_api": "the Echo API",
    "postgres": "PostgreSQL",
    "mongodb": "MongoDB",
    "objects": "the store of audio",
}
ANSWERED = re.compile(r" answered (\d{3})\b")
TOO_OFTEN = 429


class Clause(Struct, frozen=True):
    """A part of the sentence."""

    urgency: Urgency
    text: str
    """Begins with a capital and ends with a full stop."""
    href: str | None = None
    """The page that says more."""


class SilenceNotice(Struct, frozen=True):
    """A node that is not heard any more."""

    node: str
    last_heard_at: datetime


class SinkStatus(Struct, frozen=True):
    """A sink: what it does, and what waits for it."""

    name: str
    state: str
    """As `sinks.SinkState`."""
    waiting: int
    lag_seconds: float
    refused: int
    since: datetime | None = None
    """Of `unavailable` and `paused`."""
    reason: str | None = None


class LastNight(Struct, frozen=True):
    """What was heard from noon to noon."""

    calls: int
    species: int
    most: str
    """The species heard most."""


class SystemState(Struct, frozen=True, kw_only=True):
    """All that the sentence is made of, as of one moment."""

    now: datetime
    away_since: datetime | None = None
    """Since when the part that takes messages in has not answered; None: it does."""
    problems: Mapping[str, str] = {}
    """What keeps messages from coming in, in words, by part: `journal`, `broker`, `service`."""
    missing: int = 0
    """By how many messages the ledger does not close."""
    lost: int = 0
    """Messages that a damaged file did not give back."""
    disk_days: float | None = None
    """How long the room lasts at the pace of the last week; None: nobody can tell."""
    heard: int = 0
    """Nodes heard within the last hour."""
    silent: int = 0
    """Nodes known, but not heard within the last hour."""
    latest_silences: Sequence[SilenceNotice] = ()
    """The silences that began last, newest first; `NAMED_MAX` of them are enough."""
    refused_this_hour: int = 0
    """Messages of the last hour that were no valid ones."""
    refused_hour_before: int | None = None
    """None: nobody looked then."""
    stores: Sequence[SinkStatus] = ()
    last_night: LastNight | None = None


def sentence(standing: SystemState, zone: ZoneInfo) -> list[Clause]:
    """Every clause, the most urgent first; never empty. Times are those of `zone`."""
    clauses = [
        *_intake(standing, zone),
        *_ledger(standing),
        *_room(standing),
        _nodes(standing, zone),
        *_refused(standing),
        *_stores(standing, zone),
        *_night(standing),
    ]
    return sorted(clauses, key=lambda clause: URGENCIES.index(clause.urgency))


def store_name(sink: str) -> str:
    """What people call a sink."""
    return STORES.get(sink, sink)


def answered(store: SinkStatus) -> int | None:
    """The status of HTTP with which it takes nothing; None: it does not even answer."""
    found = ANSWERED.search(store.reason or "")
    return int(found[1]) if found else None


def _intake(standing: SystemState, zone: ZoneInfo) -> Iterator[Clause]:
    if standing.away_since is not None:
        since = moment_short(standing.away_since, standing.now, zone)
        yield Clause(
            "stuck",
            f"Nothing is taken in: the ingestion has not answered since {since}; "
            "what stands here is what was known then.",
        )
    for part, problem in standing.problems.items():
        text = f"{INTAKE.get(part, f'{part}:')} {problem}"
        yield Clause("stuck", text if text[-1] in ".?!" else f"{text}.")


def _ledger(standing: SystemState) -> Iterator[Clause]:
    if standing.missing:
        yield Clause(
            "stuck",
            f"The ledger does not close: {counted(abs(standing.missing), 'messages')} "
            f"{'missing' if standing.missing > 0 else 'too many'}; "
            "type echo-ingest verify to see where.",
            "#ledger",
        )
    if standing.lost:
        yield Clause(
            "stuck",
            f"{counted(standing.lost, 'messages')} lost to a damaged file; "
            "journal.db.salvage.txt says which.",
            "#ledger",
        )


def _room(standing: SystemState) -> Iterator[Clause]:
    days = standing.disk_days
    if days is not None and days < DISK_LOOK_DAYS:
        urgency: Urgency = "stuck" if days < DISK_STUCK_DAYS else "look"
        left = span(days * 86_400)
        yield Clause(urgency, f"Room on the disk for {left} more at this pace.", "#room")


def _nodes(standing: SystemState, zone: ZoneInfo) -> Clause:
    heard, silent = standing.heard, standing.silent
    known = heard + silent
    if not known:
        return Clause("look", "No node has published yet.", "/console/nodes")
    if known == 1 and heard:
        return Clause("fine", "The only node was heard in the last hour.", "/console/nodes")
    if not silent:
        return Clause(
            "fine", f"All {number(known)} nodes heard in the last hour.", "/console/nodes"
        )
    href = "/console/nodes?state=silent"
    latest = [
        f"{each.node} {{}}since {moment_short(each.last_heard_at, standing.now, zone)}"
        for each in standing.latest_silences[:NAMED_MAX]
    ]
    if known == 1:
        text = f"The only node, {latest[0].replace(' {}', ', is silent ')}."
    elif not heard:
        newest = standing.latest_silences[0]
        at = moment_short(newest.last_heard_at, standing.now, zone)
        text = (
            f"None of {number(known)} nodes heard in the last hour; "
            f"the last was {newest.node}, {at}."
        )
    else:
        who = latest[0].format("silent ")
        if silent > 1:
            who = "silent: " + _listed([each.format("") for each in latest], silent - len(latest))
        text = f"{number(heard)} of {number(known)} nodes heard in the last hour; {who}."
    return Clause("look" if heard else "stuck", text, href)


def _refused(standing: SystemState) -> Iterator[Clause]:
    count, before = standing.refused_this_hour, standing.refused_hour_before
    if before is not None and count >= RISING_MIN and count > 2 * before:
        text = (
            f"Refused messages rise: {number(count)} in the last hour, "
            f"{number(before)} in the one before."
        )
        yield Clause("look", text, "/console/refused")
    elif count:
        text = f"{counted(count, 'messages')} refused in the last hour."
        yield Clause("look", text, "/console/refused")


def _stores(standing: SystemState, zone: ZoneInfo) -> Iterator[Clause]:
    well = []
    for store in standing.stores:
        held_up = _held_up(store, standing.now, zone)
        if held_up is not None:
            yield held_up
        elif store.state == "delivering":
            well.append(store_name(store.name))
        if store.refused:
            name = _capital(store_name(store.name))
            text = f"{name} has refused {counted(store.refused, 'records')}."
            yield Clause("look", text, "/console/refused")
    if well:
        has = "has" if len(well) == 1 else "have"
        yield Clause("fine", _capital(f"{_listed(well)} {has} everything."), "#stores")


def _held_up(store: SinkStatus, now: datetime, zone: ZoneInfo) -> Clause | None:
    name = _capital(store_name(store.name))
    waiting = f"{counted(store.waiting, 'records')} waiting"
    since = "" if store.since is None else f" since {moment_short(store.since, now, zone)}"
    late = span(store.lag_seconds)
    match store.state:
        case "unavailable":
            lasting = store.since is not None and now - store.since >= STUCK_AFTER
            urgency: Urgency = "stuck" if lasting else "look"
            return Clause(urgency, f"{name} {_takes_nothing(store)}{since}; {waiting}.", "#stores")
        case "paused":
            return Clause("look", f"{name} is paused{since}; {waiting}.", "#stores")
        case "not configured":
            text = f"{name} is not configured any more; {waiting}."
            return Clause("look", text, "#stores") if store.waiting else None
        case "waiting" if store.waiting:
            return Clause("look", f"{name} {store.reason or 'waits'}; {waiting}.", "#stores")
    if store.waiting and store.lag_seconds >= BEHIND_SECONDS:
        return Clause("look", f"{name} is {late} behind; {waiting}.", "#stores")
    return None


def _takes_nothing(store: SinkStatus) -> str:
    match answered(store):
        case None:
            return "cannot be reached"
        case status if status == TOO_OFTEN:
            return f"answers that it is asked too often ({TOO_OFTEN})"
        case status:
            return f"answers, but takes nothing ({status})"


def _night(standing: SystemState) -> Iterator[Clause]:
    night = standing.last_night
    if night is None:
        return
    text = f"{counted(night.calls, 'calls')} of {night.most} last night."
    if night.species > 1:
        text = (
            f"{counted(night.calls, 'calls')} of {number(night.species)} species last night, "
            f"most often {night.most}."
        )
    yield Clause("fine", text, "/console/calls")


def _listed(names: Sequence[str], more: int = 0) -> str:
    """`a, b and c`, or `a, b, c and 12 more`."""
    *others, last = [*names, f"{number(more)} more"] if more else names
    return f"{', '.join(others)} and {last}" if others else last


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
