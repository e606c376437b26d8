"""What became of each message: the devices' memory against the journal and the API's log."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import apsw
from msgspec import Struct

from echo_ingest.decode import Decoder, clip_bytes
from echo_ingest.journal import Entry
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.record import Rejected
from echo_ingest.sinks import clips
from tests.crash.evidence import Done, Evidence
from tests.crash.faults import PAUSE_SECONDS
from tests.crash.messages import EPOCH_SECONDS, Outgoing, message_of, number_of
from tests.harness import closes
from tests.several_records import only

MOMENT_SECONDS = 0.5
LATE_SECONDS = PAUSE_SECONDS[1] + MOMENT_SECONDS
NEAR_SECONDS = 3.0
SHOWN = 10
SHOWN_FAULTS = 6


class Verdict(Struct):
    """The figures of a run, and its problems."""

    acknowledged: int
    receipted: int
    lost: list[int]
    """Messages that were promised and are not in the journal."""
    duplicated: list[int]
    """Messages that are in the journal more than once although they have an identity."""
    puback_only_lost: list[int]
    """Acknowledged by mosquitto alone, which was killed before it had passed them on. Of 2.0 that
    is not promised at all. 2.1 commits a moment after it has acknowledged (`_is_promised`)."""
    nameless_repeated: int
    """Messages without identity and dead letters that are stored more often than they were sent:
    redelivered by a broker that had forgotten that it had delivered them."""
    undelivered: list[int]
    """Messages that are settled as delivered in the journal, and not at the API."""
    calls_repeated: int
    """Calls that gave the API something again."""
    repeated: int
    """Messages that the API has twice because of those calls."""
    problems: list[str]
    """Anything else that is not as promised."""

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.duplicated or self.undelivered or self.problems)


class Kept(Struct):
    """What the journal holds, by the number of the message."""

    records: Counter[int]
    dead_letters: Counter[int]
    parked: set[int]
    numbers_by_clip: dict[str, int]
    """The SHA-256 of each recording's clip: all that the upload call says of it."""


def reconcile(evidence: Evidence) -> Verdict:
    """Judge a run."""
    problems = list(evidence.problems)
    kept = _kept(evidence, problems)
    _check_ledger(evidence, problems)
    delivered, calls_repeated = _delivered(evidence, kept, problems)
    answers = evidence.answers
    verdict = Verdict(answers.acknowledged, answers.receipted, [], [], [], 0, [], 0, 0, problems)
    for number in range(evidence.total):
        message = _message(evidence, number)
        rows, dead_letters = kept.records[number], kept.dead_letters[number]
        is_dead = message.fate == "dead letter"
        if (dead_letters if is_dead else rows) == 0:
            if answers.receipted_at[number] or _is_promised(evidence, number):
                verdict.lost.append(number)
            elif answers.acknowledged_at[number]:
                verdict.puback_only_lost.append(number)
        if (rows if is_dead else dead_letters) != 0:
            problems.append(f"message {number} should have become: {message.fate}")
        times = rows + dead_letters
        if times > 1 and message.has_identity:
            verdict.duplicated.append(number)
        elif times > answers.published[number]:
            verdict.nameless_repeated += 1
        if rows == 0:
            continue
        if (number in kept.parked) != (message.fate == "parked"):
            problems.append(f"message {number} should have become: {message.fate}")
        if message.fate == "delivered" and delivered[number] < rows:
            verdict.undelivered.append(number)
        verdict.repeated += delivered[number] > rows
    verdict.calls_repeated = calls_repeated
    verdict.undelivered += _missing_clips(evidence, problems)
    verdict.undelivered += _missing_rows(evidence, problems)
    explained = sum(_breaks_delivery(done) for done in evidence.faults)
    if calls_repeated > explained:
        problems.append(f"{calls_repeated} calls repeated, {explained} faults that explain one")
    return verdict


def _is_promised(evidence: Evidence, number: int) -> bool:
    """Must a message be there because mosquitto has acknowledged it?

    Of 2.1, unless it was killed just then: it sends each PUBACK a moment before the commit, as
    strace shows. What it sent before it died may reach the device later, through a stalled network.
    """
    at = evidence.answers.acknowledged_at[number]
    if not at or evidence.version < (2, 1, 0):
        return False
    return not any(
        _stands_still_since(evidence, done) - MOMENT_SECONDS < at < done.at + LATE_SECONDS
        for done in evidence.faults
        if done.fault.kind == "kill" and "mosquitto" in done.fault.targets
    )


def _stands_still_since(evidence: Evidence, kill: Done) -> float:
    """Return when mosquitto last did anything before a kill: it may have been stopped earlier."""
    stops = (
        done.at
        for done in evidence.faults
        if done.fault.kind == "stop"
        and "mosquitto" in done.fault.targets
        and done.at < kill.at < done.at + done.fault.seconds + MOMENT_SECONDS
    )
    return min(stops, default=kill.at)


def near(evidence: Evidence, number: int) -> str:
    """Describe when a message was acknowledged, and which faults happened around then."""
    answers = evidence.answers
    moments = {
        "acknowledged": answers.acknowledged_at[number],
        "receipted": answers.receipted_at[number],
    }
    first = min((at for at in moments.values() if at), default=0.0)
    lines = [f"message {number} of {evidence.node(number)}, sent {answers.published[number]} times"]
    lines += [f"  {event} at {at:.3f}" for event, at in moments.items() if at]
    around = [done for done in evidence.faults if abs(done.at - first) < NEAR_SECONDS]
    for done in sorted(around, key=lambda done: abs(done.at - first))[:SHOWN_FAULTS]:
        fault = done.fault
        lines.append(
            f"  {done.at - first:+.3f} s: {fault.kind} {' and '.join(fault.targets)}"
            + (f" for {fault.seconds:.1f} s" if fault.seconds else "")
        )
    return "\n".join(lines)


def _message(evidence: Evidence, number: int) -> Outgoing:
    return message_of(evidence.seed, number, evidence.node(number))


# ---------------------------------------------------------------------- the journal


def _kept(evidence: Evidence, problems: list[str]) -> Kept:
    kept = Kept(Counter(), Counter(), set(), {})
    db = apsw.Connection(str(evidence.journal), flags=apsw.SQLITE_OPEN_READONLY)
    for counts, table in ((kept.records, "record"), (kept.dead_letters, "dead_letter")):
        for topic, payload in db.execute(f"SELECT topic, payload FROM {table}"):  # noqa: S608
            assert isinstance(payload, bytes)
            number = number_of(payload)
            if number is None or number >= evidence.total:
                problems.append(f"a row of {table} is no message of this run: {payload[:80]!r}")
                continue
            sent = _message(evidence, number)
            if (topic, payload) != (sent.topic, sent.payload):
                problems.append(f"message {number} is not stored as it was sent")
            counts[number] += 1
            if (clip := sent.clip()) is not None:
                kept.numbers_by_clip[hashlib.sha256(clip).hexdigest()] = number
    for (payload,) in db.execute("SELECT payload FROM parked JOIN record USING (offset)"):
        assert isinstance(payload, bytes)
        number = number_of(payload)
        assert number is not None
        kept.parked.add(number)
    db.close()
    return kept


def _check_ledger(evidence: Evidence, problems: list[str]) -> None:
    reader = JournalReader(evidence.journal)
    ledger = reader.ledger()
    problems += reader.audit()
    reader.close()
    sinks = {
        name: {part: getattr(sink, part) for part in sink.__struct_fields__}
        for name, sink in ledger.sinks.items()
    }
    counts = {part: getattr(ledger, part) for part in ledger.__struct_fields__}
    if not closes({**counts, "sinks": sinks}):
        problems.append(f"the ledger does not close: {ledger}")
    db = apsw.Connection(str(evidence.journal), flags=apsw.SQLITE_OPEN_READONLY)
    parts = (
        "received",
        "stored",
        "duplicates",
        "dead_letters",
        "ignored",
        "unclaimed",
        "discarded",
    )
    sums = db.execute(f"SELECT {', '.join(f'sum({p})' for p in parts)} FROM node_day")  # noqa: S608
    if list(sums.get) != [counts[part] for part in parts]:
        problems.append("the ledger by node and day does not add up to the whole")
    db.close()


# ---------------------------------------------------------------------- audio


def _missing_clips(evidence: Evidence, problems: list[str]) -> list[int]:
    """Messages whose clip, or what is to lie beside it, is not kept; what is too many is a problem.

    Here nothing may be twice: the store tells a repeat by its name.
    """
    missing = []
    expected = set()
    for entry in _entries(evidence, Selection(kind="recording")):
        record = only(Decoder(len(entry.message.payload)).decode(entry.message))
        clip = None if isinstance(record, Rejected) else clips.clip_of(record)
        if isinstance(record, Rejected) or clip is None:
            continue
        audio = evidence.clips / clips.clip_name(record, clip)
        facts = evidence.clips / clips.sidecar_name(record, clip, entry.key)
        expected |= {audio, facts}
        number = number_of(clip_bytes(entry.message) or b"")
        assert number is not None
        if not audio.is_file() or not facts.is_file():
            missing.append(number)
        elif hashlib.sha256(audio.read_bytes()).hexdigest() != clip.sha256:
            problems.append(f"the clip of message {number} is not kept as it was sent")
    kept = {path for path in evidence.clips.rglob("*.*") if path.is_file()}
    problems += [
        f"{path.name} is a clip of no record"
        for path in sorted(kept - expected)
        if not path.name.startswith(".")  # one that was begun when the service was killed
    ]
    return missing


def _missing_rows(evidence: Evidence, problems: list[str]) -> list[int]:
    """Return the messages that PostgreSQL lacks; check that it has each key once."""
    rows = Counter(evidence.keys)
    twice = sum(count > 1 for count in rows.values())
    missing = []
    for entry in _entries(evidence, Selection()):
        if rows.pop(entry.key, 0) == 0:
            number = number_of(clip_bytes(entry.message) or entry.message.payload)
            assert number is not None
            missing.append(number)
    if rows or twice:
        problems.append(f"PostgreSQL: {twice} keys more than once, {len(rows)} of no record")
    return missing


def _entries(evidence: Evidence, selection: Selection) -> Iterator[Entry]:
    reader = JournalReader(evidence.journal)
    offset = 0
    while page := reader.after(selection, offset):
        yield from page
        offset = page[-1].offset
    reader.close()


# ---------------------------------------------------------------------- the API


def _delivered(evidence: Evidence, kept: Kept, problems: list[str]) -> tuple[Counter[int], int]:
    """Return how often the API has each message, and how many calls repeated something."""
    delivered: Counter[int] = Counter()
    calls_repeated = 0
    key, in_call, is_repeat = None, set[int](), False
    for line in _lines(evidence):
        number = _number_delivered(line, kept)
        if number is None:
            problems.append(f"the API was given what is no message of this run: {line}")
            continue
        if line["idempotency_key"] != key or number in in_call:  # the next call begins
            calls_repeated += is_repeat
            key, in_call, is_repeat = line["idempotency_key"], set(), False
        in_call.add(number)
        is_repeat = is_repeat or delivered[number] >= kept.records[number]
        delivered[number] += 1
    return delivered, calls_repeated + is_repeat


def _lines(evidence: Evidence) -> Iterator[dict[str, object]]:
    with evidence.delivered.open() as log:
        for text in log:
            if text.endswith("}\n"):  # else the API was killed within it, and had not answered
                yield json.loads(text)


def _number_delivered(line: dict[str, object], kept: Kept) -> int | None:
    document = line["document"]
    assert isinstance(document, dict)
    match line["collection"]:
        case "audio_uploads":
            return kept.numbers_by_clip.get(document["sha256"])
        case "nodes":
            return number_of(str(document["lastMessage"]).encode())
        case _:
            moment = datetime.fromisoformat(document["timestamp"])
            return round(moment.timestamp()) - EPOCH_SECONDS


def _breaks_delivery(done: Done) -> bool:
    """Tell whether a fault may repeat a call: one that was made before its answer was noted."""
    fault = done.fault
    if fault.kind == "kill":
        return done.hit > 0 and bool({"service", "delivery", "api"} & set(fault.targets))
    return fault.kind in ("cut", "half open") and "api" in fault.targets
