"""The almanac, compared with a plain recount of its journal, whatever is done to either.

Hypothesis chooses what happens, and reduces a failure to the steps that matter.
`STEPS=20000 pytest tests/test_almanac_model.py` searches for longer.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from echo_ingest.almanac import Follower
from echo_ingest.almanac.almanac_file import begin_anew
from echo_ingest.journal import Arrival, Journal
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.reader import JournalReader
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Message, Rejected
from echo_ingest.simulator.sounds import CALLS, wav
from tests.recount import HOUR_MS, check
from tests.several_records import DECODER_OF_SEVERAL

STEPS = int(os.environ.get("STEPS", "800"))
STEPS_A_RUN = 20
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
START_MS = int(datetime(2026, 10, 24, 9, 10, tzinfo=UTC).timestamp() * 1000)
"""The day before clocks are set back in Berlin."""
SPECIES = ("Litoria ewingii", "Crinia signifera", "Turdus merula_Eurasian Blackbird")
NODES = ("n1", "n2", "n3", None)
CLIP = wav(CALLS[0], 3.0, 2_000, Random(1))
SINKS = ("api", "store")


def payload(kind: str, at_ms: int, number: int) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    """Return the payload and properties of a message; each number makes another message."""
    when = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
    fields: dict[str, object] = {"id": f"m{number}", "timestamp": when}
    match kind:
        case "call":
            confidence = [0, 49.99, 50, 69.5, 70, 100][number % 6]
            fields |= {"sensor_id": "s", "species": SPECIES[number % 3], "confidence": confidence}
        case "unsure":
            fields |= {"species": SPECIES[number % 3], "source_model": "m"}
        case "no animal":
            fields |= {"sensor_id": "s", "species": "Engine", "confidence": number % 101}
        case "clockless":
            fields |= {"sensor_id": "s", "species": SPECIES[0], "confidence": 80, "timestamp": None}
        case "health":
            fields |= {"sensorId": "s", "batteryPct": number % 100 + 0.5, "cpu": 7, "disk": 55.25}
        case "levels":
            parts = [
                {"timestamp": when, "name": f"level_{band % 2}", "value": band * 5 % 7 - number / 4}
                for band in range(number % 4 + 1)
            ]
            return json.dumps({"id": f"m{number}", "parts": parts}).encode(), ()
        case "recording":
            return CLIP, (("id", f"m{number}"), ("recorded_at", when))
    return json.dumps(fields).encode(), ()


MESSAGES = st.tuples(
    st.sampled_from(
        (
            "call",
            "call",
            "call",
            "unsure",
            "clockless",
            "no animal",
            "health",
            "recording",
            "levels",
        )
    ),
    st.sampled_from(NODES),
    st.sampled_from((0, 0, 0, 2_000, -90_000, 5 * HOUR_MS, -26 * HOUR_MS)),
    st.booleans(),
)
LEAPS_MS = (0, 0, 0, 10 * 365 * 24 * HOUR_MS, -60 * 24 * HOUR_MS)
"""How far the clock of the host is off while it receives some messages."""


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY))
        self.path, self.journal_path = self.folder / "almanac.db", self.folder / "journal.db"
        self.journal = Journal(self.journal_path)
        for sink in SINKS:
            self.journal.add_sink(sink)
        self.follower = self.new_follower()
        self.number = 0
        self.now_ms = START_MS

    def new_follower(self) -> Follower:
        return Follower(self.path, self.journal_path, DECODER_OF_SEVERAL)

    def teardown(self) -> None:
        self.follower.close()
        self.journal.close()
        shutil.rmtree(self.folder)

    @rule(several=st.lists(MESSAGES, min_size=1, max_size=60), leap_ms=st.sampled_from(LEAPS_MS))
    def receive(self, several: Sequence[tuple[str, str | None, int, bool]], leap_ms: int) -> None:
        arrivals: list[Arrival] = []
        for kind, node, waited_ms, misread in several:
            self.number += 1
            self.now_ms += 400_000
            received_at_ms = self.now_ms + leap_ms
            body, properties = payload(kind, received_at_ms - waited_ms, self.number)
            topic = f"iotingestion/{node}" if node else "elsewhere"
            message = Message(topic, body, received_at_ms, node, properties)
            verdict = DECODER_OF_SEVERAL.identify(message)
            if misread and self.number % 5 == 0:
                verdict = Rejected(ReasonCode.UNKNOWN_FORM, f"misread {self.number}")
            arrivals.append((message, verdict))
        self.journal.append(arrivals)
        self.journal.acknowledged()

    @rule(sink=st.sampled_from(SINKS), refuse=st.sets(st.integers(0, 6)))
    def deliver(self, sink: str, refuse: set[int]) -> None:
        offsets = [entry.offset for entry in self.journal.read(sink, 1_000)]
        words = {
            offset: Refused(f"unknown to us: {offset}")
            for offset in offsets
            if offset % 7 in refuse
        }
        self.journal.settle(sink, offsets, words)

    @rule(sink=st.sampled_from(SINKS), share=st.integers(1, 3))
    def ask_for_replay(self, sink: str, share: int) -> None:
        reader = JournalReader(self.journal_path)
        offsets = [parked.offset for parked in reader.parked(sink)][::share]
        reader.close()
        self.journal.request_replay(sink, offsets)

    @rule(share=st.integers(1, 3))
    def replay_dead_letters(self, share: int) -> None:
        reader = JournalReader(self.journal_path)
        dead_letters = list(reader.dead_letters())[::share]
        reader.close()
        for letter in dead_letters:
            identity = DECODER_OF_SEVERAL.identify(letter.message)
            assert not isinstance(identity, Rejected)
            self.journal.replay_dead_letter(letter.id, letter.message, identity)

    @rule(hours=st.integers(0, 4), refuse=st.sets(st.integers(0, 6), max_size=2))
    def have_all_delivered_and_trim(self, hours: int, refuse: set[int]) -> None:
        for sink in SINKS:
            self.deliver(sink, refuse)
        self.journal.trim(self.now_ms - hours * HOUR_MS)

    @rule(steps=st.integers(1, 9), dies=st.booleans())
    def follow_for_a_while(self, steps: int, dies: bool) -> None:
        with contextlib.closing(self.follower.round()) as following:
            for _ in range(steps):
                next(following, None)
        if dies:
            self.follower.close()
            self.follower = self.new_follower()

    @rule()
    def forget_the_almanac(self) -> None:
        begin_anew(self.path)

    @invariant()
    def it_says_what_the_journal_says(self) -> None:
        if self.number % 3:  # what happens between two looks may be more than one thing
            return
        for _ in self.follower.round():
            pass
        check(self.path, self.journal_path)


TestAlmanac = Machine.TestCase
TestAlmanac.settings = settings(
    max_examples=max(1, STEPS // STEPS_A_RUN),
    stateful_step_count=STEPS_A_RUN,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.reuse, Phase.generate, Phase.shrink),
)
