"""What the overview derives from samples and figures: rates, what waits, what was refused. Pure.

Samples of the service are taken a minute apart. Where it did not answer, or no sample was taken,
nothing is known, and nothing is filled in.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from msgspec import Struct

from echo_ingest.almanac import NodeCounts, Sample, TimeUntilFull
from echo_ingest.formatting import milliseconds, utc
from echo_ingest.gauges import ServiceGauges
from echo_ingest.journal import Ledger
from echo_ingest.sinks import SinkState
from echo_ingest.web.console.overview.summary import (
    LastNight,
    SilenceNotice,
    SinkStatus,
    SystemState,
)

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
STEP = timedelta(minutes=10)
STEPS_MIN = 18
MINUTE_MS = 60_000
NEXT_WITHIN_MS = 3 * MINUTE_MS
"""Between samples further apart nothing is known."""


class OverviewFacts(Struct, frozen=True, kw_only=True):
    """What the overview is made from, as of one moment."""

    now: datetime
    ledger: Ledger
    sink_states: Mapping[str, SinkState]
    problems: Mapping[str, str]
    """What keeps messages from coming in, by part."""
    endpoints: Mapping[str, str] = {}
    """What is wrong with each broker of `IOT_ENDPOINTS`, by its name."""
    away_since: datetime | None
    """Since when the ingest process has not answered; None: it does."""
    nodes: NodeCounts
    samples: Sequence[Sample]
    """Of the last day, the oldest first, and that of this moment where the service answers."""
    room: TimeUntilFull
    last_night: LastNight | None


def sample_now(ledger: Ledger, gauges: ServiceGauges, now: datetime) -> Sample:
    """Return a sample of this moment: those that are kept are up to a minute older."""
    return Sample(
        at_ms=milliseconds(now) - 1,
        answered=True,
        received=ledger.received,
        stored=ledger.stored,
        duplicates=ledger.duplicates,
        dead_letters=ledger.dead_letters,
        broker_dropped=gauges.broker_dropped,
        journal_bytes=gauges.journal_bytes,
        disk_free_bytes=gauges.disk_free_bytes,
        room_bytes=gauges.room_bytes,
        sinks={},
    )


def state_of(facts: OverviewFacts) -> SystemState:
    """Return what the summary is made from."""
    ledger, nodes, now_ms = facts.ledger, facts.nodes, milliseconds(facts.now)
    hour_ms = milliseconds(facts.now - HOUR)
    missing = ledger.received - ledger.accounted
    for sink in ledger.sinks.values():
        missing = missing or (
            ledger.stored - sink.skipped - sink.delivered - sink.parked - sink.backlog
        )
    return SystemState(
        now=facts.now,
        away_since=facts.away_since,
        problems=facts.problems,
        endpoints=facts.endpoints,
        missing=missing,
        lost=ledger.lost,
        disk_days=facts.room.days,
        heard=nodes.heard_last_hour,
        silent=nodes.known - nodes.never - nodes.heard_last_hour,
        never=nodes.never,
        latest_silences=[SilenceNotice(each.name, utc(each.since_ms)) for each in nodes.silent],
        refused_this_hour=refused_between(facts.samples, hour_ms, now_ms) or 0,
        refused_hour_before=refused_between(facts.samples, hour_ms - 60 * MINUTE_MS, hour_ms),
        sinks=[_sink(name, facts) for name in ledger.sinks],
        last_night=facts.last_night,
    )


def _sink(name: str, facts: OverviewFacts) -> SinkStatus:
    figures = facts.ledger.sinks[name]
    now = facts.sink_states.get(name, SinkState("not configured"))
    return SinkStatus(
        name=name,
        state=now.state,
        waiting=figures.backlog,
        lag_seconds=figures.lag_seconds,
        refused=figures.parked,
        since=now.since,
        reason=now.reason,
        cause=now.cause,
        http_status=now.http_status,
    )


def refused_between(samples: Sequence[Sample], since_ms: int, until_ms: int) -> int | None:
    """Count the messages that were refused as invalid; a replay takes none of them away.

    Return None where no sample was taken.
    """
    within = [sample for sample in samples if since_ms - MINUTE_MS <= sample.at_ms < until_ms]
    if not any(sample.answered for sample in within):
        return None
    return sum(step.rise for step in _steps(within, lambda sample: sample.dead_letters))


def received(samples: Sequence[Sample]) -> int:
    """Count the messages that arrived meanwhile, as far as samples were taken."""
    return sum(step.rise for step in _steps(samples, lambda sample: sample.received))


def dropped(samples: Sequence[Sample]) -> int | None:
    """Count the messages that the broker dropped meanwhile; None: it did not tell."""
    if all(sample.broker_dropped is None for sample in samples):
        return None
    steps = _steps(samples, lambda sample: sample.broker_dropped)
    # Less than before: the broker was restarted, and counts from 0.
    return sum(step.is_now if step.is_now < step.was else step.rise for step in steps)


def last_answered(samples: Sequence[Sample], now: datetime) -> datetime:
    """Return when the service last answered a sample; `now` where there is none."""
    answered = [sample.at_ms for sample in samples if sample.answered]
    return utc(answered[-1]) if answered else now


def rates(samples: Sequence[Sample], now: datetime) -> list[float | None]:
    """Return messages per second over the last day, by `STEP`; None where nothing is known."""
    sums: dict[int, tuple[int, int]] = {}
    for step in _steps(samples, lambda sample: sample.received):
        if step.lasting_ms <= NEXT_WITHIN_MS:
            place = (step.at_ms - _first_ms(now)) // _STEP_MS
            messages, lasting_ms = sums.get(place, (0, 0))
            sums[place] = messages + step.rise, lasting_ms + step.lasting_ms
    return [
        sums[place][0] / sums[place][1] * 1000 if place in sums else None for place in range(_STEPS)
    ]


def waiting(samples: Sequence[Sample], now: datetime, sink: str) -> list[float | None]:
    """Return how many records waited for a sink over the last day: the most in each step."""
    most: list[float | None] = [None] * _STEPS
    for sample in samples:
        step = (sample.at_ms - _first_ms(now)) // _STEP_MS
        if sink in sample.sinks and 0 <= step < _STEPS:
            most[step] = max(most[step] or 0.0, float(sample.sinks[sink].backlog))
    return most


def step_at(now: datetime, place: int) -> datetime:
    """Return when this step of the last day begins."""
    return utc(_first_ms(now) + place * _STEP_MS)


def begins(rates: Sequence[float | None]) -> int:
    """Return the first step that is known, for a service that is younger than a day."""
    known = (place for place, rate in enumerate(rates) if rate is not None)
    return min(next(known, 0), _STEPS - STEPS_MIN)


_STEP_MS = STEP // timedelta(milliseconds=1)
_STEPS = DAY // STEP


def _first_ms(now: datetime) -> int:
    """Return when the first step begins: the last one is the one that is under way."""
    return (milliseconds(now) // _STEP_MS - _STEPS + 1) * _STEP_MS


class _SampleStep(Struct, frozen=True):
    """A figure from one sample to the next that has it."""

    at_ms: int
    """When the second of the two was taken."""
    lasting_ms: int
    was: int
    is_now: int

    @property
    def rise(self) -> int:
        """Return by how much it rose; where it fell, messages were replayed."""
        return max(self.is_now - self.was, 0)


def _steps(
    samples: Sequence[Sample], figure: Callable[[Sample], int | None]
) -> Iterator[_SampleStep]:
    known = [(sample.at_ms, value) for sample in samples if (value := figure(sample)) is not None]
    for (before_ms, was), (at_ms, is_now) in pairwise(known):
        yield _SampleStep(at_ms, at_ms - before_ms, was, is_now)
