"""The ledger closes after any mix of what may become of a message, and what a person does to it.

Forms come and go, messages are stored, repeated, rejected, ignored and unclaimed, dead letters are
discarded and replayed, kept messages are claimed, stored ones are read by another form. Hypothesis
picks the order. `STEPS=20000 pytest tests/test_ledger_model.py` looks for longer.
"""

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from echo_ingest.admin import dead_letters
from echo_ingest.admin.form_rereading import FormRereading
from echo_ingest.broker.topic_rights import TopicRights
from echo_ingest.decode import Decoder
from echo_ingest.decode.forms import Forms
from echo_ingest.journal import Journal
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.decoding import decode_entry
from echo_ingest.journal.pinned_forms import loader_of
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.pipeline.claims import Claims
from echo_ingest.record import Message, Unclaimed
from echo_ingest.settings import Settings
from tests.test_pinned_forms import AS_FRACTION, FRAME, LOG, POND

STEPS = int(os.environ.get("STEPS", "200"))
STEPS_A_RUN = 40
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
DAY_MS = 86_400_000
START_MS = 20_000 * DAY_MS
BY_DEVICE = POND.replace("[[record]]\n", '[[record]]\nnode = "device"\n', 1)
SEVERAL = """
name = "several"
[match]
has = ["several"]
[[record]]
kind = "measurement"
each = "several"
name = "name"
value = "value"
"""
FORMS = (
    (),
    (POND, LOG),
    (AS_FRACTION, FRAME),
    (BY_DEVICE, LOG, SEVERAL),
    (BY_DEVICE.replace('"percent"', '"fraction"'), FRAME, LOG, SEVERAL),
)
NAMES = ("pond", "frame", "several")
SINKS = ("api", "store")
TOPICS = ("iotingestion/a", "pond/north/heard", "gateways/g/up", "a/log", "odd/1", "odd/2")
COUNTED = ("received", "stored", "duplicates", "dead_letters", "ignored", "unclaimed", "discarded")

payloads = st.builds(
    lambda shape, number: shape % {b"n": number},
    st.sampled_from(
        (
            b'{"number": %(n)d, "heard": "Ninox", "score": 1, "at": 1728000000, "device": "d"}',
            b'{"number": %(n)d, "heard": "Crinia", "score": 50, "at": 1728000000}',
            b'{"number": 7, "heard": "Litoria %(n)d", "score": 1, "at": 1728000000, "device": "e"}',
            b'{"device": "d", "count": %(n)d, "species": "Ninox"}',
            b'{"several": [{"name": "x", "value": %(n)d}, {"name": "y", "value": 1}]}',
            b'{"several": []}',
            b'{"id": "i%(n)d", "timestamp": 1728000000, "species": "Ninox", "confidence": 5}',
            b'{"status": "online"}',
            b"rubbish %(n)d",
        )
    ),
    st.integers(0, 3),
)
sent = st.tuples(
    st.sampled_from(TOPICS), payloads, st.sampled_from(("a", "echopub")), st.booleans()
)


class Mixed(RuleBasedStateMachine):
    """Does what may be done, and looks at the figures after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.path = Path(self.folder.name) / "journal.db"
        self.received = 0
        self.now_ms = START_MS
        self.taken: tuple[str, ...] = ()
        self.open()
        for sink in SINKS:
            self.journal.add_sink(sink)
        self.use(())

    def open(self) -> None:
        self.journal = Journal(self.path)
        self.reader = JournalReader(self.path)

    def close(self) -> None:
        self.reader.close()
        self.journal.close()

    def teardown(self) -> None:
        self.close()
        self.folder.cleanup()

    @rule(forms=st.sampled_from(FORMS))
    def use(self, forms: Sequence[str]) -> None:
        forms_now = Forms.of_sources(
            [(f"{number}.toml", text.encode()) for number, text in enumerate(forms)],
            loader=loader_of(self.path),
        )
        assert not forms_now.errors
        self.decoder = Decoder(1_000_000, forms=forms_now)

    @property
    def claims(self) -> Claims:
        claims = Claims(TopicRights(("iotingestion/#",)), self.decoder)
        claims.taken = self.taken
        return claims

    @rule(batch=st.lists(sent, min_size=1, max_size=8))
    def receive(self, batch: list[tuple[str, bytes, str, bool]]) -> None:
        self.now_ms += DAY_MS // 10
        arrivals = []
        for topic, payload, account, redelivered in batch:
            expected = topic.startswith("iotingestion/")
            message = Message(
                *(topic, payload, self.now_ms, "a" if expected or account == "a" else None),
                redelivered=redelivered,
                account=None if expected else account,
            )
            arrivals.append((message, self.claims.identify(message)))
        self.journal.append(arrivals)
        self.received += len(batch)

    @rule()
    def acknowledge(self) -> None:
        self.journal.acknowledged()

    @rule()
    def reopen(self) -> None:
        self.close()
        self.open()

    # -------------------------------------------------------------- what nothing has claimed

    @rule(taken=st.sampled_from(((), ("odd/1",), ("odd/#", "a/log"))), slow=st.booleans())
    def claim_what_is_kept(self, taken: tuple[str, ...], slow: bool) -> None:
        self.taken = taken
        for entry in self.journal.unclaimed(0, 100):
            decoded = self.claims.identify(entry.message)
            if type(decoded) is Unclaimed:
                continue
            if slow and entry.id % 3 == 0:  # a person is faster
                self.journal.forget_unclaimed([entry.message.topic])
            with contextlib.suppress(KeyError):
                self.journal.claim(entry, decoded)

    @rule(topics=st.sets(st.sampled_from(TOPICS)), days=st.integers(0, 40))
    def forget_unclaimed(self, topics: set[str], days: int) -> None:
        self.journal.forget_unclaimed(sorted(topics), now_ms=self.now_ms + days * DAY_MS)

    # -------------------------------------------------------------- dead letters

    @rule(share=st.integers(1, 3))
    def discard(self, share: int) -> None:
        numbers = [each.id for each in self.reader.dead_letters()][::share]
        before = self.journal.ledger().discarded
        assert self.journal.discard_dead_letters([*numbers, 10_000], self.now_ms) == len(numbers)
        assert self.journal.ledger().discarded == before + len(numbers)

    @rule(days=st.integers(1, 3))
    def discard_what_is_old(self, days: int) -> None:
        for _ in range(days):
            self.now_ms += DAY_MS
            self.journal.note_day(self.now_ms)
        self.journal.discard_old_dead_letters(
            self.now_ms - days * DAY_MS, days=days, now_ms=self.now_ms
        )

    @rule(share=st.integers(1, 3), raced=st.booleans())
    def replay(self, share: int, raced: bool) -> None:
        chosen = list(self.reader.dead_letters())[::share]
        if raced:  # they are discarded before the replay comes to them
            self.journal.discard_dead_letters([each.id for each in chosen[1:]], self.now_ms)
        outcomes = list(dead_letters.replay(self.journal, chosen, self.decoder))
        assert len(outcomes) == len(chosen)

    # -------------------------------------------------------------- what is stored

    @rule(sink=st.sampled_from(SINKS), records_max=st.integers(1, 20), every=st.integers(1, 4))
    def deliver(self, sink: str, records_max: int, every: int) -> None:
        offsets = [entry.offset for entry in self.journal.read(sink, records_max)]
        refused = {offset: Refused("no") for offset in offsets if offset % every == 1}
        if offsets:
            assert self.journal.settle(sink, offsets, refused) == len(offsets)

    @precondition(lambda self: self.reader.last_offset())
    @rule(sink=st.sampled_from(SINKS), first=st.integers(1, 20))
    def fill_again(self, sink: str, first: int) -> None:
        offsets = [entry.offset for entry in self.journal.read(sink, 5)]
        self.journal.backfill(sink, min(first, self.reader.last_offset()))
        if offsets:  # what was under way comes late
            self.journal.settle(sink, offsets, {})

    @rule(sink=st.sampled_from(SINKS))
    def ask_again(self, sink: str) -> None:
        self.journal.request_replay(sink, [each.offset for each in self.reader.parked(sink)])

    @rule(records_max=st.integers(1, 5))
    def trim(self, records_max: int) -> None:
        self.journal.trim(self.now_ms + 1, records_max)

    @precondition(lambda self: self.decoder.forms is not None)
    @rule(name=st.sampled_from(NAMES), own=st.booleans(), under_way=st.booleans())
    def reread(self, name: str, own: bool, under_way: bool) -> None:
        assert self.decoder.forms is not None
        form = self.decoder.forms.named(name)
        if form is None:
            return
        offsets = [entry.offset for entry in self.journal.read("api", 20)] if under_way else []
        environment = Settings.model_validate({"data_dir": self.path.parent})
        rereading = FormRereading(environment, self.decoder, form, own=own)
        assert sum(rereading.steps(self.reader, self.journal)) == self.reader.last_offset()
        if offsets:
            assert self.journal.settle("api", offsets, {}) == len(offsets)

    # -------------------------------------------------------------- what must be true

    @invariant()
    def all_that_was_received_has_a_place(self) -> None:
        assert self.reader.audit() == []
        ledger = self.journal.ledger()
        assert ledger.received == ledger.accounted == self.received
        for counts in ledger.sinks.values():
            parts = counts.skipped + counts.delivered + counts.parked + counts.backlog
            assert ledger.stored == parts

    @invariant()
    def nodes_forms_and_reasons_add_up_to_the_ledger(self) -> None:
        days, ledger = self.reader.node_days(), self.journal.ledger()
        for name in COUNTED:
            values = [int(getattr(each, name)) for each in days]
            assert min(values, default=0) >= 0, (name, days)
            assert sum(values) == getattr(ledger, name), (name, days)
        for each in days:
            assert each.received == sum(getattr(each, name) for name in COUNTED[1:]), each
            assert each.received_bytes >= 0
        assert sum(each.messages for each in self.reader.ignored_days()) == ledger.ignored
        assert sum(each.messages for each in self.reader.discarded_days()) == ledger.discarded
        kept = self.journal.unclaimed(0, 10_000)
        assert len(kept) <= ledger.unclaimed
        assert not any(each.damaged for each in kept)

    @invariant()
    def what_is_here_is_counted_for_its_node(self) -> None:
        days = {(each.node, each.day.toordinal()): each for each in self.reader.node_days()}
        letters, stored = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
        for letter in self.reader.dead_letters():
            letters[key_of(letter.message)] += 1
        entries = self.reader.after(Selection(), 0, 10_000)
        for entry in entries:
            assert isinstance(decode_entry(self.decoder, entry), tuple), entry
            stored[key_of(entry.message)] += 1
        assert letters == Counter({of: day.dead_letters for of, day in days.items()})
        for of, count in stored.items():
            assert count <= days[of].stored
        if not self.reader.trimmed_offset():
            assert stored == Counter({of: day.stored for of, day in days.items()})


def key_of(message: Message) -> tuple[str, int]:
    unix_epoch = 719_163
    return message.node or "", message.received_at_ms // DAY_MS + unix_epoch


TestMixed = Mixed.TestCase
TestMixed.settings = settings(
    max_examples=max(1, STEPS // STEPS_A_RUN),
    stateful_step_count=STEPS_A_RUN,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
