"""The journal, compared with plain lists and dicts: whatever is done to it, both say the same.

Hypothesis picks the operations, re-openings among them, and shortens what fails to the steps that
matter. `STEPS=200000 pytest tests/test_journal_model.py` looks for longer.
"""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from echo_ingest.journal import Arrival, Journal
from echo_ingest.journal.cursors import Refused as ParkedFor
from echo_ingest.journal.node_days import NodeDay
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    DeadLetter,
    Duplicate,
    Identity,
    Message,
    Outcome,
    Rejected,
    Stored,
)

STEPS = int(os.environ.get("STEPS", "3000"))
STEPS_A_RUN = 50
START_SECONDS = int(datetime(2026, 9, 14, 5, 45, 12, tzinfo=UTC).timestamp())
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
EPOCH = date(1970, 1, 1)
EVERYTHING = 10**13
INVALID, USED = "not JSON", "was used before"


def word(outcome: Outcome) -> str:
    match outcome:
        case DeadLetter(rejected):
            return USED if rejected.code is ReasonCode.ID_REUSED else rejected.render()
        case _:
            return type(outcome).__name__.lower()


SINKS = ("api", "store", "late")
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
"""A folder in memory, so that commits do not wait for a disk: no power cut is tested here."""


@dataclass(frozen=True)
class Sent:
    """A message. `form` says what tells two apart: "id", "time" or "nothing"; or "rubbish"."""

    form: str
    content: int
    """Its content apart from its time. Three contents share each id."""
    stamp: int
    """The time that it gives, which says nothing about a message with an id."""
    node: str | None
    received_at_ms: int
    redelivered: bool = False

    @property
    def payload(self) -> bytes:
        fields: dict[str, object] = {"form": self.form, "content": self.content}
        if self.form in ("id", "time"):
            fields["timestamp"] = self.stamp
        return json.dumps(fields).encode()

    @property
    def identity(self) -> str | None:
        time = f"time {self.content} {self.stamp}"
        return {"id": f"id {self.content // 3}", "time": time}.get(self.form)

    @property
    def message(self) -> Message:
        return Message(
            "t", self.payload, self.received_at_ms, self.node, redelivered=self.redelivered
        )

    @property
    def stored_identity(self) -> Identity:
        match self.form:
            case "nothing":
                return Identity("telemetry")
            case "time":
                return Identity("detection", START_SECONDS + self.stamp)
            case _:
                return Identity("detection", START_SECONDS + self.stamp, self.identity)

    @property
    def arrival(self) -> Arrival:
        return self.message, Rejected(
            ReasonCode.UNKNOWN_FORM, INVALID
        ) if self.form == "rubbish" else self.stored_identity


@dataclass
class Refused:
    reason: str
    attempts: int = 1
    replay: bool = False


@dataclass
class SinkModel:
    cursor: int
    skipped: int
    delivered: int = 0
    refused: dict[int, Refused] = field(default_factory=dict)
    paused: bool = False

    def replays(self) -> list[int]:
        return sorted(offset for offset, refused in self.refused.items() if refused.replay)


class Model:
    """What the journal's docstring says, in lists and dicts."""

    def __init__(self) -> None:
        self.records: dict[int, Sent] = {}
        """The records that retention has not removed, by offset."""
        self.dead_letters: dict[int, Sent] = {}
        self.last_dead_letter = 0
        self.sinks: dict[str, SinkModel] = {}
        self.trimmed = 0
        self.heard: dict[tuple[str, int], int] = {}
        """When each node was heard last on each day."""
        self.received: list[tuple[Sent, str]] = []
        """All that was received, with what became of it."""
        self.waiting: Counter[bytes] = Counter()
        """Payloads that may be redelivered: they are stored and not acknowledged."""
        self.acknowledged = self.noted = (0, 0)
        """Up to which offset and dead letter; and the same as of the last commit."""

    @property
    def newest(self) -> int:
        return max(self.records, default=0)

    def append(self, batch: Sequence[Sent]) -> list[str]:
        answers, opened = Counter(self.waiting), Counter[bytes]()
        outcomes = []
        for sent in batch:
            outcome = self.outcome(sent)
            if outcome == "stored":
                self.records[self.newest + 1] = sent
            by_redelivery = outcome not in ("stored", "duplicate") or sent.form == "nothing"
            if by_redelivery and sent.redelivered and answers[sent.payload] > 0:
                if outcome == "stored":
                    del self.records[self.newest]
                answers[sent.payload] -= 1
                outcome = "duplicate"
            elif by_redelivery:
                opened[sent.payload] += 1
            if outcome not in ("stored", "duplicate"):
                self.last_dead_letter += 1
                self.dead_letters[self.last_dead_letter] = sent
            self.received.append((sent, outcome))
            outcomes.append(outcome)
        self.waiting = answers + opened
        self.noted = self.acknowledged
        self.hear(batch)
        return outcomes

    def hear(self, batch: Sequence[Sent]) -> None:
        """Believe the newer message where the clock was set back by more than an hour."""
        latest: dict[tuple[str, int], int] = {}
        for sent in batch:
            key = sent.node or "", sent.received_at_ms // DAY_MS
            latest[key] = max(latest.get(key, 0), sent.received_at_ms)
        for key, at_ms in latest.items():
            before_ms = self.heard.get(key, 0)
            self.heard[key] = at_ms if before_ms > at_ms + HOUR_MS else max(before_ms, at_ms)

    def outcome(self, sent: Sent) -> str:
        """Return the outcome of a message by its content, redelivered or not."""
        if sent.form == "rubbish":
            return INVALID
        for stored in self.records.values():
            if sent.identity is not None and stored.identity == sent.identity:
                return "duplicate" if stored.content == sent.content else USED
        return "stored"

    def acknowledge(self) -> None:
        self.waiting.clear()
        self.acknowledged = self.newest, max(self.dead_letters, default=0)

    def reopen(self) -> None:
        """Forget what was acknowledged and what was answered since the last commit."""
        self.acknowledged = self.noted
        offset, number = self.noted
        self.waiting = Counter(
            [s.payload for o, s in self.records.items() if o > offset and s.form != "time"]
            + [s.payload for n, s in self.dead_letters.items() if n > number]
        )

    def read(self, sink: SinkModel, records_max: int) -> list[int]:
        after_cursor = [offset for offset in sorted(self.records) if offset > sink.cursor]
        return (sink.replays() or after_cursor)[:records_max]

    def settle(self, sink: SinkModel, offsets: list[int], refused: set[int]) -> int:
        """Only what is parked counts, or follows the cursor one by one."""
        settled = [offset for offset in offsets if offset in sink.refused]
        for offset in offsets:
            if offset == sink.cursor + 1:
                settled.append(offset)
                sink.cursor = offset
        for offset in settled:
            attempts = sink.refused.pop(offset, Refused("", 0)).attempts
            if offset in refused:
                sink.refused[offset] = Refused(f"no {offset}", attempts + 1)
            else:
                sink.delivered += 1
        return len(settled)

    def backfill(self, sink: SinkModel, first: int) -> int:
        backlog = self.backlog(sink)
        before = max(first - 1, self.trimmed)
        if not sink.delivered and not sink.refused:
            sink.cursor = sink.skipped = before
        elif before < sink.cursor:
            sink.refused = {o: refused for o, refused in sink.refused.items() if o <= before}
            sink.cursor, sink.skipped = before, min(sink.skipped, before)
            sink.delivered = before - sink.skipped - len(sink.refused)
        return self.backlog(sink) - backlog

    def backlog(self, sink: SinkModel) -> int:
        return max(0, self.newest - sink.cursor) + len(sink.replays())

    def trim(self, received_before_ms: int, records_max: int) -> int:
        end = min([sink.cursor for sink in self.sinks.values()] + [self.newest - 1])
        needed = {offset for sink in self.sinks.values() for offset in sink.refused}
        settled = [o for o in sorted(self.records) if o <= end and o not in needed][:records_max]
        gone = [o for o in settled if self.records[o].received_at_ms < received_before_ms]
        for offset in gone:
            del self.records[offset]
        self.trimmed = max([self.trimmed, *gone])
        return len(gone)


sent = st.builds(
    Sent,
    form=st.sampled_from(("id", "time", "nothing", "rubbish")),
    content=st.integers(0, 5),
    stamp=st.integers(0, 3),
    node=st.sampled_from((None, "ridge-07", "creek-02")),
    received_at_ms=st.integers(0, 2 * DAY_MS),
    redelivered=st.booleans(),
)


class Beside(RuleBasedStateMachine):
    """Does the same to a journal and to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.path = Path(self.folder.name) / "journal.db"
        self.model = Model()
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.path)
        self.reader = JournalReader(self.path)

    def close(self) -> None:
        self.reader.close()
        self.journal.close()

    def teardown(self) -> None:
        self.close()
        self.folder.cleanup()

    @rule(batch=st.lists(sent, min_size=1, max_size=8))
    def new_messages(self, batch: list[Sent]) -> None:
        self.append(batch)

    @precondition(lambda self: self.model.received)
    @rule(data=st.data())
    def redeliveries(self, data: st.DataObject) -> None:
        """Send again what the broker thinks is not acknowledged, or what a device repeats."""
        recent = [sent for sent, _ in self.model.received[-12:]]
        again = data.draw(st.lists(st.sampled_from(recent), min_size=1, max_size=8))
        self.append([replace(sent, redelivered=data.draw(st.booleans())) for sent in again])

    @precondition(lambda self: self.model.received)
    @rule(data=st.data(), stamps=st.lists(st.integers(4, 9), min_size=1, max_size=8))
    def attempts_with_new_times(self, data: st.DataObject, stamps: list[int]) -> None:
        """Send again as an outbox does that stamps each attempt anew."""
        recent = [sent for sent, _ in self.model.received[-12:]]
        self.append([replace(data.draw(st.sampled_from(recent)), stamp=stamp) for stamp in stamps])

    def append(self, batch: list[Sent]) -> None:
        outcomes = self.journal.append([each.arrival for each in batch]).outcomes
        assert [word(outcome) for outcome in outcomes] == self.model.append(batch)
        for each, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Stored | Duplicate) and outcome.offset is not None:
                first = self.model.records[outcome.offset]
                assert (first.form, first.content) == (each.form, each.content)
            else:
                assert each.redelivered or isinstance(outcome, DeadLetter)

    @rule()
    def acknowledge(self) -> None:
        self.journal.acknowledged()
        self.model.acknowledge()

    @rule()
    def reopen(self) -> None:
        self.close()
        self.open()
        self.model.reopen()

    @rule(name=st.sampled_from(SINKS))
    def add_sink(self, name: str) -> None:
        self.journal.add_sink(name)
        self.model.sinks.setdefault(name, SinkModel(self.model.trimmed, self.model.trimmed))

    @precondition(lambda self: self.model.sinks)
    @rule(data=st.data(), records_max=st.integers(1, 6))
    def a_sink_takes_some(self, data: st.DataObject, records_max: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.sinks)))
        if offsets := self.read(name, records_max):
            offsets = offsets[: data.draw(st.integers(1, len(offsets)))]
            self.settle(name, offsets, data.draw(st.sets(st.sampled_from(offsets))))

    @precondition(lambda self: self.model.sinks and self.model.newest)
    @rule(data=st.data())
    def a_sink_begins_anew_while_it_takes_some(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.sinks)))
        first = data.draw(st.integers(1, self.model.newest))
        offsets = self.read(name, data.draw(st.integers(1, 6)))
        expected = self.model.backfill(self.model.sinks[name], first)
        assert self.journal.backfill(name, first) == expected
        if offsets:
            self.settle(name, offsets, data.draw(st.sets(st.sampled_from(offsets))))

    @precondition(lambda self: self.model.sinks)
    @rule(data=st.data(), paused=st.booleans())
    def pause_or_resume(self, data: st.DataObject, paused: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.sinks)))
        (self.journal.pause if paused else self.journal.resume)(name)
        self.model.sinks[name].paused = paused

    @precondition(lambda self: "late" in self.model.sinks)
    @rule()
    def forget(self) -> None:
        self.journal.forget("late")
        del self.model.sinks["late"]

    @precondition(lambda self: self.model.sinks)
    @rule()
    def every_sink_takes_all(self) -> None:
        for name in self.model.sinks:
            while offsets := self.read(name, 10):
                self.settle(name, offsets, set())

    def read(self, name: str, records_max: int) -> list[int]:
        offsets = [entry.offset for entry in self.journal.read(name, records_max)]
        assert offsets == self.model.read(self.model.sinks[name], records_max)
        return offsets

    def settle(self, name: str, offsets: list[int], refused: set[int]) -> None:
        counted = self.journal.settle(
            name, offsets, {offset: ParkedFor(f"no {offset}") for offset in refused}
        )
        assert counted == self.model.settle(self.model.sinks[name], offsets, refused)

    @precondition(lambda self: any(sink.refused for sink in self.model.sinks.values()))
    @rule(data=st.data(), others=st.sets(st.integers(1, 40)))
    def request_replay(self, data: st.DataObject, others: set[int]) -> None:
        name = data.draw(st.sampled_from([n for n, s in self.model.sinks.items() if s.refused]))
        sink = self.model.sinks[name]
        offsets = sorted(others | data.draw(st.sets(st.sampled_from(sorted(sink.refused)))))
        new = {o for o in offsets if o in sink.refused and not sink.refused[o].replay}
        assert self.journal.request_replay(name, offsets) == len(new)
        for offset in new:
            sink.refused[offset].replay = True

    @precondition(lambda self: self.model.dead_letters)
    @rule(
        data=st.data(), form=st.sampled_from(("id", "time", "nothing")), content=st.integers(0, 5)
    )
    def replay_dead_letter(self, data: st.DataObject, form: str, content: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.dead_letters)))
        letter = self.model.dead_letters[number]
        now = replace(letter, form=form, content=content, redelivered=False)
        outcome = self.journal.replay_dead_letter(number, now.message, now.stored_identity)
        expected = self.model.outcome(now)
        assert word(outcome) == expected
        if expected == USED:
            return
        if expected == "stored":
            self.model.records[self.model.newest + 1] = now
        del self.model.dead_letters[number]
        index = next(
            i
            for i, (sent, outcome) in enumerate(self.model.received)
            if sent == letter and outcome in (INVALID, USED)
        )
        self.model.received[index] = (letter, expected)

    @rule(number=st.integers(1, 40))
    def replay_dead_letter_that_is_gone(self, number: int) -> None:
        if number not in self.model.dead_letters:
            now = Sent("nothing", 0, 0, None, 0)
            with pytest.raises(KeyError):
                self.journal.replay_dead_letter(number, now.message, now.stored_identity)

    @rule(
        received_before_ms=st.sampled_from((DAY_MS, EVERYTHING)),
        records_max=st.sampled_from((2, 1_000)),
    )
    def trim(self, received_before_ms: int, records_max: int) -> None:
        removed = self.journal.trim(received_before_ms, records_max)
        assert removed == self.model.trim(received_before_ms, records_max)

    @invariant()
    def rows_are_the_same(self) -> None:
        messages = {e.offset: e.message for e in self.reader.after(Selection(), 0, 1_000)}
        assert messages == {
            offset: structs.replace(sent.message, redelivered=False, form="")
            for offset, sent in self.model.records.items()
        }
        dead_letters = {letter.id: letter.message.payload for letter in self.reader.dead_letters()}
        assert dead_letters == {n: s.payload for n, s in self.model.dead_letters.items()}
        parked = {
            (p.sink, p.offset): Refused(p.reason, p.attempts, p.replay_requested)
            for p in self.reader.parked()
        }
        assert parked == {
            (name, offset): refused
            for name, sink in self.model.sinks.items()
            for offset, refused in sink.refused.items()
        }

    @invariant()
    def the_ledger_is_the_same_and_closes(self) -> None:
        assert self.reader.audit() == []
        ledger = self.journal.ledger()
        outcomes = Counter(outcome for _, outcome in self.model.received)
        assert (ledger.received, ledger.stored, ledger.duplicates, ledger.dead_letters) == (
            len(self.model.received),
            outcomes["stored"],
            outcomes["duplicate"],
            len(self.model.dead_letters),
        )
        assert ledger.stored == self.model.newest
        for name, sink in self.model.sinks.items():
            counts, replays = ledger.sinks[name], len(sink.replays())
            assert (counts.delivered, counts.skipped) == (sink.delivered, sink.skipped)
            assert counts.parked == len(sink.refused) - replays
            assert counts.backlog == self.model.backlog(sink)
            assert self.journal.is_paused(name) is (counts.paused_at_ms is not None) is sink.paused
            assert (
                ledger.stored == counts.skipped + counts.delivered + counts.parked + counts.backlog
            )

    @invariant()
    def the_ledger_of_each_node_and_day_is_the_same(self) -> None:
        received: dict[tuple[str, int], list[tuple[Sent, str]]] = {}
        for sent, outcome in self.model.received:
            received.setdefault((sent.node or "", sent.received_at_ms // DAY_MS), []).append(
                (sent, outcome)
            )
        assert {(d.node, (d.day - EPOCH).days): d for d in self.reader.node_days()} == {
            (node, day): NodeDay(
                node,
                EPOCH + timedelta(days=day),
                len(messages),
                sum(outcome == "stored" for _, outcome in messages),
                sum(outcome == "duplicate" for _, outcome in messages),
                sum(outcome in (INVALID, USED) for _, outcome in messages),
                sum(len(sent.payload) for sent, _ in messages),
                min(sent.received_at_ms for sent, _ in messages),
                self.model.heard[node, day],
            )
            for (node, day), messages in received.items()
        }


Beside.TestCase.settings = settings(
    max_examples=STEPS // STEPS_A_RUN,
    stateful_step_count=STEPS_A_RUN,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    print_blob=True,
)
TestJournalBesideAModel = pytest.mark.slow(Beside.TestCase)
