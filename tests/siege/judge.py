"""Whether every promise was kept: the devices' memory against journal, PostgreSQL and folder."""

import contextlib
import hashlib
import statistics
from collections import Counter
from pathlib import Path

import apsw
from msgspec import Struct

from echo_ingest.journal.reader import JournalReader
from echo_ingest.sinks.clips import DIGEST_CHARACTERS
from tests.harness import closes
from tests.siege.evidence import Evidence
from tests.siege.messages import clip_of, number_of, payload_of, topic_of

RED_SECONDS_MAX = 15.0
BOUTS_MIN = 2
FILLS_BROKER = "half-sent PUBLISH"
"""The attack that leads to the limit of the broker's memory, or else it is too weak."""
SHOWN = 10


class Verdict(Struct):
    """The figures of a siege, and its problems."""

    good: int
    receipted: int
    lost: list[str]
    """Messages that are not in the journal."""
    duplicated: list[str]
    undelivered: list[str]
    longest_red_seconds: float
    receipt_seconds: list[float]
    """How long receipts took from the first attempt, the shortest first."""
    problems: list[str]

    @property
    def is_good(self) -> bool:
        return not self.problems

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.receipt_seconds) if self.receipt_seconds else 0.0

    @property
    def p99_seconds(self) -> float:
        times = self.receipt_seconds
        return times[int(len(times) * 0.99)] if times else 0.0


def judge(evidence: Evidence) -> Verdict:
    """Judge a siege: everything that breaks a promise is a problem."""
    verdict = Verdict(0, 0, [], [], [], 0.0, [], list(evidence.problems))
    _judge_messages(evidence, verdict)
    _judge_journal(evidence, verdict)
    _judge_programs(evidence, verdict)
    return verdict


def _judge_messages(evidence: Evidence, verdict: Verdict) -> None:
    kept: Counter[tuple[str, int]] = Counter()
    db = apsw.Connection(str(evidence.journal), flags=apsw.SQLITE_OPEN_READONLY)
    clips = {path.stem.partition("_")[2]: path for path in evidence.clips.rglob("*.wav")}
    for node, messages in evidence.devices:
        topic = topic_of(node)
        rows = db.execute("SELECT key, payload FROM record WHERE topic = ?", (topic,))
        for key, payload in rows:
            assert isinstance(key, bytes)
            assert isinstance(payload, bytes)
            number = number_of(payload)
            if number is None:
                continue  # an attacker's, in this node's name: `echopub` may do that
            name = f"{node}/{number}"
            kept[node, number] += 1
            if payload != payload_of(evidence.seed, node, number):
                verdict.problems.append(f"{name} is not stored as it was sent")
            if evidence.rows[key] != 1:
                verdict.undelivered.append(f"{name}: {evidence.rows[key]} rows in PostgreSQL")
            clip = clip_of(evidence.seed, node, number)
            if clip is not None and not _is_kept(clip, clips):
                verdict.undelivered.append(f"{name}: its clip is not in the folder")
        for number, message in enumerate(messages):
            verdict.good += 1
            name = f"{node}/{number}"
            if message.receipted_at:
                verdict.receipted += 1
                verdict.receipt_seconds.append(message.receipted_at - message.first_sent_at)
                if message.outcome not in ("stored", "duplicate"):
                    verdict.problems.append(f"the receipt of {name} says {message.outcome}")
            else:
                verdict.problems.append(f"{name} has no receipt, sent {message.times} times")
            if kept[node, number] == 0 and message.receipted_at:
                verdict.lost.append(name)
            if kept[node, number] > 1:
                verdict.duplicated.append(name)
    db.close()
    verdict.receipt_seconds.sort()
    for what in ("lost", "duplicated", "undelivered"):
        verdict.problems += [f"{what}: {name}" for name in getattr(verdict, what)]


def _is_kept(clip: bytes, clips: dict[str, Path]) -> bool:
    """Tell whether the folder has a clip; files are named after its digest."""
    path = clips.get(hashlib.sha256(clip).hexdigest()[:DIGEST_CHARACTERS])
    return path is not None and path.read_bytes() == clip


def _judge_journal(evidence: Evidence, verdict: Verdict) -> None:
    with contextlib.closing(JournalReader(evidence.journal)) as reader:
        ledger = reader.ledger()
        verdict.problems += reader.audit()
    sinks = {
        name: {part: getattr(sink, part) for part in sink.__struct_fields__}
        for name, sink in ledger.sinks.items()
    }
    counts = {part: getattr(ledger, part) for part in ledger.__struct_fields__}
    if not closes({**counts, "sinks": sinks}):
        verdict.problems.append(f"the ledger does not close: {ledger}")


def _judge_programs(evidence: Evidence, verdict: Verdict) -> None:
    problems = verdict.problems
    for path, page in evidence.health.items():
        verdict.longest_red_seconds = max(verdict.longest_red_seconds, page.longest_red_seconds)
        if page.longest_red_seconds > RED_SECONDS_MAX:
            problems.append(f"{path} was red for {page.longest_red_seconds:.1f} s")
    if evidence.oom_kills:
        problems.append(f"the kernel killed {evidence.oom_kills} processes for their memory")
    if evidence.restarts:
        problems.append(f"processes ended by themselves {evidence.restarts} times")
    if evidence.traces:
        problems.append(f"{len(evidence.traces)} traces in the logs, such as {evidence.traces[0]}")
    if FILLS_BROKER in evidence.attacked and not evidence.held_back:
        problems.append(f"{FILLS_BROKER!r} never filled the broker so far that devices were held")
    for kind, attacked in evidence.attacked.items():
        if attacked.bouts < BOUTS_MIN or not attacked.attempts:
            problems.append(f"{kind!r} attacked {attacked.bouts} times, {attacked.attempts} tries")
