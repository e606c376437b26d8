"""`python -m tests.fuzz.meaning --inputs 1000000 --seed 7`: does a record say what is true?

Each message is made of a truth, by the seed and its number. Its record must equal the truth, say
that it does not believe the device, or be rejected where that is right; everything else is wrong.
`--only NUMBER` shows one message and judges it again.
"""

import argparse
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from msgspec import Struct

from echo_ingest.decode import Decoder, NodeRules, Rules, clip_bytes
from echo_ingest.decode.rules import NOT_ANIMALS
from echo_ingest.record import (
    AnyRecord,
    Clip,
    Health,
    Identity,
    Ignored,
    Message,
    Place,
    Rejected,
    kind,
)
from tests.fuzz.cores import on_all_cores
from tests.fuzz.true_messages import NODE, case_of
from tests.fuzz.truths import EPOCH, Case, PlaceTruth, Refusal, Site, SoundTruth, Truth, WhenTruth
from tests.several_records import only

EXACT, NOT_BELIEVED, REJECTED, WRONG = "exact", "not_believed", "rejected", "wrong"
OUTCOMES = (EXACT, NOT_BELIEVED, REJECTED, WRONG)
WRONG_SHOWN_MAX = 20
SHOWN_BYTES_MAX = 3_000
PAYLOAD_BYTES_MAX = 50_331_648
DURATION_SECONDS_TOLERATED = 0.01
FRACTION_TOLERATED = 1e-6
"""A confidence may be a ten-thousandth of a percent above 100, and is 100 then."""
BOOT_TOLERATED = timedelta(milliseconds=1)
CORRECTED = "corrected"
TEXT_FIELDS = (
    *("form", "node", "sensor_id", "message_id", "source_type", "species", "animal_id"),
    *("observation_type", "model", "clip_reference", "sample_rate_hz", "mode"),
)
PLACES = ("place", "animal_place", "animal_true_place")


class MeaningTally(Struct):
    """What became of a range of messages."""

    outcomes: Counter[str]
    labels: Counter[str]
    """How often each way of writing was tried."""
    wrong: list[tuple[int, tuple[str, ...]]]
    """The numbers of wrong ones, and what is wrong."""
    wrong_labels: Counter[str]
    payload_bytes: int = 0

    def add(self, other: "MeaningTally") -> None:
        self.outcomes += other.outcomes
        self.labels += other.labels
        self.wrong += other.wrong
        self.wrong_labels += other.wrong_labels
        self.payload_bytes += other.payload_bytes

    def line(self) -> str:
        """Return all figures on one line."""
        outcomes = " ".join(f"{outcome}={self.outcomes[outcome]}" for outcome in OUTCOMES)
        label, fewest = min(self.labels.items(), key=lambda each: (each[1], each[0]))
        return (
            f"inputs={self.outcomes.total()} {outcomes} ways={len(self.labels)}"
            f" fewest={fewest} ({label}) payload_mb={self.payload_bytes / 1e6:.0f}"
        )


# ------------------------------------------------------------------ the judge


def judge_meaning(case: Case) -> tuple[str, tuple[str, ...]]:
    """Return the outcome of a message, and what is wrong with it."""
    decoder = Decoder(PAYLOAD_BYTES_MAX, _rules(case.site))
    decoded = only(decoder.decode(case.message))
    complaints = tuple(_complaints(case, decoded, decoder.identify(case.message)))
    if complaints:
        return WRONG, complaints
    if isinstance(decoded, Rejected):
        return REJECTED, ()
    clip: Clip | None = getattr(decoded, "clip", None)
    doubted = decoded.time_problem not in (None, CORRECTED)
    return NOT_BELIEVED if doubted or (clip is not None and clip.problem) else EXACT, ()


def _complaints(
    case: Case, decoded: AnyRecord | Rejected, identified: Identity | Rejected | Ignored
) -> Iterator[str]:
    assert not isinstance(identified, Ignored)
    if isinstance(decoded, Rejected):
        if identified != decoded:
            yield f"decode rejects it, identify says {identified}"
        if case.refusal is None:
            yield f"rejected, though right: {decoded.code}: {decoded.render()}"
        else:
            yield from _of_refusal(case.refusal, decoded)
        return
    glance = (kind(decoded), decoded.message_id, decoded.sensor_id)
    if (
        isinstance(identified, Rejected)
        or (identified.kind, identified.message_id, identified.sensor_id) != glance
    ):
        yield f"identify says {identified}, decode {glance}"
    if case.truth is None:
        yield f"stored, though wrong, where {case.refusal} was due: {decoded}"
        return
    yield from _of_record(case, case.truth, decoded)


def _of_refusal(refusal: Refusal, decoded: Rejected) -> Iterator[str]:
    if decoded.code not in refusal.codes:
        yield f"rejected as {decoded.code} ({decoded.render()}), not as {sorted(refusal.codes)}"
    elif refusal.field is not None and decoded.field != refusal.field:
        yield f"rejected for {decoded.field} ({decoded.render()}), not for {refusal.field}"


def _of_record(case: Case, truth: Truth, record: AnyRecord) -> Iterator[str]:
    if kind(record) != truth.kind:
        yield f"kind: {kind(record)}, not {truth.kind}"
    expected = {name: getattr(truth, name, None) for name in TEXT_FIELDS} | {
        "node": case.message.node
    }
    for name, value in expected.items():
        got = getattr(record, name, None)
        if got != value:
            yield f"{name}: {got!r}, not {value!r}"
    yield from _of_time(truth.when, record, _received(case.message))
    for name in PLACES:
        yield from _of_place(name, getattr(truth, name), getattr(record, name, None))
    yield from _of_confidence("confidence", truth.confidence, getattr(record, "confidence", None))
    ranked = tuple(getattr(record, "alternatives", ()))
    if len(ranked) != len(truth.alternatives):
        yield f"alternatives: {ranked}"
    for entry, (label, confidence) in zip(ranked, truth.alternatives, strict=False):
        if entry.species != label:
            yield f"alternative: {entry.species!r}, not {label!r}"
        yield from _of_confidence("alternative", confidence, entry.confidence)
    yield from _of_sound(truth.sound, getattr(record, "clip", None), case.message)
    yield from _of_health(truth, getattr(record, "health", None))


def _of_time(when: WhenTruth, record: AnyRecord, received_at: datetime) -> Iterator[str]:
    got = f"{record.observed_at} ({record.time_source}, {record.time_problem})"
    if when.moment is None:
        if record.time_source != "received" or record.observed_at != received_at:
            yield f"time: {got}, not that of receipt, {received_at} {sorted(when.problems)}"
    elif record.time_source != "device" or abs(record.observed_at - when.moment) > when.tolerance:
        yield f"time: {got}, not {when.moment}"
    if (record.time_problem or "") not in (when.problems or {""}):
        yield f"time_problem: {record.time_problem!r}, not of {sorted(when.problems)}"
    if record.time_problem is None:
        if record.device_time is not None:
            yield f"device_time: {record.device_time!r}, without a problem"
    elif not _repeats(record.device_time, when.written):
        yield f"device_time: {record.device_time!r}, not {when.written!r}"


def _repeats(device_time: str | None, written: str | int | float | None) -> bool:
    """Return whether a record repeats what the device wrote, or something if that is not known."""
    if not device_time or len(device_time) > 64:
        return False
    if isinstance(written, str):
        return device_time.strip() == written.strip() or not written
    return written is None or float(device_time) == float(written)


def _of_place(name: str, truth: PlaceTruth | None, place: Place | None) -> Iterator[str]:
    if truth is None or place is None:
        if place is not None or truth is not None:
            yield f"{name}: {place}, not {truth}"
        return
    for field in PlaceTruth.__struct_fields__:
        got, expected = getattr(place, field), getattr(truth, field)
        if got != expected and (None in (got, expected) or abs(got - expected) > 1e-9):
            yield f"{name}.{field}: {got}, not {expected}"


def _of_confidence(name: str, truth: float | None, got: float | None) -> Iterator[str]:
    if truth is None or got is None:
        if got is not truth:
            yield f"{name}: {got}, not {truth}"
    elif not 0 <= got <= 1 or abs(got - truth) > FRACTION_TOLERATED:
        yield f"{name}: {got}, not {truth}"


def _of_sound(truth: SoundTruth | None, clip: Clip | None, message: Message) -> Iterator[str]:
    if truth is None or clip is None:
        if clip is not None or truth is not None:
            yield f"clip: {clip}, not {truth}"
        return
    exact = {
        "container": truth.container,
        "size_bytes": len(truth.data),
        "sha256": hashlib.sha256(truth.data).hexdigest(),
        "sample_rate_hz": truth.sample_rate_hz,
        "channels": truth.channels,
    }
    for name, value in exact.items():
        got = getattr(clip, name)
        if got != value:
            yield f"clip.{name}: {got}, not {value}"
    if abs(clip.duration_seconds - truth.seconds) > DURATION_SECONDS_TOLERATED:
        yield f"clip.duration_seconds: {clip.duration_seconds}, not {truth.seconds}"
    if (clip.problem or "") not in (truth.problems or {""}):
        yield f"clip.problem: {clip.problem!r}, not of {sorted(truth.problems)}"
    for name, text in truth.metadata:
        if clip.metadata.get(name) != text:
            yield f"clip.metadata: {clip.metadata.get(name)!r}, not {text!r}"
    if clip_bytes(message) != truth.data:
        yield "the clip that is taken out is another one"


def _of_health(truth: Truth, health: Health | None) -> Iterator[str]:
    for name in Health.__struct_fields__:
        got, expected = getattr(health, name, None), truth.health.get(name)
        if name == "booted_at" and isinstance(expected, int | float) and got is not None:
            right = abs(got - EPOCH - timedelta(seconds=expected)) <= BOOT_TOLERATED
        elif isinstance(expected, tuple):
            right = got in expected
        else:
            right = got == expected
        if not right:
            yield f"health.{name}: {got}, not {expected}"


@lru_cache(maxsize=1_000)
def _rules(site: Site) -> Rules:
    node = NodeRules(
        confidence_is_fraction=site.confidence_is_fraction,
        clock_ahead_seconds=site.clock_ahead_seconds,
    )
    zone = None if site.zone is None else ZoneInfo(site.zone)
    more = dict(site.more_labels)
    not_animals = {**NOT_ANIMALS, **more} if more else NOT_ANIMALS
    # Messages of a node about which nothing is known may take the fast path.
    nodes = {} if node == NodeRules() else {NODE: node}
    return Rules(zone, site.first_day, not_animals, nodes)


def _received(message: Message) -> datetime:
    return datetime.fromtimestamp(message.received_at_ms / 1000, UTC)


# ------------------------------------------------------------------ the campaign


def judge_meanings(seed: int, numbers: range) -> MeaningTally:
    """Judge the messages with these numbers."""
    tally = MeaningTally(Counter(), Counter(), [], Counter())
    for number in numbers:
        case = case_of(seed, number)
        outcome, complaints = _outcome(case)
        tally.outcomes[outcome] += 1
        tally.labels.update(case.labels)
        tally.payload_bytes += len(case.message.payload)
        if complaints:
            tally.wrong.append((number, complaints))
            tally.wrong_labels.update(case.labels)
    return tally


def _outcome(case: Case) -> tuple[str, tuple[str, ...]]:
    try:
        return judge_meaning(case)
    except BaseException as broken:  # a panic of compiled code is no Exception
        if isinstance(broken, KeyboardInterrupt | SystemExit):
            raise
        return WRONG, (f"{type(broken).__name__}: {broken}",)


def meaning_campaign(seed: int, inputs: int) -> MeaningTally:
    """Judge a number of messages in as many processes as there are cores."""
    tally = MeaningTally(Counter(), Counter(), [], Counter())
    for part in on_all_cores(judge_meanings, seed, inputs):
        tally.add(part)
    return tally


def show_meaning(seed: int, number: int) -> None:
    """Print a message, its truth and its record, and judge it."""
    case = case_of(seed, number)
    message = case.message
    print(f"written as: {', '.join(case.labels)}")
    print(f"site: {case.site}; received at {_received(message)}")
    print(f"properties: {message.properties!r}")
    print(f"payload, {len(message.payload):,} bytes: {message.payload[:SHOWN_BYTES_MAX]!r}")
    print(f"truth: {str(case.truth)[:SHOWN_BYTES_MAX]}")
    print(f"may be rejected: {case.refusal}")
    print(only(Decoder(PAYLOAD_BYTES_MAX, _rules(case.site)).decode(message)))
    outcome, complaints = judge_meaning(case)
    print(outcome, *complaints, sep="\n  ")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.meaning", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="show and judge one message")
    arguments = parser.parse_args()
    if arguments.only is not None:
        show_meaning(arguments.seed, arguments.only)
        return
    started = time.monotonic()
    tally = meaning_campaign(arguments.seed, arguments.inputs)
    for number, complaints in sorted(tally.wrong)[:WRONG_SHOWN_MAX]:
        case = case_of(arguments.seed, number)
        print(f"message {number}, {', '.join(case.labels)}:")
        print(*(f"  {complaint[:300]}" for complaint in complaints), sep="\n")
        print(f"  {case.message.payload[:200]!r}")
        print(f"  replay: python -m tests.fuzz.meaning --seed {arguments.seed} --only {number}")
    if tally.wrong:
        shares = {label: count / tally.labels[label] for label, count in tally.wrong_labels.items()}
        for label in sorted(shares, key=lambda each: -shares[each])[:WRONG_SHOWN_MAX]:
            wrong, tried = tally.wrong_labels[label], tally.labels[label]
            print(f"{label}: {wrong} of {tried} are wrong")
    seconds = time.monotonic() - started
    print(f"{tally.line()} seed={arguments.seed} seconds={seconds:.0f}")
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()
